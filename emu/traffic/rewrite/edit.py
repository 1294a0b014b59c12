"""One frame rewritten in place: link layer, network header, transport header, and what errors quote of another packet.

Addresses, ports and sequence numbers are changed wherever they are captured; the checksums that cover them follow,
where they are captured.  Not rewritten: what payloads say of addresses (iSCSI's TargetAddress, DHCP, DNS, FTP), packets
in tunnels, addresses in IPv4 options, intermediate ones in IPv6 routing headers, prefixes and multicast groups in
ICMPv6, digests (AH, TCP MD5), TCP time stamps, IP identifications.
Functions here run plain and compiled.
"""

from typing import Any

from emu.kernel.machine import DIR_INBOUND, DIR_OUTBOUND, PACKET_OTHERHOST, PACKET_OUTGOING
from emu.traffic.arrivals import NO_PACKET_TYPE, cooked_type, mac_at
from emu.traffic.rewrite.patch import (
    FROM_REMOTE,
    TO_REMOTE,
    UDP_ZERO,
    is_unfinished,
    map_address6,
    map_ends4,
    map_ends6,
    map_mac,
    map_ports,
    mapped4,
    move_address6,
    move_checksum,
    move_l4_checksum,
)
from emu.traffic.rewrite.rules import Rules
from emu.wire import arp, ethernet, icmp, icmpv6, ipv4, ipv6, sll, sll2, tcp, udp
from emu.wire.checksum import addresses_sum, ones_sum
from emu.wire.dissect import ip6_total_length, ip_total_length
from emu.wire.extensions import COMPLETE, skip_extensions
from emu.wire.headers import LINKTYPE_ETHERNET, LINKTYPE_LINUX_SLL, LINKTYPE_LINUX_SLL2
from emu.wire.link import network_header
from emu.wire.octets import Octets, be16, be32, be64_signed, put_be32

FRAGMENT = -1  # in place of the addresses' sum: of a pseudo header whose length this packet does not tell

TCP_ACK = 0x10
OPTION_END, OPTION_NOP, OPTION_SACK = 0, 1, 5  # RFC 9293 section 3.2, RFC 2018 section 3

ICMP_REDIRECT = 5
ICMP_GATEWAY = 4
ICMP_ERRORS = (icmp.DEST_UNREACHABLE, 4, ICMP_REDIRECT, 11, 12)  # RFC 792: they quote a packet
LAST_ICMPV6_ERROR = 127  # RFC 4443 section 2.1

# Neighbour discovery (RFC 4861 section 4): where its messages have addresses, and their options.
ND_TARGET = 8
ND_DESTINATION = 24
ND_SOLICITATION, ND_ADVERTISEMENT, ND_REDIRECT = 135, 136, 137
ND_FIRST = 133
ND_OPTIONS = (8, 16, 24, 24, 40)  # types ND_FIRST to ND_REDIRECT
ND_UNIT = 8
ND_LINK_OPTIONS = (1, 2)  # source and target link-layer address

ARP_SENDER_MAC, ARP_TARGET_MAC = 8, 18
ARP_ETHERNET_IPV4 = 0x0800_06_04  # protocol type, lengths of a hardware and of a protocol address
SLL_ADDRESS_LEN, SLL_ADDRESS = 4, 6
SLL2_ADDRESS_LEN, SLL2_ADDRESS = 11, 12
MAC_LEN = 6


def map_link(r: Rules, macs: Any, octets: bytearray, row: Any) -> None:
    """Map the Ethernet addresses of the link-layer header."""
    at = row.offset
    if row.linktype == LINKTYPE_ETHERNET:
        if row.caplen >= ethernet.SRC:
            map_mac(r, macs, octets, at + ethernet.DST)
        if row.caplen >= ethernet.TYPE:
            map_mac(r, macs, octets, at + ethernet.SRC)
    elif row.linktype == LINKTYPE_LINUX_SLL and row.caplen >= sll.HEADER_LEN:
        if be16(octets, at + SLL_ADDRESS_LEN) == MAC_LEN:
            map_mac(r, macs, octets, at + SLL_ADDRESS)
    elif row.linktype == LINKTYPE_LINUX_SLL2 and row.caplen >= sll2.HEADER_LEN:
        if octets[at + SLL2_ADDRESS_LEN] == MAC_LEN:
            map_mac(r, macs, octets, at + SLL2_ADDRESS)


def shift_numbers(r: Rules, octets: bytearray, at: int, header: int) -> None:
    """Shift the sequence numbers of the TCP header octets[at:at + header]: seq, ack, and SACK blocks."""
    if header >= tcp.ACK:
        put_be32(octets, at + tcp.SEQ, be32(octets, at + tcp.SEQ) + r.seq_add & 0xFFFFFFFF)
        r.hit = 1
    if header > tcp.FLAGS and octets[at + tcp.FLAGS] & TCP_ACK:
        put_be32(octets, at + tcp.ACK, be32(octets, at + tcp.ACK) + r.seq_add & 0xFFFFFFFF)
    option = at + tcp.HEADER_LEN
    end = at + header
    while option < end and octets[option] != OPTION_END:
        if octets[option] == OPTION_NOP:
            option += 1
            continue
        if option + 1 >= end or octets[option + 1] < 2:
            return
        following = option + (octets[option + 1] & 0xFF)
        if octets[option] == OPTION_SACK:
            for edge in range(option + 2, min(following, end) - 3, 4):
                put_be32(octets, edge, be32(octets, edge) + r.seq_add & 0xFFFFFFFF)
        option = following


def edit_tcp(
    r: Rules, ports: Any, octets: bytearray, at: int, captured: int, length: int, addresses: int, grown: int
) -> None:
    """Rewrite the TCP segment at `at`, `captured` of whose `length` bytes lie there.

    `addresses` is the sum of its pseudo header's addresses as they were, FRAGMENT without one; `grown` by how much it
    has grown.
    """
    header = min(captured, tcp.HEADER_LEN)
    if captured > tcp.DATA_OFFSET:
        header = min(captured, max(tcp.HEADER_LEN, (octets[at + tcp.DATA_OFFSET] & 0xF0) >> 2))
    summed = captured >= tcp.CHECKSUM + 2
    unfinished = False
    if summed and addresses != FRAGMENT:
        pseudo = addresses + ipv4.PROTO_TCP + length
        unfinished = is_unfinished(octets, at, length, captured, tcp.CHECKSUM, pseudo)
    before = ones_sum(octets, at, at + header)
    if captured >= tcp.SEQ:
        map_ports(r, ports, octets, at, ipv4.PROTO_TCP)
    else:
        r.missed = 1
    if r.seq_add:
        shift_numbers(r, octets, at, header)
    if summed:
        words = ones_sum(octets, at, at + header) - before
        move_l4_checksum(octets, at + tcp.CHECKSUM, unfinished, grown, words, 0)


def edit_udp(
    r: Rules, ports: Any, octets: bytearray, at: int, captured: int, length: int, addresses: int, grown: int
) -> None:
    """Rewrite the UDP datagram at `at`; parameters as of edit_tcp.  One without a checksum gets none."""
    if captured < udp.LENGTH:
        r.missed = 1
        return
    before = be16(octets, at + udp.SPORT) + be16(octets, at + udp.DPORT)
    stored = captured >= udp.HEADER_LEN and be16(octets, at + udp.CHECKSUM) > 0
    unfinished = False
    if stored and addresses != FRAGMENT:
        claimed = be16(octets, at + udp.LENGTH)
        if claimed == 0 or claimed > length:
            claimed = length
        pseudo = addresses + ipv4.PROTO_UDP + claimed
        unfinished = is_unfinished(octets, at, claimed, captured, udp.CHECKSUM, pseudo)
    map_ports(r, ports, octets, at, ipv4.PROTO_UDP)
    if stored:
        words = be16(octets, at + udp.SPORT) + be16(octets, at + udp.DPORT) - before
        move_l4_checksum(octets, at + udp.CHECKSUM, unfinished, grown, words, UDP_ZERO)


def turned(remote: int) -> int:
    """Which ends a loop moves in a packet that goes the other way."""
    return (remote & FROM_REMOTE) << 1 | remote >> 1


def edit_quoted4(r: Rules, nets: Any, ports: Any, octets: bytearray, at: int, end: int, remote: int) -> None:
    """Rewrite what the IPv4 packet quoted at octets[at:end] has of its headers."""
    if end - at < ipv4.HEADER_LEN or octets[at] >> 4 != 4:
        return
    grown = map_ends4(r, nets, octets, at + ipv4.SRC, at + ipv4.DST, remote)
    move_checksum(octets, at + ipv4.CHECKSUM, grown, 0)
    protocol = octets[at + ipv4.PROTOCOL] & 0xFF
    upper = at + max(ipv4.HEADER_LEN, (octets[at] & 0x0F) * 4)
    if be16(octets, at + ipv4.FLAGS_FRAGMENT) & ipv4.FRAGMENT_OFFSET == 0 and end >= upper + udp.LENGTH:
        edit_quoted_ports(r, ports, octets, protocol, upper, end, grown)


def edit_quoted_ports(r: Rules, ports: Any, octets: bytearray, protocol: int, at: int, end: int, grown: int) -> None:
    """Rewrite the transport header in a quoted packet, of which at least the ports are there."""
    if protocol == ipv4.PROTO_TCP:
        edit_tcp(r, ports, octets, at, end - at, end - at, FRAGMENT, grown)
    elif protocol == ipv4.PROTO_UDP:
        edit_udp(r, ports, octets, at, end - at, end - at, FRAGMENT, grown)


def edit_icmp(r: Rules, nets: Any, ports: Any, octets: bytearray, at: int, captured: int, remote: int) -> None:
    """Rewrite what an ICMP error quotes, and a redirect's gateway; other messages have no addresses."""
    if captured < icmp.HEADER_LEN or (octets[at + icmp.TYPE] & 0xFF) not in ICMP_ERRORS:
        return
    before = ones_sum(octets, at, at + captured)
    if octets[at + icmp.TYPE] == ICMP_REDIRECT:
        gateway = mapped4(r, nets, be32(octets, at + ICMP_GATEWAY))
        r.hit |= int(gateway != be32(octets, at + ICMP_GATEWAY))
        put_be32(octets, at + ICMP_GATEWAY, gateway)
    edit_quoted4(r, nets, ports, octets, at + icmp.QUOTED, at + captured, turned(remote))
    move_checksum(octets, at + icmp.CHECKSUM, ones_sum(octets, at, at + captured) - before, 0)


def map_packet6(r: Rules, nets: Any, octets: bytearray, at: int, last: int, remote: int) -> tuple[int, int]:
    """Map the addresses of the IPv6 packet at `at`, whose final destination stands at `last`.

    Returns the sum of source and final destination, which the pseudo header has, as it was and by how much it grew.
    """
    src = at + ipv6.SRC
    was = ones_sum(octets, src, src + ipv6.ADDRESS_LEN) + ones_sum(octets, last, last + ipv6.ADDRESS_LEN)
    map_ends6(r, nets, octets, src, at + ipv6.DST, remote)
    if last != at + ipv6.DST:
        map_address6(r, nets, octets, last)
    now = ones_sum(octets, src, src + ipv6.ADDRESS_LEN) + ones_sum(octets, last, last + ipv6.ADDRESS_LEN)
    return was, now - was


def edit_quoted6(r: Rules, nets: Any, ports: Any, octets: bytearray, at: int, end: int, remote: int) -> None:
    """Rewrite what the IPv6 packet quoted at octets[at:end] has of its headers."""
    if end - at < ipv6.HEADER_LEN or octets[at] >> 4 != 6:
        return
    protocol = octets[at + ipv6.NEXT_HEADER] & 0xFF
    upper = skip_extensions(octets, at + ipv6.HEADER_LEN, end, end, protocol, at + ipv6.DST)
    _, grown = map_packet6(r, nets, octets, at, upper.destination, remote)
    if upper.ending == COMPLETE and upper.at + udp.LENGTH <= end and not is_later_fragment(octets, upper.fragment):
        edit_quoted_ports(r, ports, octets, upper.protocol, upper.at, end, grown)


def is_later_fragment(octets: Octets, fragment: int) -> bool:
    """Whether the IPv6 fragment header at `fragment`, if there is one, is of another than the first fragment."""
    return fragment >= 0 and be16(octets, fragment + ipv6.FRAGMENT_OFFSET) & ipv6.OFFSET_BYTES > 0


def edit_discovery(r: Rules, macs: Any, nets: Any, octets: bytearray, at: int, end: int, remote: int) -> None:
    """Rewrite the addresses of the neighbour discovery message octets[at:end] and those of its options."""
    kind = octets[at + icmpv6.TYPE] & 0xFF
    option = at + ND_OPTIONS[kind - ND_FIRST]
    if option > end:
        return
    if kind >= ND_SOLICITATION:
        map_address6(r, nets, octets, at + ND_TARGET)
        # The target is the remote end where that is advertised by it, or asked for by the host.
        asked = kind == ND_SOLICITATION and remote & TO_REMOTE > 0
        told = kind == ND_ADVERTISEMENT and remote & FROM_REMOTE > 0
        if r.address_add and (asked or told):
            move_address6(r, octets, at + ND_TARGET, -1)
        if kind == ND_REDIRECT:
            map_address6(r, nets, octets, at + ND_DESTINATION)
    while option + ND_UNIT <= end:
        length = (octets[option + 1] & 0xFF) * ND_UNIT
        if length == 0 or option + length > end:
            return
        if length == ND_UNIT and (octets[option] & 0xFF) in ND_LINK_OPTIONS:
            map_mac(r, macs, octets, option + 2)
        option += length


def edit_icmpv6(
    r: Rules,
    macs: Any,
    nets: Any,
    ports: Any,
    octets: bytearray,
    at: int,
    captured: int,
    length: int,
    addresses: int,
    grown: int,
    remote: int,
) -> None:
    """Rewrite what ICMPv6 says of addresses; parameters as of edit_tcp."""
    if captured < icmpv6.CHECKSUM + 2:
        return
    unfinished = False
    if addresses != FRAGMENT:
        unfinished = is_unfinished(
            octets, at, length, captured, icmpv6.CHECKSUM, addresses + ipv6.PROTO_ICMPV6 + length
        )
    kind = octets[at + icmpv6.TYPE] & 0xFF
    words = 0
    if captured >= icmpv6.HEADER_LEN and (kind <= LAST_ICMPV6_ERROR or ND_FIRST <= kind <= ND_REDIRECT):
        before = ones_sum(octets, at, at + captured)
        if kind <= LAST_ICMPV6_ERROR:
            edit_quoted6(r, nets, ports, octets, at + icmpv6.QUOTED, at + captured, turned(remote))
        else:
            edit_discovery(r, macs, nets, octets, at, at + captured, remote)
        words = ones_sum(octets, at, at + captured) - before
    move_l4_checksum(octets, at + icmpv6.CHECKSUM, unfinished, grown, words, 0)


def edit_ipv4(
    r: Rules, nets: Any, ports: Any, octets: bytearray, at: int, end: int, available: int, remote: int
) -> None:
    """Rewrite the IPv4 packet at `at`, captured up to `end`, of at most `available` bytes."""
    header = (octets[at] & 0x0F) * 4
    if end - at < ipv4.HEADER_LEN or octets[at] >> 4 != 4 or header < ipv4.HEADER_LEN:
        r.missed = 1
        return
    total = min(ip_total_length(octets, at, available), available)
    protocol = octets[at + ipv4.PROTOCOL] & 0xFF
    addresses = addresses_sum(be32(octets, at + ipv4.SRC), be32(octets, at + ipv4.DST))
    grown = map_ends4(r, nets, octets, at + ipv4.SRC, at + ipv4.DST, remote)
    move_checksum(octets, at + ipv4.CHECKSUM, grown, 0)
    fragment = be16(octets, at + ipv4.FLAGS_FRAGMENT)
    captured = min(end - at, total) - header
    if fragment & ipv4.FRAGMENT_OFFSET:
        return
    if captured <= 0:
        if total > header:
            r.missed = 1
        return
    if fragment & ipv4.MORE_FRAGMENTS:
        addresses = FRAGMENT
    if protocol == ipv4.PROTO_TCP:
        edit_tcp(r, ports, octets, at + header, captured, total - header, addresses, grown)
    elif protocol == ipv4.PROTO_UDP:
        edit_udp(r, ports, octets, at + header, captured, total - header, addresses, grown)
    elif protocol == ipv4.PROTO_ICMP:
        edit_icmp(r, nets, ports, octets, at + header, captured, remote)


def edit_ipv6(
    r: Rules, macs: Any, nets: Any, ports: Any, octets: bytearray, at: int, end: int, available: int, remote: int
) -> None:
    """Rewrite the IPv6 packet at `at`, captured up to `end`, of at most `available` bytes."""
    if end - at < ipv6.HEADER_LEN or octets[at] >> 4 != 6:
        r.missed = 1
        return
    total = ip6_total_length(octets, at, available, end - at)
    if total < 0 or total > available:
        total = available
    end = min(end, at + total)
    protocol = octets[at + ipv6.NEXT_HEADER] & 0xFF
    upper = skip_extensions(octets, at + ipv6.HEADER_LEN, at + total, end, protocol, at + ipv6.DST)
    addresses, grown = map_packet6(r, nets, octets, at, upper.destination, remote)
    length = at + total - upper.at
    if upper.ending != COMPLETE or (upper.at >= end and length > 0):
        r.missed = 1
        return
    if upper.at >= end or is_later_fragment(octets, upper.fragment):
        return
    if upper.fragment >= 0:
        addresses = FRAGMENT
    if upper.protocol == ipv6.PROTO_TCP:
        edit_tcp(r, ports, octets, upper.at, end - upper.at, length, addresses, grown)
    elif upper.protocol == ipv6.PROTO_UDP:
        edit_udp(r, ports, octets, upper.at, end - upper.at, length, addresses, grown)
    elif upper.protocol == ipv6.PROTO_ICMPV6:
        edit_icmpv6(r, macs, nets, ports, octets, upper.at, end - upper.at, length, addresses, grown, remote)


def edit_arp(r: Rules, macs: Any, nets: Any, octets: bytearray, at: int, end: int, remote: int) -> None:
    """Rewrite both pairs of addresses of an ARP packet for Ethernet and IPv4; other ARP stays."""
    if end - at < arp.PACKET_LEN:
        r.missed = 1
        return
    if be32(octets, at + 2) != ARP_ETHERNET_IPV4:
        return
    map_mac(r, macs, octets, at + ARP_SENDER_MAC)
    map_mac(r, macs, octets, at + ARP_TARGET_MAC)
    map_ends4(r, nets, octets, at + arp.SENDER_IP, at + arp.TARGET_IP, remote)


def remote_ends(r: Rules, octets: Octets, row: Any, at: int, ethertype: int) -> int:
    """Which ends of a frame are not the host, FROM_REMOTE and TO_REMOTE; its network header is at `at`.

    As the replay sees it (traffic.arrivals packet_type): by the capture's direction, else by the host's MAC, by the
    packet type of a cooked frame, or by the host's address.  Of a frame between others both ends are.
    """
    if r.by_direction and row.direction == DIR_OUTBOUND:
        return TO_REMOTE
    if r.by_direction and row.direction == DIR_INBOUND:
        return FROM_REMOTE
    if row.linktype == LINKTYPE_ETHERNET:
        if mac_at(octets, row.offset + ethernet.SRC) == r.host_mac:
            return TO_REMOTE
        destination = mac_at(octets, row.offset + ethernet.DST)
        group = destination >> 40 & 1
        return FROM_REMOTE if group or destination == r.host_mac or r.host_mac == 0 else FROM_REMOTE | TO_REMOTE
    stated = cooked_type(row, octets)
    if stated == PACKET_OUTGOING:
        return TO_REMOTE
    if stated not in (NO_PACKET_TYPE, PACKET_OTHERHOST):
        return FROM_REMOTE
    if is_host(r, octets, row, at, ethertype, 0):
        return TO_REMOTE
    return FROM_REMOTE if is_host(r, octets, row, at, ethertype, 1) else FROM_REMOTE | TO_REMOTE


def is_host(r: Rules, octets: Octets, row: Any, at: int, ethertype: int, destination: int) -> bool:
    """Whether the source of a packet, or its destination, is the host's address."""
    left = row.offset + row.caplen - at
    if ethertype == ethernet.TYPE_IPV4 and r.host_family == 4 and left >= ipv4.HEADER_LEN:
        return be32(octets, at + (ipv4.DST if destination else ipv4.SRC)) == r.host_addr
    if ethertype == ethernet.TYPE_IPV6 and r.host_family == 6 and left >= ipv6.HEADER_LEN:
        where = at + (ipv6.DST if destination else ipv6.SRC)
        return be64_signed(octets, where) == r.host_addr_hi and be64_signed(octets, where + 8) == r.host_addr
    return False


def edit_frame(r: Rules, macs: Any, nets: Any, ports: Any, octets: bytearray, row: Any) -> int:
    """Rewrite a frame; returns where its network header is, -1 without one."""
    map_link(r, macs, octets, row)
    link: Any = r.link
    link.offset = row.offset
    link.caplen = row.caplen
    link.length = row.length
    link.linktype = row.linktype
    link.ethertype = 0
    link.vlan_tags = 0
    at = network_header(link, octets)
    end = row.offset + min(row.caplen, row.length)
    if at < 0 or at >= end:
        r.missed = 1
        return -1
    remote = remote_ends(r, octets, row, at, link.ethertype) if r.address_add else 0
    if link.ethertype == ethernet.TYPE_IPV4:
        edit_ipv4(r, nets, ports, octets, at, end, row.offset + row.length - at, remote)
    elif link.ethertype == ethernet.TYPE_IPV6:
        edit_ipv6(r, macs, nets, ports, octets, at, end, row.offset + row.length - at, remote)
    elif link.ethertype == ethernet.TYPE_ARP:
        edit_arp(r, macs, nets, octets, at, end, remote)
    return at

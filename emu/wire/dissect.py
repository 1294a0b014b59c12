"""One frame, from its bytes to the fields of its row: addresses, ports, flags, checksums, malformed headers.

Truncated frames are read as far as they go: the original length says how long the packet was, the captured one bounds
parsing.  What the kernel does about a malformed header, and when, is the kernel's business.
Source of what is malformed: Linux 2.6.12 net/ipv4/ip_input.c ip_rcv, net/ipv6/ip6_input.c ipv6_rcv,
net/ipv6/exthdrs.c, net/ipv6/reassembly.c ipv6_frag_rcv; an IPv4 total length of 0 as net/ipv4/ip_input.c of 6.x.
"""

from emu.wire import arp, ethernet, ipv4, ipv6
from emu.wire.checksum import addresses_sum, ones_sum
from emu.wire.extensions import BAD_OPTIONS, BROKEN, CUT, hop_options, skip_extensions
from emu.wire.headers import (
    CHECKSUMS_TRUST,
    CSUM_BAD,
    CSUM_GOOD,
    CSUM_UNKNOWN,
    IP_HEADER_BAD,
    IP_TOO_SHORT,
    KIND_ARP,
    KIND_IP_FRAGMENT,
    KIND_IP_OTHER,
    KIND_MALFORMED,
    LINKTYPE_ETHERNET,
    NO_ERROR,
    TOO_SHORT,
    Headers,
)
from emu.wire.link import network_header
from emu.wire.octets import Octets, be16, be32, be64_signed
from emu.wire.transport import (
    dissect_first_fragment,
    dissect_icmp,
    dissect_icmpv6,
    dissect_igmp,
    dissect_tcp,
    dissect_udp,
    fragment_sum,
)


def forget_headers(p: Headers) -> None:
    """Clear what an earlier frame in this row left behind."""
    p.kind = KIND_MALFORMED
    p.header_error = NO_ERROR
    p.ethertype = 0
    p.vlan_tags = 0
    p.vlan_outer = 0
    p.vlan_inner = 0
    p.ip_version = 0
    p.ip_protocol = 0
    p.saddr = 0
    p.daddr = 0
    p.saddr_hi = 0
    p.daddr_hi = 0
    p.sport = 0
    p.dport = 0
    p.l4_length = 0
    p.payload_length = 0
    p.tcp_flags = 0
    p.tcp_seq = 0
    p.tcp_ack = 0
    p.tcp_window = 0
    p.frag_id = 0
    p.frag_offset = 0
    p.frag_more = 0
    p.frag_length = 0
    p.frag_sum = 0
    p.icmp_type = -1
    p.quoted_port = -1
    p.ip_csum = CSUM_GOOD
    p.l4_csum = CSUM_GOOD


def dissect_arp(p: Headers, octets: Octets, at: int, end: int) -> None:
    """ARP: its two protocol addresses."""
    p.kind = KIND_ARP
    if p.offset + p.length - at < arp.PACKET_LEN:
        p.header_error = TOO_SHORT
    if end - at >= arp.PACKET_LEN:
        p.saddr = be32(octets, at + arp.SENDER_IP)
        p.daddr = be32(octets, at + arp.TARGET_IP)


def ip_total_length(octets: Octets, at: int, available: int) -> int:
    """The IPv4 total length, in bytes; an aggregated packet too long for the field carries 0 there."""
    total = be16(octets, at + ipv4.TOTAL_LENGTH)
    if total == 0 and available > 65535:
        return available
    return total


def dissect_ipv4(p: Headers, octets: Octets, at: int, end: int, checksums: int) -> None:
    """IPv4: header checks in the order of ip_rcv, then the transport header."""
    p.kind = KIND_IP_OTHER
    p.ip_version = 4
    available = p.offset + p.length - at
    if available < ipv4.HEADER_LEN:
        p.header_error = IP_TOO_SHORT
        return
    if end - at < ipv4.HEADER_LEN:
        p.ip_csum = CSUM_UNKNOWN
        return
    header = (octets[at] & 0x0F) * 4
    total = ip_total_length(octets, at, available)
    p.ip_protocol = octets[at + ipv4.PROTOCOL] & 0xFF
    p.saddr = be32(octets, at + ipv4.SRC)
    p.daddr = be32(octets, at + ipv4.DST)
    if octets[at] >> 4 != 4 or header < ipv4.HEADER_LEN or header > available:
        p.header_error = IP_HEADER_BAD
        return
    if end - at < header:
        p.ip_csum = CSUM_UNKNOWN
        return
    if checksums != CHECKSUMS_TRUST and ones_sum(octets, at, at + header) != 0:
        p.ip_csum = CSUM_BAD
        return
    if total > available or total < header:
        p.header_error = IP_HEADER_BAD
        return
    p.l4_length = total - header
    captured = min(end - at, total) - header
    fragment = be16(octets, at + ipv4.FLAGS_FRAGMENT)
    at += header
    if fragment & (ipv4.MORE_FRAGMENTS | ipv4.FRAGMENT_OFFSET):
        p.frag_id = be16(octets, at - header + ipv4.ID)
        p.frag_offset = (fragment & ipv4.FRAGMENT_OFFSET) * 8
        p.frag_more = int(fragment & ipv4.MORE_FRAGMENTS > 0)
        dissect_fragment(p, octets, at, captured, p.l4_length, checksums)
    elif p.ip_protocol == ipv4.PROTO_TCP:
        dissect_tcp(p, octets, at, captured, addresses_sum(p.saddr, p.daddr), checksums)
    elif p.ip_protocol == ipv4.PROTO_UDP:
        dissect_udp(p, octets, at, captured, addresses_sum(p.saddr, p.daddr), checksums)
    elif p.ip_protocol == ipv4.PROTO_ICMP:
        dissect_icmp(p, octets, at, captured, checksums)
    elif p.ip_protocol == ipv4.PROTO_IGMP:
        dissect_igmp(p, octets, at, captured, checksums)


def ip6_total_length(octets: Octets, at: int, available: int, captured: int) -> int:
    """The length of the IPv6 packet at `at` in bytes, -1 for a malformed hop-by-hop header (ipv6_parse_hopopts).

    A payload length of 0 is a jumbogram's (RFC 2675), an aggregated packet's, or the truth; with a hop-by-hop header
    and no jumbo option in it, the kernel takes all that there is.
    """
    claimed = be16(octets, at + ipv6.PAYLOAD_LENGTH)
    hop = at + ipv6.HEADER_LEN
    if octets[at + ipv6.NEXT_HEADER] == ipv6.PROTO_HOPOPTS and hop + ipv6.EXT_LEN <= at + min(available, captured):
        header = (octets[hop + ipv6.EXT_LENGTH] + 1) * ipv6.EXT_UNIT
        if hop + header > at + available:
            return -1
        if hop + header <= at + captured:
            jumbo = hop_options(octets, hop, header)
            if jumbo == BAD_OPTIONS or (jumbo > 0 and claimed > 0):
                return -1
            if jumbo > 0:
                return ipv6.HEADER_LEN + jumbo
        if claimed == 0:
            return available
    if claimed == 0 and available > ipv6.HEADER_LEN + ipv6.MAX_PAYLOAD:
        return available
    return ipv6.HEADER_LEN + claimed


def dissect_ipv6(p: Headers, octets: Octets, at: int, end: int, checksums: int) -> None:
    """IPv6: header checks in the order of ipv6_rcv, then extension headers, then what is above them."""
    p.kind = KIND_IP_OTHER
    p.ip_version = 6
    available = p.offset + p.length - at
    if available < ipv6.HEADER_LEN:
        p.header_error = IP_TOO_SHORT
        return
    if end - at < ipv6.HEADER_LEN:
        p.ip_csum = CSUM_UNKNOWN  # as of an IPv4 header that is cut off
        return
    p.ip_protocol = octets[at + ipv6.NEXT_HEADER] & 0xFF
    p.saddr_hi = be64_signed(octets, at + ipv6.SRC)
    p.saddr = be64_signed(octets, at + ipv6.SRC + 8)
    p.daddr_hi = be64_signed(octets, at + ipv6.DST)
    p.daddr = be64_signed(octets, at + ipv6.DST + 8)
    if octets[at] >> 4 != 6:
        p.header_error = IP_HEADER_BAD
        return
    total = ip6_total_length(octets, at, available, end - at)
    if total < 0 or total > available:
        p.header_error = IP_HEADER_BAD
        return
    dissect_above_ipv6(p, octets, at, at + total, min(end, at + total), checksums)


def dissect_above_ipv6(p: Headers, octets: Octets, at: int, end: int, captured: int, checksums: int) -> None:
    """The chain of extension headers and the transport header of the IPv6 packet octets[at:end].

    Where the capture cuts the chain, the protocol is not known, and neither is a checksum.
    """
    upper = skip_extensions(octets, at + ipv6.HEADER_LEN, end, captured, p.ip_protocol, at + ipv6.DST)
    p.ip_protocol = upper.protocol
    p.l4_length = end - upper.at
    left = captured - upper.at
    if upper.fragment >= 0:
        if be16(octets, at + ipv6.PAYLOAD_LENGTH) == 0:
            p.header_error = IP_HEADER_BAD  # a jumbogram is never fragmented
            return
        where = be16(octets, upper.fragment + ipv6.FRAGMENT_OFFSET)
        p.frag_id = be32(octets, upper.fragment + ipv6.FRAGMENT_ID)
        p.frag_offset = where & ipv6.OFFSET_BYTES
        p.frag_more = where & ipv6.MORE_FRAGMENTS
        dissect_fragment(p, octets, upper.at, left, end - upper.fragment - ipv6.EXT_LEN, checksums)
    if upper.ending == BROKEN:
        p.header_error = TOO_SHORT
    elif upper.ending == CUT:
        p.ip_protocol = 0
        p.l4_csum = CSUM_UNKNOWN
    elif upper.fragment < 0:
        dissect_upper(p, octets, upper.at, left, at + ipv6.SRC, upper.destination, checksums)


def dissect_upper(p: Headers, octets: Octets, at: int, captured: int, src: int, dst: int, checksums: int) -> None:
    """The protocol above IPv6, at `at`; `src` and `dst` are where the addresses of its pseudo header lie."""
    addresses = ones_sum(octets, src, src + ipv6.ADDRESS_LEN) + ones_sum(octets, dst, dst + ipv6.ADDRESS_LEN)
    if p.ip_protocol == ipv6.PROTO_TCP:
        dissect_tcp(p, octets, at, captured, addresses, checksums)
    elif p.ip_protocol == ipv6.PROTO_UDP:
        dissect_udp(p, octets, at, captured, addresses, checksums)
    elif p.ip_protocol == ipv6.PROTO_ICMPV6:
        dissect_icmpv6(p, octets, at, captured, addresses, checksums)


def dissect_fragment(p: Headers, octets: Octets, at: int, captured: int, share: int, checksums: int) -> None:
    """A fragment with `share` bytes of its datagram, whose transport bytes start at `at`.

    The sum leaves out IPv6 extension headers before the transport header: no transport checksum covers them.
    """
    p.kind = KIND_IP_FRAGMENT
    p.frag_length = share
    p.frag_sum = fragment_sum(p, octets, at, p.l4_length, captured, checksums)
    if p.frag_offset == 0:
        dissect_first_fragment(p, octets, at, captured)
    else:
        p.l4_length = 0


def dissect(p: Headers, octets: Octets, checksums: int) -> None:
    """Dissect the frame that row `p` points at, of link type `p.linktype`; `checksums` is CHECKSUMS_*."""
    forget_headers(p)
    at = p.offset + ethernet.HEADER_LEN
    end = p.offset + min(p.caplen, p.length)
    # The common frame without a call: compiled, one that hands `octets` on costs a quarter of the whole dissection.
    if p.linktype == LINKTYPE_ETHERNET and at <= end and be16(octets, at - 2) == ethernet.TYPE_IPV4:
        p.ethertype = ethernet.TYPE_IPV4
    else:
        at = network_header(p, octets)
        if at < 0:
            return
    if p.ethertype == ethernet.TYPE_IPV4:
        dissect_ipv4(p, octets, at, end, checksums)
    elif p.ethertype == ethernet.TYPE_IPV6:
        dissect_ipv6(p, octets, at, end, checksums)
    elif p.ethertype == ethernet.TYPE_ARP:
        dissect_arp(p, octets, at, end)

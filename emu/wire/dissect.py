"""One frame, from its bytes to the fields of its row: addresses, ports, flags, checksums, malformed headers.

Truncated frames are read as far as they go: the original length says how long the packet was, the captured one bounds
parsing.  What the kernel does about a malformed header, and when, is the kernel's business.
"""

from emu.wire import arp, ethernet, icmp, ipv4, tcp, udp
from emu.wire.checksum import ones_sum, pseudo_header_sum
from emu.wire.headers import (
    CHECKSUMS_AUTO,
    CHECKSUMS_TRUST,
    CSUM_BAD,
    CSUM_GOOD,
    CSUM_PARTIAL,
    CSUM_UNKNOWN,
    IP_HEADER_BAD,
    IP_TOO_SHORT,
    KIND_ARP,
    KIND_ICMP,
    KIND_IP_FRAGMENT,
    KIND_IP_OTHER,
    KIND_IPV6,
    KIND_MALFORMED,
    KIND_OTHER,
    KIND_TCP,
    KIND_UDP,
    NO_ERROR,
    TOO_SHORT,
    Headers,
)
from emu.wire.octets import Octets, be16, be32


def forget_headers(p: Headers) -> None:
    """Clear what an earlier frame in this row left behind."""
    p.kind = KIND_MALFORMED
    p.header_error = NO_ERROR
    p.ethertype = 0
    p.ip_protocol = 0
    p.saddr = 0
    p.daddr = 0
    p.sport = 0
    p.dport = 0
    p.l4_length = 0
    p.payload_length = 0
    p.tcp_flags = 0
    p.tcp_seq = 0
    p.tcp_ack = 0
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


def l4_checksum(p: Headers, octets: Octets, at: int, captured: int, stored: int, pseudo: int, checksums: int) -> int:
    """CSUM_* of a transport segment of `l4_length` bytes at `at`; `stored` is the checksum field in it."""
    if checksums == CHECKSUMS_TRUST:
        return CSUM_GOOD
    if captured < p.l4_length:
        return CSUM_UNKNOWN
    if (pseudo + ones_sum(octets, at, at + p.l4_length)) % 65535 == 0:
        return CSUM_GOOD
    if checksums == CHECKSUMS_AUTO and pseudo > 0 and stored % 65535 == pseudo:
        return CSUM_PARTIAL
    return CSUM_BAD


def dissect_tcp(p: Headers, octets: Octets, at: int, captured: int, checksums: int) -> None:
    """TCP: ports, flags, payload."""
    p.kind = KIND_TCP
    if p.l4_length < tcp.HEADER_LEN:
        p.header_error = TOO_SHORT
    if captured < tcp.HEADER_LEN:
        p.l4_csum = CSUM_UNKNOWN
        if captured >= 4:
            p.sport = be16(octets, at + tcp.SPORT)
            p.dport = be16(octets, at + tcp.DPORT)
        return
    p.sport = be16(octets, at + tcp.SPORT)
    p.dport = be16(octets, at + tcp.DPORT)
    p.tcp_seq = be32(octets, at + tcp.SEQ)
    p.tcp_ack = be32(octets, at + tcp.ACK)
    p.tcp_flags = octets[at + tcp.FLAGS] & 0xFF
    header = (octets[at + tcp.DATA_OFFSET] >> 4) * 4
    if header < tcp.HEADER_LEN or header > p.l4_length:
        p.header_error = TOO_SHORT
        return
    p.payload_length = p.l4_length - header
    pseudo = pseudo_header_sum(p.saddr, p.daddr, ipv4.PROTO_TCP, p.l4_length)
    p.l4_csum = l4_checksum(p, octets, at, captured, be16(octets, at + tcp.CHECKSUM), pseudo, checksums)


def dissect_udp(p: Headers, octets: Octets, at: int, captured: int, checksums: int) -> None:
    """UDP: ports, and the length that it claims."""
    p.kind = KIND_UDP
    if p.l4_length < udp.HEADER_LEN:
        p.header_error = TOO_SHORT
    if captured < udp.HEADER_LEN:
        p.l4_csum = CSUM_UNKNOWN
        if captured >= 4:
            p.sport = be16(octets, at + udp.SPORT)
            p.dport = be16(octets, at + udp.DPORT)
        return
    p.sport = be16(octets, at + udp.SPORT)
    p.dport = be16(octets, at + udp.DPORT)
    claimed = be16(octets, at + udp.LENGTH)
    if claimed < udp.HEADER_LEN or claimed > p.l4_length:
        if not (claimed == 0 and p.l4_length > 65535):
            p.header_error = TOO_SHORT
            return
    else:
        p.l4_length = claimed
    p.payload_length = p.l4_length - udp.HEADER_LEN
    stored = be16(octets, at + udp.CHECKSUM)
    if stored == 0:
        return
    pseudo = pseudo_header_sum(p.saddr, p.daddr, ipv4.PROTO_UDP, p.l4_length)
    p.l4_csum = l4_checksum(p, octets, at, captured, stored, pseudo, checksums)


def dissect_icmp(p: Headers, octets: Octets, at: int, captured: int, checksums: int) -> None:
    """ICMP: its type, and for a port unreachable the UDP port that it quotes."""
    p.kind = KIND_ICMP
    if p.l4_length < icmp.HEADER_LEN:
        p.header_error = TOO_SHORT
    if captured < icmp.HEADER_LEN:
        p.l4_csum = CSUM_UNKNOWN
        return
    p.icmp_type = octets[at + icmp.TYPE] & 0xFF
    p.payload_length = p.l4_length - icmp.HEADER_LEN
    p.l4_csum = l4_checksum(p, octets, at, captured, 0, 0, checksums)
    if p.icmp_type != icmp.DEST_UNREACHABLE or octets[at + icmp.CODE] != icmp.PORT_UNREACHABLE:
        return
    quoted = at + icmp.QUOTED
    if captured < icmp.QUOTED + ipv4.HEADER_LEN or octets[quoted + ipv4.PROTOCOL] != ipv4.PROTO_UDP:
        return
    port = quoted + (octets[quoted] & 0x0F) * 4 + udp.DPORT
    if port + 2 <= at + captured:
        p.quoted_port = be16(octets, port)


def ip_total_length(octets: Octets, at: int, available: int) -> int:
    """The IPv4 total length, in bytes; an aggregated packet too long for the field carries 0 there."""
    total = be16(octets, at + ipv4.TOTAL_LENGTH)
    if total == 0 and available > 65535:
        return available
    return total


def dissect_ipv4(p: Headers, octets: Octets, at: int, end: int, checksums: int) -> None:
    """IPv4: header checks in the order of ip_rcv, then the transport header."""
    p.kind = KIND_IP_OTHER
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
    if be16(octets, at + ipv4.FLAGS_FRAGMENT) & (ipv4.MORE_FRAGMENTS | ipv4.FRAGMENT_OFFSET):
        p.kind = KIND_IP_FRAGMENT
        return
    p.l4_length = total - header
    captured = min(end - at, total) - header
    if p.ip_protocol == ipv4.PROTO_TCP:
        dissect_tcp(p, octets, at + header, captured, checksums)
    elif p.ip_protocol == ipv4.PROTO_UDP:
        dissect_udp(p, octets, at + header, captured, checksums)
    elif p.ip_protocol == ipv4.PROTO_ICMP:
        dissect_icmp(p, octets, at + header, captured, checksums)


def dissect(p: Headers, octets: Octets, checksums: int) -> None:
    """Dissect the Ethernet frame that row `p` points at; `checksums` is CHECKSUMS_*."""
    forget_headers(p)
    if p.length < ethernet.HEADER_LEN:
        return
    p.kind = KIND_OTHER
    if p.caplen < ethernet.HEADER_LEN:
        return
    at = p.offset + ethernet.HEADER_LEN
    end = p.offset + min(p.caplen, p.length)
    p.ethertype = be16(octets, p.offset + ethernet.TYPE)
    if p.ethertype == ethernet.TYPE_IPV4:
        dissect_ipv4(p, octets, at, end, checksums)
    elif p.ethertype == ethernet.TYPE_ARP:
        dissect_arp(p, octets, at, end)
    elif p.ethertype == ethernet.TYPE_IPV6:
        p.kind = KIND_IPV6

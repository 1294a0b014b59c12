"""Transport headers: TCP, UDP, ICMP, ICMPv6, IGMP, and the share of them that a fragment holds.

`at` is where the header starts, `captured` how many of its `p.l4_length` bytes lie in the capture, `addresses` the
share of both addresses in a pseudo header's sum, `checksums` one of CHECKSUMS_*.
Source of what is malformed: Linux 2.6.12 net/ipv4/tcp_ipv4.c tcp_v4_rcv, net/ipv4/udp.c udp_rcv, net/ipv6/udp.c
udpv6_rcv, net/ipv4/icmp.c icmp_rcv, net/ipv6/icmp.c icmpv6_rcv, net/ipv4/igmp.c igmp_rcv.
"""

from emu.wire import icmp, icmpv6, igmp, ipv4, ipv6, tcp, udp
from emu.wire.checksum import ones_sum
from emu.wire.extensions import COMPLETE, skip_extensions
from emu.wire.headers import (
    CHECKSUMS_AUTO,
    CHECKSUMS_TRUST,
    CSUM_BAD,
    CSUM_GOOD,
    CSUM_PARTIAL,
    CSUM_UNKNOWN,
    KIND_ICMP,
    KIND_ICMPV6,
    KIND_TCP,
    KIND_UDP,
    TOO_SHORT,
    Headers,
)
from emu.wire.octets import Octets, be16, be32, is_zero

NO_PSEUDO_HEADER = 0
NOTHING_TO_VERIFY = -1  # in place of a fragment's sum


def l4_checksum(p: Headers, octets: Octets, at: int, captured: int, stored: int, pseudo: int, checksums: int) -> int:
    """CSUM_* of the segment at `at`: `stored` is its checksum field, `pseudo` the pseudo header's sum, not reduced."""
    if checksums == CHECKSUMS_TRUST:
        return CSUM_GOOD
    if captured < p.l4_length:
        return CSUM_UNKNOWN
    if (pseudo + ones_sum(octets, at, at + p.l4_length)) % 65535 == 0:
        # One's complement has two zeros, and a correct sum is the other one: only nothing but zeros sums to this one.
        if pseudo == NO_PSEUDO_HEADER and is_zero(octets, at, at + p.l4_length):
            return CSUM_BAD
        return CSUM_GOOD
    if checksums == CHECKSUMS_AUTO and pseudo > 0 and stored > 0 and stored % 65535 == pseudo % 65535:
        return CSUM_PARTIAL
    return CSUM_BAD


def read_ports(p: Headers, octets: Octets, at: int, captured: int) -> None:
    """The ports, which lie alike in TCP and UDP, if they are captured."""
    if captured >= tcp.SEQ:
        p.sport = be16(octets, at + tcp.SPORT)
        p.dport = be16(octets, at + tcp.DPORT)


def read_cut_tcp(p: Headers, octets: Octets, at: int, captured: int) -> None:
    """What is captured of a TCP header that is not captured whole."""
    read_ports(p, octets, at, captured)
    if captured >= tcp.ACK:
        p.tcp_seq = be32(octets, at + tcp.SEQ)


def read_tcp(p: Headers, octets: Octets, at: int) -> int:
    """The fields of a TCP header that is captured; returns its length in bytes, as it claims."""
    p.sport = be16(octets, at + tcp.SPORT)
    p.dport = be16(octets, at + tcp.DPORT)
    p.tcp_seq = be32(octets, at + tcp.SEQ)
    p.tcp_ack = be32(octets, at + tcp.ACK)
    p.tcp_flags = octets[at + tcp.FLAGS] & 0xFF
    p.tcp_window = be16(octets, at + tcp.WINDOW)
    return (octets[at + tcp.DATA_OFFSET] & 0xF0) >> 2


def dissect_tcp(p: Headers, octets: Octets, at: int, captured: int, addresses: int, checksums: int) -> None:
    """TCP: ports, flags, sequence numbers, payload."""
    p.kind = KIND_TCP
    if p.l4_length < tcp.HEADER_LEN:
        p.header_error = TOO_SHORT
    if captured < tcp.HEADER_LEN:
        p.l4_csum = CSUM_UNKNOWN
        read_cut_tcp(p, octets, at, captured)
        return
    header = read_tcp(p, octets, at)
    if header < tcp.HEADER_LEN or header > p.l4_length:
        p.header_error = TOO_SHORT
        return
    p.payload_length = p.l4_length - header
    pseudo = addresses + ipv4.PROTO_TCP + p.l4_length
    p.l4_csum = l4_checksum(p, octets, at, captured, be16(octets, at + tcp.CHECKSUM), pseudo, checksums)


def dissect_udp(p: Headers, octets: Octets, at: int, captured: int, addresses: int, checksums: int) -> None:
    """UDP: ports, and the length that it claims; over IPv6 it must have a checksum (RFC 8200 section 8.1)."""
    p.kind = KIND_UDP
    if p.l4_length < udp.HEADER_LEN:
        p.header_error = TOO_SHORT
    read_ports(p, octets, at, captured)
    if captured < udp.HEADER_LEN:
        p.l4_csum = CSUM_UNKNOWN
        return
    claimed = be16(octets, at + udp.LENGTH)
    if claimed == 0 and (p.ip_version == 6 or p.l4_length > 65535):
        claimed = p.l4_length  # a jumbogram (RFC 2675 section 4), or an aggregated packet
    if claimed < udp.HEADER_LEN or claimed > p.l4_length:
        p.header_error = TOO_SHORT
        return
    p.l4_length = claimed
    p.payload_length = claimed - udp.HEADER_LEN
    stored = be16(octets, at + udp.CHECKSUM)
    if stored == 0:
        p.l4_csum = CSUM_BAD if p.ip_version == 6 and checksums != CHECKSUMS_TRUST else CSUM_GOOD
        return
    pseudo = addresses + ipv4.PROTO_UDP + claimed
    p.l4_csum = l4_checksum(p, octets, at, captured, stored, pseudo, checksums)


def read_icmp(p: Headers, octets: Octets, at: int, captured: int) -> bool:
    """What ICMP and ICMPv6 have alike, the type and the length; False if the header is not captured whole."""
    if p.l4_length < icmp.HEADER_LEN:
        p.header_error = TOO_SHORT
    if captured < icmp.HEADER_LEN:
        p.l4_csum = CSUM_UNKNOWN
        return False
    p.icmp_type = octets[at + icmp.TYPE] & 0xFF
    p.payload_length = p.l4_length - icmp.HEADER_LEN
    return True


def dissect_icmp(p: Headers, octets: Octets, at: int, captured: int, checksums: int) -> None:
    """ICMP: its type, and for a port unreachable the UDP port that it quotes."""
    p.kind = KIND_ICMP
    if not read_icmp(p, octets, at, captured):
        return
    p.l4_csum = l4_checksum(p, octets, at, captured, 0, NO_PSEUDO_HEADER, checksums)
    if p.icmp_type != icmp.DEST_UNREACHABLE or octets[at + icmp.CODE] != icmp.PORT_UNREACHABLE:
        return
    quoted = at + icmp.QUOTED
    if captured < icmp.QUOTED + ipv4.HEADER_LEN or octets[quoted + ipv4.PROTOCOL] != ipv4.PROTO_UDP:
        return
    port = quoted + (octets[quoted] & 0x0F) * 4 + udp.DPORT
    if port + 2 <= at + captured:
        p.quoted_port = be16(octets, port)


def dissect_icmpv6(p: Headers, octets: Octets, at: int, captured: int, addresses: int, checksums: int) -> None:
    """ICMPv6: its type, and for a port unreachable the UDP port that it quotes."""
    p.kind = KIND_ICMPV6
    if not read_icmp(p, octets, at, captured):
        return
    stored = be16(octets, at + icmpv6.CHECKSUM)
    pseudo = addresses + ipv6.PROTO_ICMPV6 + p.l4_length
    p.l4_csum = l4_checksum(p, octets, at, captured, stored, pseudo, checksums)
    if p.icmp_type == icmpv6.DEST_UNREACHABLE and octets[at + icmpv6.CODE] == icmpv6.PORT_UNREACHABLE:
        p.quoted_port = quoted_port_v6(octets, at + icmpv6.QUOTED, at + captured)


def quoted_port_v6(octets: Octets, at: int, end: int) -> int:
    """The destination port of the UDP datagram in the IPv6 packet quoted at octets[at:end], -1 if there is none."""
    if at + ipv6.HEADER_LEN > end:
        return -1
    protocol = octets[at + ipv6.NEXT_HEADER] & 0xFF
    upper = skip_extensions(octets, at + ipv6.HEADER_LEN, end, end, protocol, at + ipv6.DST)
    if upper.ending != COMPLETE or upper.fragment >= 0 or upper.protocol != ipv6.PROTO_UDP or upper.at + 4 > end:
        return -1
    return be16(octets, upper.at + udp.DPORT)


def dissect_igmp(p: Headers, octets: Octets, at: int, captured: int, checksums: int) -> None:
    """IGMP: only its checksum; it stays one of the other protocols."""
    if p.l4_length < igmp.HEADER_LEN:
        p.header_error = TOO_SHORT
    p.l4_csum = l4_checksum(p, octets, at, captured, 0, NO_PSEUDO_HEADER, checksums)


def dissect_first_fragment(p: Headers, octets: Octets, at: int, captured: int) -> None:
    """The transport header at the start of a datagram whose rest is elsewhere: its fields, as far as they go.

    Malformed is only what no later fragment can put right.
    """
    header = 0
    if p.ip_protocol == ipv4.PROTO_TCP:
        header = tcp.HEADER_LEN
        if captured < tcp.HEADER_LEN:
            read_cut_tcp(p, octets, at, captured)
        else:
            header = read_tcp(p, octets, at)
            if header < tcp.HEADER_LEN:
                p.header_error = TOO_SHORT
    elif p.ip_protocol == ipv4.PROTO_UDP:
        read_ports(p, octets, at, captured)
        header = udp.HEADER_LEN
    elif p.ip_protocol == (ipv6.PROTO_ICMPV6 if p.ip_version == 6 else ipv4.PROTO_ICMP):
        header = icmp.HEADER_LEN
        if captured > icmp.TYPE:
            p.icmp_type = octets[at + icmp.TYPE] & 0xFF
    if header > 0:
        p.payload_length = max(0, p.l4_length - header)


def fragment_sum(p: Headers, octets: Octets, at: int, length: int, captured: int, checksums: int) -> int:
    """ones_sum of the `length` transport bytes at `at` in this fragment, NOTHING_TO_VERIFY if that says nothing.

    So it is where they are cut off, where checksums are believed, and in a UDP datagram sent without one (RFC 768).
    """
    if checksums == CHECKSUMS_TRUST or captured < length:
        return NOTHING_TO_VERIFY
    if p.frag_offset == 0 and p.ip_version == 4 and p.ip_protocol == ipv4.PROTO_UDP and length >= udp.HEADER_LEN:
        if be16(octets, at + udp.CHECKSUM) == 0:
            return NOTHING_TO_VERIFY
    return ones_sum(octets, at, at + length)

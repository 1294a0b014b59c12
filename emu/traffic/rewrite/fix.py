"""Checksums computed anew: IPv4 headers, TCP, UDP, ICMP, ICMPv6, IGMP of whole packets.

A right one is left as it is.  What cannot be seen whole (fragments, frames that the capture cut) is left and counted.
Functions here run plain and compiled.
"""

from emu.traffic.rewrite.patch import UDP_ZERO
from emu.traffic.rewrite.rules import Rules
from emu.wire import ethernet, icmp, icmpv6, igmp, ipv4, ipv6, tcp, udp
from emu.wire.checksum import addresses_sum, ones_sum
from emu.wire.dissect import ip6_total_length, ip_total_length
from emu.wire.extensions import COMPLETE, skip_extensions
from emu.wire.octets import be16, be32, is_zero, put_be16

NO_PSEUDO_HEADER = 0


def settle(r: Rules, octets: bytearray, at: int, end: int, where: int, pseudo: int, zero: int) -> None:
    """Put the checksum at offset `where` of octets[at:end] right; `zero` is how it is written when it is 0."""
    if (pseudo + ones_sum(octets, at, end)) % 65535 == 0:
        # One's complement has two zeros: nothing but zeros sums to the wrong one, and a 0 may say "no checksum".
        empty = pseudo == NO_PSEUDO_HEADER and is_zero(octets, at, end)
        if not empty and (zero == 0 or be16(octets, at + where) > 0):
            return
        zero = 0xFFFF
    put_be16(octets, at + where, 0)
    value = -(pseudo + ones_sum(octets, at, end)) % 65535
    put_be16(octets, at + where, value if value > 0 else zero)
    r.fixed_here = 1
    r.hit = 1


def settle_upper(
    r: Rules, octets: bytearray, version: int, protocol: int, at: int, captured: int, length: int, addresses: int
) -> None:
    """Put the checksum of the transport packet at `at` right, `captured` of whose `length` bytes lie there."""
    pseudo = addresses + protocol
    least, where, zero = 0, 0, 0
    if protocol == ipv4.PROTO_TCP:
        least, where = tcp.HEADER_LEN, tcp.CHECKSUM
    elif protocol == ipv4.PROTO_UDP:
        least, where, zero = udp.HEADER_LEN, udp.CHECKSUM, UDP_ZERO
    elif version == 6 and protocol == ipv6.PROTO_ICMPV6:
        least, where = icmpv6.HEADER_LEN, icmpv6.CHECKSUM
    elif version == 4 and protocol == ipv4.PROTO_ICMP:
        least, where = icmp.HEADER_LEN, icmp.CHECKSUM
    elif version == 4 and protocol == ipv4.PROTO_IGMP:
        least, where = igmp.HEADER_LEN, igmp.CHECKSUM
    if least == 0:
        return
    if captured < least:
        r.left_here = 1
        return
    if protocol == ipv4.PROTO_UDP:
        claimed = be16(octets, at + udp.LENGTH)
        if claimed == 0 and (version == 6 or length > 65535):
            claimed = length
        if version == 4 and be16(octets, at + udp.CHECKSUM) == 0:
            return
        length = claimed if least <= claimed <= length else captured + 1  # one that is malformed counts as not seen
    if captured < length:
        r.left_here = 1
        return
    if version == 4 and protocol in (ipv4.PROTO_ICMP, ipv4.PROTO_IGMP):
        pseudo = NO_PSEUDO_HEADER
    else:
        pseudo += length
    settle(r, octets, at, at + length, where, pseudo, zero)


def fix_ipv4(r: Rules, octets: bytearray, at: int, end: int, available: int) -> None:
    """Put the checksums of the IPv4 packet at `at` right, captured up to `end`."""
    header = (octets[at] & 0x0F) * 4
    if end - at < ipv4.HEADER_LEN or octets[at] >> 4 != 4 or header < ipv4.HEADER_LEN or end - at < header:
        r.left_here = 1
        return
    settle(r, octets, at, at + header, ipv4.CHECKSUM, NO_PSEUDO_HEADER, 0)
    total = ip_total_length(octets, at, available)
    fragment = be16(octets, at + ipv4.FLAGS_FRAGMENT) & (ipv4.MORE_FRAGMENTS | ipv4.FRAGMENT_OFFSET)
    if fragment or not header <= total <= available:
        r.left_here = 1
        return
    addresses = addresses_sum(be32(octets, at + ipv4.SRC), be32(octets, at + ipv4.DST))
    protocol = octets[at + ipv4.PROTOCOL] & 0xFF
    captured = min(end - at, total) - header
    settle_upper(r, octets, 4, protocol, at + header, captured, total - header, addresses)


def fix_ipv6(r: Rules, octets: bytearray, at: int, end: int, available: int) -> None:
    """Put the transport checksum of the IPv6 packet at `at` right, captured up to `end`."""
    if end - at < ipv6.HEADER_LEN or octets[at] >> 4 != 6:
        r.left_here = 1
        return
    total = ip6_total_length(octets, at, available, end - at)
    if not 0 <= total <= available:
        r.left_here = 1
        return
    end = min(end, at + total)
    protocol = octets[at + ipv6.NEXT_HEADER] & 0xFF
    upper = skip_extensions(octets, at + ipv6.HEADER_LEN, at + total, end, protocol, at + ipv6.DST)
    if upper.ending != COMPLETE or upper.fragment >= 0:
        r.left_here = 1
        return
    src, dst = at + ipv6.SRC, upper.destination
    addresses = ones_sum(octets, src, src + ipv6.ADDRESS_LEN) + ones_sum(octets, dst, dst + ipv6.ADDRESS_LEN)
    settle_upper(r, octets, 6, upper.protocol, upper.at, end - upper.at, at + total - upper.at, addresses)


def fix_frame(r: Rules, octets: bytearray, at: int, end: int, available: int, ethertype: int) -> None:
    """Put the checksums of a frame right whose network header is at `at`."""
    r.fixed_here = 0
    r.left_here = 0
    if ethertype == ethernet.TYPE_IPV4:
        fix_ipv4(r, octets, at, end, available)
    elif ethertype == ethernet.TYPE_IPV6:
        fix_ipv6(r, octets, at, end, available)
    r.fixed += r.fixed_here
    r.left += r.left_here

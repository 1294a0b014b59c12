"""IPv6 extension headers (RFC 8200 section 4), walked within the packet and within what was captured of it.

Source of what is refused: Linux 2.6.12 net/ipv6/exthdrs.c ip6_parse_tlv, ipv6_hop_jumbo, ipv6_hop_ra.
Differs: the options of a destination options header are not looked at; a chain longer than `MAX_EXTENSIONS` headers
ends there, as if its next header were an unknown protocol.
"""

from typing import NamedTuple

from emu.wire import ipv6
from emu.wire.octets import Octets, be16, be32

MAX_EXTENSIONS = 32

COMPLETE, CUT, BROKEN = range(3)

NO_JUMBO = 0
BAD_OPTIONS = -1


class Upper(NamedTuple):
    """Where a walk over extension headers ended."""

    protocol: int  # of what follows them
    at: int  # where that starts
    ending: int  # COMPLETE; CUT: the capture ends before; BROKEN: the packet does
    fragment: int  # where the header of a fragment lies, -1: it is none
    destination: int  # where the address of the final destination lies


def final_destination(octets: Octets, at: int, end: int, destination: int) -> int:
    """Where the final destination's address lies, given the routing header at octets[at:end] (RFC 8200 section 8.1)."""
    addresses = (end - at - ipv6.ROUTING_ADDRESSES) // ipv6.ADDRESS_LEN
    if octets[at + ipv6.SEGMENTS_LEFT] == 0 or addresses == 0:
        return destination
    kind = octets[at + ipv6.ROUTING_TYPE] & 0xFF
    if kind == ipv6.ROUTING_SOURCE:
        return at + ipv6.ROUTING_ADDRESSES + (addresses - 1) * ipv6.ADDRESS_LEN
    if kind in (ipv6.ROUTING_HOME, ipv6.ROUTING_SEGMENTS):
        return at + ipv6.ROUTING_ADDRESSES
    return destination


def skip_extensions(octets: Octets, at: int, end: int, captured: int, protocol: int, destination: int) -> Upper:
    """Walk extension headers from octets[at], the first of number `protocol`, in a packet that ends at `end`.

    `captured` is where its captured bytes end, `destination` where the header's own destination lies.  A hop-by-hop
    header counts as one only in the first place.  The walk ends behind the header of a later fragment, for what
    follows is no header; a fragment header with nothing before and nothing after it is skipped (RFC 6946).
    """
    fragment = -1
    for place in range(MAX_EXTENSIONS):
        if protocol not in ipv6.EXTENSIONS or (protocol == ipv6.PROTO_HOPOPTS and place > 0):
            break
        if at + ipv6.EXT_LEN > end:
            return Upper(protocol, at, BROKEN, fragment, destination)
        if at + ipv6.EXT_LEN > captured:
            return Upper(protocol, at, CUT, fragment, destination)
        length = (octets[at + ipv6.EXT_LENGTH] + 1) * ipv6.EXT_UNIT
        if protocol == ipv6.PROTO_AH:
            length = (octets[at + ipv6.EXT_LENGTH] + 2) * ipv6.AH_UNIT
        elif protocol == ipv6.PROTO_FRAGMENT:
            length = ipv6.EXT_LEN
            where = be16(octets, at + ipv6.FRAGMENT_OFFSET)
            if where & (ipv6.OFFSET_BYTES | ipv6.MORE_FRAGMENTS):
                if fragment >= 0:
                    break  # a fragment of a fragment: the outer one comes first
                fragment = at
            if where & ipv6.OFFSET_BYTES:
                return Upper(octets[at + ipv6.EXT_NEXT] & 0xFF, at + length, COMPLETE, fragment, destination)
        if at + length > end:
            return Upper(protocol, at, BROKEN, fragment, destination)
        if protocol == ipv6.PROTO_ROUTING and at + length <= captured:
            destination = final_destination(octets, at, at + length, destination)
        protocol = octets[at + ipv6.EXT_NEXT] & 0xFF
        at += length
    return Upper(protocol, at, COMPLETE, fragment, destination)


def hop_options(octets: Octets, at: int, header: int) -> int:
    """The jumbo payload length among the options of the hop-by-hop header of `header` bytes at `at`, in bytes.

    NO_JUMBO without one, BAD_OPTIONS where the kernel refuses the packet.
    """
    jumbo = NO_JUMBO
    option = at + 2
    left = header - 2
    while left > 0:
        kind = octets[option] & 0xFF
        if kind == ipv6.OPTION_PAD1:
            length = 1
        elif left < 2:
            return BAD_OPTIONS
        else:
            length = (octets[option + 1] & 0xFF) + 2
            if length > left or not _is_welcome(kind, length, option - at):
                return BAD_OPTIONS
            if kind == ipv6.OPTION_JUMBO:
                jumbo = be32(octets, option + 2)
                if jumbo <= ipv6.MAX_PAYLOAD:
                    return BAD_OPTIONS
        option += length
        left -= length
    return jumbo


def _is_welcome(kind: int, length: int, place: int) -> bool:
    # `place` is the option's distance from the header's start, which lies on an 8-byte boundary.
    if kind == ipv6.OPTION_JUMBO:
        return length == 6 and place & 3 == 2
    if kind == ipv6.OPTION_ROUTER_ALERT:
        return length == 4
    return kind & ipv6.OPTION_ACTION == 0

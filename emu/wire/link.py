"""Link layers: where a frame's network header starts, and what it is.

Ethernet with VLAN tags, BSD loopback, Linux cooked captures, raw IP.  VLAN tags are walked wherever an ethertype
stands.  Source: IEEE 802.1Q, and the tcpdump.org link types.
"""

from emu.wire import ethernet, loopback, sll, sll2, vlan
from emu.wire.headers import (
    KIND_MALFORMED,
    KIND_OTHER,
    LINKTYPE_ETHERNET,
    LINKTYPE_IPV4,
    LINKTYPE_IPV6,
    LINKTYPE_LINUX_SLL,
    LINKTYPE_LINUX_SLL2,
    LINKTYPE_LOOP,
    LINKTYPE_NULL,
    LINKTYPE_RAW,
    LINKTYPE_RAW_BSD,
    LINKTYPE_RAW_OPENBSD,
    TOO_SHORT,
    Headers,
)
from emu.wire.octets import Octets, be16, be32, le32


def link_header_len(linktype: int) -> int:
    """Bytes before the network header, VLAN tags apart; -1 for a link type that is not dissected."""
    if linktype == LINKTYPE_ETHERNET:
        return ethernet.HEADER_LEN
    if linktype == LINKTYPE_LINUX_SLL:
        return sll.HEADER_LEN
    if linktype == LINKTYPE_LINUX_SLL2:
        return sll2.HEADER_LEN
    if linktype in (LINKTYPE_NULL, LINKTYPE_LOOP):
        return loopback.HEADER_LEN
    if linktype in (LINKTYPE_RAW, LINKTYPE_RAW_BSD, LINKTYPE_RAW_OPENBSD, LINKTYPE_IPV4, LINKTYPE_IPV6):
        return 0
    return -1


def loopback_type(octets: Octets, at: int, linktype: int) -> int:
    """The ethertype of a BSD loopback frame's address family, 0 for a family that is not IP."""
    family = be32(octets, at + loopback.FAMILY)
    if linktype == LINKTYPE_NULL and family > 0xFFFF:
        family = le32(octets, at + loopback.FAMILY)
    if family == loopback.AF_INET:
        return ethernet.TYPE_IPV4
    if family in loopback.AF_INET6:
        return ethernet.TYPE_IPV6
    return 0


def raw_type(octets: Octets, at: int, linktype: int) -> int:
    """The ethertype of a raw IP packet: its link type says it, else its version; 0 for another version."""
    if linktype == LINKTYPE_IPV4:
        return ethernet.TYPE_IPV4
    if linktype == LINKTYPE_IPV6:
        return ethernet.TYPE_IPV6
    version = octets[at] & 0xF0
    if version == 0x40:
        return ethernet.TYPE_IPV4
    if version == 0x60:
        return ethernet.TYPE_IPV6
    return 0


def cooked_type(octets: Octets, arphrd: int, protocol: int) -> int:
    """The ethertype of a cooked frame whose ARPHRD and protocol fields lie there; 0 where it holds none."""
    if be16(octets, arphrd) in sll.ARPHRD_OTHER:
        return 0
    return be16(octets, protocol)


def link_type(octets: Octets, at: int, linktype: int) -> int:
    """The ethertype that the link header at `at` announces; an 802.3 length as it stands."""
    if linktype == LINKTYPE_ETHERNET:
        return be16(octets, at + ethernet.TYPE)
    if linktype == LINKTYPE_LINUX_SLL:
        return cooked_type(octets, at + sll.ARPHRD, at + sll.PROTOCOL)
    if linktype == LINKTYPE_LINUX_SLL2:
        return cooked_type(octets, at + sll2.ARPHRD, at + sll2.PROTOCOL)
    if linktype in (LINKTYPE_NULL, LINKTYPE_LOOP):
        return loopback_type(octets, at, linktype)
    return raw_type(octets, at, linktype)


def walk_tags(p: Headers, octets: Octets, at: int) -> int:
    """Walk VLAN tags from behind the first TPID, `p.ethertype`, to what follows the last; -1: the frame ends first.

    A tag that is not there or not captured is not counted, and `p.ethertype` stays its TPID.
    """
    end = p.offset + p.length
    captured = p.offset + min(p.caplen, p.length)
    while p.ethertype in vlan.TPIDS and p.vlan_tags < vlan.MAX_TAGS:
        if at + vlan.TAG_LEN > end:
            p.header_error = TOO_SHORT
            return -1
        if at + vlan.TAG_LEN > captured:
            return -1
        tag = p.ethertype << 16 | be16(octets, at + vlan.TCI)
        if p.vlan_tags == 0:
            p.vlan_outer = tag
        elif p.vlan_tags == 1:
            p.vlan_inner = tag
        p.vlan_tags += 1
        p.ethertype = be16(octets, at + vlan.TYPE)
        at += vlan.TAG_LEN
    return at


def network_header(p: Headers, octets: Octets) -> int:
    """Where the network header starts, its type in `p.ethertype`; -1 where the frame or its capture ends before."""
    header = link_header_len(p.linktype)
    # A raw packet's first byte tells what it is.
    if p.length < max(header, 1):
        p.kind = KIND_MALFORMED
        return -1
    p.kind = KIND_OTHER
    if header < 0 or p.caplen < max(header, 1):
        return -1
    p.ethertype = link_type(octets, p.offset, p.linktype)
    return walk_tags(p, octets, p.offset + header)

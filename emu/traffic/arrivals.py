"""Captured frames become arrivals: filtered, timed, dissected, told apart by who sent them and to whom.

One pass over a batch of rows, in frame order, before the machine sees them.

Who a frame is for: the link layer's direction where the capture states one, then the destination MAC as in
eth_type_trans (2.6.12 net/ethernet/eth.c).  A cooked frame says it itself, in its packet type (tcpdump.org,
LINKTYPE_LINUX_SLL and LINKTYPE_LINUX_SLL2: 0 to us, 1 broadcast, 2 multicast, 3 to somebody else, 4 sent by us, the
kernel's PACKET_*); a frame without any link-layer address is told by its IP addresses.
Differs: an IPv4 broadcast to a subnet is not known as one without the netmask, so such a frame without a MAC counts as
for somebody else.
"""

from typing import Annotated, Any

from emu.capture.bpf import bpf_run
from emu.capture.linktype import HEADER_BYTES, linktype_index
from emu.kernel.machine import (
    DIR_INBOUND,
    DIR_OUTBOUND,
    PACKET_BROADCAST,
    PACKET_FILTERED,
    PACKET_HOST,
    PACKET_MULTICAST,
    PACKET_OTHERHOST,
    PACKET_OUTGOING,
    Packet,
)
from emu.kernel.record import record
from emu.traffic.inlets import Inlet
from emu.traffic.pace import PACE_CAPTURED, PACE_SPEED, gap_ns
from emu.wire import ethernet, sll, sll2
from emu.wire.dissect import dissect
from emu.wire.headers import (
    CSUM_PARTIAL,
    CSUM_UNKNOWN,
    KIND_TCP,
    KIND_UDP,
    LINKTYPE_ETHERNET,
    LINKTYPE_LINUX_SLL,
    LINKTYPE_LINUX_SLL2,
)
from emu.wire.octets import Octets, be16, be32

OFFLOAD_SPLIT, OFFLOAD_DROP, OFFLOAD_JUMBO = range(3)
OFFLOADS = ("split", "drop", "jumbo")

BROADCAST_MAC = 0xFFFFFFFFFFFF
VLAN_TAG_BYTES = 4
NO_PACKET_TYPE = -1
IPV4_BROADCAST = 0xFFFFFFFF
MAX_SEGMENTS = 4_096  # the largest ring; a frame of more is missed in any case
END_OF_TIME_NS = 1 << 62  # the year 2116: no clock of ours goes beyond it


@record
class Feed:
    """What turns frames into arrivals: filter, checksums, pace, and what was counted on the way."""

    inlets: int  # interfaces of the capture that have an Inlet
    checksums: int  # wire.headers CHECKSUMS_*
    offload: int  # OFFLOAD_*
    filter_length: int  # instructions of all BPF programs; 0: no filter
    filter_start: Annotated[list[int], len(HEADER_BYTES)]  # of the program for each link type of PLAYED
    pace: int
    rate_over: int
    rate_under: int
    remainder: int
    started: int
    last_file_ns: int  # running maximum
    last_time_ns: int
    last_length: int
    time_reversed: int
    truncated: int
    csum_partial: int
    csum_unknown: int
    aggregated: int


def mac_at(octets: Octets, at: int) -> int:
    """A MAC address as an integer."""
    return be16(octets, at) << 32 | be32(octets, at + 2)


def set_time(feed: Feed, p: Packet, filtered: bool) -> None:
    """The arrival's time: never before the previous one's, paced as asked; a filtered frame takes none of a rate."""
    file_ns = p.file_time_ns
    if feed.started == 0:
        feed.started = 1
        feed.last_file_ns = file_ns
        feed.last_time_ns = file_ns
    else:
        if file_ns < feed.last_file_ns:
            feed.time_reversed += 1
            file_ns = feed.last_file_ns
        if not filtered or feed.pace in (PACE_CAPTURED, PACE_SPEED):
            feed.last_time_ns += gap_ns(feed, file_ns - feed.last_file_ns, feed.last_length)
        feed.last_file_ns = file_ns
    feed.last_time_ns = min(feed.last_time_ns, END_OF_TIME_NS)
    if not filtered:
        feed.last_length = p.length
    p.time_ns = feed.last_time_ns


def cooked_type(p: Packet, octets: Octets) -> int:
    """PACKET_* as a cooked frame states it, else NO_PACKET_TYPE."""
    stated = PACKET_OUTGOING + 1
    if p.linktype == LINKTYPE_LINUX_SLL and p.caplen >= sll.PACKET_TYPE + 2:
        stated = be16(octets, p.offset + sll.PACKET_TYPE)
    elif p.linktype == LINKTYPE_LINUX_SLL2 and p.caplen > sll2.PACKET_TYPE:
        stated = octets[p.offset + sll2.PACKET_TYPE] & 0xFF
    return stated if stated <= PACKET_OUTGOING else NO_PACKET_TYPE


def packet_type(inlet: Inlet, p: Packet, octets: Octets) -> int:
    """PACKET_* of a dissected frame."""
    if p.linktype == LINKTYPE_ETHERNET:
        return packet_type_by_mac(inlet, p, octets)
    if inlet.by_direction and p.direction == DIR_OUTBOUND:
        return PACKET_OUTGOING
    stated = cooked_type(p, octets)
    if stated != NO_PACKET_TYPE:
        return stated
    return packet_type_by_address(inlet, p)


def packet_type_by_address(inlet: Inlet, p: Packet) -> int:
    """PACKET_* where there is no MAC: by the IP addresses; what is no IP is for the host."""
    if p.ip_version == 0:
        return PACKET_HOST
    inbound = inlet.by_direction and p.direction == DIR_INBOUND
    ours = p.ip_version == inlet.host_family
    to_host = ours and p.daddr == inlet.host_addr and p.daddr_hi == inlet.host_addr_hi
    if not inbound and not to_host and ours and p.saddr == inlet.host_addr and p.saddr_hi == inlet.host_addr_hi:
        return PACKET_OUTGOING
    if p.ip_version == 4 and p.daddr == IPV4_BROADCAST:
        return PACKET_BROADCAST
    if (p.ip_version == 4 and p.daddr >> 28 == 0xE) or (p.ip_version == 6 and p.daddr_hi >> 56 & 0xFF == 0xFF):
        return PACKET_MULTICAST
    if to_host or (inbound and inlet.host_family == 0):
        return PACKET_HOST
    return PACKET_OTHERHOST


def packet_type_by_mac(inlet: Inlet, p: Packet, octets: Octets) -> int:
    """PACKET_*: by the link layer's direction, else by the host's MAC (eth_type_trans)."""
    if inlet.by_direction and p.direction == DIR_OUTBOUND:
        return PACKET_OUTGOING
    if p.caplen < ethernet.TYPE:
        return PACKET_HOST
    destination = mac_at(octets, p.offset + ethernet.DST)
    inbound = inlet.by_direction and p.direction == DIR_INBOUND
    if not inbound and destination != inlet.host_mac and mac_at(octets, p.offset + ethernet.SRC) == inlet.host_mac:
        return PACKET_OUTGOING
    if destination == BROADCAST_MAC:
        return PACKET_BROADCAST
    if destination >> 40 & 1:
        return PACKET_MULTICAST
    if destination == inlet.host_mac or (inbound and inlet.host_mac == 0):
        return PACKET_HOST
    return PACKET_OTHERHOST


def segments_of(feed: Feed, p: Packet, mtu: int) -> int:
    """How many wire frames a frame stands for: a capture above the NIC carries aggregated ones (GRO, TSO).

    What counts against the MTU is what follows the link-layer header and the VLAN tags; a frame without a tag may be
    longer by one, for so much a NIC takes.
    """
    packet = p.length - ethernet.HEADER_LEN - p.link_excess - VLAN_TAG_BYTES * p.vlan_tags
    slack = 0 if p.vlan_tags else VLAN_TAG_BYTES
    if packet <= mtu + slack or feed.offload != OFFLOAD_SPLIT:
        return 1
    headers = packet - p.payload_length
    if p.kind not in (KIND_TCP, KIND_UDP) or headers >= mtu or headers < 0:
        return 1
    mss = mtu - headers
    return max(1, min(MAX_SEGMENTS, (p.payload_length + mss - 1) // mss))


def refused(feed: Feed, p: Packet, octets: Octets, program: Any) -> bool:
    """Whether the user's filter, compiled for the frame's link type, refuses it."""
    if feed.filter_length == 0:
        return False
    start = feed.filter_start[linktype_index(p.linktype)]
    return bool(bpf_run(program, start, octets, p.offset, p.caplen, p.length) == 0)


def shows_host(p: Packet, octets: Octets) -> bool:
    """Whether a frame tells who the host is: it is a unicast one."""
    if p.linktype != LINKTYPE_ETHERNET:
        return True
    return bool(p.caplen >= ethernet.HEADER_LEN and octets[p.offset + ethernet.DST] & 1 == 0)


def prepare(feed: Feed, rows: Any, first: int, last: int, octets: Octets, program: Any, inlets: Any) -> int:
    """Make arrivals of rows[first:last] on the devices that `inlets` has for their interfaces; how far it came.

    It stops before `last` at a frame that tells who the host is on a device where that is not known.  A frame that the
    filter refuses is marked PACKET_FILTERED.
    """
    for i in range(first, last):
        p = rows[i]
        inlet = inlets[p.iface if p.iface < feed.inlets else 0]
        if inlet.host_known == 0 and shows_host(p, octets):
            return i
        filtered = refused(feed, p, octets, program)
        set_time(feed, p, filtered)
        p.dev = inlet.dev
        p.segments = 1
        p.link_excess = HEADER_BYTES[linktype_index(p.linktype)] - ethernet.HEADER_LEN
        if filtered:
            p.pkt_type = PACKET_FILTERED
            continue
        dissect(p, octets, feed.checksums)
        p.pkt_type = packet_type(inlet, p, octets)
        p.segments = segments_of(feed, p, inlet.mtu)
        feed.truncated += p.caplen < p.length
        if p.pkt_type not in (PACKET_OUTGOING, PACKET_OTHERHOST):
            feed.csum_partial += p.l4_csum == CSUM_PARTIAL
            feed.csum_unknown += p.l4_csum == CSUM_UNKNOWN
            feed.aggregated += p.segments > 1
    return last

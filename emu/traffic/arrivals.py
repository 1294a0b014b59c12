"""Captured frames become arrivals: filtered, timed, dissected, told apart by who sent them and to whom.

One pass over a batch of rows, in frame order, before the machine sees them.
"""

from typing import Any

from emu.capture.bpf import bpf_run
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
from emu.traffic.pace import PACE_CAPTURED, PACE_SPEED, gap_ns
from emu.wire import ethernet
from emu.wire.dissect import dissect
from emu.wire.headers import CSUM_PARTIAL, CSUM_UNKNOWN, KIND_TCP, KIND_UDP
from emu.wire.octets import Octets, be16, be32

OFFLOAD_SPLIT, OFFLOAD_DROP, OFFLOAD_JUMBO = range(3)
OFFLOADS = ("split", "drop", "jumbo")

BROADCAST_MAC = 0xFFFFFFFFFFFF
VLAN_TAG_BYTES = 4
MAX_SEGMENTS = 64
END_OF_TIME_NS = 1 << 62  # the year 2116: no clock of ours goes beyond it


@record
class Feed:
    """What turns frames into arrivals: the host, the pace, and what was counted on the way."""

    host_mac: int
    by_direction: int  # 1: the link layer says who sent a frame
    checksums: int  # wire.headers CHECKSUMS_*
    offload: int  # OFFLOAD_*
    mtu: int
    given_dev: int  # the device that all frames arrive on
    filter_length: int  # instructions of the BPF program; 0: no filter
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


def packet_type(feed: Feed, p: Packet, octets: Octets) -> int:
    """PACKET_*: by the link layer's direction, else by the host's MAC (eth_type_trans)."""
    if p.caplen < ethernet.TYPE:
        return PACKET_HOST
    destination = mac_at(octets, p.offset + ethernet.DST)
    if feed.by_direction and p.direction == DIR_OUTBOUND:
        return PACKET_OUTGOING
    inbound = feed.by_direction and p.direction == DIR_INBOUND
    if not inbound and destination != feed.host_mac and mac_at(octets, p.offset + ethernet.SRC) == feed.host_mac:
        return PACKET_OUTGOING
    if destination == BROADCAST_MAC:
        return PACKET_BROADCAST
    if destination >> 40 & 1:
        return PACKET_MULTICAST
    if destination == feed.host_mac or (inbound and feed.host_mac == 0):
        return PACKET_HOST
    return PACKET_OTHERHOST


def segments_of(feed: Feed, p: Packet) -> int:
    """How many wire frames a frame stands for: a capture above the NIC carries aggregated ones (GRO, TSO)."""
    if p.length <= feed.mtu + ethernet.HEADER_LEN + VLAN_TAG_BYTES or feed.offload != OFFLOAD_SPLIT:
        return 1
    headers = p.length - ethernet.HEADER_LEN - p.payload_length
    if p.kind not in (KIND_TCP, KIND_UDP) or headers >= feed.mtu or headers < 0:
        return 1
    mss = feed.mtu - headers
    return max(1, min(MAX_SEGMENTS, (p.payload_length + mss - 1) // mss))


def prepare(feed: Feed, rows: Any, first: int, last: int, octets: Octets, program: Any) -> None:
    """Make arrivals of rows[first:last]; a frame that the filter refuses is marked PACKET_FILTERED."""
    for i in range(first, last):
        p = rows[i]
        filtered = feed.filter_length > 0 and bpf_run(program, octets, p.offset, p.caplen, p.length) == 0
        set_time(feed, p, filtered)
        p.dev = feed.given_dev
        p.segments = 1
        if filtered:
            p.pkt_type = PACKET_FILTERED
            continue
        dissect(p, octets, feed.checksums)
        p.pkt_type = packet_type(feed, p, octets)
        p.segments = segments_of(feed, p)
        feed.truncated += p.caplen < p.length
        if p.pkt_type not in (PACKET_OUTGOING, PACKET_OTHERHOST):
            feed.csum_partial += p.l4_csum == CSUM_PARTIAL
            feed.csum_unknown += p.l4_csum == CSUM_UNKNOWN
            feed.aggregated += p.segments > 1

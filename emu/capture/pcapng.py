"""pcapng: the walker over the blocks that carry frames (draft-ietf-opsawg-pcapng, "Enhanced Packet Block").

The functions run plain and compiled: integers in, tuples of integers out.  Sections, interfaces and blocks
without a frame are met in Python, by `emu.capture.sections`.

Nothing here leaves 64 bits, though the format's own numbers may: a time beyond 146 years on either side of
1970 is clamped, a packet id keeps its 64 bits and may read as a negative number.
"""

from typing import Any

from emu.capture.pcap import (
    BAD_CAPLEN,
    BAD_IFACE,
    BAD_LENGTH,
    BAD_TRAILER,
    FOREIGN,
    FULL,
    MAX_CAPLEN,
    OTHER,
    STARVED,
    set_lengths,
    word16,
    word32,
)
from emu.kernel.machine import DIR_INBOUND, DIR_OUTBOUND, DIR_UNKNOWN
from emu.kernel.record import record
from emu.wire.octets import Octets

PACKET_BLOCK = 2  # obsolete, still met in old files
SIMPLE_PACKET_BLOCK = 3
ENHANCED_PACKET_BLOCK = 6
PACKET_HEADER = 28  # of the two blocks with a time stamp, before the frame
SIMPLE_HEADER = 12
MAX_BLOCK = 1 << 24  # Wireshark's bound for a block that is held in memory

OPT_END = 0
EPB_FLAGS = 2
EPB_PACKETID = 5

NS = 1_000_000_000
MAX_SECONDS = (1 << 62) // NS  # 146 years; no time stamp may reach NEVER_NS
MAX_TICKS = (1 << 62) - 1


@record
class Clock:
    """What the walker must know of an interface."""

    linktype: int
    played: int  # 1: frames of this link type are
    fcs_bytes: int  # that follow every frame, unless the frame says otherwise
    snaplen: int  # bytes; 0: no limit
    binary: int  # ticks are 1/2**binary s; -1: decimal
    ticks_per_second: int  # decimal, at most 10**9
    ns_per_tick: int
    divisor: int  # finer than ns: ticks per ns is divisor * divisor_again; 0: coarser
    divisor_again: int
    offset_seconds: int
    easy_high: int  # a high word below this makes time one multiplication: decimal, no finer than ns, no offset


def set_clock(
    clocks: Any,
    at: int,
    linktype: int,
    played: int,
    fcs_bytes: int,
    snaplen: int,
    binary: int,
    ticks_per_second: int,
    ns_per_tick: int,
    divisor: int,
    divisor_again: int,
    offset_seconds: int,
    easy_high: int,
) -> None:
    """Fill in `clocks[at]`."""
    clock = clocks[at]
    clock.linktype = linktype
    clock.played = played
    clock.fcs_bytes = fcs_bytes
    clock.snaplen = snaplen
    clock.binary = binary
    clock.ticks_per_second = ticks_per_second
    clock.ns_per_tick = ns_per_tick
    clock.divisor = divisor
    clock.divisor_again = divisor_again
    clock.offset_seconds = offset_seconds
    clock.easy_high = easy_high


def word64(octets: Octets, at: int, big: int) -> int:
    """The 64-bit integer at `at`; with the highest bit set it is negative."""
    low = word32(octets, at + 4 if big else at, big)
    high = word32(octets, at if big else at + 4, big)
    return (high - ((high & 0x80000000) << 1)) << 32 | low


def decimal_time(high: int, low: int, clock: Any) -> tuple[int, int]:
    """Seconds and nanoseconds of a time stamp in powers of 10."""
    if clock.divisor > 0:
        # (high * 2**32 + low) / divisor in two steps of a long division, neither of which leaves 62 bits.
        rest = high % clock.divisor
        ns = ((high // clock.divisor << 32) + (rest << 32 | low) // clock.divisor) // clock.divisor_again
        return ns // NS, ns % NS
    per_second = clock.ticks_per_second
    if high < 1 << 30:
        ticks = high << 32 | low
        return ticks // per_second, ticks % per_second * clock.ns_per_tick
    if high // per_second >= 1 << 30:
        return MAX_TICKS, 0
    rest = high % per_second << 32 | low
    return (high // per_second << 32) + rest // per_second, rest % per_second * clock.ns_per_tick


def binary_time(high: int, low: int, power: int) -> tuple[int, int]:
    """Seconds and nanoseconds of a time stamp in units of 1/2**power seconds."""
    if power < 32:
        if high >> power >= 1 << 30:
            return MAX_TICKS, 0
        mask = (1 << power) - 1
        seconds = (high >> power) << 32 | (high & mask) << (32 - power) | low >> power
        return seconds, (low & mask) * NS >> power
    shift = min(power - 32, 62)  # beyond 62 nothing is left in any case, and a shift by 64 means nothing to a CPU
    carry = low * NS >> 32
    return high >> shift, ((high & (1 << shift) - 1) * NS + carry) >> shift


def time_of(high: int, low: int, clock: Any) -> int:
    """A time stamp in nanoseconds since 1970, rounded down ("if_tsresol", "if_tsoffset")."""
    if high < clock.easy_high:
        easy: int = (high << 32 | low) * clock.ns_per_tick
        return easy
    if clock.binary >= 0:
        seconds, ns = binary_time(high, low, clock.binary)
    else:
        seconds, ns = decimal_time(high, low, clock)
    seconds += clock.offset_seconds
    if seconds >= MAX_SECONDS:
        return MAX_SECONDS * NS
    if seconds < -MAX_SECONDS:
        return -MAX_SECONDS * NS
    time_ns: int = seconds * NS + ns
    return time_ns


def take_options(octets: Octets, at: int, end: int, big: int, kind: int, row: Any) -> None:
    """Read direction, FCS length ("epb_flags", in octets) and packet id.

    An option that does not fit ends the search, for the frame is sound.
    """
    while at + 4 <= end:
        code = word16(octets, at, big)
        length = word16(octets, at + 2, big)
        if code == OPT_END or at + 4 + length > end:
            return
        if code == EPB_FLAGS and length == 4:
            flags = word32(octets, at + 4, big)
            way = flags & 3
            row.direction = DIR_INBOUND if way == 1 else DIR_OUTBOUND if way == 2 else DIR_UNKNOWN
            if flags >> 5 & 15:
                row.fcs_bytes = flags >> 5 & 15
        elif code == EPB_PACKETID and length == 8 and kind == ENHANCED_PACKET_BLOCK:
            row.packet_id = word64(octets, at + 4, big)
            row.own_id = 1
        at += 4 + (length + 3 & ~3)


def take_packet(
    octets: Octets,
    at: int,
    length: int,
    big: int,
    kind: int,
    clocks: Any,
    first: int,
    interfaces: int,
    row: Any,
) -> int:
    """Turn an Enhanced (or the obsolete) Packet Block into a row; returns FULL, or what is wrong."""
    iface = word16(octets, at + 8, big) if kind == PACKET_BLOCK else word32(octets, at + 8, big)
    if iface >= interfaces:
        return BAD_IFACE
    caplen = word32(octets, at + 20, big)
    options = PACKET_HEADER + (caplen + 3 & ~3)
    if caplen > MAX_CAPLEN or options + 4 > length:
        return BAD_CAPLEN
    clock = clocks[first + iface]
    if clock.played == 0:
        return FOREIGN
    row.iface = first + iface
    row.file_time_ns = time_of(word32(octets, at + 12, big), word32(octets, at + 16, big), clock)
    row.offset = at + PACKET_HEADER
    row.direction = DIR_UNKNOWN
    row.linktype = clock.linktype
    row.fcs_bytes = clock.fcs_bytes
    if options + 4 < length:
        take_options(octets, at + options, at + length - 4, big, kind, row)
    set_lengths(row, caplen, max(word32(octets, at + 24, big), caplen), row.fcs_bytes)
    return FULL


def take_simple(
    octets: Octets,
    at: int,
    length: int,
    big: int,
    clocks: Any,
    first: int,
    interfaces: int,
    time_ns: int,
    row: Any,
) -> int:
    """Turn a Simple Packet Block into a row: it is interface 0's, and has no time but its predecessor's."""
    if interfaces == 0:
        return BAD_IFACE
    clock = clocks[first]
    wire_length = word32(octets, at + 8, big)
    caplen = min(wire_length, clock.snaplen) if clock.snaplen else wire_length
    if caplen > MAX_CAPLEN or caplen > length - SIMPLE_HEADER - 4:
        return BAD_CAPLEN
    if clock.played == 0:
        return FOREIGN
    row.iface = first
    row.file_time_ns = time_ns
    row.offset = at + SIMPLE_HEADER
    set_lengths(row, caplen, wire_length, clock.fcs_bytes)
    row.direction = DIR_UNKNOWN
    row.linktype = clock.linktype
    return FULL


def walk_blocks(
    octets: Octets,
    at: int,
    end: int,
    big: int,
    clocks: Any,
    first_iface: int,
    interfaces: int,
    time_ns: int,
    frame: int,
    rows: Any,
    first: int,
    limit: int,
) -> tuple[int, int, int, int]:
    """Turn the packet blocks from `at` on into up to `limit` rows, numbered from `frame`.

    The section's interfaces are `clocks[first_iface]` and on.  Returns where it stopped, how many rows there
    are, why (FULL, STARVED, OTHER at a block without a frame, FOREIGN at another link type's frame, BAD_*),
    and the time of the last frame.
    """
    count = 0
    while count < limit:
        if end - at < 12:
            return at, count, STARVED, time_ns
        kind = word32(octets, at, big)
        if kind != ENHANCED_PACKET_BLOCK and kind != SIMPLE_PACKET_BLOCK and kind != PACKET_BLOCK:
            return at, count, OTHER, time_ns
        length = word32(octets, at + 4, big)
        shortest = SIMPLE_HEADER + 4 if kind == SIMPLE_PACKET_BLOCK else PACKET_HEADER + 4
        if length & 3 or length < shortest or length > MAX_BLOCK:
            return at, count, BAD_LENGTH, time_ns
        if length > end - at:
            return at, count, STARVED, time_ns
        if word32(octets, at + length - 4, big) != length:
            return at, count, BAD_TRAILER, time_ns
        row = rows[first + count]
        row.frame = frame
        row.packet_id = frame
        row.own_id = 0
        if kind == SIMPLE_PACKET_BLOCK:
            wrong = take_simple(octets, at, length, big, clocks, first_iface, interfaces, time_ns, row)
        else:
            wrong = take_packet(octets, at, length, big, kind, clocks, first_iface, interfaces, row)
        if wrong != FULL:
            return at, count, wrong, time_ns
        time_ns = row.file_time_ns
        at += length
        frame += 1
        count += 1
    return at, count, FULL, time_ns

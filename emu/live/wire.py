"""Between two interfaces: frames are read and timed, the host's go to the wire at once, survivors go to the host.

Every function of this module touches frames and is compiled.  A descriptor stands for an interface: a TAP's, or a
packet socket's, of which read(2) and write(2) move one frame each.
"""

from typing import Annotated, Any

from emu.capture.made import put_row
from emu.kernel.drop_reason import DELIVERED, DROPPED, MAX_REASONS, PENDING, REASONS
from emu.kernel.machine import DIR_INBOUND, DIR_OUTBOUND, NONE, Machine, Packet
from emu.kernel.record import record
from emu.kernel.sock import READER_NEEDS_MEMORY, READER_NEVER, READER_RATE
from emu.live.system import clock_ns, read_into, write_from
from emu.wire.octets import Octets

RECENT = 1 << 17  # frames whose length is remembered
LENGTH_BITS = 17
MAX_FRAME = 65_600  # the longest that an interface may give: one that aggregates gives 64 KiB and headers
HANDED_ON = sum(1 << reason.number for reason in REASONS if reason.by_protocol)  # what the real stack refuses itself
assert 1 << LENGTH_BITS > MAX_FRAME, "a length leaves the number alone"
HELD_READERS = 1 << READER_RATE | 1 << READER_NEEDS_MEMORY | 1 << READER_NEVER


@record
class Wire:
    """The two interfaces, and what was counted between them."""

    host_fd: int
    wire_fd: int
    epoch_ns: int  # what is added to the clock for the time since 1970
    holds: int  # 1: some readers are emulated, and frames wait for them
    longest: int  # bytes of the longest frame that the device may receive: its MTU and headers
    frames: int  # read so far, of both sides
    sent: int  # of the host
    sent_refused: int  # that the wire's interface did not take
    survivors: int  # written to the host's interface
    survivors_refused: int  # that it did not take
    critical_drops: Annotated[list[int], MAX_REASONS]  # packets of memalloc flows, by reason
    recent: Annotated[list[int], RECENT]  # of frames for the host: number << LENGTH_BITS | bytes
    handed_on: int  # of the survivors: dropped by the machine for what the protocol itself says; the real stack judges
    aggregated: int  # longer than `longest`


def read_frame(w: Wire, fd: int, rows: Any, first: int, octets: Octets, at: int, direction: int) -> int:
    """Read one frame of an interface into octets[at:] and rows[first]; its bytes, 0 when none waits."""
    size = read_into(fd, octets, at, MAX_FRAME)
    if size <= 0:
        return 0
    w.frames += 1
    w.aggregated += size > w.longest
    put_row(rows[first], w.frames, w.epoch_ns + clock_ns(), at, size, direction)
    return size


def receive(w: Wire, rows: Any, first: int, last: int, octets: Octets, at: int) -> tuple[int, int]:
    """Read what waits at both interfaces, in turns, into rows[first:last]; the row and the byte behind it.

    It ends before octets[at:] could be too short for a frame.
    """
    size_of_window = len(octets)
    waiting = True
    while waiting and first + 1 < last and at + 2 * MAX_FRAME <= size_of_window:
        size = read_frame(w, w.wire_fd, rows, first, octets, at, DIR_INBOUND)
        waiting = size > 0
        if size > 0:
            first += 1
            at += size
        size = read_frame(w, w.host_fd, rows, first, octets, at, DIR_OUTBOUND)
        if size > 0:
            waiting = True
            w.sent += 1
            w.sent_refused += write_from(w.wire_fd, octets, at, size) != size
            first += 1
            at += size
    return first, at


def survives(p: Packet) -> bool:
    """Whether the real stack gets a frame: it is delivered, or memory is not why it is dropped."""
    return p.verdict == DELIVERED or (p.verdict == DROPPED and HANDED_ON >> p.reason & 1 == 1)


def is_held(w: Wire, m: Machine, p: Packet) -> bool:
    """Whether an emulated reader, not a real one, has to come for a frame before the real stack gets it."""
    if w.holds == 0 or p.verdict != DELIVERED or p.sk == NONE or p.payload_length == 0:
        return False
    return bool(HELD_READERS >> m.sk[p.sk].reader & 1 == 1)


def hand_over(w: Wire, m: Machine, rows: Any, first: int, last: int, octets: Octets) -> int:
    """Write the survivors among rows[first:last] to the host, up to the first whose verdict is open; that row.

    It also ends at a row whose frame is held.
    """
    while first < last:
        p = rows[first]
        if p.verdict == PENDING or is_held(w, m, p):
            break
        if p.verdict == DROPPED and p.memalloc:
            w.critical_drops[p.reason] += 1
        if survives(p):
            w.recent[p.frame % RECENT] = p.frame << LENGTH_BITS | p.caplen
            w.survivors += 1
            w.handed_on += p.verdict == DROPPED
            w.survivors_refused += write_from(w.host_fd, octets, p.offset, p.caplen) != p.caplen
        first += 1
    return first


def select_survivors(rows: Any, first: int, last: int, chosen: Any) -> int:
    """What the host has sent and got of rows[first:last], as rows for a capture of its side; how many.

    Their packet ids are the frame numbers of the wire's side.
    """
    count = 0
    for i in range(first, last):
        p = rows[i]
        if p.direction == DIR_OUTBOUND or survives(p):
            put_row(chosen[count], p.frame, p.file_time_ns, p.offset, p.caplen, p.direction)
            chosen[count].own_id = 1
            count += 1
    return count

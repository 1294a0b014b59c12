"""Between two interfaces: frames are read and timed, the host's go to the wire at once, survivors go to the host.

Every function of this module touches frames and is compiled.  A descriptor stands for an interface: a TAP's, of which
read(2) and write(2) move one frame each, or a packet socket's, which is only written to: its frames come from a ring.
"""

from typing import Annotated, Any

from emu.capture.made import put_row
from emu.kernel.drop_reason import DELIVERED, DROPPED, MAX_REASONS, PENDING, REASONS, TCP_OFOMERGE, TCP_OLD_DATA
from emu.kernel.machine import DIR_INBOUND, DIR_OUTBOUND, NONE, Machine, Packet
from emu.kernel.record import record
from emu.kernel.sock import READER_NEEDS_MEMORY, READER_NEVER, READER_RATE
from emu.live.ring import Ring, read_ring
from emu.live.system import MAX_FRAME, clock_ns, read_into, write_from
from emu.wire.octets import Octets

IN_TURN = 8  # frames of one interface before the other is asked: 20 us or so
RECENT = 1 << 17  # frames whose length is remembered
LENGTH_BITS = 17
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
    awake_ns: int  # how long it stays awake after frames that came in as short a time after others; 0: never
    longest: int  # bytes of the longest frame that the device may receive: its MTU and headers
    frames: int  # read so far, of both sides
    sent: int  # of the host
    sent_refused: int  # that the wire's interface did not take
    survivors: int  # written to the host's interface
    survivors_refused: int  # that it did not take
    critical_drops: Annotated[list[int], MAX_REASONS]  # packets of memalloc flows, by reason
    recent: Annotated[list[int], RECENT]  # of frames for the host: number << LENGTH_BITS | bytes
    handed_on: int  # of the survivors: dropped by the machine for what the protocol itself says; the real stack judges
    too_long: int  # longer than `longest`, and played
    host_ring: Ring
    wire_ring: Ring


def read_frame(
    w: Wire,
    r: Ring,
    fd: int,
    memory: Octets,
    scratch: bytearray,
    rows: Any,
    first: int,
    octets: bytearray,
    at: int,
    direction: int,
) -> int:
    """Read one frame of an interface into octets[at:] and rows[first]; its bytes, 0 when none waits."""
    size = read_ring(r, memory, scratch, octets, at) if r.slots > 0 else read_into(fd, octets, at, MAX_FRAME)
    if size <= 0:
        return 0
    w.frames += 1
    w.too_long += size > w.longest
    put_row(rows[first], w.frames, w.epoch_ns + clock_ns(), at, size, direction)
    return size


def take(
    w: Wire,
    ring: Ring,
    fd: int,
    memory: Octets,
    scratch: bytearray,
    rows: Any,
    first: int,
    last: int,
    octets: bytearray,
    at: int,
    direction: int,
) -> tuple[int, int]:
    """Read what waits at one interface, the host's on to the wire, into rows[first:last]; the row and byte behind."""
    while first < last and at + MAX_FRAME <= len(octets):
        size = read_frame(w, ring, fd, memory, scratch, rows, first, octets, at, direction)
        if size == 0:
            break
        if direction == DIR_OUTBOUND:
            w.sent += 1
            w.sent_refused += write_from(w.wire_fd, octets, at, size) != size
        first += 1
        at += size
    return first, at


def receive(
    w: Wire,
    host_memory: Octets,
    wire_memory: Octets,
    scratch: bytearray,
    rows: Any,
    first: int,
    last: int,
    octets: bytearray,
    at: int,
) -> tuple[int, int]:
    """Read what waits at both interfaces, by turns, into rows[first:last]; the row and the byte behind it.

    It ends before octets[at:] could be too short for a frame.  To ask an interface that has nothing costs as much as
    a third of a frame: each is asked for several in its turn, and again only where one had more.
    """
    more = True
    while more:
        start = first
        upto = min(last, first + IN_TURN)
        first, at = take(w, w.wire_ring, w.wire_fd, wire_memory, scratch, rows, first, upto, octets, at, DIR_INBOUND)
        more = first - start == IN_TURN
        start = first
        upto = min(last, first + IN_TURN)
        first, at = take(w, w.host_ring, w.host_fd, host_memory, scratch, rows, first, upto, octets, at, DIR_OUTBOUND)
        more = more or first - start == IN_TURN
    return first, at


def survives(p: Packet) -> bool:
    """Whether the real stack gets a frame: it is delivered, or memory is not why it is dropped."""
    return p.verdict == DELIVERED or (p.verdict == DROPPED and HANDED_ON >> p.reason & 1 == 1)


def waits_for_reader(w: Wire, m: Machine, p: Packet) -> bool:
    """Whether an emulated reader, not a real one, comes for what a frame brings."""
    if w.holds == 0 or p.sk == NONE or p.payload_length == 0:
        return False
    return bool(HELD_READERS >> m.sk[p.sk].reader & 1 == 1)


def is_held(w: Wire, m: Machine, p: Packet) -> bool:
    """Whether a frame has to wait for an emulated reader before the real stack gets it."""
    return p.verdict == DELIVERED and waits_for_reader(w, m, p)


def is_copy(w: Wire, m: Machine, p: Packet) -> bool:
    """Whether a frame only repeats what is held: the real stack has not got that, and must not before it is read."""
    if p.verdict != DROPPED or p.reason not in (TCP_OLD_DATA, TCP_OFOMERGE) or not waits_for_reader(w, m, p):
        return False
    sk = m.sk[p.sk]
    return bool(sk.queue_len > 0 or sk.ofo_len > 0)


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
        if survives(p) and not is_copy(w, m, p):
            w.recent[p.frame % RECENT] = p.frame << LENGTH_BITS | p.caplen
            w.survivors += 1
            w.handed_on += p.verdict == DROPPED
            w.survivors_refused += write_from(w.host_fd, octets, p.offset, p.caplen) != p.caplen
        first += 1
    return first


def select_survivors(w: Wire, rows: Any, first: int, last: int, chosen: Any) -> int:
    """What the host has sent and got of rows[first:last], as rows for a capture of its side; how many.

    Their packet ids are the frame numbers of the wire's side.  What is held is not among them.
    """
    count = 0
    for i in range(first, last):
        p = rows[i]
        if p.direction == DIR_OUTBOUND or w.recent[p.frame % RECENT] >> LENGTH_BITS == p.frame:
            put_row(chosen[count], p.frame, p.file_time_ns, p.offset, p.caplen, p.direction)
            chosen[count].own_id = 1
            count += 1
    return count

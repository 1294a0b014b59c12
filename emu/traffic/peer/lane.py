"""Wires: latency, rate, order and blackouts.

A frame of n bytes keeps its lane busy for as long as n + FRAMING_BYTES take at the wire's rate, and arrives `latency`
after its last bit has left.  All peers of a wire share its lane to the host, as they share a switch's port; the host's
own frames have been spaced by its NIC.  A blackout takes what would cross the host's end of the wire while it lasts.
Differs: floods come at times of their own and take no room in the lane; a switch never runs out of buffers.
"""

from emu.kernel.machine import NEVER_NS, NONE
from emu.traffic.pace import FRAMING_BYTES
from emu.traffic.peer.state import FROM_HOST, SCRATCH_FRAME, TO_HOST, World

NS_PER_S = 1_000_000_000


def world_open(w: World) -> None:
    """Nothing is on any wire."""
    w.frame_free = NONE
    w.frames_made = 0
    w.reply_frame = NONE
    for d in range(w.wires):
        for way in range(2):
            w.wire[d].lane[way].head = NONE
            w.wire[d].lane[way].tail = NONE
            w.wire[d].lane[way].free_ns = 0


def wire_ns(w: World, d: int, size_bytes: int) -> int:
    """For how long a frame of so many bytes (without FCS) keeps the wire of device d busy."""
    return (size_bytes + FRAMING_BYTES) * 8 * NS_PER_S // w.wire[d].rate_bps


def blacked_out(w: World, d: int, way: int, time_ns: int) -> bool:
    """Whether a frame that crosses the host's end of the wire at this time is lost; `way` is TO_HOST or FROM_HOST."""
    for b in range(w.blackouts):
        blackout = w.blackout[b]
        if blackout.dev == d and blackout.lane[way] and blackout.start_ns <= time_ns < blackout.end_ns:
            return True
    return False


def frame_get(w: World) -> int:
    """A row for a frame on a wire, or NONE."""
    row = w.frame_free
    if row != NONE:
        w.frame_free = w.frame[row].next
    elif w.frames_made < SCRATCH_FRAME:
        row = w.frames_made
        w.frames_made += 1
    else:
        w.lost_full += 1
    return row


def frame_put(w: World, row: int) -> None:
    """The frame is on no wire any more."""
    w.frame[row].next = w.frame_free
    w.frame_free = row


def lane_push(w: World, d: int, way: int, row: int, begin_ns: int, size_bytes: int) -> None:
    """Send a frame, not before `begin_ns` and behind those that were sent before."""
    wire = w.wire[d]
    lane = wire.lane[way]
    lane.free_ns = max(lane.free_ns, begin_ns) + wire_ns(w, d, size_bytes)
    w.frame[row].due_ns = lane.free_ns + wire.latency_ns
    w.frame[row].next = NONE
    if lane.tail == NONE:
        lane.head = row
    else:
        w.frame[lane.tail].next = row
    lane.tail = row


def lane_pop(w: World, d: int, way: int) -> int:
    """Take the first frame off a lane that has one; its row is the caller's."""
    lane = w.wire[d].lane[way]
    row = lane.head
    lane.head = w.frame[row].next
    if lane.head == NONE:
        lane.tail = NONE
    return row


def lane_due_ns(w: World, d: int, way: int) -> int:
    """When the first frame of a lane arrives."""
    row = w.wire[d].lane[way].head
    return NEVER_NS if row == NONE else w.frame[row].due_ns


def is_lost(w: World, d: int, row: int) -> bool:
    """Whether a frame to the host never reaches its NIC: the wire is dead, or its bytes are no more."""
    frame = w.frame[row]
    if blacked_out(w, d, TO_HOST, frame.due_ns):
        w.lost_on_wire += 1
        return True
    if frame.generation != w.peer[frame.conn].generation:
        w.lost_stale += 1
        return True
    return False


def first_lane(w: World, way: int) -> int:
    """The device whose lane has the frame that arrives first, or NONE; of equals the first device."""
    first = NONE
    due_ns = NEVER_NS
    for d in range(w.wires):
        lane_ns = lane_due_ns(w, d, way)
        if lane_ns < due_ns:
            first = d
            due_ns = lane_ns
    return first


def arrival_due_ns(w: World) -> int:
    """When the next peer's frame reaches a NIC of the host; those that are lost before that are counted and gone."""
    for d in range(w.wires):
        while w.wire[d].lane[TO_HOST].head != NONE and is_lost(w, d, w.wire[d].lane[TO_HOST].head):
            frame_put(w, lane_pop(w, d, TO_HOST))
    first = first_lane(w, TO_HOST)
    return NEVER_NS if first == NONE else lane_due_ns(w, first, TO_HOST)


def departure_due_ns(w: World) -> int:
    """When the next frame of the host reaches its peer."""
    first = first_lane(w, FROM_HOST)
    return NEVER_NS if first == NONE else lane_due_ns(w, first, FROM_HOST)

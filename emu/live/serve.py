"""A live run's turns: wait, read what waits, let it arrive, let the machine come up to now, hand over the survivors.

Compiled as one: Python is back only every few milliseconds, or when there is something that only it can do.
"""

from typing import Any

from emu.engine.loop import run_on
from emu.kernel.boot import start_clock
from emu.kernel.iscsi_follow import follow_wire
from emu.kernel.machine import LATER_ENOUGH, Machine
from emu.kernel.record import record
from emu.live.ring import input_of, is_cutting
from emu.live.system import MAX_FRAME, clock_ns, wait_readable
from emu.live.wire import Wire, hand_over, is_held, receive
from emu.traffic.arrivals import Feed, prepare
from emu.wire.octets import Octets

BURST = 64  # frames that are read before the machine goes on: the first of them waits for the last
MOST_EVENTS = 1 << 12  # that a burst and a turn may add to the stream before Python takes it


@record
class Turn:
    """How far a live run has come in its rows, its window and its stream."""

    last: int  # rows[0:last] have been read
    arrived: int  # rows[0:arrived] have arrived
    done: int  # rows[0:done] are decided, and their survivors are with the host
    at: int  # the window's bytes that are in use
    logged: int  # events in the recorded stream
    heard_ns: int  # when the last frames were read
    alert: int  # 1: they came soon after those before them


def heed(w: Wire, t: Turn, now_ns: int) -> None:
    """Frames have been read: whether the next ones are worth staying awake for."""
    t.alert = int(now_ns - t.heard_ns <= w.awake_ns)
    t.heard_ns = now_ns


def is_awake(w: Wire, t: Turn, now_ns: int) -> bool:
    """Whether to ask again rather than sleep: to wake an idle core takes longer than a short pause of a talk."""
    return t.alert == 1 and now_ns - t.heard_ns <= w.awake_ns


def is_stuck(t: Turn, m: Machine, log_size: int) -> bool:
    """Whether the machine cannot go on before Python has taken what it has recorded, or buried it."""
    return m.oops != 0 or m.later_len > LATER_ENOUGH or t.logged + MOST_EVENTS > log_size


def arrive(t: Turn, m: Machine, rows: Any, octets: Octets, store: Any, log: Any, log_size: int) -> None:
    """Let rows[t.arrived:t.last] arrive."""
    if m.total.frames == 0:
        start_clock(m, rows[t.arrived].time_ns)
    while t.arrived < t.last and not is_stuck(t, m, log_size):
        upto = follow_wire(m, rows, t.arrived, t.last, octets, store) if m.config.write_back else t.last
        t.arrived, t.logged = run_on(m, rows, t.arrived, upto, 0, log, t.logged, log_size)


def wait_for_frames(w: Wire, timeout_ns: int) -> None:
    """Wait for a frame of either interface, so long at most."""
    if is_cutting(w.wire_ring) or is_cutting(w.host_ring):
        return
    wait_readable(input_of(w.host_ring, w.host_fd), input_of(w.wire_ring, w.wire_fd), timeout_ns)


def serve(
    w: Wire,
    host_memory: Octets,
    wire_memory: Octets,
    scratch: bytearray,
    t: Turn,
    m: Machine,
    feed: Feed,
    rows: Any,
    limit: int,
    octets: bytearray,
    store: Any,
    program: Any,
    inlets: Any,
    log: Any,
    log_size: int,
    until_ns: int,
) -> int:
    """Take turns until `until_ns`, or until rows, window or stream are nearly full; the time of the last turn.

    It also ends at a frame that is to be held, and when the kernel has died.
    """
    now_ns = w.epoch_ns + clock_ns()
    while True:
        if t.arrived == t.last:
            most = min(limit, t.arrived + BURST)
            t.last, t.at = receive(w, host_memory, wire_memory, scratch, rows, t.arrived, most, octets, t.at)
            if t.arrived == t.last and m.poll_len == 0 and not is_awake(w, t, now_ns):
                wait_for_frames(w, max(0, until_ns - now_ns))
                t.last, t.at = receive(w, host_memory, wire_memory, scratch, rows, t.arrived, most, octets, t.at)
            prepare(feed, rows, t.arrived, t.last, octets, program, inlets)
            if t.arrived < t.last:
                heed(w, t, rows[t.last - 1].time_ns)
        if t.arrived < t.last:
            arrive(t, m, rows, octets, store, log, log_size)
        now_ns = w.epoch_ns + clock_ns()
        if m.total.frames > 0 and t.arrived == t.last and m.oops == 0:
            _, t.logged = run_on(m, rows, t.last, t.last, now_ns, log, t.logged, log_size)
        t.done = hand_over(w, m, rows, t.done, t.arrived, octets)
        if now_ns >= until_ns or is_stuck(t, m, log_size):
            break
        if t.last + BURST > limit or t.at + 2 * MAX_FRAME > len(octets):
            break
        if t.done < t.arrived and is_held(w, m, rows[t.done]):
            break
    return now_ns

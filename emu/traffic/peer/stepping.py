"""The closed loop on the plain engine, one step at a time: as `engine.stepping` does with a replay."""

from typing import Any, TypeVar

from emu.engine.stepping import ONE_EVENT, Coming, Step, SteppingEngine, decided_rows, waiting_rows
from emu.kernel.block_io import block_due_ns
from emu.kernel.download import downloads_due_ns
from emu.kernel.machine import NEVER_NS
from emu.kernel.tcp_timer import tcp_timers_due_ns
from emu.kernel.xmit import tx_due_ns
from emu.traffic.peer.loop import WHY_STEP, run_closed
from emu.traffic.peer.wire import arrival_due_ns, world_due_ns

F = TypeVar("F")

NO_EVENT = -1


class ClosedSteppingEngine(SteppingEngine):
    """Plays a run of the closed loop, and calls `watch` after each step."""

    def function(self, function: F) -> F:  # type: ignore[override]
        """The function itself; of the loop, one that stops between any two steps."""
        return self._run_stepped if function is run_closed else function  # type: ignore[return-value]

    def _run_stepped(
        self,
        m: Any,
        w: Any,
        t: Any,
        rows: Any,
        first: int,
        room: int,
        octets: Any,
        at: int,
        moulds: Any,
        pool: Any,
        store: Any,
        feed: Any,
        program: Any,
        inlets: Any,
        flood: Any,
        flood_at: int,
        flood_end: int,
        flood_more: int,
        flood_octets: Any,
        samples: Any,
        _log: Any,
        until_ns: int,
    ) -> tuple[int, int, int, int]:
        """Do what `run_closed` does, watched."""
        m.config.recording = 1
        asked = t.steps_left
        waiting = waiting_rows(rows, first)
        why = WHY_STEP
        while why == WHY_STEP and asked != 0:
            t.steps_left = 1
            self._forget_events()
            came, at, flood_at, why = run_closed(
                m, w, t, rows, first, room, octets, at, moulds, pool, store, feed, program, inlets,
                flood, flood_at, flood_end, flood_more, flood_octets, samples, self.step_log, until_ns,
            )  # fmt: skip
            asked -= 1 if asked > 0 and why == WHY_STEP else 0
            arrived = [rows[row] for row in range(first, came)]
            first = came
            decided, waiting = decided_rows([*waiting, *arrived])
            events = [event for event in map(self.step_log.__getitem__, range(ONE_EVENT)) if event.event != NO_EVENT]
            if why == WHY_STEP or arrived or events:
                flood_ns = flood[flood_at].file_time_ns if flood_at < flood_end else NEVER_NS
                self.watch(Step(m, arrived, events, decided, outside_of(m, w, t, flood_ns), tasks_of(m)))
        t.steps_left = asked
        return first, at, flood_at, why

    def _forget_events(self) -> None:
        for at in range(ONE_EVENT):
            self.step_log[at].event = NO_EVENT


def outside_of(m: Any, w: Any, t: Any, flood_ns: int) -> list[Coming]:
    """What happens outside the CPU, as far as it is due at all; `flood_ns`: the flood's next frame."""
    due = (
        Coming(arrival_due_ns(w), "a peer's frame arrives"),
        Coming(flood_ns, "a frame of the flood arrives"),
        Coming(tx_due_ns(m), "a NIC has sent its frame"),
        Coming(world_due_ns(w), "peers act: a frame reaches them, or something of theirs is due"),
        Coming(t.next_sample_ns, "a sample of the timeline is taken"),
    )
    return [coming for coming in due if coming.due_ns < NEVER_NS]


def tasks_of(m: Any) -> list[Coming]:
    """The timers of the host that a replay does not have."""
    due = (
        Coming(tcp_timers_due_ns(m), "a TCP timer of the host"),
        Coming(block_due_ns(m), "write-back: writers, the flusher, kswapd, or a session"),
        Coming(downloads_due_ns(m), "a download begins"),
    )
    return [coming for coming in due if coming.due_ns < NEVER_NS]

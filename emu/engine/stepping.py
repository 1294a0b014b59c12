"""The plain engine, one step at a time: somebody watches between any two things that happen.

A step is what `loop.run` does until it has written down one event of its stream or taken one arrival; playing in
steps changes nothing, as batches of any size do not.  What writes no event (an interrupt of a polled device) belongs
to the step behind it.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

from emu.engine.loop import run
from emu.engine.plain import PlainEngine
from emu.kernel.drop_reason import PENDING
from emu.kernel.machine import Event

ONE_EVENT = 4  # a log of this size is full as soon as it holds one: `run` keeps room for what one step may write

F = TypeVar("F", bound=Callable[..., Any])


class Step(NamedTuple):
    """What happened: the row that arrived, the events, and the rows whose verdict fell; `next_ns`: an arrival's."""

    machine: Any
    arrived: Any | None
    events: Sequence[Any]
    decided: Sequence[Any]
    next_ns: int | None  # when the next frame arrives, as far as it is known


class Watch(Protocol):
    """Who looks at the machine between two steps; what it raises ends the play."""

    def __call__(self, step: Step) -> None:
        """Look at a step; the machine's records may be read until this returns, and not changed."""
        ...


class SteppingEngine(PlainEngine):
    """Plays as the plain engine does, and calls `watch` after each step."""

    def __init__(self, watch: Watch) -> None:
        """`watch` sees every step of the machine that this engine plays."""
        self._watch = watch
        self._log = self.rows(Event, ONE_EVENT)

    def function(self, function: F) -> F:
        """The function itself; of the loop, one that stops between any two steps."""
        return self._stepped if function is run else function  # type: ignore[return-value]

    def _stepped(
        self, m: Any, rows: Any, first: int, last: int, until_ns: int, _log: Any, _log_size: int
    ) -> tuple[int, int]:
        """Do what `loop.run` does, watched; the stream is not handed on."""
        m.config.recording = 1  # else no event would end a step
        waiting = waiting_rows(rows, first)
        draining = first == last
        while m.oops == 0:
            upto = min(first + 1, last)
            came, events = run(m, rows, first, upto, until_ns, self._log, ONE_EVENT)
            arrived = rows[first] if came > first else None
            if arrived is not None:
                waiting.append(arrived)
            if arrived is None and events == 0 and m.oops == 0:
                break
            first = came
            decided = [p for p in waiting if p.verdict != PENDING]
            waiting = [p for p in waiting if p.verdict == PENDING]
            happened = [self._log[at] for at in range(events)]
            self._watch(Step(m, arrived, happened, decided, rows[first].time_ns if first < last else None))
            if not draining and first == last:
                break
        return first, 0


def waiting_rows(rows: Any, first: int) -> list[Any]:
    """The rows before `first` whose verdict is still open: in a ring, or in the backlog."""
    return [rows[at] for at in range(first) if rows[at].verdict == PENDING]

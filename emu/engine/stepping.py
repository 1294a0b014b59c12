"""The plain engine, one step at a time: somebody watches between any two things that happen.

A step is what `loop.run` does until it has written down one event of its stream or taken one arrival; playing in
steps changes nothing, as batches of any size do not.  What writes no event (an interrupt of a polled device) belongs
to the step behind it.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

from emu.engine.loop import run
from emu.engine.plain import PlainEngine
from emu.kernel.drop_reason import PENDING
from emu.kernel.machine import Event

ONE_EVENT = 4  # a log of this size is full as soon as it holds one: `run` keeps room for what one step may write

F = TypeVar("F", bound=Callable[..., Any])


class Coming(NamedTuple):
    """Something that is due: when, and what it is."""

    due_ns: int
    text: str


class Step(NamedTuple):
    """What happened: the rows that came, the events, the rows whose verdict fell; and what is due as far as is known.

    `outside` waits for nobody; `tasks` wait for the CPU, as the machine's own timers do, which are not named here.
    """

    machine: Any
    arrived: Sequence[Any]
    events: Sequence[Any]
    decided: Sequence[Any]
    outside: Sequence[Coming] = ()
    tasks: Sequence[Coming] = ()


# Who looks at the machine between two steps: reads its records until it returns, changes none; what it raises ends it.
Watch = Callable[[Step], None]


class SteppingEngine(PlainEngine):
    """Plays as the plain engine does, and calls `watch` after each step."""

    def __init__(self, watch: Watch) -> None:
        """`watch` sees every step of the machine that this engine plays."""
        self.watch = watch
        self.step_log = self.rows(Event, ONE_EVENT)

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
            came, events = run(m, rows, first, upto, until_ns, self.step_log, ONE_EVENT)
            arrived = [rows[at] for at in range(first, came)]
            if not arrived and events == 0 and m.oops == 0:
                break
            first = came
            decided, waiting = decided_rows([*waiting, *arrived])
            happened = [self.step_log[at] for at in range(events)]
            following = [Coming(rows[first].time_ns, "a frame arrives")] if first < last else []
            self.watch(Step(m, arrived, happened, decided, following))
            if not draining and first == last:
                break
        return first, 0


def waiting_rows(rows: Any, first: int) -> list[Any]:
    """The rows before `first` whose verdict is still open: in a ring, or in the backlog."""
    return [rows[at] for at in range(first) if rows[at].verdict == PENDING]


def decided_rows(waiting: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """Rows by whether their verdict has fallen: those with one, those without."""
    return [p for p in waiting if p.verdict != PENDING], [p for p in waiting if p.verdict == PENDING]

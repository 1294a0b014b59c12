"""How far it is, on stderr: a row for each policy that is played."""

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

from rich.console import Console

from emu.reached import Reached, Show
from emu.task import Task

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

RATE_OVER_S = 5.0  # of the clock: the rate is of the last ones
BAR_COLUMNS = 20
NS_PER_S = 1_000_000_000


class Bars:
    """Rows on one screen; it is drawn when there is something new, by whoever brings it."""

    def __init__(self, progress: "Progress") -> None:
        """Rows on this screen."""
        self._progress = progress

    def row(self, what: str, *, is_time: bool = False) -> Show:
        """A row; `is_time`: what is reached is virtual time, else it is bytes of a file."""
        row = _Row(self._progress, self._progress.add_task(what, total=None, told=""), is_time)
        self._progress.refresh()
        return row.show


class _Row:
    """One row."""

    def __init__(self, progress: "Progress", task: "TaskID", is_time: bool) -> None:
        self._progress = progress
        self._task = task
        self._is_time = is_time
        self._past: deque[tuple[float, Reached]] = deque()  # from the first batch on: what was before is no playing

    def show(self, reached: Reached) -> None:
        """Draw it anew."""
        now_s = time.monotonic()
        self._past.append((now_s, reached))
        while len(self._past) > 2 and self._past[1][0] < now_s - RATE_OVER_S:
            self._past.popleft()
        then_s, before = self._past[0]
        told = words(reached, before, now_s - then_s, is_time=self._is_time)
        self._progress.update(self._task, total=reached.total, completed=reached.done, told=told)
        self._progress.refresh()


def words(reached: Reached, before: Reached, seconds: float, *, is_time: bool) -> str:
    """What stands behind the bar; `before` is how far it was so many seconds ago."""
    parts = []
    if seconds > 0:
        parts.append(f"{_short((reached.frames - before.frames) / seconds)} packets/s")
    if reached.total is not None:
        if reached.done > before.done:
            parts.append(
                f"{_clock(max(reached.total - reached.done, 0) * seconds / (reached.done - before.done))} left"
            )
        if is_time:
            parts.append(f"{reached.done / NS_PER_S:.2f} of {reached.total / NS_PER_S:g} s")
    parts.append(f"{reached.frames} packets, {reached.drops} drops")
    return ", ".join(parts)


def _short(number: float) -> str:
    for unit, letter in ((1e6, "M"), (1e3, "k")):
        if number >= unit:
            return f"{number / unit:.1f}{letter}"
    return f"{number:.0f}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


@contextmanager
def bars(asked: bool | None) -> Iterator[Bars | None]:
    """A screen for rows; None where nobody looks: stderr is no terminal, and nobody has asked for it."""
    if asked is False or (asked is None and not sys.stderr.isatty()):
        yield None
        return
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(BAR_COLUMNS), TextColumn("{task.fields[told]}"))
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=asked is None, auto_refresh=False) as progress:
        yield Bars(progress)


def replays_in(shown: Bars | None) -> Callable[[Task], AbstractContextManager[Show | None]]:
    """Rows of replays on a screen."""
    return lambda task: nullcontext(None if shown is None else shown.row(task.scenario.policy.name))


def runs_in(shown: Bars | None) -> Callable[[str, int], AbstractContextManager[Show | None]]:
    """Rows of runs of the closed loop on a screen."""
    return lambda what, _lasts_ns: nullcontext(None if shown is None else shown.row(what, is_time=True))

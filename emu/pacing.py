"""--realtime: virtual time that is not ahead of the clock on the wall, so that outputs appear as it passes.

What is played goes on in slices of some 50 ms of the clock.  A slice is waited for until the time of its last frame has
come; then it is decided, written and flushed.  Whoever is late waits for nothing until he has caught up: deadlines are
counted from the start.
"""

import select
import time
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from io import UnsupportedOperation
from typing import IO, Any

from emu.capture.output import ClosedPipe, OutputFile
from emu.errors import UsageError
from emu.interrupt import Interruption
from emu.traffic.flood.values import RATE, UNITS

SLICE_NS = 50_000_000  # of the clock: as late as that a frame may be seen
LONGEST_SLEEP_MS = 3_600_000  # poll(2) takes 31 bits of milliseconds
NS_PER_MS = 1_000_000
FASTEST = 1_000_000_000
GONE = select.POLLERR | select.POLLHUP | select.POLLNVAL


def parse_realtime(text: str | None) -> Fraction | None:
    """How many times as fast as the clock; None: not at all.  Errors: UsageError."""
    if text is None:
        return None
    found = RATE.fullmatch(text.removesuffix("x"))
    speed = Fraction(found[1]) * UNITS[found[2]] if found else Fraction(0)
    if not 0 < speed <= FASTEST:
        raise UsageError(f"--realtime={text}: expected a number above 0 up to 1G, such as 0.5 or 10: times the clock")
    return speed


class Pacer:
    """Keeps virtual time from running ahead of the clock.

    `sleep` waits so many milliseconds at most and says whether the reader of the output has gone meanwhile.
    """

    def __init__(
        self,
        speed: Fraction,
        interruption: Interruption,
        output: OutputFile | None = None,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        sleep: Callable[[int], bool] | None = None,
    ) -> None:
        """`speed` is how many times as fast as the clock; the clock starts with the first `wait_until`."""
        self._over, self._under = speed.numerator, speed.denominator
        self._interruption = interruption
        self._output = output
        self._clock_ns = clock_ns
        self._sleep = sleep or _Sleep(None if output is None else output.stream)
        self._start_ns: int | None = None
        self._start_virtual_ns = 0
        self.waited_ns = 0  # of the clock, in all
        self.slice_ns = max(1, SLICE_NS * self._over // self._under)  # virtual

    def start(self, virtual_ns: int) -> None:
        """The clock starts now, and virtual time with it; once started, does nothing."""
        if self._start_ns is None:
            self._start_ns = self._clock_ns()
            self._start_virtual_ns = virtual_ns

    def wait_until(self, virtual_ns: int) -> None:
        """Wait until this time has come; a signal ends it at once.

        Errors: ClosedPipe as soon as nobody reads the output any more.
        """
        self.start(virtual_ns)
        assert self._start_ns is not None
        # From the start, in integers: what a wait is late by is not added to the next one's.
        due_ns = self._start_ns + (virtual_ns - self._start_virtual_ns) * self._under // self._over
        began_ns = self._clock_ns()
        while not self._interruption.happened and (left_ns := due_ns - self._clock_ns()) > 0:
            milliseconds = -(-left_ns // NS_PER_MS)
            self._interruption.wait_for(partial(self._wait, milliseconds))
        self.waited_ns += self._clock_ns() - began_ns

    def _wait(self, milliseconds: int) -> int:
        if self._sleep(min(milliseconds, LONGEST_SLEEP_MS)):
            assert self._output is not None
            raise ClosedPipe(f"{self._output.name}: nobody reads it any more")
        return 0

    def written(self) -> None:
        """A slice has been written: whoever watches the output sees it."""
        if self._output is not None:
            self._output.flush()


class _Sleep:
    """Sleeps, but not beyond the moment at which the reader of a pipe goes: nothing is written then that would tell."""

    def __init__(self, stream: IO[Any] | None) -> None:
        self._poll = select.poll()
        if stream is None:
            return
        try:
            self._poll.register(stream.fileno(), 0)
        except (UnsupportedOperation, ValueError):  # no file of the system: nobody can go
            return

    def __call__(self, milliseconds: int) -> bool:
        return any(event & GONE for _, event in self._poll.poll(milliseconds))

"""A replay in time with the clock: which rows of a capture belong to a slice of it."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

from emu.interrupt import Interruption
from emu.kernel.machine import Packet
from emu.pacing import Pacer
from emu.traffic.arrivals import Feed, set_time
from emu.traffic.pace import PACE_MBPS, PACE_PPS

FEED_CLOCK = (
    "pace",
    "rate_over",
    "rate_under",
    "remainder",
    "started",
    "last_file_ns",
    "last_time_ns",
    "last_length",
)


class TimeSlices:
    """Cuts rows into slices as long as the pacer's; `rows` are those of the feed, which the caller prepares."""

    def __init__(self, pacer: Pacer, interruption: Interruption, feed: Any, rows: Any, filtered: bool) -> None:
        """`filtered`: a filter may refuse rows."""
        self._pacer = pacer
        self._interruption = interruption
        self._feed = feed
        self._rows = rows
        # At a rate a frame that is filtered takes no time, so it is not known when the one after it arrives.
        self._unforeseen = filtered and int(feed.pace) in (PACE_PPS, PACE_MBPS)

    def has_come(self, first: int) -> bool:
        """Wait for the time of the next row; False: a signal has ended that."""
        self._pacer.wait_until(next_time_ns(self._feed, self._rows[first]))
        return not self._interruption.happened

    def next(self, first: int, last: int, prepare: Callable[[int, int], None]) -> tuple[int, int]:
        """Prepare one slice of the rows from `first` on, one by one: what comes later is not counted.

        Returns its end and a time that has come when it is over, before which no further row arrives.
        """
        prepare(first, first + 1)
        until_ns = int(self._rows[first].time_ns) + self._pacer.slice_ns
        due = first + 1
        while due < last and next_time_ns(self._feed, self._rows[due]) <= until_ns:
            prepare(due, due + 1)
            due += 1
        # Of rows that are not read yet nobody knows.
        unforeseen = due == last or self._unforeseen
        return due, int(self._rows[due - 1].time_ns) if unforeseen else until_ns


def next_time_ns(feed: Any, row: Any) -> int:
    """When a row will arrive that is the next one, if no filter refuses it; nothing is counted."""
    clock = SimpleNamespace(**{name: int(getattr(feed, name)) for name in FEED_CLOCK}, time_reversed=0)
    frame = SimpleNamespace(file_time_ns=int(row.file_time_ns), length=int(row.length))
    set_time(cast(Feed, clock), cast(Packet, frame), False)
    return int(frame.time_ns)

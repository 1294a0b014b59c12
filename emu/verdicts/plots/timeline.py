"""What a plot of runs shows: panels of lines over virtual time, and the moments that matter.

Drawn by `html` and by `image`; floats are for the eye only, nothing here goes back into a run.
"""

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from emu.errors import UsageError
from emu.kernel.closed_loop import Sample
from emu.kernel.record import fields_of
from emu.verdicts.plots.outcomes import Lockup, headline, lockup_of, outcome_of
from emu.verdicts.plots.palette import look

NS_PER_S = 1_000_000_000
MIB = 1 << 20
RATE_WINDOWS_S = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)
ROOM_BEHIND_LOCKUP = 1.16  # of its time: for the words, and for the eye to see that nothing follows
WINDOWS_PER_RUN = 200  # about so many in a run: fewer would hide a stall, more would show noise

Samples = Mapping[str, Sequence[int]]  # the fields of closed_loop.Sample, columns of one length
Run = tuple[str, dict[str, Any], Samples]  # policy, summary, samples
Values = list[float | None]  # None where there is nothing to show

# How a line is drawn; a readout is not, its value is only told.
SOLID, FILLED, STACKED, LIMIT, READOUT = "solid", "filled", "stacked", "limit", "readout"


class Line(NamedTuple):
    """One quantity over time."""

    key: str  # its own among the lines of a run
    name: str
    values: Values
    colour: str
    style: str = SOLID
    unit: str = "pages"


class Panel(NamedTuple):
    """Lines that share an axis; `magnified`: the axis is log(1 + y), so that 0 and 30 000 are both seen."""

    title: str
    unit: str
    lines: tuple[Line, ...]
    why: str
    magnified: bool = False


@dataclass(frozen=True)
class Timeline:
    """One run as it is drawn; `seconds` are virtual, since play started, one for each sample."""

    policy: str
    outcome: str
    headline: str
    seconds: list[float]
    lockup: Lockup | None
    panels: tuple[Panel, ...]

    @property
    def right_s(self) -> float:
        """Where its time axis ends: behind a lockup there is room, so that one sees that nothing follows."""
        end = self.seconds[-1] if self.seconds else 0.0
        if self.lockup is not None:
            end = max(end, self.lockup.time_s * ROOM_BEHIND_LOCKUP)
        return end or 1.0

    @property
    def lockup_at(self) -> int | None:
        """The sample at which it locked up, or the last before: a run may be continued behind it."""
        if self.lockup is None or not self.seconds:
            return None
        return max(bisect_right(self.seconds, self.lockup.time_s) - 1, 0)

    def line(self, key: str) -> Line:
        """The line with this key."""
        return next(line for panel in self.panels for line in panel.lines if line.key == key)


class ComparedLine(NamedTuple):
    """A line of one run among those of the others."""

    run: int
    line: Line
    colour: str
    dash: str


class Comparison(NamedTuple):
    """A panel with the same line of every run."""

    title: str
    unit: str
    lines: tuple[ComparedLine, ...]
    why: str
    magnified: bool = False


def timeline_of(run: Run) -> Timeline:
    """How a run went.  Errors: UsageError when samples are not the columns of `closed_loop.Sample`."""
    policy, summary, given = run
    columns = _columns(policy, given)
    seconds = [(time_ns or 0) / NS_PER_S for time_ns in columns["time_ns"]]
    return Timeline(
        policy, outcome_of(summary), headline(summary), seconds, lockup_of(summary), _panels(columns, seconds)
    )


def compare(timelines: Sequence[Timeline]) -> tuple[Comparison, ...]:
    """What is compared between runs: each panel has a line for every run that has samples."""
    return tuple(
        Comparison(title, unit, _lines_of(timelines, key), why, magnified)
        for key, title, unit, why, magnified in (
            (
                "written",
                "Written through block I/O",
                "MiB",
                "In all. A cross marks where a run locked up.",
                False,
            ),
            ("normal_free_pages", "Free pages in ZONE_NORMAL", "pages", "The scale is logarithmic.", True),
            ("waiting", "Pages not yet clean", "pages", "Dirty or under write-back.", False),
            ("reserve_used", "Receive reserve in use", "skbs", "Over all devices.", False),
            ("memalloc_dropped", "Block I/O frames dropped", "frames/s", "The scale is logarithmic.", True),
        )
    )


def _lines_of(timelines: Sequence[Timeline], key: str) -> tuple[ComparedLine, ...]:
    return tuple(
        ComparedLine(number, timeline.line(key), *look(number))
        for number, timeline in enumerate(timelines)
        if timeline.seconds
    )


def _columns(policy: str, samples: Samples) -> Mapping[str, Values]:
    names = [sample.name for sample in fields_of(Sample)]
    if not samples:  # a policy that does not build has none
        return {name: [] for name in names}
    for name in names:
        if name not in samples:
            raise UsageError(f"samples of {policy}: {name} is missing; expected every field of closed_loop.Sample")
        if len(samples[name]) != len(samples["time_ns"]):
            raise UsageError(
                f"samples of {policy}: {name} has {len(samples[name])} values; "
                f"expected {len(samples['time_ns'])}, as time_ns has"
            )
    return {name: [_finite(value) for value in samples[name]] for name in names}


def _finite(value: float | None) -> float | None:
    """The value as Python's own number; None for what is none."""
    if value is None or not math.isfinite(value):
        return None
    return int(value) if value == int(value) else float(value)


def rate_window_s(seconds: Sequence[float]) -> float:
    """Over how long a rate is taken: the shortest round time of which the run does not have too many."""
    span = seconds[-1] - seconds[0] if seconds else 0.0
    return next((window for window in RATE_WINDOWS_S if window * WINDOWS_PER_RUN >= span), RATE_WINDOWS_S[-1])


def rates(counts: Values, seconds: Sequence[float], window_s: float, per: float = 1) -> Values:
    """How fast a count grew up to each moment, per second and in units of `per`, over a window that ends there.

    None where that cannot be told: at the first sample, at a gap, and where time stands still.
    """
    found: Values = []
    for now, (count, second) in enumerate(zip(counts, seconds, strict=True)):
        # The sample on which the window begins, or the first of all; 1 ns for what division has rounded.
        before = max(bisect_right(seconds, second - window_s + 1e-9, 0, now) - 1, 0)
        earlier = counts[before]
        if count is None or earlier is None or second <= seconds[before]:
            found.append(None)
        else:
            found.append(round((count - earlier) / per / (second - seconds[before]), 3))
    return found


def _panels(columns: Mapping[str, Values], seconds: Sequence[float]) -> tuple[Panel, ...]:
    return (
        _free_pages(columns),
        _reserve(columns),
        _held(columns),
        _rings(columns),
        _page_cache(columns),
        _block_io(columns, seconds),
        _drops(columns, seconds),
    )


def _free_pages(columns: Mapping[str, Values]) -> Panel:
    def line(key: str, name: str, colour: str, style: str) -> Line:
        return Line(key, name, columns[key], colour, style)

    return Panel(
        "Free pages",
        "pages",
        (
            line("normal_free_pages", "free in ZONE_NORMAL", "blue", FILLED),
            line("free_pages", "free in all zones", "sky", SOLID),
            line("pages_high", "high", "green", LIMIT),
            line("pages_low", "low", "orange", LIMIT),
            line("pages_min", "min", "red", LIMIT),
            line("atomic_floor_pages", "atomic floor", "purple", LIMIT),
        ),
        "Below low kswapd wakes, below min tasks wait, at the atomic floor interrupts get nothing either. "
        "Watermarks are of ZONE_NORMAL; the scale is logarithmic.",
        magnified=True,
    )


def _reserve(columns: Mapping[str, Values]) -> Panel:
    used = Line("reserve_used", "in use", columns["reserve_used"], "blue", FILLED, "skbs")
    cap = Line("reserve_cap", "cap", columns["reserve_cap"], "red", LIMIT, "skbs")
    what = "Received skbs that are charged to the reserve"
    if any(columns["reserve_cap"]):
        return Panel("Receive reserve", "skbs", (used, cap), f"{what}, and the cap of the policy on them.")
    return Panel("Receive reserve", "skbs", (used,), f"{what}. This policy has no cap.")


def _held(columns: Mapping[str, Values]) -> Panel:
    return Panel(
        "Held by the receive path",
        "skbs, pages",
        (
            Line("socket_skbs", "skbs in sockets' queues", columns["socket_skbs"], "orange", FILLED, "skbs"),
            Line("slab_pages", "slab", columns["slab_pages"], "purple"),
        ),
        "Sockets queue for readers, and readers may themselves wait for memory.",
    )


def _rings(columns: Mapping[str, Values]) -> Panel:
    return Panel(
        "Receive rings",
        "descriptors",
        (
            Line("ring_free", "that NICs may fill", columns["ring_free"], "blue", FILLED, "descriptors"),
            Line("ring_filled", "with a buffer", columns["ring_filled"], "orange", SOLID, "descriptors"),
        ),
        "Without a free descriptor the NIC hears nothing: nor the answer that would give memory back.",
    )


def _page_cache(columns: Mapping[str, Values]) -> Panel:
    dirty, writeback = columns["dirty_pages"], columns["writeback_pages"]
    waiting: Values = [
        None if one is None or other is None else one + other for one, other in zip(dirty, writeback, strict=True)
    ]
    return Panel(
        "Page cache",
        "pages",
        (
            Line("writeback_pages", "under write-back", writeback, "red", STACKED),
            Line("dirty_pages", "dirty", dirty, "orange", STACKED),
            Line("clean_pages", "clean", columns["clean_pages"], "green", STACKED),
            Line("waiting", "not yet clean", waiting, "grey", READOUT),
        ),
        "Stacked. Only clean pages can be reclaimed; one under write-back is, once its SCSI Response is read.",
    )


def _block_io(columns: Mapping[str, Values], seconds: Sequence[float]) -> Panel:
    window_s = rate_window_s(seconds)
    writes, octets = columns["writes_completed"], columns["bytes_completed"]
    written: Values = [None if value is None else round(value / MIB, 3) for value in octets]
    return Panel(
        "Block I/O completed",
        "writes/s",
        (
            Line("writes_per_s", "writes", rates(writes, seconds, window_s), "green", FILLED, "writes/s"),
            Line("mib_per_s", "data", rates(octets, seconds, window_s, MIB), "grey", READOUT, "MiB/s"),
            Line("written", "in all", written, "grey", READOUT, "MiB"),
        ),
        f"SCSI writes whose response has been read, per second over the {window_s:g} s before.",
    )


def _drops(columns: Mapping[str, Values], seconds: Sequence[float]) -> Panel:
    window_s = rate_window_s(seconds)

    def line(key: str, name: str, colour: str, style: str = SOLID, unit: str = "frames/s") -> Line:
        return Line(key, name, rates(columns[key], seconds, window_s), colour, style, unit)

    return Panel(
        "Drops by class",
        "per second",
        (
            line("memalloc_dropped", "block I/O", "red", FILLED),
            line("other_dropped", "all others", "blue"),
            line("rx_missed", "missed by the NIC", "orange"),
            line("pfmemalloc_drops", "marked, at sk_filter", "purple"),
            line("tx_failed", "not sent for want of memory", "grey", unit="segments/s"),
        ),
        f"Per second over the {window_s:g} s before; the scale is logarithmic. "
        "The NIC cannot tell the class of what it misses.",
        magnified=True,
    )

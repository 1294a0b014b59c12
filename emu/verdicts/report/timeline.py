"""A replay over time: packets by fate, and memory, reserve and ring, in bins that a page can hold.

Each bin keeps the least and the most of what was seen in it, so that a spike of one packet survives; how wide a bin is
the page says.  Packets stand where they arrived, memory where it was looked at: when the verdict fell.
"""

from typing import TYPE_CHECKING, Any, NamedTuple

from emu.kernel.drop_reason import IN_FLIGHT, VERDICTS
from emu.verdicts.fates import DELIVERED_NAME, is_event
from emu.verdicts.plots.palette import SERIES
from emu.verdicts.plots.timeline import FILLED, LIMIT, SOLID, STACKED, Line, Panel, Values
from emu.verdicts.report.figures import Figures, is_lost, reason_of

if TYPE_CHECKING:
    import polars

BINS = 1_000
MIN_WIDTH_NS = 1_000
NS_PER_S = 1_000_000_000
REASONS_DRAWN = 6  # have a colour of their own; what else was dropped is one line
DEVICES_DRAWN = 4
ENVELOPE = "envelope"  # filled up to the line before it: from the least to the most of a bin
DELIVERED_COLOUR, OTHER_COLOUR = "blue", "grey"
REASON_COLOURS = tuple(colour for colour in SERIES if colour not in (DELIVERED_COLOUR, OTHER_COLOUR))
assert len(REASON_COLOURS) >= REASONS_DRAWN


class ReplayTimeline(NamedTuple):
    """What the plots show; `seconds` are the middles of the bins, since the first packet arrived."""

    first_ns: int
    width_ns: int
    seconds: tuple[float, ...]
    panels: tuple[Panel, ...]
    colours: dict[str, str]  # by reason
    notes: tuple[str, ...]  # what is left out

    @property
    def right_s(self) -> float:
        """Where the time axis ends."""
        return len(self.seconds) * self.width_ns / NS_PER_S


class _Bins(NamedTuple):
    first_ns: int
    width_ns: int
    number: int

    def of(self, column: "polars.Expr") -> "polars.Expr":
        import polars

        # A clock that runs backwards may show times outside of the first and last arrival.
        at = (column - self.first_ns) // self.width_ns
        return at.clip(0, self.number - 1).cast(polars.Int32).alias("bin")


def timeline_of(table: "polars.LazyFrame", figures: Figures) -> ReplayTimeline:
    """Put a log into bins."""
    import polars

    column = polars.col("time_ns")
    first, last = table.select(column.min(), column.max().alias("last")).collect(engine="streaming").row(0)
    if first is None:
        return ReplayTimeline(0, MIN_WIDTH_NS, (), (), {}, ())
    width = bin_width_ns(last - first)
    bins = _Bins(first, width, (last - first) // width + 1)
    drawn = [*dict.fromkeys(one.reason for one in figures.reasons if one.dropped)][:REASONS_DRAWN]
    colours = dict(zip(drawn, REASON_COLOURS, strict=False))
    panels = _packets(table, figures, bins, colours)
    states, notes = _states(table, bins)
    middles = tuple(round((at + 0.5) * width / NS_PER_S, 9) for at in range(bins.number))
    return ReplayTimeline(first, width, middles, (*panels, *states), colours, notes)


def bin_width_ns(span_ns: int, bins: int = BINS) -> int:
    """The narrowest round width with which a span takes at most so many bins."""
    width = MIN_WIDTH_NS
    while True:
        for round_width in (width, 2 * width, 5 * width):
            if span_ns // round_width < bins:
                return round_width
        width *= 10


def width_text(width_ns: int) -> str:
    """The width of a bin for a person."""
    for unit, ns in (("s", NS_PER_S), ("ms", 1_000_000), ("µs", 1_000)):
        if width_ns >= ns:
            return f"{width_ns // ns} {unit}"
    return f"{width_ns} ns"


def _packets(table: "polars.LazyFrame", figures: Figures, bins: _Bins, colours: dict[str, str]) -> tuple[Panel, ...]:
    import polars

    rows = (
        table.filter(~is_event())
        .group_by(bins.of(polars.col("time_ns")), "verdict", "reason", lost=is_lost())
        .agg(polars.len().alias("rows"))
        .collect(engine="streaming")
        .rows(named=True)
    )
    survived, waiting, other = ([0] * bins.number for _ in range(3))
    lost = {reason: [0] * bins.number for reason in colours}
    for row in rows:
        if row["bin"] is None:
            continue
        if row["lost"]:
            lost.get(reason_of(row), other)[row["bin"]] += row["rows"]
        elif row["verdict"] in (DELIVERED_NAME, None):
            survived[row["bin"]] += row["rows"]
        elif row["verdict"] == VERDICTS[IN_FLIGHT]:
            waiting[row["bin"]] += row["rows"]
    named = [*((reason, colours[reason], lost[reason]) for reason in colours)]
    if any(other):
        named.append(("other reasons", OTHER_COLOUR, other))
    per_s = NS_PER_S / bins.width_ns
    name = "survived" if figures.all.unsaid else "delivered"
    stack = [(name, DELIVERED_COLOUR, survived), *named, ("in flight", OTHER_COLOUR, waiting)]
    rates = [
        Line(f"rate {name}", name, _rates(counts, per_s), colour, STACKED, "packets/s")
        for name, colour, counts in stack
        if any(counts)
    ]
    unit = f"packets in {width_text(bins.width_ns)}"
    counts = tuple(Line(f"lost {name}", name, [*n], colour, SOLID, "packets") for name, colour, n in named)
    panels = [Panel("Packets", "packets/s", tuple(rates), "By when they arrived, stacked by what became of them.")]
    if counts:
        why = "The same drops for themselves; the axis is logarithmic, so that a single one is seen."
        panels.append(Panel("Dropped", unit, counts, why, magnified=True))
    return tuple(panels)


def _rates(counts: list[int], per_s: float) -> Values:
    return [round(count * per_s, 3) for count in counts]


def _states(table: "polars.LazyFrame", bins: _Bins) -> tuple[tuple[Panel, ...], tuple[str, ...]]:
    """Memory, and each device's reserve and ring; and what is left out."""
    import polars

    least, most = polars.col("free_pages", "ring_free"), polars.col("free_pages", "ring_free")
    when = polars.coalesce("decided_ns", "time_ns")
    rows = (
        table.filter(~is_event(), polars.col("free_pages").is_not_null())
        .with_columns(polars.max_horizontal("reserve_used_before", "reserve_used_after").alias("reserve_used"))
        .group_by(bins.of(when), "device")
        .agg(
            polars.len().alias("rows"),
            least.min().name.prefix("least_"),
            most.max().name.prefix("most_"),
            polars.min_horizontal("reserve_used_before", "reserve_used_after").min().alias("least_reserve_used"),
            polars.col("reserve_used", "cap_skbs", "floor_pages").max().name.prefix("most_"),
        )
        .collect(engine="streaming")
        .rows(named=True)
    )
    panels = [_memory(rows, bins)] if rows else []
    by_device: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_device.setdefault(row["device"] or "", []).append(row)
    devices = sorted(by_device, key=lambda name: (-sum(row["rows"] for row in by_device[name]), name))
    notes = [f"reserve and ring of {len(devices) - DEVICES_DRAWN} further devices"] if devices[DEVICES_DRAWN:] else []
    for name in devices[:DEVICES_DRAWN]:
        its_rows = by_device[name]
        of = f" of {name}" if len(devices) > 1 else ""
        if any(row["most_cap_skbs"] or row["most_reserve_used"] for row in its_rows):
            panels.append(_reserve(its_rows, bins, name, of))
        else:
            notes.append(f"the reserve{of}: it has no cap, and nothing came from it")
        panels.append(_ring(its_rows, bins, name, of))
    return tuple(panels), tuple(notes)


def _memory(rows: list[dict[str, Any]], bins: _Bins) -> Panel:
    floor = _held(_binned(rows, bins, "most_floor_pages", max))
    lines = (
        *_envelope(rows, bins, "free_pages", "free", "green", "pages"),
        Line("floor", "GFP_ATOMIC floor", floor, "red", LIMIT),
    )
    return Panel("Free memory", "pages", lines, "GFP_ATOMIC gets a page only above the floor; least and most of a bin.")


def _reserve(rows: list[dict[str, Any]], bins: _Bins, device: str, of: str) -> Panel:
    lines = (
        *_envelope(rows, bins, "reserve_used", "used", "purple", "skbs", device),
        Line(f"cap {device}", "cap", _held(_binned(rows, bins, "most_cap_skbs", max)), "red", LIMIT, "skbs"),
    )
    return Panel(f"Reserve{of}", "skbs", lines, "Reserve buffers out, and the device's cap (rx_reserve).")


def _ring(rows: list[dict[str, Any]], bins: _Bins, device: str, of: str) -> Panel:
    lines = _envelope(rows, bins, "ring_free", "free", "orange", "descriptors", device)
    return Panel(f"Ring{of}", "descriptors", lines, "Descriptors that the NIC could still fill; at 0 it misses frames.")


def _envelope(
    rows: list[dict[str, Any]], bins: _Bins, column: str, name: str, colour: str, unit: str, device: str = ""
) -> tuple[Line, ...]:
    low, high = _binned(rows, bins, f"least_{column}", min), _binned(rows, bins, f"most_{column}", max)
    key = f"{column} {device}".strip()
    if low == high:
        return (Line(f"most {key}", name, high, colour, FILLED, unit),)
    return (
        Line(f"least {key}", f"{name}, least", low, colour, SOLID, unit),
        Line(f"most {key}", f"{name}, most", high, colour, ENVELOPE, unit),
    )


def _binned(rows: list[dict[str, Any]], bins: _Bins, column: str, of_both: Any) -> Values:
    values: Values = [None] * bins.number
    for row in rows:
        here, value = values[row["bin"]], row[column]
        if value is not None:
            values[row["bin"]] = value if here is None else of_both(here, value)
    return values


def _held(values: Values) -> Values:
    """A limit holds until another is seen; before the first it is taken to be that."""
    now = next((value for value in values if value is not None), None)
    held: Values = []
    for value in values:
        now = now if value is None else value
        held.append(now)
    return held

"""Which packets are wanted, and how many there are: what the filters of `emu show` mean, as expressions of polars.

What a file does not say is null there (a survivor of an annotated capture without a comment): a filter that asks for
it cannot be answered, and such packets are counted as `unknown`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import msgspec

from emu.errors import UsageError
from emu.kernel.drop_reason import DELIVERED, IN_FLIGHT, NOT_RECEIVED, PENDING, VERDICTS
from emu.verdicts.fates import (
    DROPPED_NAME,
    EVENT,
    LOST_NAMES,
    is_event,
    is_lost_untold,
    verdict_of,
)
from emu.verdicts.flows import flow_expression
from emu.verdicts.names import names_of
from emu.verdicts.read import Verdicts
from emu.verdicts.schema import COLUMNS
from emu.verdicts.show.where import where_expression

if TYPE_CHECKING:
    import polars

# What an event does not say itself, but its packet does.
OF_THE_PACKET = ("skb_device", "vlan", "length", "class", "flow", "socket", "memalloc")


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """The packets that are wanted; all that is said must hold, and of several names one."""

    verdicts: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    causes: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()
    memalloc: bool | None = None
    flows: tuple[str, ...] = ()
    from_ns: int | None = None  # since the first packet
    to_ns: int | None = None
    frames: tuple[tuple[int, int], ...] = ()
    where: str = ""

    @property
    def is_all(self) -> bool:
        """Whether nothing is said, so that every packet is wanted."""
        return self == Wanted()

    @property
    def events(self) -> bool:
        """Whether events are asked for."""
        return EVENT in self.verdicts

    def expression(self, start_ns: int) -> "polars.Expr":
        """What is true of the packets that are wanted, and null where the file does not say."""
        import polars

        column = polars.col
        all_of = [polars.lit(True)]
        for name, names in (
            ("verdict", self.verdicts),
            ("reason", self.reasons),
            ("cause", self.causes),
            ("class", self.classes),
            ("device", self.devices),
            ("policy_rule", self.rules),
        ):
            if names:
                all_of.append(_is_one_of(name, names))
        if self.memalloc is not None:
            all_of.append(column("memalloc") == int(self.memalloc))
        if self.flows:
            all_of.append(polars.any_horizontal(*map(flow_expression, self.flows)))
        if self.from_ns is not None:
            all_of.append(column("time_ns") >= start_ns + self.from_ns)
        if self.to_ns is not None:
            all_of.append(column("time_ns") <= start_ns + self.to_ns)
        if self.frames:
            ranges = [column("frame").is_between(first, last) for first, last in self.frames]
            all_of.append(polars.any_horizontal(*ranges))
        if self.where:
            all_of.append(where_expression(self.where))
        return polars.all_horizontal(*all_of)


@dataclass(frozen=True)
class Totals:
    """What a whole file holds: packets by verdict, drops by reason (most first), events, and how wide its columns are.

    `start_ns` is the arrival of the first packet, from which times are counted; `widths` the length of the longest
    name in a column.
    """

    packets: int
    by_verdict: dict[str, int]
    by_reason: dict[str, int]
    events: int
    start_ns: int
    devices: tuple[str, ...]
    last_frame: int
    widths: dict[str, int]


NEVER_LOST = [VERDICTS[verdict] for verdict in (PENDING, DELIVERED, IN_FLIGHT, NOT_RECEIVED)]
NAMED = ("verdict", "reason", "cause", "policy_rule", "class", "device")  # columns with few different values


def _is_one_of(name: str, names: Sequence[str]) -> "polars.Expr":
    """Whether a column has one of these names; null where the file does not say, and it could."""
    import polars

    is_one, untold = polars.col(name).is_in(list(names)), polars.col("verdict").is_null()
    if name == "verdict":
        lost, not_lost = set(names) & set(LOST_NAMES), set(names) - set(LOST_NAMES)
        impossible = polars.when(is_lost_untold()).then(polars.lit(not lost)).otherwise(polars.lit(not not_lost))
    elif name in ("reason", "cause"):  # what was not lost has neither
        impossible = ~is_lost_untold()
        untold = untold | polars.col("verdict").is_in(NEVER_LOST)
    else:
        return is_one
    return polars.when(untold & impossible).then(polars.lit(value=False)).otherwise(is_one)


def totals_of(verdicts: Verdicts) -> Totals:
    """Count a file, in one pass."""
    import polars

    time, frame = polars.col("time_ns"), polars.col("frame")
    counted = verdicts.table.group_by(*NAMED).agg(
        polars.len().alias("rows"), time.min().alias("first"), frame.max().alias("last")
    )
    groups = counted.collect(engine="streaming").to_dicts()
    packets = [group for group in groups if group["verdict"] != EVENT]
    of_reason = [group for group in packets if group["verdict"] == DROPPED_NAME]
    by_verdict = _most_first([group | {"verdict": verdict_of(group)} for group in packets], "verdict", "")
    return Totals(
        sum(by_verdict.values()),
        by_verdict,
        _most_first(of_reason, "reason", ""),
        sum(group["rows"] for group in groups if group["verdict"] == EVENT),
        min((group["first"] for group in packets or groups if group["first"] is not None), default=0),
        tuple(sorted({group["device"] for group in groups if group["device"]})),
        max((group["last"] or 0 for group in groups), default=0),
        {name: max((len(group[name] or "") for group in groups), default=0) for name in NAMED},
    )


def since(time_ns: int | None, start_ns: int) -> int | None:
    """A time in ns since the first packet; None where the file does not say (a paced play's frame without comment)."""
    return None if time_ns is None else time_ns - start_ns


def _most_first(groups: Sequence[dict[str, Any]], key: str, unsaid: str) -> dict[str, int]:
    counts: dict[str, int] = {}
    for group in groups:
        name = group[key] or unsaid
        counts[name] = counts.get(name, 0) + group["rows"]
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def refuse_unknown_devices(wanted: Wanted, totals: Totals) -> None:
    """UsageError when a device is asked for that the file does not have."""
    if totals.devices:
        names_of("--device", wanted.devices, totals.devices)


def selected(verdicts: Verdicts, wanted: Wanted, totals: Totals) -> "polars.LazyFrame":
    """The rows that are wanted, in the file's order; events only if asked for, with the flow of their packets."""
    table = verdicts.table
    table = with_flows(table) if wanted.events else table.filter(~is_event())
    return table.filter(wanted.expression(totals.start_ns))


def with_flows(table: "polars.LazyFrame") -> "polars.LazyFrame":
    """All rows; an event says what its packet said: class, flow, socket and so on."""
    import polars

    later = is_event()
    frames = table.filter(later).select("frame").unique()
    said = table.filter(~later).select("frame", *OF_THE_PACKET)
    # Only the packets that have events are kept in memory.
    said = said.join(frames, on="frame", how="semi").unique("frame")
    joined = table.join(said, on="frame", how="left", suffix=" of the packet", maintain_order="left")
    filled = {
        name: polars.when(later).then(polars.col(f"{name} of the packet")).otherwise(polars.col(name))
        for name in OF_THE_PACKET
    }
    return joined.with_columns(**filled).select(column.name for column in COLUMNS)


@dataclass(frozen=True)
class Matches:
    """How many rows are wanted, and of how many the file does not say whether they are."""

    rows: int
    unknown: int


def matches_of(verdicts: Verdicts, wanted: Wanted, totals: Totals) -> Matches:
    """Count what is wanted, in one pass."""
    if wanted.is_all:
        return Matches(totals.packets, 0)
    table = with_flows(verdicts.table) if wanted.events else verdicts.table
    is_wanted = wanted.expression(totals.start_ns)
    if not wanted.events:
        table = table.filter(~is_event())
    counted = table.select(is_wanted.sum().alias("rows"), is_wanted.is_null().sum().alias("unknown"))
    return Matches(*(int(count or 0) for count in counted.collect(engine="streaming").row(0)))


def in_words(wanted: Wanted) -> dict[str, Any]:
    """What was asked for, as an object; what was not asked for is left out."""
    said = {field.name: getattr(wanted, field.name) for field in fields(wanted)}
    return {name: msgspec.to_builtins(value) for name, value in said.items() if value not in ((), None, "")}


def frames_of(texts: Sequence[str] | None) -> tuple[tuple[int, int], ...]:
    """The ranges that `--frame` names: N, or N-M.  Errors: UsageError."""
    ranges = []
    for text in texts or ():
        first, dash, last = text.partition("-")
        if not first.strip().isdecimal() or (dash and not last.strip().isdecimal()):
            raise UsageError(f"--frame {text}: expected N or N-M, such as 4711 or 100-200")
        low, high = int(first), int(last if dash else first)
        if not 1 <= low <= high < 1 << 63:
            raise UsageError(f"--frame {text}: frames are counted from 1, and the first is not behind the last")
        ranges.append((low, high))
    return tuple(ranges)


def nanoseconds(option: str, text: str | None) -> int | None:
    """Seconds since the start, such as 0.25, as ns.  Errors: UsageError."""
    if text is None:
        return None
    whole, _, part = text.strip().removesuffix("s").partition(".")
    if not (whole + part).isdecimal() or len(part) > 9 or len(whole) > 9:
        raise UsageError(f"{option} {text}: expected seconds since the first packet, such as 0.25")
    return int(whole or "0") * 10**9 + int(part.ljust(9, "0") or "0")

"""A flow's fate: what became of its packets, both ways; where it lost the first and the last; how long nothing came."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emu.verdicts.fates import DELIVERED_NAME, DROPPED_NAME, is_event, survived
from emu.verdicts.read import Verdicts
from emu.verdicts.show.again import sent_again
from emu.verdicts.show.groups import Group, groups_of
from emu.verdicts.show.select import Totals, Wanted, selected, since

if TYPE_CHECKING:
    import polars

IN_CAPTURE, IN_EVENTS = "capture", "events"
DIRECTIONS = 10  # that are told one by one


@dataclass(frozen=True)
class Moment:
    """A packet by its frame, and when it arrived, in ns since the first packet of the file, if that is known."""

    frame: int
    since_start_ns: int | None


@dataclass(frozen=True)
class Gap:
    """The longest time between two packets of the flow that survived, without comment or not."""

    length_ns: int
    after: Moment
    before: Moment


@dataclass(frozen=True)
class Fate:
    """What became of a flow's packets.

    `again_in` says where repetitions of lost packets were looked for: in the log's events (`--retransmit`), in the
    capture's own frames, or nowhere ("").  `came_again` lost packets were sent again, `taken_again` of them survived in
    the end.  `thrown_away` counts what happened later to accepted ones, by reason.
    """

    packets: int
    bytes: int
    by_verdict: dict[str, int]
    by_reason: dict[str, int]
    directions: tuple[Group, ...]
    more_directions: int
    first: Moment | None
    last: Moment | None
    first_drop: Moment | None
    last_drop: Moment | None
    longest_gap: Gap | None
    again_in: str
    came_again: int
    taken_again: int
    thrown_away: dict[str, int]


def fate_of(verdicts: Verdicts, wanted: Wanted, totals: Totals, engine: str) -> Fate:
    """What became of the packets that are wanted, those of a flow; `engine` reads a capture once more."""
    import polars

    rows = selected(verdicts, wanted, totals).filter(~is_event())
    directions = groups_of(rows, "flow", DIRECTIONS)
    by_verdict, by_reason = groups_of(rows, "verdict", None), groups_of(rows, "reason", None)
    dropped = rows.filter(polars.col("verdict") == DROPPED_NAME)
    again_in, came_again, taken_again = _again(verdicts, dropped, engine)
    first, last = _ends(rows, totals.start_ns)
    first_drop, last_drop = _ends(dropped, totals.start_ns)
    return Fate(
        sum(group.packets for group in by_verdict.shown),
        sum(group.bytes for group in by_verdict.shown),
        {group.key or "": group.packets for group in by_verdict.shown},
        {group.key or "": group.dropped for group in by_reason.shown if group.dropped},
        directions.shown,
        directions.more,
        first,
        last,
        first_drop,
        last_drop,
        _longest_gap(rows, totals.start_ns),
        again_in,
        came_again,
        taken_again,
        _thrown_away(verdicts.table, rows),
    )


def _ends(rows: "polars.LazyFrame", start_ns: int) -> tuple[Moment | None, Moment | None]:
    """The first and the last of these packets."""
    import polars

    frame, time = polars.col("frame"), polars.col("time_ns")
    ends = rows.select(
        frame.first().alias("first"), time.first().alias("from"), frame.last().alias("last"), time.last().alias("to")
    )
    found = ends.collect(engine="streaming").row(0)
    if found[0] is None:
        return None, None
    return Moment(found[0], since(found[1], start_ns)), Moment(found[2], since(found[3], start_ns))


def _longest_gap(rows: "polars.LazyFrame", start_ns: int) -> Gap | None:
    import polars

    pairs = (
        rows.filter(survived())
        .select("frame", "time_ns")
        .with_columns(
            (polars.col("time_ns") - polars.col("time_ns").shift()).alias("gap"),
            polars.col("frame").shift().alias("after"),
        )
        .filter(polars.col("gap") > 0)
    )
    longest: Any = pairs.sort("gap", "frame", descending=[True, False]).head(1).collect(engine="streaming")
    if not longest.height:
        return None
    row = longest.to_dicts()[0]
    begun = row["time_ns"] - row["gap"] - start_ns
    return Gap(row["gap"], Moment(row["after"], begun), Moment(row["frame"], row["time_ns"] - start_ns))


def _again(verdicts: Verdicts, dropped: "polars.LazyFrame", engine: str) -> tuple[str, int, int]:
    """Where repetitions were looked for, how many lost packets came again, and how many of those survived."""
    import polars

    if verdicts.is_capture:
        if not Path(verdicts.name).is_file():  # standard input: its frames have passed
            return "", 0, 0
        frames = set(dropped.select("frame").collect(engine="streaming").to_series())
        return IN_CAPTURE, *sent_again(verdicts.name, frames, engine)
    events = _events(verdicts.table).join(dropped.select("frame"), on="frame", how="semi")
    by_frame = events.group_by("frame").agg((polars.col("reason") == "").any().alias("taken"))
    counts = by_frame.select(polars.len(), polars.col("taken").sum()).collect(engine="streaming").row(0)
    return IN_EVENTS, int(counts[0]), int(counts[1] or 0)


def _thrown_away(table: "polars.LazyFrame", rows: "polars.LazyFrame") -> dict[str, int]:
    """Accepted packets that were thrown away later, by reason, most first."""
    import polars

    taken = rows.filter(polars.col("verdict") == DELIVERED_NAME).select("frame")
    events = _events(table).filter(polars.col("reason") != "").join(taken, on="frame", how="semi")
    counted = events.group_by("reason").agg(polars.len()).sort("len", "reason", descending=[True, False])
    return {str(reason): count for reason, count in counted.collect(engine="streaming").iter_rows()}


def _events(table: "polars.LazyFrame") -> "polars.LazyFrame":
    import polars

    events = table.filter(is_event())
    return events.select("frame", polars.col("reason").cast(polars.String))

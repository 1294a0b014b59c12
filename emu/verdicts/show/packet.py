"""One packet in words: what it needed, what there was, which rule decided, what would have saved it, and what came."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from emu.errors import UsageError
from emu.kernel.drop_reason import CAUSES, REASONS
from emu.verdicts.explain import explain_row
from emu.verdicts.fates import (
    DELIVERED_NAME,
    DROPPED_NAME,
    HOW_TO_KNOW,
    LOST_UNTOLD,
    NO_COMMENT,
    UNDECIDED,
    is_event,
    survived,
    verdict_of,
)
from emu.verdicts.read import Verdicts
from emu.verdicts.show.display_filters import filters_of
from emu.verdicts.show.select import Totals, since

if TYPE_CHECKING:
    import polars

MOST_EVENTS = 20  # of one packet that are told


@dataclass(frozen=True)
class Event:
    """Something that happened later to the packet; a lost one came again: lost once more, or (no reason) taken."""

    since_arrival_ns: int
    reason: str
    point: str
    sentence: str


@dataclass(frozen=True)
class Other:
    """Another packet: its frame, flow and verdict."""

    frame: int
    flow: str
    verdict: str
    reason: str
    since_start_ns: int | None


@dataclass(frozen=True)
class Afterwards:
    """What came of the packet's flow, in its direction, after it; `next` is the first of it.

    `without_comment` survived too, as far as an annotated capture tells; `next_survivor` may be one of them.
    """

    packets: int
    delivered: int
    dropped: int
    without_comment: int
    next: Other | None
    next_survivor: Other | None


@dataclass(frozen=True)
class Story:
    """One packet: its row, and everything that can be said of it; texts are empty where there is nothing to say."""

    row: dict[str, Any]
    since_start_ns: int | None
    known: bool
    verdict: str
    meaning: tuple[str, ...]
    needed: str
    had: str
    saved: str
    culprit: Other | None
    culprit_missing: int
    events: tuple[Event, ...]
    more_events: int
    afterwards: Afterwards | None
    filters: tuple[tuple[str, str], ...]


def story_of(verdicts: Verdicts, frame: int, totals: Totals) -> Story:
    """Tell of one packet.  Errors: UsageError when the file has no such frame, which says which it has."""
    rows = _of_frames(verdicts.table, [frame])
    if frame not in rows:
        raise UsageError(_missing(verdicts, frame, totals))
    row = rows[frame]
    known = row["point"] is not None
    lost = explain_row(row) if row["verdict"] == DROPPED_NAME else None
    culprit = row["culprit_frame"] or 0
    found = _of_frames(verdicts.table, [culprit]) if culprit else {}
    events, more = _events(verdicts.table, frame, row["time_ns"])
    return Story(
        row,
        since(row["time_ns"], totals.start_ns),
        known,
        _verdict(row),
        _meaning(row),
        lost.needed if lost else "",
        lost.had if lost else "",
        lost.saved if lost else "",
        _other(found.get(culprit), totals),
        culprit if culprit and culprit not in found else 0,
        events,
        more,
        _afterwards(verdicts.table, row, totals),
        filters_of(row),
    )


def _of_frames(table: "polars.LazyFrame", frames: list[int]) -> dict[int, dict[str, Any]]:
    import polars

    wanted = table.filter(polars.col("frame").is_in(frames) & ~is_event())
    return {row["frame"]: row for row in wanted.collect(engine="streaming").to_dicts()}


def _missing(verdicts: Verdicts, frame: int, totals: Totals) -> str:
    where = f"{verdicts.name}: no frame {frame}"
    if verdicts.is_capture:
        return f"{where}; its last is {totals.last_frame}"
    if verdicts.drops_only:
        return f"{where} in this log of drops (--log-rows drops): it survived, or the host did not receive it"
    if frame > totals.last_frame:
        return f"{where}; its last is {totals.last_frame}"
    return f"{where}: a log has what the host received; this frame was sent by it, filtered out, or not played"


def _verdict(row: Mapping[str, Any]) -> str:
    """The verdict, where it fell, by which rule, and how long after the arrival."""
    if row["verdict"] is None and row["reason"] is None:
        return f"{LOST_UNTOLD}: it stands on an interface of lost frames, and the comments that said why are gone"
    if row["verdict"] is None:
        return f"{NO_COMMENT}: what this capture lost has one, so it survived; how is not known: {HOW_TO_KNOW}"
    if row["verdict"] == UNDECIDED:
        return "no verdict: it stands on an interface that has none; it comes from another capture"
    words = str(row["verdict"]).replace("_", " ")
    if row["reason"]:
        words += f": {row['reason']}"
        if row["cause"]:
            words += f", cause {row['cause']}"
    if row["point"]:
        words += f", in {row['point']}"
    if row["policy_rule"]:
        words += f", by the rule '{row['policy_rule']}'"
    if row["point"] and row["decided_ns"] is not None and row["time_ns"] is not None:
        words += f", {max(row['decided_ns'] - row['time_ns'], 0)} ns after it arrived"
    return words


def _meaning(row: Mapping[str, Any]) -> tuple[str, ...]:
    reason = [reason.sentence for reason in REASONS if row["reason"] and reason.name == row["reason"]]
    cause = [f"{cause.name}: {cause.sentence}." for cause in CAUSES if row["cause"] and cause.name == row["cause"]]
    return (*reason, *cause)


def _other(row: Mapping[str, Any] | None, totals: Totals) -> Other | None:
    if row is None:
        return None
    arrived = since(row["time_ns"], totals.start_ns)
    return Other(row["frame"], row["flow"] or "", verdict_of(row), row["reason"] or "", arrived)


def _events(table: "polars.LazyFrame", frame: int, arrival_ns: int | None) -> tuple[tuple[Event, ...], int]:
    """What happened later to the packet, in order, and how many more events there are."""
    import polars

    rows = table.filter((polars.col("frame") == frame) & is_event())
    found = rows.sort("time_ns", maintain_order=True).collect(engine="streaming").to_dicts()
    sentences = {reason.name: reason.sentence for reason in REASONS if reason.name}
    events = [
        Event(
            since(row["time_ns"], arrival_ns or 0) or 0, row["reason"], row["point"], sentences.get(row["reason"], "")
        )
        for row in found
    ]
    return tuple(events[:MOST_EVENTS]), max(len(events) - MOST_EVENTS, 0)


def _afterwards(table: "polars.LazyFrame", row: Mapping[str, Any], totals: Totals) -> Afterwards | None:
    """What came after the packet in its flow; None where it has none."""
    import polars

    if not row["flow"]:
        return None
    column = polars.col
    behind = table.filter((column("flow") == row["flow"]) & (column("frame") > row["frame"]) & ~is_event())
    delivered = column("verdict") == DELIVERED_NAME
    counts = behind.select(
        polars.len().alias("packets"),
        delivered.sum().alias("delivered"),
        (column("verdict") == DROPPED_NAME).sum().alias("dropped"),
        (survived() & ~delivered.fill_null(value=False)).sum().alias("without comment"),
        column("frame").min().alias("next"),
        column("frame").filter(survived()).min().alias("next survivor"),
    )
    counted = counts.collect(engine="streaming").to_dicts()[0]
    first, survivor = counted["next"], counted["next survivor"]
    found = _of_frames(table, [first, survivor or first]) if first else {}
    return Afterwards(
        counted["packets"],
        counted["delivered"] or 0,
        counted["dropped"] or 0,
        counted["without comment"] or 0,
        _other(found.get(first), totals),
        _other(found.get(survivor), totals),
    )

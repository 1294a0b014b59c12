"""What a replay came to, in counts: all packets, block I/O's, by class and by reason; made from the rows of its log.

polars counts in a stream, so memory does not grow with the log.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from emu.kernel.drop_reason import IN_FLIGHT, OOPS, VERDICTS
from emu.verdicts.chunks import RECEIVED
from emu.verdicts.fates import (
    DELIVERED_NAME,
    DROPPED_NAME,
    EVENT,
    LOST_UNTOLD,
    NO_COMMENT,
    is_event,
    is_lost_untold,
    verdict_of,
)

if TYPE_CHECKING:
    import polars

RECEIVED_NAMES = tuple(VERDICTS[verdict] for verdict in RECEIVED)
LOST_NAMES = (DROPPED_NAME, VERDICTS[OOPS])
# Why a packet was lost that has no reason: in an oops, or the file does not say.
OOPS_REASON, NOT_SAID = "oops", "not said"
COUNTED = ("verdict", "reason", "cause", "class", "memalloc")


def is_lost() -> "polars.Expr":
    """Whether a packet was lost at once; of an event's row false, never null."""
    import polars

    return polars.col("verdict").is_in(LOST_NAMES).fill_null(value=False) | is_lost_untold()


def is_listed() -> "polars.Expr":
    """Whether the list of drops has the row: a lost packet, or an event that threw an accepted one away."""
    import polars

    return is_lost() | (is_event() & (polars.col("reason") != "").fill_null(value=False))


def reason_expression() -> "polars.Expr":
    """Why a listed packet was lost, as the page calls it."""
    import polars

    reason = polars.col("reason").cast(polars.String).replace({"": OOPS_REASON})
    return reason.fill_null(NOT_SAID)


def reason_of(row: Mapping[str, Any]) -> str:
    """The same of one row."""
    return NOT_SAID if row["reason"] is None else str(row["reason"] or OOPS_REASON)


class Fates(NamedTuple):
    """Packets by what became of them.

    `unsaid`: not lost, and the file says no more; in an annotated capture, survivors and frames that the host never
    received.  `untold`: lost, and the file does not say how.
    """

    received: int = 0
    delivered: int = 0
    dropped: int = 0
    oops: int = 0
    in_flight: int = 0
    unsaid: int = 0
    untold: int = 0

    @property
    def seen(self) -> int:
        """Received, as far as the file says."""
        return self.received + self.unsaid + self.untold

    @property
    def lost(self) -> int:
        """Dropped, in the machine when it died, or lost to what nobody knows."""
        return self.dropped + self.oops + self.untold


class ReasonCount(NamedTuple):
    """One reason with one cause: packets dropped at once, block I/O's among them, and events of accepted ones."""

    reason: str
    cause: str
    dropped: int
    memalloc: int
    events: int


class Figures(NamedTuple):
    """All counts of a replay; `frames` are all that the file has a row for."""

    frames: int
    all: Fates
    memalloc: Fates
    classes: tuple[tuple[str, Fates], ...]  # the most frequent first; "" where the file does not say
    reasons: tuple[ReasonCount, ...]  # the most frequent first
    events: int  # that threw an accepted packet away

    @property
    def to_list(self) -> int:
        """How many rows the list of drops could have."""
        return self.all.lost + self.events


def figures_of(table: "polars.LazyFrame") -> Figures:
    """Count the rows of a log."""
    import polars

    counts = table.group_by(*COUNTED, listed=is_listed()).agg(polars.len().alias("rows")).collect(engine="streaming")
    rows = counts.rows(named=True)
    packets = [row for row in rows if row["verdict"] != EVENT]
    listed = [row for row in rows if row["listed"]]
    by_class: dict[str, list[dict[str, Any]]] = {}
    for row in packets:
        by_class.setdefault(row["class"] or "", []).append(row)
    classes = [(name, _fates(members)) for name, members in by_class.items()]
    return Figures(
        frames=sum(row["rows"] for row in packets),
        all=_fates(packets),
        memalloc=_fates(row for row in packets if row["memalloc"]),
        classes=tuple(sorted(classes, key=lambda item: (-item[1].seen, item[0]))),
        reasons=_reasons(listed),
        events=sum(row["rows"] for row in listed if row["verdict"] == EVENT),
    )


def _fates(rows: Iterable[dict[str, Any]]) -> Fates:
    counts: dict[str, int] = {}
    for row in rows:
        counts[verdict_of(row)] = counts.get(verdict_of(row), 0) + row["rows"]
    return Fates(
        received=sum(counts.get(name, 0) for name in RECEIVED_NAMES),
        delivered=counts.get(DELIVERED_NAME, 0),
        dropped=counts.get(DROPPED_NAME, 0),
        oops=counts.get(VERDICTS[OOPS], 0),
        in_flight=counts.get(VERDICTS[IN_FLIGHT], 0),
        unsaid=counts.get(NO_COMMENT, 0),
        untold=counts.get(LOST_UNTOLD, 0),
    )


def _reasons(rows: Iterable[dict[str, Any]]) -> tuple[ReasonCount, ...]:
    counts: dict[tuple[str, str], list[int]] = {}
    for row in rows:
        count = counts.setdefault((reason_of(row), row["cause"] or ""), [0, 0, 0])
        later = row["verdict"] == EVENT
        count[2 if later else 0] += row["rows"]
        count[1] += 0 if later or not row["memalloc"] else row["rows"]
    found = [ReasonCount(*key, *count) for key, count in counts.items()]
    return tuple(sorted(found, key=lambda one: (-one.dropped, -one.events, one.reason, one.cause)))

"""What a replay came to, in counts: all packets, block I/O's, by class and by reason; made from the rows of its log.

polars counts in a stream, so memory does not grow with the log.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from emu.kernel.drop_reason import DELIVERED, DROPPED, IN_FLIGHT, LATER, OOPS, VERDICTS
from emu.verdicts.chunks import RECEIVED

if TYPE_CHECKING:
    import polars

EVENT = VERDICTS[LATER]
RECEIVED_NAMES = tuple(VERDICTS[verdict] for verdict in RECEIVED)
# What the list of drops shows: packets that were lost at once, and accepted ones that an event threw away.
LOST_NAMES = (VERDICTS[DROPPED], VERDICTS[OOPS], EVENT)
COUNTED = ("verdict", "reason", "cause", "class", "memalloc")


class Fates(NamedTuple):
    """Packets by what became of them.

    `unsaid`: the file does not say; in an annotated capture, survivors and frames that the host never received.
    """

    received: int = 0
    delivered: int = 0
    dropped: int = 0
    oops: int = 0
    in_flight: int = 0
    unsaid: int = 0

    @property
    def seen(self) -> int:
        """Received, as far as the file says."""
        return self.received + self.unsaid

    @property
    def lost(self) -> int:
        """Dropped, or in the machine when it died."""
        return self.dropped + self.oops


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
    events: int

    @property
    def to_list(self) -> int:
        """How many rows the list of drops could have."""
        return self.all.lost + self.events


def figures_of(table: "polars.LazyFrame") -> Figures:
    """Count the rows of a log."""
    import polars

    counts = table.group_by(COUNTED).agg(polars.len().alias("rows")).collect(engine="streaming")
    rows = counts.rows(named=True)
    packets = [row for row in rows if row["verdict"] != EVENT]
    by_class: dict[str, list[dict[str, Any]]] = {}
    for row in packets:
        by_class.setdefault(row["class"] or "", []).append(row)
    classes = [(name, _fates(members)) for name, members in by_class.items()]
    return Figures(
        frames=sum(row["rows"] for row in packets),
        all=_fates(packets),
        memalloc=_fates(row for row in packets if row["memalloc"]),
        classes=tuple(sorted(classes, key=lambda item: (-item[1].seen, item[0]))),
        reasons=_reasons(rows),
        events=sum(row["rows"] for row in rows if row["verdict"] == EVENT),
    )


def _fates(rows: Iterable[dict[str, Any]]) -> Fates:
    counts: dict[str | None, int] = {}
    for row in rows:
        counts[row["verdict"]] = counts.get(row["verdict"], 0) + row["rows"]
    return Fates(
        received=sum(counts.get(name, 0) for name in RECEIVED_NAMES),
        delivered=counts.get(VERDICTS[DELIVERED], 0),
        dropped=counts.get(VERDICTS[DROPPED], 0),
        oops=counts.get(VERDICTS[OOPS], 0),
        in_flight=counts.get(VERDICTS[IN_FLIGHT], 0),
        unsaid=counts.get(None, 0),
    )


def _reasons(rows: Iterable[dict[str, Any]]) -> tuple[ReasonCount, ...]:
    counts: dict[tuple[str, str], list[int]] = {}
    for row in rows:
        if row["verdict"] in LOST_NAMES:
            count = counts.setdefault((row["reason"] or "", row["cause"] or ""), [0, 0, 0])
            is_event = row["verdict"] == EVENT
            count[2 if is_event else 0] += row["rows"]
            count[1] += 0 if is_event or not row["memalloc"] else row["rows"]
    found = [ReasonCount(*key, *count) for key, count in counts.items()]
    return tuple(sorted(found, key=lambda one: (-one.dropped, -one.events, one.reason, one.cause)))

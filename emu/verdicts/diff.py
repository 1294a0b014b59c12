"""What differs between two runs over the same frames: fates, where they first part, and the machine before that.

A fate is a verdict and, of a drop, its reason.  Some files do not tell a survivor's, or leave packets out; what is
then known of the fate has a name of its own, which agrees with every fate that it may stand for.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from emu.errors import UsageError
from emu.kernel.drop_reason import (
    DELIVERED,
    DROPPED,
    FILTERED,
    IN_FLIGHT,
    NOT_PLAYED,
    NOT_RECEIVED,
    PENDING,
    VERDICTS,
)
from emu.verdicts.explain import Explained, explain_row
from emu.verdicts.fates import DROPPED_NAME, LOST_NAMES, is_event, is_lost_untold
from emu.verdicts.flows import flow_expression
from emu.verdicts.read import Verdicts
from emu.verdicts.read_log import readable
from emu.verdicts.schema import NAMES
from emu.verdicts.side_by_side import BY, HERE, KEY, OF_B, WANTED, Pairs, pairs, row_of
from emu.wire.headers import KIND_IP_FRAGMENT, KINDS

if TYPE_CHECKING:
    import polars

# What is known of a packet's fate where no row says it.
SURVIVED = "survived"  # a frame of an annotated capture without a comment
LOST = "lost"  # the same on an interface of lost frames: to what is gone
NOT_DROPPED = "not dropped"  # a frame that a log of drops does not have
ABSENT = "not in the log"  # the NIC did not take it, or it was not played
LEFT_OUT = "not in the capture"  # which has every frame: it is a part, or of other frames
CAME_AGAIN = "came again, not dropped"  # an event without a reason
OUTSIDE = tuple(VERDICTS[verdict] for verdict in (NOT_RECEIVED, NOT_PLAYED, FILTERED, PENDING))  # not in any log
SURVIVORS = tuple(VERDICTS[verdict] for verdict in (DELIVERED, IN_FLIGHT, NOT_RECEIVED, FILTERED))
MAY_BE = {
    SURVIVED: (*SURVIVORS, SURVIVED, NOT_DROPPED, ABSENT),
    NOT_DROPPED: (*(name for number, name in enumerate(VERDICTS) if number != DROPPED), SURVIVED, NOT_DROPPED, ABSENT),
    ABSENT: (*OUTSIDE, SURVIVED, NOT_DROPPED, ABSENT),
    LOST: (*LOST_NAMES, LOST, NOT_DROPPED, ABSENT),  # of drops it is the verdict that says so
}
# How two fates agree: they do as far as both are known, they do not, or one file has no such packet to tell of.
SAME, CHANGED, ONE_ONLY = "same", "changed", "in one only"

# What both files must say of one packet, whatever became of it.
IDENTITY = ("length", "packet_id", "flow")
WAITED = "decided_ns - time_ns"
# The machine's numbers beside a verdict, in the order in which they are compared.
MACHINE = (
    "cap_skbs",
    "floor_pages",
    "free_pages",
    "reserve_used_before",
    "reserve_used_after",
    "from_reserve",
    "pfmemalloc",
    "ring_free",
    "backlog_len",
    WAITED,
)
assert set(MACHINE) - {WAITED} <= set(NAMES)


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The packets that are compared: of these classes and flows, of block I/O or not; either file may say it."""

    classes: tuple[str, ...] = ()
    flows: tuple[str, ...] = ()
    memalloc: bool | None = None

    def expression(self) -> "polars.Expr":
        """What is true of a file's packets that are wanted, and false where it does not say."""
        import polars

        wanted = [polars.lit(value=True)]
        if self.classes:
            wanted.append(polars.col("class").cast(polars.String).is_in(list(self.classes)))
        if self.flows:
            wanted.append(polars.any_horizontal(*map(flow_expression, self.flows)))
        if self.memalloc is not None:
            wanted.append(polars.col("memalloc") == int(self.memalloc))
        return polars.all_horizontal(*wanted).fill_null(value=False)


class Fates(NamedTuple):
    """How many packets have these fates in the two files, and how many of them are of block I/O's sockets."""

    a: str
    b: str
    agree: str  # SAME, CHANGED or ONE_ONLY
    packets: int
    memalloc: int


class Parting(NamedTuple):
    """A number of the machine, and the first packet beside which it differs."""

    column: str
    frame: int
    a: int
    b: int


class Divergence(NamedTuple):
    """The first packet with another fate: its key, both rows (None: not in that file) and what they say."""

    key: int
    fates: tuple[str, str]
    rows: tuple[dict[str, Any] | None, dict[str, Any] | None]
    explained: tuple[Explained, Explained]


@dataclass
class Difference:
    """What two files of verdicts do not have in common.

    `not_compared` are packets behind the end of a file that ends early; `events` count by reason, of each file, None
    where it has none to tell; `changes` are the first changed packets, `parted` the machine's numbers in the order in
    which they came to differ, up to the first changed fate.
    """

    by: str
    fates: list[Fates] = field(default_factory=list)
    not_compared: int = 0
    not_selected: int = 0
    first: Divergence | None = None
    parted: list[Parting] = field(default_factory=list)
    changes: list[dict[str, Any]] = field(default_factory=list)
    events: tuple[dict[str, int] | None, dict[str, int] | None] = (None, None)

    def packets(self, agree: str) -> int:
        """How many packets have fates that agree so."""
        return sum(fates.packets for fates in self.fates if fates.agree == agree)

    @property
    def changed(self) -> int:
        """Packets with another fate."""
        return self.packets(CHANGED)


def agreement(a: str, b: str) -> str:
    """How two fates agree: SAME, CHANGED or ONE_ONLY."""
    if LEFT_OUT in (a, b):
        return ONE_ONLY
    return SAME if a == b or _may_be(a, b) or _may_be(b, a) else CHANGED


def _may_be(known: str, fate: str) -> bool:
    """Whether what is known of one fate may stand for the other."""
    return known in MAY_BE and (fate in MAY_BE[known] or (known == LOST and fate.startswith(f"{DROPPED_NAME} ")))


def compare(a: Verdicts, b: Verdicts, by: str, selection: Selection, limit: int | None) -> Difference:
    """Compare two files packet by packet; `limit` is how many changed packets are kept, None: all of them.

    Errors: UsageError when they do not speak of the same frames, CaptureError when one is damaged.
    """
    assert by in BY, by
    work = _Comparison(a, b, by, limit)
    for some in pairs(a, b, by, selection.expression()):
        work.take(some)
    found = work.finish()
    found.events = _events_of(a), _events_of(b)
    return found


class _Comparison:
    """A comparison in progress."""

    def __init__(self, a: Verdicts, b: Verdicts, by: str, limit: int | None) -> None:
        self._files = a, b
        self._limit = limit
        self._found = Difference(by)
        self._counts: dict[tuple[str, str], tuple[int, int]] = {}
        self._kept: list[polars.DataFrame] = []
        self._missing = list(MACHINE)  # the numbers that have not differed yet

    def take(self, some: Pairs) -> None:
        """Compare some packets."""
        import polars

        for verdicts, beyond in zip(self._files, some.beyond, strict=True):
            if beyond and verdicts.incomplete:
                self._found.not_compared += some.rows.height
                return
        check_same_frames(some.rows, self._files, self._found.by)
        rows = some.rows.with_columns(
            fate_expression(self._files[0], "").alias("fate"),
            fate_expression(self._files[1], OF_B).alias("fate" + OF_B),
        )
        wanted = rows.filter(polars.any_horizontal(polars.col(WANTED, WANTED + OF_B).fill_null(value=False)))
        self._found.not_selected += rows.height - wanted.height
        if not wanted.height:
            return
        changed = wanted.filter(self._count(wanted))
        if self._found.first is None:
            self._part(wanted, int(changed[KEY][0]) if changed.height else None)
            if changed.height:
                self._found.first = _divergence(changed.row(0, named=True))
        self._keep(changed)

    def _count(self, rows: "polars.DataFrame") -> "polars.Expr":
        """Count fates; the expression that is true of packets whose fate has changed."""
        import polars

        memalloc = polars.max_horizontal("memalloc", f"memalloc{OF_B}").fill_null(0).cast(polars.Int64).sum()
        groups = rows.group_by("fate", "fate" + OF_B).agg(
            polars.len().alias("rows"), memalloc.alias("memalloc of both")
        )
        is_changed = polars.lit(value=False)
        for fate, fate_b, packets, of_block_io in groups.iter_rows():
            before = self._counts.get((fate, fate_b), (0, 0))
            self._counts[fate, fate_b] = before[0] + packets, before[1] + of_block_io
            if agreement(fate, fate_b) == CHANGED:
                is_changed |= (polars.col("fate") == fate) & (polars.col("fate" + OF_B) == fate_b)
        return is_changed

    def _part(self, rows: "polars.DataFrame", until: int | None) -> None:
        """Find where numbers of the machine differ for the first time, up to the packet `until`."""
        import polars

        rows = rows if until is None else rows.filter(polars.col(KEY) <= until)
        parted = []
        for column in self._missing:
            a, b = machine_expression(column, ""), machine_expression(column, OF_B)
            other = rows.filter((a != b).fill_null(value=False)).head(1).select("frame", a.alias("a"), b.alias("b"))
            if other.height:
                parted.append(Parting(column, *other.row(0)))
        self._missing = [column for column in self._missing if column not in {part.column for part in parted}]
        self._found.parted += sorted(parted, key=lambda part: part.frame)

    def _keep(self, changed: "polars.DataFrame") -> None:
        """Keep the first changed packets for the list."""
        kept = sum(frame.height for frame in self._kept)
        more = changed if self._limit is None else changed.head(max(self._limit - kept, 0))
        if more.height:
            self._kept.append(more.select(_list_columns()))

    def finish(self) -> Difference:
        """What was found."""
        fates = [Fates(*pair, agreement(*pair), *counts) for pair, counts in self._counts.items()]
        order = (CHANGED, ONE_ONLY, SAME)
        self._found.fates = sorted(fates, key=lambda some: (order.index(some.agree), -some.packets, some.a, some.b))
        self._found.changes = [row for frame in self._kept for row in frame.iter_rows(named=True)]
        return self._found


def fate_expression(verdicts: Verdicts, suffix: str) -> "polars.Expr":
    """What became of a packet, in words, by one file's columns."""
    import polars

    verdict, reason = (polars.col(f"{name}{suffix}").cast(polars.String) for name in ("verdict", "reason"))
    said = (
        polars.when(reason.fill_null("") == "")
        .then(verdict)
        .otherwise(polars.concat_str(verdict, reason, separator=" "))
    )
    untold = polars.when(is_lost_untold(suffix)).then(polars.lit(LOST)).otherwise(polars.lit(SURVIVED))
    here = polars.when(verdict.is_null()).then(untold).otherwise(said)
    missing = LEFT_OUT if verdicts.is_capture else NOT_DROPPED if verdicts.drops_only else ABSENT
    return polars.when(polars.col(f"{HERE}{suffix}").is_null()).then(polars.lit(missing)).otherwise(here)


def machine_expression(column: str, suffix: str) -> "polars.Expr":
    """A number of MACHINE, by one file's columns; null where the file does not say it."""
    import polars

    if column == WAITED:
        return polars.col(f"decided_ns{suffix}") - polars.col(f"time_ns{suffix}")
    return polars.col(f"{column}{suffix}")


def check_same_frames(rows: "polars.DataFrame", files: tuple[Verdicts, Verdicts], by: str) -> None:
    """Errors: UsageError naming the first frame of which the files say what cannot be true of one packet."""
    import polars

    fragment = KINDS[KIND_IP_FRAGMENT]
    whole = polars.all_horizontal(polars.col(f"class{suffix}").cast(polars.String) != fragment for suffix in ("", OF_B))
    for column in IDENTITY:
        differs = polars.col(column) != polars.col(f"{column}{OF_B}")
        if column == "flow":  # the fragment that completes a datagram stands for it, if it gets that far
            differs &= whole
        wrong = rows.filter(differs).head(1)
        if wrong.height:
            row = wrong.row(0, named=True)
            other = next(name for name in BY if name != by)
            raise UsageError(
                f"{files[0].name} and {files[1].name} part at frame {row['frame']}: {column} {row[column]} and "
                f"{row[column + OF_B]}; expected verdicts of the same frames (parts of a capture: --by {other})"
            )


def _list_columns() -> list[str]:
    names = ("frame", "packet_id", "time_ns", "length", "class", "flow", "memalloc", "fate")
    return [f"{name}{suffix}" for name in names for suffix in ("", OF_B)]


def _divergence(pair: dict[str, Any]) -> Divergence:
    fates = pair.pop("fate"), pair.pop("fate" + OF_B)
    rows = row_of(pair, 0), row_of(pair, 1)
    explained = [
        explain_row(row) if row is not None else Explained("", fate, "", "")
        for row, fate in zip(rows, fates, strict=True)
    ]
    return Divergence(int(pair[KEY]), fates, rows, (explained[0], explained[1]))


def _events_of(verdicts: Verdicts) -> dict[str, int] | None:
    """A log's events by reason, most first; of a capture nobody knows."""
    import polars

    if verdicts.is_capture:
        return None
    with readable(verdicts.name):
        events = verdicts.table.filter(is_event())
        counted = events.group_by("reason").agg(polars.len().alias("events")).collect(engine="streaming")
    named = {reason or CAME_AGAIN: number for reason, number in counted.iter_rows()}
    return dict(sorted(named.items(), key=lambda item: (-item[1], item[0])))


def differing(rows: Iterable[dict[str, Any] | None]) -> list[str]:
    """The columns that both rows of a packet tell, and differently, in the schema's order; none if a row is missing."""
    both = [row for row in rows if row is not None]
    told = [name for name in NAMES if all(row[name] is not None for row in both)]
    return [name for name in told if len({row[name] for row in both}) > 1]


def told_by_either(pair: dict[str, Any]) -> dict[str, Any]:
    """Of a changed packet each column as the first file tells it, or else the second."""
    names = [name for name in pair if not name.endswith(OF_B)]
    return {name: pair[name] if pair[name] is not None else pair[f"{name}{OF_B}"] for name in names}

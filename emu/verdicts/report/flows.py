"""Packets by flow: the flows that lost most, those that brought most, and all others as one count.

A flood may come from millions of addresses.  Its flows are counted in shares, told apart by a hash, and of each share
only the greatest are kept: memory stays bounded, at the cost of one pass over the log's columns for each share.
"""

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from emu.verdicts.fates import DELIVERED_NAME, is_event
from emu.verdicts.report.figures import RECEIVED_NAMES, is_lost, reason_expression

if TYPE_CHECKING:
    import polars

TOP = 100  # flows that the table shows, of those that brought most
LOSERS = 10
FLOWS_AT_ONCE = 250_000  # that are counted in one pass: some 100 MB
SEED = 6  # of the hash; any


class FlowCount(NamedTuple):
    """One flow; `reason` is the most frequent of its drops, `first_frame` the first frame that it lost, else 0."""

    flow: str | None  # None: the file does not say
    memalloc: bool
    seen: int  # packets received, or not said to be otherwise
    delivered: int
    lost: int
    first_frame: int
    reason: str


class FlowCounts(NamedTuple):
    """The flows of a replay."""

    losers: tuple[FlowCount, ...]
    top: tuple[FlowCount, ...]
    number: int  # of all flows
    others_seen: int  # by flows that are not in `top`
    others_lost: int


def flows_of(table: "polars.LazyFrame", at_once: int = FLOWS_AT_ONCE) -> FlowCounts:
    """Count the packets of each flow; `at_once` is how many flows one pass may count."""
    import polars

    packets = table.filter(~is_event()).select(
        "flow",
        "frame",
        polars.col("memalloc").fill_null(0),
        polars.col("verdict").is_in(RECEIVED_NAMES).fill_null(value=True).alias("seen"),
        (polars.col("verdict") == DELIVERED_NAME).fill_null(value=False).alias("delivered"),
        is_lost().alias("lost"),
    )
    about = packets.select(polars.col("flow").approx_n_unique()).collect(engine="streaming").item()
    shares = max(math.ceil(about / at_once), 1)
    found = [_share(packets, number, shares) for number in range(shares)]
    number, seen, lost = (sum(share[1][at] for share in found) for at in range(3))
    greatest = polars.concat([share[0] for share in found])
    top = _first(greatest.unique(), "seen", TOP)
    losers = _first(greatest.unique().filter(polars.col("lost") > 0), "lost", LOSERS)
    reasons = _main_reasons(table, {row["flow"] for row in (*top, *losers)})
    return FlowCounts(
        losers=tuple(_counted(row, reasons) for row in losers),
        top=tuple(_counted(row, reasons) for row in top),
        number=number,
        others_seen=seen - sum(row["seen"] for row in top),
        others_lost=lost - sum(row["lost"] for row in top),
    )


def _share(packets: "polars.LazyFrame", number: int, shares: int) -> tuple["polars.DataFrame", tuple[int, int, int]]:
    """The greatest flows of a share, and how many flows, packets and losses it has in all."""
    import polars

    if shares > 1:
        packets = packets.filter(polars.col("flow").hash(SEED) % shares == number)
    lost = polars.col("lost")
    flows = (
        packets.group_by("flow")
        .agg(
            polars.col("memalloc").max(),
            polars.col("seen", "delivered", "lost").sum(),
            polars.col("frame").filter(lost).min().fill_null(0).alias("first_frame"),
        )
        .collect(engine="streaming")
    )
    both = [_greatest(flows, by, top) for by, top in (("seen", TOP), ("lost", LOSERS))]
    sums = flows.height, int(flows["seen"].sum()), int(flows["lost"].sum())
    return polars.concat(both), sums


def _greatest(flows: "polars.DataFrame", by: str, top: int) -> "polars.DataFrame":
    return flows.sort(by, "flow", descending=[True, False], nulls_last=True).head(top)


def _first(flows: "polars.DataFrame", by: str, top: int) -> list[dict[str, Any]]:
    return _greatest(flows, by, top).rows(named=True)


def _main_reasons(table: "polars.LazyFrame", flows: set[str | None]) -> dict[str, str]:
    import polars

    named = sorted(flow for flow in flows if flow is not None)
    counts = (
        table.filter(is_lost())
        .filter(polars.col("flow").is_in(named))
        .group_by("flow", reason_expression().alias("reason"))
        .agg(polars.len().alias("rows"))
        .collect(engine="streaming")
        .sort("rows", "reason", descending=[False, True])
    )
    return dict(counts.select("flow", "reason").iter_rows())  # the last one stands


def _counted(row: dict[str, Any], reasons: dict[str, str]) -> FlowCount:
    return FlowCount(
        flow=row["flow"],
        memalloc=bool(row["memalloc"]),
        seen=row["seen"],
        delivered=row["delivered"],
        lost=row["lost"],
        first_frame=row["first_frame"],
        reason=reasons.get(row["flow"], ""),
    )

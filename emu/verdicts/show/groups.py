"""Packets counted by what they have in common: reason, cause, class, flow, device, rule, verdict or socket."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from emu.verdicts.fates import DELIVERED_NAME, DROPPED_NAME, is_event, verdict_expression

if TYPE_CHECKING:
    import polars

# What `--by` takes, and the column that it is.
BY = {
    "reason": "reason",
    "cause": "cause",
    "class": "class",
    "flow": "flow",
    "device": "device",
    "rule": "policy_rule",
    "verdict": "verdict",
    "socket": "socket",
}


@dataclass(frozen=True)
class Group:
    """Packets with one key; None: the file does not say.  `other`: in flight, lost in an oops, not received,
    no comment.

    Drops are told by the number of their frame, 0: none.
    """

    key: str | None
    packets: int
    delivered: int
    dropped: int
    other: int
    bytes: int
    first_drop_frame: int
    last_drop_frame: int


@dataclass(frozen=True)
class Groups:
    """The groups that lost most, most first, and how many more there are."""

    by: str
    shown: tuple[Group, ...]
    more: int


def groups_of(rows: "polars.LazyFrame", by: str, limit: int | None) -> Groups:
    """Group packets; who lost most comes first.  Memory grows with the number of groups, not of packets."""
    import polars

    column = polars.col
    dropped = column("verdict") == DROPPED_NAME
    delivered = column("verdict") == DELIVERED_NAME
    key = verdict_expression() if by == "verdict" else column(BY[by]).cast(polars.String)
    grouped = (
        rows.filter(~is_event())
        .group_by(key.alias("key"))
        .agg(
            packets=polars.len(),
            delivered=delivered.sum(),
            dropped=dropped.sum(),
            other=polars.len() - delivered.sum() - dropped.sum(),
            bytes=column("length").sum(),
            first_drop_frame=column("frame").filter(dropped).min().fill_null(0),
            last_drop_frame=column("frame").filter(dropped).max().fill_null(0),
        )
        .sort("dropped", "packets", "key", descending=[True, True, False], nulls_last=True)
    )
    table: Any = grouped.collect(engine="streaming")
    shown = table if limit is None else table.head(limit)
    return Groups(by, tuple(Group(**row) for row in shown.to_dicts()), table.height - shown.height)

"""Rows of a log made by hand for the tests of reports, and the verdicts that hold them."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import polars

from emu.verdicts.chunks import polars_schema
from emu.verdicts.read import Verdicts
from emu.verdicts.schema import COLUMNS, ENUM, TEXT

BEGAN_NS = 1_700_000_000_000_000_000
MS = 1_000_000


def row(frame: int, **more: Any) -> dict[str, Any]:
    """A delivered datagram, one every millisecond; `more` says what is different."""
    fixed = {column.name: "" if column.type in (ENUM, TEXT) else 0 for column in COLUMNS}
    at_ns = BEGAN_NS + frame * MS
    usual = {
        "frame": frame,
        "packet_id": frame,
        "time_ns": at_ns,
        "decided_ns": at_ns,
        "device": "eth0",
        "length": 106,
        "class": "udp",
        "flow": "udp 10.0.0.1:1 > 10.0.0.2:9",
        "verdict": "delivered",
        "point": "udp_rcv",
        "zone": "Normal",
        "free_pages": 300,
        "floor_pages": 137,
        "ring_free": 64,
    }
    return fixed | usual | more


def dropped(frame: int, reason: str = "PFMEMALLOC", **more: Any) -> dict[str, Any]:
    """A row that was dropped."""
    return row(frame, verdict="dropped", reason=reason) | more


def table_of(rows: Iterable[dict[str, Any]]) -> polars.LazyFrame:
    """The rows as a log reads back."""
    return polars.DataFrame(list(rows), schema=polars_schema(), orient="row").lazy()


def verdicts_of(rows: Iterable[dict[str, Any]], **more: Any) -> Verdicts:
    """The rows as verdicts of a complete log."""
    whole = Verdicts("mixed.pcap", False, table_of(rows), False, "phillips-v5", "", ())
    return replace(whole, **more)

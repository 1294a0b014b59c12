"""Rows of both engines with the same contents, and what a log of them reads back as."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars
from hypothesis import strategies as st

from emu.engine.compiled import dtype_of
from emu.kernel import drop_reason as dr
from emu.kernel.machine import MAX_SOCKETS, Packet
from emu.kernel.policy import RULES
from emu.kernel.record import Rows
from emu.verdicts.log import LogWriter
from emu.verdicts.schema import COLUMNS, FLAG, INT, NAMES, UINT
from emu.wire.headers import KINDS

SUFFIXES = (".parquet", ".arrow", ".csv", ".jsonl")
DEVICES = ("eth0", 'a "device", with a comma')
ENGINES = ("plain", "compiled")

INTEGER = st.integers(-(1 << 63), (1 << 63) - 1)
FLAG_VALUE = st.integers(0, 1)
ADDRESS = st.sampled_from([0, 0x0A420001, 0x0A420002, 0xFFFFFFFF]) | st.integers(0, 0xFFFFFFFF)
HALF = st.sampled_from([0, 1, -1, 0xFFFF_0A42_0001, 0x20010DB8 << 32]) | INTEGER
PORT = st.sampled_from([0, 3260, 48122, 65535]) | st.integers(0, 65535)
FINAL = st.sampled_from([number for number in range(len(dr.VERDICTS)) if number != dr.PENDING])
PACKET = st.fixed_dictionaries(
    {
        "frame": INTEGER,
        "packet_id": st.integers(0, (1 << 64) - 1),
        "time_ns": INTEGER,
        "decided_ns": INTEGER,
        "dev": st.integers(-1, len(DEVICES) - 1),
        "skb_dev": st.integers(-1, len(DEVICES) - 1),
        "vlan_outer": st.sampled_from([0, 0x8100_0064, 0x88A8_EFFF]) | st.integers(0, 0xFFFFFFFF),
        "ip_version": st.sampled_from([0, 4, 6]),
        "saddr_hi": HALF,
        "daddr_hi": HALF,
        "length": INTEGER,
        "kind": st.integers(0, len(KINDS) - 1),
        "ethertype": PORT,
        "ip_protocol": st.integers(0, 255),
        "saddr": ADDRESS | HALF,
        "daddr": ADDRESS | HALF,
        "sport": PORT,
        "dport": PORT,
        "sk": st.integers(-1, MAX_SOCKETS - 1),
        "memalloc": FLAG_VALUE,
        "verdict": FINAL,
        "reason": st.integers(0, len(dr.REASONS) - 1),
        "cause": st.integers(0, len(dr.CAUSES) - 1),
        "point": st.integers(0, len(dr.POINTS) - 1),
        "rule": st.integers(0, len(RULES) - 1),
        "from_reserve": FLAG_VALUE,
        "pfmemalloc": FLAG_VALUE,
        "reserve_used_before": INTEGER,
        "reserve_used_after": INTEGER,
        "cap_skbs": INTEGER,
        "free_pages": INTEGER,
        "floor_pages": INTEGER,
        "ring_free": INTEGER,
        "backlog_len": INTEGER,
        "culprit_frame": INTEGER,
    }
)


def rows_of(engine: str, packets: list[dict[str, int]]) -> Any:
    """Rows of an engine with these fields set, all others zero."""
    if engine == "plain":
        plain = Rows(Packet, max(len(packets), 1))
        for at, packet in enumerate(packets):
            for field, value in packet.items():
                setattr(plain[at], field, value)
        return plain
    compiled = np.zeros(max(len(packets), 1), dtype_of(Packet))
    for at, packet in enumerate(packets):
        for field, value in packet.items():
            # As the compiled engine stores what does not fit: in two's complement.
            compiled[at][field] = value - (1 << 64) if value >> 63 > 0 else value
    return compiled


def flood(rows: int, flows: int, first_frame: int = 1) -> Any:
    """Many rows of the compiled engine, all received, from so many flows."""
    generator = np.random.default_rng(first_frame)
    made = np.zeros(rows, dtype_of(Packet))
    made["frame"] = made["packet_id"] = first_frame + np.arange(rows)
    made["time_ns"] = made["frame"] * 3217
    made["kind"] = generator.integers(1, 5, rows)
    made["saddr"] = 0x0A000000 + generator.integers(0, flows, rows)
    made["daddr"] = 0xC0A80001
    made["sport"], made["dport"] = generator.integers(0, 65536, rows) if flows > 1000 else 4711, 3260
    made["sk"] = generator.integers(-1, 50, rows)
    made["verdict"] = generator.integers(dr.DELIVERED, dr.DROPPED + 1, rows)
    made["free_pages"] = generator.integers(100, 300, rows)
    return made


def write_log(
    path: Path,
    engine: str,
    rows: Any,
    last: int,
    batch: int = 4096,
    which: str = "all",
    incomplete: str | None = None,
    policy: str = "",
) -> bytes:
    """Write rows[0:last] in batches; the bytes of the file."""
    log = LogWriter(path, engine_name=engine, devices=DEVICES, rows=which, policy=policy)
    for first in range(0, last, batch):
        log.write(rows, first, min(first + batch, last))
    log.close(incomplete)
    return path.read_bytes()


def read_log(path: Path) -> list[dict[str, Any]]:
    """The rows of a log, read with somebody else's reader."""
    if path.suffix == ".parquet":
        return polars.read_parquet(path).to_dicts()
    if path.suffix == ".arrow":
        return polars.read_ipc(path).to_dicts()
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    with path.open(newline="") as stream:
        reader = csv.DictReader(stream)
        assert tuple(reader.fieldnames or ()) == NAMES
        numbers = {column.name for column in COLUMNS if column.type in (INT, UINT, FLAG)}
        return [{name: int(text) if name in numbers else text for name, text in row.items()} for row in reader]

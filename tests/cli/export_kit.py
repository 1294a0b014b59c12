"""A small run with drops in the NIC and above it: its annotated capture, its logs, and `emu export` on them."""

import json
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import replay_kit as kit
from external_tools import tool

__all__ = ["FRAMES", "Made", "json_lines", "kit", "make", "tshark_rows"]

FRAMES = 500
START_NS = 1_700_000_000 * kit.NS


class Made(NamedTuple):
    """The files of a run, and the rows of its log."""

    capture: Path
    log: Path
    rows: list[dict[str, Any]]

    @property
    def dropped(self) -> list[dict[str, Any]]:
        """The rows of dropped packets."""
        return [row for row in self.rows if row["verdict"] == "dropped"]

    @property
    def freed(self) -> list[dict[str, Any]]:
        """Those of which there was an skb."""
        return [row for row in self.dropped if row["point"] != "nic"]


def make(folder: Path) -> Made:
    """Frames of all kinds, a microsecond apart: more than the ring and the reserve can take."""
    kinds = (kit.udp(5000, 1000), kit.iscsi(100), kit.tcp(40_000, 80, 200), kit.arp(), kit.sent())
    capture = kit.pcap(kit.paced([kinds[at % len(kinds)] for at in range(FRAMES)], gap_ns=1000, start_ns=START_NS))
    kit.played(capture, outputs=kit.outputs_in(folder, ".jsonl", annotate="drops"))
    made = Made(folder / "out.pcapng", folder / "log.jsonl", kit.json_rows(folder / "log.jsonl"))
    assert {"RX_MISSED", "PFMEMALLOC"} <= {row["reason"] for row in made.dropped}
    assert {row["class"] for row in made.dropped} >= {"udp", "tcp"}
    return made


def tshark_rows(capture: Path, *fields: str, options: tuple[str, ...] = ()) -> list[dict[str, str]]:
    """What stock tshark says of each frame; it must have nothing to complain about."""
    named = [word for field in fields for word in ("-e", field)]
    words = [tool("tshark"), "-n", "-r", str(capture), *options, "-T", "fields", *named]
    done = subprocess.run(words, capture_output=True, check=False, text=True)
    said = [line for line in done.stderr.splitlines() if not line.startswith("Running as user")]
    assert (done.returncode, said) == (0, []), done.stderr
    return [dict(zip(fields, line.split("\t"), strict=True)) for line in done.stdout.splitlines()]


def json_lines(text: str) -> list[dict[str, Any]]:
    """JSON lines as rows."""
    return [json.loads(line) for line in text.splitlines()]

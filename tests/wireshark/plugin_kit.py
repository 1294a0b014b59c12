"""A mixed run with its log, and tshark with the plugin: no word may stand in its errors."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from external_tools import tool

from emu.capture.annotate import KEYS, NAMES
from emu.verdicts.schema import COLUMNS, FLAG
from emu.wireshark.plugin import COLUMN_OF_NAME

ROOT = Path(__file__).parents[2]
PLUGIN = ROOT / "emu/wireshark/emu.lua"
MIXED = ROOT / "pcaps/mixed.pcap"
FRAMES = 1000
ROOT_NOTE = "Running as user "


class Run(NamedTuple):
    """A replay: its annotated capture, and its log by frame."""

    capture: Path
    log: dict[int, dict[str, Any]]


RUNS: dict[str, Run] = {}  # that were made already, by what is annotated


def replayed(factory: pytest.TempPathFactory, annotate: str) -> Run:
    """The replay of the mixed capture's first frames, the same for every test; none writes to it."""
    if annotate not in RUNS:
        RUNS[annotate] = _replay(factory.mktemp("plugin"), annotate)
    return RUNS[annotate]


def _replay(folder: Path, annotate: str) -> Run:
    capture, log = folder / f"{annotate}.pcapng", folder / f"{annotate}.jsonl"
    emu = (sys.executable, "-m", "emu", "replay", MIXED, "--limit", str(FRAMES), "--engine", "plain", "--no-progress")
    subprocess.run([*emu, "--annotate", annotate, "-w", capture, "--log", log], check=True, capture_output=True)
    rows = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    return Run(capture, {row["frame"]: row for row in rows if row["verdict"] != "event"})


def tshark(*arguments: str | Path, plugin: bool = True) -> str:
    """What tshark prints; errors of the plugin stand in its standard error or in the tree."""
    loaded: tuple[str | Path, ...] = ("-X", f"lua_script:{PLUGIN}") if plugin else ()
    done = subprocess.run([tool("tshark"), *loaded, *map(str, arguments)], capture_output=True, check=False)
    errors = [line for line in done.stderr.decode().splitlines() if not line.startswith(ROOT_NOTE)]
    assert (done.returncode, errors) == (0, [])
    text = done.stdout.decode(errors="replace")
    assert "Lua Error" not in text
    return text


def values(capture: Path, *names: str, options: tuple[str, ...] = ()) -> list[list[str]]:
    """The fields of each frame, empty where it has none."""
    asked = [word for name in names for word in ("-e", name)]
    text = tshark("-r", capture, *options, "-T", "fields", *asked)
    return [line.split("\t") for line in text.splitlines()]


def frames(capture: Path, display_filter: str, *options: str) -> list[int]:
    """The numbers of the frames that a display filter finds."""
    return [int(row[0]) for row in values(capture, "frame.number", options=(*options, "-Y", display_filter))]


def expected(key: str, row: dict[str, Any]) -> Any:
    """What the field of a comment's key is, by the log's row."""
    if key == "policy":
        return "phillips-v5"
    if key == "has_socket":
        return row["socket"] != ""
    if key == "waited_ns":
        return max(row["decided_ns"] - row["time_ns"], 0)
    if key in NAMES:
        return row[COLUMN_OF_NAME.get(key, key)]
    value = row[KEYS[key]]
    return bool(value) if KEYS[key] in {column.name for column in COLUMNS if column.type == FLAG} else value

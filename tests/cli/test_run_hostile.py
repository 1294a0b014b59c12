"""`emu run` and `emu compare` of a run under a user who means it no good: one line, an exit code, nothing half done."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from emu_process import EMU, emu_here, refused

from emu.api import run as run_in_python
from emu.errors import UsageError
from emu.kernel.machine import PAGE_SIZE
from emu.scenario_loop import MAX_FLOODS
from emu.traffic.peer.loop import MAX_FLOOD_INTERFACES

RUN = 'why = "a test"\n[run]\nfor = "20ms"\n[[writer]]\nrate = "1MB/s"\n[[session]]\n'
ENDLESS = 'why = "a test"\n[run]\nfor = "1h"\n[[writer]]\n[[session]]\n'
PLAIN = ("--engine", "plain")
PATIENCE_S = 60.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "run.toml").write_text(RUN)
    (tmp_path / "endless.toml").write_text(ENDLESS)
    (tmp_path / "folder.html").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("",), "'': expected a scenario's name, or its file"),
        (("run.toml", "-w", "run.toml"), "run.toml: would overwrite the input run.toml"),
        (("run.toml", "--log", "no/such.csv", "-w", "out.pcapng"), "no/such.csv: No such file or directory"),
        (("run.toml", "--report", "no/such.html"), "no/such.html: No such file or directory"),
        (("run.toml", "--plot", "no/such.png"), "no/such.png: No such file or directory"),
        (("run.toml", "--report", "folder.html"), "folder.html: is a directory; name a file in it"),
        (("run.toml", "--report", "a.html", "-w", "a.html"), "a.html: is asked for twice; name another output"),
        (("run.toml", "--set", "vm.dirty_writeback=1"), "'1' is 1 ns; expected 0 for never, or 10000000 to"),
        (("run.toml", "--set", "machine.memory=-1"), "machine.memory: -1 pages; expected 32MiB"),
        (("run.toml", "--seed", str((1 << 62) + 1)), "run.seed: expected an integer from 0 to 4611686018427387904"),
        (("run.toml", "--set", "run=3"), "run: expected a table, found 3"),
        (("run.toml", "--set", "session=[1]"), "session.0: expected a table, found 1"),
        (("run.toml", "--expect", "outcome != 'LOCKUPP'"), "'LOCKUPP' is not one of oops, LOCKUP, degraded, progress"),
        (("run.toml", "--expect", "block_io == 1"), "block_io is a table of the summary, not a value"),
        (("run.toml", "--expect", "block_io.timeouts == 'none'"), "cannot be compared: a word and a number"),
    ],
)
def test_what_cannot_be_is_refused_before_the_run(words: tuple[str, ...], said: str, folder: Path) -> None:
    """One line that names it; nothing is left behind, nothing that was there is gone."""
    before = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert said in refused("run", *words, *PLAIN, code=2, cwd=folder)
    assert {path: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


def test_too_many_floods_are_refused_with_their_place(folder: Path) -> None:
    assert MAX_FLOODS == MAX_FLOOD_INTERFACES
    (folder / "run.toml").write_text(
        RUN.replace("[[writer]]", f"flood = {['arp:count=1'] * (MAX_FLOODS + 1)}\n[[writer]]")
    )
    assert "run.toml:4: run.flood: expected an array of texts of 0 to 64, found 65" in refused(
        "run", "run.toml", code=2, cwd=folder
    )


@pytest.mark.parametrize(
    ("option", "module", "said"),
    [
        (("--report", "a.html"), "plotly.offline", "--report needs plotly: pip install 'emu[plots]'"),
        (("--plot", "a.png"), "matplotlib", "--plot needs matplotlib: pip install 'emu[plots]'"),
        (("--log", "a.parquet"), "polars", "--log needs polars: pip install 'emu[log]'"),
    ],
)
def test_what_is_not_installed_is_said_before_the_run(
    option: tuple[str, str], module: str, said: str, folder: Path
) -> None:
    before = sorted(folder.iterdir())
    with patch.dict(sys.modules, {module: None}):
        assert refused("run", "endless.toml", *option, *PLAIN, code=2, cwd=folder) == said
    assert sorted(folder.iterdir()) == before


def test_a_name_that_is_not_utf_8(folder: Path) -> None:
    """It is shown as far as it can be, in tables, in JSON, in the report."""
    name = os.fsdecode(b"n\xe9.toml")
    (folder / name).write_text(RUN)
    command = (*EMU, "run", name, "--report", "out.html", *PLAIN)
    for words in (command, (*command, "--json")):
        done = subprocess.run(words, capture_output=True, cwd=folder, timeout=PATIENCE_S, check=False)
        assert (done.returncode, done.stderr) == (0, b"")
        assert "n\N{REPLACEMENT CHARACTER}.toml" in done.stdout.decode()
    assert "n\N{REPLACEMENT CHARACTER}.toml" in (folder / "out.html").read_text()


def test_problems_of_a_mapping_name_no_file() -> None:
    with pytest.raises(UsageError, match=r"^scenario: run\.for: '0s' is 0 ns; expected 1 to \d+$"):
        run_in_python({"run": {"for": "0s"}})


@pytest.mark.parametrize("mtu", [68, 16_110])
def test_segments_of_any_size_carry_a_login(mtu: int) -> None:
    result = run_in_python(
        {"run": {"for": "200ms"}, "device": [{"name": "eth0", "mtu": mtu}], "session": [{}]}, engine="plain"
    )
    assert result.outcome == "progress"


@pytest.mark.parametrize(
    "tables",
    [
        {"wire": [{"latency": "1h"}]},
        {"wire": [{"rate": 1}]},
        {"blackout": [{"start": "0s", "for": "24h"}, {"start": "1s", "for": "1h"}]},
        {"download": [{"rcvbuf": 256}, {"start": "23h", "server": "10.0.0.4"}]},
        {"readers": {"tcp_rcvbuf": 256}},
        {"session": [{"nop_interval": 1, "nop_timeout": 1}]},
    ],
)
def test_a_day_in_which_nothing_gets_through_is_soon_over(tables: dict[str, Any]) -> None:
    """Time in which nothing happens costs nothing: what waits, waits for its timers, and they back off."""
    scenario = {"run": {"for": "10min", "sample": "1s"}, "writer": [{"stop": "1ms"}], "session": [{}], **tables}
    result = run_in_python(scenario, engine="plain", baseline=False)
    assert result.block_io["bytes_completed"] % PAGE_SIZE == 0
    assert result.summary["duration_ns"] == 600 * 10**9 or result.outcome == "LOCKUP"


def test_a_machine_without_a_page_to_write_into_makes_no_progress() -> None:
    """All memory is taken when play starts: nothing is ever dirty, so block I/O owes nothing, and yet it starves."""
    scenario = {"run": {"for": "2s"}, "pressure": {"start": "crunch"}, "writer": [{}], "session": [{}]}
    result = run_in_python(scenario, engine="plain", baseline=False)
    assert result.block_io["writes_issued"] == 0
    assert result.outcome == "degraded"
    assert "a writer has waited" in result.summary["because"][0]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_closes_its_outputs(number: signal.Signals, folder: Path) -> None:
    """A signal is heard soon, on the plain engine, too: one line, exit 130, outputs that are whole."""
    process = subprocess.Popen(
        [*EMU, "run", "endless.toml", "-w", "out.pcapng", "--log", "log.csv", *PLAIN],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=folder,
    )
    try:
        deadline = time.monotonic() + PATIENCE_S
        while not (folder / "log.csv.partial").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(number)
        out, err = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 130
    assert len(err.splitlines()) == 1
    assert err.startswith(b"emu: interrupted after frame ")
    assert b"endless.toml under phillips-v5" in out
    assert sorted(path.name for path in folder.iterdir() if path.suffix in (".pcapng", ".csv", ".partial")) == [
        "log.csv",
        "out.pcapng",
    ]
    assert b"interrupted after frame " in (folder / "out.pcapng").read_bytes()


def test_a_closed_pipe_is_no_mishap(folder: Path) -> None:
    """`| head -c 1` of the tables and of the capture."""
    for words in ("", "-w -"):
        shell = f"set -o pipefail; {' '.join(EMU)} run run.toml {words} {' '.join(PLAIN)} | head -c 1 > /dev/null"
        done = subprocess.run(["bash", "-c", shell], capture_output=True, cwd=folder, timeout=PATIENCE_S, check=False)
        assert done.returncode in (0, 1)
        assert b"Traceback" not in done.stderr
        assert b"bug of emu" not in done.stderr


def test_a_narrow_terminal_is_no_mishap(folder: Path) -> None:
    with patch.dict(os.environ, {"COLUMNS": "20"}):
        done = emu_here("run", "run.toml", *PLAIN, cwd=folder)
    assert (done.code, done.err) == (0, "")

"""`make bench` on tiny captures: it runs, and says of every row what came of it.  Nothing here is timed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from emu_process import ROOT
from external_tools import run as judge

BENCH = (sys.executable, str(ROOT / "tools/bench/line_rate.py"))
CAPTURES = (sys.executable, str(ROOT / "tools/bench/captures.py"))
TINY = ("--rounds", "1", "--packets", "20", "3000")


def bench(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """The tool, to its end."""
    command, timeout_s = (*BENCH, *arguments), 280
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, env=os.environ | environment)


def test_rows_are_printed_with_their_results_and_misses_are_no_failure() -> None:
    done = bench(*TINY, "--only", "answer", "--only", "plain")
    assert done.returncode == 0, done.stderr
    for word in ("answer for 1,000", "at most 1 s", "plain engine, mix", "50,000 packets/s"):
        assert word in done.stdout, done.stdout


def test_json_has_a_figure_for_what_was_measured(tmp_path: Path) -> None:
    done = bench(*TINY, "--only", "plain", "--json", "--keep", str(tmp_path))
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    (row,) = said["rows"]
    assert row["name"] == "plain"
    assert row["without_start"]["median"] > 0
    (plain,) = said["rates"]
    assert (plain["what"], plain["packets"]) == ("emu, verdicts only, plain engine", 3000)
    assert sorted(path.name.split("-")[1] for path in tmp_path.iterdir()) == ["20", "3000"]


def test_a_peer_that_is_missing_is_named_in_its_row(tmp_path: Path) -> None:
    done = bench(*TINY, "--only", "drops-small", "--json", PATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)["rows"]
    assert row["result"] == "not measured: tcpdump is missing"
    assert row["without_start"] is None


def test_ctrl_c_ends_what_runs(tmp_path: Path) -> None:
    arguments = ("--only", "plain", "--packets", "20", "25000", "--rounds", "50", "--keep", str(tmp_path))
    with subprocess.Popen((*BENCH, *arguments), stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "round 1 of" in line:
                break
        time.sleep(0.5)
        os.kill(process.pid, signal.SIGINT)
        assert process.stderr.read().endswith("bench: interrupted\n")
        assert process.wait() == 130
        with pytest.raises(ProcessLookupError):
            os.killpg(process.pid, 0)


@pytest.mark.parametrize("arguments", [("--only", "nothing"), ("--packets", "9", "8"), ("--rounds", "0")])
def test_wrong_use_is_refused(arguments: tuple[str, ...]) -> None:
    done = bench(*arguments)
    assert (done.returncode, done.stdout) == (2, "")


@pytest.mark.parametrize("kind", ["small", "mix"])
def test_captures_hold_what_a_kernel_would_not_throw_away_at_sight(kind: str, tmp_path: Path) -> None:
    file = tmp_path / f"{kind}.pcap"
    subprocess.run((*CAPTURES, kind, "4000", str(file)), check=True)
    verify = [option for layer in ("ip", "tcp", "udp") for option in ("-o", f"{layer}.check_checksum:TRUE")]
    bad = "ip.checksum.status == Bad || tcp.checksum.status == Bad || udp.checksum.status == Bad || _ws.malformed"
    assert judge("tshark", "-r", file, *verify, "-Y", bad) == ""
    fields = judge("tshark", "-r", file, *verify, "-T", "fields", "-e", "frame.len", "-e", "udp.checksum.status")
    lines = [line.split("\t") for line in fields.splitlines()]
    assert len(lines) == 4000
    if kind == "small":
        assert set(map(tuple, lines)) == {("60", "1")}
    else:
        assert 450 < sum(int(length) for length, _ in lines) / 4000 < 500
        assert judge("tshark", "-r", file, "-Y", "ip.fragment.count == 2").count("\n") > 20

"""`emu report` and `emu replay --report`: what they write, and what they refuse before anything is played."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from emu_process import MIXED, NOP, emu_here, refused

import emu

pytest.importorskip("plotly")
pytest.importorskip("polars")

REPLAY = ("replay", NOP, "--engine", "plain")


def data_of(page: Path) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="report-data">(.*?)</script>', page.read_text(), re.DOTALL)
    assert found is not None
    data: dict[str, Any] = json.loads(found[1])
    return data


def test_a_replay_and_its_log_make_the_same_report_but_for_what_a_log_does_not_say(tmp_path: Path) -> None:
    log = tmp_path / "nop.parquet"
    replayed = emu_here(*REPLAY, "--report", tmp_path / "replay.html")
    logged = emu_here(*REPLAY, "--report", tmp_path / "logged.html", "--log", log)
    assert (replayed.code, logged.code) == (0, 0), replayed.err
    assert (tmp_path / "replay.html").read_bytes() == (tmp_path / "logged.html").read_bytes()
    done = emu_here("report", log)
    assert done.code == 0, done.err
    assert done.out.startswith(f"{tmp_path}/nop.html: ")
    assert data_of(tmp_path / "nop.html") == data_of(tmp_path / "replay.html")
    assert "under phillips-v5" in (tmp_path / "replay.html").read_text()
    named = {path.name for path in tmp_path.iterdir()}
    assert named == {"replay.html", "logged.html", "nop.html", "nop.parquet"}, "the temporary log is gone"


@pytest.mark.parametrize("suffix", ["arrow", "csv", "jsonl"])
def test_a_log_of_every_kind_makes_the_report(tmp_path: Path, suffix: str) -> None:
    emu_here(*REPLAY, "--report", tmp_path / "a.html")
    done = emu_here(*REPLAY, "--report", tmp_path / "b.html", "--log", tmp_path / f"nop.{suffix}")
    assert done.code == 0, done.err
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_figures_for_programs_are_those_of_the_summary(tmp_path: Path) -> None:
    log = tmp_path / "mixed.parquet"
    summary = json.loads(emu_here("replay", MIXED, "--engine", "plain", "--json", "--log", log, "--limit", "2000").out)
    done = emu_here("report", log, "--json", "-w", tmp_path / "x.html")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert found["packets"]["received"] == summary["received"]
    assert found["packets"]["delivered"] == summary["delivered"]
    assert found["packets"]["dropped"] == summary["dropped"]
    assert found["memalloc"]["dropped"] == summary["memalloc"]["dropped"]
    by_reason: dict[str, int] = {}
    for one in found["reasons"]:
        by_reason[one["reason"]] = by_reason.get(one["reason"], 0) + one["dropped"]
    assert {name: count for name, count in by_reason.items() if count} == summary["drops_by_reason"]


def test_a_damaged_capture_has_a_report_that_says_so(tmp_path: Path) -> None:
    cut = tmp_path / "cut.pcap"
    cut.write_bytes(Path(NOP).read_bytes()[:-7])
    done = emu_here("replay", cut, "--engine", "plain", "--report", tmp_path / "cut.html")
    assert done.code == 3
    text = (tmp_path / "cut.html").read_text()
    assert "<strong>Incomplete</strong>after frame" in text


def test_an_annotated_capture_makes_a_report_with_the_policy_that_it_names(tmp_path: Path) -> None:
    capture = tmp_path / "nop.pcapng"
    emu_here(*REPLAY, "-w", capture, "--policy", "mainline")
    done = emu_here("report", capture)
    assert done.code == 0, done.err
    assert "under mainline" in (tmp_path / "nop.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((*REPLAY, "--report", "x.pdf"), "x.pdf: expected a name that ends in .html"),
        ((*REPLAY, "--report", "-"), "--report -: expected a name that ends in .html"),
        ((*REPLAY, "--report", "x.html", "-w", "x.html"), "x.html: is asked for twice"),
        ((*REPLAY, "--report", "x.html", "--log", "x.csv", "--log-rows", "drops"), "--log-rows drops: a report needs"),
        ((*REPLAY, "--report", "no/x.html"), "no/x.html: No such file or directory"),
        (("report", "-"), "-: standard input has no name"),
        (("report", "x.parquet", "-w", "-", "--json"), "-w - and --json both want standard output"),
        (("report", NOP, "-w", "x.html", "--engine", "fast"), "--engine fast: expected one of"),
    ],
)
def test_what_could_not_be_written_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert says in refused(*arguments, code=2)
    assert list(tmp_path.iterdir()) == []


def test_a_report_does_not_overwrite_what_it_is_made_from(tmp_path: Path) -> None:
    capture = tmp_path / "x.html"
    capture.write_bytes(Path(NOP).read_bytes())
    for arguments in (("report", capture), ("replay", capture, "--engine", "plain", "--report", capture)):
        assert "would overwrite the input" in refused(*arguments, code=2)
    assert capture.read_bytes() == Path(NOP).read_bytes()


def test_nothing_is_left_when_there_is_nothing_to_play(tmp_path: Path) -> None:
    done = emu_here(*REPLAY, "--filter", "port 1", "--report", tmp_path / "x.html")
    assert done.code == 4
    assert list(tmp_path.iterdir()) == []


def test_python_writes_the_report_of_the_command_line(tmp_path: Path) -> None:
    emu_here(*REPLAY, "--report", tmp_path / "a.html")
    result = emu.replay(NOP, engine="plain", report=tmp_path / "b.html")
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    assert result.verdicts().height

"""`emu run` to its end: what a user sees of it, what it writes, and that it is the same every time."""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from emu_process import emu_here

from emu.api import run as run_in_python
from emu.kernel.closed_loop import Sample
from emu.kernel.record import fields_of

SMALL = """
why = "a disk and a download, no flood"
[run]
for = "300ms"
sample = "1ms"
[[writer]]
rate = "4MB/s"
stop = "100ms"
[[session]]
[[download]]
reader = "immediate"
bytes = "64KiB"
[vm]
dirty_background_ratio = 0
[expect."*"]
outcome = "progress"
"oops" = 0
"""
FLOODED = SMALL.replace('sample = "1ms"', 'flood = ["udp:pps=5k,size=200"]')
ENGINE = ("--engine", "plain")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "small.toml").write_text(SMALL)
    (tmp_path / "flooded.toml").write_text(FLOODED)
    return tmp_path


def summary_of(folder: Path, *words: str, code: int = 0) -> dict[str, Any]:
    done = emu_here("run", *words, "--json", *ENGINE, cwd=folder)
    assert done.code == code, done.err
    found: dict[str, Any] = json.loads(done.out)
    return found


def test_a_quiet_run_makes_progress(folder: Path) -> None:
    """Every page that was written is clean in the end, the download has all its bytes, and figures agree."""
    summary = summary_of(folder, "small.toml")
    block = summary["block_io"]
    assert summary["outcome"] == "progress"
    assert summary["lockup"] is None
    assert block["writes_completed"] == block["writes_issued"] > 0
    assert block["bytes_completed"] == sum(writer["bytes_written"] for writer in summary["writers"])
    assert (summary["memory"]["dirty_pages"], summary["memory"]["writeback_pages"]) == (0, 0)
    assert summary["downloads"][0]["bytes_received"] >= 64 << 10
    assert summary["sessions"][0]["logged_in"]
    assert summary["duration_ns"] == summary["asked_ns"] == 300_000_000
    assert summary["frames"] == summary["received"] + summary["sent"]
    assert all(judgement["holds"] for judgement in summary["expectations"])


def test_the_same_seed_gives_the_same_bytes(folder: Path) -> None:
    """Summary, capture and log; another seed gives others."""
    runs = []
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        words = ("flooded.toml", "--seed", seed, "-w", f"{name}.pcapng", "--log", f"{name}.csv", "--no-baseline")
        summary = summary_of(folder, *words)
        assert summary["floods"][0]["frames"] > 0
        files = [(folder / f"{name}{suffix}").read_bytes() for suffix in (".pcapng", ".csv")]
        runs.append(([{key: value for key, value in summary.items() if key != "run"}], files))
    assert runs[0] == runs[1]
    assert runs[0][1][0] != runs[2][1][0]


def test_frames_are_written_once_and_in_order(folder: Path) -> None:
    """The annotated capture has every frame of the run, those of the host too."""
    from emu.capture.reader import open_capture
    from emu.engine.plain import PlainEngine
    from emu.kernel.machine import Packet

    summary = summary_of(folder, "flooded.toml", "-w", "out.pcapng", "--no-baseline")
    engine = PlainEngine()
    reader = open_capture(str(folder / "out.pcapng"), engine)
    rows = engine.rows(Packet, summary["frames"] + 1)
    count = 0
    while more := reader.read(rows, count, summary["frames"] + 1 - count):
        count += more
    reader.close()
    times = [rows[at].file_time_ns for at in range(count)]
    assert count == summary["frames"]
    assert times == sorted(times)


def test_an_expectation_that_fails_is_exit_code_1(folder: Path) -> None:
    summary = summary_of(folder, "small.toml", "--expect", "outcome == 'LOCKUP'", code=1)
    assert [judgement["holds"] for judgement in summary["expectations"]] == [True, True, False]


def test_an_expectation_of_nothing_is_refused_before_the_run(folder: Path) -> None:
    done = emu_here("run", "small.toml", "--expect", "outcomes == 3", "-w", "out.pcapng", *ENGINE, cwd=folder)
    assert done.code == 2
    assert "the summary has no 'outcomes'; did you mean outcome?" in done.err
    assert not list(folder.glob("out.pcapng*"))


def test_tables_for_a_person(folder: Path) -> None:
    """The outcome comes first; block I/O, writers and downloads have their tables."""
    done = emu_here("run", "small.toml", *ENGINE, cwd=folder)
    assert done.code == 0
    assert done.out.startswith("small.toml under phillips-v5: progress")
    for title in ("Block I/O", "Writers", "Downloads", "Reserve and ring", "expected outcome == 'progress': held"):
        assert title in done.out


def test_the_baseline_is_the_run_without_floods_and_downloads(folder: Path) -> None:
    with_baseline = summary_of(folder, "flooded.toml")["block_io"]
    without = summary_of(folder, "flooded.toml", "--no-baseline")["block_io"]
    assert with_baseline["baseline_mb_per_s"] > 0
    assert without["baseline_mb_per_s"] is None
    assert with_baseline["mb_per_s"] == without["mb_per_s"]


def test_policies_are_compared_on_one_seed(folder: Path) -> None:
    done = emu_here("compare", "small.toml", "--policies", "linux-2.6.12,mainline", "--json", *ENGINE, cwd=folder)
    assert done.code == 0, done.err
    compared = json.loads(done.out)
    assert compared["scenario"] == "small.toml"
    assert [*compared["policies"]] == ["linux-2.6.12", "mainline"]
    shown = emu_here("compare", "small.toml", "--policies", "linux-2.6.12,mainline", *ENGINE, cwd=folder)
    assert "Drops by class" in shown.out
    assert "mainline: expected" not in shown.out
    assert "expected mainline: outcome == 'progress': held" in shown.out


def test_samples_stay_bounded(folder: Path) -> None:
    """A run of more looks than there is room for keeps every second one, as often as needed, at even distances."""
    result = run_in_python(str(folder / "small.toml"), settings={"run.sample": "5us"}, engine="plain", baseline=False)
    samples = result.samples
    assert set(samples) == {field.name for field in fields_of(Sample)}
    times = samples["time_ns"]
    assert 1000 < len(times) <= 4096
    assert times[0] == 0
    assert {later - earlier for earlier, later in itertools.pairwise(times)} == {160_000}


def test_the_function_and_the_verb_agree(folder: Path) -> None:
    result = run_in_python(str(folder / "small.toml"), engine="plain")
    summary = summary_of(folder, "small.toml")
    assert {**result.summary, "run": None} == {**summary, "run": None}
    assert result.ok
    assert result.outcome == "progress"


def test_pictures_are_written(folder: Path) -> None:
    summary_of(folder, "small.toml", "--report", "out.html", "--plot", "out.svg")
    assert "small.toml" in (folder / "out.html").read_text()
    assert (folder / "out.svg").read_text().startswith("<?xml")

"""What the figures of two runs prove, and what they do not."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import structs

from emu.errors import Exit, UsageError
from emu.live.demo.demonstration import DemoOptions, _write, run_demo
from emu.live.demo.programs.writer import LIMIT, LOST, WriterResult
from emu.live.demo.result import (
    BROKEN,
    DEGRADED,
    LOCKUP,
    NO_EVIDENCE,
    PROGRESS,
    DemoResult,
    RunResult,
    WorldResult,
    has_reserve,
    judge,
    packets_of,
)


def run(policy: str, flooded: bool, completed: int = 100, ended: str = "done", **more: Any) -> RunResult:
    figures = {"reserve_packets": 500, "block_io_dropped": 0, "block_io_dropped_by_check": 0, **more}
    writes = WriterResult(asked=100, completed=completed, ended=ended, seconds=1.0)
    return RunResult(policy=policy, flooded=flooded, writes=writes, **figures)


def world(policy: str, under: RunResult | None, times: float | None = 1.0) -> WorldResult:
    return WorldResult(
        label=policy,
        policy=policy,
        has_reserve=has_reserve(policy),
        without_flood=run(policy, False),
        under_flood=under,
        times_baseline=times,
    )


def test_a_cure_is_one_that_is_fast_drops_no_block_io_by_its_check_and_used_the_reserve() -> None:
    outcome, sentence, as_claimed = judge(world("phillips-v5", run("phillips-v5", True), 1.2))
    assert (outcome, as_claimed) == (PROGRESS, True)
    assert "500 packets from the reserve" in sentence
    assert "1.20 times" in sentence


def test_a_success_that_never_touched_the_reserve_is_no_evidence() -> None:
    outcome, sentence, as_claimed = judge(world("phillips-v5", run("phillips-v5", True, reserve_packets=0)))
    assert (outcome, as_claimed) == (NO_EVIDENCE, False)
    assert "never touched" in sentence


def test_a_success_whose_reserve_nobody_tells_is_no_evidence() -> None:
    under = run("phillips-v5", True, reserve_packets=None, block_io_dropped_by_check=None)
    assert judge(world("phillips-v5", under))[0] == NO_EVIDENCE


@pytest.mark.parametrize(
    ("times", "by_check"), [(1.51, 0), (1.0, 1), (1.0, None)], ids=["slow", "dropped", "not told whether dropped"]
)
def test_a_cure_that_falls_short_is_degraded(times: float, by_check: int | None) -> None:
    under = run("phillips-v5", True, block_io_dropped_by_check=by_check)
    assert judge(world("phillips-v5", under, times))[::2] == (DEGRADED, False)


def test_no_write_within_the_limit_is_the_lockup_that_is_claimed_without_a_reserve() -> None:
    under = run("linux-2.6.12", True, 0, LIMIT, block_io_dropped=21)
    outcome, sentence, as_claimed = judge(world("linux-2.6.12", under, None))
    assert (outcome, as_claimed) == (LOCKUP, True)
    assert "0 of 100 writes" in sentence
    assert "21 packets of block I/O dropped" in sentence


def test_a_lockup_after_some_writes_or_under_a_reserve_is_not_what_is_claimed() -> None:
    assert judge(world("linux-2.6.12", run("linux-2.6.12", True, 3, LIMIT), None))[::2] == (LOCKUP, False)
    assert judge(world("phillips-v5", run("phillips-v5", True, 0, LIMIT), None))[::2] == (LOCKUP, False)


def test_a_lost_connection_is_a_lockup_too_and_its_reason_is_told() -> None:
    outcome, sentence, _ = judge(world("linux-2.6.12", run("linux-2.6.12", True, 0, LOST), None))
    assert outcome == LOCKUP
    assert LOST in sentence


def test_a_lockup_in_which_the_machine_dropped_nothing_is_not_what_is_claimed() -> None:
    outcome, sentence, as_claimed = judge(world("linux-2.6.12", run("linux-2.6.12", True, 0, LIMIT), None))
    assert (outcome, as_claimed) == (LOCKUP, False)
    assert "0 packets of block I/O dropped" in sentence


def test_frames_that_were_lost_outside_the_model_are_told_with_the_verdict() -> None:
    outside = {"wire_queue": 3, "host_queue": 1, "too_long": 9, "sent_by_host": 0}
    nic = {"live": {"lost_outside": outside}}
    for under in (run("phillips-v5", True, nic=nic), run("phillips-v5", True, 0, LIMIT, nic=nic)):
        assert "4 frames lost outside the model" in judge(world("phillips-v5", under))[1]
    nothing = {"live": {"lost_outside": dict.fromkeys(outside, 0)}}
    assert "outside" not in judge(world("phillips-v5", run("phillips-v5", True, nic=nothing)))[1]


def test_all_writes_without_a_reserve_prove_nothing() -> None:
    assert judge(world("linux-2.6.12", run("linux-2.6.12", True)))[::2] == (NO_EVIDENCE, False)


def test_data_that_was_read_back_wrong_is_no_success() -> None:
    under = run("phillips-v5", True)
    assert under.writes is not None
    wrong = msgspec.structs.replace(under, writes=msgspec.structs.replace(under.writes, blocks_wrong=1))
    outcome, sentence, as_claimed = judge(world("phillips-v5", wrong))
    assert (outcome, as_claimed) == (BROKEN, False)
    assert "1 blocks wrong" in sentence


def test_a_program_that_failed_is_told() -> None:
    broken = RunResult(policy="phillips-v5", flooded=True, problem="tgtd ended early: no memory")
    assert judge(world("phillips-v5", broken)) == (BROKEN, "tgtd ended early: no memory", False)
    assert judge(world("phillips-v5", None)) == (BROKEN, "not run", False)


SUMMARY = {
    "memalloc": {"received": 9, "delivered": 7, "dropped": 2},
    "drops_by_reason": {"PFMEMALLOC": 40, "RX_MISSED": 2},
    "devices": {"a": {"reserve_allocations": 30}, "b": {"reserve_allocations": 12}},
    "live": {"memalloc_drops_by_reason": {"RX_MISSED": 2}},
}


def test_who_was_dropped_by_the_check_is_read_from_the_summary() -> None:
    told = {**SUMMARY, "live": {"memalloc_drops_by_reason": {"RX_MISSED": 1, "PFMEMALLOC": 1}}}
    assert packets_of(told) == {"reserve_packets": 42, "block_io_dropped": 2, "block_io_dropped_by_check": 1}
    missed = {**SUMMARY, "live": {"memalloc_drops_by_reason": {"RX_MISSED": 2}}}
    assert packets_of(missed)["block_io_dropped_by_check"] == 0
    assert packets_of(None) == dict.fromkeys(packets_of(told))


def test_the_exit_code_says_what_was_proven() -> None:
    def result(proven: bool, ended_by: str = "") -> DemoResult:
        return DemoResult(
            scenario="",
            writes=1,
            depth=1,
            flood_per_second=1,
            limit_seconds=1,
            seconds=1,
            proven=proven,
            ended_by=ended_by,
            folder="",
            worlds=[],
        )

    assert result(True).exit_code == Exit.DONE
    assert result(False).exit_code == Exit.EXPECTATION_FAILED
    assert result(False, "interrupted").exit_code == Exit.INTERRUPTED


@pytest.mark.parametrize(
    "options",
    [
        DemoOptions(policies=()),
        DemoOptions(policies=("linux-9",)),
        DemoOptions(policies=("phillips-v5", "phillips-v5")),
        DemoOptions(writes=0),
        DemoOptions(limit_seconds=0),
        DemoOptions(bound_seconds=float("inf")),
    ],
    ids=["no policy", "no such policy", "twice", "no writes", "no limit", "no end"],
)
def test_options_that_cannot_be_are_refused_before_anything_is_made(options: DemoOptions) -> None:
    with pytest.raises(UsageError):
        run_demo(options, print, None)


def test_a_baseline_that_falls_short_is_told_and_not_the_run_that_was_left_out() -> None:
    alone = run("phillips-v5", False, 3, LIMIT)
    outcome, sentence, as_claimed = judge(
        WorldResult(label="", policy="phillips-v5", has_reserve=True, without_flood=alone)
    )
    assert (outcome, as_claimed) == (BROKEN, False)
    assert sentence.startswith("without the flood: 3 of 100 writes")


def test_results_that_cannot_be_written_are_told_and_the_exit_code_says_so(tmp_path: Path) -> None:
    result = DemoResult(
        scenario="",
        writes=1,
        depth=1,
        flood_per_second=1,
        limit_seconds=1,
        seconds=1,
        proven=True,
        folder="",
        worlds=[],
    )
    assert result.exit_code == Exit.DONE
    said = _write(tmp_path / "none" / "demo.json", result)
    assert said.endswith("No such file or directory; the results are to be written there")
    assert structs.replace(result, unwritten=said).exit_code == Exit.USAGE
    assert _write(tmp_path / "demo.json", result) == ""
    assert [path.name for path in tmp_path.iterdir()] == ["demo.json"]

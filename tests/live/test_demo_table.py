"""What a person reads at the end of a demonstration."""

import io

from rich.console import Console

from emu.live.demo.programs.download import DownloadResult
from emu.live.demo.programs.flood import FloodResult
from emu.live.demo.programs.writer import WriterResult
from emu.live.demo.result import DemoResult, RunResult, WorldResult, judge
from emu.live.demo.table import show_demo


def world(policy: str, has_reserve: bool, under: WriterResult) -> WorldResult:
    def run(flooded: bool, writes: WriterResult) -> RunResult:
        flood = FloodResult(asked_per_second=5000, sent=9990, refused=0, skipped=0, seconds=2.0, per_second=4995.0)
        download = DownloadResult(
            bytes_read=10**7, seconds=1, megabytes_per_second=10, blocked_seconds=0, connections=1, receive_bytes=1
        )
        return RunResult(
            policy=policy,
            flooded=flooded,
            writes=writes,
            flood=flood if flooded else None,
            download=download,
            reserve_packets=355 if has_reserve else 0,
            block_io_dropped=24,
            block_io_dropped_by_check=0,
        )

    alone = WriterResult(asked=8192, completed=8192, seconds=1.0, p50_ms=1.5, p99_ms=5.5, megabytes_per_second=33.5)
    made = WorldResult(
        label="",
        policy=policy,
        has_reserve=has_reserve,
        without_flood=run(False, alone),
        under_flood=run(True, under),
        times_baseline=1.2 if under.completed else None,
    )
    outcome, verdict, as_claimed = judge(made)
    return WorldResult(
        label="",
        policy=policy,
        has_reserve=has_reserve,
        without_flood=made.without_flood,
        under_flood=made.under_flood,
        outcome=outcome,
        verdict=verdict,
        as_claimed=as_claimed,
    )


def test_each_run_has_a_row_and_each_world_a_sentence() -> None:
    locked = WriterResult(asked=8192, completed=0, ended="limit", seconds=15.0, longest_gap_seconds=15.0)
    cured = WriterResult(asked=8192, completed=8192, seconds=1.2, p50_ms=1.5, p99_ms=5.5)
    result = DemoResult(
        scenario="live-demo",
        writes=8192,
        depth=8,
        flood_per_second=5000,
        limit_seconds=15,
        seconds=40,
        proven=True,
        folder="/var/tmp/x",
        worlds=[world("linux-2.6.12", False, locked), world("phillips-v5", True, cured)],
    )
    console = Console(width=130, record=True, file=io.StringIO())
    show_demo(console, result)
    lines = [" ".join(line.split()) for line in console.export_text().splitlines()]
    assert "linux-2.6.12 4995/s 0 15.00 0.0 - - 15.00 0 24 0 10.0 MB/s" in lines
    assert "phillips-v5 - 8 192 1.00 33.5 1.5 ms 5.5 ms 0.00 355 24 0 10.0 MB/s" in lines
    said = " ".join(lines)
    assert "linux-2.6.12: LOCKUP, 0 of 8 192 writes in 15.00 s" in said
    assert "phillips-v5: progress, 8 192 writes in 1.20 s, 1.20 times as long" in said
    assert "not what is claimed" not in said
    assert "/var/tmp/x" in said

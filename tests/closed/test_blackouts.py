"""The block I/O of a run stalls for as long as that of the real initiator and target did.

Measured (Linux 6.18, cubic, libiscsi and tgtd): all frames of the target to the host were lost for so many seconds
during steady writes of 4 KiB, and the longest gap between two completed writes was noted.
"""

from pathlib import Path
from typing import Any

import pytest
from loop_kit import Tree, run_of_tree

from emu.engine.choose import choose_engine
from emu.engine.plain import RUN
from emu.verdicts.run_summary import summarise_run

MEASURED_GAP_MS = {
    50: 216,
    200: 215,
    500: 645,
    1_000: 1_464,
    2_000: 3_171,
    5_000: 6_569,
    10_000: 13_198,
    25_000: 28_300,
}
BLACKOUT_MS = 1_000
STEADY_MS = 1_500  # of writes before the end
RX_PER_WRITE = 2.2  # 869 frames for 400 writes


def world(lost_ms: int, rate: str = "2MB/s") -> Tree:
    """Steady writes of 4 KiB, interrupted once."""
    run_ms = BLACKOUT_MS + MEASURED_GAP_MS[lost_ms] + STEADY_MS
    return {
        "policy": {"name": "linux-2.6.12"},
        "run": {"for": f"{run_ms}ms"},
        "vm": {"dirty_background_ratio": 0},
        "writer": [{"rate": rate}],
        "session": [{"queue_depth": 8}],
        "blackout": [{"start": f"{BLACKOUT_MS}ms", "for": f"{lost_ms}ms", "direction": "to-host"}],
    }


def stalled(tree: Tree, folder: Path, engine: str) -> dict[str, Any]:
    """Run it; the figures of block I/O, which stood still for as long as it should."""
    lost_ms = int(tree["blackout"][0]["for"].removesuffix("ms"))
    summary = summarise_run(run_of_tree(tree, folder, engine=choose_engine(engine, None, RUN)[0]).run())
    block: dict[str, Any] = summary["block_io"]
    assert block["longest_stall_ms"] == pytest.approx(MEASURED_GAP_MS[lost_ms], rel=0.1)
    assert block["reinstatements"] == (lost_ms > 20_000), "15 s without an answer to a ping, sent every 5 s"
    assert block["writes_issued"] - block["writes_completed"] <= 8, "nothing is lost, whatever the blackout took"
    assert summary["received"] / block["writes_completed"] == pytest.approx(RX_PER_WRITE, rel=0.1)
    return block


@pytest.mark.parametrize("lost_ms", [50, 500])
def test_short_blackouts_stall_as_long_as_real_ones(lost_ms: int, tmp_path: Path) -> None:
    block = stalled(world(lost_ms, rate="1MB/s"), tmp_path, "plain")
    assert 300 < block["latency_us"]["p50"] < 700, "0.43 to 0.61 ms were measured"


@pytest.mark.slow
@pytest.mark.parametrize("lost_ms", MEASURED_GAP_MS)
def test_blackouts_stall_as_long_as_real_ones(lost_ms: int, tmp_path: Path) -> None:
    stalled(world(lost_ms, rate="20MB/s"), tmp_path, "compiled")

"""The demonstration itself, small: the emulated NIC decides about real frames, and real writes complete or do not."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from live_ground import required

from emu.live.demo import foreign
from emu.live.demo.demonstration import DemoOptions, run_demo
from emu.live.demo.result import LOCKUP

pytestmark = [pytest.mark.live, pytest.mark.slow]


def test_without_a_reserve_no_write_completes_and_with_one_all_do(machine: Path, tmp_path: Path) -> None:
    required(foreign.require_binaries)
    options = DemoOptions(writes=300, verify_blocks=8, lead_seconds=0.3, limit_seconds=1.0, out=tmp_path)
    result = run_demo(options, print, None)
    without, reserve = result.worlds
    for world in result.worlds:  # the same machine goes on as long as nobody floods it
        assert world.without_flood is not None
        assert world.without_flood.finished, world.verdict
    assert (without.outcome, without.as_claimed) == (LOCKUP, True), without.verdict
    assert without.under_flood is not None
    assert without.under_flood.writes is not None
    assert without.under_flood.writes.completed == 0
    assert without.under_flood.reserve_packets == 0
    # How long it takes is the machine's matter; that it ends, and out of the reserve, is the policy's.
    assert reserve.under_flood is not None
    assert reserve.under_flood.finished, reserve.verdict
    assert reserve.under_flood.reserve_packets
    assert reserve.under_flood.block_io_dropped_by_check == 0
    assert set(reserve.under_flood.files) == {"wire", "host", "events"}
    assert json.loads((tmp_path / "demo.json").read_bytes())["worlds"][1]["under_flood"]["nic"]["frames"] > 0
    names = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    assert f"emu-{os.getpid()}-" not in names

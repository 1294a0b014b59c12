"""The demonstration with its real programs; host and wire are joined by a plain veth, so that no emulation decides."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from live_ground import required

from emu.errors import UsageError
from emu.live.demo import foreign
from emu.live.demo.demonstration import DemoOptions, run_demo
from emu.live.demo.joins import VethJoin
from emu.live.demo.result import INTERRUPTED, NO_EVIDENCE
from emu.live.demo.view import DemoView
from emu.live.state import SharedWords

pytestmark = pytest.mark.live

SMALL: dict[str, Any] = {
    "lead_seconds": 0.3,
    "writes": 400,
    "verify_blocks": 8,
    "captures": False,
    "download_bytes_per_second": 2_000_000,
}


@pytest.fixture
def tools(machine: Path) -> Path:
    """The folder of runs; skipped where a foreign program is not installed."""
    required(foreign.require_binaries)
    return machine


class Views:
    """A screen that remembers."""

    def __init__(self) -> None:
        self.seen: list[DemoView] = []

    def update(self, view: DemoView) -> None:
        self.seen.append(view)


def left_behind(runs: Path) -> list[str]:
    """Namespaces and programs of this test's runs."""
    namespaces = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout.split("\n")
    found = [name for name in namespaces if f"emu-{os.getpid()}-" in name]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(runs) in command and int(process.name) != os.getpid():
            found.append(command)
    return found


def test_a_world_on_a_plain_veth_writes_all_and_is_called_no_evidence(tools: Path, tmp_path: Path) -> None:
    views, said = Views(), list[str]()
    options = DemoOptions(policies=("phillips-v5",), out=tmp_path / "out", **SMALL)
    result = run_demo(options, said.append, views, VethJoin)
    world = result.worlds[0]
    assert (world.outcome, result.proven, result.ended_by) == (NO_EVIDENCE, False, "")
    for run in (world.without_flood, world.under_flood):
        assert run is not None
        assert run.problem == ""
        assert run.writes is not None
        assert (run.writes.completed, run.writes.blocks_verified, run.writes.blocks_wrong) == (400, 8, 0)
        assert run.download is not None
        assert run.download.bytes_read > 0
        assert run.ports is not None
    assert world.under_flood is not None
    assert world.under_flood.flood is not None
    assert world.under_flood.flood.sent > 500
    assert views.seen[-1].worlds[0].outcome == NO_EVIDENCE
    assert any(view.worlds[0].completed == 400 for view in views.seen)
    assert any(str(tmp_path / "out") in sentence for sentence in said)
    written = json.loads((tmp_path / "out" / "demo.json").read_bytes())
    assert written["worlds"][0]["under_flood"]["writes"]["completed"] == 400
    assert left_behind(tools) == []


PLAY = """
import sys, msgspec
from pathlib import Path
from emu.live.demo.demonstration import DemoOptions, run_demo
from emu.live.demo.joins import VethJoin
options = DemoOptions(writes=10**6, lead_seconds=0.1, limit_seconds=20, captures=False, out=Path(sys.argv[1]))
result = run_demo(options, lambda _: None, None, VethJoin)
sys.stdout.buffer.write(msgspec.json.encode(result))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_however_it_is_ended_no_program_goes_on(tools: Path, tmp_path: Path, number: signal.Signals) -> None:
    demo = subprocess.Popen([sys.executable, "-c", PLAY, str(tmp_path)], stdout=subprocess.PIPE)
    folder = tools / str(demo.pid)
    try:
        for _ in range(1000):
            if (folder / "words").exists() and SharedWords(folder / "words").get("writes_completed") > 100:
                break
            time.sleep(0.01)
        else:
            pytest.fail("it does not come to write")
        demo.send_signal(number)
        out, _ = demo.communicate(timeout=20)
    finally:
        demo.kill()
        demo.communicate()
    for _ in range(300):
        if not (left := [command for command in left_behind(tools) if "python" in command or "tgtd" in command]):
            break
        time.sleep(0.01)
    assert left == []
    if number == signal.SIGKILL:
        from emu.live.lab.lab import sweep

        sweep()
    else:
        assert json.loads(out)["ended_by"] == INTERRUPTED
    names = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    assert f"emu-{demo.pid}-" not in names
    assert not folder.exists()


def test_a_foreign_program_that_is_missing_is_named_with_its_package(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr(foreign, "ADMIN_PATHS", ())
    with pytest.raises(UsageError, match="tgtd is not installed; on Debian it is in the package tgt"):
        run_demo(DemoOptions(), print, None, VethJoin)


class DeadJoin(VethJoin):
    """A NIC that has ended early."""

    def broken(self) -> str:
        return "emu live ended early: for this test"


def test_a_nic_that_ends_early_is_told_and_nothing_stays(tools: Path, tmp_path: Path) -> None:
    options = DemoOptions(policies=("phillips-v5",), out=tmp_path, **(SMALL | {"writes": 10**6}))
    world = run_demo(options, print, None, DeadJoin).worlds[0]
    assert world.verdict == "emu live ended early: for this test"
    assert world.under_flood is None
    assert left_behind(tools) == []

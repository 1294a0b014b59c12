"""Every kind of machine closes the loop: what is written becomes clean, and downloads arrive, whatever lies between."""

from pathlib import Path
from typing import Any

import pytest
from loop_kit import Tree, broken_rule, run_of_tree

from emu.closed import ENDED
from emu.verdicts.run_summary import summarise_run

TWO_NICS: Tree = {"device": [{"name": "eth0"}, {"name": "eth1"}]}
VLAN: Tree = {"upper": [{"name": "eth0.100", "kind": "vlan", "lower": ["eth0"], "vlan_id": 100}]}
KINDS: dict[str, Tree] = {
    "e1000": {},
    "no NAPI": {"device": [{"name": "eth0", "napi": False}]},
    "packet split": {"device": [{"name": "eth0", "driver": "e1000-ps"}]},
    "8139cp": {"device": [{"name": "eth0", "driver": "8139cp"}]},
    "tg3": {"device": [{"name": "eth0", "driver": "tg3"}]},
    "6.x": {"machine": {"geometry": "6.x-e1000e"}, "policy": {"name": "mainline"}},
    "jumbo": {"device": [{"name": "eth0", "mtu": 9000}]},
    "vlan": VLAN,
    "session over vlan": VLAN | {"session": [{"device": "eth0.100"}]},
    "bond": TWO_NICS | {"upper": [{"name": "bond0", "kind": "bond", "lower": ["eth0", "eth1"]}]},
    "two sessions on two NICs": TWO_NICS
    | {"session": [{"device": "eth0"}, {"device": "eth1", "target": "10.0.0.11"}]}
    | {"download": [{"device": "eth1", "reader": "immediate", "bytes": "64KiB"}]},
    "slow wire": {"wire": [{"rate": "10Mbit/s", "latency": "20ms"}]},
    "large writes": {"session": [{"write_size": "128KiB", "max_burst": "64KiB", "max_recv": "4KiB"}]},
    "unsolicited data": {"session": [{"write_size": "64KiB", "initial_r2t": False, "first_burst": "32KiB"}]},
    "small send buffer": {"session": [{"sndbuf": 2048}]},
    "slow CPU": {"machine": {"cpu_ns_per_packet": 200_000}},
}
WORLD: Tree = {
    "run": {"for": "1200ms"},
    "vm": {"dirty_background_ratio": 0},
    "writer": [{"rate": "1MB/s", "stop": "150ms"}],
    "session": [{}],
    "download": [{"reader": "immediate", "bytes": "64KiB"}],
}


def ended(tree: Tree, folder: Path) -> dict[str, Any]:
    """The summary of a run whose machine is sound at the end."""
    run = run_of_tree(WORLD | tree, folder)
    outcome = run.run()
    assert broken_rule(run.machine) == "holds"
    return summarise_run(outcome)


@pytest.mark.parametrize("kind", KINDS)
def test_the_loop_closes(kind: str, tmp_path: Path) -> None:
    summary = ended(KINDS[kind], tmp_path)
    block = summary["block_io"]
    assert block["writes_issued"] == block["writes_completed"] > 0
    assert block["bytes_completed"] == sum(writer["bytes_written"] for writer in summary["writers"]) > 100_000
    assert (summary["memory"]["dirty_pages"], summary["memory"]["writeback_pages"]) == (0, 0)
    assert [download["bytes_received"] for download in summary["downloads"]] == [64 << 10]
    assert all(session["logged_in"] for session in summary["sessions"])
    assert summary["duration_ns"] == summary["asked_ns"]
    assert (block["reinstatements"], block["retransmits"]) == (0, 0)


def test_frames_of_a_session_are_of_its_devices_size(tmp_path: Path) -> None:
    """With jumbo frames a write of 8 KiB is one segment, not six."""
    large = ended(KINDS["jumbo"] | {"writer": [{"rate": "8MB/s", "stop": "100ms"}]}, tmp_path)
    usual = ended({"writer": [{"rate": "8MB/s", "stop": "100ms"}]}, tmp_path)
    assert large["block_io"]["bytes_completed"] == usual["block_io"]["bytes_completed"]
    assert large["sent"] < 0.7 * usual["sent"]


def test_a_device_that_is_down_sends_and_receives_nothing(tmp_path: Path) -> None:
    """Between 50 and 350 ms eth0 is down: nothing moves, no memory is lost, and then the writes go on."""
    plan = [{"time": "50ms", "action": "down", "device": "eth0"}, {"time": "350ms", "action": "up", "device": "eth0"}]
    run = run_of_tree(WORLD | {"at": plan, "download": []}, tmp_path)
    start_ns = int(run.tick.start_ns)
    run.advance(until_ns=start_ns + 60_000_000)
    before = int(run.machine.total.frames)
    assert broken_rule(run.machine) == "holds"
    run.advance(until_ns=start_ns + 349_000_000)
    assert broken_rule(run.machine) == "holds"
    assert int(run.machine.total.frames) == before
    block = summarise_run(run.run())["block_io"]
    assert block["writes_issued"] == block["writes_completed"] > 0
    assert block["longest_stall_ms"] >= 300


@pytest.mark.parametrize(
    "entry",
    [
        {"action": "mtu", "device": "eth0", "value": 9000},
        {"action": "min_free_kbytes", "value": 8192},
        {"action": "pages", "value": 20_000},
    ],
    ids=lambda entry: str(entry["action"]),
)
def test_plans_are_carried_out_in_a_run(entry: dict[str, Any], tmp_path: Path) -> None:
    """An MTU, the sysctl, memory that others take: while writes are under way, and they go on."""
    summary = ended({"at": [{"time": "50ms"} | entry]}, tmp_path)
    block = summary["block_io"]
    assert block["writes_issued"] == block["writes_completed"] > 0
    assert summary["memory"]["dirty_pages"] == 0


def test_time_goes_on(tmp_path: Path) -> None:
    """No state is stepped through for ever: so many steps take time, or the run ends."""
    for tree in (
        {},
        KINDS["no NAPI"],
        KINDS["slow CPU"],
        {"session": [{"service": "0s"}], "wire": [{"latency": "0s"}]},
    ):
        run = run_of_tree(WORLD | tree, tmp_path)
        for _ in range(30):
            before_ns = run.elapsed_ns
            if run.advance(steps=200) in ENDED:
                break
            assert run.elapsed_ns > before_ns

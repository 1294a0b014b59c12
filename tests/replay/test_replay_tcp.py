"""TCP of real captures: what the emulated host takes for old is what other eyes see as retransmitted."""

from pathlib import Path

import pytest
from replay_kit import PCAPS, log_of, played, run

QUIET = {"pressure.start": "quiet", "readers.ordinary": "immediate"}
REPEATS = "tcp.analysis.retransmission || tcp.analysis.spurious_retransmission || tcp.analysis.keep_alive"


def seen_by_tshark(capture: Path, display_filter: str) -> set[int]:
    """The frames that a display filter of Wireshark's shows."""
    shown = run("tshark", "-r", capture, "-Y", display_filter, "-T", "fields", "-e", "frame.number")
    return {int(line) for line in shown.split()}


def test_what_is_old_in_a_real_capture_is_what_wireshark_calls_retransmitted(tmp_path: Path) -> None:
    """Every TCP_OLD_DATA of mixed.pcap is a retransmission to tshark, and every one with data to the host is ours."""
    capture = PCAPS / "mixed.pcap"
    rows = log_of(capture, tmp_path, settings=QUIET)
    old = {int(row["frame"]) for row in rows if row["reason"] == "TCP_OLD_DATA"}
    assert old == seen_by_tshark(capture, f"({REPEATS}) && tcp.len > 0 && ip.dst == 10.66.0.2")
    assert len(old) == 8


@pytest.mark.parametrize("name", ["mixed.pcap", "login.pcap", "nop.pcap"])
def test_a_real_capture_leaves_nothing_out_of_order(name: str) -> None:
    """None of them lost a segment, so no queue holds one, and no connection jumps."""
    machine = played(PCAPS / name, settings=QUIET).outcome.machine
    assert [i for i in range(machine.sks_made) if machine.sk[i].ofo_len] == []
    assert (machine.total.tcp_resyncs, machine.tcp_memory_allocated, int(machine.later_len)) == (0, 0, 0)

"""Who the reserve's check dropped, as the annotated capture tells it."""

import subprocess
import sys
from pathlib import Path

import pytest
from emu.live.demo_evidence import dropped_by_check

MIXED = Path(__file__).parents[2] / "pcaps" / "mixed.pcap"


def test_packets_of_block_io_that_the_check_dropped_are_found_in_the_capture(tmp_path: Path) -> None:
    pytest.importorskip("polars")
    annotated = tmp_path / "wire.pcapng"
    command = [sys.executable, "-m", "emu", "replay", str(MIXED), "--policy", "phillips-v5", "--engine", "plain"]
    subprocess.run([*command, "-w", str(annotated)], check=True, capture_output=True, timeout=120)
    assert dropped_by_check(str(annotated)) == 0
    # The check never drops block I/O: the file is made to say so of three others.
    octets = annotated.read_bytes()
    at, changed = 0, 0
    while changed < 3:
        at = octets.index(b"reason=PFMEMALLOC", at)
        flag = octets.index(b" memalloc=0", at) + len(b" memalloc=")
        assert flag - at < 300
        octets = octets[:flag] + b"1" + octets[flag + 1 :]
        at, changed = flag, changed + 1
    annotated.write_bytes(octets)
    assert dropped_by_check(str(annotated)) == 3


def test_a_capture_that_cannot_be_read_tells_nothing(tmp_path: Path) -> None:
    assert dropped_by_check(str(tmp_path / "none.pcapng")) is None

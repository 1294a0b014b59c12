"""The same input gives the same bytes, however it comes and however it is cut up; nothing is ever lost on the way."""

import gzip
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from replay_kit import (
    NS,
    PCAPS,
    POLICY_NAMES,
    ROOT,
    Frame,
    files_of,
    outputs_in,
    paced,
    pcap,
    played,
    rows_of,
    third_of_pairs,
    udp,
    wild_frames,
)

from emu.errors import NothingToPlayError
from emu.task import Outputs

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

RATE = {"readers.ordinary": "rate", "readers.rate": 2000}
SCENARIOS: dict[str, dict[str, Any]] = {
    "default": {},
    "quiet": {"pressure.start": "quiet"},
    "rate": RATE,
    "slow CPU, jumbo": {"machine.cpu_ns_per_packet": 300_000, "replay.offload": "jumbo"},
}


def everything(folder: Path, capture: bytes | Path, **how: Any) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The summary and the bytes of every output, in all formats."""
    folder.mkdir()
    summary = played(capture, outputs=outputs_in(folder, ".csv", record=True), **how).result
    for suffix in (".parquet", ".jsonl"):
        played(capture, outputs=Outputs(log=str(folder / f"log{suffix}")), **how)
    return summary, files_of(folder)


@pytest.mark.parametrize("scenario", ["default", "slow CPU, jumbo"])
def test_bytes_do_not_depend_on_the_size_of_batches(tmp_path: Path, scenario: str) -> None:
    """One frame at a time or thousands: summary, annotated capture, logs and event stream are the same."""
    capture = pcap(wild_frames(21, 1500))
    settings = SCENARIOS[scenario]
    expected = everything(tmp_path / "expected", capture, settings=settings)
    assert sorted(expected[1]) == ["events.jsonl", "log.csv", "log.jsonl", "log.parquet", "out.pcapng"]
    for batch in (1, 7, 64, 1025):
        found = everything(tmp_path / str(batch), capture, settings=settings, batch=batch)
        assert found == expected, batch


def test_bytes_do_not_depend_on_the_size_of_the_window(tmp_path: Path) -> None:
    """A window of a few bytes that has to grow gives what a roomy one gives."""
    capture = pcap(wild_frames(22, 600))
    expected = everything(tmp_path / "expected", capture)
    for window in (64, 1000, 70_000):
        assert everything(tmp_path / str(window), capture, window=window) == expected


@pytest.mark.parametrize("how", ["gzip", "zstd"])
def test_compressed_input_gives_the_same_outputs(tmp_path: Path, how: str) -> None:
    """A compressed capture is that capture; only the summary's input says how it came."""
    capture = pcap(wild_frames(23, 300))
    plain, files = everything(tmp_path / "plain", capture)
    packed = gzip.compress(capture) if how == "gzip" else zstd.compress(capture)
    summary, packed_files = everything(tmp_path / how, packed)
    assert summary.pop("input") == plain.pop("input") | {"compression": how}
    assert (summary, packed_files) == (plain, files)


def test_standard_input_gives_the_same_outputs(tmp_path: Path) -> None:
    """A capture from a pipe gives the same log and frames as the file; only the comment names another input."""
    logs: list[bytes] = []
    for source in ("pcaps/login.pcap", "-"):
        log = tmp_path / f"{len(logs)}.csv"
        command = [sys.executable, "-m", "emu", "replay", source, "--log", str(log), "--json"]
        stdin = (PCAPS / "login.pcap").read_bytes() if source == "-" else b""
        done = subprocess.run(command, input=stdin, capture_output=True, cwd=ROOT, check=True, timeout=60)
        assert done.stderr == b""
        logs.append(log.read_bytes())
    assert logs[0] == logs[1]
    assert len(logs[0].splitlines()) > 10


def test_the_environment_does_not_matter(tmp_path: Path) -> None:
    """Another hash seed, time zone, locale and number of threads give the same bytes."""
    source = (
        "import sys; from pathlib import Path\n"
        "from replay_kit import *; import hashlib\n"
        "folder = Path(sys.argv[1]); played(pcap(wild_frames(24, 200)), outputs=outputs_in(folder, '.parquet'))\n"
        "print([hashlib.sha256(octets).hexdigest() for octets in files_of(folder).values()])\n"
    )
    said = []
    kits = os.pathsep.join(str(ROOT / "tests" / folder) for folder in ("capture", "replay"))
    for at, values in enumerate(
        (
            {"PYTHONHASHSEED": "1", "TZ": "UTC", "LC_ALL": "C"},
            {"PYTHONHASHSEED": "2", "TZ": "Asia/Tokyo", "LC_ALL": "C.UTF-8", "POLARS_MAX_THREADS": "1"},
        )
    ):
        folder = tmp_path / str(at)
        folder.mkdir()
        command = [sys.executable, "-c", source, str(folder)]
        environment = os.environ | values | {"PYTHONPATH": kits}
        done = subprocess.run(command, env=environment, capture_output=True, check=True, timeout=60)
        said.append(done.stdout)
    assert said[0] == said[1] != b""


TIMES = st.sampled_from((0, 0, 1, 900, 2_100, 50_000, 3 * NS, -1, -NS))


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 1 << 32),
    count=st.integers(1, 60),
    jumps=st.lists(TIMES, min_size=60, max_size=60),
    policy=st.sampled_from(POLICY_NAMES),
    scenario=st.sampled_from(sorted(SCENARIOS)),
    filtered=st.booleans(),
    repeat=st.integers(1, 8),
)
def test_every_frame_has_exactly_one_fate(
    seed: int, count: int, jumps: list[int], policy: str, scenario: str, filtered: bool, repeat: int
) -> None:
    """Whatever comes: frames = filtered + received + not received, received = delivered + drops + in flight."""
    frames, now = [], 10 * NS
    for frame, jump in zip(wild_frames(seed, count), jumps, strict=False):
        now = max(0, now + jump)
        frames += [frame._replace(time_ns=now)] * repeat
    try:
        summary = played(
            pcap(frames), policy=policy, settings=SCENARIOS[scenario], filter="not arp" if filtered else None
        ).summary
    except NothingToPlayError:
        assume(not filtered)  # nothing but ARP came
        raise
    assert summary["frames"] == len(frames)
    assert summary["frames"] == summary["filtered"] + summary["received"] + summary["not_received"]
    dropped = sum(summary["drops_by_reason"].values())
    assert summary["received"] == summary["delivered"] + dropped + summary["in_flight"]
    assert summary["memalloc"]["received"] + summary["other"]["received"] == summary["received"]


def test_what_waits_in_the_ring_at_the_end_is_in_flight(tmp_path: Path) -> None:
    """Without time to drain, packets that the CPU has not come to are in flight, in the summary and in the log."""
    capture = pcap(paced([udp()] * 12, gap_ns=0))
    settings = {"replay.drain_ns": 0, "pressure.start": "quiet"}
    summary = played(capture, settings=settings, outputs=outputs_in(tmp_path)).summary
    verdicts = [row["verdict"] for row in rows_of(tmp_path / "log.csv")]
    assert summary["in_flight"] == verdicts.count("in_flight") == 12 - verdicts.count("delivered") > 0
    assert verdicts == sorted(verdicts)


# Recorded events.


@pytest.mark.parametrize(("scenario", "policy"), third_of_pairs(["default", "rate", "slow CPU, jumbo"], POLICY_NAMES))
def test_a_recording_plays_back_to_the_same_files(tmp_path: Path, policy: str, scenario: str) -> None:
    """--record-events, then --events: the log and the annotated capture are the same bytes."""
    capture = pcap(wild_frames(31, 700))
    settings = SCENARIOS[scenario]
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    played(capture, policy=policy, settings=settings, outputs=outputs_in(first, record=True))
    events = str(first / "events.jsonl")
    played(capture, policy=policy, settings=settings, outputs=outputs_in(second), events=events, batch=100)
    expected = files_of(first)
    assert len(expected.pop("events.jsonl").splitlines()) > 100
    assert files_of(second) == expected


def test_a_recording_whose_clock_differs_gives_the_same_verdicts(tmp_path: Path) -> None:
    """The stream says what happens between which frames: a playback at another speed decides alike."""
    capture = pcap(paced([udp(payload=900)] * 200, 5_000))
    played(capture, settings=RATE, outputs=outputs_in(tmp_path, record=True))
    recorded = [(row["verdict"], row["reason"]) for row in rows_of(tmp_path / "log.csv")]
    slow = pcap(paced([udp(payload=900)] * 200, 80_000))
    log = tmp_path / "again.csv"
    played(slow, settings=RATE, outputs=Outputs(log=str(log)), events=str(tmp_path / "events.jsonl"))
    assert [(row["verdict"], row["reason"]) for row in rows_of(log)] == recorded
    assert len(set(recorded)) > 1


def test_times_may_stand_still_run_back_and_leap() -> None:
    """The machine's clock never goes back: arrivals are the running maximum of the capture's times."""
    times = [5 * NS, 5 * NS, 3 * NS, 5 * NS + 1, 7200 * NS, 0, 7200 * NS + 3]
    frames = [Frame(udp(), time_ns) for time_ns in times]
    summary = played(pcap(frames)).summary
    assert summary["input"]["reversed_timestamps"] == 2
    assert summary["duration_ns"] >= max(times) - times[0]

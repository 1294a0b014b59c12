"""Compiled or plain: the same bytes of every output, on the sample captures and on everything that may come; slow."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from replay_kit import (
    NS,
    PCAPS,
    PLAIN,
    POLICY_NAMES,
    Frame,
    arp,
    files_of,
    icmp,
    iscsi,
    outputs_in,
    paced,
    pcap,
    played,
    sent,
    tcp,
    third_of_pairs,
    udp,
    wild_frames,
)

from emu.engine.plain import Engine
from emu.task import Outputs, Pace
from emu.traffic.pace import PACE_MBPS, PACE_PPS, PACE_SPEED

pytest.importorskip("numba")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.xdist_group("compiled")]


@pytest.fixture(scope="session")
def compiled() -> Engine:
    """The compiled engine, linked once."""
    from emu.engine.compiled import CompiledEngine

    return CompiledEngine()


SCENARIOS: dict[str, dict[str, Any]] = {
    "default": {},
    "quiet": {"pressure.start": "quiet", "readers.ordinary": "immediate"},
    "rate": {"readers.ordinary": "rate", "readers.rate": 500, "readers.udp_rcvbuf": 3000, "readers.tcp_rcvbuf": 5000},
    "never, trust": {"readers.ordinary": "never", "replay.checksums": "trust", "replay.offload": "drop"},
    "16 GB, verify, jumbo": {
        "machine.memory": "16GiB",
        "replay.checksums": "verify",
        "replay.offload": "jumbo",
        "replay.memalloc": "tcp or udp port 53",
        "replay.closed": "udp port 9",
    },
    "retransmit": {"device.0.ring": 80, "replay.retransmit": True},
    "small ring": {"device.0.ring": 80, "device.0.weight": 3, "device.0.rx_reserve": 5, "readers.rate": 7},
}


def both(
    tmp_path: Path, capture: bytes | Path, engine: Engine, *, parquet: bool = False, **how: Any
) -> list[tuple[Any, dict[str, bytes]]]:
    """Summary and files of a replay by each engine; with `parquet`, the log of a second one too."""
    found = []
    for each in (PLAIN, engine):
        folder = tmp_path / each.name
        folder.mkdir(exist_ok=True)
        task = dict(how)
        if "events" in task:
            task["events"] = str(tmp_path / "plain" / "events.jsonl")
            outputs = Outputs(log=str(folder / "again.csv"))
        else:
            outputs = outputs_in(folder, ".csv", record=True)
        summary = played(capture, engine=each, outputs=outputs, **task).result
        if parquet:
            played(capture, engine=each, outputs=Outputs(log=str(folder / "log.parquet")), **task)
        found.append((summary, files_of(folder)))
    return found


@pytest.mark.parametrize("policy", POLICY_NAMES)
@pytest.mark.parametrize("name", ["login", "nop", "mixed"])
def test_engines_agree_on_the_samples(tmp_path: Path, compiled: Engine, name: str, policy: str) -> None:
    """Each sample capture gives the same summary, log, annotated capture and event stream under each policy."""
    plain, fast = both(tmp_path, PCAPS / f"{name}.pcap", compiled, parquet=True, policy=policy)
    assert plain == fast


def test_what_is_compiled_ahead_is_what_a_replay_runs(tmp_path: Path, compiled: Any) -> None:
    """The types that a second process compiles it for are those that it is then called with."""
    from emu.engine.plain import REPLAY

    compiled.expect(REPLAY)
    both(tmp_path, PCAPS / "mixed.pcap", compiled)
    _, function, types = compiled.ahead()
    assert compiled.function(function).signatures == [types]


@pytest.mark.parametrize(("scenario", "policy"), third_of_pairs(SCENARIOS, POLICY_NAMES))
def test_engines_agree_on_whatever_comes(tmp_path: Path, compiled: Engine, scenario: str, policy: str) -> None:
    """Every kind of frame, damage and time, in several scenarios, in batches of different sizes."""
    for seed, batch in ((1, 4096), (2, 100)):
        capture = pcap(wild_frames(1000 * seed + len(scenario), 500))
        plain, fast = both(tmp_path, capture, compiled, policy=policy, settings=SCENARIOS[scenario], batch=batch)
        assert plain == fast


@pytest.mark.parametrize(
    "how",
    [
        {"pace": Pace(PACE_SPEED, 1, 7)},
        {"pace": Pace(PACE_SPEED, 123_457, 1_000)},
        {"pace": Pace(PACE_PPS, 999_999_999_999, 1_000_000)},
        {"pace": Pace(PACE_PPS, 1, 1_000_000)},
        {"pace": Pace(PACE_MBPS, 123_456_789_123, 1_000_000)},
        {"pace": Pace(PACE_MBPS, 1, 1_000), "filter": "tcp or arp"},
        {"filter": "ip[8] > 3 and not port 53", "limit": 333},
        {"host": "02:00:00:00:00:01"},
        {"events": ""},
    ],
)
def test_engines_agree_on_pace_filter_host_and_events(tmp_path: Path, compiled: Engine, how: dict[str, Any]) -> None:
    """Rates that do not divide, filters, the other end as the host, and a played-back stream."""
    capture = pcap(wild_frames(77, 500))
    both(tmp_path, capture, compiled)
    plain, fast = both(tmp_path, capture, compiled, **how)
    assert plain == fast


@pytest.mark.parametrize("seconds", [0, 1 << 31, (1 << 32) - 1])
def test_engines_agree_on_times_at_the_end_of_the_world(tmp_path: Path, compiled: Engine, seconds: int) -> None:
    """The largest times that a pcap file can state."""
    frames = [frame._replace(time_ns=frame.time_ns % NS + seconds * NS) for frame in wild_frames(5, 60)]
    plain, fast = both(tmp_path, pcap([Frame(udp(), 0), *frames]), compiled)
    assert plain == fast


def test_engines_agree_on_compressed_and_cut_input(tmp_path: Path, compiled: Engine) -> None:
    """A capture that breaks off is reported alike, and so is what was read of it."""
    capture = pcap(wild_frames(6, 300))[:-7]
    plain, fast = both(tmp_path, capture, compiled, window=200)
    assert plain == fast
    assert plain[0]["incomplete"]


def peak_mib(folder: Path, seconds: int, *options: str) -> int:
    """The most memory that a replay of so many seconds (2 MB each) holds, with every output."""
    kinds = [iscsi(1400), udp(payload=1400), tcp(payload=1400), icmp(1400), arp(), sent()]
    path = folder / f"{seconds}.pcap"
    with path.open("wb") as stream:
        stream.write(pcap([]))
        for second in range(seconds):
            stream.write(pcap(paced(kinds * 330, gap_ns=100_000, start_ns=second * NS))[24:])
    outputs = ["-w", str(folder / "out.pcapng"), "--log", str(folder / "log.parquet"), "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "emu", "replay", str(path), *outputs, *options],
        env=os.environ | {"POLARS_MAX_THREADS": "2"},
        capture_output=True,
        check=True,
        timeout=600,
    )
    assert (folder / "out.pcapng").stat().st_size > 1_000_000
    return int(json.loads(done.stdout)["run"]["rss_peak_bytes"]) >> 20


def test_memory_does_not_grow_with_the_capture(tmp_path: Path) -> None:
    """60 MB compiled need hardly more than 12 MB do, 20 000 frames plain hardly more than 5 000."""
    # Held in memory, the frames between and their rows would be 70 MB compiled, and 45 MB plain.
    small, large = (peak_mib(tmp_path, seconds, "--engine", "compiled") for seconds in (6, 30))
    assert large - small < 40
    few, many = (peak_mib(tmp_path, 20, "--engine", "plain", "--limit", limit) for limit in ("5000", "20000"))
    assert many - few < 35

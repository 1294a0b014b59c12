"""Long runs: at packet 2**40 and after 100 years every number stays within 64 bits, and every verdict is the same."""

import io
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from int64_kit import MOST, Int64, Int64Engine, Overflow
from replay_kit import (
    HOST,
    HOST_MAC,
    IP,
    NS,
    PCAPS,
    PEER,
    PEER_MAC,
    PLAIN,
    POLICY_NAMES,
    Frame,
    Raw,
    ether,
    files_of,
    icmp,
    iscsi,
    pcap,
    rows_of,
    sent,
    tcp,
    third_of_pairs,
    udp,
    wild_frames,
)

from emu.capture.compression import Source
from emu.capture.reader import CaptureReader
from emu.engine.plain import Engine
from emu.kernel.boot import start_clock
from emu.kernel.drop_reason import MAX_REASONS
from emu.kernel.machine import Counters, Fates, Packet, Totals
from emu.kernel.record import fields_of
from emu.play import Replay
from emu.scenario_file import load_scenario
from emu.task import Outputs, Pace, Task
from emu.traffic.pace import PACE_CAPTURED, PACE_MBPS, PACE_PPS, PACE_SPEED
from emu.verdicts.summary import summarise

MANY = 1 << 40
CENTURY_NS = 3_155_760_000 * NS
A_WHILE_NS = 1_000 * NS  # so long after the first frame all that it started has ended


class Start(NamedTuple):
    """Where a run starts: how many frames of every fate have been counted, the number of the next one."""

    counted: int
    first_frame: int


FRESH, OLD = Start(0, 1), Start(MANY, 6 * MANY + 1)  # six fates, see `count_already`
OUTCOMES = ("delivered", "dropped")


def numbers(record: Any, row: Any) -> dict[str, int]:
    """The integers that stand directly in a record."""
    return {name: int(getattr(record, name)) for name, nested, length in fields_of(row) if not nested and not length}


def add(engine: Engine, record: Any, row: Any, values: Mapping[str, int]) -> None:
    """Count so many more."""
    before = numbers(record, row)
    engine.fill(record, {name: before[name] + more for name, more in values.items()})


def count_already(engine: Engine, m: Any, counted: int) -> None:
    """As if so many frames of every fate had come before."""
    classes = dict.fromkeys(OUTCOMES, counted) | {"received": 2 * counted}
    add(engine, m.total.memalloc, Fates, classes)
    add(engine, m.total.other, Fates, classes)
    fates = {"filtered": counted, "not_received": counted, "delivered": 2 * counted, "dropped": 2 * counted}
    add(engine, m.total, Totals, fates | {"received": 4 * counted, "frames": 6 * counted})
    m.total.drops_by_reason[1] += 2 * counted
    add(engine, m.mib, Counters, dict.fromkeys(numbers(m.mib, Counters), counted))
    for d in range(int(m.devices)):
        more = dict.fromkeys(("rx_packets", "rx_bytes", "rx_missed", "reserve_allocations"), counted)
        engine.fill(m.dev[d], {name: int(getattr(m.dev[d], name)) + each for name, each in more.items()})


class Resumed(Replay):
    """A replay whose machine has counted before the first frame, which starts its clock."""

    counted = 0

    def arrive(self, first: int, last: int) -> None:
        m = self.machine
        if self.counted and int(m.total.frames) == 0:
            self.first_ns = int(self.rows[0].time_ns)
            self.engine.function(start_clock)(m, self.first_ns)
            count_already(self.engine, m, self.counted)
        super().arrive(first, last)


def play(capture: bytes, engine: Engine, start: Start, folder: Path, policy: str, **how: Any) -> Replay:
    """Replay with all outputs."""
    folder.mkdir()
    scenario = load_scenario(None, {"policy.name": policy} | how.pop("settings", {}))
    outputs = Outputs(str(folder / "out.pcapng"), "all", str(folder / "log.csv"), "all", str(folder / "events.jsonl"))
    with CaptureReader(Source(io.BytesIO(capture), "test", len(capture)), "test", engine) as reader:
        reader.frames = start.first_frame - 1
        replay = Resumed(Task(scenario, "test", outputs=outputs, **how), engine, reader, ())
        replay.counted = start.counted
        engine.fill(replay.machine, {"seq_base": start.first_frame})
        summarise(replay.run())
    return replay


def later(rows: list[dict[str, str]], frames: int, ns: int) -> list[dict[str, str]]:
    """The rows of a log as they stand so many frames and so much time later; the first frame keeps its time."""
    moved = []
    for row in rows:
        new = dict(row)
        for name in ("frame", "packet_id", "culprit_frame"):
            if new[name] != "0":
                new[name] = str(int(new[name]) + frames)
        for name in ("time_ns", "decided_ns"):
            if int(new[name]) >= A_WHILE_NS:
                new[name] = str(int(new[name]) + ns)
        moved.append(new)
    return moved


def after(first: Frame, wait_ns: int, frames: list[Frame]) -> bytes:
    """A capture that begins with a frame at time 0 and goes on so much later."""
    start_ns = min(frame.time_ns for frame in frames)
    return pcap([first, *(frame._replace(time_ns=frame.time_ns - start_ns + wait_ns) for frame in frames)])


SETTINGS: dict[str, dict[str, Any]] = {
    "crunch": {},
    "rate": {"readers.ordinary": "rate", "readers.rate": 10**9, "readers.udp_rcvbuf": 3000},
    "retransmit": {"device.0.ring": 80, "replay.retransmit": True, "readers.rate": 7},
    "slow cpu": {"machine.cpu_ns_per_packet": 10**9, "machine.cpu_ps_per_byte": 1_000_000},
}


def test_the_checked_integers_notice_what_wraps() -> None:
    m = Int64Engine().new(Packet)
    m.time_ns = MOST
    wrapping: tuple[Callable[[], int], ...] = (
        lambda: m.time_ns + 1,
        lambda: 2 * m.time_ns >> 1,
        lambda: -2 - m.time_ns,
        lambda: m.time_ns << 1,
    )
    for each in wrapping:
        with pytest.raises(Overflow, match="test_long_runs"):
            each()
    with pytest.raises(Overflow):
        m.frame = 1 << 63
    assert type(max(0, m.time_ns) - 1) is Int64


@pytest.mark.parametrize(("settings", "policy"), third_of_pairs(SETTINGS, POLICY_NAMES))
def test_packet_2_to_the_40_a_century_on_fares_like_the_first(tmp_path: Path, settings: str, policy: str) -> None:
    """Whatever comes, no number leaves 64 bits, and the log differs in frame numbers and times alone."""
    frames = wild_frames(len(settings), 250)
    first = Frame(udp(), 0)
    how = {"settings": SETTINGS[settings], "batch": 100}
    fresh = play(after(first, A_WHILE_NS, frames), PLAIN, FRESH, tmp_path / "fresh", policy, **how)
    old = play(after(first, CENTURY_NS, frames), Int64Engine(), OLD, tmp_path / "old", policy, **how)
    rows = later(rows_of(tmp_path / "fresh/log.csv"), OLD.first_frame - 1, CENTURY_NS - A_WHILE_NS)
    assert rows_of(tmp_path / "old/log.csv") == rows
    count_already(PLAIN, fresh.machine, MANY)
    for row, name in ((Totals, "total"), (Counters, "mib")):
        assert numbers(getattr(old.machine, name), row) == numbers(getattr(fresh.machine, name), row)
    assert [*old.machine.total.drops_by_reason] == [*fresh.machine.total.drops_by_reason]
    assert len(old.machine.total.drops_by_reason) == MAX_REASONS


HUGE = (1 << 32) - 1  # what the header of a frame may claim


@pytest.mark.parametrize(
    "pace",
    [
        Pace(),
        Pace(PACE_CAPTURED),
        Pace(PACE_SPEED, 1, 1_000_000),
        Pace(PACE_SPEED, 999_999_999_999, 1_000),
        Pace(PACE_PPS, 1, 1_000_000),
        Pace(PACE_PPS, 999_999_999_999, 1_000_000),
        Pace(PACE_MBPS, 1, 1_000_000),
        Pace(PACE_MBPS, 999_999_999_999, 1_000_000),
    ],
)
@pytest.mark.parametrize("cpu", [0, 1_000_000_000])
def test_no_pace_and_no_length_leaves_64_bits(tmp_path: Path, pace: Pace, cpu: int) -> None:
    """The slowest and the fastest rates, frames that claim 4 GB, times from 1970 to the last that a pcap can state."""
    frames = [
        Frame(udp(), 0, HUGE),
        *(Frame(each, (1 << 32) * NS - 1 - (30 - at) * NS, HUGE) for at, each in enumerate([udp(), iscsi()] * 15)),
    ]
    settings = {"machine.cpu_ns_per_packet": cpu, "machine.cpu_ps_per_byte": 1_000_000, "replay.drain_ns": 3_600 * NS}
    settings = settings if cpu else {}
    play(pcap(frames), Int64Engine(), OLD, tmp_path / "run", "phillips-v5", pace=pace, settings=settings)


def test_the_sample_plays_at_the_end_of_the_counters(tmp_path: Path) -> None:
    """The real capture, retransmissions and followed iSCSI included."""
    settings = {"replay.retransmit": True, "replay.checksums": "verify"}
    capture = (PCAPS / "mixed.pcap").read_bytes()
    play(capture, Int64Engine(), OLD, tmp_path / "run", "phillips-v5", settings=settings, limit=6 * MANY + 4000)
    assert files_of(tmp_path / "run")


LAST_S = (1 << 62) // NS  # of the times that a reader gives, and minus that the first


def pcapng(frames: list[tuple[bytes, int]]) -> bytes:
    """A capture whose frames come at whole seconds since 1970, each on an interface with that offset."""
    blocks = [struct.pack("<IIIHHqI", 0x0A0D0D0A, 28, 0x1A2B3C4D, 1, 0, -1, 28)]
    for _, second in frames:
        blocks.append(struct.pack("<IIHHIHHqHHI", 1, 36, 1, 0, 0, 14, 8, second, 0, 0, 36))
    for at, (octets, _) in enumerate(frames):
        data = octets + bytes(-len(octets) % 4)
        size = 32 + len(data)
        blocks.append(struct.pack("<IIIIIII", 6, size, at, 0, 0, len(octets), len(octets)) + data)
        blocks.append(struct.pack("<I", size))
    return b"".join(blocks)


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("pace", [Pace(), Pace(PACE_SPEED, 1, 2), Pace(PACE_SPEED, 3, 1)])
def test_the_first_and_the_last_time_of_a_capture_are_one_run(tmp_path: Path, pace: Pace, settings: str) -> None:
    """From 146 years before 1970 to 146 after it, with ICMP errors and unread sockets at both ends."""
    kinds = [udp(), udp(9), iscsi(), tcp(), icmp(), sent(), udp(9), fragment()]
    frames = [*((each, -LAST_S - 1) for each in kinds), *((each, LAST_S) for each in 3 * kinds)]
    further = {"replay.closed": "udp port 9", "replay.drain_ns": 3_600 * NS}
    how = {"settings": SETTINGS[settings] | further, "pace": pace}
    run = play(pcapng(frames), Int64Engine(), OLD, tmp_path / "run", "phillips-v5", **how)
    assert int(run.machine.mib.IcmpOutDestUnreachs) - MANY >= 4
    assert int(run.machine.now_ns) - int(run.first_ns) > LAST_S * NS // 2


def fragment() -> bytes:
    """Half of a datagram, whose other half never comes."""
    return ether(PEER_MAC, HOST_MAC, IP(src=PEER, dst=HOST, flags="MF", proto=17) / Raw(bytes(200)))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.xdist_group("compiled")
@pytest.mark.parametrize("settings", ["crunch", "retransmit"])
def test_the_compiled_engine_agrees_a_century_on(tmp_path: Path, settings: str) -> None:
    """What the checked integers say of the plain engine is true of machine words."""
    pytest.importorskip("numba")
    from emu.engine.compiled import CompiledEngine

    capture = after(Frame(udp(), 0), CENTURY_NS, wild_frames(11, 300))
    found = []
    for engine in (Int64Engine(), CompiledEngine()):
        folder = tmp_path / type(engine).__name__
        run = play(capture, engine, OLD, folder, "phillips-v5", settings=SETTINGS[settings], batch=100)
        found.append((files_of(folder), numbers(run.machine.total, Totals), numbers(run.machine.mib, Counters)))
    assert found[0] == found[1]

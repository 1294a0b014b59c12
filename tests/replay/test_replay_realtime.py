"""--realtime: the same bytes, none before its time; a signal and a closed pipe end a wait at once."""

import signal
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import replay_kit as kit
from hypothesis import given, settings
from hypothesis import strategies as st

from emu.capture.output import OutputFile
from emu.engine.plain import PlainEngine
from emu.errors import UsageError
from emu.interrupt import Interruption
from emu.pacing import SLICE_NS, Pacer, parse_realtime
from emu.time_slices import next_time_ns
from emu.traffic.arrivals import Feed, set_time
from emu.traffic.pace import PACE_CAPTURED, PACE_MBPS, PACE_PPS, PACE_SPEED

MS = 1_000_000
HOUR_NS = 3600 * kit.NS
PATIENCE_S = 60.0  # a process that ends at once takes a part of it; one that waits takes an hour


class Clock:
    """A clock that moves when somebody sleeps; each sleep lasts longer than asked for by the next of `late_ns`."""

    def __init__(self, late_ns: list[int]) -> None:
        """Begin anywhere but at 0."""
        self.now_ns = 77 * kit.NS
        self.late_ns = list(late_ns)
        self.sleeps: list[int] = []

    def sleep(self, milliseconds: int) -> bool:
        """Sleep; nobody has gone."""
        self.sleeps.append(milliseconds)
        self.now_ns += milliseconds * MS + (self.late_ns.pop() if self.late_ns else 0)
        return False

    def __call__(self) -> int:
        """The time."""
        return self.now_ns


SPEEDS = st.fractions(Fraction(1, 100), 1000, max_denominator=1000)


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.integers(0, kit.NS), st.integers(0, kit.NS)), min_size=1, max_size=30),
    st.lists(st.integers(0, kit.NS), max_size=30),
    SPEEDS,
)
def test_deadlines_are_counted_from_the_start(
    steps: list[tuple[int, int]], late_ns: list[int], speed: Fraction
) -> None:
    """Nothing is before its time, whoever is late waits for nothing, and what waits are late by does not add up."""
    clock = Clock(late_ns)
    pacer = Pacer(speed, Interruption(), None, clock, clock.sleep)
    start_ns = clock.now_ns
    virtual_ns = 10**18
    pacer.start(virtual_ns)
    for gap_ns, busy_ns in steps:
        virtual_ns += gap_ns
        clock.now_ns += busy_ns
        due_ns = start_ns + int((virtual_ns - 10**18) / speed)
        was_late, before_ns, slept = clock.now_ns >= due_ns, clock.now_ns, len(clock.sleeps)
        late = clock.late_ns[-1] if clock.late_ns else 0
        pacer.wait_until(virtual_ns)
        assert clock.now_ns >= due_ns
        if was_late:
            assert (clock.now_ns, len(clock.sleeps)) == (before_ns, slept)
        else:
            assert clock.now_ns < due_ns + late + MS


@pytest.mark.parametrize(("text", "speed"), [("1", 1), ("0.5", Fraction(1, 2)), ("10x", 10), ("2k", 2000)])
def test_the_speed_is_a_number_of_times(text: str, speed: Fraction) -> None:
    """As the rates of the other options."""
    assert parse_realtime(text) == speed


@pytest.mark.parametrize("text", ["0", "-1", "", "fast", "1e3", "2G", "nan"])
def test_nonsense_is_no_speed(text: str) -> None:
    """It is refused in one line that says what was expected."""
    with pytest.raises(UsageError, match=r"--realtime=.*above 0"):
        parse_realtime(text)


@given(
    st.sampled_from([PACE_CAPTURED, PACE_SPEED, PACE_PPS, PACE_MBPS]),
    st.lists(st.tuples(st.integers(0, 10**12), st.integers(60, 9000)), min_size=1, max_size=20),
)
def test_looking_ahead_tells_the_time_and_changes_nothing(pace: int, frames: list[tuple[int, int]]) -> None:
    """The next row's time is foreseen at every pace, also where the capture's clock steps back."""
    engine = PlainEngine()
    feed, rows = engine.new(Feed), engine.rows(kit.Packet, len(frames))
    engine.fill(feed, {"pace": pace, "rate_over": 7, "rate_under": 3})
    for at, (time_ns, length) in enumerate(frames):
        engine.fill(rows[at], {"file_time_ns": time_ns, "length": length})
        before = vars(feed).copy() if hasattr(feed, "__dict__") else None
        foreseen = next_time_ns(feed, rows[at])
        assert before is None or vars(feed) == before
        set_time(feed, rows[at], False)
        assert rows[at].time_ns == foreseen


class Watched:
    """Paces runs by a clock that moves when they wait, and notes what they had written whenever they did."""

    def __init__(self, written: Callable[[], int]) -> None:
        """`written` counts the bytes that whoever watches sees."""
        self.clock = Clock([])
        self.start_ns = self.clock.now_ns
        self.written = written
        self.seen: list[tuple[int, int]] = []  # ns since the start, bytes

    def pacer(self, speed: Fraction, interruption: Interruption, output: OutputFile | None) -> Pacer:
        """In place of Pacer."""
        return Pacer(speed, interruption, output, self.clock, self._sleep)

    def _sleep(self, milliseconds: int) -> bool:
        self.seen.append((self.clock.now_ns - self.start_ns, self.written()))
        return self.clock.sleep(milliseconds)


def played(tmp_path: Path, speed: Fraction | None, monkeypatch: pytest.MonkeyPatch, *more: str) -> Watched:
    """`emu replay` of mixed.pcap in this process, into out.pcapng and log.csv."""
    from emu.cli.options import ReplayCommand
    from emu.cli.replay import run_replay

    tmp_path.mkdir()
    partial = tmp_path / "out.pcapng.partial"
    watched = Watched(lambda: partial.stat().st_size)
    monkeypatch.setattr("emu.in_progress.Pacer", watched.pacer)
    run_replay(
        ReplayCommand(
            capture=[str(kit.PCAPS / "mixed.pcap")],
            write=str(tmp_path / "out.pcapng"),
            log=str(tmp_path / "log.csv"),
            flood=["udp:pps=500,count=1000"],
            limit=2500,
            realtime=None if speed is None else str(speed),
            engine="plain",
            progress=False,
        )
    )
    return watched


def test_every_frame_is_seen_in_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The files are those of a replay that does not wait; while it waits, just what is due has been written."""
    played(tmp_path / "at once", None, monkeypatch)
    watched = played(tmp_path / "in time", Fraction(2), monkeypatch)
    for name in ("out.pcapng", "log.csv"):
        assert (tmp_path / "at once" / name).read_bytes() == (tmp_path / "in time" / name).read_bytes()
    times_ns, ends = frames_of((tmp_path / "in time" / "out.pcapng").read_bytes())
    first_ns = times_ns[0]
    assert len(watched.seen) > 5
    for now_ns, octets in watched.seen:
        virtual_ns = first_ns + 2 * now_ns
        shown = sum(end <= octets for end in ends)
        due = sum(time_ns <= virtual_ns for time_ns in times_ns)
        long_due = sum(time_ns <= virtual_ns - 4 * SLICE_NS for time_ns in times_ns)
        assert shown <= due  # none too early
        assert shown >= long_due - WAITING  # and none kept back but what the ring holds


WAITING = 256  # frames of the ring, whose verdicts may lag


def frames_of(octets: bytes) -> tuple[list[int], list[int]]:
    """Of each Enhanced Packet Block: the running maximum of times, and where it ends."""
    times_ns, ends, at, latest = [], [], 0, 0
    while at < len(octets):
        kind, size = (int.from_bytes(octets[at + skip : at + skip + 4], "little") for skip in (0, 4))
        if kind == 6:
            high, low = (int.from_bytes(octets[at + skip : at + skip + 4], "little") for skip in (12, 16))
            latest = max(latest, high << 32 | low)
            times_ns.append(latest)
            ends.append(at + size)
        at += size
    return times_ns, ends


def test_a_run_is_the_same_in_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of the closed loop writes the same capture, and waits until its virtual time has passed."""
    from emu.cli.run import run_run
    from emu.cli.run_options import RunCommand

    octets: list[Any] = []
    watched = Watched(lambda: 0)
    monkeypatch.setattr("emu.in_progress.Pacer", watched.pacer)
    for speed in (None, "0.1"):
        out = tmp_path / f"{speed}.pcapng"
        run_run(
            RunCommand(
                scenario="smallest-cure",
                write=str(out),
                duration="40ms",
                realtime=speed,
                baseline=False,
                engine="plain",
                progress=False,
            )
        )
        octets.append(out.read_bytes())
    assert octets[0] == octets[1]
    assert frames_of(octets[0])[0]
    assert watched.clock.now_ns - watched.start_ns >= 400 * MS
    assert len(watched.seen) >= 4


@pytest.fixture
def with_a_lull(tmp_path: Path) -> Path:
    """Five frames at once, and a sixth an hour later."""
    times_ns = [kit.NS, *(kit.NS + at * MS for at in range(1, 5)), kit.NS + HOUR_NS]
    path = tmp_path / "lull.pcap"
    path.write_bytes(kit.pcap([kit.Frame(kit.udp(), time_ns) for time_ns in times_ns]))
    return path


def started(capture: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """`emu replay` in real time, as far as the lull."""
    words = [sys.executable, "-m", "emu", "replay", str(capture), "-w", "-", "--realtime", "--engine", "plain"]
    return subprocess.Popen([*words, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def until_frame(process: subprocess.Popen[bytes], number: int) -> bytes:
    """What the process writes up to a frame, as one who watches the pipe sees it."""
    assert process.stdout is not None
    seen = b""
    while len(frames_of_a_part(seen)) < number:
        octets = process.stdout.read1(65536)  # type: ignore[attr-defined]
        assert octets, process.stderr and process.stderr.read()
        seen += octets
    return seen


def frames_of_a_part(octets: bytes) -> list[int]:
    """Times of the whole blocks."""
    at = 0
    while at + 12 <= len(octets) and at + int.from_bytes(octets[at + 4 : at + 8], "little") <= len(octets):
        at += int.from_bytes(octets[at + 4 : at + 8], "little")
    return frames_of(octets[:at])[0]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_lull_at_once(tmp_path: Path, with_a_lull: Path, number: signal.Signals) -> None:
    """The frames before it are there, the one behind it is not, and the capture says why it ends."""
    process = started(with_a_lull)
    seen = until_frame(process, 5)
    process.send_signal(number)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    assert err.endswith(b"emu: interrupted after frame 5; outputs are closed and say so\n")
    whole = tmp_path / "whole.pcapng"
    whole.write_bytes(seen + out)
    assert "5" in kit.run("capinfos", "-Mc", whole)
    assert b"interrupted after frame 5" in whole.read_bytes()


def test_a_closed_pipe_ends_a_lull_at_once(with_a_lull: Path) -> None:
    """Nothing is written in a lull that could tell; it is noticed all the same, and nothing is said of it."""
    process = started(with_a_lull)
    until_frame(process, 5)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.wait(timeout=PATIENCE_S) == 1
    assert process.stderr.read() == b""
    process.stderr.close()


def test_a_slow_source_is_not_waited_for_twice(tmp_path: Path) -> None:
    """What comes through a pipe later than its time is played when it comes."""
    clock = Clock([])
    pacer = Pacer(Fraction(1), Interruption(), None, clock, clock.sleep)
    pacer.start(0)
    for second in range(1, 5):
        clock.now_ns += 2 * kit.NS  # the source waited so long for one second of capture
        pacer.wait_until(second * kit.NS)
    assert clock.sleeps == []


def test_the_option_may_stand_alone() -> None:
    """Then it is the clock's own speed; behind `--` it is a file's name."""
    from emu.cli.main import arguments

    assert arguments(["replay", "--realtime", "a", "--", "--realtime"]) == [
        "replay",
        "--realtime=1",
        "a",
        "--",
        "--realtime",
    ]


def test_a_comparison_takes_no_time_of_its_own() -> None:
    """Several policies are not shown live: the option is refused, not ignored."""
    words = [sys.executable, "-m", "emu", "compare", str(kit.PCAPS / "nop.pcap"), "--realtime"]
    done = subprocess.run(words, capture_output=True, check=False)
    assert done.returncode == 2
    assert b"No such option: --realtime" in done.stderr

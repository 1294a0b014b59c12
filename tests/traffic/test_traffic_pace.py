"""Pacing is exact: what a division leaves over is never lost, however long the capture and odd the rate."""

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from traffic_kit import kit

from emu.cli.options import ReplayCommand
from emu.errors import UsageError
from emu.request import pace_of
from emu.task import Pace
from emu.traffic.arrivals import END_OF_TIME_NS, Feed, set_time
from emu.traffic.pace import FRAMING_BYTES, PACE_CAPTURED, PACE_MBPS, PACE_PPS, PACE_SPEED, gap_ns

RATES = st.fractions(min_value=Fraction(1, 1000), max_value=10**9, max_denominator=10**6)
FRAMES = st.lists(st.tuples(st.integers(0, 10**10), st.integers(0, 9000)), min_size=1, max_size=50)


def feed_of(mode: int, rate: Fraction) -> Feed:
    feed = Feed()
    feed.pace, feed.rate_over, feed.rate_under = mode, rate.numerator, rate.denominator
    return feed


def exact_gap(mode: int, rate: Fraction, captured: int, length: int) -> Fraction:
    """The gap as the definition has it."""
    if mode == PACE_SPEED:
        return captured / rate
    if mode == PACE_PPS:
        return Fraction(10**9) / rate
    return 8 * (length + FRAMING_BYTES) * 1000 / rate


@settings(max_examples=150, deadline=None)
@given(mode=st.sampled_from((PACE_SPEED, PACE_PPS, PACE_MBPS)), rate=RATES, frames=FRAMES)
def test_every_arrival_is_the_exact_time_rounded_down(mode: int, rate: Fraction, frames: list[tuple[int, int]]) -> None:
    """After any number of frames the clock is the floor of the exact sum: no error adds up."""
    feed = feed_of(mode, rate)
    now, exact = 0, Fraction(0)
    for captured, length in frames:
        now += gap_ns(feed, captured, length)
        exact += exact_gap(mode, rate, captured, length)
        assert now == int(exact)
        assert 0 <= feed.remainder < feed.rate_over


def test_captured_pace_keeps_the_gaps() -> None:
    """Without a rate the gaps are the capture's."""
    feed = feed_of(PACE_CAPTURED, Fraction(1))
    assert [gap_ns(feed, gap, 60) for gap in (0, 1, 10**12)] == [0, 1, 10**12]


@pytest.mark.parametrize("rate", [3, 7, 1_488_095, Fraction(1_000_003, 7)])
def test_no_drift_at_frame_2_to_the_40(rate: Fraction) -> None:
    """A feed that has already paced 2**40 frames goes on exactly where the exact time is."""
    rate = Fraction(rate)
    before = (1 << 40) * Fraction(10**9) / rate  # exact time of frame 2**40
    feed = feed_of(PACE_PPS, rate)
    scaled = before * rate.numerator
    assert scaled.denominator == 1
    feed.remainder = int(scaled) % rate.numerator
    now = int(before)
    for frame in range((1 << 40) + 1, (1 << 40) + 2000):
        now += gap_ns(feed, 5, 60)
        assert now == int(frame * Fraction(10**9) / rate)


def arrivals(frames: list[kit.Frame], mode: int = PACE_CAPTURED, rate: Fraction = Fraction(1)) -> list[int]:
    """When frames arrive, by the function that times them."""
    feed = feed_of(mode, rate)
    times = []
    for frame in frames:
        p = kit.Packet()
        p.file_time_ns, p.length = frame.time_ns, len(frame.octets)
        set_time(feed, p, False)
        times.append(p.time_ns)
    return times


@given(times=st.lists(st.integers(0, END_OF_TIME_NS), min_size=1, max_size=30))
def test_arrivals_are_the_running_maximum(times: list[int]) -> None:
    """A time stamp that runs back is clamped to the latest one before it."""
    frames = [kit.Frame(b"x" * 60, time_ns) for time_ns in times]
    assert arrivals(frames) == [max(times[: at + 1]) for at in range(len(times))]


def test_time_ends_in_2116() -> None:
    """However slowly a capture is played, no arrival lies beyond the clock's end."""
    frames = [kit.Frame(b"x" * 60, at * 10**15) for at in range(4)]
    found = arrivals(frames, PACE_SPEED, Fraction(1, 1000))
    assert found == [0, 10**18, 2 * 10**18, 3 * 10**18]
    assert arrivals([*frames, kit.Frame(b"", END_OF_TIME_NS)], PACE_SPEED, Fraction(1, 1000))[-1] == END_OF_TIME_NS


def test_the_slowest_pace_stays_within_the_clock() -> None:
    """A millionth of the speed and a gap of a century: the gap is cut, so that 64 bits hold every sum."""
    assert gap_ns(feed_of(PACE_SPEED, Fraction(1, 10**6)), 3 * 10**18, 60) == 1 << 61
    assert gap_ns(feed_of(PACE_SPEED, Fraction(1, 10**6)), 10**12, 60) == 10**18


def test_bit_rate_counts_framing() -> None:
    """At 8 Mbit/s a byte takes a microsecond, and a frame 24 bytes more than its own; the first is not delayed."""
    sizes = (60, 1514, 100)
    frames = [kit.Frame(bytes(size), 7) for size in sizes]
    assert arrivals(frames, PACE_MBPS, Fraction(8)) == [7, 7 + 84_000, 7 + 84_000 + 1_538_000]


@pytest.mark.parametrize(("pace", "gap"), [(Pace(PACE_PPS, 1000, 1), 10**6), (Pace(PACE_SPEED, 2, 1), 50_000)])
def test_a_replay_is_paced(pace: Pace, gap: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The log's arrival times are those of the rate."""
    rows = kit.log_of(kit.pcap(kit.paced([kit.udp()] * 5)), tmp_path_factory.mktemp("log"), pace=pace)
    assert [int(row["time_ns"]) for row in rows] == [kit.NS + at * gap for at in range(5)]


def test_filtered_frames_take_no_part_of_a_rate(tmp_path_factory: pytest.TempPathFactory) -> None:
    """At N packets per second the frames that arrive come at that rate, whatever lay between them in the capture."""
    capture = kit.pcap(kit.paced([kit.udp(), kit.tcp(), kit.arp()] * 4))
    pace = Pace(PACE_PPS, 1000, 1)
    rows = kit.log_of(capture, tmp_path_factory.mktemp("log"), pace=pace, filter="udp")
    assert [int(row["time_ns"]) for row in rows] == [kit.NS + at * 10**6 for at in range(4)]
    rows = kit.log_of(capture, tmp_path_factory.mktemp("log"), filter="udp")
    assert [int(row["time_ns"]) for row in rows] == [kit.NS + at * 300_000 for at in range(4)]


@pytest.mark.parametrize(
    ("option", "text", "expected"),
    [
        ("speed", "2", Pace(PACE_SPEED, 2, 1)),
        ("speed", "0.5x", Pace(PACE_SPEED, 1, 2)),
        ("pps", "200k", Pace(PACE_PPS, 200_000, 1)),
        ("pps", "1.5M", Pace(PACE_PPS, 1_500_000, 1)),
        ("pps", "0.1", Pace(PACE_PPS, 1, 10)),
        ("mbps", "1G", Pace(PACE_MBPS, 10**9, 1)),
        ("mbps", "94.932", Pace(PACE_MBPS, 23_733, 250)),
    ],
)
def test_rates_are_read_as_fractions(option: str, text: str, expected: Pace) -> None:
    """A rate is a decimal with an optional k, M or G, read exactly."""
    given: dict[str, Any] = {option: text}
    assert pace_of(ReplayCommand(capture=["x"], **given)) == expected


BAD_RATES = ("0", "-1", "nan", "inf", "1e3", "", "1/2", "2G", "0.0000001", "k", "1 000", "٣", "999999999.999999")


@pytest.mark.parametrize("option", ["speed", "pps", "mbps"])
@pytest.mark.parametrize(
    "text", ["0", "-1", "nan", "inf", "1e3", "", "1/2", "2G", "0.0000001", "k", "1 000", "٣", "999999999.999999"]
)
def test_bad_rates_are_refused(option: str, text: str) -> None:
    """Zero, negative, not a number, too large or too fine: one line that names the option and shows the form."""
    given: dict[str, Any] = {option: text}
    with pytest.raises(UsageError, match=rf"^--{option} .*: expected a number above 0 up to 1G"):
        pace_of(ReplayCommand(capture=["x"], **given))


def test_one_pace_at_a_time() -> None:
    """Two of --speed, --pps and --mbps exclude each other."""
    with pytest.raises(UsageError, match="--speed and --mbps exclude each other"):
        pace_of(ReplayCommand(capture=["x"], speed="1", mbps="1"))

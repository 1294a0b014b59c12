"""When a flood's frames come: exact, without drift, in bursts, at random, on a ramp; what no clock holds is refused."""

from fractions import Fraction
from math import log
from typing import Any

import pytest
from flood_kit import even_plan, frames_of, ipv4_template, plan_of
from hypothesis import given, settings
from hypothesis import strategies as st

from emu.engine.plain import PlainEngine
from emu.errors import UsageError
from emu.kernel.machine import Packet
from emu.traffic.crafted import START_NS
from emu.traffic.flood.plan import GAPS_POISSON, RATE_BPS, RATE_PPS, Plan, Rate, Sizes
from emu.traffic.flood.profile import RAMP_STEPS, advance, cost_of, profile_of, rate_text, with_pauses
from emu.traffic.flood.reader import FloodReader
from emu.traffic.tally import Tally, Totals, tally_rows, totals_of

PLAIN = PlainEngine()
NS = 10**9
MS = 10**6


def times_of(plan: Plan, most: int = 1 << 62) -> list[int]:
    """When the frames come, from the start on."""
    return [frame.time_ns - START_NS for frame in frames_of(FloodReader(plan, PLAIN), PLAIN, most=most)]


def totals(plan: Plan) -> Totals:
    """What the frames add up to."""
    reader = FloodReader(plan, PLAIN)
    rows, tallies = PLAIN.rows(Packet, 512), PLAIN.rows(Tally, 1)
    while count := reader.read(rows, 0, 512):
        tally_rows(rows, 0, count, tallies)
        reader.discard(reader.position)
    return totals_of(tallies[0])


def played(rate: Rate, lengths: list[int]) -> list[int]:
    """The same without frames: the times of frames of these lengths."""
    profile = profile_of(Plan((), (), rate=rate), PLAIN, max(lengths))
    times = []
    for length in lengths:
        times.append(with_pauses(profile, profile.time_ns))
        advance(profile, cost_of(profile, length))
    return times


PPS = st.tuples(st.integers(1, 10**13), st.integers(1, 1000)).map(lambda r: (min(r[0], 10**10 * r[1]), r[1]))


@given(PPS, st.integers(1, 200))
def test_even_gaps_are_the_floor_of_the_exact_time(rate: tuple[int, int], frames: int) -> None:
    over, under = rate
    times = played(Rate(over=over, under=under), [60] * frames)
    assert times == [n * NS * under // over for n in range(frames)]


@pytest.mark.parametrize(
    ("over", "under"), [(1000, 1), (200_000, 1), (14_880_952, 1), (9_999_999_967, 1), (1_000_003, 7)]
)
def test_nothing_drifts_after_2_to_the_40_frames(over: int, under: int) -> None:
    """The state after frame n = 2**40 is known in closed form; from there on the times are still exact."""
    n = 1 << 40
    profile = profile_of(Plan((), (), rate=Rate(over=over, under=under)), PLAIN, 64)
    exact = Fraction(over, under)
    profile.time_ns, profile.owed = divmod(n * NS * exact.denominator, exact.numerator)
    # It is the state that playing leads to, tried where that can be waited for.
    other = profile_of(Plan((), (), rate=Rate(over=over, under=under)), PLAIN, 64)
    for _ in range(1000):
        advance(other, 1)
    assert (other.time_ns, other.owed) == divmod(1000 * NS * exact.denominator, exact.numerator)
    for later in range(2000):
        assert profile.time_ns == (n + later) * NS * under // over
        advance(profile, 1)


@given(st.integers(1000, 10**12), st.lists(st.integers(60, 9018), min_size=1, max_size=60))
def test_a_bit_rate_counts_all_that_a_frame_takes_on_the_wire(bps: int, lengths: list[int]) -> None:
    """Each gap is the time that the frame before it occupies, 24 bytes more than its own."""
    times = played(Rate(unit=RATE_BPS, over=bps), lengths)
    bits = [8 * sum(length + 24 for length in lengths[:at]) for at in range(len(lengths))]
    assert times == [before * NS // bps for before in bits]


@given(st.integers(1, 10**7), st.integers(1, 10**8), st.integers(1, 10**10), st.integers(1, 60))
def test_bursts_are_an_even_course_with_pauses_put_in(over: int, on_ns: int, off_ns: int, frames: int) -> None:
    times = played(Rate(over=over, on_ns=on_ns, off_ns=off_ns), [60] * frames)
    sending = [n * NS // over for n in range(frames)]
    assert times == [time + time // on_ns * off_ns for time in sending]
    assert all(time % (on_ns + off_ns) < on_ns for time in times)


def test_bursts_have_the_frames_that_fit_them() -> None:
    """10 ms at 100 000 per second are 1000 frames; ten bursts in a second."""
    times = times_of(even_plan(Rate(over=100_000, on_ns=10 * MS, off_ns=90 * MS), duration_ns=NS))
    assert [sum(burst * 100 * MS <= time < burst * 100 * MS + 10 * MS for time in times) for burst in range(10)] == [
        1000
    ] * 10
    assert len(times) == 10_000


@given(
    st.integers(1, 10**6), st.integers(1, 10**6), st.integers(1, 10**9), st.integers(1, 300), st.sampled_from([1, 3])
)
@settings(max_examples=60)
def test_a_ramp_is_exact_step_by_step(first: int, last: int, ramp_ns: int, frames: int, under: int) -> None:
    """Against fractions: a staircase whose steps have the rate of an even climb at their middle."""
    rate = Rate(over=first, under=under, ramp_ns=ramp_ns, ramp_over=last, ramp_under=1)
    start, climb = Fraction(first, under), last - Fraction(first, under)
    ends = [ramp_ns * (step + 1) // RAMP_STEPS for step in range(RAMP_STEPS)]
    expected, step, time = [], 0, Fraction(0)
    for _ in range(frames):
        expected.append(int(time))
        left = Fraction(NS)
        while step < RAMP_STEPS:
            pace = start + climb * Fraction(2 * step + 1, 2 * RAMP_STEPS)
            if left <= (ends[step] - time) * pace and time + left / pace < ends[step]:
                break
            left -= (ends[step] - time) * pace
            time, step = Fraction(ends[step]), step + 1
        time += left / (pace if step < RAMP_STEPS else last)
    assert played(rate, [60] * frames) == expected


def test_a_ramp_sends_what_an_even_climb_would() -> None:
    """From 100 to 10 100 per second within a second: 5100 frames, a quarter of the climb's by half time."""
    times = times_of(even_plan(Rate(over=100, ramp_ns=NS, ramp_over=10_100), duration_ns=NS))
    assert len(times) == 5100
    assert abs(sum(time < NS // 2 for time in times) - (50 + 1250)) <= 1


def test_random_gaps_are_exponential_and_keep_the_rate() -> None:
    """Chi-square over 32 ranges of equal chance; the mean within four deviations; the first gap counts."""
    frames = 20_000
    times = times_of(even_plan(Rate(over=10_000, gaps=GAPS_POISSON), frames=frames))
    gaps = [late - early for early, late in zip([0, *times], times, strict=False)]
    counts = [0] * 32
    edges = [-log(1 - step / 32) * NS / 10_000 for step in range(1, 32)]
    for gap in gaps:
        counts[sum(gap > edge for edge in edges)] += 1
    mean = frames / 32
    assert abs(sum((count - mean) ** 2 / mean for count in counts) - 31) < 4 * 62**0.5
    assert abs(times[-1] / (frames * NS / 10_000) - 1) < 4 / frames**0.5
    assert times[0] > 0


def test_random_gaps_follow_a_bit_rate_and_its_sizes() -> None:
    """100 Mbit/s of frames from 64 to 1500 bytes at random times: within four deviations of what was asked."""
    plan = plan_of(
        ipv4_template("udp", 1500, 42),
        sizes=(Sizes(64, 1500),),
        rate=Rate(unit=RATE_BPS, over=100_000_000, gaps=GAPS_POISSON),
        frames=5000,
    )
    assert abs(totals(plan).bits_per_second / 1e8 - 1) < 4 * 1.2 / 5000**0.5


@pytest.mark.parametrize("unit", [RATE_PPS, RATE_BPS])
def test_the_tally_has_the_rate_that_was_asked(unit: int) -> None:
    """To within the nanosecond that the last frame's time is cut off by."""
    found = totals(even_plan(Rate(unit=unit, over=123_457), frames=1000))
    achieved = found.bits_per_second if unit == RATE_BPS else Fraction(found.milli_pps, 1000)
    assert (found.frames, found.octets, found.least, found.most) == (1000, 64_000, 64, 64)
    assert 0 <= achieved - 123_457 < Fraction(1, 10)


def test_a_duration_ends_before_its_last_nanosecond() -> None:
    """1000 per second for 10 ms: at 0 to 9 ms; for a nanosecond more, at 10 ms too."""
    assert times_of(even_plan(Rate(over=1000), duration_ns=10 * MS)) == [at * MS for at in range(10)]
    assert times_of(even_plan(Rate(over=1000), duration_ns=10 * MS + 1)) == [at * MS for at in range(11)]
    assert len(times_of(even_plan(Rate(over=1000), duration_ns=10 * MS, frames=4))) == 4
    assert len(times_of(even_plan(Rate(over=1000), duration_ns=10 * MS, frames=40))) == 10


@pytest.mark.parametrize(
    ("rate", "words"),
    [
        (Rate(over=200_000), "200000 frames per second"),
        (Rate(over=1, under=3), "1/3 frames per second"),
        (Rate(over=15, under=10, gaps=GAPS_POISSON), "1.5 frames per second at random times"),
        (
            Rate(unit=RATE_BPS, over=10**8, on_ns=10 * MS, off_ns=90 * MS),
            "100000000 bits per second in bursts of 10 ms, 90 ms apart",
        ),
        (Rate(over=10, ramp_ns=NS, ramp_over=20), "10 to 20 frames per second within 1000 ms"),
    ],
)
def test_a_rate_is_told_in_words(rate: Rate, words: str) -> None:
    assert rate_text(rate) == words


REFUSED: tuple[tuple[dict[str, Any], str], ...] = (
    ({"rate": Rate(over=0)}, "rate 0: expected 1/1000 to 10000000000 frames per second"),
    ({"rate": Rate(over=1, under=1001)}, "expected 1/1000"),
    ({"rate": Rate(over=10**10 + 1)}, "to 10000000000 frames per second"),
    ({"rate": Rate(unit=RATE_BPS, over=1, under=2)}, "expected 1 to"),
    ({"rate": Rate(over=1, ramp_ns=1, ramp_over=0)}, "rate 0: expected"),
    ({"rate": Rate(over=10**12 + 1, under=10**12)}, "too finely divided"),
    ({"rate": Rate(off_ns=5)}, "pauses of 5 ns without anything between them"),
    ({"rate": Rate(over=1), "frames": 1 << 40}, "take more than 73 years"),
    ({"duration_ns": (1 << 61) + 1}, "73 years"),
)


@pytest.mark.parametrize(("values", "message"), REFUSED)
def test_what_no_clock_can_hold_is_refused_in_one_line(values: dict[str, Any], message: str) -> None:
    rate = values.pop("rate", Rate())
    with pytest.raises(UsageError, match=r"^[^\n]*$") as caught:
        FloodReader(even_plan(rate, **values), PLAIN)
    assert message in str(caught.value)


def test_the_slowest_and_the_fastest_rate_are_kept() -> None:
    assert played(Rate(over=1, under=1000), [60] * 3) == [0, 10**12, 2 * 10**12]
    assert played(Rate(over=10**10), [60] * 31)[-1] == 3

"""What plots show of a run: rates, gaps, the axis, the words; and colours that can be told apart."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plots_kit import MS, S, lockup, samples, story, summary

from emu.errors import UsageError
from emu.verdicts.plots.outcomes import TABLE, drops_of, headline
from emu.verdicts.plots.palette import COLOURS, SERIES, look
from emu.verdicts.plots.timeline import compare, rate_window_s, rates, timeline_of

LOCKED_UP = (
    "Locked up: frame 48 211 took the last page at 1.000 s; from 2.000 s on nobody who waits can ever run again."
)
DEGRADED = (
    "Block I/O suffered, and is not stuck for ever; its longest stall was 0.412 s. "
    "Degraded, for packets were lost; it was slow. Next deadline: the RTO of session 0 at 31.200 s."
)


def test_a_rate_is_taken_over_the_window_that_ends_at_its_moment() -> None:
    seconds = [0.0, 0.05, 0.1, 0.15, 0.2]
    # 0.05: 10 since 0; 0.1: 20 since 0; 0.15: 20 since 0.05; 0.2: 0 since 0.1
    assert rates([0, 10, 20, 30, 20], seconds, 0.1) == [None, 200.0, 200.0, 200.0, 0.0]


def test_a_rate_in_larger_units_is_divided_by_them() -> None:
    assert rates([0, 3 << 20], [1.0, 3.0], 0.1, 1 << 20) == [None, 1.5]


def test_a_rate_has_a_gap_where_a_count_has_one_and_where_time_stands_still() -> None:
    assert rates([0, None, 4, 4], [0.0, 1.0, 2.0, 2.0], 1.0) == [None, None, None, None]
    assert rates([0, 5], [1.0, 1.0], 1.0) == [None, None]


@given(st.lists(st.tuples(st.integers(1, 10**9), st.integers(0, 1000)), min_size=2, max_size=60), st.floats(0.001, 10))
def test_no_rate_is_faster_than_the_fastest_step(steps: list[tuple[int, int]], window_s: float) -> None:
    times, counts = [0], [0]
    for wait_ns, more in steps:
        times.append(times[-1] + wait_ns)
        counts.append(counts[-1] + more)
    seconds = [time_ns / S for time_ns in times]
    fastest = max(more * S / wait_ns for wait_ns, more in steps)
    found = rates(list(counts), seconds, window_s)
    assert found[0] is None
    for rate in found[1:]:
        assert rate is not None and 0 <= rate <= fastest * (1 + 1e-6) + 0.001


@pytest.mark.parametrize(("span_s", "window_s"), [(0, 0.1), (20, 0.1), (30, 0.2), (100, 0.5), (90_000, 100.0)])
def test_a_longer_run_has_a_longer_round_window(span_s: float, window_s: float) -> None:
    assert rate_window_s([5.0, 5.0 + span_s]) == window_s
    assert rate_window_s([]) == 0.1


def test_levels_are_shown_as_sampled_and_what_is_no_number_as_a_gap() -> None:
    run = ("v5", summary("v5", "progress"), samples(4, normal_free_pages=[9, math.nan, 7, math.inf]))
    assert timeline_of(run).line("normal_free_pages").values == [9, None, 7, None]


def test_pages_not_yet_clean_are_dirty_and_under_write_back() -> None:
    run = ("v5", summary("v5", "progress"), samples(2, dirty_pages=[3, 4], writeback_pages=[10, 20]))
    assert timeline_of(run).line("waiting").values == [13, 24]


def test_a_policy_without_a_cap_has_no_line_for_it() -> None:
    def reserve_lines(cap: int) -> list[str]:
        run = ("v5", summary("v5", "progress"), samples(2, reserve_cap=[cap, cap]))
        return [line.key for line in timeline_of(run).panels[1].lines]

    assert reserve_lines(0) == ["reserve_used"]
    assert reserve_lines(50) == ["reserve_used", "reserve_cap"]


def test_samples_without_a_field_are_refused_by_its_name() -> None:
    columns = samples(3)
    del columns["rx_missed"]
    with pytest.raises(UsageError, match=r"^samples of v5: rx_missed is missing; expected every field"):
        timeline_of(("v5", summary("v5", "progress"), columns))


def test_samples_of_two_lengths_are_refused() -> None:
    with pytest.raises(UsageError, match=r"^samples of v5: slab_pages has 2 values; expected 3, as time_ns has$"):
        timeline_of(("v5", summary("v5", "progress"), samples(3, slab_pages=[1, 2])))


def test_behind_a_lockup_the_axis_has_room() -> None:
    locked = ("v5", summary("v5", "LOCKUP", lockup=lockup(2 * S, S)), samples(201))
    went_on = ("v5", summary("v5", "progress"), samples(201))
    assert timeline_of(went_on).right_s == 2.0
    assert timeline_of(locked).right_s == pytest.approx(2.32)


def test_a_run_that_was_continued_is_marked_where_it_locked_up_not_where_it_ends() -> None:
    run = ("v5", summary("v5", "LOCKUP", lockup=lockup(505 * MS, 300 * MS)), samples(201))
    timeline = timeline_of(run)
    assert timeline.lockup_at == 50
    assert timeline.right_s == 2.0


def test_only_runs_with_samples_are_compared() -> None:
    runs = [story("a", locks=True, count=30), ("b", {"policy": "b", "does_not_build": "no dev"}, {})]
    runs.append(story("c", locks=False, count=40))
    panels = compare([timeline_of(run) for run in runs])
    assert [[(one.run, len(one.line.values)) for one in panel.lines] for panel in panels] == [[(0, 30), (2, 40)]] * 5


def test_an_empty_run_and_one_of_a_single_sample_can_be_drawn() -> None:
    assert timeline_of(("v5", summary("v5", "progress"), samples(0))).right_s == 1.0
    single = timeline_of(("v5", summary("v5", "progress"), samples(1, time_ns=[0])))
    assert (single.right_s, single.line("writes_per_s").values) == (1.0, [None])


def test_the_table_says_what_the_summary_says() -> None:
    told = {column.title: column.read(summary("v5", "LOCKUP", lockup=lockup(11_990 * MS, 11 * S))) for column in TABLE}
    assert told == {
        "Locked up at": "11.990 s",
        "Last page": "11.000 s, frame 48 211",
        "Block I/O": "41.7 MB/s of 88.2",
        "Longest stall": "0.412 s",
        "p50": "1.24 ms",
        "p99": "38 ms",
        "Slowest": "412 ms",
        "Clean after": "2.25 s",
        "Reserve, most": "57",
        "Block I/O lost": "12",
        "Others lost": "120 000",
    }


def test_what_a_run_does_not_have_is_a_dash() -> None:
    told = {column.title: column.read({"policy": "v2", "does_not_build": "no dev"}) for column in TABLE}
    assert set(told.values()) == {"–"}  # noqa: RUF001
    told = {column.title: column.read(summary("v5", "progress", block_io=None)) for column in TABLE}
    assert (told["Clean after"], told["Longest stall"], told["Others lost"]) == ("–", "–", "120 000")  # noqa: RUF001


def test_drops_are_told_by_class_and_by_reason_without_those_that_never_happened() -> None:
    told = {"drops_by_class": {"memalloc": 12, "wire": 0}, "drops_by_reason": {"NOMEM": 9, "NONE": 0}}
    assert drops_of(told) == [("class", "memalloc", 12), ("reason", "NOMEM", 9)]


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (
            summary("v5", "LOCKUP", lockup=lockup(2 * S, S)),
            LOCKED_UP,
        ),
        (
            summary("v5", "LOCKUP", lockup=lockup(2 * S, None)),
            "Locked up: from 2.000 s on nobody who waits can ever run again.",
        ),
        (
            summary(
                "v5",
                "degraded",
                because=["packets were lost", "it was slow"],
                next_deadline={"what": "the RTO of session 0", "time_ns": 31_200 * MS},
            ),
            DEGRADED,
        ),
        (summary("v5", "progress"), "Block I/O went on to the end; its longest stall was 0.412 s."),
        ({"policy": "v2", "does_not_build": "no dev"}, "There was no kernel to run: no dev."),
    ],
)
def test_the_headline_says_what_happened(told: dict[str, object], words: str) -> None:
    assert headline(told) == words


def _luminance(colour: str) -> float:
    """WCAG 2.2, relative luminance."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("name", COLOURS)
def test_every_colour_stands_out_from_its_paper(name: str) -> None:
    for colour, paper in ((COLOURS[name].light, "#ffffff"), (COLOURS[name].dark, "#1b1f25")):
        low, high = sorted((_luminance(colour), _luminance(paper)))
        assert (high + 0.05) / (low + 0.05) >= 3, "WCAG 2.2, 1.4.11"


def test_no_two_of_the_first_two_dozen_lines_look_alike() -> None:
    assert len({look(number) for number in range(3 * len(SERIES))}) == 24

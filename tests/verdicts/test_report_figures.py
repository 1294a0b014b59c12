"""What a report counts: held against sums made here, row by row."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_kit import BEGAN_NS, MS, dropped, row, table_of

from emu.verdicts.report.drops import drops_of
from emu.verdicts.report.figures import RECEIVED_NAMES, figures_of, reason_of
from emu.verdicts.report.flows import TOP, flows_of
from emu.verdicts.report.timeline import BINS, ENVELOPE, bin_width_ns, timeline_of

LOST = "lost"
FLOWS = [f"udp 10.0.0.{end}:1 > 10.0.0.9:9" for end in range(6)]
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "verdict": st.sampled_from(
                ["delivered", "dropped", "in_flight", "oops", "event", "not_received", None, LOST]
            ),
            "reason": st.sampled_from(["RX_MISSED", "PFMEMALLOC", "NO_SOCKET"]),
            "cause": st.sampled_from(["", "NOMEM", "DEVICE_CAP"]),
            "class": st.sampled_from(["udp", "tcp", "arp"]),
            "memalloc": st.sampled_from([0, 1]),
            "flow": st.sampled_from([*FLOWS, "", None]),
        }
    ),
    max_size=60,
).map(lambda picked: [row(at + 1, **_fitting(one)) for at, one in enumerate(picked)])


def _fitting(one: dict[str, Any]) -> dict[str, Any]:
    if one["verdict"] == LOST:  # its comment is gone
        return one | {"verdict": None, "reason": None, "cause": None}
    return one if one["verdict"] in ("dropped", "event") else one | {"reason": "", "cause": ""}


def _is_lost(one: dict[str, Any]) -> bool:
    return one["verdict"] in ("dropped", "oops") or (one["verdict"] is None and one["reason"] is None)


@settings(max_examples=60, deadline=None)
@given(ROWS)
def test_figures_are_the_sums_of_the_rows(rows: list[dict[str, Any]]) -> None:
    figures = figures_of(table_of(rows))
    packets = [one for one in rows if one["verdict"] != "event"]
    assert figures.frames == len(packets)
    assert figures.events == sum(one["verdict"] == "event" and one["reason"] != "" for one in rows)
    assert figures.all.received == sum(one["verdict"] in RECEIVED_NAMES for one in packets)
    assert figures.all.delivered == sum(one["verdict"] == "delivered" for one in packets)
    assert figures.all.lost == sum(map(_is_lost, packets))
    assert figures.all.unsaid == sum(one["verdict"] is None and not _is_lost(one) for one in packets)
    lost_of_block_io = sum(_is_lost(one) and one["memalloc"] for one in packets)
    assert figures.memalloc.lost == lost_of_block_io
    assert {name: fates.seen for name, fates in figures.classes if fates.seen} == Counter(
        one["class"] for one in packets if one["verdict"] in (*RECEIVED_NAMES, None)
    )
    lost = Counter((reason_of(one), one["cause"] or "") for one in packets if _is_lost(one))
    assert {(one.reason, one.cause): one.dropped for one in figures.reasons if one.dropped} == lost
    assert sum(one.memalloc for one in figures.reasons) == figures.memalloc.lost
    assert sum(one.events for one in figures.reasons) == figures.events
    counts = [one.dropped for one in figures.reasons]
    assert counts == sorted(counts, reverse=True)


@settings(max_examples=60, deadline=None)
@given(ROWS, st.integers(1, 4))
def test_flows_are_the_same_whether_they_are_counted_at_once_or_in_shares(
    rows: list[dict[str, Any]], at_once: int
) -> None:
    table = table_of(rows)
    whole = flows_of(table)
    assert flows_of(table, at_once) == whole
    packets = [one for one in rows if one["verdict"] != "event"]
    assert whole.number == len({one["flow"] for one in packets})
    for one in whole.top:
        its_own = [packet for packet in packets if packet["flow"] == one.flow]
        lost = [packet for packet in its_own if _is_lost(packet)]
        assert one.seen == sum(packet["verdict"] in (*RECEIVED_NAMES, None) for packet in its_own)
        assert one.delivered == sum(packet["verdict"] == "delivered" for packet in its_own)
        assert one.lost == len(lost)
        assert one.first_frame == min((packet["frame"] for packet in lost), default=0)
        if lost and one.flow is not None:
            reasons = Counter(map(reason_of, lost))
            assert reasons[one.reason] == max(reasons.values())
    assert [one.lost for one in whole.losers] == sorted((one.lost for one in whole.losers), reverse=True)


def test_flows_that_the_table_has_no_room_for_are_counted_together() -> None:
    rows = [row(at, flow=f"udp 10.0.{at // 256}.{at % 256}:1 > 10.1.0.1:9") for at in range(1, 301)]
    rows += [dropped(1_000 + at, flow="udp 10.9.9.9:1 > 10.1.0.1:9") for at in range(3)]
    for at_once in (1_000, 60):
        flows = flows_of(table_of(rows), at_once)
        assert len(flows.top) == TOP
        assert flows.number == 301
        assert flows.top[0].flow == flows.losers[0].flow == "udp 10.9.9.9:1 > 10.1.0.1:9"
        assert (flows.others_seen, flows.others_lost) == (303 - 3 - (TOP - 1), 0)
        assert len(flows.losers) == 1


def test_a_long_list_of_drops_keeps_the_first_of_each_reason_and_every_nth() -> None:
    rows = [dropped(at, "RX_MISSED") for at in range(1, 2_001)]
    rows[1_234] = dropped(1_235, "NO_SOCKET")
    rows[1_500] = row(1_501)
    table = table_of(rows)
    figures = figures_of(table)
    drops = drops_of(table, figures, shown=100, first=10)
    frames = [one["frame"] for one in drops.rows]
    assert drops.total == 1_999
    assert frames == sorted(set(frames))
    assert len(frames) <= 100
    assert set(range(1, 11)) <= set(frames)
    assert 1_235 in frames
    assert 1_501 not in frames
    even = [frame if frame <= 1_500 else frame + 1 for frame in range(1, 2_000, drops.every)]
    assert set(even) <= set(frames)


def test_a_short_list_of_drops_is_complete() -> None:
    rows = [dropped(at) if at % 3 else row(at) for at in range(1, 100)]
    table = table_of(rows)
    drops = drops_of(table, figures_of(table), shown=66)
    assert [one["frame"] for one in drops.rows] == [at for at in range(1, 100) if at % 3]
    assert drops.total == len(drops.rows)


@given(st.integers(0, 1 << 64))
def test_a_bin_is_round_and_bins_are_few(span_ns: int) -> None:
    width = bin_width_ns(span_ns)
    assert str(width).strip("0") in ("1", "2", "5")
    assert span_ns // width + 1 <= BINS
    assert width == 1_000 or span_ns // (width // 5) + 1 > BINS // 2


@settings(max_examples=40, deadline=None)
@given(ROWS)
def test_no_packet_is_lost_between_the_bins(rows: list[dict[str, Any]]) -> None:
    table = table_of(rows)
    figures = figures_of(table)
    timeline = timeline_of(table, figures)
    if not rows:
        assert timeline.panels == ()
        return
    lines = [line for panel in timeline.panels if panel.title == "Packets" for line in panel.lines]
    drawn = round(sum(value or 0 for line in lines for value in line.values) * timeline.width_ns / 1e9)
    assert drawn == figures.all.seen
    lost = [line for panel in timeline.panels if panel.title == "Dropped" for line in panel.lines]
    assert sum(value or 0 for line in lost for value in line.values) == figures.all.lost


def test_a_spike_of_one_packet_is_kept() -> None:
    rows = [row(at, ring_free=64, reserve_used_before=3, cap_skbs=50) for at in range(5_000)]
    rows[2_345] |= {"free_pages": 7, "ring_free": 1, "reserve_used_after": 49}
    table = table_of(rows)
    timeline = timeline_of(table, figures_of(table))
    lines = {line.key: line for panel in timeline.panels for line in panel.lines}
    at = 2_345 * MS // timeline.width_ns
    assert len(timeline.seconds) <= BINS
    assert lines["least free_pages"].values[at] == 7
    assert lines["most free_pages"].values[at] == 300
    assert lines["most free_pages"].style == ENVELOPE
    assert lines["least ring_free eth0"].values[at] == 1
    assert lines["most reserve_used eth0"].values[at] == 49
    assert set(lines["cap eth0"].values) == {50}
    assert set(lines["floor"].values) == {137}


def test_each_device_has_its_own_reserve_and_ring() -> None:
    rows = [row(at, device="eth1" if at % 3 else "eth0", ring_free=at % 3) for at in range(1, 50)]
    for one in rows:
        one |= {"cap_skbs": 50 if one["device"] == "eth1" else 0}
    timeline = timeline_of(table_of(rows), figures_of(table_of(rows)))
    titles = [panel.title for panel in timeline.panels]
    assert titles == ["Packets", "Free memory", "Reserve of eth1", "Ring of eth1", "Ring of eth0"]
    assert timeline.notes == ("the reserve of eth0: it has no cap, and nothing came from it",)


@pytest.mark.parametrize("reason", ["TCP_OFO_DROP", "DEV_READY"])
def test_reasons_beyond_those_with_a_colour_are_one_line(reason: str) -> None:
    names = ["RX_MISSED", "PFMEMALLOC", "NO_SOCKET", "IP_CSUM", "TCP_CSUM", "UDP_CSUM"]
    rows = [dropped(at, names[at % 6]) for at in range(1, 60)] + [dropped(60, reason), row(61)]
    timeline = timeline_of(table_of(rows), figures_of(table_of(rows)))
    assert set(timeline.colours) == set(names)
    last = timeline.panels[1].lines[-1]
    assert last.name == "other reasons"
    assert sum(value or 0 for value in last.values) == 1


def test_a_time_of_nothing_but_one_packet_is_one_bin() -> None:
    timeline = timeline_of(table_of([row(1)]), figures_of(table_of([row(1)])))
    assert timeline.first_ns == BEGAN_NS + MS
    assert len(timeline.seconds) == 1
    assert timeline.right_s > 0

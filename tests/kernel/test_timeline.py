"""Interfaces that go down and up, MTUs, a sysctl and pages, at their times: what they give back, and what is lost."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from machines import Nic, Setup, arp, booted, holds, paced, play, plenty, udp
from streams import stream

from emu.kernel.bugs import BUG_DOWN
from emu.kernel.drop_reason import AT_E1000_DOWN, AT_NIC
from emu.kernel.machine import (
    DRIVER_8139CP,
    DRIVER_E1000_PS,
    DRIVER_TG3,
    NEVER_NS,
    PLAN_DOWN,
    PLAN_MIN_FREE_KBYTES,
    PLAN_MTU,
    PLAN_PAGES,
    PLAN_UP,
    ZONE_NORMAL,
)
from emu.kernel.sock import READER_NEVER

SECOND_NS = 1_000_000_000
DOWN_UP = ((105_000, PLAN_DOWN, 0, 0), (205_000, PLAN_UP, 0, 0))  # frames come every 10 us


def planned(*plan: tuple[int, int, int, int], policy: str = "phillips-v5", **more: Any) -> Setup:
    """A quiet machine with a timeline."""
    config = plenty(**more.pop("config", {}))
    return Setup(policy, config=config, plan=plan, **{"nics": (Nic(),)} | more)


@pytest.mark.parametrize("driver", [0, DRIVER_E1000_PS, DRIVER_8139CP, DRIVER_TG3])
@pytest.mark.parametrize("napi", [1, 0])
def test_frames_that_arrive_while_the_interface_is_down_are_dropped_at_the_nic(driver: int, napi: int) -> None:
    """Before and after, packets pass; in between the NIC takes none, whatever the driver."""
    nic = Nic(ring=64 if driver == DRIVER_8139CP else 256, driver=driver, napi=napi)
    played = play(planned(*DOWN_UP, nics=(nic,)), paced([udp()] * 30), until_ns=SECOND_NS)
    assert played.reasons() == [""] * 11 + ["DEV_READY"] * 10 + [""] * 9
    assert {played.rows[at].point for at in range(11, 21)} == {AT_NIC}
    dev = played.m.dev[0]
    assert (dev.up, dev.opened, dev.ring_filled) == (1, 2, nic.ring)


def test_reason_DEV_READY() -> None:  # noqa: N802
    """Packets that wait in the ring are lost with it: the second poll finds the interface down."""
    played = play(planned((1000, PLAN_DOWN, 0, 0)), [arp(time_ns=0)] * 100, until_ns=SECOND_NS)
    assert played.reasons() == [""] * 64 + ["DEV_READY"] * 36
    assert {played.rows[at].point for at in range(64, 100)} == {AT_E1000_DOWN}
    m = played.m
    assert (m.dev[0].ring_filled, m.dev[0].up, m.poll_len, m.dev[0].watchdog_ns) == (0, 0, 0, NEVER_NS)
    assert m.skbs_used == 0


def test_the_softirq_ends_when_the_last_device_that_polls_goes_down() -> None:
    """A frame much later, on another device, finds a fresh softirq: that is no time squeeze."""
    later = udp(time_ns=200_000_000) | {"dev": 1}
    setup = planned((1000, PLAN_DOWN, 0, 0), nics=(Nic(), Nic()))
    m = play(setup, [*([arp(time_ns=0)] * 10), later], until_ns=SECOND_NS).m
    assert (m.total.delivered, m.mib.softnet_time_squeeze, m.softirq_active) == (11, 0, 0)


@pytest.mark.parametrize("driver", [0, DRIVER_E1000_PS, DRIVER_8139CP, DRIVER_TG3])
def test_going_down_frees_the_ring_and_gives_the_reserve_back(driver: int) -> None:
    """No buffer, no page, no promise is left; up again restores all three."""
    nic = Nic(ring=64 if driver == DRIVER_8139CP else 256, driver=driver)
    down = planned((5, PLAN_DOWN, 0, 0), nics=(nic,))
    m = booted(down)
    assert m.min_free_kbytes == 1448 + 4 * m.dev[0].memalloc_pages > 1448
    play(down, [], machine=m, until_ns=10)
    assert (m.skbs_used, m.min_free_kbytes, m.dev[0].memalloc_pages) == (0, 1448, 0)


def test_as_posted_the_reserve_is_never_given_back_and_every_up_adds_again() -> None:
    """Bug 10: 54 pages more with each cycle of down and up."""
    plan = tuple((at, action, 0, 0) for at, action in enumerate((PLAN_DOWN, PLAN_UP) * 3, 1))
    for as_posted, times in ((0, 1), (1 << BUG_DOWN, 4)):
        m = play(planned(*plan, config={"as_posted": as_posted}), [], until_ns=100).m
        assert m.min_free_kbytes == 1448 + 216 * times


def test_a_sysctl_overwrites_the_reserve_of_v5_and_down_subtracts_from_the_users_value() -> None:
    """Bug 9: 2000 kB written, 216 kB taken off them; a result below zero is refused. v6 keeps its sum apart."""
    ends = {}
    for apart in (0, 1):
        for written in (2000, 100):
            setup = planned(
                (1, PLAN_MIN_FREE_KBYTES, 0, written),
                (2, PLAN_DOWN, 0, 0),
                policy_rules={"reserve_in_sysctl": 1 - apart},
            )
            m = play(setup, [], until_ns=10).m
            ends[apart, written] = m.min_free_kbytes + m.var_free_kbytes
    assert ends == {(0, 2000): 1784, (0, 100): 100, (1, 2000): 2000, (1, 100): 100}


def test_a_sysctl_moves_the_watermarks_at_once() -> None:
    """min_free_kbytes 8000 is 2000 pages over two zones."""
    m = play(planned((1, PLAN_MIN_FREE_KBYTES, 0, 8000), policy="linux-2.6.12"), [], until_ns=10).m
    assert 1998 <= m.zone[0].pages_min + m.zone[1].pages_min <= 2000


def test_an_mtu_takes_the_interface_down_and_up_with_other_buffers() -> None:
    """MTU 9000: 16384-byte buffers of order 3 in every slot, a larger promise; the frames that follow may be longer."""
    frames = [udp(payload=4000), *([udp()] * 3), udp(payload=4000)]
    setup = planned((35_000, PLAN_MTU, 0, 9000), nics=(Nic(ring=80),))
    played = play(setup, paced(frames), until_ns=SECOND_NS)
    dev = played.m.dev[0]
    assert played.reasons() == ["RX_LENGTH", "", "", "", ""]
    assert (dev.rx_buffer_len, dev.memalloc_pages, dev.opened) == (16384, 404, 2)


def test_an_mtu_of_an_interface_that_is_down_waits_for_it_to_come_up() -> None:
    """Nothing comes up by it."""
    setup = planned((1, PLAN_DOWN, 0, 0), (2, PLAN_MTU, 0, 4000), nics=(Nic(ring=80),))
    m = play(setup, [], until_ns=3).m
    assert (m.dev[0].up, m.dev[0].mtu, m.dev[0].rx_buffer_len, m.skbs_used) == (0, 4000, 2048, 0)


def test_pages_are_taken_and_given_back_but_never_more_than_others_hold() -> None:
    """5000 pages go, 10000 are asked back: 5000 come."""
    plan = ((1, PLAN_PAGES, 0, 5000), (2, PLAN_PAGES, 0, -10_000))
    before = booted(planned())
    free = before.zone[ZONE_NORMAL].free_pages + before.zone[ZONE_NORMAL].pcp_count
    taken = play(planned(plan[0]), [], until_ns=1_000).m.zone[ZONE_NORMAL]
    assert (taken.other_pages, taken.free_pages + taken.pcp_count) == (5000, free - 5000)
    m = play(planned(*plan), [], until_ns=1_000).m
    z = m.zone[ZONE_NORMAL]
    assert (z.other_pages, z.free_pages + z.pcp_count) == (0, free)
    holds(m)


def test_an_interface_that_comes_up_in_a_crunch_fills_what_it_can_and_the_watchdog_goes_on() -> None:
    """The ring stays short; with pages given back the watchdog's poll fills it."""
    plan = ((10, PLAN_DOWN, 0, 0), (20, PLAN_UP, 0, 0), (3 * SECOND_NS, PLAN_PAGES, 0, -4000))
    config = {"ordinary_reader": READER_NEVER, "writers": 0}
    setup = Setup("linux-2.6.12", config=config, plan=plan)
    m = booted(setup)
    play(setup, [], machine=m, until_ns=SECOND_NS)
    short = m.dev[0].ring_filled
    assert short < 256
    play(setup, [], machine=m, until_ns=7 * SECOND_NS)
    assert m.dev[0].ring_filled == 256


def test_a_plan_far_ahead_is_not_skipped_with_idle_time() -> None:
    """An hour of nothing, then down: at its time, not before and not after."""
    hour = 3600 * SECOND_NS
    setup = planned((hour, PLAN_DOWN, 0, 0))
    frames = [udp(time_ns=0), udp(time_ns=hour - 1_000_000), udp(time_ns=hour + 1_000_000)]
    played = play(setup, frames, until_ns=2 * hour)
    assert played.reasons() == ["", "", "DEV_READY"]


def test_other_devices_go_on_while_one_is_down() -> None:
    """Two NICs over one memory; the poll list keeps the other one."""
    setup = planned((1000, PLAN_DOWN, 0, 0), nics=(Nic(), Nic()))
    frames = [arp(time_ns=0, dev=at % 2) for at in range(300)]
    played = play(setup, frames, until_ns=SECOND_NS)
    by_device = {d: {played.reasons()[at] for at in range(300) if at % 2 == d} for d in (0, 1)}
    assert by_device == {0: {"", "DEV_READY"}, 1: {""}}


ENTRIES = st.one_of(
    st.tuples(st.integers(0, 3_000_000), st.sampled_from((PLAN_DOWN, PLAN_UP)), st.integers(0, 3), st.just(0)),
    st.tuples(st.integers(0, 3_000_000), st.just(PLAN_MTU), st.integers(0, 2), st.sampled_from((68, 1500, 4000))),
    st.tuples(st.integers(0, 3_000_000), st.just(PLAN_MIN_FREE_KBYTES), st.just(0), st.integers(0, 20_000)),
    st.tuples(st.integers(0, 3_000_000), st.just(PLAN_PAGES), st.just(0), st.integers(-9_000, 9_000)),
)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(ENTRIES, max_size=12),
    st.sampled_from(("linux-2.6.12", "phillips-v5", "mainline")),
    st.integers(0, 1),
    st.integers(0, 99),
)
def test_whatever_is_done_at_the_terminal_nothing_is_lost(plan: Any, policy: str, crunch: int, seed: int) -> None:
    """Any timeline over every driver: frames, pages, skbs and rings add up, and a device that is down holds nothing."""
    nics = (
        Nic(ring=80, napi=0, background=40),
        Nic(ring=80, driver=DRIVER_E1000_PS, background=40),
        Nic(ring=64, driver=DRIVER_8139CP, background=10),
        Nic(ring=40, driver=DRIVER_TG3, background=10),
    )
    config = {} if crunch else plenty()
    setup = Setup(policy, config=config, nics=nics, plan=tuple(sorted(plan)))
    frames = stream(seed, 120, 4)
    m = play(setup, frames, until_ns=frames[-1]["time_ns"] + 5 * SECOND_NS).m
    assert m.plan_at == len(plan)
    assert all(m.dev[d].up or (m.dev[d].ring_filled, m.dev[d].ring_done) == (0, 0) for d in range(4))

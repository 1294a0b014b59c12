"""Load and time: what the CPU cannot do is lost, and nothing else; what falls due while it is busy waits for it."""

import pytest
from machines import PLAIN, Nic, Setup, arp, booted, paced, play, plenty, rows_of, udp

from emu.engine.loop import run
from emu.kernel.drop_reason import CPU_BUSY
from emu.kernel.machine import EVENT_REAP, EVENTS, Event
from emu.kernel.policy import POLICIES

PACKETS = 6_000
LENGTH = 1042
COST_NS = 2000 + LENGTH  # per packet and, at 1000 ps, per byte


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("percent", [95, 108, 150])
def test_the_ring_overflows_by_what_the_arithmetic_says(policy: str, percent: int) -> None:
    """Below capacity nothing is lost; above it, offered - capacity - ring, within one ring."""
    gap_ns = COST_NS * 100 // percent
    setup = Setup(policy, config=plenty())
    played = play(setup, paced([udp()] * PACKETS, gap_ns), until_ns=PACKETS * gap_ns + 10_000_000)
    missed = played.m.dev[0].rx_missed
    done_while_offered = PACKETS * gap_ns // COST_NS
    surplus = max(0, PACKETS - done_while_offered)
    ring = played.m.dev[0].ring_size
    assert max(0, surplus - ring) <= missed <= surplus
    assert (missed == 0) == (percent < 100)
    assert played.m.total.delivered == PACKETS - missed
    assert set(played.column("cause")) <= {0, CPU_BUSY}


def test_in_the_default_crunch_the_patch_carries_block_io_and_plain_2_6_12_dries_up() -> None:
    """At half the CPU's capacity, nothing but memory decides: v5 loses no memalloc packet, 2.6.12 all after a while."""
    from machines import iscsi

    frames = paced([udp(), udp(), iscsi()] * 1000, 2 * COST_NS)
    fates = {}
    for policy in ("linux-2.6.12", "phillips-v5"):
        fates[policy] = play(Setup(policy), frames, until_ns=10_000_000_000).m.total.memalloc
    assert (fates["phillips-v5"].received, fates["phillips-v5"].dropped) == (fates["linux-2.6.12"].received, 0)
    assert fates["linux-2.6.12"].delivered < 100


def test_a_packet_costs_the_cpu_its_price_and_its_bytes() -> None:
    """Three packets at once are decided one cost apart: 2 us each and 1 ns per byte."""
    setup = Setup("linux-2.6.12", config=plenty(), nics=(Nic(ring=32),))
    played = play(setup, [udp(time_ns=0)] * 3, until_ns=1_000_000)
    assert played.column("decided_ns") == [0, COST_NS, 2 * COST_NS]


def test_an_event_due_while_the_cpu_is_busy_happens_when_the_cpu_is_free() -> None:
    """A packet takes 100 us from time 0: the frame and the reaper due at 50 us are served at 100 us, reaper first."""
    setup = Setup(
        "linux-2.6.12", config=plenty(cpu_ns_per_packet=100_000, cpu_ps_per_byte=0, recording=1), nics=(Nic(ring=32),)
    )
    m = booted(setup)
    m.reap_ns = 50_000
    rows = rows_of([arp(time_ns=0), arp(time_ns=50_000), arp(time_ns=10_000_000)])
    log = PLAIN.rows(Event, 64)
    _, events = run(m, rows, 0, 3, 0, log, 64)
    assert [rows[at].decided_ns for at in (0, 1)] == [0, 100_000]
    named = [(EVENTS[log[at].event], log[at].time_ns) for at in range(events)]
    assert named[:5] == [
        ("poll-begin", 0),
        ("packets", 0),
        ("reap", 100_000),
        ("context", 100_000),
        ("packets", 100_000),
    ]
    assert sum(log[at].event == EVENT_REAP for at in range(events)) == 1


def test_frames_that_come_while_a_packet_is_processed_are_in_the_ring_before_the_next_one() -> None:
    """The ring fills while the CPU is busy: of 40 frames within the first packet's time 16 fit, 24 are missed."""
    setup = Setup("linux-2.6.12", config=plenty(cpu_ns_per_packet=100_000), nics=(Nic(ring=32),))
    played = play(setup, paced([arp()] * 40, 1_000), until_ns=1_000_000_000)
    assert played.reasons().index("RX_MISSED") == 16
    assert played.m.dev[0].rx_missed == 24


def test_two_devices_share_the_one_cpu() -> None:
    """Each at 60 % of capacity, together they are too much, and both lose alike within a ring."""
    gap_ns = COST_NS * 100 // 60
    frames = [udp(time_ns=at // 2 * gap_ns, dev=at % 2) for at in range(6_000)]
    setup = Setup("linux-2.6.12", config=plenty(), nics=(Nic(), Nic()))
    m = play(setup, frames, until_ns=1_000_000_000).m
    surplus = 6_000 - 3_000 * gap_ns // COST_NS
    lost = [m.dev[d].rx_missed for d in range(2)]
    assert surplus - 512 <= sum(lost) <= surplus
    assert abs(lost[0] - lost[1]) <= 256

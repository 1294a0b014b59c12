"""The receive ring: what the NIC sees of it, when it is refilled, and how a failure passes unseen."""

from typing import Any

import pytest
from machines import PLAIN, Nic, Setup, arp, booted, holds, leave_free, paced, play, plenty, rows_of, sent, tcp, udp

from emu.engine.loop import run
from emu.kernel.drop_reason import CPU_BUSY, NOMEM
from emu.kernel.e1000 import (
    e1000_alloc_rx_buffers,
    e1000_clean_one,
    longest_frame,
    ring_free,
    rx_buffer_len_for,
)
from emu.kernel.machine import NONE, Event
from emu.kernel.sock import READER_NEVER

SECOND_NS = 1_000_000_000


def quiet(ring: int = 256, **nic: int) -> Setup:
    """A machine with memory in plenty."""
    return Setup("linux-2.6.12", config=plenty(), nics=(Nic(ring=ring, **nic),))


@pytest.mark.parametrize(
    ("ring", "shown"), [(80, 64), (256, 240), (4096, 4080), (32, 16), (16, 0), (100, 96), (97, 96)]
)
def test_a_fresh_ring_shows_the_nic_the_slots_below_its_last_multiple_of_16(ring: int, shown: int) -> None:
    """The tail register is written for every 16th slot only: 240 of 256 buffers are visible."""
    m = booted(quiet(ring))
    assert (ring_free(m, 0), m.dev[0].ring_filled, m.dev[0].next_to_use) == (shown, ring, 0)


@pytest.mark.parametrize(
    ("mtu", "buffer", "longest"),
    [
        (1500, 2048, 1518),
        (576, 2048, 1518),
        (2030, 2048, 2044),
        (2031, 4096, 4092),
        (4078, 4096, 4092),
        (9000, 16384, 16380),
    ],
)
def test_the_buffer_is_the_smallest_power_of_two_that_holds_mtu_and_18_bytes(
    mtu: int, buffer: int, longest: int
) -> None:
    """e1000_change_mtu; long frames are accepted only above MTU 1500."""
    m = booted(quiet(32, mtu=mtu))
    assert (rx_buffer_len_for(mtu), m.dev[0].rx_buffer_len, longest_frame(m, 0)) == (buffer, buffer, longest)


def take(m: Any, count: int) -> None:
    """The NIC fills `count` slots and the driver takes them; the packets are freed by somebody else."""
    dev = m.dev[0]
    for _ in range(count):
        assert ring_free(m, 0) > 0
        dev.ring_seq[dev.rdh] = 0
        dev.rdh = (dev.rdh + 1) % dev.ring_size
        dev.ring_done += 1
        e1000_clean_one(m, 0)
        m.background_held += 1


def test_the_tail_moves_in_steps_of_16() -> None:
    """Fifteen refills show the NIC nothing; the slot that completes a line of 16 shows them all."""
    m = booted(quiet())
    seen = []
    for _ in range(40):
        take(m, 1)
        e1000_alloc_rx_buffers(m, 0)
        seen.append(m.dev[0].rdt)
    # After the fresh ring (tail 240) slot 0 is a multiple of 16, then slots 16 and 32.
    assert seen == [0] * 16 + [16] * 16 + [32] * 8
    holds(m)


def test_a_refill_stops_at_the_first_failure_without_a_word() -> None:
    """No page: the refill breaks off, no packet is counted lost, and the cause is kept for frames that will be."""
    m = booted(quiet(32))
    take(m, 10)
    leave_free(m, 0)
    free = m.cache[m.head_cache].avail + m.cache[m.head_cache].free_objects
    e1000_alloc_rx_buffers(m, 0)
    dev = m.dev[0]
    assert free < 10 or dev.ring_filled < 32
    assert (dev.alloc_rx_buff_failed, dev.refill_cause, dev.rx_missed, m.total.dropped) == (1, NOMEM, 0, 0)
    filled = dev.ring_filled
    e1000_alloc_rx_buffers(m, 0)
    assert (dev.alloc_rx_buff_failed, dev.ring_filled) == (2, filled)
    leave_free(m, 5000)
    e1000_alloc_rx_buffers(m, 0)
    assert (dev.alloc_rx_buff_failed, dev.refill_cause, dev.ring_filled) == (2, 0, 32)
    holds(m)


def test_an_empty_ring_is_filled_by_the_watchdog_within_two_seconds() -> None:
    """RX cannot trigger a refill of an empty ring: memory that comes back at 0.5 s is used at 2 s."""
    setup = Setup("linux-2.6.12", config=plenty() | {"ordinary_reader": READER_NEVER}, nics=(Nic(ring=32),))
    m = booted(setup)
    burst = rows_of(
        [udp(time_ns=0)] * 16 + [udp(time_ns=SECOND_NS), udp(time_ns=1_999_999_999), udp(time_ns=2_000_100_000)]
    )
    log = PLAIN.rows(Event, 4)
    m.config.crunch = 1
    leave_free(m, 0)
    for cache in range(m.caches):  # nothing free in the caches either
        m.cache[cache].avail = 0
        for s in range(m.slabs_made):
            if m.slab[s].cache == cache:
                m.slab[s].inuse = m.cache[cache].num
        m.cache[cache].partial_head = m.cache[cache].partial_tail = m.cache[cache].empty_head = NONE
        m.cache[cache].free_objects = 0
    run(m, burst, 0, 16, 0, log, 4)
    run(m, burst, 16, 16, SECOND_NS // 2, log, 4)
    assert (ring_free(m, 0), m.dev[0].ring_filled, m.dev[0].refill_cause) == (0, 16, NOMEM)
    polls = m.dev[0].polls
    leave_free(m, 5000)
    run(m, burst, 16, 18, 0, log, 4)
    assert [burst[at].reason for at in (16, 17)] == [1, 1]  # missed: nobody has tried again
    assert m.dev[0].polls == polls
    run(m, burst, 18, 19, 0, log, 4)
    run(m, burst, 19, 19, 3 * SECOND_NS, log, 4)
    assert (burst[18].reason, burst[18].decided_ns) == (0, 2_000_100_000)
    holds(m)


def test_the_watchdog_polls_an_idle_device_every_two_seconds() -> None:
    """In 9 s an idle device is polled at 2, 4, 6 and 8 s, and each poll finds nothing."""
    m = play(quiet(32), [], until_ns=9 * SECOND_NS).m
    assert (m.dev[0].polls, m.dev[0].watchdog_ns, m.poll_len) == (4, 10 * SECOND_NS, 0)


def test_a_tx_completion_polls_and_so_refills() -> None:
    """A frame that the host sends is a TX completion: one poll with it, one that finds nothing, then idle."""
    m = booted(quiet(32))
    take(m, 16)
    assert m.dev[0].ring_filled == 16
    played = play(quiet(32), [sent(tcp(time_ns=1000))], machine=m, until_ns=2000)
    assert (m.dev[0].polls, m.dev[0].ring_filled, played.m.poll_len) == (2, 32, 0)


def test_the_ring_is_refilled_after_the_whole_poll() -> None:
    """Within a poll of 64 packets the ring only drains; after it, all 64 buffers are back."""
    m = booted(quiet())
    rows = rows_of([arp(time_ns=0)] * 100 + [arp(time_ns=1 << 40)])
    run(m, rows, 0, 101, 0, PLAIN.rows(Event, 4), 4)
    # 240 descriptors are shown; the burst takes 100; slots 0..63 come back after the first poll, the tail at 48.
    free = [rows[at].ring_free for at in range(100)]
    assert free == [140] * 64 + [204] * 36
    assert m.dev[0].ring_filled == 256


def test_a_poll_takes_at_most_its_weight_and_devices_take_turns() -> None:
    """With weight 8, two busy devices alternate eight packets at a time."""
    setup = Setup("linux-2.6.12", config=plenty(), nics=(Nic(ring=64, weight=8), Nic(ring=64, weight=8)))
    played = play(setup, [arp(time_ns=0, dev=at % 2) for at in range(40)], until_ns=SECOND_NS)
    order = sorted(range(40), key=lambda at: played.rows[at].decided_ns)
    turns = [played.rows[at].dev for at in order]
    assert turns == [0] * 8 + [1] * 8 + [0] * 8 + [1] * 8 + [0] * 4 + [1] * 4


def test_the_softirq_squeezes_after_its_budget_or_two_jiffies() -> None:
    """300 packets or 2 ms: then time_squeeze counts, and the softirq goes on."""
    played = play(quiet(), [arp(time_ns=0)] * 200, until_ns=SECOND_NS)
    assert played.m.mib.softnet_time_squeeze == 0
    small = Setup("linux-2.6.12", config=plenty(netdev_max_backlog=50), nics=(Nic(),))
    assert play(small, [arp(time_ns=0)] * 200, until_ns=SECOND_NS).m.mib.softnet_time_squeeze == 4
    slow = Setup("linux-2.6.12", config=plenty(cpu_ns_per_packet=50_000), nics=(Nic(),))
    assert play(slow, [arp(time_ns=0)] * 200, until_ns=SECOND_NS).m.mib.softnet_time_squeeze == 3


def test_an_aggregated_frame_takes_one_descriptor_per_segment_or_none() -> None:
    """Four segments need four descriptors: with three free the frame is missed whole, and counts four."""
    frames = [arp(time_ns=0)] * 13 + [tcp(time_ns=0, segments=4), arp(time_ns=0)]
    played = play(quiet(32), frames, until_ns=SECOND_NS)
    assert played.reasons() == [""] * 13 + ["RX_MISSED", ""]
    assert (played.m.dev[0].rx_missed, played.rows[13].cause, played.rows[13].ring_free) == (4, CPU_BUSY, 3)
    again = play(quiet(32), [tcp(time_ns=0, segments=4)], until_ns=SECOND_NS)
    assert (again.m.dev[0].rx_packets, again.m.mib.softnet_processed, again.m.total.delivered) == (4, 4, 1)


def test_frames_of_more_segments_than_the_weight_are_all_processed_at_once() -> None:
    """A quota gone far below zero is worked off by polls that take nothing; the device stays on the list."""
    played = play(quiet(256, weight=8), paced([tcp(segments=45)] * 4, 0), until_ns=SECOND_NS)
    assert played.m.total.delivered == 4
    assert max(played.column("decided_ns")) < 1_000_000


def test_the_ring_wraps_for_ever() -> None:
    """Ten rings' worth of packets through a ring of 80: none lost, every count in order."""
    played = play(quiet(80), paced([arp()] * 800), until_ns=SECOND_NS)
    assert played.m.total.delivered == 800
    assert played.m.dev[0].ring_free_min >= 48

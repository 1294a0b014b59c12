"""e1000 with packet split: headers in a small skb, data in pages that come, stay and go one by one."""

from typing import Any

import pytest
from machines import Nic, Setup, arp, booted, holds, leave_free, paced, play, plenty, tcp, udp

from emu.kernel.boot import empty_caches
from emu.kernel.bugs import BUG_PACKET_SPLIT
from emu.kernel.drop_reason import NOMEM
from emu.kernel.e1000 import longest_frame
from emu.kernel.e1000_ps import count_pages, e1000_alloc_rx_buffers_ps, e1000_clean_one_ps
from emu.kernel.machine import DRIVER_E1000_PS, PLAN_DOWN, PLAN_UP
from emu.kernel.netdevice import estimate_skb_pages
from emu.kernel.slab import SLAB_PAGE
from emu.kernel.sock import READER_NEVER

SECOND_NS = 1_000_000_000
PS = Nic(driver=DRIVER_E1000_PS, ring=80, background=0)


def split(**nic: int) -> Setup:
    """A quiet machine with a packet-split ring, where nobody reads."""
    values = {"driver": DRIVER_E1000_PS, "ring": 80, "background": 0} | nic
    return Setup("linux-2.6.12", config=plenty() | {"ordinary_reader": READER_NEVER}, nics=(Nic(**values),))


def pages(m: Any) -> int:
    """Data pages that exist."""
    return sum(m.slab[s].cache == SLAB_PAGE for s in range(m.slabs_made))


def test_a_full_ring_holds_three_pages_and_a_1024_byte_object_per_descriptor() -> None:
    """258 bytes asked: 384 aligned, 544 with the shared info, so size-1024 on a 128-byte line (size-512 on 32)."""
    for line, objsize in ((128, 1024), (64, 512), (32, 512)):
        m = booted(Setup("linux-2.6.12", config=plenty(l1_bytes=line), nics=(PS,)))
        assert pages(m) == 240
        assert [count_pages(m, m.dev[0].ring_pages[slot]) for slot in (0, 40, 79)] == [3, 3, 3]
        assert m.cache[m.slab[m.skb[m.dev[0].ring_skb[0]].data_slab].cache].objsize == objsize
        holds(m)


@pytest.mark.parametrize(
    ("columns", "used"),
    [
        (tcp(payload=0), 0),
        (tcp(payload=1), 1),
        (udp(payload=1400), 1),
        (tcp(payload=4096), 1),
        (tcp(payload=4097), 2),
        (tcp(payload=8900), 3),
        (arp(), 0),
        (arp() | {"length": 1000}, 1),
    ],
)
def test_only_the_pages_that_a_packet_fills_leave_the_ring_and_are_replaced(columns: Any, used: int) -> None:
    """The others stay in their descriptor; a socket holds what came with its packet until it is freed."""
    setup = split(mtu=9000)
    played = play(setup, paced([columns]), until_ns=SECOND_NS)
    m = played.m
    assert m.total.delivered == 1
    queued = m.sk[0].queue_len
    assert pages(m) == 240 + used * queued
    if queued:
        skb = m.skb[m.sk[0].queue_head]
        assert (count_pages(m, skb.frags), skb.truesize) == (used, 384 + 168)


def test_the_longest_frame_fills_the_header_and_three_pages() -> None:
    """MTU below 3 pages + 256."""
    assert longest_frame(booted(split(mtu=9000)), 0) == 256 + 3 * 4096
    assert longest_frame(booted(split()), 0) == 1518


def test_a_refill_keeps_the_pages_that_it_got_before_a_failure() -> None:
    """Two pages free: the slot has two of three and no skb; with memory back the same slot is finished."""
    m = booted(split())
    dev = m.dev[0]
    for _ in range(4):
        dev.ring_seq[dev.rdh] = 0
        dev.rdh = (dev.rdh + 1) % dev.ring_size
        dev.ring_done += 1
        e1000_clean_one_ps(m, 0, 3)
        m.background_held += 1
    empty_caches(m)
    leave_free(m, 2)
    m.zone[1].pages_min = m.zone[1].pages_low = m.zone[1].pages_high = 0
    e1000_alloc_rx_buffers_ps(m, 0)
    assert (dev.refill_cause, dev.next_to_use, dev.ring_filled) == (NOMEM, 0, 76)
    got = count_pages(m, dev.ring_pages[0])
    assert 1 <= got <= 2
    holds(m)
    leave_free(m, 5000)
    e1000_alloc_rx_buffers_ps(m, 0)
    assert (dev.refill_cause, dev.ring_filled, dev.next_to_use, pages(m)) == (0, 80, 4, 240 + 12)
    holds(m)


def test_v6_takes_data_pages_without_a_watermark_and_counts_none() -> None:
    """split_pages_memalloc: with every zone at its floor the plain policy's ring stands dry, v6's does not."""
    filled = {}
    for allowed in (0, 1):
        setup = Setup(
            "phillips-v5",
            config={"ordinary_reader": READER_NEVER, "writers": 0},
            nics=(Nic(driver=DRIVER_E1000_PS, background=200),),
            policy_rules={"split_pages_memalloc": allowed},
        )
        played = play(setup, paced([udp(sport=1, dport=at + 1) for at in range(20)]), until_ns=3 * SECOND_NS)
        dev = played.m.dev[0]
        filled[allowed] = (dev.ring_filled > 60, dev.rx_reserve_used > 0)
    assert filled == {0: (False, False), 1: (True, True)}


def test_v6_promises_three_pages_more_for_each_buffer_of_the_cap_and_as_posted_a_negative_number() -> None:
    """203 pages as intended; as posted 53 on the first bring-up and 53 - 46 from the second on (bug 13)."""
    nic = (Nic(driver=DRIVER_E1000_PS, ring=80, background=0),)
    rules = {"split_pages_memalloc": 1}
    m = booted(Setup("phillips-v5", config=plenty(l1_bytes=64), nics=nic, policy_rules=rules))
    assert m.dev[0].memalloc_pages == estimate_skb_pages(m, 50, 2050) + 150 == 203
    plan = ((10, PLAN_DOWN, 0, 0), (20, PLAN_UP, 0, 0))
    config = plenty(l1_bytes=64, as_posted=1 << BUG_PACKET_SPLIT)
    posted = Setup("phillips-v5", config=config, nics=nic, policy_rules=rules, plan=plan)
    m = booted(posted)
    assert m.dev[0].memalloc_pages == 53
    play(posted, [], machine=m, until_ns=100)
    assert m.dev[0].memalloc_pages == 7

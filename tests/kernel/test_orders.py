"""Jumbo frames take blocks of order 1 to 3, from the free lists as they are; and several devices over one memory."""

import pytest
from machines import Nic, Setup, booted, holds, paced, play, plenty, udp

from emu.kernel.machine import ZONE_NORMAL
from emu.kernel.sock import READER_NEVER

SECOND_NS = 1_000_000_000


@pytest.mark.parametrize(
    ("mtu", "objsize", "order"),
    [(1500, 4096, 0), (2030, 4096, 0), (2031, 8192, 1), (4078, 8192, 1), (8174, 16384, 2), (16110, 32768, 3)],
)
def test_the_mtu_decides_the_order_of_a_buffers_pages(mtu: int, objsize: int, order: int) -> None:
    """4096 + 2 bytes and the shared info need size-8192: order 1; and so on, on a machine that has such blocks."""
    m = booted(Setup("linux-2.6.12", config=plenty(), nics=(Nic(mtu=mtu),)))
    slab = m.slab[m.skb[m.dev[0].ring_skb[0]].data_slab]
    assert (m.dev[0].ring_filled, m.cache[slab.cache].objsize, slab.order) == (256, objsize, order)
    holds(m)


@pytest.mark.parametrize(("mtu", "order"), [(4078, 1), (8174, 2), (16110, 3)])
def test_single_free_pages_do_not_feed_a_jumbo_ring_and_blocks_of_its_order_do(mtu: int, order: int) -> None:
    """Thousands of single pages free: the ring runs dry. The same pages in blocks: it does not."""
    refilled = {}
    for blocks in ((8192,), (0,) * order + (8192 >> order,)):
        setup = Setup(
            "linux-2.6.12",
            config={"ordinary_reader": READER_NEVER, "writers": 0},
            nics=(Nic(mtu=mtu, ring=80, background=48),),
            free_blocks=blocks,
        )
        frames = paced([udp(sport=at, dport=at) for at in range(1, 61)], 100_000)
        played = play(setup, frames, until_ns=SECOND_NS)
        refilled[len(blocks) > 1] = played.reasons().count("RX_MISSED")
    assert refilled[False] > 20
    assert refilled[True] == 0


def test_larger_blocks_are_split_and_what_is_left_lies_on_the_lower_lists() -> None:
    """One block of order 4 gives an order-1 block and leaves one each of orders 1, 2 and 3."""
    setup = Setup("linux-2.6.12", config={"writers": 0, "ordinary_reader": READER_NEVER}, free_blocks=(900, 0, 0, 0, 1))
    m = booted(setup)
    z = m.zone[ZONE_NORMAL]
    assert ([z.nr_free[order] for order in range(6)], z.free_pages) == ([900, 0, 0, 0, 1, 0], 916)
    from emu.kernel.page_alloc import take_block

    assert take_block(z, 1)
    assert [z.nr_free[order] for order in range(6)] == [900, 1, 1, 1, 0, 0]


def test_free_blocks_are_bounded_by_the_memory_there_is() -> None:
    """A scenario that asks for more than the zone has gets all of it, the largest blocks first."""
    m = booted(Setup("linux-2.6.12", config={"writers": 0}, free_blocks=(1 << 24,) * 11))
    z = m.zone[ZONE_NORMAL]
    assert z.free_pages + z.slab_pages + z.pcp_count == z.present_pages
    assert z.nr_free[10] > 0
    holds(m)


@pytest.mark.parametrize("nics", [1, 2, 3, 8])
@pytest.mark.parametrize("policy", ["linux-2.6.12", "phillips-v5", "mainline"])
def test_up_to_eight_devices_share_memory_and_softirq_each_with_its_own_cap(nics: int, policy: str) -> None:
    """Every device reserves, receives and is refilled; what one holds of its cap is its own."""
    setup = Setup(policy, nics=(Nic(ring=80, background=48),) * nics)
    frames = paced([udp(dev=at % nics, sport=1 + at % 50) for at in range(60 * nics)], 5_000)
    played = play(setup, frames, until_ns=3 * SECOND_NS)
    m = played.m
    assert [m.dev[d].rx_packets + m.dev[d].rx_missed for d in range(nics)] == [60] * nics
    assert all(m.dev[d].polls > 0 and m.dev[d].rx_reserve_used <= 50 for d in range(nics))
    if policy == "phillips-v5":
        assert m.min_free_kbytes == 1448 + 216 * nics

"""Every state of a small world: the look agrees with a search through all that could happen, and with the machine.

The model has one zone and counts alone: pages free in the zone and on the per-CPU list, free buffers, empty slabs of
another cache, buffers that readers hold.  It is searched breadth first, knowing nothing of how `lockup` looks.
"""

from collections import deque
from itertools import product
from typing import Any, NamedTuple

import pytest
from lockups import Given, dry, holding, socket_holding, under_writeback
from machines import PLAIN, holds, leave_free, rows_of

from emu.engine.loop import run
from emu.kernel.e1000 import ring_free
from emu.kernel.lockup import find_lockup
from emu.kernel.machine import ZONE_DMA, ZONE_NORMAL, Event
from emu.kernel.netdevice import dev_memalloc_skb
from emu.kernel.page_alloc import atomic_floor, setup_per_zone_pages_min
from emu.kernel.skbuff import kfree_skb
from emu.kernel.slub import kmem_cache_alloc, kmem_cache_free
from emu.kernel.sock import READER_NEEDS_MEMORY, READER_RATE

PAGES_MIN, FLOOR, PCP_HIGH = 4, 2, 2  # GFP_KERNEL and GFP_ATOMIC need more free pages than that
SIZE_1024 = 5  # the general cache of 1024 bytes: four objects to a slab
GFP_ANY = 0x20020
POLICIES = ("linux-2.6.12", "reserve-only", "phillips-v5")


class World(NamedTuple):
    """A state: pages, free buffers, empty slabs, buffers held by readers, buffers that the ring has got."""

    free: int
    listed: int  # on the per-CPU list
    buffers: int
    hollow: int
    rate: int
    needing: int
    got: int = 0
    reserved: int = 0  # of the cap


def page_back(world: World) -> World:
    """A page comes back: onto the per-CPU list, one of whose pages goes to the zone when it is full."""
    if world.listed >= PCP_HIGH:
        return world._replace(free=world.free + 1)
    return world._replace(listed=world.listed + 1)


def page_taken(world: World) -> World:
    """A page is taken, from the per-CPU list while it has one."""
    if world.listed > 0:
        return world._replace(listed=world.listed - 1)
    return world._replace(free=world.free - 1)


def steps(world: World, policy: str, cap: int) -> list[World]:
    """All that could happen next."""
    after = []
    if world.rate:
        after.append(world._replace(rate=0, buffers=world.buffers + world.rate))
    if world.needing and world.free > PAGES_MIN:
        after.append(world._replace(needing=0, buffers=world.buffers + world.needing))
    if world.buffers:
        after.append(page_back(world._replace(buffers=world.buffers - 1)))
        after.append(world._replace(buffers=world.buffers - 1, got=world.got + 1))
    elif world.free > FLOOR:
        after.append(page_taken(world)._replace(got=world.got + 1))
    elif (
        policy != "linux-2.6.12" and world.free + world.listed > 0 and (policy != "phillips-v5" or world.reserved < cap)
    ):
        after.append(page_taken(world)._replace(got=world.got + 1, reserved=world.reserved + 1))
    if world.hollow:
        after.append(page_back(world._replace(hollow=world.hollow - 1)))
    return after


def reachable(world: World, policy: str, cap: int, needed: int) -> bool:
    """Whether the ring can get as many buffers as its tail register needs."""
    seen = {world}
    waiting = deque([world])
    while waiting:
        at = waiting.popleft()
        if at.got >= needed:
            return True
        for after in steps(at, policy, cap):
            if after not in seen:
                seen.add(after)
                waiting.append(after)
    return False


def pinned_objects(m: Any, cache: int, objects: int) -> None:
    """Free objects of a slab that others hold for ever: they are there, and their page never is."""
    c = m.cache[cache]
    s = next(s for s in range(m.slabs_made) if m.slab[s].cache == cache and m.slab[s].inuse == c.num)
    assert objects < c.num
    for at in range(objects):
        c.entry[at] = s
    c.avail = objects


def built(policy: str, buffers: int, hollow: int, rate: int, needing: int) -> Any:
    """A dry machine with so much in it; heads and descriptors are not short."""

    given: list[Given] = []
    if rate:
        given.append(holding(READER_RATE, rate))
    if needing:
        given.append(lambda m: (socket_holding(m, READER_NEEDS_MEMORY, needing, port=8), None)[1])
    m = dry(policy, *given)
    leave_free(m, atomic_floor(m, ZONE_NORMAL) + 100, 0)
    small = [kmem_cache_alloc(m, SIZE_1024, GFP_ANY) for _ in range(4 * hollow)]
    large = [dev_memalloc_skb(m, 0) for _ in range(buffers)]
    for cache in (0, 1, m.head_cache):
        m.cache[cache].avail = 0
        m.cache[cache].partial_head = m.cache[cache].partial_tail = m.cache[cache].empty_head = -1
        m.cache[cache].free_objects = 0
        for s in range(m.slabs_made):
            if m.slab[s].cache == cache:
                m.slab[s].inuse = m.cache[cache].num
    for s in small:
        kmem_cache_free(m, SIZE_1024, s)
    for b in large:
        kfree_skb(m, b)
    m.cache[m.head_cache].avail = 0
    for cache in (0, m.head_cache):
        pinned_objects(m, cache, 8)
    z = m.zone[ZONE_NORMAL]
    z.pages_min, z.pages_low, z.pages_high = PAGES_MIN, PAGES_MIN + 1, PAGES_MIN + 2
    z.pcp_low, z.pcp_batch, z.pcp_high = 0, 1, PCP_HIGH
    return m


def set_pages(m: Any, free: int, listed: int) -> None:
    """So many pages in ZONE_NORMAL, and on its per-CPU list."""
    leave_free(m, free, 0)
    m.zone[ZONE_NORMAL].pcp_count = listed
    m.zone[ZONE_NORMAL].other_pages -= listed


def need(m: Any, buffers: int) -> None:
    """The tail register moves with the `buffers`th buffer."""
    dev = m.dev[0]
    end = 0 if dev.ring_skb[0] == -1 else 16
    dev.next_to_use = (end - buffers + 1) % dev.ring_size
    for before in range(1, buffers):
        dev.ring_skb[(end - before) % dev.ring_size] = -1


@pytest.mark.parametrize("policy", POLICIES)
def test_the_look_agrees_with_a_search_on_every_state(policy: str) -> None:
    """1 to 3 buffers needed, a cap of one: some hundred states locked up, some hundred not."""
    found = [0, 0]
    for buffers, hollow, rate, needing in product(range(3), range(3), range(2), range(3)):
        m = built(policy, buffers, hollow, rate, needing)
        used = m.dev[0].rx_reserve_used
        m.dev[0].rx_reserve = used + 1
        for needed in (1, 2, 3):
            need(m, needed)
            for free, listed in product(range(6), range(PCP_HIGH + 1)):
                set_pages(m, free, listed)
                world = World(free, listed, buffers, hollow, rate, needing)
                locked = find_lockup(m)
                assert locked == (not reachable(world, policy, 1, needed)), (world, needed)
                found[locked] += 1
    assert min(found) > 50, found


@pytest.mark.parametrize("policy", POLICIES)
def test_no_lockup_recovers_in_a_hundred_seconds(policy: str) -> None:
    """The machine runs on, with reaps, watchdogs and readers: its ring stays empty, whatever has been given back."""
    locked = 0
    log = PLAIN.rows(Event, 4)
    for buffers, hollow, rate, needing, free in product((0, 1), (0, 2), (0, 1), (0, 1, 2), (0, 2, 3, 5)):
        m = built(policy, buffers, hollow, rate, needing)
        m.dev[0].rx_reserve = m.dev[0].rx_reserve_used
        set_pages(m, free, 0)
        m.reader_tick_ns = 1_000_000
        m.dev[0].watchdog_ns = 0
        if not find_lockup(m):
            continue
        locked += 1
        run(m, rows_of([]), 0, 0, 100_000_000_000, log, 4)
        assert ring_free(m, 0) == 0
        assert find_lockup(m) == 1
    assert locked >= 3


def test_what_is_not_locked_up_in_a_quiet_world_recovers() -> None:
    """Where nobody takes anything the best case comes to pass: the ring shows a buffer within a minute."""
    recovered = 0
    log = PLAIN.rows(Event, 4)
    for buffers, rate, needing, free in product((0, 1), (0, 1), (0, 2), (0, 2, 3, 5)):
        m = built("linux-2.6.12", buffers, 0, rate, needing)
        set_pages(m, free, 0)
        m.reader_tick_ns = 1_000_000
        m.dev[0].watchdog_ns = 0
        if find_lockup(m):
            continue
        recovered += 1
        run(m, rows_of([]), 0, 0, 60_000_000_000, log, 4)
        assert ring_free(m, 0) > 0
        under_writeback(m, -m.vm.writeback_pages)  # no command of a session stands for them
        holds(m)
    assert recovered > 10


def test_the_zones_of_a_small_world_are_what_the_model_says() -> None:
    """The floor of GFP_ATOMIC, by hand: 4 - 2 = 2, and a quarter of 2 is 0."""
    m = built("linux-2.6.12", 0, 0, 0, 0)
    z = m.zone[ZONE_NORMAL]
    assert (z.lowmem_reserve[ZONE_NORMAL], m.zone[ZONE_DMA].free_pages + m.zone[ZONE_DMA].pcp_count) == (0, 0)
    assert atomic_floor(m, ZONE_NORMAL) == FLOOR
    setup_per_zone_pages_min(m)
    assert z.pages_min > PAGES_MIN, "it is the world's own, not the machine's"

"""SLUB against its own rules and a reference that only counts; buffers cut from page fragments."""

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from machines import Nic, Setup, booted, holds, leave_free, plenty

from emu.kernel.machine import DRIVER_E1000E, MM_6X, NONE, PAGE_SIZE, ZONE_NORMAL
from emu.kernel.page_alloc import GFP_ATOMIC, GFP_MEMALLOC, GFP_NOMEMALLOC, PF_MEMALLOC
from emu.kernel.skbuff import (
    NAPI_SKB_CACHE_BULK,
    kfree_skb,
    kmalloc_cache,
    napi_alloc_skb,
    netdev_alloc_frag_skb,
    skb_truesize_6x,
)
from emu.kernel.slab import SLAB_UNUSED
from emu.kernel.slub import (
    LIST_CPU,
    MIN_PARTIAL,
    calculate_order,
    kmem_cache_alloc,
    kmem_cache_free,
    pfmemalloc_allowed,
)

RX_BYTES = 1522 + 64  # an e1000e buffer with its headroom
ENTITLED = GFP_ATOMIC | GFP_MEMALLOC
GEOMETRY_6X = {"mm": MM_6X, "sk_buff_bytes": 232, "l1_bytes": 64, "netdev_max_backlog": 1000, "netdev_budget": 300}


def roomy(**config: int) -> Any:
    """A 6.x machine with memory in plenty."""
    nic = Nic(ring=16, driver=DRIVER_E1000E)
    return booted(Setup("mainline", config=plenty(**GEOMETRY_6X) | config, nics=(nic,)))


@pytest.mark.parametrize(
    ("size", "order"),
    [(8, 0), (192, 0), (256, 0), (512, 0), (1024, 1), (2048, 2), (4096, 3), (8192, 3), (32768, 3)],
)
def test_a_slab_has_room_for_eight_objects_up_to_order_three(size: int, order: int) -> None:
    """calculate_order on one CPU: 4 * (fls(1) + 1) objects, as /proc/slabinfo of such a machine shows."""
    assert calculate_order(size) == order


def test_the_classes_are_those_of_x86_64_and_a_head_takes_256_bytes() -> None:
    """kmalloc-8 to kmalloc-8k, then pages; 16 heads of 232 bytes to a page."""
    m = roomy()
    sizes = [m.cache[cache].objsize for cache in range(m.head_cache)]
    assert sizes == [8, 16, 32, 64, 96, 128, 192, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768]
    head = m.cache[m.head_cache]
    assert (head.objsize, head.num, head.order, head.min_partial) == (256, 16, 0, MIN_PARTIAL)
    assert m.cache[kmalloc_cache(m, 193)].objsize == 256


@pytest.mark.parametrize(
    ("gfp", "allowed"),
    [
        (GFP_ATOMIC, False),
        (ENTITLED, True),
        (GFP_ATOMIC | PF_MEMALLOC, True),
        (ENTITLED | GFP_NOMEMALLOC, False),
    ],
)
def test_who_may_have_the_reserve(gfp: int, allowed: bool) -> None:
    """gfp_pfmemalloc_allowed: __GFP_NOMEMALLOC beats everything."""
    assert pfmemalloc_allowed(gfp) is allowed


def test_a_slab_that_fails_at_its_order_is_tried_at_the_smallest_that_holds_an_object() -> None:
    """kmalloc-2k wants order 2; with single pages only it gets slabs of two objects."""
    m = roomy()
    leave_free(m, 5000)
    cache = kmalloc_cache(m, 2048)
    s = kmem_cache_alloc(m, cache, GFP_ATOMIC)
    assert (m.slab[s].order, m.slab[s].objects) == (0, 2)
    assert kmem_cache_alloc(m, cache, GFP_ATOMIC) == s
    assert kmem_cache_alloc(m, cache, GFP_ATOMIC) != s


def test_an_empty_slab_goes_back_when_the_node_has_its_partial_ones() -> None:
    """min_partial 5: the CPU keeps some, the node five, the rest of the pages are free again."""
    m = roomy()
    head = m.cache[m.head_cache]
    before = m.zone[ZONE_NORMAL].slab_pages
    objects = [kmem_cache_alloc(m, m.head_cache, GFP_ATOMIC) for _ in range(16 * 60)]
    assert m.zone[ZONE_NORMAL].slab_pages - before >= 59
    for s in objects:
        kmem_cache_free(m, m.head_cache, s)
    kept = m.zone[ZONE_NORMAL].slab_pages - before
    assert head.nr_partial >= MIN_PARTIAL
    assert kept <= head.nr_partial + head.cpu_partial_max + 1
    holds(m)


def test_an_object_above_8_kib_has_pages_of_its_own() -> None:
    """kmalloc_large: the pages come and go with the object."""
    m = roomy()
    cache = kmalloc_cache(m, 16_384)
    before = m.zone[ZONE_NORMAL].slab_pages
    s = kmem_cache_alloc(m, cache, GFP_ATOMIC)
    assert m.zone[ZONE_NORMAL].slab_pages == before + 4
    kmem_cache_free(m, cache, s)
    assert m.zone[ZONE_NORMAL].slab_pages == before


def starved() -> Any:
    """A machine whose pages only entitled callers may have, and whose head cache has no object left."""
    m = roomy(memalloc_socket=1)
    leave_free(m, 20)
    while kmem_cache_alloc(m, m.head_cache, GFP_ATOMIC) != NONE:
        pass
    return m


def test_a_reserve_slab_that_the_cpu_uses_serves_everybody() -> None:
    """The fast path asks nobody: after an entitled caller has grown the cache, others take the other 15 objects."""
    m = starved()
    s = kmem_cache_alloc(m, m.head_cache, ENTITLED)
    assert m.slab[s].tagged == 1
    assert [kmem_cache_alloc(m, m.head_cache, GFP_ATOMIC) for _ in range(15)] == [s] * 15
    assert kmem_cache_alloc(m, m.head_cache, GFP_ATOMIC) == NONE


def test_a_reserve_slab_on_the_cpus_list_is_refused_to_ordinary_callers() -> None:
    """pfmemalloc_match, on the slow path: the slab goes to the node, where it is skipped too, and nothing is left."""
    m = starved()
    first = [kmem_cache_alloc(m, m.head_cache, ENTITLED) for _ in range(17)]
    kmem_cache_free(m, m.head_cache, first[0])  # its slab was full: the CPU keeps it
    for _ in range(15):
        kmem_cache_alloc(m, m.head_cache, GFP_ATOMIC)
    assert kmem_cache_alloc(m, m.head_cache, GFP_ATOMIC) == NONE
    assert kmem_cache_alloc(m, m.head_cache, ENTITLED) == first[0]


def test_an_order_3_block_gives_17_buffers_and_a_single_page_2() -> None:
    """1522 + 64 is 1600 aligned, with 320 of shared info 1920 bytes; charged with the head: 2176."""
    m = roomy()
    m.frag.slab = NONE
    buffers = [netdev_alloc_frag_skb(m, RX_BYTES, GFP_ATOMIC) for _ in range(18)]
    slabs = [m.skb[b].data_slab for b in buffers]
    assert (slabs.count(slabs[0]), m.slab[slabs[0]].order, m.skb[buffers[0]].truesize) == (17, 3, 2176)
    leave_free(m, 5000)
    m.frag.slab = NONE
    slabs = [m.skb[netdev_alloc_frag_skb(m, RX_BYTES, GFP_ATOMIC)].data_slab for _ in range(3)]
    assert (slabs.count(slabs[0]), m.slab[slabs[0]].order) == (2, 0)
    assert skb_truesize_6x(m, 1920) == 2176


def test_a_tagged_page_taints_its_buffers_and_is_not_used_twice() -> None:
    """Both fragments are tagged, and the page is freed with them although the cache could fill it again."""
    m = roomy(memalloc_socket=1)
    heads = [kmem_cache_alloc(m, m.head_cache, GFP_ATOMIC) for _ in range(8)]
    for s in heads:
        kmem_cache_free(m, m.head_cache, s)
    leave_free(m, 20)
    m.frag.slab = NONE
    tagged = []
    for _ in range(2):
        b = netdev_alloc_frag_skb(m, RX_BYTES, ENTITLED)
        tagged.append((m.skb[b].pfmemalloc, m.skb[b].data_slab))
        kfree_skb(m, b)
    assert tagged == [(1, tagged[0][1])] * 2
    b = netdev_alloc_frag_skb(m, RX_BYTES, ENTITLED)
    assert m.skb[b].pfmemalloc == 1
    assert m.zone[ZONE_NORMAL].free_pages + m.zone[ZONE_NORMAL].pcp_count == 19


def test_small_packets_share_a_page_by_four_and_take_heads_by_sixteen() -> None:
    """napi_alloc_skb: 1 KiB fragments, 1280 bytes charged, and sixteen heads at once."""
    m = roomy()
    buffers = [napi_alloc_skb(m, 64 + 60, GFP_ATOMIC) for _ in range(5)]
    slabs = [m.skb[b].data_slab for b in buffers]
    assert slabs.count(slabs[0]) == 4
    assert m.skb[buffers[0]].truesize == 1280
    assert m.napi_skb_count == NAPI_SKB_CACHE_BULK - 5
    for b in buffers:
        kfree_skb(m, b)
    assert m.slab[slabs[0]].cache == SLAB_UNUSED


def test_sixteen_heads_come_all_or_none() -> None:
    """kmem_cache_alloc_bulk: with fewer than 16 objects to be had, those that it had are given back."""
    m = starved()
    s = kmem_cache_alloc(m, m.head_cache, ENTITLED)
    used = m.slab[s].inuse
    assert napi_alloc_skb(m, 124, ENTITLED) == NONE
    assert (m.napi_skb_count, m.slab[s].inuse) == (0, used)


class Slub(RuleBasedStateMachine):
    """One cache under random allocations and frees, against a dictionary of objects."""

    @initialize(size=st.sampled_from((192, 256, 1024, 2048, 8192)), free=st.sampled_from((40, 200, 5000)))
    def start(self, size: int, free: int) -> None:
        """A machine with so many single pages left."""
        self.m = roomy(memalloc_socket=1)
        leave_free(self.m, free)
        self.cache = kmalloc_cache(self.m, size)
        self.out: list[int] = []

    @rule(entitled=st.booleans(), count=st.integers(1, 40))
    def allocate(self, entitled: bool, count: int) -> None:
        """Some objects; without an entitlement none from a tagged slab unless the CPU uses it already."""
        for _ in range(count):
            cpu = self.m.cache[self.cache].cpu_slab
            s = kmem_cache_alloc(self.m, self.cache, ENTITLED if entitled else GFP_ATOMIC)
            if s == NONE:
                return
            assert entitled or not self.m.slab[s].tagged or s == cpu
            self.out.append(s)

    @precondition(lambda self: self.out)
    @rule(data=st.data(), count=st.integers(1, 40))
    def free(self, data: st.DataObject, count: int) -> None:
        """Some objects go back, in any order."""
        for _ in range(min(count, len(self.out))):
            at = data.draw(st.integers(0, len(self.out) - 1))
            self.out[at], self.out[-1] = self.out[-1], self.out[at]
            kmem_cache_free(self.m, self.cache, self.out.pop())

    @invariant()
    def slabs_are_what_the_objects_say(self) -> None:
        """Each slab counts its objects, the lists hold what can be taken from, and every page is accounted for."""
        if not hasattr(self, "m"):
            return
        m, c = self.m, self.m.cache[self.cache]
        listed: list[list[int]] = []
        for head in (c.partial_head, c.cpu_partial_head):
            members = []
            while head != NONE:
                members.append(head)
                head = m.slab[head].next
            listed.append(members)
        assert (len(listed[0]), len(listed[1])) == (c.nr_partial, c.cpu_partial_slabs)
        assert c.cpu_partial_slabs <= max(1, c.cpu_partial_max)
        assert c.cpu_slab == NONE or m.slab[c.cpu_slab].list == LIST_CPU
        reachable = {*listed[0], *listed[1], c.cpu_slab}
        for s in range(m.slabs_made):
            slab = m.slab[s]
            if slab.cache == self.cache:
                assert slab.inuse == self.out.count(s)
                assert slab.objects == (PAGE_SIZE << slab.order) // c.objsize
                assert (s in reachable) or slab.inuse == slab.objects
        holds(m)


TestSlub = Slub.TestCase
TestSlub.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)

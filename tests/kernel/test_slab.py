"""Slab caches and skb geometry: how many objects a page holds, and when an allocation meets a watermark."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from machines import Nic, Setup, booted, holds, leave_free, pages_left, plenty

from emu.kernel.drop_reason import NOMEM
from emu.kernel.machine import NONE, PAGE_SIZE, ZONE_NORMAL
from emu.kernel.netdevice import alloc_rx, dev_memalloc_skb, estimate_skb_pages
from emu.kernel.page_alloc import GFP_ATOMIC, GFP_MEMALLOC
from emu.kernel.policy import BUFFER_KMALLOC, POLICIES
from emu.kernel.skbuff import SKB_SHARED_INFO_BYTES, alloc_skb, kfree_skb, kmalloc_cache, skb_data_align
from emu.kernel.slab import cache_reap, kmem_cache_alloc, kmem_cache_free

LINES = (32, 64, 128)
SECOND_NS = 1_000_000_000


def roomy(line: int = 128, sk_buff_bytes: int = 168, **setup: Any) -> Any:
    """A machine with free memory, a one-slot ring and this geometry."""
    config = plenty(l1_bytes=line, sk_buff_bytes=sk_buff_bytes)
    return booted(Setup(config=config, nics=(Nic(ring=1),), **setup))


def cache_of(m: Any, size: int) -> Any:
    """The general cache that serves `size` bytes."""
    return m.cache[kmalloc_cache(m, size)]


def align(value: int, to: int) -> int:
    """`value` rounded up to a multiple of `to`."""
    return -(-value // to) * to


def objects_per_page(size: int, line: int) -> int:
    """The slow way (kmem_cache_estimate): one object more while it fits beside struct slab and its indices."""
    step = line
    while size <= step // 2:
        step //= 2
    count = 0
    while (count + 1) * size + align(24 + 2 * (count + 1), step) <= PAGE_SIZE:
        count += 1
    return count


@pytest.mark.parametrize(
    ("line", "classes"),
    [
        (32, [32, 64, 96, 128, 192, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768]),
        (64, [32, 64, 128, 192, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768]),
        (128, [32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768]),
    ],
)
def test_the_size_classes_depend_on_the_cache_line(line: int, classes: list[int]) -> None:
    """There is a size-96 only for lines below 64 bytes and a size-192 only below 128."""
    m = roomy(line)
    assert [m.cache[cache].objsize for cache in range(m.head_cache)] == classes
    assert m.caches == m.head_cache + 1


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("sk_buff_bytes", [152, 168, 172, 184])
def test_objects_with_an_on_slab_descriptor_share_their_page_with_it(line: int, sk_buff_bytes: int) -> None:
    """Caches below 512 bytes hold what fits in a page beside the descriptor, counted one object at a time."""
    m = roomy(line, sk_buff_bytes)
    small = [m.cache[cache] for cache in range(m.caches) if m.cache[cache].objsize < 512]
    assert len(small) >= 5
    assert [(c.objsize, c.num) for c in small] == [(c.objsize, objects_per_page(c.objsize, line)) for c in small]
    assert all((c.order, c.slabp_cache) == (0, NONE) for c in small)


@pytest.mark.parametrize(
    ("line", "sk_buff_bytes", "objsize", "per_slab"),
    [
        (32, 152, 160, 25),
        (32, 160, 160, 25),
        (32, 164, 192, 20),
        (32, 192, 192, 20),
        (64, 168, 192, 20),
        (64, 184, 192, 20),
        (128, 168, 256, 15),
        (128, 152, 256, 15),
    ],
)
def test_a_page_holds_15_to_25_skb_heads(line: int, sk_buff_bytes: int, objsize: int, per_slab: int) -> None:
    """struct sk_buff is rounded up to the line; a page then holds 25, 20 or 15 of them."""
    m = roomy(line, sk_buff_bytes)
    c = m.cache[m.head_cache]
    assert (c.objsize, c.num, c.order, c.limit) == (objsize, per_slab, 0, 120)


@pytest.mark.parametrize(
    ("size", "per_slab", "order", "descriptor", "limit"),
    [
        (512, 8, 0, 64, 54),
        (1024, 4, 0, 32, 54),
        (2048, 2, 0, 32, 24),
        (4096, 1, 0, 32, 24),
        (8192, 1, 1, 32, 8),
        (16384, 1, 2, 32, 8),
        (32768, 1, 3, 32, 8),
    ],
)
def test_large_objects_have_their_descriptor_elsewhere(
    size: int, per_slab: int, order: int, descriptor: int, limit: int
) -> None:
    """From 512 bytes on, a slab is objects only; its descriptor is an object of size-32 (size-64 for size-512)."""
    m = roomy()
    c = cache_of(m, size)
    assert (c.objsize, c.num, c.order, c.limit) == (size, per_slab, order, limit)
    assert m.cache[c.slabp_cache].objsize == descriptor


@pytest.mark.parametrize(
    ("objsize", "limit", "batch"), [(32, 120, 60), (256, 120, 60), (512, 54, 27), (2048, 24, 12), (8192, 8, 4)]
)
def test_the_per_cpu_array_moves_half_its_limit(objsize: int, limit: int, batch: int) -> None:
    """A batch is half the array, rounded up; a cache keeps two batches and a slab of free objects on its lists."""
    c = cache_of(roomy(), objsize)
    assert (c.limit, c.batchcount, c.free_limit) == (limit, batch, 2 * batch + c.num)


@pytest.mark.parametrize(
    ("request_bytes", "aligned", "with_info", "classes"),
    [
        (2050, (2080, 2112, 2176), (2240, 2272, 2336), (4096, 4096, 4096)),
        (1520, (1536, 1536, 1536), (1696, 1696, 1696), (2048, 2048, 2048)),
        (1522, (1568, 1600, 1664), (1728, 1760, 1824), (2048, 2048, 2048)),
        (4098, (4128, 4160, 4224), (4288, 4320, 4384), (8192, 8192, 8192)),
        (8194, (8224, 8256, 8320), (8384, 8416, 8480), (16384, 16384, 16384)),
        (16386, (16416, 16448, 16512), (16576, 16608, 16672), (32768, 32768, 32768)),
        (258, (288, 320, 384), (448, 480, 544), (512, 512, 1024)),
    ],
)
def test_a_receive_buffer_takes_the_class_above_its_size_and_its_shared_info(
    request_bytes: int, aligned: tuple[int, ...], with_info: tuple[int, ...], classes: tuple[int, ...]
) -> None:
    """dev_alloc_skb adds 16 bytes and rounds to the line; 160 bytes of shared info follow; kmalloc rounds up again."""
    for line, size, total, objsize in zip(LINES, aligned, with_info, classes, strict=True):
        m = roomy(line)
        assert skb_data_align(m, request_bytes + 16) == size
        assert size + SKB_SHARED_INFO_BYTES == total
        b = alloc_skb(m, request_bytes + 16, GFP_ATOMIC, 0)
        assert m.cache[m.slab[m.skb[b].data_slab].cache].objsize == objsize
        assert m.skb[b].truesize == size + 168


@pytest.mark.parametrize(("line", "truesize"), [(32, 2248), (64, 2280), (128, 2344)])
def test_a_socket_is_charged_half_of_what_a_buffer_costs(line: int, truesize: int) -> None:
    """truesize of an e1000 buffer at MTU 1500 leaves out shared info and rounding: 2.3 kB for more than a page."""
    m = roomy(line)
    assert m.skb[dev_memalloc_skb(m, 0)].truesize == truesize


@pytest.mark.parametrize(
    ("num", "size", "of_25", "of_20", "of_15"),
    [
        (50, 2050, 52, 53, 54),
        (50, 1522, 27, 28, 29),
        (50, 4098, 102, 103, 104),
        (50, 8194, 202, 203, 204),
        (50, 16386, 402, 403, 404),
        (256, 2050, 267, 269, 274),
        (50, 1521, 27, 28, 29),
        (50, 1900, 27, 28, 29),  # half of what 50 buffers of size-4096 need: the shared info is forgotten
        (1, 1, 2, 2, 2),
        (0, 2050, 0, 0, 0),
    ],
)
def test_estimate_skb_pages_counts_as_v6_does(num: int, size: int, of_25: int, of_20: int, of_15: int) -> None:
    """Heads by slab, rounded up, and the next power of two above size + 15 for each buffer's data."""
    estimates = [estimate_skb_pages(roomy(line, head), num, size) for line, head in ((32, 152), (64, 168), (128, 168))]
    assert estimates == [of_25, of_20, of_15]


def test_only_growing_a_slab_meets_the_watermarks() -> None:
    """While a slab has a free object GFP_ATOMIC succeeds with no page left at all; the next one fails."""
    m = roomy()
    cache = kmalloc_cache(m, 2048)
    first = kmem_cache_alloc(m, cache, GFP_ATOMIC)
    leave_free(m, 0)
    assert kmem_cache_alloc(m, cache, GFP_ATOMIC) == first  # the slab's other half
    assert kmem_cache_alloc(m, cache, GFP_ATOMIC) == NONE
    assert kmem_cache_alloc(m, cache, GFP_ATOMIC | GFP_MEMALLOC) == NONE


@pytest.mark.parametrize("policy", [p.name for p in POLICIES.values() if p.rules["rx_allocator"] == BUFFER_KMALLOC])
def test_a_freed_buffer_is_reused_without_a_page(policy: str) -> None:
    """A dropped packet's head and data go back to their caches, and the next buffer is made of them."""
    m = booted(Setup(policy, config=plenty(), nics=(Nic(ring=32),)))
    b = dev_memalloc_skb(m, 0)
    used = m.dev[0].rx_reserve_used
    leave_free(m, 0)
    for _ in range(100):
        kfree_skb(m, b)
        b = dev_memalloc_skb(m, 0)
        assert b != NONE
    assert (m.dev[0].rx_reserve_used, used) == (0, 0)
    holds_but_for(m, 1)


def holds_but_for(m: Any, held: int) -> None:
    """Every invariant holds when the test itself holds so many skbs."""
    m.background_held += held
    holds(m)
    m.background_held -= held


def test_a_page_comes_back_only_with_the_last_object_of_its_slab() -> None:
    """One head of fifteen still in use pins the page, whatever is freed around it."""
    m = roomy()
    cache = m.head_cache
    c = m.cache[cache]
    objects = [kmem_cache_alloc(m, cache, GFP_ATOMIC) for _ in range(15 * 30)]
    leave_free(m, 0)
    pages = m.zone[ZONE_NORMAL].slab_pages
    pinned = {}
    for s in objects:  # keep one head of every slab, free the others
        if s in pinned:
            kmem_cache_free(m, cache, s)
        pinned[s] = True
    c.touched = 0
    for _ in range(50):
        m.now_ns += 4 * SECOND_NS
        cache_reap(m)
    assert c.avail == 0
    held_by_heads = sum(m.slab[s].cache == cache for s in range(m.slabs_made))
    assert held_by_heads == len(pinned)
    assert all(m.slab[s].inuse >= 1 for s in pinned)
    for s in pinned:
        kmem_cache_free(m, cache, s)
    for _ in range(50):
        m.now_ns += 4 * SECOND_NS
        cache_reap(m)
    assert pages - m.zone[ZONE_NORMAL].slab_pages >= len(pinned) - 1
    assert sum(m.slab[s].cache == cache for s in range(m.slabs_made)) <= 1


def test_a_full_array_gives_a_batch_back_and_slabs_too_many_give_up_their_pages() -> None:
    """size-4096 keeps 24 objects in the array and 25 on its lists; what is freed beyond that frees its page at once."""
    m = roomy()
    cache = kmalloc_cache(m, 4096)
    c = m.cache[cache]
    assert (c.avail, c.free_objects) == (0, 0)
    objects = [kmem_cache_alloc(m, cache, GFP_ATOMIC) for _ in range(100)]
    before = m.zone[ZONE_NORMAL].slab_pages
    for s in objects:
        kmem_cache_free(m, cache, s)
    freed = before - m.zone[ZONE_NORMAL].slab_pages
    kept = c.avail + c.free_objects
    assert (c.avail <= 24, c.free_objects) == (True, 25)
    assert kept + freed == 100


def test_the_reaper_ages_an_idle_array_and_then_its_slabs() -> None:
    """Every 2 s an untouched array loses a fifth of its limit; every 4 s some free slabs lose their pages."""
    m = roomy()
    cache = kmalloc_cache(m, 4096)
    c = m.cache[cache]
    for s in [kmem_cache_alloc(m, cache, GFP_ATOMIC) for _ in range(20)]:
        kmem_cache_free(m, cache, s)
    c.free_touched = 0
    assert (c.avail, c.free_objects, c.touched) == (20, 0, 1)
    m.now_ns += 2 * SECOND_NS
    c.next_reap_ns = m.now_ns + 4 * SECOND_NS
    cache_reap(m)
    assert (c.avail, c.touched) == (20, 0)  # touched since the last time: left alone
    m.now_ns += 2 * SECOND_NS
    cache_reap(m)
    assert (c.avail, c.free_objects) == (15, 5)  # (24 + 4) / 5
    pages = m.zone[ZONE_NORMAL].slab_pages
    m.now_ns += 2 * SECOND_NS
    cache_reap(m)
    assert (c.avail, c.free_objects) == (10, 5)  # 5 more aged, then (25 + 4) / 5 slabs destroyed
    assert pages - m.zone[ZONE_NORMAL].slab_pages == 5
    assert m.reap_ns == m.now_ns + 2 * SECOND_NS


def test_a_growth_that_gets_no_descriptor_gives_its_pages_back() -> None:
    """One page left, no free size-32 object: a size-4096 slab cannot grow, and the page is still there."""
    m = booted(Setup("reserve-only", nics=(Nic(ring=32, background=0),)))
    leave_free(m, 1)
    assert m.cache[0].free_objects + m.cache[0].avail == 0
    before = m.zone[ZONE_NORMAL].slab_pages
    assert kmem_cache_alloc(m, kmalloc_cache(m, 4096), GFP_ATOMIC | GFP_MEMALLOC) == NONE
    assert (m.zone[ZONE_NORMAL].slab_pages, pages_left(m)) == (before, 1)
    assert kmem_cache_alloc(m, 0, GFP_ATOMIC | GFP_MEMALLOC) != NONE
    assert pages_left(m) == 0


def test_a_head_without_data_goes_back() -> None:
    """When the data cannot be had, the head's slab has grown all the same and its fifteen objects are free."""
    m = booted(Setup("reserve-only", nics=(Nic(ring=32, background=0),)))
    leave_free(m, 1)
    skbs = m.skbs_used
    assert dev_memalloc_skb(m, 0) == NONE
    assert m.alloc_cause == NOMEM
    c = m.cache[m.head_cache]
    assert (c.avail + c.free_objects, m.skbs_used, pages_left(m)) == (15, skbs, 0)


def tagging() -> Any:
    """Mainline with a SOCK_MEMALLOC socket, every zone at its floor."""
    m = booted(Setup("mainline", nics=(Nic(ring=32, background=0),)))
    m.memalloc_socks = 1
    return m


def test_a_tagged_slab_serves_only_the_entitled_and_goes_with_its_last_object() -> None:
    """A slab on reserve pages refuses GFP_ATOMIC although it has free objects, and is given back when empty."""
    m = tagging()
    pages = pages_left(m)
    cache = kmalloc_cache(m, 1024)
    objects = [kmem_cache_alloc(m, cache, GFP_ATOMIC | GFP_MEMALLOC) for _ in range(3)]
    assert len(set(objects)) == 1
    s = objects[0]
    assert (m.slab[s].tagged, m.slab[s].inuse) == (1, 3)
    assert kmem_cache_alloc(m, cache, GFP_ATOMIC) == NONE
    for _ in range(3):
        kmem_cache_free(m, cache, s)
    assert pages_left(m) == pages  # its off-slab descriptor's slab is tagged as well, and empty
    assert m.cache[cache].tagged_head == NONE


def test_buffers_cut_from_a_tagged_page_are_tagged_and_the_page_is_not_recycled() -> None:
    """mainline: at the floor a page fragment needs the reserve; its page goes back when its last fragment does."""
    m = tagging()
    c = m.cache[m.head_cache]
    heads = [kmem_cache_alloc(m, m.head_cache, GFP_ATOMIC) for _ in range(c.avail + c.free_objects)]
    assert heads == []  # the crunch left none, so the head with plain GFP_ATOMIC fails first
    assert dev_memalloc_skb(m, 0) == NONE
    heads = [kmem_cache_alloc(m, m.head_cache, GFP_ATOMIC | GFP_MEMALLOC)]
    assert m.slab[heads[0]].tagged == 1
    assert dev_memalloc_skb(m, 0) == NONE  # a tagged slab's heads are not for GFP_ATOMIC

    m = booted(Setup("mainline", config=plenty(), nics=(Nic(ring=32),)))
    m.memalloc_socks = 1
    kfree_skb(m, dev_memalloc_skb(m, 0))
    m.frag.slab, dropped = NONE, m.frag.slab
    m.slab[dropped].inuse -= 1
    leave_free(m, 5)
    b = dev_memalloc_skb(m, 0)
    skb = m.skb[b]
    assert (skb.pfmemalloc, skb.from_reserve, m.slab[skb.data_slab].tagged) == (1, 1, 1)
    assert m.dev[0].reserve_allocations == 1
    left = pages_left(m)
    second = dev_memalloc_skb(m, 0)  # 2432 bytes do not fit in the rest of the page: another page
    assert m.skb[second].data_slab != skb.data_slab
    assert pages_left(m) == left - 1
    kfree_skb(m, b)  # the fragment cache has dropped that page
    assert pages_left(m) == left


@pytest.mark.parametrize("socks", [0, 1])
def test_mainline_dips_only_while_a_memalloc_socket_exists(socks: int) -> None:
    """The static key: without any SOCK_MEMALLOC socket a receive buffer never uses the reserve."""
    m = booted(Setup("mainline", config=plenty(), nics=(Nic(ring=32),)))
    m.memalloc_socks = socks
    m.frag.remaining = 0
    leave_free(m, 5)
    b = dev_memalloc_skb(m, 0)
    assert (b != NONE) == bool(socks)
    assert m.alloc_cause == (0 if socks else NOMEM)


def test_an_skb_that_needed_the_second_try_is_tagged_even_if_the_reserve_was_not_touched() -> None:
    """mainline's kmalloc path over-marks: between 3/8 and 1/2 of min the second try succeeds, and still tags."""
    m = booted(Setup("mainline", config=plenty(), nics=(Nic(ring=1, mtu=9000),)))
    m.memalloc_socks = 1
    kfree_skb(m, alloc_rx(m, 4000, GFP_ATOMIC))
    first = alloc_rx(m, 4000, GFP_ATOMIC)
    cache = kmalloc_cache(m, 8192)
    while m.cache[cache].avail + m.cache[cache].free_objects:
        kmem_cache_alloc(m, cache, GFP_ATOMIC)
    z = m.zone[ZONE_NORMAL]
    leave_free(m, 0)
    z.nr_free[1] = (z.pages_min // 2) // 2  # blocks of two pages: just at 1/2 min, well above 3/8
    z.free_pages = 2 * z.nr_free[1]
    z.other_pages -= z.free_pages
    assert m.skb[first].pfmemalloc == 0
    b = alloc_rx(m, 4000, GFP_ATOMIC | GFP_MEMALLOC)
    assert (m.skb[b].pfmemalloc, m.slab[m.skb[b].data_slab].tagged) == (1, 0)


@pytest.mark.parametrize("policy", POLICIES)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_random_allocation_and_freeing_conserves_pages_and_objects(policy: str, data: st.DataObject) -> None:
    """Whatever is allocated and freed in whatever order: pages, slabs and objects all add up, before and after."""
    line = data.draw(st.sampled_from(LINES), "l1_bytes")
    m = booted(Setup(policy, config=plenty(l1_bytes=line), nics=(Nic(ring=1),)))
    m.memalloc_socks = data.draw(st.integers(0, 1), "memalloc_socks")
    leave_free(m, data.draw(st.integers(0, 300), "normal"), data.draw(st.integers(0, 40), "dma"))
    skbs: list[int] = []
    objects: list[tuple[int, int]] = []
    steps = st.tuples(st.sampled_from("aaAfFkKr"), st.integers(0, 1 << 20), st.integers(1, 40))
    for step, number, times in data.draw(st.lists(steps, max_size=40), "steps"):
        gfp = GFP_ATOMIC | (GFP_MEMALLOC if step in "AK" else 0)
        for _ in range(times):
            if step in "aA":
                b = alloc_rx(m, 100 + number % 16_000, gfp)
                if b != NONE:
                    skbs.append(b)
            elif step == "f" and skbs:
                kfree_skb(m, skbs.pop(number % len(skbs)))
            elif step in "kK":
                cache = number % m.caches
                s = kmem_cache_alloc(m, cache, gfp)
                if s != NONE:
                    objects.append((cache, s))
            elif step == "F" and objects:
                kmem_cache_free(m, *objects.pop(number % len(objects)))
        if step == "r":
            m.now_ns += 2 * SECOND_NS
            cache_reap(m)
        holds_but_for(m, len(skbs))
        objects_add_up(m, skbs, objects)
    while skbs:
        kfree_skb(m, skbs.pop())
    while objects:
        kmem_cache_free(m, *objects.pop())
    objects_add_up(m, skbs, objects)
    holds(m)


def objects_add_up(m: Any, skbs: list[int], objects: list[tuple[int, int]]) -> None:
    """Every cache's objects, counted slab by slab: in use, in the array, on the lists, behind descriptors."""
    held = [0] * m.caches
    in_ring = [m.dev[0].ring_skb[0]]
    for b in skbs + in_ring:
        held[m.head_cache] += 1
        data = m.slab[m.skb[b].data_slab].cache
        if data >= 0:
            held[data] += 1
    for cache, _ in objects:
        held[cache] += 1
    inuse = [0] * m.caches
    free = [0] * m.caches
    for s in range(m.slabs_made):
        slab = m.slab[s]
        if slab.cache < 0:
            continue
        c = m.cache[slab.cache]
        assert 0 <= slab.inuse <= c.num
        inuse[slab.cache] += slab.inuse
        free[slab.cache] += 0 if slab.tagged else c.num - slab.inuse
        if slab.desc_slab != NONE:
            held[c.slabp_cache] += 1
    assert inuse == [held[cache] + m.cache[cache].avail for cache in range(m.caches)]
    assert free == [m.cache[cache].free_objects for cache in range(m.caches)]

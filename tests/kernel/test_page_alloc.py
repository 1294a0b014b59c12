"""The page allocator against the numbers of mm/page_alloc.c, worked out by hand."""

from typing import Any

import pytest
from machines import PLAIN, Setup, booted, plenty, unbooted

from emu.kernel.boot import init_zones, pcp_batch
from emu.kernel.machine import MAX_ORDER, NONE, ZONE_DMA, ZONE_HIGHMEM, ZONE_NORMAL, Machine, Zone
from emu.kernel.netdevice import adjust_memalloc_reserve
from emu.kernel.page_alloc import (
    GFP_ATOMIC,
    GFP_KERNEL,
    GFP_MEMALLOC,
    GFP_NOMEMALLOC,
    PF_MEMALLOC,
    alloc_pages,
    atomic_floor,
    buffered_rmqueue,
    floor_of,
    free_pages,
    setup_per_zone_pages_min,
    take_block,
    zone_watermark_ok,
)

MB = 256  # pages


def zones(memory_pages: int) -> Any:
    """A machine whose memory is laid out, and nothing else."""
    m = unbooted(Setup(config={"memory_pages": memory_pages}))
    init_zones(m)
    return m


@pytest.mark.parametrize(
    ("megabytes", "min_free_kbytes", "pages_min", "pages_low", "pages_high", "floor"),
    [
        (16, 512, 128, 160, 192, 48),
        (64, 1024, 256, 320, 384, 96),
        (128, 1448, 362, 452, 543, 136),
        (256, 2048, 512, 640, 768, 192),
        (512, 2896, 724, 905, 1086, 272),
        (896, 3831, 957, 1196, 1435, 360),
    ],
)
def test_the_watermarks_of_one_zone(
    megabytes: int, min_free_kbytes: int, pages_min: int, pages_low: int, pages_high: int, floor: int
) -> None:
    """With all memory in one zone, the marks are isqrt(16 * kB) / 4, 5/4 and 6/4 of it; GFP_ATOMIC stops at 3/8."""
    m = zones(megabytes * MB)
    assert m.min_free_kbytes == min_free_kbytes
    m.zone[ZONE_NORMAL].present_pages = megabytes * MB
    m.zone[ZONE_DMA].present_pages = 0
    m.zone[ZONE_DMA].lowmem_reserve[ZONE_NORMAL] = 0
    setup_per_zone_pages_min(m)
    z = m.zone[ZONE_NORMAL]
    assert (z.pages_min, z.pages_low, z.pages_high) == (pages_min, pages_low, pages_high)
    assert atomic_floor(m, ZONE_NORMAL) == floor


@pytest.mark.parametrize(("megabytes", "kbytes"), [(1, 128), (2, 181), (896, 3831), (4096, 3831)])
def test_min_free_kbytes_counts_low_memory_and_is_at_least_128(megabytes: int, kbytes: int) -> None:
    """min_free_kbytes grows with the root of low memory, not with high memory, and never falls below 128."""
    assert zones(megabytes * MB).min_free_kbytes == kbytes


def test_the_two_zones_of_128_megabytes_share_the_marks_by_their_size() -> None:
    """16 MB of ZONE_DMA get 16/128 of pages_min, ZONE_NORMAL the rest, each rounded down."""
    m = zones(128 * MB)
    dma, normal = m.zone[ZONE_DMA], m.zone[ZONE_NORMAL]
    assert (dma.present_pages, normal.present_pages) == (4096, 28672)
    assert (dma.pages_min, dma.pages_low, dma.pages_high) == (45, 56, 67)
    assert (normal.pages_min, normal.pages_low, normal.pages_high) == (316, 395, 474)


@pytest.mark.parametrize(("megabytes", "pages"), [(16, 0), (128, 112), (896, 880), (4096, 880)])
def test_lowmem_reserve_keeps_a_256th_of_zone_normal_in_zone_dma(megabytes: int, pages: int) -> None:
    """Requests that could be served from ZONE_NORMAL find ZONE_DMA that much smaller."""
    m = zones(megabytes * MB)
    assert m.zone[ZONE_DMA].lowmem_reserve[ZONE_NORMAL] == pages
    assert m.zone[ZONE_DMA].lowmem_reserve[ZONE_DMA] == 0
    assert m.zone[ZONE_NORMAL].lowmem_reserve[ZONE_NORMAL] == 0


@pytest.mark.parametrize(
    ("megabytes", "present", "pages_min"), [(897, 256, 32), (1024, 32768, 32), (1280, 98304, 96), (4096, 819200, 128)]
)
def test_high_memory_keeps_a_1024th_between_32_and_128_pages(megabytes: int, present: int, pages_min: int) -> None:
    """ZONE_HIGHMEM takes no part in min_free_kbytes."""
    m = zones(megabytes * MB)
    assert m.zones == 3
    assert (m.zone[ZONE_HIGHMEM].present_pages, m.zone[ZONE_HIGHMEM].pages_min) == (present, pages_min)


@pytest.mark.parametrize(
    ("present", "batch"),
    [(0, 1), (4096, 1), (64 * MB - 4096, 7), (128 * MB - 4096, 15), (256 * MB, 31), (896 * MB - 4096, 31)],
)
def test_the_per_cpu_list_moves_pages_in_batches(present: int, batch: int) -> None:
    """A batch is 2^fls(b + b/2) - 1, b a quarter of the zone's 1024ths, at most 16."""
    assert pcp_batch(present) == batch


def test_the_per_cpu_list_refills_at_two_batches_and_drains_at_six() -> None:
    """The hot list's marks are those of zone_pcp init."""
    z = zones(128 * MB).zone[ZONE_NORMAL]
    assert (z.pcp_batch, z.pcp_low, z.pcp_high, z.pcp_count) == (15, 30, 90, 0)


@pytest.mark.parametrize("memory_pages", [1, 4095, 4096, 4097, 32768, 229_376, 229_377, 262_144])
def test_memory_starts_free_in_the_largest_blocks(memory_pages: int) -> None:
    """Every page of the machine is on a free list, and less than one largest block of each zone is in smaller ones."""
    m = zones(memory_pages)
    assert sum(m.zone[zone].present_pages for zone in range(m.zones)) == memory_pages
    for zone in range(m.zones):
        z = m.zone[zone]
        assert sum(z.nr_free[order] << order for order in range(MAX_ORDER)) == z.free_pages == z.present_pages
        assert all(z.nr_free[order] <= 1 for order in range(MAX_ORDER - 1))


@pytest.mark.parametrize(
    ("mark", "high", "harder", "floor"),
    [
        (362, 0, 0, 362),
        (362, 1, 0, 181),
        (362, 0, 1, 272),
        (362, 1, 1, 136),
        (7, 1, 1, 3),
        (1, 1, 1, 1),
        (0, 1, 1, 0),
        (316, GFP_ATOMIC, 1, 119),
    ],
)
def test_discounts_are_a_half_then_a_quarter_rounded_up(mark: int, high: int, harder: int, floor: int) -> None:
    """__GFP_HIGH takes off half the mark, a caller that cannot wait a quarter of what is left, both rounded down."""
    assert floor_of(mark, high, harder) == floor


def zone_with(nr_free: dict[int, int], reserve: int = 0) -> Any:
    """A zone with so many free blocks of each order."""
    z = PLAIN.new(Zone)
    for order, count in nr_free.items():
        z.nr_free[order] = count
        z.free_pages += count << order
    z.present_pages = z.free_pages
    z.lowmem_reserve[ZONE_NORMAL] = reserve
    return z


@pytest.mark.parametrize("order", range(4))
@pytest.mark.parametrize(("mark", "high", "harder"), [(100, 0, 0), (100, 1, 0), (100, 1, 1), (0, 0, 0)])
@pytest.mark.parametrize("reserve", [0, 112])
def test_a_block_may_be_taken_if_it_leaves_the_mark_and_the_lowmem_reserve(
    order: int, mark: int, high: int, harder: int, reserve: int
) -> None:
    """With all free pages in blocks large enough, the edge is mark + lowmem_reserve + block: there yes, below no."""
    edge = {(0, 0): 100, (1, 0): 50, (1, 1): 38}[(high, harder)] if mark else 0
    z = zone_with({}, reserve)
    z.free_pages = edge + reserve + (1 << order)
    assert zone_watermark_ok(z, order, mark, ZONE_NORMAL, high, harder)
    z.free_pages -= 1
    assert not zone_watermark_ok(z, order, mark, ZONE_NORMAL, high, harder)


@pytest.mark.parametrize(
    ("order", "nr_free", "mark", "granted"),
    [
        (1, {0: 90, 1: 20}, 80, False),  # 130 - 1 - 90 = 39 <= 40
        (1, {0: 89, 1: 20}, 80, False),  # 129 - 1 - 89 = 39 <= 40
        (1, {0: 90, 1: 21}, 80, True),  # 132 - 1 - 90 = 41 > 40
        (2, {0: 50, 1: 0, 2: 20}, 80, True),  # 127 > 80; 77 > 40; 77 > 20
        (2, {0: 0, 1: 50, 2: 5}, 80, False),  # 117 > 80; 117 > 40; 17 <= 20
        (2, {0: 0, 1: 50, 2: 6}, 80, True),  # 121; 121; 21 > 20
        (3, {0: 16, 1: 16, 2: 16, 3: 2}, 80, False),  # 121; 105; 73; 9 <= 10
        (3, {0: 16, 1: 16, 2: 16, 3: 3}, 80, True),  # 129; 113; 81; 17 > 10
        (3, {0: 200}, 80, False),  # plenty of pages, none of them in a block
    ],
)
def test_pages_in_smaller_blocks_do_not_count_for_a_larger_one(
    order: int, nr_free: dict[int, int], mark: int, granted: bool
) -> None:
    """For each order below the one asked for, its blocks are taken off and the mark is halved."""
    assert zone_watermark_ok(zone_with(nr_free), order, mark, ZONE_NORMAL, 0, 0) == granted


def test_a_larger_block_is_split_into_one_half_of_every_order_between() -> None:
    """Taking one page out of a block of 2^10 leaves one free block of each order from 0 to 9."""
    z = zone_with({10: 1})
    assert take_block(z, 0)
    assert list(z.nr_free) == [1] * 10 + [0]
    assert z.free_pages == 1023
    assert take_block(z, 9)
    assert list(z.nr_free) == [1] * 9 + [0, 0]
    assert not take_block(z, 9)
    assert z.free_pages == 511


def pinned(policy: str = "phillips-v5", **free: int) -> Any:
    """128 MB with empty per-CPU lists and so many free single pages in each zone (default: none)."""
    m = unbooted(Setup(policy))
    init_zones(m)
    for zone, name in ((ZONE_DMA, "dma"), (ZONE_NORMAL, "normal")):
        z = m.zone[zone]
        z.free_pages = free.get(name, 0)
        for order in range(MAX_ORDER):
            z.nr_free[order] = 0
        z.nr_free[0] = z.free_pages
    return m


# 128 MB: NORMAL min 316 low 395, GFP_ATOMIC 119; DMA min 45 low 56, GFP_ATOMIC 18, lowmem_reserve 112.
@pytest.mark.parametrize(
    ("what", "gfp", "order", "dma", "normal", "zone"),
    [
        ("first NORMAL above low", GFP_KERNEL, 0, 4000, 396, ZONE_NORMAL),
        ("NORMAL at low, DMA above low and reserve", GFP_KERNEL, 0, 169, 395, ZONE_DMA),
        ("neither above low: NORMAL above min", GFP_KERNEL, 0, 168, 317, ZONE_NORMAL),
        ("NORMAL at min, DMA above min", GFP_KERNEL, 0, 158, 316, ZONE_DMA),
        ("both at min: GFP_KERNEL waits", GFP_KERNEL, 0, 157, 316, NONE),
        ("both at min: GFP_ATOMIC takes NORMAL", GFP_ATOMIC, 0, 157, 316, ZONE_NORMAL),
        ("NORMAL just above 3/8", GFP_ATOMIC, 0, 0, 120, ZONE_NORMAL),
        ("NORMAL at 3/8, DMA just above", GFP_ATOMIC, 0, 131, 119, ZONE_DMA),
        ("both at 3/8: GFP_ATOMIC fails", GFP_ATOMIC, 0, 130, 119, NONE),
        ("both at 3/8: MEMALLOC takes NORMAL", GFP_ATOMIC | GFP_MEMALLOC, 0, 130, 119, ZONE_NORMAL),
        ("NORMAL empty: MEMALLOC takes DMA", GFP_ATOMIC | GFP_MEMALLOC, 0, 1, 0, ZONE_DMA),
        ("a PF_MEMALLOC task gets what MEMALLOC gets", GFP_KERNEL | PF_MEMALLOC, 0, 130, 119, ZONE_NORMAL),
        ("a PF_MEMALLOC task asks for no reserve", GFP_KERNEL | PF_MEMALLOC | GFP_NOMEMALLOC, 0, 130, 119, NONE),
        ("nothing left for MEMALLOC", GFP_ATOMIC | GFP_MEMALLOC, 0, 0, 0, NONE),
        ("NOMEMALLOC beats MEMALLOC", GFP_ATOMIC | GFP_MEMALLOC | GFP_NOMEMALLOC, 0, 130, 119, NONE),
        (
            "MEMALLOC never waits, so GFP_KERNEL with it gets the last page",
            GFP_KERNEL | GFP_MEMALLOC,
            0,
            0,
            1,
            ZONE_NORMAL,
        ),
        ("no block of two pages anywhere", GFP_ATOMIC | GFP_MEMALLOC, 1, 4096, 4096, NONE),
    ],
    ids=lambda value: value.replace(" ", "-") if isinstance(value, str) else "",
)
def test_the_order_of_attempts(what: str, gfp: int, order: int, dma: int, normal: int, zone: int) -> None:
    """Every zone at pages_low, every zone at pages_min with the caller's discounts, every zone without a mark."""
    m = pinned(dma=dma, normal=normal)
    assert alloc_pages(m, gfp, order) == zone


def test_mainline_tries_without_the_reserve_down_to_half_of_pages_min() -> None:
    """With __GFP_NOMEMALLOC, v6.19 leaves out the quarter: the floor of ZONE_NORMAL is 158, not 119."""
    first_try = GFP_ATOMIC | GFP_NOMEMALLOC
    assert alloc_pages(pinned("mainline", normal=159), first_try, 0) == ZONE_NORMAL
    assert alloc_pages(pinned("mainline", normal=158), first_try, 0) == NONE
    assert alloc_pages(pinned("mainline", normal=158), GFP_ATOMIC, 0) == ZONE_NORMAL
    assert alloc_pages(pinned("phillips-v5", normal=158), first_try, 0) == ZONE_NORMAL


@pytest.mark.parametrize(
    ("policy", "normal", "tagged"),
    [("mainline", 120, 0), ("mainline", 119, 1), ("phillips-v5", 119, 0), ("reserve-only", 119, 0)],
)
def test_a_page_is_tagged_only_if_no_mark_would_have_granted_it(policy: str, normal: int, tagged: int) -> None:
    """Only mainline tags pages, and only those that the pass without watermarks granted."""
    m = pinned(policy, normal=normal)
    assert alloc_pages(m, GFP_ATOMIC | GFP_MEMALLOC, 0) == ZONE_NORMAL
    assert m.grant_tagged == tagged


def test_one_grant_can_pull_a_batch_below_the_mark() -> None:
    """Single pages come through the per-CPU list: one grant takes 15, so free falls to floor + 1 - 15."""
    m = pinned(normal=120)
    z = m.zone[ZONE_NORMAL]
    assert alloc_pages(m, GFP_ATOMIC, 0) == ZONE_NORMAL
    assert (z.free_pages, z.pcp_count, z.nr_free[0]) == (105, 14, 105)
    assert z.free_pages_min >= 0
    assert alloc_pages(m, GFP_ATOMIC, 0) == NONE  # 14 pages lie on the list, and the mark still refuses
    assert alloc_pages(m, GFP_ATOMIC | GFP_MEMALLOC, 0) == ZONE_NORMAL


def test_memalloc_reaches_the_per_cpu_list_when_the_zone_is_empty() -> None:
    """Pages on the hot list are outside `free_pages`, and the pass without watermarks can use them."""
    m = pinned()
    m.zone[ZONE_NORMAL].pcp_count = 2
    assert alloc_pages(m, GFP_ATOMIC, 0) == NONE
    grants = [alloc_pages(m, GFP_ATOMIC | GFP_MEMALLOC, 0) for _ in range(3)]
    assert grants == [ZONE_NORMAL, ZONE_NORMAL, NONE]


def test_freed_pages_go_to_the_per_cpu_list_and_come_back_a_batch_at_a_time() -> None:
    """The 91st page freed pushes 15 back to the zone; larger blocks go straight back."""
    m = pinned()
    z = m.zone[ZONE_NORMAL]
    for _ in range(90):
        free_pages(m, ZONE_NORMAL, 0)
    assert (z.pcp_count, z.free_pages) == (90, 0)
    free_pages(m, ZONE_NORMAL, 0)
    assert (z.pcp_count, z.free_pages, z.nr_free[0]) == (76, 15, 15)
    free_pages(m, ZONE_NORMAL, 3)
    assert (z.pcp_count, z.free_pages, z.nr_free[3]) == (76, 23, 1)


def test_a_page_is_pulled_only_while_the_list_is_short() -> None:
    """With more than two batches on the list a grant leaves the zone alone."""
    z = pinned(normal=100).zone[ZONE_NORMAL]
    z.pcp_count = 31
    assert buffered_rmqueue(z, 0)
    assert (z.pcp_count, z.free_pages) == (30, 100)
    assert buffered_rmqueue(z, 0)
    assert (z.pcp_count, z.free_pages) == (44, 85)


def fenced_off(m: Machine, pages: int) -> int:
    """By how much adjusting the reserve moves what GFP_ATOMIC cannot have, over all zones."""
    before = sum(atomic_floor(m, zone) for zone in (ZONE_DMA, ZONE_NORMAL))
    adjust_memalloc_reserve(m, pages)
    return sum(atomic_floor(m, zone) for zone in (ZONE_DMA, ZONE_NORMAL)) - before


SIZES = (16, 32, 64, 128, 256, 384, 512, 768, 896)


@pytest.mark.parametrize(
    ("pages", "least", "most"),
    [(4, 0, 4), (5, 0, 4), (53, 18, 22), (54, 18, 22), (103, 37, 40), (203, 74, 78), (403, 149, 153)],
)
def test_the_reserve_fences_off_three_eighths_of_what_it_promises(pages: int, least: int, most: int) -> None:
    """A promise of P pages moves pages_min by P, but GFP_ATOMIC's floor by about 3P/8 only, less by rounding."""
    moved = [fenced_off(zones(size * MB), pages) for size in SIZES]
    assert all(least <= extra <= most for extra in moved), moved


@pytest.mark.parametrize("megabytes", SIZES)
def test_the_reserve_moves_the_marks_and_gives_them_back(megabytes: int) -> None:
    """+54 pages raise pages_min by 54 less a rounding per zone, pages_low by 5/4; -54 restores every mark."""
    m = zones(megabytes * MB)

    def marks() -> list[tuple[int, int, int]]:
        return [(z.pages_min, z.pages_low, z.pages_high) for z in (m.zone[ZONE_DMA], m.zone[ZONE_NORMAL])]

    before = marks()
    kbytes = m.min_free_kbytes
    adjust_memalloc_reserve(m, 54)
    raised = [
        sum(after) - sum(was) for after, was in zip(zip(*marks(), strict=True), zip(*before, strict=True), strict=True)
    ]
    assert m.min_free_kbytes + m.var_free_kbytes == kbytes + 216
    assert 52 <= raised[0] <= 55
    assert 65 <= raised[1] <= 70
    assert 79 <= raised[2] <= 83
    adjust_memalloc_reserve(m, -54)
    assert marks() == before


@pytest.mark.parametrize("policy", ["linux-2.6.12", "mainline"])
def test_a_policy_without_a_promise_leaves_the_marks_alone(policy: str) -> None:
    """Only the patch raises the watermarks when an interface comes up."""
    assert booted(Setup(policy, config=plenty())).var_free_kbytes == 0


def test_two_interfaces_raise_the_marks_twice() -> None:
    """Each interface that comes up promises 54 pages more."""
    from machines import Nic

    m = booted(Setup("phillips-v5", config=plenty(), nics=(Nic(), Nic())))
    assert [m.dev[d].memalloc_pages for d in range(2)] == [54, 54]
    assert m.min_free_kbytes == 1448 + 2 * 216

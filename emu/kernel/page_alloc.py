"""The page allocator: zones, watermarks, per-CPU lists, the order of attempts.

Source: Linux 2.6.12 mm/page_alloc.c; with `Config.mm` MM_6X, Linux 6.1 and v6.19 mm/page_alloc.c, mm/khugepaged.c.
The rules of `mainline` that differ are marked.
Differs: pages have no address here, so freed blocks are not coalesced with their buddies, and a larger block is split
for good (how the free pages lie at the start is the scenario's `pressure.free_blocks`); in a replay neither kswapd nor
direct reclaim runs (in a closed loop: `vmscan`), the OOM killer never (a blocked GFP_KERNEL caller waits); NUMA and the
cold per-CPU list are left out.
6.x: DMA32 and Normal of x86-64 are one zone, ZONE_NORMAL (lowmem_reserve of DMA is that against both together);
blocks of more than one page do not pass through the per-CPU lists; no MIGRATE_HIGHATOMIC block, no watermark boost;
managed pages are taken for all present ones.
"""

from emu.kernel.machine import (
    MAX_ORDER,
    MM_6X,
    NONE,
    PAGE_SIZE,
    ZONE_DMA,
    ZONE_HIGHMEM,
    ZONE_NORMAL,
    Machine,
    Zone,
)

WATERMARK_SCALE_FACTOR = 10  # of 10 000 pages, between pages_min, _low and _high (6.x mm/page_alloc.c)
MIN_FREE_KBYTES_MAX = 65_536
MIN_FREE_KBYTES_MAX_6X = 262_144
PAGEBLOCK_PAGES = 512  # of a huge page on x86-64
THP_PAGEBLOCKS_PER_ZONE = 11  # 2 + MIGRATE_PCPTYPES^2 (mm/khugepaged.c set_recommended_min_free_kbytes)
THP_MIN_MEMORY_PAGES = 131_072  # below 512 MiB huge pages are off (mm/huge_memory.c hugepage_init)
FOUR_GIB_PAGES = 1_048_576  # from here x86-64 has a zone Normal above DMA32

# 2.6.12 include/linux/gfp.h; __GFP_MEMALLOC is the patch's.
GFP_WAIT = 0x10
GFP_HIGH = 0x20
GFP_NOMEMALLOC = 0x10000
GFP_MEMALLOC = 0x20000
PF_MEMALLOC = 1 << 30  # the calling task's flag (include/linux/sched.h), handed over beside the gfp flags
GFP_ATOMIC = GFP_HIGH
GFP_KERNEL = GFP_WAIT | 0x40 | 0x80


def floor_of(mark: int, high: int, harder: int) -> int:
    """How far down a mark reaches: -1/2 for __GFP_HIGH, then -1/4 for callers that cannot wait; in pages."""
    floor = mark
    if high:
        floor -= floor // 2
    if harder:
        floor -= floor // 4
    return floor


def zone_watermark_ok(zone: Zone, order: int, mark: int, classzone: int, high: int, harder: int) -> bool:
    """Whether a block of `order` may be taken from `zone` under `mark` (mm/page_alloc.c zone_watermark_ok)."""
    floor = floor_of(mark, high, harder)
    free = zone.free_pages - (1 << order) + 1
    if free <= floor + zone.lowmem_reserve[classzone]:
        return False
    for lower in range(order):
        free -= zone.nr_free[lower] << lower
        floor >>= 1
        if free <= floor:
            return False
    return True


def zone_watermark_ok_6x(zone: Zone, order: int, mark: int, classzone: int, high: int, harder: int) -> bool:
    """The same in 6.x (__zone_watermark_ok): past the floor, any free block that is large enough will do."""
    free = zone.free_pages - (1 << order) + 1
    if free <= floor_of(mark, high, harder) + zone.lowmem_reserve[classzone]:
        return False
    larger = order
    while larger < MAX_ORDER and zone.nr_free[larger] == 0:
        larger += 1
    return larger < MAX_ORDER


def watermark_ok(m: Machine, zone: int, order: int, mark: int, high: int, harder: int) -> bool:
    """Whether this kernel takes a block of `order` from `zone` under `mark`, for a request to ZONE_NORMAL."""
    if m.config.mm == MM_6X and order > 0:
        return zone_watermark_ok_6x(m.zone[zone], order, mark, ZONE_NORMAL, high, harder)
    return zone_watermark_ok(m.zone[zone], order, mark, ZONE_NORMAL, high, harder)


def take_block(zone: Zone, order: int) -> bool:
    """Take one block of `order` off the free lists, splitting a larger one (__rmqueue)."""
    for larger in range(order, MAX_ORDER):
        if zone.nr_free[larger] > 0:
            zone.nr_free[larger] -= 1
            for half in range(order, larger):
                zone.nr_free[half] += 1
            zone.free_pages -= 1 << order
            if zone.free_pages < zone.free_pages_min:
                zone.free_pages_min = zone.free_pages
            return True
    return False


def buffered_rmqueue(zone: Zone, order: int) -> bool:
    """Take a block; single pages come through the hot per-CPU list, filled `pcp_batch` at a time."""
    if order > 0:
        return take_block(zone, order)
    if zone.pcp_count <= zone.pcp_low:
        for _ in range(zone.pcp_batch):
            if not take_block(zone, 0):
                break
            zone.pcp_count += 1
    if zone.pcp_count > 0:
        zone.pcp_count -= 1
        return True
    return take_block(zone, 0)


def wakeup_kswapd(m: Machine) -> None:
    """Wake kswapd if a zone is at pages_low or below; lowmem_reserve does not count (wakeup_kswapd)."""
    for zone in range(ZONE_DMA, ZONE_NORMAL + 1):
        if m.zone[zone].present_pages and m.zone[zone].free_pages <= m.zone[zone].pages_low:
            m.vm.kswapd_awake = 1


def alloc_pages(m: Machine, gfp: int, order: int) -> int:
    """Allocate a block of 2^order pages for the kernel; the zone, or -1.

    Sets `grant_tagged` when only the pass without watermarks could grant it, which is when mainline tags a page.
    Order of attempts (__alloc_pages): every zone at pages_low; every zone at pages_min with the caller's discounts;
    for __GFP_MEMALLOC, and for a task with PF_MEMALLOC, every zone without a watermark.
    """
    m.grant_tagged = 0
    for zone in range(ZONE_NORMAL, ZONE_DMA - 1, -1):
        z = m.zone[zone]
        if z.present_pages and watermark_ok(m, zone, order, z.pages_low, 0, 0):
            if buffered_rmqueue(z, order):
                return zone
    if m.config.closed:
        wakeup_kswapd(m)
    high = gfp & GFP_HIGH
    harder = 0 if gfp & GFP_WAIT else 1
    if m.policy.atomic_first_nomemalloc and gfp & GFP_NOMEMALLOC:
        harder = 0  # v6.19: ALLOC_NON_BLOCK is not given with __GFP_NOMEMALLOC, so the floor is 1/2 min
    for zone in range(ZONE_NORMAL, ZONE_DMA - 1, -1):
        z = m.zone[zone]
        if z.present_pages and watermark_ok(m, zone, order, z.pages_min, high, harder):
            if buffered_rmqueue(z, order):
                return zone
    if gfp & (GFP_MEMALLOC | PF_MEMALLOC) and not gfp & GFP_NOMEMALLOC:
        for zone in range(ZONE_NORMAL, ZONE_DMA - 1, -1):
            z = m.zone[zone]
            if z.present_pages and buffered_rmqueue(z, order):
                m.grant_tagged = m.policy.tags_pages
                return zone
    return NONE


def pcp_limit(m: Machine, zone: Zone) -> int:
    """How many pages the per-CPU list may hold; in 6.x few while kswapd works on the zone (nr_pcp_high).

    kswapd is taken to work while the zone is below pages_high.
    """
    if m.config.mm == MM_6X and zone.free_pages < zone.pages_high:
        return min(zone.pcp_high, 4 * zone.pcp_batch)
    return zone.pcp_high


def free_pages(m: Machine, zone: int, order: int) -> None:
    """Give a block back; single pages go to the hot per-CPU list first (free_hot_cold_page)."""
    z = m.zone[zone]
    if order > 0:
        z.nr_free[order] += 1
        z.free_pages += 1 << order
        return
    if z.pcp_count >= pcp_limit(m, z):
        batch = min(z.pcp_batch, z.pcp_count)
        z.pcp_count -= batch
        z.nr_free[0] += batch
        z.free_pages += batch
    z.pcp_count += 1


def move_pages(m: Machine, zone: int, pages: int) -> None:
    """Others take pages of a zone one by one, or give back what they hold: nobody has more pages than there are."""
    z = m.zone[zone]
    for _ in range(pages):
        if not buffered_rmqueue(z, 0):
            break
        z.other_pages += 1
    for _ in range(min(-pages, z.other_pages)):
        z.other_pages -= 1
        free_pages(m, zone, 0)


def set_free_pages(m: Machine, zone: int, free: int, block_order: int) -> None:
    """Others take pages of a zone, or give pages back, until `free` are free on its lists.

    Given pages come back in blocks of 2^block_order while as many are missing, then one by one; nobody gives what he
    does not have.
    """
    z = m.zone[zone]
    while z.free_pages > free and take_block(z, 0):
        z.other_pages += 1
    order = block_order
    while z.free_pages < free and z.other_pages > 0:
        while order > 0 and (free - z.free_pages < 1 << order or z.other_pages < 1 << order):
            order -= 1
        z.other_pages -= 1 << order
        z.nr_free[order] += 1
        z.free_pages += 1 << order
    m.quiet_rounds = 0


def setup_per_zone_pages_min(m: Machine) -> None:
    """Spread min_free_kbytes over the zones; pages_low is 5/4 and pages_high 6/4 of pages_min."""
    pages_min = (m.min_free_kbytes + m.var_free_kbytes) >> 2
    lowmem_pages = m.zone[ZONE_DMA].present_pages + m.zone[ZONE_NORMAL].present_pages
    for zone in range(m.zones):
        z = m.zone[zone]
        if zone == ZONE_HIGHMEM:
            z.pages_min = min(128, max(32, z.present_pages // 1024))
        else:
            z.pages_min = pages_min * z.present_pages // lowmem_pages
        if m.config.mm == MM_6X:
            step = max(z.pages_min // 4, z.present_pages * WATERMARK_SCALE_FACTOR // 10_000)
            z.pages_low = z.pages_min + step
            z.pages_high = z.pages_low + step
        else:
            z.pages_low = z.pages_min * 5 // 4
            z.pages_high = z.pages_min * 6 // 4
        if m.zone_said[zone].said:
            set_watermarks_as_said(m, zone, (m.var_free_kbytes >> 2) * z.present_pages // lowmem_pages)
        if m.config.mm == MM_6X:
            z.pcp_high = max(z.pages_low, 4 * z.pcp_batch)


def set_watermarks_as_said(m: Machine, zone: int, reserve_pages: int) -> None:
    """Put the user's watermarks in place, each raised as the reserve of `reserve_pages` raises it."""
    z = m.zone[zone]
    said = m.zone_said[zone]
    if said.pages_min >= 0:
        z.pages_min = said.pages_min + reserve_pages
    if said.pages_low >= 0:
        z.pages_low = said.pages_low + reserve_pages * 5 // 4
    if said.pages_high >= 0:
        z.pages_high = said.pages_high + reserve_pages * 6 // 4


def isqrt(value: int) -> int:
    """The integer square root."""
    root = 0
    bit = 1 << 30
    while bit:
        if (root + bit) * (root + bit) <= value:
            root += bit
        bit >>= 1
    return root


def boot_min_free_kbytes(m: Machine, lowmem_pages: int) -> int:
    """min_free_kbytes as the kernel computes it at boot (init_per_zone_pages_min; 6.x: and khugepaged)."""
    root = isqrt(lowmem_pages * (PAGE_SIZE >> 10) * 16)
    if m.config.mm != MM_6X:
        return max(128, min(MIN_FREE_KBYTES_MAX, root))
    kbytes = max(128, min(MIN_FREE_KBYTES_MAX_6X, root))
    if m.config.thp and lowmem_pages >= THP_MIN_MEMORY_PAGES:
        zones = 3 if lowmem_pages >= FOUR_GIB_PAGES else 2
        pages = min(PAGEBLOCK_PAGES * zones * THP_PAGEBLOCKS_PER_ZONE, lowmem_pages // 20)
        kbytes = max(kbytes, pages * (PAGE_SIZE >> 10))
    return kbytes


def atomic_floor(m: Machine, zone: int) -> int:
    """GFP_ATOMIC gets a page of `zone` only while more than this many are free: 3/8 pages_min, plus lowmem_reserve."""
    z = m.zone[zone]
    return floor_of(z.pages_min, 1, 1) + z.lowmem_reserve[ZONE_NORMAL]

"""Reclaim: clean pages of the page cache become free, for kswapd and for a task that has run out of memory.

Source: Linux 2.6.12 mm/vmscan.c balance_pgdat, try_to_free_pages; mm/page_alloc.c __alloc_pages.
Differs: clean pages are all alike (no LRU lists, no page is referenced or mapped), so a scan finds one while there is
one; slab caches are not shrunk and nothing is swapped; reclaim takes no CPU time.  It does not write dirty pages out
itself (shrink_list: pageout), it asks the flusher for as many.  kswapd runs with PF_MEMALLOC, but here it needs no
page itself: commands and requests come from mempools.  The cold per-CPU list, at most 2 * pcp_batch long, is left out:
what is reclaimed goes to the zone's free lists at once.  A task that cannot reclaim waits; the OOM killer does not run.
6.x throttles direct reclaimers while half of the reserve is gone (allow_direct_reclaim); that is left out.
"""

from emu.kernel.machine import NONE, ZONE_DMA, ZONE_NORMAL, Machine
from emu.kernel.page_alloc import GFP_KERNEL, alloc_pages

SWAP_CLUSTER_MAX = 32  # pages of one direct reclaim (include/linux/swap.h)


def wakeup_bdflush(m: Machine, pages: int) -> None:
    """Ask the flusher to write `pages` dirty pages, beside those that it would write anyway."""
    m.vm.wanted_pages = max(m.vm.wanted_pages, min(pages, m.vm.dirty_pages))


def shrink_zone(m: Machine, zone: int, pages: int) -> int:
    """Free up to `pages` clean pages of a zone, and nothing that is dirty or under write-back; how many there were."""
    z = m.zone[zone]
    freed = min(pages, z.clean_pages)
    z.clean_pages -= freed
    z.nr_free[0] += freed
    z.free_pages += freed
    m.vm.clean_pages -= freed
    m.vm.reclaimed_pages += freed
    if freed > 0:
        m.quiet_rounds = 0
    return freed


def try_to_free_pages(m: Machine) -> int:
    """Direct reclaim by a task that waits for memory: up to 32 pages; how many there were.

    When they are fewer, the flusher is asked for the rest.
    """
    freed = 0
    for zone in range(ZONE_NORMAL, ZONE_DMA - 1, -1):
        freed += shrink_zone(m, zone, SWAP_CLUSTER_MAX - freed)
    if freed < SWAP_CLUSTER_MAX:
        wakeup_bdflush(m, SWAP_CLUSTER_MAX)
    return freed


def kswapd_can_reclaim(m: Machine) -> bool:
    """Whether kswapd is awake and would find a clean page in a zone that is short."""
    if m.vm.kswapd_awake:
        for zone in range(ZONE_NORMAL + 1):
            z = m.zone[zone]
            if z.free_pages <= z.pages_high and z.clean_pages > 0:
                return True
    return False


def balance_pgdat(m: Machine) -> None:
    """Let kswapd, if it is awake, bring every zone above pages_high; what it is short of the flusher is to clean.

    It sleeps when all zones are balanced, and stays awake while one is not: the next pages that become clean are its.
    """
    if not m.vm.kswapd_awake:
        return
    short = 0
    for zone in range(ZONE_NORMAL, ZONE_DMA - 1, -1):
        z = m.zone[zone]
        missing = z.pages_high + 1 - z.free_pages
        if z.present_pages == 0 or missing <= 0:
            continue
        short += missing - shrink_zone(m, zone, missing)
    if short > m.vm.writeback_pages:
        wakeup_bdflush(m, short - m.vm.writeback_pages)
    m.vm.kswapd_awake = 1 if short > 0 else 0


def page_cache_alloc(m: Machine) -> int:
    """A page for the page cache, GFP_KERNEL, with direct reclaim while that frees anything; its zone, or -1: wait."""
    zone = alloc_pages(m, GFP_KERNEL, 0)
    while zone == NONE and try_to_free_pages(m) > 0:
        zone = alloc_pages(m, GFP_KERNEL, 0)
    return zone

"""Socket buffers: head and data from slab caches or page fragments, and what they cost.

Source: Linux 2.6.12 net/core/skbuff.c, include/linux/skbuff.h; for mainline v6.19 net/core/skbuff.c and
mm/page_frag_cache.c.  Geometry (L1 line, sizeof(struct sk_buff)) is the machine's, whatever the policy.
Differs: struct skb_shared_info is 160 bytes under every policy; frags of one block are cut by one cache per machine.
"""

from emu.kernel.machine import LIMIT_SKBS, MAX_LATER, MAX_SKBS, NONE, PAGE_SIZE, Machine
from emu.kernel.page_alloc import GFP_ATOMIC, GFP_MEMALLOC, GFP_NOMEMALLOC
from emu.kernel.slab import (
    SLAB_FRAGMENTS,
    kmem_cache_alloc,
    kmem_cache_free,
    pages_for_slab,
    slab_release,
)

SKB_SHARED_INFO_BYTES = 160  # 16 + MAX_SKB_FRAGS(18) * 8
DEV_ALLOC_SKB_PAD = 16
PAGE_FRAG_ORDER = 3


def skb_data_align(m: Machine, size: int) -> int:
    """Round `size` bytes up to the L1 line (SKB_DATA_ALIGN)."""
    line = m.config.l1_bytes
    return (size + line - 1) // line * line


def kmalloc_cache(m: Machine, size: int) -> int:
    """The smallest general cache that holds `size` bytes, or -1."""
    for cache in range(m.head_cache):
        if m.cache[cache].objsize >= size:
            return cache
    return NONE


def skb_new(m: Machine) -> int:
    """A row for an skb, or -1 when the table is full."""
    b = m.skb_free
    if b != NONE:
        m.skb_free = m.skb[b].next
    elif m.skbs_made < MAX_SKBS:
        b = m.skbs_made
        m.skbs_made += 1
    else:
        m.limit_hit = LIMIT_SKBS
        return NONE
    m.skbs_used += 1
    if m.skbs_used > m.total.skbs_max:
        m.total.skbs_max = m.skbs_used
    skb = m.skb[b]
    skb.from_reserve = 0
    skb.pfmemalloc = 0
    skb.frags = NONE
    skb.sk = NONE
    skb.next = NONE
    return b


def skb_release(m: Machine, b: int) -> None:
    """Give an skb's row away; its memory is gone already."""
    m.skb[b].next = m.skb_free
    m.skb_free = b
    m.skbs_used -= 1


def alloc_skb(m: Machine, size: int, gfp: int, nomemalloc_first: int) -> int:
    """An skb whose data area holds `size` bytes; its row, or -1.

    `nomemalloc_first` is mainline's kmalloc_reserve: the data is tried with __GFP_NOMEMALLOC, and an skb that needed
    the second try is tagged even if that try was satisfied without the reserve.
    """
    b = skb_new(m)
    if b == NONE:
        return NONE
    skb = m.skb[b]
    skb.head_slab = kmem_cache_alloc(m, m.head_cache, gfp)
    if skb.head_slab == NONE:
        skb_release(m, b)
        return NONE
    aligned = skb_data_align(m, size)
    cache = kmalloc_cache(m, aligned + SKB_SHARED_INFO_BYTES)
    assert cache != NONE
    if nomemalloc_first:
        skb.data_slab = kmem_cache_alloc(m, cache, (gfp | GFP_NOMEMALLOC) & ~GFP_MEMALLOC)
        if skb.data_slab == NONE and gfp & GFP_MEMALLOC:
            skb.data_slab = kmem_cache_alloc(m, cache, gfp)
            skb.pfmemalloc = 1
    else:
        skb.data_slab = kmem_cache_alloc(m, cache, gfp)
    if skb.data_slab == NONE:
        kmem_cache_free(m, m.head_cache, skb.head_slab)
        skb_release(m, b)
        return NONE
    skb.truesize = aligned + m.config.sk_buff_bytes
    return b


def page_frag_drop(m: Machine, s: int) -> None:
    """Drop one reference to a block of page fragments; the last one frees it."""
    m.slab[s].inuse -= 1
    if m.slab[s].inuse == 0:
        slab_release(m, s)


def page_frag_refill(m: Machine, gfp: int) -> bool:
    """A fresh block: order 3 without the reserve, else one page with the caller's flags (__page_frag_cache_refill)."""
    f = m.frag
    order = PAGE_FRAG_ORDER
    s = pages_for_slab(m, SLAB_FRAGMENTS, order, (gfp | GFP_NOMEMALLOC) & ~GFP_MEMALLOC)
    if s == NONE:
        order = 0
        s = pages_for_slab(m, SLAB_FRAGMENTS, order, gfp)
        if s == NONE:
            return False
    m.slab[s].inuse = 1  # the cache's own reference
    f.slab = s
    f.remaining = PAGE_SIZE << order
    return True


def page_frag_alloc(m: Machine, size: int, gfp: int) -> int:
    """Cut `size` bytes from the current block; the block, or -1."""
    f = m.frag
    if f.slab != NONE and f.remaining < size:
        slab = m.slab[f.slab]
        if slab.inuse == 1 and not slab.tagged:
            f.remaining = PAGE_SIZE << slab.order
        if f.remaining < size:
            page_frag_drop(m, f.slab)
            f.slab = NONE
    if f.slab == NONE:
        if not page_frag_refill(m, gfp):
            return NONE
        if f.remaining < size:
            page_frag_drop(m, f.slab)
            f.slab = NONE
            return NONE
    f.remaining -= size
    m.slab[f.slab].inuse += 1
    return f.slab


def netdev_alloc_frag_skb(m: Machine, size: int, gfp: int) -> int:
    """An skb over a page fragment (mainline __netdev_alloc_skb); tagged as its block is.

    struct sk_buff itself comes with plain GFP_ATOMIC, so a buffer can fail although its data could come from the
    reserve (measured: facts of the real kernel, 207 NULL returns with pages left).
    """
    aligned = skb_data_align(m, size)
    if aligned + SKB_SHARED_INFO_BYTES > PAGE_SIZE:
        return alloc_skb(m, size, gfp, 1)
    s = page_frag_alloc(m, skb_data_align(m, aligned + SKB_SHARED_INFO_BYTES), gfp)
    if s == NONE:
        return NONE
    b = skb_new(m)
    if b == NONE:
        page_frag_drop(m, s)
        return NONE
    skb = m.skb[b]
    skb.head_slab = kmem_cache_alloc(m, m.head_cache, GFP_ATOMIC)
    if skb.head_slab == NONE:
        page_frag_drop(m, s)
        skb_release(m, b)
        return NONE
    skb.data_slab = s
    skb.pfmemalloc = m.slab[s].tagged
    skb.truesize = aligned + m.config.sk_buff_bytes
    return b


def free_frags(m: Machine, s: int) -> None:
    """Free the pages of a chain, such as `Skb.frags`."""
    while s != NONE:
        following = m.slab[s].next
        slab_release(m, s)
        s = following


def kfree_skb(m: Machine, b: int) -> None:
    """Free an skb: its data, its pages and its head go back to where they came from."""
    skb = m.skb[b]
    free_frags(m, skb.frags)
    skb.frags = NONE
    data = m.slab[skb.data_slab]
    if data.cache == SLAB_FRAGMENTS:
        page_frag_drop(m, skb.data_slab)
    else:
        kmem_cache_free(m, data.cache, skb.data_slab)
    kmem_cache_free(m, m.head_cache, skb.head_slab)
    skb_release(m, b)


def kfree_skb_reason(m: Machine, b: int, reason: int, point: int) -> None:
    """Free an skb unread whose packet has its verdict already: an event of its own, which changes no verdict."""
    assert m.later_len < MAX_LATER, "the loop hands events out before they can fill the table"
    skb = m.skb[b]
    event = m.later[m.later_len]
    event.after_frame = m.total.frames
    event.frame = skb.frame
    event.time_ns = m.now_ns
    event.dev = skb.dev
    event.reason = reason
    event.point = point
    m.later_len += 1
    m.total.events_by_reason[reason] += 1
    kfree_skb(m, b)

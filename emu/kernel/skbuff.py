"""Socket buffers: head and data from slab caches or page fragments, and what they cost.

Source: Linux 2.6.12 net/core/skbuff.c, include/linux/skbuff.h; for mainline Linux 6.1.158+ net/core/skbuff.c
(__netdev_alloc_skb, __napi_alloc_skb, kmalloc_reserve, napi_skb_cache_get, page_frag_alloc_1k), v6.19's
mm/page_frag_cache.c.  Sizes (L1 line, struct sk_buff, struct skb_shared_info, headroom) are the machine's, whatever
the policy.  Clones share their data, which lives as long as one of them; a clone of a reassembled datagram is one
sk_buff, whatever the number of fragments.
Differs: frags of one block are cut by one cache per machine; heads do not come back to napi_skb_cache (they do at TX
completion of drivers that use napi_consume_skb, e1000e does not, and at a merge by GRO, which is not modelled).
"""

from emu.kernel.machine import (
    LIMIT_SKBS,
    MAX_LATER,
    MAX_SKBS,
    MM_6X,
    NONE,
    PAGE_SIZE,
    Machine,
)
from emu.kernel.page_alloc import GFP_ATOMIC, GFP_MEMALLOC, GFP_NOMEMALLOC
from emu.kernel.slab import SLAB_FRAGMENTS, pages_for_slab, slab_release
from emu.kernel.slub import kmem_cache_alloc, kmem_cache_free

SKB_SHARED_INFO_BYTES = 160  # 2.6.12: 16 + MAX_SKB_FRAGS(18) * 8
SKB_SHARED_INFO_BYTES_6X = 320  # on x86-64, MAX_SKB_FRAGS 17
DEV_ALLOC_SKB_PAD = 16
NET_IP_ALIGN = 2  # 0 on x86 since 2.6.36 (arch/x86/include/asm/processor.h)
NET_SKB_PAD = 64  # max(32, L1_CACHE_BYTES)
PAGE_FRAG_ORDER = 3
SMALL_HEAD_BYTES = 1024  # data up to this size, shared info and all, is not cut from the large block
NAPI_SKB_CACHE_BULK = 16


def shared_info_bytes(m: Machine) -> int:
    """sizeof(struct skb_shared_info)."""
    return SKB_SHARED_INFO_BYTES_6X if m.config.mm == MM_6X else SKB_SHARED_INFO_BYTES


def rx_headroom_bytes(m: Machine) -> int:
    """What a driver's receive buffer has in front of the frame."""
    return NET_SKB_PAD if m.config.mm == MM_6X else DEV_ALLOC_SKB_PAD + NET_IP_ALIGN


# What a datagram's reader will find (Skb.csum_bad), and on which counter; REST: in a further skb of such a datagram.
CSUM_FINE, UDP4_CSUM_BAD, UDP6_CSUM_BAD, REST_CSUM_BAD = range(4)


def skb_data_align(m: Machine, size: int) -> int:
    """Round `size` bytes up to the L1 line (SKB_DATA_ALIGN)."""
    return (size + m.config.l1_bytes - 1) & -m.config.l1_bytes


def kmalloc_cache(m: Machine, size: int) -> int:
    """The smallest general cache that holds `size` bytes, or -1."""
    if m.kmalloc_size != size:
        m.kmalloc_size = size
        m.kmalloc_found = NONE
        for cache in range(m.head_cache):
            if m.cache[cache].objsize >= size:
                m.kmalloc_found = cache
                break
    return m.kmalloc_found


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
    skb.alloc_ns = m.now_ns
    skb.frags = NONE
    skb.sk = NONE
    skb.next = NONE
    skb.clone_next = b
    skb.csum_bad = 0
    skb.frag_offset = 0
    skb.frag_length = 0
    skb.frag_sum = 0
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
    cache = kmalloc_cache(m, aligned + shared_info_bytes(m))
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
    if m.config.mm == MM_6X:
        skb.truesize = skb_truesize_6x(m, m.cache[cache].objsize)
    else:
        skb.truesize = aligned + m.config.sk_buff_bytes
    return b


def skb_truesize_6x(m: Machine, room: int) -> int:
    """What an skb over `room` bytes, shared info included, is charged (SKB_TRUESIZE)."""
    return room + skb_data_align(m, m.config.sk_buff_bytes)


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
    shared = shared_info_bytes(m)
    if aligned + shared > PAGE_SIZE or size + skb_data_align(m, shared) <= SMALL_HEAD_BYTES:
        return alloc_skb(m, size, gfp, 1)
    room = skb_data_align(m, aligned + shared)
    s = page_frag_alloc(m, room, gfp)
    if s == NONE:
        return NONE
    b = build_skb(m, s, kmem_cache_alloc(m, m.head_cache, head_gfp(m, gfp)))
    if b != NONE:
        m.skb[b].truesize = skb_truesize_6x(m, room) if m.config.mm == MM_6X else aligned + m.config.sk_buff_bytes
    return b


def build_skb(m: Machine, data_slab: int, head_slab: int) -> int:
    """An skb over a page fragment; its row, or -1 without a head or a row, and then both are given back."""
    b = NONE if head_slab == NONE else skb_new(m)
    if b == NONE:
        page_frag_drop(m, data_slab)
        if head_slab != NONE:
            kmem_cache_free(m, m.head_cache, head_slab)
        return NONE
    skb = m.skb[b]
    skb.head_slab = head_slab
    skb.data_slab = data_slab
    skb.pfmemalloc = m.slab[data_slab].tagged
    return b


def head_gfp(m: Machine, gfp: int) -> int:
    """The flags for a head over a fragment that was allocated with `gfp`: GFP_ATOMIC, whatever those are."""
    return gfp if m.config.head_memalloc else GFP_ATOMIC


def napi_skb_cache_get(m: Machine, gfp: int) -> int:
    """A head from NAPI's own; when there is none, 16 at once with plain GFP_ATOMIC or none at all; its slab, or -1."""
    if m.napi_skb_count == 0:
        for head in range(NAPI_SKB_CACHE_BULK):
            s = kmem_cache_alloc(m, m.head_cache, head_gfp(m, gfp))
            if s == NONE:
                for taken in range(head):
                    kmem_cache_free(m, m.head_cache, m.napi_skb[taken])
                return NONE
            m.napi_skb[head] = s
        m.napi_skb_count = NAPI_SKB_CACHE_BULK
    m.napi_skb_count -= 1
    return m.napi_skb[m.napi_skb_count]


def page_frag_alloc_1k(m: Machine, gfp: int) -> int:
    """One of the four fragments of 1 KiB of a page; its block, or -1.  A page is never used a second time."""
    f = m.frag_small
    if f.remaining == 0:
        s = pages_for_slab(m, SLAB_FRAGMENTS, 0, gfp)
        if s == NONE:
            return NONE
        m.slab[s].inuse = PAGE_SIZE // SMALL_HEAD_BYTES
        f.slab = s
        f.remaining = PAGE_SIZE
    f.remaining -= SMALL_HEAD_BYTES
    return f.slab


def napi_alloc_skb(m: Machine, size: int, gfp: int) -> int:
    """An skb for a small packet of `size` bytes at most, headroom included (mainline __napi_alloc_skb); -1 for none."""
    if size + skb_data_align(m, shared_info_bytes(m)) > SMALL_HEAD_BYTES:
        return netdev_alloc_frag_skb(m, size, gfp)
    s = page_frag_alloc_1k(m, gfp)
    if s == NONE:
        return NONE
    b = build_skb(m, s, napi_skb_cache_get(m, gfp))
    if b != NONE:
        m.skb[b].truesize = skb_truesize_6x(m, SMALL_HEAD_BYTES)
    return b


def gfp_atomic(m: Machine) -> int:
    """What the softirq allocates with: GFP_ATOMIC, and no watermark while mainline processes a tagged packet.

    v6.19 net/core/dev.c __netif_receive_skb sets PF_MEMALLOC for the whole protocol run of such a packet.
    """
    return GFP_ATOMIC | GFP_MEMALLOC if m.pf_memalloc else GFP_ATOMIC


def gfp_copy(m: Machine, b: int) -> int:
    """What a clone or a copy of an skb is allocated with: mainline lets a tagged one have the reserve.

    v6.19 net/core/skbuff.c skb_clone and pskb_expand_head ask for the skb that they copy: a fragment that was tagged
    may be copied while the untagged one that completes its datagram is processed.
    """
    if m.policy.tags_pages and m.skb[b].pfmemalloc:
        return GFP_ATOMIC | GFP_MEMALLOC
    return gfp_atomic(m)


def skb_cloned(m: Machine, b: int) -> bool:
    """Whether others share the data of an skb."""
    return m.skb[b].clone_next != b


def skb_clone(m: Machine, b: int, with_head: int) -> int:
    """An skb of its own over the same data, or -1; without a head it belongs to the head of its datagram's clone."""
    return skb_clone_gfp(m, b, with_head, gfp_copy(m, b))


def skb_clone_gfp(m: Machine, b: int, with_head: int, gfp: int) -> int:
    """The same with other allocation flags."""
    c = skb_new(m)
    if c == NONE:
        return NONE
    clone = m.skb[c]
    clone.head_slab = NONE
    if with_head:
        clone.head_slab = kmem_cache_alloc(m, m.head_cache, gfp)
        if clone.head_slab == NONE:
            skb_release(m, c)
            return NONE
    skb = m.skb[b]
    clone.data_slab = skb.data_slab
    clone.truesize = skb.truesize
    clone.dev = skb.dev
    clone.from_reserve = skb.from_reserve
    clone.pfmemalloc = skb.pfmemalloc
    clone.frame = skb.frame
    clone.packet_id = skb.packet_id
    clone.clone_next = skb.clone_next
    skb.clone_next = c
    return c


def skb_clone_chain(m: Machine, b: int, segments: int) -> int:
    """Clone all of a packet: a datagram with one head, an aggregated frame with one per segment; or -1."""
    first = NONE
    last = NONE
    while b != NONE:
        c = skb_clone(m, b, 1 if first == NONE or segments > 1 else 0)
        if c == NONE:
            kfree_chain(m, first)
            return NONE
        if first == NONE:
            first = c
        else:
            m.skb[last].next = c
        last = c
        b = m.skb[b].next
    return first


def leave_clones(m: Machine, b: int) -> None:
    """Let the other clones have the data; a fragment's head stays with it as long as a clone has none of its own."""
    skb = m.skb[b]
    headless = NONE
    before = skb.clone_next
    while m.skb[before].clone_next != b:
        if m.skb[before].head_slab == NONE:
            headless = before
        before = m.skb[before].clone_next
    if m.skb[before].head_slab == NONE:
        headless = before
    m.skb[before].clone_next = skb.clone_next
    if skb.frags != NONE:
        m.skb[before].frags = skb.frags  # the pages belong to the data that they share; one of them keeps the chain
    skb.clone_next = b
    if headless != NONE and skb.head_slab != NONE:
        m.skb[headless].head_slab = skb.head_slab
        skb.head_slab = NONE


def free_frags(m: Machine, s: int) -> None:
    """Free the pages of a chain, such as `Skb.frags`."""
    while s != NONE:
        following = m.slab[s].next
        slab_release(m, s)
        s = following


def free_data(m: Machine, s: int) -> None:
    """Give an skb's data area back to where it came from."""
    data = m.slab[s]
    if data.cache == SLAB_FRAGMENTS:
        page_frag_drop(m, s)
    else:
        kmem_cache_free(m, data.cache, s)


def kfree_skb(m: Machine, b: int) -> None:
    """Free an skb: its head, and with the last of its clones the data, go back to where they came from."""
    skb = m.skb[b]
    if skb.clone_next == b:
        free_data(m, skb.data_slab)
        free_frags(m, skb.frags)
    else:
        leave_clones(m, b)
    skb.frags = NONE
    if skb.head_slab != NONE:
        kmem_cache_free(m, m.head_cache, skb.head_slab)
    skb_release(m, b)


def kfree_chain(m: Machine, b: int) -> None:
    """Free a packet's skbs: one per fragment of a datagram, or per segment of an aggregated frame."""
    while b != NONE:
        following = m.skb[b].next
        kfree_skb(m, b)
        b = following


def chain_truesize(m: Machine, b: int) -> int:
    """What a packet's skbs charge together."""
    truesize = 0
    while b != NONE:
        truesize += m.skb[b].truesize
        b = m.skb[b].next
    return truesize


def data_area_bytes(m: Machine, b: int) -> int:
    """What an skb's data area takes, shared info included: its truesize says it."""
    if m.config.mm == MM_6X:
        return m.skb[b].truesize - skb_truesize_6x(m, 0)
    return m.skb[b].truesize - m.config.sk_buff_bytes + SKB_SHARED_INFO_BYTES


def pskb_expand_head(m: Machine, b: int) -> bool:
    """Give a clone data of its own, in order to write to it; False when there is no memory for it."""
    skb = m.skb[b]
    cache = kmalloc_cache(m, data_area_bytes(m, b))
    assert cache != NONE
    s = kmem_cache_alloc(m, cache, gfp_copy(m, b))
    if s == NONE:
        return False
    leave_clones(m, b)
    skb.data_slab = s
    return True


def kfree_skb_reason(m: Machine, b: int, reason: int, point: int) -> None:
    """Free an skb unread whose packet has its verdict already: an event of its own, which changes no verdict."""
    assert m.later_len < MAX_LATER, "the loop hands events out before they can fill the table"
    skb = m.skb[b]
    event = m.later[m.later_len]
    event.after_frame = m.total.frames
    event.frame = skb.frame
    event.packet_id = skb.packet_id
    event.time_ns = m.now_ns
    event.dev = skb.dev
    event.reason = reason
    event.point = point
    m.later_len += 1
    m.total.events_by_reason[reason] += 1
    kfree_skb(m, b)

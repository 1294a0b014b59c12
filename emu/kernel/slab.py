"""Slab caches: an allocation touches a watermark only when a slab has to grow.

Source: Linux 2.6.12 mm/slab.c on one CPU: per-CPU array, partial and free slabs, off-slab descriptors, cache_reap.
An object is known by its slab; that is all that matters to when a page comes back.
`mainline` on this allocator: a slab on reserve pages serves only entitled callers and gives its pages back with its
last object, as Linux 3.6 taught mm/slab.c.  The allocator of 6.x is `slub`, which also picks between the two.
"""

from emu.kernel.bugs import BUG_GFP_LEVEL_MASK, BUG_OFF_SLAB, has_bug, oops
from emu.kernel.drop_reason import AT_CACHE_GROW
from emu.kernel.machine import LIMIT_SLABS, MAX_SLABS, MM_2_6_12, NONE, PAGE_SIZE, Cache, Machine, Packet
from emu.kernel.page_alloc import GFP_MEMALLOC, alloc_pages, free_pages

LIST_FULL, LIST_PARTIAL, LIST_EMPTY, LIST_TAGGED = range(4)
SLAB_FRAGMENTS, SLAB_UNUSED, SLAB_PAGE = -1, -2, -3  # no cache: see machine.Slab

REAPTIMEOUT_CPUC_NS = 2_000_000_000
REAPTIMEOUT_LIST3_NS = 4_000_000_000
BATCHREFILL_LIMIT = 16


def slab_new(m: Machine) -> int:
    """A row for a slab, or -1 when the table is full."""
    s = m.slab_free
    if s != NONE:
        m.slab_free = m.slab[s].next
    elif m.slabs_made < MAX_SLABS:
        s = m.slabs_made
        m.slabs_made += 1
    else:
        m.limit_hit = LIMIT_SLABS
        return NONE
    slab = m.slab[s]
    slab.inuse = 0
    slab.prev = NONE
    slab.next = NONE
    slab.list = LIST_FULL
    slab.desc_slab = NONE
    return s


def slab_release(m: Machine, s: int) -> None:
    """Give a slab's pages back and its row away."""
    m.quiet_rounds = 0
    slab = m.slab[s]
    m.zone[slab.zone].slab_pages -= 1 << slab.order
    free_pages(m, slab.zone, slab.order)
    slab.cache = SLAB_UNUSED
    slab.next = m.slab_free
    m.slab_free = s


def pages_for_slab(m: Machine, cache: int, order: int, gfp: int) -> int:
    """A slab row with 2^order pages behind it, or -1 (kmem_getpages)."""
    zone = alloc_pages(m, gfp, order)
    if zone == NONE:
        return NONE
    tagged = m.grant_tagged
    s = slab_new(m)
    if s == NONE:
        free_pages(m, zone, order)
        return NONE
    slab = m.slab[s]
    slab.cache = cache
    slab.zone = zone
    slab.order = order
    slab.tagged = tagged
    m.zone[zone].slab_pages += 1 << order
    m.last_page_frame = m.last_held_frame
    m.last_page_id = m.last_held_id
    m.last_page_ns = m.now_ns
    return s


def blame_last_page(m: Machine, p: Packet) -> None:
    """The packet lacks what the holder of the page that was taken last has."""
    p.culprit_frame = m.last_page_frame
    p.culprit_id = m.last_page_id


def list_del(m: Machine, c: Cache, s: int) -> None:
    """Take a slab off the list that it is on."""
    slab = m.slab[s]
    if slab.prev != NONE:
        m.slab[slab.prev].next = slab.next
    elif slab.list == LIST_PARTIAL:
        c.partial_head = slab.next
    elif slab.list == LIST_EMPTY:
        c.empty_head = slab.next
    elif slab.list == LIST_TAGGED:
        c.tagged_head = slab.next
    if slab.next != NONE:
        m.slab[slab.next].prev = slab.prev
    elif slab.list == LIST_PARTIAL:
        c.partial_tail = slab.prev
    slab.prev = NONE
    slab.next = NONE
    slab.list = LIST_FULL


def list_add(m: Machine, c: Cache, s: int, which: int) -> None:
    """Put a slab at the head of a list."""
    slab = m.slab[s]
    slab.list = which
    slab.prev = NONE
    if which == LIST_PARTIAL:
        slab.next = c.partial_head
        c.partial_head = s
        if slab.next == NONE:
            c.partial_tail = s
    elif which == LIST_EMPTY:
        slab.next = c.empty_head
        c.empty_head = s
    else:
        slab.next = c.tagged_head
        c.tagged_head = s
    if slab.next != NONE:
        m.slab[slab.next].prev = s


def list_add_tail_partial(m: Machine, c: Cache, s: int) -> None:
    """Put a slab at the end of the partial list: the longest time for its other objects to come back."""
    slab = m.slab[s]
    slab.list = LIST_PARTIAL
    slab.next = NONE
    slab.prev = c.partial_tail
    if slab.prev == NONE:
        c.partial_head = s
    else:
        m.slab[slab.prev].next = s
    c.partial_tail = s


def cache_refill(m: Machine, c: Cache) -> None:
    """Move up to a batch of objects from partial, then free slabs into the array (cache_alloc_refill)."""
    batch = c.batchcount
    if not c.touched and batch > BATCHREFILL_LIMIT:
        batch = BATCHREFILL_LIMIT
    while batch > 0:
        s = c.partial_head
        if s == NONE:
            c.free_touched = 1
            s = c.empty_head
            if s == NONE:
                return
        slab = m.slab[s]
        list_del(m, c, s)
        while slab.inuse < c.num and batch > 0:
            c.entry[c.avail] = s
            c.avail += 1
            slab.inuse += 1
            c.free_objects -= 1
            batch -= 1
        if slab.inuse < c.num:
            list_add(m, c, s, LIST_PARTIAL)


def take_tagged(m: Machine, c: Cache) -> int:
    """An object of a slab on reserve pages, for an entitled caller, or -1."""
    s = c.tagged_head
    if s != NONE:
        slab = m.slab[s]
        slab.inuse += 1
        if slab.inuse == c.num:
            list_del(m, c, s)
    return s


def link_new_slab(m: Machine, c: Cache, s: int) -> None:
    """Put a freshly grown slab where its objects may be taken from."""
    c.grown += 1
    if m.slab[s].tagged:
        list_add(m, c, s, LIST_TAGGED)
    else:
        list_add(m, c, s, LIST_EMPTY)
        c.free_objects += c.num


def take_object(m: Machine, c: Cache, gfp: int) -> int:
    """An object that is there without growing the cache, or -1."""
    if c.avail == 0:
        cache_refill(m, c)
    if c.avail > 0:
        c.touched = 1
        c.avail -= 1
        return c.entry[c.avail]
    if gfp & GFP_MEMALLOC:
        return take_tagged(m, c)
    return NONE


def alloc_descriptor(m: Machine, cache: int, gfp: int) -> int:
    """An off-slab descriptor: an object of a cache whose own descriptors are on-slab; its slab, or -1."""
    c = m.cache[cache]
    s = take_object(m, c, gfp)
    if s != NONE:
        return s
    s = pages_for_slab(m, cache, c.order, gfp)
    if s == NONE:
        return NONE
    link_new_slab(m, c, s)
    return take_object(m, c, gfp)


def cache_grow(m: Machine, cache: int, gfp: int) -> bool:
    """Add one slab to a cache: pages first, then its descriptor (mm/slab.c cache_grow).

    2.6.12 calls BUG() for a flag outside GFP_LEVEL_MASK, and takes the descriptor with the flags inside it: as posted,
    the patch does not add __GFP_MEMALLOC to that mask (bugs 1 and 2).
    """
    if gfp & GFP_MEMALLOC and has_bug(m, BUG_GFP_LEVEL_MASK):
        oops(m, BUG_GFP_LEVEL_MASK, AT_CACHE_GROW)
        return False
    c = m.cache[cache]
    s = pages_for_slab(m, cache, c.order, gfp)
    if s == NONE:
        return False
    if c.slabp_cache != NONE:
        local_gfp = gfp & ~GFP_MEMALLOC if has_bug(m, BUG_OFF_SLAB) else gfp
        descriptor = alloc_descriptor(m, c.slabp_cache, local_gfp)
        if descriptor == NONE:
            slab_release(m, s)
            return False
        m.slab[s].desc_slab = descriptor
    link_new_slab(m, c, s)
    return True


def kmem_cache_alloc(m: Machine, cache: int, gfp: int) -> int:
    """Allocate an object; the slab that it lies on, or -1."""
    c = m.cache[cache]
    s = take_object(m, c, gfp)
    if s == NONE and cache_grow(m, cache, gfp):
        s = take_object(m, c, gfp)
    return s


def slab_destroy(m: Machine, c: Cache, s: int) -> None:
    """Free an empty slab that is on no list, and its off-slab descriptor."""
    descriptor = m.slab[s].desc_slab
    slab_release(m, s)
    if descriptor != NONE:
        free_object(m, m.cache[c.slabp_cache], descriptor)


def free_object(m: Machine, c: Cache, s: int) -> None:
    """Put a descriptor back on its slab; descriptors' slabs are few and are kept."""
    slab = m.slab[s]
    slab.inuse -= 1
    list_del(m, c, s)
    if slab.tagged:
        if slab.inuse == 0:
            slab_release(m, s)
        else:
            list_add(m, c, s, LIST_TAGGED)
        return
    c.free_objects += 1
    if slab.inuse == 0:
        list_add(m, c, s, LIST_EMPTY)
    else:
        list_add_tail_partial(m, c, s)


def free_block(m: Machine, c: Cache, count: int) -> None:
    """Return the `count` oldest objects of the array to their slabs; a slab too many gives its pages back."""
    m.quiet_rounds = 0
    for i in range(count):
        s = c.entry[i]
        slab = m.slab[s]
        list_del(m, c, s)
        slab.inuse -= 1
        c.free_objects += 1
        if slab.inuse > 0:
            list_add_tail_partial(m, c, s)
        elif c.free_objects > c.free_limit:
            c.free_objects -= c.num
            slab_destroy(m, c, s)
        else:
            list_add(m, c, s, LIST_EMPTY)
    c.avail -= count
    for i in range(c.avail):
        c.entry[i] = c.entry[i + count]


def kmem_cache_free(m: Machine, cache: int, s: int) -> None:
    """Free the object of slab `s`: into the array, a batch of whose oldest go back to their slabs when it is full."""
    c = m.cache[cache]
    slab = m.slab[s]
    if slab.tagged:
        list_del(m, c, s)
        slab.inuse -= 1
        if slab.inuse > 0:
            list_add(m, c, s, LIST_TAGGED)
        else:
            slab_destroy(m, c, s)
        return
    if c.avail >= c.limit:
        free_block(m, c, c.batchcount)
    c.entry[c.avail] = s
    c.avail += 1


def cache_reap(m: Machine) -> None:
    """Every 2 s: age the arrays; every 4 s per cache: give back some free slabs (mm/slab.c cache_reap)."""
    m.quiet_rounds += 1
    m.reap_ns = m.now_ns + REAPTIMEOUT_CPUC_NS
    if m.config.mm != MM_2_6_12:  # SLUB reaps nothing
        return
    for cache in range(m.caches):
        c = m.cache[cache]
        if c.touched:
            c.touched = 0
        elif c.avail:
            stale = (c.limit + 4) // 5
            if stale > c.avail:
                stale = (c.avail + 1) // 2
            free_block(m, c, stale)
        if c.next_reap_ns > m.now_ns:
            continue
        c.next_reap_ns = m.now_ns + REAPTIMEOUT_LIST3_NS
        if c.free_touched:
            c.free_touched = 0
            continue
        spare = (c.free_limit + 5 * c.num - 1) // (5 * c.num)
        while spare > 0 and c.empty_head != NONE:
            s = c.empty_head
            list_del(m, c, s)
            c.free_objects -= c.num
            slab_destroy(m, c, s)
            spare -= 1


def cache_new(m: Machine, objsize: int) -> int:
    """A row for a cache of objects of `objsize` bytes, without slabs."""
    cache = m.caches
    m.caches += 1
    c = m.cache[cache]
    c.objsize = objsize
    c.partial_head = NONE
    c.partial_tail = NONE
    c.empty_head = NONE
    c.tagged_head = NONE
    return cache


def define_cache(m: Machine, objsize: int, num: int, order: int, slabp_cache: int) -> int:
    """Declare a cache (bytes, objects per slab, page order, cache of its off-slab descriptors); its number."""
    cache = cache_new(m, objsize)
    c = m.cache[cache]
    c.num = num
    c.order = order
    c.slabp_cache = slabp_cache
    if objsize > 131072:
        c.limit = 1
    elif objsize > PAGE_SIZE:
        c.limit = 8
    elif objsize > 1024:
        c.limit = 24
    elif objsize > 256:
        c.limit = 54
    else:
        c.limit = 120
    c.batchcount = (c.limit + 1) // 2
    c.free_limit = 2 * c.batchcount + num
    return cache

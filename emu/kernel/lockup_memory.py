"""The memory that there would be: a copy of zones and slab caches on which `lockup` gives back and takes.

The copy follows page_alloc, slab, slub and skbuff rule by rule, with three liberties, all of them towards more memory:
the hot per-CPU list is used up before a zone is, a slab whose last object comes back may serve as objects or as pages,
whichever helps (cache_reap returns it within seconds), and a kernel that would die of a bug gets what it asks for.
Nothing of the machine itself changes but scratch (`Slab.staying`, `Skb.given_up`, `Machine.lockup`).
"""

from emu.kernel.bugs import BUG_GFP_LEVEL_MASK, has_bug
from emu.kernel.machine import (
    MAX_CACHES,
    MAX_ORDER,
    MAX_ZONES,
    MM_6X,
    NONE,
    PAGE_SIZE,
    ZONE_DMA,
    ZONE_NORMAL,
    Machine,
    Zone,
)
from emu.kernel.netdevice import may_use_reserve
from emu.kernel.page_alloc import (
    GFP_ATOMIC,
    GFP_HIGH,
    GFP_MEMALLOC,
    GFP_NOMEMALLOC,
    GFP_WAIT,
    take_block,
    zone_watermark_ok,
    zone_watermark_ok_6x,
)
from emu.kernel.policy import BUFFER_PAGE_FRAGMENT
from emu.kernel.skbuff import (
    PAGE_FRAG_ORDER,
    SMALL_HEAD_BYTES,
    head_gfp,
    kmalloc_cache,
    rx_headroom_bytes,
    shared_info_bytes,
    skb_data_align,
)
from emu.kernel.slub import is_large


def copy_zone(z: Zone, would: Zone) -> None:
    """Copy what the allocator asks of a zone."""
    would.present_pages = z.present_pages
    would.free_pages = z.free_pages
    would.free_pages_min = 0
    would.pages_min = z.pages_min
    would.pages_low = z.pages_low
    would.pcp_count = z.pcp_count
    would.pcp_batch = max(1, z.pcp_batch)
    would.pcp_high = z.pcp_high
    would.lowmem_reserve[ZONE_NORMAL] = z.lowmem_reserve[ZONE_NORMAL]
    for order in range(MAX_ORDER):
        would.nr_free[order] = z.nr_free[order]


def copy_memory(m: Machine) -> None:
    """Begin a look: zones, and every slab with the objects that are in use (those in per-CPU arrays are not)."""
    k = m.lockup
    k.looks += 1
    for zone in range(m.zones):
        copy_zone(m.zone[zone], k.zone[zone])
        if m.config.mm == MM_6X:  # few pages stay on the list while the zone is low (`pcp_limit`)
            k.zone[zone].pcp_high = min(m.zone[zone].pcp_high, 4 * m.zone[zone].pcp_batch)
    for cache in range(MAX_CACHES):
        k.spare[cache] = 0
        k.spare_tagged[cache] = 0
        k.keep[cache] = 0
        for zone in range(MAX_ZONES):
            k.hollow[cache * MAX_ZONES + zone] = 0
    for s in range(m.slabs_made):
        m.slab[s].staying = m.slab[s].inuse
    for cache in range(m.caches):
        c = m.cache[cache]
        if m.config.mm != MM_6X:
            for at in range(c.avail):
                m.slab[c.entry[at]].staying -= 1
    for at in range(m.napi_skb_count):
        m.slab[m.napi_skb[at]].staying -= 1
    for s in range(m.slabs_made):
        note_spare(m, s)
    k.frag_room = m.frag.remaining if m.frag.slab != NONE else 0
    k.granted_tagged = 0


def objects_of(m: Machine, s: int) -> int:
    """How many objects a slab of a cache holds."""
    return m.slab[s].objects if m.config.mm == MM_6X else m.cache[m.slab[s].cache].num


def note_spare(m: Machine, s: int) -> None:
    """Count the objects of a slab that are free now; a slab that is empty now may become pages."""
    slab = m.slab[s]
    if slab.cache < 0 or is_large(m.cache[slab.cache]):
        return
    free = objects_of(m, s) - slab.staying
    if slab.tagged:
        m.lockup.spare_tagged[slab.cache] += free
        return
    m.lockup.spare[slab.cache] += free
    if slab.staying == 0:
        m.lockup.hollow[slab.cache * MAX_ZONES + slab.zone] += 1


def would_free(z: Zone, order: int, blocks: int) -> None:
    """Give blocks back to a zone, as free_hot_cold_page does: single pages fill the per-CPU list first."""
    if order > 0:
        z.nr_free[order] += blocks
        z.free_pages += blocks << order
        return
    over = z.pcp_count + blocks - z.pcp_high
    moved = 0
    if over > 0:
        moved = (over + z.pcp_batch - 1) // z.pcp_batch * z.pcp_batch
        moved = min(moved, z.pcp_count + blocks)
    z.pcp_count += blocks - moved
    z.nr_free[0] += moved
    z.free_pages += moved


def would_reclaim(z: Zone, pages: int) -> None:
    """Reclaimed pages go to the zone's free lists, past the per-CPU list (vmscan.shrink_zone)."""
    z.nr_free[0] += pages
    z.free_pages += pages


def object_comes_back(m: Machine, s: int) -> None:
    """An object of slab `s`, a reference to a block of page fragments, or a data page is given back."""
    k = m.lockup
    slab = m.slab[s]
    slab.staying -= 1
    if slab.cache < 0 or slab.tagged or is_large(m.cache[slab.cache]):
        if slab.staying == 0:
            would_free(k.zone[slab.zone], slab.order, 1)
            if slab.cache >= 0 and slab.tagged:
                k.spare_tagged[slab.cache] -= objects_of(m, s) - 1
        elif slab.cache >= 0 and slab.tagged:
            k.spare_tagged[slab.cache] += 1
        return
    k.spare[slab.cache] += 1
    if slab.staying == 0:
        k.hollow[slab.cache * MAX_ZONES + slab.zone] += 1


def skb_comes_back(m: Machine, b: int) -> None:
    """An skb is freed: its head, and its data if no clone of it stays."""
    skb = m.skb[b]
    looks = m.lockup.looks
    if skb.given_up == looks:
        return
    skb.given_up = looks
    if skb.head_slab != NONE:
        object_comes_back(m, skb.head_slab)
    c = skb.clone_next
    while c != b:
        if m.skb[c].given_up != looks:
            return
        c = m.skb[c].clone_next
    object_comes_back(m, skb.data_slab)
    page = skb.frags
    while page != NONE:
        object_comes_back(m, page)
        page = m.slab[page].next


def queue_comes_back(m: Machine, b: int) -> None:
    """A queue of skbs is freed, from its head."""
    while b != NONE:
        skb_comes_back(m, b)
        b = m.skb[b].next


def kernel_page_possible(m: Machine) -> bool:
    """Whether GFP_KERNEL would get a page once cache_reap has given every empty slab back: the test at pages_min."""
    k = m.lockup
    for zone in range(ZONE_NORMAL, ZONE_DMA - 1, -1):
        z = k.zone[zone]
        if z.present_pages == 0:
            continue
        pages = 0
        blocks = 0
        for cache in range(m.caches):
            slabs = k.hollow[cache * MAX_ZONES + zone]
            if m.cache[cache].order == 0:
                pages += slabs
            else:
                blocks += slabs << m.cache[cache].order
        over = z.pcp_count + pages - z.pcp_high
        if over > 0:
            blocks += min((over + z.pcp_batch - 1) // z.pcp_batch * z.pcp_batch, z.pcp_count + pages)
        if z.free_pages + blocks > z.pages_min + z.lowmem_reserve[ZONE_NORMAL]:
            return True
    return False


def would_pass(m: Machine, zone: int, order: int, mark: int, high: int, harder: int) -> bool:
    """Whether the copy of a zone would pass the watermark test of `page_alloc.watermark_ok`."""
    z = m.lockup.zone[zone]
    if m.config.mm == MM_6X and order > 0:
        return zone_watermark_ok_6x(z, order, mark, ZONE_NORMAL, high, harder)
    return zone_watermark_ok(z, order, mark, ZONE_NORMAL, high, harder)


def would_take(z: Zone, order: int) -> bool:
    """Take a block from the copy of a zone, a single page off the per-CPU list as long as it has one."""
    if order == 0 and z.pcp_count > 0:
        z.pcp_count -= 1
        return True
    return take_block(z, order)


def take_pages(m: Machine, gfp: int, order: int) -> int:
    """A block of 2^order pages as `alloc_pages` grants it; its zone, or -1."""
    k = m.lockup
    k.granted_tagged = 0
    high = gfp & GFP_HIGH
    harder = 0 if gfp & GFP_WAIT else 1
    if m.policy.atomic_first_nomemalloc and gfp & GFP_NOMEMALLOC:
        harder = 0
    for zone in range(ZONE_NORMAL, ZONE_DMA - 1, -1):
        z = k.zone[zone]
        if z.present_pages == 0:
            continue
        if would_pass(m, zone, order, z.pages_low, 0, 0) or would_pass(m, zone, order, z.pages_min, high, harder):
            if would_take(z, order):
                return zone
    if gfp & GFP_MEMALLOC and not gfp & GFP_NOMEMALLOC:
        for zone in range(ZONE_NORMAL, ZONE_DMA - 1, -1):
            z = k.zone[zone]
            if z.present_pages and would_take(z, order):
                k.granted_tagged = m.policy.tags_pages
                return zone
    return NONE


def reap_one(m: Machine) -> bool:
    """Turn an empty slab into pages, of a cache that keeps what it should; False when there is none."""
    k = m.lockup
    for cache in range(m.caches):
        c = m.cache[cache]
        if k.spare[cache] - c.num < k.keep[cache]:
            continue
        for zone in range(m.zones):
            if k.hollow[cache * MAX_ZONES + zone] > 0:
                k.hollow[cache * MAX_ZONES + zone] -= 1
                k.spare[cache] -= c.num
                if c.slabp_cache != NONE:
                    k.spare[c.slabp_cache] += 1
                would_free(k.zone[zone], c.order, 1)
                return True
    return False


def grow_by(m: Machine, gfp: int, order: int) -> int:
    """Pages for a slab, with the help of cache_reap; their zone, or -1."""
    zone = take_pages(m, gfp, order)
    while zone == NONE and reap_one(m):
        zone = take_pages(m, gfp, order)
    return zone


def take_spare(m: Machine, cache: int, gfp: int) -> bool:
    """An object that would be free without a new slab."""
    k = m.lockup
    if k.spare[cache] > 0:
        k.spare[cache] -= 1
        slabs = 0
        for zone in range(m.zones):
            slabs += k.hollow[cache * MAX_ZONES + zone]
        if slabs * m.cache[cache].num > k.spare[cache]:
            for zone in range(m.zones):
                if k.hollow[cache * MAX_ZONES + zone] > 0:
                    k.hollow[cache * MAX_ZONES + zone] -= 1
                    break
        return True
    if gfp & GFP_MEMALLOC and not gfp & GFP_NOMEMALLOC and k.spare_tagged[cache] > 0:
        k.spare_tagged[cache] -= 1
        return True
    return False


def add_spare(m: Machine, cache: int, objects: int) -> None:
    """A new slab's other objects are for those who may have its pages."""
    if m.lockup.granted_tagged:
        m.lockup.spare_tagged[cache] += objects
    else:
        m.lockup.spare[cache] += objects


def take_descriptor(m: Machine, cache: int, gfp: int) -> bool:
    """An off-slab descriptor (2.6.12): an object of a cache whose own descriptors are on-slab."""
    if cache == NONE or take_spare(m, cache, gfp):
        return True
    if grow_by(m, gfp, m.cache[cache].order) == NONE:
        return False
    add_spare(m, cache, m.cache[cache].num - 1)
    return True


def take_object(m: Machine, cache: int, gfp: int) -> bool:
    """An object of a cache as kmem_cache_alloc would find one."""
    c = m.cache[cache]
    if not is_large(c) and take_spare(m, cache, gfp):
        return True
    if gfp & GFP_MEMALLOC and has_bug(m, BUG_GFP_LEVEL_MASK):
        return True
    order = c.order
    zone = grow_by(m, gfp, order)
    if zone == NONE and m.config.mm == MM_6X and c.min_order < order:
        order = c.min_order
        zone = grow_by(m, gfp, order)
    if zone == NONE:
        return False
    tagged = m.lockup.granted_tagged
    if m.config.mm != MM_6X and not take_descriptor(m, c.slabp_cache, gfp):
        would_free(m.lockup.zone[zone], order, 1)
        return False
    m.lockup.granted_tagged = tagged
    add_spare(m, cache, (PAGE_SIZE << order) // c.objsize - 1 if m.config.mm == MM_6X else c.num - 1)
    return True


def take_skb(m: Machine, size: int, gfp: int, nomemalloc_first: int) -> bool:
    """An skb with `size` bytes of data (skbuff.alloc_skb)."""
    if not take_object(m, m.head_cache, gfp):
        return False
    cache = kmalloc_cache(m, skb_data_align(m, size) + shared_info_bytes(m))
    if nomemalloc_first and take_object(m, cache, (gfp | GFP_NOMEMALLOC) & ~GFP_MEMALLOC):
        return True
    if (gfp & GFP_MEMALLOC or not nomemalloc_first) and take_object(m, cache, gfp):
        return True
    m.lockup.spare[m.head_cache] += 1
    return False


def take_fragment(m: Machine, room: int, gfp: int) -> bool:
    """A page fragment of `room` bytes (skbuff.page_frag_alloc); a block that only the cache still refers to is new."""
    k = m.lockup
    f = m.frag
    if k.frag_room < room and f.slab != NONE:
        slab = m.slab[f.slab]
        if slab.staying == 1 and slab.tagged == 0:
            k.frag_room = PAGE_SIZE << slab.order
            slab.staying = 2
    if k.frag_room < room:
        if grow_by(m, (gfp | GFP_NOMEMALLOC) & ~GFP_MEMALLOC, PAGE_FRAG_ORDER) != NONE:
            k.frag_room = PAGE_SIZE << PAGE_FRAG_ORDER
        elif grow_by(m, gfp, 0) != NONE:
            k.frag_room = PAGE_SIZE
    if k.frag_room < room:
        return False
    k.frag_room -= room
    return True


def take_rx(m: Machine, size: int, gfp: int) -> bool:
    """A receive skb by the policy's allocator (netdevice.alloc_rx)."""
    if m.policy.rx_allocator != BUFFER_PAGE_FRAGMENT:
        return take_skb(m, size, gfp, m.policy.atomic_first_nomemalloc)
    shared = shared_info_bytes(m)
    aligned = skb_data_align(m, size)
    if aligned + shared > PAGE_SIZE or size + skb_data_align(m, shared) <= SMALL_HEAD_BYTES:
        return take_skb(m, size, gfp, 1)
    if not take_fragment(m, skb_data_align(m, aligned + shared), gfp):
        return False
    return take_object(m, m.head_cache, head_gfp(m, gfp))


def take_rx_buffer(m: Machine, d: int, frame_bytes: int, reserve_taken: int) -> int:
    """A receive buffer for device `d` (netdevice.dev_memalloc_skb); 2: counted against the cap, 1: not, 0: none.

    `frame_bytes` is what the driver asks for; `reserve_taken`: how many were counted since the look began.
    """
    dev = m.dev[d]
    size = frame_bytes + rx_headroom_bytes(m)
    entitled = may_use_reserve(m, d)
    if m.policy.tags_pages and entitled:
        return 1 if take_rx(m, size, GFP_ATOMIC | GFP_MEMALLOC) else 0
    if take_rx(m, size, GFP_ATOMIC):
        return 1
    if not entitled or (m.policy.caps_reserve and dev.rx_reserve_used + reserve_taken >= dev.rx_reserve):
        return 0
    return 2 if take_rx(m, size, GFP_ATOMIC | GFP_MEMALLOC) else 0


def data_cache_of(m: Machine, d: int) -> int:
    """The slab cache that a device's receive buffers are cut from, also where the policy prefers fragments."""
    return kmalloc_cache(m, skb_data_align(m, m.dev[d].rx_skb_bytes + rx_headroom_bytes(m)) + shared_info_bytes(m))


def reap_all(m: Machine) -> None:
    """Turn every empty slab into pages: enough of them open a zone, and with it all that its per-CPU list holds."""
    reaped = True
    while reaped:
        reaped = reap_one(m)


def keep_for(m: Machine, d: int, buffers: int) -> None:
    """Leave empty slabs of the caches that `buffers` receive buffers need as they are."""
    k = m.lockup
    k.keep[m.head_cache] = buffers
    cache = data_cache_of(m, d)
    if cache != NONE and m.policy.rx_allocator != BUFFER_PAGE_FRAGMENT:
        k.keep[cache] = buffers

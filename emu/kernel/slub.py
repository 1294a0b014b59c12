"""SLUB, the slab allocator of 6.x, on one CPU; and the face of both allocators.

Source: Linux 6.1 mm/slub.c (___slab_alloc, get_partial_node, put_cpu_partial, __slab_free, calculate_order) with
CONFIG_SLUB_CPU_PARTIAL, mm/slab_common.c kmalloc_info.  The slab that the CPU allocates from, the CPU's partial slabs,
the node's partial list; an empty slab gives its pages back when the node has min_partial slabs already.
A slab on reserve pages is refused to callers without an entitlement on the slow path only (pfmemalloc_match): once an
entitled caller has made it the CPU's slab, everybody takes from it (as commit 5091b74a95d4 of 2012 says).
Differs: nobody else uses the caches; an object above 8 KiB has pages of its own, as kmalloc_large gives it;
cache shrinking and debugging are left out.
"""

from emu.kernel.machine import MM_6X, NONE, PAGE_SIZE, Cache, Machine
from emu.kernel.page_alloc import GFP_MEMALLOC, GFP_NOMEMALLOC, PF_MEMALLOC
from emu.kernel.slab import (
    LIST_FULL,
    LIST_PARTIAL,
    cache_new,
    list_add,
    list_add_tail_partial,
    list_del,
    pages_for_slab,
    slab_release,
)
from emu.kernel.slab import kmem_cache_alloc as slab_alloc
from emu.kernel.slab import kmem_cache_free as slab_free

LIST_CPU, LIST_CPU_PARTIAL = 4, 5  # beyond those of `slab`

SLUB_MAX_ORDER = 3  # PAGE_ALLOC_COSTLY_ORDER
SLUB_MIN_OBJECTS = 8  # 4 * (fls(nr_cpu_ids) + 1) on one CPU
MIN_PARTIAL = 5
MAX_PARTIAL = 10
KMALLOC_MAX_CACHE_BYTES = 8192  # larger ones are pages


def get_order(size: int) -> int:
    """The order of the smallest block of pages that holds `size` bytes."""
    order = 0
    while PAGE_SIZE << order < size:
        order += 1
    return order


def calculate_order(size: int) -> int:
    """The order of a slab of objects of `size` bytes: enough objects, little waste, at most order 3."""
    min_objects = min(SLUB_MIN_OBJECTS, (PAGE_SIZE << SLUB_MAX_ORDER) // size)
    while min_objects > 1:
        fraction = 16
        while fraction >= 4:
            for order in range(get_order(min_objects * size), SLUB_MAX_ORDER + 1):
                slab_bytes = PAGE_SIZE << order
                if slab_bytes % size <= slab_bytes // fraction:
                    return order
            fraction //= 2
        min_objects -= 1
    return get_order(size)


def cpu_partial_objects(size: int) -> int:
    """How many objects the CPU's partial slabs should hold (set_cpu_partial)."""
    if size >= PAGE_SIZE:
        return 6
    if size >= 1024:
        return 24
    if size >= 256:
        return 52
    return 120


def slub_define_cache(m: Machine, objsize: int) -> int:
    """Declare a cache of objects of `objsize` bytes; its number."""
    cache = cache_new(m, objsize)
    c = m.cache[cache]
    c.slabp_cache = NONE
    c.order = get_order(objsize) if objsize > KMALLOC_MAX_CACHE_BYTES else calculate_order(objsize)
    c.min_order = get_order(objsize)
    c.num = (PAGE_SIZE << c.order) // objsize
    half_log = 0
    while objsize >> (2 * half_log + 2):
        half_log += 1
    c.min_partial = min(MAX_PARTIAL, max(MIN_PARTIAL, half_log))
    c.cpu_partial_max = (2 * cpu_partial_objects(objsize) + c.num - 1) // c.num
    c.cpu_slab = NONE
    c.cpu_partial_head = NONE
    return cache


def is_large(c: Cache) -> bool:
    """Whether objects of this class are blocks of pages, outside any slab."""
    return c.objsize > KMALLOC_MAX_CACHE_BYTES


def pfmemalloc_allowed(gfp: int) -> bool:
    """Whether the caller may have memory of the reserve (gfp_pfmemalloc_allowed)."""
    return gfp & (GFP_MEMALLOC | PF_MEMALLOC) != 0 and gfp & GFP_NOMEMALLOC == 0


def pfmemalloc_match(m: Machine, s: int, gfp: int) -> bool:
    """Whether a caller with these flags may have this slab."""
    return m.slab[s].tagged == 0 or pfmemalloc_allowed(gfp)


def add_partial(m: Machine, c: Cache, s: int, at_tail: int) -> None:
    """Put a slab on the node's partial list."""
    if at_tail:
        list_add_tail_partial(m, c, s)
    else:
        list_add(m, c, s, LIST_PARTIAL)
    c.nr_partial += 1


def remove_partial(m: Machine, c: Cache, s: int) -> None:
    """Take a slab off the node's partial list."""
    list_del(m, c, s)
    c.nr_partial -= 1


def unfreeze(m: Machine, c: Cache, s: int, at_tail: int) -> None:
    """A slab leaves the CPU: to the node's list, or back to the page allocator when it is empty and one too many."""
    slab = m.slab[s]
    if slab.inuse == 0 and c.nr_partial >= c.min_partial:
        slab_release(m, s)
    elif slab.inuse == slab.objects:
        slab.list = LIST_FULL
    else:
        add_partial(m, c, s, at_tail)


def put_cpu_partial(m: Machine, c: Cache, s: int, drain: int) -> None:
    """The CPU keeps a slab to itself; when it has too many it gives all the others to the node first."""
    if drain and c.cpu_partial_slabs >= c.cpu_partial_max:
        kept = c.cpu_partial_head
        c.cpu_partial_head = NONE
        c.cpu_partial_slabs = 0
        while kept != NONE:
            following = m.slab[kept].next
            unfreeze(m, c, kept, 1)
            kept = following
    slab = m.slab[s]
    slab.list = LIST_CPU_PARTIAL
    slab.prev = NONE
    slab.next = c.cpu_partial_head
    c.cpu_partial_head = s
    c.cpu_partial_slabs += 1


def use_slab(m: Machine, c: Cache, s: int) -> int:
    """Make a slab the CPU's and take its first object."""
    slab = m.slab[s]
    slab.list = LIST_CPU
    slab.prev = NONE
    slab.next = NONE
    slab.inuse += 1
    c.cpu_slab = s
    return s


def from_cpu_partial(m: Machine, c: Cache, gfp: int) -> int:
    """An object of a slab that the CPU keeps, or -1; slabs that the caller may not have go to the node."""
    while c.cpu_partial_head != NONE:
        s = c.cpu_partial_head
        c.cpu_partial_head = m.slab[s].next
        c.cpu_partial_slabs -= 1
        if pfmemalloc_match(m, s, gfp):
            return use_slab(m, c, s)
        unfreeze(m, c, s, 0)
    return NONE


def get_partial_node(m: Machine, c: Cache, gfp: int) -> int:
    """An object of the node's first slab that the caller may have, or -1; some more slabs go to the CPU."""
    found = NONE
    moved = 0
    s = c.partial_head
    while s != NONE:
        following = m.slab[s].next
        if pfmemalloc_match(m, s, gfp):
            remove_partial(m, c, s)
            if found == NONE:
                found = use_slab(m, c, s)
            else:
                put_cpu_partial(m, c, s, 0)
                moved += 1
            if moved > c.cpu_partial_max // 2:
                break
        s = following
    return found


def new_slab(m: Machine, cache: int, gfp: int) -> int:
    """A slab of the usual order, else of the smallest one that holds an object; its row, or -1 (allocate_slab)."""
    c = m.cache[cache]
    order = c.order
    s = pages_for_slab(m, cache, order, gfp)
    if s == NONE and c.min_order < c.order:
        order = c.min_order
        s = pages_for_slab(m, cache, order, gfp)
    if s != NONE:
        m.slab[s].objects = (PAGE_SIZE << order) // c.objsize
        c.grown += 1
    return s


def slub_alloc(m: Machine, cache: int, gfp: int) -> int:
    """Allocate an object; the slab that it lies on, or -1."""
    c = m.cache[cache]
    s = c.cpu_slab
    if s != NONE:
        slab = m.slab[s]
        if slab.inuse < slab.objects:
            slab.inuse += 1
            return s
        slab.list = LIST_FULL
        c.cpu_slab = NONE
    if not is_large(c):
        s = from_cpu_partial(m, c, gfp)
        if s == NONE:
            s = get_partial_node(m, c, gfp)
        if s != NONE:
            return s
    s = new_slab(m, cache, gfp)
    if s == NONE:
        return NONE
    if is_large(c):
        m.slab[s].inuse = 1
        return s
    return use_slab(m, c, s)


def slub_free(m: Machine, cache: int, s: int) -> None:
    """Free the object of slab `s`."""
    c = m.cache[cache]
    slab = m.slab[s]
    was_full = slab.inuse == slab.objects
    slab.inuse -= 1
    if is_large(c):
        slab_release(m, s)
    elif slab.list in (LIST_CPU, LIST_CPU_PARTIAL):
        return
    elif was_full:
        put_cpu_partial(m, c, s, 1)
    elif slab.inuse == 0 and c.nr_partial >= c.min_partial:
        remove_partial(m, c, s)
        slab_release(m, s)


def kmem_cache_alloc(m: Machine, cache: int, gfp: int) -> int:
    """Allocate an object by this kernel's slab allocator; the slab that it lies on, or -1."""
    if m.config.mm == MM_6X:
        return slub_alloc(m, cache, gfp)
    return slab_alloc(m, cache, gfp)


def kmem_cache_free(m: Machine, cache: int, s: int) -> None:
    """Free an object of slab `s`."""
    if m.config.mm == MM_6X:
        slub_free(m, cache, s)
    else:
        slab_free(m, cache, s)

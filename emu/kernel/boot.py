"""How the machine stands when play starts: zones, caches, rings, and the crunch.

Source: Linux 2.6.12 mm/page_alloc.c init_per_zone_pages_min, setup_per_zone_lowmem_reserve; mm/slab.c cache sizes.
The default crunch is a premise, not a prediction: a quiet host's ring feeds itself for ever, because what is dropped
or read goes back to the slab and never meets a watermark.
"""

from emu.kernel.e1000 import e1000_alloc_rx_buffers, e1000_clean_one, rx_buffer_len_for
from emu.kernel.machine import (
    MAX_ORDER,
    NEVER_NS,
    NONE,
    PAGE_SIZE,
    ZONE_DMA,
    ZONE_HIGHMEM,
    ZONE_NORMAL,
    Machine,
)
from emu.kernel.netdevice import reserve_for_device
from emu.kernel.page_alloc import atomic_floor, setup_per_zone_pages_min
from emu.kernel.skbuff import page_frag_drop
from emu.kernel.slab import LIST_FULL, REAPTIMEOUT_CPUC_NS, define_cache
from emu.kernel.tcp_mem import tcp_init
from emu.kernel.writeback import process_context

DMA_PAGES = 4096  # 16 MiB
LOWMEM_PAGES = 229_376  # 896 MiB
LOWMEM_RESERVE_RATIO_DMA = 256
SLAB_MANAGEMENT_BYTES = 24
OFF_SLAB_FROM_BYTES = 512
SLAB_DESC_512_BYTES = 64  # the descriptor of a size-512 slab comes from size-64, larger ones from size-32


def isqrt(value: int) -> int:
    """The integer square root."""
    root = 0
    bit = 1 << 30
    while bit:
        if (root + bit) * (root + bit) <= value:
            root += bit
        bit >>= 1
    return root


def init_zones(m: Machine) -> None:
    """Lay the memory out, all of it free in the largest blocks, with 2.6.12's watermarks and lowmem_reserve."""
    total = m.config.memory_pages
    dma = min(total, DMA_PAGES)
    normal = min(total, LOWMEM_PAGES) - dma
    m.zones = 3 if total > LOWMEM_PAGES else 2
    m.zone[ZONE_DMA].present_pages = dma
    m.zone[ZONE_NORMAL].present_pages = normal
    m.zone[ZONE_HIGHMEM].present_pages = total - dma - normal
    m.zone[ZONE_DMA].lowmem_reserve[ZONE_NORMAL] = normal // LOWMEM_RESERVE_RATIO_DMA
    for zone in range(m.zones):
        z = m.zone[zone]
        left = z.present_pages
        for order in range(MAX_ORDER - 1, -1, -1):
            z.nr_free[order] = left >> order
            left -= z.nr_free[order] << order
        z.free_pages = z.present_pages
        z.free_pages_min = z.free_pages
        z.pcp_batch = pcp_batch(z.present_pages)
        z.pcp_low = 2 * z.pcp_batch
        z.pcp_high = 6 * z.pcp_batch
    lowmem_kbytes = (dma + normal) * (PAGE_SIZE >> 10)
    m.min_free_kbytes = max(128, min(65536, isqrt(lowmem_kbytes * 16)))
    setup_per_zone_pages_min(m)


def pcp_batch(present_pages: int) -> int:
    """How many pages move between a zone and its per-CPU list at a time (zone_batchsize)."""
    batch = max(1, min(present_pages // 1024, 64) // 4)
    width = 0
    value = batch + batch // 2
    while value:
        value >>= 1
        width += 1
    return (1 << width) - 1


def init_caches(m: Machine) -> None:
    """The general caches of the machine's L1 line, then the cache of skb heads, which is the last one."""
    line = m.config.l1_bytes
    size = 32
    descriptor_32 = NONE
    descriptor_64 = NONE
    while size <= 32768:
        if size < OFF_SLAB_FROM_BYTES:
            cache = define_cache(m, size, (PAGE_SIZE - SLAB_MANAGEMENT_BYTES) // (size + 2), 0, NONE)
        else:
            order = 0
            while PAGE_SIZE << order < size:
                order += 1
            descriptor = descriptor_64 if size == OFF_SLAB_FROM_BYTES else descriptor_32
            cache = define_cache(m, size, (PAGE_SIZE << order) // size, order, descriptor)
        if size == 32:
            descriptor_32 = cache
        if size == SLAB_DESC_512_BYTES:
            descriptor_64 = cache
        size = next_kmalloc_size(size, line)
    head = (m.config.sk_buff_bytes + line - 1) // line * line
    if line == 128 and m.config.sk_buff_bytes <= 64:
        head = 64
    m.head_cache = define_cache(m, head, (PAGE_SIZE - SLAB_MANAGEMENT_BYTES) // (head + 2), 0, NONE)


def next_kmalloc_size(size: int, line: int) -> int:
    """The size class after `size` (bytes): 96 exists only for lines below 64, 192 only below 128."""
    if size == 64 and line < 64:
        return 96
    if size == 96:
        return 128
    if size == 128 and line < 128:
        return 192
    if size == 192:
        return 256
    return size * 2


def open_device(m: Machine, d: int) -> None:
    """Bring an interface up: its part of the reserve, then its ring (e1000_up)."""
    dev = m.dev[d]
    dev.up = 1
    dev.rx_buffer_len = rx_buffer_len_for(dev.mtu)
    for slot in range(dev.ring_size):
        dev.ring_skb[slot] = NONE
        dev.ring_seq[slot] = NONE
    reserve_for_device(m, d)
    e1000_alloc_rx_buffers(m, d)
    dev.watchdog_ns = NEVER_NS
    dev.ring_free_min = dev.ring_size


def hold_background(m: Machine, d: int, skbs: int) -> None:
    """Sockets outside the capture have received `skbs` packets already and nobody reads them."""
    dev = m.dev[d]
    for _ in range(skbs):
        e1000_clean_one(m, d)
        m.background_held += 1
    dev.ring_done += skbs
    dev.rdh = (dev.rdh + skbs) % dev.ring_size


def empty_caches(m: Machine) -> None:
    """Others took every free object: the next allocation of any class has to grow a slab."""
    for cache in range(m.caches):
        c = m.cache[cache]
        c.avail = 0
        for which in range(2):
            s = c.empty_head if which else c.partial_head
            while s != NONE:
                slab = m.slab[s]
                following = slab.next
                slab.inuse = c.num
                slab.list = LIST_FULL
                slab.prev = NONE
                slab.next = NONE
                s = following
        c.partial_head = NONE
        c.partial_tail = NONE
        c.empty_head = NONE
        c.free_objects = 0
        c.grown = 0
    if m.frag.slab != NONE:
        page_frag_drop(m, m.frag.slab)
        m.frag.slab = NONE


def pin_zones(m: Machine) -> None:
    """Every zone stands at its GFP_ATOMIC floor, all free pages at order 0; the rest belongs to others."""
    for zone in range(m.zones):
        z = m.zone[zone]
        if zone == ZONE_HIGHMEM:
            free = min(z.present_pages, z.pages_min)
        else:
            free = min(z.present_pages - z.slab_pages, atomic_floor(m, zone) + m.config.free_pages_above_floor)
        z.other_pages += z.free_pages + z.pcp_count - free
        z.free_pages = free
        z.pcp_count = 0
        for order in range(MAX_ORDER):
            z.nr_free[order] = 0
        z.nr_free[0] = free


def boot(m: Machine) -> None:
    """Bring the machine to the moment when play starts; `config`, `policy`, devices and rules are filled in."""
    m.slab_free = NONE
    m.skb_free = NONE
    m.sk_free = NONE
    m.frag.slab = NONE
    m.ready_head = NONE
    m.ready_tail = NONE
    m.reader_tick_ns = NEVER_NS
    for which in range(2):
        m.lru_head[which] = NONE
        m.lru_tail[which] = NONE
    m.memalloc_socks = m.config.memalloc_socket
    init_zones(m)
    init_caches(m)
    tcp_init(m)
    for d in range(m.devices):
        open_device(m, d)
    if m.config.crunch:
        for d in range(m.devices):
            hold_background(m, d, m.dev[d].background_skbs)
        empty_caches(m)
        pin_zones(m)
    process_context(m)
    for zone in range(m.zones):
        m.zone[zone].free_pages_min = m.zone[zone].free_pages
    for d in range(m.devices):
        m.dev[d].reserve_allocations = 0
        m.dev[d].alloc_rx_buff_failed = 0


def start_clock(m: Machine, time_ns: int) -> None:
    """Start the machine's clock and its periodic timers at the first frame's time."""
    m.now_ns = time_ns
    m.cpu_busy_until_ns = time_ns
    m.reap_ns = time_ns + REAPTIMEOUT_CPUC_NS
    for d in range(m.devices):
        m.dev[d].watchdog_ns = time_ns + REAPTIMEOUT_CPUC_NS

"""How the machine stands when play starts: zones, caches, rings, and the crunch.

Source: Linux 2.6.12 mm/page_alloc.c init_per_zone_pages_min, setup_per_zone_lowmem_reserve; mm/slab.c cache sizes.
With MM_6X Linux 6.1 mm/page_alloc.c, mm/slab_common.c kmalloc_info, on x86-64.
The default crunch is a premise, not a prediction: a quiet host's ring feeds itself for ever, because what is dropped
or read goes back to the slab and never meets a watermark.
"""

from emu.kernel.af_packet import open_taps
from emu.kernel.block_io import block_boot, block_start
from emu.kernel.driver import has_watchdog, nic_hold
from emu.kernel.e1000 import E1000_WATCHDOG_NS
from emu.kernel.icmp import XRLIM_BURST_FACTOR, XRLIM_TIMEOUT_NS
from emu.kernel.machine import (
    BACKLOG_DEV,
    FRAG_LISTS,
    MAX_ORDER,
    MM_6X,
    N_READERS,
    NEVER_NS,
    NONE,
    PAGE_SIZE,
    ZONE_DMA,
    ZONE_HIGHMEM,
    ZONE_NORMAL,
    Machine,
)
from emu.kernel.page_alloc import (
    atomic_floor,
    boot_min_free_kbytes,
    setup_per_zone_pages_min,
    take_block,
)
from emu.kernel.raw import open_raws
from emu.kernel.skbuff import page_frag_drop, skb_data_align
from emu.kernel.slab import LIST_FULL, REAPTIMEOUT_CPUC_NS, define_cache
from emu.kernel.slub import slub_define_cache
from emu.kernel.tcp_mem import tcp_init
from emu.kernel.tcp_timer import conns_boot
from emu.kernel.tx_queue import tx_boot
from emu.kernel.updown import dev_open
from emu.kernel.upper import link_devices
from emu.kernel.writeback import process_context

DMA_PAGES = 4096  # 16 MiB
LOWMEM_PAGES = 229_376  # 896 MiB
LOWMEM_RESERVE_RATIO_DMA = 256
SLAB_MANAGEMENT_BYTES = 24
OFF_SLAB_FROM_BYTES = 512
WEIGHT_P = 64  # of the backlog (net/core/dev.c weight_p)
SLAB_DESC_512_BYTES = 64  # the descriptor of a size-512 slab comes from size-64, larger ones from size-32


def init_zones(m: Machine) -> None:
    """Lay the memory out, all of it free in the largest blocks, with 2.6.12's watermarks and lowmem_reserve."""
    total = m.config.memory_pages
    lowmem = total if m.config.mm == MM_6X else min(total, LOWMEM_PAGES)
    m.zones = 3 if total > lowmem else 2
    m.zone[ZONE_DMA].present_pages = min(total, DMA_PAGES)
    m.zone[ZONE_NORMAL].present_pages = lowmem - min(total, DMA_PAGES)
    m.zone[ZONE_HIGHMEM].present_pages = total - lowmem
    for zone in range(ZONE_HIGHMEM):
        if m.zone_said[zone].said and m.zone_said[zone].present_pages >= 0:
            m.zone[zone].present_pages = m.zone_said[zone].present_pages
    dma = m.zone[ZONE_DMA].present_pages
    normal = m.zone[ZONE_NORMAL].present_pages
    m.zone[ZONE_DMA].lowmem_reserve[ZONE_NORMAL] = normal // LOWMEM_RESERVE_RATIO_DMA
    for zone in range(ZONE_HIGHMEM):
        if m.zone_said[zone].said and m.zone_said[zone].lowmem_reserve >= 0:
            m.zone[zone].lowmem_reserve[ZONE_NORMAL] = m.zone_said[zone].lowmem_reserve
    for zone in range(m.zones):
        z = m.zone[zone]
        left = z.present_pages
        for order in range(MAX_ORDER - 1, -1, -1):
            z.nr_free[order] = left >> order
            left -= z.nr_free[order] << order
        z.free_pages = z.present_pages
        z.free_pages_min = z.free_pages
        if m.config.mm == MM_6X:
            # pcp_low stays 0: the list is filled when it is empty; its limit follows pages_low.
            z.pcp_batch = pcp_batch_6x(z.present_pages)
        else:
            z.pcp_batch = pcp_batch(z.present_pages)
            z.pcp_low = 2 * z.pcp_batch
            z.pcp_high = 6 * z.pcp_batch
    m.min_free_kbytes = boot_min_free_kbytes(m, dma + normal)
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


def pcp_batch_6x(present_pages: int) -> int:
    """The same in 6.x: 1/4096 of the zone, at most 256 KiB, one less than a power of two."""
    batch = max(1, min(present_pages // 1024, 256) // 4)
    batch += batch // 2
    power = 1
    while power * 2 <= batch:
        power *= 2
    return max(1, power - 1)


def init_caches_6x(m: Machine) -> None:
    """The general caches of 6.x, then that of skb heads, which is the last one."""
    size = 8
    while size <= 32768:
        slub_define_cache(m, size)
        size = 96 if size == 64 else 128 if size == 96 else 192 if size == 128 else 256 if size == 192 else size * 2
    m.head_cache = slub_define_cache(m, skb_data_align(m, m.config.sk_buff_bytes))


def init_caches(m: Machine) -> None:
    """The general caches of the machine's L1 line, then the cache of skb heads, which is the last one."""
    if m.config.mm == MM_6X:
        init_caches_6x(m)
        return
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
    head = skb_data_align(m, m.config.sk_buff_bytes)
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
    """Bring an interface up before anything happens; its watchdog starts with the clock."""
    dev_open(m, d)
    dev = m.dev[d]
    dev.watchdog_ns = NEVER_NS
    dev.ring_free_min = dev.ring_size


def hold_background(m: Machine, d: int, skbs: int) -> None:
    """Sockets outside the capture have received `skbs` packets already and nobody reads them."""
    for _ in range(skbs):
        nic_hold(m, d)


def empty_caches(m: Machine) -> None:
    """Others took every free object: the next allocation of any class has to grow a slab."""
    if m.config.mm == MM_6X:
        empty_caches_6x(m)
    for cache in range(m.caches):
        c = m.cache[cache]
        c.avail = 0
        for which in range(2):
            s = c.empty_head if which else c.partial_head
            while s != NONE:
                slab = m.slab[s]
                following = slab.next
                slab.inuse = slab.objects if m.config.mm == MM_6X else c.num
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


def empty_caches_6x(m: Machine) -> None:
    """The same for SLUB: what the CPU has is taken too, and NAPI keeps no head."""
    for cache in range(m.caches):
        c = m.cache[cache]
        if c.cpu_slab != NONE:
            m.slab[c.cpu_slab].inuse = m.slab[c.cpu_slab].objects
            m.slab[c.cpu_slab].list = LIST_FULL
        s = c.cpu_partial_head
        while s != NONE:
            following = m.slab[s].next
            m.slab[s].inuse = m.slab[s].objects
            m.slab[s].list = LIST_FULL
            s = following
        c.cpu_slab = NONE
        c.cpu_partial_head = NONE
        c.cpu_partial_slabs = 0
        c.nr_partial = 0
    m.napi_skb_count = 0


def free_as_said(m: Machine) -> None:
    """Zones whose free pages the user gave: others take what is too much, one page after the other."""
    for zone in range(ZONE_HIGHMEM):
        said = m.zone_said[zone]
        z = m.zone[zone]
        if said.said and said.free_pages >= 0:
            z.other_pages += z.pcp_count
            z.pcp_count = 0
            while z.free_pages > said.free_pages and take_block(z, 0):
                z.other_pages += 1


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
    if m.config.free_blocks_given:
        lay_free_blocks(m)


def lay_free_blocks(m: Machine) -> None:
    """The free pages of ZONE_NORMAL lie as the scenario says, the largest blocks first as far as there are pages."""
    z = m.zone[ZONE_NORMAL]
    room = z.free_pages + z.other_pages
    z.other_pages = room
    z.free_pages = 0
    for order in range(MAX_ORDER - 1, -1, -1):
        blocks = min(m.config.free_blocks[order], z.other_pages >> order)
        z.nr_free[order] = blocks
        z.free_pages += blocks << order
        z.other_pages -= blocks << order


def boot(m: Machine) -> None:
    """Bring the machine to the moment when play starts; `config`, `policy`, devices and rules are filled in."""
    if m.config.closed:
        tx_boot(m)
        conns_boot(m)
    m.kmalloc_size = 0
    m.slab_free = NONE
    m.skb_free = NONE
    m.sk_free = NONE
    m.frag.slab = NONE
    m.frag_small.slab = NONE
    for reader in range(N_READERS):
        m.ready_head[reader] = NONE
        m.ready_tail[reader] = NONE
    m.reader_tick_ns = NEVER_NS
    for which in range(2):
        m.lru_head[which] = NONE
        m.lru_tail[which] = NONE
    m.memalloc_socks = m.config.memalloc_socket
    m.frag_queue_free = NONE
    for which in range(2 * FRAG_LISTS):
        m.frag_head[which] = NONE
        m.frag_tail[which] = NONE
    for family in range(2):
        m.icmp_tokens_ns[family] = XRLIM_BURST_FACTOR * XRLIM_TIMEOUT_NS
    open_taps(m)
    open_raws(m)
    init_zones(m)
    if m.config.closed:
        block_boot(m)
    init_caches(m)
    tcp_init(m)
    link_devices(m)
    m.dev[BACKLOG_DEV].weight = WEIGHT_P
    for d in range(m.devices):
        open_device(m, d)
    if m.config.crunch:
        for d in range(m.devices):
            hold_background(m, d, m.dev[d].background_skbs)
        empty_caches(m)
        pin_zones(m)
    free_as_said(m)
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
    for family in range(2):
        m.icmp_last_ns[family] = time_ns
    m.reap_ns = time_ns + REAPTIMEOUT_CPUC_NS
    m.plan_start_ns = time_ns
    if m.config.closed:
        block_start(m)
    for d in range(m.devices):
        if has_watchdog(m.dev[d].driver):
            m.dev[d].watchdog_ns = time_ns + E1000_WATCHDOG_NS

"""TCP's memory: what all its sockets hold together, in pages, and the three limits on it.

Source: Linux 2.6.12 net/core/stream.c sk_stream_mem_schedule, __sk_stream_mem_reclaim, sk_stream_rfree;
include/net/sock.h sk_stream_rmem_schedule, sk_stream_set_owner_r; net/ipv4/tcp.c tcp_init and mm/page_alloc.c
alloc_large_system_hash for the limits' defaults.  mainline: v6.19 include/net/sock.h sk_rmem_schedule lets a tagged skb
pass these limits (the receive buffer's own test stays).
Differs: only receive memory is accounted, for nothing is queued for transmission; what a socket does not use goes back
when its reader reads or its queues are pruned, not on the next timer; mainline has the limits of 2.6.12, too.
"""

from emu.kernel.machine import PAGE_SIZE, Machine

SK_STREAM_MEM_QUANTUM = PAGE_SIZE
MANY_PAGES = 128 * 1024  # from 512 MB on, hash tables get a bucket per 8 KB instead of per 32 KB
PAGES_PER_MEGABYTE = 256
BIND_BUCKETS_MAX = 64 * 1024
BIND_BUCKET_BYTES = 4  # one pointer: without SMP a spinlock is empty


def round_to_power_of_2(value: int) -> int:
    """The power of two above `value`, as 2.6.12 rounds a hash table: a power of two is doubled."""
    power = 1
    while power <= value:
        power *= 2
    return power


def tcp_bind_hash_order(memory_pages: int) -> int:
    """The page order of the bind hash table, which scales TCP's limits."""
    megabytes = (memory_pages + PAGES_PER_MEGABYTE - 1) // PAGES_PER_MEGABYTE
    shift = 1 if memory_pages >= MANY_PAGES else 3
    ehash = round_to_power_of_2(megabytes * PAGES_PER_MEGABYTE >> shift) // 2
    buckets = min(round_to_power_of_2(ehash), BIND_BUCKETS_MAX)
    order = 0
    while PAGE_SIZE << order < buckets * BIND_BUCKET_BYTES:
        order += 1
    return order


def tcp_init(m: Machine) -> None:
    """Set sysctl_tcp_mem from the machine's memory, unless the scenario has set it."""
    config = m.config
    if config.tcp_mem_high == 0:
        order = tcp_bind_hash_order(config.memory_pages)
        config.tcp_mem_low = 768 << order
        config.tcp_mem_pressure = 1024 << order
        config.tcp_mem_high = 1536 << order


def sk_stream_pages(size: int) -> int:
    """How many pages `size` bytes are."""
    return (size + SK_STREAM_MEM_QUANTUM - 1) // SK_STREAM_MEM_QUANTUM


def tcp_enter_memory_pressure(m: Machine) -> None:
    """TCP as a whole is short of memory."""
    if not m.tcp_memory_pressure:
        m.mib.TcpExtTCPMemoryPressures += 1
        m.tcp_memory_pressure = 1


def sk_stream_mem_schedule(m: Machine, i: int, size: int) -> bool:
    """Account `size` further bytes to a socket; False when TCP's limits forbid it."""
    sk = m.sk[i]
    pages = sk_stream_pages(size)
    sk.forward_alloc += pages * SK_STREAM_MEM_QUANTUM
    m.tcp_memory_allocated += pages
    allocated = m.tcp_memory_allocated
    if allocated < m.config.tcp_mem_low:
        m.tcp_memory_pressure = 0
        return True
    if allocated > m.config.tcp_mem_pressure:
        tcp_enter_memory_pressure(m)
    if allocated <= m.config.tcp_mem_high:
        mine = sk_stream_pages(sk.rmem_alloc + sk.forward_alloc)
        if sk.rmem_alloc < m.config.tcp_rmem_min or not m.tcp_memory_pressure:
            return True
        if m.config.tcp_mem_high > m.tcp_sockets_allocated * mine:
            return True
    sk.forward_alloc -= pages * SK_STREAM_MEM_QUANTUM
    m.tcp_memory_allocated -= pages
    return False


def sk_stream_rmem_schedule(m: Machine, i: int, truesize: int, pfmemalloc: int) -> bool:
    """Whether a socket may be charged `truesize` bytes; mainline does not refuse a tagged skb."""
    if truesize <= m.sk[i].forward_alloc or sk_stream_mem_schedule(m, i, truesize):
        return True
    return m.policy.tags_pages == 1 and pfmemalloc == 1


def sk_stream_set_owner_r(m: Machine, i: int, truesize: int) -> None:
    """Charge a socket with an skb."""
    sk = m.sk[i]
    sk.rmem_alloc += truesize
    sk.forward_alloc -= truesize


def sk_stream_rfree(m: Machine, i: int, truesize: int) -> None:
    """An skb of the socket is freed; its bytes stay accounted."""
    sk = m.sk[i]
    sk.rmem_alloc -= truesize
    sk.forward_alloc += truesize


def sk_stream_mem_reclaim(m: Machine, i: int) -> None:
    """Give the pages back that a socket does not use."""
    sk = m.sk[i]
    pages = sk.forward_alloc // SK_STREAM_MEM_QUANTUM
    if pages > 0:
        m.tcp_memory_allocated -= pages
        sk.forward_alloc -= pages * SK_STREAM_MEM_QUANTUM
        if m.tcp_memory_allocated < m.config.tcp_mem_low:
            m.tcp_memory_pressure = 0

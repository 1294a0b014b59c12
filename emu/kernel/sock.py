"""Sockets: the table and its lookup, receive queues charged by truesize, the filter, and who reads when.

Source: Linux 2.6.12 include/net/sock.h, net/core/sock.c; for the filter v6.19 net/core/filter.c sk_filter_trim_cap.
Differs: readers are of five kinds instead of processes (a real one reads when the event stream says so), and none of
them ever owns a socket while a packet comes, so there is no socket backlog and no prequeue; a socket that nobody closed
lives until its row is needed (closed ones and those in TIME_WAIT go first, then idle ones without memory); a socket
with an out-of-order queue holds memory, too.
"""

from typing import NamedTuple

from emu.kernel.drop_reason import AT_INET_SOCK_DESTRUCT, AT_UDP_RECVMSG, QUEUE_PURGE, UDP_CSUM
from emu.kernel.machine import (
    HASH_SIZE,
    LIMIT_SOCKETS,
    MAX_GHOSTS,
    MAX_SOCKETS,
    N_READERS,
    NEVER_NS,
    NONE,
    ZONE_DMA,
    ZONE_NORMAL,
    Machine,
    Packet,
)
from emu.kernel.policy import CHECK_TAG
from emu.kernel.skbuff import UDP4_CSUM_BAD, UDP6_CSUM_BAD, chain_truesize, kfree_skb, kfree_skb_reason
from emu.kernel.tcp_mem import sk_stream_mem_reclaim, sk_stream_rfree, sk_stream_set_owner_r
from emu.kernel.tcp_output import tcp_read_done

SS_FREE, SS_ESTABLISHED, SS_CLOSED, SS_LISTEN, SS_BOUND, SS_TIME_WAIT = range(6)

IPPROTO_ICMP = 1
IPPROTO_IGMP = 2
IPPROTO_TCP = 6
IPPROTO_UDP = 17

READER_IMMEDIATE, READER_RATE, READER_NEEDS_MEMORY, READER_NEVER, READER_REAL = range(5)
READERS = ("immediate", "rate", "needs-memory", "never", "real")
assert len(READERS) == N_READERS
READER_TICK_NS = 1_000_000

LRU_CLOSED, LRU_IDLE, LRU_HOLDING = range(3)


class Ends(NamedTuple):
    """A flow as the host sees it: `local` and `remote` are addresses as in Packet; 0 for any."""

    family: int
    protocol: int
    local_hi: int
    local: int
    local_port: int
    remote_hi: int
    remote: int
    remote_port: int


def ends_received(p: Packet) -> Ends:
    """The flow of a packet to the host."""
    return Ends(p.ip_version, p.ip_protocol, p.daddr_hi, p.daddr, p.dport, p.saddr_hi, p.saddr, p.sport)


def ends_sent(p: Packet) -> Ends:
    """The flow of a packet that the host sends."""
    return Ends(p.ip_version, p.ip_protocol, p.saddr_hi, p.saddr, p.sport, p.daddr_hi, p.daddr, p.dport)


def ends_of_port(family: int, protocol: int, port: int) -> Ends:
    """A listener, or an unconnected UDP socket."""
    return Ends(family, protocol, 0, 0, port, 0, 0, 0)


def folded(high: int, low: int) -> int:
    """An address in 32 bits."""
    mixed = high ^ low
    return (mixed ^ mixed >> 32) & 0xFFFFFFFF


def sk_bucket(ends: Ends) -> int:
    """The hash bucket of a socket's addresses; every product stays below 2^61."""
    mixed = folded(ends.remote_hi, ends.remote) * 0x1E3779B1 + folded(ends.local_hi, ends.local) * 0x05EBCA6B
    mixed += (ends.remote_port << 16 | ends.local_port) * 0x12B2AE35 + ends.protocol
    mixed ^= mixed >> 31
    mixed ^= mixed >> 15
    return mixed & (HASH_SIZE - 1)


def sk_find(m: Machine, ends: Ends) -> int:
    """The row of exactly this socket, closed or not, or -1."""
    i = m.sk_hash[sk_bucket(ends)] - 1
    while i != NONE and not sk_has(m, i, ends):
        i = m.sk[i].hash_next
    return i


def sk_has(m: Machine, i: int, ends: Ends) -> bool:
    """Whether a socket has these addresses."""
    sk = m.sk[i]
    if sk.sport == ends.local_port and sk.dport == ends.remote_port and sk.protocol == ends.protocol:
        if sk.daddr == ends.remote and sk.saddr == ends.local and sk.family == ends.family:
            return bool(sk.daddr_hi == ends.remote_hi and sk.saddr_hi == ends.local_hi)
    return False


def sk_find_again(m: Machine, ends: Ends, i: int) -> int:
    """As `sk_find`, beginning with a look at row `i` (-1 for none), where the packet's socket was when it arrived."""
    if i != NONE and m.sk[i].state != SS_FREE and m.sk[i].bucket != NONE and sk_has(m, i, ends):
        return i
    return sk_find(m, ends)


def lru_unlink(m: Machine, i: int) -> None:
    """Take a socket off the list of those that may be evicted."""
    sk = m.sk[i]
    if sk.lru_list == LRU_HOLDING:
        return
    if sk.lru_prev != NONE:
        m.sk[sk.lru_prev].lru_next = sk.lru_next
    else:
        m.lru_head[sk.lru_list] = sk.lru_next
    if sk.lru_next != NONE:
        m.sk[sk.lru_next].lru_prev = sk.lru_prev
    else:
        m.lru_tail[sk.lru_list] = sk.lru_prev
    sk.lru_list = LRU_HOLDING


def lru_place(m: Machine, i: int) -> None:
    """Put a socket where it belongs: holding memory, or at the young end of the closed or of the idle ones."""
    sk = m.sk[i]
    lru_unlink(m, i)
    if sk.queue_len > 0 or sk.ofo_len > 0 or sk.pinned or sk.leaked_refs > 0:
        return
    which = LRU_CLOSED if sk.state in (SS_CLOSED, SS_TIME_WAIT) else LRU_IDLE
    sk.lru_list = which
    sk.lru_prev = m.lru_tail[which]
    sk.lru_next = NONE
    if sk.lru_prev != NONE:
        m.sk[sk.lru_prev].lru_next = i
    else:
        m.lru_head[which] = i
    m.lru_tail[which] = i


def sk_unhash(m: Machine, i: int) -> None:
    """Take a socket out of its bucket."""
    sk = m.sk[i]
    at = m.sk_hash[sk.bucket] - 1
    if at == i:
        m.sk_hash[sk.bucket] = sk.hash_next + 1
        return
    while m.sk[at].hash_next != i:
        at = m.sk[at].hash_next
    m.sk[at].hash_next = sk.hash_next


def sk_is_tcp_sock(m: Machine, i: int) -> int:
    """1 for a TCP socket that the kernel counts (tcp_sockets_allocated): open or listening."""
    sk = m.sk[i]
    return 1 if sk.protocol == IPPROTO_TCP and sk.state in (SS_ESTABLISHED, SS_LISTEN) else 0


def sk_set_state(m: Machine, i: int, state: int) -> None:
    """Change a socket's state."""
    m.tcp_sockets_allocated -= sk_is_tcp_sock(m, i)
    m.sk[i].state = state
    m.tcp_sockets_allocated += sk_is_tcp_sock(m, i)


def sk_forget_memalloc(m: Machine, i: int) -> None:
    """The socket ends, and SOCK_MEMALLOC with it; mainline's static key stays as it was raised.

    v6.19 lowers the key (sk_clear_memalloc) only where sunrpc turns swap off, not when a socket is freed.
    """
    m.sk[i].memalloc = 0
    m.sk[i].block_io = 0


def sk_free(m: Machine, i: int) -> None:
    """Give a socket's row away; its queues are empty."""
    sk = m.sk[i]
    lru_unlink(m, i)
    if sk.bucket != NONE:
        sk_unhash(m, i)
    sk_forget_memalloc(m, i)
    sk_set_state(m, i, SS_FREE)
    sk.hash_next = m.sk_free
    m.sk_free = i
    m.sk_live -= 1


def sk_evict(m: Machine) -> bool:
    """Make room: the oldest closed socket without memory, else the longest idle one."""
    i = m.lru_head[LRU_CLOSED]
    if i == NONE:
        i = m.lru_head[LRU_IDLE]
    if i == NONE:
        m.limit_hit = LIMIT_SOCKETS
        return False
    sk_free(m, i)
    m.total.sockets_evicted += 1
    return True


def sk_clear_tcp(m: Machine, i: int) -> None:
    """Forget what TCP knew of a connection; its queues stay."""
    sk = m.sk[i]
    sk.rcv_nxt = NONE
    sk.host_ack = NONE
    sk.host_fin = 0
    sk.fin_sent = 0
    sk.fin_rcvd = 0
    sk.passive = 0
    sk.ack_owed = 0
    sk.ghosts = 0
    for ghost in range(MAX_GHOSTS):
        sk.ghost_seq[ghost] = 0
        sk.ghost_end[ghost] = 0
    sk.filled = 0
    sk.filled_seq = 0
    sk.filled_end = 0
    sk.tw_until_ns = NEVER_NS


def sk_alloc_unhashed(m: Machine, ends: Ends) -> int:
    """A new socket with these addresses that no lookup finds, or -1 when every row holds memory."""
    if m.sk_free == NONE and m.sks_made == MAX_SOCKETS and not sk_evict(m):
        return NONE
    i = m.sk_free
    if i != NONE:
        m.sk_free = m.sk[i].hash_next
    else:
        i = m.sks_made
        m.sks_made += 1
    sk = m.sk[i]
    sk.family = ends.family
    sk.protocol = ends.protocol
    sk.saddr = ends.local
    sk.saddr_hi = ends.local_hi
    sk.sport = ends.local_port
    sk.daddr = ends.remote
    sk.daddr_hi = ends.remote_hi
    sk.dport = ends.remote_port
    sk.memalloc = 0
    sk.block_io = 0
    sk.leaked_refs = 0
    sk.rmem_alloc = 0
    sk.queue_head = NONE
    sk.queue_tail = NONE
    sk.queue_len = 0
    sk.forward_alloc = 0
    sk.rcvbuf_locked = 0
    sk.ofo_head = NONE
    sk.ofo_tail = NONE
    sk.ofo_len = 0
    sk_clear_tcp(m, i)
    sk.owed_ns = 0
    sk.on_ready = 0
    sk.lru_list = LRU_HOLDING
    sk.pinned = 0
    sk.conn = NONE
    sk.mcast_next = NONE
    sk.bucket = NONE
    sk.hash_next = NONE
    m.sk_live += 1
    m.total.sockets_made += 1
    return i


def sk_alloc(m: Machine, ends: Ends) -> int:
    """A new socket with these addresses, hashed and idle, or -1 when every row holds memory."""
    i = sk_alloc_unhashed(m, ends)
    if i != NONE:
        sk = m.sk[i]
        sk.bucket = sk_bucket(ends)
        sk.hash_next = m.sk_hash[sk.bucket] - 1
        m.sk_hash[sk.bucket] = i + 1
    return i


def ready_add(m: Machine, i: int) -> None:
    """Note that a socket has something to read and a reader that will come for it."""
    sk = m.sk[i]
    if sk.on_ready or sk.reader == READER_NEVER:
        return
    sk.on_ready = sk.reader + 1
    sk.ready_next = NONE
    sk.ready_prev = m.ready_tail[sk.reader]
    if sk.ready_prev == NONE:
        m.ready_head[sk.reader] = i
    else:
        m.sk[sk.ready_prev].ready_next = i
    m.ready_tail[sk.reader] = i
    if sk.reader == READER_RATE and m.reader_tick_ns == NEVER_NS:
        m.reader_tick_ns = m.now_ns + READER_TICK_NS


def ready_del(m: Machine, i: int) -> None:
    """The socket's queue is empty: nothing to come for."""
    sk = m.sk[i]
    if not sk.on_ready:
        return
    reader = sk.on_ready - 1
    sk.on_ready = 0
    if sk.ready_prev == NONE:
        m.ready_head[reader] = sk.ready_next
    else:
        m.sk[sk.ready_prev].ready_next = sk.ready_next
    if sk.ready_next == NONE:
        m.ready_tail[reader] = sk.ready_prev
    else:
        m.sk[sk.ready_next].ready_prev = sk.ready_prev


def skb_read(m: Machine, b: int) -> None:
    """A reader takes a buffer and frees it; a datagram's checksum is verified only now (2.6.12 udp_recvmsg)."""
    skb = m.skb[b]
    if skb.csum_bad == 0:
        kfree_skb(m, b)
        return
    if skb.csum_bad == UDP4_CSUM_BAD:
        m.mib.UdpInErrors += 1
    elif skb.csum_bad == UDP6_CSUM_BAD:
        m.mib.Udp6InErrors += 1
    kfree_skb_reason(m, b, UDP_CSUM, AT_UDP_RECVMSG)


def sk_charge(m: Machine, i: int, truesize: int) -> None:
    """Charge a socket with an skb (skb_set_owner_r)."""
    if m.sk[i].protocol == IPPROTO_TCP:
        sk_stream_set_owner_r(m, i, truesize)
    else:
        m.sk[i].rmem_alloc += truesize


def sk_uncharge(m: Machine, i: int, truesize: int) -> None:
    """An skb of the socket is freed (sock_rfree)."""
    if m.sk[i].protocol == IPPROTO_TCP:
        sk_stream_rfree(m, i, truesize)
    else:
        m.sk[i].rmem_alloc -= truesize


def sk_unlink_first(m: Machine, i: int) -> int:
    """Take the first skb off a socket's receive queue and its charge off the socket."""
    sk = m.sk[i]
    b = sk.queue_head
    sk.queue_head = m.skb[b].next
    if sk.queue_head == NONE:
        sk.queue_tail = NONE
    sk.queue_len -= 1
    sk_uncharge(m, i, m.skb[b].truesize)
    return b


def sk_queue_tail(m: Machine, i: int, b: int) -> None:
    """Put an skb that is charged already at the end of a socket's receive queue, for its reader."""
    sk = m.sk[i]
    skb = m.skb[b]
    skb.next = NONE
    skb.sk = i
    if sk.queue_tail == NONE:
        sk.queue_head = b
    else:
        m.skb[sk.queue_tail].next = b
    sk.queue_tail = b
    sk.queue_len += 1
    lru_unlink(m, i)
    ready_add(m, i)


def sk_dequeue(m: Machine, i: int, packets: int) -> int:
    """Read up to `packets` buffers off a socket's queue and free them; how many there were."""
    sk = m.sk[i]
    taken = 0
    while taken < packets and sk.queue_head != NONE:
        skb_read(m, sk_unlink_first(m, i))
        taken += 1
    if sk.queue_head == NONE:
        ready_del(m, i)
    if taken > 0:
        sk_stream_mem_reclaim(m, i)
        m.quiet_rounds = 0
        lru_place(m, i)
        if sk.conn != NONE:
            tcp_read_done(m, i)
    return taken


def sk_purge_queue(m: Machine, i: int) -> None:
    """Throw a socket's receive queue away unread."""
    m.quiet_rounds = 0
    while m.sk[i].queue_head != NONE:
        kfree_skb_reason(m, sk_unlink_first(m, i), QUEUE_PURGE, AT_INET_SOCK_DESTRUCT)
    ready_del(m, i)
    sk_stream_mem_reclaim(m, i)


def sk_purge_ofo(m: Machine, i: int, reason: int, point: int) -> None:
    """Throw a TCP socket's out-of-order queue away."""
    sk = m.sk[i]
    m.quiet_rounds = 0
    while sk.ofo_head != NONE:
        b = sk.ofo_head
        sk.ofo_head = m.skb[b].next
        sk_uncharge(m, i, m.skb[b].truesize)
        kfree_skb_reason(m, b, reason, point)
    sk.ofo_tail = NONE
    sk.ofo_len = 0
    sk_stream_mem_reclaim(m, i)


def sk_done(m: Machine, i: int, state: int) -> None:
    """The connection is over (tcp_done); what lies unread in its receive queue stays until it is read."""
    sk_forget_memalloc(m, i)
    sk_set_state(m, i, state)
    lru_place(m, i)


def sk_close(m: Machine, i: int) -> None:
    """The host has no such socket any more, nor those that joined on its port: what they held is freed."""
    while i != NONE:
        sk_purge_queue(m, i)
        sk_purge_ofo(m, i, QUEUE_PURGE, AT_INET_SOCK_DESTRUCT)
        sk_done(m, i, SS_CLOSED)
        i = m.sk[i].mcast_next


def sk_leak_ref(m: Machine, i: int) -> None:
    """A reference to the socket is lost: nobody can ever free it."""
    m.sk[i].leaked_refs += 1
    lru_unlink(m, i)


def sk_has_room(m: Machine, i: int, b: int, segments: int) -> bool:
    """Whether a packet fits into a receive buffer (sock_queue_rcv_skb): a whole datagram, or a frame's first skb."""
    truesize = chain_truesize(m, b) if segments == 1 else m.skb[b].truesize
    return m.sk[i].rmem_alloc + truesize < m.sk[i].rcvbuf


def sk_accept(m: Machine, i: int, b: int, p: Packet) -> None:
    """A socket takes a packet's skbs: its reader gets them at once, or they are queued and charged."""
    sk = m.sk[i]
    if sk.reader == READER_IMMEDIATE:
        while b != NONE:
            following = m.skb[b].next
            skb_read(m, b)
            b = following
        lru_place(m, i)
        return
    while b != NONE:
        following = m.skb[b].next
        sk_charge(m, i, m.skb[b].truesize)
        sk_queue_tail(m, i, b)
        b = following
    m.last_held_frame = p.frame
    m.last_held_id = p.packet_id


def sk_filter_refuses(m: Machine, i: int, b: int) -> bool:
    """Whether a tagged packet meets a socket that is not SOCK_MEMALLOC (sk_filter_trim_cap: -ENOMEM)."""
    if m.policy.check_sk_filter == CHECK_TAG and m.skb[b].pfmemalloc and not m.sk[i].memalloc:
        m.mib.TcpExtPFMemallocDrop += 1
        return True
    return False


def gfp_kernel_would_wait(m: Machine) -> bool:
    """Whether a task that asks for a page with GFP_KERNEL has to wait: the machine is in a crunch.

    Clean pages count as free: direct reclaim would get them.  Only a closed loop has any.
    """
    for zone in range(ZONE_NORMAL, ZONE_DMA - 1, -1):
        z = m.zone[zone]
        if z.free_pages + z.clean_pages > z.pages_min + z.lowmem_reserve[ZONE_NORMAL]:
            return False
    return True


def somebody_reads(m: Machine) -> bool:
    """Whether a socket holds what its reader has not come for."""
    for reader in range(N_READERS):  # noqa: SIM110 - numba has no generators
        if m.ready_head[reader] != NONE:
            return True
    return False


def readers_run(m: Machine) -> None:
    """Readers that need memory read all that is there, if there is memory."""
    i = m.ready_head[READER_NEEDS_MEMORY]
    if i == NONE or gfp_kernel_would_wait(m):
        return
    while i != NONE:
        following = m.sk[i].ready_next
        sk_dequeue(m, i, m.sk[i].queue_len)
        i = following


def reader_tick(m: Machine) -> None:
    """Every millisecond, readers with a rate take what their rate allows."""
    i = m.ready_head[READER_RATE]
    waiting = False
    while i != NONE:
        sk = m.sk[i]
        following = sk.ready_next
        sk.owed_ns += READER_TICK_NS * sk.read_rate
        packets = sk.owed_ns // 1_000_000_000
        sk.owed_ns -= packets * 1_000_000_000
        sk_dequeue(m, i, packets)
        if sk.queue_len > 0:
            waiting = True
        else:
            sk.owed_ns = 0
        i = following
    m.reader_tick_ns = m.now_ns + READER_TICK_NS if waiting else NEVER_NS

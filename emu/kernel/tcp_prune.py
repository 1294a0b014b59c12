"""A TCP socket over its limit: its queues are copied together, then the out-of-order queue is thrown away.

Source: Linux 2.6.12 net/ipv4/tcp_input.c tcp_prune_queue, tcp_clamp_window, tcp_collapse, tcp_collapse_ofo_queue;
include/net/tcp.h tcp_win_from_space; include/linux/skbuff.h SKB_MAX_ORDER, whose rounding makes the copy's data area a
two-page object where the L1 line is 64 bytes or longer.
Differs: windows are not obeyed, so clamping them does nothing; the headroom of a copy is that of Ethernet, IPv4 and a
bare TCP header; the receive queue is collapsed run by run, for ours can have holes; a copy keeps the frame number of
the first packet in it; mainline, which prunes the out-of-order queue piece by piece, follows 2.6.12 here.
"""

from typing import NamedTuple

from emu.kernel.drop_reason import AT_TCP_PRUNE_QUEUE, TCP_OFO_QUEUE_PRUNE
from emu.kernel.iscsi_write_back import follow_lost
from emu.kernel.machine import NONE, PAGE_SIZE, Machine
from emu.kernel.page_alloc import GFP_ATOMIC
from emu.kernel.skbuff import SKB_SHARED_INFO_BYTES, alloc_skb, kfree_skb
from emu.kernel.sock import Ends, sk_charge, sk_purge_ofo, sk_uncharge
from emu.kernel.tcp_mem import sk_stream_mem_reclaim, sk_stream_rmem_schedule
from emu.kernel.tcp_seq import after, has_fin, seq_add

TCP_ADV_WIN_SCALE = 2  # sysctl_tcp_adv_win_scale
HEADROOM_BYTES = 16 + 2 + 14 + 20 + 20


class Chain(NamedTuple):
    """A queue of skbs by both ends; -1 and -1 when it is empty."""

    head: int
    tail: int
    skbs: int


def chain_add(m: Machine, chain: Chain, b: int) -> Chain:
    """The chain with one more skb at its end."""
    m.skb[b].next = NONE
    if chain.tail == NONE:
        return Chain(b, b, 1)
    m.skb[chain.tail].next = b
    return Chain(chain.head, b, chain.skbs + 1)


def tcp_win_from_space(truesize: int) -> int:
    """How much payload an skb of this size should hold at least."""
    return truesize - (truesize >> TCP_ADV_WIN_SCALE)


def run_end(m: Machine, b: int) -> int:
    """The first skb behind `b` that does not go on where the one before it ends; a FIN stands alone."""
    while not has_fin(m, b):
        following = m.skb[b].next
        if following == NONE or has_fin(m, following):
            return following
        if after(m.skb[following].seq, m.skb[b].end_seq) or not after(m.skb[following].end_seq, m.skb[b].end_seq):
            return following
        b = following
    return m.skb[b].next


def is_worth_collapsing(m: Machine, b: int, stop: int, start: int) -> bool:
    """Whether copying pays from here on: the skb is bloated, or it overlaps a neighbour."""
    skb = m.skb[b]
    if has_fin(m, b):
        return False
    if tcp_win_from_space(skb.truesize) > skb.length or skb.seq != start:
        return True
    return skb.next != stop and skb.end_seq != m.skb[skb.next].seq


def tcp_copy_run(m: Machine, i: int, b: int, stop: int, start: int, room: int) -> int:
    """Copy the run from `start` on into one skb of `room` bytes and free what it empties; the copy, or -1."""
    new = alloc_skb(m, room + HEADROOM_BYTES, GFP_ATOMIC, m.policy.atomic_first_nomemalloc)
    if new == NONE:
        return NONE
    skb = m.skb[new]
    skb.dev = m.skb[b].dev
    skb.frame = m.skb[b].frame
    skb.packet_id = m.skb[b].packet_id
    skb.sk = i
    skb.seq = start
    skb.length = 0
    while b != stop and skb.length < room:
        part = min(room - skb.length, (m.skb[b].end_seq - start) & 0xFFFFFFFF)
        skb.length += part
        start = seq_add(start, part)
        if start != m.skb[b].end_seq:
            break
        following = m.skb[b].next
        sk_uncharge(m, i, m.skb[b].truesize)
        kfree_skb(m, b)
        m.mib.TcpExtTCPRcvCollapsed += 1
        b = following
    skb.end_seq = start
    skb.next = b  # where the next copy begins
    sk_charge(m, i, skb.truesize)
    return new


def tcp_collapse(m: Machine, i: int, chain: Chain, b: int, stop: int) -> Chain:
    """Add the run from `b` up to `stop` to a chain, copied together from the first skb where that pays."""
    start = m.skb[b].seq
    while b != stop and not is_worth_collapsing(m, b, stop, start):
        following = m.skb[b].next
        start = m.skb[b].end_seq
        chain = chain_add(m, chain, b)
        b = following
    line = m.config.l1_bytes
    most = (PAGE_SIZE - HEADROOM_BYTES - SKB_SHARED_INFO_BYTES) // line * line
    if b != stop:
        start = m.skb[b].seq if after(m.skb[b].seq, start) else start
    while b != stop:
        room = min(most, run_bytes(m, b, stop, start))
        new = tcp_copy_run(m, i, b, stop, start, room)
        if new == NONE:
            break
        start = m.skb[new].end_seq
        b = m.skb[new].next
        chain = chain_add(m, chain, new)
    while b != stop:
        following = m.skb[b].next
        chain = chain_add(m, chain, b)
        b = following
    return chain


def run_bytes(m: Machine, b: int, stop: int, start: int) -> int:
    """How much of a run lies behind `start`."""
    while m.skb[b].next != stop:
        b = m.skb[b].next
    return (m.skb[b].end_seq - start) & 0xFFFFFFFF


def tcp_collapse_queue(m: Machine, i: int, b: int) -> Chain:
    """A queue with every run in it collapsed."""
    chain = Chain(NONE, NONE, 0)
    while b != NONE:
        stop = run_end(m, b)
        chain = tcp_collapse(m, i, chain, b, stop)
        b = stop
    return chain


def tcp_clamp_window(m: Machine, i: int) -> None:
    """Out-of-order data stretches the receive buffer up to sysctl_tcp_rmem[2], unless TCP is short or it is locked."""
    sk = m.sk[i]
    if sk.ofo_len == 0 or sk.rcvbuf >= m.config.tcp_rmem_max or sk.rcvbuf_locked:
        return
    if not m.tcp_memory_pressure and m.tcp_memory_allocated < m.config.tcp_mem_low:
        sk.rcvbuf = min(sk.rmem_alloc, m.config.tcp_rmem_max)


def tell_of_ofo(m: Machine, i: int) -> None:
    """What the out-of-order queue holds is lost, to whoever follows this connection's stream."""
    sk = m.sk[i]
    ends = Ends(sk.family, sk.protocol, sk.saddr_hi, sk.saddr, sk.sport, sk.daddr_hi, sk.daddr, sk.dport)
    b = sk.ofo_head
    while b != NONE:
        follow_lost(m, ends, m.skb[b].seq, m.skb[b].end_seq)
        b = m.skb[b].next


def tcp_prune_queue(m: Machine, i: int) -> bool:
    """Make room in a socket; whether it is within its receive buffer now."""
    sk = m.sk[i]
    m.mib.TcpExtPruneCalled += 1
    if sk.rmem_alloc >= sk.rcvbuf:
        tcp_clamp_window(m, i)
    ofo = tcp_collapse_queue(m, i, sk.ofo_head)
    sk.ofo_head = ofo.head
    sk.ofo_tail = ofo.tail
    sk.ofo_len = ofo.skbs
    received = tcp_collapse_queue(m, i, sk.queue_head)
    sk.queue_head = received.head
    sk.queue_tail = received.tail
    sk.queue_len = received.skbs
    sk_stream_mem_reclaim(m, i)
    if sk.rmem_alloc <= sk.rcvbuf:
        return True
    if sk.ofo_len > 0:
        m.mib.TcpExtOfoPruned += sk.ofo_len
        if m.follow.live:
            tell_of_ofo(m, i)
        sk_purge_ofo(m, i, TCP_OFO_QUEUE_PRUNE, AT_TCP_PRUNE_QUEUE)
    if sk.rmem_alloc <= sk.rcvbuf:
        return True
    m.mib.TcpExtRcvPruned += 1
    return False


def tcp_rmem_schedule(m: Machine, i: int, truesize: int, pfmemalloc: int) -> bool:
    """Whether a socket may take an skb of this size, pruned if need be (tcp_try_rmem_schedule)."""
    sk = m.sk[i]
    if sk.rmem_alloc <= sk.rcvbuf and sk_stream_rmem_schedule(m, i, truesize, pfmemalloc):
        return True
    return tcp_prune_queue(m, i) and sk_stream_rmem_schedule(m, i, truesize, pfmemalloc)

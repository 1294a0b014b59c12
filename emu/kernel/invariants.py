"""What must hold at every moment; a broken one is a bug of ours and stops the run with the frame's number."""

from typing import NamedTuple

from emu.kernel.closed_loop import CONN_CLOSED, MAX_AGES, MAX_TASKS, TASK_FREE, TASK_QUEUED, TcpConn
from emu.kernel.drop_reason import MAX_REASONS
from emu.kernel.e1000_ps import count_pages
from emu.kernel.ip_fragment import FAMILIES, FRAG_LRU, descriptor_bytes, frag_oldest
from emu.kernel.iscsi_write_back import is_balanced
from emu.kernel.machine import (
    MAX_BACKLOG,
    MAX_ORDER,
    NONE,
    PAGE_SIZE,
    ZONE_DMA,
    ZONE_NORMAL,
    Machine,
    Sock,
    Zone,
)
from emu.kernel.retransmit import again_balanced
from emu.kernel.slab import SLAB_PAGE, SLAB_UNUSED
from emu.kernel.sock import IPPROTO_TCP, SS_FREE, sk_is_tcp_sock
from emu.kernel.tcp_seq import after, before

(
    HOLDS,
    FRAMES_LOST,
    RECEIVED_LOST,
    DROPS_UNEXPLAINED,
    CLASSES_UNBALANCED,
    PAGES_LOST,
    FREE_LISTS_WRONG,
    SLAB_PAGES_WRONG,
    RESERVE_OUT_OF_BOUNDS,
    RING_WRONG,
    SKBS_LOST,
    RMEM_WRONG,
    FRAGMENTS_WRONG,
    CLONES_WRONG,
    BACKLOG_WRONG,
    SPLIT_PAGES_LOST,
    OFO_QUEUE_WRONG,
    TCP_MEMORY_WRONG,
    CACHE_PAGES_WRONG,
    WRITEBACK_PAGES_WRONG,
    TX_QUEUE_WRONG,
    WRITE_QUEUE_WRONG,
    FOLLOWED_PAGES_WRONG,
    AGAIN_LOST,
) = range(24)
SENTENCES = (
    "holds",
    "frames = filtered + received + not received + not played",
    "received = delivered + dropped + oops + in a ring or in the backlog",
    "dropped = the sum of drops by reason",
    "the sums of memalloc and other packets make the whole",
    "present pages = free + per-CPU + slab + writers' + page cache + others'",
    "a zone's free pages are the blocks on its free lists",
    "slab pages are the pages of the slabs",
    "0 <= rx_reserve_used <= rx_reserve",
    "the ring's counts are those of its slots",
    "skbs = in rings, in the backlog, in queues of sockets, fragments and frames to be sent, in the background, leaked",
    "a socket's rmem_alloc is the truesize of its queues",
    "fragment memory is the truesize of all fragments and their descriptors; fragments do not overlap",
    "skbs that share data are one ring over one data area",
    "the backlog's length is that of its packets",
    "every data page of a packet-split ring is in a ring or attached to an skb",
    "a socket's out-of-order queue is sorted and ahead of rcv_nxt",
    "tcp_memory_allocated is what all TCP sockets hold or may still charge, and all of them are counted",
    "dirty, write-back and clean pages are those of all zones, and dirty ones those of all ages",
    "pages under write-back are those of commands that wait or are under way",
    "a device's queue of frames is as long as it says",
    "a connection's write queue goes from snd_una to write_seq, and its truesize is wmem_queued",
    "the pages under write-back are those of the followed writes",
    "segments that came again = delivered + dropped + in a ring or in the backlog",
)


def packets_waiting(m: Machine) -> int:
    """Frames that wait in rings and in the backlog: an aggregated one counts once, a segment that comes again not."""
    waiting = 0
    for at in range(m.backlog_packets):
        waiting += m.backlog_seq[(m.backlog_head + at) % MAX_BACKLOG] >= 0
    for d in range(m.devices):
        dev = m.dev[d]
        last = NONE
        for k in range(dev.ring_done):
            seq = dev.ring_seq[(dev.next_to_clean + k) % dev.ring_slots]
            if seq != last and seq >= 0:
                waiting += 1
            last = seq
    return waiting


def cached_pages(z: Zone) -> int:
    """The page cache of a zone."""
    return z.dirty_pages + z.writeback_pages + z.clean_pages


def page_cache_wrong(m: Machine) -> bool:
    """Whether the page cache is not the sum of its parts, by zone or by age."""
    v = m.vm
    dirty = 0
    writeback = 0
    clean = 0
    for zone in range(m.zones):
        z = m.zone[zone]
        if z.dirty_pages < 0 or z.writeback_pages < 0 or z.clean_pages < 0:
            return True
        dirty += z.dirty_pages
        writeback += z.writeback_pages
        clean += z.clean_pages
    aged = 0
    for second in range(MAX_AGES):
        if not 0 <= v.age_dma[second] <= v.age[second]:
            return True
        aged += v.age[second]
    return dirty != v.dirty_pages or aged != dirty or writeback != v.writeback_pages or clean != v.clean_pages


def writeback_wrong(m: Machine) -> bool:
    """Whether the pages under write-back are not those of the sessions' tasks, or tasks are miscounted."""
    normal = 0
    dma = 0
    for s in range(m.sessions):
        session = m.session[s]
        tasks = 0
        under_way = 0
        for i in range(MAX_TASKS):
            task = session.task[i]
            if task.state != TASK_FREE:
                tasks += 1
                under_way += task.state != TASK_QUEUED
                normal += task.normal_pages
                dma += task.dma_pages
        if tasks != session.tasks or under_way != session.under_way:
            return True
    return normal != m.zone[ZONE_NORMAL].writeback_pages or dma != m.zone[ZONE_DMA].writeback_pages


def check_conservation(m: Machine) -> int:
    """The sums over frames and the pages of each zone; cheap enough for every batch."""
    t = m.total
    if t.frames != t.filtered + t.received + t.not_received + t.not_played:
        return FRAMES_LOST
    waiting = 0 if m.oops else packets_waiting(m)
    if t.received != t.delivered + t.dropped + t.oops + waiting:
        return RECEIVED_LOST
    by_reason = 0
    for reason in range(MAX_REASONS):
        by_reason += t.drops_by_reason[reason]
    if by_reason != t.dropped:
        return DROPS_UNEXPLAINED
    if t.memalloc.delivered + t.other.delivered != t.delivered or t.memalloc.dropped + t.other.dropped != t.dropped:
        return CLASSES_UNBALANCED
    for zone in range(m.zones):
        z = m.zone[zone]
        others = z.writer_pages + z.other_pages + cached_pages(z)
        if z.present_pages != z.free_pages + z.pcp_count + z.slab_pages + others:
            return PAGES_LOST
        free = 0
        for order in range(MAX_ORDER):
            if z.nr_free[order] < 0:
                return FREE_LISTS_WRONG
            free += z.nr_free[order] << order
        if free != z.free_pages:
            return FREE_LISTS_WRONG
    if m.config.closed and page_cache_wrong(m):
        return CACHE_PAGES_WRONG
    for d in range(m.devices):
        dev = m.dev[d]
        if dev.rx_reserve_used < 0 or (m.policy.caps_reserve and dev.rx_reserve_used > dev.rx_reserve):
            return RESERVE_OUT_OF_BOUNDS
    return HOLDS


def fragments_queued(m: Machine) -> int:
    """How many skbs fragment queues hold, or -1 when their books are wrong."""
    skbs = 0
    for family in range(FAMILIES):
        memory = 0
        q = frag_oldest(m, FRAG_LRU, family)
        while q != NONE:
            memory += descriptor_bytes(family)
            meat = 0
            end = 0
            b = m.frag_queue[q].fragments
            while b != NONE:
                skb = m.skb[b]
                if skb.frag_offset < end or skb.frag_length <= 0:
                    return NONE
                end = skb.frag_offset + skb.frag_length
                meat += skb.frag_length
                memory += skb.truesize
                skbs += 1
                b = skb.next
            if meat != m.frag_queue[q].meat or end > m.frag_queue[q].length:
                return NONE
            q = m.frag_queue[q].list_next[FRAG_LRU]
        if memory != m.frag_mem[family]:
            return NONE
    return skbs


def clones_agree(m: Machine, b: int) -> bool:
    """Whether the ring of an skb's clones closes, over one data area."""
    c = m.skb[b].clone_next
    for _ in range(m.skbs_used):
        if m.skb[c].data_slab != m.skb[b].data_slab:
            return False
        if c == b:
            return True
        c = m.skb[c].clone_next
    return False


def split_pages_lost(m: Machine) -> bool:
    """Whether a data page of a packet-split ring is neither in a ring nor attached to an skb."""
    pages = 0
    for s in range(m.slabs_made):
        pages += m.slab[s].cache == SLAB_PAGE
    for d in range(m.devices):
        for slot in range(m.dev[d].ring_size):
            pages -= count_pages(m, m.dev[d].ring_pages[slot])
    for b in range(m.skbs_made):
        pages -= count_pages(m, m.skb[b].frags)
    return pages != 0


def skbs_in_backlog(m: Machine) -> int:
    """The skbs of the packets that wait for the softirq, counted one by one."""
    skbs = 0
    for k in range(m.backlog_packets):
        b = m.backlog_skb[(m.backlog_head + k) % MAX_BACKLOG]
        while b != NONE:
            skbs += 1
            b = m.skb[b].next
    return skbs


class QueueSum(NamedTuple):
    """What a queue of skbs holds."""

    skbs: int
    truesize: int  # bytes


def queue_sum(m: Machine, b: int) -> QueueSum:
    """Count a queue from its head; -1 skbs when one of them is not one ring with its clones."""
    skbs = 0
    truesize = 0
    while b != NONE:
        skbs += 1
        truesize += m.skb[b].truesize
        if not clones_agree(m, b):
            return QueueSum(NONE, truesize)
        b = m.skb[b].next
    return QueueSum(skbs, truesize)


def ofo_in_order(m: Machine, sk: Sock) -> bool:
    """Whether each skb of the out-of-order queue begins and ends behind the one before it; so do the ghosts."""
    b = sk.ofo_head
    last = NONE
    while b != NONE:
        if not after(m.skb[b].seq, sk.rcv_nxt):
            return False
        if last != NONE and not (after(m.skb[b].seq, m.skb[last].seq) and after(m.skb[b].end_seq, m.skb[last].end_seq)):
            return False
        last = b
        b = m.skb[b].next
    if last != sk.ofo_tail:
        return False
    for ghost in range(sk.ghosts):
        if not before(sk.ghost_seq[ghost], sk.ghost_end[ghost]) or not after(sk.ghost_seq[ghost], sk.rcv_nxt):
            return False
        if ghost > 0 and not before(sk.ghost_end[ghost - 1], sk.ghost_seq[ghost]):
            return False
    return True


def slab_pages_wrong(m: Machine) -> bool:
    """Whether a zone's slab pages are not those of its slabs."""
    for zone in range(m.zones):
        pages = 0
        for s in range(m.slabs_made):
            slab = m.slab[s]
            if slab.cache != SLAB_UNUSED and slab.zone == zone:
                pages += 1 << slab.order
        if pages != m.zone[zone].slab_pages:
            return True
    return False


def check_structures(m: Machine) -> int:
    """Every slab, ring slot and queue, counted again; for the end of a run and for tests."""
    if slab_pages_wrong(m):
        return SLAB_PAGES_WRONG
    if m.config.closed == 0 and not is_balanced(m):
        return FOLLOWED_PAGES_WRONG
    if not again_balanced(m):
        return AGAIN_LOST
    if m.config.closed and writeback_wrong(m):
        return WRITEBACK_PAGES_WRONG
    skbs = m.background_held + m.leaked_skbs
    for d in range(m.devices):
        dev = m.dev[d]
        filled = 0
        done = 0
        for slot in range(dev.ring_size):
            filled += dev.ring_skb[slot] != NONE
            done += dev.ring_seq[slot] != NONE
        if filled != dev.ring_filled or done != dev.ring_done:
            return RING_WRONG
        skbs += filled
    if skbs_in_backlog(m) != m.backlog_len:
        return BACKLOG_WRONG
    skbs += m.backlog_len
    if split_pages_lost(m):
        return SPLIT_PAGES_LOST
    fragments = fragments_queued(m)
    if fragments == NONE:
        return FRAGMENTS_WRONG
    held = queued_skbs(m)
    if held < 0:
        return -held
    if m.config.closed:
        sending = skbs_to_send(m)
        if sending < 0:
            return -sending
        skbs += sending
    return HOLDS if skbs + fragments + held == m.skbs_used else SKBS_LOST


def skbs_in_tx(m: Machine) -> int:
    """How many frames wait for the NICs, or -1 when a queue is not what its device says."""
    skbs = 0
    for d in range(m.devices):
        dev = m.dev[d]
        row = dev.tx_head
        last = NONE
        frames = 0
        while row != NONE and frames <= dev.tx_len:
            frames += 1
            last = row
            row = m.tx[row].next
        if frames != dev.tx_len or last != dev.tx_tail or (dev.tx_sending and frames == 0):
            return NONE
        skbs += frames
    return skbs


def write_queue_skbs(m: Machine, conn: TcpConn) -> int:
    """How many skbs a write queue holds, or -1 when it is not from snd_una to write_seq, with what it is charged."""
    b = conn.queue_head
    seq = conn.snd_una
    skbs = 0
    truesize = 0
    sent = 1
    while b != NONE:
        skb = m.skb[b]
        if b == conn.send_head:
            sent = 0
            if skb.seq != conn.snd_nxt:
                return NONE
        if skb.seq != seq or (sent and after(skb.end_seq, conn.snd_nxt)) or not clones_agree(m, b):
            return NONE
        skbs += 1
        truesize += skb.truesize
        seq = skb.end_seq
        b = skb.next
    if seq != conn.write_seq or truesize != conn.wmem_queued:
        return NONE
    return skbs


def skbs_to_send(m: Machine) -> int:
    """How many skbs write queues and NICs' queues hold; minus the number of what does not hold there."""
    skbs = skbs_in_tx(m)
    if skbs < 0:
        return -TX_QUEUE_WRONG
    for c in range(m.conns):
        if m.conn[c].state != CONN_CLOSED:
            queued = write_queue_skbs(m, m.conn[c])
            if queued < 0:
                return -WRITE_QUEUE_WRONG
            skbs += queued
    return skbs


def queued_skbs(m: Machine) -> int:
    """How many skbs all sockets' queues hold; minus the number of what does not hold there."""
    skbs = 0
    tcp_bytes = 0
    tcp_sockets = 0
    for i in range(m.sks_made):
        sk = m.sk[i]
        if sk.state == SS_FREE:
            continue
        received = queue_sum(m, sk.queue_head)
        ahead = queue_sum(m, sk.ofo_head)
        if received.skbs < 0 or ahead.skbs < 0:
            return -CLONES_WRONG
        if received.truesize + ahead.truesize != sk.rmem_alloc:
            return -RMEM_WRONG
        if received.skbs != sk.queue_len or ahead.skbs != sk.ofo_len:
            return -RMEM_WRONG
        if not ofo_in_order(m, sk):
            return -OFO_QUEUE_WRONG
        if sk.protocol == IPPROTO_TCP:
            tcp_bytes += sk.rmem_alloc + sk.forward_alloc
            tcp_sockets += sk_is_tcp_sock(m, i)
        skbs += received.skbs + ahead.skbs
    if tcp_bytes != m.tcp_memory_allocated * PAGE_SIZE or tcp_sockets != m.tcp_sockets_allocated:
        return -TCP_MEMORY_WRONG
    return skbs

"""TCP's sequence space of one connection: what is next, what waits out of order, and which holes are ours.

Source: Linux 2.6.12 net/ipv4/tcp_input.c tcp_ofo_queue and the out-of-order part of
tcp_data_queue; v6.19 for the words TCP_OFOMERGE and TCP_OFO_DROP.
Differs: open loop.  A connection learns rcv_nxt from the first segment that is seen of it.  A hole that a drop of ours
makes counts as received without memory (a "ghost"); the span of what was filled so is remembered, as one range, and a
captured retransmission of it is a fresh arrival.  A hole that the capture itself has counts as received when the host
had acknowledged it before the packet came.  A segment more than 1 GiB away sets rcv_nxt anew.  None of this holds for
a connection of a closed loop (`tcp_rcv`).
"""

from emu.kernel.drop_reason import AT_TCP_DATA_QUEUE, AT_TCP_OFO_QUEUE, TCP_OFO_DROP, TCP_OFOMERGE
from emu.kernel.machine import MAX_GHOSTS, NONE, Machine, Packet
from emu.kernel.seq import SEQ_MASK as SEQ_MASK
from emu.kernel.seq import TCP_ACK as TCP_ACK
from emu.kernel.seq import TCP_FIN as TCP_FIN
from emu.kernel.seq import TCP_RST as TCP_RST
from emu.kernel.seq import TCP_SYN as TCP_SYN
from emu.kernel.seq import after as after
from emu.kernel.seq import before as before
from emu.kernel.seq import seq_add as seq_add
from emu.kernel.skbuff import kfree_skb, kfree_skb_reason
from emu.kernel.sock import (
    READER_IMMEDIATE,
    SS_ESTABLISHED,
    ends_received,
    lru_place,
    lru_unlink,
    sk_charge,
    sk_find,
    sk_queue_tail,
    sk_uncharge,
)
from emu.kernel.tcp_mem import sk_stream_mem_reclaim

FAR_BYTES = 1 << 30
FILLED_SPAN_BYTES = 1 << 20  # a drop further away than this from the last ones starts a span of its own


def seq_length(p: Packet) -> int:
    """How much sequence space a segment takes: SYN and FIN count one."""
    length = p.payload_length
    if p.tcp_flags & TCP_SYN:
        length += 1
    if p.tcp_flags & TCP_FIN:
        length += 1
    return length


def is_far(seq: int, other: int) -> bool:
    """Whether two numbers are more than 1 GiB apart, one way or the other."""
    ahead = (seq - other) & SEQ_MASK
    return FAR_BYTES < ahead < (1 << 32) - FAR_BYTES


def has_fin(m: Machine, b: int) -> bool:
    """Whether an skb carries a FIN."""
    skb = m.skb[b]
    return seq_add(skb.seq, skb.length) != skb.end_seq


def tcp_label(m: Machine, p: Packet, b: int) -> None:
    """Write into a packet's skbs what each holds: an aggregated frame's payload is spread evenly."""
    share = (p.payload_length + p.segments - 1) // p.segments
    left = p.payload_length
    seq = p.tcp_seq
    while b != NONE:
        skb = m.skb[b]
        skb.length = min(share, left)
        left -= skb.length
        skb.seq = seq
        seq = seq_add(seq, skb.length)
        if skb.next == NONE and p.tcp_flags & TCP_FIN:
            seq = seq_add(seq, 1)
        skb.end_seq = seq
        b = skb.next


def tcp_learn(m: Machine, i: int, p: Packet) -> None:
    """The first segment of a connection says what comes next; a SYN itself is behind it then."""
    m.sk[i].rcv_nxt = seq_add(p.tcp_seq, 1) if p.tcp_flags & TCP_SYN else p.tcp_seq


def ghost_add(m: Machine, i: int, start: int, end: int) -> None:
    """Remember a range ahead of rcv_nxt as received; without room it swallows the gap to its neighbour."""
    sk = m.sk[i]
    at = 0
    while at < sk.ghosts and before(sk.ghost_end[at], start):
        at += 1
    upto = at
    while upto < sk.ghosts and not after(sk.ghost_seq[upto], end):
        upto += 1
    if upto == at and sk.ghosts == MAX_GHOSTS:
        at = min(at, MAX_GHOSTS - 1)
        upto = at + 1
    if upto > at:
        if before(sk.ghost_seq[at], start):
            start = sk.ghost_seq[at]
        if after(sk.ghost_end[upto - 1], end):
            end = sk.ghost_end[upto - 1]
    ghosts_forget(m, i, at, upto)
    for move in range(sk.ghosts, at, -1):
        sk.ghost_seq[move] = sk.ghost_seq[move - 1]
        sk.ghost_end[move] = sk.ghost_end[move - 1]
    sk.ghost_seq[at] = start
    sk.ghost_end[at] = end
    sk.ghosts += 1


def ghosts_forget(m: Machine, i: int, at: int, upto: int) -> None:
    """Forget the ghosts from `at` to before `upto`."""
    sk = m.sk[i]
    for move in range(upto, sk.ghosts):
        sk.ghost_seq[at + move - upto] = sk.ghost_seq[move]
        sk.ghost_end[at + move - upto] = sk.ghost_end[move]
    sk.ghosts -= upto - at


def filled_add(m: Machine, i: int, start: int, end: int) -> None:
    """Stretch the span of what our drops filled; one that would grow too wide is begun anew."""
    sk = m.sk[i]
    if sk.filled:
        first = start if before(start, sk.filled_seq) else sk.filled_seq
        last = end if after(end, sk.filled_end) else sk.filled_end
        if (last - first) & SEQ_MASK <= FILLED_SPAN_BYTES:
            start = first
            end = last
    sk.filled = 1
    sk.filled_seq = start
    sk.filled_end = end


def filled_take(m: Machine, i: int, start: int, end: int) -> bool:
    """Whether a range that rcv_nxt has passed was filled by us; at an edge of the span it is filled no more."""
    sk = m.sk[i]
    if not sk.filled or not before(start, sk.filled_end) or not after(end, sk.filled_seq):
        return False
    if not after(start, sk.filled_seq):
        sk.filled_seq = end
    elif not before(end, sk.filled_end):
        sk.filled_end = start
    if not before(sk.filled_seq, sk.filled_end):
        sk.filled = 0
    return True


def tcp_take(m: Machine, i: int, b: int) -> None:
    """A charged skb is in order: an immediate reader has it at once, else it waits in the receive queue."""
    sk = m.sk[i]
    if has_fin(m, b):
        sk.fin_rcvd = 1
    if sk.reader == READER_IMMEDIATE:
        sk_uncharge(m, i, m.skb[b].truesize)
        kfree_skb(m, b)
        m.quiet_rounds = 0
    else:
        m.last_held_frame = m.skb[b].frame
        m.last_held_id = m.skb[b].packet_id
        sk_queue_tail(m, i, b)


def tcp_advance(m: Machine, i: int, target: int) -> None:
    """Move rcv_nxt up to `target` and on over what has come already; the out-of-order queue is drained on the way.

    What waits below `target` is taken, for the bytes up to there are not in memory twice: they are a hole that counts
    as filled.
    """
    sk = m.sk[i]
    while True:
        b = sk.ofo_head
        if b != NONE and (not after(m.skb[b].seq, sk.rcv_nxt) or before(m.skb[b].seq, target)):
            tcp_ofo_first(m, i)
            continue
        if after(target, sk.rcv_nxt):
            sk.rcv_nxt = target
        if sk.ghosts > 0 and not after(sk.ghost_seq[0], sk.rcv_nxt):
            if after(sk.ghost_end[0], target):
                target = sk.ghost_end[0]
            ghosts_forget(m, i, 0, 1)
        elif b == NONE or after(m.skb[b].seq, sk.rcv_nxt):
            break
    if sk.queue_len == 0:
        sk_stream_mem_reclaim(m, i)
        lru_place(m, i)


def tcp_ofo_first(m: Machine, i: int) -> None:
    """The first skb of the out-of-order queue is due: into the receive queue, unless it is covered (tcp_ofo_queue)."""
    sk = m.sk[i]
    b = sk.ofo_head
    skb = m.skb[b]
    sk.ofo_head = skb.next
    if sk.ofo_head == NONE:
        sk.ofo_tail = NONE
    sk.ofo_len -= 1
    if after(skb.end_seq, sk.rcv_nxt):
        sk.rcv_nxt = skb.end_seq
        tcp_take(m, i, b)
    else:
        sk_uncharge(m, i, skb.truesize)
        kfree_skb_reason(m, b, TCP_OFO_DROP, AT_TCP_OFO_QUEUE)


def tcp_ofo_insert(m: Machine, i: int, b: int) -> bool:
    """Sort an skb into the out-of-order queue and charge it; False when every byte of it is there already."""
    sk = m.sk[i]
    skb = m.skb[b]
    last = NONE
    at = sk.ofo_head
    if sk.ofo_tail != NONE and not before(skb.seq, m.skb[sk.ofo_tail].end_seq):
        last = sk.ofo_tail
        at = NONE
    while at != NONE and before(m.skb[at].seq, skb.seq):
        last = at
        at = m.skb[at].next
    if last != NONE and not after(skb.end_seq, m.skb[last].end_seq):
        return False
    if at != NONE and m.skb[at].seq == skb.seq and not after(skb.end_seq, m.skb[at].end_seq):
        return False
    while at != NONE and not before(skb.end_seq, m.skb[at].end_seq):
        following = m.skb[at].next
        sk.ofo_len -= 1
        sk_uncharge(m, i, m.skb[at].truesize)
        kfree_skb_reason(m, at, TCP_OFOMERGE, AT_TCP_DATA_QUEUE)
        at = following
    skb.next = at
    skb.sk = i
    if at == NONE:
        sk.ofo_tail = b
    if last == NONE:
        sk.ofo_head = b
    else:
        m.skb[last].next = b
    sk.ofo_len += 1
    sk_charge(m, i, skb.truesize)
    lru_unlink(m, i)
    m.last_held_frame = skb.frame
    m.last_held_id = skb.packet_id
    return True


def tcp_resync(m: Machine, i: int, seq: int) -> None:
    """A segment absurdly far away: what waits is taken for received, and the connection goes on from there."""
    sk = m.sk[i]
    m.total.tcp_resyncs += 1
    sk.ghosts = 0
    sk.filled = 0
    sk.host_ack = NONE
    if sk.ofo_tail != NONE:
        tcp_advance(m, i, m.skb[sk.ofo_tail].end_seq)
    sk.rcv_nxt = seq


def tcp_follow(m: Machine, i: int, p: Packet) -> None:
    """Bring rcv_nxt up to what the host had acknowledged before this packet came: the capture lacks the rest."""
    sk = m.sk[i]
    if sk.rcv_nxt == NONE:
        tcp_learn(m, i, p)
    if seq_length(p) > 0 and is_far(p.tcp_seq, sk.rcv_nxt):
        tcp_resync(m, i, p.tcp_seq)
    elif p.tcp_host_ack != NONE and after(p.tcp_host_ack, sk.rcv_nxt) and not is_far(p.tcp_host_ack, sk.rcv_nxt):
        tcp_advance(m, i, p.tcp_host_ack)


def tcp_hole(m: Machine, p: Packet) -> None:
    """We dropped a segment: the open loop counts its range as received, once it is its turn.

    Packets that came before may still wait in a ring, so what the host has acknowledged says nothing here.
    """
    i = sk_find(m, ends_received(p))
    if i == NONE or m.sk[i].state != SS_ESTABLISHED or p.tcp_flags & (TCP_RST | TCP_SYN):
        return
    sk = m.sk[i]
    if sk.conn != NONE or m.config.real_peers:
        return  # its peer sends again what was lost
    if sk.rcv_nxt == NONE:
        tcp_learn(m, i, p)
    end = seq_add(p.tcp_seq, seq_length(p))
    if is_far(p.tcp_seq, sk.rcv_nxt) or not after(end, sk.rcv_nxt):
        return
    m.total.holes_filled += 1
    filled_add(m, i, p.tcp_seq, end)
    if after(p.tcp_seq, sk.rcv_nxt):
        ghost_add(m, i, p.tcp_seq, end)
    else:
        tcp_advance(m, i, end)

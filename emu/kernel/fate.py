"""What became of a packet: the verdict, and the numbers that stood when it fell."""

from emu.kernel.drop_reason import (
    DELIVERED,
    DROPPED,
    IN_FLIGHT,
    OOPS,
    PFMEMALLOC,
    TCP_OFOMERGE,
)
from emu.kernel.e1000 import ring_free
from emu.kernel.iscsi_write_back import follow_verdict
from emu.kernel.machine import NONE, ZONE_NORMAL, Machine, Packet
from emu.kernel.page_alloc import atomic_floor
from emu.kernel.retransmit import again_counted, retransmit_later
from emu.kernel.skbuff import kfree_chain, kfree_skb, kfree_skb_reason
from emu.kernel.slab import blame_last_page
from emu.kernel.tcp_seq import TCP_FIN, tcp_hole
from emu.wire.headers import KIND_TCP


def note_memory(m: Machine, p: Packet) -> None:
    """Write down the memory, the ring and the reserve as they stand."""
    dev = m.dev[p.dev]
    p.decided_ns = m.now_ns
    p.free_pages = m.zone[ZONE_NORMAL].free_pages
    p.floor_pages = atomic_floor(m, ZONE_NORMAL)
    p.ring_free = ring_free(m, p.dev)
    p.backlog_len = m.backlog_len
    p.cap_skbs = dev.rx_reserve if m.policy.caps_reserve else 0
    p.reserve_used_before = dev.rx_reserve_used
    p.reserve_used_after = dev.rx_reserve_used


def note_skb(m: Machine, p: Packet, b: int) -> None:
    """The core has a packet, in skb `b`: write down that buffer, and how things stand."""
    skb = m.skb[b]
    m.rx_dev = p.dev
    p.skb_dev = p.dev
    note_memory(m, p)
    p.from_reserve = skb.from_reserve
    p.pfmemalloc = skb.pfmemalloc
    p.truesize = skb.truesize
    p.alloc_ns = skb.alloc_ns


def count(m: Machine, p: Packet) -> None:
    """Add a received packet's final verdict to the sums, and tell TCP of what it means for the stream."""
    if p.again:
        again_counted(m, p)
    else:
        count_frame(m, p)
    if p.verdict == DROPPED and p.kind == KIND_TCP and p.sk != NONE and p.reason != TCP_OFOMERGE:
        if (p.payload_length > 0 or p.tcp_flags & TCP_FIN) and not retransmit_later(m, p):
            tcp_hole(m, p)
    if m.follow.live and p.kind == KIND_TCP:
        follow_verdict(m, p)


def count_frame(m: Machine, p: Packet) -> None:
    """Add the final verdict of a frame to the sums."""
    t = m.total
    fates = t.memalloc if p.memalloc else t.other
    fates.received += 1
    if p.verdict == DELIVERED:
        t.delivered += 1
        fates.delivered += 1
        t.reserve_skbs_delivered += p.from_reserve
    elif p.verdict == IN_FLIGHT:
        t.in_flight += 1
    elif p.verdict == OOPS:
        t.oops += 1
    else:
        t.dropped += 1
        fates.dropped += 1
        t.drops_by_reason[p.reason] += 1


def deliver(m: Machine, p: Packet, point: int) -> None:
    """A queue, a protocol or the reader took the packet."""
    p.verdict = DELIVERED
    p.point = point
    p.reserve_used_after = m.dev[p.dev].rx_reserve_used
    count(m, p)


def consume(m: Machine, p: Packet, b: int, point: int) -> None:
    """A protocol takes the packet and is done with its memory."""
    kfree_chain(m, b)
    deliver(m, p, point)


def drop(m: Machine, p: Packet, b: int, reason: int, point: int) -> None:
    """The kernel frees the packet; fragments of its datagram that came in earlier frames become events."""
    while b != NONE:
        following = m.skb[b].next
        if m.skb[b].frame == p.frame:
            kfree_skb(m, b)
        else:
            kfree_skb_reason(m, b, reason, point)
        b = following
    p.verdict = DROPPED
    p.reason = reason
    p.point = point
    p.reserve_used_after = m.dev[p.dev].rx_reserve_used
    count(m, p)


def drop_for_reserve(m: Machine, p: Packet, b: int, rule: int, point: int) -> None:
    """Memory is for block I/O only: the packet's own policy rule refuses it."""
    p.rule = rule
    blame_last_page(m, p)
    drop(m, p, b, PFMEMALLOC, point)

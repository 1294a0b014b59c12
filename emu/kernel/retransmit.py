"""Lost segments of memalloc flows come again: a replay's sender with a retransmission timer (`--retransmit`).

A segment with payload that the machine dropped is kept as numbers and arrives once more when the sender's timer has
expired: 200 ms after the loss, twice as long after each further loss of the same segment, 120 s at most.  It is no
frame of the capture: it is counted in sums of its own, and what becomes of it is an event of the frame that was lost.
Until it is there the connection's later segments wait in the out-of-order queue: no hole is filled.
Source: Linux 2.6.12 include/net/tcp.h TCP_RTO_MIN, TCP_RTO_MAX; RFC 6298 5.5 (doubling).
Differs: each segment has a timer of its own, the sender's window does not shrink, and there is no fast retransmit; the
timer's expiry is the arrival; what the host acknowledged in the capture does not count while a segment is awaited; with
`MAX_AGAIN` segments awaited a further loss is filled as in the open loop.
"""

from emu.kernel.drop_reason import DROPPED, TCP_OFOMERGE, TCP_OLD_DATA
from emu.kernel.machine import (
    AGAIN_FREE,
    AGAIN_ON_ITS_WAY,
    AGAIN_WAITS,
    MAX_AGAIN,
    MAX_LATER,
    NEVER_NS,
    NONE,
    Machine,
    Packet,
)
from emu.kernel.sock import ends_received, sk_find
from emu.kernel.tcp_seq import after, is_far, seq_add, seq_length

TCP_RTO_MIN_NS = 200_000_000
TCP_RTO_MAX_NS = 120_000_000_000
AGAIN_SEQ = -2  # a segment that comes again has the sequence number AGAIN_SEQ - its row; a frame's is not negative


def copy_segment(p: Packet, other: Packet) -> None:
    """Make one packet's headers and place like another's."""
    p.frame = other.frame
    p.packet_id = other.packet_id
    p.length = other.length
    p.link_excess = other.link_excess
    p.dev = other.dev
    p.kind = other.kind
    p.pkt_type = other.pkt_type
    p.header_error = other.header_error
    p.ethertype = other.ethertype
    p.vlan_tags = other.vlan_tags
    p.vlan_outer = other.vlan_outer
    p.vlan_inner = other.vlan_inner
    p.ip_version = other.ip_version
    p.ip_protocol = other.ip_protocol
    p.saddr = other.saddr
    p.daddr = other.daddr
    p.saddr_hi = other.saddr_hi
    p.daddr_hi = other.daddr_hi
    p.sport = other.sport
    p.dport = other.dport
    p.l4_length = other.l4_length
    p.payload_length = other.payload_length
    p.tcp_flags = other.tcp_flags
    p.tcp_seq = other.tcp_seq
    p.tcp_ack = other.tcp_ack
    p.ip_csum = other.ip_csum
    p.l4_csum = other.l4_csum
    p.segments = other.segments


def again_due_ns(m: Machine) -> int:
    """When the next segment comes again."""
    return m.again_due_ns if m.agains > 0 else NEVER_NS


def again_next(m: Machine) -> int:
    """The row of the segment that comes again next, -1 for none; notes when that is."""
    found = NONE
    m.again_due_ns = NEVER_NS
    for k in range(m.agains_made):
        again = m.again[k]
        if again.state == AGAIN_WAITS and again.due_ns < m.again_due_ns:
            m.again_due_ns = again.due_ns
            found = k
    return found


def again_row(m: Machine) -> int:
    """A row for one more segment, or -1."""
    for k in range(m.agains_made):
        if m.again[k].state == AGAIN_FREE:
            return k
    if m.agains_made == MAX_AGAIN:
        return NONE
    m.agains_made += 1
    return m.agains_made - 1


def same_flow(p: Packet, other: Packet) -> bool:
    """Whether two TCP segments to the host are of one connection."""
    if p.sport != other.sport or p.dport != other.dport or p.ip_version != other.ip_version:
        return False
    if p.saddr != other.saddr or p.daddr != other.daddr:
        return False
    return p.saddr_hi == other.saddr_hi and p.daddr_hi == other.daddr_hi


def awaits_again(m: Machine, p: Packet) -> bool:
    """Whether a lost segment of this packet's connection is still to come."""
    for k in range(m.agains_made):
        if m.again[k].state != AGAIN_FREE and p.again != k + 1 and same_flow(m.again[k].p, p):
            return True
    return False


def is_awaited(m: Machine, p: Packet) -> bool:
    """Whether this very segment is to come again already."""
    for k in range(m.agains_made):
        again = m.again[k]
        if again.state != AGAIN_FREE and again.p.tcp_seq == p.tcp_seq and same_flow(again.p, p):
            if again.p.payload_length >= p.payload_length:
                return True
    return False


def is_loss(p: Packet) -> bool:
    """Whether a verdict means that the receiver lacks what the segment carries."""
    return p.verdict == DROPPED and p.reason not in (TCP_OLD_DATA, TCP_OFOMERGE)


def rto_ns(losses: int) -> int:
    """The timer after so many losses of a segment."""
    return min(TCP_RTO_MIN_NS << min(losses - 1, 10), TCP_RTO_MAX_NS)


def retransmit_later(m: Machine, p: Packet) -> bool:
    """Whether a segment that was dropped comes again, so that it leaves no hole to be filled."""
    if not m.config.retransmit or not p.memalloc or not is_loss(p) or p.payload_length == 0:
        return False
    if p.again or is_awaited(m, p):
        return True
    k = again_row(m)
    if k == NONE:
        return False
    again = m.again[k]
    copy_segment(again.p, p)
    again.p.again = k + 1
    again.losses = 1
    again.state = AGAIN_WAITS
    again.due_ns = m.now_ns + rto_ns(1)
    m.agains += 1
    again_next(m)
    return True


def again_counted(m: Machine, p: Packet) -> None:
    """A segment that came again has its verdict; lost once more, it comes once more, later."""
    again = m.again[p.again - 1]
    if p.verdict == DROPPED:
        m.total.again.dropped += 1
    else:
        m.total.again.delivered += 1
    tell_again(m, p)
    if is_loss(p):
        again.losses += 1
        again.state = AGAIN_WAITS
        again.due_ns = m.now_ns + rto_ns(again.losses)
        again_next(m)
    else:
        again_free(m, p.again - 1)


def again_free(m: Machine, k: int) -> None:
    """The segment is there, or nobody waits for it any more."""
    m.again[k].state = AGAIN_FREE
    m.agains -= 1
    again_next(m)


def tell_again(m: Machine, p: Packet) -> None:
    """What became of a segment that came again is an event of its frame."""
    assert m.later_len < MAX_LATER, "the loop hands events out before they can fill the table"
    event = m.later[m.later_len]
    event.after_frame = m.total.frames
    event.frame = p.frame
    event.packet_id = p.packet_id
    event.time_ns = m.now_ns
    event.dev = p.dev
    event.reason = p.reason
    event.point = p.point
    m.later_len += 1
    if p.verdict == DROPPED:
        m.total.events_by_reason[p.reason] += 1


def again_begin(m: Machine, k: int) -> bool:
    """The timer of a segment has expired; False when an acknowledgement has told its sender not to send it."""
    if not 0 <= k < m.agains_made or m.again[k].state != AGAIN_WAITS:
        return False  # a recording of another run may say anything
    p = m.again[k].p
    i = sk_find(m, ends_received(p))
    end_seq = seq_add(p.tcp_seq, seq_length(p))
    rcv_nxt = m.sk[i].rcv_nxt if i != NONE else NONE
    if rcv_nxt == NONE or is_far(p.tcp_seq, rcv_nxt) or not after(end_seq, rcv_nxt):
        again_free(m, k)
        return False
    m.again[k].state = AGAIN_ON_ITS_WAY
    m.total.again.received += 1
    again_next(m)
    return True


def again_balanced(m: Machine) -> bool:
    """Whether every segment that came again has its verdict or is on its way to it."""
    under_way = 0
    awaited = 0
    for k in range(m.agains_made):
        under_way += m.again[k].state == AGAIN_ON_ITS_WAY
        awaited += m.again[k].state != AGAIN_FREE
    again = m.total.again
    return awaited == m.agains and again.received == again.delivered + again.dropped + under_way

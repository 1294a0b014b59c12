"""Fragments: queued by datagram until all are there, or the time or the memory for them is over.

Source: Linux 2.6.12 net/ipv4/ip_fragment.c ip_defrag, ip_find, ip_frag_queue, ip_frag_reasm, ip_evictor, ip_expire,
and net/ipv6/reassembly.c, its twin.  Each fragment is one skb, charged by truesize to ip_frag_mem together with its
queue's descriptor (GFP_ATOMIC, sizes of i386); nothing is checked or filtered before the datagram is whole, so of its
N buffers the patch's checks can give one back.  The datagram is a chain of skbs whose first is the fragment at offset
0: its tag is the datagram's, its device is that of the fragment that completed it.
Differs: at most 1024 queues of both families (then the least recently used goes); an IPv4 header counts 20 bytes;
2.6.12's rules for overlaps hold under every policy (v6.19 drops the datagram); the socket of a flow in fragments is
inferred when the first datagram is whole; what UDP's own length field says of such a datagram is not known, nor a
checksum that overlap or a cut capture hides, which counts as right.
"""

from emu.kernel.drop_reason import (
    AT_IP6_EVICTOR,
    AT_IP6_FRAG_EXPIRE,
    AT_IP_DEFRAG,
    AT_IP_EVICTOR,
    AT_IP_EXPIRE,
    AT_IPV6_FRAG_RCV,
    DUP_FRAG,
    FRAG_EVICTED,
    FRAG_REASM_TIMEOUT,
    IP_INHDR,
    NO_MEMORY,
    NO_REASON,
    NOT_SPECIFIED,
)
from emu.kernel.fate import deliver, drop
from emu.kernel.flows import flow_received
from emu.kernel.icmp import ICMP_TIME_EXCEEDED, IP_HEADER_BYTES, icmp_send, is_icmp_error
from emu.kernel.icmpv6 import ICMPV6_PARAMPROB, ICMPV6_TIME_EXCEED, icmpv6_send
from emu.kernel.machine import (
    FRAG_HASH_SIZE,
    FRAG_LISTS,
    MAX_FRAG_QUEUES,
    NEVER_NS,
    NONE,
    PACKET_HOST,
    Machine,
    Packet,
)
from emu.kernel.skbuff import (
    chain_truesize,
    gfp_atomic,
    kfree_skb_reason,
    kmalloc_cache,
    pskb_expand_head,
    skb_cloned,
)
from emu.kernel.slub import kmem_cache_alloc, kmem_cache_free
from emu.kernel.sock import IPPROTO_ICMP, IPPROTO_TCP, IPPROTO_UDP, folded
from emu.wire.headers import (
    CSUM_BAD,
    CSUM_GOOD,
    CSUM_UNKNOWN,
    KIND_ICMP,
    KIND_ICMPV6,
    KIND_IP_OTHER,
    KIND_TCP,
    KIND_UDP,
    NO_ERROR,
    TOO_SHORT,
)

FAMILIES = 2  # 0: IPv4, 1: IPv6
IPPROTO_ICMPV6 = 58
FIRST_IN, LAST_IN = 2, 1
FRAG_LRU, FRAG_AGE = range(FRAG_LISTS)
IPQ_BYTES = 88  # struct ipq
FRAG_QUEUE_BYTES = 116  # struct frag_queue of IPv6
MAX_DATAGRAM_BYTES = 65_535
TCP_HEADER_BYTES = 20
L4_HEADER_BYTES = 8  # UDP's and ICMP's
UNKNOWN_SUM = -1


def frag_family(p: Packet) -> int:
    """0 for IPv4, 1 for IPv6."""
    return 1 if p.ip_version == 6 else 0


def descriptor_bytes(family: int) -> int:
    """The size of a queue's descriptor."""
    return FRAG_QUEUE_BYTES if family else IPQ_BYTES


def defrag_point(family: int) -> int:
    """The function that queues fragments."""
    return AT_IPV6_FRAG_RCV if family else AT_IP_DEFRAG


def count_fail(m: Machine, family: int) -> None:
    """A datagram could not be put together."""
    if family:
        m.mib.Ip6ReasmFails += 1
    else:
        m.mib.IpReasmFails += 1


def frag_bucket(source: int, destination: int, frag_id: int) -> int:
    """The hash bucket of a datagram, from its folded addresses; every product stays below 2^61."""
    mixed = source * 0x1E3779B1 + destination * 0x05EBCA6B + (frag_id & 0xFFFFFFFF) * 0x12B2AE35
    mixed ^= mixed >> 31
    mixed ^= mixed >> 15
    return mixed & (FRAG_HASH_SIZE - 1)


def frag_list(which: int, family: int) -> int:
    """The number of a family's list: FRAG_LRU, by use, or FRAG_AGE, by age, which is the order of expiry."""
    return which * FAMILIES + family


def frag_list_del(m: Machine, q: int, which: int) -> None:
    """Take a queue off a list of its family."""
    fq = m.frag_queue[q]
    ends = frag_list(which, fq.family)
    if fq.list_prev[which] == NONE:
        m.frag_head[ends] = fq.list_next[which]
    else:
        m.frag_queue[fq.list_prev[which]].list_next[which] = fq.list_next[which]
    if fq.list_next[which] == NONE:
        m.frag_tail[ends] = fq.list_prev[which]
    else:
        m.frag_queue[fq.list_next[which]].list_prev[which] = fq.list_prev[which]


def frag_list_add(m: Machine, q: int, which: int) -> None:
    """Put a queue at the young end of a list of its family."""
    fq = m.frag_queue[q]
    ends = frag_list(which, fq.family)
    fq.list_prev[which] = m.frag_tail[ends]
    fq.list_next[which] = NONE
    if fq.list_prev[which] == NONE:
        m.frag_head[ends] = q
    else:
        m.frag_queue[fq.list_prev[which]].list_next[which] = q
    m.frag_tail[ends] = q


def frag_oldest(m: Machine, which: int, family: int) -> int:
    """The queue at the old end of a family's list, or -1."""
    return m.frag_head[frag_list(which, family)]


def ipq_kill(m: Machine, q: int) -> None:
    """Unlink a queue: no lookup, no timer and no evictor finds it any more."""
    fq = m.frag_queue[q]
    bucket = frag_bucket(folded(fq.saddr_hi, fq.saddr), folded(fq.daddr_hi, fq.daddr), fq.frag_id)
    at = m.frag_hash[bucket] - 1
    if at == q:
        m.frag_hash[bucket] = fq.hash_next + 1
    else:
        while m.frag_queue[at].hash_next != q:
            at = m.frag_queue[at].hash_next
        m.frag_queue[at].hash_next = fq.hash_next
    frag_list_del(m, q, FRAG_LRU)
    frag_list_del(m, q, FRAG_AGE)


def frag_free_queue(m: Machine, q: int) -> None:
    """Free the descriptor of an unlinked queue, and its row."""
    fq = m.frag_queue[q]
    m.frag_mem[fq.family] -= descriptor_bytes(fq.family)
    kmem_cache_free(m, m.slab[fq.descriptor_slab].cache, fq.descriptor_slab)
    fq.fragments = NONE
    fq.descriptor_slab = NONE
    fq.hash_next = m.frag_queue_free
    m.frag_queue_free = q
    m.frag_queues -= 1


def ip_frag_destroy(m: Machine, q: int, reason: int, point: int) -> int:
    """Throw a queue and its fragments away, which have their verdict; the bytes that this gives back."""
    fq = m.frag_queue[q]
    ipq_kill(m, q)
    freed = descriptor_bytes(fq.family)
    b = fq.fragments
    while b != NONE:
        following = m.skb[b].next
        freed += m.skb[b].truesize
        m.frag_mem[fq.family] -= m.skb[b].truesize
        kfree_skb_reason(m, b, reason, point)
        b = following
    frag_free_queue(m, q)
    return freed


def evict_oldest(m: Machine, family: int) -> int:
    """Free a family's least recently used queue; the bytes that this gives back."""
    point = AT_IP6_EVICTOR if family else AT_IP_EVICTOR
    freed = ip_frag_destroy(m, frag_oldest(m, FRAG_LRU, family), FRAG_EVICTED, point)
    count_fail(m, family)
    return freed


def ip_evictor(m: Machine, family: int) -> None:
    """Free the least recently used queues until what is left is within ipfrag_low_thresh."""
    work = m.frag_mem[family] - m.config.ipfrag_low_thresh[family]
    while work > 0 and frag_oldest(m, FRAG_LRU, family) != NONE:
        work -= evict_oldest(m, family)


def ip_expire(m: Machine, q: int) -> None:
    """A queue's time is over: the sender of the first fragment, if that is there, gets an ICMP time exceeded."""
    fq = m.frag_queue[q]
    count_fail(m, fq.family)
    if fq.family:
        m.mib.Ip6ReasmTimeout += 1
    else:
        m.mib.IpReasmTimeout += 1
    if fq.last_in & FIRST_IN and fq.fragments != NONE:
        if fq.family:
            if not (fq.ip_protocol == IPPROTO_ICMPV6 and fq.icmp_type < 128):
                icmpv6_send(m, ICMPV6_TIME_EXCEED, fq.pkt_type, m.skb[fq.fragments].frag_length)
        elif not (fq.ip_protocol == IPPROTO_ICMP and is_icmp_error(fq.icmp_type)):
            icmp_send(m, ICMP_TIME_EXCEEDED, fq.pkt_type, m.skb[fq.fragments].frag_length)
    ip_frag_destroy(m, q, FRAG_REASM_TIMEOUT, AT_IP6_FRAG_EXPIRE if fq.family else AT_IP_EXPIRE)


def frag_timer_ns(m: Machine) -> int:
    """When the oldest fragment queue times out."""
    due = NEVER_NS
    for family in range(FAMILIES):
        q = frag_oldest(m, FRAG_AGE, family)
        if q != NONE:
            due = min(due, m.frag_queue[q].expires_ns)
    return due


def ip_expire_run(m: Machine) -> None:
    """Run the timers of fragment queues that are due."""
    for family in range(FAMILIES):
        q = frag_oldest(m, FRAG_AGE, family)
        while q != NONE and m.frag_queue[q].expires_ns <= m.now_ns:
            ip_expire(m, q)
            m.quiet_rounds = 0
            q = frag_oldest(m, FRAG_AGE, family)


def frag_queue_row(m: Machine) -> int:
    """A row for a queue; when all are taken, the family that holds more gives its least recently used one up."""
    if m.frag_queue_free == NONE and m.frag_queues_made == MAX_FRAG_QUEUES:
        evict_oldest(m, 1 if m.frag_mem[1] > m.frag_mem[0] else 0)
    q = m.frag_queue_free
    if q != NONE:
        m.frag_queue_free = m.frag_queue[q].hash_next
    else:
        q = m.frag_queues_made
        m.frag_queues_made += 1
    return q


def ip_frag_create(m: Machine, p: Packet, bucket: int) -> int:
    """A queue for this fragment's datagram, or -1 when there is no memory for its descriptor."""
    family = frag_family(p)
    s = kmem_cache_alloc(m, kmalloc_cache(m, descriptor_bytes(family)), gfp_atomic(m))
    if s == NONE:
        return NONE
    q = frag_queue_row(m)
    fq = m.frag_queue[q]
    fq.descriptor_slab = s
    fq.family = family
    fq.frag_id = p.frag_id
    fq.saddr = p.saddr
    fq.saddr_hi = p.saddr_hi
    fq.daddr = p.daddr
    fq.daddr_hi = p.daddr_hi
    fq.protocol = 0 if family else p.ip_protocol
    fq.last_in = 0
    fq.fragments = NONE
    fq.length = 0
    fq.meat = 0
    fq.dev = p.skb_dev
    note_first(m, q, p)
    fq.hash_next = m.frag_hash[bucket] - 1
    m.frag_hash[bucket] = q + 1
    frag_list_add(m, q, FRAG_LRU)
    fq.expires_ns = m.now_ns + m.config.ipfrag_time_ns[family]
    frag_list_add(m, q, FRAG_AGE)
    m.frag_mem[family] += descriptor_bytes(family)
    m.frag_queues += 1
    return q


def ip_find(m: Machine, p: Packet) -> int:
    """The queue of this fragment's datagram, made if there is none; -1 for want of memory."""
    family = frag_family(p)
    bucket = frag_bucket(folded(p.saddr_hi, p.saddr), folded(p.daddr_hi, p.daddr), p.frag_id)
    q = m.frag_hash[bucket] - 1
    while q != NONE:
        fq = m.frag_queue[q]
        if fq.frag_id == p.frag_id and fq.family == family and (family == 1 or fq.protocol == p.ip_protocol):
            if fq.saddr == p.saddr and fq.daddr == p.daddr and fq.saddr_hi == p.saddr_hi:
                if fq.daddr_hi == p.daddr_hi:
                    return q
        q = fq.hash_next
    return ip_frag_create(m, p, bucket)


def note_first(m: Machine, q: int, p: Packet) -> None:
    """Keep what the fragment at offset 0 says of the transport header."""
    fq = m.frag_queue[q]
    fq.pkt_type = p.pkt_type
    fq.ip_protocol = p.ip_protocol
    fq.sport = p.sport
    fq.dport = p.dport
    fq.tcp_flags = p.tcp_flags
    fq.tcp_seq = p.tcp_seq
    fq.tcp_ack = p.tcp_ack
    fq.icmp_type = p.icmp_type
    fq.quoted_port = p.quoted_port
    fq.l4_csum = p.l4_csum
    fq.header_error = p.header_error
    fq.extension_bytes = 0
    fq.l4_header_bytes = TCP_HEADER_BYTES if p.ip_protocol == IPPROTO_TCP else L4_HEADER_BYTES
    if p.l4_length > p.payload_length > 0:
        fq.l4_header_bytes = p.l4_length - p.payload_length
    if 0 < p.l4_length < p.frag_length:
        fq.extension_bytes = p.frag_length - p.l4_length


def frag_end(m: Machine, p: Packet, q: int) -> int:
    """Where a fragment ends in its datagram, after noting what it says of the length; -1: it contradicts the others.

    What exceeds a multiple of 8 bytes in a fragment with more to follow is cut off in IPv4.
    """
    fq = m.frag_queue[q]
    end = p.frag_offset + p.frag_length
    if p.frag_more == 0:
        if end < fq.length or (fq.last_in & LAST_IN and end != fq.length):
            return NONE
        fq.last_in |= LAST_IN
        fq.length = end
        return end
    end = end // 8 * 8
    if end > fq.length:
        if fq.last_in & LAST_IN:
            return NONE
        fq.length = end
    return end


def frag_before(m: Machine, q: int, offset: int) -> int:
    """The last fragment in a queue that starts before `offset`, or -1."""
    before = NONE
    b = m.frag_queue[q].fragments
    while b != NONE and m.skb[b].frag_offset < offset:
        before = b
        b = m.skb[b].next
    return before


def frag_link(m: Machine, q: int, before: int, b: int) -> None:
    """Make `b` (-1: nothing) what follows `before` (-1: the queue's head)."""
    if before == NONE:
        m.frag_queue[q].fragments = b
    else:
        m.skb[before].next = b


def frag_overlap(m: Machine, q: int, before: int, end: int) -> int:
    """Cut what a fragment up to `end` overlaps off those that follow `before`; what follows it then."""
    fq = m.frag_queue[q]
    b = fq.fragments if before == NONE else m.skb[before].next
    while b != NONE and m.skb[b].frag_offset < end:
        skb = m.skb[b]
        overlap = end - skb.frag_offset
        if overlap < skb.frag_length:
            skb.frag_offset += overlap
            skb.frag_length -= overlap
            skb.frag_sum = UNKNOWN_SUM
            fq.meat -= overlap
            return b
        following = skb.next
        frag_link(m, q, before, following)
        fq.meat -= skb.frag_length
        m.frag_mem[fq.family] -= skb.truesize
        kfree_skb_reason(m, b, DUP_FRAG, defrag_point(fq.family))
        b = following
    return b


def ip_frag_queue(m: Machine, p: Packet, b: int, q: int) -> int:
    """Put a fragment in its place in the queue; NO_REASON, or why it is refused (and still its sender's to free)."""
    fq = m.frag_queue[q]
    if fq.family and (p.frag_offset + p.frag_length > MAX_DATAGRAM_BYTES or (p.frag_more and p.frag_length & 7)):
        m.mib.Ip6InHdrErrors += 1
        icmpv6_send(m, ICMPV6_PARAMPROB, p.pkt_type, p.frag_length)
        return IP_INHDR
    end = frag_end(m, p, q)
    offset = p.frag_offset
    if end in (NONE, offset):
        return NOT_SPECIFIED
    skb = m.skb[b]
    skb.frag_sum = p.frag_sum if end == offset + p.frag_length else UNKNOWN_SUM
    before = frag_before(m, q, offset)
    if before != NONE:
        overlap = m.skb[before].frag_offset + m.skb[before].frag_length - offset
        if overlap > 0:
            offset += overlap
            if end <= offset:
                return DUP_FRAG
            skb.frag_sum = UNKNOWN_SUM
    skb.next = frag_overlap(m, q, before, end)
    frag_link(m, q, before, b)
    skb.frag_offset = offset
    skb.frag_length = end - offset
    fq.meat += skb.frag_length
    fq.dev = p.skb_dev
    m.frag_mem[fq.family] += skb.truesize
    if offset == 0:
        fq.last_in |= FIRST_IN
        note_first(m, q, p)
    frag_list_del(m, q, FRAG_LRU)
    frag_list_add(m, q, FRAG_LRU)
    return NO_REASON


def half_sum(half: int) -> int:
    """The sum of the 16-bit words of an IPv4 address, or of half an IPv6 one."""
    return (half >> 48 & 0xFFFF) + (half >> 32 & 0xFFFF) + (half >> 16 & 0xFFFF) + (half & 0xFFFF)


def datagram_csum(m: Machine, p: Packet, q: int) -> int:
    """CSUM_* of a datagram from the sums of its fragments, which stand at even offsets and so add up."""
    fq = m.frag_queue[q]
    if fq.l4_csum != CSUM_GOOD or fq.ip_protocol not in (IPPROTO_TCP, IPPROTO_UDP, IPPROTO_ICMP, IPPROTO_ICMPV6):
        return fq.l4_csum
    total = 0
    if fq.ip_protocol != IPPROTO_ICMP:
        total = half_sum(p.saddr_hi) + half_sum(p.saddr) + half_sum(p.daddr_hi) + half_sum(p.daddr)
        total += fq.ip_protocol + fq.length - fq.extension_bytes
    b = fq.fragments
    while b != NONE:
        if m.skb[b].frag_sum == UNKNOWN_SUM:
            return CSUM_UNKNOWN
        total += m.skb[b].frag_sum
        b = m.skb[b].next
    return CSUM_GOOD if total % 65535 == 0 else CSUM_BAD


def datagram_kind(family: int, protocol: int) -> int:
    """KIND_* of a whole datagram."""
    if protocol == IPPROTO_TCP:
        return KIND_TCP
    if protocol == IPPROTO_UDP:
        return KIND_UDP
    if protocol == IPPROTO_ICMP and family == 0:
        return KIND_ICMP
    if protocol == IPPROTO_ICMPV6 and family == 1:
        return KIND_ICMPV6
    return KIND_IP_OTHER


def take_over(m: Machine, p: Packet, q: int) -> None:
    """The packet that completed a datagram stands for it: the first fragment's transport header, the whole length."""
    fq = m.frag_queue[q]
    p.l4_csum = datagram_csum(m, p, q)
    p.ip_protocol = fq.ip_protocol
    p.kind = datagram_kind(fq.family, fq.ip_protocol)
    p.sport = fq.sport
    p.dport = fq.dport
    p.tcp_flags = fq.tcp_flags
    p.tcp_seq = fq.tcp_seq
    p.tcp_ack = fq.tcp_ack
    p.icmp_type = fq.icmp_type
    p.quoted_port = fq.quoted_port
    p.l4_length = fq.length - fq.extension_bytes
    p.payload_length = max(0, p.l4_length - fq.l4_header_bytes)
    p.header_error = fq.header_error
    if p.kind != KIND_IP_OTHER and p.l4_length < fq.l4_header_bytes:
        p.header_error = TOO_SHORT
    p.pfmemalloc = m.skb[fq.fragments].pfmemalloc
    p.truesize = chain_truesize(m, fq.fragments)


def ip_frag_reasm(m: Machine, p: Packet, q: int) -> int:
    """Make one datagram of a complete queue; its first skb, or -1 when it is too long or a copy finds no memory."""
    fq = m.frag_queue[q]
    family = fq.family
    head = fq.fragments
    ipq_kill(m, q)
    reason = NO_REASON
    if fq.length + (0 if family else IP_HEADER_BYTES) > MAX_DATAGRAM_BYTES:
        reason = NOT_SPECIFIED
    elif skb_cloned(m, head) and not pskb_expand_head(m, head):
        reason = NO_MEMORY
    m.frag_mem[family] -= chain_truesize(m, head)
    if reason != NO_REASON:
        frag_free_queue(m, q)
        count_fail(m, family)
        drop(m, p, head, reason, defrag_point(family))
        return NONE
    take_over(m, p, q)
    frag_free_queue(m, q)
    if family:
        m.mib.Ip6ReasmOKs += 1
    else:
        m.mib.IpReasmOKs += 1
    if p.pkt_type == PACKET_HOST and p.header_error == NO_ERROR and p.kind in (KIND_TCP, KIND_UDP):
        flow_received(m, p)
    return head


def ip_defrag(m: Machine, p: Packet, b: int) -> int:
    """Take a fragment; the first skb of the datagram that it completes, else -1 and the packet has its verdict."""
    family = frag_family(p)
    if family:
        m.mib.Ip6ReasmReqds += 1
    else:
        m.mib.IpReasmReqds += 1
    if m.frag_mem[family] > m.config.ipfrag_high_thresh[family]:
        ip_evictor(m, family)
    q = ip_find(m, p)
    if q == NONE:
        count_fail(m, family)
        drop(m, p, b, NO_MEMORY, defrag_point(family))
        return NONE
    reason = ip_frag_queue(m, p, b, q)
    if reason != NO_REASON:
        drop(m, p, b, reason, defrag_point(family))
        return NONE
    fq = m.frag_queue[q]
    if fq.last_in == FIRST_IN | LAST_IN and fq.meat == fq.length:
        return ip_frag_reasm(m, p, q)
    deliver(m, p, defrag_point(family))
    m.last_held_frame = p.frame
    m.last_held_id = p.packet_id
    return NONE

"""UDP's receive path, over IPv4 and IPv6.

Source: Linux 2.6.12 net/ipv4/udp.c udp_rcv, udp_queue_rcv_skb, udp_v4_mcast_deliver, udp_recvmsg; the patch's check
follows the unicast lookup, after broadcast and multicast have left (v4 to v6), and is not in net/ipv6/udp.c.  A
multicast goes to every socket of the port: each but the last gets a clone, with GFP_ATOMIC; who finds no memory for it
misses the datagram, and no counter tells.  A bad checksum is found by the reader when a socket took the datagram.
Differs: broadcast and multicast are what the link layer calls so; IPv6 clones in the order of IPv4 (the first socket is
not the one that gets the skb itself) and does not insist on a checksum; the points are named as IPv4's.
"""

from emu.kernel.bugs import BUG_UDP_LABEL, has_bug
from emu.kernel.drop_reason import (
    AT_SK_FILTER,
    AT_SOCK_QUEUE_RCV_SKB,
    AT_UDP_RCV,
    AT_UDP_V4_MCAST_DELIVER,
    NO_MEMORY,
    NO_REASON,
    NO_SOCKET,
    PFMEMALLOC,
    PKT_TOO_SMALL,
    SOCKET_RCVBUFF,
    UDP_CSUM,
)
from emu.kernel.fate import deliver, drop, drop_for_reserve
from emu.kernel.flows import inet_lookup, infer_members
from emu.kernel.icmp import ICMP_DEST_UNREACH, icmp_send
from emu.kernel.icmpv6 import ICMPV6_DEST_UNREACH, icmpv6_send
from emu.kernel.machine import NONE, PACKET_HOST, Machine, Packet
from emu.kernel.netdevice import in_reserve, rule_of_check
from emu.kernel.policy import RULE_FILTER, RULE_UDP
from emu.kernel.skbuff import REST_CSUM_BAD, UDP4_CSUM_BAD, UDP6_CSUM_BAD, kfree_chain, skb_clone_chain
from emu.kernel.sock import sk_accept, sk_filter_refuses, sk_has_room, sk_leak_ref
from emu.wire.headers import CSUM_BAD


def count_error(m: Machine, p: Packet) -> None:
    """Count a datagram on UDP's InErrors."""
    if p.ip_version == 6:
        m.mib.Udp6InErrors += 1
    else:
        m.mib.UdpInErrors += 1


def leave_csum_to_reader(m: Machine, p: Packet, b: int) -> None:
    """Note on a datagram's skbs what its reader will find."""
    m.skb[b].csum_bad = UDP6_CSUM_BAD if p.ip_version == 6 else UDP4_CSUM_BAD
    b = m.skb[b].next
    while b != NONE:
        m.skb[b].csum_bad = REST_CSUM_BAD
        b = m.skb[b].next


def udp_queue_rcv_skb(m: Machine, p: Packet, b: int, i: int) -> int:
    """Queue a datagram; NO_REASON, or why the socket refuses it, and it is still the caller's.

    Refused when rmem_alloc + truesize >= rcvbuf (sock_queue_rcv_skb); in mainline by the filter before.
    """
    if sk_filter_refuses(m, i, b):
        count_error(m, p)
        return PFMEMALLOC
    if not sk_has_room(m, i, b, p.segments):
        count_error(m, p)
        m.mib.UdpRcvbufErrors += 1
        return SOCKET_RCVBUFF
    if p.ip_version == 6:
        m.mib.Udp6InDatagrams += 1
    else:
        m.mib.UdpInDatagrams += 1
    if p.l4_csum == CSUM_BAD:
        leave_csum_to_reader(m, p, b)
    sk_accept(m, i, b, p)
    return NO_REASON


def udp_refused(m: Machine, p: Packet, b: int, reason: int) -> None:
    """No socket took the datagram, for this reason."""
    if reason == PFMEMALLOC:
        drop_for_reserve(m, p, b, RULE_FILTER, AT_SK_FILTER)
    elif reason == NO_MEMORY:
        drop(m, p, b, reason, AT_UDP_V4_MCAST_DELIVER)
    else:
        drop(m, p, b, reason, AT_SOCK_QUEUE_RCV_SKB)


def udp_v4_mcast_deliver(m: Machine, p: Packet, b: int) -> None:
    """A broadcast or multicast: every socket of the port gets it, the last one the skb itself."""
    i = inet_lookup(m, p)
    if i == NONE:
        i = infer_members(m, p)
    p.sk = i
    if i == NONE:
        drop(m, p, b, NO_SOCKET, AT_UDP_V4_MCAST_DELIVER)
        return
    p.memalloc = m.sk[i].block_io
    taken = 0
    while m.sk[i].mcast_next != NONE:
        clone = skb_clone_chain(m, b, p.segments)
        if clone != NONE:
            if udp_queue_rcv_skb(m, p, clone, i) == NO_REASON:
                taken += 1
            else:
                kfree_chain(m, clone)
        i = m.sk[i].mcast_next
    reason = udp_queue_rcv_skb(m, p, b, i)
    if reason == NO_REASON:
        deliver(m, p, AT_SOCK_QUEUE_RCV_SKB)
    elif taken > 0:
        kfree_chain(m, b)
        deliver(m, p, AT_SOCK_QUEUE_RCV_SKB)
    else:
        udp_refused(m, p, b, reason)


def drop_noncritical(m: Machine, p: Packet, b: int, i: int) -> None:
    """The patch's drop: memory is for block I/O only.

    As posted its label lies inside the no-port path (bug 11): the checksum is verified, the datagram counts as one
    without a port and is answered, and the reference to the socket that the lookup took is never put.
    """
    if has_bug(m, BUG_UDP_LABEL):
        m.mib.udp_refs_leaked += 1
        sk_leak_ref(m, i)
        if p.l4_csum == CSUM_BAD:
            m.mib.UdpInErrors += 1
        else:
            m.mib.UdpNoPorts += 1
            icmp_send(m, ICMP_DEST_UNREACH, p.pkt_type, p.l4_length)
    drop_for_reserve(m, p, b, rule_of_check(m.policy.check_udp, RULE_UDP), AT_UDP_RCV)


def udp_no_port(m: Machine, p: Packet, b: int) -> None:
    """Nobody listens: a bad checksum is an error, a good one earns a port unreachable."""
    if p.l4_csum == CSUM_BAD:
        count_error(m, p)
        drop(m, p, b, UDP_CSUM, AT_UDP_RCV)
        return
    if p.ip_version == 6:
        m.mib.Udp6NoPorts += 1
        icmpv6_send(m, ICMPV6_DEST_UNREACH, p.pkt_type, p.l4_length)
    else:
        m.mib.UdpNoPorts += 1
        icmp_send(m, ICMP_DEST_UNREACH, p.pkt_type, p.l4_length)
    drop(m, p, b, NO_SOCKET, AT_UDP_RCV)


def udp_rcv(m: Machine, p: Packet, b: int) -> None:
    """A UDP datagram from IP."""
    if p.header_error:
        count_error(m, p)
        drop(m, p, b, PKT_TOO_SMALL, AT_UDP_RCV)
        return
    if p.pkt_type != PACKET_HOST:
        udp_v4_mcast_deliver(m, p, b)
        return
    i = inet_lookup(m, p)
    p.sk = i
    if i == NONE:
        udp_no_port(m, p, b)
        return
    p.memalloc = m.sk[i].block_io
    if in_reserve(m, m.policy.check_udp, p, b) and not m.sk[i].memalloc:
        drop_noncritical(m, p, b, i)
        return
    reason = udp_queue_rcv_skb(m, p, b, i)
    if reason == NO_REASON:
        deliver(m, p, AT_SOCK_QUEUE_RCV_SKB)
    else:
        udp_refused(m, p, b, reason)

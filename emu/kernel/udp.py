"""UDP's receive path.

Source: Linux 2.6.12 net/ipv4/udp.c udp_rcv, udp_queue_rcv_skb; the patch's check follows the unicast lookup, after
broadcast and multicast have left (v4 to v6).
Differs: a bad checksum on a datagram that a socket took is found by the reader, who is not modelled to that depth;
a multicast or broadcast datagram goes to the one socket of its port.
"""

from emu.kernel.bugs import BUG_UDP_LABEL, has_bug
from emu.kernel.drop_reason import (
    AT_SK_FILTER,
    AT_SOCK_QUEUE_RCV_SKB,
    AT_UDP_RCV,
    NO_SOCKET,
    PKT_TOO_SMALL,
    SOCKET_RCVBUFF,
    UDP_CSUM,
)
from emu.kernel.fate import deliver, drop, drop_for_reserve
from emu.kernel.flows import inet_lookup
from emu.kernel.machine import NONE, PACKET_HOST, Machine, Packet
from emu.kernel.netdevice import in_reserve, rule_of_check
from emu.kernel.policy import RULE_FILTER, RULE_UDP
from emu.kernel.reply import icmp_port_unreach
from emu.kernel.sock import sk_accept, sk_filter_refuses, sk_leak_ref
from emu.wire.headers import CSUM_BAD


def udp_queue_rcv_skb(m: Machine, p: Packet, b: int, i: int) -> None:
    """Queue a datagram: refused when rmem_alloc + truesize >= rcvbuf (sock_queue_rcv_skb)."""
    sk = m.sk[i]
    if sk.rmem_alloc + m.skb[b].truesize >= sk.rcvbuf:
        m.mib.UdpInErrors += 1
        m.mib.UdpRcvbufErrors += 1
        drop(m, p, b, SOCKET_RCVBUFF, AT_SOCK_QUEUE_RCV_SKB)
        return
    m.mib.UdpInDatagrams += 1
    sk_accept(m, i, b, p.frame)
    deliver(m, p, AT_SOCK_QUEUE_RCV_SKB)


def udp_refused(m: Machine, p: Packet, b: int, i: int) -> None:
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
            icmp_port_unreach(m, p)
    drop_for_reserve(m, p, b, rule_of_check(m.policy.check_udp, RULE_UDP), AT_UDP_RCV)


def udp_no_port(m: Machine, p: Packet, b: int) -> None:
    """Nobody listens: a bad checksum is an error, a good one earns a port unreachable."""
    if p.l4_csum == CSUM_BAD:
        m.mib.UdpInErrors += 1
        drop(m, p, b, UDP_CSUM, AT_UDP_RCV)
        return
    m.mib.UdpNoPorts += 1
    if p.pkt_type == PACKET_HOST:
        m.mib.IcmpOutDestUnreachs += 1
    drop(m, p, b, NO_SOCKET, AT_UDP_RCV)


def udp_rcv(m: Machine, p: Packet, b: int) -> None:
    """A UDP datagram from IP."""
    if p.header_error:
        m.mib.UdpInErrors += 1
        drop(m, p, b, PKT_TOO_SMALL, AT_UDP_RCV)
        return
    i = inet_lookup(m, p)
    p.sk = i
    if i == NONE:
        udp_no_port(m, p, b)
        return
    p.memalloc = m.sk[i].block_io
    if p.pkt_type == PACKET_HOST and in_reserve(m, m.policy.check_udp, p, b) and not m.sk[i].memalloc:
        udp_refused(m, p, b, i)
        return
    if sk_filter_refuses(m, i, b):
        m.mib.UdpInErrors += 1
        drop_for_reserve(m, p, b, RULE_FILTER, AT_SK_FILTER)
        return
    udp_queue_rcv_skb(m, p, b, i)

"""What the host sends because of what it received: ACKs, RSTs, echo replies, ARP replies, port unreachables.

Source: Linux 2.6.12 net/ipv4/tcp_output.c tcp_send_ack, net/ipv4/icmp.c: every reply's skb comes with GFP_ATOMIC, never
from the reserve, whatever the flow.  The patch of 2005 is for reception only (bug 15).
ICMP errors are limited by net/ipv4/icmp.c xrlim_allow: one a second, six in a burst.
Differs: the reply leaves at once, so its memory is back at once; it meets no transmit queue.  The kernel limits errors
per route, here all routes share one bucket.
"""

from emu.kernel.machine import NONE, PACKET_HOST, Machine, Packet
from emu.kernel.page_alloc import GFP_ATOMIC
from emu.kernel.skbuff import alloc_skb, kfree_skb

MAX_TCP_HEADER = 160  # bytes, without IPv6 and tunnels
MAX_ICMP_HEADER = 128  # link-layer, IP and ICMP headers of a reply, before its payload
ETH_HLEN = 14
ICMP_QUOTE_BYTES = 548  # of the packet that an error answers: 576 without the error's own headers
ICMP_RATELIMIT_NS = 1_000_000_000
XRLIM_BURST_FACTOR = 6


def reply(m: Machine, size: int) -> bool:
    """Allocate and send a reply of `size` bytes with its headers; False when there was no memory for it."""
    b = alloc_skb(m, size, GFP_ATOMIC, m.policy.atomic_first_nomemalloc)
    if b == NONE:
        m.mib.tx_alloc_failed += 1
        return False
    kfree_skb(m, b)
    return True


def xrlim_allow(m: Machine) -> bool:
    """Whether the rate limit has room for one more ICMP error; takes it."""
    m.unreach_tokens_ns += m.now_ns - m.unreach_last_ns
    m.unreach_last_ns = m.now_ns
    if m.unreach_tokens_ns > XRLIM_BURST_FACTOR * ICMP_RATELIMIT_NS:
        m.unreach_tokens_ns = XRLIM_BURST_FACTOR * ICMP_RATELIMIT_NS
    if m.unreach_tokens_ns < ICMP_RATELIMIT_NS:
        return False
    m.unreach_tokens_ns -= ICMP_RATELIMIT_NS
    return True


def icmp_port_unreach(m: Machine, p: Packet) -> None:
    """Answer a datagram for this host alone with a port unreachable, as far as rate limit and memory allow."""
    if p.pkt_type != PACKET_HOST or not xrlim_allow(m):
        return
    if reply(m, MAX_ICMP_HEADER + min(p.length - ETH_HLEN, ICMP_QUOTE_BYTES)):
        m.mib.IcmpOutDestUnreachs += 1

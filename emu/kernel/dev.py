"""The softirq: devices are polled in turn, each packet goes to its protocol, the ring is refilled after the poll.

Source: Linux 2.6.12 net/core/dev.c net_rx_action, netif_receive_skb; e1000_main.c e1000_clean, e1000_intr.
What the CPU does comes in small steps, the start of a poll, one packet, a poll's end, and frames arrive between them
(`engine.loop`).  Differs: what a packet costs the CPU is one number per packet and one per byte;
polls themselves cost nothing; after a time squeeze the softirq goes on at once.
"""

from emu.kernel.af_packet import packet_rcv
from emu.kernel.arp import arp_rcv
from emu.kernel.driver import nic_clean, nic_cleaned, nic_drop, nic_intr, nic_refill, poll_is_done
from emu.kernel.drop_reason import (
    AT_ETH_TYPE_TRANS,
    AT_NETIF_RECEIVE_SKB,
    HDR_TRUNC,
    UNHANDLED_PROTO,
)
from emu.kernel.e1000 import POLL_LIST, schedule_poll
from emu.kernel.fate import drop, drop_for_reserve, note_skb
from emu.kernel.ip6_input import ipv6_rcv
from emu.kernel.ip_input import ip_rcv
from emu.kernel.machine import BACKLOG_DEV, MM_6X, NONE, Machine, Packet
from emu.kernel.netif_rx import backlog_dequeue, backlog_done, backlog_head_seq, netif_rx
from emu.kernel.policy import CHECK_TAG, RULE_CORE
from emu.kernel.skbuff import kfree_chain
from emu.kernel.upper import goes_up
from emu.wire.headers import KIND_ARP, KIND_IPV6, KIND_MALFORMED, KIND_OTHER

JIFFY_NS = 1_000_000  # HZ is 1000 on i386
JIFFY_NS_6X = 4_000_000  # HZ is 250 (netdev_budget_usecs is two of them)
ETH_P_8021Q = 0x8100
ETH_P_8021AD = 0x88A8


def skb_pfmemalloc_protocol(p: Packet) -> bool:
    """Whether the core lets a tagged packet of this ethertype through (v6.19 net/core/dev.c)."""
    if p.kind == KIND_OTHER:
        return p.ethertype in (ETH_P_8021Q, ETH_P_8021AD)
    return True


def skips_taps(m: Machine, b: int) -> bool:
    """Whether the core sees a packet as tagged: packet taps never get it, and few protocols do (v6.19 net/core/dev.c).

    It asks only while a SOCK_MEMALLOC socket exists (the static key).
    """
    return m.policy.check_core == CHECK_TAG and m.memalloc_socks > 0 and m.skb[b].pfmemalloc > 0


def netif_receive_skb(m: Machine, p: Packet, b: int) -> None:
    """One packet, from the driver to its protocol and to its verdict."""
    note_skb(m, p, b)
    m.mib.softnet_processed += p.segments
    if p.kind == KIND_MALFORMED:
        drop(m, p, b, HDR_TRUNC, AT_ETH_TYPE_TRANS)
        return
    tagged = skips_taps(m, b)
    if tagged:
        m.pf_memalloc = 1
    else:
        packet_rcv(m, p, b)
    if tagged and not skb_pfmemalloc_protocol(p):
        m.mib.dev_rx_dropped += 1
        m.dev[p.dev].rx_dropped += 1
        drop_for_reserve(m, p, b, RULE_CORE, AT_NETIF_RECEIVE_SKB)
    elif goes_up(m, p, b):
        deliver_skb(m, p, b)
    m.pf_memalloc = 0


def deliver_skb(m: Machine, p: Packet, b: int) -> None:
    """Hand a packet to the protocol of its ethertype."""
    if p.kind == KIND_ARP:
        arp_rcv(m, p, b)
    elif p.kind in (KIND_OTHER, KIND_IPV6):
        drop(m, p, b, UNHANDLED_PROTO, AT_NETIF_RECEIVE_SKB)
    elif p.ip_version == 6:
        ipv6_rcv(m, p, b)
    else:
        ip_rcv(m, p, b)


def take_chain(m: Machine, d: int, p: Packet) -> int:
    """Take a packet's descriptors off the ring and link their skbs; the first, or -1 when the driver drops it."""
    first = NONE
    last = NONE
    lost = 0
    for _ in range(p.segments):
        b = nic_clean(m, d, p)
        if b == NONE:
            lost += 1
            continue
        m.skb[b].next = NONE
        m.skb[b].frame = p.frame
        m.skb[b].packet_id = p.packet_id
        if last == NONE:
            first = b
        else:
            m.skb[last].next = b
        last = b
    if lost:
        kfree_chain(m, first)
        return NONE
    return first


def cpu_cost_ns(m: Machine, p: Packet) -> int:
    """What the protocols' work on a packet costs the CPU."""
    return m.config.cpu_ns_per_packet * p.segments + m.config.cpu_ps_per_byte * p.length // 1000


def nic_intr_rx(m: Machine, p: Packet, seq: int) -> None:
    """The interrupt of a device without NAPI: the packet goes to netif_rx, and two rounds refill the ring.

    v1 and v2 deliver a marked packet from the interrupt, ahead of the queue ("stupid", says the mail of v3).
    """
    d = p.dev
    b = take_chain(m, d, p)
    if b == NONE:
        nic_drop(m, d, p)
    elif m.policy.delivers_marked_at_once and m.skb[b].pfmemalloc:
        m.cpu_busy_until_ns = max(m.cpu_busy_until_ns, m.now_ns) + cpu_cost_ns(m, p)
        netif_receive_skb(m, p, b)
    else:
        netif_rx(m, p, b, seq)
    nic_intr(m, d)


def next_seq(m: Machine, d: int) -> int:
    """The packet that a poll of device `d`, or of the backlog, takes next, by sequence number; -1: none waits."""
    if d == BACKLOG_DEV:
        return backlog_head_seq(m)
    dev = m.dev[d]
    return dev.ring_seq[dev.next_to_clean] if dev.ring_done > 0 else NONE


def poll_one(m: Machine, d: int, p: Packet) -> None:
    """Process the packet at the head of the ring, or of the backlog, and charge the CPU for it."""
    b = backlog_dequeue(m, p) if d == BACKLOG_DEV else take_chain(m, d, p)
    m.dev[d].poll_work += p.segments
    m.cpu_busy_until_ns = m.now_ns + cpu_cost_ns(m, p)
    if b == NONE:
        nic_drop(m, d, p)
    else:
        netif_receive_skb(m, p, b)
    if d != BACKLOG_DEV:
        nic_cleaned(m, d)


def poll_begin(m: Machine, d: int, limit: int) -> None:
    """Start a device's poll; it takes at most `limit` packets."""
    dev = m.dev[d]
    dev.polling = 1
    dev.poll_work = 0
    dev.poll_limit = limit
    dev.polls += 1


def poll_done(m: Machine, d: int) -> bool:
    """What a poll does last: refill the ring, or end a throttle; whether it has nothing more to do."""
    dev = m.dev[d]
    dev.polling = 0
    if d == BACKLOG_DEV:
        return backlog_done(m)
    nic_refill(m, d)
    idle = poll_is_done(dev)
    dev.poll_tx = 0
    return idle


def poll_end(m: Machine, d: int) -> None:
    """End a poll; one that found nothing leaves the list, another goes to its end (netif_rx_complete)."""
    dev = m.dev[d]
    idle = poll_done(m, d)
    m.softirq_budget -= dev.poll_work
    dev.quota -= dev.poll_work
    m.poll_head = (m.poll_head + 1) % POLL_LIST
    m.poll_len -= 1
    dev.poll_scheduled = 0
    if not idle:
        schedule_poll(m, d)


def softirq_begin(m: Machine) -> None:
    """Start, or go on after a squeeze, with a fresh budget (net_rx_action)."""
    m.softirq_active = 1
    m.softirq_budget = m.config.netdev_budget or m.config.netdev_max_backlog
    m.softirq_started_ns = m.now_ns


def jiffy_ns(m: Machine) -> int:
    """The length of a jiffy."""
    return JIFFY_NS_6X if m.config.mm == MM_6X else JIFFY_NS


def net_rx_next(m: Machine) -> int:
    """The device whose poll is to go on or to start now; starts it; -1 when the list is empty."""
    if m.poll_len == 0:
        m.softirq_active = 0
        return NONE
    d = m.poll_list[m.poll_head]
    dev = m.dev[d]
    if dev.polling:
        return d
    if not m.softirq_active:
        softirq_begin(m)
    elif m.softirq_budget <= 0 or m.now_ns - m.softirq_started_ns >= 2 * jiffy_ns(m):
        m.mib.softnet_time_squeeze += 1
        softirq_begin(m)
    poll_begin(m, d, min(m.softirq_budget, dev.quota))
    return d

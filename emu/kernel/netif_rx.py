"""Receiving without NAPI: the interrupt puts packets into the CPU's input queue, the softirq takes them out.

Source: Linux 2.6.12 net/core/dev.c netif_rx, process_backlog; drivers/net/e1000/e1000_main.c e1000_intr without
CONFIG_E1000_NAPI (its default).  The queue takes packets while it holds up to netdev_max_backlog (300, so 301), then
drops all until it has been empty.  Interrupts preempt the softirq: a frame is taken off the ring as it arrives, and
the ring is refilled before any protocol sees the packet.
Differs: an interrupt costs the CPU nothing; an aggregated frame enters whole if its first segment may.
"""

from emu.kernel.drop_reason import AT_NETIF_RX, CPU_BACKLOG
from emu.kernel.e1000 import schedule_poll
from emu.kernel.fate import drop, note_skb
from emu.kernel.machine import BACKLOG_DEV, MAX_BACKLOG, NONE, Machine, Packet


def netif_rx(m: Machine, p: Packet, b: int, seq: int) -> None:
    """A packet from a driver's interrupt: into the queue, or dropped."""
    m.mib.softnet_processed += p.segments  # counted here and in netif_receive_skb
    if m.backlog_len <= m.config.netdev_max_backlog and m.backlog_packets < MAX_BACKLOG:
        if m.backlog_len == 0:
            m.backlog_throttle = 0
            schedule_poll(m, BACKLOG_DEV)
        if not m.backlog_throttle:
            tail = (m.backlog_head + m.backlog_packets) % MAX_BACKLOG
            m.backlog_skb[tail] = b
            m.backlog_seq[tail] = seq
            m.backlog_packets += 1
            m.backlog_len += p.segments
            return
    elif not m.backlog_throttle:
        m.backlog_throttle = 1
        m.mib.softnet_throttled += 1
    m.mib.softnet_dropped += p.segments
    note_skb(m, p, b)
    drop(m, p, b, CPU_BACKLOG, AT_NETIF_RX)


def backlog_dequeue(m: Machine, p: Packet) -> int:
    """Take the packet `p` from the head of the queue; its skb."""
    b = m.backlog_skb[m.backlog_head]
    m.backlog_head = (m.backlog_head + 1) % MAX_BACKLOG
    m.backlog_packets -= 1
    m.backlog_len -= p.segments
    return b


def backlog_head_seq(m: Machine) -> int:
    """The packet at the head of the queue, by sequence number, or -1."""
    return m.backlog_seq[m.backlog_head] if m.backlog_packets > 0 else NONE


def backlog_done(m: Machine) -> bool:
    """At the end of process_backlog: whether it found the queue empty, which ends a throttle and takes it off the
    poll list."""
    dev = m.dev[BACKLOG_DEV]
    if dev.poll_work >= dev.poll_limit or m.backlog_packets > 0:
        return False
    m.backlog_throttle = 0
    return True

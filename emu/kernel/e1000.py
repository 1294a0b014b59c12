"""The NIC and its receive ring: 256 descriptors, refilled after the poll, shown to the hardware 16 at a time.

Source: Linux 2.6.12 drivers/net/e1000/e1000_main.c (e1000_clean_rx_irq, e1000_alloc_rx_buffers, e1000_watchdog_task).
Differs: the on-chip FIFO (48 KB) and interrupt moderation are left out; a frame without a descriptor is missed at
once.  A frame that the host sent in the capture counts as a TX completion, which polls and so refills the ring.
"""

from emu.kernel.drop_reason import (
    AT_NIC,
    CPU_BUSY,
    DEV_READY,
    DROPPED,
    RX_LENGTH,
    RX_MISSED,
)
from emu.kernel.machine import (
    DRIVER_8139CP,
    DRIVER_E1000_PS,
    DRIVER_TG3,
    MAX_DEVICES,
    NONE,
    PAGE_SIZE,
    Machine,
    Packet,
)
from emu.kernel.netdevice import PS_PAGE_BUFFERS, dev_memalloc_skb
from emu.kernel.policy import RULE_CAP, RULE_NO_RESERVE, RULE_NONE, RX_NEVER

E1000_RX_BUFFER_WRITE = 16  # the tail register moves in steps of this many
E1000_WATCHDOG_NS = 2_000_000_000
E1000_MAX_INTR = 10  # rounds of an interrupt
E1000_RXBUFFER_256 = 256  # packet split: the buffer for headers
POLL_LIST = MAX_DEVICES + 1  # every device and the backlog
FCS_BYTES = 4
ETH_MAX_FRAME_BYTES = 1518  # 1522 with FCS: the longest frame when long packets are off


def rx_buffer_len_for(mtu: int) -> int:
    """The driver's buffer size for an MTU: the smallest of 2048, 4096, 8192, 16384 that holds MTU + 18."""
    size = 2048
    while size < mtu + 18 and size < 16384:
        size *= 2
    return size


def longest_frame(m: Machine, d: int) -> int:
    """The longest frame that the NIC accepts, in bytes without FCS."""
    dev = m.dev[d]
    if dev.mtu <= 1500:
        return ETH_MAX_FRAME_BYTES
    if dev.driver == DRIVER_E1000_PS:
        return E1000_RXBUFFER_256 + PS_PAGE_BUFFERS * PAGE_SIZE
    return dev.rx_buffer_len - FCS_BYTES


def ring_free(m: Machine, d: int) -> int:
    """Descriptors that the NIC may fill now."""
    dev = m.dev[d]
    if dev.driver in (DRIVER_8139CP, DRIVER_TG3):
        return dev.ring_filled - dev.ring_done - dev.ring_unposted
    return (dev.rdt - dev.rdh) % dev.ring_size


def schedule_poll(m: Machine, d: int) -> None:
    """Put a device, or the backlog, on the poll list (netif_rx_schedule)."""
    dev = m.dev[d]
    if dev.poll_scheduled:
        return
    dev.poll_scheduled = 1
    dev.quota = dev.quota + dev.weight if dev.quota < 0 else dev.weight
    tail = (m.poll_head + m.poll_len) % POLL_LIST
    m.poll_list[tail] = d
    m.poll_len += 1


def missed(m: Machine, d: int, p: Packet, reason: int) -> None:
    """The NIC loses a frame: it never becomes an skb."""
    dev = m.dev[d]
    p.verdict = DROPPED
    p.reason = reason
    p.point = AT_NIC
    if reason != RX_MISSED:
        return
    p.cause = dev.refill_cause or CPU_BUSY
    p.culprit_frame = m.last_page_frame
    p.rule = RULE_NONE
    if dev.refill_cause:
        dev.rx_missed_frames_dry += 1
        if m.policy.rx_memalloc == RX_NEVER:
            p.rule = RULE_NO_RESERVE
        elif m.policy.caps_reserve:
            p.rule = RULE_CAP if dev.rx_reserve_used >= dev.rx_reserve else RULE_NONE


def e1000_receive_frame(m: Machine, d: int, p: Packet, seq: int) -> bool:
    """A frame arrives: DMA into the next descriptors, or it is missed; whether it is in the ring now."""
    dev = m.dev[d]
    if not dev.up:
        missed(m, d, p, DEV_READY)
        return False
    if p.segments == 1 and p.length - p.link_excess > longest_frame(m, d):
        dev.rx_length_errors += 1
        missed(m, d, p, RX_LENGTH)
        return False
    free = ring_free(m, d)
    if free < dev.ring_free_min:
        dev.ring_free_min = free
    if free < p.segments:
        dev.rx_missed += p.segments
        missed(m, d, p, RX_MISSED)
        return False
    for _ in range(p.segments):
        dev.ring_seq[dev.rdh] = seq
        dev.rdh = (dev.rdh + 1) % dev.ring_slots
    dev.ring_done += p.segments
    dev.rx_packets += p.segments
    dev.rx_bytes += p.length
    if dev.napi:
        schedule_poll(m, d)
    return True


def e1000_clean_one(m: Machine, d: int) -> int:
    """Take the next descriptor with a packet off the ring; its skb."""
    dev = m.dev[d]
    slot = dev.next_to_clean
    b = dev.ring_skb[slot]
    dev.ring_skb[slot] = NONE
    dev.ring_seq[slot] = NONE
    dev.next_to_clean = (slot + 1) % dev.ring_size
    dev.ring_done -= 1
    dev.ring_filled -= 1
    return b


def e1000_alloc_rx_buffers(m: Machine, d: int) -> None:
    """Refill the ring until it is full or an allocation fails; a failure is silent, and is tried again next time."""
    dev = m.dev[d]
    dev.refill_cause = 0
    slot = dev.next_to_use
    while dev.ring_skb[slot] == NONE:
        quiet_rounds = m.quiet_rounds
        b = dev_memalloc_skb(m, d)
        if b == NONE:
            m.quiet_rounds = quiet_rounds  # what a failure took it gave back: the machine stands as it stood
            dev.alloc_rx_buff_failed += 1
            dev.refill_cause = m.alloc_cause
            break
        m.quiet_rounds = 0
        dev.ring_skb[slot] = b
        dev.ring_filled += 1
        if slot % E1000_RX_BUFFER_WRITE == 0:
            dev.rdt = slot
        slot = (slot + 1) % dev.ring_size
    dev.next_to_use = slot

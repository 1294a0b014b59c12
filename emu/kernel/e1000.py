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
    Device,
    Machine,
    Packet,
)
from emu.kernel.netdevice import PS_PAGE_BUFFERS, refusing_rule, ring_buffer
from emu.kernel.slab import blame_last_page

E1000_RX_BUFFER_WRITE = 16  # the tail register moves in steps of this many
E1000_WATCHDOG_NS = 2_000_000_000
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


def replaces(driver: int) -> bool:
    """Whether a driver replaces a buffer when it takes a packet, instead of refilling its ring later."""
    return driver in (DRIVER_8139CP, DRIVER_TG3)


def ring_free(m: Machine, d: int) -> int:
    """Descriptors that the NIC may fill now."""
    dev = m.dev[d]
    if replaces(dev.driver):
        return dev.ring_filled - dev.ring_done - dev.ring_unposted
    free = dev.rdt - dev.rdh
    return free if free >= 0 else free + dev.ring_size


def ring_next(slot: int, slots: int) -> int:
    """The slot behind one, of a ring of so many: a remainder would be a division for each packet."""
    return slot + 1 if slot + 1 < slots else 0


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
    blame_last_page(m, p)
    if dev.refill_cause:
        dev.rx_missed_frames_dry += 1
        p.rule = refusing_rule(m, d)


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
        dev.rdh = ring_next(dev.rdh, dev.ring_slots)
    dev.ring_done += p.segments
    dev.rx_packets += p.segments
    dev.rx_bytes += p.length
    if dev.napi:
        schedule_poll(m, d)
    return True


def take_buffer(dev: Device) -> int:
    """Take the buffer out of the next descriptor with a packet; its skb."""
    b = dev.ring_skb[dev.next_to_clean]
    dev.ring_skb[dev.next_to_clean] = NONE
    dev.ring_filled -= 1
    return b


def leave_descriptor(dev: Device) -> None:
    """The driver is done with the next descriptor with a packet."""
    dev.ring_seq[dev.next_to_clean] = NONE
    dev.next_to_clean = ring_next(dev.next_to_clean, dev.ring_slots)
    dev.ring_done -= 1


def e1000_clean_one(m: Machine, d: int) -> int:
    """Take the next descriptor with a packet off the ring; its skb."""
    b = take_buffer(m.dev[d])
    leave_descriptor(m.dev[d])
    return b


def refill_failed(m: Machine, d: int) -> None:
    """A refill stops for want of memory: silently, and it is tried again next time."""
    m.dev[d].alloc_rx_buff_failed += 1
    m.dev[d].refill_cause = m.alloc_cause


def fill_slot(m: Machine, d: int, slot: int) -> bool:
    """Give an empty descriptor a buffer; False when there is no memory for one."""
    dev = m.dev[d]
    b = ring_buffer(m, d)
    if b == NONE:
        refill_failed(m, d)
        return False
    dev.ring_skb[slot] = b
    dev.ring_filled += 1
    return True


def behind_filled(dev: Device, slot: int) -> int:
    """The slot behind one that has its buffer, after moving the tail register if that is due."""
    if slot % E1000_RX_BUFFER_WRITE == 0:
        dev.rdt = slot
    return ring_next(slot, dev.ring_size)


def e1000_alloc_rx_buffers(m: Machine, d: int) -> None:
    """Refill the ring until it is full or an allocation fails."""
    dev = m.dev[d]
    dev.refill_cause = 0
    slot = dev.next_to_use
    while dev.ring_skb[slot] == NONE and fill_slot(m, d, slot):
        slot = behind_filled(dev, slot)
    dev.next_to_use = slot

"""Drivers that replace the buffer when they take a packet, or drop the packet: 8139cp and tg3.

Source: Linux 2.6.12 drivers/net/8139cp.c (cp_rx_poll, cp_refill_rx: ring of 64, a failure at open keeps the interface
down) and drivers/net/tg3.c (tg3_rx, tg3_init_rings: 200 buffers unless set otherwise, up to 511, fewer if memory
fails at open; a packet up to 256 bytes is copied into an skb of its size and keeps the buffer).  A packet without a
replacement is dropped (rx_dropped) and its buffer stays, so the ring never runs dry.
Differs: both call dev_memalloc_skb, as the patch asks of every driver; tg3's jumbo ring is left out; a dropped packet
counts as work of its poll; an aggregated frame is dropped whole when one of its segments finds no replacement.
"""

from emu.kernel.e1000 import leave_descriptor
from emu.kernel.machine import DRIVER_8139CP, DRIVER_TG3, NONE, Machine, Packet
from emu.kernel.netdevice import dev_memalloc_skb, ring_buffer

CP_RX_RING_SIZE = 64
CP_PKT_BUF_SZ = 1536
CP_LONG_HEADER_BYTES = 22  # ETH_HLEN + 8
CP_MAX_MTU = 4096
CP_WEIGHT = 16
TG3_RX_RING_PENDING = 200
TG3_RX_RING_MAX = 511
TG3_RX_PKT_BUF_SZ = 1600  # 1536 + 64
TG3_RX_COPY_THRESHOLD = 256


def cp_buffer_bytes(mtu: int) -> int:
    """The size of an 8139cp's receive buffer for an MTU (cp_set_rxbufsize)."""
    return mtu + CP_LONG_HEADER_BYTES if mtu > 1500 else CP_PKT_BUF_SZ


def segment_bytes(p: Packet) -> int:
    """The length of one wire frame of a packet."""
    headers = p.length - p.payload_length
    return headers + (p.payload_length + p.segments - 1) // p.segments


def replacement(m: Machine, d: int, p: Packet) -> int:
    """An skb for the packet's data, if it is to be copied, else for the next packet in its slot; -1: no memory."""
    dev = m.dev[d]
    size = dev.rx_skb_bytes
    if dev.driver == DRIVER_TG3 and segment_bytes(p) <= TG3_RX_COPY_THRESHOLD:
        dev.rx_skb_bytes = segment_bytes(p)
    b = ring_buffer(m, d)
    dev.rx_skb_bytes = size
    return b


def replace_clean_one(m: Machine, d: int, p: Packet) -> int:
    """Take a packet from the next slot and leave a buffer in it; the packet's skb, or -1: it is dropped."""
    dev = m.dev[d]
    slot = dev.next_to_clean
    b = replacement(m, d, p)
    if b == NONE:
        dev.alloc_rx_buff_failed += 1
    elif dev.driver == DRIVER_8139CP or segment_bytes(p) > TG3_RX_COPY_THRESHOLD:
        taken = dev.ring_skb[slot]
        dev.ring_skb[slot] = b
        b = taken
    leave_descriptor(dev)
    if dev.driver == DRIVER_TG3:
        dev.ring_unposted += 1
    return b


def replace_fill(m: Machine, d: int) -> None:
    """Fill the ring when the interface comes up: all of it (8139cp, else none), or as far as memory goes (tg3)."""
    dev = m.dev[d]
    for slot in range(dev.ring_size):
        b = dev_memalloc_skb(m, d)
        if b == NONE:
            dev.alloc_rx_buff_failed += 1
            break
        dev.ring_skb[slot] = b
        dev.ring_filled += 1
    dev.refill_cause = m.alloc_cause if dev.ring_filled == 0 else 0
    dev.ring_slots = max(1, dev.ring_filled)


def replace_post(m: Machine, d: int) -> None:
    """At the end of its pass tg3 gives the buffers back to the NIC; 8139cp did so one by one."""
    m.dev[d].ring_unposted = 0

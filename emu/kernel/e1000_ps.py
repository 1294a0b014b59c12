"""e1000 with packet split: a small skb for the headers and up to three pages for the data of each descriptor.

Source: Linux 2.6.12 drivers/net/e1000/e1000_main.c (e1000_clean_rx_irq_ps, e1000_alloc_rx_buffers_ps; built with
CONFIG_E1000_PACKET_SPLIT).  A page that carried nothing stays in its descriptor.  As the kernel has it, truesize does
not grow with the pages, so a socket is charged for the header's buffer only.  v6 of the patch tries a page plainly,
then with __GFP_MEMALLOC, and counts none of them (Phillips, linux-mm, 12 Aug 2005).
Differs: the NIC splits TCP and UDP behind their headers and every other frame behind byte 256 (82573 manual, not read).
"""

from emu.kernel.drop_reason import NOMEM
from emu.kernel.e1000 import E1000_RXBUFFER_256, behind_filled, e1000_clean_one, fill_slot, refill_failed
from emu.kernel.machine import NONE, PAGE_SIZE, Machine, Packet
from emu.kernel.netdevice import PS_PAGE_BUFFERS
from emu.kernel.page_alloc import GFP_ATOMIC, GFP_MEMALLOC
from emu.kernel.slab import SLAB_PAGE, pages_for_slab
from emu.wire.headers import KIND_TCP, KIND_UDP


def split_pages_of(p: Packet) -> int:
    """How many data pages one descriptor of a packet fills."""
    if p.kind in (KIND_TCP, KIND_UDP):
        data = (p.payload_length + p.segments - 1) // p.segments
    else:
        data = max(0, p.length - E1000_RXBUFFER_256)
    return min(PS_PAGE_BUFFERS, (data + PAGE_SIZE - 1) // PAGE_SIZE)


def count_pages(m: Machine, s: int) -> int:
    """How many pages a chain has."""
    pages = 0
    while s != NONE:
        pages += 1
        s = m.slab[s].next
    return pages


def e1000_clean_one_ps(m: Machine, d: int, pages: int) -> int:
    """Take the next descriptor with a packet off the ring, and as many of its pages as the packet fills; its skb."""
    dev = m.dev[d]
    slot = dev.next_to_clean
    b = e1000_clean_one(m, d)
    skb = m.skb[b]
    for _ in range(pages):
        s = dev.ring_pages[slot]
        if s == NONE:
            break
        dev.ring_pages[slot] = m.slab[s].next
        m.slab[s].next = skb.frags
        skb.frags = s
    return b


def alloc_ps_page(m: Machine) -> int:
    """A data page for the ring; its slab row, or -1 with `alloc_cause` set."""
    s = pages_for_slab(m, SLAB_PAGE, 0, GFP_ATOMIC)
    if s == NONE and m.policy.split_pages_memalloc:
        s = pages_for_slab(m, SLAB_PAGE, 0, GFP_ATOMIC | GFP_MEMALLOC)
    if s == NONE:
        m.alloc_cause = NOMEM
        return NONE
    m.slab[s].inuse = 1
    return s


def fill_pages(m: Machine, d: int, slot: int) -> bool:
    """Give a descriptor the pages that it lacks; those that it got stay in it when what follows fails."""
    dev = m.dev[d]
    for _ in range(PS_PAGE_BUFFERS - count_pages(m, dev.ring_pages[slot])):
        quiet_rounds = m.quiet_rounds
        s = alloc_ps_page(m)
        if s == NONE:
            m.quiet_rounds = quiet_rounds  # as in `ring_buffer`
            refill_failed(m, d)
            return False
        m.quiet_rounds = 0
        m.slab[s].next = dev.ring_pages[slot]
        dev.ring_pages[slot] = s
    return True


def e1000_alloc_rx_buffers_ps(m: Machine, d: int) -> None:
    """Refill the ring until it is full or an allocation fails, as `e1000.e1000_alloc_rx_buffers` does."""
    dev = m.dev[d]
    dev.refill_cause = 0
    slot = dev.next_to_use
    while dev.ring_skb[slot] == NONE and fill_pages(m, d, slot) and fill_slot(m, d, slot):
        slot = behind_filled(dev, slot)
    dev.next_to_use = slot

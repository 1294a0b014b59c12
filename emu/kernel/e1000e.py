"""The e1000e of 6.x: refilled inside the poll, 16 descriptors at a time; small packets are copied at reception.

Source: Linux 6.1 drivers/net/ethernet/intel/e1000e/netdev.c (e1000_clean_rx_irq, e1000_alloc_rx_buffers,
e1000e_watchdog_task, e1000_intr_msix_tx), e1000.h e1000_desc_unused.
A receive buffer is allocated one ring before the packet that it will hold arrives.  One descriptor is always left
unused, and the tail register moves only to multiples of 16, so a full ring of 256 shows the NIC 240.
TX completions have an interrupt vector of their own and poll nothing: after a failed refill of an empty ring only the
watchdog, every 2 s, tries again.
Differs: MTU above 1500 gets one buffer of a power of two, as `e1000` has it, in place of a list of pages; packet split
is left out; copybreak goes with the page-fragment allocator (policies that allocate by kmalloc have none);
the NIC itself is that of `e1000`.
"""

from emu.kernel.e1000 import (
    E1000_RX_BUFFER_WRITE,
    behind_filled,
    fill_slot,
    leave_descriptor,
    rx_buffer_len_for,
    take_buffer,
)
from emu.kernel.machine import NONE, Machine
from emu.kernel.netdevice import may_use_reserve
from emu.kernel.page_alloc import GFP_ATOMIC, GFP_MEMALLOC
from emu.kernel.policy import BUFFER_PAGE_FRAGMENT
from emu.kernel.skbuff import napi_alloc_skb, rx_headroom_bytes

COPYBREAK_BYTES = 256
RX_BUFFER_BYTES = 1522  # VLAN_ETH_FRAME_LEN + ETH_FCS_LEN


def e1000e_rx_buffer_len(mtu: int) -> int:
    """The buffer size for an MTU (e1000_change_mtu)."""
    return RX_BUFFER_BYTES if mtu <= 1500 else rx_buffer_len_for(mtu)


def e1000e_desc_unused(m: Machine, d: int) -> int:
    """Descriptors that could be given to the NIC."""
    dev = m.dev[d]
    unused = dev.next_to_clean - dev.next_to_use - 1
    return unused if unused >= 0 else unused + dev.ring_size


def e1000e_alloc_rx_buffers(m: Machine, d: int, cleaned_count: int) -> None:
    """Give the NIC up to `cleaned_count` descriptors, with the buffer that is still there or another one."""
    dev = m.dev[d]
    dev.refill_cause = 0
    slot = dev.next_to_use
    for _ in range(cleaned_count):
        if dev.ring_skb[slot] == NONE and not fill_slot(m, d, slot):
            break
        slot = behind_filled(dev, slot)
    dev.next_to_use = slot


def e1000e_refill(m: Machine, d: int) -> None:
    """After a pass: everything that is unused."""
    m.dev[d].cleaned_count = 0
    e1000e_alloc_rx_buffers(m, d, e1000e_desc_unused(m, d))


def e1000e_cleaned(m: Machine, d: int) -> None:
    """After a packet went up: 16 descriptors are cleaned, so as many go back to the NIC at once."""
    dev = m.dev[d]
    if dev.cleaned_count >= E1000_RX_BUFFER_WRITE:
        e1000e_alloc_rx_buffers(m, d, dev.cleaned_count)
        dev.cleaned_count = 0


def copybreak(m: Machine, d: int, length: int) -> int:
    """A small skb for a packet of `length` bytes, or -1: then the packet goes up in its own buffer."""
    gfp = GFP_ATOMIC | GFP_MEMALLOC if may_use_reserve(m, d) else GFP_ATOMIC
    b = napi_alloc_skb(m, length + rx_headroom_bytes(m), gfp)
    if b == NONE:
        m.dev[d].copybreak_failed += 1
        return NONE
    skb = m.skb[b]
    skb.dev = d
    if skb.pfmemalloc:
        skb.from_reserve = 1
        m.dev[d].reserve_allocations += 1
    return b


def e1000e_clean_one(m: Machine, d: int, length: int) -> int:
    """Take the next descriptor with a packet of `length` bytes; its skb: the buffer, or a copy and the buffer stays."""
    dev = m.dev[d]
    b = NONE
    if length < COPYBREAK_BYTES and m.policy.rx_allocator == BUFFER_PAGE_FRAGMENT:
        b = copybreak(m, d, length)
    if b == NONE:
        b = take_buffer(dev)
    leave_descriptor(dev)
    dev.cleaned_count += 1
    return b

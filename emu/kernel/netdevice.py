"""The reserve and the devices that draw on it: what the patch of August 2005 added.

Source: Phillips, linux-mm, v5 of 8 Aug 2005 with its follow-up of 9 Aug (include/linux/netdevice.h, net/core/dev.c,
mm/page_alloc.c): `dev_memalloc_skb`, `estimate_skb_pages`, `adjust_memalloc_reserve`, the count per device.
No packet is tracked: any checked packet of the device gives one back while the count is above zero.
"""

from emu.kernel.bugs import BUG_DOWN, BUG_PACKET_SPLIT, has_bug
from emu.kernel.drop_reason import DEVICE_CAP, NO_CAUSE, NOMEM
from emu.kernel.machine import DRIVER_E1000_PS, NONE, PAGE_SIZE, Machine
from emu.kernel.page_alloc import GFP_ATOMIC, GFP_MEMALLOC, setup_per_zone_pages_min
from emu.kernel.policy import (
    BUFFER_PAGE_FRAGMENT,
    ESTIMATE_NONE,
    RX_ALWAYS,
    RX_NEVER,
    RX_WHILE_MEMALLOC_SOCKS,
)
from emu.kernel.skbuff import NET_IP_ALIGN, alloc_skb, netdev_alloc_frag_skb, rx_headroom_bytes

MAX_PS_BUFFERS = 4  # 2.6.12 drivers/net/e1000/e1000_hw.h: the header's and the pages of a packet-split descriptor
PS_PAGE_BUFFERS = MAX_PS_BUFFERS - 1


def fls(value: int) -> int:
    """The position of the highest bit that is set, from 1; 0 for 0."""
    position = 0
    while value:
        value >>= 1
        position += 1
    return position


def estimate_skb_pages(m: Machine, num: int, size: int) -> int:
    """How many pages `num` skbs of `size` bytes need, as v6 counts: the 160 bytes of shared info are forgotten."""
    head = m.cache[m.head_cache]
    head_pages = (num + head.num - 1) // head.num << head.order
    data_bytes = num << fls(size + 15)
    return head_pages + (data_bytes + PAGE_SIZE - 1) // PAGE_SIZE


def adjust_memalloc_reserve(m: Machine, pages: int) -> None:
    """Raise (or lower) the watermarks by `pages`; GFP_ATOMIC's floor moves by 3/8 of it only.

    v5 keeps no sum of its own: what it adds lies in min_free_kbytes, where the next sysctl write overwrites it, and a
    result below zero is refused (bug 9, a limit of its design).
    """
    kbytes = pages * (PAGE_SIZE >> 10)
    if m.policy.reserve_in_sysctl:
        if m.min_free_kbytes + kbytes < 0:
            return
        m.min_free_kbytes += kbytes
    else:
        m.var_free_kbytes += kbytes
    setup_per_zone_pages_min(m)


def split_pages(m: Machine, d: int) -> int:
    """The pages that v6 adds for the data of a packet-split ring: three for each skb of the cap.

    As posted (bug 13): PS_PAGE_BUFFERS is the text "MAX_PS_BUFFERS-1", so the product is 4 - cap; and the device does
    not yet know that it splits when it first comes up.
    """
    dev = m.dev[d]
    if dev.driver != DRIVER_E1000_PS or not m.policy.split_pages_memalloc:
        return 0
    if has_bug(m, BUG_PACKET_SPLIT):
        return MAX_PS_BUFFERS - dev.rx_reserve if dev.opened > 0 else 0
    return PS_PAGE_BUFFERS * dev.rx_reserve


def reserve_for_device(m: Machine, d: int) -> None:
    """What a driver's open does for the reserve."""
    dev = m.dev[d]
    if m.policy.adjusts_reserve and m.policy.estimate != ESTIMATE_NONE:
        pages = estimate_skb_pages(m, dev.rx_reserve, dev.rx_buffer_len + NET_IP_ALIGN)
        dev.memalloc_pages = pages + split_pages(m, d)
        adjust_memalloc_reserve(m, dev.memalloc_pages)


def unreserve_for_device(m: Machine, d: int) -> None:
    """What a driver's stop does for the reserve; as posted it does so only where the PHY is powered down (bug 10)."""
    dev = m.dev[d]
    if dev.memalloc_pages and not has_bug(m, BUG_DOWN):
        adjust_memalloc_reserve(m, -dev.memalloc_pages)
        dev.memalloc_pages = 0


def alloc_rx(m: Machine, size: int, gfp: int) -> int:
    """A receive skb by the policy's allocator; its row, or -1."""
    if m.policy.rx_allocator == BUFFER_PAGE_FRAGMENT:
        return netdev_alloc_frag_skb(m, size, gfp)
    return alloc_skb(m, size, gfp, m.policy.atomic_first_nomemalloc)


def rx_entitled(m: Machine) -> bool:
    """Whether a receive buffer may now be allocated with __GFP_MEMALLOC, caps aside."""
    rule = m.policy.rx_memalloc
    return rule == RX_ALWAYS or (rule == RX_WHILE_MEMALLOC_SOCKS and m.memalloc_socks > 0)


def dev_memalloc_skb(m: Machine, d: int) -> int:
    """A receive buffer for device `d`; its skb, or -1 with `alloc_cause` set.

    As the patch has it: plain GFP_ATOMIC first; then, below the cap, with __GFP_MEMALLOC.  Mainline passes
    __GFP_MEMALLOC at once and lets the page allocator decide.
    """
    dev = m.dev[d]
    size = dev.rx_skb_bytes + rx_headroom_bytes(m)
    rule = m.policy.rx_memalloc
    m.alloc_cause = NO_CAUSE
    entitled = rx_entitled(m)
    if m.policy.tags_pages and entitled:
        b = alloc_rx(m, size, GFP_ATOMIC | GFP_MEMALLOC)
        if b != NONE and m.skb[b].pfmemalloc:
            m.skb[b].from_reserve = 1
            dev.reserve_allocations += 1
    else:
        b = alloc_rx(m, size, GFP_ATOMIC)
        if b == NONE and entitled and rule != RX_NEVER:
            if m.policy.caps_reserve and dev.rx_reserve_used >= dev.rx_reserve:
                m.alloc_cause = DEVICE_CAP
                return NONE
            b = alloc_rx(m, size, GFP_ATOMIC | GFP_MEMALLOC)
            if b != NONE:
                m.skb[b].from_reserve = 1
                dev.reserve_allocations += 1
                if m.policy.caps_reserve:
                    dev.rx_reserve_used += 1
                    if dev.rx_reserve_used > dev.rx_reserve_used_max:
                        dev.rx_reserve_used_max = dev.rx_reserve_used
    if b == NONE:
        m.alloc_cause = NOMEM
    else:
        m.skb[b].dev = d
    return b


def dev_unreserve(m: Machine, d: int, packets: int) -> bool:
    """The check's first half: is the device in reserve?  Then give back one per packet, whose ever it was."""
    dev = m.dev[d]
    if dev.rx_reserve_used <= 0:
        return False
    dev.rx_reserve_used -= min(packets, dev.rx_reserve_used)
    return True

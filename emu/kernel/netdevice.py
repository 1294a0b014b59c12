"""The reserve and the devices that draw on it: what the patch of August 2005 added.

Source: Phillips, linux-mm, v1 of 3 Aug 2005 to v6 of 12 Aug (include/linux/netdevice.h, net/core/skbuff.c,
net/core/dev.c, mm/page_alloc.c, drivers/net/e1000): `dev_memalloc_skb`, `estimate_skb_pages`,
`adjust_memalloc_reserve`.  v1 and v2 mark the skb and count nothing.  v3 to v6 count per device and track no packet:
any checked packet of the device gives one back while the count is above zero.
Differs: with one CPU the check of the cap and the count are one step.  v4's dev_drop_skb and v5's dev_memfree_skb
(free and count down) show only where a protocol drops; v6 also calls it on a refill's error paths (a buffer that
crosses 64 KB), which do not occur here.  A copy of a marked skb would not be marked (v1, v2); only marked originals
are checked.
"""

from emu.kernel.bugs import BUG_DOWN, BUG_FFS, BUG_LEGACY, BUG_MARK, BUG_NULL, BUG_PACKET_SPLIT, has_bug, oops
from emu.kernel.drop_reason import AT_DEV_MEMALLOC_SKB, DEVICE_CAP, NO_CAUSE, NOMEM
from emu.kernel.machine import DRIVER_E1000, DRIVER_E1000_PS, NONE, PAGE_SIZE, Machine, Packet
from emu.kernel.page_alloc import GFP_ATOMIC, GFP_MEMALLOC, setup_per_zone_pages_min
from emu.kernel.policy import (
    BUFFER_PAGE_FRAGMENT,
    CHECK_COUNT,
    CHECK_TAG,
    ESTIMATE_NONE,
    RULE_CAP,
    RULE_MARK,
    RULE_NO_RESERVE,
    RULE_NONE,
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


def ffs(value: int) -> int:
    """The position of the lowest bit that is set, from 1; 0 for 0."""
    return fls(value & -value)


def estimate_skb_pages(m: Machine, num: int, size: int) -> int:
    """How many pages `num` skbs of `size` bytes need, as v6 counts: the 160 bytes of shared info are forgotten.

    v5 as posted takes ffs for fls: with the odd size + 15 of every e1000 buffer, 4 bytes per skb (bug 8).
    """
    head = m.cache[m.head_cache]
    head_pages = (num + head.num - 1) // head.num << head.order
    width = ffs(size + 15) + 1 if has_bug(m, BUG_FFS) else fls(size + 15)
    data_bytes = num << width
    return head_pages + (data_bytes + PAGE_SIZE - 1) // PAGE_SIZE


def estimate_split_pages(m: Machine, d: int) -> int:
    """How many pages v6 adds for the data of split packets; with bug 13 none, and from the second time on too few.

    As posted, PS_PAGE_BUFFERS is the unparenthesised "MAX_PS_BUFFERS - 1", and rx_ps is read before it is set.
    """
    dev = m.dev[d]
    if not m.policy.split_pages_memalloc or dev.driver != DRIVER_E1000_PS:
        return 0
    if not has_bug(m, BUG_PACKET_SPLIT):
        return PS_PAGE_BUFFERS * dev.rx_reserve
    return MAX_PS_BUFFERS - dev.rx_reserve if dev.rx_ps else 0


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


def reserve_for_device(m: Machine, d: int) -> None:
    """What a driver's open does for the reserve; e1000_setup_rctl, which sets rx_ps, comes after it."""
    dev = m.dev[d]
    if m.policy.adjusts_reserve and m.policy.estimate != ESTIMATE_NONE:
        pages = estimate_skb_pages(m, dev.rx_reserve, dev.rx_buffer_len + NET_IP_ALIGN)
        dev.memalloc_pages = pages + estimate_split_pages(m, d)
        adjust_memalloc_reserve(m, dev.memalloc_pages)
    dev.rx_ps = 1 if dev.driver == DRIVER_E1000_PS else 0


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


def may_use_reserve(m: Machine, d: int) -> bool:
    """Whether the policy lets this device's receive buffers come with __GFP_MEMALLOC."""
    rule = m.policy.rx_memalloc
    if rule == RX_WHILE_MEMALLOC_SOCKS:
        return m.memalloc_socks > 0
    if m.dev[d].driver == DRIVER_E1000 and has_bug(m, BUG_LEGACY):
        return False
    return rule != RX_NEVER


def reserve_skb(m: Machine, d: int, size: int) -> int:
    """A receive buffer with __GFP_MEMALLOC, below the cap, counted and marked as the policy says; or -1."""
    dev = m.dev[d]
    if m.policy.caps_reserve and dev.rx_reserve_used >= dev.rx_reserve:
        m.alloc_cause = DEVICE_CAP
        return NONE
    b = alloc_rx(m, size, GFP_ATOMIC | GFP_MEMALLOC)
    if b == NONE:
        return NONE
    skb = m.skb[b]
    skb.from_reserve = 1
    if m.policy.marks_skbs and not has_bug(m, BUG_MARK):
        skb.pfmemalloc = 1
    dev.reserve_allocations += 1
    if m.policy.caps_reserve:
        dev.rx_reserve_used += 1
        if dev.rx_reserve_used > dev.rx_reserve_used_max:
            dev.rx_reserve_used_max = dev.rx_reserve_used
    if has_bug(m, BUG_NULL):  # the skb was never stored: skb->dev is written through a null pointer
        m.leaked_skbs += 1
        oops(m, BUG_NULL, AT_DEV_MEMALLOC_SKB)
        return NONE
    return b


def dev_memalloc_skb(m: Machine, d: int) -> int:
    """A receive buffer for device `d`; its skb, or -1 with `alloc_cause` set.

    As the patch has it: plain GFP_ATOMIC first; then, below the cap, with __GFP_MEMALLOC.  Mainline passes
    __GFP_MEMALLOC at once and lets the page allocator decide.
    """
    dev = m.dev[d]
    size = dev.rx_skb_bytes + rx_headroom_bytes(m)
    m.alloc_cause = NO_CAUSE
    entitled = may_use_reserve(m, d)
    if m.policy.tags_pages and entitled:
        b = alloc_rx(m, size, GFP_ATOMIC | GFP_MEMALLOC)
        if b != NONE and m.skb[b].pfmemalloc:
            m.skb[b].from_reserve = 1
            dev.reserve_allocations += 1
    else:
        b = alloc_rx(m, size, GFP_ATOMIC)
        if b == NONE and entitled:
            b = reserve_skb(m, d, size)
    if b != NONE:
        m.skb[b].dev = d
    elif m.alloc_cause == NO_CAUSE:
        m.alloc_cause = NOMEM
    return b


def ring_buffer(m: Machine, d: int) -> int:
    """The same for a ring that tries again and again: a failure leaves an idle machine idle (`quiet_rounds`)."""
    quiet_rounds = m.quiet_rounds
    b = dev_memalloc_skb(m, d)
    m.quiet_rounds = quiet_rounds if b == NONE else 0  # what a failure took it gave back
    return b


def refusing_rule(m: Machine, d: int) -> int:
    """The rule that keeps a device without memory from the reserve, RULE_NONE when the policy lets it in."""
    dev = m.dev[d]
    if m.policy.rx_memalloc == RX_NEVER:
        return RULE_NO_RESERVE
    if m.policy.caps_reserve and dev.rx_reserve_used >= dev.rx_reserve:
        return RULE_CAP
    return RULE_NONE


def dev_unreserve(m: Machine, d: int, packets: int) -> bool:
    """The check's first half: is the device in reserve?  Then give back one per packet, whose ever it was."""
    dev = m.dev[d]
    if dev.rx_reserve_used <= 0:
        return False
    dev.rx_reserve_used -= min(packets, dev.rx_reserve_used)
    return True


def in_reserve(m: Machine, check: int, p: Packet, b: int) -> bool:
    """What a protocol's check finds: the device in reserve, which gives back, or the skb marked as the reserve's.

    A packet for which this holds is dropped unless its socket is SOCK_MEMALLOC.  No revision hooks IPv6.
    """
    if p.ip_version == 6:
        return False
    if check == CHECK_COUNT:
        return dev_unreserve(m, p.skb_dev, p.segments)
    return check == CHECK_TAG and m.skb[b].pfmemalloc > 0


def rule_of_check(check: int, rule: int) -> int:
    """The rule that a protocol's check refuses by: its own, unless it looks at the skb's mark."""
    return RULE_MARK if check == CHECK_TAG else rule

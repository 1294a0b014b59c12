"""What somebody at a terminal does while packets arrive: interfaces up and down, MTUs, a sysctl, pages taken.

Source: the actions are `ip link set`, and /proc/sys/vm/min_free_kbytes (2.6.12 mm/page_alloc.c
min_free_kbytes_sysctl_handler: the value, then the watermarks; v5 keeps its reserve in that value, v6 beside it).
Differs: an entry happens between two polls, never within one, and takes no CPU time.
"""

from typing import Any

from emu.kernel.machine import (
    NEVER_NS,
    PLAN_DOWN,
    PLAN_MIN_FREE_KBYTES,
    PLAN_MTU,
    PLAN_UP,
    ZONE_NORMAL,
    Machine,
)
from emu.kernel.page_alloc import move_pages, setup_per_zone_pages_min
from emu.kernel.updown import change_mtu, dev_close, dev_open


def plan_due_ns(m: Machine) -> int:
    """When the next entry of the plan is due; never while a poll is on."""
    if m.plan_at >= m.plan_len:
        return NEVER_NS
    if m.poll_len > 0 and m.dev[m.poll_list[m.poll_head]].polling:
        return NEVER_NS
    return m.plan_start_ns + m.plan[m.plan_at].time_ns


def carry_out(m: Machine, rows: Any, entry: int) -> None:
    """Do what entry number `entry` of the plan says; `rows` from `seq_base` on are the packets that may wait."""
    e = m.plan[entry]
    m.plan_at = entry + 1
    m.quiet_rounds = 0
    if e.action == PLAN_DOWN:
        if m.dev[e.dev].up:
            dev_close(m, rows, e.dev)
    elif e.action == PLAN_UP:
        if not m.dev[e.dev].up:
            dev_open(m, e.dev)
    elif e.action == PLAN_MTU:
        change_mtu(m, rows, e.dev, e.value)
    elif e.action == PLAN_MIN_FREE_KBYTES:
        m.min_free_kbytes = e.value
        setup_per_zone_pages_min(m)
    else:
        move_pages(m, ZONE_NORMAL, max(e.value, -m.zone[ZONE_NORMAL].other_pages))

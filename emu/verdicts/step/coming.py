"""What happens next on a machine, and what has just happened, in words.

The order is that of `engine.loop`: an event that falls due while the CPU is busy happens when the CPU is free, and a
frame that arrives at that very moment comes first.
"""

from collections.abc import Sequence
from typing import Any

from emu.engine.stepping import Coming, Step
from emu.kernel.dev import next_seq
from emu.kernel.ip_fragment import frag_timer_ns
from emu.kernel.machine import (
    BACKLOG_DEV,
    EVENT_CONTEXT,
    EVENT_FRAG,
    EVENT_INTR,
    EVENT_PACKETS,
    EVENT_PAGES,
    EVENT_PLAN,
    EVENT_POLL_BEGIN,
    EVENT_POLL_END,
    EVENT_READ,
    EVENT_REAP,
    EVENT_TICK,
    NEVER_NS,
    NONE,
    PLAN_ACTIONS,
)
from emu.kernel.timeline import plan_due_ns

EVENT_TEXTS = {
    EVENT_POLL_BEGIN: "{dev}: a poll begins, of {number} packets at most",
    EVENT_PACKETS: "{dev}: the CPU takes a packet",
    EVENT_POLL_END: "{dev}: the poll ends, the ring is refilled",
    EVENT_READ: "a socket is read: {number} buffers",
    EVENT_PAGES: "others take {number} pages",
    EVENT_REAP: "cache_reap: the slab caches give back what is idle",
    EVENT_TICK: "readers with a rate read",
    EVENT_CONTEXT: "the softirq is over: tasks run (writers, readers that need memory)",
    EVENT_FRAG: "fragment queues time out",
    EVENT_INTR: "{dev}: an interrupt that refills the ring",
    EVENT_PLAN: "the plan: entry {number}",
}


def device_name(d: int, devices: Sequence[str]) -> str:
    """A device's name; softnet's own queue has none."""
    return "backlog" if d == BACKLOG_DEV or d >= len(devices) else devices[d]


def event_text(event: Any, devices: Sequence[str]) -> str:
    """An event of a recorded stream in words."""
    return EVENT_TEXTS[event.event].format(dev=device_name(event.dev, devices), number=event.number)


def timers(m: Any, devices: Sequence[str]) -> list[Coming]:
    """The timers that are armed, by time."""
    found = [
        Coming(m.reap_ns, "cache_reap"),
        Coming(m.reader_tick_ns, "readers with a rate read"),
        Coming(frag_timer_ns(m), "fragment queues time out"),
    ]
    if plan_due_ns(m) != NEVER_NS:
        found.append(Coming(plan_due_ns(m), f"the plan: {PLAN_ACTIONS[m.plan[m.plan_at].action]}"))
    found += [
        Coming(m.dev[d].watchdog_ns, f"{devices[d]}: the watchdog, which refills the ring") for d in range(m.devices)
    ]
    return sorted(timer for timer in found if timer.due_ns < NEVER_NS)


def next_of(step: Step, devices: Sequence[str]) -> Coming | None:
    """What comes next: something outside, the CPU's next step, or a timer; None when nothing is left."""
    m = step.machine
    due = sorted([*timers(m, devices), *step.tasks])
    if m.poll_len > 0:
        free_ns = max(m.now_ns, m.cpu_busy_until_ns)
        softirq = Coming(free_ns, softirq_text(m, devices))
        due = [timer for timer in due if timer.due_ns <= free_ns][:1] or [softirq]
    inside_ns = max(due[0].due_ns, m.cpu_busy_until_ns) if due else NEVER_NS
    outside = min(step.outside, default=None)
    if outside is not None and outside.due_ns <= inside_ns:
        return outside
    return Coming(inside_ns, due[0].text) if due else None


def softirq_text(m: Any, devices: Sequence[str]) -> str:
    """What the CPU does next in the softirq."""
    d = m.poll_list[m.poll_head]
    dev, name = m.dev[d], device_name(d, devices)
    if next_seq(m, d) != NONE and (not dev.polling or dev.poll_work < dev.poll_limit):
        return f"{name}: the CPU takes a packet"
    return f"{name}: the poll ends, the ring is refilled"

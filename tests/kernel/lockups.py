"""Machines in which nothing moves: an empty ring, no memory, and block I/O that waits for both."""

from collections.abc import Callable
from typing import Any

from machines import PLAIN, Nic, Setup, booted, leave_free, plenty

from emu.engine.plain import Engine
from emu.kernel.boot import empty_caches
from emu.kernel.closed_loop import CONN_ESTABLISHED, SESSION_FULL_FEATURE
from emu.kernel.driver import nic_hold
from emu.kernel.e1000 import replaces, ring_free
from emu.kernel.machine import NEVER_NS, NONE, ZONE_NORMAL
from emu.kernel.netdevice import dev_memalloc_skb
from emu.kernel.page_alloc import atomic_floor
from emu.kernel.sock import ends_of_port, sk_alloc, sk_charge, sk_queue_tail
from emu.kernel.tx_queue import tx_boot

SMALL = {"memory_pages": 8192}
RING = 32
Given = Callable[[Any], None]


def dry(
    policy: str = "linux-2.6.12",
    *given: Given,
    nic: Nic | None = None,
    nics: int = 1,
    engine: Engine = PLAIN,
    config: dict[str, int] | None = None,
) -> Any:
    """A machine at its GFP_ATOMIC floor with nothing in its rings and ten pages under write-back.

    `given` happens while there is still memory.
    """
    nic = nic or Nic(ring=RING, background=0)
    m = booted(Setup(policy, config=plenty() | SMALL | (config or {}), nics=(nic,) * nics), engine)
    m.config.closed = 1
    tx_boot(m)
    for happens in given:
        happens(m)
    for d in range(m.devices):
        while ring_free(m, d) > 0 and not replaces(m.dev[d].driver):
            nic_hold(m, d)
    empty_caches(m)
    leave_free(m, atomic_floor(m, ZONE_NORMAL), 0)
    under_writeback(m, 10)
    return m


def under_writeback(m: Any, pages: int) -> None:
    """Others' pages are page cache under write-back instead."""
    z = m.zone[ZONE_NORMAL]
    z.other_pages -= pages
    z.writeback_pages += pages
    m.vm.writeback_pages += pages


def clean(m: Any, pages: int) -> None:
    """Others' pages are clean page cache instead."""
    z = m.zone[ZONE_NORMAL]
    z.other_pages -= pages
    z.clean_pages += pages
    m.vm.clean_pages += pages


def skb_of(m: Any) -> int:
    """A receive buffer out of plenty."""
    b = dev_memalloc_skb(m, 0)
    assert b != NONE
    m.skb[b].next = NONE
    return int(b)


def socket_holding(m: Any, reader: int, skbs: int = 1, port: int = 7, rate: int = 1000) -> int:
    """A UDP socket with so many buffers queued for such a reader; its row."""
    i = sk_alloc(m, ends_of_port(4, 17, port))
    m.sk[i].state = 4
    m.sk[i].reader = reader
    m.sk[i].read_rate = rate
    for _ in range(skbs):
        b = skb_of(m)
        sk_charge(m, i, m.skb[b].truesize)
        sk_queue_tail(m, i, b)
    return int(i)


def holding(reader: int, skbs: int = 1, rate: int = 1000) -> Given:
    """The same as something that happens."""

    def happens(m: Any) -> None:
        socket_holding(m, reader, skbs, rate=rate)

    return happens


def session_holding(nop_interval_ns: int, iscsid_needs_memory: int = 0) -> Given:
    """A session whose connection has an unacknowledged segment."""

    def happens(m: Any) -> None:
        m.sessions = 1
        m.conns = 1
        session = m.session[0]
        session.used = 1
        session.state = SESSION_FULL_FEATURE
        session.nop_interval_ns = nop_interval_ns
        session.nop_timeout_ns = 15_000_000_000
        session.nop_sent_ns = NEVER_NS
        session.nop_due_ns = nop_interval_ns or NEVER_NS
        session.due_ns = NEVER_NS
        session.iscsid_needs_memory = iscsid_needs_memory
        conn = m.conn[0]
        conn.state = CONN_ESTABLISHED
        conn.sk = NONE
        conn.queue_head = skb_of(m)

    return happens

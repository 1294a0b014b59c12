"""Block I/O as a whole: how it stands at boot, what its tasks do when they get the CPU, and when they want it next.

Source: see `vmscan`, `page_writeback`, `pdflush`, `iscsi_tcp` and `iscsi_login`.  All of it is process context: it runs
when the softirq leaves the CPU.
Differs: these tasks take no CPU time, and each runs until it has to wait.
"""

from emu.kernel.closed_loop import (
    BLOCKED_NOT,
    CONN_ESTABLISHED,
    SESSION_DOWN,
    SESSION_LOGIN_SECURITY,
    WAIT_MEMORY,
    IscsiSession,
)
from emu.kernel.iscsi_login import session_due_ns, session_run
from emu.kernel.iscsi_tcp import iscsi_data_xmit, iscsid_waits, link_tasks, may_send
from emu.kernel.machine import NEVER_NS, ZONE_DMA, ZONE_NORMAL, Machine
from emu.kernel.page_alloc import take_block
from emu.kernel.page_writeback import (
    advance_age,
    file_writers_due_ns,
    file_writers_run,
    get_dirty_limits,
    page_writeback_init,
    wb_kupdate,
)
from emu.kernel.pdflush import pdflush_can_write, pdflush_run
from emu.kernel.vmscan import balance_pgdat, kswapd_can_reclaim


def take_boot_pages(m: Machine, zone: int, pages: int) -> int:
    """Take up to `pages` of a zone before play starts, down to pages_high and lowmem_reserve; how many they are."""
    z = m.zone[zone]
    keep = z.pages_high + z.lowmem_reserve[ZONE_NORMAL]
    taken = max(0, min(pages, z.free_pages - keep))
    for _ in range(taken):
        take_block(z, 0)
    return taken


def place_boot_pages(m: Machine) -> None:
    """Processes have mapped memory, and the page cache holds clean pages, as the scenario says.

    Memory of processes comes from the highest zone down, the page cache from ZONE_NORMAL.  What does not fit is
    counted in `unplaced_pages`.
    """
    v = m.vm
    anonymous = v.boot_anonymous_pages
    for zone in range(m.zones - 1, ZONE_DMA - 1, -1):
        taken = take_boot_pages(m, zone, anonymous)
        m.zone[zone].other_pages += taken
        anonymous -= taken
    clean = v.boot_clean_pages
    for zone in range(ZONE_NORMAL, ZONE_DMA - 1, -1):
        taken = take_boot_pages(m, zone, clean)
        m.zone[zone].clean_pages += taken
        clean -= taken
    v.clean_pages = v.boot_clean_pages - clean
    v.unplaced_pages = anonymous + clean


def session_boot(session: IscsiSession) -> None:
    """A session is down and has nothing to do."""
    session.state = SESSION_DOWN
    session.due_ns = NEVER_NS
    session.nop_sent_ns = NEVER_NS
    session.nop_due_ns = NEVER_NS
    link_tasks(session)


def block_boot(m: Machine) -> None:
    """Lay out the page cache and set the limits; call it behind `init_zones`, before any device comes up.

    What the scenario says of `vm`, its writers and the sessions is filled in.
    """
    v = m.vm
    page_writeback_init(m)
    place_boot_pages(m)
    v.kupdate_due_ns = NEVER_NS
    for w in range(v.writers):
        v.writer[w].due_ns = NEVER_NS
    for s in range(m.sessions):
        session_boot(m.session[s])


def block_start(m: Machine) -> None:
    """The clock starts: sessions connect at once, writers at their time, kupdate after its first interval."""
    v = m.vm
    v.last_clean_ns = m.now_ns
    if v.dirty_writeback_ns > 0:
        v.kupdate_due_ns = m.now_ns + v.dirty_writeback_ns
    for w in range(v.writers):
        writer = v.writer[w]
        writer.blocked = BLOCKED_NOT
        writer.due_ns = max(m.now_ns, writer.start_ns)
        writer.credited_ns = writer.due_ns
    for s in range(m.sessions):
        if m.session[s].used:
            m.session[s].due_ns = m.now_ns


def block_run(m: Machine) -> None:
    """Tasks run: kswapd, writers, the flusher, each session's daemon and transmit worker."""
    v = m.vm
    v.context_turns += 1
    advance_age(m)
    if m.now_ns >= v.kupdate_due_ns:
        wb_kupdate(m)
    balance_pgdat(m)
    file_writers_run(m)
    get_dirty_limits(m)
    pdflush_run(m)
    for s in range(m.sessions):
        if m.session[s].used:
            session_run(m, s)
            iscsi_data_xmit(m, s)
    balance_pgdat(m)


def block_due_ns(m: Machine) -> int:
    """When a task of block I/O wants the CPU next; a time that has passed: at once.

    Never while the softirq has it: they run when it is done.
    """
    v = m.vm
    if m.poll_len > 0:
        return NEVER_NS
    if kswapd_can_reclaim(m) or pdflush_can_write(m):
        return m.now_ns
    due = min(v.kupdate_due_ns, file_writers_due_ns(m))
    for s in range(m.sessions):
        if m.session[s].used:
            due = min(due, min(session_due_ns(m, s), transmit_due_ns(m, s)))
    return due


def transmit_due_ns(m: Machine, s: int) -> int:
    """When a session's transmit worker wakes by itself: when there is room, or at the end of its wait for memory."""
    session = m.session[s]
    conn = m.conn[s]
    if session.state < SESSION_LOGIN_SECURITY or conn.state != CONN_ESTABLISHED:
        return NEVER_NS
    if conn.wait == WAIT_MEMORY:
        return conn.wait_until_ns if session.pdu_left > 0 else NEVER_NS
    if session.pdu_left > 0 or (session.nop_owed and not iscsid_waits(m, session)):
        return m.now_ns if may_send(m, conn) else NEVER_NS
    return NEVER_NS


def block_timers(m: Machine) -> None:
    """What `block_due_ns` announced."""
    block_run(m)

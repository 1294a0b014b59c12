"""Is it over?  Whether block I/O can ever go on, whatever the timers free and however long the flood lasts.

The look takes the best case.  Every actor that can run gives back all that it holds: frames that wait for the wire are
sent, readers with a rate read, fragments time out, sessions whose ping or login can time out
free their connections' queues, clean pages are reclaimed, the plan's pages come, empty slabs are reaped; readers that
need memory follow once GFP_KERNEL would get a page out of that, and what they give back may let others follow.  Nobody
takes anything.  If even then no NIC could be shown a buffer, no SCSI Response will ever be received, so no page under
write-back will ever be clean: LOCKUP.  A ring that is not empty is never one: a frame may come, and what its packet
leaves behind, or the ring's own buffers, may be what somebody waits for.  Nor is a backlog: one of its packets may be
the response that somebody waits for, or give back a share of the device's reserve.
Readers that never read, sockets outside the run, anonymous memory and dirty pages give nothing back, nor do a
connection's unacknowledged segments while the session cannot time out: that takes a packet.

Differs: nothing is killed for want of memory (2.6.12's OOM killer is not modelled); a TCP connection that
tcp_retries2 gives up after some 15 minutes is not counted; the ring of a driver that replaces its buffers (8139cp,
tg3) counts as empty when no replacement can be had, for then it drops all that it receives.
"""

from emu.kernel.closed_loop import CONN_CLOSED, SESSION_DOWN, SESSION_FULL_FEATURE, IscsiSession
from emu.kernel.e1000 import E1000_RX_BUFFER_WRITE, replaces, ring_free
from emu.kernel.e1000_ps import count_pages
from emu.kernel.e1000e import e1000e_desc_unused
from emu.kernel.ip_fragment import FAMILIES, FRAG_LRU, frag_oldest
from emu.kernel.lockup_chain import chain_of_waits
from emu.kernel.lockup_memory import (
    copy_memory,
    grow_by,
    keep_for,
    kernel_page_possible,
    object_comes_back,
    queue_comes_back,
    reap_all,
    skb_comes_back,
    take_rx_buffer,
    would_free,
    would_reclaim,
)
from emu.kernel.machine import (
    DRIVER_E1000_PS,
    DRIVER_E1000E,
    DRIVER_TG3,
    NEVER_NS,
    NONE,
    PLAN_MIN_FREE_KBYTES,
    PLAN_PAGES,
    ZONE_NORMAL,
    Machine,
)
from emu.kernel.netdevice import PS_PAGE_BUFFERS
from emu.kernel.page_alloc import GFP_ATOMIC, GFP_MEMALLOC
from emu.kernel.replace import TG3_RX_COPY_THRESHOLD
from emu.kernel.sock import READER_IMMEDIATE, READER_NEEDS_MEMORY, READER_RATE, SS_FREE

TCP_ACK_BYTES = 54  # the shortest frame that moves a connection on


def block_io_unfinished(m: Machine) -> bool:
    """Whether anything is left to be written: dirty pages, pages under write-back, or commands."""
    left = 0
    for zone in range(m.zones):
        left += m.zone[zone].dirty_pages + m.zone[zone].writeback_pages
    for s in range(m.sessions):
        left += m.session[s].tasks
    return left > 0


def session_may_time_out(session: IscsiSession) -> bool:
    """Whether the daemon can end a session's connection: it has failed, or a ping or a login goes unanswered."""
    if session.used == 0 or session.state == SESSION_DOWN:
        return False
    if session.failed or session.state != SESSION_FULL_FEATURE:
        return True
    return session.nop_interval_ns > 0 or session.due_ns != NEVER_NS


def sessions_come_back(m: Machine, with_memory: int) -> None:
    """Sessions that can time out free what their connections hold, both ways (tcp_abort).

    Where iscsid is a task like any other its timers do nothing until it has got memory.
    """
    for s in range(m.sessions):
        conn = m.conn[s]
        if conn.state == CONN_CLOSED or not session_may_time_out(m.session[s]):
            continue
        if m.session[s].iscsid_needs_memory and not with_memory:
            continue
        queue_comes_back(m, conn.queue_head)
        if conn.sk != NONE:
            queue_comes_back(m, m.sk[conn.sk].queue_head)
            queue_comes_back(m, m.sk[conn.sk].ofo_head)


def readers_come_back(m: Machine, with_memory: int) -> None:
    """Readers that need nothing read all that is queued for them; with `with_memory` those that need memory do."""
    for i in range(m.sks_made):
        sk = m.sk[i]
        if sk.state == SS_FREE or sk.queue_len == 0:
            continue
        reads = sk.reader == READER_IMMEDIATE or (sk.reader == READER_RATE and sk.read_rate > 0)
        if reads or (sk.reader == READER_NEEDS_MEMORY and with_memory):
            queue_comes_back(m, sk.queue_head)


def fragments_come_back(m: Machine) -> None:
    """Every datagram in reassembly times out."""
    for family in range(FAMILIES):
        q = frag_oldest(m, FRAG_LRU, family)
        while q != NONE:
            queue_comes_back(m, m.frag_queue[q].fragments)
            object_comes_back(m, m.frag_queue[q].descriptor_slab)
            q = m.frag_queue[q].list_next[FRAG_LRU]


def frames_come_back(m: Machine) -> None:
    """What waits for a wire is sent."""
    for d in range(m.devices):
        if m.dev[d].up == 0:
            continue
        t = m.dev[d].tx_head
        for _ in range(m.dev[d].tx_len):
            if m.tx[t].skb != NONE:
                skb_comes_back(m, m.tx[t].skb)
            t = m.tx[t].next


def pages_come_back(m: Machine) -> None:
    """Clean pages are reclaimed, and the plan's pages are given back by whoever holds them."""
    for zone in range(m.zones):
        would_reclaim(m.lockup.zone[zone], m.zone[zone].clean_pages)
    given = 0
    for entry in range(m.plan_at, m.plan_len):
        if m.plan[entry].action == PLAN_PAGES and m.plan[entry].value < 0:
            given -= m.plan[entry].value
    would_free(m.lockup.zone[ZONE_NORMAL], 0, min(given, m.zone[ZONE_NORMAL].other_pages))


def plan_may_help(m: Machine) -> bool:
    """Whether the plan still brings interfaces up or down, or lower watermarks: too much to foresee."""
    for entry in range(m.plan_at, m.plan_len):
        e = m.plan[entry]
        if e.action == PLAN_PAGES:
            continue
        if e.action != PLAN_MIN_FREE_KBYTES or e.value < m.min_free_kbytes:
            return True
    return False


def best_case(m: Machine) -> None:
    """Bring the copy of the memory to where everybody has given back what he ever will, until nothing changes."""
    copy_memory(m)
    frames_come_back(m)
    fragments_come_back(m)
    pages_come_back(m)
    sessions_come_back(m, 0)
    readers_come_back(m, 0)
    # All who need memory run when one of them can, so one further round is the fixpoint.
    if kernel_page_possible(m):
        sessions_come_back(m, 1)
        readers_come_back(m, 1)


def ring_is_usable(m: Machine, d: int) -> bool:
    """Whether device `d` can take a frame as its ring stands, or has taken one that is not yet processed."""
    dev = m.dev[d]
    if replaces(dev.driver):
        return False
    return ring_free(m, d) > 0 or dev.ring_done > 0


def take_split_pages(m: Machine, d: int, slot: int) -> bool:
    """The data pages that a packet-split descriptor lacks (e1000_ps.fill_pages)."""
    if m.dev[d].driver != DRIVER_E1000_PS:
        return True
    for _ in range(PS_PAGE_BUFFERS - count_pages(m, m.dev[d].ring_pages[slot])):
        if grow_by(m, GFP_ATOMIC, 0) == NONE:
            if not m.policy.split_pages_memalloc or grow_by(m, GFP_ATOMIC | GFP_MEMALLOC, 0) == NONE:
                return False
    return True


def replacement_possible(m: Machine, d: int) -> bool:
    """Whether a driver that replaces would keep a frame: tg3 copies the smallest."""
    dev = m.dev[d]
    if dev.ring_filled == 0:
        return False
    if dev.driver == DRIVER_TG3 and take_rx_buffer(m, d, min(TCP_ACK_BYTES, TG3_RX_COPY_THRESHOLD), 0):
        return True
    return take_rx_buffer(m, d, dev.rx_skb_bytes, 0) > 0


def slots_of_refill(m: Machine, d: int) -> int:
    """How many descriptors a refill may fill at the most."""
    dev = m.dev[d]
    return e1000e_desc_unused(m, d) if dev.driver == DRIVER_E1000E else dev.ring_size


def refill_shows_buffer(m: Machine, d: int) -> bool:
    """Whether a refill out of the copy gets as far as the next multiple of 16, where the tail register moves."""
    dev = m.dev[d]
    slot = dev.next_to_use
    counted = 0
    for _ in range(slots_of_refill(m, d)):
        if dev.ring_skb[slot] == NONE:
            if not take_split_pages(m, d, slot):
                return False
            got = take_rx_buffer(m, d, dev.rx_skb_bytes, counted)
            if got == 0:
                return False
            if got == 2:
                counted += 1
        elif dev.driver != DRIVER_E1000E:
            return False
        if slot % E1000_RX_BUFFER_WRITE == 0:
            return True
        slot = (slot + 1) % dev.ring_size
    return False


def refill_possible(m: Machine, d: int) -> bool:
    """Whether device `d` could ever get a buffer that a frame can use."""
    for as_pages in range(2):  # empty slabs serve as objects where they can; else every one as pages
        best_case(m)
        if as_pages:
            reap_all(m)
        else:
            keep_for(m, d, E1000_RX_BUFFER_WRITE)
        if replaces(m.dev[d].driver):
            if replacement_possible(m, d):
                return True
        elif refill_shows_buffer(m, d):
            return True
    return False


def frame_possible(m: Machine) -> bool:
    """Whether any NIC could ever again take a frame that somebody sends, or one that was taken is not yet processed."""
    if m.backlog_packets > 0:
        return True
    for look in range(2):  # what is there already is asked first: it is cheap
        for d in range(m.devices):
            if m.dev[d].up == 0 or m.lockup.silent_devices >> d & 1:
                continue
            if refill_possible(m, d) if look else ring_is_usable(m, d):
                return True
    return False


def find_lockup(m: Machine) -> int:
    """1 when block I/O is unfinished and can never go on; then `m.lockup` has when, and the chain of who waits."""
    k = m.lockup
    if m.oops or not block_io_unfinished(m) or plan_may_help(m) or frame_possible(m):
        k.locked = 0
        k.links = 0
        return 0
    if k.locked == 0:
        k.found_ns = m.now_ns
    k.locked = 1
    chain_of_waits(m)
    return 1

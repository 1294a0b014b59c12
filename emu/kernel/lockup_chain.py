"""Who waits for whom in a lockup: the links of the closed set, and what the timers outside it could free.

A link is a `machine.Wait`.  Its `number` and `waits_for_number` are a writer, a session, a connection or a device,
whichever the actor is, else -1; `skbs` and `pages` are what the one that is waited for holds, or what a timer would
free; `due_ns` is when the timer is due.
"""

from emu.kernel.closed_loop import (
    BLOCKED_DIRTY,
    BLOCKED_NOT,
    CONN_CLOSED,
    MAX_TASKS,
    SESSION_FULL_FEATURE,
    TASK_FREE,
    WAIT_MEMORY,
    WAIT_NOTHING,
)
from emu.kernel.machine import MAX_LINKS, NEVER_NS, NONE, PAGE_SIZE, Machine
from emu.kernel.sock import READER_NEEDS_MEMORY, READER_NEVER, SS_FREE

(
    ACTOR_WRITER,  # number: of the scenario's writers
    ACTOR_KSWAPD,
    ACTOR_FLUSHER,
    ACTOR_SESSION,  # number: the session, waiting for its target's responses
    ACTOR_TX,  # number: the connection whose sending task waits
    ACTOR_REFILL,  # number: the device
    ACTOR_READER,  # number: the connection
    ACTOR_READERS,  # of all other sockets whose readers need memory
    ACTOR_NEVER,  # whoever owns the sockets that nobody reads
    ACTOR_BACKGROUND,  # sockets outside the run
    ACTOR_OTHERS,  # anonymous memory, and whatever else nobody can take away
    ACTOR_PING,  # number: the session's NOP or login timer
    ACTOR_REAP,  # cache_reap
    ACTOR_NOBODY,
) = range(14)

(
    WHY_DIRTY_LIMIT,  # more pages are dirty or under write-back than may be
    WHY_NO_PAGE,  # GFP_KERNEL waits at pages_min
    WHY_NOTHING_CLEAN,  # every page of the page cache is dirty or under write-back
    WHY_COMMANDS,  # the queue is full, or its pages are under write-back
    WHY_SESSION_DOWN,
    WHY_RESPONSE,  # it takes a received packet
    WHY_ACK,  # the send buffer is full: it takes a received packet
    WHY_NO_TX_MEMORY,
    WHY_HOLDS,  # an skb could be had if what the other holds came back
    WHY_CAP,  # the device's share of the reserve is out
    WHY_CACHED,  # the page cache holds the pages
    WHY_NEVER,  # nobody ever comes for it
    WHY_TOO_LITTLE,  # it will come, and is not enough
    WHY_DOWN,  # the interface is down
) = range(14)


def link(m: Machine, actor: int, number: int, waits_for: int, waits_for_number: int, why: int) -> int:
    """Append a link; its row, the last one when the table is full."""
    k = m.lockup
    at = min(k.links, MAX_LINKS - 1)
    k.links = at + 1
    w = k.link[at]
    w.actor = actor
    w.number = number
    w.waits_for = waits_for
    w.waits_for_number = waits_for_number
    w.why = why
    w.skbs = 0
    w.pages = 0
    w.due_ns = NEVER_NS
    return at


def link_holding(m: Machine, actor: int, number: int, waits_for: int, why: int, skbs: int, pages: int) -> None:
    """Append a link to somebody who holds so many skbs and pages."""
    w = m.lockup.link[link(m, actor, number, waits_for, NONE, why)]
    w.skbs = skbs
    w.pages = pages


def object_bytes(m: Machine, s: int) -> int:
    """What an object of slab `s` takes; of a block of page fragments half a page, of a data page all of it."""
    cache = m.slab[s].cache
    if cache >= 0:
        return m.cache[cache].objsize
    return PAGE_SIZE if m.slab[s].inuse == 1 else PAGE_SIZE // 2


def queue_bytes(m: Machine, b: int) -> int:
    """What the skbs of a queue take, from its head."""
    held = 0
    while b != NONE:
        if m.skb[b].head_slab != NONE:
            held += object_bytes(m, m.skb[b].head_slab)
        held += object_bytes(m, m.skb[b].data_slab)
        page = m.skb[b].frags
        while page != NONE:
            held += PAGE_SIZE
            page = m.slab[page].next
        b = m.skb[b].next
    return held


def queue_count(m: Machine, b: int) -> int:
    """How many skbs a queue has, from its head."""
    skbs = 0
    while b != NONE:
        skbs += 1
        b = m.skb[b].next
    return skbs


def in_pages(held_bytes: int) -> int:
    """Bytes as pages."""
    return (held_bytes + PAGE_SIZE - 1) // PAGE_SIZE


def cached(m: Machine) -> int:
    """Pages of the page cache that are dirty or under write-back."""
    pages = 0
    for zone in range(m.zones):
        pages += m.zone[zone].dirty_pages + m.zone[zone].writeback_pages
    return pages


def links_of_writeback(m: Machine) -> None:
    """Writers wait for the flusher, kswapd too, and the flusher for the targets' responses."""
    for i in range(m.vm.writers):
        blocked = m.vm.writer[i].blocked
        if blocked != BLOCKED_NOT:
            why = WHY_DIRTY_LIMIT if blocked == BLOCKED_DIRTY else WHY_NO_PAGE
            m.lockup.link[link(m, ACTOR_WRITER, i, ACTOR_FLUSHER, NONE, why)].pages = cached(m)
    m.lockup.link[link(m, ACTOR_KSWAPD, NONE, ACTOR_FLUSHER, NONE, WHY_NOTHING_CLEAN)].pages = cached(m)
    for s in range(m.sessions):
        session = m.session[s]
        if session.used:
            why = WHY_COMMANDS if session.state == SESSION_FULL_FEATURE else WHY_SESSION_DOWN
            pages = 0
            for t in range(MAX_TASKS):
                if session.task[t].state != TASK_FREE:
                    pages += session.task[t].normal_pages + session.task[t].dma_pages
            w = m.lockup.link[link(m, ACTOR_FLUSHER, NONE, ACTOR_SESSION, s, why)]
            w.pages = pages
            m.lockup.link[link(m, ACTOR_SESSION, s, ACTOR_REFILL, m.conn[s].dev, WHY_RESPONSE)].skbs = session.tasks


def links_of_sending(m: Machine) -> None:
    """Sending tasks wait for room in their buffer, which an ACK makes, or for memory."""
    for c in range(m.conns):
        conn = m.conn[c]
        if conn.state == CONN_CLOSED or conn.wait == WAIT_NOTHING:
            continue
        why = WHY_NO_TX_MEMORY if conn.wait == WAIT_MEMORY else WHY_ACK
        m.lockup.link[link(m, ACTOR_TX, c, ACTOR_REFILL, conn.dev, why)].skbs = queue_count(m, conn.queue_head)


def reader_kind(m: Machine, i: int) -> int:
    """Which actor reads socket `i`, if it holds anything that waits for one; else ACTOR_NOBODY."""
    sk = m.sk[i]
    if sk.state == SS_FREE or sk.queue_len == 0:
        return ACTOR_NOBODY
    if sk.reader == READER_NEEDS_MEMORY:
        return ACTOR_READERS if sk.conn == NONE else ACTOR_READER
    return ACTOR_NEVER if sk.reader == READER_NEVER else ACTOR_NOBODY


def links_of_refill(m: Machine, d: int) -> None:
    """A device's refill waits for whoever holds the memory that it wants."""
    dev = m.dev[d]
    if dev.up == 0:
        link(m, ACTOR_REFILL, d, ACTOR_NOBODY, NONE, WHY_DOWN)
        return
    if m.policy.caps_reserve and dev.rx_reserve_used >= dev.rx_reserve:
        link_holding(m, ACTOR_REFILL, d, ACTOR_NOBODY, WHY_CAP, dev.rx_reserve_used, 0)
    for kind in (ACTOR_READERS, ACTOR_NEVER):
        skbs = 0
        held = 0
        for i in range(m.sks_made):
            if reader_kind(m, i) == kind:
                skbs += m.sk[i].queue_len
                held += queue_bytes(m, m.sk[i].queue_head)
        if skbs > 0:
            link_holding(m, ACTOR_REFILL, d, kind, WHY_HOLDS, skbs, in_pages(held))
    for c in range(m.conns):
        i = m.conn[c].sk
        if m.conn[c].state != CONN_CLOSED and i != NONE and reader_kind(m, i) == ACTOR_READER:
            w = m.lockup.link[link(m, ACTOR_REFILL, d, ACTOR_READER, c, WHY_HOLDS)]
            w.skbs = m.sk[i].queue_len
            w.pages = in_pages(queue_bytes(m, m.sk[i].queue_head))
    if m.background_held > 0:
        link_holding(m, ACTOR_REFILL, d, ACTOR_BACKGROUND, WHY_HOLDS, m.background_held, 0)
    link_holding(m, ACTOR_REFILL, d, ACTOR_FLUSHER, WHY_CACHED, 0, cached(m))
    others = 0
    for zone in range(m.zones):
        others += m.zone[zone].other_pages + m.zone[zone].writer_pages
    if others > 0:
        link_holding(m, ACTOR_REFILL, d, ACTOR_OTHERS, WHY_HOLDS, 0, others)


def links_of_readers(m: Machine) -> None:
    """Readers that need memory wait for the flusher like any writer; those that never read, for nobody."""
    seen_memory = 0
    seen_never = 0
    for i in range(m.sks_made):
        kind = reader_kind(m, i)
        if kind == ACTOR_READER:
            link_holding(m, ACTOR_READER, m.sk[i].conn, ACTOR_FLUSHER, WHY_NO_PAGE, 0, cached(m))
        elif kind == ACTOR_READERS:
            seen_memory = 1
        elif kind == ACTOR_NEVER:
            seen_never = 1
    if seen_memory:
        link_holding(m, ACTOR_READERS, NONE, ACTOR_FLUSHER, WHY_NO_PAGE, 0, cached(m))
    if seen_never:
        link(m, ACTOR_NEVER, NONE, ACTOR_NOBODY, NONE, WHY_NEVER)


def links_of_timers(m: Machine) -> None:
    """What is still to fire outside the closed set, and how little it brings."""
    for s in range(m.sessions):
        session = m.session[s]
        conn = m.conn[s]
        if session.used == 0 or conn.state == CONN_CLOSED or session.nop_interval_ns == 0:
            continue
        w = m.lockup.link[link(m, ACTOR_PING, s, ACTOR_NOBODY, NONE, WHY_TOO_LITTLE)]
        w.skbs = queue_count(m, conn.queue_head)
        held = queue_bytes(m, conn.queue_head)
        if conn.sk != NONE:
            w.skbs += m.sk[conn.sk].queue_len + m.sk[conn.sk].ofo_len
            held += queue_bytes(m, m.sk[conn.sk].queue_head) + queue_bytes(m, m.sk[conn.sk].ofo_head)
        w.pages = in_pages(held)
        if session.nop_sent_ns != NEVER_NS:
            w.due_ns = session.nop_sent_ns + session.nop_timeout_ns
        else:
            w.due_ns = session.nop_due_ns
    w = m.lockup.link[link(m, ACTOR_REAP, NONE, ACTOR_NOBODY, NONE, WHY_TOO_LITTLE)]
    w.due_ns = m.reap_ns
    for cache in range(m.caches):
        c = m.cache[cache]
        w.pages += c.free_objects // max(1, c.num) << c.order


def chain_of_waits(m: Machine) -> None:
    """Write the chain down, from the writers to the memory that nobody gives back."""
    m.lockup.links = 0
    links_of_writeback(m)
    links_of_sending(m)
    for d in range(m.devices):
        links_of_refill(m, d)
    links_of_readers(m)
    links_of_timers(m)

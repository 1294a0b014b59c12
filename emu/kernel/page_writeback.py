"""Dirty memory: who makes it, how much of it there may be, and which pages are to be written.

Source: Linux 2.6.12 mm/page-writeback.c get_dirty_limits, balance_dirty_pages, background_writeout, wb_kupdate,
page_writeback_init, set_ratelimit; mm/filemap.c generic_file_buffered_write.  With MM_6X the limits' base is that of
6.x (global_dirtyable_memory).
Differs: a writer appends, so each page that it writes is a new one; it writes to the device itself, whose mapping
takes no ZONE_HIGHMEM.  A throttled writer does not write pages out itself but leaves that to the flusher, is woken as
soon as dirty, unstable and write-back pages are within the limit and not before (2.6.12 lets it go, too, once it has
written 1.5 times its batch, and looks only every 100 ms while a queue is congested; 6.x lets it sleep ever longer
before the limit).  Pages are told apart by the second in which they became dirty, up to 63 s back.  What writers do
takes no CPU time: a writer without a rate writes 1 GiB/s, as fast as memory was copied.
"""

from emu.kernel.closed_loop import BLOCKED_DIRTY, BLOCKED_MEMORY, BLOCKED_NOT, MAX_AGES, IscsiTask, Writer
from emu.kernel.machine import MM_6X, NEVER_NS, NONE, PAGE_SIZE, ZONE_DMA, ZONE_HIGHMEM, ZONE_NORMAL, Machine
from emu.kernel.sock import gfp_kernel_would_wait
from emu.kernel.vmscan import page_cache_alloc

SECOND_NS = 1_000_000_000
RATELIMIT_MIN_PAGES = 16
RATELIMIT_MAX_PAGES = 1_024  # 4 MiB
RATELIMIT_EXCEEDED_PAGES = 8
DIRTY_RATIO_MIN = 5  # percent
UNLIMITED_BYTES_PER_S = 1 << 30
WRITER_TICK_NS = 1_000_000  # a writer writes at most once in so long,
WRITER_CREDIT_NS = 100_000_000  # and never more than its rate gives in so long, or one page
PAGE_BYTE_NS = PAGE_SIZE * SECOND_NS


def page_writeback_init(m: Machine) -> None:
    """Find the base of the limits at boot, scale the ratios if ZONE_HIGHMEM is large, and set the writers' batch."""
    v = m.vm
    v.total_pages = 0
    v.buffer_pages = 0
    for zone in range(m.zones):
        pages = max(0, m.zone[zone].present_pages - m.zone[zone].pages_high)
        v.total_pages += pages
        if zone != ZONE_HIGHMEM:
            v.buffer_pages += pages
    if m.config.mm != MM_6X and v.total_pages > 0:
        correction = 400 * v.buffer_pages // v.total_pages
        if correction < 100:
            v.dirty_background_ratio = max(1, v.dirty_background_ratio * correction // 100)
            v.dirty_ratio = max(1, v.dirty_ratio * correction // 100)
    v.ratelimit_pages = max(RATELIMIT_MIN_PAGES, min(RATELIMIT_MAX_PAGES, v.total_pages // 32))
    get_dirty_limits(m)


def dirtyable_pages_6x(m: Machine) -> int:
    """What 6.x takes the ratios of: free pages above the reserves, and the page cache, as they are now."""
    pages = 0
    for zone in range(m.zones):
        z = m.zone[zone]
        reserve = z.pages_high
        for classzone in range(m.zones):
            reserve = max(reserve, z.pages_high + z.lowmem_reserve[classzone])
        pages += max(0, z.free_pages - reserve) + z.dirty_pages + z.writeback_pages + z.clean_pages
    return pages


def get_dirty_limits(m: Machine) -> None:
    """Set the limit of dirty and write-back pages, and the one above which the flusher works by itself.

    2.6.12: percent of memory at boot, the first never more than half of what processes have not mapped.
    """
    v = m.vm
    if m.config.mm == MM_6X:
        pages = dirtyable_pages_6x(m)
        v.dirty_limit_pages = pages * v.dirty_ratio // 100
        v.background_limit_pages = pages * v.dirty_background_ratio // 100
        if v.background_limit_pages >= v.dirty_limit_pages:
            v.background_limit_pages = v.dirty_limit_pages // 2
        return
    unmapped = 100 - (v.boot_anonymous_pages * 100 // v.total_pages if v.total_pages else 0)
    dirty_ratio = max(DIRTY_RATIO_MIN, min(v.dirty_ratio, unmapped // 2))
    background = v.dirty_background_ratio
    if background >= dirty_ratio:
        background = dirty_ratio // 2
    pages = v.total_pages - m.zone[ZONE_HIGHMEM].present_pages
    v.dirty_limit_pages = pages * dirty_ratio // 100
    v.background_limit_pages = pages * background // 100


def advance_age(m: Machine) -> None:
    """The clock goes on: the slots of seconds that begin are emptied into the oldest that is still told apart."""
    v = m.vm
    second = (m.now_ns - m.plan_start_ns) // SECOND_NS
    if second > v.age_now and v.dirty_pages == 0:
        v.age_now = second
    while v.age_now < second:
        v.age_now += 1
        slot = v.age_now % MAX_AGES
        oldest = (v.age_now + 1) % MAX_AGES
        v.age[oldest] += v.age[slot]
        v.age_dma[oldest] += v.age_dma[slot]
        v.age[slot] = 0
        v.age_dma[slot] = 0
    v.age_oldest = max(v.age_oldest, v.age_now - MAX_AGES + 1)


def page_dirtied(m: Machine, zone: int) -> None:
    """A page that was just allocated becomes dirty."""
    v = m.vm
    m.zone[zone].dirty_pages += 1
    v.dirty_pages += 1
    v.pages_dirtied += 1
    v.age[v.age_now % MAX_AGES] += 1
    if zone == ZONE_DMA:
        v.age_dma[v.age_now % MAX_AGES] += 1


def take_oldest(m: Machine, task: IscsiTask, pages: int) -> None:
    """Put the `pages` oldest dirty pages, of ZONE_NORMAL first within a second, under write-back for `task`."""
    v = m.vm
    task.normal_pages = 0
    task.dma_pages = 0
    left = pages
    while left > 0:
        slot = v.age_oldest % MAX_AGES
        if v.age[slot] == 0:
            v.age_oldest += 1
            continue
        normal = min(left, v.age[slot] - v.age_dma[slot])
        dma = min(left - normal, v.age_dma[slot])
        v.age[slot] -= normal + dma
        v.age_dma[slot] -= dma
        task.normal_pages += normal
        task.dma_pages += dma
        left -= normal + dma
    m.zone[ZONE_NORMAL].dirty_pages -= task.normal_pages
    m.zone[ZONE_NORMAL].writeback_pages += task.normal_pages
    m.zone[ZONE_DMA].dirty_pages -= task.dma_pages
    m.zone[ZONE_DMA].writeback_pages += task.dma_pages
    v.dirty_pages -= pages
    v.writeback_pages += pages
    v.wanted_pages = max(0, v.wanted_pages - pages)
    v.expired_pages = max(0, v.expired_pages - pages)


def end_page_writeback(m: Machine, task: IscsiTask) -> None:
    """The write of a task's pages is complete: they are clean."""
    v = m.vm
    m.zone[ZONE_NORMAL].writeback_pages -= task.normal_pages
    m.zone[ZONE_NORMAL].clean_pages += task.normal_pages
    m.zone[ZONE_DMA].writeback_pages -= task.dma_pages
    m.zone[ZONE_DMA].clean_pages += task.dma_pages
    pages = task.normal_pages + task.dma_pages
    v.writeback_pages -= pages
    v.clean_pages += pages
    v.pages_cleaned += pages
    task.normal_pages = 0
    task.dma_pages = 0
    m.quiet_rounds = 0
    if v.dirty_pages == 0 and v.writeback_pages == 0:
        v.last_clean_ns = m.now_ns


def wb_kupdate(m: Machine) -> None:
    """Every dirty_writeback_ns: find the pages that have been dirty for dirty_expire_ns (less than 63 s)."""
    v = m.vm
    v.kupdate_due_ns = m.now_ns + v.dirty_writeback_ns
    v.expired_pages = 0
    last = (m.now_ns - m.plan_start_ns - v.dirty_expire_ns) // SECOND_NS - 1
    for second in range(v.age_oldest, min(last, v.age_now) + 1):
        v.expired_pages += v.age[second % MAX_AGES]


def pages_to_write(m: Machine) -> int:
    """How many dirty pages the flusher is to write now: above the background limit, expired, or asked for."""
    v = m.vm
    pages = max(v.dirty_pages - v.background_limit_pages, v.wanted_pages)
    return min(v.dirty_pages, max(pages, v.expired_pages))


def over_dirty_limit(m: Machine) -> bool:
    """Whether a writer may not go on (2.6.12: for dirty and write-back pages; none is unstable here)."""
    return m.vm.dirty_pages + m.vm.writeback_pages > m.vm.dirty_limit_pages


def balance_dirty_pages(m: Machine) -> bool:
    """After a page was dirtied: once in a batch, whether the writer has to stop (balance_dirty_pages_ratelimited)."""
    v = m.vm
    v.ratelimit += 1
    if v.ratelimit < (RATELIMIT_EXCEEDED_PAGES if v.dirty_exceeded else v.ratelimit_pages):
        return False
    v.ratelimit = 0
    get_dirty_limits(m)
    v.dirty_exceeded = 1 if over_dirty_limit(m) else 0
    return v.dirty_exceeded > 0


def block_writer(m: Machine, writer: Writer, why: int) -> None:
    """A writer has to wait, if it does not wait already."""
    if writer.blocked == BLOCKED_NOT:
        writer.blocked_since_ns = m.now_ns
    writer.blocked = why


def wake_writer(m: Machine, writer: Writer) -> None:
    """A writer may go on; its rate gives it nothing for the time that it waited."""
    if writer.blocked != BLOCKED_NOT:
        writer.blocked_ns += m.now_ns - writer.blocked_since_ns
        writer.blocked = BLOCKED_NOT
        writer.credited_ns = m.now_ns
        if writer.due_ns != NEVER_NS:
            writer.due_ns = max(writer.due_ns, m.now_ns + WRITER_TICK_NS)


def writer_waits(m: Machine, writer: Writer) -> bool:
    """Whether what a writer is blocked by is still so."""
    if writer.blocked == BLOCKED_DIRTY:
        return over_dirty_limit(m)
    return writer.blocked == BLOCKED_MEMORY and gfp_kernel_would_wait(m)


def writer_credit(m: Machine, writer: Writer) -> None:
    """A writer's time has come: its rate lets it write so many pages more."""
    if writer.blocked != BLOCKED_NOT or m.now_ns < writer.due_ns:
        return
    rate = writer.bytes_per_s or UNLIMITED_BYTES_PER_S
    longest = max(WRITER_CREDIT_NS, PAGE_BYTE_NS // rate + 1)
    until_ns = min(m.now_ns, writer.stop_ns)
    gone_ns = max(0, min(until_ns - writer.credited_ns, longest))
    writer.credited_ns = m.now_ns
    # Whole pages a second apart from the rest: 100 ms of the fastest rate, 2**40 B/s, in one product are 2**66.
    page_ns = gone_ns * (rate // PAGE_SIZE)
    writer.owed_over += page_ns % SECOND_NS * PAGE_SIZE + gone_ns * (rate % PAGE_SIZE)
    writer.owed_pages += page_ns // SECOND_NS + writer.owed_over // PAGE_BYTE_NS
    writer.owed_over %= PAGE_BYTE_NS
    writer.due_ns = m.now_ns + max(WRITER_TICK_NS, (PAGE_BYTE_NS - writer.owed_over + rate - 1) // rate)
    if m.now_ns >= writer.stop_ns:
        writer.due_ns = NEVER_NS


def generic_file_write(m: Machine, writer: Writer) -> None:
    """A writer writes the pages that it has credit for, until memory or the dirty limit stops it."""
    if writer_waits(m, writer):
        return
    while writer.owed_pages > 0:
        zone = page_cache_alloc(m)
        if zone == NONE:
            block_writer(m, writer, BLOCKED_MEMORY)
            return
        wake_writer(m, writer)
        page_dirtied(m, zone)
        writer.owed_pages -= 1
        writer.pages_written += 1
        if balance_dirty_pages(m):
            block_writer(m, writer, BLOCKED_DIRTY)
            return
    wake_writer(m, writer)


def file_writers_run(m: Machine) -> None:
    """All writers go on; who is first takes turns, so that none starves."""
    n = m.vm.writers
    for k in range(n):
        writer = m.vm.writer[(m.vm.context_turns + k) % n]
        writer_credit(m, writer)
        generic_file_write(m, writer)


def file_writers_due_ns(m: Machine) -> int:
    """When the next writer can go on by itself: its rate's time, or now if what blocked it is gone."""
    due = NEVER_NS
    for w in range(m.vm.writers):
        writer = m.vm.writer[w]
        if writer.blocked == BLOCKED_NOT:
            due = min(due, writer.due_ns)
        elif not writer_waits(m, writer):
            return m.now_ns
    return due

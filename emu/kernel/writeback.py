"""Who else wants memory: writers blocked in GFP_KERNEL, and what runs when the softirq leaves the CPU.

Source: Linux 2.6.12 mm/page_alloc.c (GFP_KERNEL waits at pages_min).  Differs: the default crunch.  Blocked writers
take every page that appears above pages_min and never give one back; of write-back a replay knows what the capture
shows (`iscsi_write_back`).  In a closed loop it is modelled (`block_io`), and block I/O and readers take turns at being
first: tasks that wait for memory have no order in which they wake.
"""

from emu.kernel.block_io import block_run
from emu.kernel.closed_loop import BLOCKED_MEMORY
from emu.kernel.iscsi_write_back import follow_read
from emu.kernel.machine import ZONE_DMA, ZONE_NORMAL, Machine
from emu.kernel.page_alloc import buffered_rmqueue, zone_watermark_ok
from emu.kernel.sock import gfp_kernel_would_wait, readers_run, somebody_reads
from emu.kernel.vmscan import try_to_free_pages


def writers_run(m: Machine) -> None:
    """Blocked writers wake up and take what is above pages_min, a page at a time."""
    for zone in range(ZONE_NORMAL, ZONE_DMA - 1, -1):
        z = m.zone[zone]
        while z.present_pages and zone_watermark_ok(z, 0, z.pages_min, ZONE_NORMAL, 0, 0):
            if not buffered_rmqueue(z, 0):
                break
            z.writer_pages += 1


def process_context(m: Machine) -> None:
    """The softirq is done: tasks run."""
    if m.config.writers:
        writers_run(m)
    if m.config.closed:
        tasks_run(m)
        return
    readers_run(m)
    if m.follow.live and follow_read(m) and m.config.writers:
        writers_run(m)


def somebody_waits(m: Machine) -> bool:
    """Whether a writer is blocked for want of memory, or a socket holds what its reader has not come for."""
    for w in range(m.vm.writers):
        if m.vm.writer[w].blocked == BLOCKED_MEMORY:
            return True
    return somebody_reads(m)


def reclaim_for_tasks(m: Machine) -> None:
    """Tasks that wait in GFP_KERNEL reclaim what is clean, even when it is too little for them (__alloc_pages)."""
    if m.vm.clean_pages > 0 and gfp_kernel_would_wait(m) and somebody_waits(m):
        while try_to_free_pages(m) > 0:
            pass


def tasks_run(m: Machine) -> None:
    """A closed loop's tasks: block I/O and readers, in turns."""
    reclaim_for_tasks(m)
    if m.vm.context_turns % 2:
        readers_run(m)
        block_run(m)
    else:
        block_run(m)
        readers_run(m)

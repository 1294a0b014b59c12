"""Who else wants memory: writers blocked in GFP_KERNEL, and what runs when the softirq leaves the CPU.

Source: Linux 2.6.12 mm/page_alloc.c (GFP_KERNEL waits at pages_min).  Differs: the default crunch.  Blocked writers
take every page that appears above pages_min and never give one back; write-back itself is not modelled in a replay.
In a closed loop it is (`block_io`), and block I/O and readers are first in turn: tasks that wait for memory have no
order in which they wake.
"""

from emu.kernel.block_io import block_run
from emu.kernel.machine import ZONE_DMA, ZONE_NORMAL, Machine
from emu.kernel.page_alloc import buffered_rmqueue, zone_watermark_ok
from emu.kernel.sock import readers_run


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
    if not m.config.closed:
        readers_run(m)
    elif m.vm.context_turns % 2:
        readers_run(m)
        block_run(m)
    else:
        block_run(m)
        readers_run(m)

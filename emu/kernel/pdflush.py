"""The flusher: dirty pages become writes, spread over the block devices.

Source: Linux 2.6.12 mm/pdflush.c, mm/page-writeback.c background_writeout, fs/mpage.c; drivers/block/ll_rw_blk.c for
congestion.  Its bios and requests come from mempools, so it needs no memory.
Differs: one thread for background write-back, kupdate and reclaim together.  It never waits for a queue that is
congested but takes the next one; a dirty page belongs to no device until it does, so a device that is stuck holds no
more pages than its queue has.  Kupdate writes pages that are old enough, not whole inodes.
"""

from emu.kernel.iscsi_tcp import iscsi_queuecommand
from emu.kernel.machine import NONE, Machine
from emu.kernel.page_writeback import pages_to_write


def next_session(m: Machine) -> int:
    """The session that gets the next write, by their shares in turn, or -1 while every queue is congested."""
    v = m.vm
    for _ in range(m.sessions + 1):
        session = m.session[v.flush_session]
        if v.flush_left > 0 and session.used and not session.congested:
            v.flush_left -= 1
            return v.flush_session
        v.flush_session = (v.flush_session + 1) % m.sessions
        v.flush_left = max(1, m.session[v.flush_session].share)
    return NONE


def pdflush_can_write(m: Machine) -> bool:
    """Whether the flusher has pages to write and a queue to write them to."""
    if m.vm.dirty_pages > 0 and pages_to_write(m) > 0:
        for s in range(m.sessions):
            if m.session[s].used and not m.session[s].congested:
                return True
    return False


def pdflush_run(m: Machine) -> None:
    """Make writes of what is to be written; each as large as its device takes while there are dirty pages."""
    wanted = pages_to_write(m)
    while wanted > 0 and m.sessions > 0:
        s = next_session(m)
        if s == NONE:
            return
        wanted -= iscsi_queuecommand(m, s, m.vm.dirty_pages)

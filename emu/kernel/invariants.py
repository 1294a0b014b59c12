"""What must hold at every moment; a broken one is a bug of ours and stops the run with the frame's number."""

from emu.kernel.drop_reason import MAX_REASONS
from emu.kernel.machine import MAX_ORDER, NONE, Machine
from emu.kernel.slab import SLAB_UNUSED
from emu.kernel.sock import SS_FREE

(
    HOLDS,
    FRAMES_LOST,
    RECEIVED_LOST,
    DROPS_UNEXPLAINED,
    CLASSES_UNBALANCED,
    PAGES_LOST,
    FREE_LISTS_WRONG,
    SLAB_PAGES_WRONG,
    RESERVE_OUT_OF_BOUNDS,
    RING_WRONG,
    SKBS_LOST,
    RMEM_WRONG,
) = range(12)
SENTENCES = (
    "holds",
    "frames = filtered + received + not received + not played",
    "received = delivered + dropped + oops + in the ring",
    "dropped = the sum of drops by reason",
    "the sums of memalloc and other packets make the whole",
    "present pages = free + per-CPU + slab + writers' + others'",
    "a zone's free pages are the blocks on its free lists",
    "slab pages are the pages of the slabs",
    "0 <= rx_reserve_used <= rx_reserve",
    "the ring's counts are those of its slots",
    "skbs = in rings + in socket queues + held in the background + leaked",
    "a socket's rmem_alloc is the truesize of its queue",
)


def packets_in_rings(m: Machine) -> int:
    """Packets that wait in rings (an aggregated frame counts once)."""
    waiting = 0
    for d in range(m.devices):
        dev = m.dev[d]
        last = NONE
        for k in range(dev.ring_done):
            seq = dev.ring_seq[(dev.next_to_clean + k) % dev.ring_size]
            if seq != last:
                waiting += 1
            last = seq
    return waiting


def check_conservation(m: Machine) -> int:
    """The sums over frames and the pages of each zone; cheap enough for every batch."""
    t = m.total
    if t.frames != t.filtered + t.received + t.not_received + t.not_played:
        return FRAMES_LOST
    waiting = 0 if m.oops else packets_in_rings(m)
    if t.received != t.delivered + t.dropped + t.oops + waiting:
        return RECEIVED_LOST
    by_reason = 0
    for reason in range(MAX_REASONS):
        by_reason += t.drops_by_reason[reason]
    if by_reason != t.dropped:
        return DROPS_UNEXPLAINED
    if t.memalloc.delivered + t.other.delivered != t.delivered or t.memalloc.dropped + t.other.dropped != t.dropped:
        return CLASSES_UNBALANCED
    for zone in range(m.zones):
        z = m.zone[zone]
        if z.present_pages != z.free_pages + z.pcp_count + z.slab_pages + z.writer_pages + z.other_pages:
            return PAGES_LOST
        free = 0
        for order in range(MAX_ORDER):
            if z.nr_free[order] < 0:
                return FREE_LISTS_WRONG
            free += z.nr_free[order] << order
        if free != z.free_pages:
            return FREE_LISTS_WRONG
    for d in range(m.devices):
        dev = m.dev[d]
        if dev.rx_reserve_used < 0 or (m.policy.caps_reserve and dev.rx_reserve_used > dev.rx_reserve):
            return RESERVE_OUT_OF_BOUNDS
    return HOLDS


def check_structures(m: Machine) -> int:
    """Every slab, ring slot and queue, counted again; for the end of a run and for tests."""
    for zone in range(m.zones):
        pages = 0
        for s in range(m.slabs_made):
            slab = m.slab[s]
            if slab.cache != SLAB_UNUSED and slab.zone == zone:
                pages += 1 << slab.order
        if pages != m.zone[zone].slab_pages:
            return SLAB_PAGES_WRONG
    skbs = m.background_held + m.leaked_skbs
    for d in range(m.devices):
        dev = m.dev[d]
        filled = 0
        done = 0
        for slot in range(dev.ring_size):
            filled += dev.ring_skb[slot] != NONE
            done += dev.ring_seq[slot] != NONE
        if filled != dev.ring_filled or done != dev.ring_done:
            return RING_WRONG
        skbs += filled
    for i in range(m.sks_made):
        sk = m.sk[i]
        if sk.state == SS_FREE:
            continue
        rmem = 0
        queued = 0
        b = sk.queue_head
        while b != NONE:
            rmem += m.skb[b].truesize
            queued += 1
            b = m.skb[b].next
        if rmem != sk.rmem_alloc or queued != sk.queue_len:
            return RMEM_WRONG
        skbs += queued
    if skbs != m.skbs_used:
        return SKBS_LOST
    return HOLDS

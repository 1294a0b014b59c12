"""The closed loop in the order of time: frames come because block I/O asked for them, and memory comes back with them.

What happens outside the CPU happens when it is due: frames reach NICs, NICs send, peers answer.  What the CPU does
waits until it is free, as in `engine.loop`: one packet of a poll, the end of a poll, a timer.  Whatever the host or a
peer sends is a frame with bytes, a row of the batch; floods come in from a source of frames of their own.

Tasks run when the softirq leaves the CPU, and once after every MAX_SOFTIRQ_RESTART squeezed rounds, when ksoftirqd
has taken over and shares the CPU with them (2.6.12 kernel/softirq.c).  Differs: what tasks do costs no CPU time.
"""

from typing import Annotated, Any

from emu.capture.made import put_row
from emu.engine.loop import arrive, forget_verdict, next_timer_ns, poll_step, run_timer
from emu.kernel.block_io import block_due_ns, block_timers
from emu.kernel.closed_loop import TX_REPLY, Sample
from emu.kernel.dev import next_seq
from emu.kernel.download import downloads_due_ns, downloads_run
from emu.kernel.drop_reason import NOT_RECEIVED, PFMEMALLOC, RX_MISSED
from emu.kernel.e1000 import ring_free
from emu.kernel.fate import note_memory
from emu.kernel.iscsi_pdu import read_pdu
from emu.kernel.iscsi_tcp import iscsi_reads, iscsi_recv
from emu.kernel.lockup import find_lockup
from emu.kernel.machine import (
    DIR_INBOUND,
    LATER_ENOUGH,
    NEVER_NS,
    NONE,
    ZONE_DMA,
    ZONE_NORMAL,
    Machine,
    Packet,
)
from emu.kernel.page_alloc import atomic_floor
from emu.kernel.record import record
from emu.kernel.tcp_timer import tcp_timers_due_ns, tcp_timers_run
from emu.kernel.writeback import process_context
from emu.kernel.xmit import tx_begin, tx_complete, tx_due_ns, tx_head, tx_ready
from emu.traffic.arrivals import Feed, prepare
from emu.traffic.peer.replies import craft_reply
from emu.traffic.peer.state import STORE_BYTES, World, host_base
from emu.traffic.peer.wire import arrival_due_ns, host_frame, take_arrival, wire_ns, world_due_ns, world_run
from emu.wire.octets import Octets, copy_octets

WHY_ROWS, WHY_FLOOD, WHY_OVER, WHY_OOPS, WHY_LOCKUP, WHY_SAMPLES, WHY_STEP, WHY_LIMIT = range(8)

MAX_SOFTIRQ_RESTART = 10
STALLED_NS = 1_000_000_000  # without a completed write: worth asking whether one can ever come
LONGEST_FRAME_BYTES = 16_384
MAX_FLOOD_INTERFACES = 64


@record
class Tick:
    """How far a call of the loop may go, and what it keeps from call to call."""

    start_ns: int
    frame: int  # the last one's number
    sample_ns: int  # between two samples
    next_sample_ns: int
    samples: int
    samples_room: int
    steps_left: int  # -1: no end
    stop_at_lockup: int
    locked: int  # 1: nothing can ever run again (`kernel.lockup` has when that was found)
    bytes_completed: int  # by block I/O, when it last moved, at
    progress_ns: int
    squeezed: int  # rounds when tasks last had the CPU
    replies_lost: int  # replies to nothing that the batch still holds: they are not sent
    flood_dev: Annotated[list[int], MAX_FLOOD_INTERFACES]  # the device of each interface of the floods' source


def blocks_completed(m: Machine) -> int:
    """Bytes of block I/O that are done, all sessions together."""
    done = 0
    for s in range(m.sessions):
        done += m.session[s].bytes_completed
    return done


def take_sample(m: Machine, sample: Sample, start_ns: int) -> None:
    """Write down how things stand."""
    normal = m.zone[ZONE_NORMAL]
    sample.time_ns = m.now_ns - start_ns
    sample.free_pages = normal.free_pages + normal.pcp_count + m.zone[ZONE_DMA].free_pages + m.zone[ZONE_DMA].pcp_count
    sample.normal_free_pages = normal.free_pages
    sample.atomic_floor_pages = atomic_floor(m, ZONE_NORMAL)
    sample.pages_min = normal.pages_min
    sample.pages_low = normal.pages_low
    sample.pages_high = normal.pages_high
    sample.slab_pages = normal.slab_pages + m.zone[ZONE_DMA].slab_pages
    sample.reserve_used = 0
    sample.reserve_cap = 0
    sample.ring_filled = 0
    sample.ring_free = 0
    sample.rx_missed = m.total.drops_by_reason[RX_MISSED]
    for d in range(m.devices):
        dev = m.dev[d]
        sample.reserve_used += dev.rx_reserve_used
        sample.reserve_cap += dev.rx_reserve if m.policy.caps_reserve else 0
        sample.ring_filled += dev.ring_filled
        sample.ring_free += ring_free(m, d)
    sample.socket_skbs = 0
    for i in range(m.sks_made):
        sample.socket_skbs += m.sk[i].queue_len + m.sk[i].ofo_len
    sample.dirty_pages = m.vm.dirty_pages
    sample.writeback_pages = m.vm.writeback_pages
    sample.clean_pages = m.vm.clean_pages
    sample.writes_completed = 0
    for s in range(m.sessions):
        sample.writes_completed += m.session[s].writes_completed
    sample.bytes_completed = blocks_completed(m)
    sample.rx_frames = m.total.received
    sample.memalloc_delivered = m.total.memalloc.delivered
    sample.memalloc_dropped = m.total.memalloc.dropped
    sample.other_delivered = m.total.other.delivered
    sample.other_dropped = m.total.other.dropped
    sample.pfmemalloc_drops = m.total.drops_by_reason[PFMEMALLOC]
    sample.tx_failed = m.mib.tx_alloc_failed
    for c in range(m.conns):
        sample.tx_failed += m.conn[c].tx_alloc_failed


def timers_due_ns(m: Machine) -> int:
    """When the next of the host's timers is due."""
    return min(next_timer_ns(m), tcp_timers_due_ns(m), block_due_ns(m), downloads_due_ns(m))


def timers_run(m: Machine, rows: Any, log: Any) -> None:
    """Run the timers that are due; those of block I/O and downloads are due only while no softirq has the CPU."""
    if next_timer_ns(m) <= m.now_ns:
        run_timer(m, rows, log, 0)
    if tcp_timers_due_ns(m) <= m.now_ns:
        tcp_timers_run(m)
    if block_due_ns(m) <= m.now_ns or downloads_due_ns(m) <= m.now_ns:
        downloads_run(m)
        block_timers(m)
        process_context(m)


def softirq_timers_due_ns(m: Machine) -> int:
    """When the next timer is due that does not wait for a task."""
    return min(next_timer_ns(m), tcp_timers_due_ns(m))


def sessions_read(m: Machine, store: bytearray) -> None:
    """The initiators read what has become in order (iscsi_tcp's data_ready, in the softirq)."""
    for s in range(m.sessions):
        while iscsi_reads(m, s):
            next_seq = m.sk[m.conn[s].sk].rcv_nxt
            if not read_pdu(m.session[s].reader, store, host_base(s), STORE_BYTES - 1, next_seq):
                break
            iscsi_recv(m, s)


def replies_made(w: World, m: Machine, t: Tick, rows: Any, seq: int, octets: bytearray, store: bytearray) -> None:
    """Give replies that the host has just queued their bytes: they answer the packet with sequence number `seq`."""
    while m.replies_open != NONE:
        row = m.replies_open
        m.replies_open = m.tx[row].reply_next
        if seq == NONE:
            t.replies_lost += 1
        else:
            craft_reply(w, m, row, rows[seq - m.seq_base], octets, store)


def cpu_step(w: World, m: Machine, t: Tick, rows: Any, log: Any, octets: bytearray, store: bytearray) -> None:
    """One step of the CPU in the softirq, and what the protocols above TCP make of it."""
    seq = next_seq(m, m.poll_list[m.poll_head])
    poll_step(m, rows, log, 0)
    sessions_read(m, store)
    replies_made(w, m, t, rows, seq, octets, store)
    if m.mib.softnet_time_squeeze - t.squeezed >= MAX_SOFTIRQ_RESTART:
        t.squeezed = m.mib.softnet_time_squeeze
        process_context(m)
    if m.poll_len == 0:
        t.squeezed = m.mib.softnet_time_squeeze


def depart(m: Machine, p: Packet) -> None:
    """The host's own frame is on the wire."""
    forget_verdict(p)
    m.total.frames += 1
    m.total.not_received += 1
    note_memory(m, p)
    p.verdict = NOT_RECEIVED


def flood_arrives(t: Tick, row: Packet, given: Packet, octets: bytearray, at: int, flood_octets: Octets) -> int:
    """A flood's frame becomes a frame of the run; its length in bytes."""
    copy_octets(octets, at, flood_octets, given.offset, given.caplen)
    put_row(row, t.frame + 1, given.file_time_ns, at, given.caplen, DIR_INBOUND)
    row.iface = t.flood_dev[given.iface]
    return int(given.caplen)


def stands_still(m: Machine, t: Tick) -> bool:
    """Whether block I/O has made no progress for so long that it may have locked up."""
    done = blocks_completed(m)
    if done != t.bytes_completed:
        t.bytes_completed = done
        t.progress_ns = m.now_ns
    return m.now_ns - t.progress_ns >= STALLED_NS


def look(m: Machine, t: Tick, samples: Any) -> None:
    """Take the sample that is due, and ask whether anything can ever run again."""
    take_sample(m, samples[t.samples], t.start_ns)
    t.samples += 1
    t.next_sample_ns += t.sample_ns
    if stands_still(m, t):
        ask_for_lockup(m, t)


def ask_for_lockup(m: Machine, t: Tick) -> None:
    """Ask whether anything can ever run again, until nothing can."""
    if not t.locked and find_lockup(m):
        t.locked = 1


def run_closed(
    m: Machine,
    w: World,
    t: Tick,
    rows: Any,
    first: int,
    room: int,
    octets: bytearray,
    at: int,
    moulds: Octets,
    pool: Octets,
    store: bytearray,
    feed: Feed,
    program: Any,
    inlets: Any,
    flood: Any,
    flood_at: int,
    flood_end: int,
    flood_more: int,
    flood_octets: Octets,
    samples: Any,
    log: Any,
    until_ns: int,
) -> tuple[int, int, int, int]:
    """Let time pass up to `until_ns`, or until something is needed of the caller.

    Frames become rows[first:room], their bytes `octets[at:]`.  The floods' next frames are flood[flood_at:flood_end]
    over `flood_octets`; with `flood_more` 1 there are others behind them.  Returns how far rows, bytes and the floods'
    rows came, and why it stopped: WHY_*.
    """
    why = WHY_OVER
    while True:
        if m.oops or m.limit_hit or t.steps_left == 0 or (t.locked and t.stop_at_lockup):
            why = why_ended(m, t)
            break
        if first + 2 > room or len(octets) - at < LONGEST_FRAME_BYTES or m.later_len > LATER_ENOUGH:
            why = WHY_ROWS
            break
        if flood_at == flood_end and flood_more:
            why = WHY_FLOOD
            break
        if t.samples == t.samples_room:
            why = WHY_SAMPLES
            break
        ready = tx_ready(m)
        if ready != NONE:
            first, at = nic_sends(m, w, t, ready, rows, first, octets, at, moulds, pool, store, feed, program, inlets)
            continue
        peer_ns = arrival_due_ns(w)
        flood_ns = flood[flood_at].file_time_ns if flood_at < flood_end else NEVER_NS
        frame_ns = min(peer_ns, flood_ns)
        outside_ns = min(frame_ns, outside_due_ns(m, w, t))
        inside_ns = cpu_due_ns(m)
        if min(outside_ns, inside_ns) > until_ns:
            m.now_ns = max(m.now_ns, until_ns)
            ask_for_lockup(m, t)
            break
        if t.steps_left > 0:
            t.steps_left -= 1
        if inside_ns < outside_ns:
            m.now_ns = inside_ns
            cpu_runs(w, m, t, rows, log, octets, store)
        elif frame_ns == outside_ns:
            row = rows[first]
            if peer_ns <= flood_ns:
                length = take_arrival(w, m, moulds, pool, store, row, octets, at)
            else:
                length = flood_arrives(t, row, flood[flood_at], octets, at, flood_octets)
                flood_at += 1
            frame_made(t, rows, first, octets, feed, program, inlets)
            arrive(m, rows, first)
            replies_made(w, m, t, rows, m.seq_base + first, octets, store)
            first += 1
            at += length
        else:
            m.now_ns = outside_ns
            outside_runs(m, w, t, store, samples)
    return first, at, flood_at, why


def why_ended(m: Machine, t: Tick) -> int:
    """Why nothing more is to happen in this call."""
    if m.oops:
        return WHY_OOPS
    if m.limit_hit:
        return WHY_LIMIT
    return WHY_STEP if t.steps_left == 0 else WHY_LOCKUP


def outside_due_ns(m: Machine, w: World, t: Tick) -> int:
    """When the next thing happens that is neither a frame's arrival nor the CPU's."""
    return min(world_due_ns(w), tx_due_ns(m), t.next_sample_ns)


def outside_runs(m: Machine, w: World, t: Tick, store: bytearray, samples: Any) -> None:
    """A NIC has sent its frame, or peers do something, or it is time for a look."""
    if tx_due_ns(m) <= m.now_ns:
        complete_due(m)
    elif world_due_ns(w) <= m.now_ns:
        w.now_ns = m.now_ns
        world_run(w, m, store)
    else:
        look(m, t, samples)


def cpu_runs(w: World, m: Machine, t: Tick, rows: Any, log: Any, octets: bytearray, store: bytearray) -> None:
    """The CPU's next step: timers that are due come before packets."""
    if m.poll_len > 0 and softirq_timers_due_ns(m) > m.now_ns:
        cpu_step(w, m, t, rows, log, octets, store)
    else:
        timers_run(m, rows, log)
        replies_made(w, m, t, rows, NONE, octets, store)


def frame_made(t: Tick, rows: Any, i: int, octets: bytearray, feed: Feed, program: Any, inlets: Any) -> None:
    """Number a frame of the run and dissect it, as one of a capture."""
    t.frame += 1
    rows[i].frame = t.frame
    rows[i].packet_id = t.frame
    prepare(feed, rows, i, i + 1, octets, program, inlets)


def cpu_due_ns(m: Machine) -> int:
    """When the CPU does its next step; an event that falls due while it is busy happens when it is free."""
    if m.poll_len > 0:
        return max(m.now_ns, m.cpu_busy_until_ns)
    return max(timers_due_ns(m), m.cpu_busy_until_ns, m.now_ns)


def complete_due(m: Machine) -> None:
    """The NICs that have sent a frame say so."""
    for d in range(m.devices):
        dev = m.dev[d]
        if dev.tx_sending and dev.tx_done_ns <= m.now_ns:
            tx_complete(m, d)


def nic_sends(
    m: Machine,
    w: World,
    t: Tick,
    d: int,
    rows: Any,
    first: int,
    octets: bytearray,
    at: int,
    moulds: Octets,
    pool: Octets,
    store: bytearray,
    feed: Feed,
    program: Any,
    inlets: Any,
) -> tuple[int, int]:
    """A NIC begins to send the first frame of its queue: a frame of the run, on its way to its peer."""
    row = tx_head(m, d)
    if m.tx[row].kind == TX_REPLY and m.tx[row].reply_at == NONE:
        tx_begin(m, d, m.now_ns)
        return first, at
    length = host_frame(w, m, row, d, moulds, pool, store, rows[first], octets, at, m.now_ns)
    tx_begin(m, d, m.now_ns + wire_ns(w, d, length))
    frame_made(t, rows, first, octets, feed, program, inlets)
    depart(m, rows[first])
    return first + 1, at + length

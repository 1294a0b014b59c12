"""The order of events: arrivals, what the CPU does, timers; or what a recorded stream says.

One rule carries it (learned the hard way): an event that falls due while the CPU is busy happens when the CPU is
free.  So an arrival is compared with max(due, cpu_busy_until), and frames that come while a packet is processed are
in the ring before the next one is taken.  A packet is decided when the CPU takes it; then the CPU is busy for its cost.

The stream can be recorded and played back: every poll, read and memory change carries the number of frames that had
arrived before it, so a playback is exact whatever the clock did.
"""

from typing import Any

from emu.kernel.dev import net_rx_next, next_seq, nic_intr_rx, poll_begin, poll_done, poll_end, poll_one
from emu.kernel.driver import nic_intr, nic_receive, nic_tx_done, nic_watchdog
from emu.kernel.drop_reason import (
    FILTERED,
    IN_FLIGHT,
    LATER,
    NO_CAUSE,
    NO_REASON,
    NOT_PLAYED,
    NOT_RECEIVED,
    OOPS,
    PENDING,
)
from emu.kernel.e1000 import E1000_WATCHDOG_NS
from emu.kernel.fate import count, note_memory
from emu.kernel.flows import flow_received, flow_sent, sk_init
from emu.kernel.ip_fragment import frag_timer_ns, ip_expire_run
from emu.kernel.iscsi_write_back import follow_news, follow_read
from emu.kernel.machine import (
    EVENT_AGAIN,
    EVENT_CONTEXT,
    EVENT_FRAG,
    EVENT_INTR,
    EVENT_OPEN,
    EVENT_PACKETS,
    EVENT_PAGES,
    EVENT_PLAN,
    EVENT_POLL_BEGIN,
    EVENT_POLL_END,
    EVENT_READ,
    EVENT_REAP,
    EVENT_SQUEEZE,
    EVENT_TICK,
    LATER_ENOUGH,
    NONE,
    PACKET_FILTERED,
    PACKET_HOST,
    PACKET_OTHERHOST,
    PACKET_OUTGOING,
    Machine,
    Packet,
)
from emu.kernel.page_alloc import move_pages
from emu.kernel.policy import RULE_NONE
from emu.kernel.retransmit import AGAIN_SEQ, again_begin, again_due_ns, again_next
from emu.kernel.route import ROUTE_LOCAL, route_input
from emu.kernel.slab import REAPTIMEOUT_CPUC_NS, cache_reap
from emu.kernel.sock import SS_BOUND, SS_CLOSED, SS_FREE, ends_of_port, reader_tick, sk_dequeue
from emu.kernel.timeline import carry_out, plan_due_ns
from emu.kernel.writeback import process_context
from emu.wire.headers import KIND_MALFORMED, KIND_TCP, KIND_UDP

QUIET_ROUNDS = 8  # reaps without a change after which idle time may be skipped


def forget_verdict(p: Packet) -> None:
    """Clear what an earlier packet in this row left behind."""
    p.verdict = PENDING
    p.reason = NO_REASON
    p.cause = NO_CAUSE
    p.point = 0
    p.rule = RULE_NONE
    p.decided_ns = 0
    p.skb_dev = NONE
    p.sk = NONE
    p.memalloc = 0
    p.from_reserve = 0
    p.pfmemalloc = 0
    p.truesize = 0
    p.alloc_ns = 0
    p.culprit_frame = 0
    p.culprit_id = 0
    p.tcp_host_ack = NONE


def reaches_nic(m: Machine, p: Packet) -> bool:
    """Whether a NIC of the host takes a frame: not the host's own, and another host's only if it is promiscuous."""
    return p.pkt_type != PACKET_OUTGOING and (p.pkt_type != PACKET_OTHERHOST or m.dev[p.dev].promisc > 0)


def arrive(m: Machine, rows: Any, i: int) -> None:
    """A frame is on the wire: the host's own, somebody else's, or one for the NIC."""
    p = rows[i]
    forget_verdict(p)
    m.now_ns = p.time_ns
    m.quiet_rounds = 0
    m.total.frames += 1
    if p.pkt_type == PACKET_FILTERED:
        m.total.filtered += 1
        p.verdict = FILTERED
        return
    if m.follow.news_at < m.follow.news_len:
        follow_news(m, p, m.seq_base + i)
    if not reaches_nic(m, p):
        m.total.not_received += 1
        note_memory(m, p)
        p.verdict = NOT_RECEIVED
        if p.pkt_type == PACKET_OUTGOING:
            flow_sent(m, p)
            nic_tx_done(m, p.dev)
        return
    m.total.received += 1
    if p.pkt_type == PACKET_HOST and p.header_error == 0 and p.kind in (KIND_TCP, KIND_UDP):
        if route_input(m, p) == ROUTE_LOCAL:
            flow_received(m, p)
    if not nic_receive(m, p.dev, p, m.seq_base + i):
        note_memory(m, p)
        count(m, p)
    elif not m.dev[p.dev].napi:
        nic_intr_rx(m, p, m.seq_base + i)


def arrive_again(m: Machine, k: int) -> None:
    """A segment that was lost is on the wire once more: no frame of the capture, but a packet like any other."""
    m.quiet_rounds = 0
    if not again_begin(m, k):
        return
    p = m.again[k].p
    forget_verdict(p)
    if route_input(m, p) == ROUTE_LOCAL:
        flow_received(m, p)
    if not nic_receive(m, p.dev, p, AGAIN_SEQ - k):
        note_memory(m, p)
        count(m, p)
    elif not m.dev[p.dev].napi:
        nic_intr_rx(m, p, AGAIN_SEQ - k)


def next_timer_ns(m: Machine) -> int:
    """When the next timer is due."""
    due = min(m.reap_ns, m.reader_tick_ns, frag_timer_ns(m), plan_due_ns(m), again_due_ns(m))
    for d in range(m.devices):
        due = min(due, m.dev[d].watchdog_ns)
    return due


def skip_idle(m: Machine, until_ns: int) -> None:
    """Nothing has moved for several rounds of every timer: let the periodic ones pass silently up to `until_ns`."""
    if m.reap_ns < until_ns:
        m.reap_ns += (until_ns - m.reap_ns) // REAPTIMEOUT_CPUC_NS * REAPTIMEOUT_CPUC_NS
    for d in range(m.devices):
        dev = m.dev[d]
        if dev.watchdog_ns < until_ns:
            dev.watchdog_ns += (until_ns - dev.watchdog_ns) // E1000_WATCHDOG_NS * E1000_WATCHDOG_NS


def write_event(m: Machine, log: Any, at: int, event: int, dev: int, number: int) -> int:
    """Append to the recorded stream; its new length.  Packets processed back to back become one event."""
    if m.config.recording == 0:
        return at
    if event == EVENT_PACKETS and at > 0:
        last = log[at - 1]
        if last.event == EVENT_PACKETS and last.frames == m.total.frames and last.dev == dev:
            last.number += number
            return at
    e = log[at]
    e.event = event
    e.frames = m.total.frames
    e.time_ns = m.now_ns
    e.dev = dev
    e.number = number
    return at + 1


def read_at_tick(m: Machine) -> None:
    """Readers with a rate read, an initiator's among them."""
    reader_tick(m)
    if m.follow.live:
        follow_read(m)


def run_timer(m: Machine, rows: Any, log: Any, at: int) -> int:
    """Run one timer that is due now; the length of the recorded stream."""
    if m.reap_ns <= m.now_ns:
        cache_reap(m)
        at = write_event(m, log, at, EVENT_REAP, 0, 0)
        process_context(m)
        return write_event(m, log, at, EVENT_CONTEXT, 0, 0)
    if m.reader_tick_ns <= m.now_ns:
        read_at_tick(m)
        return write_event(m, log, at, EVENT_TICK, 0, 0)
    if frag_timer_ns(m) <= m.now_ns:
        ip_expire_run(m)
        return write_event(m, log, at, EVENT_FRAG, 0, 0)
    if again_due_ns(m) <= m.now_ns:
        k = again_next(m)
        arrive_again(m, k)
        return write_event(m, log, at, EVENT_AGAIN, k, 0)
    if plan_due_ns(m) <= m.now_ns:
        entry = m.plan_at
        carry_out(m, rows, entry)
        at = write_event(m, log, at, EVENT_PLAN, 0, entry)
        process_context(m)
        return write_event(m, log, at, EVENT_CONTEXT, 0, 0)
    for d in range(m.devices):
        if m.dev[d].watchdog_ns <= m.now_ns:
            nic_watchdog(m, d)
            if not m.dev[d].napi:
                return write_event(m, log, at, EVENT_INTR, d, 0)
    return at


def poll_seq(m: Machine, rows: Any, d: int, seq: int) -> None:
    """Process the packet with this sequence number: a frame's row, or a lost segment that has come again."""
    if seq >= 0:
        poll_one(m, d, rows[seq - m.seq_base])
    else:
        poll_one(m, d, m.again[AGAIN_SEQ - seq].p)


def poll_step(m: Machine, rows: Any, log: Any, at: int) -> int:
    """The CPU's next step in the softirq: one packet, or the end of a poll; the length of the recorded stream."""
    squeezed = m.mib.softnet_time_squeeze
    d = net_rx_next(m)
    dev = m.dev[d]
    if m.mib.softnet_time_squeeze > squeezed:
        at = write_event(m, log, at, EVENT_SQUEEZE, d, 0)
    if dev.poll_work == 0:
        at = write_event(m, log, at, EVENT_POLL_BEGIN, d, dev.poll_limit)
    seq = next_seq(m, d)
    if dev.poll_work < dev.poll_limit and seq != NONE:
        poll_seq(m, rows, d, seq)
        return write_event(m, log, at, EVENT_PACKETS, d, 1)
    poll_end(m, d)
    at = write_event(m, log, at, EVENT_POLL_END, d, 0)
    if m.poll_len == 0:
        m.softirq_active = 0
        process_context(m)
        at = write_event(m, log, at, EVENT_CONTEXT, 0, 0)
    return at


def happen(m: Machine, e: Any) -> None:
    """What happens to the machine from outside: a reader reads, a socket opens, pages come and go, tasks run."""
    if e.event == EVENT_READ:
        if e.dev < m.sks_made and m.sk[e.dev].state != SS_FREE:
            sk_dequeue(m, e.dev, e.number)
            if m.follow.live:
                follow_read(m)
    elif e.event == EVENT_OPEN:
        if e.dev < m.sks_made and m.sk[e.dev].state == SS_CLOSED:
            sk_init(m, e.dev, SS_BOUND, ends_of_port(m.sk[e.dev].family, m.sk[e.dev].protocol, m.sk[e.dev].sport))
    elif e.event == EVENT_PAGES:
        move_pages(m, e.dev, e.number)
    else:
        process_context(m)


def run_outside(m: Machine, log: Any, at: int) -> int:
    """Do what a live run has seen happen; the length of the recorded stream."""
    for which in range(m.outside_len):
        e = m.outside[which]
        m.now_ns = max(m.now_ns, e.time_ns)
        happen(m, e)
        at = write_event(m, log, at, e.event, e.dev, e.number)
    m.outside_len = 0
    return at


def run(m: Machine, rows: Any, first: int, last: int, until_ns: int, log: Any, log_size: int) -> tuple[int, int]:
    """Play the arrivals rows[first:last] and everything that happens before each of them.

    With first == last nothing arrives any more: the machine runs on until `until_ns`.  Returns how far it came (short
    of `last` only when the recorded stream is nearly full) and the length of that stream.
    """
    return run_on(m, rows, first, last, until_ns, log, 0, log_size)


def run_on(
    m: Machine, rows: Any, first: int, last: int, until_ns: int, log: Any, at: int, log_size: int
) -> tuple[int, int]:
    """The same, with a recorded stream that is `at` events long already."""
    at = run_outside(m, log, at)
    while at + 4 <= log_size and m.later_len <= LATER_ENOUGH and m.oops == 0:
        next_ns = rows[first].time_ns if first < last else until_ns
        if m.poll_len > 0:
            due = max(m.now_ns, m.cpu_busy_until_ns)
        else:
            if m.quiet_rounds > QUIET_ROUNDS:
                skip_idle(m, min(next_ns, frag_timer_ns(m), plan_due_ns(m), again_due_ns(m)))
            due = max(next_timer_ns(m), m.cpu_busy_until_ns)
        if next_ns <= due:
            if first == last:
                break
            arrive(m, rows, first)
            first += 1
            if first == last:
                break
        else:
            m.now_ns = due
            if m.poll_len > 0 and next_timer_ns(m) > due:
                at = poll_step(m, rows, log, at)
            else:
                at = run_timer(m, rows, log, at)
    return first, at


def play_packets(m: Machine, rows: Any, d: int, packets: int) -> None:
    """A poll processes packets back to back."""
    for packet in range(packets):
        seq = next_seq(m, d)
        if seq == NONE:
            break
        if packet > 0:
            m.now_ns = max(m.now_ns, m.cpu_busy_until_ns)
        poll_seq(m, rows, d, seq)


def play_event(m: Machine, rows: Any, e: Any) -> None:
    """Do what one event of a recorded stream says."""
    m.now_ns = e.time_ns
    if e.event == EVENT_POLL_BEGIN:
        poll_begin(m, e.dev, e.number)
    elif e.event == EVENT_PACKETS:
        play_packets(m, rows, e.dev, e.number)
    elif e.event == EVENT_POLL_END:
        poll_done(m, e.dev)
    elif e.event == EVENT_INTR:
        nic_intr(m, e.dev)
    elif e.event == EVENT_AGAIN:
        arrive_again(m, e.dev)
    elif e.event == EVENT_PLAN:
        carry_out(m, rows, e.number)
    elif e.event == EVENT_REAP:
        cache_reap(m)
    elif e.event == EVENT_TICK:
        read_at_tick(m)
    elif e.event == EVENT_FRAG:
        ip_expire_run(m)
    elif e.event == EVENT_SQUEEZE:
        m.mib.softnet_time_squeeze += 1
    else:
        happen(m, e)


def run_recorded(
    m: Machine, rows: Any, first: int, last: int, events: Any, at: int, end: int, more: int
) -> tuple[int, int]:
    """Play arrivals and a recorded stream in the order that the stream gives; how far each came.

    `more`: 1 while the stream goes on behind events[end].
    """
    while m.later_len <= LATER_ENOUGH and m.oops == 0:
        if at < end and events[at].frames <= m.total.frames:
            play_event(m, rows, events[at])
            at += 1
        elif at == end and more:
            break
        elif first < last:
            arrive(m, rows, first)
            first += 1
        else:
            break
    return first, at


def resolved(rows: Any, first: int, last: int) -> int:
    """The first row of rows[first:last] whose verdict is still open, else `last`."""
    while first < last and rows[first].verdict != PENDING:
        first += 1
    return first


def shift_offsets(rows: Any, first: int, last: int, shift: int) -> None:
    """The bytes of the frames of rows[first:last] have moved to the front."""
    for i in range(first, last):
        rows[i].offset -= shift


def leave_in_flight(m: Machine, rows: Any, first: int, last: int) -> None:
    """The run ends here: what is still in a ring or in the backlog stays in flight."""
    for i in range(first, last):
        if rows[i].verdict == PENDING:
            note_memory(m, rows[i])
            rows[i].verdict = IN_FLIGHT
            count(m, rows[i])


def end_in_oops(m: Machine, rows: Any, first: int, last: int) -> None:
    """The kernel is dead: what it had received dies with it, and rows[first:last] find nobody.

    The verdict is `oops` for every packet before `first` that waits, and if none does for the next one; all others
    are not played.
    """
    for i in range(first):
        p = rows[i]
        if p.verdict == PENDING:
            note_memory(m, p)
            p.verdict = OOPS
            p.point = m.oops_point
            count(m, p)
    for i in range(first, last):
        p = rows[i]
        forget_verdict(p)
        m.total.frames += 1
        if p.pkt_type == PACKET_FILTERED:
            m.total.filtered += 1
            p.verdict = FILTERED
        elif m.total.oops == 0 and reaches_nic(m, p):
            m.total.received += 1
            note_memory(m, p)
            p.verdict = OOPS
            p.point = m.oops_point
            count(m, p)
        else:
            m.total.not_played += 1
            note_memory(m, p)
            p.verdict = NOT_PLAYED


def rows_of_later(m: Machine, rows: Any, at: int) -> None:
    """The machine's events of packets as rows from rows[at] on."""
    for event in range(m.later_len):
        later = m.later[event]
        p = rows[at + event]
        forget_verdict(p)
        p.frame = later.frame
        p.packet_id = later.packet_id
        p.time_ns = later.time_ns
        p.decided_ns = later.time_ns
        p.decided_after = later.after_frame
        p.dev = later.dev
        p.skb_dev = later.dev
        p.kind = KIND_MALFORMED  # no flow: the frame's own row names it
        p.verdict = LATER
        p.reason = later.reason
        p.point = later.point

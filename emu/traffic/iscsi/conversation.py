"""The two ends of a crafted iSCSI session, and the time between them: an event at a time, in integers.

What is seen is what the initiator's network interface sees: a frame that it sends at its time of sending, one that it
receives at its time of arrival.  A segment's answer is therefore seen a round trip later, wherever the delay lies.

* Each direction is a wire of 1 Gbit/s: a frame of n bytes keeps it busy for 8 (n + FRAMING_BYTES) ns.
* An end reacts HOST_NS or TARGET_NS after what it reacts to.  The response to a write is sent `service` after its last
  byte, give or take a quarter (drawn from the seed and the write's number), and never before an earlier one.
* The initiator has `queue_depth` writes outstanding: it sends the next when a response is in, but no write k before
  k / `pps` seconds after the login.  The target's MaxCmdSN leaves room for so many and no more.
* FLIGHT segments at most are on their way to the target; both windows are larger than that.  Nothing is lost.
* TCP acknowledges every second segment at once, else with the next data, else after DELAYED_ACK_NS (RFC 9293 3.8.6.3,
  RFC 5681 4.2).  Each PDU begins a segment of its own.
* A ping (NOP-In) follows the last one, or the login, after `nop_interval`, once that one is answered.

The memory is that of `Session`, whatever the number of writes: all sequence numbers wrap.
"""

from typing import Any

from emu.capture.made import put_row
from emu.kernel.machine import DIR_INBOUND, DIR_OUTBOUND
from emu.traffic.iscsi.segments import (
    BLOCK_SHIFT,
    STEP_BYTES,
    patch_answer,
    patch_request,
    put_headers,
    put_numbers,
    put_request_bytes,
)
from emu.traffic.iscsi.state import (
    ACK,
    COMMAND,
    DATA_OUT,
    FIN,
    FLIGHT,
    LOGIN_OPERATIONAL,
    LOGIN_SECURITY,
    LOGOUT,
    MASK,
    MIDDLE,
    NEVER,
    NOP_OUT,
    SYN,
    T_ACK,
    T_FIN,
    T_LOGIN_OPERATIONAL,
    T_LOGIN_SECURITY,
    T_LOGOUT,
    T_NOP_IN,
    T_R2T,
    T_RESPONSE,
    T_SYN_ACK,
    Ring,
    Session,
)
from emu.traffic.pace import FRAMING_BYTES
from emu.wire.octets import Octets, copy_octets

HOST_NS = 5_000
TARGET_NS = 5_000
DELAYED_ACK_NS = 40_000_000  # Linux TCP_DELACK_MIN
NS_PER_BYTE = 8
STAMP_NS = 1_000_000  # TCP timestamps count milliseconds
TAGS = 0x7FFFFFFF  # task tags stay below the reserved 0xffffffff

OPEN, CLOSING, CLOSED = range(3)
CRAFTED, NO_ROOM = range(2)


def pushed(ring: Ring, rows: Any, room: int, when_ns: int, what: int, tag: int) -> int:
    """Queue an entry; returns its index."""
    index = (ring.head + ring.count) & (room - 1)
    ring.count += 1
    entry = rows[index]
    entry.when_ns = when_ns
    entry.what = what
    entry.tag = tag
    return index


def popped(ring: Ring, room: int) -> int:
    """Take the first entry off; returns its index."""
    index = ring.head
    ring.head = (index + 1) & (room - 1)
    ring.count -= 1
    return index


def wire_ns(size_bytes: int) -> int:
    """For how long a frame keeps the wire busy."""
    return (size_bytes + FRAMING_BYTES) * NS_PER_BYTE


def stamp_of(s: Session, zero: int, now_ns: int) -> int:
    """A TCP timestamp (RFC 7323 5.4)."""
    return (zero + (now_ns - s.start_ns) // STAMP_NS) & MASK


def service_of(s: Session, number: int) -> int:
    """How long the target takes for a write."""
    return drawn_service_ns(s.service_ns, s.seed, number)


def drawn_service_ns(service_ns: int, seed: int, number: int) -> int:
    """Three to five quarters of a service time, by the seed and the write's number."""
    draw = (number ^ seed) & 0x7FFFFFFF
    draw = draw * 0x45D9F3B & 0x7FFFFFFF
    draw = draw ^ draw >> 15
    draw = draw * 0x45D9F3B & 0x7FFFFFFF
    return service_ns - service_ns // 4 + (service_ns >> 1) * (draw >> 16 & 0x3FF) // 1023


def begin_session(s: Session) -> None:
    """Have the initiator connect."""
    s.clock_ns = s.start_ns
    s.h_ack_due_ns = NEVER
    s.t_ack_due_ns = NEVER
    s.nop_due_ns = NEVER
    pushed(s.work, s.work_rows, s.room, s.start_ns, SYN, 0)


# --- the initiator sends ---------------------------------------------------------------------------------------------


def write_due_ns(s: Session) -> int:
    """When the next write may be sent."""
    if s.free.count == 0 or s.issued == s.writes:
        return NEVER
    return max(s.free_rows[s.free.head].when_ns, s.slot_ns)


def host_due_ns(s: Session) -> int:
    """When the initiator has data to send, or SYN or FIN."""
    if s.flight.count == FLIGHT:
        return NEVER
    if s.pdu_sent < s.pdu_size or s.bursting:
        return s.clock_ns
    due = write_due_ns(s)
    if s.work.count:
        due = min(due, s.work_rows[s.work.head].when_ns)
    return due


def host_next(s: Session) -> tuple[int, int]:
    """When the initiator sends its next frame, and whether that carries data; else it only acknowledges."""
    free = max(s.clock_ns, s.h_free_ns)
    due = host_due_ns(s)
    data = max(free, due)
    ack = max(free, s.h_ack_due_ns)
    return (data, 1) if data <= ack else (ack, 0)


def set_pdu(s: Session, kind: int, tag: int, data: int) -> None:
    """What the initiator sends next; SYN and FIN carry none."""
    s.pdu = kind
    s.pdu_tag = tag
    s.pdu_sent = 0
    s.pdu_data = data
    size = s.shapes[kind].pdu_bytes
    if s.logged_in and size:
        size += s.header_digest
    if data:
        write = s.outstanding[tag]
        step = write.number * 7919 + (write.offset >> BLOCK_SHIFT) * 31
        s.pdu_pool = step % s.pool_steps * STEP_BYTES
        size += data + s.data_digest
    s.pdu_size = size


def begin_write(s: Session, moulds: bytearray, pool: Octets) -> None:
    """Send the next SCSI Command with its immediate data (RFC 7143 11.3)."""
    tag = s.free_rows[popped(s.free, s.room)].tag
    write = s.outstanding[tag]
    write.number = s.issued
    write.itt = s.itt
    write.offset = 0
    write.r2ts = 0
    set_pdu(s, COMMAND, tag, s.immediate_bytes)
    if s.both:
        patch_request(s, moulds, pool)
    write.offset = s.immediate_bytes
    write.burst_end = s.immediate_bytes
    s.itt = (s.itt + 1) & TAGS
    s.cmd_sn = (s.cmd_sn + 1) & MASK
    s.issued += 1
    if s.rate_over:
        left = s.slot_over + s.write_gap_over
        s.slot_ns += s.write_gap_ns + left // s.rate_over
        s.slot_over = left % s.rate_over


def begin_data_out(s: Session, moulds: bytearray, pool: Octets, tag: int) -> None:
    """Send the next Data-Out of the burst that an R2T asked for (RFC 7143 11.7)."""
    write = s.outstanding[tag]
    data = min(s.max_recv_bytes, write.burst_end - write.offset)
    set_pdu(s, DATA_OUT, tag, data)
    if s.both:
        patch_request(s, moulds, pool)
    write.offset += data
    write.data_sn += 1
    s.bursting = 1 if write.offset < write.burst_end else 0


def begin_pdu(s: Session, moulds: bytearray, pool: Octets) -> None:
    """Send what has been waiting longest."""
    if s.bursting:
        begin_data_out(s, moulds, pool, s.pdu_tag)
    elif s.work.count and s.work_rows[s.work.head].when_ns <= write_due_ns(s):
        entry = s.work_rows[popped(s.work, s.room)]
        if entry.what == DATA_OUT:
            begin_data_out(s, moulds, pool, entry.tag)
        else:
            set_pdu(s, entry.what, entry.tag, 0)
            if s.both and s.pdu_size:
                patch_request(s, moulds, pool)
    else:
        begin_write(s, moulds, pool)


def host_sends(s: Session, moulds: bytearray, pool: Octets, octets: bytearray, at: int, carries: int) -> int:
    """A frame of the initiator, at `octets[at:]` if it is wanted; returns its size in bytes."""
    kind = ACK
    payload = 0
    if carries:
        if s.pdu_sent == s.pdu_size:
            begin_pdu(s, moulds, pool)
        kind = s.pdu
        payload = min(s.segment_bytes, s.pdu_size - s.pdu_sent)
    end = s.pdu_sent + payload
    size = s.shapes[kind].head_bytes + payload
    stamp = stamp_of(s, s.h_stamp0, s.clock_ns)
    if s.both:
        put_headers(s, moulds, kind, octets, at, payload, payload > 0 and end == s.pdu_size, s.h_id)
        if payload:
            put_request_bytes(s, moulds, pool, octets, at + s.shapes[kind].head_bytes, end)
        put_numbers(s, kind, octets, at, size, s.h_seq, s.h_next, stamp, s.h_recent)
    s.h_id = (s.h_id + 1) & 0xFFFF
    s.h_free_ns = s.clock_ns + wire_ns(size)
    s.h_unacked = 0
    s.h_ack_due_ns = NEVER
    if carries:
        s.pdu_sent = end
        s.h_seq = (s.h_seq + payload + (1 if kind in (SYN, FIN) else 0)) & MASK
        complete = end == s.pdu_size and not s.bursting
        index = pushed(s.flight, s.flight_rows, FLIGHT, s.h_free_ns + s.rtt_ns, kind if complete else MIDDLE, s.pdu_tag)
        s.flight_rows[index].end_seq = s.h_seq
        s.flight_rows[index].stamp = stamp
    elif s.ended == CLOSING:
        s.ended = CLOSED
    return int(size)


# --- the target receives ---------------------------------------------------------------------------------------------


def target_receives(s: Session) -> None:
    """The first segment in flight arrives; the PDU that it completes is acted on."""
    entry = s.flight_rows[popped(s.flight, FLIGHT)]
    now = s.clock_ns
    if s.t_unacked == 0:
        s.t_recent = entry.stamp  # RFC 7323 4.3: that of the segment that the next acknowledgement answers
    s.t_next = entry.end_seq
    what = entry.what
    if what != SYN and what != FIN:
        s.t_unacked += 1
        s.t_ack_due_ns = now if s.t_unacked >= 2 else now + DELAYED_ACK_NS
    if what == COMMAND:
        s.exp_cmd_sn = (s.exp_cmd_sn + 1) & MASK
    if what in (COMMAND, DATA_OUT):
        write_arrived(s, entry.tag)
    elif what == NOP_OUT:
        s.nop_waits = 0
    elif what == SYN:
        answer(s, now + TARGET_NS, T_SYN_ACK, 0)
    elif what == LOGIN_SECURITY:
        answer(s, now + TARGET_NS, T_LOGIN_SECURITY, 0)
    elif what == LOGIN_OPERATIONAL:
        answer(s, now + TARGET_NS, T_LOGIN_OPERATIONAL, 0)
    elif what == LOGOUT:
        answer(s, now + TARGET_NS, T_LOGOUT, 0)
    elif what == FIN:
        answer(s, now + TARGET_NS, T_FIN, 0)


def answer(s: Session, when_ns: int, kind: int, tag: int) -> None:
    """Queue what the target will send, behind what it already will."""
    s.answered_ns = max(s.answered_ns, when_ns)
    pushed(s.answers, s.answers_rows, s.room, s.answered_ns, kind, tag)


def write_arrived(s: Session, tag: int) -> None:
    """All that a write was allowed to send is in: ask for more, or carry it out."""
    write = s.outstanding[tag]
    if write.burst_end == s.write_bytes:
        answer(s, s.clock_ns + service_of(s, write.number), T_RESPONSE, tag)
    else:
        pushed(s.asks, s.asks_rows, s.room, s.clock_ns + TARGET_NS, T_R2T, tag)


# --- the target sends, and the initiator receives --------------------------------------------------------------------


def target_due_ns(s: Session) -> int:
    """When the target has a PDU to send, or SYN or FIN."""
    due = NEVER if s.nop_waits else s.nop_due_ns
    if s.answers.count:
        due = min(due, s.answers_rows[s.answers.head].when_ns)
    if s.asks.count:
        due = min(due, s.asks_rows[s.asks.head].when_ns)
    return due


def target_next(s: Session) -> tuple[int, int]:
    """When the target sends its next frame, and whether that carries data; else it only acknowledges."""
    free = max(s.clock_ns, s.t_free_ns)
    due = target_due_ns(s)
    data = max(free, due)
    ack = max(free, s.t_ack_due_ns)
    return (data, 1) if data <= ack else (ack, 0)


def next_answer(s: Session) -> tuple[int, int]:
    """What the target sends now, of what has been due longest: its kind and tag."""
    due = target_due_ns(s)
    if s.answers.count and s.answers_rows[s.answers.head].when_ns == due:
        entry = s.answers_rows[popped(s.answers, s.room)]
        if entry.what == T_RESPONSE:
            s.max_cmd_sn = (s.max_cmd_sn + 1) & MASK
        return entry.what, entry.tag
    if s.asks.count and s.asks_rows[s.asks.head].when_ns == due:
        entry = s.asks_rows[popped(s.asks, s.room)]
        write = s.outstanding[entry.tag]
        write.burst_end = min(write.offset + s.max_burst_bytes, s.write_bytes)
        write.data_sn = 0
        s.ttt = (s.ttt + 1) & TAGS
        write.ttt = s.ttt
        return T_R2T, entry.tag
    s.ttt = (s.ttt + 1) & TAGS
    s.nop_due_ns = s.clock_ns + s.nop_ns
    s.nop_waits = 1
    return T_NOP_IN, s.ttt


def target_sends(s: Session, moulds: bytearray, octets: bytearray, at: int, carries: int) -> int:
    """A frame of the target at `octets[at:]`, and what the initiator makes of it; returns its size in bytes."""
    kind = T_ACK
    tag = 0
    if carries:
        kind, tag = next_answer(s)
    shape = s.shapes[kind]
    payload = shape.pdu_bytes
    if payload:
        if s.logged_in:
            payload += s.header_digest
        patch_answer(s, moulds, kind, tag)
    size = shape.head_bytes + payload
    put_headers(s, moulds, kind, octets, at, payload, payload > 0, s.t_id)
    if payload:
        copy_octets(octets, at + shape.head_bytes, moulds, shape.pdu_at, payload)  # no answer is longer than a segment
    stamp = stamp_of(s, s.t_stamp0, s.clock_ns)
    put_numbers(s, kind, octets, at, size, s.t_seq, s.t_next, stamp, s.t_recent)
    s.t_seq = (s.t_seq + payload + (1 if kind in (T_SYN_ACK, T_FIN) else 0)) & MASK
    s.t_id = (s.t_id + 1) & 0xFFFF
    s.t_free_ns = s.clock_ns + wire_ns(size)
    s.t_unacked = 0
    s.t_ack_due_ns = NEVER
    if s.h_unacked == 0:
        s.h_recent = stamp
    if carries:
        host_receives(s, kind, tag, payload)
    return int(size)


def host_receives(s: Session, kind: int, tag: int, payload: int) -> None:
    """The initiator takes a segment in and reacts."""
    now = s.clock_ns
    ready = now + HOST_NS
    s.h_next = s.t_seq
    s.h_unacked += 1
    s.h_ack_due_ns = now if s.h_unacked >= 2 or payload == 0 else now + DELAYED_ACK_NS
    if kind == T_RESPONSE:
        stat_sn_used(s)
        s.completed += 1
        pushed(s.free, s.free_rows, s.room, ready, COMMAND, tag)
        if s.completed == s.writes:
            s.nop_due_ns = NEVER
            pushed(s.work, s.work_rows, s.room, ready, LOGOUT, 0)
    elif kind == T_R2T:
        s.outstanding[tag].r2ts += 1
        pushed(s.work, s.work_rows, s.room, ready, DATA_OUT, tag)
    elif kind == T_NOP_IN:
        pushed(s.work, s.work_rows, s.room, ready, NOP_OUT, tag)
    elif kind == T_SYN_ACK:
        pushed(s.work, s.work_rows, s.room, ready, LOGIN_SECURITY, 0)
    elif kind == T_LOGIN_SECURITY:
        stat_sn_used(s)
        pushed(s.work, s.work_rows, s.room, ready, LOGIN_OPERATIONAL, 0)
    elif kind == T_LOGIN_OPERATIONAL:
        stat_sn_used(s)
        begin_full_feature_phase(s, ready)
    elif kind == T_LOGOUT:
        stat_sn_used(s)
        pushed(s.work, s.work_rows, s.room, ready, FIN, 0)
    elif kind == T_FIN:
        s.ended = CLOSING


def stat_sn_used(s: Session) -> None:
    """A response took a StatSN, and the initiator has seen it (RFC 7143 4.2.2.2)."""
    s.t_stat_sn = (s.t_stat_sn + 1) & MASK
    s.h_stat_sn = s.t_stat_sn


def begin_full_feature_phase(s: Session, ready_ns: int) -> None:
    """Logged in: writes may be sent, digests are on, pings begin (RFC 7143 4.2.5)."""
    s.logged_in = 1
    s.itt = (s.itt + 1) & TAGS
    s.slot_ns = ready_ns
    if s.nop_ns:
        s.nop_due_ns = s.clock_ns + s.nop_ns
    for tag in range(s.depth):
        pushed(s.free, s.free_rows, s.room, ready_ns, COMMAND, tag)


# --- both, in the order of time --------------------------------------------------------------------------------------


def craft_frames(
    s: Session,
    moulds: bytearray,
    pool: Octets,
    rows: Any,
    first: int,
    limit: int,
    octets: bytearray,
    at: int,
    frame: int,
) -> tuple[int, int, int]:
    """Let the conversation go on for up to `limit` frames into `rows[first:]`, numbered from `frame`, at `octets[at:]`.

    Returns how many there are, where their bytes end, and why it stopped: NO_ROOM, else CRAFTED.  Of what happens at
    the same time, arrivals at the target come first, then its frames.
    """
    count = 0
    from_target, target_carries = target_next(s)
    from_host, host_carries = host_next(s)
    while count < limit and s.ended != CLOSED:
        if len(octets) - at < s.longest:
            return count, at, NO_ROOM
        arrival = s.flight_rows[s.flight.head].when_ns if s.flight.count else NEVER
        if arrival == NEVER and from_target >= NEVER and from_host >= NEVER:
            s.ended = CLOSED  # at a write in 11 days the clock ends before some conversations do
        elif arrival <= from_target and arrival <= from_host:
            s.clock_ns = arrival
            target_receives(s)
            from_target, target_carries = target_next(s)
            if s.flight.count == FLIGHT - 1:  # there is room for one more
                from_host, host_carries = host_next(s)
        elif from_target <= from_host:
            s.clock_ns = from_target
            size = target_sends(s, moulds, octets, at, target_carries)
            put_row(rows[first + count], frame + count, s.clock_ns, at, size, DIR_INBOUND)
            at += size
            count += 1
            from_target, target_carries = target_next(s)
            from_host, host_carries = host_next(s)
        else:
            s.clock_ns = from_host
            size = host_sends(s, moulds, pool, octets, at, host_carries)
            if s.both:
                put_row(rows[first + count], frame + count, s.clock_ns, at, size, DIR_OUTBOUND)
                at += size
                count += 1
            from_host, host_carries = host_next(s)
    return count, at, CRAFTED

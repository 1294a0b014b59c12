"""An iSCSI target: logs the host in, takes writes in order, asks for their data, and responds after a service time.

Source: RFC 7143 4.2 (numbering), 6.3 (login), 11.3 to 11.19 (PDUs); SAM-3 5.3 (status), SPC-3 4.5 (fixed format sense).
A response comes the service time after the command's last byte, give or take a quarter, and never before that of a
command which was complete earlier; everything else is sent TARGET_NS after what it answers.
Differs: one R2T of a command at a time (MaxOutstandingR2T=1), no digests, no reads (Check Condition, ILLEGAL REQUEST),
commands without data succeed; the data of a ping are not sent back; text negotiation and SNACK, which the host does not
use, reset the connection; a command that comes again after a reinstatement is carried out again.
"""

from emu.kernel.closed_loop import MAX_TASKS
from emu.kernel.iscsi_pdu import (
    FINAL,
    IMMEDIATE,
    LOW,
    NO_TAG,
    OP_DATA_OUT,
    OP_LOGIN,
    OP_LOGIN_RESPONSE,
    OP_LOGOUT,
    OP_LOGOUT_RESPONSE,
    OP_NOP_IN,
    OP_NOP_OUT,
    OP_R2T,
    OP_SCSI_COMMAND,
    OP_SCSI_RESPONSE,
    OP_TASK_MANAGEMENT,
    OP_TASK_MANAGEMENT_RESPONSE,
    first_word,
    flags_of,
    high_of,
    low_of,
    opcode_of,
    read_pdu,
    reader_open,
    stream_open,
    stream_write,
    word_of,
)
from emu.kernel.machine import NEVER_NS, NONE
from emu.kernel.tcp_seq import seq_add
from emu.traffic.iscsi.conversation import TARGET_NS, drawn_service_ns
from emu.traffic.peer.state import (
    MAX_ANSWERS,
    PHASE_FULL_FEATURE,
    PHASE_LOGIN,
    PHASE_LOGOUT,
    STORE_MASK,
    AnswerRing,
    Target,
    World,
    target_base,
)
from emu.traffic.peer.tcp_peer import peer_abort, peer_push
from emu.wire.octets import Octets

READ, WRITE = 0x40, 0x20  # flags of a SCSI Command
LOGIN_STAGE = 2  # how far CSG stands from the right
GOOD, CHECK_CONDITION, TASK_SET_FULL = 0x00, 0x02, 0x28
ABORT_TASK = 1


def target_open(w: World, s: int) -> None:
    """A connection has come about: a session begins anew, and what the last one had under way is forgotten."""
    target = w.target[s]
    peer = w.peer[s]
    stream_open(target.stream, seq_add(peer.iss, 1))
    reader_open(target.reader, peer.rcv_nxt)
    target.phase = PHASE_LOGIN
    target.stat_sn = peer.iss
    target_close(target)


def target_close(target: Target) -> None:
    """The connection is gone, and the session with it."""
    for t in range(MAX_TASKS):
        target.write[t].used = 0
    target.outstanding = 0
    target.asks.count = 0
    target.answers.count = 0
    target.nop_due_ns = NEVER_NS
    target.nop_waits = 0


# --- it decides what to answer ---------------------------------------------------------------------------------------


def answer(ring: AnswerRing, due_ns: int, opcode: int, tag: int, lun: int, one: int, two: int) -> None:
    """Queue a PDU that is due then, behind those that are due before."""
    assert ring.count < MAX_ANSWERS
    entry = ring.answer[(ring.head + ring.count) & (MAX_ANSWERS - 1)]
    ring.count += 1
    entry.due_ns = due_ns
    entry.opcode = opcode
    entry.tag = tag
    entry.lun = lun
    entry.one = one
    entry.two = two


def take_login(w: World, target: Target) -> None:
    """A login request: its stage is answered, and T grants the next one (RFC 7143 11.12, 11.13)."""
    word = target.reader.word
    target.exp_cmd_sn = high_of(word[3])
    target.max_cmd_sn = (target.exp_cmd_sn + target.depth - 1) & LOW
    answer(target.asks, w.now_ns + TARGET_NS, OP_LOGIN_RESPONSE, high_of(word[2]), 0, flags_of(word[0]), word[1])


def find_write(target: Target, itt: int) -> int:
    """The row of a command under way, or NONE."""
    for t in range(MAX_TASKS):
        if target.write[t].used and target.write[t].itt == itt:
            return t
    return NONE


def free_write(target: Target) -> int:
    """A row for a command, or NONE if there are as many as the target takes."""
    if target.outstanding < target.depth:
        for t in range(MAX_TASKS):
            if not target.write[t].used:
                return t
    return NONE


def take_command(w: World, target: Target) -> None:
    """A SCSI Command, with the data that came with it (RFC 7143 11.3)."""
    word = target.reader.word
    itt = high_of(word[2])
    if not word[0] >> 56 & IMMEDIATE:
        target.exp_cmd_sn = (high_of(word[3]) + 1) & LOW
    t = free_write(target)
    if t == NONE:
        target.refused += 1
        answer(target.asks, w.now_ns + TARGET_NS, OP_SCSI_RESPONSE, NONE, itt, TASK_SET_FULL, 0)
        return
    write = target.write[t]
    flags = flags_of(word[0])
    write.used = 1
    write.itt = itt
    write.lun = word[1]
    write.number = target.commands
    write.check_condition = 1 if flags & READ else 0
    write.bytes = low_of(word[2]) if flags & WRITE else 0
    write.offset = 0
    write.ttt = NO_TAG
    write.r2ts = 0
    write.unasked = 0 if flags & FINAL else 1
    target.commands += 1
    target.outstanding += 1
    data_arrived(w, target, t, target.reader.data_bytes)


def take_data_out(w: World, target: Target) -> None:
    """Data of a write, in order as everything is (DataPDUInOrder); F ends what was asked for (RFC 7143 11.7)."""
    word = target.reader.word
    t = find_write(target, high_of(word[2]))
    if t != NONE and target.write[t].offset < target.write[t].bytes:
        if flags_of(word[0]) & FINAL:
            target.write[t].unasked = 0
        data_arrived(w, target, t, target.reader.data_bytes)


def data_arrived(w: World, target: Target, t: int, count: int) -> None:
    """A command has come so far: once all that may come unasked is in, ask for more, or carry it out."""
    write = target.write[t]
    write.offset += count
    if write.offset >= write.bytes:
        service_ns = drawn_service_ns(target.service_ns, target.jitter, write.number)
        target.answered_ns = max(target.answered_ns, w.now_ns + service_ns)
        answer(target.answers, target.answered_ns, OP_SCSI_RESPONSE, t, 0, GOOD, 0)
    elif not write.unasked and (write.r2ts == 0 or write.offset >= write.burst_end):
        write.burst_end = min(write.offset + target.max_burst_bytes, write.bytes)
        answer(target.asks, w.now_ns + TARGET_NS, OP_R2T, t, 0, 0, 0)
        write.r2ts += 1


def take_nop(w: World, target: Target) -> None:
    """The host pings, or answers a ping (RFC 7143 11.18)."""
    word = target.reader.word
    itt = high_of(word[2])
    if not word[0] >> 56 & IMMEDIATE:
        target.exp_cmd_sn = (high_of(word[3]) + 1) & LOW
    if itt == NO_TAG:
        target.nop_waits = 0
    else:
        answer(target.asks, w.now_ns + TARGET_NS, OP_NOP_IN, itt, word[1], 0, 0)


def take_task_management(w: World, target: Target) -> None:
    """A command is to be forgotten, or all of them: it is, and that is said (RFC 7143 11.5)."""
    word = target.reader.word
    if not word[0] >> 56 & IMMEDIATE:
        target.exp_cmd_sn = (high_of(word[3]) + 1) & LOW
    referenced = low_of(word[2])
    one = (flags_of(word[0]) & 0x7F) == ABORT_TASK
    for t in range(MAX_TASKS):
        write = target.write[t]
        if write.used and (not one or write.itt == referenced):
            forget_answers(target.asks, t)
            forget_answers(target.answers, t)
            write.used = 0
            target.outstanding -= 1
    answer(target.asks, w.now_ns + TARGET_NS, OP_TASK_MANAGEMENT_RESPONSE, high_of(word[2]), 0, 0, 0)


def forget_answers(ring: AnswerRing, t: int) -> None:
    """What was to be said of a command is not said any more: its entries say nothing when they are due."""
    for n in range(ring.count):
        entry = ring.answer[(ring.head + n) & (MAX_ANSWERS - 1)]
        if entry.opcode in (OP_R2T, OP_SCSI_RESPONSE) and entry.tag == t:
            entry.opcode = NONE


def take_logout(w: World, target: Target) -> None:
    """The session ends once its response is sent; the host closes the connection (RFC 7143 11.14)."""
    word = target.reader.word
    target.phase = PHASE_LOGOUT
    target.nop_due_ns = NEVER_NS
    answer(target.asks, w.now_ns + TARGET_NS, OP_LOGOUT_RESPONSE, high_of(word[2]), 0, 0, 0)


def target_takes(w: World, s: int) -> bool:
    """Act on the PDU that has been read; False if it is none that this target knows at this stage."""
    target = w.target[s]
    opcode = opcode_of(target.reader.word[0])
    if opcode == OP_LOGIN:
        if target.phase != PHASE_LOGIN:
            return False
        take_login(w, target)
        return True
    if target.phase != PHASE_FULL_FEATURE:
        return False
    if opcode == OP_SCSI_COMMAND:
        take_command(w, target)
    elif opcode == OP_DATA_OUT:
        take_data_out(w, target)
    elif opcode == OP_NOP_OUT:
        take_nop(w, target)
    elif opcode == OP_TASK_MANAGEMENT:
        take_task_management(w, target)
    elif opcode == OP_LOGOUT:
        take_logout(w, target)
    else:
        return False
    return True


def target_reads(w: World, s: int, store: Octets) -> None:
    """Take every PDU that is whole; what cannot be understood resets the connection (RFC 7143 7.7)."""
    target = w.target[s]
    while read_pdu(target.reader, store, target_base(s), STORE_MASK, w.peer[s].rcv_nxt):
        if not target_takes(w, s):
            target_close(target)
            peer_abort(w, s)
            return


# --- it answers ------------------------------------------------------------------------------------------------------


def ring_due_ns(ring: AnswerRing) -> int:
    """When the first answer of a ring is due."""
    return ring.answer[ring.head].due_ns if ring.count > 0 else NEVER_NS


def target_due_ns(w: World, s: int) -> int:
    """When the target has a PDU to send."""
    target = w.target[s]
    due = min(ring_due_ns(target.asks), ring_due_ns(target.answers))
    return due if target.nop_waits else min(due, target.nop_due_ns)


def target_runs(w: World, s: int) -> None:
    """Send what is due."""
    target = w.target[s]
    while ring_due_ns(target.asks) <= w.now_ns:
        say_first(w, target, target.asks)
    while ring_due_ns(target.answers) <= w.now_ns:
        say_first(w, target, target.answers)
    if not target.nop_waits and target.nop_due_ns <= w.now_ns:
        say_ping(w, target)
    w.peer[s].write_seq = target.stream.end_seq
    peer_push(w, s)


def say_first(w: World, target: Target, ring: AnswerRing) -> None:
    """Write the first answer of a ring into the stream."""
    entry = ring.answer[ring.head]
    ring.head = (ring.head + 1) & (MAX_ANSWERS - 1)
    ring.count -= 1
    if entry.opcode == OP_R2T:
        say_r2t(target, entry.tag)
    elif entry.opcode == OP_SCSI_RESPONSE and entry.tag == NONE:
        say_status(target, entry.lun, entry.one, 0, 0)
    elif entry.opcode == OP_SCSI_RESPONSE:
        say_response(target, entry.tag)
    elif entry.opcode == OP_LOGIN_RESPONSE:
        say_login(w, target, entry.tag, entry.one, entry.two)
    elif entry.opcode == OP_NOP_IN:
        say(target, first_word(OP_NOP_IN, FINAL, 0), entry.lun, word_of(entry.tag, NO_TAG), 0, 0, 0, 0)
        stat_sn_used(target)
    elif entry.opcode != NONE:
        say(target, first_word(entry.opcode, FINAL, 0), 0, word_of(entry.tag, 0), 0, 0, 0, 0)
        stat_sn_used(target)


def stat_sn_used(target: Target) -> None:
    """A response took a StatSN (RFC 7143 4.2.2.2)."""
    target.stat_sn = (target.stat_sn + 1) & LOW


def say(
    target: Target, one: int, two: int, three: int, after_max: int, six: int, data_bytes: int, pool_at: int
) -> None:
    """Write a PDU with what every answer carries, StatSN, ExpCmdSN, MaxCmdSN; `after_max` stands behind them."""
    four = word_of(target.stat_sn, target.exp_cmd_sn)
    five = word_of(target.max_cmd_sn, after_max)
    stream_write(target.stream, one, two, three, four, five, six, data_bytes, pool_at)


def say_r2t(target: Target, t: int) -> None:
    """Ask for a burst (RFC 7143 11.8)."""
    write = target.write[t]
    target.ttt = (target.ttt + 1) & 0x7FFFFFFF
    write.ttt = target.ttt
    three = word_of(write.itt, write.ttt)
    six = word_of(write.offset, write.burst_end - write.offset)
    say(target, first_word(OP_R2T, FINAL, 0), write.lun, three, write.r2ts - 1, six, 0, 0)


def say_response(target: Target, t: int) -> None:
    """A command is done (RFC 7143 11.4)."""
    write = target.write[t]
    status = GOOD
    if write.check_condition:
        status = CHECK_CONDITION
        target.refused += 1
    else:
        target.writes_done += 1
        target.bytes_done += write.bytes
    write.used = 0
    target.outstanding -= 1
    say_status(target, write.itt, status, write.r2ts, target.sense_bytes if write.check_condition else 0)


def say_status(target: Target, itt: int, status: int, r2ts: int, sense_bytes: int) -> None:
    """A SCSI Response; the queue has room again as far as commands have been answered."""
    target.max_cmd_sn = (target.exp_cmd_sn + target.depth - target.outstanding - 1) & LOW
    one = first_word(OP_SCSI_RESPONSE, FINAL, sense_bytes) | status << 32
    say(target, one, 0, word_of(itt, 0), r2ts, 0, sense_bytes, target.sense_at)
    stat_sn_used(target)


def say_login(w: World, target: Target, itt: int, flags: int, isid: int) -> None:
    """Grant what a login request asked for, with this target's texts (RFC 7143 11.13)."""
    stage = 1 if flags >> LOGIN_STAGE & 3 else 0
    last = flags & FINAL > 0 and flags & 3 == 3
    isid = isid >> 16 << 16
    if last:
        isid |= target.tsih
    text = target.login_bytes[stage]
    say(target, first_word(OP_LOGIN_RESPONSE, flags, text), isid, word_of(itt, 0), 0, 0, text, target.login_at[stage])
    stat_sn_used(target)
    if last:
        target.phase = PHASE_FULL_FEATURE
        target.logins += 1
        if target.nop_interval_ns:
            target.nop_due_ns = w.now_ns + target.nop_interval_ns


def say_ping(w: World, target: Target) -> None:
    """Ask whether the host is there (RFC 7143 11.19); the next ping follows when this one is answered."""
    target.ttt = (target.ttt + 1) & 0x7FFFFFFF
    say(target, first_word(OP_NOP_IN, FINAL, 0), 0, word_of(NO_TAG, target.ttt), 0, 0, 0, 0)
    target.nop_due_ns = w.now_ns + target.nop_interval_ns
    target.nop_waits = 1

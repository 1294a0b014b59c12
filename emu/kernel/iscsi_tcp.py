"""The iSCSI initiator's data path: commands for dirty pages, their data, and what the target answers.

Source: open-iscsi's kernel part for 2.6.16 (iscsi_tcp.c iscsi_data_xmit, iscsi_queuecommand, iscsi_scsi_cmd_rsp,
iscsi_r2t_rsp, iscsi_conn_failure), 2.6.12 drivers/block/ll_rw_blk.c for the queue; RFC 7143 11 for the PDUs,
4.2.2.1 for the command window.
Differs: the order of what is sent is ours: the rest of a PDU, answers to the target's pings, our own pings, data of the
task at hand, R2Ts, commands.  No command times out in the SCSI layer (it waits as long as the session lasts) and one
that ends with another status than GOOD is made again without end.  A page that is clean may be reclaimed although an
unacknowledged skb still refers to it (sendpage): the skb's page reference is not modelled.  Commands and R2Ts need no
memory: they are preallocated with the session.
"""

from emu.kernel.closed_loop import (
    CONN_ESTABLISHED,
    LATENCY_BUCKETS,
    MAX_TASKS,
    SESSION_FULL_FEATURE,
    SESSION_LOGIN_OPERATIONAL,
    SESSION_LOGIN_SECURITY,
    TASK_FREE,
    TASK_QUEUED,
    TASK_SENDING,
    TASK_SENT,
    WAIT_MEMORY,
    WAIT_NOTHING,
    IscsiSession,
    TcpConn,
)
from emu.kernel.iscsi_pdu import (
    FINAL,
    IMMEDIATE,
    NO_TAG,
    OP_ASYNC,
    OP_DATA_OUT,
    OP_LOGIN_RESPONSE,
    OP_NOP_IN,
    OP_NOP_OUT,
    OP_R2T,
    OP_SCSI_COMMAND,
    OP_SCSI_RESPONSE,
    first_word,
    flags_of,
    high_of,
    low_of,
    opcode_of,
    stream_write,
    word_of,
)
from emu.kernel.latency import latency_bucket
from emu.kernel.machine import NEVER_NS, NONE, PAGE_SIZE, Machine
from emu.kernel.page_writeback import end_page_writeback, take_oldest
from emu.kernel.seq import after, seq_add
from emu.kernel.sock import gfp_kernel_would_wait
from emu.kernel.tcp_write import tcp_push, tcp_sendpage

BLOCK_BYTES = 512
CONGESTION_ON = MAX_TASKS - MAX_TASKS // 8 + 1  # requests queued (blk_queue_congestion_threshold)
CONGESTION_OFF = MAX_TASKS - MAX_TASKS // 8 - MAX_TASKS // 16 - 1
WRITE_10 = 0x2A
WRITE_16 = 0x8A
WRITE_10_BLOCKS = 0xFFFF
WRITE = 0x20  # a SCSI Command's W bit
SIMPLE = 0x01  # its task attribute
ITT_MASK = 0x7FFFFFFF
PING_TAG = 0x80000000  # in the initiator task tag of what is no task
ASYNC_SCSI = 0  # an asynchronous event that leaves the session as it is; so do those from 4 on
EVENT_LAST_DROP = 3  # asynchronous events 1 to 3 end the connection or the session
NSG_FULL_FEATURE = 0x03  # of a Login Response, and its T bit
TRANSIT = 0x80


def link_tasks(session: IscsiSession) -> None:
    """All tasks are free and no list has any."""
    for i in range(MAX_TASKS):
        session.task[i].state = TASK_FREE
        session.task[i].next = i + 1 if i + 1 < MAX_TASKS else NONE
    session.task_free = 0
    session.queued_head = NONE
    session.queued_tail = NONE
    session.r2t_head = NONE
    session.r2t_tail = NONE
    session.sending = NONE


def queue_task(session: IscsiSession, i: int) -> None:
    """A task waits for its command to be sent, behind all others."""
    session.task[i].state = TASK_QUEUED
    session.task[i].next = NONE
    if session.queued_tail == NONE:
        session.queued_head = i
    else:
        session.task[session.queued_tail].next = i
    session.queued_tail = i


def iscsi_queuecommand(m: Machine, s: int, pages: int) -> int:
    """Make a write of up to `pages` of the oldest dirty pages; how many they are.  There is a free task."""
    session = m.session[s]
    pages = min(pages, max(1, session.write_bytes // PAGE_SIZE))
    i = session.task_free
    task = session.task[i]
    session.task_free = task.next
    task.bytes = pages * PAGE_SIZE
    task.block = session.block
    session.block += task.bytes // BLOCK_BYTES
    task.queued_ns = m.now_ns
    task.sent_ns = 0
    task.r2t_waits = 0
    task.sent_bytes = 0
    task.burst_end = 0
    take_oldest(m, task, pages)
    queue_task(session, i)
    if session.tasks == 0:
        session.busy_since_ns = m.now_ns
    session.tasks += 1
    session.writes_issued += 1
    if session.tasks >= CONGESTION_ON:
        session.congested = 1
    return pages


def data_word(task_block: int, blocks: int) -> int:
    """The first eight bytes of a write's CDB: WRITE(10), or WRITE(16) where numbers are too large for it (SBC-3)."""
    if blocks <= WRITE_10_BLOCKS and task_block <= NO_TAG:
        return word_of(WRITE_10 << 24 | task_block >> 16, (task_block & 0xFFFF) << 16 | blocks >> 8)
    return word_of(WRITE_16 << 24 | task_block >> 48 & 0xFFFF, task_block >> 16 & NO_TAG)


def data_word_two(task_block: int, blocks: int) -> int:
    """The other eight."""
    if blocks <= WRITE_10_BLOCKS and task_block <= NO_TAG:
        return word_of((blocks & 0xFF) << 24, 0)
    return word_of((task_block & 0xFFFF) << 16 | blocks >> 16, (blocks & 0xFFFF) << 16)


def unsolicited_bytes(session: IscsiSession, size_bytes: int) -> int:
    """How much of a write may be sent without an R2T, its immediate data with it (RFC 7143 13.10 to 13.14)."""
    if session.initial_r2t:
        return min(session.immediate_bytes, size_bytes)
    return min(max(session.first_burst_bytes, session.immediate_bytes), size_bytes)


def write_command(m: Machine, s: int) -> None:
    """The first task that waits is sent: its SCSI Command with immediate data (RFC 7143 11.3)."""
    session = m.session[s]
    i = session.queued_head
    task = session.task[i]
    session.queued_head = task.next
    if session.queued_head == NONE:
        session.queued_tail = NONE
    task.itt = (session.itt * MAX_TASKS + i) & ITT_MASK
    session.itt += 1
    task.sent_bytes = min(session.immediate_bytes, task.bytes)
    task.burst_end = unsolicited_bytes(session, task.bytes)
    task.ttt = NO_TAG
    task.data_sn = 0
    task.sent_ns = m.now_ns
    session.under_way += 1
    follows = task.sent_bytes < task.burst_end
    flags = WRITE | SIMPLE if follows else FINAL | WRITE | SIMPLE
    blocks = task.bytes // BLOCK_BYTES
    session.pdu_left = stream_write(
        session.stream,
        first_word(OP_SCSI_COMMAND, flags, task.sent_bytes),
        0,
        word_of(task.itt, task.bytes),
        word_of(session.cmd_sn, session.exp_stat_sn),
        data_word(task.block, blocks),
        data_word_two(task.block, blocks),
        task.sent_bytes,
        session.pool_at,
    )
    session.cmd_sn = seq_add(session.cmd_sn, 1)
    task.state = TASK_SENDING if follows else TASK_SENT
    session.sending = i if follows else NONE


def write_data_out(session: IscsiSession, i: int) -> None:
    """The next Data-Out of a task's burst (RFC 7143 11.7)."""
    task = session.task[i]
    data = min(session.max_recv_bytes, task.burst_end - task.sent_bytes)
    last = task.sent_bytes + data == task.burst_end
    session.pdu_left = stream_write(
        session.stream,
        first_word(OP_DATA_OUT, FINAL if last else 0, data),
        0,
        word_of(task.itt, task.ttt),
        word_of(0, session.exp_stat_sn),
        word_of(0, task.data_sn),
        word_of(task.sent_bytes, 0),
        data,
        session.pool_at,
    )
    task.sent_bytes += data
    task.data_sn += 1
    task.state = TASK_SENT if last else TASK_SENDING
    session.sending = NONE if last else i


def write_nop_out(session: IscsiSession, itt: int, ttt: int) -> None:
    """A NOP-Out, a ping or the answer to one (RFC 7143 11.18); it is immediate and takes no CmdSN."""
    session.pdu_left = stream_write(
        session.stream,
        first_word(OP_NOP_OUT | IMMEDIATE, FINAL, 0),
        0,
        word_of(itt, ttt),
        word_of(session.cmd_sn, session.exp_stat_sn),
        0,
        0,
        0,
        0,
    )


def iscsid_waits(m: Machine, session: IscsiSession) -> bool:
    """Whether the session's daemon, which logs in, pings and recovers, waits for memory like any other task."""
    return session.iscsid_needs_memory > 0 and gfp_kernel_would_wait(m)


def take_r2t(session: IscsiSession) -> int:
    """The task whose R2T has waited longest, off their list."""
    i = session.r2t_head
    session.r2t_head = session.task[i].next
    if session.r2t_head == NONE:
        session.r2t_tail = NONE
    session.task[i].r2t_waits = 0
    return i


def window_is_open(session: IscsiSession) -> bool:
    """Whether one more command may be sent: the queue depth, and MaxCmdSN (RFC 7143 4.2.2.1)."""
    return session.under_way < session.queue_depth and not after(session.cmd_sn, session.max_cmd_sn)


def next_pdu(m: Machine, s: int) -> bool:
    """Write the next PDU of a session in full feature phase into its stream, if there is one to send."""
    session = m.session[s]
    if session.state != SESSION_FULL_FEATURE or session.failed:
        return False
    if session.nop_owed and not iscsid_waits(m, session):
        session.nop_owed = 0
        write_nop_out(session, NO_TAG, session.nop_ttt)
    elif session.nop_owed_ping:
        session.nop_owed_ping = 0
        write_nop_out(session, PING_TAG, NO_TAG)
    elif session.sending != NONE:
        write_data_out(session, session.sending)
    elif session.r2t_head != NONE:
        write_data_out(session, take_r2t(session))
    elif session.queued_head != NONE and window_is_open(session):
        write_command(m, s)
    else:
        return False
    return True


def may_send(m: Machine, conn: TcpConn) -> bool:
    """Whether the task that sends would get on now: the connection is up, and what it waited for is there.

    Room in the send buffer wakes it when half as much is free as is queued (sk_stream_write_space); want of memory
    lets it sleep for a time (sk_stream_wait_memory).
    """
    if conn.state != CONN_ESTABLISHED:
        return False
    if conn.wait == WAIT_NOTHING:
        return True
    if conn.wait == WAIT_MEMORY:
        return m.now_ns >= conn.wait_until_ns
    return conn.sndbuf - conn.wmem_queued >= conn.wmem_queued // 2


def iscsi_data_xmit(m: Machine, s: int) -> None:
    """The transmit worker of a session: PDU after PDU into the connection, until it takes no more."""
    session = m.session[s]
    if session.state < SESSION_LOGIN_SECURITY or not may_send(m, m.conn[s]):
        return
    m.conn[s].wait = WAIT_NOTHING
    taken = 0
    while session.pdu_left > 0 or next_pdu(m, s):
        part = tcp_sendpage(m, s, session.pdu_left)
        session.pdu_left -= part
        taken += part
        if session.pdu_left > 0:
            break
    if taken > 0:
        tcp_push(m, s)


# --- what the target answers -----------------------------------------------------------------------------------------


def iscsi_conn_failure(session: IscsiSession) -> None:
    """The connection is of no use any more; the daemon will see to it."""
    session.failed = 1


def task_of(session: IscsiSession, itt: int) -> int:
    """The task with this tag whose command has been sent, or -1."""
    i = itt % MAX_TASKS
    task = session.task[i]
    return i if task.itt == itt and task.state in (TASK_SENDING, TASK_SENT) else NONE


def take_numbers(session: IscsiSession, uses_stat_sn: bool) -> None:
    """StatSN and MaxCmdSN stand in the same place in all that a target sends (RFC 7143 11)."""
    if uses_stat_sn:
        session.exp_stat_sn = seq_add(high_of(session.reader.word[3]), 1)
    max_cmd_sn = high_of(session.reader.word[4])
    if after(max_cmd_sn, session.max_cmd_sn):
        session.max_cmd_sn = max_cmd_sn


def free_task(session: IscsiSession, i: int) -> None:
    """A task's row may be used again."""
    session.task[i].state = TASK_FREE
    session.task[i].next = session.task_free
    session.task_free = i
    session.tasks -= 1
    if session.tasks < CONGESTION_OFF:
        session.congested = 0


def iscsi_scsi_cmd_rsp(m: Machine, s: int) -> None:
    """SCSI Response: the write is complete, and its pages are clean (RFC 7143 11.4)."""
    session = m.session[s]
    take_numbers(session, True)
    i = task_of(session, high_of(session.reader.word[2]))
    if i == NONE or session.task[i].state == TASK_SENDING or session.task[i].r2t_waits:
        iscsi_conn_failure(session)
        return
    task = session.task[i]
    session.under_way -= 1
    if session.reader.word[0] >> 32 & 0xFFFF:  # response and status
        session.write_errors += 1
        queue_task(session, i)
        return
    latency_ns = m.now_ns - task.queued_ns
    m.latency[min(latency_bucket(latency_ns), LATENCY_BUCKETS - 1)] += 1
    m.latency_max_ns = max(m.latency_max_ns, latency_ns)
    session.longest_gap_ns = session_gap_ns(session, m.now_ns)
    session.completed_ns = m.now_ns
    session.writes_completed += 1
    session.bytes_completed += task.bytes
    end_page_writeback(m, task)
    free_task(session, i)


def session_gap_ns(session: IscsiSession, end_ns: int) -> int:
    """The longest time without a completion while writes waited; one that lasts is counted to `end_ns`."""
    if session.tasks == 0:
        return session.longest_gap_ns
    return max(session.longest_gap_ns, end_ns - max(session.completed_ns, session.busy_since_ns))


def iscsi_r2t_rsp(session: IscsiSession) -> None:
    """R2T: the target asks for a part of a write's data (RFC 7143 11.8)."""
    take_numbers(session, False)
    word = session.reader.word[5]
    i = task_of(session, high_of(session.reader.word[2]))
    begin = high_of(word)
    if i == NONE or session.task[i].state == TASK_SENDING or session.task[i].r2t_waits:
        iscsi_conn_failure(session)
        return
    task = session.task[i]
    if low_of(word) == 0 or begin + low_of(word) > task.bytes:
        iscsi_conn_failure(session)
        return
    task.ttt = low_of(session.reader.word[2])
    task.sent_bytes = begin
    task.burst_end = begin + low_of(word)
    task.data_sn = 0
    task.r2t_waits = 1
    task.next = NONE
    if session.r2t_tail == NONE:
        session.r2t_head = i
    else:
        session.task[session.r2t_tail].next = i
    session.r2t_tail = i


def nop_in(m: Machine, session: IscsiSession) -> None:
    """NOP-In: the answer to our ping, or a ping that wants one (RFC 7143 11.19)."""
    ours = high_of(session.reader.word[2]) != NO_TAG
    take_numbers(session, ours)
    if ours:
        session.nop_sent_ns = NEVER_NS
        session.nop_due_ns = m.now_ns + session.nop_interval_ns
    if low_of(session.reader.word[2]) != NO_TAG:
        session.nop_owed = 1
        session.nop_ttt = low_of(session.reader.word[2])


def login_response(m: Machine, session: IscsiSession) -> None:
    """Login Response: the next stage begins, and behind the last one the full feature phase (RFC 7143 11.13)."""
    word = session.reader.word
    if low_of(word[4]) >> 24 != 0 or not flags_of(word[0]) & TRANSIT:
        iscsi_conn_failure(session)
        return
    session.exp_stat_sn = seq_add(high_of(word[3]), 1)
    session.max_cmd_sn = high_of(word[4])
    if session.state == SESSION_LOGIN_SECURITY:
        session.state = SESSION_LOGIN_OPERATIONAL
        session.login_owed = 1
    elif flags_of(word[0]) & NSG_FULL_FEATURE == NSG_FULL_FEATURE:
        session.state = SESSION_FULL_FEATURE
        session.due_ns = NEVER_NS
        session.nop_due_ns = m.now_ns + session.nop_interval_ns if session.nop_interval_ns else NEVER_NS
    else:
        iscsi_conn_failure(session)


def iscsi_reads(m: Machine, s: int) -> bool:
    """Whether a session's PDUs are to be read: a connection that has just come up, or failed, is the daemon's."""
    session = m.session[s]
    return session.state >= SESSION_LOGIN_SECURITY and session.failed == 0 and m.conn[s].state == CONN_ESTABLISHED


def iscsi_recv(m: Machine, s: int) -> None:
    """A whole PDU has been read: its header is in the session's reader.  Nothing is sent from here."""
    session = m.session[s]
    opcode = opcode_of(session.reader.word[0])
    m.quiet_rounds = 0
    if session.failed or session.state < SESSION_LOGIN_SECURITY:
        return  # the reader does not know of this connection yet
    if session.state < SESSION_FULL_FEATURE:
        if opcode == OP_LOGIN_RESPONSE and not session.login_owed:
            login_response(m, session)
        else:
            iscsi_conn_failure(session)
    elif opcode == OP_SCSI_RESPONSE:
        iscsi_scsi_cmd_rsp(m, s)
    elif opcode == OP_R2T:
        iscsi_r2t_rsp(session)
    elif opcode == OP_NOP_IN:
        nop_in(m, session)
    elif opcode == OP_ASYNC:
        take_numbers(session, True)
        event = low_of(session.reader.word[4]) >> 24
        if event != ASYNC_SCSI and event <= EVENT_LAST_DROP:
            iscsi_conn_failure(session)
    else:  # a Reject, or what an initiator of writes never gets
        iscsi_conn_failure(session)

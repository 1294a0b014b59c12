"""The iSCSI initiator's daemon: it connects, logs in, pings, and brings the session back when it has failed.

Source: RFC 7143 6.3 (login), 6.3.5 (session reinstatement), 11.12, 11.18; open-iscsi's iscsid for login timeout and
retry; libiscsi as QEMU uses it for pings: one every nop_interval, whether the session is idle or not.
Differs: one connection; a ping is answered within nop_timeout or the session is given up (QEMU pings on and gives up
when three are unanswered: 15 to 20 s with an interval of 5 s); a login waits 15 s, the next attempt comes 1 s later.
Reinstatement keeps the session's ISID and sends all unfinished commands again from the start, in the order of their
blocks; their pages stay under write-back meanwhile.  An early daemon (open-iscsi of 2005) is an ordinary process that
may wait for memory: connecting, login, pings, their answers, and seeing that a ping was not answered, all wait with it.
"""

from emu.kernel.closed_loop import (
    CONN_CLOSED,
    CONN_ESTABLISHED,
    MAX_TASKS,
    SESSION_CONNECTING,
    SESSION_DOWN,
    SESSION_FULL_FEATURE,
    SESSION_LOGIN_OPERATIONAL,
    SESSION_LOGIN_SECURITY,
    TASK_FREE,
    TASK_SENT,
    WAIT_NOTHING,
    IscsiSession,
)
from emu.kernel.iscsi_pdu import IMMEDIATE, OP_LOGIN, first_word, reader_open, stream_open, stream_write, word_of
from emu.kernel.iscsi_tcp import PING_TAG, TRANSIT, iscsid_waits, queue_task
from emu.kernel.machine import NEVER_NS, NONE, Machine
from emu.kernel.tcp_write import tcp_abort, tcp_connect

LOGIN_TIMEOUT_NS = 15_000_000_000  # node.conn[0].timeo.login_timeout
RECONNECT_NS = 1_000_000_000
PORTS_PER_CONN = 256  # of the host; a session that is opened anew takes the next of its own
ISID = 0x8000_0000_0000  # of random format (RFC 7143 11.12.5); the session's number in its last bytes
STAGE_SHIFT = 2  # CSG
OPERATIONAL, FULL_FEATURE = 1, 3


def login_request(m: Machine, s: int) -> None:
    """Write the login request of the session's stage into its stream."""
    session = m.session[s]
    stage = 0 if session.state == SESSION_LOGIN_SECURITY else 1
    flags = TRANSIT | stage << STAGE_SHIFT | (FULL_FEATURE if stage else OPERATIONAL)
    session.login_owed = 0
    session.pdu_left = stream_write(
        session.stream,
        first_word(OP_LOGIN | IMMEDIATE, flags, session.login_bytes[stage]),
        word_of(ISID >> 16, s << 16),
        word_of(PING_TAG, 0),
        word_of(session.cmd_sn, session.exp_stat_sn),
        0,
        0,
        session.login_bytes[stage],
        session.login_at[stage],
    )


def begin_connect(m: Machine, s: int) -> None:
    """Open the session's connection, a later one from another port; try again if there is no memory for it."""
    session = m.session[s]
    conn = m.conn[s]
    if conn.generation > 0:
        conn.sport = conn.sport // PORTS_PER_CONN * PORTS_PER_CONN + (conn.sport + 1) % PORTS_PER_CONN
    session.state = SESSION_CONNECTING
    session.due_ns = m.now_ns + LOGIN_TIMEOUT_NS
    tcp_connect(m, s)
    if conn.state == CONN_CLOSED:
        session.state = SESSION_DOWN
        session.due_ns = m.now_ns + RECONNECT_NS


def begin_login(m: Machine, s: int) -> None:
    """The connection is up: streams begin in both directions, and the first login request is due."""
    session = m.session[s]
    conn = m.conn[s]
    session.state = SESSION_LOGIN_SECURITY
    session.due_ns = m.now_ns + LOGIN_TIMEOUT_NS
    session.exp_stat_sn = 0
    session.login_owed = 1
    session.pdu_left = 0
    stream_open(session.stream, conn.write_seq)
    reader_open(session.reader, m.sk[conn.sk].rcv_nxt)


def requeue_tasks(session: IscsiSession) -> None:
    """All commands are to be sent again, in the order of their blocks."""
    session.queued_head = NONE
    session.queued_tail = NONE
    session.r2t_head = NONE
    session.r2t_tail = NONE
    session.sending = NONE
    session.under_way = 0
    for i in range(MAX_TASKS):
        task = session.task[i]
        if task.state != TASK_FREE:
            task.state = TASK_SENT  # until it is on the list again
            task.r2t_waits = 0
    for _ in range(session.tasks):
        first = NONE
        for i in range(MAX_TASKS):
            if session.task[i].state == TASK_SENT:
                if first == NONE or session.task[i].block < session.task[first].block:
                    first = i
        queue_task(session, first)


def session_down(m: Machine, s: int) -> None:
    """Give the connection up; the next is due in a second."""
    session = m.session[s]
    if m.conn[s].state != CONN_CLOSED:
        tcp_abort(m, s)
    m.conn[s].wait = WAIT_NOTHING
    if session.state == SESSION_FULL_FEATURE:
        session.reinstatements += 1
    session.state = SESSION_DOWN
    session.due_ns = m.now_ns + RECONNECT_NS
    session.failed = 0
    session.login_owed = 0
    session.pdu_left = 0
    session.nop_sent_ns = NEVER_NS
    session.nop_due_ns = NEVER_NS
    session.nop_owed = 0
    session.nop_owed_ping = 0
    requeue_tasks(session)


def session_run(m: Machine, s: int) -> None:
    """The daemon does what is due for a session, unless it waits for memory."""
    session = m.session[s]
    if iscsid_waits(m, session):
        return
    state = session.state
    if state == SESSION_DOWN:
        if m.now_ns >= session.due_ns:
            begin_connect(m, s)
    elif session.failed or m.conn[s].state == CONN_CLOSED or m.now_ns >= session.due_ns:
        session_down(m, s)
    elif state == SESSION_CONNECTING:
        if m.conn[s].state == CONN_ESTABLISHED:
            begin_login(m, s)
            login_request(m, s)
    elif state in (SESSION_LOGIN_SECURITY, SESSION_LOGIN_OPERATIONAL):
        if session.login_owed and session.pdu_left == 0:
            login_request(m, s)
    elif session.nop_sent_ns != NEVER_NS:
        if m.now_ns >= session.nop_sent_ns + session.nop_timeout_ns:
            session_down(m, s)
    elif m.now_ns >= session.nop_due_ns:
        session.nop_owed_ping = 1
        session.nop_sent_ns = m.now_ns
        session.nop_due_ns = NEVER_NS


def session_due_ns(m: Machine, s: int) -> int:
    """When the daemon has something to do for a session."""
    session = m.session[s]
    if iscsid_waits(m, session):
        return NEVER_NS
    due = session.due_ns
    if session.state == SESSION_DOWN:
        return due
    conn = m.conn[s]
    if session.failed or conn.state == CONN_CLOSED:
        return m.now_ns
    if session.state == SESSION_CONNECTING and conn.state == CONN_ESTABLISHED:
        return m.now_ns
    if session.login_owed and session.pdu_left == 0:
        return m.now_ns
    if session.nop_sent_ns != NEVER_NS:
        return min(due, session.nop_sent_ns + session.nop_timeout_ns)
    return min(due, session.nop_due_ns)

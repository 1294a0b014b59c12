"""Downloads: connections that the host opens to servers, asks for bulk data, and reads as its readers are.

They obey their windows like any TCP connection: a reader that waits for memory closes them.
"""

from emu.kernel.closed_loop import CONN_CLOSED, CONN_ESTABLISHED
from emu.kernel.machine import NEVER_NS, Machine
from emu.kernel.tcp_write import tcp_connect, tcp_push, tcp_sendpage

REQUEST_BYTES = 80  # "GET / HTTP/1.0" and a few headers
RETRY_NS = 100_000_000  # without memory for a SYN the task tries again


def downloads_due_ns(m: Machine) -> int:
    """When the next download connects; never while the softirq has the CPU: its task runs when that is done."""
    due = NEVER_NS
    if m.poll_len > 0:
        return due
    for c in range(m.sessions, m.conns):
        due = min(due, m.conn[c].connect_due_ns)
    return due


def downloads_run(m: Machine) -> None:
    """Connect what is due, and ask for data where a connection has come about."""
    for c in range(m.sessions, m.conns):
        conn = m.conn[c]
        if conn.connect_due_ns <= m.now_ns:
            if conn.state == CONN_CLOSED:
                tcp_connect(m, c)
                conn.connect_due_ns = m.now_ns + RETRY_NS
            elif conn.state != CONN_ESTABLISHED:
                conn.connect_due_ns = m.now_ns + RETRY_NS
            elif tcp_sendpage(m, c, REQUEST_BYTES) == REQUEST_BYTES:
                conn.connect_due_ns = NEVER_NS
                tcp_push(m, c)
            else:
                conn.connect_due_ns = m.now_ns + RETRY_NS

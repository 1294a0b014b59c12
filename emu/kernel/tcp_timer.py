"""The timers of the host's connections: retransmission, window probe, delayed ACK.

Source: Linux 2.6.12 net/ipv4/tcp_timer.c tcp_retransmit_timer, tcp_probe_timer, tcp_delack_timer.
A retransmission that finds no memory backs off like one that was sent: tcp_retransmit_skb returns -ENOBUFS, and only
a result above zero (the device's queue was full) asks for TCP_RESOURCE_PROBE_INTERVAL instead.
Differs: a socket is never owned by a task when its timer fires.
"""

from emu.kernel.closed_loop import CONN_CLOSED
from emu.kernel.machine import NEVER_NS, NONE, Machine
from emu.kernel.tcp_conn import TIMER_PROBE, TIMER_RETRANSMIT, tcp_timer, tcp_timer_due_ns
from emu.kernel.tcp_output import tcp_send_ack
from emu.kernel.tcp_write import XMIT_DROPPED, tcp_retransmit_skb, tcp_write_wakeup

TCP_RESOURCE_PROBE_INTERVAL_NS = 500_000_000


def conns_boot(m: Machine) -> None:
    """No connection has been opened: none has a socket, a queue or a timer."""
    for c in range(m.conns):
        conn = m.conn[c]
        conn.sk = NONE
        conn.queue_head = NONE
        conn.queue_tail = NONE
        conn.send_head = NONE
        conn.rto_due_ns = NEVER_NS
        conn.probe_due_ns = NEVER_NS
        conn.delack_due_ns = NEVER_NS
        conn.wait_until_ns = NEVER_NS


def tcp_timers_due_ns(m: Machine) -> int:
    """When the next timer of a connection is due."""
    due = NEVER_NS
    for c in range(m.conns):
        conn = m.conn[c]
        if conn.state != CONN_CLOSED:
            due = min(due, tcp_timer_due_ns(conn), conn.delack_due_ns)
    return due


def tcp_write_timer(m: Machine, c: int) -> None:
    """Retransmit, or probe the window, if it is time."""
    conn = m.conn[c]
    rto_ns = conn.rto_ns
    fired = tcp_timer(conn, m.now_ns)
    if fired == TIMER_PROBE:
        tcp_write_wakeup(m, c)
    elif fired == TIMER_RETRANSMIT and tcp_retransmit_skb(m, c) == XMIT_DROPPED:
        conn.rto_ns = rto_ns
        conn.backoff -= 1
        conn.rto_due_ns = m.now_ns + min(rto_ns, TCP_RESOURCE_PROBE_INTERVAL_NS)


def tcp_timers_run(m: Machine) -> None:
    """Run the timers that are due."""
    for c in range(m.conns):
        conn = m.conn[c]
        if conn.state == CONN_CLOSED:
            continue
        if conn.delack_due_ns <= m.now_ns:
            conn.delack_due_ns = NEVER_NS
            tcp_send_ack(m, conn.sk)
        if tcp_timer_due_ns(conn) <= m.now_ns:
            tcp_write_timer(m, c)

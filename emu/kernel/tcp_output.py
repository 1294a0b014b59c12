"""What TCP sends that holds no data of its own: acknowledgements, and the window that they offer.

Source: Linux 2.6.12 net/ipv4/tcp_output.c tcp_send_ack, tcp_select_window, __tcp_select_window, tcp_transmit_skb;
tcp_input.c __tcp_ack_snd_check; tcp.c cleanup_rbuf; RFC 1122 4.2.3.2 (an ACK for every second segment).
mainline: v6.19 tcp_send_ack asks with sk_gfp_mask, so a SOCK_MEMALLOC socket's ACK may come from the reserve.  The
patch of 2005 is for reception only (bug 15): there it may not.
Differs: in a replay no delayed-ACK timer: the ACK of an odd last segment is not sent, and one that found no memory is
tried again with the next segment.  In a closed loop the window opens at once to what the buffer allows
(no rcv_ssthresh), and an ACK is not held back while the window cannot open.
"""

from emu.kernel.closed_loop import TX_SEGMENT, TcpConn
from emu.kernel.machine import NEVER_NS, NONE, Machine, Sock
from emu.kernel.page_alloc import GFP_ATOMIC, GFP_MEMALLOC
from emu.kernel.policy import RX_WHILE_MEMALLOC_SOCKS
from emu.kernel.reply import MAX_TCP_HEADER, reply_gfp, reply_tcp
from emu.kernel.seq import SEQ_MASK, TCP_ACK
from emu.kernel.skbuff import alloc_skb
from emu.kernel.tcp_conn import TCP_DELACK_MAX_NS, tcp_ack_sent, window_left
from emu.kernel.tx_queue import dev_queue_xmit

DELAYED_SEGMENTS = 2
WIN_SCALE = 2  # sysctl_tcp_adv_win_scale
MAX_WINDOW_FIELD = 65_535


def sk_gfp_mask(m: Machine, i: int, gfp: int) -> int:
    """The flags that a socket allocates with: mainline's SOCK_MEMALLOC sockets may have the reserve."""
    if m.sk[i].memalloc and m.policy.rx_memalloc == RX_WHILE_MEMALLOC_SOCKS:
        return gfp | GFP_MEMALLOC
    return gfp


def tcp_space(sk: Sock) -> int:
    """How many payload bytes the free part of a receive buffer stands for."""
    free = max(0, sk.rcvbuf - sk.rmem_alloc)
    return free - (free >> WIN_SCALE)


def tcp_full_space(sk: Sock) -> int:
    """The same of an empty buffer."""
    return sk.rcvbuf - (sk.rcvbuf >> WIN_SCALE)


def tcp_new_window(sk: Sock, conn: TcpConn) -> int:
    """What the buffer allows now, in bytes (__tcp_select_window)."""
    full = tcp_full_space(sk)
    free = tcp_space(sk)
    mss = min(conn.rcv_mss, full)
    if free < full // 2:
        conn.quick = 0
        if free < mss:
            return 0
    if conn.rcv_wscale:
        unit = 1 << conn.rcv_wscale
        return (free + unit - 1) // unit * unit
    if conn.rcv_wnd <= free - mss or conn.rcv_wnd > free:
        return free // mss * mss if mss > 0 else 0
    return conn.rcv_wnd


def tcp_select_window(m: Machine, i: int) -> int:
    """The window to offer, in bytes; it never takes back what was offered."""
    sk = m.sk[i]
    conn = m.conn[sk.conn]
    window = max(tcp_new_window(sk, conn), window_left(conn, sk.rcv_nxt))
    return min(window, MAX_WINDOW_FIELD << conn.rcv_wscale)


def tcp_transmit(m: Machine, i: int, b: int, seq: int, length: int, tcp_flags: int) -> bool:
    """Send skb `b` of a connection, which acknowledges too; False when the queue of the device was full."""
    sk = m.sk[i]
    conn = m.conn[sk.conn]
    ack = 0
    window = min(tcp_full_space(sk), MAX_WINDOW_FIELD)
    if tcp_flags & TCP_ACK:
        ack = sk.rcv_nxt
        window = tcp_select_window(m, i)
    if not dev_queue_xmit(m, conn.dev, b, TX_SEGMENT, sk.conn, seq, ack, window, length, tcp_flags):
        return False
    if length > 0 and conn.ack_owed:
        conn.quick = 0  # pingpong, as in tcp_sent
    if tcp_flags & TCP_ACK:
        tcp_ack_sent(conn, ack, window)
    else:
        conn.rcv_wnd = window
    return True


def tcp_send_empty(m: Machine, i: int, seq: int, tcp_flags: int) -> bool:
    """Send a segment without data, from a fresh skb; False without memory for it, or room in the device's queue."""
    b = alloc_skb(m, MAX_TCP_HEADER, sk_gfp_mask(m, i, GFP_ATOMIC), m.policy.atomic_first_nomemalloc)
    if b == NONE:
        m.conn[m.sk[i].conn].tx_alloc_failed += 1
        return False
    return tcp_transmit(m, i, b, seq, 0, tcp_flags)


def tcp_send_conn_ack(m: Machine, i: int) -> None:
    """Send a connection's ACK; without memory for it the timer tries again as late as it ever does."""
    sk = m.sk[i]
    conn = m.conn[sk.conn]
    if tcp_send_empty(m, i, conn.snd_nxt, TCP_ACK):
        return
    if sk.block_io:
        m.mib.MemallocAckFailed += 1
    conn.ack_now = 0
    conn.ack_owed = max(1, conn.ack_owed)
    conn.delack_due_ns = m.now_ns + TCP_DELACK_MAX_NS


def tcp_send_ack(m: Machine, i: int) -> None:
    """Send an ACK now."""
    sk = m.sk[i]
    if sk.conn != NONE:
        tcp_send_conn_ack(m, i)
        return
    gfp = sk_gfp_mask(m, i, GFP_ATOMIC)
    sent = reply_tcp(m, TCP_ACK, gfp) if m.config.closed else reply_gfp(m, MAX_TCP_HEADER, gfp)
    if sent:
        sk.ack_owed = 0
    elif sk.block_io:
        m.mib.MemallocAckFailed += 1


def tcp_ack_snd_check(m: Machine, i: int, segments: int) -> None:
    """In-order segments are acknowledged two at a time."""
    sk = m.sk[i]
    sk.ack_owed += segments
    if sk.ack_owed >= DELAYED_SEGMENTS:
        tcp_send_ack(m, i)


def tcp_read_done(m: Machine, i: int) -> None:
    """A reader has taken something: say so if an ACK is owed, or if the window has become twice as large."""
    sk = m.sk[i]
    conn = m.conn[sk.conn]
    owed = conn.delack_due_ns != NEVER_NS
    now = owed and (sk.rcv_nxt - conn.rcv_wup) & SEQ_MASK > conn.rcv_mss
    left = window_left(conn, sk.rcv_nxt)
    if not now and 2 * left <= tcp_full_space(sk):
        window = tcp_new_window(sk, conn)
        now = window > 0 and window >= 2 * left
    if now:
        tcp_send_ack(m, i)

"""What a connection of the closed loop does with a segment: it obeys no captured past, its peer sends again.

Source: Linux 2.6.12 net/ipv4/tcp_input.c tcp_rcv_established, tcp_rcv_synsent_state_process, tcp_sequence, tcp_ack,
tcp_data_queue, tcp_reset.
Differs: what a peer sends beyond the window is judged by the receive buffer alone (PROTO_MEM); no urgent data, no
timestamps, so no PAWS; a SYN in a connection is acknowledged and does not reset it; no simultaneous open; a FIN is
acknowledged, and nobody closes in return.
"""

from emu.kernel.closed_loop import CONN_SYN_SENT
from emu.kernel.drop_reason import (
    AT_TCP_DATA_QUEUE,
    AT_TCP_RCV_ESTABLISHED,
    PROTO_MEM,
    TCP_OLD_DATA,
)
from emu.kernel.fate import consume, deliver, drop
from emu.kernel.machine import Machine, Packet
from emu.kernel.seq import SEQ_MASK, TCP_ACK, TCP_RST, TCP_SYN, after, before, seq_add
from emu.kernel.skbuff import chain_truesize
from emu.kernel.tcp_conn import conn_established, tcp_acked, tcp_rcv_data
from emu.kernel.tcp_output import tcp_send_ack
from emu.kernel.tcp_prune import tcp_rmem_schedule
from emu.kernel.tcp_queue import tcp_queue_ofo, tcp_queue_tail
from emu.kernel.tcp_seq import seq_length, tcp_advance, tcp_label
from emu.kernel.tcp_write import tcp_clean_rtx_queue, tcp_conn_done, tcp_push, tcp_xmit_retransmit_queue


def tcp_conn_ack(m: Machine, c: int, p: Packet) -> None:
    """The acknowledgement in a segment: free what it covers, send again what it shows to be lost."""
    conn = m.conn[c]
    scale = 0 if p.tcp_flags & TCP_SYN else conn.snd_wscale
    if tcp_acked(conn, p.tcp_ack, p.tcp_window << scale, 1 if p.payload_length > 0 else 0, m.now_ns) > 0:
        tcp_clean_rtx_queue(m, c)
    tcp_xmit_retransmit_queue(m, c)


def tcp_rcv_synsent(m: Machine, p: Packet, b: int, i: int) -> None:
    """The answer to our SYN: a SYN-ACK opens the connection, a RST refuses it, anything else is none."""
    c = m.sk[i].conn
    conn = m.conn[c]
    answers = p.tcp_flags & TCP_ACK > 0 and p.tcp_ack == conn.snd_nxt
    consume(m, p, b, AT_TCP_RCV_ESTABLISHED)
    if answers and p.tcp_flags & TCP_RST:
        tcp_conn_done(m, c)
    elif answers and p.tcp_flags & TCP_SYN:
        m.sk[i].rcv_nxt = seq_add(p.tcp_seq, 1)
        conn.rcv_wup = m.sk[i].rcv_nxt
        tcp_conn_ack(m, c, p)
        conn_established(conn)
        tcp_send_ack(m, i)


def conn_queue_rcv(m: Machine, p: Packet, b: int, i: int) -> None:
    """A segment is next: the receive queue takes it, and what waited for it."""
    sk = m.sk[i]
    conn = m.conn[sk.conn]
    start = sk.rcv_nxt
    tcp_queue_tail(m, i, b)
    sk.rcv_nxt = seq_add(p.tcp_seq, seq_length(p))
    tcp_advance(m, i, sk.rcv_nxt)
    conn.bytes_received += (sk.rcv_nxt - start) & SEQ_MASK
    deliver(m, p, AT_TCP_DATA_QUEUE)


def conn_data_queue(m: Machine, p: Packet, b: int, i: int) -> None:
    """A segment with data or a FIN: in order, ahead, or old; when it is acknowledged depends on that."""
    sk = m.sk[i]
    out_of_order = 1
    if not after(seq_add(p.tcp_seq, seq_length(p)), sk.rcv_nxt):
        m.mib.TcpExtDelayedACKLost += 1
        drop(m, p, b, TCP_OLD_DATA, AT_TCP_DATA_QUEUE)
    else:
        tcp_label(m, p, b)
        if not tcp_rmem_schedule(m, i, chain_truesize(m, b), m.skb[b].pfmemalloc):
            drop(m, p, b, PROTO_MEM, AT_TCP_DATA_QUEUE)
            return
        if after(p.tcp_seq, sk.rcv_nxt):
            tcp_queue_ofo(m, p, b, i)
        else:
            filled_hole = sk.ofo_len
            conn_queue_rcv(m, p, b, i)
            out_of_order = 1 if filled_hole > 0 else 0
    tcp_rcv_data(m.conn[sk.conn], sk.rcv_nxt, p.payload_length, out_of_order, m.now_ns)


def tcp_conn_rcv(m: Machine, p: Packet, b: int, i: int) -> None:
    """A segment for a connection of ours that passed the checks."""
    sk = m.sk[i]
    c = sk.conn
    conn = m.conn[c]
    if conn.state == CONN_SYN_SENT:
        tcp_rcv_synsent(m, p, b, i)
        return
    length = seq_length(p)
    acceptable = not before(seq_add(p.tcp_seq, length), conn.rcv_wup) or length > 0
    if p.tcp_flags & TCP_RST:
        consume(m, p, b, AT_TCP_RCV_ESTABLISHED)
        if acceptable:
            tcp_conn_done(m, c)
        return
    if p.tcp_flags & TCP_SYN or not acceptable:  # a SYN-ACK whose ACK was lost, a probe of the window
        consume(m, p, b, AT_TCP_RCV_ESTABLISHED)
        tcp_send_ack(m, i)
        return
    if p.tcp_flags & TCP_ACK:
        tcp_conn_ack(m, c, p)
    if length > 0:
        conn_data_queue(m, p, b, i)
    else:
        consume(m, p, b, AT_TCP_RCV_ESTABLISHED)
    tcp_push(m, c)
    if conn.ack_now:
        tcp_send_ack(m, i)

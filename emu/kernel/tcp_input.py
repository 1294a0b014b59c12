"""What a TCP socket does with a segment that passed the checks.

Source: Linux 2.6.12 net/ipv4/tcp_input.c tcp_rcv_established, tcp_validate_incoming's part of it, tcp_data_queue,
tcp_fin, tcp_reset; tcp_ipv4.c tcp_v4_conn_request.  v6.19 for the words.
Differs: windows and timestamps are not obeyed, so every old segment is TCP_OLD_DATA, where v6.19 has TCP_OLD_SEQUENCE
and others, too; receive buffers do not grow by themselves (tcp_moderate_rcvbuf); an open request takes no memory; a SYN
on an open connection is acknowledged and does not reset it.  Connections of a closed loop: `tcp_rcv`.
"""

from emu.kernel.drop_reason import (
    AT_INET_SOCK_DESTRUCT,
    AT_TCP_DATA_QUEUE,
    AT_TCP_RCV_ESTABLISHED,
    AT_TCP_V4_RCV,
    PROTO_MEM,
    QUEUE_PURGE,
    TCP_CSUM,
    TCP_OLD_DATA,
)
from emu.kernel.fate import consume, deliver, drop
from emu.kernel.machine import NONE, Machine, Packet
from emu.kernel.reply import reply_tcp
from emu.kernel.retransmit import awaits_again
from emu.kernel.skbuff import chain_truesize, gfp_atomic
from emu.kernel.sock import SS_CLOSED, SS_LISTEN, lru_place, sk_done, sk_purge_ofo
from emu.kernel.tcp_minisocks import tcp_closing
from emu.kernel.tcp_output import tcp_ack_snd_check, tcp_send_ack
from emu.kernel.tcp_prune import tcp_rmem_schedule
from emu.kernel.tcp_queue import tcp_queue_ofo, tcp_queue_tail
from emu.kernel.tcp_rcv import tcp_conn_rcv
from emu.kernel.tcp_seq import (
    TCP_ACK,
    TCP_RST,
    TCP_SYN,
    after,
    before,
    filled_take,
    seq_add,
    seq_length,
    tcp_advance,
    tcp_follow,
    tcp_label,
)
from emu.wire.headers import CSUM_BAD


def tcp_queue_rcv(m: Machine, p: Packet, b: int, i: int) -> None:
    """A segment is next, or a fresh copy of one that we dropped: the receive queue takes it."""
    tcp_queue_tail(m, i, b)
    sk = m.sk[i]
    end = seq_add(p.tcp_seq, seq_length(p))
    if after(end, sk.rcv_nxt):
        sk.rcv_nxt = end
    tcp_advance(m, i, sk.rcv_nxt)
    if sk.fin_rcvd:
        sk_purge_ofo(m, i, QUEUE_PURGE, AT_TCP_DATA_QUEUE)
    deliver(m, p, AT_TCP_DATA_QUEUE)
    tcp_ack_snd_check(m, i, p.segments)


def tcp_data_queue_ofo(m: Machine, p: Packet, b: int, i: int) -> None:
    """A segment is ahead: it waits in the out-of-order queue, and the sender hears of the hole at once."""
    tcp_queue_ofo(m, p, b, i)
    tcp_send_ack(m, i)


def tcp_data_queue(m: Machine, p: Packet, b: int, i: int) -> None:
    """A segment with data or a FIN: in order, ahead, or old."""
    sk = m.sk[i]
    end = seq_add(p.tcp_seq, seq_length(p))
    if not after(end, sk.rcv_nxt) and not filled_take(m, i, p.tcp_seq, end):
        m.mib.TcpExtDelayedACKLost += 1
        drop(m, p, b, TCP_OLD_DATA, AT_TCP_DATA_QUEUE)
        tcp_send_ack(m, i)
        return
    tcp_label(m, p, b)
    if not tcp_rmem_schedule(m, i, chain_truesize(m, b), m.skb[b].pfmemalloc):
        drop(m, p, b, PROTO_MEM, AT_TCP_DATA_QUEUE)
        lru_place(m, i)
    elif after(p.tcp_seq, sk.rcv_nxt):
        tcp_data_queue_ofo(m, p, b, i)
    else:
        tcp_queue_rcv(m, p, b, i)


def tcp_reset(m: Machine, p: Packet, b: int, i: int) -> None:
    """The peer resets the connection; its reader may still have what was in order."""
    sk_purge_ofo(m, i, QUEUE_PURGE, AT_INET_SOCK_DESTRUCT)
    sk_done(m, i, SS_CLOSED)
    consume(m, p, b, AT_TCP_RCV_ESTABLISHED)


def tcp_listen(m: Machine, p: Packet, b: int) -> None:
    """A listener answers a SYN with a SYN-ACK."""
    if p.tcp_flags & (TCP_SYN | TCP_RST | TCP_ACK) == TCP_SYN:
        reply_tcp(m, TCP_SYN | TCP_ACK, gfp_atomic(m))
    consume(m, p, b, AT_TCP_V4_RCV)


def tcp_v4_do_rcv(m: Machine, p: Packet, b: int, i: int) -> None:
    """What a listening or established socket does with a segment that passed the checks."""
    if p.l4_csum == CSUM_BAD:
        m.mib.TcpInErrs += 1
        drop(m, p, b, TCP_CSUM, AT_TCP_RCV_ESTABLISHED)
        return
    if m.sk[i].state == SS_LISTEN:
        tcp_listen(m, p, b)
        return
    if m.sk[i].conn != NONE:
        tcp_conn_rcv(m, p, b, i)
        return
    if m.agains == 0 or not awaits_again(m, p):
        tcp_follow(m, i, p)
    if p.tcp_flags & TCP_RST:
        tcp_reset(m, p, b, i)
        return
    if seq_length(p) > 0 and not p.tcp_flags & TCP_SYN:
        tcp_data_queue(m, p, b, i)
    else:
        old = before(seq_add(p.tcp_seq, seq_length(p)), m.sk[i].rcv_nxt) or p.tcp_flags & TCP_SYN > 0
        consume(m, p, b, AT_TCP_RCV_ESTABLISHED)
        if old:
            tcp_send_ack(m, i)
    tcp_closing(m, p, i)

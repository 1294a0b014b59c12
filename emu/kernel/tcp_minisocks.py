"""The end of a connection: who closes first stays in TIME_WAIT for a minute.

Source: Linux 2.6.12 net/ipv4/tcp_minisocks.c tcp_time_wait, tcp_timewait_state_process; include/net/tcp.h
TCP_TIMEWAIT_LEN; tcp_input.c tcp_fin.
Differs: TIME_WAIT keeps the socket's row instead of a small bucket of its own, and takes no memory; no timestamps, so
no PAWS; a simultaneous close counts as the peer's; FIN_WAIT2 is the open connection itself.
"""

from emu.kernel.machine import Machine, Packet
from emu.kernel.sock import SS_CLOSED, SS_ESTABLISHED, SS_TIME_WAIT, sk_done
from emu.kernel.tcp_seq import TCP_ACK, TCP_RST, TCP_SYN, after, before, seq_length

TCP_TIMEWAIT_LEN_NS = 60_000_000_000

TW_SUCCESS, TW_ACK, TW_SYN = range(3)


def tcp_time_wait(m: Machine, i: int) -> None:
    """Both ends have closed, the host first."""
    m.sk[i].tw_until_ns = m.now_ns + TCP_TIMEWAIT_LEN_NS
    sk_done(m, i, SS_TIME_WAIT)


def tcp_closing(m: Machine, p: Packet, i: int) -> None:
    """After a segment was taken: both FINs make TIME_WAIT, or a closed socket once the host's own is acknowledged."""
    sk = m.sk[i]
    if sk.state != SS_ESTABLISHED or not sk.fin_sent or not sk.fin_rcvd:
        return
    if not sk.passive:
        tcp_time_wait(m, i)
    elif p.tcp_flags & TCP_ACK and not before(p.tcp_ack, sk.host_fin):
        sk_done(m, i, SS_CLOSED)


def tcp_timewait_state_process(m: Machine, p: Packet, i: int) -> int:
    """What TIME_WAIT does with a segment, TW_*: takes it, answers it, or lets a SYN through to the listener."""
    sk = m.sk[i]
    reset = p.tcp_flags & TCP_RST
    if p.tcp_seq == sk.rcv_nxt and (seq_length(p) == 0 or reset):
        if reset:
            sk_done(m, i, SS_CLOSED)
        else:
            sk.tw_until_ns = m.now_ns + TCP_TIMEWAIT_LEN_NS
        return TW_SUCCESS
    if p.tcp_flags & (TCP_SYN | TCP_RST | TCP_ACK) == TCP_SYN and after(p.tcp_seq, sk.rcv_nxt):
        return TW_SYN
    if reset:
        return TW_SUCCESS
    if p.tcp_flags & TCP_ACK:
        sk.tw_until_ns = m.now_ns + TCP_TIMEWAIT_LEN_NS
    return TW_ACK

"""TCP's receive path up to the socket: checks in the kernel's order.

Source: Linux 2.6.12 net/ipv4/tcp_ipv4.c tcp_v4_rcv; the patch's check stands between the lookup and `process:`
(Phillips v1 to v6).  There TIME_WAIT is looked up as a socket and is none: as intended the check leaves it alone, as
posted it reads what is not there and drops (bug 12).  mainline: sk_filter after the lookup, not for TIME_WAIT.
Differs: open loop (`tcp_seq`); a socket is never owned by a task, so there is no backlog and no prequeue.
"""

from emu.kernel.bugs import BUG_TIME_WAIT, has_bug
from emu.kernel.drop_reason import (
    AT_SK_FILTER,
    AT_TCP_TIMEWAIT_STATE_PROCESS,
    AT_TCP_V4_RCV,
    NO_SOCKET,
    NOT_SPECIFIED,
    PKT_TOO_SMALL,
    TCP_CSUM,
)
from emu.kernel.fate import consume, drop, drop_for_reserve
from emu.kernel.flows import inet_lookup, infer_tcp, sk_begin_anew
from emu.kernel.machine import NONE, PACKET_HOST, Machine, Packet
from emu.kernel.netdevice import in_reserve, rule_of_check
from emu.kernel.policy import CHECK_COUNT, RULE_FILTER, RULE_TCP
from emu.kernel.reply import reply_tcp
from emu.kernel.skbuff import gfp_atomic
from emu.kernel.sock import SS_LISTEN, SS_TIME_WAIT, ends_received, sk_filter_refuses
from emu.kernel.tcp_input import tcp_v4_do_rcv
from emu.kernel.tcp_minisocks import TW_ACK, TW_SYN, tcp_timewait_state_process
from emu.kernel.tcp_seq import TCP_ACK, TCP_RST, TCP_SYN
from emu.wire.headers import CSUM_BAD

CSUM_AT_ONCE_BYTES = 76  # tcp_v4_checksum_init verifies shorter segments before the lookup


def tcp_v4_send_reset(m: Machine, p: Packet) -> None:
    """Answer a segment for nobody; never a RST with a RST."""
    if not p.tcp_flags & TCP_RST:
        m.mib.TcpOutRsts += 1
        reply_tcp(m, TCP_RST, gfp_atomic(m))


def tcp_process(m: Machine, p: Packet, b: int, i: int) -> None:
    """`process:` of tcp_v4_rcv, for a socket that is one."""
    if sk_filter_refuses(m, i, b):
        drop_for_reserve(m, p, b, RULE_FILTER, AT_SK_FILTER)
    else:
        tcp_v4_do_rcv(m, p, b, i)


def tcp_v4_time_wait(m: Machine, p: Packet, b: int, i: int) -> None:
    """`do_time_wait:` of tcp_v4_rcv; a SYN that opens the connection again goes to the listener."""
    if has_bug(m, BUG_TIME_WAIT) and m.policy.check_tcp == CHECK_COUNT and in_reserve(m, CHECK_COUNT, p, b):
        drop_for_reserve(m, p, b, RULE_TCP, AT_TCP_V4_RCV)
        return
    if p.l4_csum == CSUM_BAD:
        m.mib.TcpInErrs += 1
        drop(m, p, b, TCP_CSUM, AT_TCP_V4_RCV)
        return
    answer = tcp_timewait_state_process(m, p, i)
    if answer == TW_SYN:
        sk_begin_anew(m, i, ends_received(p))
        p.sk = infer_tcp(m, p)
        if p.sk != NONE:
            tcp_process(m, p, b, p.sk)
            return
    if answer == TW_ACK:
        reply_tcp(m, TCP_ACK, gfp_atomic(m))
    consume(m, p, b, AT_TCP_TIMEWAIT_STATE_PROCESS)


def tcp_v4_rcv(m: Machine, p: Packet, b: int) -> None:
    """A TCP segment from IP."""
    if p.pkt_type != PACKET_HOST:
        drop(m, p, b, NOT_SPECIFIED, AT_TCP_V4_RCV)
        return
    m.mib.TcpInSegs += 1
    if p.header_error:
        m.mib.TcpInErrs += 1
        drop(m, p, b, PKT_TOO_SMALL, AT_TCP_V4_RCV)
        return
    if p.l4_csum == CSUM_BAD and p.l4_length <= CSUM_AT_ONCE_BYTES:
        m.mib.TcpInErrs += 1
        drop(m, p, b, TCP_CSUM, AT_TCP_V4_RCV)
        return
    i = inet_lookup(m, p)
    if i != NONE and m.sk[i].state == SS_LISTEN and not p.tcp_flags & (TCP_SYN | TCP_RST):
        i = infer_tcp(m, p)  # the socket that it was sent to has gone meanwhile, so it is the first of its own
    p.sk = i
    if i == NONE:
        if p.l4_csum == CSUM_BAD:
            m.mib.TcpInErrs += 1
            drop(m, p, b, TCP_CSUM, AT_TCP_V4_RCV)
            return
        tcp_v4_send_reset(m, p)
        drop(m, p, b, NO_SOCKET, AT_TCP_V4_RCV)
        return
    if m.sk[i].state == SS_TIME_WAIT:
        tcp_v4_time_wait(m, p, b, i)
        return
    p.memalloc = m.sk[i].block_io
    if in_reserve(m, m.policy.check_tcp, p, b) and not m.sk[i].memalloc:
        drop_for_reserve(m, p, b, rule_of_check(m.policy.check_tcp, RULE_TCP), AT_TCP_V4_RCV)
        return
    tcp_process(m, p, b, i)

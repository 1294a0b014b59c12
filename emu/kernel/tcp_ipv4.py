"""TCP's receive path: checks in the kernel's order, then the socket's queue.

Source: Linux 2.6.12 net/ipv4/tcp_ipv4.c tcp_v4_rcv, tcp_input.c; the patch's check stands between the lookup and
`process:` (Phillips v1 to v6).  mainline: sk_filter after the lookup.
Differs: open loop.  Sequence numbers and windows are not followed, so every segment counts as the next one; queues are
not collapsed; a connection's handshake is answered without memory.
"""

from emu.kernel.drop_reason import (
    AT_SK_FILTER,
    AT_TCP_DATA_QUEUE,
    AT_TCP_RCV_ESTABLISHED,
    AT_TCP_V4_RCV,
    NO_SOCKET,
    NOT_SPECIFIED,
    PKT_TOO_SMALL,
    PROTO_MEM,
    TCP_CSUM,
)
from emu.kernel.fate import consume, deliver, drop, drop_for_reserve
from emu.kernel.flows import TCP_FIN, TCP_RST, inet_lookup
from emu.kernel.machine import NONE, PACKET_HOST, Machine, Packet
from emu.kernel.netdevice import in_reserve, rule_of_check
from emu.kernel.policy import RULE_FILTER, RULE_TCP
from emu.kernel.sock import SS_CLOSED, SS_LISTEN, lru_place, sk_accept, sk_filter_refuses
from emu.wire.headers import CSUM_BAD

CSUM_AT_ONCE_BYTES = 76  # tcp_v4_checksum_init verifies shorter segments before the lookup


def tcp_data_queue(m: Machine, p: Packet, b: int, i: int) -> None:
    """Queue a segment on an established socket, while what it holds is within its receive buffer."""
    sk = m.sk[i]
    if sk.rmem_alloc > sk.rcvbuf:
        m.mib.TcpExtPruneCalled += 1
        m.mib.TcpExtRcvPruned += 1
        drop(m, p, b, PROTO_MEM, AT_TCP_DATA_QUEUE)
        return
    sk_accept(m, i, b, p.frame)
    deliver(m, p, AT_TCP_DATA_QUEUE)


def tcp_v4_do_rcv(m: Machine, p: Packet, b: int, i: int) -> None:
    """What a listening or established socket does with a segment that passed the checks."""
    sk = m.sk[i]
    if p.l4_csum == CSUM_BAD:
        m.mib.TcpInErrs += 1
        drop(m, p, b, TCP_CSUM, AT_TCP_RCV_ESTABLISHED)
    elif sk.state == SS_LISTEN:
        consume(m, p, b, AT_TCP_V4_RCV)
    elif p.tcp_flags & TCP_RST:
        sk.state = SS_CLOSED
        lru_place(m, i)
        consume(m, p, b, AT_TCP_RCV_ESTABLISHED)
    elif p.payload_length > 0 or p.tcp_flags & TCP_FIN:
        tcp_data_queue(m, p, b, i)
    else:
        consume(m, p, b, AT_TCP_RCV_ESTABLISHED)


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
    p.sk = i
    if i == NONE:
        if p.l4_csum == CSUM_BAD:
            m.mib.TcpInErrs += 1
            drop(m, p, b, TCP_CSUM, AT_TCP_V4_RCV)
            return
        if not p.tcp_flags & TCP_RST:
            m.mib.TcpOutRsts += 1
        drop(m, p, b, NO_SOCKET, AT_TCP_V4_RCV)
        return
    p.memalloc = m.sk[i].block_io
    if in_reserve(m, m.policy.check_tcp, p, b) and not m.sk[i].memalloc:
        drop_for_reserve(m, p, b, rule_of_check(m.policy.check_tcp, RULE_TCP), AT_TCP_V4_RCV)
        return
    if sk_filter_refuses(m, i, b):
        drop_for_reserve(m, p, b, RULE_FILTER, AT_SK_FILTER)
        return
    tcp_v4_do_rcv(m, p, b, i)

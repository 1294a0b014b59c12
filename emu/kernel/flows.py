"""Which sockets the host has, inferred from the frames themselves, in frame order.

A unicast TCP or UDP frame to the host makes its socket on first sight: TCP by its four addresses, a SYN makes a
listener, UDP by local port.  A RST or an ICMP port unreachable that the host sends closes it from that frame on.
The user's rules (`SockRule`: memalloc and closed expressions, scenario sockets) come before all of this.
"""

from emu.kernel.machine import NONE, Machine, Packet
from emu.kernel.sock import (
    IPPROTO_TCP,
    IPPROTO_UDP,
    SS_BOUND,
    SS_CLOSED,
    SS_ESTABLISHED,
    SS_LISTEN,
    lru_place,
    sk_alloc,
    sk_close,
    sk_find,
    sk_free,
)

TCP_FIN = 0x01
TCP_SYN = 0x02
TCP_RST = 0x04
TCP_ACK = 0x10


def rule_matches(
    m: Machine, rule: int, protocol: int, local_addr: int, local_port: int, remote_addr: int, remote_port: int
) -> bool:
    """Whether a rule speaks of this flow; 0 in a rule means any."""
    r = m.sock_rule[rule]
    if r.protocol != protocol:
        return False
    if r.local_addr and r.local_addr != local_addr:
        return False
    if r.local_port and r.local_port != local_port:
        return False
    if r.remote_addr and r.remote_addr != remote_addr:
        return False
    return not (r.remote_port and r.remote_port != remote_port)


def is_closed_by_rule(m: Machine, p: Packet) -> bool:
    """Whether the user says that nothing listens where this packet goes."""
    for rule in range(m.sock_rules):
        if m.sock_rule[rule].closed == 1:
            if rule_matches(m, rule, p.ip_protocol, p.daddr, p.dport, p.saddr, p.sport):
                return True
    return False


def sk_init(m: Machine, i: int, state: int, remote_addr: int, remote_port: int) -> None:
    """Give a new socket its state, buffer and reader: defaults, then every rule that speaks of it, in order."""
    sk = m.sk[i]
    sk.state = state
    sk.rcvbuf = m.config.tcp_rcvbuf if sk.protocol == IPPROTO_TCP else m.config.udp_rcvbuf
    reader = NONE
    rate = m.config.read_rate
    for rule in range(m.sock_rules):
        r = m.sock_rule[rule]
        if not rule_matches(m, rule, sk.protocol, sk.saddr, sk.sport, remote_addr, remote_port):
            continue
        if r.memalloc >= 0 and state != SS_LISTEN:
            sk.memalloc = r.memalloc
        if r.reader >= 0:
            reader = r.reader
        if r.read_rate >= 0:
            rate = r.read_rate
        if r.rcvbuf >= 0:
            sk.rcvbuf = r.rcvbuf
    if reader == NONE:
        reader = m.config.memalloc_reader if sk.memalloc else m.config.ordinary_reader
    sk.reader = reader
    sk.read_rate = rate
    if sk.memalloc:
        m.memalloc_socks += 1
    lru_place(m, i)


def infer_tcp(m: Machine, p: Packet) -> int:
    """The socket that a TCP frame to the host belongs to, made on first sight; -1 for none."""
    i = sk_find(m, IPPROTO_TCP, p.daddr, p.dport, p.saddr, p.sport)
    opening = p.tcp_flags & (TCP_SYN | TCP_ACK) == TCP_SYN
    if i != NONE and not (opening and m.sk[i].state == SS_CLOSED):
        return i
    if i != NONE:
        sk_free_closed(m, i)
    if p.tcp_flags & TCP_RST:
        return NONE
    if opening:
        i = sk_find(m, IPPROTO_TCP, 0, p.dport, 0, 0)
        if i == NONE:
            i = sk_alloc(m, IPPROTO_TCP, 0, p.dport, 0, 0)
            if i != NONE:
                sk_init(m, i, SS_LISTEN, p.saddr, p.sport)
        return i
    i = sk_alloc(m, IPPROTO_TCP, p.daddr, p.dport, p.saddr, p.sport)
    if i != NONE:
        sk_init(m, i, SS_ESTABLISHED, p.saddr, p.sport)
    return i


def sk_free_closed(m: Machine, i: int) -> None:
    """A SYN opens the same four addresses again: forget the closed socket; unread bytes of it stay charged."""
    if m.sk[i].queue_len == 0:
        sk_free(m, i)
    else:
        m.sk[i].state = SS_ESTABLISHED


def infer_udp(m: Machine, p: Packet) -> int:
    """The socket that a UDP datagram to the host belongs to, made on first sight; -1 for none."""
    i = sk_find(m, IPPROTO_UDP, 0, p.dport, 0, 0)
    if i == NONE:
        i = sk_alloc(m, IPPROTO_UDP, 0, p.dport, 0, 0)
        if i != NONE:
            sk_init(m, i, SS_BOUND, p.saddr, p.sport)
    return i


def flow_received(m: Machine, p: Packet) -> None:
    """A unicast TCP or UDP frame for the host is on the wire: note its socket, before its fate is known."""
    if is_closed_by_rule(m, p):
        return
    p.sk = infer_tcp(m, p) if p.ip_protocol == IPPROTO_TCP else infer_udp(m, p)
    if p.sk != NONE:
        p.memalloc = m.sk[p.sk].memalloc


def flow_sent(m: Machine, p: Packet) -> None:
    """The host sends a frame: a RST or a port unreachable says that a socket is not there."""
    if p.ip_protocol == IPPROTO_TCP and p.tcp_flags & TCP_RST:
        i = sk_find(m, IPPROTO_TCP, p.saddr, p.sport, p.daddr, p.dport)
        if i == NONE:
            i = sk_find(m, IPPROTO_TCP, 0, p.sport, 0, 0)
        if i != NONE and m.sk[i].state != SS_CLOSED:
            sk_close(m, i)
    elif p.quoted_port >= 0:
        i = sk_find(m, IPPROTO_UDP, 0, p.quoted_port, 0, 0)
        if i == NONE:
            i = sk_alloc(m, IPPROTO_UDP, 0, p.quoted_port, 0, 0)
            if i == NONE:
                return
            sk_init(m, i, SS_BOUND, p.daddr, 0)
        sk_close(m, i)


def inet_lookup(m: Machine, p: Packet) -> int:
    """The socket for a packet now: established, then listening, then by local port; -1 for none or closed."""
    if is_closed_by_rule(m, p):
        return NONE
    if p.ip_protocol == IPPROTO_TCP:
        i = sk_find(m, IPPROTO_TCP, p.daddr, p.dport, p.saddr, p.sport)
        if i == NONE:
            i = sk_find(m, IPPROTO_TCP, 0, p.dport, 0, 0)
    else:
        i = sk_find(m, IPPROTO_UDP, 0, p.dport, 0, 0)
    if i != NONE and m.sk[i].state == SS_CLOSED:
        return NONE
    return i

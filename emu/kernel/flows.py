"""Which sockets the host has, inferred from the frames themselves, in frame order.

A unicast TCP or UDP frame to the host makes its socket on first sight: TCP by its four addresses, a SYN makes a
listener, UDP by local port.  A RST or an ICMP port unreachable that the host sends closes it from that frame on.
The host's own TCP frames say what it has acknowledged and which end closed first; a SYN of its own, or a SYN that it
accepts (SYN-ACK), begins the connection anew.
The user's rules (`SockRule`: memalloc and closed expressions, scenario sockets) come before all of this.
"""

from emu.kernel.bugs import BUG_NO_MEMALLOC, has_bug
from emu.kernel.drop_reason import AT_INET_SOCK_DESTRUCT, QUEUE_PURGE
from emu.kernel.machine import NONE, Machine, Packet
from emu.kernel.sock import (
    IPPROTO_TCP,
    IPPROTO_UDP,
    SS_BOUND,
    SS_CLOSED,
    SS_ESTABLISHED,
    SS_LISTEN,
    SS_TIME_WAIT,
    Ends,
    ends_of_port,
    ends_received,
    ends_sent,
    lru_place,
    sk_alloc,
    sk_alloc_unhashed,
    sk_clear_tcp,
    sk_close,
    sk_done,
    sk_find,
    sk_find_again,
    sk_forget_memalloc,
    sk_free,
    sk_purge_ofo,
    sk_set_state,
)
from emu.kernel.tcp_seq import TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN, after, seq_add, seq_length, tcp_learn
from emu.wire.headers import KIND_TCP


def rule_matches(m: Machine, rule: int, ends: Ends) -> bool:
    """Whether a rule speaks of this flow; 0 in a rule means any."""
    r = m.sock_rule[rule]
    if r.protocol != ends.protocol or (r.family and r.family != ends.family):
        return False
    if r.local_port and r.local_port != ends.local_port:
        return False
    if r.remote_port and r.remote_port != ends.remote_port:
        return False
    if (r.local_addr or r.local_addr_hi) and (r.local_addr != ends.local or r.local_addr_hi != ends.local_hi):
        return False
    if r.remote_addr or r.remote_addr_hi:
        return r.remote_addr == ends.remote and r.remote_addr_hi == ends.remote_hi
    return True


def is_closed_by_rule(m: Machine, p: Packet) -> bool:
    """Whether the user says that nothing listens where this packet goes."""
    for rule in range(m.sock_rules):
        if m.sock_rule[rule].closed == 1:
            if rule_matches(m, rule, ends_received(p)):
                return True
    return False


def sk_init(m: Machine, i: int, state: int, ends: Ends) -> None:
    """Give a new socket its state, buffer and reader: defaults, then every rule that speaks of `ends`, in order.

    `ends` is the flow that showed the socket: it names the peer of a listener and of an unconnected socket too.
    """
    sk = m.sk[i]
    sk_forget_memalloc(m, i)
    sk_set_state(m, i, state)
    sk.rcvbuf_locked = 0
    sk.rcvbuf = m.config.tcp_rcvbuf if sk.protocol == IPPROTO_TCP else m.config.udp_rcvbuf
    reader = NONE
    rate = m.config.read_rate
    for rule in range(m.sock_rules):
        r = m.sock_rule[rule]
        if not rule_matches(m, rule, ends):
            continue
        if r.memalloc >= 0 and state != SS_LISTEN:
            sk.block_io = r.memalloc
        if r.reader >= 0:
            reader = r.reader
        if r.read_rate >= 0:
            rate = r.read_rate
        if r.rcvbuf >= 0:
            sk.rcvbuf = r.rcvbuf
            sk.rcvbuf_locked = 1
    if reader == NONE:
        reader = m.config.memalloc_reader if sk.block_io else m.config.ordinary_reader
    # As posted no code of the patch sets SOCK_MEMALLOC (bug 6).
    sk.memalloc = 0 if has_bug(m, BUG_NO_MEMALLOC) else sk.block_io
    sk.reader = reader
    sk.read_rate = rate
    if sk.memalloc:
        m.memalloc_socks += 1
    sk_join(m, i, members_by_rule(m, ends), ends)
    lru_place(m, i)


def members_by_rule(m: Machine, ends: Ends) -> int:
    """How many UDP sockets share this port, as the user says; 0: nothing is said."""
    members = 0
    for rule in range(m.sock_rules):
        if m.sock_rule[rule].members > 0 and ends.protocol == IPPROTO_UDP and rule_matches(m, rule, ends):
            members = m.sock_rule[rule].members
    return members


def sk_join(m: Machine, i: int, members: int, ends: Ends) -> None:
    """Give socket `i` company: all of `members` sockets are bound to its port, alike but for what they hold."""
    sk = m.sk[i]
    bound = ends_of_port(ends.family, sk.protocol, sk.sport)
    for _ in range(members - 1):
        sk.pinned = 1
        other = sk_alloc_unhashed(m, bound)
        if other == NONE:
            return
        member = m.sk[other]
        member.state = sk.state
        member.rcvbuf = sk.rcvbuf
        member.reader = sk.reader
        member.read_rate = sk.read_rate
        member.memalloc = sk.memalloc
        member.pinned = 1
        member.mcast_next = sk.mcast_next
        sk.mcast_next = other
        m.memalloc_socks += member.memalloc


def is_conn(m: Machine, ends: Ends) -> bool:
    """Whether these are the addresses of a connection of a closed loop: no stranger makes a socket for those."""
    for c in range(m.conns):
        conn = m.conn[c]
        if conn.sport == ends.local_port and conn.dport == ends.remote_port and conn.daddr == ends.remote:
            if conn.saddr == ends.local and ends.family == 4:
                return True
    return False


def infer_tcp(m: Machine, p: Packet) -> int:
    """The socket that a TCP frame to the host belongs to, made on first sight; -1 for none."""
    ends = ends_received(p)
    i = sk_find(m, ends)
    opening = p.tcp_flags & (TCP_SYN | TCP_ACK) == TCP_SYN
    if i != NONE and (m.sk[i].conn != NONE or not (opening and is_over(m, i))):
        return i
    if i != NONE:
        sk_begin_anew(m, i, ends)
    if p.tcp_flags & TCP_RST or (m.config.closed and is_conn(m, ends)):
        return NONE
    if opening:
        listener = ends_of_port(p.ip_version, IPPROTO_TCP, p.dport)
        i = sk_find(m, listener)
        if i == NONE:
            i = sk_alloc(m, listener)
            if i != NONE:
                sk_init(m, i, SS_LISTEN, ends)
        return i
    i = sk_alloc(m, ends)
    if i != NONE:
        sk_init(m, i, SS_ESTABLISHED, ends)
    return i


def is_over(m: Machine, i: int) -> bool:
    """Whether a connection is gone, so that a SYN of the same four addresses meets the listener; ends TIME_WAIT."""
    sk = m.sk[i]
    if sk.state == SS_TIME_WAIT and m.now_ns >= sk.tw_until_ns:
        sk_done(m, i, SS_CLOSED)
    return sk.state == SS_CLOSED or (sk.state == SS_ESTABLISHED and sk.fin_sent == 1 and sk.fin_rcvd == 1)


def sk_begin_anew(m: Machine, i: int, ends: Ends) -> None:
    """The same four addresses are used again: forget the old connection; unread bytes of it stay charged."""
    sk_purge_ofo(m, i, QUEUE_PURGE, AT_INET_SOCK_DESTRUCT)
    if m.sk[i].queue_len == 0:
        sk_free(m, i)
    else:
        sk_clear_tcp(m, i)
        sk_init(m, i, SS_ESTABLISHED, ends)


def infer_udp(m: Machine, p: Packet) -> int:
    """The socket that a UDP datagram to the host belongs to, made on first sight; -1 for none."""
    bound = ends_of_port(p.ip_version, IPPROTO_UDP, p.dport)
    i = sk_find(m, bound)
    if i == NONE:
        i = sk_alloc(m, bound)
        if i != NONE:
            sk_init(m, i, SS_BOUND, ends_received(p))
    return i


def infer_members(m: Machine, p: Packet) -> int:
    """The sockets that the user says have joined on the port of a broadcast or multicast; the first, or -1 for none."""
    if is_closed_by_rule(m, p) or members_by_rule(m, ends_received(p)) == 0:
        return NONE
    if sk_find(m, ends_of_port(p.ip_version, IPPROTO_UDP, p.dport)) != NONE:
        return NONE  # the host has refused the port itself
    return infer_udp(m, p)


def tcp_arrives(m: Machine, p: Packet, i: int) -> None:
    """Note what only the order of arrival shows: what the host had acknowledged, and whose FIN comes first."""
    sk = m.sk[i]
    if sk.conn != NONE:
        return
    if sk.rcv_nxt == NONE:
        tcp_learn(m, i, p)
    p.tcp_host_ack = sk.host_ack
    if p.tcp_flags & TCP_FIN and not sk.fin_sent:
        sk.passive = 1


def tcp_departs(m: Machine, p: Packet) -> None:
    """The host's own frame on a connection: opening it anew, acknowledging, closing."""
    ends = ends_sent(p)
    i = sk_find(m, ends)
    if i == NONE:
        return
    if p.tcp_flags & TCP_SYN:
        sk_begin_anew(m, i, ends)
        return
    sk = m.sk[i]
    if sk.state != SS_ESTABLISHED:
        return
    if p.tcp_flags & TCP_ACK and (sk.host_ack == NONE or after(p.tcp_ack, sk.host_ack)):
        sk.host_ack = p.tcp_ack
    if p.tcp_flags & TCP_FIN:
        sk.fin_sent = 1
        sk.host_fin = seq_add(p.tcp_seq, seq_length(p))


def flow_received(m: Machine, p: Packet) -> None:
    """A unicast TCP or UDP frame for the host is on the wire: note its socket, before its fate is known."""
    if is_closed_by_rule(m, p):
        return
    p.sk = infer_tcp(m, p) if p.ip_protocol == IPPROTO_TCP else infer_udp(m, p)
    if p.sk != NONE:
        p.memalloc = m.sk[p.sk].block_io
        if m.sk[p.sk].state == SS_ESTABLISHED:
            tcp_arrives(m, p, p.sk)


def flow_sent(m: Machine, p: Packet) -> None:
    """The host sends a frame: a RST or a port unreachable says that a socket is not there.

    In a closed loop the host is no capture's: its sockets are known.
    """
    if m.config.closed:
        return
    if p.kind == KIND_TCP and not p.tcp_flags & TCP_RST:
        tcp_departs(m, p)
    elif p.kind == KIND_TCP:
        i = sk_find(m, ends_sent(p))
        if i == NONE:
            i = sk_find(m, ends_of_port(p.ip_version, IPPROTO_TCP, p.sport))
        if i != NONE and m.sk[i].state != SS_CLOSED:
            sk_close(m, i)
    elif p.quoted_port >= 0:
        bound = ends_of_port(p.ip_version, IPPROTO_UDP, p.quoted_port)
        i = sk_find(m, bound)
        if i == NONE:
            i = sk_alloc(m, bound)
            if i == NONE:
                return
            sk_init(m, i, SS_BOUND, bound)
        sk_close(m, i)


def inet_lookup(m: Machine, p: Packet) -> int:
    """The socket for a packet now: established, then listening, then by local port; -1 for none or closed."""
    if is_closed_by_rule(m, p):
        return NONE
    if p.ip_protocol == IPPROTO_TCP:
        i = sk_find_again(m, ends_received(p), p.sk)
        if i == NONE:
            i = sk_find(m, ends_of_port(p.ip_version, IPPROTO_TCP, p.dport))
    else:
        i = sk_find_again(m, ends_of_port(p.ip_version, IPPROTO_UDP, p.dport), p.sk)
    if i == NONE or m.sk[i].state == SS_CLOSED:
        return NONE
    if m.sk[i].state == SS_TIME_WAIT and is_over(m, i):
        return NONE
    return i

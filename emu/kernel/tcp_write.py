"""TCP's write queue: connecting, queueing data, sending them for the first time and again, giving up.

Source: Linux 2.6.12 net/ipv4/tcp.c do_tcp_sendpages, tcp_abort's like (tcp_disconnect, tcp_send_active_reset);
net/core/stream.c sk_stream_wait_memory; include/net/tcp.h sk_stream_alloc_pskb; net/ipv4/tcp_output.c tcp_connect,
tcp_write_xmit, tcp_retransmit_skb, tcp_write_wakeup; tcp_input.c tcp_clean_rtx_queue, tcp_xmit_retransmit_queue.
Each skb of the queue is a head and a data area for the headers; its payload are pages of somebody else's.  Sending
clones it (skbuff_head_cache), or copies it while an earlier clone has not left yet.  mainline: SOCK_MEMALLOC sockets
ask with __GFP_MEMALLOC (sk_gfp_mask).
Differs: sk_stream_mem_schedule is left out: what waits to be sent is charged to sndbuf, not to tcp_mem; a task waits
102 ms for memory, the mean of sk_stream_wait_memory's draw; want of memory neither shrinks sndbuf nor puts TCP under
memory pressure (sk_stream_alloc_pskb: sk_stream_moderate_sndbuf, enter_memory_pressure); a segment is never split, so
one that does not fit the window waits; no Nagle (iSCSI sets TCP_NODELAY); no skb comes with a clone of its own
(fclones, 2.6.14 and later).
"""

from emu.kernel.closed_loop import (
    CONN_CLOSED,
    CONN_ESTABLISHED,
    CONN_SYN_SENT,
    WAIT_MEMORY,
    WAIT_NOTHING,
    WAIT_SNDBUF,
    TcpConn,
)
from emu.kernel.flows import sk_init
from emu.kernel.machine import NEVER_NS, NONE, Machine
from emu.kernel.page_alloc import GFP_ATOMIC, GFP_KERNEL
from emu.kernel.reply import MAX_TCP_HEADER
from emu.kernel.seq import SEQ_MASK, TCP_ACK, TCP_PSH, TCP_RST, TCP_SYN, after, before, seq_add
from emu.kernel.skbuff import alloc_skb, kfree_skb, skb_clone_gfp, skb_cloned
from emu.kernel.sock import (
    IPPROTO_TCP,
    SS_ESTABLISHED,
    Ends,
    lru_unlink,
    sk_alloc,
    sk_close,
    sk_find,
    sk_free,
)
from emu.kernel.tcp_conn import conn_open, tcp_retransmit_now, tcp_send_room, tcp_sent
from emu.kernel.tcp_output import sk_gfp_mask, tcp_send_empty, tcp_transmit
from emu.kernel.vmscan import try_to_free_pages

VM_WAIT_NS = 102_000_000  # (net_random() % (HZ / 5)) + 2 jiffies, on average
ISS_TICK_NS = 4_000  # RFC 9293 3.4.1

# What became of a segment that was to be sent again.
XMIT_SENT, XMIT_NO_MEMORY, XMIT_DROPPED = range(3)


def write_queue_free(m: Machine, c: int) -> None:
    """Throw away what waits to be sent or acknowledged; clones that wait for the NIC live on."""
    conn = m.conn[c]
    while conn.queue_head != NONE:
        b = conn.queue_head
        conn.queue_head = m.skb[b].next
        kfree_skb(m, b)
    conn.queue_tail = NONE
    conn.send_head = NONE
    conn.wmem_queued = 0


def conn_socket_free(m: Machine, i: int) -> None:
    """The socket of a connection goes, with all that it received."""
    sk_close(m, i)
    m.sk[i].pinned = 0
    m.sk[i].conn = NONE
    sk_free(m, i)


def tcp_conn_done(m: Machine, c: int) -> None:
    """The connection is over: nothing of it remains but its counts."""
    conn = m.conn[c]
    write_queue_free(m, c)
    if conn.sk != NONE:
        conn_socket_free(m, conn.sk)
    conn.sk = NONE
    conn.state = CONN_CLOSED
    conn.rto_due_ns = NEVER_NS
    conn.probe_due_ns = NEVER_NS
    conn.delack_due_ns = NEVER_NS
    conn.wait = WAIT_NOTHING
    conn.wait_until_ns = NEVER_NS


def tcp_abort(m: Machine, c: int) -> None:
    """Reset a connection: the peer hears of it if there is memory for a RST, and if it knew of us."""
    conn = m.conn[c]
    if conn.state == CONN_CLOSED:
        return
    if conn.state == CONN_ESTABLISHED:
        m.mib.TcpOutRsts += 1
        tcp_send_empty(m, conn.sk, conn.snd_nxt, TCP_RST | TCP_ACK)
    tcp_conn_done(m, c)


def queue_skb(m: Machine, c: int, b: int, seq: int, payload: int) -> None:
    """Append an skb that is to be sent, with room for `payload` bytes charged."""
    conn = m.conn[c]
    skb = m.skb[b]
    skb.truesize += payload
    skb.sk = conn.sk
    skb.frame = 0
    skb.packet_id = 0
    skb.seq = seq
    skb.end_seq = seq
    skb.length = 0
    skb.next = NONE
    if conn.queue_tail == NONE:
        conn.queue_head = b
    else:
        m.skb[conn.queue_tail].next = b
    conn.queue_tail = b
    if conn.send_head == NONE:
        conn.send_head = b
    conn.wmem_queued += skb.truesize


def conn_socket(m: Machine, c: int) -> int:
    """The socket of a connection that is opened, with the user's rules on it, or -1."""
    conn = m.conn[c]
    ends = Ends(4, IPPROTO_TCP, 0, conn.saddr, conn.sport, 0, conn.daddr, conn.dport)
    old = sk_find(m, ends)
    if old != NONE:
        conn_socket_free(m, old)  # a stranger's frame may have made it
    i = sk_alloc(m, ends)
    if i == NONE:
        return NONE
    sk_init(m, i, SS_ESTABLISHED, ends)
    m.sk[i].pinned = 1
    m.sk[i].conn = c
    lru_unlink(m, i)
    return i


def tcp_connect(m: Machine, c: int) -> bool:
    """Open connection `c`, which has its addresses; without memory for the SYN it stays closed: False.

    The caller is a task: the SYN's skb comes with GFP_KERNEL, so it reclaims; what it cannot get it waits for, and
    tries again.
    """
    conn = m.conn[c]
    assert conn.state == CONN_CLOSED
    i = conn_socket(m, c)
    if i == NONE:
        return False
    gfp = sk_gfp_mask(m, i, GFP_KERNEL)
    b = alloc_skb(m, MAX_TCP_HEADER, gfp, m.policy.atomic_first_nomemalloc)
    while b == NONE and try_to_free_pages(m) > 0:
        b = alloc_skb(m, MAX_TCP_HEADER, gfp, m.policy.atomic_first_nomemalloc)
    if b == NONE:
        conn.tx_alloc_failed += 1
        conn_socket_free(m, i)
        return False
    conn_open(conn, (m.now_ns // ISS_TICK_NS + (c << 24)) & SEQ_MASK, m.now_ns)
    conn.sk = i
    conn.state = CONN_SYN_SENT
    queue_skb(m, c, b, conn.iss, 0)
    m.skb[b].end_seq = seq_add(conn.iss, 1)
    conn.write_seq = m.skb[b].end_seq
    conn.send_head = NONE
    send_again(m, c, b)  # whether or not it goes out: the timer sees to it
    tcp_sent(conn, conn.iss, conn.write_seq, m.now_ns)
    return True


def tcp_sendpage(m: Machine, c: int, length: int) -> int:
    """Queue up to `length` bytes that lie in pages; how many were taken.

    When it is not all, `wait` says what for: room in the buffer, or memory until `wait_until_ns`.
    """
    conn = m.conn[c]
    if conn.state != CONN_ESTABLISHED:
        return 0
    conn.wait = WAIT_NOTHING
    taken = 0
    while taken < length:
        b = conn.queue_tail if conn.send_head != NONE else NONE
        if b == NONE or m.skb[b].length >= conn.mss:
            b = new_segment(m, c)
            if b == NONE:
                break
        skb = m.skb[b]
        part = min(length - taken, conn.mss - skb.length)
        skb.length += part
        skb.end_seq = seq_add(skb.end_seq, part)
        conn.write_seq = skb.end_seq
        taken += part
    if 0 < taken < length:
        tcp_push(m, c)
    return taken


def new_segment(m: Machine, c: int) -> int:
    """An empty skb at the end of the queue, or -1 with what to wait for."""
    conn = m.conn[c]
    if conn.wmem_queued >= conn.sndbuf:
        conn.wait = WAIT_SNDBUF
        return NONE
    b = alloc_skb(m, MAX_TCP_HEADER, sk_gfp_mask(m, conn.sk, GFP_ATOMIC), m.policy.atomic_first_nomemalloc)
    if b == NONE:
        conn.tx_alloc_failed += 1
        conn.wait = WAIT_MEMORY
        conn.wait_until_ns = m.now_ns + VM_WAIT_NS
        return NONE
    queue_skb(m, c, b, conn.write_seq, conn.mss)
    return b


def flags_of_segment(m: Machine, b: int) -> int:
    """The header's flags: the only segment without data in a write queue is the SYN."""
    return TCP_ACK | TCP_PSH if m.skb[b].length > 0 else TCP_SYN


def send_again(m: Machine, c: int, b: int) -> int:
    """Send a clone of an skb of the queue, or a copy while one is with the NIC; XMIT_*."""
    conn = m.conn[c]
    gfp = sk_gfp_mask(m, conn.sk, GFP_ATOMIC)
    if skb_cloned(m, b):
        sent = alloc_skb(m, MAX_TCP_HEADER, gfp, m.policy.atomic_first_nomemalloc)
    else:
        sent = skb_clone_gfp(m, b, 1, gfp)
    if sent == NONE:
        conn.tx_alloc_failed += 1
        return XMIT_NO_MEMORY
    skb = m.skb[b]
    if tcp_transmit(m, conn.sk, sent, skb.seq, skb.length, flags_of_segment(m, b)):
        return XMIT_SENT
    return XMIT_DROPPED


def tcp_push(m: Machine, c: int) -> None:
    """Send what was never sent, as far as the windows allow (tcp_write_xmit).

    When the first of it finds no memory and nothing is out whose ACK would come back here, the probe timer does.
    """
    conn = m.conn[c]
    while conn.send_head != NONE and conn.state == CONN_ESTABLISHED:
        b = conn.send_head
        if tcp_send_room(conn) < m.skb[b].length or send_again(m, c, b) != XMIT_SENT:
            break
        conn.send_head = m.skb[b].next
        tcp_sent(conn, m.skb[b].seq, m.skb[b].end_seq, m.now_ns)
    if conn.send_head != NONE and conn.snd_nxt == conn.snd_una and conn.probe_due_ns == NEVER_NS:
        conn.backoff = 0
        conn.probe_due_ns = m.now_ns + conn.rto_ns


def segment_at(m: Machine, conn: TcpConn, seq: int) -> int:
    """The skb of the write queue that holds byte `seq`, or -1."""
    b = conn.queue_head
    while b != NONE and not after(m.skb[b].end_seq, seq):
        b = m.skb[b].next
    return b


def tcp_retransmit_skb(m: Machine, c: int) -> int:
    """Send the segment at `retransmit_seq` again; XMIT_*."""
    conn = m.conn[c]
    b = segment_at(m, conn, conn.retransmit_seq)
    assert b != NONE
    outcome = send_again(m, c, b)
    if outcome == XMIT_SENT:
        tcp_sent(conn, m.skb[b].seq, m.skb[b].end_seq, m.now_ns)
    return outcome


def tcp_xmit_retransmit_queue(m: Machine, c: int) -> None:
    """Send again what is due for it; without memory the next ACK or the timer goes on."""
    while tcp_retransmit_now(m.conn[c]):
        if tcp_retransmit_skb(m, c) != XMIT_SENT:
            break


def tcp_clean_rtx_queue(m: Machine, c: int) -> None:
    """Free what has been acknowledged; of a segment that is so in part, the rest stays (tcp_trim_head)."""
    conn = m.conn[c]
    while conn.queue_head != NONE and conn.queue_head != conn.send_head:
        b = conn.queue_head
        skb = m.skb[b]
        if after(skb.end_seq, conn.snd_una):
            if before(skb.seq, conn.snd_una):
                skb.length -= (conn.snd_una - skb.seq) & SEQ_MASK
                skb.seq = conn.snd_una
            break
        conn.queue_head = skb.next
        if conn.queue_head == NONE:
            conn.queue_tail = NONE
        conn.wmem_queued -= skb.truesize
        kfree_skb(m, b)
    m.quiet_rounds = 0
    if conn.wait == WAIT_SNDBUF and conn.sndbuf - conn.wmem_queued >= conn.wmem_queued // 2:
        conn.wait = WAIT_NOTHING  # sk_stream_write_space


def tcp_write_wakeup(m: Machine, c: int) -> None:
    """Probe the window: the next segment if it fits, else an empty one whose number is old (tcp_xmit_probe_skb)."""
    conn = m.conn[c]
    b = conn.send_head
    if b != NONE and tcp_send_room(conn) >= m.skb[b].length:
        tcp_push(m, c)
    else:
        tcp_send_empty(m, conn.sk, (conn.snd_una - 1) & SEQ_MASK, TCP_ACK)

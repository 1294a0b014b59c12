"""A TCP connection's sending side, and when its receiving side acknowledges: numbers only, for the host and for peers.

Source: Linux 2.6.12 net/ipv4/tcp_input.c tcp_ack, tcp_rtt_estimator, tcp_set_rto, tcp_init_cwnd, tcp_cong_avoid (Reno),
tcp_enter_loss, tcp_moderate_cwnd, __tcp_ack_snd_check, tcp_measure_rcv_mss; tcp_output.c tcp_cwnd_restart,
tcp_send_probe0; include/net/tcp.h for the constants.  RFC 5681, 6298, 6582 (NewReno), 3042 (limited transmit).
Differs: cwnd counts bytes in units of the MSS, as RFC 5681 has it, where Linux counts segments of any size; fast
recovery inflates cwnd (RFC 6582) where Linux halves the rate; Reno, where 2.6.12 starts with BIC; no SACK, no F-RTO, no
undo; no timestamps, so a retransmission is never timed and RTO stays doubled until a fresh segment was (Karn);
delayed acknowledgements wait 40 ms always; a connection never gives up (tcp_retries2 is 15, some 15 minutes).
"""

from emu.kernel.closed_loop import CA_LOSS, CA_OPEN, CA_RECOVERY, CONN_ESTABLISHED, TcpConn
from emu.kernel.machine import NEVER_NS, NONE
from emu.kernel.seq import SEQ_MASK, after, before, seq_add

TCP_RTO_MIN_NS = 200_000_000
TCP_RTO_MAX_NS = 120_000_000_000
TCP_TIMEOUT_INIT_NS = 3_000_000_000
TCP_DELACK_MIN_NS = 40_000_000
TCP_DELACK_MAX_NS = 200_000_000
TCP_FASTRETRANS_THRESH = 3
TCP_MAX_BURST = 3  # tcp_max_burst: reordering, without SACK
TCP_INFINITE_SSTHRESH = 0x7FFFFFFF
TCP_CWND_CLAMP = 65_535
TCP_MIN_CWND = 2  # to which loss may bring ssthresh
TCP_MIN_RCVMSS = 536
TCP_MAX_QUICKACKS = 16

# What a timer of a connection asks for (tcp_timer).
TIMER_NONE, TIMER_RETRANSMIT, TIMER_PROBE = range(3)


def tcp_init_cwnd(mss: int) -> int:
    """How many segments of `mss` bytes a connection begins with (RFC 3390)."""
    if mss > 1460:
        return 2
    return 3 if mss > 1095 else 4


def conn_open(c: TcpConn, iss: int, now_ns: int) -> None:
    """Forget what was sent before; `iss` is the initial sequence number.

    The caller has freed the write queue, and sets `state`; MSS, buffer, addresses and counts stay.
    """
    c.generation += 1
    c.wmem_queued = 0
    c.iss = iss
    c.snd_una = iss
    c.snd_nxt = iss
    c.write_seq = iss
    c.snd_wnd = 0
    c.max_window = 0
    c.snd_cwnd = tcp_init_cwnd(c.mss)
    c.snd_cwnd_cnt = 0
    c.snd_ssthresh = TCP_INFINITE_SSTHRESH
    c.ca_state = CA_OPEN
    c.high_seq = iss
    c.retransmit_seq = iss
    c.dupacks = 0
    c.srtt_ns = 0
    c.mdev_ns = 0
    c.rto_ns = TCP_TIMEOUT_INIT_NS
    c.backoff = 0
    c.rtt_seq = iss
    c.rtt_sent_ns = NEVER_NS
    c.rto_due_ns = NEVER_NS
    c.probe_due_ns = NEVER_NS
    c.rcv_nxt = NONE
    c.rcv_wup = 0
    c.rcv_wnd = 0
    c.ack_owed = 0
    c.ack_now = 0
    c.delack_due_ns = NEVER_NS
    c.rcv_mss = TCP_MIN_RCVMSS
    c.quick = TCP_MAX_QUICKACKS
    c.sent_ns = now_ns
    c.fin_sent = 0
    c.queue_head = NONE
    c.queue_tail = NONE
    c.send_head = NONE
    c.wait = 0
    c.wait_until_ns = NEVER_NS


def conn_established(c: TcpConn) -> None:
    """The handshake is over: the window is the initial one, even if the SYN was lost (tcp_init_metrics)."""
    c.state = CONN_ESTABLISHED
    c.snd_cwnd = tcp_init_cwnd(c.mss)
    c.snd_ssthresh = TCP_INFINITE_SSTHRESH
    if c.srtt_ns == 0:
        c.rto_ns = TCP_TIMEOUT_INIT_NS
        c.backoff = 0


def flight_bytes(c: TcpConn) -> int:
    """What was sent and is not acknowledged, as far as it can still be on its way."""
    if c.ca_state == CA_LOSS and before(c.retransmit_seq, c.high_seq):
        return (c.retransmit_seq - c.snd_una) & SEQ_MASK
    return (c.snd_nxt - c.snd_una) & SEQ_MASK


def segments_of(c: TcpConn, count: int) -> int:
    """How many segments `count` bytes are."""
    return (count + c.mss - 1) // c.mss


def tcp_retransmit_now(c: TcpConn) -> int:
    """Whether the bytes at `retransmit_seq` are to be sent again now, up to a segment, none behind `high_seq`."""
    if c.ca_state == CA_OPEN or not before(c.retransmit_seq, c.high_seq):
        return 0
    if c.ca_state == CA_RECOVERY:
        return 1 if c.retransmit_seq == c.snd_una else 0
    if c.retransmit_seq != c.snd_una and (c.retransmit_seq - c.snd_una) & SEQ_MASK >= c.snd_wnd:
        return 0
    length = min(c.mss, (c.high_seq - c.retransmit_seq) & SEQ_MASK)
    return 1 if flight_bytes(c) + length <= c.snd_cwnd * c.mss else 0


def tcp_send_room(c: TcpConn) -> int:
    """How many bytes behind `snd_nxt` both windows allow now; 0 while something is to be sent again first."""
    if c.ca_state == CA_LOSS and before(c.retransmit_seq, c.high_seq):
        return 0
    if tcp_retransmit_now(c):
        return 0
    cwnd = c.snd_cwnd
    if c.ca_state == CA_OPEN:
        cwnd += min(c.dupacks, TCP_FASTRETRANS_THRESH - 1)  # each says that a segment has left the network
    window = (c.snd_una + c.snd_wnd - c.snd_nxt) & SEQ_MASK
    if window > c.snd_wnd:
        return 0
    return max(0, min(cwnd * c.mss - flight_bytes(c), window))


def tcp_cwnd_restart(c: TcpConn, now_ns: int) -> None:
    """Idle for longer than RTO: halve cwnd for each, down to what a connection begins with."""
    idle_ns = now_ns - c.sent_ns - c.rto_ns
    if idle_ns <= 0:
        return
    restart = min(c.snd_cwnd, tcp_init_cwnd(c.mss))
    c.snd_ssthresh = max(c.snd_ssthresh, (c.snd_cwnd >> 1) + (c.snd_cwnd >> 2))
    while idle_ns > 0 and c.snd_cwnd > restart:
        c.snd_cwnd >>= 1
        idle_ns -= c.rto_ns
    c.snd_cwnd = max(c.snd_cwnd, restart)
    c.snd_cwnd_cnt = 0


def tcp_sent(c: TcpConn, seq: int, end_seq: int, now_ns: int) -> None:
    """Note that the bytes [seq, end_seq) went out, for the first time or again; SYN and FIN count one."""
    if after(end_seq, c.snd_nxt):
        if c.snd_nxt == c.snd_una and c.snd_nxt != c.iss:
            tcp_cwnd_restart(c, now_ns)
        c.snd_nxt = end_seq
        if after(c.snd_nxt, c.write_seq):
            c.write_seq = c.snd_nxt
        if c.rtt_sent_ns == NEVER_NS:
            c.rtt_seq = end_seq
            c.rtt_sent_ns = now_ns
        c.sent_ns = now_ns
        c.probe_due_ns = NEVER_NS
        if c.ack_owed:
            c.quick = 0  # data answer data: the connection is interactive (pingpong)
    else:
        c.retransmits += 1
        c.rtt_sent_ns = NEVER_NS
        if seq == c.snd_una:
            c.rto_due_ns = now_ns + c.rto_ns
    if c.ca_state != CA_OPEN and after(end_seq, c.retransmit_seq) and not after(seq, c.retransmit_seq):
        c.retransmit_seq = end_seq
    if c.rto_due_ns == NEVER_NS:
        c.rto_due_ns = now_ns + c.rto_ns


def tcp_rtt_estimator(c: TcpConn, rtt_ns: int) -> None:
    """Take in a round trip; mdev shrinks more slowly while the trips get shorter (Linux against RFC 6298)."""
    if c.srtt_ns == 0:
        c.srtt_ns = max(1, rtt_ns)
        c.mdev_ns = rtt_ns // 2
    else:
        error_ns = rtt_ns - c.srtt_ns
        c.srtt_ns = max(1, c.srtt_ns + error_ns // 8)
        more_ns = abs(error_ns) - c.mdev_ns
        if error_ns < 0 and more_ns > 0:
            more_ns //= 8
        c.mdev_ns += more_ns // 4
    c.rto_ns = min(c.srtt_ns + max(4 * c.mdev_ns, TCP_RTO_MIN_NS), TCP_RTO_MAX_NS)
    c.backoff = 0


def tcp_cong_avoid(c: TcpConn) -> None:
    """Open cwnd for an acknowledgement: slow start, or a segment for each window of them."""
    if c.snd_cwnd <= c.snd_ssthresh:
        c.snd_cwnd += 1
    else:
        c.snd_cwnd_cnt += 1
        if c.snd_cwnd_cnt >= c.snd_cwnd:
            c.snd_cwnd_cnt = 0
            c.snd_cwnd += 1
    c.snd_cwnd = min(c.snd_cwnd, TCP_CWND_CLAMP)


def tcp_enter_recovery(c: TcpConn) -> None:
    """Three acknowledgements said the same: send the first segment again (RFC 6582)."""
    c.snd_ssthresh = max(c.snd_cwnd >> 1, TCP_MIN_CWND)
    c.snd_cwnd = c.snd_ssthresh + TCP_FASTRETRANS_THRESH
    c.snd_cwnd_cnt = 0
    c.ca_state = CA_RECOVERY
    c.high_seq = c.snd_nxt
    c.retransmit_seq = c.snd_una
    c.rtt_sent_ns = NEVER_NS
    c.fast_retransmits += 1


def tcp_dupack(c: TcpConn) -> None:
    """An acknowledgement says nothing new: a segment has arrived behind a hole."""
    c.dupacks += 1
    if c.ca_state == CA_RECOVERY:
        c.snd_cwnd = min(c.snd_cwnd + 1, TCP_CWND_CLAMP)
    elif c.ca_state == CA_OPEN and c.dupacks == TCP_FASTRETRANS_THRESH and after(c.snd_una, c.high_seq):
        tcp_enter_recovery(c)


def tcp_open_again(c: TcpConn) -> None:
    """Everything that was under way when loss was found has been acknowledged."""
    if c.ca_state == CA_RECOVERY:
        c.snd_cwnd = min(c.snd_ssthresh, segments_of(c, (c.snd_nxt - c.snd_una) & SEQ_MASK) + TCP_MAX_BURST)
    c.ca_state = CA_OPEN
    c.retransmit_seq = c.snd_una


def tcp_new_ack(c: TcpConn, newly: int, before_bytes: int) -> None:
    """Congestion control for `newly` acknowledged bytes of `before_bytes` that were in flight; snd_una has moved."""
    c.dupacks = 0
    if c.ca_state == CA_OPEN:
        if segments_of(c, before_bytes) >= c.snd_cwnd:
            tcp_cong_avoid(c)
        if after(c.snd_una, c.high_seq):
            c.high_seq = (c.snd_una - 1) & SEQ_MASK  # so that it is never 2 GiB behind
        c.retransmit_seq = c.snd_una
        return
    if c.ca_state == CA_LOSS:
        tcp_cong_avoid(c)
        if before(c.retransmit_seq, c.snd_una):
            c.retransmit_seq = c.snd_una
    elif before(c.snd_una, c.high_seq):
        c.snd_cwnd = max(1, c.snd_cwnd - newly // c.mss + 1)
        c.retransmit_seq = c.snd_una  # a partial acknowledgement names the next hole
    if not before(c.snd_una, c.high_seq):
        tcp_open_again(c)


def tcp_check_probe(c: TcpConn, now_ns: int) -> None:
    """Arm or disarm the timer of window probes: something waits, nothing is out, and the window has no room for it."""
    waiting = (c.write_seq - c.snd_nxt) & SEQ_MASK
    if waiting == 0 or c.snd_nxt != c.snd_una or c.snd_wnd >= min(waiting, c.mss):
        c.probe_due_ns = NEVER_NS
    elif c.probe_due_ns == NEVER_NS:
        c.backoff = 0
        c.probe_due_ns = now_ns + c.rto_ns


def tcp_acked(c: TcpConn, ack: int, window_bytes: int, carries_data: int, now_ns: int) -> int:
    """Take in an acknowledgement with the window that it offers (scaled); how much it acknowledges anew.

    One for what was never sent, or older than the last, says nothing.  SYN and FIN count one.
    """
    if before(ack, c.snd_una) or after(ack, c.snd_nxt):
        return 0
    newly = (ack - c.snd_una) & SEQ_MASK
    same_window = window_bytes == c.snd_wnd
    c.snd_wnd = window_bytes
    c.max_window = max(c.max_window, window_bytes)
    if newly > 0:
        before_bytes = flight_bytes(c)
        c.snd_una = ack
        c.bytes_acked += newly
        if c.rtt_sent_ns != NEVER_NS and not before(ack, c.rtt_seq):
            tcp_rtt_estimator(c, now_ns - c.rtt_sent_ns)
            c.rtt_sent_ns = NEVER_NS
        tcp_new_ack(c, newly, before_bytes)
        c.rto_due_ns = NEVER_NS if c.snd_una == c.snd_nxt else now_ns + c.rto_ns
    elif same_window and not carries_data and c.snd_nxt != c.snd_una:
        tcp_dupack(c)
    tcp_check_probe(c, now_ns)
    return newly


def tcp_timeout(c: TcpConn, now_ns: int) -> None:
    """The retransmission timer fired: wait twice as long, begin anew with one segment (tcp_enter_loss)."""
    c.timeouts += 1
    if c.ca_state == CA_OPEN or (c.ca_state == CA_LOSS and c.snd_cwnd > 1):
        c.snd_ssthresh = max(c.snd_cwnd >> 1, TCP_MIN_CWND)
    c.snd_cwnd = 1
    c.snd_cwnd_cnt = 0
    c.dupacks = 0
    c.ca_state = CA_LOSS
    c.high_seq = c.snd_nxt
    c.retransmit_seq = c.snd_una
    c.rtt_sent_ns = NEVER_NS
    c.backoff += 1
    c.rto_ns = min(2 * c.rto_ns, TCP_RTO_MAX_NS)
    c.rto_due_ns = now_ns + c.rto_ns


def tcp_probe_timeout(c: TcpConn, now_ns: int) -> None:
    """The timer of window probes fired: the next one waits twice as long."""
    c.backoff += 1
    wait_ns = c.rto_ns
    for _ in range(min(c.backoff, 16)):
        wait_ns = min(2 * wait_ns, TCP_RTO_MAX_NS)
    c.probe_due_ns = now_ns + wait_ns


def tcp_timer_due_ns(c: TcpConn) -> int:
    """When the next timer of the sending side is due."""
    return min(c.rto_due_ns, c.probe_due_ns)


def tcp_timer(c: TcpConn, now_ns: int) -> int:
    """Fire what is due, TIMER_*; the caller then sends what `tcp_retransmit_now` says, or a probe.

    A probe is what fits into the window, or else an empty segment whose number is snd_una - 1 (tcp_write_wakeup).
    """
    if c.rto_due_ns <= now_ns:
        tcp_timeout(c, now_ns)
        return TIMER_RETRANSMIT
    if c.probe_due_ns <= now_ns:
        tcp_probe_timeout(c, now_ns)
        return TIMER_PROBE
    return TIMER_NONE


def tcp_rcv_data(c: TcpConn, rcv_nxt: int, length: int, out_of_order: int, now_ns: int) -> int:
    """A segment of `length` came and `rcv_nxt` is what is next: whether to acknowledge now; else the timer is armed.

    `out_of_order`: it was old, or ahead, or ahead of it something waits.
    """
    c.rcv_mss = max(c.rcv_mss, length)
    c.ack_owed += 1
    if c.quick > 0:
        c.quick -= 1
        c.ack_now = 1
    if out_of_order or (rcv_nxt - c.rcv_wup) & SEQ_MASK > c.rcv_mss:
        c.ack_now = 1
    if c.delack_due_ns == NEVER_NS:
        c.delack_due_ns = now_ns + TCP_DELACK_MIN_NS
    return c.ack_now


def tcp_ack_sent(c: TcpConn, ack: int, window_bytes: int) -> None:
    """A segment went out that acknowledges up to `ack` and offers `window_bytes`."""
    c.rcv_wup = ack
    c.rcv_wnd = window_bytes
    c.ack_owed = 0
    c.ack_now = 0
    c.delack_due_ns = NEVER_NS


def window_left(c: TcpConn, rcv_nxt: int) -> int:
    """How many bytes behind `rcv_nxt` the peer may send by what was offered last (tcp_receive_window)."""
    left = (seq_add(c.rcv_wup, c.rcv_wnd) - rcv_nxt) & SEQ_MASK
    return left if left <= c.rcv_wnd else 0

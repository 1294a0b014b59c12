"""A peer's TCP: the same sending side as the host's (`kernel.tcp_conn`), and a receiver that never runs out of memory.

Source: RFC 9293 3.10.7 (segment arrives), RFC 5681 4.2 (when to acknowledge), RFC 5961 3.2 (a RST must be in the
window), RFC 7323 4.3 (which timestamp is echoed).
Differs: peers read at once, so their window stays PEER_WINDOW_BYTES; what comes beyond MAX_RANGES holes is forgotten
and must come again; no SACK; a peer that is sent a FIN answers with its own and forgets the connection at once.
"""

from emu.kernel.closed_loop import CONN_CLOSED, CONN_ESTABLISHED, CONN_SYN_RCVD, TcpConn
from emu.kernel.machine import NEVER_NS, NONE
from emu.kernel.tcp_conn import (
    TIMER_PROBE,
    TIMER_RETRANSMIT,
    conn_open,
    tcp_ack_sent,
    tcp_acked,
    tcp_rcv_data,
    tcp_retransmit_now,
    tcp_send_room,
    tcp_sent,
    tcp_timer,
    tcp_timer_due_ns,
)
from emu.kernel.tcp_seq import SEQ_MASK, TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN, after, before, seq_add
from emu.traffic.iscsi.segments import PSH
from emu.traffic.peer.frames import MAX_WINDOW_FIELD, is_reset, segment_bytes, sequence_bytes, stamp_of
from emu.traffic.peer.lane import frame_get, lane_push
from emu.traffic.peer.state import MAX_RANGES, PEER_WINDOW_BYTES, PEER_WINDOW_SCALE, TO_HOST, End, WireFrame, World

ISS_NS = 4_000  # of a tick of the clock that initial sequence numbers follow (RFC 9293 3.4.1)
ISS_STEP = 64_000

# What a segment has brought about (`peer_receives`).
PEER_NOTHING, PEER_OPENED, PEER_RECEIVED, PEER_CLOSED = range(4)


# --- it sends --------------------------------------------------------------------------------------------------------


def peer_emit(w: World, c: int, seq: int, length: int, tcp_flags: int) -> None:
    """Put a segment on the wire, which acknowledges as well if it says so."""
    row = frame_get(w)
    if row == NONE:
        return
    peer = w.peer[c]
    end = w.end[c]
    frame = w.frame[row]
    frame.conn = c
    frame.host_port = peer.dport
    frame.generation = peer.generation
    frame.seq = seq
    frame.length = length
    frame.tcp_flags = tcp_flags | (PSH if length > 0 else 0)
    frame.ack = 0
    frame.window = 0
    if tcp_flags & TCP_ACK:
        frame.ack = peer.rcv_nxt
        frame.window = min(PEER_WINDOW_BYTES, MAX_WINDOW_FIELD)
        if not tcp_flags & TCP_SYN:
            frame.window = PEER_WINDOW_BYTES >> PEER_WINDOW_SCALE
        tcp_ack_sent(peer, peer.rcv_nxt, PEER_WINDOW_BYTES)
    frame.stamp = stamp_of(w, end.stamp0, w.now_ns)
    frame.echo = end.recent
    lane_push(w, end.dev, TO_HOST, row, w.now_ns, segment_bytes(w, c, tcp_flags, 1, length))


def peer_syn_ack(w: World, c: int) -> None:
    """Answer a SYN, perhaps again."""
    iss = w.peer[c].iss
    tcp_sent(w.peer[c], iss, seq_add(iss, 1), w.now_ns)
    peer_emit(w, c, iss, 0, TCP_SYN | TCP_ACK)


def peer_send(w: World, c: int, seq: int, length: int) -> None:
    """Send a segment with data."""
    tcp_sent(w.peer[c], seq, seq_add(seq, length), w.now_ns)
    peer_emit(w, c, seq, length, TCP_ACK)


def peer_push(w: World, c: int) -> None:
    """Send what is to be sent again, then what is new, as the windows allow.

    A segment is cut short by its data's end, never by a window (RFC 9293 3.8.6.2.1).
    """
    peer = w.peer[c]
    if peer.state != CONN_ESTABLISHED:
        return
    while tcp_retransmit_now(peer):
        peer_send(w, c, peer.retransmit_seq, min(peer.mss, (peer.high_seq - peer.retransmit_seq) & SEQ_MASK))
    room = tcp_send_room(peer)
    while after(peer.write_seq, peer.snd_nxt):
        length = min(peer.mss, (peer.write_seq - peer.snd_nxt) & SEQ_MASK)
        if length > room:
            break
        peer_send(w, c, peer.snd_nxt, length)
        room = tcp_send_room(peer)


def peer_probe(w: World, c: int) -> None:
    """The window is too small for what waits: send what fits, or ask how large it is (tcp_write_wakeup)."""
    peer = w.peer[c]
    waiting = (peer.write_seq - peer.snd_nxt) & SEQ_MASK
    fits = min(peer.snd_wnd, peer.mss, waiting)
    if fits > 0:
        peer_send(w, c, peer.snd_nxt, fits)
    else:
        peer_emit(w, c, (peer.snd_una - 1) & SEQ_MASK, 0, TCP_ACK)


def peer_due_ns(w: World, c: int) -> int:
    """When the next of a peer's TCP timers is due."""
    return min(tcp_timer_due_ns(w.peer[c]), w.peer[c].delack_due_ns)


def peer_timers(w: World, c: int) -> None:
    """Do what a peer's TCP timers ask for: send again, probe, acknowledge."""
    peer = w.peer[c]
    asked = tcp_timer(peer, w.now_ns)
    if asked == TIMER_PROBE:
        peer_probe(w, c)
    elif asked == TIMER_RETRANSMIT and peer.state == CONN_SYN_RCVD:
        peer_syn_ack(w, c)
    elif asked == TIMER_RETRANSMIT:
        peer_push(w, c)
    if peer.delack_due_ns <= w.now_ns:
        peer_emit(w, c, peer.snd_nxt, 0, TCP_ACK)


def peer_forget(peer: TcpConn) -> None:
    """There is no connection any more."""
    peer.state = CONN_CLOSED
    peer.rto_due_ns = NEVER_NS
    peer.probe_due_ns = NEVER_NS
    peer.delack_due_ns = NEVER_NS


def peer_abort(w: World, c: int) -> None:
    """Reset the connection."""
    peer_emit(w, c, w.peer[c].snd_nxt, 0, TCP_RST | TCP_ACK)
    peer_forget(w.peer[c])


# --- it receives -----------------------------------------------------------------------------------------------------


def ranges_drop(end: End, at: int, upto: int) -> None:
    """Forget the ranges from `at` to before `upto`."""
    for move in range(upto, end.ranges):
        end.range_seq[at + move - upto] = end.range_seq[move]
        end.range_end[at + move - upto] = end.range_end[move]
    end.ranges -= upto - at


def range_add(end: End, start: int, stop: int) -> bool:
    """Remember the bytes [start, stop) beyond a hole; False when there are too many holes."""
    at = 0
    while at < end.ranges and before(end.range_end[at], start):
        at += 1
    upto = at
    while upto < end.ranges and not after(end.range_seq[upto], stop):
        upto += 1
    if upto == at and end.ranges == MAX_RANGES:
        return False
    if upto > at:
        if before(end.range_seq[at], start):
            start = end.range_seq[at]
        if after(end.range_end[upto - 1], stop):
            stop = end.range_end[upto - 1]
        ranges_drop(end, at, upto)
    for move in range(end.ranges, at, -1):
        end.range_seq[move] = end.range_seq[move - 1]
        end.range_end[move] = end.range_end[move - 1]
    end.range_seq[at] = start
    end.range_end[at] = stop
    end.ranges += 1
    return True


def take_bytes(w: World, c: int, seq: int, length: int) -> bool:
    """Data came: whether some of it, or of what waited, is in order now; acknowledged now or soon."""
    peer = w.peer[c]
    end = w.end[c]
    stop = seq_add(seq, length)
    begun = peer.rcv_nxt
    odd = not after(stop, begun)  # old, ahead, or filling a hole: acknowledged at once
    edge = seq_add(begun, PEER_WINDOW_BYTES)
    if after(stop, edge):
        odd = True
    elif after(seq, begun):
        odd = True
        range_add(end, seq, stop)
    elif not odd:
        odd = end.ranges > 0
        peer.rcv_nxt = stop
        while end.ranges > 0 and not after(end.range_seq[0], peer.rcv_nxt):
            if after(end.range_end[0], peer.rcv_nxt):
                peer.rcv_nxt = end.range_end[0]
            ranges_drop(end, 0, 1)
    gained = (peer.rcv_nxt - begun) & SEQ_MASK
    if gained > 0:
        peer.bytes_received += gained
    tcp_rcv_data(peer, peer.rcv_nxt, length, 1 if odd else 0, w.now_ns)
    return gained > 0


def peer_syn(w: World, c: int, frame: WireFrame) -> int:
    """A SYN: a new connection, whatever there was before, unless it is the last one's again (RFC 7143 6.3.5)."""
    peer = w.peer[c]
    end = w.end[c]
    again = frame.host_port == peer.dport and seq_add(frame.seq, 1) == peer.rcv_nxt
    if again and peer.state == CONN_SYN_RCVD:
        peer_syn_ack(w, c)
        return PEER_NOTHING
    if again and peer.state == CONN_ESTABLISHED:
        peer_emit(w, c, peer.snd_nxt, 0, TCP_ACK)
        return PEER_NOTHING
    ticks = (w.now_ns - w.start_ns) // ISS_NS + peer.generation * ISS_STEP
    conn_open(peer, seq_add(end.isn, ticks), w.now_ns)
    peer.state = CONN_SYN_RCVD
    peer.dport = frame.host_port
    peer.rcv_nxt = seq_add(frame.seq, 1)
    peer.snd_wnd = frame.window
    peer.max_window = frame.window
    end.ranges = 0
    end.recent = frame.stamp
    peer_syn_ack(w, c)
    return PEER_OPENED


def peer_refuses(w: World, c: int, frame: WireFrame) -> int:
    """A segment for a connection that the peer does not have: answered with a RST, unless it is one."""
    w.strays += 1
    peer = w.peer[c]
    if peer.state == CONN_CLOSED and frame.tcp_flags & TCP_ACK and not is_reset(frame):
        peer.dport = frame.host_port
        peer_emit(w, c, frame.ack, 0, TCP_RST)
    return PEER_NOTHING


def peer_reset(w: World, c: int, frame: WireFrame) -> int:
    """A RST counts if its number is in the window (RFC 5961 3.2, without challenges)."""
    peer = w.peer[c]
    if (frame.seq - peer.rcv_nxt) & SEQ_MASK >= PEER_WINDOW_BYTES:
        w.strays += 1
        return PEER_NOTHING
    peer_forget(peer)
    return PEER_CLOSED


def peer_fin(w: World, c: int) -> int:
    """Everything up to the host's FIN is in: acknowledge it, send an own one, and forget the connection."""
    peer = w.peer[c]
    peer.rcv_nxt = seq_add(peer.rcv_nxt, 1)
    peer_emit(w, c, peer.snd_nxt, 0, TCP_FIN | TCP_ACK)
    peer_forget(peer)
    return PEER_CLOSED


def peer_receives(w: World, c: int, frame: WireFrame) -> int:
    """A segment of the host has arrived; what that means for what speaks over the connection: PEER_*."""
    peer = w.peer[c]
    if frame.tcp_flags & TCP_SYN:
        return peer_syn(w, c, frame)
    if peer.state == CONN_CLOSED or frame.host_port != peer.dport:
        return peer_refuses(w, c, frame)
    if is_reset(frame):
        return peer_reset(w, c, frame)
    if not after(frame.seq, peer.rcv_wup) and not before(frame.seq, (peer.rcv_wup - PEER_WINDOW_BYTES) & SEQ_MASK):
        w.end[c].recent = frame.stamp
    if frame.tcp_flags & TCP_ACK:
        tcp_acked(peer, frame.ack, frame.window << w.host_scale, 1 if frame.length > 0 else 0, w.now_ns)
        if peer.state == CONN_SYN_RCVD and after(peer.snd_una, peer.iss):
            peer.state = CONN_ESTABLISHED
    event = PEER_NOTHING
    if frame.length > 0 and take_bytes(w, c, frame.seq, frame.length):
        event = PEER_RECEIVED
    if frame.tcp_flags & TCP_FIN and seq_add(frame.seq, frame.length) == peer.rcv_nxt:
        return peer_fin(w, c)
    if sequence_bytes(frame) == 0 and before(frame.seq, peer.rcv_nxt):
        peer.ack_now = 1  # a probe of a window, or of whether anybody is there
    peer_push(w, c)
    if peer.ack_now:
        peer_emit(w, c, peer.snd_nxt, 0, TCP_ACK)
    return event

"""Bytes of the segments of the host and of its peers: moulds with the numbers of the moment, payload, checksums.

Segments carry TCP timestamps in milliseconds (RFC 7323); the host echoes that of the segment that its acknowledgement
answers (4.3), which is known here by what it acknowledges.  Windows of peers are scaled by PEER_WINDOW_SCALE, the
host's by `World.host_scale`; those of SYNs are not.
"""

from emu.kernel.closed_loop import MAX_PDUS, Stream, TxFrame
from emu.kernel.iscsi_pdu import LOW, put_stream
from emu.kernel.machine import Machine
from emu.kernel.tcp_seq import TCP_FIN, TCP_RST, TCP_SYN, after, before, seq_add
from emu.traffic.iscsi.segments import PSH, put_ipv4_numbers, put_tcp_checksum, put_tcp_numbers
from emu.traffic.peer.state import (
    MOULD_SEGMENT,
    MOULD_SYN,
    MOULDS_OF_CONN,
    PEER_TARGET,
    STORE_BYTES,
    STORE_MASK,
    Mould,
    WireFrame,
    World,
    host_base,
    target_base,
)
from emu.wire.octets import Octets, copy_octets, put_be16

STAMP_NS = 1_000_000
MAX_WINDOW_FIELD = 65_535
OF_PEER = MOULDS_OF_CONN // 2  # the moulds of the peer's frames stand behind the host's


def stamp_of(w: World, zero: int, now_ns: int) -> int:
    """A TCP timestamp (RFC 7323 5.4)."""
    return (zero + (now_ns - w.start_ns) // STAMP_NS) & LOW


def mould_number(tcp_flags: int, from_peer: int) -> int:
    """Which of a connection's moulds a segment has."""
    return OF_PEER * from_peer + (MOULD_SYN if tcp_flags & TCP_SYN else MOULD_SEGMENT)


def segment_bytes(w: World, conn: int, tcp_flags: int, from_peer: int, payload: int) -> int:
    """How long a segment's frame is, without FCS."""
    return w.end[conn].mould[mould_number(tcp_flags, from_peer)].head_bytes + payload


def holds(stream: Stream, seq: int, length: int) -> bool:
    """Whether the bytes [seq, seq + length) are in a stream's memory."""
    if stream.pdus == 0:
        return False
    first = 0 if stream.pdus <= MAX_PDUS else stream.pdus % MAX_PDUS
    return not before(seq, stream.pdu[first].seq) and not after(seq_add(seq, length), stream.end_seq)


def put_bulk(w: World, pool: Octets, octets: bytearray, at: int, offset: int, length: int) -> None:
    """Bytes [offset, offset + length) of a bulk transfer: the pool over and over."""
    while length > 0:
        start = offset % w.pool_bytes
        part = min(length, w.pool_bytes - start)
        copy_octets(octets, at, pool, w.pool_at + start, part)
        at += part
        offset += part
        length -= part


def keep(store: bytearray, base: int, seq: int, octets: Octets, at: int, length: int) -> None:
    """Keep the bytes of [seq, seq + length) in a ring of the store."""
    start = seq & STORE_MASK
    part = min(length, STORE_BYTES - start)
    copy_octets(store, base + start, octets, at, part)
    copy_octets(store, base, octets, at + part, length - part)


def put_segment(
    mould: Mould,
    moulds: Octets,
    octets: bytearray,
    at: int,
    host_port: int,
    from_peer: int,
    frame: WireFrame,
    ip_id: int,
) -> int:
    """Headers of a segment whose payload stands behind them already, and its checksums; returns the frame's bytes."""
    size = mould.head_bytes + frame.length
    copy_octets(octets, at, moulds, mould.head_at, mould.head_bytes)
    ip = at + mould.ip_at
    tcp = ip + 20
    put_ipv4_numbers(octets, ip, size - mould.ip_at, ip_id, mould.ip_sum)
    put_be16(octets, tcp + 2 * from_peer, host_port)
    octets[tcp + 13] = frame.tcp_flags & 0xFF
    put_be16(octets, tcp + 14, frame.window)
    put_tcp_numbers(octets, tcp, frame.seq, frame.ack, at + mould.stamp_at, frame.stamp, frame.echo)
    put_tcp_checksum(octets, tcp, at + size, mould.pseudo_sum)
    return size


def put_peer_segment(
    w: World, moulds: Octets, pool: Octets, store: bytearray, frame: WireFrame, octets: bytearray, at: int
) -> int:
    """The bytes of a peer's segment that reaches the host's NIC; a session's payload goes into the store, too."""
    c = frame.conn
    end = w.end[c]
    mould = end.mould[mould_number(frame.tcp_flags, 1)]
    if frame.length > 0:
        payload = at + mould.head_bytes
        if end.kind == PEER_TARGET:
            put_stream(w.target[c].stream, pool, octets, payload, frame.seq, frame.length)
            keep(store, host_base(c), frame.seq, octets, payload, frame.length)
        else:
            put_bulk(w, pool, octets, payload, (frame.seq - w.peer[c].iss - 1) & LOW, frame.length)
    size = put_segment(mould, moulds, octets, at, frame.host_port, 1, frame, end.ip_id)
    end.ip_id = (end.ip_id + 1) & 0xFFFF
    if frame.tcp_flags & TCP_SYN:
        end.host_ack = frame.seq
    if not after(frame.seq, end.host_ack):
        end.pending = 1
        end.pending_seq = seq_add(frame.seq, frame.length)
        end.pending_stamp = frame.stamp
    return size


def host_numbers(w: World, m: Machine, tx: TxFrame, frame: WireFrame, now_ns: int) -> None:
    """What a segment of the host says, but for its payload."""
    c = tx.conn
    end = w.end[c]
    frame.conn = c
    frame.host_port = m.conn[c].sport
    frame.generation = 0
    frame.seq = tx.seq
    frame.ack = tx.ack
    frame.length = tx.length
    frame.tcp_flags = tx.tcp_flags
    if tx.length > 0:
        frame.tcp_flags |= PSH
    frame.window = min(tx.window if tx.tcp_flags & TCP_SYN else tx.window >> w.host_scale, MAX_WINDOW_FIELD)
    if end.pending and not before(tx.ack, end.pending_seq):
        end.pending = 0
        end.host_recent = end.pending_stamp
    if tx.tcp_flags & TCP_SYN:
        frame.ack = 0
        end.host_recent = 0
        end.pending = 0
    else:
        end.host_ack = tx.ack
    frame.stamp = stamp_of(w, end.host_stamp0, now_ns)
    frame.echo = end.host_recent


def put_host_segment(
    w: World,
    m: Machine,
    moulds: Octets,
    pool: Octets,
    store: bytearray,
    frame: WireFrame,
    octets: bytearray,
    at: int,
) -> int:
    """The bytes of a segment of the host; a session's payload goes into the store, too.

    Of a connection that was opened anew meanwhile, what is still in the NIC's queue has no bytes left: it goes out as
    zeros, and its peer, which knows another port, takes no notice of it.
    """
    c = frame.conn
    end = w.end[c]
    mould = end.mould[mould_number(frame.tcp_flags, 0)]
    payload = at + mould.head_bytes
    if frame.length > 0:
        if end.kind != PEER_TARGET:
            put_bulk(w, pool, octets, payload, (frame.seq - m.conn[c].iss - 1) & LOW, frame.length)
        elif holds(m.session[c].stream, frame.seq, frame.length):
            put_stream(m.session[c].stream, pool, octets, payload, frame.seq, frame.length)
            keep(store, target_base(c), frame.seq, octets, payload, frame.length)
        else:
            for i in range(frame.length):
                octets[payload + i] = 0
    size = put_segment(mould, moulds, octets, at, frame.host_port, 0, frame, end.host_ip_id)
    end.host_ip_id = (end.host_ip_id + 1) & 0xFFFF
    return size


def sequence_bytes(frame: WireFrame) -> int:
    """How much sequence space a segment takes."""
    count = frame.length
    if frame.tcp_flags & TCP_SYN:
        count += 1
    if frame.tcp_flags & TCP_FIN:
        count += 1
    return count


def is_reset(frame: WireFrame) -> bool:
    """Whether a segment resets its connection."""
    return frame.tcp_flags & TCP_RST > 0

"""What the loop asks of the world: when something is due outside the host, and a frame's bytes at the host's NIC.

`wire_ns` and `arrival_due_ns` are those of `lane`.
"""

from emu.capture.made import put_row
from emu.kernel.closed_loop import CONN_ESTABLISHED, TX_REPLY, TxFrame
from emu.kernel.machine import DIR_INBOUND, DIR_OUTBOUND, NONE, Machine, Packet
from emu.traffic.peer.frames import holds, host_numbers, put_host_segment, put_peer_segment
from emu.traffic.peer.lane import (
    arrival_due_ns,
    blacked_out,
    departure_due_ns,
    first_lane,
    frame_get,
    frame_put,
    lane_due_ns,
    lane_pop,
    lane_push,
    wire_ns,
)
from emu.traffic.peer.server import server_open, server_supplies
from emu.traffic.peer.state import FROM_HOST, MOULD_SEGMENT, PEER_TARGET, SCRATCH_FRAME, TO_HOST, World
from emu.traffic.peer.target import target_close, target_due_ns, target_open, target_reads, target_runs
from emu.traffic.peer.tcp_peer import (
    PEER_CLOSED,
    PEER_OPENED,
    PEER_RECEIVED,
    peer_due_ns,
    peer_receives,
    peer_timers,
)
from emu.wire import ipv4, tcp
from emu.wire.octets import Octets, be16, be32, copy_octets

__all__ = [
    "arrival_due_ns",
    "blacked_out",
    "host_frame",
    "take_arrival",
    "wire_ns",
    "world_due_ns",
    "world_run",
]


def speaks(w: World, c: int) -> bool:
    """Whether a target has a connection to speak over."""
    return w.end[c].kind == PEER_TARGET and w.peer[c].state == CONN_ESTABLISHED


def world_due_ns(w: World) -> int:
    """When something happens outside the host: a frame of it arrives, a peer's timer fires, a target answers."""
    due = departure_due_ns(w)
    for c in range(w.conns):
        due = min(due, peer_due_ns(w, c))
        if speaks(w, c):
            due = min(due, target_due_ns(w, c))
    return due


def segment_arrives(w: World, c: int, event: int, store: Octets) -> None:
    """What speaks over a connection learns what a segment has brought about."""
    is_target = w.end[c].kind == PEER_TARGET
    if event == PEER_OPENED:
        if is_target:
            target_open(w, c)
        else:
            server_open(w, c)
    elif event == PEER_CLOSED and is_target:
        target_close(w.target[c])
    elif event == PEER_RECEIVED and is_target:
        target_reads(w, c, store)
    if not is_target and w.peer[c].state == CONN_ESTABLISHED:
        server_supplies(w, c)


def world_run(w: World, m: Machine, store: Octets) -> None:
    """Let everything outside the host happen that is due at `w.now_ns`; peers' frames go onto the wires."""
    for d in range(min(w.wires, m.devices)):
        while lane_due_ns(w, d, FROM_HOST) <= w.now_ns:
            row = lane_pop(w, d, FROM_HOST)
            c = w.frame[row].conn
            event = peer_receives(w, c, w.frame[row])
            frame_put(w, row)
            segment_arrives(w, c, event, store)
    for c in range(w.conns):
        if peer_due_ns(w, c) <= w.now_ns:
            peer_timers(w, c)
        if speaks(w, c) and target_due_ns(w, c) <= w.now_ns:
            target_runs(w, c)


def take_arrival(
    w: World, m: Machine, moulds: Octets, pool: Octets, store: bytearray, row: Packet, octets: bytearray, at: int
) -> int:
    """The peers' frame that reaches a NIC next, at `octets[at:]`; returns its bytes.

    To be called when `arrival_due_ns` has said when that is.  The row's frame number is the caller's to set.
    """
    d = first_lane(w, TO_HOST)
    assert d != NONE and d < m.devices
    taken = lane_pop(w, d, TO_HOST)
    due_ns = w.frame[taken].due_ns
    size = put_peer_segment(w, moulds, pool, store, w.frame[taken], octets, at)
    frame_put(w, taken)
    put_row(row, 0, due_ns, at, size, DIR_INBOUND)
    row.iface = d
    return size


def leaves(w: World, d: int, row: int, now_ns: int, size_bytes: int) -> None:
    """A frame of the host is on its way to its peer, if the wire is not dead."""
    if blacked_out(w, d, FROM_HOST, now_ns):
        w.lost_on_wire += 1
        w.lost_from_host += 1
        frame_put(w, row)
    else:
        lane_push(w, d, FROM_HOST, row, now_ns, size_bytes)


def reset_leaves(w: World, tx: TxFrame, d: int, store: Octets, now_ns: int) -> None:
    """The RST of no socket, to a peer: it says what its bytes say."""
    row = frame_get(w)
    if row == NONE:
        return
    frame = w.frame[row]
    header = tx.reply_at + w.end[tx.conn].mould[MOULD_SEGMENT].ip_at + ipv4.HEADER_LEN
    frame.conn = tx.conn
    frame.host_port = be16(store, header + tcp.SPORT)
    frame.seq = be32(store, header + tcp.SEQ)
    frame.ack = be32(store, header + tcp.ACK)
    frame.tcp_flags = store[header + tcp.FLAGS] & 0xFF
    frame.length = 0
    frame.window = 0
    leaves(w, d, row, now_ns, tx.length)


def segment_leaves(
    w: World,
    m: Machine,
    tx: TxFrame,
    d: int,
    moulds: Octets,
    pool: Octets,
    store: bytearray,
    octets: bytearray,
    at: int,
    now_ns: int,
) -> int:
    """The bytes of a segment of the host, and its way to its peer; returns how many bytes.

    What is left of a connection that was opened anew meanwhile has no bytes any more: it goes no further than this.
    """
    row = frame_get(w)
    lost = row == NONE
    if lost:
        row = SCRATCH_FRAME
    frame = w.frame[row]
    host_numbers(w, m, tx, frame, now_ns)
    size = put_host_segment(w, m, moulds, pool, store, frame, octets, at)
    stale = w.end[tx.conn].kind == PEER_TARGET and tx.length > 0
    stale = stale and not holds(m.session[tx.conn].stream, tx.seq, tx.length)
    if stale and not lost:
        w.lost_stale += 1
        frame_put(w, row)
    elif not lost:
        leaves(w, d, row, now_ns, size)
    return size


def host_frame(
    w: World,
    m: Machine,
    tx_row: int,
    d: int,
    moulds: Octets,
    pool: Octets,
    store: bytearray,
    row: Packet,
    octets: bytearray,
    at: int,
    now_ns: int,
) -> int:
    """The host's frame of `Machine.tx` row `tx_row` leaves device d for its peer: its bytes at `octets[at:]`.

    Returns how many.  The row's frame number is the caller's to set.
    """
    tx = m.tx[tx_row]
    if tx.kind == TX_REPLY:
        size = tx.length
        copy_octets(octets, at, store, tx.reply_at, size)
        if tx.conn != NONE:
            reset_leaves(w, tx, d, store, now_ns)
    else:
        size = segment_leaves(w, m, tx, d, moulds, pool, store, octets, at, now_ns)
    put_row(row, 0, now_ns, at, size, DIR_OUTBOUND)
    row.iface = d
    return size

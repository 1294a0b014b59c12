"""The state of the world outside the host: wires, the peers' ends of its connections, targets.

Units as in `machine`: `_ns` nanoseconds, `_bytes`; sequence numbers are 32 bits wide, times are those of the run.
The received bytes of sessions stand in one buffer, the store: a ring of STORE_BYTES for each direction of each session,
and behind them a slot for the bytes of each reply that waits to be sent (`slot_of`).
"""

from typing import Annotated

from emu.kernel.closed_loop import MAX_CONNS, MAX_SESSIONS, MAX_TASKS, PduReader, Stream, TcpConn
from emu.kernel.machine import MAX_DEVICES
from emu.kernel.record import record

STORE_BYTES = 1 << 18
STORE_MASK = STORE_BYTES - 1
REPLIES_AT = 2 * MAX_SESSIONS * STORE_BYTES  # of the store: behind the sessions' rings

MAX_FRAMES = 4_096  # on all wires together
SCRATCH_FRAME = MAX_FRAMES - 1  # never on a wire
MAX_BLACKOUTS = 64
MAX_RANGES = 64  # out-of-order ranges of one connection
MAX_ANSWERS = 4 * MAX_TASKS  # that a target has decided on and not sent: a power of two

PEER_WINDOW_SCALE = 7
PEER_WINDOW_BYTES = STORE_BYTES - 4096  # so nothing in the store is overwritten before it is read

PEER_TARGET, PEER_SERVER = range(2)
TO_HOST, FROM_HOST = range(2)  # a wire's lanes, and which frames a blackout takes
MOULDS_OF_CONN = 4  # the host's SYN, its other segments, the peer's SYN-ACK, its other segments
MOULD_SYN, MOULD_SEGMENT = range(2)

PHASE_LOGIN, PHASE_FULL_FEATURE, PHASE_LOGOUT = range(3)


def host_base(s: int) -> int:
    """Where the store keeps what the host receives on session s."""
    return 2 * s * STORE_BYTES


def target_base(s: int) -> int:
    """Where the store keeps what the target of session s receives."""
    return (2 * s + 1) * STORE_BYTES


@record
class Mould:
    """Headers of a kind of segment, in the moulds: Ethernet, perhaps a VLAN tag, IPv4, TCP with options."""

    head_at: int
    head_bytes: int
    ip_at: int  # from the frame's start
    ip_sum: int  # of the IPv4 header with no length, id and checksum
    pseudo_sum: int  # of the pseudo header without its length
    stamp_at: int  # TSval, from the frame's start; TSecr follows


@record
class WireFrame:
    """A segment on a wire, as numbers; its bytes are made where it is seen, at the host's NIC."""

    next: int  # the frame behind it in its lane, or the next free row; -1: none
    conn: int
    host_port: int
    generation: int  # of the peer's end when it sent this: its stream is another afterwards
    seq: int
    ack: int
    window: int  # as its header says, not scaled
    length: int  # payload bytes
    tcp_flags: int
    stamp: int  # TSval
    echo: int  # TSecr
    due_ns: int  # when its last bit arrives


@record
class Lane:
    """One direction of a wire: frames in the order in which they were sent."""

    head: int
    tail: int
    free_ns: int  # when the next frame may begin


@record
class Wire:
    """What connects a NIC of the host with its peers."""

    latency_ns: int
    rate_bps: int
    lane: Annotated[list[Lane], 2]  # TO_HOST, FROM_HOST


@record
class Blackout:
    """A time in which a wire loses what would reach the host, or what leaves it, or both."""

    dev: int
    start_ns: int
    end_ns: int
    lane: Annotated[list[int], 2]  # 1: TO_HOST, FROM_HOST are affected


@record
class End:
    """What a peer's end of a connection has besides `TcpConn`: moulds, timestamps, what came too early."""

    kind: int  # PEER_*
    dev: int
    isn: int  # varies the initial sequence numbers
    mould: Annotated[list[Mould], MOULDS_OF_CONN]
    ip_id: int
    stamp0: int  # TSval when play starts
    recent: int  # what it echoes
    host_ip_id: int
    host_stamp0: int
    host_recent: int  # what the host echoes
    host_ack: int  # the host's last acknowledgement
    pending: int  # 1: a segment with this TSval has reached the NIC; echoed once the host acknowledges it
    pending_seq: int
    pending_stamp: int
    ranges: int  # beyond rcv_nxt that have come already, in order, apart from one another
    range_seq: Annotated[list[int], MAX_RANGES]
    range_end: Annotated[list[int], MAX_RANGES]


@record
class TargetWrite:
    """A SCSI command that the target carries out."""

    used: int
    itt: int
    lun: int  # the header's eight bytes
    number: int  # how many commands came before
    bytes: int  # ExpectedDataTransferLength; 0 for a command without data
    offset: int  # received
    burst_end: int
    ttt: int
    r2ts: int
    unasked: int  # 1: data without R2T are still to come
    check_condition: int


@record
class Answer:
    """A PDU that the target sends once it is due."""

    due_ns: int
    opcode: int
    tag: int  # of a command: its row; else the initiator task tag
    lun: int
    one: int  # what else it says, by opcode
    two: int


@record
class AnswerRing:
    """Answers in the order in which they are due."""

    head: int
    count: int
    answer: Annotated[list[Answer], MAX_ANSWERS]


@record
class Target:
    """An iSCSI target, and the session that it has with the host."""

    # From the scenario.
    depth: int  # commands that it takes at once
    max_burst_bytes: int
    service_ns: int
    nop_interval_ns: int  # its own pings; 0: never
    jitter: int  # varies service times
    login_at: Annotated[list[int], 2]  # the texts of its login responses, in the pool
    login_bytes: Annotated[list[int], 2]
    sense_at: int  # of a Check Condition
    sense_bytes: int

    phase: int  # PHASE_*
    tsih: int
    stat_sn: int
    exp_cmd_sn: int
    max_cmd_sn: int
    ttt: int
    commands: int
    outstanding: int
    answered_ns: int  # when the last response is due: they keep the order in which commands were complete
    nop_due_ns: int
    nop_waits: int
    reader: PduReader
    stream: Stream
    write: Annotated[list[TargetWrite], MAX_TASKS]
    asks: AnswerRing  # R2Ts and everything else that takes no service
    answers: AnswerRing  # SCSI responses
    writes_done: int
    bytes_done: int
    refused: int  # commands with a Check Condition, or a full task set
    logins: int


@record
class World:
    """Everything outside the host; connection c of the host ends at peer c."""

    now_ns: int
    start_ns: int
    conns: int
    sessions: int
    peer: Annotated[list[TcpConn], MAX_CONNS]
    end: Annotated[list[End], MAX_CONNS]
    target: Annotated[list[Target], MAX_SESSIONS]
    download_bytes: Annotated[list[int], MAX_CONNS]  # of a server, in all; 0: without end
    wires: int
    wire: Annotated[list[Wire], MAX_DEVICES]
    blackouts: int
    blackout: Annotated[list[Blackout], MAX_BLACKOUTS]
    frame: Annotated[list[WireFrame], MAX_FRAMES]
    frame_free: int  # -1: none
    frames_made: int
    host_scale: int  # the host's window scale
    host_mac: int
    pool_at: int  # bulk data in the pool: a ring
    pool_bytes: int
    slot_bytes: int  # of a reply in the store
    reply_id: int  # IP identification of replies
    reply_frame: int  # the packet that was answered last, and how much of it
    reply_offset: int
    lost_on_wire: int  # in blackouts
    lost_from_host: int  # of these, the host's
    lost_full: int  # there was no row for them
    lost_stale: int  # of a connection that its peer has opened anew meanwhile
    strays: int  # host segments for a connection that its peer does not have


def slot_of(w: World, tx_row: int) -> int:
    """Where the store keeps the bytes of the reply that waits in a row of `Machine.tx`."""
    return REPLIES_AT + tx_row * w.slot_bytes

"""The state of a crafted iSCSI conversation: both ends, and what is on its way between them."""

from typing import Annotated

from emu.kernel.record import record

MASK = 0xFFFFFFFF
NEVER = 1 << 62
ROOM = 2048  # of a ring at most: more than options.MAX_QUEUE
FLIGHT = 256  # segments on their way to the target: the congestion window, which never changes

# Frames: what the initiator sends, then what the target sends.  They number `Session.shapes`.
SYN, LOGIN_SECURITY, LOGIN_OPERATIONAL, COMMAND, DATA_OUT, NOP_OUT, LOGOUT, FIN, ACK = range(9)
(
    T_SYN_ACK,
    T_LOGIN_SECURITY,
    T_LOGIN_OPERATIONAL,
    T_R2T,
    T_RESPONSE,
    T_NOP_IN,
    T_LOGOUT,
    T_FIN,
    T_ACK,
) = range(9, 18)
SHAPES = 18
CRC_TABLE = 8 * 256
MIDDLE = 18  # of a PDU: a segment that the target can do nothing with yet


@record
class Shape:
    """A kind of frame in the templates: its headers, what of their checksums is constant, and its PDU."""

    head_at: int
    head_bytes: int  # Ethernet, IP, TCP with options
    ip_sum: int  # of the IPv4 header with no length, id and checksum
    pseudo_sum: int  # of the pseudo header without its length
    stamp_at: int  # TSval, from the frame's start; TSecr follows
    pdu_at: int
    pdu_bytes: int  # header, and the text of a login; behind it is room for two digests


@record
class Entry:
    """Something that is to happen, once it is `when_ns` or later."""

    when_ns: int
    what: int
    tag: int  # which write's row, or the target transfer tag of a ping
    end_seq: int  # of a segment
    stamp: int  # its TSval


@record
class Ring:
    """Where a queue of entries begins, and how many there are."""

    head: int
    count: int


@record
class Write:
    """An outstanding write, as both ends know it."""

    number: int
    itt: int
    ttt: int
    offset: int  # sent
    burst_end: int  # may be sent
    data_sn: int
    r2ts: int


@record
class Session:
    """The conversation: what was agreed on, the initiator, the target, the wires."""

    # Agreed on.
    both: int  # frames that the initiator sends are wanted too
    writes: int
    depth: int
    room: int  # of a ring: a power of two, more than the writes outstanding and what else may wait
    write_bytes: int
    immediate_bytes: int
    max_burst_bytes: int
    max_recv_bytes: int
    segment_bytes: int  # TCP payload
    header_digest: int  # bytes of it, once logged in
    data_digest: int
    service_ns: int
    rtt_ns: int
    write_gap_ns: int  # a rate's, and what its division leaves over
    write_gap_over: int
    rate_over: int
    nop_ns: int
    seed: int
    pool_steps: int
    ip_at: int
    tcp_at: int
    ipv6: int
    longest: int  # bytes of a frame
    shapes: Annotated[list[Shape], SHAPES]
    crc: Annotated[list[int], CRC_TABLE]

    # The initiator.
    h_seq: int
    h_next: int  # rcv_nxt
    h_id: int
    h_stamp0: int
    h_recent: int  # the timestamp to echo
    h_unacked: int  # segments
    h_ack_due_ns: int
    h_free_ns: int  # the wire to the target
    h_stat_sn: int  # ExpStatSN
    cmd_sn: int
    itt: int
    issued: int
    completed: int
    slot_ns: int  # no write before
    slot_over: int
    pdu: int  # under way
    pdu_tag: int
    pdu_sent: int
    pdu_size: int
    pdu_data: int  # bytes of data in it
    pdu_pool: int  # where they are
    bursting: int  # 1: the write of pdu_tag sends further Data-Outs
    logged_in: int

    # The target.
    t_seq: int
    t_next: int
    t_id: int
    t_stamp0: int
    t_recent: int
    t_unacked: int
    t_ack_due_ns: int
    t_free_ns: int
    t_stat_sn: int
    exp_cmd_sn: int
    max_cmd_sn: int
    ttt: int
    answered_ns: int  # when the last response was due
    nop_due_ns: int
    nop_waits: int

    clock_ns: int
    start_ns: int
    ended: int

    # The initiator's free tags and what it has to send; what the target has to send; segments in between.
    free: Ring
    work: Ring
    asks: Ring
    answers: Ring
    flight: Ring
    free_rows: Annotated[list[Entry], ROOM]
    work_rows: Annotated[list[Entry], ROOM]
    asks_rows: Annotated[list[Entry], ROOM]
    answers_rows: Annotated[list[Entry], ROOM]
    flight_rows: Annotated[list[Entry], FLIGHT]
    outstanding: Annotated[list[Write], ROOM]

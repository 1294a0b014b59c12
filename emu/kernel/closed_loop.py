"""The field table's second part: what a closed loop adds to the machine, and shares with its peers.

TCP's sending side, frames on their way out, dirty memory, the iSCSI initiator.  A replay leaves all of it empty.
Units as in `machine`: pages of 4096 B, `_ns` nanoseconds, `_bytes`; sequence numbers are 32 bits wide.
"""

from typing import Annotated

from emu.kernel.record import record

MAX_CONNS = 64  # TCP connections whose sending side is played
MAX_SESSIONS = 8  # iSCSI sessions: one block device each; session s speaks through connection s
MAX_TASKS = 128  # commands of one session that wait or are under way
MAX_PDUS = 2_048  # of one stream that are remembered: far more than a send buffer holds
MAX_TX = 4_096  # frames that wait for the NICs to send them
MAX_WRITERS = 16
MAX_AGES = 64  # seconds of age by which dirty pages are told apart
BHS_WORDS = 6  # a PDU's basic header segment: 48 bytes, as big-endian words of 8 (signed)
BHS_BYTES = 48
LATENCY_BUCKETS = 1_024  # 16 to each power of two of microseconds

CONN_CLOSED, CONN_SYN_SENT, CONN_SYN_RCVD, CONN_ESTABLISHED = range(4)
CA_OPEN, CA_RECOVERY, CA_LOSS = range(3)  # the kernel's TCP_CA_*
WAIT_NOTHING, WAIT_SNDBUF, WAIT_MEMORY = range(3)  # what the sending task waits for

# Frames on their way out.
TX_SEGMENT, TX_REPLY = range(2)

# Sessions of the initiator, in the order in which they come up.
(
    SESSION_DOWN,
    SESSION_CONNECTING,
    SESSION_LOGIN_SECURITY,
    SESSION_LOGIN_OPERATIONAL,
    SESSION_FULL_FEATURE,
) = range(5)
TASK_FREE, TASK_QUEUED, TASK_SENDING, TASK_SENT = range(4)


@record
class Pdu:
    """A PDU of a stream, as its sender wrote it: enough to make its bytes again."""

    seq: int  # of its first byte
    word: Annotated[list[int], BHS_WORDS]
    data_bytes: int  # of its data segment, without padding
    pool_at: int  # where the data's bytes stand in the pool


@record
class Stream:
    """The last PDUs that one end has written into a connection; never empty between two of them."""

    pdus: int  # written since the connection was opened; PDU n stands in pdu[n % MAX_PDUS]
    end_seq: int  # behind the last one
    pdu: Annotated[list[Pdu], MAX_PDUS]


@record
class PduReader:
    """Reads PDUs out of the bytes that are in order; `word` and `data_bytes` are those of the one under way."""

    next_seq: int  # the next byte to look at
    has_header: int
    left_bytes: int  # behind the header, still to come: AHS, digests, data, padding
    data_bytes: int
    header_digest: int  # bytes of it behind each header, once logged in
    data_digest: int
    word: Annotated[list[int], BHS_WORDS]


@record
class TcpConn:
    """The sending side of a TCP connection, and when the receiving side acknowledges; of either end.

    The host's own receive state is its socket's (`Sock.rcv_nxt`, queues); a peer keeps `rcv_nxt` here.
    """

    state: int  # CONN_*
    sk: int  # the host's socket, else -1
    dev: int
    saddr: int  # this end's IPv4 address
    sport: int
    daddr: int
    dport: int
    generation: int  # how many times it has been opened
    mss: int  # payload bytes of a full segment
    sndbuf: int  # bytes of truesize that may wait unacknowledged (sk_sndbuf)
    wmem_queued: int
    iss: int
    snd_una: int
    snd_nxt: int
    write_seq: int  # behind the last byte queued
    snd_wnd: int  # bytes
    snd_wscale: int  # by how many bits the peer's window field is to be shifted
    rcv_wscale: int  # and this end's own
    max_window: int
    snd_cwnd: int  # segments
    snd_cwnd_cnt: int
    snd_ssthresh: int
    ca_state: int
    high_seq: int  # snd_nxt when loss was found
    retransmit_seq: int  # the next byte to be sent again while CA_LOSS or CA_RECOVERY; not before snd_una
    dupacks: int
    srtt_ns: int  # 0: not yet measured
    mdev_ns: int
    rto_ns: int
    backoff: int
    rtt_seq: int  # the segment that is timed (Karn), behind its last byte
    rtt_sent_ns: int  # NEVER_NS: none is timed
    rto_due_ns: int  # NEVER_NS: not armed
    probe_due_ns: int  # zero-window probe
    retransmits: int
    timeouts: int
    fast_retransmits: int
    rcv_nxt: int  # peers only
    rcv_wup: int  # the last acknowledgement sent
    rcv_wnd: int  # the last window advertised, bytes
    ack_owed: int  # peers only: segments since the last acknowledgement
    ack_now: int
    delack_due_ns: int
    rcv_mss: int  # the largest segment received, as far as acknowledgements depend on it
    quick: int  # segments still to be acknowledged at once (quickacks)
    sent_ns: int  # when data were last sent
    fin_sent: int
    connect_due_ns: int  # of a download: when its task goes on, NEVER_NS once it has asked
    queue_head: int  # host: the write queue, skbs by sequence number (sk_write_queue)
    queue_tail: int
    send_head: int  # the first skb that was never sent
    wait: int  # WAIT_*
    wait_until_ns: int  # WAIT_MEMORY: when the task tries again
    tx_alloc_failed: int
    bytes_acked: int  # in all
    bytes_received: int  # in all, in order


@record
class TxFrame:
    """A frame that waits for its NIC: a segment of a connection, or a reply whose bytes are kept already."""

    next: int  # the frame behind it, or the next free row
    kind: int  # TX_*
    skb: int  # freed when the NIC has sent it
    conn: int
    seq: int
    ack: int
    window: int  # bytes
    length: int  # payload bytes of a segment; of a reply all its bytes, without FCS
    tcp_flags: int
    reply_at: int  # of a reply: where its bytes stand; -1 until they are made
    reply_next: int  # the next reply whose bytes are to be made
    queued_ns: int


@record
class IscsiTask:
    """A SCSI command of the initiator: a write whose pages are clean once its response has come."""

    state: int  # TASK_*
    itt: int
    block: int  # logical block address
    bytes: int
    normal_pages: int  # under write-back, by zone
    dma_pages: int
    sent_bytes: int
    burst_end: int  # behind the last byte that may be sent now
    ttt: int
    data_sn: int
    r2t_waits: int  # 1: an R2T is to be answered
    queued_ns: int  # when its pages went under write-back
    sent_ns: int  # when its command went into the connection
    next: int  # of the free tasks, of those to be sent, or of those whose R2T waits: a task is in one list at most


@record
class IscsiSession:
    """A block device behind the network, as the initiator has it."""

    # Agreed on, and how it is used: from the scenario.
    used: int
    memalloc: int
    queue_depth: int
    write_bytes: int  # of one command at most
    immediate_bytes: int
    first_burst_bytes: int
    max_burst_bytes: int
    max_recv_bytes: int  # the target's MaxRecvDataSegmentLength
    initial_r2t: int
    nop_interval_ns: int  # 0: never
    nop_timeout_ns: int
    iscsid_needs_memory: int  # 1: login and pings are a task's, which waits for memory like any other
    share: int  # of the flusher's writes, against the other sessions'

    state: int  # SESSION_*
    due_ns: int  # when the session's own next step is due (reconnect), else NEVER_NS
    cmd_sn: int
    exp_stat_sn: int
    max_cmd_sn: int
    itt: int
    block: int  # the next write's
    pool_at: int
    reader: PduReader
    stream: Stream
    pdu_left: int  # bytes of the last PDU of `stream` that the connection has not taken yet
    nop_sent_ns: int  # NEVER_NS: no ping is out
    nop_due_ns: int
    nop_owed: int  # 1: a NOP-In is to be answered
    nop_ttt: int
    login_at: Annotated[list[int], 2]  # the texts of the two login requests in the pool
    login_bytes: Annotated[list[int], 2]
    task: Annotated[list[IscsiTask], MAX_TASKS]
    tasks: int  # not TASK_FREE
    sending: int  # the task whose data are being sent, else -1
    task_free: int  # heads and tails of the lists of tasks; those to be sent are in the order of their blocks
    queued_head: int
    queued_tail: int
    r2t_head: int
    r2t_tail: int
    under_way: int  # tasks whose command has gone into the connection
    congested: int  # 1: the queue was nearly full and has not yet become shorter by enough
    failed: int  # 1: the connection is to be given up (iscsi_conn_failure)
    login_owed: int  # 1: the next login request is to be sent
    nop_owed_ping: int  # 1: a ping of ours is to be sent
    busy_since_ns: int  # when writes began to wait that have not all completed
    write_errors: int  # responses with a status that is not GOOD: those writes are made again
    writes_issued: int
    writes_completed: int
    bytes_completed: int
    completed_ns: int  # of the last one
    longest_gap_ns: int  # between two completions while writes waited
    reinstatements: int


@record
class Writer:
    """A process that writes to files: each page that it writes needs memory and becomes dirty."""

    bytes_per_s: int  # 0: as fast as it may
    start_ns: int  # of virtual time, as `Machine.now_ns`
    stop_ns: int  # NEVER_NS: it goes on
    due_ns: int  # when its rate lets it go on
    credited_ns: int  # up to when its rate has been turned into pages
    owed_over: int  # of that division, byte-nanoseconds
    owed_pages: int  # of its present write(2)
    blocked: int  # BLOCKED_*
    blocked_since_ns: int
    blocked_ns: int  # in all
    pages_written: int


BLOCKED_NOT, BLOCKED_DIRTY, BLOCKED_MEMORY = range(3)


@record
class Vm:
    """Dirty memory and who cleans it; `_ratio` are percent as in /proc/sys/vm."""

    dirty_ratio: int
    dirty_background_ratio: int
    dirty_expire_ns: int
    dirty_writeback_ns: int  # how often kupdate looks; 0: never
    boot_clean_pages: int  # what the page cache holds when play starts
    boot_anonymous_pages: int  # memory that nobody can reclaim, mapped by processes
    unplaced_pages: int  # pages of both that the machine does not have
    total_pages: int  # present pages above pages_high, at boot (mm/page-writeback.c)
    buffer_pages: int  # those of them that are no ZONE_HIGHMEM's
    ratelimit_pages: int  # a writer asks how much is dirty once in so many pages,
    ratelimit: int  # of which so many are gone
    dirty_exceeded: int  # 1: the limit was passed: it asks once in 8 pages
    dirty_pages: int
    writeback_pages: int
    clean_pages: int  # page cache that can be reclaimed
    dirty_limit_pages: int
    background_limit_pages: int
    kupdate_due_ns: int
    age: Annotated[list[int], MAX_AGES]  # dirty pages by the second in which they became so, a ring
    age_dma: Annotated[list[int], MAX_AGES]  # how many of them are in ZONE_DMA
    age_now: int  # which second age[age_now % MAX_AGES] is
    age_oldest: int  # no dirty page is older than this second
    expired_pages: int  # that kupdate has found and that are not yet under write-back
    wanted_pages: int  # that reclaim has asked the flusher to write, ditto
    flush_session: int  # whose turn it is,
    flush_left: int  # for so many commands more
    context_turns: int  # how often tasks have run: who is first takes turns
    kswapd_awake: int
    reclaimed_pages: int  # since play started
    pages_cleaned: int
    pages_dirtied: int
    last_clean_ns: int  # when dirty and write-back pages were last both 0
    writers: int
    writer: Annotated[list[Writer], MAX_WRITERS]


@record
class Sample:
    """How things stood at one moment of a run: what its plots are made of; all counts since play started."""

    time_ns: int  # since play started
    free_pages: int  # of DMA and Normal together
    normal_free_pages: int
    atomic_floor_pages: int  # of ZONE_NORMAL
    pages_min: int  # of ZONE_NORMAL
    pages_low: int
    pages_high: int
    reserve_used: int  # skbs, all devices
    reserve_cap: int  # skbs, all devices; 0 without a cap
    ring_filled: int  # buffers in all rings
    ring_free: int  # descriptors that the NICs may fill
    slab_pages: int
    socket_skbs: int  # in sockets' queues
    dirty_pages: int
    writeback_pages: int
    clean_pages: int
    writes_completed: int
    bytes_completed: int
    rx_frames: int
    memalloc_delivered: int
    memalloc_dropped: int
    other_delivered: int
    other_dropped: int
    rx_missed: int
    pfmemalloc_drops: int
    tx_failed: int  # transmissions that found no memory

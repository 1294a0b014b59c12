"""A host written by hand in front of the world: TCP by `tcp_conn`, a small initiator, and any frame lost at will."""

from typing import Any, NamedTuple

from session_kit import Crafted

from emu.engine.plain import Engine, PlainEngine
from emu.kernel.closed_loop import CONN_CLOSED, CONN_ESTABLISHED, CONN_SYN_SENT, TX_SEGMENT
from emu.kernel.iscsi_pdu import (
    FINAL,
    IMMEDIATE,
    NO_TAG,
    OP_DATA_OUT,
    OP_LOGIN,
    OP_LOGIN_RESPONSE,
    OP_LOGOUT,
    OP_LOGOUT_RESPONSE,
    OP_NOP_IN,
    OP_NOP_OUT,
    OP_R2T,
    OP_SCSI_COMMAND,
    OP_SCSI_RESPONSE,
    first_word,
    high_of,
    low_of,
    opcode_of,
    read_pdu,
    reader_open,
    stream_open,
    stream_write,
    word_of,
)
from emu.kernel.machine import DIR_INBOUND, DIR_OUTBOUND, NEVER_NS, Machine, Packet
from emu.kernel.tcp_conn import (
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
from emu.kernel.tcp_seq import SEQ_MASK, TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN, after, seq_add
from emu.traffic.peer.setup import PeerSetup, ServerSetup, TargetSetup, WireSetup, WorldSetup, build_world
from emu.traffic.peer.state import STORE_MASK, host_base
from emu.traffic.peer.wire import arrival_due_ns, host_frame, take_arrival, world_due_ns, world_run
from emu.wire.dissect import dissect
from emu.wire.headers import CHECKSUMS_VERIFY, CSUM_GOOD

START_NS = 1_000_000_000
ISS = 0xFFFFF000  # wraps soon
WINDOW_BYTES = 43_688
SCALE = 2
LATENCY_NS = 50_000
PEER = PeerSetup(0, "10.0.0.2", 50_000, "10.0.0.1", 3260, 1448)
SERVER = ServerSetup(PeerSetup(0, "10.0.0.2", 50_001, "10.0.0.3", 5001, 1448), 0)
TARGET = TargetSetup(
    peer=PEER,
    queue_depth=8,
    immediate_data=True,
    initial_r2t=True,
    first_burst_bytes=65_536,
    max_burst_bytes=262_144,
    max_recv_bytes=8_192,
    service_ns=200_000,
)
WORLD = WorldSetup(7, START_NS, SCALE, (WireSetup(LATENCY_NS, 10**9),), (), (TARGET,), ())


class Said(NamedTuple):
    """A PDU that the host has read."""

    opcode: int
    word: tuple[int, ...]
    time_ns: int


class Host:
    """One connection of the host: what it queues, what it reads, what it sends when; time passes in `run`.

    `lost` are the frames that get lost, counted from 0 as the host's NIC sees them: sent ones do not arrive, received
    ones are not looked at.
    """

    def __init__(
        self, setup: WorldSetup = WORLD, engine: Engine | None = None, lost: tuple[int, ...] = (), conn: int = 0
    ) -> None:
        """The world, and a host that has not connected yet."""
        self.engine = engine or PlainEngine()
        self.m = self.engine.new(Machine)
        self.w, self.moulds, self.pool, self.store = build_world(self.engine, setup, self.m)
        self.engine.fill(self.m, {"devices": len(setup.wires), "conns": 1, "sessions": len(setup.targets)})
        self.setup, self.c, self.lost = setup, conn, lost
        self.conn, self.session = self.m.conn[conn], self.m.session[0]
        peers = [target.peer for target in setup.targets] + [server.peer for server in setup.servers]
        self.conn.sport = peers[conn].host_port
        self.conn.mss = peers[conn].mss
        self.conn.state = CONN_CLOSED
        self.rows: Any = self.engine.rows(Packet, 1)
        self.octets: Any = self.engine.view(bytearray(4096))
        self.now_ns = START_NS
        self.frames: list[Crafted] = []
        self.said: list[Said] = []
        self.early: dict[int, int] = {}  # ranges out of order: begin to end
        self.window = WINDOW_BYTES
        self._host_frame = self.engine.function(host_frame)
        self._take_arrival = self.engine.function(take_arrival)
        self._arrival_due_ns = self.engine.function(arrival_due_ns)
        self._world_due_ns = self.engine.function(world_due_ns)
        self._world_run = self.engine.function(world_run)
        self._read_pdu = self.engine.function(read_pdu)

    # --- TCP

    def connect(self, port: int | None = None, iss: int = ISS) -> None:
        """Send a SYN."""
        self.conn.sport = port or self.conn.sport
        conn_open(self.conn, iss, self.now_ns)
        self.conn.state = CONN_SYN_SENT
        self.early.clear()
        self._syn()

    def _syn(self) -> None:
        tcp_sent(self.conn, self.conn.iss, seq_add(self.conn.iss, 1), self.now_ns)
        self.emit(self.conn.iss, 0, TCP_SYN)

    def emit(self, seq: int, length: int, tcp_flags: int, ack: int | None = None) -> None:
        """A frame leaves the host."""
        tx = self.m.tx[0]
        tx.kind, tx.conn, tx.seq, tx.length, tx.tcp_flags = TX_SEGMENT, self.c, seq, length, tcp_flags
        tx.ack = ack if ack is not None else (self.conn.rcv_nxt if tcp_flags & TCP_ACK else 0)
        tx.window = self.window
        if tcp_flags & TCP_ACK:
            tcp_ack_sent(self.conn, tx.ack, self.window)
        given = len(self.setup.blackouts)
        blackout = self.w.blackout[given]
        self.engine.fill(blackout, {"dev": 0, "start_ns": self.now_ns, "end_ns": self.now_ns + 1})
        blackout.lane[0], blackout.lane[1] = 0, int(len(self.frames) in self.lost)
        self.engine.fill(self.w, {"blackouts": given + 1})
        row = self.rows[0]
        w, m = self.w, self.m
        args = (w, m, 0, 0, self.moulds, self.pool, self.store, row, self.octets, 0, self.now_ns)
        self._note(self._host_frame(*args), DIR_OUTBOUND)
        self.engine.fill(self.w, {"blackouts": given})

    def _note(self, size: int, direction: int) -> None:
        row = self.rows[0]
        assert row.direction == direction and row.length == row.caplen == size and row.iface == 0
        self.frames.append(Crafted(bytes(self.octets[:size]), int(row.file_time_ns), direction))

    def push(self) -> None:
        """Send what may be sent."""
        conn = self.conn
        while tcp_retransmit_now(conn):
            self._data(conn.retransmit_seq, min(conn.mss, (conn.high_seq - conn.retransmit_seq) & SEQ_MASK))
        while after(conn.write_seq, conn.snd_nxt):
            length = min(conn.mss, (conn.write_seq - conn.snd_nxt) & SEQ_MASK)
            if length > tcp_send_room(conn):
                break
            self._data(conn.snd_nxt, length)

    def _data(self, seq: int, length: int) -> None:
        tcp_sent(self.conn, seq, seq_add(seq, length), self.now_ns)
        self.emit(seq, length, TCP_ACK)

    def receive(self) -> None:
        """Take the frame that has reached the NIC."""
        self.now_ns = max(self.now_ns, int(self._arrival_due_ns(self.w)))
        w, m = self.w, self.m
        size = self._take_arrival(w, m, self.moulds, self.pool, self.store, self.rows[0], self.octets, 0)
        self._note(size, DIR_INBOUND)
        if len(self.frames) - 1 in self.lost:
            return
        p = Packet()
        p.offset, p.caplen, p.length, p.linktype = 0, size, size, 1
        dissect(p, self.frames[-1].octets, CHECKSUMS_VERIFY)
        assert p.ip_csum == p.l4_csum == CSUM_GOOD
        self.segment(p)

    def segment(self, p: Packet) -> None:
        """What a segment does."""
        conn = self.conn
        if p.dport != conn.sport:
            return
        if p.tcp_flags & TCP_RST:
            conn.state = CONN_CLOSED
            conn.rto_due_ns = conn.delack_due_ns = NEVER_NS
            return
        window = int.from_bytes(self.frames[-1].octets[48:50], "big")
        if p.tcp_flags & TCP_SYN and conn.state == CONN_SYN_SENT:
            tcp_acked(conn, p.tcp_ack, window, 0, self.now_ns)
            conn.rcv_nxt = seq_add(p.tcp_seq, 1)
            conn.state = CONN_ESTABLISHED
            self.opened()
        elif p.tcp_flags & TCP_SYN:
            conn.ack_now = 1
        else:
            tcp_acked(conn, p.tcp_ack, window << 7, int(p.payload_length > 0), self.now_ns)
        if p.payload_length:
            self._data_came(p.tcp_seq, seq_add(p.tcp_seq, p.payload_length))
        if p.tcp_flags & TCP_FIN and p.tcp_seq == conn.rcv_nxt:
            conn.rcv_nxt = seq_add(conn.rcv_nxt, 1)
            conn.ack_now = 1
        self.read()
        self.push()
        if conn.ack_now:
            self.emit(conn.snd_nxt, 0, TCP_ACK)

    def _data_came(self, seq: int, end: int) -> None:
        conn = self.conn
        odd = seq != conn.rcv_nxt
        if after(end, conn.rcv_nxt):
            self.early[seq] = max(end, self.early.get(seq, end))
        moved = True
        while moved:
            moved = False
            for begin, stop in sorted(self.early.items()):
                if not after(begin, conn.rcv_nxt):
                    del self.early[begin]
                    if after(stop, conn.rcv_nxt):
                        conn.rcv_nxt, moved = stop, True
        tcp_rcv_data(conn, conn.rcv_nxt, (end - seq) & SEQ_MASK, int(odd), self.now_ns)

    def opened(self) -> None:
        """The connection is up."""
        self.conn.ack_now = 1

    def read(self) -> None:
        """Look at what is in order."""

    def run(self, until_ns: int = 120 * 10**9) -> None:
        """Let time pass until nothing happens any more."""
        end_ns = START_NS + until_ns
        while True:
            arrival, world = int(self._arrival_due_ns(self.w)), int(self._world_due_ns(self.w))
            host = min(int(tcp_timer_due_ns(self.conn)), int(self.conn.delack_due_ns))
            due = min(arrival, world, host)
            if self.done():
                return
            if due > end_ns:
                self.now_ns = max(self.now_ns, end_ns)
                self.engine.fill(self.w, {"now_ns": self.now_ns})
                return
            self.now_ns = max(self.now_ns, due)
            self.engine.fill(self.w, {"now_ns": self.now_ns})
            if world == due:
                self._world_run(self.w, self.m, self.store)
            elif arrival == due:
                self.receive()
            else:
                self.timers()

    def done(self) -> bool:
        """Whether there is nothing left to wait for."""
        return False

    def timers(self) -> None:
        """Retransmit, or acknowledge."""
        if tcp_timer(self.conn, self.now_ns) == TIMER_RETRANSMIT and self.conn.state == CONN_SYN_SENT:
            self._syn()
        elif self.conn.state == CONN_ESTABLISHED:
            self.push()
        if self.conn.delack_due_ns <= self.now_ns:
            self.emit(self.conn.snd_nxt, 0, TCP_ACK)


class Initiator(Host):
    """Logs in, makes `writes` of so many bytes each, pings, logs out and closes."""

    def __init__(self, writes: tuple[int, ...], setup: WorldSetup = WORLD, **more: Any) -> None:
        """Connect."""
        super().__init__(setup, **more)
        self.writes = writes
        self.target = setup.targets[0]
        self.cmd_sn, self.itt, self.stat_sn = 0xFFFFFFFE, 100, 0
        self.sent: dict[int, int] = {}  # by ITT: bytes so far
        self.completed: list[int] = []
        self.answers: list[tuple[int, int]] = []  # status and ITT
        self.logged_out = False
        self.connect()

    def write_pdu(
        self, one: int, two: int, three: int, four: int, five: int, six: int, data: int = 0, pool_at: int = 0
    ) -> None:
        """Into the stream."""
        stream_write(self.session.stream, one, two, three, four, five, six, data, pool_at)
        self.conn.write_seq = self.session.stream.end_seq

    def opened(self) -> None:
        """Say who we are."""
        stream_open(self.session.stream, self.conn.write_seq)
        reader_open(self.session.reader, self.conn.rcv_nxt)
        self.login(0)

    def login(self, stage: int) -> None:
        """A login request."""
        flags = FINAL | stage << 2 | (3 if stage else 1)
        size = int(self.session.login_bytes[stage])
        words = (word_of(0x80000000, 5 << 16), word_of(self.itt, 0), word_of(self.cmd_sn, self.stat_sn), 0, 0)
        word = first_word(OP_LOGIN | IMMEDIATE, flags, size)
        self.write_pdu(word, *words, data=size, pool_at=int(self.session.login_at[stage]))

    def command(self, size: int, flags: int = 0x21, first: int = 0x2A << 24) -> int:
        """A SCSI Command, with what may be sent unasked; returns its ITT."""
        self.itt += 1
        target = self.target
        unasked = min(size, target.first_burst_bytes)
        data = min(unasked, target.max_recv_bytes) if target.immediate_data and size else 0
        more = not target.initial_r2t and data < unasked
        self.write_pdu(
            first_word(OP_SCSI_COMMAND, flags | (0 if more else FINAL), data),
            0,
            word_of(self.itt, size),
            word_of(self.cmd_sn, self.stat_sn),
            word_of(first, 0),
            0,
            data=data,
        )
        self.cmd_sn = seq_add(self.cmd_sn, 1)
        self.sent[self.itt] = data
        if more:
            self.data_out(self.itt, NO_TAG, data, unasked)
        return self.itt

    def data_out(self, itt: int, ttt: int, offset: int, end: int) -> None:
        """A burst."""
        sn = 0
        while offset < end:
            size = min(self.target.max_recv_bytes, end - offset)
            last = FINAL if offset + size == end else 0
            numbers = (word_of(itt, ttt), word_of(0, self.stat_sn), word_of(0, sn), word_of(offset, 0))
            self.write_pdu(first_word(OP_DATA_OUT, last, size), 0, *numbers, data=size)
            offset += size
            sn += 1
        self.sent[itt] = end

    def begin(self) -> None:
        """Logged in."""
        for size in self.writes:
            self.command(size)

    def read(self) -> None:
        """Take what PDUs are whole."""
        while self._read_pdu(self.session.reader, self.store, host_base(0), STORE_MASK, self.conn.rcv_nxt):
            word = tuple(int(each) for each in self.session.reader.word)
            self.said.append(Said(opcode_of(word[0]), word, self.now_ns))
            self.took(self.said[-1])

    def took(self, said: Said) -> None:
        """Act on a PDU."""
        word = said.word
        status = word[0] >> 32 & 0xFF
        if said.opcode == OP_LOGIN_RESPONSE:
            self.stat_sn = seq_add(high_of(word[3]), 1)
            if word[0] >> 48 & 3 == 3:
                self.begin()
            else:
                self.login(1)
        elif said.opcode == OP_R2T:
            six = word[5]
            self.data_out(high_of(word[2]), low_of(word[2]), high_of(six), high_of(six) + low_of(six))
        elif said.opcode == OP_SCSI_RESPONSE:
            self.stat_sn = seq_add(high_of(word[3]), 1)
            self.completed.append(high_of(word[2]))
            self.answers.append((status, high_of(word[2])))
            if len(self.completed) == len(self.writes):
                self.finish()
        elif said.opcode == OP_NOP_IN and high_of(word[2]) == NO_TAG:
            self.write_pdu(first_word(OP_NOP_OUT | IMMEDIATE, FINAL, 0), 0, word_of(NO_TAG, low_of(word[2])), 0, 0, 0)
        elif said.opcode == OP_NOP_IN:
            self.logout()
        elif said.opcode == OP_LOGOUT_RESPONSE:
            self.logged_out = True

    def finish(self) -> None:
        """All writes are done: ping, and then log out."""
        words = (word_of(0x7777, NO_TAG), word_of(self.cmd_sn, self.stat_sn), 0, 0)
        self.write_pdu(first_word(OP_NOP_OUT | IMMEDIATE, FINAL, 0), 0, *words)

    def logout(self) -> None:
        """Say that we go."""
        words = (word_of(0x7778, 0), word_of(self.cmd_sn, self.stat_sn), 0, 0)
        self.write_pdu(first_word(OP_LOGOUT | IMMEDIATE, FINAL, 0), 0, *words)

    def done(self) -> bool:
        """Logged out, and everything is acknowledged."""
        return self.logged_out and self.conn.snd_una == self.conn.snd_nxt

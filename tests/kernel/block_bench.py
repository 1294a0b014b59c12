"""A machine with block I/O, a pipe in place of its TCP, and a target that answers the PDUs which went into the pipe."""

from collections import deque
from collections.abc import Mapping
from typing import Any

import pytest
from machines import HOST, PEER, PLAIN, Setup, plenty, unbooted

from emu.engine.plain import Engine
from emu.kernel import iscsi_login, iscsi_tcp
from emu.kernel.block_io import block_due_ns, block_run
from emu.kernel.boot import boot, start_clock
from emu.kernel.closed_loop import (
    CONN_CLOSED,
    CONN_ESTABLISHED,
    CONN_SYN_SENT,
    MAX_PDUS,
    SESSION_LOGIN_SECURITY,
    WAIT_SNDBUF,
)
from emu.kernel.invariants import (
    HOLDS,
    SENTENCES,
    WRITE_QUEUE_WRONG,
    check_conservation,
    check_structures,
    writeback_wrong,
)
from emu.kernel.iscsi_pdu import (
    FINAL,
    NO_TAG,
    OP_DATA_OUT,
    OP_LOGIN,
    OP_LOGIN_RESPONSE,
    OP_NOP_IN,
    OP_NOP_OUT,
    OP_R2T,
    OP_SCSI_COMMAND,
    OP_SCSI_RESPONSE,
    first_word,
    flags_of,
    high_of,
    low_of,
    opcode_of,
    pdu_bytes,
    put_pdu_bytes,
    word_of,
)
from emu.kernel.machine import NEVER_NS, ZONE_NORMAL
from emu.kernel.seq import seq_add

MS = 1_000_000
SECOND = 1_000_000_000
PAGE = 4096
SESSION = {
    "used": 1,
    "memalloc": 1,
    "queue_depth": 32,
    "write_bytes": PAGE,
    "immediate_bytes": PAGE,
    "first_burst_bytes": 65_536,
    "max_burst_bytes": 262_144,
    "max_recv_bytes": 8_192,
    "initial_r2t": 1,
    "nop_interval_ns": 5 * SECOND,
    "nop_timeout_ns": 5 * SECOND,
    "share": 1,
    "cmd_sn": 100,
    "itt": 0,
}
VM = {
    "dirty_ratio": 40,
    "dirty_background_ratio": 10,
    "dirty_expire_ns": 30 * SECOND,
    "dirty_writeback_ns": 5 * SECOND,
}


class Pipe:
    """TCP that takes what its buffer has room for and never loses anything."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.connects: list[int] = []
        self.aborts = 0
        self.pushes = 0
        self.comes_up = True
        patch.setattr(iscsi_login, "tcp_connect", self.connect)
        patch.setattr(iscsi_login, "tcp_abort", self.abort)
        patch.setattr(iscsi_tcp, "tcp_sendpage", self.sendpage)
        patch.setattr(iscsi_tcp, "tcp_push", self.push)

    def connect(self, m: Any, c: int) -> None:
        conn = m.conn[c]
        conn.generation += 1
        conn.state = CONN_ESTABLISHED if self.comes_up else CONN_SYN_SENT
        conn.write_seq = seq_add(conn.generation * 1_000_000, 1)
        conn.wmem_queued = 0
        conn.sk = c
        self.connects.append(conn.sport)

    def abort(self, m: Any, c: int) -> None:
        m.conn[c].state = CONN_CLOSED
        m.conn[c].sk = -1
        self.aborts += 1

    def sendpage(self, m: Any, c: int, length: int) -> int:
        conn = m.conn[c]
        taken: int = min(length, max(0, conn.sndbuf - conn.wmem_queued))
        conn.wmem_queued += taken
        conn.write_seq = seq_add(conn.write_seq, taken)
        if taken < length:
            conn.wait = WAIT_SNDBUF
        return taken

    def push(self, m: Any, c: int) -> None:
        self.pushes += 1

    def drain(self, m: Any, c: int) -> None:
        """All that was sent is acknowledged."""
        m.conn[c].wmem_queued = 0


class Target:
    """Reads what a session has written, and answers by filling the reader in."""

    def __init__(self, m: Any, s: int, window: int = 64, engine: Engine = PLAIN) -> None:
        self.iscsi_recv = engine.function(iscsi_tcp.iscsi_recv)
        self.m = m
        self.s = s
        self.window = window
        self.answers = True
        self.forget()

    def forget(self) -> None:
        """A new connection."""
        self.read = 0
        self.stat_sn = 1
        self.exp_cmd_sn = 0
        self.generation = self.m.conn[self.s].generation
        self.got: dict[int, int] = {}  # bytes of each command, by its tag
        self.size: dict[int, int] = {}
        self.done: deque[int] = deque()  # tags whose data are all there
        self.seen: list[tuple[Any, ...]] = []

    @property
    def session(self) -> Any:
        return self.m.session[self.s]

    def tell(self, *words: int) -> None:
        """A PDU with this header reaches the initiator."""
        for w, word in enumerate(words):
            self.session.reader.word[w] = word
        self.iscsi_recv(self.m, self.s)

    def numbers(self, takes_stat_sn: bool) -> tuple[int, int]:
        stat = self.stat_sn
        self.stat_sn += takes_stat_sn
        return word_of(stat, self.exp_cmd_sn), word_of(self.exp_cmd_sn + self.window - 1, 0)

    def login_response(self, flags: int, status_class: int = 0) -> None:
        sns, window = self.numbers(True)
        self.tell(first_word(OP_LOGIN_RESPONSE, flags, 0), 0, 0, sns, window | status_class << 24, 0)

    def response(self, itt: int, status: int = 0) -> None:
        """The write with this tag is complete."""
        sns, window = self.numbers(True)
        self.tell(first_word(OP_SCSI_RESPONSE, FINAL, 0) | status << 32, 0, word_of(itt, 0), sns, window, 0)

    def r2t(self, itt: int, begin: int, length: int) -> None:
        sns, window = self.numbers(False)
        self.tell(first_word(OP_R2T, FINAL, 0), 0, word_of(itt, 77), sns, window, word_of(begin, length))

    def nop_in(self, itt: int, ttt: int) -> None:
        sns, window = self.numbers(itt != NO_TAG)
        self.tell(first_word(OP_NOP_IN, FINAL, 0), 0, word_of(itt, ttt), sns, window, 0)

    def more(self, itt: int) -> None:
        """All that a write was allowed to send is there: ask for the next burst, or carry it out."""
        if self.got[itt] == self.size[itt]:
            self.done.append(itt)
        else:
            self.r2t(itt, self.got[itt], min(self.session.max_burst_bytes, self.size[itt] - self.got[itt]))

    def take(self, word: list[int], data: int) -> None:
        """One PDU of the initiator."""
        opcode, final, itt = opcode_of(word[0]), bool(flags_of(word[0]) & FINAL), high_of(word[2])
        self.seen.append((opcode, flags_of(word[0]), itt, data, high_of(word[5])))
        if opcode == OP_LOGIN:
            self.exp_cmd_sn = high_of(word[3])
            self.login_response(flags_of(word[0]))
        elif opcode == OP_SCSI_COMMAND:
            assert high_of(word[3]) == self.exp_cmd_sn, "commands come in order"
            self.exp_cmd_sn = seq_add(self.exp_cmd_sn, 1)
            self.got[itt] = data
            self.size[itt] = low_of(word[2])
            if final:
                self.more(itt)
        elif opcode == OP_DATA_OUT:
            assert high_of(word[5]) == self.got[itt], "data come in order"
            self.got[itt] += data
            if final:
                self.more(itt)
        elif opcode == OP_NOP_OUT and low_of(word[2]) == NO_TAG:
            self.nop_in(itt, NO_TAG)

    def run(self) -> None:
        """Take in every PDU that has gone into the connection whole."""
        if self.session.state < SESSION_LOGIN_SECURITY:
            return  # its stream is still that of the last connection
        if self.generation != self.m.conn[self.s].generation:
            self.forget()
        while self.answers and self.read < self.session.stream.pdus - (self.session.pdu_left > 0):
            pdu = self.session.stream.pdu[self.read % MAX_PDUS]
            self.read += 1
            self.take([int(word) for word in pdu.word], int(pdu.data_bytes))

    def last_bytes(self) -> bytes:
        """The last PDU that the session wrote."""
        stream = self.session.stream
        length = pdu_bytes(stream.pdu[(stream.pdus - 1) % MAX_PDUS].data_bytes)
        octets = bytearray(length)
        put_pdu_bytes(stream, stream.pdus - 1, bytes(range(256)) * 1_100, octets, 0, 0, length)
        return bytes(octets)


class Bench:
    """A machine whose block I/O is played by hand."""

    def __init__(
        self,
        patch: pytest.MonkeyPatch | None,
        sessions: tuple[Mapping[str, int], ...] = ({},),
        writers: tuple[Mapping[str, int], ...] = (),
        vm: Mapping[str, int] | None = None,
        memory_pages: int = 32_768,
        engine: Engine = PLAIN,
    ) -> None:
        """Without a `patch` its TCP is the real one."""
        self.pipe: Any = None if patch is None else Pipe(patch)
        self.block_run = engine.function(block_run)
        self.block_due_ns = engine.function(block_due_ns)
        self.conserved = engine.function(check_conservation)
        self.structures = engine.function(check_structures)
        self.writeback_wrong = engine.function(writeback_wrong)
        m = unbooted(Setup(policy="linux-2.6.12", config=plenty(memory_pages=memory_pages)), engine)
        m.config.closed = 1
        engine.fill(m.vm, VM | dict(vm or {}))
        engine.fill(m, {"sessions": len(sessions), "conns": len(sessions)})
        m.vm.writers = len(writers)
        for w, columns in enumerate(writers):
            engine.fill(m.vm.writer[w], {"stop_ns": NEVER_NS} | dict(columns))
        for s, columns in enumerate(sessions):
            engine.fill(m.session[s], SESSION | dict(columns))
            m.session[s].login_bytes[0] = 12
            m.session[s].login_bytes[1] = 20
            ends = {"saddr": HOST, "daddr": PEER, "sport": 50_000 + 256 * s, "dport": 3_260 + s}
            engine.fill(m.conn[s], {"sndbuf": 65_536, "mss": 1_448, "sk": -1} | ends)
        engine.function(boot)(m)
        engine.function(start_clock)(m, 0)
        self.m = m
        self.target = [Target(m, s, engine=engine) for s in range(len(sessions))]

    def tasks_run(self) -> None:
        """The softirq leaves the CPU, and everything must add up."""
        self.block_run(self.m)
        self.check()

    def check(self) -> None:
        for broken in (self.conserved(self.m), self.structures(self.m)):
            if broken != WRITE_QUEUE_WRONG or self.pipe is None:  # the pipe has no write queue
                assert broken == HOLDS, SENTENCES[broken]
        assert not self.writeback_wrong(self.m)

    def at(self, time_ns: int) -> None:
        """Go to a time, running tasks whenever they want to; nothing comes from outside."""
        while (due_ns := self.block_due_ns(self.m)) <= time_ns:
            self.m.now_ns = max(self.m.now_ns, due_ns)
            self.block_run(self.m)
        self.m.now_ns = time_ns
        self.check()

    def talk(self) -> None:
        """Let initiators and targets talk until neither has anything to say; no write is answered."""
        quiet = 0
        while quiet < 3:  # connecting takes a turn in which nobody writes
            before = [self.m.session[s].stream.pdus for s in range(len(self.target))]
            self.tasks_run()
            for s, target in enumerate(self.target):
                self.pipe.drain(self.m, s)
                target.run()
            same = before == [self.m.session[s].stream.pdus for s in range(len(self.target))]
            quiet = quiet + 1 if same else 0

    def dirty(self, pages: int) -> None:
        """A writer has made so many pages dirty."""
        from emu.kernel.page_writeback import page_dirtied
        from emu.kernel.vmscan import page_cache_alloc

        for _ in range(pages):
            zone = page_cache_alloc(self.m)
            assert zone >= 0
            page_dirtied(self.m, zone)

    def free(self, pages: int) -> None:
        """Others take or give pages of ZONE_NORMAL until so many are free, and all of ZONE_DMA's above its floor."""
        from emu.kernel.page_alloc import set_free_pages

        set_free_pages(self.m, 0, 0, 0)
        set_free_pages(self.m, ZONE_NORMAL, pages, 0)

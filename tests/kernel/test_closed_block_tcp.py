"""The initiator over the host's own TCP, whose peer acknowledges whatever it is sent."""

from typing import Any

from block_bench import MS, PAGE, SECOND, Bench
from machines import PLAIN

from emu.engine.loop import poll_step
from emu.engine.plain import Engine
from emu.kernel.boot import empty_caches
from emu.kernel.closed_loop import CONN_ESTABLISHED, CONN_SYN_SENT, SESSION_FULL_FEATURE, WAIT_MEMORY, WAIT_NOTHING
from emu.kernel.iscsi_tcp import session_gap_ns
from emu.kernel.machine import NONE, ZONE_DMA, ZONE_NORMAL, Event, Packet
from emu.kernel.page_alloc import set_free_pages
from emu.kernel.tcp_conn import tcp_acked
from emu.kernel.tcp_write import tcp_abort, tcp_clean_rtx_queue, tcp_push
from emu.kernel.xmit import tx_begin, tx_complete, tx_ready

SESSIONS = (
    {"write_bytes": PAGE, "queue_depth": 16},
    {"write_bytes": 16 * PAGE, "immediate_bytes": 8_192, "initial_r2t": 0, "share": 2},
)
WRITERS = ({"bytes_per_s": 40_000_000, "stop_ns": 40 * MS}, {"start_ns": 5 * MS, "stop_ns": 6 * MS})


class Wired(Bench):
    """A bench whose NIC sends at once, and whose peers acknowledge at once."""

    def __init__(self, engine: Engine = PLAIN, **of_bench: Any) -> None:
        super().__init__(None, SESSIONS, WRITERS, {"dirty_background_ratio": 0} | of_bench, 8_192, engine)
        self.engine = engine
        self.rows = engine.rows(Packet, 1)
        self.log = engine.rows(Event, 4)

    def sent(self) -> None:
        """The NIC has sent all frames, and what they carry is acknowledged."""
        call = self.engine.function
        while (d := call(tx_ready)(self.m)) != NONE:
            call(tx_begin)(self.m, d, self.m.now_ns)
            call(tx_complete)(self.m, d)
        while self.m.poll_len > 0:  # the softirq takes note of it
            call(poll_step)(self.m, self.rows, self.log, 0)
        for c in range(int(self.m.conns)):
            conn = self.m.conn[c]
            if conn.state == CONN_SYN_SENT:
                conn.state = CONN_ESTABLISHED
                self.m.sk[conn.sk].rcv_nxt = 1_000
                conn.snd_nxt = conn.write_seq
            if conn.state == CONN_ESTABLISHED:
                call(tcp_acked)(conn, int(conn.snd_nxt), 1 << 20, 0, int(self.m.now_ns))
                call(tcp_clean_rtx_queue)(self.m, c)
                call(tcp_push)(self.m, c)

    def play(self, until_ns: int) -> None:
        """A millisecond at a time: tasks, frames, PDUs, and a response to every third write that is there."""
        while self.m.now_ns < until_ns:
            self.at(min(until_ns, int(self.m.now_ns) + MS))
            for _ in range(4):
                self.sent()
            for target in self.target:
                target.run()
                for _ in range((len(target.done) + 2) // 3):
                    target.response(target.done.popleft())
            self.block_run(self.m)  # the softirq that brought them leaves the CPU
        self.check()


def test_all_that_is_written_becomes_clean_over_real_tcp() -> None:
    bench = Wired()
    bench.play(SECOND)
    m = bench.m
    assert m.vm.pages_dirtied > 600
    assert (m.vm.dirty_pages, m.vm.writeback_pages) == (0, 0)
    assert m.vm.pages_cleaned == m.vm.pages_dirtied
    assert sum(m.session[s].bytes_completed for s in range(2)) == m.vm.pages_cleaned * PAGE
    assert sum(m.latency[bucket] for bucket in range(1_024)) == sum(m.session[s].writes_completed for s in range(2))
    assert all(m.conn[s].queue_head == NONE and m.conn[s].wmem_queued == 0 for s in range(2))


def test_without_memory_for_segments_writes_wait_and_go_on_when_there_is_some() -> None:
    bench = Wired()
    m = bench.m
    bench.play(4 * MS)
    bench.dirty(400)
    empty_caches(m)  # or each segment would reuse the memory of one that has been acknowledged
    set_free_pages(m, ZONE_DMA, 0, 0)
    set_free_pages(m, ZONE_NORMAL, 0, 0)
    bench.play(90 * MS)
    assert [m.conn[s].wait for s in range(2)].count(WAIT_MEMORY) > 0
    assert sum(m.conn[s].tx_alloc_failed for s in range(2)) > 0
    assert m.vm.writeback_pages > 100
    set_free_pages(m, ZONE_NORMAL, 1_000, 0)
    bench.play(800 * MS)
    assert (m.vm.dirty_pages, m.vm.writeback_pages) == (0, 0)
    assert [m.conn[s].wait for s in range(2)] == [WAIT_NOTHING] * 2
    assert max(session_gap_ns(m.session[s], m.now_ns) for s in range(2)) > 90 * MS, (
        "a task sleeps 102 ms between two attempts"
    )


def test_a_session_comes_back_over_real_tcp_and_loses_no_write() -> None:
    bench = Wired()
    m = bench.m
    bench.play(20 * MS)
    bench.dirty(300)
    bench.tasks_run()
    assert m.session[0].under_way > 0
    tcp_abort(m, 0)
    bench.play(1_500 * MS)
    assert (m.session[0].reinstatements, m.session[0].state) == (1, SESSION_FULL_FEATURE)
    assert m.conn[0].generation == 2
    assert m.vm.pages_cleaned == m.vm.pages_dirtied > 600

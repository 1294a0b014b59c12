"""Whatever happens in whatever order: pages are conserved, clean only by a response, and limits hold."""

from typing import Any

import pytest
from block_bench import MS, PAGE, SECOND, Bench
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from emu.kernel.block_io import block_due_ns
from emu.kernel.closed_loop import BLOCKED_MEMORY, CONN_CLOSED
from emu.kernel.machine import ZONE_DMA, ZONE_NORMAL
from emu.kernel.page_alloc import move_pages
from emu.kernel.sock import gfp_kernel_would_wait

MEMORY_PAGES = 5_120  # 20 MiB: two zones, and limits that are reached soon
WRITERS: tuple[dict[str, int], ...] = ({}, {"bytes_per_s": 8_000_000})
SESSIONS = (
    {"write_bytes": PAGE, "queue_depth": 4, "share": 2},
    {
        "write_bytes": 16 * PAGE,
        "immediate_bytes": 8_192,
        "initial_r2t": 0,
        "first_burst_bytes": 16_384,
        "max_burst_bytes": 20_480,
        "iscsid_needs_memory": 1,
    },
)


class BlockIo(RuleBasedStateMachine):
    """Writers, reclaim, two devices, their targets, and others who take and give memory."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.bench = Bench(
            self.patch, SESSIONS, WRITERS, {"boot_clean_pages": 400, "dirty_expire_ns": 2 * SECOND}, MEMORY_PAGES
        )
        self.cleaned = 0

    def teardown(self) -> None:
        self.patch.undo()

    @property
    def m(self) -> Any:
        return self.bench.m

    @rule(ms=st.integers(1, 3_000))
    def time_passes(self, ms: int) -> None:
        until_ns = self.m.now_ns + ms * MS
        for _ in range(20_000):
            if block_due_ns(self.m) > until_ns:
                break
            self.m.now_ns = max(self.m.now_ns, block_due_ns(self.m))
            self.tasks_run()
        else:
            raise AssertionError("virtual time stands still")
        self.m.now_ns = until_ns

    @rule(s=st.integers(0, 1))
    def target_hears(self, s: int) -> None:
        self.bench.pipe.drain(self.m, s)
        self.bench.target[s].run()

    @rule(s=st.integers(0, 1), which=st.integers(0, 200), status=st.sampled_from((0, 0, 0, 2)))
    def target_answers(self, s: int, which: int, status: int) -> None:
        target = self.bench.target[s]
        if target.done and target.generation == self.m.conn[s].generation and not self.m.session[s].failed:
            target.done.rotate(which)
            itt = target.done.popleft()
            session = self.m.session[s]
            pages = session.task[itt % 128].bytes // PAGE
            if session.state == 4 and self.m.conn[s].state != CONN_CLOSED:
                target.response(itt, status)
                assert not session.failed
                self.cleaned += 0 if status else pages

    @rule(s=st.integers(0, 1))
    def connection_is_reset(self, s: int) -> None:
        if self.m.conn[s].generation > 0:
            self.m.conn[s].state = CONN_CLOSED

    @rule(pages=st.integers(-900, 900), zone=st.sampled_from((ZONE_DMA, ZONE_NORMAL)))
    def others_take_or_give(self, pages: int, zone: int) -> None:
        move_pages(self.m, zone, max(pages, -self.m.zone[zone].other_pages))

    @rule()
    def tasks_run(self) -> None:
        free = self.m.zone[ZONE_NORMAL].free_pages
        self.bench.tasks_run()
        z = self.m.zone[ZONE_NORMAL]
        assert z.free_pages >= min(free, z.pages_min + 1 - z.pcp_batch), "GFP_KERNEL stops at pages_min"
        if any(self.m.vm.writer[w].blocked == BLOCKED_MEMORY for w in range(2)):
            assert gfp_kernel_would_wait(self.m), "a task waits for memory only while there is none for it"

    @invariant()
    def books_balance(self) -> None:
        self.bench.check()

    @invariant()
    def pages_are_clean_only_by_a_response(self) -> None:
        assert self.m.vm.pages_cleaned == self.cleaned
        assert 400 + self.cleaned == self.m.vm.clean_pages + self.m.vm.reclaimed_pages

    @invariant()
    def every_page_that_was_dirtied_is_somewhere(self) -> None:
        v = self.m.vm
        assert v.pages_dirtied == v.dirty_pages + v.writeback_pages + self.cleaned
        assert v.pages_dirtied == v.writer[0].pages_written + v.writer[1].pages_written

    @invariant()
    def writers_stop_at_the_limit(self) -> None:
        v = self.m.vm
        # One batch over it, and each writer that had not asked yet once in 8 pages.
        assert v.dirty_pages + v.writeback_pages <= v.dirty_limit_pages + v.ratelimit_pages + 8 * len(WRITERS)


TestBlockIo = BlockIo.TestCase
TestBlockIo.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)


@pytest.mark.parametrize("spare", [0, 1, 31, 32, 200])
def test_writers_never_take_what_lies_below_pages_min(monkeypatch: pytest.MonkeyPatch, spare: int) -> None:
    bench = Bench(monkeypatch, (), ({}, {}), {"dirty_ratio": 100})
    m = bench.m
    z = m.zone[ZONE_NORMAL]
    bench.free(z.pages_min + spare)
    bench.at(100 * MS)
    # One grant fills the per-CPU list, so free pages may end a batch below the mark; all of them were granted above it.
    assert z.pages_min - z.pcp_batch < z.free_pages <= z.pages_min
    assert m.vm.pages_dirtied <= spare + z.pcp_batch


def test_two_writers_get_memory_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch, (), ({}, {}), {"dirty_ratio": 100})
    m = bench.m
    z = m.zone[ZONE_NORMAL]
    bench.free(z.pages_min)
    bench.at(10 * MS)
    for _ in range(40):
        bench.free(z.pages_min + 40)
        bench.at(m.now_ns + MS)
    one, two = (m.vm.writer[w].pages_written for w in range(2))
    assert one + two > 1_000
    assert abs(one - two) < 100

"""Dirty memory: its limits, its writers, what kswapd and kupdate do; worked out by hand where numbers stand."""

import pytest
from block_bench import MS, PAGE, SECOND, Bench
from hypothesis import given
from hypothesis import strategies as st

from emu.kernel.block_io import block_due_ns
from emu.kernel.closed_loop import BLOCKED_DIRTY, BLOCKED_MEMORY, BLOCKED_NOT, LATENCY_BUCKETS
from emu.kernel.latency import latency_bucket, latency_of_bucket
from emu.kernel.machine import MM_6X, NEVER_NS, ZONE_DMA, ZONE_NORMAL, Machine
from emu.kernel.page_alloc import atomic_floor
from emu.kernel.page_writeback import get_dirty_limits, page_writeback_init
from emu.kernel.sock import gfp_kernel_would_wait
from emu.kernel.vmscan import page_cache_alloc, try_to_free_pages


@pytest.fixture
def patch(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    return monkeypatch


def zones_of(m: Machine, *zones: tuple[int, int]) -> None:
    """Zones of so many pages, with such a pages_high."""
    m.zones = len(zones)
    for at, (present, high) in enumerate(zones):
        m.zone[at].present_pages = present
        m.zone[at].pages_high = high


@pytest.mark.parametrize(
    ("ratio", "background", "mapped", "limit", "early"),
    [
        (40, 10, 0, 4_000, 1_000),  # of 10 000 pages
        (40, 10, 3_000, 3_500, 1_000),  # half of the 70 % that nobody has mapped
        (40, 10, 9_900, 500, 200),  # never below 5 %, and the background limit below it: 5 // 2 %
        (8, 10, 0, 800, 400),
    ],
)
def test_dirty_limits_are_percent_of_memory_at_boot(
    ratio: int, background: int, mapped: int, limit: int, early: int
) -> None:
    m = Machine()
    zones_of(m, (2_100, 100), (8_200, 200), (0, 0))
    m.vm.dirty_ratio = ratio
    m.vm.dirty_background_ratio = background
    m.vm.boot_anonymous_pages = mapped
    page_writeback_init(m)
    assert (m.vm.total_pages, m.vm.ratelimit_pages) == (10_000, 312)
    assert (m.vm.dirty_limit_pages, m.vm.background_limit_pages) == (limit, early)


def test_ratios_shrink_where_most_memory_is_high() -> None:
    m = Machine()
    zones_of(m, (1_000, 0), (9_000, 0), (70_000, 0))
    m.vm.dirty_ratio = 40
    m.vm.dirty_background_ratio = 10
    page_writeback_init(m)
    # 400 * 10 000 / 80 000 = 50 %: 20 % and 5 % of the 10 000 pages that a device's mapping can use.
    assert (m.vm.dirty_limit_pages, m.vm.background_limit_pages) == (2_000, 500)


def test_limits_of_6x_follow_free_memory_and_the_page_cache() -> None:
    m = Machine()
    m.config.mm = MM_6X
    zones_of(m, (0, 0), (20_000, 200), (0, 0))
    m.zone[ZONE_NORMAL].free_pages = 5_200
    m.zone[ZONE_NORMAL].clean_pages = 5_000
    m.vm.dirty_ratio = 20
    m.vm.dirty_background_ratio = 10
    page_writeback_init(m)
    assert (m.vm.dirty_limit_pages, m.vm.background_limit_pages) == (2_000, 1_000)
    m.zone[ZONE_NORMAL].clean_pages = 0
    get_dirty_limits(m)
    assert (m.vm.dirty_limit_pages, m.vm.background_limit_pages) == (1_000, 500)


@given(st.integers(0, (1 << 63) - 1))
def test_a_latency_falls_into_a_bucket_no_wider_than_a_sixteenth(ns: int) -> None:
    bucket = latency_bucket(ns)
    assert 0 <= bucket < LATENCY_BUCKETS
    low, high = latency_of_bucket(bucket), latency_of_bucket(bucket + 1)
    assert low <= ns < high
    assert high - low <= max(1_000, low // 16)


def test_processes_and_page_cache_have_their_memory_at_boot(patch: pytest.MonkeyPatch) -> None:
    bench = Bench(patch, vm={"boot_anonymous_pages": 20_000, "boot_clean_pages": 5_000})
    m = bench.m
    bench.check()
    assert m.vm.clean_pages == 5_000
    assert m.zone[ZONE_NORMAL].other_pages == 20_000
    assert m.vm.unplaced_pages == 0


def test_what_does_not_fit_at_boot_is_counted(patch: pytest.MonkeyPatch) -> None:
    bench = Bench(patch, vm={"boot_anonymous_pages": 30_000, "boot_clean_pages": 5_000})
    m = bench.m
    # 32 768 pages, of which pages_high stay, and lowmem_reserve of ZONE_DMA: 28 672 / 256.
    kept = m.zone[ZONE_NORMAL].pages_high + m.zone[ZONE_DMA].pages_high + 112
    assert m.vm.unplaced_pages == 35_000 - (32_768 - kept)
    bench.check()


@pytest.mark.parametrize(("rate", "pages"), [(20_000_000, 4_882), (4_096, 1), (1_000, 0), (4_096_000, 1_000)])
def test_a_writer_writes_at_its_rate(patch: pytest.MonkeyPatch, rate: int, pages: int) -> None:
    bench = Bench(patch, sessions=(), writers=({"bytes_per_s": rate},))
    bench.at(SECOND)
    assert bench.m.vm.writer[0].pages_written == pages
    assert bench.m.vm.dirty_pages == pages


def test_a_writer_begins_and_ends_when_it_is_said(patch: pytest.MonkeyPatch) -> None:
    times = {"start_ns": SECOND, "stop_ns": 2 * SECOND}
    bench = Bench(patch, sessions=(), writers=({"bytes_per_s": 4_096_000} | times,))
    bench.at(SECOND)
    assert bench.m.vm.pages_dirtied == 0
    bench.at(10 * SECOND)
    assert bench.m.vm.pages_dirtied == 1_000
    assert bench.m.vm.writer[0].due_ns == NEVER_NS


def test_a_writer_without_a_rate_stops_at_the_dirty_limit(patch: pytest.MonkeyPatch) -> None:
    bench = Bench(patch, sessions=(), writers=({}, {}))
    m = bench.m
    bench.at(SECOND)
    assert [m.vm.writer[w].blocked for w in range(2)] == [BLOCKED_DIRTY] * 2
    # The first batch that ends above the limit ends it; then the other asks after 8 pages.
    assert m.vm.dirty_limit_pages < m.vm.dirty_pages <= m.vm.dirty_limit_pages + m.vm.ratelimit_pages + 8
    assert block_due_ns(m) > SECOND, "nobody wakes them but a write that completes"


def test_writers_take_memory_down_to_pages_min_and_wait(patch: pytest.MonkeyPatch) -> None:
    bench = Bench(patch, sessions=(), writers=({},), vm={"dirty_ratio": 100})
    m = bench.m
    bench.free(1_000)
    bench.at(SECOND)
    assert m.vm.writer[0].blocked == BLOCKED_MEMORY
    z = m.zone[ZONE_NORMAL]
    assert z.pages_min - z.pcp_batch < z.free_pages <= z.pages_min
    assert z.free_pages > atomic_floor(m, ZONE_NORMAL)
    assert gfp_kernel_would_wait(m)
    bench.free(z.free_pages + 100)
    assert block_due_ns(m) == m.now_ns, "memory has appeared"
    bench.at(SECOND + 10 * MS)
    assert m.vm.writer[0].blocked == BLOCKED_MEMORY
    assert m.vm.writer[0].blocked_ns > 0


def test_kswapd_wakes_below_pages_low_and_reclaims_to_above_pages_high(patch: pytest.MonkeyPatch) -> None:
    bench = Bench(patch, sessions=(), vm={"boot_clean_pages": 5_000})
    m = bench.m
    z = m.zone[ZONE_NORMAL]
    bench.free(z.pages_low + 1)
    bench.dirty(1)
    bench.tasks_run()
    assert (m.vm.kswapd_awake, m.vm.clean_pages) == (0, 5_000)
    bench.free(z.pages_low)
    z.pcp_count, z.other_pages = 0, z.other_pages + z.pcp_count
    bench.dirty(1)
    bench.tasks_run()
    assert z.free_pages == z.pages_high + 1
    assert m.vm.clean_pages < 5_000
    assert m.vm.reclaimed_pages == 5_000 - m.vm.clean_pages


def test_kswapd_that_finds_nothing_clean_has_dirty_pages_written(patch: pytest.MonkeyPatch) -> None:
    bench = Bench(patch, vm={"dirty_background_ratio": 39})
    m = bench.m
    bench.dirty(500)
    bench.tasks_run()
    assert m.vm.writeback_pages == 0
    bench.free(m.zone[ZONE_NORMAL].pages_low)
    bench.dirty(40)
    bench.tasks_run()
    assert m.vm.kswapd_awake
    assert m.vm.writeback_pages > 100
    assert m.vm.dirty_pages + m.vm.writeback_pages == 540


def test_direct_reclaim_frees_32_clean_pages_and_never_dirty_ones(patch: pytest.MonkeyPatch) -> None:
    bench = Bench(patch, sessions=(), vm={"boot_clean_pages": 40})
    m = bench.m
    bench.dirty(10)
    assert try_to_free_pages(m) == 32
    assert try_to_free_pages(m) == 8
    assert m.vm.wanted_pages == 10, "the flusher is asked for what was missing"
    assert try_to_free_pages(m) == 0
    assert m.vm.dirty_pages == 10
    bench.check()


def test_a_task_reclaims_while_that_helps(patch: pytest.MonkeyPatch) -> None:
    bench = Bench(patch, sessions=(), vm={"boot_clean_pages": 300})
    m = bench.m
    z = m.zone[ZONE_NORMAL]
    bench.free(z.pages_min - 100)
    assert not gfp_kernel_would_wait(m)
    assert page_cache_alloc(m) == ZONE_NORMAL
    z.other_pages += 1
    assert m.vm.clean_pages == 300 - 4 * 32
    bench.free(z.pages_min - 300)
    assert gfp_kernel_would_wait(m)


def test_kupdate_writes_what_has_been_dirty_for_thirty_seconds(patch: pytest.MonkeyPatch) -> None:
    bench = Bench(patch, sessions=({"queue_depth": 0},))
    m = bench.m
    bench.at(2 * SECOND + SECOND // 2)
    bench.dirty(10)
    bench.at(7 * SECOND)
    bench.dirty(20)
    bench.at(34 * SECOND)
    assert m.vm.writeback_pages == 0
    bench.at(35 * SECOND)  # the next look: pages of second 2 are 32 s old at the least
    assert (m.vm.writeback_pages, m.vm.dirty_pages) == (10, 20)
    bench.at(40 * SECOND)
    assert (m.vm.writeback_pages, m.vm.dirty_pages) == (30, 0)


def test_pages_older_than_a_minute_are_still_counted(patch: pytest.MonkeyPatch) -> None:
    bench = Bench(patch, sessions=(), vm={"dirty_writeback_ns": 0})
    bench.dirty(7)
    for second in (30, 63, 64, 65, 200):
        bench.m.now_ns = second * SECOND
        bench.tasks_run()
        bench.dirty(1)
    assert bench.m.vm.dirty_pages == 12
    bench.check()


def test_the_flusher_shares_writes_out(patch: pytest.MonkeyPatch) -> None:
    bench = Bench(patch, sessions=({"share": 3}, {"share": 1}), vm={"dirty_background_ratio": 0})
    bench.dirty(40)
    bench.tasks_run()
    assert [bench.m.session[s].tasks for s in range(2)] == [30, 10]


def test_a_congested_queue_leaves_the_rest_dirty(patch: pytest.MonkeyPatch) -> None:
    bench = Bench(patch, vm={"dirty_background_ratio": 0})
    bench.pipe.comes_up = False
    bench.dirty(1_000)
    bench.tasks_run()
    m = bench.m
    # 7/8 of 128 requests and one: blk_queue_congestion_threshold
    assert (m.session[0].tasks, m.vm.writeback_pages, m.vm.dirty_pages) == (113, 113, 887)
    assert block_due_ns(m) > m.now_ns


def test_writes_are_as_large_as_their_device_takes(patch: pytest.MonkeyPatch) -> None:
    bench = Bench(patch, sessions=({"write_bytes": 16 * PAGE},), vm={"dirty_background_ratio": 0})
    bench.dirty(40)
    bench.tasks_run()
    m = bench.m
    assert sorted(m.session[0].task[i].bytes // PAGE for i in range(3)) == [8, 16, 16]
    blocks = [m.session[0].task[i].block for i in range(3)]
    assert blocks == [0, 128, 256]


def test_nothing_of_it_happens_in_a_replay() -> None:
    from machines import Setup, booted, plenty

    m = booted(Setup(policy="linux-2.6.12", config=plenty()))
    assert (m.vm.context_turns, m.vm.total_pages, m.vm.kswapd_awake) == (0, 0, 0)
    assert m.vm.writer[0].blocked == BLOCKED_NOT

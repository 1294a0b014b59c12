"""What a run came to, from a machine whose fields are set by hand."""

from typing import Any

import pytest

from emu.engine.plain import PlainEngine
from emu.kernel import lockup_chain
from emu.kernel.closed_loop import (
    BLOCKED_DIRTY,
    BLOCKED_MEMORY,
    CONN_ESTABLISHED,
    SESSION_FULL_FEATURE,
    WAIT_MEMORY,
)
from emu.kernel.latency import latency_bucket
from emu.kernel.lockup_chain import (
    ACTOR_PING,
    ACTOR_READER,
    ACTOR_READERS,
    ACTOR_REFILL,
    WHY_HOLDS,
    WHY_TOO_LITTLE,
    chain_of_waits,
    link_holding,
)
from emu.kernel.machine import NEVER_NS, NONE, Machine
from emu.verdicts.outcome import (
    ACTOR_NAMES,
    OUTCOMES,
    RULES,
    WHY_SENTENCES,
    Names,
    mb_per_s,
    next_deadline,
    outcome_of,
    outcome_rules,
    percentile_ns,
)

START_NS = 1_000_000_000
SECOND = 1_000_000_000
MS = 1_000_000


def machine() -> Any:
    """A machine on which no timer runs, one second after play started, with one session that has written 10 MB."""
    m = PlainEngine().new(Machine)
    m.now_ns = START_NS + SECOND
    m.vm.last_clean_ns = START_NS
    m.devices = 1
    m.sessions = m.conns = 1
    for which in range(4):
        m.frag_head[which] = NONE
    m.reap_ns = m.reader_tick_ns = m.dev[0].watchdog_ns = m.vm.kupdate_due_ns = NEVER_NS
    session, conn = m.session[0], m.conn[0]
    session.used = 1
    session.state = SESSION_FULL_FEATURE
    session.due_ns = session.nop_due_ns = session.nop_sent_ns = NEVER_NS
    session.bytes_completed = 10_000_000
    session.writes_issued, session.writes_completed = 5, 4
    conn.state = CONN_ESTABLISHED
    conn.queue_head = conn.sk = NONE
    conn.rto_due_ns = conn.probe_due_ns = conn.wait_until_ns = NEVER_NS
    return m


def columns(**given: list[int]) -> dict[str, list[int]]:
    """Samples 10 ms apart; what is not given is 0."""
    count = max((len(values) for values in given.values()), default=0)
    names = ("dirty_pages", "writeback_pages", "reserve_used", "reserve_cap")
    zeros = {name: [0] * count for name in names}
    return {"time_ns": [at * 10 * MS for at in range(count)]} | zeros | given


def judged(m: Any, **more: Any) -> dict[str, Any]:
    """Its outcome after a second."""
    samples = more.pop("samples", columns())
    return outcome_of(m, None, samples, start_ns=START_NS, elapsed_ns=SECOND, **more)


def test_a_run_without_trouble_is_progress() -> None:
    """10 MB in a second, and nothing that a rule finds."""
    found = judged(machine(), baseline_mb_per_s=20.0)
    assert (found["outcome"], found["because"], found["lockup"], found["next_deadline"]) == ("progress", [], None, None)
    assert (found["block_io"]["mb_per_s"], found["block_io"]["share_of_baseline"]) == (10.0, 0.5)


@pytest.mark.parametrize(
    ("rule", "baseline", "gap_ms", "lost"),
    [("slow", 20.01, 0, 0), ("stalled", None, 1000, 0), ("critical packets lost", None, 0, 1)],
)
def test_each_rule_alone_makes_it_degraded(rule: str, baseline: float | None, gap_ms: int, lost: int) -> None:
    """Just over each limit; the sentence of the rule says why."""
    m = machine()
    m.session[0].longest_gap_ns = gap_ms * MS
    m.total.memalloc.dropped = lost
    found = judged(m, baseline_mb_per_s=baseline)
    assert found["outcome"] == "degraded"
    assert found["because"] == [each.sentence for each in RULES if each.name == rule]
    m.session[0].longest_gap_ns = max(0, gap_ms * MS - 1000)
    m.total.memalloc.dropped = 0
    assert judged(m, baseline_mb_per_s=20.0)["outcome"] == "progress"


def test_oops_goes_before_lockup_and_lockup_before_degraded() -> None:
    """The order of the table of outcomes."""
    m = machine()
    m.total.memalloc.dropped = 1
    m.lockup.locked = 1
    assert judged(m)["outcome"] == "LOCKUP"
    assert judged(m)["because"] == []
    m.oops = 5
    found = judged(m)
    assert (found["outcome"], found["lockup"]) == ("oops", None)
    assert [word for word, _ in OUTCOMES] == ["oops", "LOCKUP", "degraded", "progress"]


def test_a_lockup_is_told_with_time_frame_and_chain() -> None:
    """Times count from the start of play; a device has its name where it is known."""
    m = machine()
    m.lockup.locked = 1
    m.lockup.found_ns = START_NS + 3 * SECOND
    m.last_page_ns = START_NS + 2 * SECOND
    m.last_page_frame = 77
    m.conns = 2
    link_holding(m, ACTOR_REFILL, 0, ACTOR_READERS, WHY_HOLDS, 3, 4)
    link_holding(m, ACTOR_READER, 1, ACTOR_READERS, WHY_HOLDS, 1, 1)
    link_holding(m, ACTOR_PING, 0, ACTOR_READERS, WHY_TOO_LITTLE, 0, 2)
    m.lockup.link[2].due_ns = START_NS + 15 * SECOND
    told = judged(m, device_names=["eth0"])["lockup"]
    assert (told["time_ns"], told["frame"], told["last_page_ns"]) == (3 * SECOND, 77, 2 * SECOND)
    readers = "the readers of other sockets, which need memory"
    assert told["chain"] == [
        {
            "actor": "the refill of eth0's ring",
            "waits_for": readers,
            "why": "3 skbs (4 pages) would have to come back for one buffer more",
        },
        {
            "actor": "the reader of download 0",
            "waits_for": readers,
            "why": "1 skb (1 page) would have to come back for one buffer more",
        },
        {
            "actor": "the ping timer of session 0 (due at 15.000 s)",
            "waits_for": readers,
            "why": "it frees 2 pages: too little for a buffer that the NIC is shown",
        },
    ]
    m.last_page_ns = 0
    assert judged(m)["lockup"]["last_page_ns"] is None


def test_every_actor_and_every_reason_has_a_sentence() -> None:
    """None is forgotten, and no sentence asks for a number that a link does not have."""
    values = vars(lockup_chain)
    actors = {value for name, value in values.items() if name.startswith("ACTOR_")}
    reasons = {value for name, value in values.items() if name.startswith("WHY_")}
    assert set(ACTOR_NAMES) == actors == set(range(len(actors)))
    assert set(WHY_SENTENCES) == reasons == set(range(len(reasons)))
    m = machine()
    for actor in actors:
        for why in reasons:
            m.lockup.links = 0
            link_holding(m, actor, 0, actor, why, 2, 3)
            m.lockup.locked = 1
            (one,) = judged(m)["lockup"]["chain"]
            assert "{" not in "".join(one.values())


def test_a_chain_that_is_too_long_ends_and_does_not_overrun() -> None:
    """More links than the table has: the last one is the latest."""
    m = machine()
    for at in range(300):
        link_holding(m, ACTOR_REFILL, at, ACTOR_READERS, WHY_HOLDS, at, 0)
    assert (m.lockup.links, m.lockup.link[127].number) == (128, 299)
    chain_of_waits(m)
    assert 0 < m.lockup.links < 10


def test_the_present_stall_counts() -> None:
    """Writes have waited for 600 ms, longer than ever between two completions."""
    m = machine()
    session = m.session[0]
    session.longest_gap_ns = 200 * MS
    session.completed_ns = START_NS + 100 * MS
    session.busy_since_ns = START_NS + 400 * MS
    assert judged(m)["block_io"]["longest_stall_ms"] == 200.0
    session.tasks = 1
    assert judged(m)["block_io"]["longest_stall_ms"] == 600.0


def test_latency_percentiles_are_those_of_the_nearest_rank() -> None:
    """Of 200 writes the 100th and the 198th, and the longest to the nanosecond."""
    m = machine()
    assert judged(m)["block_io"]["latency_us"] == {"p50": None, "p99": None, "max": None}
    for ns, writes in ((300_000, 100), (8_000_000, 98), (64_000_000, 2)):
        m.latency[latency_bucket(ns)] += writes
    m.latency_max_ns = 65_000_123
    assert judged(m)["block_io"]["latency_us"] == {"p50": 288.0, "p99": 7936.0, "max": 65_000.123}
    counts = [1, 0, 1, 1]
    assert [percentile_ns(counts, percent) for percent in (1, 33, 34, 67, 100)] == [0, 0, 2_000, 3_000, 3_000]


@pytest.mark.parametrize(
    ("dirty", "writeback", "last_clean_ns", "after"),
    [(0, 0, 0, 0.0), (0, 0, 2_500_000, 2.5), (1, 0, 2_500_000, None), (0, 1, 2_500_000, None)],
)
def test_when_the_memory_became_clean_for_good(
    dirty: int, writeback: int, last_clean_ns: int, after: float | None
) -> None:
    """Not while pages are dirty or under write-back at the end."""
    m = machine()
    m.vm.dirty_pages, m.vm.writeback_pages = dirty, writeback
    m.vm.last_clean_ns = START_NS + last_clean_ns
    assert judged(m)["block_io"]["clean_after_ms"] == after


def test_the_depth_of_the_reserve_over_time() -> None:
    """0 for 10 ms, 4 for 10 ms, the cap of 6 for 20 ms: 16 / 4 on average."""
    samples = columns(reserve_used=[0, 4, 6, 6, 2], reserve_cap=[6] * 5)
    assert judged(machine(), samples=samples)["reserve"] == {
        "cap_skbs": 6,
        "used_max_skbs": 6,
        "used_mean_skbs": 4.0,
        "used_last_skbs": 2,
        "at_cap_ms": 20.0,
    }
    assert judged(machine())["reserve"]["used_mean_skbs"] == 0.0


def test_the_next_deadline_is_the_earliest_that_is_to_come() -> None:
    """Timers that never fire and those that are past say nothing; iscsid's stand still without memory."""
    m = machine()
    names = Names(1, ("eth0",), START_NS)
    assert next_deadline(m, names) is None
    m.dev[0].up = 1
    m.dev[0].watchdog_ns = START_NS + 2 * SECOND
    assert next_deadline(m, names) == {"what": "the watchdog of eth0 refills its ring", "time_ns": 2 * SECOND}
    m.conn[0].rto_due_ns = START_NS + SECOND + 200 * MS
    assert next_deadline(m, names) == {"what": "the retransmission timer of session 0", "time_ns": 1200 * MS}
    m.conn[0].wait = WAIT_MEMORY
    m.conn[0].wait_until_ns = START_NS + SECOND + 102 * MS
    assert next_deadline(m, names) == {"what": "session 0 asks for memory to send again", "time_ns": 1102 * MS}
    m.conn[0].wait_until_ns = m.now_ns - 1
    m.session[0].nop_due_ns = m.now_ns + 1
    assert next_deadline(m, names) == {"what": "session 0 sends a ping", "time_ns": SECOND + 1}
    m.session[0].nop_sent_ns = m.now_ns
    m.session[0].nop_timeout_ns = 7
    assert next_deadline(m, names) == {"what": "the ping of session 0 times out", "time_ns": SECOND + 7}
    m.session[0].iscsid_needs_memory = 1
    assert next_deadline(m, names) == {"what": "the retransmission timer of session 0", "time_ns": 1200 * MS}


def test_a_degraded_run_says_what_is_due_only_while_block_io_is_unfinished() -> None:
    """A finished run waits for nothing."""
    m = machine()
    m.total.memalloc.dropped = 1
    m.conn[0].rto_due_ns = m.now_ns + 1
    assert judged(m)["next_deadline"] is None
    m.session[0].tasks = 1
    m.session[0].completed_ns = m.now_ns
    assert judged(m)["next_deadline"] == {"what": "the retransmission timer of session 0", "time_ns": SECOND + 1}


def test_a_rate_is_rounded_down_to_thousandths() -> None:
    """No time, no rate."""
    assert mb_per_s(1_234_567, 1_000_000_000) == 1.234
    assert mb_per_s(1, 0) == 0.0


def test_the_tables_for_the_docs_name_every_outcome_and_rule() -> None:
    """They are what decides: one row each."""
    text = "\n".join(outcome_rules())
    assert all(f"| `{word}` |" in text for word, _ in OUTCOMES)
    assert all(f"| {rule.name} | {rule.sentence} |" in text for rule in RULES)
    assert text.count("\n") + 1 == len(OUTCOMES) + len(RULES) + 5


def test_a_stall_that_lasts_for_ever_counts_to_the_end_that_was_asked_for() -> None:
    """The loop stopped at the lockup, one second after play started; ten were asked for, and the last write completed
    after 0.4 s: 9.6 s without one, and 10 MB in ten seconds."""
    m = machine()
    m.lockup.locked = 1
    m.session[0].tasks = 1
    m.session[0].completed_ns = m.session[0].busy_since_ns = START_NS + 400 * MS
    found = outcome_of(m, None, columns(), start_ns=START_NS, elapsed_ns=10 * SECOND, baseline_mb_per_s=20.0)[
        "block_io"
    ]
    assert (found["longest_stall_ms"], found["mb_per_s"], found["share_of_baseline"]) == (9600.0, 1.0, 0.05)


def starving() -> Any:
    """A machine with nothing to write and no page above pages_min, whose one writer waits for memory."""
    m = machine()
    m.zones = 1
    m.zone[0].present_pages, m.zone[0].pages_min, m.zone[0].free_pages = 1000, 20, 20
    m.vm.writers = 1
    m.vm.writer[0].blocked = BLOCKED_MEMORY
    return m


def test_writers_that_wait_for_memory_in_sockets_are_degraded() -> None:
    found = judged(starving())
    assert found["outcome"] == "degraded"
    assert ["kills a task" in reason for reason in found["because"]] == [True]


@pytest.mark.parametrize("helped", ["dirty pages to clean", "a free page", "writers wait for the disk"])
def test_writers_are_not_starved_while_something_may_come(helped: str) -> None:
    m = starving()
    if helped == "dirty pages to clean":
        m.zone[0].dirty_pages = 1
    elif helped == "a free page":
        m.zone[0].free_pages = 500
    else:
        m.vm.writer[0].blocked = BLOCKED_DIRTY
    assert judged(m)["outcome"] == "progress"

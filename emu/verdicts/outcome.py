"""What a run of the closed loop came to: progress, degraded, LOCKUP or oops, with the figures that decided it.

LOCKUP is the kernel's own finding (`kernel.lockup`); `RULES` says what degraded means.  Times are of the virtual clock
since play started.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from emu.kernel.closed_loop import (
    BLOCKED_MEMORY,
    CONN_CLOSED,
    LATENCY_BUCKETS,
    SESSION_DOWN,
    SESSION_FULL_FEATURE,
    WAIT_MEMORY,
)
from emu.kernel.ip_fragment import frag_timer_ns
from emu.kernel.iscsi_tcp import session_gap_ns
from emu.kernel.latency import latency_of_bucket
from emu.kernel.lockup import block_io_unfinished
from emu.kernel.lockup_chain import (
    ACTOR_BACKGROUND,
    ACTOR_FLUSHER,
    ACTOR_KSWAPD,
    ACTOR_NEVER,
    ACTOR_NOBODY,
    ACTOR_OTHERS,
    ACTOR_PING,
    ACTOR_READER,
    ACTOR_READERS,
    ACTOR_REAP,
    ACTOR_REFILL,
    ACTOR_SESSION,
    ACTOR_TX,
    ACTOR_WRITER,
    WHY_ACK,
    WHY_CACHED,
    WHY_CAP,
    WHY_COMMANDS,
    WHY_DIRTY_LIMIT,
    WHY_DOWN,
    WHY_HOLDS,
    WHY_NEVER,
    WHY_NO_PAGE,
    WHY_NO_TX_MEMORY,
    WHY_NOTHING_CLEAN,
    WHY_RESPONSE,
    WHY_SESSION_DOWN,
    WHY_TOO_LITTLE,
)
from emu.kernel.machine import NEVER_NS
from emu.kernel.sock import gfp_kernel_would_wait
from emu.kernel.timeline import plan_due_ns

NS_PER_MS = 1_000_000
NS_PER_US = 1_000
STALL_MS = 1_000.0  # from here a stall is one that people notice
LEAST_SHARE = 0.5  # of what the same run does without floods and downloads

PROGRESS, DEGRADED, LOCKUP, OOPS = "progress", "degraded", "LOCKUP", "oops"
OUTCOMES = (
    (OOPS, "the kernel died of one of the patch's own bugs"),
    (LOCKUP, "block I/O is unfinished and can never go on: no timer and no packet frees what it waits for"),
    (DEGRADED, "none of these, and one of the rules below holds"),
    (PROGRESS, "none of these"),
)

ACTOR_NAMES = {
    ACTOR_WRITER: "writer {number}",
    ACTOR_KSWAPD: "kswapd",
    ACTOR_FLUSHER: "the flusher",
    ACTOR_SESSION: "session {number}",
    ACTOR_TX: "the sending task of {connection}",
    ACTOR_REFILL: "the refill of {device}'s ring",
    ACTOR_READER: "the reader of {connection}",
    ACTOR_READERS: "the readers of other sockets, which need memory",
    ACTOR_NEVER: "the owners of sockets that are never read",
    ACTOR_BACKGROUND: "sockets outside the run",
    ACTOR_OTHERS: "anonymous memory and whatever else is never given back",
    ACTOR_PING: "the ping timer of session {number}{due}",
    ACTOR_REAP: "cache_reap{due}",
    ACTOR_NOBODY: "nobody",
}
WHY_SENTENCES = {
    WHY_DIRTY_LIMIT: "{pages} are dirty or under write-back, which is more than may be",
    WHY_NO_PAGE: "GFP_KERNEL gets no page at pages_min, and {pages} are dirty or under write-back",
    WHY_NOTHING_CLEAN: "no clean page is left to reclaim; {pages} are dirty or under write-back",
    WHY_COMMANDS: "{pages} become clean only with the responses to its commands",
    WHY_SESSION_DOWN: "it is not logged in, and {pages} are under write-back in it",
    WHY_RESPONSE: "the responses to {skbs_of_commands} can come only into a receive buffer",
    WHY_ACK: "its send buffer is full ({skbs}) until an ACK is received",
    WHY_NO_TX_MEMORY: "it found no memory for a segment; {skbs} wait for an ACK",
    WHY_HOLDS: "{held} would have to come back for one buffer more",
    WHY_CAP: "all {skbs} of the device's share of the reserve are out, and only checked packets give them back",
    WHY_CACHED: "{pages} of page cache are dirty or under write-back",
    WHY_NEVER: "nobody ever reads them",
    WHY_TOO_LITTLE: "it frees {held}: too little for a buffer that the NIC is shown",
    WHY_DOWN: "the interface is down",
}


class Facts(NamedTuple):
    """What the rules look at; `share_of_baseline` is None where there is nothing to compare with."""

    longest_stall_ms: float
    share_of_baseline: float | None
    critical_lost: int
    starved: bool


class Rule(NamedTuple):
    """One rule that makes a run `degraded`."""

    name: str
    sentence: str
    holds: Callable[[Facts], bool]


RULES = (
    Rule(
        "slow",
        f"block I/O did less than {LEAST_SHARE:.0%} of what the same run does without floods and downloads",
        lambda facts: facts.share_of_baseline is not None and facts.share_of_baseline < LEAST_SHARE,
    ),
    Rule(
        "stalled",
        f"no write completed for {STALL_MS:g} ms or longer while writes waited",
        lambda facts: facts.longest_stall_ms >= STALL_MS,
    ),
    Rule(
        "critical packets lost",
        "packets of block I/O were dropped, or found no receive buffer",
        lambda facts: facts.critical_lost > 0,
    ),
    Rule(
        "starved",
        "nothing is left to be written, and writers wait for memory that is in sockets: a real kernel kills a task",
        lambda facts: facts.starved,
    ),
)


def outcome_rules() -> list[str]:
    """The outcomes and the rules as two Markdown tables, line by line."""
    first = ["| outcome | means |", "|---|---|", *(f"| `{word}` | {means} |" for word, means in OUTCOMES)]
    second = ["| degraded | when |", "|---|---|", *(f"| {rule.name} | {rule.sentence} |" for rule in RULES)]
    return [*first, "", *second]


def outcome_of(
    m: Any,
    w: Any,
    samples: Mapping[str, Sequence[int]],
    *,
    start_ns: int,
    elapsed_ns: int,
    baseline_mb_per_s: float | None = None,
    device_names: Sequence[str] = (),
) -> dict[str, Any]:
    """What a run came to, as part of its summary; the keys do not depend on the outcome.

    `w` is the world outside (None: not asked), `samples` the columns of `closed_loop.Sample`, `start_ns` when play
    started on the machine's clock, `elapsed_ns` how long since then rates and stalls are counted (for a machine that is
    stuck for ever, to the end that was asked for), `baseline_mb_per_s` what the same run does without floods and
    downloads.  The lockup is the one that the loop has found: nothing is looked for here.
    """
    block = block_io(m, w, start_ns, elapsed_ns, baseline_mb_per_s)
    facts = Facts(block["longest_stall_ms"], block["share_of_baseline"], int(m.total.memalloc.dropped), starved(m))
    because = [rule.sentence for rule in RULES if rule.holds(facts)]
    word = OOPS if int(m.oops) else LOCKUP if int(m.lockup.locked) else DEGRADED if because else PROGRESS
    names = Names(int(m.sessions), tuple(device_names), start_ns)
    waits = word == DEGRADED and block_io_unfinished(m)
    return {
        "outcome": word,
        "because": because if word == DEGRADED else [],
        "lockup": lockup_facts(m, names) if word == LOCKUP else None,
        "next_deadline": next_deadline(m, names) if waits else None,
        "block_io": block,
        "critical_lost": facts.critical_lost,
        "drops_by_class": drops_by_class(m, w),
        "reserve": reserve_depth(samples),
    }


def starved(m: Any) -> bool:
    """Whether block I/O has nothing to do since nobody gets a page to write into, and no write would free one.

    2.6.12 and later kill a task then (__alloc_pages: reclaim without progress under __GFP_FS calls out_of_memory);
    the model kills nobody.
    """
    if block_io_unfinished(m) or not gfp_kernel_would_wait(m):
        return False
    return any(int(m.vm.writer[at].blocked) == BLOCKED_MEMORY for at in range(int(m.vm.writers)))


def mb_per_s(octets: int, elapsed_ns: int) -> float:
    """A rate in 10^6 bytes per second of virtual time, to thousandths."""
    return octets * 1_000_000 // elapsed_ns / 1000 if elapsed_ns > 0 else 0.0


def milliseconds(time_ns: int) -> float:
    """Nanoseconds as milliseconds, to thousandths."""
    return time_ns // NS_PER_US / 1000


def block_io(m: Any, w: Any, start_ns: int, elapsed_ns: int, baseline_mb_per_s: float | None) -> dict[str, Any]:
    """How block I/O fared, all sessions together."""
    sessions = [m.session[s] for s in range(int(m.sessions))]
    conns = [m.conn[s] for s in range(int(m.sessions))]
    done = sum(int(session.bytes_completed) for session in sessions)
    rate = mb_per_s(done, elapsed_ns)
    return {
        "mb_per_s": rate,
        "baseline_mb_per_s": baseline_mb_per_s,
        "share_of_baseline": round(rate / baseline_mb_per_s, 4) if baseline_mb_per_s else None,
        "writes_issued": sum(int(session.writes_issued) for session in sessions),
        "writes_completed": sum(int(session.writes_completed) for session in sessions),
        "bytes_completed": done,
        "unfinished_pages": int(m.vm.dirty_pages) + int(m.vm.writeback_pages),
        "longest_stall_ms": milliseconds(
            max((int(session_gap_ns(session, start_ns + elapsed_ns)) for session in sessions), default=0)
        ),
        "latency_us": latency_us(m),
        "clean_after_ms": clean_after_ms(m, start_ns),
        "reinstatements": sum(int(session.reinstatements) for session in sessions),
        "retransmits": sum(int(conn.retransmits) for conn in conns),
        "timeouts": sum(int(conn.timeouts) for conn in conns),
        "target_timeouts": None if w is None else sum(int(w.peer[s].timeouts) for s in range(len(conns))),
    }


def latency_us(m: Any) -> dict[str, float | None]:
    """How long writes took from write-back to response: percentiles are the lower ends of buckets 6 % wide."""
    counts = [int(m.latency[bucket]) for bucket in range(LATENCY_BUCKETS)]
    if not sum(counts):
        return {"p50": None, "p99": None, "max": None}
    return {
        "p50": percentile_ns(counts, 50) / NS_PER_US,
        "p99": percentile_ns(counts, 99) / NS_PER_US,
        "max": int(m.latency_max_ns) / NS_PER_US,
    }


def percentile_ns(counts: Sequence[int], percent: int) -> int:
    """The least latency of the bucket that the `percent`th of 100 writes falls into (the nearest rank)."""
    rank = max(1, -(-sum(counts) * percent // 100))
    for bucket, count in enumerate(counts):
        rank -= count
        if rank <= 0:
            return int(latency_of_bucket(bucket))
    raise AssertionError("percent is at most 100")


def clean_after_ms(m: Any, start_ns: int) -> float | None:
    """When the memory became clean for good; None when it is not, 0 when it always was."""
    if int(m.vm.dirty_pages) + int(m.vm.writeback_pages) > 0:
        return None
    return milliseconds(int(m.vm.last_clean_ns) - start_ns)


def drops_by_class(m: Any, w: Any) -> dict[str, int]:
    """Packets that were dropped, by what block I/O has to do with them; `wire`: lost outside, in blackouts."""
    found = {"memalloc": int(m.total.memalloc.dropped), "other": int(m.total.other.dropped)}
    return found if w is None else found | {"wire": int(w.lost_on_wire)}


def reserve_depth(samples: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """How deep the reserve was used over time, all devices together: skbs, and for how long the cap was reached."""
    used, cap, times = samples["reserve_used"], samples["reserve_cap"], samples["time_ns"]
    at_cap_ns = sum(times[at + 1] - times[at] for at in range(len(times) - 1) if 0 < cap[at] <= used[at])
    span_ns = times[-1] - times[0] if times else 0
    weighted = sum(used[at] * (times[at + 1] - times[at]) for at in range(len(times) - 1))
    return {
        "cap_skbs": max(cap, default=0),
        "used_max_skbs": max(used, default=0),
        "used_mean_skbs": round(weighted / span_ns, 3) if span_ns else 0.0,
        "used_last_skbs": used[-1] if used else 0,
        "at_cap_ms": milliseconds(at_cap_ns),
    }


class Names(NamedTuple):
    """How things are called: connection c is session c's, or that of download c - sessions."""

    sessions: int
    devices: tuple[str, ...]
    start_ns: int

    def connection(self, c: int) -> str:
        """A connection for a person."""
        return f"session {c}" if c < self.sessions else f"download {c - self.sessions}"

    def device(self, d: int) -> str:
        """A device for a person."""
        return self.devices[d] if 0 <= d < len(self.devices) else f"device {d}"

    def actor(self, actor: int, number: int, due_ns: int) -> str:
        """An actor of the chain; a timer with when it is due."""
        due = "" if due_ns == NEVER_NS else f" (due at {(due_ns - self.start_ns) / 1e9:.3f} s)"
        words = {"number": number, "connection": self.connection(number), "device": self.device(number), "due": due}
        return ACTOR_NAMES[actor].format(**words)


def counted(count: int, one: str) -> str:
    """A number of things."""
    return f"{count} {one}" if count == 1 else f"{count} {one}s"


def held_by(skbs: int, pages: int) -> str:
    """What somebody holds, in words."""
    if skbs and pages:
        return f"{counted(skbs, 'skb')} ({counted(pages, 'page')})"
    return counted(skbs, "skb") if skbs else counted(pages, "page")


def why_of(wait: Any) -> str:
    """Why one waits for another, in a sentence with its numbers."""
    skbs, pages = int(wait.skbs), int(wait.pages)
    return WHY_SENTENCES[int(wait.why)].format(
        skbs=counted(skbs, "skb"),
        skbs_of_commands=counted(skbs, "command"),
        pages=counted(pages, "page"),
        held=held_by(skbs, pages),
    )


def lockup_facts(m: Any, names: Names) -> dict[str, Any]:
    """When it was found, which frame took the last page and when, and who waits for whom."""
    found = m.lockup
    last_page_ns = int(m.last_page_ns) - names.start_ns
    chain = []
    for at in range(int(found.links)):
        wait = found.link[at]
        chain.append(
            {
                "actor": names.actor(int(wait.actor), int(wait.number), int(wait.due_ns)),
                "waits_for": names.actor(int(wait.waits_for), int(wait.waits_for_number), NEVER_NS),
                "why": why_of(wait),
            }
        )
    return {
        "time_ns": int(found.found_ns) - names.start_ns,
        "frame": int(m.last_page_frame),
        "last_page_ns": last_page_ns if last_page_ns > 0 else None,
        "chain": chain,
    }


def next_deadline(m: Any, names: Names) -> dict[str, Any] | None:
    """The next timer that may move block I/O on, or None: nothing is due, packets must come."""
    due = [(time_ns, what) for time_ns, what in deadlines(m, names) if int(m.now_ns) <= time_ns < NEVER_NS]
    if not due:
        return None
    time_ns, what = min(due)
    return {"what": what, "time_ns": time_ns - names.start_ns}


def deadlines(m: Any, names: Names) -> list[tuple[int, str]]:
    """Every timer that can free memory or send something, with what it does; some are NEVER_NS or past."""
    found = [(int(m.reap_ns), "cache_reap gives empty slabs back"), (int(m.reader_tick_ns), "readers with a rate read")]
    found += [(int(frag_timer_ns(m)), "fragments time out"), (int(plan_due_ns(m)), "the scenario's next [[at]]")]
    if int(m.vm.dirty_writeback_ns):
        found.append((int(m.vm.kupdate_due_ns), "kupdate looks for old dirty pages"))
    for d in range(int(m.devices)):
        if int(m.dev[d].up):
            found.append((int(m.dev[d].watchdog_ns), f"the watchdog of {names.device(d)} refills its ring"))
    for c in range(int(m.conns)):
        conn = m.conn[c]
        if int(conn.state) == CONN_CLOSED:
            continue
        found.append((int(conn.rto_due_ns), f"the retransmission timer of {names.connection(c)}"))
        found.append((int(conn.probe_due_ns), f"a window probe of {names.connection(c)}"))
        if int(conn.wait) == WAIT_MEMORY:
            found.append((int(conn.wait_until_ns), f"{names.connection(c)} asks for memory to send again"))
    return found + session_deadlines(m)


def session_deadlines(m: Any) -> list[tuple[int, str]]:
    """The sessions' own timers; iscsid's stand still while it waits for memory itself."""
    found = []
    starved = gfp_kernel_would_wait(m)
    for s in range(int(m.sessions)):
        session = m.session[s]
        state = int(session.state)
        if not int(session.used) or (int(session.iscsid_needs_memory) and starved):
            continue
        if state != SESSION_FULL_FEATURE:
            what = "connects again" if state == SESSION_DOWN else "gives its login up"
            found.append((int(session.due_ns), f"session {s} {what}"))
        elif int(session.nop_sent_ns) != NEVER_NS:
            found.append((int(session.nop_sent_ns) + int(session.nop_timeout_ns), f"the ping of session {s} times out"))
        else:
            found.append((int(session.nop_due_ns), f"session {s} sends a ping"))
    return found

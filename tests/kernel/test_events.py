"""The recorded stream: played back on a fresh machine it gives every row again; and idle time that nobody notices."""

from typing import Any

import pytest
from machines import PLAIN, Nic, Setup, booted, flat, holds, paced, play, plenty, rows_of, udp, whole
from streams import DRIVER_SETUPS, recording, stream

from emu.engine.loop import QUIET_ROUNDS, leave_in_flight, run, run_recorded
from emu.kernel.machine import (
    EVENT_CONTEXT,
    EVENT_PAGES,
    EVENT_POLL_BEGIN,
    EVENT_POLL_END,
    EVENT_READ,
    EVENTS,
    ZONE_NORMAL,
    Event,
    Packet,
)
from emu.kernel.policy import POLICIES
from emu.kernel.sock import READER_NEVER, READER_RATE

SECOND_NS = 1_000_000_000
YEAR_NS = 365 * 24 * 3600 * SECOND_NS

SETUPS: dict[str, dict[str, Any]] = {
    "default crunch": {"config": {"recording": 1}},
    "plenty": {"config": plenty(recording=1)},
    "two small devices": {
        "config": {"recording": 1, "netdev_max_backlog": 10},
        "nics": (Nic(ring=64, weight=3, background=40), Nic(ring=80, reserve=7, background=60)),
    },
    "readers with a rate": {"config": {"recording": 1, "ordinary_reader": READER_RATE, "read_rate": 500}},
}

SETUPS |= DRIVER_SETUPS

# What the clock of a playback need not repeat: timers that the stream itself carries, and scheduling of polls.
OF_THE_SCHEDULER = (
    "poll",
    "squeeze",
    "quota",
    "softirq",
    "watchdog_ns",
    "reap_ns",
    "next_reap_ns",
    "reader_tick_ns",
    "quiet_rounds",
)


def state(m: Any) -> dict[str, int]:
    """What a playback must repeat of the machine."""
    return {
        path: value
        for path, value in whole(m).items()
        if not any(word in path for word in OF_THE_SCHEDULER) and path not in ("now_ns", "config.recording")
    }


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("name", SETUPS)
def test_a_recorded_stream_plays_back_to_identical_rows(policy: str, name: str) -> None:
    """All fields of all rows, all sockets, slabs and counters are those of the run that was recorded."""
    setup = recording(Setup(policy, **SETUPS[name]))
    frames = stream(11, 600, len(setup.nics))
    played = play(setup, frames, log_size=1 << 14)
    m = booted(setup, start_ns=frames[0]["time_ns"])
    rows = rows_of(frames)
    first, at = run_recorded(m, rows, 0, len(frames), played.log, 0, played.events, 0)
    leave_in_flight(m, rows, 0, len(frames))
    assert (first, at) == (len(frames), played.events)
    assert [flat(rows[i], Packet) for i in range(len(frames))] == [
        flat(played.rows[i], Packet) for i in range(len(frames))
    ]
    assert state(m) == state(played.m)
    holds(m)


@pytest.mark.parametrize("piece", [1, 7, 100])
def test_a_stream_can_be_played_back_in_pieces(piece: int) -> None:
    """`more` says that the stream goes on: the playback stops and waits for the next piece, and loses nothing."""
    setup = Setup("phillips-v5", config={"recording": 1}, nics=(Nic(ring=64, background=40),))
    frames = stream(3, 300)
    played = play(setup, frames, log_size=1 << 14)
    m = booted(setup, start_ns=frames[0]["time_ns"])
    rows = rows_of(frames)
    first = at = 0
    while at < played.events:
        end = min(played.events, at + piece)
        first, at = run_recorded(m, rows, first, len(frames), played.log, at, end, int(end < played.events))
        assert at == end
    first, at = run_recorded(m, rows, first, len(frames), played.log, at, at, 0)
    leave_in_flight(m, rows, 0, len(frames))
    assert [flat(rows[i], Packet) for i in range(len(frames))] == [
        flat(played.rows[i], Packet) for i in range(len(frames))
    ]


def test_a_run_stops_when_the_stream_is_nearly_full_and_goes_on_where_it_was() -> None:
    """A log of 16 rows is filled and emptied many times; the pieces together are the stream of one long log."""
    setup = Setup("phillips-v5", config={"recording": 1}, nics=(Nic(ring=64, background=40),))
    frames = stream(5, 200)
    long = play(setup, frames, log_size=1 << 14)
    m = booted(setup, start_ns=frames[0]["time_ns"])
    rows = rows_of(frames)
    pieces = []
    first = 0
    while first < len(frames):
        log = PLAIN.rows(Event, 16)
        first, events = run(m, rows, first, len(frames), 0, log, 16)
        pieces += [flat(log[at], Event) for at in range(events)]
    leave_in_flight(m, rows, 0, len(frames))
    assert [flat(rows[i], Packet) for i in range(200)] == [flat(long.rows[i], Packet) for i in range(200)]
    split = sum(piece["number"] for piece in pieces if EVENTS[piece["event"]] == "packets")
    whole_log = [flat(long.log[at], Event) for at in range(long.events)]
    assert split == sum(piece["number"] for piece in whole_log if EVENTS[piece["event"]] == "packets")
    others = [piece for piece in pieces if EVENTS[piece["event"]] != "packets"]
    assert others == [piece for piece in whole_log if EVENTS[piece["event"]] != "packets"]


def events_of(*events: tuple[int, int, int, int, int]) -> Any:
    """A stream written by hand: event, frames, time, device, number."""
    log = PLAIN.rows(Event, max(1, len(events)))
    for at, values in enumerate(events):
        PLAIN.fill(log[at], dict(zip(("event", "frames", "time_ns", "dev", "number"), values, strict=True)))
    return log


def test_others_take_pages_and_give_them_back() -> None:
    """A live run's memory changes: 100 pages go to others and 60 come back, and every page is accounted for."""
    m = booted(Setup(config=plenty()))
    z = m.zone[ZONE_NORMAL]
    before = z.free_pages + z.pcp_count
    log = events_of((EVENT_PAGES, 0, 0, ZONE_NORMAL, 100), (EVENT_PAGES, 0, 5, ZONE_NORMAL, -60))
    run_recorded(m, rows_of([udp(time_ns=0)]), 0, 0, log, 0, 1, 0)
    assert (z.other_pages, z.free_pages + z.pcp_count) == (100, before - 100)
    run_recorded(m, rows_of([udp(time_ns=0)]), 0, 0, log, 1, 2, 0)
    assert (z.other_pages, z.free_pages + z.pcp_count, m.now_ns) == (40, before - 40, 5)
    holds(m)


def test_a_reader_of_a_live_run_reads_when_the_stream_says_so() -> None:
    """Two of three queued datagrams are read; the third stays charged."""
    setup = Setup(config=plenty() | {"ordinary_reader": READER_NEVER})
    played = play(setup, paced([udp()] * 3), until_ns=SECOND_NS)
    log = events_of((EVENT_READ, 3, SECOND_NS, 0, 2))
    run_recorded(played.m, played.rows, 3, 3, log, 0, 1, 0)
    assert (played.m.sk[0].queue_len, played.m.sk[0].rmem_alloc) == (1, 2344)
    holds(played.m)


def test_a_stream_that_asks_for_more_packets_than_there_are_takes_those_there_are() -> None:
    """A live poll may have seen a frame that the capture lost."""
    m = booted(Setup(config=plenty()))
    rows = rows_of(paced([udp()] * 2))
    log = events_of(
        (EVENT_POLL_BEGIN, 2, 20_000, 0, 64),
        (1, 2, 20_000, 0, 5),
        (EVENT_POLL_END, 2, 30_000, 0, 0),
        (EVENT_CONTEXT, 2, 30_000, 0, 0),
    )
    assert EVENTS[1] == "packets"
    assert run_recorded(m, rows, 0, 2, log, 0, 4, 0) == (2, 4)
    assert m.total.delivered == 2


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(
    "config", [{}, plenty(), {"ordinary_reader": READER_NEVER}], ids=["crunch", "plenty", "unread"]
)
def test_a_gap_of_a_century_plays_at_once_and_ends_as_a_short_one(policy: str, config: dict[str, int]) -> None:
    """Idle timers are skipped: after 100 years everything stands as after ten minutes of the same phase."""
    setup = Setup(policy, config=config)
    first = paced([udp(sport=40_000 + at % 3) for at in range(60)])
    ends = []
    # Both gaps are whole rounds of every timer: 2 s, 4 s per cache.
    for gap_ns in (600 * SECOND_NS, 100 * YEAR_NS // (4 * SECOND_NS) * (4 * SECOND_NS)):
        second = paced([udp(sport=40_000 + at % 3) for at in range(60)], start_ns=gap_ns)
        played = play(setup, first + second, until_ns=gap_ns + 10 * SECOND_NS)
        rows = [flat(played.rows[at], Packet) for at in range(120)]
        for row in rows[60:]:
            row["time_ns"] -= gap_ns
            row["file_time_ns"] -= gap_ns
            row["decided_ns"] -= gap_ns if row["decided_ns"] else 0
        for row in rows:
            row["alloc_ns"] = 0  # a buffer may be from before the gap
        machine = {path: value for path, value in state(played.m).items() if not path.endswith(".alloc_ns")}
        ends.append((rows, machine | {"polls": 0, "cpu_busy_until_ns": 0, "last_page_ns": 0}))
    assert ends[0] == ends[1]


def test_idle_time_is_skipped_only_after_several_quiet_rounds() -> None:
    """The reaper first gives back what the last packets left behind, round by round."""
    m = play(Setup("linux-2.6.12", config=plenty()), paced([udp()] * 100), until_ns=1000 * SECOND_NS).m
    assert m.quiet_rounds > QUIET_ROUNDS
    assert m.cache[m.head_cache].avail == 0
    assert m.reap_ns == 1000 * SECOND_NS or m.reap_ns > 1000 * SECOND_NS

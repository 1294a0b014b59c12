"""The sending side of TCP by itself: numbers worked out by hand, and whatever a wire may lose."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tcp_ends import MASK, MSS, NS_PER_MS, End, Wire

from emu.kernel.closed_loop import CA_LOSS, CA_OPEN, CA_RECOVERY, CONN_ESTABLISHED, TcpConn
from emu.kernel.machine import NEVER_NS
from emu.kernel.tcp_conn import (
    TCP_RTO_MAX_NS,
    TCP_RTO_MIN_NS,
    TIMER_PROBE,
    TIMER_RETRANSMIT,
    conn_open,
    tcp_acked,
    tcp_init_cwnd,
    tcp_rcv_data,
    tcp_retransmit_now,
    tcp_send_room,
    tcp_sent,
    tcp_timeout,
    tcp_timer,
    tcp_timer_due_ns,
    window_left,
)

SECOND = 1_000_000_000


def opened(window: int = 65_535, mss: int = 1000) -> TcpConn:
    """A connection whose handshake took 1 ms; the first byte has number 1001."""
    c = TcpConn()
    c.mss = mss
    conn_open(c, 1000, 0)
    tcp_sent(c, 1000, 1001, 0)
    assert tcp_acked(c, 1001, window, 0, NS_PER_MS) == 1
    c.state = CONN_ESTABLISHED
    return c


def sent(c: TcpConn, segments: int, now_ns: int) -> None:
    """Send full segments."""
    for _ in range(segments):
        tcp_sent(c, c.snd_nxt, c.snd_nxt + c.mss, now_ns)


def test_the_initial_window_is_that_of_tcp_init_cwnd() -> None:
    assert [tcp_init_cwnd(mss) for mss in (536, 1095, 1096, 1460, 1461, 8960)] == [4, 4, 3, 3, 2, 2]


def test_the_first_rto_is_three_seconds_and_the_first_sample_sets_it() -> None:
    c = TcpConn()
    c.mss = 1000
    conn_open(c, 1000, 0)
    tcp_sent(c, 1000, 1001, 5)
    assert tcp_timer_due_ns(c) == 3 * SECOND + 5
    tcp_acked(c, 1001, 4000, 0, 5 + 80 * NS_PER_MS)
    assert (c.srtt_ns, c.mdev_ns) == (80 * NS_PER_MS, 40 * NS_PER_MS)
    assert c.rto_ns == 280 * NS_PER_MS  # srtt + max(4 * 40 ms = 160 ms, 200 ms)
    assert tcp_timer_due_ns(c) == NEVER_NS


def test_rto_follows_a_longer_and_a_shorter_round_trip() -> None:
    c = opened()
    tcp_rtt = c.srtt_ns
    sent(c, 1, SECOND)
    tcp_acked(c, 2001, 65_535, 0, SECOND + 801 * NS_PER_MS)
    assert c.srtt_ns == tcp_rtt + 100 * NS_PER_MS  # an eighth of 800 ms
    assert c.mdev_ns == 500_000 + (800 * NS_PER_MS - 500_000) // 4
    assert c.rto_ns == c.srtt_ns + 4 * c.mdev_ns
    mdev = c.mdev_ns
    sent(c, 1, 3 * SECOND)
    tcp_acked(c, 3001, 65_535, 0, 3 * SECOND + NS_PER_MS)
    assert c.mdev_ns == mdev + (100 * NS_PER_MS - mdev) // 4  # shorter, and by less than mdev
    assert c.rto_ns >= TCP_RTO_MIN_NS


def test_slow_start_adds_a_segment_for_each_ack_and_avoidance_one_for_each_window() -> None:
    c = opened(1 << 20)
    assert c.snd_cwnd == 4
    sent(c, 4, SECOND)
    assert tcp_send_room(c) == 0
    for k in range(1, 5):
        tcp_acked(c, 1001 + 1000 * k, 1 << 20, 0, SECOND + k)
        sent(c, tcp_send_room(c) // 1000, SECOND + k)
    assert c.snd_cwnd == 8
    c.snd_ssthresh = 7
    for k in range(5, 12):
        tcp_acked(c, 1001 + 1000 * k, 1 << 20, 0, SECOND + k)
        sent(c, tcp_send_room(c) // 1000, SECOND + k)
    assert c.snd_cwnd == 8
    tcp_acked(c, 13_001, 1 << 20, 0, SECOND + 20)
    assert c.snd_cwnd == 9


def test_a_window_that_is_not_used_does_not_grow() -> None:
    c = opened()
    for k in range(20):
        sent(c, 1, k)
        tcp_acked(c, c.snd_nxt, 65_535, 0, k + 1)
    assert c.snd_cwnd == 4


def test_three_duplicates_retransmit_one_segment_and_a_partial_ack_the_next() -> None:
    c = opened()
    c.snd_cwnd = 10
    c.sent_ns = SECOND
    sent(c, 10, SECOND)
    tcp_acked(c, 2001, 65_535, 0, SECOND + 1)  # high_seq is behind snd_una from here
    for _ in range(2):
        tcp_acked(c, 2001, 65_535, 0, SECOND + 2)
        assert not tcp_retransmit_now(c)
    tcp_acked(c, 2001, 65_535, 0, SECOND + 3)
    assert (c.ca_state, c.snd_ssthresh, c.snd_cwnd, c.retransmit_seq) == (CA_RECOVERY, 5, 8, 2001)
    assert tcp_retransmit_now(c)
    tcp_sent(c, 2001, 3001, SECOND + 3)
    assert not tcp_retransmit_now(c)
    tcp_acked(c, 5001, 65_535, 0, SECOND + 4)
    assert tcp_retransmit_now(c) and c.retransmit_seq == 5001
    tcp_sent(c, 5001, 6001, SECOND + 4)
    tcp_acked(c, 11_001, 65_535, 0, SECOND + 5)
    assert (c.ca_state, c.fast_retransmits) == (CA_OPEN, 1)
    assert c.snd_cwnd == 3  # nothing in flight, and a burst of three at most


def test_duplicates_with_data_or_a_new_window_are_none() -> None:
    c = opened()
    sent(c, 4, SECOND)
    tcp_acked(c, 2001, 65_535, 0, SECOND)
    for k in range(6):
        tcp_acked(c, 2001, 65_535, 1, SECOND)
        tcp_acked(c, 2001, 65_000 - k, 0, SECOND)
        tcp_acked(c, 2001, 65_535, 1, SECOND)
    assert (c.dupacks, c.ca_state) == (0, CA_OPEN)


def test_a_timeout_begins_anew_with_one_segment_and_doubles() -> None:
    c = opened()
    c.snd_cwnd = 10
    c.sent_ns = SECOND
    sent(c, 10, SECOND)
    first = tcp_timer_due_ns(c)
    assert first == SECOND + c.rto_ns
    assert tcp_timer(c, first) == TIMER_RETRANSMIT
    assert (c.ca_state, c.snd_cwnd, c.snd_ssthresh) == (CA_LOSS, 1, 5)
    assert tcp_retransmit_now(c) and tcp_send_room(c) == 0
    tcp_sent(c, 1001, 2001, first)
    assert not tcp_retransmit_now(c)
    rto = c.rto_ns
    assert tcp_timer_due_ns(c) == first + rto
    tcp_acked(c, 2001, 65_535, 0, first + NS_PER_MS)
    assert c.rto_ns == rto  # Karn: what was sent twice is not timed
    assert c.snd_cwnd == 2
    for _ in range(2):
        assert tcp_retransmit_now(c)
        tcp_sent(c, c.retransmit_seq, c.retransmit_seq + 1000, first + NS_PER_MS)
    assert not tcp_retransmit_now(c)


def test_rto_is_bounded() -> None:
    c = opened()
    sent(c, 1, 0)
    now = 0
    for _ in range(40):
        now = tcp_timer_due_ns(c)
        tcp_timeout(c, now)
        tcp_sent(c, 1001, 2001, now)
        assert tcp_timer_due_ns(c) - now <= TCP_RTO_MAX_NS
    assert c.rto_ns == TCP_RTO_MAX_NS


def test_acks_of_what_was_never_sent_or_is_old_say_nothing() -> None:
    c = opened()
    sent(c, 2, SECOND)
    assert tcp_acked(c, 3002, 1, 0, SECOND) == 0
    assert tcp_acked(c, 1000, 1, 0, SECOND) == 0
    assert (c.snd_una, c.snd_wnd) == (1001, 65_535)


def test_a_closed_window_is_probed_ever_more_slowly_and_an_open_one_is_not() -> None:
    c = opened()
    sent(c, 1, SECOND)
    c.write_seq = 9001
    tcp_acked(c, 2001, 0, 0, SECOND + NS_PER_MS)
    assert tcp_send_room(c) == 0
    due = c.probe_due_ns
    assert due == SECOND + NS_PER_MS + c.rto_ns
    waits = []
    for _ in range(4):
        assert tcp_timer(c, due) == TIMER_PROBE
        waits.append((c.probe_due_ns - due) // c.rto_ns)
        due = c.probe_due_ns
    assert waits == [2, 4, 8, 16]
    tcp_acked(c, 2001, 5000, 0, due)
    assert c.probe_due_ns == NEVER_NS and tcp_send_room(c) == 4000


def test_idle_time_shrinks_the_window() -> None:
    c = opened()
    c.snd_cwnd = 64
    c.sent_ns = SECOND
    sent(c, 1, SECOND)
    tcp_acked(c, 2001, 65_535, 0, SECOND + NS_PER_MS)
    tcp_sent(c, 2001, 3001, SECOND + 3 * c.rto_ns + 1)  # two RTO over the first
    assert (c.snd_cwnd, c.snd_ssthresh) == (8, 0x7FFFFFFF)


def test_acknowledgements_quick_at_first_then_every_second_segment_or_late() -> None:
    c = opened()
    c.rcv_wup = 5000
    c.quick = 1
    assert tcp_rcv_data(c, 6000, 1000, 0, SECOND)
    c.rcv_wup, c.ack_now, c.ack_owed, c.delack_due_ns = 6000, 0, 0, NEVER_NS
    assert not tcp_rcv_data(c, 7000, 1000, 0, SECOND)
    assert c.delack_due_ns == SECOND + 40 * NS_PER_MS
    assert not tcp_rcv_data(c, 7000, 0, 0, SECOND + 1)
    assert c.delack_due_ns == SECOND + 40 * NS_PER_MS
    assert tcp_rcv_data(c, 8000, 1000, 0, SECOND + 2)


def test_out_of_order_is_acknowledged_at_once() -> None:
    c = opened()
    c.quick = 0
    c.rcv_wup = 5000
    assert tcp_rcv_data(c, 5000, 100, 1, SECOND)


def test_the_window_offered_shrinks_as_bytes_come() -> None:
    c = opened()
    c.rcv_wup, c.rcv_wnd = 0xFFFFFF00, 1000
    assert [window_left(c, seq) for seq in (0xFFFFFF00, 0x10, 744, 745)] == [1000, 728, 0, 0]


def everything_in_order(end: End, first: int, total: int) -> bool:
    """Whether an end received each of `total` bytes once, in order."""
    expected = first
    for seq, length in end.received:
        if seq != expected:
            return False
        expected = (expected + length) & MASK
    return (expected - first) & MASK == total


@given(
    losses=st.sets(st.tuples(st.integers(0, 1), st.integers(1, 60)), max_size=50),
    sizes=st.lists(st.integers(1, 9000), min_size=1, max_size=12),
    iss=st.sampled_from([0, 0x7FFFFFF0, 0xFFFFFF00, 0xFFFFFFFF]),
    rcvbuf=st.sampled_from([MSS, 3 * MSS, 65_535]),
)
@settings(max_examples=300, deadline=None)
def test_everything_arrives_once_and_in_order_whatever_is_lost(losses: Any, sizes: Any, iss: int, rcvbuf: int) -> None:
    ends: list[End] = []
    wire = Wire(NS_PER_MS, lambda sender, number, now: (ends.index(sender), number) in losses)
    ends.extend(wire.pair(iss, 77, rcvbuf))
    one, two = ends
    for k, size in enumerate(sizes):
        wire.at(wire.now_ns + k * 3 * NS_PER_MS, lambda size=size: one.write(size))  # type: ignore[misc]
        wire.at(wire.now_ns + k * 2 * NS_PER_MS, lambda size=size: two.write(size // 3))  # type: ignore[misc]
    wire.run(4_000 * SECOND)
    assert everything_in_order(two, (iss + 1) & MASK, sum(sizes))
    assert everything_in_order(one, 78, sum(size // 3 for size in sizes))
    for end in ends:
        assert end.c.snd_una == end.c.snd_nxt == end.c.write_seq
        assert tcp_timer_due_ns(end.c) == NEVER_NS


@given(stops=st.lists(st.integers(1, 400), min_size=1, max_size=6), probe_lost=st.booleans())
@settings(max_examples=60, deadline=None)
def test_a_blocked_reader_closes_the_window_and_the_stream_goes_on_when_it_reads(stops: Any, probe_lost: bool) -> None:
    ends: list[End] = []
    # Even the update that says so may be lost: the probe finds out.
    wire = Wire(NS_PER_MS, lambda sender, number, now: probe_lost and sender is ends[1] and number % 5 == 0)
    ends.extend(wire.pair(10, 20, 8 * MSS))
    one, two = ends
    start = wire.now_ns
    one.write(100_000)
    two.reads = False
    when = start
    for stop in stops:
        when += stop * NS_PER_MS
        wire.at(when, two.read_all)
    wire.at(when + NS_PER_MS, lambda: setattr(two, "reads", True))
    wire.at(when + NS_PER_MS, two.read_all)
    wire.run(start + 4_000 * SECOND)
    assert everything_in_order(two, 11, 100_000)


# Measured between tgtd and libiscsi through a wire that dropped everything towards the initiator for so long; seconds.
BLACKOUTS = {0.05: 0.216, 0.2: 0.215, 0.5: 0.645, 1.0: 1.464, 2.0: 3.171, 5.0: 6.569, 10.0: 13.198}


class Disk:
    """Requests of 4 KiB with a header and responses of 48 B, `depth` at a time, each answered after 200 us."""

    def __init__(self, wire: Wire, host: End, target: End, depth: int) -> None:
        """Begin."""
        self.wire, self.host, self.target = wire, host, target
        self.requests = 0
        self.completions: list[int] = []
        target.told = self.requested
        host.told = self.responded
        for _ in range(depth):
            host.write(4144)

    def requested(self) -> None:
        """The target has more bytes."""
        first = self.target.c.rcv_nxt - 2
        while (self.requests + 1) * 4144 <= first:
            self.requests += 1
            self.wire.at(self.wire.now_ns + 200_000, lambda: self.target.write(48))

    def responded(self) -> None:
        """The host has more bytes."""
        while (len(self.completions) + 1) * 48 <= self.host.c.rcv_nxt - 3:
            self.completions.append(self.wire.now_ns)
            self.host.write(4144)


@pytest.mark.parametrize("depth", [1, 8])
@pytest.mark.parametrize("blackout", BLACKOUTS)
def test_a_blackout_stalls_as_long_as_the_real_one_did(blackout: float, depth: int) -> None:
    """The gap is between two responses that the host has taken."""
    ends: list[End] = []
    begin = 1_050_000_000
    end = begin + round(blackout * SECOND)
    wire = Wire(50_000, lambda sender, number, now: sender is ends[1] and begin <= now < end)
    ends.extend(wire.pair(1, 2, 1 << 18))
    disk = Disk(wire, ends[0], ends[1], depth)
    wire.run(end)
    while disk.completions[-1] < end:
        wire.run(wire.now_ns + SECOND // 100)
    gap = max(b - a for a, b in zip(disk.completions, disk.completions[1:], strict=False)) / SECOND
    assert gap == pytest.approx(BLACKOUTS[blackout], rel=0.10)

"""TCP's sequence numbers: what is next, ahead, old; whose hole it is."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from machines import ACK, FIN, Nic, Play, Setup, booted, holds, iscsi, paced, pages_left, play, plenty, sent, tcp

from emu.kernel.drop_reason import DELIVERED, POINTS, REASONS
from emu.kernel.sock import READER_IMMEDIATE, READER_NEVER, sk_dequeue
from emu.kernel.tcp_seq import FAR_BYTES, after, before, filled_add, filled_take, ghost_add, seq_add

SECOND_NS = 1_000_000_000
MILLISECOND_NS = 1_000_000
SPACE = 1 << 32
NUMBERS = st.integers(0, SPACE - 1)


def quiet(reader: int = READER_IMMEDIATE, policy: str = "linux-2.6.12", ring: int = 256, **config: int) -> Setup:
    """A host with memory, whose readers are all of one kind."""
    readers = {"ordinary_reader": reader, "memalloc_reader": reader}
    return Setup(policy, config=plenty(**(readers | config)), nics=(Nic(ring=ring, background=0),))


def segments(*ranges: tuple[int, int], flags: int = ACK) -> list[Any]:
    """Segments from one sequence number to before another."""
    return [tcp(payload=end - start, tcp_seq=start, flags=flags) for start, end in ranges]


def reasons_of(setup: Setup, frames: list[Any]) -> list[str]:
    """Why each frame was dropped, one frame a millisecond."""
    return play(setup, paced(frames, MILLISECOND_NS), until_ns=SECOND_NS).reasons()


def events(played: Play) -> list[tuple[int, str, str]]:
    """What happened later: frame, reason and point."""
    m = played.m
    happened = [m.later[at] for at in range(m.later_len)]
    return [(event.frame, REASONS[event.reason].name, POINTS[event.point]) for event in happened]


@given(NUMBERS, st.integers(1, (1 << 31) - 1))
def test_numbers_are_compared_around_the_end_of_the_space(seq: int, ahead: int) -> None:
    """Less than half the space ahead is after, and the other way round before; never both, never itself."""
    other = seq_add(seq, ahead)
    assert (before(seq, other), after(other, seq)) == (True, True)
    assert (before(other, seq), after(seq, other), before(seq, seq)) == (False, False, False)


def test_a_segment_ahead_waits_until_the_hole_is_filled() -> None:
    """An immediate reader gets in-order data at once; what is ahead stays charged until its turn."""
    frames = segments((0, 10), (20, 30), (30, 40), (10, 20))
    waiting = play(quiet(), paced(frames[:3], MILLISECOND_NS), until_ns=SECOND_NS)
    assert (waiting.m.sk[0].ofo_len, waiting.m.sk[0].rmem_alloc, waiting.m.sk[0].rcv_nxt) == (2, 2 * 2344, 10)
    filled = play(quiet(), paced(frames, MILLISECOND_NS), until_ns=SECOND_NS)
    assert (filled.m.sk[0].ofo_len, filled.m.sk[0].rmem_alloc, filled.m.sk[0].rcv_nxt) == (0, 0, 40)
    assert filled.column("verdict") == [DELIVERED] * 4
    assert {POINTS[point] for point in filled.column("point")} == {"tcp_data_queue"}


def test_reason_TCP_OLD_DATA() -> None:  # noqa: N802
    """Wholly old data is dropped and acknowledged at once; partly old data is taken."""
    assert reasons_of(quiet(), segments((0, 10), (0, 10), (5, 15), (10, 15))) == [
        "",
        "TCP_OLD_DATA",
        "",
        "TCP_OLD_DATA",
    ]
    played = play(quiet(), paced(segments((0, 10), (0, 10)), MILLISECOND_NS), until_ns=SECOND_NS)
    assert played.m.mib.TcpExtDelayedACKLost == 1


def test_reason_TCP_OFOMERGE() -> None:  # noqa: N802
    """A copy of what waits is dropped; a longer segment takes the place of what it covers, which is an event."""
    assert reasons_of(quiet(), segments((0, 10), (20, 30), (20, 30), (22, 28))) == [
        "",
        "",
        "TCP_OFOMERGE",
        "TCP_OFOMERGE",
    ]
    played = play(quiet(), paced(segments((0, 10), (20, 30), (40, 50), (20, 50)), MILLISECOND_NS), until_ns=SECOND_NS)
    assert played.reasons() == [""] * 4
    assert events(played) == [(2, "TCP_OFOMERGE", "tcp_data_queue"), (3, "TCP_OFOMERGE", "tcp_data_queue")]
    assert played.m.sk[0].ofo_len == 1


def test_reason_TCP_OFO_DROP() -> None:  # noqa: N802
    """A segment that fills the hole and more covers what waited behind it."""
    played = play(quiet(), paced(segments((0, 10), (20, 30), (10, 40)), MILLISECOND_NS), until_ns=SECOND_NS)
    assert played.reasons() == [""] * 3
    assert events(played) == [(2, "TCP_OFO_DROP", "tcp_ofo_queue")]
    assert (played.m.sk[0].rcv_nxt, played.m.sk[0].rmem_alloc) == (40, 0)


@given(
    st.integers(0, SPACE - 1),
    st.lists(st.integers(1, 1460), min_size=1, max_size=12),
    st.randoms(use_true_random=False),
    st.sampled_from((READER_IMMEDIATE, READER_NEVER)),
    st.booleans(),
)
def test_any_order_of_a_stream_is_delivered_whole(
    first: int, sizes: list[int], dice: Any, reader: int, fin: bool
) -> None:
    """Whatever the order, all is taken, rcv_nxt ends right, and the memory comes back once it is read."""
    opening = tcp(payload=0, tcp_seq=first)
    frames, seq = [], first
    for at, size in enumerate(sizes):
        flags = ACK | (FIN if fin and at == len(sizes) - 1 else 0)
        frames.append(tcp(payload=size, tcp_seq=seq, flags=flags))
        seq = seq_add(seq, size + (flags & FIN))
    dice.shuffle(frames)
    m = booted(quiet(reader))
    played = play(quiet(reader), paced([opening, *frames], MILLISECOND_NS), until_ns=SECOND_NS, machine=m)
    assert played.reasons() == [""] * (len(sizes) + 1)
    assert (m.sk[0].rcv_nxt, m.sk[0].ofo_len, m.later_len, int(m.sk[0].fin_rcvd)) == (seq, 0, 0, int(fin))
    sk_dequeue(m, 0, len(sizes))
    assert (m.sk[0].rmem_alloc, m.sk[0].forward_alloc, m.tcp_memory_allocated) == (0, 0, 0)
    assert m.skbs_used == m.dev[0].ring_filled
    holds(m)


@given(
    st.integers(0, SPACE - 1),
    st.lists(st.tuples(st.integers(0, 60), st.integers(1, 30)), max_size=60),
    st.sampled_from((READER_IMMEDIATE, READER_NEVER)),
)
def test_any_mixture_of_holes_copies_and_overlaps_keeps_the_books(
    first: int, ranges: list[tuple[int, int]], reader: int
) -> None:
    """rcv_nxt is the first byte that did not come, and every queue, charge and skb is accounted for."""
    frames = [tcp(payload=0, tcp_seq=first)]
    frames += [tcp(payload=size, tcp_seq=seq_add(first, start)) for start, size in ranges]
    played = play(quiet(reader), paced(frames, MILLISECOND_NS), until_ns=SECOND_NS)
    come = {byte for start, size in ranges for byte in range(start, start + size)}
    expected = next(byte for byte in range(200) if byte not in come)
    assert played.m.sk[0].rcv_nxt == seq_add(first, expected)


def test_a_hole_of_ours_counts_as_filled_and_its_retransmission_is_fresh() -> None:
    """A ring of 16 visible buffers misses the 17th segment; the flow goes on, and one copy of it is taken."""
    burst = [tcp(payload=10, tcp_seq=10 * at, time_ns=0) for at in range(17)]
    copy = [tcp(payload=10, tcp_seq=160, time_ns=at * MILLISECOND_NS) for at in (1, 2)]
    further = tcp(payload=10, tcp_seq=170, time_ns=3 * MILLISECOND_NS)
    played = play(quiet(ring=32), [*burst, *copy, further], until_ns=SECOND_NS)
    assert played.reasons() == [""] * 16 + ["RX_MISSED", "", "TCP_OLD_DATA", ""]
    assert (played.m.total.holes_filled, played.m.sk[0].ofo_len, played.m.sk[0].rcv_nxt) == (1, 0, 180)


def test_a_hole_of_ours_ahead_of_what_waits_in_the_ring_takes_no_memory() -> None:
    """The missed frame's range is remembered until the ring's packets have been taken."""
    burst = [tcp(payload=10, tcp_seq=10 * at, time_ns=0) for at in range(20)]
    played = play(quiet(ring=32), burst)
    assert (played.m.sk[0].rcv_nxt, played.m.sk[0].ghosts) == (0, 1)
    play(quiet(ring=32), [], machine=played.m, check=False)
    done = play(quiet(ring=32), burst, until_ns=SECOND_NS)
    assert (done.m.sk[0].rcv_nxt, done.m.sk[0].ghosts, done.m.total.holes_filled) == (200, 0, 4)


@given(st.lists(st.tuples(st.integers(1, 100), st.integers(1, 20)), max_size=30), NUMBERS)
def test_ghosts_cover_at_least_what_was_filled(ranges: list[tuple[int, int]], first: int) -> None:
    """However many ranges: sorted, apart, and every one of them covered."""
    m = booted(quiet())
    m.sk[0].rcv_nxt = first
    for start, size in ranges:
        ghost_add(m, 0, seq_add(first, start), seq_add(first, start + size))
    kept = [
        ((m.sk[0].ghost_seq[at] - first) % SPACE, (m.sk[0].ghost_end[at] - first) % SPACE)
        for at in range(m.sk[0].ghosts)
    ]
    assert all(end < start for (_, end), (start, _) in pairwise(kept))
    assert all(any(a <= start and start + size <= b for a, b in kept) for start, size in ranges)


def test_the_span_of_filled_ranges_shrinks_at_its_edges_and_begins_anew_far_away() -> None:
    """Each edge is fresh once; a drop a megabyte further on forgets the span."""
    m = booted(quiet())
    filled_add(m, 0, 100, 200)
    filled_add(m, 0, 300, 400)
    assert [filled_take(m, 0, *span) for span in ((90, 100), (100, 150), (100, 150), (350, 400), (350, 400))] == [
        False,
        True,
        False,
        True,
        False,
    ]
    filled_add(m, 0, 1 << 21, (1 << 21) + 10)
    assert (m.sk[0].filled_seq, filled_take(m, 0, 150, 350)) == (1 << 21, False)
    assert filled_take(m, 0, 1 << 21, (1 << 21) + 10)
    assert not m.sk[0].filled


def test_a_hole_of_the_capture_is_filled_when_the_host_has_acknowledged_it() -> None:
    """The host's own ACK says that it had the data; one that comes later says nothing of the segment before it."""
    acked = sent(tcp(payload=0)) | {"tcp_ack": 20}
    lost = [*segments((0, 10)), acked, *segments((20, 30))]
    played = play(quiet(), paced(lost, MILLISECOND_NS), until_ns=SECOND_NS)
    assert (played.m.sk[0].rcv_nxt, played.m.sk[0].ofo_len) == (30, 0)
    late = [*segments((0, 10), (20, 30), (10, 20)), sent(tcp(payload=0)) | {"tcp_ack": 30}]
    together = play(quiet(), [columns | {"time_ns": 0} for columns in late], until_ns=SECOND_NS)
    assert together.reasons() == [""] * 4


def test_a_segment_absurdly_far_away_begins_anew() -> None:
    """More than 1 GiB away the connection goes on from there, and it is counted."""
    frames = segments((0, 10), (20, 30), (FAR_BYTES + 11, FAR_BYTES + 21))
    played = play(quiet(), paced(frames, MILLISECOND_NS), until_ns=SECOND_NS)
    assert played.reasons() == [""] * 3
    assert (played.m.sk[0].rcv_nxt, played.m.total.tcp_resyncs, played.m.sk[0].ofo_len) == (FAR_BYTES + 21, 1, 0)


@pytest.mark.parametrize("policy", ["phillips-v5", "mainline"])
def test_acks_of_block_io_fail_where_only_reception_may_use_the_reserve(policy: str) -> None:
    """The patch is for reception only (bug 15): without a page above the floor, ACKs fail; mainline sends them."""
    setup = Setup(policy, nics=(Nic(ring=256, background=0),))
    played = play(setup, paced([iscsi() for _ in range(20)], 100_000), until_ns=SECOND_NS)
    failed = played.m.mib.MemallocAckFailed
    assert (failed > 0) == (policy == "phillips-v5")
    assert played.column("verdict") == [DELIVERED] * 20


def test_every_second_segment_is_acknowledged() -> None:
    """One ACK for two segments in order, one at once for each that is ahead or old; each is a reply without memory."""
    m = booted(quiet(policy="phillips-v5"))
    before_pages = pages_left(m)
    play(
        quiet(policy="phillips-v5"),
        paced(segments((0, 10), (10, 20), (20, 30)), MILLISECOND_NS),
        machine=m,
        until_ns=10**7,
    )
    assert m.sk[0].ack_owed == 1
    assert pages_left(m) <= before_pages
    assert m.mib.tx_alloc_failed == 0

"""TCP's memory: pruning a socket, the limits of all sockets together, and what closing throws away."""

from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from machines import (
    RST,
    Nic,
    Setup,
    booted,
    holds,
    leave_free,
    paced,
    play,
    plenty,
    sent,
    tcp,
)
from machines import rule as sock_rule
from test_tcp_sequence import events

from emu.kernel.drop_reason import REASONS
from emu.kernel.machine import PAGE_SIZE
from emu.kernel.sock import READER_NEVER, sk_dequeue
from emu.kernel.tcp_mem import sk_stream_rmem_schedule, tcp_bind_hash_order
from emu.kernel.tcp_prune import tcp_prune_queue

SECOND_NS = 1_000_000_000
MILLISECOND_NS = 1_000_000


def unread(policy: str = "linux-2.6.12", rules: tuple[dict[str, int], ...] = (), **config: int) -> Setup:
    """A host with memory on which nobody reads."""
    readers = {"ordinary_reader": READER_NEVER, "memalloc_reader": READER_NEVER}
    return Setup(policy, config=plenty(**(readers | config)), nics=(Nic(ring=128, background=0),), rules=rules)


def ahead(count: int, payload: int = 100) -> list[dict[str, int]]:
    """A segment in order, then `count` of them with a hole before each."""
    return [tcp(payload=10, tcp_seq=0)] + [tcp(payload=payload, tcp_seq=1000 + 2 * payload * at) for at in range(count)]


def test_a_full_socket_is_collapsed_before_anything_is_lost() -> None:
    """The 39th segment finds the buffer full: 38 000 bytes fit into ten copies of up to 3840."""
    played = play(unread(), paced([tcp(payload=1000)] * 39, MILLISECOND_NS), until_ns=SECOND_NS)
    sk, mib = played.m.sk[0], played.m.mib
    assert played.reasons() == [""] * 39
    assert (mib.TcpExtPruneCalled, mib.TcpExtTCPRcvCollapsed, mib.TcpExtRcvPruned) == (1, 38, 0)
    assert (sk.queue_len, sk.rmem_alloc) == (11, 9 * 4136 + 3752 + 2344)
    held = [played.m.skb[b].length for b in chain(played.m, sk.queue_head)]
    assert held == [3840] * 9 + [38 * 1000 - 9 * 3840, 1000]


def chain(m: object, b: int) -> list[int]:
    """The skbs of a queue."""
    out = []
    while b != -1:
        out.append(b)
        b = m.skb[b].next  # type: ignore[attr-defined]
    return out


def test_reason_TCP_OFO_QUEUE_PRUNE() -> None:  # noqa: N802
    """Without memory to copy, the out-of-order queue goes first; each of its packets is an event of its own."""
    m = booted(unread(rules=(sock_rule(6, rcvbuf=20_000),)))
    leave_free(m, 0)
    played = play(unread(), paced(ahead(9), MILLISECOND_NS), until_ns=SECOND_NS, machine=m)
    assert played.reasons() == [""] * 10
    pruned = [(frame, "TCP_OFO_QUEUE_PRUNE", "tcp_prune_queue") for frame in range(2, 10)]
    assert events(played) == pruned
    assert (m.mib.TcpExtOfoPruned, m.sk[0].ofo_len, m.sk[0].rmem_alloc) == (8, 1, 2 * 2344)


def test_out_of_order_data_stretches_a_buffer_that_the_user_has_not_set() -> None:
    """Up to sysctl_tcp_rmem[2] (tcp_clamp_window), and then it is pruned."""
    m = booted(unread(tcp_rcvbuf=20_000, tcp_rmem_max=30_000))
    leave_free(m, 0)
    play(unread(), paced(ahead(12), MILLISECOND_NS), until_ns=SECOND_NS, machine=m)
    assert (m.sk[0].rcvbuf, m.mib.TcpExtOfoPruned, m.sk[0].ofo_len) == (12 * 2344, 0, 12)
    play(unread(), [tcp(payload=10, tcp_seq=50_000, time_ns=2 * SECOND_NS)], until_ns=3 * SECOND_NS, machine=m)
    assert (m.sk[0].rcvbuf, m.mib.TcpExtOfoPruned, m.sk[0].ofo_len) == (30_000, 12, 1)


def test_reason_QUEUE_PURGE() -> None:  # noqa: N802
    """A socket that the host closes with packets unread throws both of its queues away."""
    frames = [*ahead(2), sent(tcp(payload=0, flags=RST))]
    played = play(unread(), paced(frames, MILLISECOND_NS), until_ns=SECOND_NS)
    assert events(played) == [(frame, "QUEUE_PURGE", "inet_sock_destruct") for frame in (1, 2, 3)]
    assert played.m.total.events_by_reason[next(r.number for r in REASONS if r.name == "QUEUE_PURGE")] == 3
    assert (played.m.sk[0].rmem_alloc, played.m.tcp_memory_allocated, played.m.tcp_sockets_allocated) == (0, 0, 0)


def test_tcp_memory_is_refused_above_the_hard_limit_and_to_the_greedy_under_pressure() -> None:
    """Two sockets share 8 pages: below rmem[0] each may go on while the total is within mem[2]."""
    setup = unread(tcp_mem_low=2, tcp_mem_pressure=4, tcp_mem_high=8, tcp_rmem_min=1)
    frames = [tcp(payload=1000, sport=40_000 + at % 2) for at in range(40)]
    played = play(setup, paced(frames, MILLISECOND_NS), until_ns=SECOND_NS)
    assert "PROTO_MEM" in played.reasons()
    assert (played.m.tcp_memory_pressure, played.m.mib.TcpExtTCPMemoryPressures) == (1, 1)
    assert played.m.tcp_memory_allocated <= 8
    for i in range(2):
        sk_dequeue(played.m, i, 100)
    assert (played.m.tcp_memory_allocated, played.m.tcp_memory_pressure) == (0, 0)


@pytest.mark.parametrize(
    ("policy", "tagged", "allowed"), [("mainline", 1, True), ("mainline", 0, False), ("phillips-v5", 1, False)]
)
def test_only_mainline_lets_a_tagged_skb_pass_the_global_limit(policy: str, tagged: int, allowed: bool) -> None:
    """sk_rmem_schedule: the limits of all sockets, not the socket's own buffer."""
    setup = unread(policy, tcp_mem_low=1, tcp_mem_pressure=1, tcp_mem_high=1)
    m = play(setup, [tcp(time_ns=0)], until_ns=SECOND_NS).m
    assert m.tcp_memory_allocated == 1
    m.config.tcp_rmem_min = 0
    assert sk_stream_rmem_schedule(m, 0, PAGE_SIZE, tagged) == allowed


@pytest.mark.parametrize(("mebibytes", "order"), [(32, 1), (64, 2), (128, 3), (256, 4), (512, 6), (4096, 6)])
def test_the_limits_follow_the_bind_hash_of_the_memory(mebibytes: int, order: int) -> None:
    """768, 1024 and 1536 pages, times the table's pages: 64k buckets of 4 bytes at the most."""
    assert tcp_bind_hash_order(mebibytes * 256) == order
    m = booted(Setup(config={"memory_pages": 32_768}))
    assert (m.config.tcp_mem_low, m.config.tcp_mem_pressure, m.config.tcp_mem_high) == (6144, 8192, 12_288)


class Pruning(RuleBasedStateMachine):
    """Two sockets under tight limits: whatever comes, the books hold and nothing exceeds what the kernel allows."""

    def __init__(self) -> None:
        """A host with memory, 12 pages for all of TCP."""
        super().__init__()
        buffers = unread(tcp_rcvbuf=12_000, tcp_rmem_max=16_000, l1_bytes=32)
        limits = {"tcp_mem_low": 4, "tcp_mem_pressure": 8, "tcp_mem_high": 12}
        self.setup = replace(buffers, config=dict(buffers.config) | limits)
        self.m = booted(self.setup)
        self.now_ns = 0
        self.next_seq = [0, 0]

    @rule(flow=st.integers(0, 1), skip=st.sampled_from((0, 0, 0, 100, 3000)), payload=st.integers(1, 1460))
    def segment(self, flow: int, skip: int, payload: int) -> None:
        """Data in order, or with a hole before it."""
        self.arrives(tcp(payload=payload, sport=40_000 + flow, tcp_seq=self.next_seq[flow] + skip))
        self.next_seq[flow] += payload + skip

    @rule(flow=st.integers(0, 1), back=st.integers(1, 9000), payload=st.integers(1, 1460))
    def old(self, flow: int, back: int, payload: int) -> None:
        """Data from further back: fills a hole, overlaps, or is old."""
        self.arrives(tcp(payload=payload, sport=40_000 + flow, tcp_seq=max(0, self.next_seq[flow] - back)))

    @rule(flow=st.integers(0, 1), packets=st.integers(1, 5))
    def read(self, flow: int, packets: int) -> None:
        """A reader comes."""
        if flow < self.m.sks_made:
            sk_dequeue(self.m, flow, packets)

    @rule(flow=st.integers(0, 1))
    def prune(self, flow: int) -> None:
        """Pruning without need does no harm to the receive queue's bytes."""
        if flow < self.m.sks_made:
            sk = self.m.sk[flow]
            held = sum(self.m.skb[b].length for b in chain(self.m, sk.queue_head))
            tcp_prune_queue(self.m, flow)
            if sk.ofo_len == 0:
                assert sum(self.m.skb[b].length for b in chain(self.m, sk.queue_head)) <= held

    @rule(flow=st.integers(0, 1))
    def close(self, flow: int) -> None:
        """The host resets one of them."""
        self.arrives(sent(tcp(payload=0, sport=40_000 + flow, flags=RST)))

    def arrives(self, columns: dict[str, int]) -> None:
        self.now_ns += MILLISECOND_NS
        frame = columns | {"time_ns": self.now_ns}
        self.m.seq_base = 0
        play(self.setup, [frame], until_ns=self.now_ns + MILLISECOND_NS // 2, machine=self.m)
        self.m.later_len = 0

    @invariant()
    def books(self) -> None:
        """Structures, the hard limit, and a socket's buffer plus one segment."""
        holds(self.m)
        assert self.m.tcp_memory_allocated <= 12
        for i in range(self.m.sks_made):
            assert self.m.sk[i].rmem_alloc <= max(self.m.sk[i].rcvbuf, 16_000) + 4136


Pruning.TestCase.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
TestPruning = Pruning.TestCase

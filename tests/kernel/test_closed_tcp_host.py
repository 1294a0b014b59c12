"""The host's end of a connection: what it sends takes memory, waits for its NIC, and comes back; nothing leaks."""

from typing import Any

import pytest
from closed_host import SMALL, Host, Peer, acked, closed_machine, exhaust, host_and_peer, relieve
from hypothesis import given, settings
from hypothesis import strategies as st
from machines import ACK, CLOSED, ISCSI, PLAIN, RST, SYN, Setup, holds, icmp, plenty, tcp, udp
from tcp_ends import MASK, MSS, NS_PER_MS, Wire

from emu.kernel.closed_loop import (
    CONN_CLOSED,
    CONN_ESTABLISHED,
    CONN_SYN_SENT,
    TX_REPLY,
    TX_SEGMENT,
    WAIT_MEMORY,
    WAIT_NOTHING,
    WAIT_SNDBUF,
)
from emu.kernel.download import downloads_due_ns
from emu.kernel.machine import NEVER_NS, NONE, ZONE_NORMAL
from emu.kernel.page_alloc import GFP_ATOMIC
from emu.kernel.skbuff import alloc_skb
from emu.kernel.sock import READER_IMMEDIATE, READER_NEEDS_MEMORY, READER_NEVER, sk_dequeue
from emu.kernel.tcp_conn import TCP_DELACK_MAX_NS
from emu.kernel.tcp_output import tcp_new_window
from emu.kernel.tcp_timer import TCP_RESOURCE_PROBE_INTERVAL_NS, tcp_timers_due_ns, tcp_timers_run
from emu.kernel.tcp_write import VM_WAIT_NS, tcp_abort, tcp_connect, tcp_push, tcp_sendpage
from emu.kernel.tx_queue import TX_QUEUE_FRAMES, dev_queue_xmit
from emu.kernel.updown import dev_close
from emu.kernel.xmit import tx_begin, tx_complete, tx_ready

SECOND = 1_000_000_000
DELAY_NS = 50_000


def lossless() -> Wire:
    """A wire that carries everything."""
    return Wire(DELAY_NS, lambda sender, number, now: False)


def opened(setup: Setup | None = None, **options: int) -> tuple[Wire, Host, Peer]:
    """A connection that is open, and idle."""
    wire = lossless()
    host, peer = host_and_peer(wire, setup, **options)
    wire.run(wire.now_ns + 10 * NS_PER_MS)
    assert host.c.state == CONN_ESTABLISHED
    return wire, host, peer


def got(peer: Peer) -> int:
    """How many bytes a peer has received, each once and in order."""
    expected = first = peer.received[0][0] if peer.received else 0
    for seq, length in peer.received:
        assert seq == expected
        expected = (expected + length) & MASK
    return (expected - first) & MASK


def test_the_handshake_is_a_syn_its_answer_and_an_ack() -> None:
    _, host, peer = opened()
    assert [flags for flags, _, _ in host.sent] == [SYN, ACK]
    assert host.m.sk[host.c.sk].rcv_nxt == 7_001
    assert host.c.queue_head == NONE and host.c.wmem_queued == 0 and acked(host.c)
    assert peer.c.snd_una == peer.c.snd_nxt
    host.holds()


def test_what_is_written_arrives_and_its_memory_comes_back() -> None:
    wire, host, peer = opened()
    before = host.m.skbs_used
    host.write(300_000)
    host.holds()
    assert host.c.wmem_queued >= host.c.sndbuf and host.c.wait == WAIT_SNDBUF
    wire.run(wire.now_ns + 5 * SECOND)
    assert got(peer) == 300_000
    assert acked(host.c) and host.left == 0
    assert host.m.skbs_used == before and host.c.wmem_queued == 0
    assert host.c.retransmits == host.c.timeouts == 0
    host.holds()


def test_a_segment_is_a_head_and_512_bytes_and_is_charged_for_its_payload() -> None:
    _, host, _ = opened()
    m = host.m
    assert tcp_sendpage(m, 0, 100) == 100
    skb = m.skb[host.c.queue_head]
    assert m.cache[m.slab[skb.data_slab].cache].objsize == 512
    assert host.c.wmem_queued == skb.truesize == 256 + 168 + MSS  # headroom of 160 in lines of 128, sk_buff, payload
    assert tcp_sendpage(m, 0, MSS) == MSS  # the unsent tail is filled first
    assert (skb.length, m.skb[host.c.queue_tail].length) == (MSS, 100)
    host.holds()


@given(
    losses=st.sets(st.tuples(st.booleans(), st.integers(1, 40)), max_size=25),
    sizes=st.lists(st.integers(1, 6_000), min_size=1, max_size=5),
)
@settings(max_examples=80, deadline=None)
def test_everything_arrives_once_and_in_order_whatever_is_lost(losses: Any, sizes: Any) -> None:
    ends: list[Any] = []
    wire = Wire(DELAY_NS, lambda sender, number, now: (isinstance(sender, Host), number) in losses)
    ends.extend(host_and_peer(wire))
    host, peer = ends
    wire.run(wire.now_ns + 200 * SECOND)
    assert host.c.state == CONN_ESTABLISHED
    before = host.m.skbs_used
    for k, size in enumerate(sizes):
        wire.at(wire.now_ns + k * NS_PER_MS, lambda size=size: host.write(size))  # type: ignore[misc]
        wire.at(wire.now_ns + k * NS_PER_MS, lambda size=size: peer.write(size))  # type: ignore[misc]
    for _ in range(20):
        wire.run(wire.now_ns + 100 * NS_PER_MS)
        host.holds()
    wire.run(wire.now_ns + 2_000 * SECOND)
    assert got(peer) == sum(sizes) == host.c.bytes_received
    assert acked(host.c) and acked(peer.c)
    assert host.m.skbs_used == before
    host.holds()


@pytest.mark.parametrize(("heads", "areas"), [(0, 1), (1, 0)])
def test_without_a_head_or_a_data_area_the_task_waits_and_tries_again(heads: int, areas: int) -> None:
    wire, host, peer = opened()
    m = host.m
    exhaust(m, heads, areas)
    before = m.skbs_used
    m.now_ns = wire.now_ns
    host.write(MSS)
    assert (host.c.wait, host.c.wait_until_ns) == (WAIT_MEMORY, wire.now_ns + VM_WAIT_NS)
    assert (host.c.tx_alloc_failed, m.skbs_used, host.left) == (1, before, MSS)
    host.holds()
    wire.at(wire.now_ns + VM_WAIT_NS // 2, lambda: relieve(m))
    wire.run(wire.now_ns + VM_WAIT_NS - 1)
    assert host.c.wait == WAIT_MEMORY
    wire.run(wire.now_ns + 5 * NS_PER_MS)
    assert got(peer) == MSS and host.c.wait == WAIT_NOTHING
    host.holds()


def test_a_segment_that_cannot_be_cloned_waits_for_the_probe_timer() -> None:
    wire, host, peer = opened()
    m = host.m
    exhaust(m, 1, 1)  # enough for the segment, nothing for its clone
    m.now_ns = start = wire.now_ns
    host.write(MSS)
    assert host.c.send_head != NONE and host.c.snd_nxt == host.c.snd_una
    assert host.c.probe_due_ns == start + host.c.rto_ns
    host.holds()
    wire.run(start + host.c.rto_ns)  # in vain: then it waits twice as long
    assert host.c.probe_due_ns == start + 3 * host.c.rto_ns
    relieve(m)
    wire.run(start + 4 * host.c.rto_ns)
    assert got(peer) == MSS and acked(host.c)
    assert host.c.tx_alloc_failed == 2
    host.holds()


def test_a_segment_that_cannot_be_cloned_goes_with_the_next_ack() -> None:
    wire, host, peer = opened()
    m = host.m
    host.write(MSS)
    exhaust(m, 1, 1)
    host.write(MSS)
    assert host.c.tx_alloc_failed == 1 and host.c.snd_nxt != host.c.snd_una
    assert host.c.probe_due_ns == NEVER_NS
    relieve(m)
    wire.run(wire.now_ns + 50 * NS_PER_MS)
    assert got(peer) == 2 * MSS
    host.holds()


def test_a_retransmission_without_memory_backs_off_like_one_that_was_sent() -> None:
    wire, host, _ = opened()
    m = host.m
    wire.lost = lambda sender, number, now: True
    start = wire.now_ns
    host.write(MSS)
    rto = host.c.rto_ns
    wire.run(start + rto - 1)
    exhaust(m, 0, 0)
    wire.run(start + rto + 1)
    assert host.c.rto_ns == 2 * rto and host.c.rto_due_ns == start + 3 * rto
    assert (host.c.timeouts, host.c.retransmits, host.c.tx_alloc_failed) == (1, 0, 1)
    relieve(m)
    wire.lost = lambda sender, number, now: False
    wire.run(start + 4 * rto)
    assert acked(host.c) and host.c.retransmits == 1
    host.holds()


def test_a_retransmission_is_a_copy_while_the_first_has_not_left() -> None:
    wire, host, _ = opened()
    m = host.m
    m.now_ns = start = wire.now_ns
    assert tcp_sendpage(m, 0, MSS) == MSS
    tcp_push(m, 0)  # and the NIC does not take it
    exhaust(m, 1, 0)
    m.now_ns = start + host.c.rto_ns
    tcp_timers_run(m)
    assert host.c.tx_alloc_failed == 1  # a clone would have needed a head only
    relieve(m)
    m.now_ns = host.c.rto_due_ns
    tcp_timers_run(m)
    first, second = m.tx[m.dev[0].tx_head], m.tx[m.dev[0].tx_tail]
    assert (first.seq, first.length) == (second.seq, second.length)
    assert m.skb[first.skb].data_slab == m.skb[host.c.queue_head].data_slab
    assert m.skb[second.skb].clone_next == second.skb
    host.holds()


def fill_queue(m: Any) -> None:
    """So many frames that the NIC's queue takes no more."""
    while m.dev[0].tx_len < TX_QUEUE_FRAMES:
        b = alloc_skb(m, 160, GFP_ATOMIC, 0)
        assert dev_queue_xmit(m, 0, b, TX_SEGMENT, 0, 0, 0, 0, 0, ACK)


def test_a_full_queue_drops_the_frame_and_the_timer_comes_back_soon() -> None:
    wire, host, _ = opened()
    m = host.m
    wire.lost = lambda sender, number, now: True
    start = wire.now_ns
    host.write(MSS)
    rto = host.c.rto_ns
    wire.run(start + rto - 1)
    m.now_ns = start + rto
    fill_queue(m)
    used = m.skbs_used
    tcp_timers_run(m)
    assert host.c.rto_ns == rto
    assert host.c.rto_due_ns == m.now_ns + min(rto, TCP_RESOURCE_PROBE_INTERVAL_NS)
    assert m.dev[0].tx_dropped == 1 and m.skbs_used == used
    host.holds()
    while m.dev[0].tx_len:
        tx_begin(m, 0, m.now_ns)
        tx_complete(m, 0)
    host.holds()


def test_an_ack_without_memory_waits_for_the_timer_at_its_maximum() -> None:
    wire, host, peer = opened()
    m = host.m
    exhaust(m, 0, 0)
    host.c.quick = 0
    start = wire.now_ns
    peer.write(2 * MSS)
    wire.run(start + 10 * NS_PER_MS)
    assert m.mib.MemallocAckFailed == host.c.tx_alloc_failed == 1
    assert start < host.c.delack_due_ns - TCP_DELACK_MAX_NS < start + NS_PER_MS
    assert not acked(peer.c)
    relieve(m)
    wire.run(start + 2 * SECOND)
    assert acked(peer.c) and host.c.delack_due_ns == NEVER_NS
    host.holds()


def test_acks_are_quick_then_for_two_segments_then_late() -> None:
    wire, host, peer = opened()
    host.c.quick = 1
    sent = len(host.sent)
    times = []
    for _ in range(4):
        start = wire.now_ns
        peer.write(MSS)
        wire.run(start + 5 * NS_PER_MS)
        times.append(len(host.sent) - sent)
    assert times == [1, 1, 2, 2]
    wire.run(wire.now_ns + 40 * NS_PER_MS)
    assert len(host.sent) - sent == 3  # the timer's


BULK = 80


def bulk(reader: int) -> tuple[Wire, Host, Peer]:
    """A connection whose reader is of this kind, and is no block I/O's."""
    setup = Setup("linux-2.6.12", plenty(ordinary_reader=reader), (SMALL,))
    return opened(setup, port=BULK)


def test_a_blocked_reader_closes_the_window_and_opens_it_with_an_update() -> None:
    wire, host, peer = bulk(READER_NEVER)
    m = host.m
    peer.write(400_000)
    wire.run(wire.now_ns + 5 * SECOND)
    sk = m.sk[host.c.sk]
    offered = (host.c.rcv_wup + host.c.rcv_wnd - sk.rcv_nxt) & MASK
    assert offered < MSS and not acked(peer.c)
    assert sk.rmem_alloc < sk.rcvbuf + 4096 and m.total.dropped == 0
    received = host.c.bytes_received
    assert 20_000 < received < 87_380
    wire.run(wire.now_ns + 20 * SECOND)
    assert host.c.bytes_received - received <= offered
    sent = len(host.sent)
    m.now_ns = wire.now_ns
    sk_dequeue(m, host.c.sk, 3)
    assert len(host.sent) == sent and m.dev[0].tx_len == (1 if tcp_new_window(sk, host.c) else 0)
    while sk.queue_len:
        sk_dequeue(m, host.c.sk, 10)
    sk.reader = READER_IMMEDIATE
    host.transmit()
    assert len(host.sent) > sent
    wire.run(wire.now_ns + 2 * SECOND)
    assert host.c.bytes_received == 400_000 and acked(peer.c)
    host.holds()


def test_the_window_never_takes_back_what_it_offered() -> None:
    wire, host, peer = bulk(READER_NEVER)
    edges = []
    peer.write(1_000_000)
    for step in range(400):
        wire.run(wire.now_ns + DELAY_NS)
        host.m.now_ns = wire.now_ns
        sk_dequeue(host.m, host.c.sk, step % 7)
        host.transmit()
        edges.append((host.c.rcv_wup + host.c.rcv_wnd) & MASK)
    assert edges == sorted(edges) and len(set(edges)) > 3


def test_a_reader_that_needs_memory_stalls_its_flow_until_there_is_some() -> None:
    wire, host, peer = bulk(READER_NEEDS_MEMORY)
    m = host.m
    peer.write(30_000)
    wire.run(wire.now_ns + SECOND)
    assert host.c.bytes_received == 30_000 and m.sk[host.c.sk].rmem_alloc == 0
    z = m.zone[1]
    spare = z.free_pages - z.pages_min + 1
    z.free_pages -= spare
    z.nr_free[:] = [z.free_pages] + [0] * (len(z.nr_free) - 1)
    z.other_pages += spare
    dma = m.zone[0]
    dma.other_pages += dma.free_pages
    dma.free_pages = 0
    dma.nr_free[:] = [0] * len(dma.nr_free)
    peer.write(300_000)
    wire.run(wire.now_ns + 3 * SECOND)
    assert m.sk[host.c.sk].rmem_alloc > 0 and host.c.bytes_received < 330_000
    host.holds()


def test_lost_segments_of_the_peer_come_again_and_count_as_nothing_before() -> None:
    lost: set[int] = set()
    wire = Wire(DELAY_NS, lambda sender, number, now: isinstance(sender, Peer) and number in lost)
    host, peer = host_and_peer(wire)
    wire.run(wire.now_ns + SECOND)
    lost.add(wire.carried[id(peer)] + 2)
    peer.write(3 * MSS)
    wire.run(wire.now_ns + NS_PER_MS)
    sk = host.m.sk[host.c.sk]
    assert host.c.bytes_received == MSS and sk.ofo_len == 1 and sk.ghosts == 0
    wire.run(wire.now_ns + SECOND)
    assert host.c.bytes_received == 3 * MSS and sk.ofo_len == 0
    host.holds()


def test_an_abort_resets_the_peer_and_frees_all() -> None:
    wire, host, peer = bulk(READER_NEVER)
    m = host.m
    used, live = m.skbs_used, m.sk_live
    peer.write(20_000)
    wire.run(wire.now_ns + SECOND)
    host.write(100_000)
    assert m.skbs_used > used
    m.now_ns = wire.now_ns
    host.left = 0
    tcp_abort(m, 0)
    assert (host.c.state, host.c.sk, host.c.wmem_queued) == (CONN_CLOSED, NONE, 0)
    assert tcp_timers_due_ns(m) == NEVER_NS
    host.holds()
    wire.run(wire.now_ns + SECOND)
    assert peer.was_reset and m.skbs_used == used and m.sk_live == live - 1
    host.holds()


def test_a_late_segment_of_a_connection_that_is_gone_is_answered_with_a_rst() -> None:
    wire, host, peer = opened()
    m = host.m
    tcp_abort(m, 0)
    live = m.sk_live
    wire.run(wire.now_ns + NS_PER_MS)
    peer.write(MSS)
    wire.run(wire.now_ns + NS_PER_MS)
    assert host.answered == [RST] and m.sk_live == live
    host.holds()


def test_a_refused_connection_is_closed_and_can_be_opened_again() -> None:
    wire = lossless()
    host, peer = host_and_peer(wire)
    m = host.m
    first_iss = host.c.iss
    host.arrives(0, 0, (host.c.iss + 1) & MASK, 0, RST | ACK)
    assert host.c.state == CONN_CLOSED and host.c.sk == NONE
    wire.events.clear()
    wire.run(wire.now_ns + SECOND)
    m.now_ns = wire.now_ns
    host.holds()
    assert tcp_connect(m, 0) and host.c.iss != first_iss and host.c.generation == 2
    host.transmit()
    wire.run(wire.now_ns + SECOND)
    assert host.c.state == CONN_ESTABLISHED
    host.write(5_000)
    wire.run(wire.now_ns + SECOND)
    assert got(peer) == 5_000
    host.holds()


def test_a_syn_without_memory_leaves_the_connection_closed_and_a_lost_one_is_sent_again_after_3_s() -> None:
    wire = Wire(DELAY_NS, lambda sender, number, now: isinstance(sender, Host) and number == 1)
    host, _ = host_and_peer(wire)
    wire.run(wire.now_ns + 2_999 * NS_PER_MS)
    assert host.c.state == CONN_SYN_SENT and len(host.sent) == 1
    wire.run(wire.now_ns + 2 * NS_PER_MS)
    assert host.c.state == CONN_ESTABLISHED
    m = host.m
    tcp_abort(m, 0)
    exhaust(m, 0, 0)
    used, live = m.skbs_used, m.sk_live
    assert not tcp_connect(m, 0)
    assert (host.c.state, m.skbs_used, m.sk_live) == (CONN_CLOSED, used, live)
    host.holds()


def test_who_connects_reclaims_what_is_clean() -> None:
    """The SYN's skb comes with GFP_KERNEL: clean pages are as good as free ones."""
    _, host, _ = opened()
    m = host.m
    tcp_abort(m, 0)
    exhaust(m, 0, 0)
    z = m.zone[ZONE_NORMAL]
    pages = z.pages_min + z.lowmem_reserve[ZONE_NORMAL] + 64
    z.other_pages -= pages
    z.clean_pages += pages
    m.vm.clean_pages += pages
    assert tcp_connect(m, 0)
    assert z.clean_pages < pages
    host.holds()


def test_replies_hold_their_memory_until_they_are_sent() -> None:
    wire, host, _ = opened()
    m = host.m
    used = m.skbs_used
    m.now_ns = wire.now_ns
    host.transmit = lambda: None  # type: ignore[method-assign]
    for frame in (icmp(8), udp(CLOSED), tcp(CLOSED)):
        host.frame({"time_ns": m.now_ns} | frame)
    assert m.skbs_used == used + 3
    row = m.replies_open
    flags = []
    while row != NONE:
        assert m.tx[row].kind == TX_REPLY and m.tx[row].reply_at == NONE
        flags.append(m.tx[row].tcp_flags)
        row = m.tx[row].reply_next
    assert flags == [0, 0, RST]
    host.holds()
    while tx_ready(m) != NONE:
        tx_begin(m, 0, m.now_ns)
        tx_complete(m, 0)
    assert m.skbs_used == used and m.replies_open == NONE
    host.holds()


def test_a_device_that_goes_down_loses_what_waits() -> None:
    wire, host, _ = opened()
    m = host.m
    used = m.skbs_used
    m.now_ns = wire.now_ns
    tcp_sendpage(m, 0, 3 * MSS)
    tcp_push(m, 0)
    tx_begin(m, 0, m.now_ns + 1)
    dev_close(m, host.rows, 0)
    assert m.dev[0].tx_len == 0 and m.dev[0].tx_sending == 0 and tx_ready(m) == NONE
    assert m.skbs_used == used - SMALL.ring + 3
    holds(m)
    wire.run(wire.now_ns + SECOND)
    assert host.c.timeouts > 0 and host.c.rto_due_ns != NEVER_NS
    holds(m)


@pytest.mark.parametrize(("policy", "sent"), [("linux-2.6.12", 0), ("phillips-v5", 0), ("mainline", 1)])
def test_only_mainlines_memalloc_sockets_send_from_the_reserve(policy: str, sent: int) -> None:
    """The patch of 2005 is for reception only (bug 15)."""
    _, host, _ = opened(Setup(policy, plenty(), (SMALL,)))
    m = host.m
    assert m.sk[host.c.sk].memalloc
    exhaust(m, 0, 0)
    relieve(m, 8)  # far below pages_min
    host.write(MSS)
    assert (host.c.tx_alloc_failed == 0) == (sent == 1)
    assert host.c.snd_nxt - host.c.snd_una == sent * MSS
    host.holds()


def test_a_download_connects_when_the_softirq_has_left_the_cpu() -> None:
    """It is a task like any other."""
    m = closed_machine(Setup("linux-2.6.12", config=plenty()))
    m.sessions, m.conns = 0, 1
    m.conn[0].connect_due_ns = 7
    assert downloads_due_ns(m) == 7
    m.poll_len = 1
    assert downloads_due_ns(m) == NEVER_NS


def test_a_strangers_segment_makes_no_connection_of_ours() -> None:
    m = closed_machine(Setup("linux-2.6.12", plenty(), (SMALL,)))
    m.conns = 1
    PLAIN.fill(m.conn[0], {"saddr": 1, "sport": 2, "daddr": 3, "dport": ISCSI, "sk": NONE})
    holds(m)
    assert tcp_timers_due_ns(m) == NEVER_NS

"""Without NAPI: the interrupt's queue of 301 packets, its throttle, and the refill that comes before the protocols."""

import pytest
from machines import Nic, Setup, arp, icmp, paced, play, plenty, sent, tcp, udp

from emu.kernel.drop_reason import AT_NETIF_RX
from emu.kernel.machine import BACKLOG_DEV

SECOND_NS = 1_000_000_000


def irq(**config: int) -> Setup:
    """A quiet machine whose device is not polled."""
    return Setup("linux-2.6.12", config=plenty(**config), nics=(Nic(napi=0),))


def test_packets_pass_the_queue_in_order_and_the_ring_is_always_full() -> None:
    """A frame leaves the ring as it arrives; the softirq decides it later, at its own pace."""
    played = play(irq(), [udp(time_ns=0)] * 200, until_ns=SECOND_NS)
    m = played.m
    assert m.total.delivered == 200
    assert played.column("decided_ns") == sorted(played.column("decided_ns"))
    assert min(played.column("ring_free")) > 224  # a refill shows the NIC 16 descriptors at a time
    assert played.column("backlog_len") == list(range(199, -1, -1))
    assert (m.dev[0].ring_filled, m.dev[0].polls, m.dev[BACKLOG_DEV].polls) == (256, 0, 4)


def test_softnet_counts_a_packet_in_netif_rx_and_in_netif_receive_skb() -> None:
    """/proc/net/softnet_stat total is twice the packets."""
    assert play(irq(), paced([arp()] * 10), until_ns=SECOND_NS).m.mib.softnet_processed == 20


@pytest.mark.parametrize("most", [300, 10])
def test_reason_CPU_BACKLOG(most: int) -> None:  # noqa: N802
    """The queue takes netdev_max_backlog + 1 packets at one instant; over that it throttles."""
    played = play(irq(netdev_max_backlog=most), [arp(time_ns=0)] * (most + 50), until_ns=SECOND_NS)
    assert played.reasons() == [""] * (most + 1) + ["CPU_BACKLOG"] * 49
    row = played.rows[most + 1]
    assert (row.point, row.backlog_len) == (AT_NETIF_RX, most + 1)
    mib = played.m.mib
    assert (mib.softnet_dropped, mib.softnet_throttled, played.m.backlog_throttle) == (49, 1, 0)


def test_a_throttled_queue_drops_until_it_has_been_empty() -> None:
    """With room for hundreds again, everything is dropped until the last packet of the 301 is gone."""
    burst = [arp(time_ns=0)] * 302
    later = [arp(time_ns=100_000 * at) for at in range(1, 11)]  # 2 us a packet: the queue is empty after 0.6 ms
    played = play(irq(), burst + later, until_ns=SECOND_NS)
    assert played.reasons()[301:] == ["CPU_BACKLOG"] * 7 + [""] * 4
    assert played.m.mib.softnet_throttled == 1


def test_the_refill_precedes_the_checks_so_the_reserve_is_taken_before_it_is_given_back() -> None:
    """In a crunch a burst takes reserve buffers before any check runs; with NAPI the checks of a poll come first."""
    used = {}
    for napi in (0, 1):
        setup = Setup("phillips-v5", nics=(Nic(napi=napi),))
        played = play(setup, [tcp(time_ns=0)] * 32, until_ns=1_000_000)
        used[napi] = played.m.dev[0].rx_reserve_used_max
        if not napi:
            assert played.rows[0].reserve_used_before == used[0] > 0
    assert used[1] > 0


def test_a_tx_completion_and_the_watchdog_refill_without_a_poll() -> None:
    """Nothing is ever put on the poll list for the device itself."""
    played = play(irq(), paced([sent(tcp()), icmp()]), until_ns=5 * SECOND_NS)
    m = played.m
    assert (m.dev[0].polls, m.dev[BACKLOG_DEV].polls, m.dev[0].watchdog_ns) == (0, 1, 6 * SECOND_NS)


def test_polled_and_other_devices_share_the_softirq() -> None:
    """One NIC with NAPI, one without: the poll list holds the first and the backlog, 64 packets a turn."""
    setup = Setup("linux-2.6.12", config=plenty(), nics=(Nic(), Nic(napi=0)))
    played = play(setup, [arp(time_ns=0, dev=at % 2) for at in range(300)], until_ns=SECOND_NS)
    order = sorted(range(300), key=lambda at: played.rows[at].decided_ns)
    turns = [played.rows[at].dev for at in order]
    assert turns == [0] * 64 + [1] * 64 + [0] * 64 + [1] * 64 + [0] * 22 + [1] * 22


def test_an_aggregated_packet_counts_its_segments_in_the_queue() -> None:
    """Four segments are four skbs of the queue and one packet of it."""
    played = play(irq(), [tcp(time_ns=0, payload=4000, segments=4), arp(time_ns=0), arp(time_ns=0)])
    assert (played.m.backlog_packets, played.m.backlog_len) in ((2, 2), (3, 6))
    assert sum(row == 3 for row in played.column("verdict")) == played.m.total.in_flight


def test_the_time_squeeze_ends_a_turn_of_the_backlog_too() -> None:
    """2 ms of backlog, then a squeeze, and it goes on."""
    played = play(irq(cpu_ns_per_packet=50_000), [arp(time_ns=0)] * 200, until_ns=SECOND_NS)
    assert played.m.mib.softnet_time_squeeze > 0
    assert played.m.total.delivered == 200


@pytest.mark.parametrize("at_once", [0, 1])
def test_v1_delivers_marked_packets_from_the_interrupt_ahead_of_the_queue(at_once: int) -> None:
    """A packet on a reserve buffer is decided as it arrives, while earlier ones on normal memory still wait."""
    setup = Setup(
        "phillips-v1", nics=(Nic(napi=0, ring=32, background=0),), policy_rules={"delivers_marked_at_once": at_once}
    )
    played = play(setup, [tcp(time_ns=0)] * 60, until_ns=SECOND_NS)
    marked = played.column("pfmemalloc")
    waited = [
        decided - arrived
        for decided, arrived in zip(played.column("decided_ns"), played.column("time_ns"), strict=True)
    ]
    assert 0 < sum(marked) < 60
    if at_once:
        assert {wait for wait, mark in zip(waited, marked, strict=True) if mark} == {0}
        assert max(wait for wait, mark in zip(waited, marked, strict=True) if not mark) > 0
        assert played.m.mib.softnet_processed == 60 + 60 - sum(marked)
    else:
        assert waited == sorted(waited)

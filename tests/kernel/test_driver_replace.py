"""8139cp and tg3: the replacement is allocated when the packet is taken, or the packet is dropped; the ring stays."""

from typing import Any

import pytest
from machines import PLAIN, Nic, Setup, arp, booted, holds, leave_free, paced, play, plenty, rows_of, tcp, udp

from emu.engine.loop import leave_in_flight, run
from emu.kernel.boot import empty_caches
from emu.kernel.drop_reason import AT_CP_RX_POLL, AT_TG3_RX, CPU_BUSY, DEVICE_CAP, NOMEM, REASONS
from emu.kernel.e1000 import ring_free
from emu.kernel.machine import DRIVER_8139CP, DRIVER_TG3, NEVER_NS, Event
from emu.kernel.policy import RULE_CAP, RULE_NO_RESERVE
from emu.kernel.replace import cp_buffer_bytes
from emu.kernel.sock import READER_NEVER

SECOND_NS = 1_000_000_000
CP = Nic(driver=DRIVER_8139CP, ring=64, weight=16, background=0)
TG3 = Nic(driver=DRIVER_TG3, ring=200, background=0)


def starved(nic: Nic, policy: str = "linux-2.6.12") -> Any:
    """A machine without a free page or a free object, where nobody reads."""
    m = booted(Setup(policy, config=plenty() | {"ordinary_reader": READER_NEVER}, nics=(nic,)))
    empty_caches(m)
    leave_free(m, 0)
    return m


def test_the_buffer_of_an_8139cp_is_1536_bytes_or_fits_a_longer_mtu() -> None:
    """cp_set_rxbufsize: MTU + 14 + 8 above 1500; one object of size-2048 in either driver."""
    assert [cp_buffer_bytes(mtu) for mtu in (576, 1500, 1501, 4096)] == [1536, 1536, 1523, 4118]
    for nic in (CP, TG3):
        m = booted(Setup("linux-2.6.12", config=plenty(), nics=(nic,)))
        assert {m.cache[m.slab[m.skb[m.dev[0].ring_skb[slot]].data_slab].cache].objsize for slot in range(64)} == {2048}


@pytest.mark.parametrize("nic", [CP, TG3], ids=["8139cp", "tg3"])
def test_every_buffer_is_shown_to_the_nic_and_packets_leave_the_ring_full(nic: Nic) -> None:
    """No tail in steps of 16: all 64 or 200 can be filled, and after 1000 packets all are there again."""
    assert ring_free(booted(Setup("linux-2.6.12", config=plenty(), nics=(nic,))), 0) == nic.ring
    played = play(Setup("linux-2.6.12", config=plenty(), nics=(nic,)), paced([udp()] * 1000), until_ns=SECOND_NS)
    dev = played.m.dev[0]
    assert (played.m.total.delivered, dev.ring_filled, ring_free(played.m, 0), dev.rx_dropped) == (
        1000,
        nic.ring,
        nic.ring,
        0,
    )


@pytest.mark.parametrize(("nic", "point"), [(CP, AT_CP_RX_POLL), (TG3, AT_TG3_RX)], ids=["8139cp", "tg3"])
def test_reason_NOMEM(nic: Nic, point: int) -> None:  # noqa: N802
    """No page: the driver drops the frame, when it takes it, and its buffer stays; the ring never runs dry."""
    m = starved(nic)
    played = play(Setup(), paced([udp()] * 500), machine=m, until_ns=SECOND_NS)
    assert set(played.reasons()) == {"NOMEM"}
    row = played.rows[0]
    assert (row.cause, row.point, row.rule, row.decided_ns) == (NOMEM, point, RULE_NO_RESERVE, 0)
    dev = m.dev[0]
    assert (dev.rx_dropped, dev.rx_missed, dev.ring_filled, ring_free(m, 0)) == (500, 0, nic.ring, nic.ring)


@pytest.mark.parametrize("nic", [CP, TG3], ids=["8139cp", "tg3"])
def test_the_cap_drops_at_the_driver_once_so_many_buffers_are_out(nic: Nic) -> None:
    """v5: 50 replacements come from the reserve, the other objects of their slabs are free; then all is dropped."""
    m = starved(nic, "phillips-v5")
    leave_free(m, 300)
    m.zone[1].pages_min = m.zone[1].pages_low = m.zone[1].pages_high = 10_000  # nothing but __GFP_MEMALLOC gets a page
    frames = paced([udp(port) for port in range(1000, 1200)])
    m.policy.check_udp = 0
    played = play(Setup(), frames, machine=m, until_ns=3_000_000)
    reasons = played.reasons()
    first = reasons.index("NOMEM")
    assert 50 <= first <= 150
    assert reasons == [""] * first + ["NOMEM"] * (200 - first)
    row = played.rows[first]
    assert (row.cause, row.rule, row.reserve_used_before, row.cap_skbs) == (DEVICE_CAP, RULE_CAP, 50, 50)


def test_tg3_copies_a_small_packet_and_keeps_its_buffer() -> None:
    """Up to 256 bytes: an skb of the packet's size goes up, with a truesize to match; 257 bytes take the buffer."""
    config = plenty() | {"ordinary_reader": READER_NEVER}
    frames = paced([udp(payload=214), udp(payload=215)])
    m = play(Setup("linux-2.6.12", config=config, nics=(TG3,)), frames, until_ns=SECOND_NS).m
    queue = m.sk[0].queue_head
    small, large = m.skb[queue], m.skb[m.skb[queue].next]
    assert (small.truesize, large.truesize) == (384 + 168, 1664 + 168)
    assert m.cache[m.slab[small.data_slab].cache].objsize == 1024


def test_tg3_gives_its_buffers_back_after_the_pass_and_8139cp_at_once() -> None:
    """Within a poll the NIC of a tg3 has fewer descriptors left with each packet, that of an 8139cp has more."""
    free = {}
    for nic in (CP, TG3):
        played = play(
            Setup("linux-2.6.12", config=plenty(), nics=(nic,)), [arp(time_ns=0)] * 10 + [arp(time_ns=1 << 40)]
        )
        free[nic.driver] = played.column("ring_free")[:10]
    assert free == {DRIVER_8139CP: list(range(55, 65)), DRIVER_TG3: [190] * 10}


def test_a_full_ring_misses_frames_for_want_of_cpu_only() -> None:
    """64 of 70 frames at one instant are in the ring of an 8139cp; the others are missed."""
    played = play(Setup("linux-2.6.12", config=plenty(), nics=(CP,)), [arp(time_ns=0)] * 70, until_ns=SECOND_NS)
    assert played.reasons() == [""] * 64 + ["RX_MISSED"] * 6
    assert {played.rows[at].cause for at in range(64, 70)} == {CPU_BUSY}


def test_an_aggregated_frame_is_dropped_whole_when_one_segment_finds_no_replacement() -> None:
    """Two buffers' worth of memory, four segments: none of them reaches a socket, and nothing is lost."""
    m = starved(CP)
    leave_free(m, 0, 0)
    z = m.zone[1]
    z.pages_min = z.pages_low = z.pages_high = 0
    z.other_pages -= 6
    z.free_pages = z.nr_free[0] = 6
    played = play(Setup(), paced([tcp(payload=4000, segments=4)]), machine=m, until_ns=SECOND_NS)
    assert played.reasons() == ["NOMEM"]
    assert (m.dev[0].rx_dropped, m.dev[0].ring_filled) == (4, 64)


def test_an_8139cp_that_cannot_fill_its_ring_stays_down_and_a_tg3_runs_with_what_it_got() -> None:
    """cp_refill_rx fails the open; tg3_init_rings breaks off and goes on."""
    ends = {}
    for nic in (CP, TG3):
        m = booted(Setup("phillips-v5", config=plenty(), nics=(nic,), plan=((1, 0, 0, 0), (2, 1, 0, 0))))
        before = m.min_free_kbytes
        log = PLAIN.rows(Event, 4)
        rows = rows_of([])
        run(m, rows, 0, 0, 2, log, 4)
        empty_caches(m)
        leave_free(m, 0)
        m.policy.rx_memalloc = 0
        z = m.zone[1]
        z.other_pages -= 60
        z.free_pages = z.nr_free[0] = 60
        z.pages_min = z.pages_low = z.pages_high = 0
        m.policy.adjusts_reserve = 0
        run(m, rows, 0, 0, 10, log, 4)
        leave_in_flight(m, rows, 0, 0)
        holds(m)
        dev = m.dev[0]
        ends[nic.driver] = (dev.up, 0 < dev.ring_filled < nic.ring, dev.watchdog_ns == NEVER_NS, before > 1448)
    assert ends == {DRIVER_8139CP: (0, False, True, True), DRIVER_TG3: (1, True, True, True)}


def test_the_reason_names_the_points() -> None:
    """The table says where NOMEM falls."""
    assert "cp_rx_poll" in next(reason.point for reason in REASONS if reason.name == "NOMEM")

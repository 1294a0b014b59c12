"""The e1000e and the page allocator of 6.x: when the ring is refilled, copybreak, watermarks as measured."""

from itertools import pairwise

import pytest
from machines import Nic, Setup, arp, booted, holds, icmp, iscsi, leave_free, paced, play, plenty, sent, udp, unbooted

from emu.kernel.boot import boot, init_zones, pcp_batch_6x
from emu.kernel.e1000 import ring_free
from emu.kernel.e1000e import e1000e_desc_unused, e1000e_rx_buffer_len
from emu.kernel.machine import DRIVER_E1000E, MM_6X, NONE, ZONE_DMA, ZONE_NORMAL, Zone
from emu.kernel.page_alloc import (
    GFP_ATOMIC,
    GFP_MEMALLOC,
    GFP_NOMEMALLOC,
    alloc_pages,
    floor_of,
    zone_watermark_ok_6x,
)
from emu.kernel.skbuff import kfree_skb
from emu.kernel.sock import READER_NEVER

GEOMETRY_6X = {"mm": MM_6X, "sk_buff_bytes": 232, "l1_bytes": 64, "netdev_max_backlog": 1000, "netdev_budget": 300}
E1000E = Nic(driver=DRIVER_E1000E)
SECOND_NS = 1_000_000_000


def quiet(policy: str = "mainline", **config: int) -> Setup:
    """A 6.x machine with memory in plenty."""
    return Setup(policy, config=plenty(**GEOMETRY_6X) | config, nics=(E1000E,))


# --- watermarks ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pages_min", "reserve", "highest_refused"),
    [(297, 0, 112), (323, 0, 122), (44, 99, 116), (358, 0, 135), (914, 0, 343)],
)
def test_gfp_atomic_stops_where_the_real_kernel_stopped(pages_min: int, reserve: int, highest_refused: int) -> None:
    """Measured on 6.1.192 and 7.3.4: refused at 3/8 of min plus lowmem_reserve, granted one page above."""
    m = unbooted(quiet())
    init_zones(m)
    z = m.zone[ZONE_NORMAL]
    z.pages_min, z.pages_low, z.pages_high = pages_min, 1 << 20, 1 << 20
    z.lowmem_reserve[ZONE_NORMAL] = reserve
    for free, granted in ((highest_refused, False), (highest_refused + 1, True)):
        leave_free(m, free)
        assert (alloc_pages(m, GFP_ATOMIC, 0) != NONE) is granted
    assert floor_of(pages_min, 1, 1) + reserve == highest_refused


def test_nomemalloc_stops_at_half_and_memalloc_nowhere() -> None:
    """At 149 pages __GFP_NOMEMALLOC is refused and GFP_ATOMIC is not; __GFP_MEMALLOC takes the last page, tagged."""
    m = unbooted(quiet())
    init_zones(m)
    z = m.zone[ZONE_NORMAL]
    z.pages_min, z.pages_low, z.pages_high = 297, 371, 445
    leave_free(m, 149)
    assert alloc_pages(m, GFP_ATOMIC | GFP_NOMEMALLOC, 0) == NONE
    assert (alloc_pages(m, GFP_ATOMIC, 0), m.grant_tagged) == (ZONE_NORMAL, 0)
    leave_free(m, 1)
    assert (alloc_pages(m, GFP_ATOMIC | GFP_MEMALLOC, 0), m.grant_tagged) == (ZONE_NORMAL, 1)
    assert alloc_pages(m, GFP_ATOMIC | GFP_MEMALLOC, 0) == NONE


@pytest.mark.parametrize(
    ("free", "order3", "order4", "granted"),
    [(400, 1, 0, True), (400, 0, 1, True), (400, 0, 0, False), (378, 1, 0, False), (379, 1, 0, True)],
)
def test_past_the_floor_any_block_that_is_large_enough_will_do(
    free: int, order3: int, order4: int, granted: bool
) -> None:
    """v6.19 __zone_watermark_ok: no halving of the mark per order, as 2.6.12 has it."""
    z = Zone()
    z.free_pages = free
    z.nr_free[3], z.nr_free[4] = order3, order4
    assert zone_watermark_ok_6x(z, 3, 371, ZONE_NORMAL, 0, 0) is granted


@pytest.mark.parametrize(
    ("gib", "thp", "pages_min"),
    [(1, 0, 1024), (4, 0, 2048), (16, 0, 4096), (1, 1, 11264), (4, 1, 16896), (16, 1, 16896)],
)
def test_huge_pages_raise_the_watermarks(gib: int, thp: int, pages_min: int) -> None:
    """khugepaged wants 11 page blocks per zone, at most a twentieth of the memory; all zones together."""
    m = unbooted(quiet(memory_pages=gib << 18, thp=thp))
    init_zones(m)
    assert m.min_free_kbytes >> 2 == pages_min
    assert abs(m.zone[ZONE_DMA].pages_min + m.zone[ZONE_NORMAL].pages_min - pages_min) <= 1


def test_below_512_mib_huge_pages_are_off() -> None:
    """hugepage_init: so the traced machine of 176 MiB has the plain watermarks."""
    marks = []
    for thp in (0, 1):
        m = unbooted(quiet(memory_pages=45_056, thp=thp))
        init_zones(m)
        marks.append(m.zone[ZONE_NORMAL].pages_min)
    assert marks[0] == marks[1]


def test_low_and_high_keep_a_distance_of_a_thousandth_of_the_zone() -> None:
    """watermark_scale_factor 10: on 16 GiB that is more than a quarter of min."""
    m = unbooted(quiet(memory_pages=1 << 22))
    init_zones(m)
    z = m.zone[ZONE_NORMAL]
    step = z.present_pages // 1000
    assert step > z.pages_min // 4
    assert (z.pages_low - z.pages_min, z.pages_high - z.pages_low) == (step, step)


def test_a_measured_zone_is_taken_as_it_was_measured() -> None:
    """The traced machine: its zones, and the free pages that it had when the run began."""
    m = unbooted(quiet())
    for zone, row in (
        (ZONE_DMA, (3840, 3760, 44, 55, 66, 99)),
        (ZONE_NORMAL, (27863, 9000, 297, 371, 445, 0)),
    ):
        said = m.zone_said[zone]
        said.said = 1
        said.present_pages, said.free_pages, said.pages_min, said.pages_low, said.pages_high, said.lowmem_reserve = row
    boot(m)
    dma, normal = m.zone[ZONE_DMA], m.zone[ZONE_NORMAL]
    assert (dma.present_pages, dma.free_pages, dma.lowmem_reserve[ZONE_NORMAL]) == (3840, 3760, 99)
    assert (normal.free_pages, normal.pages_min, normal.pages_low, normal.pages_high) == (9000, 297, 371, 445)
    assert (normal.pcp_batch, normal.pcp_high, dma.pcp_batch) == (7, 371, 1)
    holds(m)


@pytest.mark.parametrize(("pages", "batch"), [(3840, 1), (27863, 7), (1 << 18, 63), (1 << 22, 63)])
def test_per_cpu_lists_move_as_many_pages_as_proc_zoneinfo_says(pages: int, batch: int) -> None:
    """1 and 7 were read on the traced machine."""
    assert pcp_batch_6x(pages) == batch


# --- the ring -----------------------------------------------------------------------------------------------------


def test_a_fresh_ring_has_255_buffers_and_shows_240() -> None:
    """One descriptor is never used, and the tail stands at the last multiple of 16."""
    m = booted(quiet())
    dev = m.dev[0]
    assert (dev.ring_filled, dev.next_to_use, dev.rdt, ring_free(m, 0), e1000e_desc_unused(m, 0)) == (
        255,
        255,
        240,
        240,
        0,
    )
    assert (dev.rx_buffer_len, e1000e_rx_buffer_len(1500), e1000e_rx_buffer_len(1501)) == (1522, 1522, 2048)


def test_the_tail_moves_by_sixteen_when_sixteen_are_cleaned() -> None:
    """One packet fills slot 255, which moves nothing; the second fills slot 0, and then every sixteenth moves it."""
    tails = [
        int(play(quiet(), paced([udp()] * count, 20_000), until_ns=SECOND_NS).m.dev[0].rdt)
        for count in (1, 2, 17, 18, 33, 34)
    ]
    assert tails == [240, 0, 0, 16, 16, 32]


def test_a_long_poll_refills_while_it_runs() -> None:
    """Of 64 packets of one poll, the buffers come back in groups of 16, each when its sixteenth packet went up."""
    frames = paced([udp()] * 240, 0, 1_000) + paced([udp()] * 64, 0, 10_000_000)
    allocated = play(quiet(), frames, until_ns=SECOND_NS).column("alloc_ns")
    assert set(allocated[:255]) == {0}  # the first ring is from the boot
    times = sorted(set(allocated[255:]))
    assert [allocated.count(time_ns) for time_ns in times] == [16, 16, 16, 1]
    packet_ns = 2_000 + 1_042
    assert [later - time_ns for time_ns, later in pairwise(times)] == [16 * packet_ns] * 3


def test_a_small_packet_is_copied_and_its_buffer_stays() -> None:
    """Below 256 bytes: an skb of 1280 bytes, allocated at reception; nothing is allocated for the ring."""
    setup = quiet(ordinary_reader=READER_NEVER)
    frames = paced([udp(payload=100), udp(payload=1000), udp(payload=213), udp(payload=214)], 20_000, 1_000)
    played = play(setup, frames, until_ns=SECOND_NS)
    assert played.column("truesize") == [1280, 2176, 1280, 2176]
    assert played.column("alloc_ns") == [1_000, 0, 41_000, 0]
    assert played.m.dev[0].copybreak_failed == 0


def test_a_small_packet_goes_up_in_its_buffer_when_there_is_no_memory_for_a_copy() -> None:
    """The copy fails for want of a head; the packet is received all the same, charged for a whole buffer."""
    m = booted(quiet("mainline"))
    leave_free(m, 0)
    for cache in range(m.caches):
        c = m.cache[cache]
        if c.cpu_slab != NONE:
            m.slab[c.cpu_slab].inuse = m.slab[c.cpu_slab].objects
    m.frag.remaining = 0
    frames = paced([udp(payload=100)] * 3, 20_000)
    played = play(quiet("mainline"), frames, machine=m, until_ns=SECOND_NS)
    assert m.dev[0].copybreak_failed >= 1
    assert 2176 in played.column("truesize")


def test_policies_that_allocate_by_kmalloc_copy_nothing() -> None:
    """A packet of 142 bytes is charged for the 2 KiB that its buffer has: 256 more with its head."""
    played = play(quiet("linux-2.6.12"), paced([udp(payload=100)] * 2, 20_000), until_ns=SECOND_NS)
    assert set(played.column("truesize")) == {2048 + 256}


def test_a_refill_that_fails_is_counted_and_the_watchdog_tries_again() -> None:
    """TX completions poll nothing (MSI-X): a dry ring waits up to 2 s."""
    setup = quiet("linux-2.6.12", ordinary_reader=READER_NEVER, udp_rcvbuf=1 << 30)
    m = booted(setup)
    leave_free(m, 0)
    flood = paced([udp()] * 300, 5_000)
    lost = play(setup, [*flood, sent(udp(time_ns=3_000_000)), udp(time_ns=4_000_000)], machine=m)
    assert m.dev[0].alloc_rx_buff_failed > 0
    assert lost.reasons()[-1] == "RX_MISSED"
    leave_free(m, 3000)
    rows = paced([udp()], 0, 3 * SECOND_NS)
    late = play(setup, rows, machine=m, check=False)
    assert late.reasons() == [""]


def test_a_tagged_packet_meets_its_fate_by_its_socket() -> None:
    """In a crunch the ring fills from the reserve: NBD and ARP are served, UDP is dropped, echo is answered."""
    setup = Setup("mainline", config={**GEOMETRY_6X, "memalloc_socket": 1}, nics=(E1000E,))
    frames = paced([udp(payload=1400), iscsi(1400), icmp(payload=1000), arp()] * 200, 20_000)
    played = play(setup, frames)
    tagged = [at for at, value in enumerate(played.column("pfmemalloc")) if value]
    assert tagged
    reasons = played.reasons()
    assert {reasons[at] for at in tagged if at % 4 == 0} == {"PFMEMALLOC"}
    assert {reasons[at] for at in tagged if at % 4} == {""}
    assert played.m.mib.TcpExtPFMemallocDrop == sum(reason == "PFMEMALLOC" for reason in reasons)


def test_freed_buffers_return_all_their_pages() -> None:
    """What the ring and the caches hold is all that is left after a thousand packets."""
    m = booted(quiet())
    dev = m.dev[0]
    for slot in range(dev.ring_size):
        if dev.ring_skb[slot] != NONE:
            kfree_skb(m, dev.ring_skb[slot])
            dev.ring_skb[slot] = NONE
            dev.ring_filled -= 1
    holds(m)
    head = m.cache[m.head_cache]
    kept = head.nr_partial + head.cpu_partial_slabs + (head.cpu_slab != NONE)
    fragments = 0 if m.frag.slab == NONE else 1 << m.slab[m.frag.slab].order
    assert m.zone[ZONE_NORMAL].slab_pages == kept + fragments

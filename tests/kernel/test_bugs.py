"""The patch's bugs in the machine, one by one: what each does, and that it is gone when it is not asked for."""

from typing import Any

import pytest
from machines import (
    LOG_SIZE,
    OPEN,
    PLAIN,
    Nic,
    Play,
    Setup,
    booted,
    holds,
    icmp,
    iscsi,
    leave_free,
    paced,
    play,
    plenty,
    rows_of,
    tcp,
    udp,
)

from emu.engine.loop import end_in_oops, run
from emu.kernel import bugs
from emu.kernel.bugs import BUGS, EVERY, bugs_of, has_bug
from emu.kernel.dev import netif_receive_skb
from emu.kernel.drop_reason import (
    AT_CACHE_GROW,
    AT_DEV_MEMALLOC_SKB,
    DELIVERED,
    NOMEM,
    NOT_PLAYED,
    OOPS,
    PFMEMALLOC,
    RX_MISSED,
)
from emu.kernel.flows import flow_received
from emu.kernel.icmp import xrlim_allow
from emu.kernel.invariants import HOLDS, check_structures
from emu.kernel.machine import DRIVER_8139CP, DRIVER_E1000_PS, NONE, PACKET_BROADCAST, Event
from emu.kernel.netdevice import dev_memalloc_skb, estimate_skb_pages, may_use_reserve, reserve_for_device
from emu.kernel.page_alloc import GFP_ATOMIC, GFP_MEMALLOC
from emu.kernel.policy import POLICIES
from emu.kernel.slab import alloc_descriptor, kmem_cache_alloc, kmem_cache_free
from emu.kernel.sock import LRU_HOLDING, READER_IMMEDIATE, sk_evict
from emu.wire.headers import CSUM_BAD

SECOND_NS = 1_000_000_000
GFP_RESERVE = GFP_ATOMIC | GFP_MEMALLOC
REVISIONS = [(name, number) for name in EVERY for number in bugs_of(name)]


def posted(policy: str, *numbers: int, **nic: Any) -> Setup:
    """A machine with a small ring in the default crunch, and these bugs."""
    mask = sum(1 << number for number in numbers)
    return Setup(policy, nics=(Nic(**({"ring": 32, "background": 0} | nic)),), config={"as_posted": mask})


def starved(policy: str, *numbers: int, pages: int = 100) -> Any:
    """A machine whose every buffer needs the reserve, of which so many pages are left."""
    m = booted(posted(policy, *numbers, ring=1))
    leave_free(m, pages)
    return m


def music(count: int = 60) -> list[dict[str, int]]:
    """Datagrams that nobody reads, and block I/O between them."""
    return paced([udp(), *[udp(), iscsi()] * (count // 2)], 100_000)


def played(policy: str, *numbers: int, frames: list[dict[str, int]] | None = None) -> Play:
    """The music under a policy with these bugs."""
    return play(posted(policy, *numbers), music() if frames is None else frames, until_ns=SECOND_NS)


def to_the_end(setup: Setup, frames: list[dict[str, int]]) -> Play:
    """Play until the kernel dies, and give the rest of the frames their verdicts."""
    m = booted(setup, start_ns=frames[0]["time_ns"])
    rows = rows_of(frames)
    log = PLAIN.rows(Event, 4)
    first, _ = run(m, rows, 0, len(frames), 0, log, LOG_SIZE)
    assert m.oops
    end_in_oops(m, rows, first, len(frames))
    return Play(m, rows, len(frames), log, 0)


def test_the_table_is_complete_and_its_revisions_follow_one_another() -> None:
    """Fifteen bugs, each of a run of revisions; every row of the policy table knows its own."""
    assert [bug.number for bug in BUGS] == list(range(1, 16))
    for bug in BUGS:
        at = EVERY.index(bug.revisions[0])
        assert bug.revisions == EVERY[at : at + len(bug.revisions)]
    for name, row in POLICIES.items():
        assert row.bugs == tuple(bug.number for bug in BUGS if name in bug.revisions)
        assert bool(row.bugs) == name.startswith("phillips-")
    assert [bug.number for bug in BUGS if bug.stays] == [9, 14, 15]


def test_a_bug_is_a_bit_of_the_mask() -> None:
    """The machine has exactly the bugs whose bits are set."""
    m = booted(posted("phillips-v5", 1, 8, 11))
    assert [number for number in range(1, 16) if has_bug(m, number)] == [1, 8, 11]


@pytest.mark.parametrize("policy", EVERY)
def test_the_flag_outside_the_mask_kills_the_kernel_at_the_first_slab_that_has_to_grow(policy: str) -> None:
    """Bug 1, in every revision: the first replacement that falls through to the reserve is the end (v4's and v5's too).

    No reserve allocation succeeds before it, and what follows finds no kernel.
    """
    got = to_the_end(posted(policy, bugs.BUG_GFP_LEVEL_MASK), music())
    assert (got.m.oops, got.m.oops_point) == (bugs.BUG_GFP_LEVEL_MASK, AT_CACHE_GROW)
    assert got.m.dev[0].reserve_allocations == 0
    verdicts = got.column("verdict")
    assert OOPS in verdicts and verdicts[-1] == NOT_PLAYED
    assert got.m.total.received == got.m.total.delivered + got.m.total.dropped + got.m.total.oops
    assert check_structures(got.m) == HOLDS


def test_an_object_that_lies_ready_escapes_the_flag_check() -> None:
    """Bug 1 is in cache_grow: what a slab has ready is given out, __GFP_MEMALLOC or not."""
    m = starved("phillips-v5")
    slab = m.skb[dev_memalloc_skb(m, 0)].data_slab
    cache = m.slab[slab].cache
    kmem_cache_free(m, cache, slab)
    m.config.as_posted = 1 << bugs.BUG_GFP_LEVEL_MASK
    assert (kmem_cache_alloc(m, cache, GFP_RESERVE), m.oops) == (slab, 0)
    assert (kmem_cache_alloc(m, cache, GFP_RESERVE), m.oops) == (NONE, bugs.BUG_GFP_LEVEL_MASK)


def test_without_a_descriptor_the_reserve_cannot_be_used_and_with_one_it_can() -> None:
    """Bug 2: the descriptor of a size-4096 slab comes from size-32 with GFP_ATOMIC; one that lies ready will do."""
    m = starved("phillips-v5", bugs.BUG_OFF_SLAB)
    assert (dev_memalloc_skb(m, 0), m.alloc_cause, m.dev[0].reserve_allocations) == (NONE, NOMEM, 0)
    holds(m)
    size_32 = 0
    ready = alloc_descriptor(m, size_32, GFP_RESERVE)  # somebody with the right to it grows size-32 ...
    kmem_cache_free(m, size_32, ready)  # ... and leaves the objects there
    assert dev_memalloc_skb(m, 0) != NONE
    assert m.dev[0].reserve_allocations == 1


@pytest.mark.parametrize("policy", ["phillips-v1", "phillips-v2"])
def test_without_its_mark_nothing_is_dropped_and_the_reserve_is_taken_all_the_same(policy: str) -> None:
    """Bug 3: web in reserve memory is dropped as intended, and kept as posted."""
    frames = paced([udp(), *[udp(), tcp(sport=80), iscsi()] * 40], 100_000)
    intended, as_posted = played(policy, frames=frames), played(policy, bugs.BUG_MARK, frames=frames)
    assert intended.m.total.drops_by_reason[PFMEMALLOC] > 0
    assert as_posted.m.total.drops_by_reason[PFMEMALLOC] == 0
    assert as_posted.m.dev[0].reserve_allocations >= intended.m.dev[0].reserve_allocations > 0
    assert not any(as_posted.column("pfmemalloc"))
    assert any(as_posted.column("from_reserve"))


@pytest.mark.parametrize("policy", ["phillips-v3", "phillips-v4"])
def test_the_first_reserve_buffer_is_lost_and_kills_the_kernel(policy: str) -> None:
    """Bug 5: counted, leaked, and a null pointer followed."""
    got = to_the_end(posted(policy, bugs.BUG_NULL), music())
    assert (got.m.oops, got.m.oops_point) == (bugs.BUG_NULL, AT_DEV_MEMALLOC_SKB)
    assert (got.m.dev[0].reserve_allocations, got.m.dev[0].rx_reserve_used, got.m.leaked_skbs) == (1, 1, 1)
    assert check_structures(got.m) == HOLDS


def test_the_first_bug_that_is_met_is_the_one_that_kills() -> None:
    """With bugs 1 and 5 the slab is never grown, so the pointer is never followed."""
    got = to_the_end(posted("phillips-v3", bugs.BUG_NULL, bugs.BUG_GFP_LEVEL_MASK), music())
    assert (got.m.oops, got.m.leaked_skbs) == (bugs.BUG_GFP_LEVEL_MASK, 0)


@pytest.mark.parametrize("policy", EVERY)
def test_without_a_marked_socket_block_io_is_counted_as_such_and_treated_as_everybody(policy: str) -> None:
    """Bug 6: no socket is SOCK_MEMALLOC; the packets are still those that the user cares for, and are read at once."""
    frames = paced([*[udp()] * 40, *[udp(), iscsi(), icmp()] * 20], 100_000)
    intended, as_posted = played(policy, frames=frames), played(policy, bugs.BUG_NO_MEMALLOC, frames=frames)
    assert intended.m.total.memalloc.dropped == 0
    assert as_posted.m.total.memalloc.dropped > 0
    assert as_posted.m.total.memalloc.received == intended.m.total.memalloc.received == 20
    assert as_posted.m.memalloc_socks == 0
    socks = [as_posted.m.sk[i] for i in range(as_posted.m.sks_made)]
    assert [(sk.memalloc, sk.reader) for sk in socks if sk.block_io] == [(0, READER_IMMEDIATE)]
    dropped = [at for at, reason in enumerate(as_posted.reasons()) if reason and as_posted.rows[at].memalloc]
    assert {as_posted.reasons()[at] for at in dropped} == {"PFMEMALLOC"}


@pytest.mark.parametrize("policy", ["phillips-v4", "phillips-v5"])
def test_an_ordinary_e1000_never_asks_for_the_reserve_and_a_patched_driver_does(policy: str) -> None:
    """Bug 7 is e1000's ordinary refill alone: packet split and other drivers are not touched by it."""
    got = played(policy, bugs.BUG_LEGACY)
    assert got.m.dev[0].reserve_allocations == 0
    assert got.m.total.drops_by_reason[RX_MISSED] > 0
    assert got.m.total.memalloc.dropped > 0
    m = starved(policy, bugs.BUG_LEGACY)
    assert not may_use_reserve(m, 0)
    for driver in (DRIVER_E1000_PS, DRIVER_8139CP):
        m.dev[0].driver = driver
        assert may_use_reserve(m, 0)


# Facts A3; heads come 20 to a slab with a line of 64 bytes, 15 with 128.
ESTIMATES = {
    (50, 2050): ((4, 5), (53, 54)),
    (50, 1522): ((4, 5), (28, 29)),
    (50, 4098): ((4, 5), (103, 104)),
    (50, 8194): ((4, 5), (203, 204)),
    (50, 16386): ((4, 5), (403, 404)),
    (256, 2050): ((14, 19), (269, 274)),
    (50, 1521): ((28, 29), (28, 29)),
}


@pytest.mark.parametrize("request_", ESTIMATES, ids=lambda request: f"{request[0]} of {request[1]}")
def test_ffs_estimates_four_bytes_for_an_odd_size(request_: tuple[int, int]) -> None:
    """Bug 8: v5's column of facts A3 with the bug, v6's without it."""
    as_posted, intended = ESTIMATES[request_]
    for at, line in enumerate((64, 128)):
        m = booted(Setup("phillips-v5", config={"l1_bytes": line}))
        assert estimate_skb_pages(m, *request_) == intended[at]
        m.config.as_posted = 1 << bugs.BUG_FFS
        assert estimate_skb_pages(m, *request_) == as_posted[at]


def test_the_packet_split_term_is_skipped_at_first_and_negative_afterwards() -> None:
    """Bug 13: 54 pages, then 54 - 46; as intended 54 + 150 every time."""
    pages = []
    for numbers in ((), (bugs.BUG_PACKET_SPLIT,)):
        m = booted(posted("phillips-v6", *numbers))
        m.dev[0].driver = DRIVER_E1000_PS
        for _ in range(2):
            reserve_for_device(m, 0)
            pages.append(m.dev[0].memalloc_pages)
    assert pages == [204, 204, 54, 8]


@pytest.mark.parametrize("policy", ["phillips-v4", "phillips-v5", "phillips-v6"])
def test_a_refused_datagram_counts_as_one_without_a_port_and_pins_its_socket(policy: str) -> None:
    """Bug 11: as posted every refusal is a NoPorts and a leaked reference; the verdicts are the same."""
    frames = paced([udp()] * 60, 100_000)
    intended, as_posted = played(policy, frames=frames), played(policy, bugs.BUG_UDP_LABEL, frames=frames)
    refused = as_posted.m.total.drops_by_reason[PFMEMALLOC]
    assert refused == intended.m.total.drops_by_reason[PFMEMALLOC] > 6
    assert (as_posted.m.mib.UdpNoPorts, as_posted.m.mib.udp_refs_leaked) == (refused, refused)
    assert (intended.m.mib.UdpNoPorts, intended.m.mib.udp_refs_leaked) == (0, 0)
    assert as_posted.column("verdict") == intended.column("verdict")
    leaking = [as_posted.m.sk[i] for i in range(as_posted.m.sks_made) if as_posted.m.sk[i].leaked_refs]
    assert [sk.leaked_refs for sk in leaking] == [refused]


def receive(m: Any, used: int, **columns: int) -> Any:
    """One datagram while `used` buffers of the device are out, on a machine with memory in plenty."""
    p = rows_of([udp(OPEN, time_ns=0, **columns)])[0]
    flow_received(m, p)
    b = dev_memalloc_skb(m, 0)
    m.skb[b].next = NONE
    m.dev[0].rx_reserve_used = used
    netif_receive_skb(m, p, b)
    return p


def refusals(count: int, **columns: int) -> Any:
    """A machine with memory in plenty that has refused `count` datagrams at once, as posted."""
    config = plenty(as_posted=1 << bugs.BUG_UDP_LABEL)
    m = booted(Setup("phillips-v5", nics=(Nic(ring=1, background=0),), config=config))
    for _ in range(count):
        receive(m, 1, **columns)
    return m


def test_the_unreachable_is_rate_limited_and_the_leak_is_not() -> None:
    """Bug 11: six port unreachables in a burst, one a second after it; every refusal leaks."""
    m = refusals(20)
    assert (m.mib.UdpNoPorts, m.mib.udp_refs_leaked, m.mib.IcmpOutDestUnreachs) == (20, 20, 20)
    assert not xrlim_allow(m, 0)  # the burst of six is spent: icmp_out_count precedes the limit
    m.now_ns += SECOND_NS
    assert xrlim_allow(m, 0) and not xrlim_allow(m, 0)
    m.now_ns += 100 * SECOND_NS
    assert [xrlim_allow(m, 0) for _ in range(7)] == [True] * 6 + [False]


def test_a_bad_checksum_in_the_no_port_path_is_an_input_error_without_an_answer() -> None:
    """Bug 11: the label lies before the checksum's test, so a bad one counts as an error, and leaks as well."""
    m = refusals(3, l4_csum=CSUM_BAD)
    assert (m.mib.UdpNoPorts, m.mib.UdpInErrors, m.mib.udp_refs_leaked, m.mib.IcmpOutDestUnreachs) == (0, 3, 3, 0)


def test_the_unreachable_needs_memory_and_is_not_sent_without() -> None:
    """In the crunch the answer to a refused datagram finds no page: it is attempted and fails."""
    got = played("phillips-v5", bugs.BUG_UDP_LABEL)
    assert got.m.mib.IcmpOutDestUnreachs > 0
    assert got.m.mib.tx_alloc_failed >= got.m.mib.IcmpOutDestUnreachs


def test_a_broadcast_is_never_refused_so_it_never_leaks() -> None:
    """Broadcast and multicast leave udp_rcv before the check."""
    m = refusals(3, pkt_type=PACKET_BROADCAST)
    assert (m.mib.udp_refs_leaked, m.total.drops_by_reason[PFMEMALLOC]) == (0, 0)


def test_a_socket_with_a_leaked_reference_is_never_evicted() -> None:
    """It stands on no list of those that may go, whatever comes for it later."""
    m = refusals(1)
    (leaking,) = [i for i in range(m.sks_made) if m.sk[i].leaked_refs]
    assert m.sk[leaking].lru_list == LRU_HOLDING
    assert receive(m, 0).verdict == DELIVERED
    assert m.sk[leaking].lru_list == LRU_HOLDING
    assert not sk_evict(m)


@pytest.mark.parametrize(("policy", "number"), REVISIONS)
def test_every_bug_alone_leaves_the_machine_consistent(policy: str, number: int) -> None:
    """Whatever a bug does, nothing is lost that it does not leak."""
    frames = paced([*[udp()] * 40, *[udp(), iscsi(), tcp(sport=80), icmp()] * 20], 100_000)
    setup = posted(policy, number)
    if number in (bugs.BUG_GFP_LEVEL_MASK, bugs.BUG_NULL):
        assert check_structures(to_the_end(setup, frames).m) == HOLDS
    else:
        play(setup, frames, until_ns=SECOND_NS)

"""What may end a standstill, one actor at a time: without it the machine is locked up, with it not."""

from typing import Any

import pytest
from lockups import Given, clean, dry, holding, session_holding, skb_of, under_writeback
from machines import PLAIN, Nic, fragment, leave_free, rows_of

from emu.engine.loop import run
from emu.kernel.closed_loop import BLOCKED_DIRTY, BLOCKED_MEMORY
from emu.kernel.lockup import block_io_unfinished, find_lockup
from emu.kernel.lockup_chain import (
    ACTOR_FLUSHER,
    ACTOR_NEVER,
    ACTOR_NOBODY,
    ACTOR_PING,
    ACTOR_READERS,
    ACTOR_REFILL,
    ACTOR_SESSION,
    ACTOR_WRITER,
    WHY_CAP,
    WHY_DIRTY_LIMIT,
    WHY_HOLDS,
    WHY_NO_PAGE,
    WHY_RESPONSE,
    WHY_TOO_LITTLE,
)
from emu.kernel.machine import (
    DRIVER_8139CP,
    DRIVER_E1000_PS,
    DRIVER_E1000E,
    DRIVER_TG3,
    NEVER_NS,
    PLAN_DOWN,
    PLAN_MIN_FREE_KBYTES,
    PLAN_PAGES,
    PLAN_UP,
    ZONE_NORMAL,
    Event,
)
from emu.kernel.page_alloc import atomic_floor
from emu.kernel.slub import kmem_cache_alloc, kmem_cache_free
from emu.kernel.sock import READER_IMMEDIATE, READER_NEEDS_MEMORY, READER_NEVER, READER_RATE

GFP_ATOMIC = 0x20


def test_an_empty_ring_at_the_floor_is_a_lockup() -> None:
    """Found once, with the time of the first look that found it."""
    m = dry()
    m.now_ns = 5
    assert find_lockup(m) == 1
    m.now_ns = 9
    assert find_lockup(m) == 1
    assert (m.lockup.locked, m.lockup.found_ns) == (1, 5)


def test_a_look_changes_nothing_but_its_own_scratch() -> None:
    """Zones and caches stand as before, however much is given back in the copy."""
    m = dry("linux-2.6.12", holding(READER_RATE, 3))
    clean(m, 20)
    before = [(z.free_pages, z.pcp_count, z.slab_pages, z.clean_pages, list(z.nr_free)) for z in m.zone.values()]
    objects = [(m.slab[s].inuse, m.slab[s].cache) for s in range(m.slabs_made)]
    assert find_lockup(m) == 0
    assert before == [
        (z.free_pages, z.pcp_count, z.slab_pages, z.clean_pages, list(z.nr_free)) for z in m.zone.values()
    ]
    assert objects == [(m.slab[s].inuse, m.slab[s].cache) for s in range(m.slabs_made)]


def test_without_block_io_there_is_nothing_to_lock_up() -> None:
    """Dirty pages, pages under write-back or commands: one of them is enough."""
    m = dry()
    z = m.zone[ZONE_NORMAL]
    z.other_pages, z.writeback_pages = z.other_pages + z.writeback_pages, 0
    assert not block_io_unfinished(m)
    assert find_lockup(m) == 0
    m.sessions = 1
    m.session[0].tasks = 1
    assert find_lockup(m) == 1
    m.session[0].tasks = 0
    z.dirty_pages, z.other_pages = 1, z.other_pages - 1
    assert find_lockup(m) == 1


def test_a_dead_kernel_is_not_locked_up() -> None:
    """An oops is an outcome of its own."""
    m = dry()
    m.oops = 1
    assert find_lockup(m) == 0


def test_a_ring_that_is_not_empty_is_never_a_lockup() -> None:
    """One descriptor that the NIC may fill, or one packet that waits to be processed."""
    m = dry()
    m.dev[0].rdt = (m.dev[0].rdh + 1) % m.dev[0].ring_size
    assert find_lockup(m) == 0
    m.dev[0].rdt = m.dev[0].rdh
    assert find_lockup(m) == 1
    m.dev[0].ring_done = 1
    assert find_lockup(m) == 0


def test_another_devices_ring_counts_unless_nobody_sends_to_it() -> None:
    """What comes in there may leave memory behind; where nothing comes in, its buffers stay for ever."""
    m = dry(nics=2)
    m.dev[1].rdt = (m.dev[1].rdh + 1) % m.dev[1].ring_size
    assert find_lockup(m) == 0
    m.lockup.silent_devices = 0b10
    assert find_lockup(m) == 1
    m.lockup.silent_devices = 0b11
    m.dev[0].rdt = (m.dev[0].rdh + 1) % m.dev[0].ring_size
    assert find_lockup(m) == 1


@pytest.mark.parametrize(
    ("given", "locked"),
    [
        (holding(READER_RATE), 0),
        (holding(READER_RATE, rate=0), 1),
        (holding(READER_IMMEDIATE), 0),
        (holding(READER_NEEDS_MEMORY), 1),
        (holding(READER_NEVER), 1),
        (session_holding(5_000_000_000), 0),
        (session_holding(0), 1),
        (session_holding(5_000_000_000, iscsid_needs_memory=1), 1),
    ],
)
def test_who_gives_a_buffer_back_ends_it(given: Given, locked: int) -> None:
    """One buffer is enough: it goes back to the slab and from there into the ring."""
    assert find_lockup(dry("linux-2.6.12", given)) == locked


@pytest.mark.parametrize("given", [holding(READER_NEEDS_MEMORY), session_holding(5_000_000_000, iscsid_needs_memory=1)])
def test_who_needs_memory_runs_once_gfp_kernel_would_get_a_page(given: Given) -> None:
    """Buffers of two pages: single pages help nobody's ring, but they let readers and iscsid run."""
    m = dry("linux-2.6.12", given, nic=Nic(ring=32, background=0, mtu=4000))
    z = m.zone[ZONE_NORMAL]
    leave_free(m, z.pages_min, 0)
    under_writeback(m, 10)
    assert find_lockup(m) == 1
    clean(m, 1)
    assert find_lockup(m) == 0


def test_a_frame_on_its_way_out_ends_it_where_the_interface_is_up() -> None:
    """Its skb is freed when it has been sent; an interface that is down sends nothing."""
    kept: list[int] = []
    m = dry("linux-2.6.12", lambda m: kept.append(skb_of(m)), nics=2)
    m.dev[1].tx_head = 3
    m.tx[3].skb = kept[0]
    assert find_lockup(m) == 1
    m.dev[1].tx_len = 1
    assert find_lockup(m) == 0
    m.dev[1].up = 0
    assert find_lockup(m) == 1


def test_a_clone_on_its_way_out_gives_no_data_back_while_the_write_queue_has_it() -> None:
    """Only both together free the data area; with the session's timer they do."""
    from emu.kernel.skbuff import skb_clone

    clones: list[int] = []
    m = dry("linux-2.6.12", session_holding(0), lambda m: clones.append(skb_clone(m, m.conn[0].queue_head, 1)))
    m.dev[0].tx_head = 0
    m.tx[0].skb = clones[0]
    m.dev[0].tx_len = 1
    assert find_lockup(m) == 1
    m.session[0].nop_interval_ns = 1
    assert find_lockup(m) == 0


def test_packets_in_the_backlog_end_it() -> None:
    """One may be the response that block I/O waits for, though its memory makes but one of five buffers."""
    kept: list[int] = []
    m = dry("linux-2.6.12", lambda m: kept.append(skb_of(m)))
    dev = m.dev[0]
    dev.next_to_use = (dev.next_to_use - 4) % dev.ring_size
    for slot in range(dev.ring_size):
        dev.ring_skb[slot] = -1
    m.backlog_skb[m.backlog_head] = kept[0]
    assert find_lockup(m) == 1
    m.backlog_packets = 1
    assert find_lockup(m) == 0


def failed(iscsid_needs_memory: int) -> Given:
    """A session without pings whose connection the target has made useless (a Reject, say)."""

    def happens(m: Any) -> None:
        session_holding(0, iscsid_needs_memory)(m)
        m.session[0].failed = 1

    return happens


def test_a_session_that_has_failed_frees_what_its_connection_holds() -> None:
    """iscsid gives it up at once; one that needs memory does so once there is a page."""
    assert find_lockup(dry("linux-2.6.12", failed(0))) == 0
    m = dry("linux-2.6.12", failed(1), nic=Nic(ring=32, background=0, mtu=4000))
    leave_free(m, m.zone[ZONE_NORMAL].pages_min, 0)
    under_writeback(m, 10)
    assert find_lockup(m) == 1
    clean(m, 1)
    assert find_lockup(m) == 0


def test_a_datagram_in_reassembly_ends_it() -> None:
    """It times out, if nothing else."""

    def happens(m: Any) -> None:
        # Sixteen of them: the refill ends where the tail register moves.
        rows = rows_of([fragment(at * 1480) | {"time_ns": at * 20_000} for at in range(16)])
        log = PLAIN.rows(Event, 4)
        run(m, rows, 0, 16, 0, log, 4)
        run(m, rows, 16, 16, 10_000_000, log, 4)
        assert m.dev[0].next_to_use % 16 == 0

    m = dry("linux-2.6.12", happens)
    assert m.frag_mem[0] > 0
    assert find_lockup(m) == 0
    m.frag_head[0] = -1  # as if there were none
    assert find_lockup(m) == 1


@pytest.mark.parametrize(("pages", "locked"), [(2, 1), (3, 0)])
def test_clean_pages_end_it_when_they_are_enough(pages: int, locked: int) -> None:
    """A buffer that grows every cache: a page of heads, one of data, one of descriptors."""
    m = dry()
    clean(m, pages)
    assert find_lockup(m) == locked


@pytest.mark.parametrize(
    ("action", "value", "locked"),
    [
        (PLAN_PAGES, -200, 0),
        (PLAN_PAGES, -2, 1),
        (PLAN_PAGES, 200, 1),
        (PLAN_UP, 0, 0),
        (PLAN_DOWN, 0, 0),
        (PLAN_MIN_FREE_KBYTES, 100_000, 1),
        (PLAN_MIN_FREE_KBYTES, 0, 0),
    ],
)
def test_what_the_plan_brings_ends_it(action: int, value: int, locked: int) -> None:
    """Given pages are counted (most stay on the per-CPU list), interfaces and lower watermarks are not foreseen."""
    m = dry()
    m.plan_len = 1
    m.plan[0].action = action
    m.plan[0].value = value
    assert find_lockup(m) == locked
    m.plan_at = 1
    assert find_lockup(m) == 1


def test_empty_slabs_of_other_caches_end_it_where_no_watermark_holds() -> None:
    """cache_reap gives their pages back; under GFP_ATOMIC they stay on the per-CPU list, below the floor."""
    for policy, locked in (("linux-2.6.12", 1), ("reserve-only", 0)):
        m = dry(policy)
        leave_free(m, 4, 0)  # three slabs, and one of their descriptors
        under_writeback(m, 10)
        objects = [kmem_cache_alloc(m, 5, GFP_ATOMIC | 0x20000) for _ in range(3 * m.cache[5].num)]
        assert -1 not in objects
        assert m.zone[ZONE_NORMAL].free_pages + m.zone[ZONE_NORMAL].pcp_count == 0
        assert find_lockup(m) == 1, "as long as the objects are out"
        for s in objects:
            kmem_cache_free(m, 5, s)
        assert find_lockup(m) == locked


def test_a_cap_that_is_reached_locks_up_beside_free_pages() -> None:
    """phillips-v5 counts the device's buffers: with none left the pages below the floor are for nobody."""
    m = dry("phillips-v5")
    assert find_lockup(m) == 0
    m.dev[0].rx_reserve_used = m.dev[0].rx_reserve
    assert find_lockup(m) == 1
    chain = links(m)
    assert (ACTOR_REFILL, ACTOR_NOBODY, WHY_CAP) in chain


@pytest.mark.parametrize(("needed", "locked"), [(1, 0), (4, 0), (5, 1)])
def test_the_tail_register_moves_in_steps_of_16(needed: int, locked: int) -> None:
    """With memory for four buffers a refill that needs five shows the NIC nothing."""
    m = dry("linux-2.6.12", holding(READER_RATE, 4))
    dev = m.dev[0]
    assert dev.next_to_use % 16 == 0
    for slot in range(dev.ring_size):  # the hole begins further to the left
        if dev.ring_skb[slot] != -1:
            dev.ring_skb[slot] = -1
    dev.next_to_use = (dev.next_to_use - needed + 1) % dev.ring_size
    assert find_lockup(m) == locked


@pytest.mark.parametrize("driver", [DRIVER_8139CP, DRIVER_TG3])
def test_a_ring_that_only_replaces_counts_as_empty_without_a_replacement(driver: int) -> None:
    """Its buffers never leave it: what it receives it drops."""
    nic = Nic(ring=64, background=0, driver=driver)
    assert find_lockup(dry("linux-2.6.12", nic=nic)) == 1
    assert find_lockup(dry("linux-2.6.12", holding(READER_RATE), nic=nic)) == 0
    assert find_lockup(dry("reserve-only", nic=nic)) == 0


def test_split_packets_need_their_pages_too() -> None:
    """A header buffer alone shows the NIC nothing: three data pages belong to each descriptor."""
    nic = Nic(ring=32, background=0, driver=DRIVER_E1000_PS)
    m = dry("linux-2.6.12", holding(READER_RATE, 1), nic=nic)
    assert find_lockup(m) == 1
    clean(m, 3)
    assert find_lockup(m) == 0
    assert find_lockup(dry("phillips-v6", nic=nic)) == 0


@pytest.mark.parametrize("mm", [0, 1])
def test_mainlines_page_fragments(mm: int) -> None:
    """Its heads come with GFP_ATOMIC: data pages from the reserve help nobody without one (as measured)."""
    config = {"mm": mm, "memalloc_socket": 1}
    nic = Nic(ring=32, background=0, driver=DRIVER_E1000E if mm else 0)
    assert find_lockup(dry("mainline", nic=nic, config=config)) == 1
    assert find_lockup(dry("mainline", holding(READER_RATE, 20), nic=nic, config=config)) == 0
    assert find_lockup(dry("mainline", nic=nic, config=config | {"head_memalloc": 1})) == 0


def links(m: Any) -> list[tuple[int, int, int]]:
    """The chain: actor, whom it waits for, why."""
    return [(w.actor, w.waits_for, w.why) for w in (m.lockup.link[at] for at in range(m.lockup.links))]


def test_the_chain_closes() -> None:
    """Writers and readers wait for the flusher, it for its session, that for the refill, which waits for readers."""
    m = dry(
        "linux-2.6.12", session_holding(5_000_000_000, 1), holding(READER_NEEDS_MEMORY, 3), holding(READER_NEVER, 2)
    )
    m.vm.writers = 2
    m.vm.writer[0].blocked = BLOCKED_MEMORY
    m.vm.writer[1].blocked = BLOCKED_DIRTY
    m.session[0].tasks = 4
    assert find_lockup(m) == 1
    chain = links(m)
    for one in (
        (ACTOR_WRITER, ACTOR_FLUSHER, WHY_NO_PAGE),
        (ACTOR_WRITER, ACTOR_FLUSHER, WHY_DIRTY_LIMIT),
        (ACTOR_SESSION, ACTOR_REFILL, WHY_RESPONSE),
        (ACTOR_REFILL, ACTOR_READERS, WHY_HOLDS),
        (ACTOR_REFILL, ACTOR_NEVER, WHY_HOLDS),
        (ACTOR_READERS, ACTOR_FLUSHER, WHY_NO_PAGE),
        (ACTOR_PING, ACTOR_NOBODY, WHY_TOO_LITTLE),
    ):
        assert one in chain
    held = {w.waits_for: (w.skbs, w.pages) for w in (m.lockup.link[at] for at in range(m.lockup.links))}
    # A buffer of size-4096 and a head of 256 bytes: three take 3.2 pages, two 2.1.
    assert held[ACTOR_READERS] == (3, 4)
    assert held[ACTOR_NEVER] == (2, 3)
    ping = next(w for w in (m.lockup.link[at] for at in range(m.lockup.links)) if w.actor == ACTOR_PING)
    assert (ping.skbs, ping.pages, ping.due_ns) == (1, 2, 5_000_000_000)
    m.session[0].nop_sent_ns = 6_000_000_000
    find_lockup(m)
    ping = next(w for w in (m.lockup.link[at] for at in range(m.lockup.links)) if w.actor == ACTOR_PING)
    assert ping.due_ns == 21_000_000_000 < NEVER_NS


def test_the_time_of_the_last_page_is_kept_with_its_frame() -> None:
    """Every slab that grows says when."""
    m = dry()
    leave_free(m, atomic_floor(m, ZONE_NORMAL) + 40, 0)
    m.now_ns = 77
    m.last_held_frame = 5
    assert kmem_cache_alloc(m, 3, GFP_ATOMIC) != -1
    assert (m.last_page_ns, m.last_page_frame) == (77, 5)

"""The smallest safe reserve of a simple world: by hand, and by search with the machine itself.

One e1000, sockets that nobody reads, a flood that fills them all, then one segment of block I/O.  Sockets keep
`held` buffers for good.  The segment needs one that the NIC is shown, and the tail register, which moves 16
descriptors at a time, may hide 16 others; so the ring must keep 17, and beyond what it had,

    n = held + 17 - ring

buffers must come from the pages that are left: a page each (size-4096), a page of heads for every 15 (struct sk_buff
of 168 bytes on a line of 128) and a page of slab descriptors for every 119 (size-32; kernel.md A2's layout).
A kernel without a reserve has only the pages above GFP_ATOMIC's floor for that.
"""

import pytest
from machines import PLAIN, Nic, Setup, booted, holds, iscsi, leave_free, rows_of, udp

from emu.engine.loop import leave_in_flight, run
from emu.kernel.drop_reason import DELIVERED
from emu.kernel.machine import ZONE_DMA, Event
from emu.kernel.page_alloc import atomic_floor

HIDDEN_DESCRIPTORS = 16
HEADS_PER_SLAB = 15
DESCRIPTORS_PER_SLAB = 119
MEMORY_PAGES = 4096  # 16 MiB: all of it is ZONE_DMA
GAP_NS = 20_000
EVENTS = 8


def survives(policy: str, pages: int, sockets: int, rcvbuf: int, ring: int) -> tuple[bool, int, int]:
    """Whether the segment behind the flood is delivered, how many buffers sockets hold, GFP_ATOMIC's floor."""
    config = {"memory_pages": MEMORY_PAGES, "udp_rcvbuf": rcvbuf, "writers": 0}
    m = booted(Setup(policy, nics=(Nic(ring=ring, background=0),), config=config))
    leave_free(m, 0, pages)
    flood = [udp(dport=5000 + k % sockets, dev=0) | {"time_ns": k * GAP_NS} for k in range(60 * sockets + 200)]
    last_ns = flood[-1]["time_ns"] + 10_000_000
    rows = rows_of([*flood, iscsi(dev=0) | {"time_ns": last_ns}])
    log, end, at = PLAIN.rows(Event, EVENTS), len(flood) + 1, 0
    while at < end:
        at, _ = run(m, rows, at, end, 0, log, EVENTS)
    run(m, rows, end, end, last_ns + 1_000_000, log, EVENTS)
    leave_in_flight(m, rows, 0, end)
    holds(m)
    held = sum(m.sk[i].queue_len for i in range(m.sks_made))
    return rows[end - 1].verdict == DELIVERED, held, atomic_floor(m, ZONE_DMA)


def smallest(policy: str, sockets: int, rcvbuf: int, ring: int, most: int) -> int:
    """The fewest free pages with which the segment is delivered, by bisection."""
    least = 0
    assert survives(policy, most, sockets, rcvbuf, ring)[0]
    while least < most:
        middle = (least + most) // 2
        if survives(policy, middle, sockets, rcvbuf, ring)[0]:
            most = middle
        else:
            least = middle + 1
    return least


def closed_form(held: int, ring: int) -> int:
    """The pages that the ring needs beyond its own buffers."""
    buffers = max(0, held + HIDDEN_DESCRIPTORS + 1 - ring)
    return buffers + -(-buffers // HEADS_PER_SLAB) + -(-buffers // DESCRIPTORS_PER_SLAB)


@pytest.mark.parametrize("policy", ["reserve-only", "phillips-v5"])
@pytest.mark.parametrize(
    ("sockets", "rcvbuf", "ring"), [(1, 5_000, 32), (4, 10_000, 32), (2, 30_000, 32), (5, 20_000, 80), (3, 60_000, 48)]
)
def test_the_reserve_must_hold_what_sockets_keep(policy: str, sockets: int, rcvbuf: int, ring: int) -> None:
    """Every page down to the last one counts, with triage or without: it does not bound what sockets keep."""
    _, held, _ = survives(policy, 120, sockets, rcvbuf, ring)
    assert held == sockets * (rcvbuf // 2344)
    assert smallest(policy, sockets, rcvbuf, ring, 120) == closed_form(held, ring)


@pytest.mark.parametrize(("sockets", "rcvbuf", "ring"), [(4, 10_000, 32), (2, 30_000, 32)])
def test_without_a_reserve_only_the_pages_above_the_floor_count(sockets: int, rcvbuf: int, ring: int) -> None:
    """2.6.12 needs as many pages more as GFP_ATOMIC leaves to others."""
    _, held, floor = survives("linux-2.6.12", 120, sockets, rcvbuf, ring)
    assert smallest("linux-2.6.12", sockets, rcvbuf, ring, 120) == floor + closed_form(held, ring)

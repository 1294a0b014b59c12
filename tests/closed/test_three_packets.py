"""The smallest closed worlds, computed by hand: three packets, six free pages, a reserve of two.

The world (golden/three-packets.toml), 2.6.12, L1 of 128 bytes; nobody reads the socket that the packets are for:

* ZONE_NORMAL has 6 free pages and pages_min 15.  GFP_ATOMIC's floor is 15 - 15//2 = 8, 8 - 8//4 = 6: with 6 pages
  left it gets none, __GFP_MEMALLOC gets all.
* A buffer of 2048 bytes is an object of size-4096, a page of its own.  The ring has its 80 buffers when play starts:
  80 heads, 15 to a page, are 6 pages with room for 90; 80 descriptors in a page for 113.  So one more buffer is one
  more page, and no other.
* Each packet comes alone: it takes a buffer out of the ring, its check follows, then the refill of one buffer.
"""

from pathlib import Path
from typing import NamedTuple

import pytest

from emu.closed import ENDED, ClosedRun
from emu.engine.plain import PlainEngine
from emu.scenario_file import load_scenario
from emu.task import Task

WORLD = Path(__file__).parent / "golden" / "three-packets.toml"


class Stand(NamedTuple):
    """How things stand when a packet is done with and the ring refilled."""

    verdict: str
    reserve_used: int
    free_pages: int
    buffers: int  # in the ring


BY_HAND = {
    # No page is granted, so each packet in the socket is a buffer that the ring lacks.
    "linux-2.6.12": (
        Stand("delivered", 0, 6, 79),
        Stand("delivered", 0, 6, 78),
        Stand("delivered", 0, 6, 77),
    ),
    # Every refill takes a page, and nothing ever counts or refuses: three pages, though two were set aside.
    "reserve-only": (
        Stand("delivered", 0, 5, 80),
        Stand("delivered", 0, 4, 80),
        Stand("delivered", 0, 3, 80),
    ),
    "phillips-v5": (
        # Nothing is out of the reserve: it is queued, and the refill takes a page (one is out).
        Stand("delivered", 1, 5, 80),
        # The device is in reserve: one given back, the packet is dropped; the refill gets its buffer (none is out).
        Stand("dropped", 0, 5, 80),
        # As the first one, though nobody has read anything: a page (one is out).
        Stand("delivered", 1, 4, 80),
    ),
}


@pytest.mark.parametrize("policy", BY_HAND)
def test_three_packets_by_hand(policy: str) -> None:
    run = ClosedRun(Task(load_scenario(str(WORLD), {"policy.name": policy}), "three-packets.toml"), PlainEngine())
    found: list[Stand] = []
    for packet in range(3):
        until_ns = int(run.tick.start_ns) + packet * 1_000_000 + 500_000
        while run.advance(until_ns) not in ENDED:
            pass
        m = run.machine
        verdict = ("delivered", "dropped")[m.total.dropped > drops(found)]
        found.append(Stand(verdict, m.dev[0].rx_reserve_used, m.zone[1].free_pages, m.dev[0].ring_filled))
    assert tuple(found) == BY_HAND[policy]


def drops(stands: list[Stand]) -> int:
    """How many packets have been dropped so far."""
    return sum(stand.verdict == "dropped" for stand in stands)

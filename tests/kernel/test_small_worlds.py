"""Every sequence of four packets on two devices with six pages left, under every policy: no sampling, all of them.

What each policy may do follows from its row; nothing here names a policy.
"""

from itertools import product
from typing import Any

import pytest
from machines import PLAIN, Nic, Play, Setup, booted, holds, icmp, iscsi, leave_free, rows_of, tcp, udp
from rules import RULE_FIELD, obeys

from emu.engine.loop import leave_in_flight, run
from emu.kernel.drop_reason import PFMEMALLOC
from emu.kernel.machine import PACKET_BROADCAST, Event
from emu.kernel.policy import (
    CHECK_COUNT,
    POLICIES,
    RX_NEVER,
    RX_WHILE_MEMALLOC_SOCKS,
)

PACKETS_MAX = 4
FREE_PAGES = 6
CAP = 2
KINDS: tuple[dict[str, int], ...] = (
    udp(dev=0),
    udp(dev=1),
    udp(dev=0, pkt_type=PACKET_BROADCAST),
    iscsi(dev=0),
    tcp(dev=1),
    icmp(dev=1),
)


def world(policy: str) -> Any:
    """Two devices whose rings hold one buffer each of the sixteen shown, a cap of two, six pages below the floor."""
    nics = (Nic(ring=32, background=0, reserve=CAP), Nic(ring=32, background=0, reserve=CAP))
    m = booted(Setup(policy, nics=nics, config={"memory_pages": 4096}))
    leave_free(m, 0, FREE_PAGES)
    return m


@pytest.mark.parametrize("policy", POLICIES)
def test_every_sequence_of_four_packets_obeys_its_policy(policy: str) -> None:
    """After every packet nothing is lost, and what was refused was refused by a rule of this policy's row."""
    reserve_touched = refused = sequences = 0
    log = PLAIN.rows(Event, 4)
    for kinds in product(KINDS, repeat=PACKETS_MAX):
        m = world(policy)
        frames = [columns | {"time_ns": at * 20_000} for at, columns in enumerate(kinds)]
        rows = rows_of(frames)
        for at in range(PACKETS_MAX):
            run(m, rows, at, at + 1, 0, log, 4)
            run(m, rows, at + 1, at + 1, at * 20_000 + 19_000, log, 4)
            holds(m)
        leave_in_flight(m, rows, 0, PACKETS_MAX)
        obeys(POLICIES[policy].rules, Play(m, rows, PACKETS_MAX, log, 0), CAP)
        if m.memalloc_socks == 0 and POLICIES[policy].rules["rx_memalloc"] == RX_WHILE_MEMALLOC_SOCKS:
            assert m.dev[0].reserve_allocations + m.dev[1].reserve_allocations == 0
        reserve_touched += m.dev[0].reserve_allocations + m.dev[1].reserve_allocations > 0
        refused += m.total.drops_by_reason[PFMEMALLOC] > 0
        sequences += 1
    rules = POLICIES[policy].rules
    assert sequences == len(KINDS) ** PACKETS_MAX
    # A world in which the reserve is never touched would prove nothing about it.
    assert (reserve_touched > 0) == (rules["rx_memalloc"] != RX_NEVER)
    # A count acts at once; a tag shows one ring later, which four packets never see (Josefsson, 3 Aug 2005).
    assert (refused > 0) == any(rules[name] == CHECK_COUNT for name in RULE_FIELD.values())

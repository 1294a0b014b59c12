"""Every sequence of four packets on two devices with six pages left, under every policy: no sampling, all of them.

What each policy may do follows from its row; nothing here names a policy.
"""

from itertools import product
from typing import Any

import pytest
from machines import PLAIN, Nic, Play, Setup, booted, holds, icmp, iscsi, leave_free, rows_of, tcp, udp

from emu.engine.loop import leave_in_flight, run
from emu.kernel.drop_reason import DROPPED, PFMEMALLOC
from emu.kernel.machine import PACKET_BROADCAST, Event
from emu.kernel.policy import (
    CHECK_COUNT,
    CHECK_TAG,
    POLICIES,
    RULE_CORE,
    RULE_FILTER,
    RULE_ICMP,
    RULE_NONE,
    RULE_TCP,
    RULE_UDP,
    RX_NEVER,
    RX_WHILE_MEMALLOC_SOCKS,
)
from emu.wire.headers import KIND_ICMP, KIND_TCP, KIND_UDP

PACKETS_MAX = 4
FREE_PAGES = 6
KINDS: tuple[dict[str, int], ...] = (
    udp(dev=0),
    udp(dev=1),
    udp(dev=0, pkt_type=PACKET_BROADCAST),
    iscsi(dev=0),
    tcp(dev=1),
    icmp(dev=1),
)
RULE_OF_KIND = {KIND_TCP: RULE_TCP, KIND_UDP: RULE_UDP, KIND_ICMP: RULE_ICMP}
RULE_FIELD = {RULE_TCP: "check_tcp", RULE_UDP: "check_udp", RULE_ICMP: "check_icmp"}
RULE_FIELD |= {RULE_CORE: "check_core", RULE_FILTER: "check_sk_filter"}


def world(policy: str) -> Any:
    """Two devices whose rings hold one buffer each of the sixteen shown, a cap of two, six pages below the floor."""
    nics = (Nic(ring=32, background=0, reserve=2), Nic(ring=32, background=0, reserve=2))
    m = booted(Setup(policy, nics=nics, config={"memory_pages": 4096}))
    leave_free(m, 0, FREE_PAGES)
    return m


def obeys(policy: str, played: Play) -> None:
    """What the policy's row says of every packet."""
    rules = POLICIES[policy].rules
    m = played.m
    for at in range(played.count):
        p = played.rows[at]
        if rules["rx_memalloc"] == RX_NEVER:
            assert p.from_reserve == 0
        if rules["marks_skbs"]:
            assert p.pfmemalloc == p.from_reserve
        elif not rules["tags_pages"]:
            assert p.pfmemalloc == 0
        if p.reason == PFMEMALLOC:
            assert p.verdict == DROPPED
            assert rules[RULE_FIELD[p.rule]] in (CHECK_COUNT, CHECK_TAG)
            assert p.rule == RULE_OF_KIND.get(p.kind, p.rule) or p.rule in (RULE_CORE, RULE_FILTER)
            if p.rule != RULE_ICMP:
                assert p.memalloc == 0
            if rules[RULE_FIELD[p.rule]] == CHECK_TAG:
                assert p.pfmemalloc == 1
            else:
                assert p.reserve_used_before > p.reserve_used_after
        else:
            assert p.rule == RULE_NONE
        if p.kind == KIND_ICMP and rules["check_icmp"] == CHECK_COUNT:
            assert (p.reason == PFMEMALLOC) == (p.reserve_used_before > 0)
        assert 0 <= p.reserve_used_after <= p.reserve_used_before <= (2 if rules["caps_reserve"] else 0)
    for d in range(2):
        dev = m.dev[d]
        if rules["rx_memalloc"] == RX_NEVER:
            assert dev.reserve_allocations == 0
        if rules["rx_memalloc"] == RX_WHILE_MEMALLOC_SOCKS and m.memalloc_socks == 0:
            assert dev.reserve_allocations == 0
        if rules["caps_reserve"]:
            assert dev.rx_reserve_used_max <= dev.rx_reserve


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
        obeys(policy, Play(m, rows, PACKETS_MAX, log, 0))
        reserve_touched += m.dev[0].reserve_allocations + m.dev[1].reserve_allocations > 0
        refused += m.total.drops_by_reason[PFMEMALLOC] > 0
        sequences += 1
    rules = POLICIES[policy].rules
    assert sequences == len(KINDS) ** PACKETS_MAX
    # A world in which the reserve is never touched would prove nothing about it.
    assert (reserve_touched > 0) == (rules["rx_memalloc"] != RX_NEVER)
    # A count acts at once; a tag shows one ring later, which four packets never see (Josefsson, 3 Aug 2005).
    assert (refused > 0) == any(rules[name] == CHECK_COUNT for name in RULE_FIELD.values())

"""What a policy's rules say of every packet that was played under them; nothing here names a policy."""

from collections.abc import Mapping
from typing import Any

from machines import Play

from emu.kernel.drop_reason import AT_ICMP_RCV, DROPPED, ICMP_CSUM, PFMEMALLOC, RX_MISSED
from emu.kernel.policy import (
    CHECK_COUNT,
    CHECK_TAG,
    RULE_CAP,
    RULE_CORE,
    RULE_FILTER,
    RULE_ICMP,
    RULE_MARK,
    RULE_NO_RESERVE,
    RULE_NONE,
    RULE_TCP,
    RULE_UDP,
    RX_NEVER,
)
from emu.wire.headers import KIND_ICMP, KIND_TCP, KIND_UDP

RULE_FIELD = {RULE_TCP: "check_tcp", RULE_UDP: "check_udp", RULE_ICMP: "check_icmp"}
RULE_OF_KIND = {KIND_TCP: RULE_TCP, KIND_UDP: RULE_UDP, KIND_ICMP: RULE_ICMP}
RULE_FIELD |= {RULE_CORE: "check_core", RULE_FILTER: "check_sk_filter"}


def obeys(rules: Mapping[str, int], played: Play, cap: int) -> None:
    """Every packet, and every device with its cap of `cap` skbs, is as the rules say."""
    m = played.m
    for at in range(played.count):
        p = played.rows[at]
        _memory(rules, p)
        if p.reason == PFMEMALLOC:
            _refusal(rules, p)
        elif p.reason == RX_MISSED:
            assert (p.rule == RULE_NO_RESERVE) <= (rules["rx_memalloc"] == RX_NEVER)
            assert (p.rule == RULE_CAP) <= (rules["caps_reserve"] == 1)
        else:
            assert p.rule == RULE_NONE
        if p.point == AT_ICMP_RCV and rules["check_icmp"] == CHECK_COUNT and p.reason != ICMP_CSUM:
            assert (p.reason == PFMEMALLOC) == (p.reserve_used_before > 0)
        assert 0 <= p.reserve_used_after <= p.reserve_used_before <= (cap if rules["caps_reserve"] else 0)
    for d in range(m.devices):
        _device(rules, m.dev[d])


def _memory(rules: Mapping[str, int], p: Any) -> None:
    if rules["rx_memalloc"] == RX_NEVER:
        assert p.from_reserve == 0
    if rules["marks_skbs"]:
        assert p.pfmemalloc == p.from_reserve
    elif not rules["tags_pages"]:
        assert p.pfmemalloc == 0


def _refusal(rules: Mapping[str, int], p: Any) -> None:
    protocol = RULE_OF_KIND.get(p.kind, p.rule)
    rule = rules[RULE_FIELD[protocol if p.rule == RULE_MARK else p.rule]]
    assert p.verdict == DROPPED
    assert p.rule in (protocol, RULE_MARK, RULE_CORE, RULE_FILTER)
    assert (p.rule in (RULE_MARK, RULE_CORE, RULE_FILTER)) == (rule == CHECK_TAG)
    if p.kind != KIND_ICMP and p.rule != RULE_CORE:
        assert p.memalloc == 0
    if rule == CHECK_TAG:
        assert p.pfmemalloc == 1
    else:
        assert rule == CHECK_COUNT
        assert p.reserve_used_before > p.reserve_used_after


def _device(rules: Mapping[str, int], dev: Any) -> None:
    if rules["rx_memalloc"] == RX_NEVER:
        assert dev.reserve_allocations == 0
    if rules["caps_reserve"]:
        assert dev.rx_reserve_used_max <= dev.rx_reserve
    else:
        assert dev.rx_reserve_used_max == 0

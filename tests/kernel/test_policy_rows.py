"""Every question of the policy table decides something that can be seen, and every row obeys itself."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from machines import Nic, Setup, booted, ethertype, icmp, leave_free, play, plenty, rows_of, tcp, udp
from rules import obeys
from streams import stream

from emu.kernel.dev import netif_receive_skb
from emu.kernel.drop_reason import PFMEMALLOC
from emu.kernel.flows import flow_received
from emu.kernel.machine import DRIVER_E1000_PS, NONE, ZONE_NORMAL
from emu.kernel.netdevice import dev_memalloc_skb, estimate_split_pages
from emu.kernel.page_alloc import atomic_floor
from emu.kernel.policy import (
    BUFFER_PAGE_FRAGMENT,
    CHECK_COUNT,
    CHECK_NONE,
    CHECK_TAG,
    POLICIES,
    QUESTIONS,
    RX_ALWAYS,
    RX_NEVER,
    RX_ON_REQUEST,
    RX_WHILE_MEMALLOC_SOCKS,
    answer,
    word,
)
from emu.kernel.slab import SLAB_FRAGMENTS

CAP = 5
BLANK = {question.field: 0 for question in QUESTIONS}


def world(pages: int = 100, config: dict[str, int] | None = None, **rules: int) -> Any:
    """A machine under these rules alone, with a ring of one and so many pages, all of them below the floor."""
    nic = Nic(ring=1, background=0, reserve=CAP)
    m = booted(Setup("linux-2.6.12", nics=(nic,), config=config or {}, policy_rules=BLANK | rules))
    leave_free(m, pages)
    return m


def received(columns: Any, used: int, tagged: int, **rules: int) -> tuple[bool, int]:
    """Whether a packet is refused for the reserve, and how many buffers the device has out afterwards."""
    m = world(config=plenty(memalloc_socket=1), **rules)
    leave_free(m, 5000)
    p = rows_of([columns | {"time_ns": 0}])[0]
    if p.sport:
        flow_received(m, p)
    b = dev_memalloc_skb(m, 0)
    m.skb[b].next = NONE
    m.skb[b].pfmemalloc = tagged
    m.dev[0].rx_reserve_used = used
    netif_receive_skb(m, p, b)
    return p.reason == PFMEMALLOC, m.dev[0].rx_reserve_used


def sees_rx_memalloc(value: int) -> None:
    """Only an entitled driver gets a buffer when nothing is left above the floor."""
    for socks in (0, 1):
        m = world(rx_memalloc=value)
        m.memalloc_socks = socks
        entitled = value in (RX_ALWAYS, RX_ON_REQUEST) or (value == RX_WHILE_MEMALLOC_SOCKS and socks)
        assert (dev_memalloc_skb(m, 0) != NONE) == bool(entitled)


def sees_caps_reserve(value: int) -> None:
    """With the cap five buffers come from the reserve and are counted, without it all pages go uncounted."""
    m = world(rx_memalloc=RX_ALWAYS, caps_reserve=value)
    got = 0
    while dev_memalloc_skb(m, 0) != NONE:
        got += 1
    assert (got, m.dev[0].rx_reserve_used) == ((CAP, CAP) if value else (92, 0))


def sees_rx_allocator(value: int) -> None:
    """The data lies on a page fragment or on a slab of objects."""
    m = world(pages=5000, config=plenty(), rx_allocator=value)
    slab = m.slab[m.skb[dev_memalloc_skb(m, 0)].data_slab]
    assert (slab.cache == SLAB_FRAGMENTS) == (value == BUFFER_PAGE_FRAGMENT)


def sees_marks_skbs(value: int) -> None:
    """The skb from the reserve is marked; one that reuses its memory is not."""
    m = world(rx_memalloc=RX_ALWAYS, marks_skbs=value)
    b = dev_memalloc_skb(m, 0)
    assert (m.skb[b].from_reserve, m.skb[b].pfmemalloc, m.slab[m.skb[b].data_slab].tagged) == (1, value, 0)


def sees_tags_pages(value: int) -> None:
    """The page itself is tagged, so that whatever reuses it is."""
    m = world(rx_memalloc=RX_ALWAYS, tags_pages=value)
    b = dev_memalloc_skb(m, 0)
    assert m.slab[m.skb[b].data_slab].tagged == value


def sees_atomic_first_nomemalloc(value: int) -> None:
    """Between 3/8 and 1/2 of pages_min a first try with __GFP_NOMEMALLOC fails where GFP_ATOMIC gets a page."""
    m = world(atomic_first_nomemalloc=value)
    z = m.zone[ZONE_NORMAL]
    between = (atomic_floor(m, ZONE_NORMAL) + z.pages_min - z.pages_min // 2) // 2
    leave_free(m, between)
    z.pcp_batch, z.pcp_low = 1, -1  # the per-CPU list would take a batch below the floor
    assert (dev_memalloc_skb(m, 0) == NONE) == bool(value)


def sees_check(field: str, columns: Any) -> Callable[[int], None]:
    """A count looks at the device and gives back, a tag looks at the skb, nothing looks at nothing."""

    def sees(value: int) -> None:
        for used in (0, 3):
            for tagged in (0, 1):
                refused, left = received(columns, used, tagged, **{field: value})
                counted = value == CHECK_COUNT and used > 0
                assert refused == (counted or (value == CHECK_TAG and tagged == 1))
                assert left == (used - 1 if counted else used)

    return sees


def sees_check_core(value: int) -> None:
    """A tagged packet of an ethertype that is not on the list goes before anybody sees it."""
    for tagged in (0, 1):
        refused, _ = received(ethertype(0x88CC), 0, tagged, check_core=value)
        assert refused == (value == CHECK_TAG and tagged == 1)


def sees_split_pages(value: int) -> None:
    """Packet split's data pages are promised only where they may come from the reserve."""
    m = world(split_pages_memalloc=value)
    assert estimate_split_pages(m, 0) == 0
    m.dev[0].driver = DRIVER_E1000_PS
    assert estimate_split_pages(m, 0) == (3 * CAP if value else 0)


def sees_watermarks(adjusts: int, estimate: int) -> None:
    """The watermarks rise only if the driver asks, and by what it estimates."""
    m = world(adjusts_reserve=adjusts, estimate=estimate)
    pages = 1 + CAP if adjusts and estimate else 0  # a page of heads, one per buffer
    assert (m.dev[0].memalloc_pages, m.var_free_kbytes) == (pages, 4 * pages)


def sees_reserve_skbs(value: int) -> None:
    """An Ethernet device has the policy's cap unless it is given one."""
    m = booted(Setup("linux-2.6.12", nics=(Nic(),), policy_rules=BLANK | {"reserve_skbs": value}))
    assert m.dev[0].rx_reserve == value


SEEN: dict[str, Callable[[int], None]] = {
    "rx_memalloc": sees_rx_memalloc,
    "caps_reserve": sees_caps_reserve,
    "rx_allocator": sees_rx_allocator,
    "marks_skbs": sees_marks_skbs,
    "tags_pages": sees_tags_pages,
    "atomic_first_nomemalloc": sees_atomic_first_nomemalloc,
    "check_core": sees_check_core,
    "check_tcp": sees_check("check_tcp", tcp()),
    "check_udp": sees_check("check_udp", udp()),
    "check_icmp": sees_check("check_icmp", icmp()),
    "check_sk_filter": lambda value: None if value == CHECK_COUNT else sees_check("check_sk_filter", udp())(value),
    "split_pages_memalloc": sees_split_pages,
    "adjusts_reserve": lambda value: sees_watermarks(value, 1),
    "estimate": lambda value: sees_watermarks(1, value),
    "reserve_skbs": sees_reserve_skbs,
}
# Seen where they act: netif_rx (without NAPI) and the sysctl of the timeline have tests of their own.
ELSEWHERE = {"delivers_marked_at_once", "reserve_in_sysctl"}
VALUES = [
    (question.field, value)
    for question in QUESTIONS
    for value in range(len(question.answers) or 3)
    if question.field not in ELSEWHERE
]


@pytest.mark.parametrize(("field", "value"), VALUES)
def test_the_answer_to_a_question_can_be_seen(field: str, value: int) -> None:
    """Changing this rule alone changes what the machine does."""
    SEEN[field](value)


def test_every_question_is_asked() -> None:
    """No rule of the table goes unseen."""
    assert set(SEEN) | ELSEWHERE == {question.field for question in QUESTIONS}


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("seed", range(3))
def test_a_row_obeys_itself_whatever_comes(policy: str, seed: int) -> None:
    """Random frames of every kind on two small rings: each refusal, mark and count follows from the row."""
    nics = tuple(Nic(ring=32, background=0, reserve=CAP) for _ in range(2))
    frames = stream(seed, 400, 2)
    played = play(Setup(policy, nics=nics), frames, until_ns=frames[-1]["time_ns"] + 10**9)
    obeys(POLICIES[policy].rules, played, CAP)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1 << 20),
    rules=st.fixed_dictionaries(
        {
            "rx_memalloc": st.sampled_from((RX_NEVER, RX_ALWAYS, RX_ON_REQUEST)),
            "caps_reserve": st.integers(0, 1),
            "marks_skbs": st.integers(0, 1),
            "check_tcp": st.sampled_from((CHECK_NONE, CHECK_COUNT, CHECK_TAG)),
            "check_udp": st.sampled_from((CHECK_NONE, CHECK_COUNT, CHECK_TAG)),
            "check_icmp": st.sampled_from((CHECK_NONE, CHECK_COUNT, CHECK_TAG)),
        }
    ),
)
def test_a_users_own_row_obeys_itself(seed: int, rules: dict[str, int]) -> None:
    """So does a row that nobody has written: marks with counts, checks without a cap."""
    frames = stream(seed, 150)
    setup = Setup("linux-2.6.12", nics=(Nic(ring=32, background=0, reserve=CAP),), policy_rules=rules)
    played = play(setup, frames, until_ns=frames[-1]["time_ns"] + 10**9)
    obeys(POLICIES["linux-2.6.12"].rules | rules, played, CAP)


def test_answers_have_words() -> None:
    """A value in a sentence and in a word; a number stands for itself."""
    by_field = {question.field: question for question in QUESTIONS}
    assert answer(by_field["rx_memalloc"], RX_ON_REQUEST).startswith("when the driver asks")
    assert word(by_field["rx_memalloc"], RX_ON_REQUEST) == "asked"
    assert answer(by_field["reserve_skbs"], 50) == word(by_field["reserve_skbs"], 50) == "50"
    for question in QUESTIONS:
        assert len(question.words) == len(question.answers)
        assert all(len(each) <= 8 for each in question.words)


def test_the_revisions_grow_from_one_another() -> None:
    """What each mail added: the default is v5, v1 and v2 mark, the count comes with v3, UDP and ICMP with v4."""
    rules = {name: row.rules for name, row in POLICIES.items() if name.startswith("phillips")}

    def changed(old: str, new: str) -> set[str]:
        return {field for field in BLANK if rules[old][field] != rules[new][field]}

    assert changed("phillips-v1", "phillips-v2") == {"rx_memalloc"}
    assert changed("phillips-v2", "phillips-v3") == {
        *("rx_memalloc", "marks_skbs", "check_tcp", "caps_reserve", "reserve_skbs", "delivers_marked_at_once")
    }
    assert changed("phillips-v3", "phillips-v4") == {"check_udp", "check_icmp"}
    assert changed("phillips-v4", "phillips-v5") == {"adjusts_reserve", "estimate", "reserve_in_sysctl"}
    assert changed("phillips-v5", "phillips-v6") == {"reserve_in_sysctl", "split_pages_memalloc"}

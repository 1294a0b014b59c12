"""The policy table: one row per kernel revision, one field per rule.

`QUESTIONS` says what each field of `machine.Policy` asks and what its values mean; `POLICIES` answers for each kernel.
The screen of `emu policies`, the docs and the property tests are made from these two.
"""

from typing import NamedTuple

from emu.kernel.bugs import bugs_of
from emu.kernel.machine import Policy
from emu.kernel.record import fields_of

# May a receive buffer be allocated with __GFP_MEMALLOC?
RX_NEVER, RX_ALWAYS, RX_WHILE_MEMALLOC_SOCKS, RX_ON_REQUEST = range(4)
# Where does a receive buffer come from?
BUFFER_KMALLOC, BUFFER_PAGE_FRAGMENT = range(2)
# What does a protocol's check look at?
CHECK_NONE, CHECK_COUNT, CHECK_TAG = range(3)
# How many pages does a device ask for?
ESTIMATE_NONE, ESTIMATE_FLS = range(2)

# The rule that decided a verdict (column `policy_rule`).
RULE_NONE, RULE_TCP, RULE_UDP, RULE_ICMP, RULE_CORE, RULE_FILTER, RULE_CAP, RULE_NO_RESERVE, RULE_MARK = range(9)
RULES = (
    "",
    "tcp: device in reserve",
    "udp: device in reserve",
    "icmp: device in reserve",
    "core: tagged and not ARP, IP, IPv6 or VLAN",
    "sk_filter: tagged and not SOCK_MEMALLOC",
    "cap: rx_reserve buffers are out",
    "no reserve for receive buffers",
    "skb marked as the reserve's",
)


class Question(NamedTuple):
    """A rule as a question, its answers by value; `label` and `words` say the same in a narrow table.

    A question without answers is answered by a number.
    """

    field: str
    asks: str
    answers: tuple[str, ...]
    label: str
    words: tuple[str, ...]


YES_NO = ("no", "yes")
CHECKS = (
    "not checked",
    "while rx_reserve_used > 0: give one back, drop if not SOCK_MEMALLOC",
    "marked or tagged: drop if not SOCK_MEMALLOC",
)
CHECK_WORDS = ("-", "count", "mark")
TICK = ("-", "yes")
QUESTIONS = (
    Question(
        "rx_memalloc",
        "May a receive buffer use __GFP_MEMALLOC?",
        ("never", "always", "while a SOCK_MEMALLOC socket exists", "when the driver asks for it (all drivers do)"),
        "RX uses the reserve",
        ("-", "yes", "socks", "asked"),
    ),
    Question("caps_reserve", "Is there a cap per device (rx_reserve)?", YES_NO, "cap, count per device", TICK),
    Question(
        "rx_allocator",
        "Where does a receive buffer come from?",
        ("kmalloc", "page fragments; the sk_buff itself with GFP_ATOMIC"),
        "RX buffers come from",
        ("kmalloc", "frags"),
    ),
    Question(
        "marks_skbs",
        "Is an skb from the reserve marked, skb by skb (a copy is not)?",
        YES_NO,
        "marks skbs",
        TICK,
    ),
    Question(
        "tags_pages",
        "Is memory from the reserve tagged (pfmemalloc), page by page?",
        YES_NO,
        "tags pages",
        TICK,
    ),
    Question(
        "atomic_first_nomemalloc",
        "Is __GFP_NOMEMALLOC tried first, at a floor of 1/2 min?",
        YES_NO,
        "__GFP_NOMEMALLOC first",
        TICK,
    ),
    Question(
        "check_core",
        "What does netif_receive_skb check?",
        ("nothing", "-", "drops tagged unknown protocols"),
        "netif_receive_skb checks",
        CHECK_WORDS,
    ),
    Question("check_tcp", "What does tcp_v4_rcv check?", CHECKS, "tcp_v4_rcv checks", CHECK_WORDS),
    Question("check_udp", "What does udp_rcv check?", CHECKS, "udp_rcv checks", CHECK_WORDS),
    Question(
        "check_icmp",
        "What does icmp_rcv check?",
        ("not checked", "while rx_reserve_used > 0: give one back, drop every type", "marked or tagged: drop"),
        "icmp_rcv checks",
        CHECK_WORDS,
    ),
    Question(
        "check_sk_filter",
        "What does sk_filter_trim_cap check?",
        ("nothing", "-", "drops tagged packets of sockets that are not SOCK_MEMALLOC"),
        "sk_filter_trim_cap checks",
        CHECK_WORDS,
    ),
    Question(
        "delivers_marked_at_once",
        "Does netif_rx deliver marked packets at once, from the interrupt? (with NAPI netif_rx is not called)",
        YES_NO,
        "netif_rx delivers marked",
        TICK,
    ),
    Question(
        "split_pages_memalloc",
        "May the data pages of split packets use __GFP_MEMALLOC, uncounted?",
        YES_NO,
        "split pages use it too",
        TICK,
    ),
    Question(
        "adjusts_reserve",
        "Does an interface coming up raise the watermarks (adjust_memalloc_reserve)?",
        YES_NO,
        "raises the watermarks",
        TICK,
    ),
    Question(
        "estimate",
        "How does estimate_skb_pages count?",
        ("not called", "heads by slab, data as the next power of two above size + 15"),
        "estimate_skb_pages",
        ("-", "fls"),
    ),
    Question(
        "reserve_in_sysctl",
        "Does adjust_memalloc_reserve write min_free_kbytes itself, which the administrator writes too?",
        YES_NO,
        "in min_free_kbytes",
        TICK,
    ),
    Question("reserve_skbs", "rx_reserve of an Ethernet device (skbs)", (), "rx_reserve (skbs)", ()),
)

assert tuple(question.field for question in QUESTIONS) == tuple(field.name for field in fields_of(Policy))
assert all(len(question.answers) == len(question.words) for question in QUESTIONS)


class PolicyRow(NamedTuple):
    """One kernel's rules."""

    name: str
    title: str
    source: str
    rules: dict[str, int]
    bugs: tuple[int, ...]  # of the bug table, as its revision was posted


def _row(name: str, title: str, source: str, **rules: int) -> PolicyRow:
    unknown = set(rules) - {question.field for question in QUESTIONS}
    assert not unknown, unknown
    every = {question.field: rules.get(question.field, 0) for question in QUESTIONS}
    return PolicyRow(name, title, source, every, bugs_of(name))


POLICIES: dict[str, PolicyRow] = {
    row.name: row
    for row in (
        _row(
            "linux-2.6.12",
            "no reserve for the network: the lockup",
            "Linux 2.6.12, net/core/skbuff.c, drivers/net/e1000",
        ),
        _row(
            "reserve-only",
            "a reserve without triage: 'the reserves are full of music'",
            "the control of the experiment: v5's allocation without its cap and its checks",
            rx_memalloc=RX_ALWAYS,
            adjusts_reserve=1,
            estimate=ESTIMATE_FLS,
            reserve_skbs=50,
        ),
        _row(
            "phillips-v1",
            "the first patch, 3 August 2005: marked skbs, no cap, TCP only",
            "Phillips, linux-mm, 3 Aug 2005 16:57 +1000; Josefsson's answers of the same day (a mark lags by one ring)",
            rx_memalloc=RX_ALWAYS,
            marks_skbs=1,
            check_tcp=CHECK_TAG,
            delivers_marked_at_once=1,
        ),
        _row(
            "phillips-v2",
            "5 August 2005: as v1, for drivers that ask for it",
            "Phillips, linux-mm, 5 Aug 2005 07:51, with the compile fix of 08:09",
            rx_memalloc=RX_ON_REQUEST,
            marks_skbs=1,
            check_tcp=CHECK_TAG,
            delivers_marked_at_once=1,
        ),
        _row(
            "phillips-v3",
            "'take two', 6 August 2005: a count and a cap per device instead of marks, TCP only",
            "Phillips, linux-mm, 6 Aug 2005, and his exchange with Garzik of 7 Aug (why a limit)",
            rx_memalloc=RX_ALWAYS,
            caps_reserve=1,
            check_tcp=CHECK_COUNT,
            reserve_skbs=50,
        ),
        _row(
            "phillips-v4",
            "7 August 2005: UDP and ICMP are checked too, the count is atomic",
            "Phillips, linux-mm, 7 Aug 2005",
            rx_memalloc=RX_ALWAYS,
            caps_reserve=1,
            check_tcp=CHECK_COUNT,
            check_udp=CHECK_COUNT,
            check_icmp=CHECK_COUNT,
            reserve_skbs=50,
        ),
        _row(
            "phillips-v5",
            "the patch of 8 August 2005: interfaces raise min_free_kbytes",
            "Phillips, linux-mm, 8 Aug 2005, with the follow-up of 9 Aug; fixed but for the limits of its design",
            rx_memalloc=RX_ALWAYS,
            caps_reserve=1,
            check_tcp=CHECK_COUNT,
            check_udp=CHECK_COUNT,
            check_icmp=CHECK_COUNT,
            adjusts_reserve=1,
            estimate=ESTIMATE_FLS,
            reserve_in_sysctl=1,
            reserve_skbs=50,
        ),
        _row(
            "phillips-v6",
            "the last patch, 12 August 2005: its own share of the watermarks, data pages of split packets",
            "Phillips, linux-mm, 12 Aug 2005 08:31, with the brace fix of 13:35",
            rx_memalloc=RX_ALWAYS,
            caps_reserve=1,
            check_tcp=CHECK_COUNT,
            check_udp=CHECK_COUNT,
            check_icmp=CHECK_COUNT,
            split_pages_memalloc=1,
            adjusts_reserve=1,
            estimate=ESTIMATE_FLS,
            reserve_skbs=50,
        ),
        _row(
            "mainline",
            "since Linux 3.6: a global reserve, tagged at allocation, dropped at sk_filter",
            "Linux v6.19 net/core/skbuff.c, net/core/dev.c, net/core/filter.c; Gorman, July 2012",
            rx_memalloc=RX_WHILE_MEMALLOC_SOCKS,
            rx_allocator=BUFFER_PAGE_FRAGMENT,
            tags_pages=1,
            atomic_first_nomemalloc=1,
            check_core=CHECK_TAG,
            check_sk_filter=CHECK_TAG,
        ),
    )
}
DEFAULT_POLICY = "phillips-v5"


def answer(question: Question, value: int) -> str:
    """A rule's value in words."""
    if 0 <= value < len(question.answers):
        return question.answers[value]
    return str(value)


def word(question: Question, value: int) -> str:
    """A rule's value in one word."""
    return question.words[value] if 0 <= value < len(question.words) else str(value)

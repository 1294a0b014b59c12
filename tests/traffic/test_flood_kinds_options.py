"""Floods as users write them: every option typed, checked, told in one line, and written back as it was read."""

import re
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emu.errors import UsageError
from emu.tables import keys_of
from emu.traffic.flood import values
from emu.traffic.flood.kinds import (
    KINDS,
    Flood,
    flood_of,
    meaning_of,
    naming_within,
    option,
    parse_flood,
    recipe_text,
    sizes_of,
    split_flood,
)
from emu.traffic.flood.plan import Sizes

ISSUE = [
    "udp", "tcp-bulk", "synflood", "tcp-closed-port", "icmp-echo", "arp", "ipv6-udp", "multicast", "broadcast",
    "fragments", "vlan", "other-ethertype", "jumbo", "mixed-imix", "iscsi-acks",
]  # fmt: skip


def asked(kind: str, **settings: Any) -> Flood:
    return flood_of(kind, settings, lambda key: f"--{key}")


def test_kinds_stand_in_the_order_of_the_issue() -> None:
    assert list(KINDS) == ISSUE


@pytest.mark.parametrize("kind", ISSUE)
def test_every_kind_and_option_says_what_it_means(kind: str) -> None:
    assert re.fullmatch(r"[A-Z].*\.", meaning_of(kind))
    for key in keys_of(KINDS[kind]):
        assert key.meaning.endswith("."), f"{kind}: {key.name}"
        assert key.name == key.name.lower()


@pytest.mark.parametrize("kind", ISSUE)
def test_every_kind_takes_count_and_seed_alone(kind: str) -> None:
    flood = asked(kind, count="3000", seed=5)
    assert (flood.options.count, flood.options.seed, {*flood.given}) == (3000, 5, {"count", "seed"})


def test_text_of_the_issue_is_read() -> None:
    flood = parse_flood("udp:pps=100k,size=1400,ports=16", "--flood")
    assert (flood.options.pps, flood.options.size, flood.options.ports) == ("100k", "1400", "16")
    assert parse_flood("udp:from-ports=5,poisson", "--flood").options.poisson is True
    assert parse_flood("fragments", "--flood") == Flood("fragments", KINDS["fragments"](), ())


BAD = [
    ("udp:pps=0", "pps 0: expected a rate above 0"),
    ("udp:pps=ten", "pps ten: expected a rate"),
    ("udp:pps=-5", "pps -5: expected a rate"),
    ("udp:mbps=0", "mbps 0: expected a rate"),
    ("udp:pps=1k,mbps=10", "mbps 10: given beside pps"),
    ("udp:pps=1k..2k", "pps 1k..2k: a ramp needs to know how long"),
    ("udp:ramp=1s", "ramp 1s: pps is no ramp"),
    ("udp:pps=11G", "pps 11G: expected a rate"),
    ("udp:mbps=1.5M", "mbps 1.5M: expected a rate"),
    ("udp:burst=10ms", "burst 10ms: expected two times ON/OFF"),
    ("udp:burst=10ms/0s", "burst 10ms/0s: expected two times"),
    ("udp:poisson=maybe", "poisson: expected true or false, found 'maybe'"),
    ("udp:for=10", "for 10: expected a time above 0 with its unit"),
    ("udp:for=0s", "for 0s: expected a time above 0"),
    ("udp:count=0", "count: expected an integer of at least 1"),
    ("udp:count=many", "count: expected an integer of at least 1"),
    ("udp:seed=-1", "seed: expected an integer from 0"),
    ("udp:size=30", "size 30: udp over IPv4 needs 42 bytes, and a frame without FCS has 60 to 1514 here"),
    (
        "udp:size=1515",
        "size 1515: udp over IPv4 needs 42 bytes, and a frame without FCS has 60 to 1514 here (kind jumbo",
    ),
    ("ipv6-udp:size=60", "size 60: udp over IPv6 needs 62 bytes, and a frame without FCS has 62 to 1514"),
    ("vlan:size=1519", "size 1519: udp over IPv4 needs 46 bytes, and a frame without FCS has 60 to 1518"),
    ("jumbo:size=9015", "size 9015: udp over IPv4 needs 42 bytes, and a frame without FCS has 60 to 9014 here"),
    ("other-ethertype:size=59", "size 59: Ethernet needs 14 bytes, and a frame without FCS has 60"),
    ("udp:size=1500..64", "size 1500..64: 1500..64 counts down"),
    ("udp:size=64:0", "size 64:0: 64:0: expected a weight of at least 1"),
    ("udp:size=big", "size big: expected bytes such as 64"),
    ("udp:payload=poem", "payload poem: expected text, zeros, random, or hex:"),
    ("udp:payload=hex:abc", "payload hex:abc: expected"),
    ("udp:ports=0", "ports 0: no port at all; expected a range of ports"),
    ("udp:ports=65530-65540", "ports 65530-65540: ports 65530 to 65540; expected ports from 1 to 65535"),
    ("udp:ports=9015-9000", "ports 9015-9000: the range counts down"),
    ("udp:ports=9000", "ports 9000: 9000 ports; expected at most 1024; `port` names the first"),
    ("udp:port=1,ports=9000-9001", "ports 9000-9001: a range, beside `port`"),
    ("udp:port=70000", "port: expected an integer from 1 to 65535, found 70000"),
    ("udp:ports=1000,from_ports=1000", "from_ports 1000: with `ports` more than 65536 flows"),
    ("tcp-closed-port:ports=17", "ports 17: expected at most 16 closed ports"),
    ("udp:to=10.0.0.2,from=fd00::1", "from fd00::1: IPv6, but the receiver's address is IPv4"),
    ("udp:to=fd00::2,spoof=10.0.0.0/8", "spoof 10.0.0.0/8: IPv4, but the receiver's address is IPv6"),
    ("udp:from=10.0.0.1,spoof=10.0.0.0/8", "spoof 10.0.0.0/8: given beside `from`"),
    ("udp:spoof=10.0.0.1/8", "spoof 10.0.0.1/8: expected a network such as 198.18.0.0/15 or fd00:bad::/64: host bits"),
    ("udp:spoof=239.0.0.0/8", "spoof 239.0.0.0/8: nobody sends from a multicast address"),
    ("udp:from=239.0.0.1", "from 239.0.0.1: nobody sends from a multicast address"),
    ("udp:to=10.0.0", "to 10.0.0: expected an IPv4 or IPv6 address"),
    ("udp:to=fe80::1%eth0", "to fe80::1%eth0: expected an IPv4 or IPv6 address"),
    ("udp:to=239.1.1.1", "to 239.1.1.1: a multicast group: see the kind multicast"),
    ("multicast:to=10.0.0.2", "to 10.0.0.2: expected a multicast group"),
    ("ipv6-udp:to=10.0.0.2", "to 10.0.0.2: ipv6-udp is IPv6 only"),
    ("arp:to=fd00::2", "to fd00::2: arp is IPv4 only"),
    ("arp:op=gratuitous,to=10.0.0.2", "to 10.0.0.2: a gratuitous announcement"),
    ("arp:op=howl", "op: expected one of gratuitous, reply, request, found 'howl'"),
    ("broadcast:to=ff02::1", "to ff02::1: broadcast is IPv4 only"),
    ("udp:to_mac=02:00", "to_mac 02:00: expected a MAC address"),
    ("vlan:id=4095", "id: expected an integer from 1 to 4094"),
    ("other-ethertype:ethertype=0x0800", "ethertype 0x0800: that protocol has a kind of its own: udp"),
    ("other-ethertype:ethertype=5", "ethertype 5: expected lldp, or a number from 0x0600"),
    ("other-ethertype:ethertype=lldp,size=100", "size 100: LLDP announcements have a size"),
    ("fragments:datagram=1000", "datagram 1000: fits into the MTU 1500 unfragmented"),
    ("fragments:to=fd00::2,mtu=1000", "mtu 1000: IPv6 has at least 1280"),
    ("fragments:incomplete=101", "incomplete: expected an integer from 0 to 100"),
    ("mixed-imix:mix=udp:1+sctp:2", "mix udp:1+sctp:2: expected weights above 0 of udp, tcp, icmp"),
    ("synflood:template=x.pcap,options=mss", "options mss: given beside `template`"),
    ("udp:template=x.pcap,payload=zeros", "payload zeros: given beside `template` without `size`"),
    ("iscsi-acks:write_size=100", "write_size: expected a multiple of 512"),
    ("iscsi-acks:initiator=10.0.0.2,target=fd00::1", "target: expected an IPv4 address"),
    ("iscsi-acks:pps=0", "pps: expected writes per second above 0"),
    ("iscsi-acks:size=3", "size: unknown key 'size'"),
    ("udp:sizes=3", "sizes: unknown key 'sizes'; did you mean 'size'?"),
    ("arp:size=64", "size: unknown key 'size'"),
]


@pytest.mark.parametrize(("text", "sentence"), BAD, ids=[text for text, _ in BAD])
def test_bad_option_is_told_in_one_line_with_its_name(text: str, sentence: str) -> None:
    with pytest.raises(UsageError) as told:
        parse_flood(text, "--flood")
    assert str(told.value).startswith(f"--flood '{text}': {sentence}")
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("upd:count=3", "no kind of flood 'upd'; did you mean 'udp'? Expected one of udp, tcp-bulk"),
        ("", "no kind of flood ''; expected one of udp"),
        ("udp:=3", "'=3': expected key=value"),
        ("udp:count=3,count=4", "count: given twice"),
    ],
)
def test_text_that_is_no_flood_is_told(text: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=re.escape(f"--flood '{text}': {sentence}")):
        parse_flood(text, "--flood")


def test_options_are_named_as_the_command_line_does() -> None:
    with pytest.raises(UsageError, match=r"^--size 30: udp over IPv4 needs 42"):
        asked("udp", size="30")


def test_numbers_from_python_are_taken_as_words() -> None:
    assert asked("udp", pps=100_000, size=64, ports=16) == asked("udp", pps="100000", size="64", ports="16")


def test_sizes_of_the_internet_mix_make_room_for_headers() -> None:
    assert sizes_of(asked("udp", size="imix").options)[0] == Sizes(60, 60, 7)
    assert sizes_of(asked("icmp-echo", to="fd00::2", size="imix").options)[0] == Sizes(62, 62, 7)


def test_lists_take_any_separator() -> None:
    wanted = (Sizes(64, 64, 7), Sizes(576, 600, 4), Sizes(1514, 1514, 1))
    for text in ("64:7+576..600:4+1514", "64:7;576..600:4;1514:1", "64:7, 576..600:4, 1514"):
        assert values.parse_sizes(text) == wanted


def test_rates_are_exact() -> None:
    assert values.parse_pps("1.5M") == (Fraction(1_500_000), Fraction(1_500_000))
    assert values.parse_pps("0.001..10G") == (Fraction(1, 1000), Fraction(10**10))
    assert values.parse_mbps("0.5") == (Fraction(1, 2), Fraction(1, 2))


def test_ports_are_a_range_or_how_many() -> None:
    assert values.parse_ports("9000-9015", 1) == (9000, 16)
    assert values.parse_ports("16", 9000) == (9000, 16)
    assert values.parse_ports("1", 53) == (53, 1)


SETTINGS: dict[str, st.SearchStrategy[Any]] = {
    "pps": st.sampled_from(["1", "0.5", "200k", "1.5M"]),
    "count": st.integers(1, 1 << 40),
    "for": st.sampled_from(["10s", "1.5ms", "1h"]),
    "seed": st.integers(0, (1 << 62) - 1),
    "poisson": st.booleans(),
    "size": st.lists(st.integers(64, 1514).map(str), min_size=1, max_size=4).flatmap(
        lambda sizes: st.sampled_from([separator.join(sizes) for separator in "+;,"])
    ),
    "ports": st.sampled_from(["1", "16", "9000-9015"]),
    "to_mac": st.just("02-00-00-00-00-09"),
    "template": st.text(st.characters(codec="utf-8", exclude_categories=["C"]), min_size=1),
}


@settings(max_examples=40)
@given(st.fixed_dictionaries({}, optional=SETTINGS))
def test_recipe_reads_back_as_the_same_flood(chosen: dict[str, Any]) -> None:
    flood = asked("udp", **chosen)
    assert parse_flood(recipe_text(flood), "recipe") == flood
    assert set(flood.given) == set(chosen)
    for key, value in chosen.items():
        assert option(flood, key) == value


@given(st.text(max_size=60))
def test_any_text_is_read_or_told(rest: str) -> None:
    try:
        kind, words = split_flood(f"udp:{rest}", "--flood")
    except UsageError as error:
        assert "\n" not in str(error)
    else:
        assert kind == "udp"
        assert all(words)


@given(st.sampled_from(ISSUE), st.data())
def test_any_value_is_taken_or_told_in_one_line(kind: str, data: st.DataObject) -> None:
    key = data.draw(st.sampled_from([key.name for key in keys_of(KINDS[kind])]))
    words = st.one_of(
        st.text(max_size=20), st.integers().map(str), st.from_regex(r"[0-9a-f.:/+;-]{1,20}", fullmatch=True)
    )
    value = data.draw(words)
    try:
        flood = flood_of(kind, {key: value}, naming_within(f"{kind}:{key}={value}", "--flood"))
    except UsageError as error:
        assert key in str(error)
        assert "\n" not in str(error)
    else:
        assert flood.given == (key,)


@given(
    st.text("0123456789abcdef", min_size=1, max_size=6).filter(lambda text: len(text) % 2 == 0), st.integers(0, 3000)
)
def test_payload_has_the_size_asked_for(digits: str, size: int) -> None:
    for name in (*values.PAYLOADS, f"hex:{digits}"):
        assert len(values.payload_bytes(values.parse_payload(name), size, 7)) == size
    assert values.payload_bytes(f"hex:{digits}", size, 7)[: len(digits) // 2] == bytes.fromhex(digits)[:size]

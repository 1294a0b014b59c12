"""The small grammar of flows."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from traffic_kit import kit

from emu.engine.plain import PlainEngine
from emu.errors import UsageError
from emu.machine_of import machine_of
from emu.scenario_file import load_scenario
from emu.traffic.expression import PRESETS, FlowTerm, parse_flows

TCP, UDP = 6, 17


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tcp", [FlowTerm(TCP, 0, 0)]),
        ("udp port 53", [FlowTerm(UDP, 0, 53)]),
        ("tcp host 10.0.0.1", [FlowTerm(TCP, 0x0A000001, 0, 4)]),
        ("tcp host 10.0.0.1 port 1", [FlowTerm(TCP, 0x0A000001, 1, 4)]),
        ("  tcp   port 65535 host 1.2.3.4 ", [FlowTerm(TCP, 0x01020304, 65535, 4)]),
        ("tcp host 2001:db8::1 port 3260", [FlowTerm(TCP, 1, 3260, 6, 0x20010DB800000000)]),
        ("udp host fe80::8000:0:0:1", [FlowTerm(UDP, 1 - (1 << 63), 0, 6, -0x180000000000000)]),
        ("tcp host ::ffff:1.2.3.4", [FlowTerm(TCP, 0xFFFF01020304, 0, 6, 0)]),
        ("tcp port 1 or udp", [FlowTerm(TCP, 0, 1), FlowTerm(UDP, 0, 0)]),
        ("iscsi", [FlowTerm(TCP, 0, 3260)]),
        ("nbd", [FlowTerm(TCP, 0, 10809)]),
        ("nvme-tcp", [FlowTerm(TCP, 0, 4420)]),
        ("nfs", [FlowTerm(TCP, 0, 2049), FlowTerm(UDP, 0, 2049)]),
        ("iscsi or udp port 7", [FlowTerm(TCP, 0, 3260), FlowTerm(UDP, 0, 7)]),
        ("none", []),
        ("", []),
        ("  ", []),
    ],
)
def test_expressions_are_read(text: str, expected: list[FlowTerm]) -> None:
    """A protocol, then host and port in any order; alternatives; presets by name."""
    assert list(parse_flows(text, "--memalloc")) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("icmp", "expected tcp or udp, found 'icmp'"),
        ("or tcp", "expected tcp or udp, found nothing"),
        ("tcp or", "expected tcp or udp, found nothing"),
        ("tcp or or udp", "expected tcp or udp, found 'or'"),
        ("tcp port", "cannot read 'port'"),
        ("tcp port 1 and udp", "cannot read 'and udp'"),
        ("tcp 3260", "cannot read '3260'"),
        ("tcp port 0", "'0' is not a port"),
        ("tcp port 65536", "'65536' is not a port"),
        ("tcp port -1", "'-1' is not a port"),
        ("tcp port ٣", "'٣' is not a port"),
        ("tcp port http", "'http' is not a port"),
        ("tcp host 10.0.0", "'10.0.0' is not an IPv4 or IPv6 address"),
        ("tcp host fe80::1%eth0", "'fe80::1%eth0' is not an IPv4 or IPv6 address"),
        ("tcp host 1::2::3", "'1::2::3' is not an IPv4 or IPv6 address"),
        ("tcp host example.com", "'example.com' is not an IPv4 or IPv6 address"),
        ("TCP", "found 'TCP'"),
        ("iscsi and nbd", "found 'iscsi'"),
    ],
)
def test_what_is_not_of_the_grammar_is_refused(text: str, said: str) -> None:
    """The message quotes the origin, the expression and the word that does not fit."""
    with pytest.raises(UsageError) as error:
        parse_flows(text, "--memalloc")
    assert str(error.value).startswith(f"--memalloc '{text}': ")
    assert said in str(error.value)


@given(st.text(alphabet="tcpudhosr0123456789.: ", max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    """Nothing but UsageError ever comes out of a text."""
    try:
        terms = parse_flows(text, "x")
    except UsageError as error:
        assert "\n" not in str(error)
    else:
        assert all(term.protocol in (TCP, UDP) and 0 <= term.port <= 65535 for term in terms)
        assert all(-(1 << 63) <= half < 1 << 63 for term in terms for half in (term.addr, term.addr_hi))


@given(st.integers(0, (1 << 128) - 1))
def test_an_ipv6_address_is_two_signed_halves(number: int) -> None:
    """Whatever the address, its halves are what the machine's 64-bit integers hold, and make it up again."""
    (term,) = parse_flows(f"tcp host {ipaddress.IPv6Address(number)}", "x")
    assert (term.family, (term.addr_hi % 2**64) << 64 | term.addr % 2**64) == (6, number)


def test_a_rule_of_the_machine_has_the_whole_address() -> None:
    """--memalloc, --closed and a scenario's sockets see IPv6 addresses, each at its own end."""
    expression = "tcp host 2001:db8::1 port 3260"
    scenario = load_scenario(None, {"replay.memalloc": expression, "replay.closed": expression})
    remote, local = machine_of(PlainEngine(), scenario).sock_rule[0], machine_of(PlainEngine(), scenario).sock_rule[1]
    assert (remote.family, remote.remote_addr_hi, remote.remote_addr, remote.remote_port) == (
        6,
        0x20010DB8 << 32,
        1,
        3260,
    )
    assert (local.family, local.local_addr_hi, local.local_addr, local.local_port) == (6, 0x20010DB8 << 32, 1, 3260)
    assert (remote.local_addr_hi, local.remote_addr_hi) == (0, 0)


@pytest.mark.parametrize(("preset", "port"), [("iscsi", 3260), ("nbd", 10809), ("nvme-tcp", 4420), ("nfs", 2049)])
def test_presets_mark_the_flows_of_their_port(preset: str, port: int) -> None:
    """Under a preset a flow from the server's port is memalloc, another is not."""
    capture = kit.pcap(kit.paced([kit.tcp(port, 700), kit.tcp(700, port), kit.tcp(port + 1, 700)]))
    summary = kit.played(capture, settings={"replay.memalloc": preset}, host=kit.HOST_MAC).summary
    assert (summary["memalloc"]["received"], summary["other"]["received"]) == (1, 2)


def test_no_preset_is_forgotten() -> None:
    """Every preset is an expression of the grammar."""
    assert all(parse_flows(name, "x") == parse_flows(text, "x") for name, text in PRESETS.items())


def test_nobody_is_critical_when_so_asked() -> None:
    """--memalloc none marks no flow, and the summary says so."""
    summary = kit.played(kit.pcap(kit.paced([kit.iscsi()])), settings={"replay.memalloc": "none"}).summary
    assert summary["memalloc"]["received"] == 0
    assert any("no packet belongs to a memalloc flow" in said for said in summary["findings"])

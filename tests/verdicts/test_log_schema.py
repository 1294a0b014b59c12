"""The schema: what is in it, and how a row of it is made."""

import io
import ipaddress
import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from syrupy.assertion import SnapshotAssertion

from emu.cli.schema import schema, show_schema
from emu.kernel.machine import MAX_SOCKETS, Packet
from emu.kernel.record import fields_of
from emu.verdicts.address import HALF, ipv6_text
from emu.verdicts.schema import COLUMNS, ENUM, NAMES, SCHEMA_VERSION, TYPES, columns, describe, row_values
from emu.wire import headers


def packet(**values: int) -> Packet:
    made = Packet()
    for field, value in values.items():
        setattr(made, field, value)
    return made


def shown(show: Callable[[Console], None], width: int) -> str:
    screen = Console(file=io.StringIO(), width=width)
    show(screen)
    assert isinstance(screen.file, io.StringIO)
    lines = [line.rstrip() for line in screen.file.getvalue().splitlines()]
    assert max(map(len, lines)) <= width
    return "\n".join(lines)


def test_schema_is_what_it_was(snapshot: SnapshotAssertion) -> None:
    assert {"schema_version": SCHEMA_VERSION, "columns": describe()} == snapshot


def test_schema_on_screen(snapshot: SnapshotAssertion) -> None:
    assert shown(show_schema, 100) == snapshot


def test_schema_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert schema(True) == 0
    said = json.loads(capsys.readouterr().out)
    assert [column["name"] for column in said["columns"]] == list(NAMES)


def test_columns_are_sound() -> None:
    fields = {field.name for field in fields_of(Packet)}
    assert columns() is COLUMNS and len(set(NAMES)) == len(COLUMNS)
    for column in COLUMNS:
        assert column.type in TYPES and column.meaning.endswith(".")
        assert column.field in fields or column.name == "zone"
        assert (column.type == ENUM) == bool(column.names)
        assert len(set(column.names)) == len(column.names)


ENDS = {"saddr": 0x0A420001, "daddr": 0x0A420002, "sport": 3260, "dport": 48122}


@pytest.mark.parametrize(
    ("values", "flow", "socket"),
    [
        ({"kind": headers.KIND_TCP}, "tcp 10.66.0.1:3260 > 10.66.0.2:48122", "tcp 10.66.0.2:48122"),
        ({"kind": headers.KIND_UDP}, "udp 10.66.0.1:3260 > 10.66.0.2:48122", "udp :48122"),
        ({"kind": headers.KIND_ICMP}, "icmp 10.66.0.1 > 10.66.0.2", ""),
        ({"kind": headers.KIND_ARP}, "arp 10.66.0.1 > 10.66.0.2", ""),
        ({"kind": headers.KIND_IP_OTHER, "ip_protocol": 47}, "ip-proto-47 10.66.0.1 > 10.66.0.2", ""),
        ({"kind": headers.KIND_IP_FRAGMENT, "ip_protocol": 17}, "ip-proto-17 10.66.0.1 > 10.66.0.2", ""),
        ({"kind": headers.KIND_IPV6, "ethertype": 0x86DD}, "ethertype 0x86dd", ""),
        ({"kind": headers.KIND_OTHER, "ethertype": 0x88B5}, "ethertype 0x88b5", ""),
        ({"kind": headers.KIND_MALFORMED}, "", ""),
    ],
)
def test_flows_and_sockets(values: dict[str, int], flow: str, socket: str) -> None:
    for sk in (-1, 0, MAX_SOCKETS - 1):
        row = row_values(packet(sk=sk, **(ENDS | values)), ["eth0"])
        assert row["flow"] == flow and row["socket"] == (socket if sk >= 0 else "")


SIX = {
    "ip_version": 6,
    "saddr_hi": 0x20010DB8 << 32,
    "saddr": 1,
    "daddr_hi": (0xFE80 << 48) - (1 << 64),  # as the machine has it: signed
    "daddr": -1,
    "sport": 3260,
    "dport": 48122,
}


@pytest.mark.parametrize(
    ("kind", "flow", "socket"),
    [
        (
            headers.KIND_TCP,
            "tcp [2001:db8::1]:3260 > [fe80::ffff:ffff:ffff:ffff]:48122",
            "tcp [fe80::ffff:ffff:ffff:ffff]:48122",
        ),
        (headers.KIND_UDP, "udp [2001:db8::1]:3260 > [fe80::ffff:ffff:ffff:ffff]:48122", "udp :48122"),
        (headers.KIND_ICMPV6, "icmpv6 2001:db8::1 > fe80::ffff:ffff:ffff:ffff", ""),
        (headers.KIND_IP_FRAGMENT, "ip-proto-17 2001:db8::1 > fe80::ffff:ffff:ffff:ffff", ""),
    ],
)
def test_flows_and_sockets_of_ipv6(kind: int, flow: str, socket: str) -> None:
    row = row_values(packet(kind=kind, ip_protocol=17, **SIX), ["eth0"])
    assert (row["flow"], row["socket"]) == (flow, socket)


@pytest.mark.parametrize(("tag", "vlan"), [(0, 0), (0x8100_0005, 5), (0x88A8_EFFF, 4095), (0x8100_E000, 0)])
def test_vlan_is_the_outer_id(tag: int, vlan: int) -> None:
    assert row_values(packet(vlan_outer=tag), ["eth0"])["vlan"] == vlan


def test_the_device_that_a_protocol_saw() -> None:
    row = row_values(packet(dev=0, skb_dev=1), ["eth0", "eth0.5"])
    assert (row["device"], row["skb_device"]) == ("eth0", "eth0.5")
    assert row_values(packet(dev=0, skb_dev=-1), ["eth0"])["skb_device"] == ""


@pytest.mark.parametrize(
    ("address", "text"),
    [
        # RFC 5952 sections 4 and 5, and what both runs of zeros, none and all of them give.
        ("2001:0db8:0:0:0:0:2:1", "2001:db8::2:1"),
        ("2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"),
        ("2001:0:0:1:0:0:0:1", "2001:0:0:1::1"),
        ("2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"),
        ("2001:DB8::AaAa", "2001:db8::aaaa"),
        ("::", "::"),
        ("::1", "::1"),
        ("1::", "1::"),
        ("0:0:1::", "0:0:1::"),
        ("::ffff:10.0.0.1", "::ffff:10.0.0.1"),
        ("::10.0.0.1", "::a00:1"),
    ],
)
def test_ipv6_addresses_have_their_shortest_form(address: str, text: str) -> None:
    number = int(ipaddress.IPv6Address(address))
    assert ipv6_text(number >> 64, number & HALF) == text


@given(high=st.integers(0, HALF) | st.sampled_from([0, 1 << 63, 0xFF << 48]), low=st.integers(0, HALF) | st.just(1))
def test_ipv6_addresses_as_the_library_has_them(high: int, low: int) -> None:
    if high == 0 and low >> 32 in (0, 0xFFFF):
        return  # releases of Python differ in these
    text = ipv6_text(high, low)
    assert text == ipv6_text(high - (high >> 63 << 64), low - (low >> 63 << 64))
    assert text == str(ipaddress.IPv6Address(high << 64 | low))


def test_no_device_has_no_name() -> None:
    assert row_values(packet(dev=-1), ["eth0"])["device"] == ""
    assert row_values(packet(dev=0), ["eth0"])["device"] == "eth0"

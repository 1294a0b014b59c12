"""Maps of addresses and ports: what Scapy would have built, whatever the checksum was, and back again."""

import ipaddress
from typing import Any

import pytest
from capture_kit import play
from corpus import frames_of
from engine_pair import engine_named
from hypothesis import given, settings
from hypothesis import strategies as st
from rewrite_kit import ETHERNET, PLAIN, capture_of, rewrite, rewrite_frames, rewritten_reader
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPerror, TCPerror, UDPerror
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6ND_NA,
    ICMPv6NDOptDstLLAddr,
    IPerror6,
    IPv6,
)
from scapy.layers.l2 import ARP, Dot1AD, Dot1Q, Ether
from scapy.packet import Raw
from scapy.utils import checksum

from emu.kernel.machine import Packet as Row
from emu.traffic.rewrite.frames import rewrite_rows
from emu.traffic.rewrite.rules import rules_of, tables_of
from emu.traffic.rewrite.spec import parse_rewrite
from emu.wire.headers import DISSECTED_LINKTYPES

MAC_A, MAC_B, MAC_C = "02:00:00:00:00:01", "02:00:00:00:00:02", "0a:bb:cc:dd:ee:ff"
MAPS: dict[str, Any] = {
    "map_mac": [f"{MAC_A}={MAC_C}"],
    "map_ip": [
        "10.0.0.0/24=192.168.7.0/24",
        "10.0.0.2=172.16.255.254",
        "2001:db8::/32=fd12:3456::/32",
        "fe80::/10=fec0::/10",
    ],
    "map_port": ["tcp:3260=860", "udp:50-59=64000-64009", "1234=4321"],
}
BACK: dict[str, Any] = {
    "map_mac": [f"{MAC_C}={MAC_A}"],
    "map_ip": [
        "192.168.7.0/24=10.0.0.0/24",
        "192.168.7.2=172.16.255.254",
        "172.16.255.254=10.0.0.2",
        "fd12:3456::/32=2001:db8::/32",
        "fec0::/10=fe80::/10",
    ],
    "map_port": ["tcp:860=3260", "udp:64000-64009=50-59", "4321=1234"],
}

MACS = {"src": MAC_A, "dst": MAC_B}
MACS_NOW = {"src": MAC_C, "dst": MAC_B}
V4, V4_NOW = {"src": "10.0.0.1", "dst": "10.0.0.2"}, {"src": "192.168.7.1", "dst": "172.16.255.254"}
V6, V6_NOW = {"src": "2001:db8::1", "dst": "fe80::9"}, {"src": "fd12:3456::1", "dst": "fec0::9"}


def turned(addresses: dict[str, str]) -> dict[str, str]:
    return {"src": addresses["dst"], "dst": addresses["src"]}


def pair(before: Any, after: Any) -> tuple[bytes, bytes]:
    return bytes(before), bytes(after)


CASES = {
    "tcp": pair(
        Ether(**MACS) / IP(**V4) / TCP(sport=3260, dport=40_000) / Raw(b"odd"),
        Ether(**MACS_NOW) / IP(**V4_NOW) / TCP(sport=860, dport=40_000) / Raw(b"odd"),
    ),
    "the other way": pair(
        Ether(**turned(MACS)) / IP(**turned(V4)) / TCP(sport=40_000, dport=3260, flags="A"),
        Ether(**turned(MACS_NOW)) / IP(**turned(V4_NOW)) / TCP(sport=40_000, dport=860, flags="A"),
    ),
    "udp, a range of ports": pair(
        Ether(**MACS) / IP(**V4) / UDP(sport=53, dport=59) / Raw(b"x" * 9),
        Ether(**MACS_NOW) / IP(**V4_NOW) / UDP(sport=64003, dport=64009) / Raw(b"x" * 9),
    ),
    "udp without a checksum": pair(
        Ether(**MACS) / IP(**V4) / UDP(sport=53, dport=1, chksum=0),
        Ether(**MACS_NOW) / IP(**V4_NOW) / UDP(sport=64003, dport=1, chksum=0),
    ),
    "tags": pair(
        Ether(**MACS) / Dot1AD(vlan=7) / Dot1Q(vlan=8) / IPv6(**V6) / UDP(sport=50, dport=7),
        Ether(**MACS_NOW) / Dot1AD(vlan=7) / Dot1Q(vlan=8) / IPv6(**V6_NOW) / UDP(sport=64000, dport=7),
    ),
    "arp": pair(
        Ether(**MACS) / ARP(op=2, hwsrc=MAC_A, psrc="10.0.0.1", hwdst=MAC_B, pdst="10.0.0.2"),
        Ether(**MACS_NOW) / ARP(op=2, hwsrc=MAC_C, psrc="192.168.7.1", hwdst=MAC_B, pdst="172.16.255.254"),
    ),
    "port unreachable": pair(
        Ether(**MACS) / IP(**V4) / ICMP(type=3, code=3) / IPerror(**turned(V4)) / UDPerror(sport=9, dport=1234) / b"1",
        Ether(**MACS_NOW)
        / IP(**V4_NOW)
        / ICMP(type=3, code=3)
        / IPerror(**turned(V4_NOW))
        / UDPerror(sport=9, dport=4321)
        / b"1",
    ),
    "time exceeded, tcp": pair(
        Ether(**MACS) / IP(**V4) / ICMP(type=11) / IPerror(**turned(V4)) / TCPerror(sport=3260, dport=2),
        Ether(**MACS_NOW) / IP(**V4_NOW) / ICMP(type=11) / IPerror(**turned(V4_NOW)) / TCPerror(sport=860, dport=2),
    ),
    "redirect": pair(
        Ether(**MACS) / IP(**V4) / ICMP(type=5, gw="10.0.0.77") / IPerror(**V4) / UDPerror(sport=1, dport=2),
        Ether(**MACS_NOW)
        / IP(**V4_NOW)
        / ICMP(type=5, gw="192.168.7.77")
        / IPerror(**V4_NOW)
        / UDPerror(sport=1, dport=2),
    ),
    "v6 port unreachable": pair(
        Ether(**MACS) / IPv6(**V6) / ICMPv6DestUnreach(code=4) / IPerror6(**turned(V6)) / UDPerror(sport=1, dport=1234),
        Ether(**MACS_NOW)
        / IPv6(**V6_NOW)
        / ICMPv6DestUnreach(code=4)
        / IPerror6(**turned(V6_NOW))
        / UDPerror(sport=1, dport=4321),
    ),
    "neighbour advertisement": pair(
        Ether(**MACS) / IPv6(**V6) / ICMPv6ND_NA(tgt="2001:db8::1") / ICMPv6NDOptDstLLAddr(lladdr=MAC_A),
        Ether(**MACS_NOW) / IPv6(**V6_NOW) / ICMPv6ND_NA(tgt="fd12:3456::1") / ICMPv6NDOptDstLLAddr(lladdr=MAC_C),
    ),
}


@pytest.mark.parametrize("name", sorted(CASES))
def test_a_frame_becomes_what_scapy_builds_with_the_new_values(name: str) -> None:
    before, after = CASES[name]
    assert rewrite_frames([before], **MAPS) == [after]
    assert rewrite_frames([after], **BACK) == [before]


ADDRESSES4 = st.integers(0x0A000000, 0x0A0000FF).map(lambda n: str(ipaddress.IPv4Address(n)))
PORTS = st.integers(0, 65_535)


@settings(deadline=None, max_examples=60)
@given(
    ends=st.tuples(ADDRESSES4, ADDRESSES4),
    ports=st.tuples(PORTS, PORTS),
    data=st.binary(max_size=40),
    to=PORTS,
    udp=st.booleans(),
)
def test_checksums_are_those_that_scapy_computes(
    ends: tuple[str, str], ports: tuple[int, int], data: bytes, to: int, udp: bool
) -> None:
    """Also where one becomes zero, of which one's complement has two."""
    layer = UDP if udp else TCP

    def packet(addresses: tuple[str, str], numbers: tuple[int, ...]) -> bytes:
        segment = layer(sport=numbers[0], dport=numbers[1]) / Raw(data)
        return bytes(Ether(**MACS) / IP(src=addresses[0], dst=addresses[1]) / segment)

    new = tuple(address.replace("10.0.0.", "203.0.113.") for address in ends)
    numbers = tuple(to if port == ports[0] else port for port in ports)
    maps: dict[str, Any] = {"map_ip": ["10.0.0.0/24=203.0.113.0/24"], "map_port": [f"{ports[0]}={to}"]}
    assert rewrite_frames([packet(ends, ports)], **maps) == [packet((new[0], new[1]), numbers)]


@pytest.mark.parametrize("linktype", DISSECTED_LINKTYPES)
def test_there_and_back_is_the_identity(linktype: int) -> None:
    """For every kind of frame, right or wrong checksums, whole or cut anywhere in its headers."""
    whole = list(frames_of(linktype).values())
    frames = [octets[:cut] for octets in whole for cut in (len(octets), 90, 77, 61, 50, 43, 37, 25, 17, 3)]
    there = rewrite_frames(frames, linktype, **MAPS)
    assert sum(a != b for a, b in zip(there, frames, strict=True)) > len(frames) // 2
    assert rewrite_frames(there, linktype, **BACK) == frames


def test_two_ends_swap() -> None:
    macs = [f"{MAC_A}={MAC_B}", f"{MAC_B}={MAC_A}"]
    addresses = ["10.0.0.1=10.0.0.2", "10.0.0.2=10.0.0.1"]
    frame = bytes(Ether(**MACS) / IP(**V4) / UDP(sport=1, dport=2))
    expected = bytes(Ether(**turned(MACS)) / IP(**turned(V4)) / UDP(sport=1, dport=2))
    assert rewrite_frames([frame], map_mac=macs, map_ip=addresses) == [expected]


def test_the_longest_prefix_wins_whatever_the_order() -> None:
    maps = ["10.0.0.0/8=11.0.0.0/8", "10.0.0.2=9.9.9.9", "10.0.0.0/24=12.0.0.0/24"]
    frames = [bytes(Ether() / IP(src=a, dst="10.0.0.2") / UDP()) for a in ("10.1.2.3", "10.0.0.3", "8.8.8.8")]
    for order in (maps, maps[::-1]):
        made = [Ether(frame)[IP] for frame in rewrite_frames(frames, map_ip=order)]
        assert [packet.src for packet in made] == ["11.1.2.3", "12.0.0.3", "8.8.8.8"]
        assert {packet.dst for packet in made} == {"9.9.9.9"}


@pytest.mark.parametrize("layer", [TCP, UDP])
def test_an_unfinished_checksum_stays_an_unfinished_one(layer: Any) -> None:
    """It is the sum of the pseudo header: ports are not in it, addresses count the other way round."""

    def frame(addresses: dict[str, str], port: int) -> bytes:
        packet = IP(bytes(IP(**addresses) / layer(sport=port, dport=9) / Raw(b"data")))
        length = len(packet) - 20
        ends = b"".join(ipaddress.IPv4Address(packet.getfieldval(end)).packed for end in ("src", "dst"))
        packet[layer].chksum = 0xFFFF ^ checksum(ends + bytes((0, packet.proto)) + length.to_bytes(2, "big"))
        return bytes(Ether(**MACS) / packet)

    maps: dict[str, Any] = {"map_ip": ["10.0.0.0/24=192.168.7.0/24"], "map_port": ["1234=4321"]}
    now = {"src": "192.168.7.1", "dst": "192.168.7.2"}
    assert rewrite_frames([frame(V4, 1234)], **maps) == [frame(now, 4321)]


class Guarded(bytearray):
    """A window in which only the frame may be read or written."""

    first = last = 0

    def __getitem__(self, where: Any) -> Any:
        if isinstance(where, slice):
            assert self.first <= where.start and where.stop <= self.last, where
        else:
            assert self.first <= where < self.last, where
        return super().__getitem__(where)

    def __setitem__(self, where: Any, value: Any) -> None:
        assert self.first <= where < self.last, where
        super().__setitem__(where, value)


HOSTILE = parse_rewrite(**MAPS, fix_checksums=True)
LOOPING = {
    "seq_add": 0x8123_4567,
    "address_add": 3,
    "address_spare": 9,
    "port_add": 77,
    "host_mac": 0x02_00_00_00_00_02,
}
CORPUS = [(linktype, octets) for linktype in DISSECTED_LINKTYPES for octets in frames_of(linktype).values()]


@settings(deadline=None, max_examples=200)
@given(
    which=st.sampled_from(CORPUS),
    damage=st.lists(st.tuples(st.integers(0, 110), st.integers(0, 255)), max_size=4),
    cut=st.integers(0, 200),
    more=st.integers(-3, 40),
)
def test_damaged_frames_are_read_and_written_within_their_bounds(
    which: tuple[int, bytes], damage: list[tuple[int, int]], cut: int, more: int
) -> None:
    linktype, octets = which
    octets = octets[:cut]
    window = Guarded(b"\xaa" * 9 + octets + b"\xaa" * 9)
    for at, value in damage:
        if at < len(octets):
            bytearray.__setitem__(window, 9 + at, value)
    window.first, window.last = 9, 9 + len(octets)
    rules, tables = rules_of(HOSTILE, PLAIN), tables_of(HOSTILE, PLAIN)
    PLAIN.fill(rules, LOOPING)
    rows = PLAIN.rows(Row, 1)
    PLAIN.fill(
        rows[0], {"offset": 9, "caplen": len(octets), "length": max(len(octets) + more, 0), "linktype": linktype}
    )
    rewrite_rows(rules, *tables, rows, 0, 1, window)
    assert bytes(memoryview(window)[:9]) == bytes(memoryview(window)[-9:]) == b"\xaa" * 9
    assert (int(rules.frames), rows[0].caplen) == (1, len(octets))


def test_unreadable_frames_stay_and_are_counted() -> None:
    whole = bytes(Ether(**MACS) / IP(**V4) / TCP(sport=3260))
    frames = [whole[:20], whole[:14], whole[:14] + b"\x55" + whole[15:], whole]
    made, report = rewrite(capture_of(frames), map_ip=MAPS["map_ip"])
    assert [frame.octets for frame in made[:3]] == frames[:3]
    assert (report.frames, report.changed, report.unreadable) == (4, 1, 3)


def test_without_a_rewrite_the_source_itself_is_read() -> None:
    reader = rewritten_reader(capture_of([b"x" * 60]))
    assert type(reader).__name__ == "CaptureReader"
    assert play(reader, PLAIN)


def test_both_engines_rewrite_alike() -> None:
    """Every link type, and on Ethernet every kind of loop, against what the plain engine makes."""
    engine = engine_named("compiled")
    for linktype in DISSECTED_LINKTYPES:
        frames = list(frames_of(linktype).values())
        frames += [octets[:cut] for octets in frames for cut in (60, 40)]
        data = capture_of(frames, linktype)
        for distinct in ("seq", "addresses", "ports") if linktype == ETHERNET else ("addresses",):
            options = MAPS | {
                "loop": 2,
                "loop_distinct": distinct,
                "fix_checksums": distinct == "ports",
                "truncate": 120,
            }
            assert rewrite(data, engine, **options) == rewrite(data, PLAIN, **options)

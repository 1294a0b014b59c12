"""Frames without an Ethernet header: cooked, loopback and raw IP; who they are for, and what they cost."""

import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet6 import IPv6
from traffic_kit import kit

from emu.capture.linktype import HEADER_BYTES, PLAYED
from emu.capture.pcap import Interface
from emu.engine.plain import PlainEngine
from emu.errors import UsageError
from emu.kernel.machine import (
    DIR_INBOUND,
    DIR_OUTBOUND,
    PACKET_BROADCAST,
    PACKET_HOST,
    PACKET_MULTICAST,
    PACKET_OTHERHOST,
    PACKET_OUTGOING,
    Packet,
)
from emu.traffic.arrivals import Feed, packet_type, segments_of
from emu.traffic.expression import Address, parse_address
from emu.traffic.host import Host
from emu.traffic.inlets import Inlet, device_table
from emu.wire.headers import KIND_TCP

NULL, ETHERNET, RAW, SLL, LOOP, IPV4, IPV6, SLL2 = 0, 1, 101, 113, 108, 228, 229, 276
HOST6, PEER6, OTHER6 = "2001:db8::2", "2001:db8::1", "2001:db8::3"


def header(linktype: int, version: int, packet_type: int = 0) -> bytes:
    """The link-layer header before an IP packet."""
    ethertype = 0x0800 if version == 4 else 0x86DD
    if linktype == SLL:
        return struct.pack(">HHH8sH", packet_type, 1, 6, bytes(8), ethertype)
    if linktype == SLL2:
        return struct.pack(">HHIHBB8s", ethertype, 0, 2, 1, packet_type, 6, bytes(8))
    family = 2 if version == 4 else 10
    return {NULL: struct.pack("<I", family), LOOP: struct.pack(">I", family)}.get(linktype, b"")


def ip(source: str, destination: str, sport: int = 1000, dport: int = 2000, payload: int = 20) -> bytes:
    """A TCP segment between two addresses of either family."""
    layer = (IPv6 if ":" in source else kit.IP)(src=source, dst=destination)
    return bytes(layer / kit.TCP(sport=sport, dport=dport, flags="PA") / kit.Raw(bytes(payload)))


def capture(linktype: int, packets: Iterable[bytes], types: Iterable[int] = ()) -> bytes:
    """A pcap of a link type, a frame each 100 us; `types` are the packet types of cooked frames."""
    parts = [struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262_144, linktype)]
    packet_types = [*types]
    for at, packet in enumerate(packets):
        frame = header(linktype, packet[0] >> 4, packet_types[at] if at < len(packet_types) else 0) + packet
        parts.append(struct.pack("<IIII", 1, at * 100, len(frame), len(frame)) + frame)
    return b"".join(parts)


QUIET = {"pressure.start": "quiet", "readers.ordinary": "immediate"}


def played(octets: bytes, **how: Any) -> Any:
    return kit.played(octets, settings=QUIET | how.pop("settings", {}), **how)


@pytest.mark.parametrize("linktype", [RAW, NULL, LOOP, 12, 14])
@pytest.mark.parametrize(("host", "peer"), [(kit.HOST, kit.PEER), (HOST6, PEER6)])
def test_without_a_mac_the_busiest_address_is_the_host(linktype: int, host: str, peer: str) -> None:
    """Both families, and every link type that has no addresses."""
    packets = [ip(peer, host), ip("2001:db8::9" if ":" in host else "10.0.0.9", host), ip(host, peer)]
    done = played(capture(linktype, packets))
    assert done.outcome.host == Host(0, False, "its address is in most unicast packets", parse_address(host))
    assert (done.summary["received"], done.summary["not_received"]) == (2, 1)
    assert done.summary["delivered"] == 2


@pytest.mark.parametrize("linktype", [RAW, SLL])
@pytest.mark.parametrize("ports", [(50_000, 3260), (3260, 50_000)])
def test_the_iscsi_initiator_is_the_host(linktype: int, ports: tuple[int, int]) -> None:
    """Who talks to port 3260 is the host, however busy others are; also where a cooked type says nothing."""
    busy = [ip(PEER6, OTHER6), ip(OTHER6, PEER6)] * 5
    ends = (HOST6, PEER6) if ports[1] == 3260 else (PEER6, HOST6)
    packets = [*busy, ip(*ends, *ports)]
    host = played(capture(linktype, packets, [9] * len(packets))).outcome.host
    assert (host.address, host.because) == (parse_address(HOST6), "it talks to port 3260")


@pytest.mark.parametrize("linktype", [SLL, SLL2])
def test_cooked_frames_say_who_they_are_for(linktype: int) -> None:
    """To us, broadcast, multicast, to others, sent by us."""
    packets = [ip(kit.PEER, kit.HOST)] * 4 + [ip(kit.HOST, kit.PEER)]
    done = played(capture(linktype, packets, [0, 1, 2, 3, 4]))
    assert done.outcome.host == Host(0, False, "the packet type of its cooked frames", parse_address(kit.HOST))
    assert (done.summary["received"], done.summary["not_received"]) == (3, 2)


@pytest.mark.parametrize("asked", [kit.HOST, HOST6])
def test_the_user_names_the_host_by_its_address(asked: str) -> None:
    """--host takes addresses of both families where there is no MAC, and says so when no frame has it."""
    peer = PEER6 if ":" in asked else kit.PEER
    packets = [ip(peer, asked), ip(asked, peer), ip(asked, peer)]
    done = played(capture(RAW, packets), host=asked)
    assert done.outcome.host.address == parse_address(asked)
    assert done.summary["received"] == 1
    with pytest.raises(UsageError, match=r"^--host 2001:db8::77: no frame among the first 3 has this address"):
        played(capture(RAW, packets), host="2001:db8::77")


def test_an_ipv6_address_finds_its_mac() -> None:
    """--host with an IPv6 address on an Ethernet: the MAC that goes with it."""
    frame = bytes(12) + b"\x86\xdd"
    ethernet = b"\x02\0\0\0\0\x0b" + b"\x02\0\0\0\0\x0a" + frame[12:]
    done = kit.played(kit.pcap(kit.paced([ethernet + ip(PEER6, HOST6)])), host=HOST6)
    assert (done.outcome.host.mac, done.summary["received"]) == (0x02000000000B, 1)


@pytest.mark.parametrize(
    ("source", "destination", "direction", "expected"),
    [
        (PEER6, HOST6, 0, PACKET_HOST),
        (HOST6, PEER6, 0, PACKET_OUTGOING),
        (HOST6, HOST6, 0, PACKET_HOST),
        (PEER6, OTHER6, 0, PACKET_OTHERHOST),
        (PEER6, "ff02::1", 0, PACKET_MULTICAST),
        (HOST6, "ff02::1", 0, PACKET_OUTGOING),
        (PEER6, "fe80::1", 0, PACKET_OTHERHOST),
        (PEER6, OTHER6, DIR_OUTBOUND, PACKET_OUTGOING),
        (HOST6, HOST6, DIR_INBOUND, PACKET_HOST),
        ("10.0.0.1", "255.255.255.255", 0, PACKET_BROADCAST),
        ("10.0.0.1", "224.0.0.1", 0, PACKET_MULTICAST),
        ("10.0.0.1", "239.255.255.255", 0, PACKET_MULTICAST),
        ("10.0.0.1", "240.0.0.1", 0, PACKET_OTHERHOST),
        ("::1", "::2", 0, PACKET_OTHERHOST),
    ],
)
def test_packet_types_by_address(source: str, destination: str, direction: int, expected: int) -> None:
    """As eth_type_trans would say it if the addresses were MACs."""
    assert type_of(parse_address(source), parse_address(destination), direction, RAW) == expected


def type_of(source: Address, destination: Address, direction: int, linktype: int, octets: bytes = b"") -> int:
    engine = PlainEngine()
    inlet: Any = engine.new(Inlet)
    engine.fill(inlet, {"by_direction": 1})
    inlet.host_family, inlet.host_addr_hi, inlet.host_addr = parse_address(HOST6)
    p: Any = Packet()
    engine.fill(p, {"linktype": linktype, "direction": direction, "caplen": len(octets), "length": len(octets)})
    p.ip_version, p.saddr_hi, p.saddr = source
    p.ip_version, p.daddr_hi, p.daddr = destination
    return packet_type(inlet, p, octets)


@pytest.mark.parametrize(
    ("linktype", "octets", "expected"),
    [
        (SLL, b"\0\3", PACKET_OTHERHOST),
        (SLL, b"\0", PACKET_OUTGOING),
        (SLL, b"\0\5", PACKET_OUTGOING),
        (SLL2, bytes(10) + b"\4", PACKET_OUTGOING),
        (SLL2, bytes(10) + b"\1", PACKET_BROADCAST),
        (SLL2, bytes(10), PACKET_OUTGOING),
    ],
)
def test_a_cooked_frame_that_is_cut_or_strange_is_told_by_its_addresses(
    linktype: int, octets: bytes, expected: int
) -> None:
    """What its packet type does not say is known from where it comes."""
    assert type_of(parse_address(HOST6), parse_address(PEER6), 0, linktype, octets) == expected


# What a frame costs.


@pytest.mark.parametrize("linktype", [SLL, SLL2, RAW, NULL])
def test_a_full_frame_is_one_segment_whatever_its_header(linktype: int) -> None:
    """1500 bytes of IP fit the MTU; a longer packet is an aggregate of segments, charged as such."""
    for payload, segments in ((1460, 1), (1465, 2), (2 * 1460, 2), (2 * 1460 + 1, 3), (65_000, 45)):
        summary = played(capture(linktype, [ip(kit.PEER, kit.HOST, payload=payload)])).summary
        assert summary["drops_by_reason"] == {}, payload
        assert summary["devices"]["eth0"]["rx_packets"] == segments, payload
        assert summary["input"]["aggregated_frames"] == int(segments > 1)


@given(
    linktype=st.sampled_from(PLAYED),
    tags=st.integers(0, 3),
    payload=st.integers(0, 300_000),
    headers=st.sampled_from((40, 52, 60, 72)),
    mtu=st.sampled_from((68, 576, 1500, 9000)),
)
def test_segments_carry_all_of_the_payload_and_none_is_too_long(
    linktype: int, tags: int, payload: int, headers: int, mtu: int
) -> None:
    """VLAN tags and link-layer headers are no part of what counts against the MTU."""
    engine = PlainEngine()
    p: Any = Packet()
    link = HEADER_BYTES[PLAYED.index(linktype)]
    tags = tags if linktype == ETHERNET else 0
    engine.fill(p, {"kind": KIND_TCP, "link_excess": link - 14, "vlan_tags": tags, "payload_length": payload})
    p.length = link + 4 * tags + headers + payload
    segments = segments_of(engine.new(Feed), p, mtu)
    slack = 0 if tags else 4
    if headers + payload <= mtu + slack or headers >= mtu:
        assert segments == 1
    else:
        mss = mtu - headers
        assert segments == min(-(-payload // mss), 4096)


@pytest.mark.parametrize(("tags", "payload", "segments"), [(1, 1460, 1), (1, 1461, 2), (2, 1456, 1), (2, 2921, 3)])
def test_a_tagged_frame_is_split_by_what_follows_the_tags(tags: int, payload: int, segments: int) -> None:
    """A tag takes nothing from the MTU."""
    ethernet = kit.tcp(payload=payload)
    frame = ethernet[:12] + b"\x81\x00\x00\x05" * tags + ethernet[12:]
    summary = played(kit.pcap(kit.paced([frame]))).summary
    assert summary["devices"]["eth0"]["rx_packets"] == segments
    assert summary["drops_by_reason"].get("RX_LENGTH", 0) == 0


@pytest.mark.parametrize("checksums", ["auto", "verify", "trust"])
def test_checksums_of_cooked_ipv6_are_believed_as_asked(checksums: str) -> None:
    """The same rules as for IPv4 on an Ethernet."""
    from scapy.utils import checksum

    good, broken, partial = (bytearray(ip(PEER6, HOST6, payload=100)) for _ in range(3))
    broken[56:58] = b"\x12\x34"
    pseudo = bytes(partial[8:40]) + struct.pack(">IBBBB", len(partial) - 40, 0, 0, 0, 6)
    partial[56:58] = (~checksum(pseudo) & 0xFFFF).to_bytes(2, "big")
    summary = played(
        capture(SLL, [bytes(good), bytes(broken), bytes(partial)]), settings={"replay.checksums": checksums}
    ).summary
    assert summary["drops_by_reason"].get("TCP_CSUM", 0) == {"auto": 1, "verify": 2, "trust": 0}[checksums]
    assert summary["input"]["partial_checksums"] == int(checksums == "auto")


def test_an_aggregate_longer_than_an_ip_length_can_say_is_split() -> None:
    """BIG TCP: a total length of 0 stands for what the frame has."""
    packet = bytearray(ip(kit.PEER, kit.HOST, payload=100) + bytes(70_000))
    packet[2:4] = b"\0\0"
    octets = capture(RAW, [bytes(packet)])
    summary = played(octets, settings={"replay.checksums": "trust"}).summary
    assert summary["devices"]["eth0"]["rx_packets"] == -(-70_100 // 1460)


# Filters, devices and the way back.


@pytest.mark.parametrize("linktype", [RAW, NULL, SLL, SLL2])
def test_a_filter_is_compiled_for_the_link_type(linktype: int) -> None:
    """The same expression, whatever lies before the IP header."""
    packets = [ip(kit.PEER, kit.HOST, dport=80), ip(kit.PEER, kit.HOST, dport=81), ip(PEER6, HOST6, dport=80)]
    summary = played(capture(linktype, packets), filter="dst port 80", host=kit.HOST).summary
    assert (summary["frames"], summary["filtered"]) == (3, 1)


@pytest.mark.parametrize("linktype", [RAW, NULL, SLL, SLL2, ETHERNET])
def test_an_annotated_capture_is_played_again_as_the_first_time(linktype: int, tmp_path: Path) -> None:
    """Its interfaces have the capture's link type, and are one device."""
    packets = [ip(kit.PEER, kit.HOST), ip(kit.HOST, kit.PEER), ip(kit.PEER, kit.HOST, dport=81)]
    octets = capture(linktype, packets)
    if linktype == ETHERNET:
        octets = kit.pcap(kit.paced([kit.tcp(), kit.sent(), kit.tcp(dport=81)]))
    first = kit.played(octets, outputs=kit.outputs_in(tmp_path))
    again = kit.played(tmp_path / "out.pcapng")
    assert {key: again.result[key] for key in ("received", "delivered", "not_received", "drops_by_reason")} == {
        key: first.result[key] for key in ("received", "delivered", "not_received", "drops_by_reason")
    }
    printed = kit.run("tshark", "-r", tmp_path / "out.pcapng", "-T", "fields", "-e", "tcp.dstport")
    assert len(printed.split()) == 3


def interface(name: str, linktype: int = 1, device: int = -1) -> Interface:
    return Interface(name, linktype, 0, 0, 6, 0, 0, device)


def test_an_interface_goes_to_the_device_of_its_name() -> None:
    """The drop interface and that of a further link type are their device's; what nobody knows is the first's."""
    names = ["lan", "eth0", "eth0.sll"]
    table = [
        (interface("eth0"), 1),
        (interface("eth0-drop"), 1),
        (interface("eth0.raw", RAW), 1),
        (interface("eth0.raw-drop", RAW), 1),
        (interface("eth0.raw"), 0),
        (interface("eth0.sll", SLL), 2),
        (interface("wlan0"), 0),
        (interface(""), 0),
        (interface("eth0", device=2), 2),
        (interface("wlan0", device=1), 1),
    ]
    assert device_table([known for known, _ in table], names) == [expected for _, expected in table]

"""Which end is the host: as asked, else by the link layer's direction, else by port 3260, else the busiest MAC."""

import struct
from typing import Any

import pytest
from traffic_kit import kit

from emu.engine.plain import PlainEngine
from emu.errors import UsageError
from emu.kernel.machine import (
    PACKET_BROADCAST,
    PACKET_HOST,
    PACKET_MULTICAST,
    PACKET_OTHERHOST,
    PACKET_OUTGOING,
    Packet,
)
from emu.traffic.arrivals import packet_type
from emu.traffic.host import Host, mac_text
from emu.traffic.inlets import Inlet
from emu.wire.headers import LINKTYPE_ETHERNET

A, B, C = "02:00:00:00:00:0a", "02:00:00:00:00:0b", "02:00:00:00:00:0c"
INBOUND, OUTBOUND = 1, 2


def frame(
    source: str, destination: str, sport: int = 1000, dport: int = 2000, ends: str = "10.0.0.1 10.0.0.2"
) -> bytes:
    """A TCP frame between two MACs."""
    sender, receiver = ends.split()
    return kit.ether(source, destination, kit.IP(src=sender, dst=receiver) / kit.TCP(sport=sport, dport=dport))


def host_of(frames: list[bytes], asked: str | None = None, limit: int | None = None) -> Host:
    """The host that a replay decides on."""
    found: Host = kit.played(kit.pcap(kit.paced(frames)), host=asked, limit=limit).outcome.host
    return found


def pcapng(frames: list[tuple[bytes, int]]) -> bytes:
    """A pcapng capture whose frames state a direction; 0: none."""

    def block(kind: int, body: bytes) -> bytes:
        body += bytes(-len(body) % 4)
        return struct.pack("<II", kind, len(body) + 12) + body + struct.pack("<I", len(body) + 12)

    parts = [block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1)), block(1, struct.pack("<HHI", 1, 0, 0))]
    for at, (octets, direction) in enumerate(frames):
        head = struct.pack("<IIIII", 0, 0, at, len(octets), len(octets))
        options = struct.pack("<HHIHH", 2, 4, direction, 0, 0) if direction else b""
        parts.append(block(6, head + octets + bytes(-len(octets) % 4) + options))
    return b"".join(parts)


def text(host: Host) -> str:
    return mac_text(host.mac)


def test_the_busiest_mac_is_the_host() -> None:
    """Without a hint the MAC in most unicast frames is the host; between equals, the one that receives more."""
    assert text(host_of([frame(A, B), frame(C, B), frame(B, A)])) == B
    assert text(host_of([frame(A, B), frame(A, B), frame(B, A)])) == B
    assert text(host_of([frame(A, B), frame(B, A), frame(B, A)])) == A
    assert host_of([frame(A, B)]).because == "its MAC is in most unicast frames"


def test_broadcast_does_not_vote() -> None:
    """Broadcast and multicast frames say nothing of who the host is."""
    noise = [frame(A, kit.BROADCAST)] * 5 + [frame(A, "01:00:5e:00:00:01")] * 5
    assert text(host_of([*noise, frame(C, B), frame(B, C), frame(C, B)])) == B
    assert host_of(noise) == Host(0, False, "no unicast frame: every broadcast and multicast frame is for the host")


@pytest.mark.parametrize("ports", [(50_000, 3260), (3260, 50_000)])
def test_the_iscsi_initiator_is_the_host(ports: tuple[int, int]) -> None:
    """Who talks to port 3260 is the host, however busy others are."""
    busy = [frame(A, C), frame(C, A)] * 10
    ends = (B, C) if ports[1] == 3260 else (C, B)
    host = host_of([*busy, frame(*ends, *ports)])
    assert (text(host), host.because) == (B, "it talks to port 3260")


def test_direction_beats_ports_and_numbers() -> None:
    """A capture that states directions says who sent a frame: the host's MAC is what goes out."""
    busy = [(frame(A, C, 50_000, 3260), 0)] * 3
    frames = [*busy, *[(frame(B, A), OUTBOUND), (frame(A, B), INBOUND)] * 2]
    host = kit.played(pcapng(frames)).outcome.host
    assert (text(host), host.by_direction, host.because) == (B, True, "the capture's link-layer direction")
    overheard = [(frame(A, C), INBOUND)] * 9 + [(frame(B, A), OUTBOUND)]
    assert text(kit.played(pcapng(overheard)).outcome.host) == B
    only_inbound = [(frame(A, B), INBOUND)] * 2 + [(frame(A, C), INBOUND)]
    assert text(kit.played(pcapng(only_inbound)).outcome.host) == B


def test_a_few_directions_do_not_rule() -> None:
    """When half of the frames or fewer state a direction, the other rules decide."""
    frames = [(frame(B, A), OUTBOUND), (frame(C, A), 0)]
    host = kit.played(pcapng(frames)).outcome.host
    assert (text(host), host.by_direction) == (A, False)


def test_direction_tells_sent_from_received() -> None:
    """By direction an outbound frame is sent, whatever its MAC; an inbound one is received if it is for the host."""
    frames = [
        (frame(B, A), OUTBOUND),
        (frame(C, A), OUTBOUND),
        (frame(A, B), INBOUND),
        (frame(A, C), INBOUND),
        (frame(A, kit.BROADCAST), INBOUND),
        (frame(B, A), OUTBOUND),
    ]
    summary = kit.played(pcapng(frames)).summary
    assert (summary["received"], summary["not_received"]) == (2, 4)


@pytest.mark.parametrize("asked", [A, A.upper(), A.replace(":", "-"), "10.0.0.1"])
def test_the_user_names_the_host(asked: str) -> None:
    """--host takes a MAC, or the IPv4 address of one of the ends."""
    assert text(host_of([frame(A, B), frame(C, B)], asked)) == A


def test_an_address_is_found_as_destination_and_in_arp() -> None:
    """The address may be that of a receiver, or of the sender of an ARP packet."""
    assert text(host_of([frame(A, B, ends="10.0.0.8 10.0.0.9")], "10.0.0.9")) == B
    assert text(host_of([kit.arp()], kit.PEER)) == kit.PEER_MAC


@pytest.mark.parametrize("asked", ["10.0.0.77", "nonsense", "10.0.0", "02:00:00:00:00", "::1", "02:00:00:00:00:0g", ""])
def test_a_host_that_is_none_is_refused(asked: str) -> None:
    """An address that no frame has, or no address at all: one line that says what was expected."""
    with pytest.raises(
        UsageError, match=r"^--host .*: (expected an IPv4 or IPv6 address, or a MAC|no frame among the first 1 )"
    ):
        host_of([frame(A, B)], asked)


def test_the_first_frames_decide() -> None:
    """What comes after the first 1024 frames changes nothing any more."""
    capture = kit.pcap(kit.paced([*[frame(A, B)] * 1024, *[frame(A, C)] * 1200, *[frame(C, A)] * 1200]))
    for batch in (1, 1000, 4096):
        assert text(kit.played(capture, batch=batch).outcome.host) == B
    assert text(host_of([frame(A, B), frame(A, C), frame(A, C)], limit=1)) == B


def test_loopback_is_received() -> None:
    """Frames of the loopback device have no MACs: the host sends them to itself, and they arrive."""
    zero = "00:00:00:00:00:00"
    summary = kit.played(kit.pcap(kit.paced([frame(zero, zero)] * 3))).summary
    assert (summary["received"], summary["not_received"]) == (3, 0)


@pytest.mark.parametrize(
    ("source", "destination", "expected"),
    [
        (A, B, PACKET_HOST),
        (B, A, PACKET_OUTGOING),
        (A, C, PACKET_OTHERHOST),
        (B, B, PACKET_HOST),
        (A, kit.BROADCAST, PACKET_BROADCAST),
        (B, kit.BROADCAST, PACKET_OUTGOING),
        (A, "01:00:5e:00:00:01", PACKET_MULTICAST),
    ],
)
def test_packet_types_are_the_kernels(source: str, destination: str, expected: int) -> None:
    """eth_type_trans: by destination MAC; what comes from the host's own MAC is outgoing."""
    assert type_of(frame(source, destination)) == expected


def test_a_frame_without_an_ethernet_header_is_received() -> None:
    """A runt has no addresses: it is the host's, who drops it."""
    assert type_of(bytes(11)) == PACKET_HOST


def type_of(octets: bytes) -> int:
    engine = PlainEngine()
    p: Any = Packet()
    p.caplen = p.length = len(octets)
    p.linktype = LINKTYPE_ETHERNET
    inlet: Any = engine.new(Inlet)
    inlet.host_mac = int(B.replace(":", ""), 16)
    return packet_type(inlet, p, octets)

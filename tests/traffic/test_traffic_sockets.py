"""Sockets are inferred from the frames, in their order; the user's flags come first."""

from pathlib import Path
from typing import Any

import pytest
from traffic_kit import kit

from emu.kernel.machine import MAX_SOCKETS

QUIET = {"pressure.start": "quiet", "readers.ordinary": "immediate"}


def fates(frames: list[bytes], tmp_path: Path, **settings: Any) -> list[str]:
    """Verdict, or reason, of every received frame on a host with memory."""
    rows = kit.log_of(kit.pcap(kit.paced(frames)), tmp_path, settings=QUIET | settings, host=kit.HOST_MAC)
    return [row["reason"] or row["verdict"] for row in rows]


def port_unreachable(port: int) -> bytes:
    """The host says that nobody listens on a UDP port."""
    quoted = kit.IP(src=kit.PEER, dst=kit.HOST) / kit.UDP(sport=40_000, dport=port)
    answer = kit.IP(src=kit.HOST, dst=kit.PEER) / kit.ICMP(type=3, code=3) / kit.Raw(bytes(quoted))
    return kit.ether(kit.HOST_MAC, kit.PEER_MAC, answer)


def test_first_sight_makes_a_socket(tmp_path: Path) -> None:
    """TCP by its four addresses, UDP by its local port; the second frame finds what the first made."""
    frames = [kit.tcp(1, 80), kit.tcp(1, 80), kit.tcp(2, 80), kit.udp(53, sport=1), kit.udp(53, sport=2), kit.udp(54)]
    assert fates(frames, tmp_path) == ["delivered"] * 6
    assert kit.played(kit.pcap(kit.paced(frames)), settings=QUIET).summary["sockets"]["made"] == 4


def test_a_syn_makes_a_listener(tmp_path: Path) -> None:
    """A SYN finds a listener, which stays when its connections end; the connection is a socket of its own."""
    frames = [kit.tcp(1, 80, 0, "S"), kit.tcp(1, 80, 0, "A"), kit.tcp(2, 80, 0, "S"), kit.tcp(2, 80, 10)]
    assert fates(frames, tmp_path) == ["delivered"] * 4
    assert kit.played(kit.pcap(kit.paced(frames)), settings=QUIET).summary["sockets"]["made"] == 3


def test_a_rst_of_the_host_closes_from_that_frame_on(tmp_path: Path) -> None:
    """Segments before the RST are delivered, those after it find no socket; another flow is untouched."""
    flow, other = kit.tcp(1, 80), kit.tcp(2, 80)
    frames = [flow, other, kit.sent(80, 1, flags="R"), flow, other]
    assert fates(frames, tmp_path) == ["delivered", "delivered", "NO_SOCKET", "delivered"]


def test_a_rst_of_the_peer_closes_too(tmp_path: Path) -> None:
    """A received RST ends the connection; it makes none."""
    flow, reset = kit.tcp(1, 80), kit.tcp(1, 80, 0, "R")
    assert fates([flow, reset, flow], tmp_path) == ["delivered", "delivered", "NO_SOCKET"]
    assert fates([reset], tmp_path) == ["NO_SOCKET"]


def test_a_syn_reopens_what_was_closed(tmp_path: Path) -> None:
    """After RST and a new SYN the same four addresses are a connection again."""
    frames = [kit.tcp(1, 80), kit.sent(80, 1, flags="R"), kit.tcp(1, 80, 0, "S"), kit.tcp(1, 80, 10)]
    assert fates(frames, tmp_path) == ["delivered"] * 3


def test_a_refused_syn_closes_the_listener(tmp_path: Path) -> None:
    """A SYN that the host answers with RST shows a port where nobody listens."""
    frames = [kit.tcp(1, 81, 0, "S"), kit.sent(81, 1, flags="RA"), kit.tcp(2, 81, 0, "S")]
    assert fates(frames, tmp_path) == ["delivered", "NO_SOCKET"]


def test_port_unreachable_closes_a_udp_port(tmp_path: Path) -> None:
    """The host's ICMP port unreachable closes the port that it quotes, from that frame on, for everybody."""
    frames = [kit.udp(53), kit.udp(54), port_unreachable(53), kit.udp(53), kit.udp(53, sport=7), kit.udp(54)]
    assert fates(frames, tmp_path) == ["delivered", "delivered", "NO_SOCKET", "NO_SOCKET", "delivered"]
    assert fates([port_unreachable(99), kit.udp(99)], tmp_path) == ["NO_SOCKET"]


def test_closed_ports_have_no_socket_from_the_start(tmp_path: Path) -> None:
    """--closed names local ports, and addresses, where nothing listens; others are inferred."""
    frames = [kit.tcp(1, 80), kit.tcp(1, 81), kit.udp(53), kit.udp(54)]
    closed = {"replay.closed": f"tcp port 80 or udp host {kit.HOST} port 54 or udp host 10.9.9.9 port 53"}
    assert fates(frames, tmp_path, **closed) == ["NO_SOCKET", "delivered", "delivered", "NO_SOCKET"]


@pytest.mark.parametrize(
    ("expression", "flags"),
    [
        ("iscsi", ["1", "0", "0"]),
        ("tcp", ["1", "1", "0"]),
        ("udp or iscsi", ["1", "0", "1"]),
        (f"tcp host {kit.PEER}", ["0", "1", "0"]),
        ("none", ["0", "0", "0"]),
    ],
)
def test_memalloc_flows_are_seen_from_the_remote_end(expression: str, flags: list[str], tmp_path: Path) -> None:
    """--memalloc names the target's address and port; the log's column says which packets are meant."""
    capture = kit.pcap(kit.paced([kit.iscsi(), kit.tcp(), kit.udp()]))
    rows = kit.log_of(capture, tmp_path, settings=QUIET | {"replay.memalloc": expression}, host=kit.HOST_MAC)
    assert kit.column(rows, "memalloc") == flags


def test_scenario_sockets_come_last_and_override(tmp_path: Path) -> None:
    """A [[socket]] of the scenario changes what the flags said of its flows: memalloc, closed, buffer."""
    settings = {
        "socket.0.match": "tcp port 3260",
        "socket.0.memalloc": False,
        "socket.1.match": f"udp host {kit.PEER}",
        "socket.1.local_port": 53,
        "socket.1.closed": True,
        "socket.2.match": "udp port 7",
        "socket.2.rcvbuf": 256,
        "socket.2.reader": "never",
    }
    frames = [kit.iscsi(), kit.udp(53), kit.udp(54), kit.udp(55, sport=7)]
    assert fates(frames, tmp_path, **settings) == ["delivered", "NO_SOCKET", "delivered", "SOCKET_RCVBUFF"]
    rows = kit.log_of(kit.pcap(kit.paced(frames)), tmp_path, settings=QUIET | settings, host=kit.HOST_MAC)
    assert kit.column(rows, "memalloc")[0] == "0"


def test_broadcast_and_other_hosts_infer_nothing(tmp_path: Path) -> None:
    """Only a unicast frame to the host makes a socket: a broadcast datagram finds none."""
    packet = kit.IP(src=kit.PEER, dst="255.255.255.255") / kit.UDP(sport=1, dport=67) / kit.Raw(bytes(20))
    frames = [kit.ether(kit.PEER_MAC, kit.BROADCAST, packet), kit.elsewhere()]
    assert fates(frames, tmp_path) == ["NO_SOCKET"]


def test_more_flows_than_sockets_evict_the_idle_ones(tmp_path: Path) -> None:
    """When every row is taken the longest idle socket is forgotten and told; a flow seen again is made anew."""
    flood = 300
    one = kit.tcp(1, 80)
    frames = []
    for at in range(MAX_SOCKETS + flood):
        octets = bytearray(one)
        octets[26:30] = (0x0B000000 + at).to_bytes(4, "big")
        octets[34:36] = (1024).to_bytes(2, "big")
        frames.append(bytes(octets))
    settings = QUIET | {"replay.checksums": "trust"}
    summary = kit.played(kit.pcap(kit.paced([*frames, frames[0]])), settings=settings).summary
    assert summary["delivered"] == len(frames) + 1
    assert summary["sockets"]["made"] == len(frames) + 1
    assert summary["sockets"]["evicted"] == flood + 1
    assert summary["sockets"]["live"] == MAX_SOCKETS
    assert f"{flood + 1} sockets were forgotten to make room; they are made anew when seen" in summary["findings"]

"""What the host answers packets with, as Scapy reads it and with checksums as Scapy makes them."""

import ipaddress
from pathlib import Path

import pytest
from external_tools import run
from peer_kit import PEER, WORLD
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ParamProblem,
    IPv6,
    IPv6ExtHdrFragment,
)
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Packet as ScapyPacket
from scapy.packet import Raw
from session_kit import Crafted, pcap_of

from emu.engine.plain import PlainEngine
from emu.kernel.closed_loop import TX_REPLY
from emu.kernel.icmp import LINK_BYTES
from emu.kernel.machine import DIR_OUTBOUND, NONE, Machine, Packet
from emu.kernel.tcp_seq import TCP_ACK, TCP_SYN
from emu.traffic.peer.lane import departure_due_ns
from emu.traffic.peer.replies import craft_reply
from emu.traffic.peer.setup import build_world
from emu.traffic.peer.wire import host_frame
from emu.wire.dissect import dissect
from emu.wire.headers import CHECKSUMS_VERIFY, LINKTYPE_ETHERNET

ENGINE = PlainEngine()
MACHINE = Machine()
WORLD_BUILT = build_world(ENGINE, WORLD, MACHINE)
HOST, OTHER = "02:00:00:00:00:02", "02:00:00:00:00:77"
LINK = Ether(src=OTHER, dst=HOST)
V4 = IP(src="10.0.0.9", dst="10.0.0.2")
V6 = IPv6(src="fd00::9", dst="fd00::2")
BODY = Raw(bytes(range(200)))


def replies(request: ScapyPacket, *asked: int, tcp_flags: int = 0) -> list[bytes]:
    """The bytes of the host's replies to a request, for which it asked so many bytes of memory each."""
    w, moulds, pool, store = WORLD_BUILT
    octets = bytes(request)
    p = Packet()
    p.offset, p.caplen, p.length, p.linktype = 0, len(octets), len(octets), LINKTYPE_ETHERNET
    p.sk = NONE
    dissect(p, octets, CHECKSUMS_VERIFY)
    w.reply_frame += 1
    p.frame = w.reply_frame + 1
    out = bytearray(2048)
    made = []
    for row, size in enumerate(asked):
        tx = MACHINE.tx[row]
        tx.kind, tx.length, tx.tcp_flags = TX_REPLY, size, tcp_flags
        craft_reply(w, MACHINE, row, p, octets, store)
        assert tx.reply_at != NONE
        sent = host_frame(w, MACHINE, row, 0, moulds, pool, store, Packet(), out, 0, 5)
        assert sent == tx.length
        made.append(bytes(out[:sent]))
    return made


def reply(request: ScapyPacket, asked: int = 160, tcp_flags: int = 0) -> ScapyPacket:
    """The one reply, with every checksum as it should be."""
    (octets,) = replies(request, asked, tcp_flags=tcp_flags)
    seen = Ether(octets)
    again = seen.copy()
    for layer in (IP, TCP, ICMP):
        if layer in again:
            del again[layer].chksum
    for layer in (ICMPv6DestUnreach, ICMPv6EchoReply, ICMPv6ND_NA, ICMPv6ParamProblem):
        if layer in again:
            del again[layer].cksum
    if not (ICMP in again and again[ICMP].type == 3):  # Scapy would recompute those of the quoted packet too
        assert bytes(again) == octets
    return seen


def test_a_segment_for_nobody_is_reset_at_the_number_it_acknowledges() -> None:
    seen = reply(LINK / V4 / TCP(sport=1, dport=2, flags="A", seq=5, ack=77))
    assert (seen.src, seen.dst, seen[IP].src, seen[IP].dst) == (HOST, OTHER, "10.0.0.2", "10.0.0.9")
    assert (seen[TCP].flags, seen[TCP].seq, seen[TCP].ack, seen[TCP].window) == ("R", 77, 0, 0)
    assert (seen[TCP].sport, seen[TCP].dport) == (2, 1)


def test_a_syn_for_nobody_is_acknowledged_by_its_reset() -> None:
    seen = reply(LINK / V4 / TCP(flags="S", seq=0xFFFFFFFF))
    assert (seen[TCP].flags, seen[TCP].seq, seen[TCP].ack) == ("RA", 0, 0)


def test_a_listener_answers_a_syn_and_a_socket_a_segment() -> None:
    first = reply(LINK / V4 / TCP(flags="S", seq=9), tcp_flags=TCP_SYN | TCP_ACK)[TCP]
    again = reply(LINK / V4 / TCP(flags="S", seq=9), tcp_flags=TCP_SYN | TCP_ACK)[TCP]
    assert (first.flags, first.ack, first.seq) == ("SA", 10, again.seq)
    seen = reply(LINK / V4 / TCP(flags="A", seq=9, ack=33) / Raw(b"abc"), tcp_flags=TCP_ACK)[TCP]
    assert (seen.flags, seen.seq, seen.ack) == ("A", 33, 12)


def test_an_ipv6_segment_for_nobody_is_reset() -> None:
    seen = reply(LINK / V6 / TCP(flags="S", seq=1))
    assert (seen[IPv6].src, seen[TCP].flags, seen[TCP].ack) == ("fd00::2", "RA", 2)


def test_an_echo_request_comes_back_with_its_bytes() -> None:
    seen = reply(LINK / V4 / ICMP(id=4, seq=5) / BODY, LINK_BYTES + 20 + 8 + 200)
    assert (seen[ICMP].type, seen[ICMP].id, seen[ICMP].seq, bytes(seen[Raw])) == (0, 4, 5, bytes(BODY))
    seen = reply(LINK / V6 / ICMPv6EchoRequest(id=4, seq=5, data=bytes(BODY)), LINK_BYTES + 40 + 8 + 200)
    assert (seen[ICMPv6EchoReply].id, seen[ICMPv6EchoReply].data) == (4, bytes(BODY))


def test_a_long_echo_reply_comes_in_pieces_that_fit_together() -> None:
    request = LINK / V4 / ICMP(id=4, seq=5) / Raw(bytes(1000))
    pieces = [Ether(octets) for octets in replies(request, LINK_BYTES + 20 + 600, LINK_BYTES + 20 + 408)]
    assert [(each[IP].frag, int(each[IP].flags.MF), each[IP].len) for each in pieces] == [(0, 1, 620), (75, 0, 428)]
    assert pieces[0][IP].id == pieces[1][IP].id
    request = LINK / V6 / ICMPv6EchoRequest(data=bytes(1000))
    pieces = [Ether(octets) for octets in replies(request, LINK_BYTES + 40 + 600, LINK_BYTES + 40 + 408)]
    found = [(each[IPv6ExtHdrFragment].offset, each[IPv6ExtHdrFragment].m, each[IPv6].plen) for each in pieces]
    assert found == [(0, 1, 608), (75, 0, 416)]


@pytest.mark.parametrize(("protocol", "code"), [(17, 3), (99, 2)])
def test_an_error_quotes_what_it_is_about(protocol: int, code: int) -> None:
    body = UDP(sport=1, dport=2) / BODY if protocol == 17 else BODY
    request = LINK / V4.copy() / body
    request[IP].proto = protocol
    size = len(bytes(request)) - 14
    seen = reply(request, LINK_BYTES + 20 + 8 + size)
    assert (seen[ICMP].type, seen[ICMP].code) == (3, code)
    assert seen.original[42:] == bytes(request)[14:]


def test_an_error_quotes_no_more_than_it_has_memory_for() -> None:
    request = LINK / V4 / UDP() / Raw(bytes(1000))
    assert len(bytes(reply(request, LINK_BYTES + 20 + 8 + 548)[IP])) == 576


@pytest.mark.parametrize(("known", "layer"), [(True, ICMPv6DestUnreach), (False, ICMPv6ParamProblem)])
def test_an_ipv6_error_quotes_what_it_is_about(known: bool, layer: type[ScapyPacket]) -> None:
    request = LINK / V6 / UDP() / BODY if known else LINK / V6.copy() / BODY
    if not known:
        request[IPv6].nh = 99
    size = len(bytes(request)) - 14
    (octets,) = replies(request, LINK_BYTES + 40 + 8 + size)
    seen = Ether(octets)
    assert seen[layer].code == (4 if known else 1) and octets[-size:] == bytes(request)[14:]
    if not known:
        assert seen[layer].ptr == 6


def test_a_tagged_arp_request_is_answered_with_its_tag() -> None:
    ask = ARP(op=1, hwsrc=OTHER, psrc="10.0.0.9", pdst="10.0.0.2")
    seen = reply(Ether(src=OTHER, dst="ff:ff:ff:ff:ff:ff") / Dot1Q(vlan=7) / ask, 44)
    assert (seen.src, seen.dst, seen[Dot1Q].vlan) == (HOST, OTHER, 7)
    answer = seen[ARP]
    assert (answer.op, answer.hwsrc, answer.psrc, answer.hwdst, answer.pdst) == (2, HOST, "10.0.0.2", OTHER, "10.0.0.9")


def test_a_neighbour_solicitation_is_answered() -> None:
    group = Ether(src=OTHER, dst="33:33:ff:00:00:02")
    seen = reply(group / IPv6(src="fd00::9", dst="ff02::1:ff00:2", hlim=255) / ICMPv6ND_NS(tgt="fd00::2"), 100)
    assert (seen.src, seen[IPv6].src, seen[IPv6].dst, seen[IPv6].hlim) == (HOST, "fd00::2", "fd00::9", 255)
    assert seen[ICMPv6ND_NA].tgt == "fd00::2" and seen[ICMPv6ND_NA].lladdr == HOST and seen[ICMPv6ND_NA].S == 1


def test_nothing_is_said_to_what_is_cut_off() -> None:
    p = Packet()
    octets = bytes(LINK / V4 / UDP() / BODY)
    p.caplen, p.length, p.linktype = 60, len(octets), LINKTYPE_ETHERNET
    craft_reply(WORLD_BUILT.world, MACHINE, 0, p, octets, WORLD_BUILT.store)
    assert MACHINE.tx[0].reply_at == NONE


def test_a_reset_of_a_peers_segment_reaches_that_peer() -> None:
    w = WORLD_BUILT.world
    w.peer[0].dport = 50_000
    assert w.peer[0].saddr == int(ipaddress.IPv4Address(PEER.address))
    segment = TCP(sport=PEER.port, dport=50_000, flags="A", seq=1, ack=1234)
    reply(LINK / IP(src=PEER.address, dst=PEER.host_address) / segment)
    row = w.wire[0].lane[1].head
    assert departure_due_ns(w) > 0
    assert (w.frame[row].conn, w.frame[row].host_port, w.frame[row].seq, w.frame[row].tcp_flags) == (0, 50_000, 1234, 4)


def test_tshark_finds_nothing_wrong_with_any_of_them(tmp_path: Path) -> None:
    made = replies(LINK / V4 / TCP(flags="S"), 160) + replies(LINK / V6 / TCP(flags="S"), 160)
    made += replies(LINK / V4 / ICMP() / Raw(bytes(1000)), LINK_BYTES + 20 + 600, LINK_BYTES + 20 + 408)
    long = bytes(range(250)) * 4
    made += replies(LINK / V6 / ICMPv6EchoRequest(data=long), LINK_BYTES + 40 + 1008)
    made += replies(LINK / V6 / ICMPv6EchoRequest(data=bytes(1000)), LINK_BYTES + 40 + 600, LINK_BYTES + 40 + 408)
    made += replies(LINK / V4 / UDP() / BODY, LINK_BYTES + 20 + 8 + 228)
    made += replies(LINK / V6 / UDP() / BODY, LINK_BYTES + 40 + 8 + 248)
    path = pcap_of([Crafted(octets, 1, DIR_OUTBOUND) for octets in made], tmp_path / "replies.pcap")
    checks = ("-o", "ip.check_checksum:TRUE", "-o", "tcp.check_checksum:TRUE")
    bad = "_ws.malformed or ip.checksum.status == 0 or tcp.checksum.status == 0 or icmp.checksum.status == 0"
    assert run("tshark", "-n", "-r", path, *checks, "-Y", f"({bad} or icmpv6.checksum.status == 0)") == ""
    assert run("tshark", "-n", "-r", path, "-Y", "ip.reassembled.length or ipv6.reassembled.length").count("\n") == 2

"""Bulk servers, wires and blackouts, and that both engines make the same world."""

from itertools import pairwise

import pytest
from engine_pair import engine_named
from peer_kit import SERVER, START_NS, WORLD, Host
from scapy.layers.inet import TCP
from scapy.layers.l2 import Dot1Q, Ether

from emu.errors import UsageError
from emu.kernel.closed_loop import CONN_ESTABLISHED
from emu.kernel.machine import DIR_INBOUND, NEVER_NS, Machine
from emu.kernel.tcp_seq import TCP_ACK, seq_add
from emu.traffic.peer.lane import blacked_out, wire_ns
from emu.traffic.peer.setup import BlackoutSetup, build_world
from emu.traffic.peer.state import FROM_HOST, MAX_BLACKOUTS, TO_HOST

MS = 10**6
REQUEST_BYTES = 80
BULK = WORLD._replace(targets=(), servers=(SERVER,))


class Download(Host):
    """Asks for a bulk transfer and takes what comes; `window` is what it offers."""

    def opened(self) -> None:
        """Ask."""
        self.conn.write_seq = seq_add(self.conn.snd_nxt, REQUEST_BYTES)
        self.conn.ack_now = 1


def payload_bytes(host: Host) -> int:
    """What has come, retransmissions too."""
    return sum(len(f.octets) - 66 for f in host.frames if f.direction == DIR_INBOUND and len(f.octets) > 74)


def test_a_server_sends_exactly_what_it_has_and_keeps_the_connection() -> None:
    host = Download(BULK._replace(servers=(SERVER._replace(bytes=100_000),)))
    host.connect()
    host.run(2_000 * MS)
    assert payload_bytes(host) == host.conn.rcv_nxt - host.w.peer[0].iss - 1 == 100_000
    assert host.w.peer[0].state == CONN_ESTABLISHED
    assert host.w.peer[0].snd_una == host.w.peer[0].snd_nxt == host.w.peer[0].write_seq


def test_a_server_says_nothing_before_it_is_asked() -> None:
    host = Host(BULK)
    host.connect()
    host.run(1_000 * MS)
    assert [len(f.octets) for f in host.frames if f.direction == DIR_INBOUND] == [74]


def test_a_transfer_without_end_fills_the_wire_and_is_what_the_pool_holds() -> None:
    host = Download(BULK)
    host.connect()
    host.run(12 * MS)
    most = 12 * MS // wire_ns(host.w, 0, 1514) * 1448  # the window is more than a round trip's worth
    assert 0.85 * most < payload_bytes(host) < most
    segments = [Ether(f.octets)[TCP] for f in host.frames if f.direction == DIR_INBOUND and len(f.octets) > 74]
    sent = b"".join(bytes(segment.payload) for segment in segments)
    assert sent == (bytes(host.pool[: 1 << 18]) * (len(sent) // (1 << 18) + 1))[: len(sent)]


def test_no_server_overruns_a_window_and_a_closed_one_is_probed_until_it_opens() -> None:
    host = Download(BULK)
    host.window = 10_000
    host.connect()
    host.run(5 * MS)
    host.window = 0
    host.run(10 * MS)
    before = payload_bytes(host)
    host.run(5_000 * MS)
    assert payload_bytes(host) == before
    probes = [f for f in host.frames if f.direction == DIR_INBOUND and len(f.octets) == 66]
    assert [round((probe.time_ns - START_NS) / MS, -2) for probe in probes[1:]] == [200, 600, 1400, 3000]
    assert {seq_add(Ether(probe.octets)[TCP].seq, 1) for probe in probes[1:]} == {host.conn.rcv_nxt}
    host.window = 43_688
    host.emit(host.conn.snd_nxt, 0, TCP_ACK)
    host.run(5_010 * MS)
    assert payload_bytes(host) > before + 100_000


def test_a_frame_takes_its_bytes_and_framing_at_the_wires_rate() -> None:
    world = build_world(engine_named("plain"), WORLD, Machine()).world
    assert wire_ns(world, 0, 1514) == (1514 + 24) * 8
    world.wire[0].rate_bps = 100 * 10**6
    assert wire_ns(world, 0, 60) == 6_720


def test_frames_of_all_peers_queue_for_the_same_wire_in_order() -> None:
    host = Download(BULK)
    host.connect()
    host.run(20 * MS)
    times = [f.time_ns for f in host.frames if f.direction == DIR_INBOUND and len(f.octets) == 1514]
    assert min(late - early for early, late in pairwise(times)) >= (1514 + 24) * 8


@pytest.mark.parametrize(
    ("to_host", "from_host"), [(True, False), (False, True), (True, True)], ids=["to-host", "from-host", "both"]
)
def test_a_blackout_loses_what_crosses_the_wire_and_nothing_else(to_host: bool, from_host: bool) -> None:
    begin, end = START_NS + 10 * MS, START_NS + 60 * MS
    setup = BULK._replace(blackouts=(BlackoutSetup(0, begin, end, to_host, from_host),))
    world = build_world(engine_named("plain"), setup, Machine()).world
    ways = {TO_HOST: to_host, FROM_HOST: from_host}
    for way, dead in ways.items():
        assert [blacked_out(world, 0, way, at) for at in (begin - 1, begin, end - 1, end)] == [False, dead, dead, False]
        assert not blacked_out(world, 1, way, begin)


def test_a_transfer_goes_on_after_a_blackout_by_the_timeout() -> None:
    begin, end = START_NS + 10 * MS, START_NS + 60 * MS
    host = Download(BULK._replace(blackouts=(BlackoutSetup(0, begin, end, True, False),)))
    host.connect()
    host.run(215 * MS)
    arrivals = [f.time_ns for f in host.frames if f.direction == DIR_INBOUND]
    assert not [at for at in arrivals if begin <= at < end]
    first = min(at for at in arrivals if at >= end)
    last = max(at for at in arrivals if at < begin)
    assert 200 * MS < first - last < 210 * MS  # the least timeout: Linux's TCP_RTO_MIN
    assert host.w.lost_on_wire > 20 and host.w.lost_from_host == 0
    assert host.w.peer[0].timeouts == 1


def test_more_blackouts_than_there_is_room_for_are_refused_in_one_line() -> None:
    many = (BlackoutSetup(0, 0, 1, True, True),) * (MAX_BLACKOUTS + 1)
    with pytest.raises(UsageError, match=r"^blackout: expected at most 64, found 65$"):
        build_world(engine_named("plain"), WORLD._replace(blackouts=many), Machine())


def test_a_peer_behind_a_vlan_speaks_with_its_tag() -> None:
    target = WORLD.targets[0]
    peer = target.peer._replace(vlan=5)
    host = Host(WORLD._replace(targets=(target._replace(peer=peer),)))
    host.connect()
    host.run(MS)
    for frame in host.frames[:2]:
        seen = Ether(frame.octets)
        assert seen[Dot1Q].vlan == 5 and seen[TCP].sport in (50_000, 3260)
        kept = seen[TCP].chksum
        del seen[TCP].chksum
        assert Ether(bytes(seen))[TCP].chksum == kept


def test_with_nothing_under_way_nothing_is_due() -> None:
    host = Host()
    assert host._arrival_due_ns(host.w) == host._world_due_ns(host.w) == NEVER_NS

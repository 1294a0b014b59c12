"""Frames whose reader is emulated wait for it: the host gets each once, in order, and only when it has been read."""

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from live_kit import Played, check_replay, playing, scripted, until
from replay_kit import HOST_MAC, NS, PEER_MAC, ether, icmp, sent, udp
from scapy.layers.inet import IP, TCP, UDP, fragment
from scapy.packet import Raw
from scapy.utils import RawPcapNgReader

from emu.kernel.machine import EVENT_CONTEXT, EVENT_PAGES, ZONE_NORMAL
from emu.live.live_run import Happening

QUIET = {"pressure.start": "quiet"}
CRUNCH = {"readers.ordinary": "needs-memory", "pressure.writers": "none"}
MSS = 1000


def segment(number: int, size: int = MSS, port: int = 40_000) -> bytes:
    """The segment of a stream that begins with byte number * MSS."""
    header = TCP(sport=port, dport=80, flags="PA", seq=1 + number * MSS)
    payload = Raw(bytes(at & 0xFF for at in range(number, number + size)))
    return ether(PEER_MAC, HOST_MAC, IP(src="10.0.0.1", dst="10.0.0.2") / header / payload)


def datagram(number: int, port: int = 5000) -> bytes:
    """A datagram that can be told from all others."""
    packet = UDP(sport=1, dport=port) / Raw(number.to_bytes(4, "big"))
    return ether(PEER_MAC, HOST_MAC, IP(src="10.0.0.1", dst="10.0.0.2") / packet)


def queued(played: Played) -> int:
    """How many skbs sockets hold."""
    m = played.machine
    return sum(int(m.sk[row].queue_len) + int(m.sk[row].ofo_len) for row in range(int(m.sks_made)))


def arrived(played: Played) -> None:
    until(lambda: int(played.machine.total.frames) == len(played.sent) and not int(played.machine.poll_len), played)
    played.rounds()


def shown(path: Path) -> list[tuple[int, bytes]]:
    """Times and frames of the host's side."""
    with RawPcapNgReader(str(path)) as reader:
        return [(meta.tshigh << 32 | meta.tslow, frame) for frame, meta in reader]


def test_what_nobody_reads_never_comes_out(tmp_path: Path) -> None:
    """What nobody has to read does: the echo, the segment without data, what the host itself sends."""
    frames = [datagram(1), icmp(), segment(0), segment(0, 0), datagram(2)]
    with scripted(), playing(tmp_path, settings=QUIET | {"readers.ordinary": "never"}) as played:
        played.from_wire(*frames)
        played.from_host(sent())
        arrived(played)
        played.rounds(50)
        assert played.host_got == [frames[1], frames[3]]
        assert len(played.run.held) == 3 == queued(played)
        ended = played.end()
    assert played.wire_got == [sent()]
    assert {frame for _, frame in shown(tmp_path / "host.pcapng")} == {frames[1], frames[3], sent()}
    assert ended.summary["delivered"] == 5
    check_replay(ended, tmp_path / "again")


def test_a_reader_with_a_rate_lets_them_out_one_by_one(tmp_path: Path) -> None:
    """At no time has the host got more than has been read, and the capture of its side says when it got it."""
    settings = QUIET | {"readers.ordinary": "rate", "readers.rate": 100}
    frames = [datagram(number) for number in range(20)]
    with scripted(), playing(tmp_path, settings=settings) as played:
        played.from_wire(*frames)
        arrived(played)
        while len(played.host_got) < 20:
            assert len(played.host_got) + queued(played) + 1 >= 20
            played.rounds()
        ended = played.end()
    assert played.host_got == frames
    told = shown(tmp_path / "host.pcapng")
    assert [frame for _, frame in told] == frames
    assert told[-1][0] - told[0][0] > NS // 10
    assert played.run.held.released == 20
    check_replay(ended, tmp_path / "again")


def test_readers_that_need_memory_wait_for_it(tmp_path: Path) -> None:
    """In the crunch none reads; when others give pages back, all do."""
    frames = [datagram(number, 5000 + number % 3) for number in range(12)]
    with scripted(), playing(tmp_path, settings=CRUNCH, policy="linux-2.6.12") as played:
        played.from_wire(*frames)
        arrived(played)
        played.rounds(20)
        delivered = int(played.machine.total.delivered)
        assert (played.host_got, len(played.run.held)) == ([], delivered)
        assert delivered > 0
        played.happen(Happening(EVENT_PAGES, ZONE_NORMAL, -4000), Happening(EVENT_CONTEXT, 0, 0))
        until(lambda: len(played.host_got) == delivered, played)
        ended = played.end()
    for port in range(3):
        of_port = [frame for frame in frames[:delivered] if frame in [datagram(n, 5000 + port) for n in range(12)]]
        assert [frame for frame in played.host_got if frame in of_port] == of_port
    check_replay(ended, tmp_path / "again")


@pytest.mark.parametrize("reader", ["never", "rate"])
def test_a_segment_that_is_sent_again_is_not_handed_on_before_the_first_is_read(tmp_path: Path, reader: str) -> None:
    """The real stack has not got it, so the peer sends it again: to the machine that is old data."""
    settings = QUIET | {"readers.ordinary": reader, "readers.rate": 20, "replay.peers": "real"}
    frames = [segment(number) for number in range(4)]
    with scripted(), playing(tmp_path, settings=settings) as played:
        played.from_wire(*frames)
        arrived(played)
        played.from_wire(*frames[::-1])
        arrived(played)
        assert len(played.host_got) <= 1
        if reader == "rate":
            until(lambda: len(played.host_got) == 4, played, 1000)
        played.rounds(20)
        assert played.host_got == (frames if reader == "rate" else [])
        ended = played.end()
    assert ended.summary["drops_by_reason"] == {"TCP_OLD_DATA": 4}
    check_replay(ended, tmp_path / "again")


def test_a_hole_holds_what_is_behind_it(tmp_path: Path) -> None:
    """A reader gets nothing from behind a hole, however fast it reads; then all of it, each once."""
    frames = [segment(number) for number in (0, 2, 3, 2, 1)]
    settings = QUIET | {"readers.ordinary": "rate", "readers.rate": 1000, "replay.peers": "real"}
    with scripted(), playing(tmp_path, settings=settings) as played:
        played.from_wire(*frames[:4])
        arrived(played)
        played.rounds(40)
        assert played.host_got == frames[:1]
        played.from_wire(frames[4])
        arrived(played)
        until(lambda: len(played.host_got) >= 4, played)
        played.rounds(20)
        ended = played.end()
    assert sorted(played.host_got) == sorted([frames[0], frames[1], frames[2], frames[4]])
    check_replay(ended, tmp_path / "again")


def test_what_is_thrown_away_unread_is_lost(tmp_path: Path) -> None:
    """A full socket gives up what is out of order: the host never gets that, but for a fresh copy."""
    settings = QUIET | {
        "readers.ordinary": "never",
        "socket.0.match": "tcp",
        "socket.0.rcvbuf": 12_000,  # locked: it does not grow with what is out of order
        "replay.peers": "real",
    }
    with scripted(), playing(tmp_path, settings=settings) as played:
        for number in (0, *range(20, 40, 2), 1, 2, 3, 4):
            played.from_wire(segment(number))
            arrived(played)
        lost = played.run.held.lost
        assert lost > 0
        played.from_wire(segment(20))
        arrived(played)
        held = len(played.run.held)
        assert (played.host_got, played.run.held.lost) == ([], lost)
        ended = played.end()
    assert ended.summary["counters"]["TcpExtOfoPruned"] > 0
    assert held + lost == ended.summary["delivered"] == 16
    check_replay(ended, tmp_path / "again")


def test_a_datagram_in_fragments_waits_whole(tmp_path: Path) -> None:
    """Without its last fragment the real stack has no datagram."""
    whole = IP(src="10.0.0.1", dst="10.0.0.2", id=7) / UDP(sport=1, dport=5000) / Raw(bytes(4000))
    parts = [ether(PEER_MAC, HOST_MAC, part) for part in fragment(whole, 1480)]
    with scripted(), playing(tmp_path, settings=QUIET | {"readers.ordinary": "never"}) as played:
        played.from_wire(*parts)
        arrived(played)
        played.rounds(20)
        assert queued(played) == len(parts)
        ended = played.end()
    assert len(played.host_got) < len(parts), [len(x) for x in played.host_got]
    check_replay(ended, tmp_path / "again")


FATES = st.lists(
    st.tuples(
        st.sampled_from(("udp", "tcp", "again", "ahead")), st.integers(1, 6), st.sampled_from((0, 0, 3_000_000, NS))
    ),
    min_size=2,
    max_size=14,
)


@settings(max_examples=15)
@given(
    steps=FATES,
    seed=st.integers(0, 1 << 32),
    reader=st.sampled_from(("rate", "needs-memory")),
    rcvbuf=st.sampled_from((4_000, 12_000, 60_000)),
)
def test_the_host_gets_what_has_been_read_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, steps: Any, seed: int, reader: str, rcvbuf: int
) -> None:
    """Whatever is lost, repeated or out of order: no byte of a stream is with the host before it has been read."""
    dice = random.Random(seed)
    folder = tmp_path_factory.mktemp("held")
    how = QUIET | {"readers.ordinary": reader, "readers.rate": 500, "replay.peers": "real"}
    how |= {"readers.tcp_rcvbuf": rcvbuf, "readers.udp_rcvbuf": rcvbuf}
    following = 0
    with scripted() as clock, playing(folder, settings=how) as played:
        for kind, count, gap_ns in steps:
            for _ in range(count):
                if kind == "udp":
                    played.from_wire(udp(payload=dice.randrange(1, 1400)))
                    continue
                number = following
                if kind == "again":
                    number = dice.randrange(max(1, following))
                elif kind == "ahead":
                    number = following + dice.randrange(1, 5)
                else:
                    following += 1
                played.from_wire(segment(number))
            played.rounds(dice.randrange(1, 4))
            clock.now_ns += gap_ns
            unread = {int(skb.frame) for skb in unread_skbs(played)}
            early = [frame for frame in unread if played.sent[frame - 1] in played.host_got]
            assert all(copies(played, frame) > 1 for frame in early)
        arrived(played)
        ended = played.end()
    assert played.run.held.released + int(ended.wire.survivors) == len(played.host_got)
    check_replay(ended, folder / "again")


def copies(played: Played, frame: int) -> int:
    """How often the bytes of a frame were sent."""
    return played.sent.count(played.sent[frame - 1])


def unread_skbs(played: Played) -> list[Any]:
    m, found = played.machine, []
    for row in range(int(m.sks_made)):
        b = int(m.sk[row].queue_head)
        while b != -1:
            found.append(m.skb[b])
            b = int(m.skb[b].next)
    return found

"""Frames between the two sides of a live run: which come out where, in which order, and how they are counted."""

from pathlib import Path
from typing import Any

import pytest
from live_kit import AT_ONCE, Ended, Played, playing, replayed, scripted, until
from replay_kit import arp, elsewhere, ether, icmp, iscsi, sent, tcp, udp
from replay_kit import rows_of as log_rows
from scapy.layers.inet import IP, UDP
from scapy.packet import Raw
from scapy.utils import RawPcapNgReader

from emu.engine.plain import Engine

HOST_MAC, PEER_MAC = "02:00:00:00:00:02", "02:00:00:00:00:01"
CALM = {"pressure.start": "quiet", "readers.ordinary": "immediate"}
MANY = 400
DRY = {"device.0.ring": 80, "readers.ordinary": "never"}  # in the crunch: the ring's last buffers are soon gone


@pytest.fixture(params=["plain", pytest.param("compiled", marks=pytest.mark.xdist_group("compiled"))])
def engine(request: pytest.FixtureRequest) -> Engine:
    """Each engine; the compiled one where there is numba."""
    from engine_pair import engine_named

    if request.param == "compiled":
        pytest.importorskip("numba")
    return engine_named(request.param)


def numbered(number: int, port: int = 5000) -> bytes:
    """A datagram to the host that can be told from all others."""
    packet = IP(src="10.0.0.1", dst="10.0.0.2") / UDP(sport=40_000, dport=port) / Raw(number.to_bytes(4, "big") * 8)
    return ether(PEER_MAC, HOST_MAC, packet)


def passed(played: Played, *, towards_host: list[bytes], towards_wire: list[bytes]) -> None:
    """Send frames from both sides, a few at a time, and let all of them arrive."""
    for first in range(0, max(len(towards_host), len(towards_wire)), AT_ONCE):
        played.from_wire(*towards_host[first : first + AT_ONCE])
        played.from_host(*towards_wire[first : first + AT_ONCE])
        until(lambda: int(played.machine.total.frames) == len(played.sent), played)
    played.rounds(2)


def frames_in(path: Path) -> list[bytes]:
    """The frames of a capture."""
    with RawPcapNgReader(str(path)) as reader:
        return [frame for frame, _ in reader]


def test_frames_pass_both_ways_whole_and_in_order(tmp_path: Path, engine: Engine) -> None:
    """Of any size that an interface gives, and none is invented."""
    inbound = [numbered(number) for number in range(40)] + [udp(payload=size) for size in (0, 1, 1472)]
    outbound = [sent(payload=size) for size in (0, 1, 500, 1460)] + [numbered(number, 6000) for number in range(20)]
    with playing(tmp_path, engine=engine, settings=CALM) as played:
        passed(played, towards_host=inbound, towards_wire=outbound)
        ended = played.end()
    assert played.host_got == inbound
    assert played.wire_got == outbound
    assert int(ended.wire.frames) == len(inbound) + len(outbound) == ended.summary["frames"]
    assert (int(ended.wire.sent), int(ended.wire.sent_refused)) == (len(outbound), 0)
    assert (int(ended.wire.survivors), int(ended.wire.survivors_refused)) == (len(inbound), 0)
    assert sorted(frames_in(tmp_path / "w.pcapng")) == sorted(inbound + outbound)
    assert sorted(frames_in(tmp_path / "host.pcapng")) == sorted(inbound + outbound)


def test_a_long_frame_passes_and_is_told(tmp_path: Path, engine: Engine) -> None:
    """An interface that aggregates gives frames beyond the MTU; they are charged as what they stand for."""
    longest = tcp(payload=64_000)
    with playing(tmp_path, engine=engine, settings=CALM) as played:
        played.from_wire(tcp(flags="S", payload=0), longest)
        until(lambda: len(played.host_got) == 2, played)
        ended = played.end()
    assert played.host_got[1] == longest
    assert int(ended.wire.too_long) == 1


def test_what_the_protocols_refuse_is_for_the_real_stack_to_refuse(tmp_path: Path, engine: Engine) -> None:
    """It answers, counts and forgets as real stacks do; what is overheard or memory refuses, it never gets."""
    broken = tcp(broken=True)
    nobody = numbered(1, 9)
    inbound = [broken, nobody, elsewhere(), arp(), icmp(), b"\xff" * 6 + b"\x02" + bytes(5) + b"\x88\xcc" + bytes(46)]
    with playing(tmp_path, engine=engine, settings=CALM | {"replay.closed": "udp port 9"}) as played:
        passed(played, towards_host=inbound, towards_wire=[])
        ended = played.end()
    assert played.host_got == [frame for frame in inbound if frame != elsewhere()]
    assert ended.summary["drops_by_reason"] == {"NO_SOCKET": 1, "TCP_CSUM": 1, "UNHANDLED_PROTO": 1}
    assert int(ended.wire.handed_on) == 3
    assert ended.summary["delivered"] == 2


def check_fates(ended: Ended, played: Played, policy: str) -> None:
    """The log says of every frame what its fate was: exactly the survivors have come out."""
    by_protocol = {"NO_SOCKET", "TCP_CSUM", "UDP_CSUM", "IP_CSUM", "PKT_TOO_SMALL", "TCP_OLD_DATA", "UNHANDLED_PROTO"}
    survivors: list[bytes] = []
    lost: list[bytes] = []
    for row in log_rows(ended.folder / "log.csv"):
        if row["verdict"] == "event":
            continue
        frame = played.sent[int(row["frame"]) - 1]
        survives = row["verdict"] == "delivered" or row["reason"] in by_protocol
        (survivors if survives else lost).append(frame)
    assert played.host_got == survivors
    assert len(lost) == ended.summary["dropped"] - int(ended.wire.handed_on) > 0, policy


@pytest.mark.parametrize("policy", ["linux-2.6.12", "phillips-v5", "mainline"])
def test_a_dropped_frame_never_reaches_the_host(tmp_path: Path, engine: Engine, policy: str) -> None:
    """Whatever drops it: the ring that has run dry, or the check of who it is for."""
    settings = DRY | {"readers.ordinary": "real"}
    with playing(tmp_path, engine=engine, policy=policy, settings=settings) as played:
        for number in range(30):  # one side only: what was sent first is read first
            played.from_wire(*(numbered(8 * number + at, 5000 + at) for at in range(6)), iscsi(), icmp())
            until(lambda: int(played.machine.total.frames) == len(played.sent), played)
        played.rounds(2)
        ended = played.end()
    check_fates(ended, played, policy)
    m, total = played.machine, played.machine.total
    assert int(total.received) == int(total.delivered) + int(total.dropped) == int(ended.wire.frames)
    critical = sum(int(each) for each in ended.wire.critical_drops)
    assert critical == int(total.memalloc.dropped) == ended.summary["memalloc"]["dropped"]
    assert int(m.total.frames) == int(played.run.reader.frames)


def test_a_frame_has_the_time_of_its_coming(tmp_path: Path) -> None:
    """The clock when it was read, since the epoch: never before that of an earlier one."""
    with scripted() as clock, playing(tmp_path, settings=CALM) as played:
        times: list[tuple[int, int]] = []
        for number in range(12):
            clock.now_ns += number * 1_000_000
            before = clock.now_ns
            played.from_wire(numbered(number))
            played.from_host(sent())
            played.rounds()
            times += [(before, clock.now_ns)] * 2
        played.end()
    with RawPcapNgReader(str(tmp_path / "w.pcapng")) as reader:
        told = [(meta.tshigh << 32 | meta.tslow) * 10**9 // meta.tsresol for _, meta in reader]
    assert len(told) == len(times)
    assert told == sorted(told)
    for time_ns, (before, behind) in zip(told, times, strict=True):
        assert before <= time_ns <= behind


def test_what_an_interface_does_not_take_is_counted_apart(tmp_path: Path, engine: Engine) -> None:
    """The model is not to blame: the frame was delivered, or sent."""
    with playing(tmp_path, engine=engine, settings=CALM) as played:
        for _ in range(MANY // AT_ONCE):  # as much as a socket holds is a few hundred of them at the most
            played.from_wire(*[udp(payload=1400)] * AT_ONCE)
            played.from_host(*[sent(payload=1400)] * AT_ONCE)
            for _ in range(2):
                played.run._round()  # nobody takes what comes out
        ended = played.end()
    wire = ended.wire
    assert int(wire.survivors) == int(wire.sent) == ended.summary["delivered"] == MANY
    assert len(played.host_got) == MANY - int(wire.survivors_refused) < MANY
    assert len(played.wire_got) == MANY - int(wire.sent_refused) < MANY


def test_a_side_that_is_silent_keeps_nobody_waiting(tmp_path: Path, engine: Engine) -> None:
    """And a run without a frame ends with files that are whole."""
    quiet, busy = tmp_path / "quiet", tmp_path / "busy"
    for folder in (quiet, busy):
        folder.mkdir()
    with playing(quiet, engine=engine) as played:
        played.rounds(3)
        ended = played.end()
    assert ended.summary["frames"] == 0
    assert frames_in(quiet / "w.pcapng") == frames_in(quiet / "host.pcapng") == []
    with playing(busy, engine=engine, settings=CALM) as played:
        passed(played, towards_host=[], towards_wire=[numbered(number) for number in range(50)])
        ended = played.end()
    assert len(played.wire_got) == ended.summary["not_received"] == 50
    assert replayed(busy, busy / "again", engine=engine.name).summary["not_received"] == 50


def test_rows_do_not_remember_earlier_frames(tmp_path: Path) -> None:
    """Rows are used again and again: the verdict of one frame is nobody else's."""
    with playing(tmp_path, settings=CALM, batch=64) as played:
        for number in range(100):
            played.from_wire(numbered(number), tcp(broken=True), elsewhere())
            played.from_host(sent())
            played.rounds()
        until(lambda: int(played.machine.total.frames) == 400, played)
        ended = played.end()
    verdicts: dict[str, Any] = {name: ended.summary[name] for name in ("delivered", "dropped", "not_received")}
    assert verdicts == {"delivered": 100, "dropped": 100, "not_received": 200}
    assert len(played.host_got) == 200

"""Where a live run has fixed room it takes turns, and loses nothing."""

from pathlib import Path

import pytest
from live_kit import check_replay, playing, scripted, until
from replay_kit import HOST_MAC, PEER_MAC, ether, tcp, udp
from scapy.layers.inet import IP, UDP
from scapy.packet import Raw

from emu import play
from emu.engine import loop
from emu.kernel.machine import EVENT_READ, EVENTS, MAX_OUTSIDE
from emu.live import frames, live_run, serve
from emu.live.live_run import Happening
from emu.live.system import MAX_FRAME

CALM = {"pressure.start": "quiet", "readers.ordinary": "immediate"}
SLOW = {"machine.cpu_ns_per_packet": 1_000_000, "device.0.ring": 4096}


def recorded(folder: Path, event: str) -> int:
    """How many such events a stream has."""
    return (folder / "events.jsonl").read_text().count(f'["{event}"')


def test_more_happens_outside_than_one_step_takes(tmp_path: Path) -> None:
    """Everything happens, in the order in which it was seen."""
    many = 2 * MAX_OUTSIDE + 88
    with scripted(), playing(tmp_path, settings={"pressure.start": "quiet"}) as played:
        played.from_wire(*[udp(payload=1)] * 20)
        until(lambda: int(played.machine.total.delivered) == 20, played)
        socket = next(row for row in range(9) if int(played.machine.sk[row].queue_len) == 20)
        played.happen(*[Happening(EVENT_READ, 8_000, 1)] * (many - 5), *[Happening(EVENT_READ, socket, 1)] * 5)
        played.rounds(2)
        assert int(played.machine.sk[socket].queue_len) == 15
        assert int(played.machine.outside_len) == 0
        ended = played.end()
    assert recorded(tmp_path, "read") == many
    assert "read" in EVENTS
    check_replay(ended, tmp_path / "again")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows and window are made for few frames, so that few fill them."""
    monkeypatch.setattr(play, "HOST_FRAMES", 64)
    monkeypatch.setattr(frames, "WINDOW_BYTES", 4 * MAX_FRAME)
    monkeypatch.setattr(live_run, "HAND_OUT_ROWS", 128)


@pytest.mark.usefixtures("small")
def test_a_burst_that_waits_in_the_ring_fills_rows_and_window(tmp_path: Path) -> None:
    """A slow CPU: more frames wait than rows and window were made for, none is decided, and all come out in order."""
    burst = [udp(payload=1000, sport=1 + number) for number in range(400)]
    with scripted() as clock, playing(tmp_path, settings=CALM | SLOW, batch=64) as played:
        rows = played.run.room
        for first in range(0, len(burst), 50):
            played.from_wire(*burst[first : first + 50])
            until(lambda: played.wire_frames == len(played.sent), played)
        assert sum(map(len, burst)) > frames.WINDOW_BYTES
        assert played.run.room > rows
        assert int(played.machine.total.delivered) < 200
        while len(played.host_got) < len(burst):
            clock.now_ns += 40_000_000
            before = len(played.host_got)
            played.rounds()
            assert len(played.host_got) > before
        ended = played.end()
    assert played.host_got == burst
    assert int(ended.wire.survivors_refused) == 0
    assert ended.summary["delivered"] == len(burst)
    check_replay(ended, tmp_path / "again")


@pytest.mark.usefixtures("small")
def test_frames_beyond_what_may_wait_stay_with_the_interface(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wire neither ends nor forgets them: they are read when there is room again."""
    most = 512
    monkeypatch.setattr(live_run, "MOST_ROWS", most)
    burst = [udp(payload=10, sport=1 + number) for number in range(most + 200)]
    with scripted() as clock, playing(tmp_path, settings=CALM | SLOW, batch=64) as played:
        for first in range(0, len(burst), 50):
            played.from_wire(*burst[first : first + 50])
            played.rounds()
        assert most - 100 < played.wire_frames <= most + 100 < len(burst)
        while len(played.host_got) < len(burst):
            clock.now_ns += 100_000_000
            played.rounds()
        assert played.run.room == most
        ended = played.end()
    assert played.host_got == burst
    check_replay(ended, tmp_path / "again")


def test_a_long_silence_fills_the_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Readers with a rate come a thousand times a second, whether a frame comes or not."""
    room = serve.MOST_EVENTS + 500
    monkeypatch.setattr(live_run, "EVENT_LOG", room)
    settings = {"pressure.start": "quiet", "readers.ordinary": "rate", "readers.rate": 1}
    with scripted() as clock, playing(tmp_path, settings=settings) as played:
        played.from_wire(*[udp(payload=1)] * 12)
        until(lambda: int(played.machine.total.delivered) == 12, played)
        clock.now_ns += 10_000_000_000
        played.rounds()
        clock.now_ns += 10_000_000_000
        played.from_wire(udp())
        until(lambda: len(played.host_got) == 12, played)
        ended = played.end()
    assert recorded(tmp_path, "tick") > 2 * room
    check_replay(ended, tmp_path / "again")


@pytest.mark.parametrize("drained", [True, False])
def test_events_of_packets_are_handed_out_before_they_are_too_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drained: bool
) -> None:
    """As if the list of them were nearly full after each; also at the very end, where frames wait to arrive."""
    packet = UDP(sport=1, dport=5000, chksum=0x1234) / Raw(bytes(200))
    broken = ether(PEER_MAC, HOST_MAC, IP(src="10.0.0.1", dst="10.0.0.2") / packet)
    for module in (loop, serve, play):
        monkeypatch.setattr(module, "LATER_ENOUGH", 0)
    with scripted(), playing(tmp_path, settings=CALM) as played:
        for _ in range(5):
            played.from_wire(*[broken, udp(), tcp(payload=0, flags="S")] * 12)
            played.rounds(2)
        if drained:
            until(lambda: len(played.host_got) == 180, played)
        ended = played.end()
    total = played.machine.total
    assert int(total.frames) == played.wire_frames > 60
    assert int(total.delivered) + int(total.in_flight) == played.wire_frames
    assert (int(total.in_flight) == 0) == drained
    events = (tmp_path / "log.csv").read_text().count(",event,")
    assert events == played.host_got.count(broken) == (60 if drained else events) > 0
    check_replay(ended, tmp_path / "again")

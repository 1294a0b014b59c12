"""`emu step`: a play in steps is the same play, panels add up, keys do what they say, refusals say what is wrong."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from emu_process import EMU, NOP, ROOT, emu, emu_here, kit, refused

from emu.cli.step import TO_DROP, TO_END, TO_EVENT, TO_FRAME, TO_PACKET, LeaveError, Screen, Watcher, Wish
from emu.engine.stepping import Step, SteppingEngine
from emu.kernel.machine import NONE
from emu.verdicts.step.figures import figures_of, ring_cells

PATIENCE_S = 60.0
MUSIC = kit.pcap(kit.paced([kit.udp(5000, 1000)] * 12, gap_ns=1_000_000))


def test_stepping_changes_nothing(tmp_path: Path) -> None:
    """The same capture of everything that may come, watched and unwatched: the same outputs, the same summary."""
    capture = kit.pcap(kit.wild_frames(7, 400))
    steps: list[Step] = []
    watched, unwatched = tmp_path / "watched", tmp_path / "unwatched"
    watched.mkdir()
    unwatched.mkdir()
    stepped = kit.played(capture, engine=SteppingEngine(steps.append), outputs=kit.outputs_in(watched))
    assert len(steps) > 400
    assert stepped.result == kit.played(capture, outputs=kit.outputs_in(unwatched)).result
    assert kit.files_of(watched) == kit.files_of(unwatched)


def test_every_verdict_is_told_once() -> None:
    """Each frame of a capture is decided in exactly one step, or it is in flight when the play ends."""
    told: list[int] = []
    played = kit.played(
        kit.pcap(kit.wild_frames(3, 300)),
        engine=SteppingEngine(lambda step: told.extend(p.frame for p in step.decided)),
        batch=16,
    )
    assert len(told) == len(set(told)) == 300 - played.summary["in_flight"]


def test_what_a_panel_says_of_pages_and_buffers_adds_up() -> None:
    """A zone's figures are all its pages, and a ring's cells all its buffers, after every step."""
    seen = 0

    def watch(step: Step) -> None:
        nonlocal seen
        m = step.machine
        figures = figures_of(m, ["eth0"])
        for name, z in (("DMA", m.zone[0]), ("Normal", m.zone[1])):
            assert sum(figures[name].values()) == z.present_pages
        cells = ring_cells(m, 0)
        dev = m.dev[0]
        assert len(cells) == dev.ring_size
        assert cells.count("#") == dev.ring_done
        assert cells.count(".") == sum(dev.ring_skb[slot] == NONE for slot in range(dev.ring_size))
        assert cells.count("o") + cells.count("R") == figures["ring eth0"]["buffers shown to the NIC"]
        seen += 1

    frames = [kit.udp(5000, 1000), kit.iscsi(), kit.arp(), kit.icmp()] * 20
    kit.played(kit.pcap(kit.paced(frames)), engine=SteppingEngine(watch))
    assert seen > 80


def panels(wishes: Sequence[Wish], capture: bytes = MUSIC) -> list[str]:
    """The titles of the panels that somebody is shown who wishes so, one wish for each, and then no more."""
    titles: list[str] = []
    left: Iterator[Wish] = iter(wishes)

    def ask(lines: Sequence[str]) -> Wish:
        titles.append(lines[0].strip("- "))
        return next(left, Wish(TO_END))

    with pytest.raises(LeaveError):
        kit.played(capture, engine=SteppingEngine(Watcher(["eth0"], ask)))
    return titles


def frames_of(titles: Sequence[str]) -> list[int]:
    """The frames that titles name; 0: none."""
    found = [re.match(r"frame (\d+)", title) for title in titles]
    return [int(title[1]) if title else 0 for title in found]


def test_packet_by_packet() -> None:
    assert frames_of(panels([Wish(TO_PACKET)] * 3)) == [1, 2, 3, 4]


def test_to_a_frame() -> None:
    assert frames_of(panels([Wish(TO_FRAME, 9), Wish(TO_PACKET)])) == [1, 9, 10]


def test_event_by_event() -> None:
    """Between two packets a poll ends and begins anew; an event's panel is no packet's."""
    shown = frames_of(panels([Wish(TO_EVENT)] * 4))
    assert shown[0] == 1
    assert shown.count(0) >= 2
    assert shown[-1] in (0, 2)


def test_to_the_next_drop() -> None:
    """Of datagrams for a socket that nobody reads the first is kept; then the device is in reserve."""
    first_drop = frames_of(panels([Wish(TO_DROP)]))[1]
    drops = [p for p in panels_of_drops() if p > 1]
    assert first_drop == drops[0]


def panels_of_drops() -> list[int]:
    """The frames that are dropped, by the log of a play that nobody watches."""
    found: list[int] = []
    kit.played(MUSIC, engine=SteppingEngine(lambda step: found.extend(p.frame for p in step.decided if p.reason)))
    return found


def test_keys(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Each key is the wish that the last line promises; others do nothing."""
    keys = iter(["x", "\r", " ", "e", "c", "q"])
    monkeypatch.setattr("emu.cli.step.typer.getchar", lambda: next(keys))
    screen = Screen()
    wishes = [screen(["-- panel"]) for _ in range(5)]
    assert [wish.until for wish in wishes] == [TO_PACKET, TO_PACKET, TO_EVENT, TO_DROP, TO_END]
    assert "g go to a frame" in capsys.readouterr().out


def test_a_person_at_a_terminal() -> None:
    """On a real terminal: a key shows the next packet, g asks for a frame, q leaves with exit code 0."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 60, 130, 0, 0))
    process = subprocess.Popen(
        [*EMU, "step", "five-packets"], stdin=theirs, stdout=theirs, stderr=theirs, cwd=ROOT, env=terminal()
    )
    os.close(theirs)
    try:
        shown(ours, "frame 1,")
        press(ours, b" ")
        assert "PFMEMALLOC" in shown(ours, "frame 2,")
        press(ours, b"g")
        shown(ours, "frame: ")
        os.write(ours, b"5\r")
        assert "frame 4," not in shown(ours, "frame 5,")
        press(ours, b"q")
        assert process.wait(PATIENCE_S) == 0
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def press(descriptor: int, key: bytes) -> None:
    """Press a key once the program waits for one: what is typed before is thrown away."""
    end = time.monotonic() + PATIENCE_S
    while termios.tcgetattr(descriptor)[3] & termios.ICANON and time.monotonic() < end:
        time.sleep(0.01)
    os.write(descriptor, key)


def terminal() -> dict[str, str]:
    """The environment of a terminal that can clear itself."""
    return {**os.environ, "TERM": "xterm", "COLUMNS": "130", "LINES": "60"}


def shown(descriptor: int, text: str) -> str:
    """What a terminal shows until the keys' line stands below `text`, or until `text` is a question."""
    octets = b""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        if select.select([descriptor], [], [], 0.1)[0]:
            octets += os.read(descriptor, 65_536)
        plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", octets.decode(errors="replace"))
        if text in plain and (text.endswith(": ") or "q quit" in plain.split(text)[-1]):
            return plain
    raise AssertionError(f"{text!r} was not shown: {octets[-2000:]!r}")


def test_a_capture_is_stepped_through() -> None:
    done = emu("step", NOP, "--policy", "mainline")
    assert done.code == 0, done.err
    assert done.out.startswith(f"{NOP} under mainline\n-- frame 1, 0 ms: tcp ")
    last = done.out.splitlines()[-1]
    assert re.fullmatch(r"\d+ frames: \d+ delivered, \d+ dropped", last)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["five-packet"],
            "five-packet: there is no such file, nor a scenario of that name; did you mean five-packets or live-demo?",
        ),
        (["five-packets", "--json"], "--json: emu step draws panels; emu replay and emu run print the summary as JSON"),
        (["five-packets", "--engine", "compiled"], "--engine compiled: emu step runs on the plain engine only"),
        (["five-packets", "--scenario", "a.toml"], "five-packets: is a scenario, beside --scenario a.toml"),
        ([], "Missing argument 'CAPTURE'"),
    ],
)
def test_refusals(arguments: list[str], sentence: str) -> None:
    assert sentence in refused("step", *arguments, code=2)


def test_a_story_knows_devices_that_are_inferred() -> None:
    """A frame for a VLAN that no one named: the machine makes a device for it, and the panels go on."""
    frame = kit.ether(kit.PEER_MAC, kit.HOST_MAC, kit.Raw(bytes((0, 5, 8, 0)) + kit.udp()[14:]), type=0x8100)
    lines: list[str] = []

    def ask(panel: Sequence[str]) -> Wish:
        lines.extend(panel)
        return Wish(TO_PACKET)

    played: Any = kit.played(kit.pcap(kit.paced([frame] * 3)), engine=SteppingEngine(Watcher(["eth0"], ask)))
    assert played.summary["frames"] == 3
    assert sum(line.startswith("-- frame") for line in lines) == 3


def test_in_this_process_too() -> None:
    assert emu_here("step", "five-packets").out == emu_here("step", "five-packets", "--plain").out

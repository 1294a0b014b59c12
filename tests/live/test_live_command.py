"""`emu live` as a user runs it: between two namespaces, with everything that it writes, and however it ends."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from emu_process import refused
from live_kit import blocks, result_of
from scapy.utils import RawPcapNgReader

from emu.errors import Exit
from emu.live.lab.lab import Lab
from emu.live.lab.namespaces import open_in_namespace
from emu.live.state import LiveState, read_state

pytestmark = [pytest.mark.live, pytest.mark.xdist_group("live")]
HOST, PEER = "10.77.0.2", "10.77.0.1"
EMU = [sys.executable, "-m", "emu"]
BETWEEN = [*EMU, "live", "--host-if", "emu0", "--wire-if", "emu1", "--engine", "plain"]


class Live:
    """A live run between the namespaces of a lab, from which on frames may come."""

    def __init__(self, lab: Lab, folder: Path, *options: str, names: str = "core") -> None:
        self.folder = folder
        self.host, self.world = (lab.namespace(f"{names}-{side}") for side in ("host", "world"))
        self.process = subprocess.Popen(
            [*BETWEEN, *self.places(), *("--wire-address", f"{PEER}/24"), "--for", "30s", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr
        self.said = [self.process.stderr.readline()]
        if "Ctrl-C ends it" not in self.said[0]:
            self.process.kill()
            raise AssertionError(self.said + self.process.stderr.readlines())

    def places(self) -> list[str]:
        """Where its interfaces are."""
        return ["--host-namespace", self.host, "--wire-namespace", self.world, "--host-address", f"{HOST}/24"]

    @property
    def runs(self) -> Path:
        return Path(os.environ["EMU_RUN_DIR"]) / str(self.process.pid)

    def state(self) -> LiveState:
        found = read_state(self.runs)
        assert found
        return found

    def end(self, number: signal.Signals | None = signal.SIGINT) -> str:
        """End it; what it prints."""
        if number is not None:
            self.process.send_signal(number)
        out, err = self.process.communicate(timeout=20)
        self.said += err.splitlines()
        return out

    def socket(self, namespace: str, kind: socket.SocketKind) -> socket.socket:
        made = open_in_namespace(namespace, lambda: socket.socket(socket.AF_INET, kind))
        made.settimeout(10)
        return made


@contextlib.contextmanager
def living(lab: Lab, folder: Path, *options: str) -> Iterator[Live]:
    live = Live(lab, folder, *options)
    try:
        yield live
    finally:
        if live.process.poll() is None:
            live.process.kill()
            live.process.communicate(timeout=10)


def everything(folder: Path) -> list[str]:
    """The options that write every output."""
    names = {"-w": "w.pcapng", "--log": "log.csv", "--record-events": "events", "--host-capture": "host.pcapng"}
    return ["--annotate", "all", *(word for option, name in names.items() for word in (option, str(folder / name)))]


def ping(live: Live, count: int = 3) -> subprocess.CompletedProcess[str]:
    command = ["ip", "netns", "exec", live.world, "ping", "-c", str(count), "-i", "0.05", "-W", "3", HOST]
    return subprocess.run(command, capture_output=True, text=True, timeout=20)


def some_traffic(live: Live) -> None:
    """An echo, a datagram that is read, one that nobody wants, and half a megabyte over TCP; all of it arrives."""
    answered = ping(live)
    assert answered.returncode == 0, answered.stdout + answered.stderr
    with live.socket(live.host, socket.SOCK_DGRAM) as here, live.socket(live.world, socket.SOCK_DGRAM) as there:
        here.bind((HOST, 5000))
        there.connect((HOST, 5000))
        there.send(b"hello")
        assert here.recv(100) == b"hello"
        there.connect((HOST, 5999))
        for _ in range(2):  # that there is no socket shows when the host says so: the second is dropped, and passed on
            there.send(b"nobody")
            with pytest.raises(ConnectionRefusedError):
                there.recv(100)
    octets = bytes(range(256)) * 2048
    with live.socket(live.host, socket.SOCK_STREAM) as listener, live.socket(live.world, socket.SOCK_STREAM) as there:
        listener.bind((HOST, 80))
        listener.listen()
        there.connect((HOST, 80))
        here, _ = listener.accept()
        with here:
            here.setblocking(False)
            got = bytearray()
            there.setblocking(False)
            sent = 0
            until = time.monotonic() + 20
            while len(got) < len(octets) and time.monotonic() < until:
                with contextlib.suppress(BlockingIOError):
                    sent += there.send(octets[sent : sent + 16_384])
                with contextlib.suppress(BlockingIOError):
                    got += here.recv(65_536)
            assert got == octets


def frames_of(path: Path) -> list[bytes]:
    with RawPcapNgReader(str(path)) as reader:
        return [frame for frame, _ in reader]


def test_a_run_from_its_start_to_its_recording(lab: Lab, tmp_path: Path) -> None:
    """Real stacks talk through it, its state is there while it runs, Ctrl-C ends it; its recording replays exactly."""
    with living(lab, tmp_path, "--json", "--set", "pressure.start=quiet", *everything(tmp_path)) as live:
        some_traffic(live)
        time.sleep(0.6)
        state = live.state()
        summary = json.loads(live.end())
    assert live.process.returncode == Exit.DONE, live.said
    assert (state.pid, state.host_if, state.wire_if) == (live.process.pid, "emu0", "emu1")
    assert state.emulated.other.delivered > 300
    told = summary["live"]
    assert told["survivors"] == summary["delivered"] + told["handed_on"]
    assert told["handed_on"] >= 1  # the datagram that nobody wants
    assert told["lost_outside"] == dict.fromkeys(told["lost_outside"], 0)
    assert told["buffers_read"] > 100
    assert not list(live.runs.parent.glob(f"{live.process.pid}*"))
    wire, host = frames_of(tmp_path / "w.pcapng"), frames_of(tmp_path / "host.pcapng")
    assert len(wire) == summary["frames"]
    assert len(host) == told["survivors"] + told["sent_by_host"] > 300
    check_recording(tmp_path, summary)


def check_recording(folder: Path, summary: dict[str, Any]) -> None:
    """The same verdicts, in every output."""
    again = folder / "again"
    again.mkdir()
    command = [*EMU, "replay", str(folder / "w.pcapng"), "--events", str(folder / "events"), "--engine", "plain"]
    command += ["--json", "--annotate", "all", "-w", str(again / "w.pcapng"), "--log", str(again / "log.csv")]
    replayed = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert replayed.returncode == 0, replayed.stderr
    live = {key: value for key, value in summary.items() if key != "live"}
    assert result_of(json.loads(replayed.stdout)) == result_of(live)
    assert (again / "log.csv").read_bytes() == (folder / "log.csv").read_bytes()
    assert blocks(again / "w.pcapng") == blocks(folder / "w.pcapng")


def test_in_a_crunch_only_survivors_pass(lab: Lab, tmp_path: Path) -> None:
    """A flood to a port that nobody reads: what memory refuses, the real stack has never seen."""
    options = ("--policy", "linux-2.6.12", "--set", "device.0.ring=80", "--json")
    with living(lab, tmp_path, *options, *everything(tmp_path)) as live:
        with live.socket(live.host, socket.SOCK_DGRAM) as here, live.socket(live.world, socket.SOCK_DGRAM) as there:
            here.bind((HOST, 5000))
            there.connect((HOST, 5000))
            for number in range(300):
                there.send(number.to_bytes(4, "big") * 100)
                time.sleep(0.001)
            got = []
            here.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    got.append(here.recv(1000))
        summary = json.loads(live.end())
    assert live.process.returncode == Exit.DONE, live.said
    assert summary["drops_by_reason"]["RX_MISSED"] > 100
    told = summary["live"]
    assert told["survivors"] == summary["delivered"] + told["handed_on"] < summary["received"]
    assert 0 < len(got) < 200
    survivors = [frame for frame in frames_of(tmp_path / "host.pcapng") if frame[23:24] == b"\x11" and len(frame) > 400]
    assert [frame[42:442] for frame in survivors] == got
    check_recording(tmp_path, summary)


def test_held_frames_are_told_of(lab: Lab, tmp_path: Path) -> None:
    """Where readers are emulated the user is told what they have left unread."""
    options = ("--set", "pressure.start=quiet", "--set", "readers.ordinary=never")
    with living(lab, tmp_path, *options) as live:
        with live.socket(live.host, socket.SOCK_DGRAM) as here, live.socket(live.world, socket.SOCK_DGRAM) as there:
            here.bind((HOST, 5000))
            there.connect((HOST, 5000))
            for _ in range(3):
                there.send(b"unread")
            time.sleep(0.3)
            here.setblocking(False)
            with pytest.raises(BlockingIOError):
                here.recv(100)
        printed = live.end()
    assert "held: 3 frames that no emulated reader has come for" in printed


@pytest.mark.parametrize(("start", "told"), [("crunch", 1), ("quiet", 0)])
def test_one_that_starts_short_of_memory_says_so(machine: Path, start: str, told: int) -> None:
    """Else its first user, with a ping, takes it for broken."""
    command = [*EMU, "live", "--engine", "plain", "--host-if", "emush0", "--wire-if", "emush1", "--for", "100ms"]
    ended = subprocess.run(
        [*command, "--set", f"pressure.start={start}"], capture_output=True, text=True, timeout=20, check=True
    )
    assert ended.stderr.count("starts short of memory") == told
    assert ended.stderr.count("pressure.start=quiet") == told


def test_a_promiscuous_nic_passes_on_frames_for_another_mac(lab: Lab, tmp_path: Path) -> None:
    """As where a bridge is behind the TAP, or its MAC is changed; without that they are filtered, as by a real NIC."""
    options = ("--set", "pressure.start=quiet", "--set", "device.0.promisc=true")
    with living(lab, tmp_path, *options) as live:
        subprocess.run(["ip", "-n", live.host, "link", "set", "emu0", "address", "02:00:00:00:00:99"], check=True)
        assert ping(live).returncode == 0
        live.end()


def test_a_killed_run_is_swept_by_the_next(lab: Lab, tmp_path: Path) -> None:
    """Its interfaces go with it; what it recorded of itself goes with the next run, which says so."""
    with living(lab, tmp_path) as live:
        live.end(signal.SIGKILL)
        assert live.runs.exists()
        again = [*BETWEEN, *live.places(), "--for", "100ms"]
        ended = subprocess.run(again, capture_output=True, text=True, timeout=20)
        assert ended.returncode == Exit.DONE, ended.stderr
        assert f"{live.process.pid}" in ended.stderr
        assert not live.runs.exists()


def test_an_interface_that_goes_ends_it(lab: Lab, tmp_path: Path) -> None:
    """In one line, with files that are whole and say so."""
    with living(lab, tmp_path, "--set", "pressure.start=quiet", *everything(tmp_path)) as live:
        assert ping(live).returncode == 0
        subprocess.run(["ip", "-n", live.host, "link", "delete", "emu0"], check=True)
        live.end(None)
    assert live.process.returncode == Exit.CAPTURE
    assert [line for line in live.said[1:] if line.startswith("emu: ")] == [
        "emu: interface emu0 has gone; outputs are closed and say so"
    ]
    assert len(frames_of(tmp_path / "w.pcapng")) >= 6
    assert b"interface emu0 has gone" in (tmp_path / "w.pcapng").read_bytes()


REFUSED = (
    (["--host-if", "much-too-long-a-name"], "much-too-long-a-name"),
    (["--host-if", "emu9", "--wire-if", "emu9"], "emu9"),
    (["--host-namespace", "nobody-made-this"], "nobody-made-this"),
    (["-w", "/nonexistent/w.pcapng"], "/nonexistent"),
    (["--set", "machine.nonsense=1"], "machine.nonsense"),
    (["--set", "device.0.name=eth0", "--set", "device.1.name=eth1"], "one [[device]]"),
    (["--scenario", "recovery"], "closed loop"),
    (["--set", 'replay.flood=["udp:pps=1k"]'], "replay.flood"),
    (["--scenario", "no-such-scenario"], "no-such-scenario"),
    (["--policy", "nonsense"], "nonsense"),
    (["--for", "0s"], "--for 0s"),
    (["--for", "soon"], "--for"),
    (["--awake", "soon"], "--awake"),
    (["--engine", "steam"], "--engine"),
    (["--expect", "nonsense"], "nonsense"),
    (["--log", "-"], "standard output"),
    (["-w", "-", "--json"], "standard output"),
    (["--host-address", "10.77.0.999/24"], "10.77.0.999"),
    (["-w", "/nonexistent/../twice.pcapng", "--host-capture", "/twice.pcapng"], "asked for twice"),
)


@pytest.mark.parametrize(
    ("options", "said"), REFUSED, ids=lambda value: "" if isinstance(value, str) else " ".join(value)
)
def test_what_cannot_be_is_refused_in_one_line(machine: Path, options: list[str], said: str) -> None:
    """And nothing is left behind."""
    before = set(Path("/sys/class/net").iterdir())
    assert said in refused("live", "--engine", "plain", "--for", "1s", *options, code=Exit.USAGE)
    assert set(Path("/sys/class/net").iterdir()) == before
    assert not list(machine.glob("*"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--limit", "soon"], "--limit 'soon'"),
        (["--limit", "1h"], "--limit 3600s: more than 0 s and at most 600 s"),
        (["--for", "0s"], "--for 0s"),
        (["--policies", " , "], "--policies names none"),
        (["--policies", "linux-9"], "--policies: 'linux-9'"),
    ],
    ids=lambda value: "" if isinstance(value, str) else " ".join(value),
)
def test_a_demonstration_that_cannot_be_is_refused_in_one_line(machine: Path, options: list[str], said: str) -> None:
    """By the option's own name."""
    assert said in refused("live", "demo", *options, code=Exit.USAGE)

"""The two roads that `live.py` compares, between the same two namespaces: a veth pair, and `emu live`."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from measure import ROOT, BenchError

from emu.live.lab.lab import Lab, open_in_namespace
from emu.live.state import LiveState, read_state, run_folder

ENDS = ROOT / "tools" / "bench" / "live_ends.py"
SCENARIO = ROOT / "tools" / "bench" / "live.toml"
PATIENCE_S = 120.0  # for what is started: a first emu live compiles
GLANCE_S = 0.01
STATE_S = 0.6  # emu live tells its state four times a second: after so long twice
CONGESTION = "cubic"  # bbr, which some machines choose by themselves, paces by timers
FIRST_PORT = 4000
RX_PACKETS = 1  # the column of /proc/net/dev


class Road(NamedTuple):
    """A way from the peer to the host, by the addresses and the host's interface."""

    network: str
    peer: str
    host: str
    peer_if: str
    host_if: str


VETH = Road("10.78.0.0/24", "10.78.0.1", "10.78.0.2", "benchvp", "benchvh")
WIRE = Road("10.79.0.0/24", "10.79.0.1", "10.79.0.2", "benchwp", "benchwh")


class Variant(NamedTuple):
    """How `emu live` is asked for."""

    name: str
    about: str
    settings: Sequence[str] = ()
    files: bool = False  # the annotated capture and the event stream are written
    awake: str = "100us"  # as is usual


VARIANTS = (
    Variant("bare", "emu live, no file"),
    Variant("asleep", "emu live --awake 0s, no file", awake="0s"),
    Variant("files", "emu live -w --record-events", files=True),
    Variant("readers", "emu live, real readers", settings=("readers.ordinary=real",)),
    Variant("all", "emu live -w --record-events, real readers", settings=("readers.ordinary=real",), files=True),
)


def cpu_ns(pid: int) -> int:
    """What a process of one thread has had of a core.  Source: /proc/PID/schedstat."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0])


class Wire:
    """A running `emu live`."""

    def __init__(self, process: "subprocess.Popen[bytes]", said: Path) -> None:
        """It is starting."""
        self.pid = process.pid
        self._process = process
        self._said = said

    def wait(self) -> None:
        """Until frames may come.  Errors: BenchError with its last words."""
        until = time.monotonic() + PATIENCE_S
        while self._state() is None:
            if self._process.poll() is not None or time.monotonic() > until:
                raise BenchError(f"emu live did not start: {self._said.read_text(errors='replace').strip()[-300:]}")
            time.sleep(GLANCE_S)

    def _state(self) -> LiveState | None:
        return read_state(run_folder() / str(self.pid))

    def state(self) -> LiveState:
        """How it stands, with all that has been sent before."""
        time.sleep(STATE_S)
        found = self._state()
        if found is None:
            raise BenchError(f"emu live has ended: {self._said.read_text(errors='replace').strip()[-300:]}")
        return found

    def end(self) -> None:
        """As Ctrl-C does.  Errors: BenchError when it fails."""
        self._process.send_signal(signal.SIGINT)
        if self._process.wait(timeout=60) != 0:
            raise BenchError(f"emu live failed: {self._said.read_text(errors='replace').strip()[-300:]}")


class Ground:
    """Both namespaces, the veth pair between them, and the programs at their ends."""

    def __init__(self, lab: Lab, folder: Path, engine: str) -> None:
        """Make them."""
        self.lab, self.folder, self.engine = lab, folder, engine
        self.peer, self.host = lab.namespace("peer"), lab.namespace("host")
        ends = (VETH.peer_if, VETH.host_if)
        lab.veth(*ends, namespaces=(self.peer, self.host), addresses=(f"{VETH.peer}/24", f"{VETH.host}/24"))
        self._congestion(VETH)
        self._statistics = open_in_namespace(self.host, lambda: os.open("/proc/thread-self/net/dev", os.O_RDONLY))
        self._count, self._port = 0, FIRST_PORT

    def _congestion(self, road: Road) -> None:
        for namespace, device in ((self.peer, road.peer_if), (self.host, road.host_if)):
            self.lab.route_congestion(namespace, road.network, device, CONGESTION)

    def host_packets(self, road: Road) -> int:
        """Packets that the host's interface of a road has received."""
        wanted = road.host_if.encode() + b":"
        for line in os.pread(self._statistics, 1 << 16, 0).splitlines():
            if line.lstrip().startswith(wanted):
                return int(line.partition(b":")[2].split()[RX_PACKETS])
        raise BenchError(f"interface {road.host_if} has gone")

    @contextmanager
    def wire(self, variant: Variant) -> Iterator[Wire]:
        """A running `emu live`, until the block ends."""
        options = ["--host-if", WIRE.host_if, "--host-namespace", self.host, "--host-address", f"{WIRE.host}/24"]
        options += ["--wire-if", WIRE.peer_if, "--wire-namespace", self.peer, "--wire-address", f"{WIRE.peer}/24"]
        options += [
            "--scenario",
            str(SCENARIO),
            "--engine",
            self.engine,
            "--for",
            "5min",
            "--awake",
            variant.awake,
            "--json",
        ]
        options += [word for setting in variant.settings for word in ("--set", setting)]
        if variant.files:
            options += ["-w", str(self.folder / "wire.pcapng"), "--record-events", str(self.folder / "events")]
        said = self.folder / "said"
        with said.open("wb") as errors:
            process = self.lab.spawn(
                [sys.executable, "-m", "emu", "live", *options],
                name="wire",
                stdout=subprocess.DEVNULL,
                stderr=errors,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stop=signal.SIGINT,
            )
        wire = Wire(process, said)
        try:
            wire.wait()
            self._congestion(WIRE)
            yield wire
            wire.end()
        finally:
            end_now(process)
            for name in ("wire.pcapng", "events"):
                (self.folder / name).unlink(missing_ok=True)

    def next_port(self) -> int:
        """One that nobody has used: the emulated machine remembers whose datagrams were answered as unreachable."""
        self._port += 1
        return self._port

    def start(self, at_host: bool, end: str, *words: object) -> "End":
        """A program of `live_ends.py` that is ready."""
        self._count += 1
        said = self.folder / f"end{self._count}"
        with said.open("wb") as output:
            process = self.lab.spawn(
                [sys.executable, str(ENDS), end, *map(str, words)],
                name=end,
                namespace=self.host if at_host else self.peer,
                stdout=output,
                stderr=output,
            )
        return End(process, said, end)


class End:
    """A program at one end of a road."""

    def __init__(self, process: "subprocess.Popen[bytes]", said: Path, name: str) -> None:
        """Wait until it is ready.  Errors: BenchError with its last words."""
        self._process, self._said, self._name = process, said, name
        until = time.monotonic() + 10
        while not said.read_bytes().startswith(b"ready\n"):
            if process.poll() is not None or time.monotonic() > until:
                raise self._failed()
            time.sleep(GLANCE_S)

    def _failed(self) -> BenchError:
        lines = self._said.read_text(errors="replace").strip().splitlines()
        return BenchError(f"{self._name} failed: {lines[-1] if lines else 'it said nothing'}")

    def result(self, stop: bool = False) -> dict[str, Any]:
        """What it counted; `stop` asks it to end.  Errors: BenchError when it failed."""
        if stop:
            self._process.send_signal(signal.SIGTERM)
        try:
            if self._process.wait(timeout=60) != 0:
                raise self._failed()
        except subprocess.TimeoutExpired:
            end_now(self._process)
            raise BenchError(f"{self._name} did not end") from None
        found: dict[str, Any] = json.loads(self._said.read_text().splitlines()[-1])
        self._said.unlink()
        return found


def end_now(process: "subprocess.Popen[bytes]") -> None:
    """Whatever it is doing."""
    with suppress(ProcessLookupError):
        process.kill()
    process.wait()

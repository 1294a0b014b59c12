"""A live run without root: socket pairs stand for the interfaces, and each of its rounds is played when a test says so.

With `scripted` the clock is the test's own too, so that two runs of one script are the same to the byte.
"""

import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from replay_kit import HOST_MAC, PLAIN

from emu.cli.options import ReplayCommand
from emu.engine.plain import Engine
from emu.live import live_run, serve, wire
from emu.live.live_run import Happening, LiveRun
from emu.live.session import USUAL
from emu.live.system import wait_readable
from emu.live.warm import joined
from emu.request import inputs_of, outputs_of
from emu.runs import Run, run_once
from emu.scenario_file import load_scenario
from emu.task import Outcome, Outputs, Task
from emu.traffic.host import Host, mac_number
from emu.verdicts.summary import summarise

MS = 1_000_000
CLOCK_STEP_NS = 700  # what each look at a scripted clock takes
AT_ONCE = 8  # frames that a socket pair holds in any case


class Script:
    """What happens outside of a run, when the test says so; an `Outside`."""

    def __init__(self) -> None:
        self.coming: list[Happening] = []

    def look(self, _machine: Any) -> list[Happening]:
        came, self.coming = self.coming, []
        return came


class Ended(NamedTuple):
    """What is left of a live run."""

    outcome: Outcome
    summary: dict[str, Any]
    wire: Any
    folder: Path

    @property
    def result(self) -> dict[str, Any]:
        """As `result_of`."""
        return result_of(self.summary)


def result_of(summary: Mapping[str, Any]) -> dict[str, Any]:
    """The summary without what it costs to make it, where the frames come from, and who says who the host is."""
    of_play = ("run", "capture", "input", "inputs", "host", "hosts", "expectations")
    found = {key: value for key, value in summary.items() if key not in of_play}
    found["assumptions"] = [said for said in summary["assumptions"] if not said.startswith("the host is ")]
    return found


class Played:
    """A live run in progress; what either side has got of it lies in `host_got` and `wire_got`."""

    def __init__(self, run: LiveRun, script: Script, far: tuple[socket.socket, socket.socket], folder: Path) -> None:
        self.run = run
        self.machine = run.machine
        self.script = script
        self.host, self.towards = far
        self.folder = folder
        self.host_got: list[bytes] = []
        self.wire_got: list[bytes] = []
        self.sent: list[bytes] = []  # by both sides

    @property
    def wire_frames(self) -> int:
        """How many frames have been read."""
        return int(self.run.wire.frames)

    def from_wire(self, *frames: bytes) -> None:
        """Frames that come from the wire; no more than AT_ONCE before the next round."""
        self._send(self.towards, frames)

    def from_host(self, *frames: bytes) -> None:
        """Frames that the host sends; no more than AT_ONCE before the next round."""
        self._send(self.host, frames)

    def _send(self, end: socket.socket, frames: Sequence[bytes]) -> None:
        for frame in frames:
            assert end.send(frame) == len(frame)
            self.sent.append(frame)

    def happen(self, *happened: Happening) -> None:
        """What is seen at the next look."""
        self.script.coming += happened

    def rounds(self, count: int = 1) -> None:
        """Play so many rounds."""
        for _ in range(count):
            self.run._round()
            self.take()

    def take(self) -> None:
        """Take what has come out at both ends."""
        for end, got in ((self.host, self.host_got), (self.towards, self.wire_got)):
            while True:
                try:
                    got.append(end.recv(1 << 17))
                except BlockingIOError:
                    break

    def end(self) -> Ended:
        """End it as a signal does."""
        with self.run.stack:
            self.run._end()
            self.run._close_outputs(None)
        self.take()
        outcome = self.run._outcome()
        return Ended(outcome, summarise(outcome), self.run.wire, self.folder)


@contextmanager
def playing(
    folder: Path,
    *,
    engine: Engine = PLAIN,
    policy: str = "phillips-v5",
    settings: Mapping[str, Any] | None = None,
    batch: int = 0,
    log: str = "log.csv",
    outside: Sequence[Any] = (),
) -> Iterator[Played]:
    """A live run between socket pairs, with every output, in a folder."""
    scenario = load_scenario(None, {"policy.name": policy} | dict(settings or {}), usual=USUAL)
    outputs = Outputs(str(folder / "w.pcapng"), "all", str(folder / log), "all", str(folder / "events.jsonl"))
    task = Task(scenario, "test", outputs=outputs)
    script = Script()
    with joined(engine) as (between, host, towards):
        run = LiveRun(
            task._replace(batch=batch) if batch else task,
            engine,
            between,
            Host(mac_number(HOST_MAC), True, "the interface that faces it"),
            outside=[script, *outside],
            host_capture=str(folder / "host.pcapng"),
        )
        with run.stack:
            yield Played(run, script, (host, towards), folder)


class ScriptedClock:
    """A clock that goes on when it is looked at, and when a run waits in vain."""

    def __init__(self) -> None:
        self.now_ns = 1_000_000_000

    def clock_ns(self) -> int:
        self.now_ns += CLOCK_STEP_NS
        return self.now_ns

    def wait(self, one: int, other: int, timeout_ns: int) -> int:
        found = wait_readable(one, other, 0)
        if found == 0:
            self.now_ns += timeout_ns
        return found


@contextmanager
def scripted() -> Iterator[ScriptedClock]:
    """While a plain live run has a clock of the test's own; compiled code has the system's."""
    clock = ScriptedClock()
    clocks = SimpleNamespace(
        monotonic_ns=clock.clock_ns, perf_counter=time.perf_counter, process_time=time.process_time
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wire, "clock_ns", clock.clock_ns)
        patch.setattr(serve, "clock_ns", clock.clock_ns)
        patch.setattr(serve, "wait_readable", clock.wait)
        patch.setattr(live_run, "time", clocks)
        yield clock


def replayed(folder: Path, into: Path, *, engine: str = "plain", log: str = "log.csv", **options: Any) -> Run:
    """The recording of a live run in a folder, as `emu replay CAPTURE --events STREAM` plays it into another."""
    into.mkdir(exist_ok=True)
    command = ReplayCommand(
        capture=[str(folder / "w.pcapng")],
        events=str(folder / "events.jsonl"),
        write=str(into / "w.pcapng"),
        annotate="all",
        log=str(into / log),
        engine=engine,
        **options,
    )
    said: list[str] = []
    run = run_once(command, inputs_of(command), outputs_of(command), lambda _task: nullcontext(), said.append)
    assert said == []
    return run


def check_replay(ended: Ended, into: Path, *, engine: str = "plain") -> Run:
    """Replay a recording, with nothing else given, and hold it against the live run: the same, to the byte."""
    run = replayed(ended.folder, into, engine=engine)
    assert result_of(run.printed()) == ended.result
    assert (into / "log.csv").read_bytes() == (ended.folder / "log.csv").read_bytes()
    assert blocks(into / "w.pcapng") == blocks(ended.folder / "w.pcapng")
    return run


def blocks(path: Path) -> list[bytes]:
    """The blocks of a capture behind its section header, which names whoever wrote it."""
    octets, found, at = path.read_bytes(), [], 0
    while at < len(octets):
        size = int.from_bytes(octets[at + 4 : at + 8], "little")
        found.append(octets[at : at + size])
        at += size
    return found[1:]


def until(what: Callable[[], bool], played: Played, rounds: int = 200) -> None:
    """Play rounds until something holds."""
    for _ in range(rounds):
        if what():
            return
        played.rounds()
    assert what()

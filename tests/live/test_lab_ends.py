"""However a live run ends, nothing that it made stays, and nothing else goes."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from emu.errors import UsageError
from emu.live.lab.children import start_time
from emu.live.lab.lab import Lab, sweep
from emu.live.state import SharedWords

pytestmark = pytest.mark.live
RESIDENT = Path(__file__).parent / "resident.py"
SWEEPER = "from emu.live.lab.lab import sweep\nprint(*sweep(), sep='\\n')"


class Resident:
    """A run of resident.py."""

    def __init__(self, how: str) -> None:
        # Not a pipe: what outlives it would hold that open.
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, str(RESIDENT), how], stdout=subprocess.PIPE, stderr=self._errors, text=True
        )
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert line, self.ended() or self.err
        self.said: dict[str, Any] = json.loads(line)
        self.pid: int = self.said["pid"]

    def ended(self) -> int:
        self.out = self.process.communicate(timeout=10)[0]
        self._errors.seek(0)
        self.err = self._errors.read()
        return self.process.returncode

    def left(self) -> set[str]:
        """What is there of it."""
        pid = self.pid
        names = subprocess.run(["ip", "-o", "link"], capture_output=True, check=True, text=True).stdout
        links = {f"{kind}{pid}"[:15] for kind in "hrab"}
        here = {line.split(": ")[1].partition("@")[0] for line in names.splitlines()} & links
        spaces = {path.name for path in Path("/run/netns").glob(f"emu-{pid}-*")}
        programs = {f"process {program}" for program in self.said["programs"] if start_time(program)}
        folder = {"folder"} if Path(self.said["folder"]).exists() else set()
        return here | spaces | programs | folder

    def all(self) -> set[str]:
        """What is there of it while it runs; one TAP is in a namespace."""
        links = {f"{kind}{self.pid}"[:15] for kind in "rab"}
        spaces = {f"emu-{self.pid}-{name}" for name in ("host", "world")}
        return links | spaces | {f"process {program}" for program in self.said["programs"]} | {"folder"}


@contextlib.contextmanager
def resident(how: str) -> Iterator[Resident]:
    made = Resident(how)
    try:
        yield made
    finally:
        if made.process.poll() is None:
            made.process.kill()
        made.process.communicate(timeout=10)
        made._errors.close()


def soon(what: Any, seconds: float = 5.0) -> bool:
    until = time.monotonic() + seconds
    while not what():
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True


@pytest.mark.parametrize(("how", "code"), [("leave", 0), ("raise", 1), ("exit", 7)])
def test_nothing_stays_when_a_run_ends_by_itself(machine: Path, how: str, code: int) -> None:
    with resident(how) as run:
        assert run.ended() == code
        assert run.left() == set()
        assert ("ValueError: as it was told" in run.err) == (how == "raise")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_nothing_stays_when_a_run_is_stopped(machine: Path, number: signal.Signals) -> None:
    with resident("wait") as run:
        assert run.left() == run.all()
        run.process.send_signal(number)
        assert run.ended() == -signal.SIGINT  # as Python ends by a KeyboardInterrupt that nobody takes
        assert run.left() == set()


def test_a_second_signal_does_not_disturb_the_taking_down(machine: Path) -> None:
    with resident("wait") as run:
        run.process.send_signal(signal.SIGTERM)
        for _ in range(20):  # the deaf program takes it a second
            time.sleep(0.02)
            run.process.send_signal(signal.SIGINT)
        assert run.ended() == -signal.SIGINT
        assert run.left() == set()


@pytest.mark.parametrize("after_seconds", [0.0, 0.005, 0.015, 0.03, 0.06])
def test_nothing_stays_when_a_run_is_stopped_while_it_makes_things(machine: Path, after_seconds: float) -> None:
    with resident("slowly") as run:
        time.sleep(after_seconds)
        run.process.send_signal(signal.SIGINT)
        assert run.ended() == -signal.SIGINT, run.err
        assert run.left() == set()


def test_nothing_stays_when_a_program_of_the_run_dies(machine: Path) -> None:
    with resident("child") as run:
        os.kill(run.said["programs"][0], signal.SIGKILL)
        assert run.ended() == 0
        assert run.left() == set()


def test_a_fork_of_a_run_takes_nothing_down(machine: Path) -> None:
    with resident("fork") as run:
        assert run.ended() == 0
        assert run.out == "true\n"
        assert run.left() == set()


def test_what_a_killed_run_left_is_removed_by_the_next(machine: Path) -> None:
    with resident("wait") as run:
        run.process.kill()
        run.ended()
        plain, deaf, grandchild = run.said["programs"]
        assert soon(lambda: not start_time(plain) and not start_time(deaf))  # they die with it
        assert f"r{run.pid}"[:15] not in run.left()  # a TAP goes with its descriptor
        assert {f"a{run.pid}"[:15], f"emu-{run.pid}-host", f"emu-{run.pid}-world", "folder"} <= run.left()
        (said,) = sweep()
        assert said.startswith(f"a run that died (process {run.pid}) had left ")
        assert f"emu-{run.pid}-host" in said
        assert f"process {grandchild}" in said
        assert soon(lambda: run.left() == set()), run.left()
        assert sweep() == []


def test_runs_at_once_do_not_disturb_each_other(machine: Path) -> None:
    with resident("wait") as first, resident("wait") as second:
        assert sweep() == []
        with Lab() as third:
            third.namespace("host")
        second.process.send_signal(signal.SIGTERM)
        second.ended()
        assert second.left() == set()
        assert first.left() == first.all()
        first.process.send_signal(signal.SIGTERM)
        first.ended()
        assert first.left() == set()


def test_sweeps_at_once_do_not_fail_and_tell_each_thing_once(machine: Path) -> None:
    runs = []
    for _ in range(3):
        with resident("wait") as run:
            runs.append(run)
    sweepers = [
        subprocess.Popen([sys.executable, "-c", SWEEPER], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    said = []
    for sweeper in sweepers:
        out, err = sweeper.communicate(timeout=20)
        assert (sweeper.returncode, err) == (0, "")
        said += out.split("\n")
    for run in runs:
        assert len([line for line in said if f"(process {run.pid}) had left" in line]) == 1
        assert soon(lambda run=run: run.left() == set()), run.left()


def test_a_run_takes_the_folder_of_a_dead_one_that_had_its_number(machine: Path) -> None:
    with Lab() as first:
        record = (first.folder / "made.json").read_text()
    stale = json.loads(record)
    stale["start_ticks"] -= 1
    first.folder.mkdir(mode=0o700)
    (first.folder / "made.json").write_text(json.dumps(stale))
    with Lab() as second:
        assert (second.folder / "made.json").read_text() == record


def test_files_of_others_in_the_folder_go_with_it(lab: Lab) -> None:
    assert lab.folder.stat().st_mode & 0o777 == 0o700
    words = SharedWords(lab.folder / "words")
    (lab.folder / "logs").mkdir()
    (lab.folder / "logs" / "tgtd").write_text("x")
    lab.close()
    words.close()
    assert not lab.folder.exists()
    lab.close()


def test_what_somebody_else_removed_already_is_no_error(machine: Path) -> None:
    with Lab() as lab:
        name = lab.namespace("host")
        tap = lab.tap("emuh0", namespace=name)
        program = lab.spawn(["sleep", "60"], name="sleeper", namespace=name)
        subprocess.run(["ip", "netns", "delete", name], check=True)
        tap.close()
        tap.close()
        assert tap.lost_frames() == 0
        os.kill(program.pid, signal.SIGKILL)
        program.wait()


def test_what_stays_is_told_and_left_to_the_next_run(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import emu.live.lab.stale

    def refuse(name: str) -> bool:
        raise PermissionError(1, "Operation not permitted")

    with monkeypatch.context() as patch:
        patch.setattr(emu.live.lab.stale, "remove_namespace", refuse)
        with pytest.raises(UsageError, match=r"namespace emu-\d+-host \(Operation not permitted\)"), Lab() as lab:
            host = lab.namespace("host")
    assert sweep() == []  # its process is alive: nobody else takes it down
    with pytest.raises(UsageError, match="exists already"):
        Lab().__enter__()
    record = lab.folder / "made.json"
    record.write_text(record.read_text().replace('"start_ticks":', '"start_ticks":1', 1))
    (said,) = sweep()
    assert host in said
    assert not Path("/run/netns", host).exists()


def test_what_stays_does_not_hide_the_first_error(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import emu.live.lab.lab

    monkeypatch.setattr(emu.live.lab.lab, "take_down", lambda made: ([], ["namespace x (no)"]))
    with pytest.raises(ValueError, match="the first") as first, Lab():
        raise ValueError("the first")
    assert "namespace x (no)" in first.value.__notes__[0]

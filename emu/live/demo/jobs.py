"""A program that a run has started: whether it is at work, what it said, what came of it."""

import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from emu.errors import UsageError
from emu.live.demo.programs.ending import READY
from emu.live.lab.lab import Lab

Wait = Callable[[Callable[[], bool], float], bool]  # until this holds, so many seconds at most; whether it did

START_SECONDS = 5.0
END_SECONDS = 2.0

T = TypeVar("T")


class Job:
    """A child of a lab, with its outputs in files of the lab's folder."""

    def __init__(
        self,
        lab: Lab,
        name: str,
        argv: Sequence[str],
        *,
        namespace: str = "",
        stop: signal.Signals = signal.SIGTERM,
        env: Mapping[str, str] | None = None,
    ) -> None:
        """Start it."""
        self.name = name
        self._out = lab.folder / f"{name}.out"
        self._err = lab.folder / f"{name}.err"
        self._stop = stop
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process: subprocess.Popen[bytes] = lab.spawn(
                list(argv), name=name, namespace=namespace, stdout=out, stderr=err, env=env, stop=stop
            )

    @property
    def lives(self) -> bool:
        """It has not ended."""
        return self.process.poll() is None

    def require(self, ready: Callable[[], bool], wait: Wait, seconds: float = START_SECONDS) -> None:
        """Wait until it is at work.

        Errors: UsageError with what it said last, when it has ended or takes too long.
        """
        wait(lambda: ready() or not self.lives, seconds)
        if ready():
            return
        happened = "takes too long to start" if self.lives else f"ended with {_code(self.process.returncode)}"
        raise UsageError(f"{self.name} {happened}: {self.last_words() or 'it said nothing'}")

    def ended_early(self) -> str:
        """How it ended, and what it said last; for one that was to go on."""
        return f"ended early with {_code(self.process.returncode)}: {self.last_words() or 'it said nothing'}"

    def says_ready(self) -> bool:
        """One of our own programs has told that it is at work."""
        return any(line == READY for line in self._said(self._out))

    def last_words(self) -> str:
        """The last line that it wrote on standard error."""
        lines = [line.strip() for line in self._said(self._err) if line.strip()]
        return lines[-1] if lines else ""

    def output(self) -> bytes:
        """All that it wrote on standard output."""
        return self._out.read_bytes()

    def result(self, kind: type[T]) -> T | None:
        """What one of our own programs told at its end; None when it was killed before it could."""
        lines = [line for line in self._said(self._out) if line.strip() and line != READY]
        try:
            return msgspec.json.decode(lines[-1].encode(), type=kind) if lines else None
        except msgspec.MsgspecError:
            return None

    def end(self, wait: Wait, seconds: float = END_SECONDS) -> None:
        """Tell it to end, and kill it when it has not done so in time."""
        if self.lives:
            self.process.send_signal(self._stop)
            wait(lambda: not self.lives, seconds)
        if self.lives:
            self.process.kill()
        self.process.wait()

    @staticmethod
    def _said(path: Path) -> list[str]:
        return path.read_text(errors="replace").splitlines()


def _code(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"code {code}"


def program(name: str, *options: object) -> list[str]:
    """The command of one of our own programs."""
    return [sys.executable, "-m", f"emu.live.demo.programs.{name}", *(str(option) for option in options)]

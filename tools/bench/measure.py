"""Runs of other programs, timed: pinned to cores, ended when we are, and what they took of memory."""

import contextlib
import os
import shutil
import statistics
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, NamedTuple

ROOT = Path(__file__).parent.parent.parent


class BenchError(Exception):
    """What was to be measured did not run: one line."""


class Run(NamedTuple):
    """One run of a program."""

    wall_s: float
    peak_mib: float
    out: bytes
    err: str


@dataclass
class Cores:
    """Which cores programs are pinned to."""

    usable: list[int] = field(default_factory=lambda: sorted(os.sched_getaffinity(0)))

    def first(self, count: int) -> set[int]:
        """The cores that a measured program gets."""
        return set(self.usable[:count])

    def other(self) -> set[int]:
        """Where what feeds a measured program runs: not beside it, if there is another core."""
        return set(self.usable[1:]) or set(self.usable)


@contextlib.contextmanager
def pinned(cores: set[int]) -> Iterator[None]:
    """Children that are started here inherit these cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def run(
    command: Sequence[str],
    cores: set[int],
    stdin: IO[bytes] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Run:
    """Run a program to its end on these cores.

    Errors: BenchError with its last words when it fails.  The peak is what the kernel counts (ru_maxrss), which
    begins with what we are when it starts: so this process stays small.
    """
    if shutil.which(command[0]) is None:
        raise BenchError(f"{command[0]} is missing")
    started = time.perf_counter()
    with pinned(cores):
        child = subprocess.Popen(
            command,
            stdin=stdin or subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=ROOT,
            env={**os.environ, **(environment or {})},
        )
    with ended(child):
        out, err = child.stdout, child.stderr
        assert out is not None
        assert err is not None
        # Both are short: a summary and a few sentences, which pipes hold.
        said, errors = out.read(), err.read().decode(errors="replace").strip()
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        wall_s = time.perf_counter() - started
    if child.returncode:
        raise BenchError(f"{' '.join(command[:6])} ... ended with {child.returncode}: {errors[-300:]}")
    return Run(wall_s, usage.ru_maxrss / 1024, said, errors)


@contextlib.contextmanager
def ended(child: "subprocess.Popen[bytes]") -> Iterator[None]:
    """Whatever happens here, the child does not outlive it."""
    try:
        yield
    except BaseException:
        child.kill()
        child.wait()
        raise
    finally:
        for stream in (child.stdout, child.stderr):
            if stream is not None:
                stream.close()


@contextlib.contextmanager
def fed_by(commands: Sequence[Sequence[str]], cores: set[int]) -> Iterator[IO[bytes]]:
    """The output of a pipeline of programs, to be another one's input."""
    children: list[subprocess.Popen[bytes]] = []
    with contextlib.ExitStack() as ending:
        output = None
        for command in commands:
            with pinned(cores):
                child = subprocess.Popen(command, stdin=output or subprocess.DEVNULL, stdout=subprocess.PIPE, cwd=ROOT)
            ending.callback(child.wait)
            ending.callback(child.kill)
            if output is not None:
                output.close()
            output = child.stdout
            children.append(child)
        assert output is not None
        yield output
        output.close()
        for child in children:
            if child.wait() != 0:
                raise BenchError(f"what feeds emu ended with {child.returncode}")


class Timed(NamedTuple):
    """A short and a long run of one command on inputs of one kind."""

    short: Run
    long: Run
    short_packets: int
    long_packets: int

    @property
    def more_s(self) -> float:
        """What the packets took that the long input has more than the short one."""
        return self.long.wall_s - self.short.wall_s

    def check(self) -> None:
        """A BenchError where the start hides what the packets take."""
        if self.more_s <= 0:
            raise BenchError("the long input took no longer than the short one (--packets further apart)")

    @property
    def per_s(self) -> float:
        """Packets per second without the start."""
        return (self.long_packets - self.short_packets) / self.more_s

    @property
    def whole_per_s(self) -> float:
        """Packets per second of the whole process, start included."""
        return self.long_packets / self.long.wall_s


class Spread(NamedTuple):
    """A figure of each round: their median and range."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Of one figure per round."""
        return cls(statistics.median(values), min(values), max(values))

"""Programs that a live run starts: they never outlive it."""

import contextlib
import ctypes
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emu.errors import UsageError
from emu.live.lab.namespaces import NAMES, open_in_namespace

PR_SET_PDEATHSIG = 1  # linux/prctl.h
PATIENCE_SECONDS = 1.0  # from the stop signal to SIGKILL
KILLED_SECONDS = 5.0  # from SIGKILL to the end
GLANCE_SECONDS = 0.01


@dataclass(frozen=True)
class Child:
    """A program of the run, and the signal that asks it to end."""

    name: str
    process: "subprocess.Popen[bytes]"
    stop: signal.Signals


def start_time(pid: int) -> int:
    """When a process was started, in clock ticks since the boot; 0 when there is none (or it is a zombie).

    With its number it names a process for good: numbers are used again.  Source: proc_pid_stat(5), field 22.
    """
    fields = _stat(pid)
    return int(fields[19]) if fields else 0


def in_sessions(sessions: Sequence[int], namespaces: Sequence[str]) -> list[int]:
    """Processes of these sessions that are in one of these namespaces.

    For what programs of a dead run have started in their turn; a session's number alone may be another's by now.
    """
    inodes = {(NAMES / name).stat().st_ino for name in namespaces if (NAMES / name).exists()}
    found = []
    for folder in Path("/proc").iterdir():
        fields = _stat(int(folder.name)) if folder.name.isdecimal() else []
        if fields and int(fields[3]) in sessions:
            with contextlib.suppress(OSError):
                if (folder / "ns/net").stat().st_ino in inodes:
                    found.append(int(folder.name))
    return found


def _stat(pid: int) -> list[bytes]:
    """The fields of /proc/PID/stat from the state on; none when there is no such process, or it is a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return []
    fields = stat[stat.rindex(b")") + 2 :].split()  # a program's name may hold anything
    return [] if fields[0] in (b"Z", b"X") else fields


def start(
    argv: Sequence[str | Path], *, namespace: str, stdout: Any, stderr: Any, env: Mapping[str, str] | None
) -> "subprocess.Popen[bytes]":
    """Start a program in a namespace and in a session of its own, so that Ctrl-C reaches emu alone.

    It is killed when this process ends, however that is.  The kernel does so when the *thread* that started it ends:
    so only the main thread may.  Errors: UsageError when it cannot be started.
    """
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("a live run starts its programs in the main thread: they end with the thread")
    dies_with_us = _dies_with(os.getpid())

    def run() -> "subprocess.Popen[bytes]":
        return subprocess.Popen(  # noqa: S603
            [os.fspath(word) for word in argv],
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            env=None if env is None else dict(env),
            start_new_session=True,
            preexec_fn=dies_with_us,
        )

    try:
        return open_in_namespace(namespace, run)
    except FileNotFoundError as error:
        raise UsageError(f"{argv[0]}: there is no such program here: install it") from error
    except OSError as error:
        raise UsageError(f"{argv[0]} cannot be started: {error.strerror}") from error


def _dies_with(parent: int) -> Callable[[], None]:
    prctl = ctypes.CDLL(None).prctl  # found before the fork: afterwards as little as possible is done

    def ask() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it has ended before it was asked
            os._exit(1)

    return ask


def end(children: Sequence[Child]) -> list[str]:
    """End programs, the last started first: they are asked, and what stays is killed, with all they started.

    What even SIGKILL does not end (the kernel holds it), is told.
    """
    for child in reversed(children):
        if not _has_ended(child):
            _signal(child, child.stop)
    until = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < until and not all(_has_ended(child) for child in children):
        time.sleep(GLANCE_SECONDS)
    for child in children:
        # The leader is not reaped yet, so its number, and that of its group, is still its own.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if child.process.returncode is None:
                os.killpg(child.process.pid, signal.SIGKILL)
    stays = []
    for child in children:
        try:
            child.process.wait(KILLED_SECONDS)
        except subprocess.TimeoutExpired:
            stays.append(f"program {child.name} (process {child.process.pid} does not end)")
    return stays


def _has_ended(child: Child) -> bool:
    """Whether it has ended; it is not reaped by this."""
    if child.process.returncode is not None:
        return True
    try:
        return os.waitid(os.P_PID, child.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


def _signal(child: Child, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(child.process.pid, number)

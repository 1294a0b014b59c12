"""The largest entry point is compiled in a process of its own, while this one compiles what is needed before it.

The two share most of what they reach, so all together costs a quarter more CPU time, but little more than half the
time of waiting for it.
"""

import ctypes
import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress

from emu.cores import usable_cores

PR_SET_PDEATHSIG = 1  # linux/prctl.h


class Helper:
    """A process that does something for this one, and ends with it."""

    def __init__(self, work: Callable[[], object]) -> None:
        """The process begins at once; errors of its `work` concern nobody: what is not there is made here."""
        parent = os.getpid()
        self._process: int | None = os.fork()
        if self._process:
            return
        status = 1
        try:
            end_with(parent)
            be_silent()
            work()
            status = 0
        finally:
            os._exit(status)

    def wait(self) -> None:
        """Until it has done its work, or failed."""
        if self._process is not None:
            with suppress(ChildProcessError):
                os.waitpid(self._process, 0)
            self._process = None


def is_worth_it() -> bool:
    """Whether there is a core for it, and this process can be doubled: with threads it cannot."""
    return usable_cores() > 1 and threading.active_count() == 1


def end_with(parent: int) -> None:
    """Have this process end when its parent does, in whatever way; Ctrl-C is for both."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def be_silent() -> None:
    """Let go of the streams: who reads what the parent writes must see their end when the parent ends."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(nowhere, stream)

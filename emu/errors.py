"""What is said to a user when something cannot be done, and the exit code that goes with it."""

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes, as the README lists them."""

    DONE = 0
    EXPECTATION_FAILED = 1
    USAGE = 2
    CAPTURE = 3
    NOTHING_TO_PLAY = 4
    INTERRUPTED = 130


class EmuError(Exception):
    """One line for the user: what is wrong, where, what was expected, what to do."""

    exit_code = Exit.USAGE


class UsageError(EmuError):
    """A bad command, scenario, expression or output."""


class CaptureError(EmuError):
    """A capture that cannot be read, or is damaged; says the byte offset."""

    exit_code = Exit.CAPTURE


class InterruptedEarlyError(EmuError):
    """Ctrl-C before there was anything to close; typer would turn a KeyboardInterrupt into an exit without a word."""

    exit_code = Exit.INTERRUPTED


class NothingToPlayError(EmuError):
    """A capture without a frame to play."""

    exit_code = Exit.NOTHING_TO_PLAY


class WorkerDiedError(EmuError):
    """A process that did a part of the work is gone without a word: the system has killed it, or a bug has."""

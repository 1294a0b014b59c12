"""What must be done whole: a signal that would interrupt it comes when it is done."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

ENDING = (signal.SIGTERM, signal.SIGHUP)  # end a process at once where nobody has said otherwise
INTERRUPTING = (signal.SIGINT, *ENDING)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Python's handlers of INTERRUPTING run after the block; other threads than the main one never run any."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        came.append(number)

    # A handler that is not Python's (None) cannot be put back, so it stays; what is ignored stays ignored.
    leave = (None, signal.SIG_IGN)
    handlers = {number: signal.signal(number, note) for number in INTERRUPTING if signal.getsignal(number) not in leave}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for came_number in dict.fromkeys(came):
            signal.raise_signal(came_number)


def ended_by_interrupt() -> dict[signal.Signals, Any]:
    """Let what would end this process at once interrupt it instead; the handlers to put back, see `put_back`."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    unhandled = [number for number in ENDING if signal.getsignal(number) is signal.SIG_DFL]
    return {number: signal.signal(number, _interrupt) for number in unhandled}


def put_back(handlers: dict[signal.Signals, Any]) -> None:
    """Put handlers back, unless somebody has set another since."""
    for number, handler in handlers.items():
        if signal.getsignal(number) is _interrupt:
            signal.signal(number, handler)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt

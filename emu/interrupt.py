"""Ctrl-C and SIGTERM: the batch that is being played is finished, then the outputs are closed."""

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class _StopWaitingError(BaseException):
    """Ends a blocking read; a BaseException, so that nobody on the way takes it for an error of the file."""


class Interruption:
    """Notes a signal instead of raising it, except while input is waited for; the second one is final."""

    def __init__(self) -> None:
        """Nothing has happened."""
        self.happened = False
        self.input_ended = False  # the input was cut off at once: reading what there is waits for nothing
        self._waiting = False
        self._before: list[tuple[signal.Signals, Any]] = []

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        if self.happened:
            raise KeyboardInterrupt
        self.happened = True
        if self._waiting:
            raise _StopWaitingError

    def wait_for(self, read: Callable[[], int]) -> int:
        """What `read` returns; 0 once a signal has come, which ends its waiting."""
        count = 0
        try:
            self._waiting = True
            if not self.happened or self.input_ended:
                count = read()
            self._waiting = False
        except _StopWaitingError:
            self._waiting = False
        except BaseException:
            self._waiting = False
            raise
        return count

    def __enter__(self) -> "Interruption":
        """Take the signals over; only the main thread may."""
        if threading.current_thread() is threading.main_thread() and not self._before:
            self._before = [(number, signal.signal(number, self._handle)) for number in SIGNALS]
        return self

    def __exit__(self, *_: object) -> None:
        """Give the signals back; an inner `with` of the same interruption has done so already."""
        for number, handler in self._before:
            signal.signal(number, handler)
        self._before = []

"""When a program of a demonstration ends, and what it tells: a line once it is ready, a line of JSON at its end."""

import argparse
import signal
import sys
import time
from pathlib import Path
from types import FrameType

import msgspec

from emu.live.state import SharedWords

READY = "ready"  # the line that says that others may count on the program
LOOK_SECONDS = 0.05  # how often a program that has nothing to do looks whether it is to end


class Ending:
    """Ends a program: SIGTERM, SIGINT, the shared word `stop`, or its time limit, whichever comes first."""

    def __init__(self, words: SharedWords, seconds: float) -> None:
        """Start the clock, and take the signals over."""
        self._words = words
        self._end = time.monotonic() + seconds
        self._told = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._tell)

    def _tell(self, _number: int, _frame: FrameType | None) -> None:
        self._told = True

    @property
    def stopped(self) -> bool:
        """Somebody has said so."""
        return self._told or self._words.get("stop") != 0

    @property
    def seconds_left(self) -> float:
        """Until its time limit; 0 when it has passed."""
        return max(0.0, self._end - time.monotonic())

    @property
    def due(self) -> bool:
        """The program is to end now."""
        return self.stopped or self.seconds_left == 0

    def nap(self, seconds: float = LOOK_SECONDS) -> float:
        """The part of `seconds` that may be waited in one go: no longer than to the next look, or to the limit."""
        return max(0.0, min(seconds, LOOK_SECONDS, self.seconds_left))


def program_parser(description: str) -> argparse.ArgumentParser:
    """The options that every program has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--words", type=Path, required=True, help="file of the words that the run shares")
    parser.add_argument("--seconds", type=float, default=60.0, help="it ends by itself after so long")
    return parser


def say_ready() -> None:
    """Tell who waits for it that the program is at work."""
    print(READY, flush=True)


def tell_result(result: msgspec.Struct) -> None:
    """The last line on standard output: the result as one JSON object."""
    sys.stdout.write(msgspec.json.encode(result).decode() + "\n")
    sys.stdout.flush()

"""A process that does one job of `emu.apart`, then ends: `python -m emu.apart_worker DESCRIPTOR`."""

import os
import pickle
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from typing import Any

from emu import errors
from emu.apart import ASKS, AT, BEGINS, DONE, ENDS, FAILED, GO, INTERRUPTED, SAID
from emu.engine.choose import COMPILING
from emu.reached import Show


class PipeTeller:
    """The teller of a job in a worker."""

    def __init__(self, channel: Connection, may_compile: threading.Event) -> None:
        """`may_compile` is set when this worker may."""
        self._channel = channel
        self._may_compile = may_compile

    def say(self, sentence: str) -> None:
        """Say something that is no result; whoever says that he compiles waits for his turn."""
        self.tell(SAID, sentence)
        if sentence.startswith(COMPILING):
            self.tell(ASKS)
            self._may_compile.wait()

    @contextmanager
    def watch(self, what: str, lasts_ns: int) -> Iterator[Show]:
        """Tell how far something is."""
        self.tell(BEGINS, what, lasts_ns)
        yield lambda reached: self.tell(AT, *reached)
        self.tell(ENDS)

    def tell(self, *message: Any) -> None:
        """Send a message."""
        self._channel.send(message)


def main() -> None:
    """Do the job that comes over the pipe."""
    channel = Connection(int(sys.argv[1]))
    may_compile = threading.Event()
    code = 0
    try:
        play, arguments = channel.recv()
        threading.Thread(target=_listen, args=(channel, may_compile), daemon=True).start()
        message = _ended(play, arguments, PipeTeller(channel, may_compile))
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is done, and to be told whole
        channel.send(message)
    except (EOFError, OSError):  # nobody waits for it any more
        code = 1
    # As the command line does: threads of polars may be left, which abort an interpreter that goes away slowly.
    os._exit(code)


def _ended(play: Any, arguments: tuple[Any, ...], teller: PipeTeller) -> tuple[str, Any]:
    try:
        return DONE, play(teller, *arguments)
    except KeyboardInterrupt:
        return INTERRUPTED, None
    except (BrokenPipeError, ConnectionResetError):
        raise
    except Exception as error:  # noqa: BLE001 - raised again where the results are wanted
        error.add_note(traceback.format_exc())
        return FAILED, _portable(error)


def _portable(error: Exception) -> Exception:
    """The error such that it survives the pipe with its sentence: as what it is, or as the nearest of emu's own."""
    with suppress(Exception):  # many kinds of exceptions cannot be pickled, each in its own way
        if str(pickle.loads(pickle.dumps(error))) == str(error):  # noqa: S301 - our own
            return error
    kind: Any = next((base for base in type(error).__mro__ if base.__module__ == errors.__name__), None)
    return RuntimeError(f"{type(error).__name__}: {error}") if kind is None else kind(str(error))


def _listen(channel: Connection, may_compile: threading.Event) -> None:
    """Hear what is said to the worker while it works: a thread sleeps in the pipe."""
    main_thread = threading.main_thread().ident
    assert main_thread is not None
    try:
        while True:
            if channel.recv() == GO:
                may_compile.set()
            else:
                # To the main thread itself: it may wait for a file.
                signal.pthread_kill(main_thread, signal.SIGINT)
    except (EOFError, OSError):
        os._exit(1)


if __name__ == "__main__":
    main()

"""Reads an endless TCP stream, as a task of the emulated machine: in a crunch it waits for a page, and does not read.

The real kernel does not know of the emulated crunch, so the task itself looks at the shared word `would_wait`.

`python -m emu.live.demo.programs.download --words FILE --host 10.77.0.1 --port 8080`
"""

import argparse
import socket
import time

from msgspec import Struct

from emu.live.demo.programs.download_server import PORT
from emu.live.demo.programs.ending import Ending, program_parser, say_ready, tell_result
from emu.live.state import SharedWords

READ_BYTES = 1 << 16
BLOCKED_SECONDS = 0.001
RETRY_SECONDS = 0.2
CONNECT_SECONDS = 1.0


class DownloadResult(Struct, frozen=True, kw_only=True):
    """What was read, and how long the reader was blocked."""

    bytes_read: int
    seconds: float
    megabytes_per_second: float
    blocked_seconds: float  # in the emulated machine's crunch
    connections: int
    receive_bytes: int  # SO_RCVBUF, as the kernel tells it


class Reader:
    """Connects, reads, connects again when the connection is lost."""

    def __init__(self, words: SharedWords, ending: Ending, arguments: argparse.Namespace) -> None:
        """Nothing is connected."""
        self._words = words
        self._ending = ending
        self._place = (arguments.host, arguments.port)
        self._asked_bytes = arguments.receive_bytes
        self.bytes_read = 0
        self.blocked_seconds = 0.0
        self.connections = 0
        self.receive_bytes = 0

    def connect(self) -> socket.socket | None:
        """A connection; None when it cannot be had at this time."""
        made = socket.socket()
        try:
            if self._asked_bytes:  # before connecting: the window scale depends on it
                made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._asked_bytes)
            made.settimeout(max(0.01, min(CONNECT_SECONDS, self._ending.seconds_left)))
            made.connect(self._place)
        except OSError:
            made.close()
            return None
        self.connections += 1
        self.receive_bytes = made.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        return made

    def read_from(self, connection: socket.socket) -> None:
        """Read until the end, or until the connection is lost."""
        connection.settimeout(max(0.001, self._ending.nap()))
        while not self._ending.due:
            if self._words.get("would_wait"):
                self._wait_for_page()
                continue
            try:
                piece = connection.recv(READ_BYTES)
            except TimeoutError:
                continue
            except OSError:
                return
            if not piece:
                return
            self.bytes_read += len(piece)
            self._words.put("bytes_downloaded", self.bytes_read)

    def _wait_for_page(self) -> None:
        began = time.monotonic()
        time.sleep(self._ending.nap(BLOCKED_SECONDS))
        self.blocked_seconds += time.monotonic() - began


def download(words: SharedWords, arguments: argparse.Namespace) -> DownloadResult:
    """Read until the end."""
    ending = Ending(words, arguments.seconds)
    reader = Reader(words, ending, arguments)
    began = time.monotonic()
    while not ending.due:
        connection = reader.connect()
        if connection is None:
            _rest(ending, RETRY_SECONDS)
            continue
        with connection:
            if reader.connections == 1:
                say_ready()
            reader.read_from(connection)
        if not ending.due:
            _rest(ending, RETRY_SECONDS)
    seconds = time.monotonic() - began
    return DownloadResult(
        bytes_read=reader.bytes_read,
        seconds=round(seconds, 3),
        megabytes_per_second=round(reader.bytes_read / seconds / 1e6, 2) if seconds > 0 else 0.0,
        blocked_seconds=round(reader.blocked_seconds, 3),
        connections=reader.connections,
        receive_bytes=reader.receive_bytes,
    )


def _rest(ending: Ending, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not ending.due and (left := end - time.monotonic()) > 0:
        time.sleep(ending.nap(left))


def main() -> None:
    """Parse the options, read, tell."""
    parser = program_parser("Reads an endless TCP stream, except in the emulated machine's crunch.")
    parser.add_argument("--host", required=True, help="IPv4 address of the server")
    parser.add_argument("--port", type=int, default=PORT)
    parser.add_argument("--receive-bytes", type=int, default=0, help="SO_RCVBUF; 0: the system's own, which grows")
    arguments = parser.parse_args()
    tell_result(download(SharedWords(arguments.words), arguments))


if __name__ == "__main__":
    main()

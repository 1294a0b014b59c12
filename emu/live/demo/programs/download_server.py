"""Serves an endless stream over TCP to whoever connects, at a pace or as fast as it goes.

`python -m emu.live.demo.programs.download_server --words FILE --address 10.77.0.1 --port 8080`
"""

import argparse
import selectors
import socket
import time

from msgspec import Struct

from emu.live.demo.programs.ending import Ending, program_parser, say_ready, tell_result
from emu.live.state import SharedWords

PORT = 8080
PIECE_BYTES = 1 << 16
TICK_SECONDS = 0.002
BURST_SECONDS = 0.05  # of the pace: what a stream that was held up may send at once
LEAST_BYTES = 1 << 14  # sent in one go: less than this would be a flood of small segments


class ServerResult(Struct, frozen=True, kw_only=True):
    """What was served."""

    connections: int
    bytes_sent: int
    seconds: float


class Allowance:
    """Bytes that may be sent now, at a pace; 0 bytes per second is no pace at all."""

    def __init__(self, bytes_per_second: int, now: float) -> None:
        """Nothing is allowed yet."""
        self._bytes_per_second = bytes_per_second
        self._now = now
        self._bytes = 0.0

    def take(self, now: float) -> int:
        """What may be sent at this time."""
        if self._bytes_per_second == 0:
            return PIECE_BYTES
        burst = self._bytes_per_second * BURST_SECONDS
        self._bytes = min(burst, self._bytes + (now - self._now) * self._bytes_per_second)
        self._now = now
        return min(PIECE_BYTES, int(self._bytes)) if self._bytes >= min(LEAST_BYTES, burst) else 0

    def spend(self, size: int) -> None:
        """So much was sent."""
        self._bytes -= size


class Server:
    """A listening socket and its streams, in one thread; all streams share one pace."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        """Listen."""
        self._selector = selectors.DefaultSelector()
        self._listener = socket.create_server((arguments.address, arguments.port))
        self._listener.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._streams: set[socket.socket] = set()
        self._allowance = Allowance(arguments.bytes_per_second, time.monotonic())
        self._piece = bytes(range(256)) * (PIECE_BYTES // 256)
        self.connections = 0
        self.bytes_sent = 0

    def serve_some(self, timeout_seconds: float) -> None:
        """Accept and send what can be at this moment; wait so long at most when nothing can."""
        allowed = self._allowance.take(time.monotonic())
        events = selectors.EVENT_WRITE if allowed else selectors.EVENT_READ
        for stream in self._streams:
            self._selector.modify(stream, events)
        for key, _ in self._selector.select(timeout_seconds if allowed else min(timeout_seconds, TICK_SECONDS)):
            ready = key.fileobj
            assert isinstance(ready, socket.socket)
            if ready is self._listener:
                self._accept()
            elif allowed:
                self._send(ready, allowed)
            else:
                self._listen_for_end(ready)

    def _accept(self) -> None:
        try:
            stream, _ = self._listener.accept()
        except OSError:
            return  # it went before it was taken
        stream.setblocking(False)
        self._streams.add(stream)
        self._selector.register(stream, selectors.EVENT_WRITE)
        self.connections += 1

    def _send(self, stream: socket.socket, allowed: int) -> None:
        try:
            size = stream.send(self._piece[:allowed])
        except BlockingIOError:
            return
        except OSError:
            self._drop(stream)
            return
        self.bytes_sent += size
        self._allowance.spend(size)

    def _listen_for_end(self, stream: socket.socket) -> None:
        try:
            if not stream.recv(PIECE_BYTES):
                self._drop(stream)
        except BlockingIOError:
            return
        except OSError:
            self._drop(stream)

    def _drop(self, stream: socket.socket) -> None:
        self._streams.discard(stream)
        self._selector.unregister(stream)
        stream.close()

    def close(self) -> None:
        """Close all."""
        for stream in list(self._streams):
            self._drop(stream)
        self._selector.close()
        self._listener.close()


def serve(words: SharedWords, arguments: argparse.Namespace) -> ServerResult:
    """Serve until the end."""
    ending = Ending(words, arguments.seconds)
    server = Server(arguments)
    began = time.monotonic()
    try:
        say_ready()
        while not ending.due:
            server.serve_some(ending.nap())
        return ServerResult(
            connections=server.connections,
            bytes_sent=server.bytes_sent,
            seconds=round(time.monotonic() - began, 3),
        )
    finally:
        server.close()


def main() -> None:
    """Parse the options, serve, tell."""
    parser = program_parser("Serves an endless stream over TCP.")
    parser.add_argument("--address", required=True, help="IPv4 address to listen on")
    parser.add_argument("--port", type=int, default=PORT)
    parser.add_argument("--bytes-per-second", type=int, default=0, help="pace of all streams; 0: as fast as it goes")
    arguments = parser.parse_args()
    tell_result(serve(SharedWords(arguments.words), arguments))


if __name__ == "__main__":
    main()

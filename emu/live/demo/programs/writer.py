"""Writes blocks through qemu-nbd, which is a real iSCSI initiator: an answered write is a completed SCSI command.

`python -m emu.live.demo.programs.writer --socket SOCK --words FILE --writes 8192 --depth 8 --seconds 15`
"""

import argparse
import os
import selectors
import socket
import struct
import time
from contextlib import suppress
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from emu.live.demo.programs.ending import Ending, program_parser, say_ready, tell_result
from emu.live.demo.programs.nbd import (
    BLOCK_BYTES,
    NbdError,
    Replies,
    Reply,
    disconnect_request,
    read_request,
    shake_hands,
    write_request,
)
from emu.live.state import SharedWords

TIMELINE_POINTS = 96
RECEIVE_BYTES = 1 << 16
VERIFY_SECONDS = 10.0
DONE, LIMIT, STOPPED, LOST = "done", "limit", "stopped", "connection lost"


class PageCacheSeen(Struct, frozen=True, kw_only=True):
    """What was seen of the real page cache; what is of the machine has everybody's pages in it."""

    device: str  # the loop device
    dirtied_seconds: float | None  # until all pages were dirty; None: not all
    most_dirty_pages: int  # of this disk: dirtied, and not yet written
    most_dirty_bytes_of_machine: int
    most_writeback_bytes_of_machine: int


class WriterResult(Struct, frozen=True, kw_only=True):
    """What became of the writes; times from the first request on."""

    asked: int
    completed: int = 0
    errors: int = 0  # answered, but not with success
    ended: str = DONE  # or what ended it early
    why: str = ""  # what the connection said when it was lost
    seconds: float = 0.0
    megabytes_per_second: float = 0.0
    p50_ms: float | None = None
    p99_ms: float | None = None
    max_ms: float | None = None
    longest_gap_seconds: float = 0.0  # without any answer
    blocks_verified: int = 0  # read back, and as they were written
    blocks_wrong: int = 0
    blocks_not_read: int = 0  # asked for, but not answered in time
    timeline: list[tuple[float, int]] = []  # seconds, writes completed
    page_cache: PageCacheSeen | None = None  # where the real page cache has written


def block(seed: int, index: int) -> bytes:
    """What write `index` carries: every 16 bytes say which write it was."""
    return struct.pack(">QQ", seed, index) * (BLOCK_BYTES // 16)


class Progress:
    """Counts answers as they come."""

    def __init__(self, asked: int) -> None:
        """The clock starts."""
        self.asked = asked
        self.completed = 0
        self.errors = 0
        self.began = self._last = time.monotonic()
        self._latencies: list[float] = []
        self._gap = 0.0
        self._timeline = [(0.0, 0)]
        self._point = max(1, -(-asked // TIMELINE_POINTS))

    @property
    def answered(self) -> int:
        """With success or not."""
        return self.completed + self.errors

    def take(self, reply: Reply, sent: float) -> None:
        """One more answer, to what was sent at that time."""
        now = time.monotonic()
        self._latencies.append(now - sent)
        self._gap = max(self._gap, now - self._last)
        self._last = now
        if reply.error:
            self.errors += 1
            return
        self.completed += 1
        if self.completed % self._point == 0:
            self._timeline.append((round(now - self.began, 4), self.completed))

    def reach(self, completed: int) -> None:
        """So many are done by now; when each of them was sent is not known."""
        if completed <= self.completed:
            return
        now = time.monotonic()
        self._gap = max(self._gap, now - self._last)
        self._last = now
        if completed // self._point != self.completed // self._point:
            self._timeline.append((round(now - self.began, 4), completed))
        self.completed = completed

    def result(self, ended: str, why: str) -> WriterResult:
        """What came of it, up to now."""
        now = self._last if self.answered == self.asked else time.monotonic()
        seconds = now - self.began
        order = sorted(self._latencies)
        if (end := (round(seconds, 4), self.completed)) != self._timeline[-1]:
            self._timeline.append(end)
        return WriterResult(
            asked=self.asked,
            completed=self.completed,
            errors=self.errors,
            ended=ended,
            why=why,
            seconds=round(seconds, 4),
            megabytes_per_second=round(self.completed * BLOCK_BYTES / seconds / 1e6, 2) if seconds > 0 else 0.0,
            p50_ms=_milliseconds(order, 0.50),
            p99_ms=_milliseconds(order, 0.99),
            max_ms=_milliseconds(order, 1.0),
            longest_gap_seconds=round(max(self._gap, now - self._last), 4),
            timeline=self._timeline,
        )


def _milliseconds(order: list[float], share: float) -> float | None:
    if not order:
        return None
    return round(1e3 * order[min(len(order) - 1, int(share * len(order)))], 3)


class Connection:
    """The socket to the NBD server in its transmission phase: requests wait here until the socket takes them."""

    def __init__(self, path: Path, timeout_seconds: float) -> None:
        """Connect and shake hands.

        Errors: NbdError, OSError.
        """
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._socket.settimeout(timeout_seconds)
            self._socket.connect(str(path))
            self.size_bytes = shake_hands(self._socket)
        except BaseException:
            self._socket.close()
            raise
        self._socket.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._socket, selectors.EVENT_READ)
        self._waiting = bytearray()
        self._replies = Replies()

    def ask_write(self, handle: int, offset_bytes: int, data: bytes) -> None:
        """Put a write in line."""
        self._waiting += write_request(handle, offset_bytes, data)

    def ask_read(self, handle: int, offset_bytes: int, length_bytes: int) -> None:
        """Put a read in line."""
        self._replies.expect_read(handle, length_bytes)
        self._waiting += read_request(handle, offset_bytes, length_bytes)

    def exchange(self, timeout_seconds: float) -> list[Reply]:
        """Send what the socket takes, and wait for replies so long at most.

        Errors: NbdError when the server has closed, OSError.
        """
        self._send()
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._waiting else 0)
        self._selector.modify(self._socket, wanted)
        ready = self._selector.select(timeout_seconds)
        if not any(events & selectors.EVENT_READ for _, events in ready):
            return []
        try:
            more = self._socket.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return []
        if not more:
            raise NbdError("the NBD server has closed the connection")
        return self._replies.take(more)

    def _send(self) -> None:
        while self._waiting:
            try:
                del self._waiting[: self._socket.send(self._waiting)]
            except BlockingIOError:
                return

    def close(self) -> None:
        """Go, with a word if the socket takes it at once."""
        with suppress(OSError):  # it is gone, or full: closing says the same
            self._socket.send(disconnect_request())
        self._selector.close()
        self._socket.close()


def write_all(
    connection: Connection, words: SharedWords, ending: Ending, arguments: argparse.Namespace
) -> WriterResult:
    """Keep `depth` writes on their way until all are answered; `writes_completed` follows every answer."""
    progress = Progress(arguments.writes)
    sent: dict[int, float] = {}
    following = 0
    try:
        while progress.answered < progress.asked and not ending.due:
            while following < progress.asked and len(sent) < arguments.depth:
                offset = following * BLOCK_BYTES % _usable(connection)
                connection.ask_write(following, offset, block(arguments.seed, following))
                sent[following] = time.monotonic()
                following += 1
            for reply in connection.exchange(ending.nap()):
                if (began := sent.pop(reply.handle, None)) is None:
                    raise NbdError(f"the server has answered request {reply.handle}, which nobody asked")
                progress.take(reply, began)
                words.put("writes_completed", progress.completed)
    except (NbdError, OSError) as problem:
        return progress.result(LOST, str(problem))
    if progress.answered == progress.asked:
        return progress.result(DONE, "")
    return progress.result(STOPPED if ending.stopped else LIMIT, "")


def _usable(connection: Connection) -> int:
    return connection.size_bytes // BLOCK_BYTES * BLOCK_BYTES


def read_back(connection: Connection, seed: int, writes: int, count: int, end: float) -> tuple[int, int, int]:
    """Read some of the blocks that were not written over; how many were right, wrong, not answered until `end`."""
    places = _usable(connection) // BLOCK_BYTES
    first = max(0, writes - places)
    count = min(count, writes - first)
    indices = [first + step * (writes - first - 1) // max(1, count - 1) for step in range(count)]
    for index in indices:
        connection.ask_read(index, index % places * BLOCK_BYTES, BLOCK_BYTES)
    missing = set(indices)
    right = wrong = 0
    try:
        while missing and time.monotonic() < end:
            for reply in connection.exchange(0.05):
                missing.discard(reply.handle)
                if reply.error == 0 and reply.data == block(seed, reply.handle):
                    right += 1
                else:
                    wrong += 1
    except (NbdError, OSError):
        pass  # what was not answered is counted below
    return right, wrong, len(missing)


def write_and_verify(words: SharedWords, arguments: argparse.Namespace) -> WriterResult:
    """The whole of the program's work."""
    ending = Ending(words, arguments.seconds)
    try:
        connection = Connection(arguments.socket, max(0.1, arguments.seconds))
    except (NbdError, OSError) as problem:
        return WriterResult(asked=arguments.writes, ended=LOST, why=f"{arguments.socket}: {problem}")
    try:
        if _usable(connection) == 0:
            return WriterResult(asked=arguments.writes, ended=LOST, why="the disk has no room for one block")
        say_ready()
        result = write_all(connection, words, ending, arguments)
        if result.ended == DONE and result.errors == 0 and arguments.verify > 0:
            end = time.monotonic() + VERIFY_SECONDS
            right, wrong, missing = read_back(connection, arguments.seed, arguments.writes, arguments.verify, end)
            result = replace(result, blocks_verified=right, blocks_wrong=wrong, blocks_not_read=missing)
        return result
    finally:
        connection.close()


def main() -> None:
    """Parse the options, write, tell."""
    parser = program_parser("Writes blocks of 4 KiB to an NBD server.")
    parser.add_argument("--socket", type=Path, required=True, help="the server's Unix socket")
    parser.add_argument("--writes", type=int, default=8192)
    parser.add_argument("--depth", type=int, default=8, help="writes on their way at a time")
    parser.add_argument("--verify", type=int, default=0, help="blocks to read back once all are written")
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(7), "big"))
    arguments = parser.parse_args()
    tell_result(write_and_verify(SharedWords(arguments.words), arguments))


if __name__ == "__main__":
    main()

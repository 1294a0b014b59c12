"""The window: the one stretch of a capture that is in memory, and the only place where its bytes lie."""

from collections.abc import Callable
from typing import Any

from emu.capture.compression import Source

SMALLEST = 64
SCRATCH = 1 << 16
MOST = 1 << 20  # bytes that are read at once: a window that has grown is not filled in one go


class Damaged(Exception):  # noqa: N818
    """Byte `offset` of the stream is not what must stand there; without `found`, the stream ended."""

    def __init__(self, offset: int, expected: str, found: str = "") -> None:
        """State both sides as noun phrases; `offset` counts the uncompressed stream."""
        super().__init__(offset, expected, found)
        self.offset = offset
        self.expected = expected
        self.found = found


class Window:
    """Bytes `[0, at)` have been walked and may still be needed, `[at, end)` are yet to be walked.

    What has been handed out stays where it is until `discard`: a full window is replaced by a bigger one in
    which everything keeps its offset.
    """

    def __init__(self, source: Source, view: Callable[[bytearray], Any], length: int) -> None:
        """Start empty; `view` is the engine's way to index a buffer."""
        self._source = source
        self._view = view
        self._buffer = bytearray(max(length, SMALLEST))
        self.octets: Any = view(self._buffer)
        self.at = 0
        self.end = 0
        self.stream_at = 0  # offset of `at` in the uncompressed stream; `at` alone cannot tell, for blocks are skipped

    def held(self) -> int:
        """How many bytes are yet to be walked."""
        return self.end - self.at

    def bytes(self, at: int, length: int) -> bytes:
        """A copy of `length` bytes, `at` bytes into what is yet to be walked; for headers and messages."""
        return bytes(self._buffer[self.at + at : min(self.at + at + length, self.end)])

    def fill(self) -> bool:
        """Read once, as much as is there and fits, up to MOST; False when the stream has ended."""
        if self.end == len(self._buffer):
            self._grow()
        count = self._source.readinto(memoryview(self._buffer)[self.end : self.end + MOST])
        self.end += count
        return count > 0

    def advance(self, count: int) -> None:
        """Have `count` more bytes walked."""
        self.at += count
        self.stream_at += count

    def skip(self, count: int) -> int:
        """Pass over `count` bytes, reading as needed, keeping none; returns fewer if the stream ends."""
        inside = min(count, self.held())
        self.advance(inside)
        left = count - inside
        scratch = memoryview(bytearray(min(left, SCRATCH)))
        while left:
            passed = self._source.readinto(scratch[:left])
            if not passed:
                break
            self.stream_at += passed
            left -= passed
        return count - left

    def discard(self, offset: int, starved: bool) -> int:
        """Give up the bytes before `offset`; returns by how much everything after them moved to the front.

        They move only when that pays: there is little room behind them, and either the next read must fill
        anyway (`starved`) or more is given up than moved, so that no byte moves often.
        """
        offset = min(offset, self.at)
        kept = self.end - offset
        roomy = 2 * self.end <= len(self._buffer)
        if offset <= 0 or (kept and (roomy or not (starved or offset >= kept))):
            return 0
        view = memoryview(self._buffer)
        view[:kept] = view[offset : self.end]
        self.at -= offset
        self.end = kept
        return offset

    def reclaim(self, mark: int) -> None:
        """Give up the walked bytes from `mark` on, because no frame lies in them; nothing else moves."""
        if mark < self.at:
            kept = self.held()
            view = memoryview(self._buffer)
            view[mark : mark + kept] = view[self.at : self.end]
            self.at = mark
            self.end = mark + kept

    def _grow(self) -> None:
        bigger = bytearray(2 * len(self._buffer))
        bigger[: self.end] = self._buffer
        self._buffer = bigger
        self.octets = self._view(bigger)

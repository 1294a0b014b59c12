"""The window of frames that are made rather than read: merged, crafted, or played over again."""

from types import TracebackType
from typing import Any, TypeVar

from emu.capture.pcap import MAX_CAPLEN, Interface
from emu.engine.plain import Engine
from emu.errors import CaptureError
from emu.wire.headers import LINKTYPE_ETHERNET

M = TypeVar("M", bound="MadeFrames")

NANOSECONDS = 9  # as if_tsresol says it


class MadeFrames:
    """What such sources of frames have in common: bytes up to `_at` are handed out, behind them the next are made.

    Whoever makes frames says in `_cramped` whether there was no room for the next one; with none made, it must `_grow`.
    """

    def __init__(self, engine: Engine, window_bytes: int) -> None:
        """Start with an empty window."""
        self._engine = engine
        self._buffer = bytearray(max(window_bytes, 1))
        self._at = 0
        self._cramped = False
        self.octets: Any = engine.view(self._buffer)

    @property
    def position(self) -> int:
        """The window offset behind all that has been handed out: what to discard up to when nothing is kept."""
        return self._at

    def discard(self, offset: int) -> int:
        """Give up the bytes before window offset `offset`; kept rows' offsets shrink by what is returned.

        What is kept moves only when that pays, as in `Window.discard`.
        """
        offset = min(offset, self._at)
        kept = self._at - offset
        roomy = 2 * self._at <= len(self._buffer)
        if offset <= 0 or (kept and (roomy or not (self._cramped or offset >= kept))):
            return 0
        view = memoryview(self._buffer)
        view[:kept] = view[offset : self._at]
        self._at = kept
        return offset

    def close(self) -> None:
        """Nothing is open."""

    def __enter__(self: M) -> M:
        """Nothing to do: it is ready."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def _grow(self) -> None:
        bigger = bytearray(2 * len(self._buffer))
        bigger[: self._at] = self._buffer[: self._at]
        self._buffer = bigger
        self.octets = self._engine.view(bigger)


class CraftedFrames(MadeFrames):
    """What crafted traffic has in common: it comes from no file, on an Ethernet called eth0."""

    format = "crafted"
    compression = ""
    skipped_blocks = 0
    size: int | None = None
    damage: CaptureError | None = None
    damage_offset = -1

    def __init__(self, engine: Engine, window_bytes: int, comments: list[str], device: int) -> None:
        """Nothing is made yet; `comments` are the section header's, `device` is what the user named, else -1."""
        super().__init__(engine, window_bytes)
        self.frames = 0
        self.bytes_read = 0
        self.ended = False
        self.interfaces = [Interface("eth0", LINKTYPE_ETHERNET, MAX_CAPLEN, 0, NANOSECONDS, 0, device=device)]
        self.section_comments = comments


def put_row(row: Any, frame: int, time_ns: int, at: int, size: int, direction: int) -> None:
    """What a capture would say of an Ethernet frame that was made, `size` bytes at window offset `at`."""
    row.frame = frame
    row.packet_id = frame
    row.own_id = 0
    row.iface = 0
    row.file_time_ns = time_ns
    row.offset = at
    row.caplen = size
    row.length = size
    row.direction = direction
    row.linktype = LINKTYPE_ETHERNET
    row.fcs_bytes = 0
    row.fcs_caplen = 0

"""The reader: a capture, whatever its format and compression, as rows of frames over one window of bytes."""

from types import TracebackType
from typing import Any, Protocol

from emu.capture.compression import Source, open_source
from emu.capture.linktype import linktype_name
from emu.capture.pcap import MAGICS, Interface, PcapFile, word32
from emu.capture.sections import SECTION_HEADER, PcapngFile
from emu.capture.window import Damaged, Window
from emu.engine.plain import Engine
from emu.errors import CaptureError
from emu.kernel.machine import NONE

__all__ = ["CaptureReader", "Interface", "linktype_name", "open_capture"]

WINDOW = 1 << 20  # as large as stays in a core's cache: larger ones read slower


class CaptureFile(Protocol):
    """What the reader needs to know of a format."""

    name: str
    first: str  # what the file starts with
    interfaces: list[Interface]
    section_comments: list[str]
    statistics_comments: list[str]
    skipped_blocks: int

    def open(self, window: Window) -> bool:
        """Read what precedes the first frame, as far as it is always there; False: more bytes are needed."""
        ...

    def read(self, window: Window, rows: Any, first: int, limit: int, frame: int) -> int:
        """Turn what the window holds into rows numbered from `frame`; 0: more bytes are needed."""
        ...

    def wanted(self, window: Window) -> str:
        """What must stand where the stream has just ended."""
        ...


class CaptureReader:
    """Reads a capture: `read` rows, play them, `discard` what is no longer needed, and again.

    A frame's bytes are `octets[row.offset : row.offset + row.caplen]` until they are discarded, and are
    copied nowhere.  Memory is the window, which doubles when what is kept and the next frame do not
    fit together.
    """

    def __init__(
        self, source: Source, name: str, engine: Engine, window_bytes: int = WINDOW, device: int = NONE
    ) -> None:
        """Read up to the first frame's section; a CaptureError if this is no capture, or of no link type we play.

        `name` is what messages call the file, `device` the device that the user named for it.  A file that starts
        as a capture and is damaged later is no error here: see `damage`.
        """
        self.ended = False
        self.damage: CaptureError | None = None
        self.damage_offset = -1  # in the uncompressed stream
        self.frames = 0  # read so far
        self._name = name
        self._source = source
        self._starved = True
        self._window = Window(source, engine.view, window_bytes)
        self._file = self._recognise(engine, device)
        self._open()

    @property
    def format(self) -> str:
        """Either pcap or pcapng."""
        return self._file.name

    @property
    def compression(self) -> str:
        """One of gzip, zstd, xz, lz4, or nothing."""
        return self._source.compression

    @property
    def interfaces(self) -> list[Interface]:
        """The interfaces met so far, of all sections: `row.iface` is an index into them."""
        return self._file.interfaces

    @property
    def section_comments(self) -> list[str]:
        """The comments of the section headers met so far."""
        return self._file.section_comments

    @property
    def statistics_comments(self) -> list[str]:
        """The comments of the interfaces' statistics met so far."""
        return self._file.statistics_comments

    @property
    def skipped_blocks(self) -> int:
        """How many blocks were passed over because they carry no frame."""
        return self._file.skipped_blocks

    @property
    def octets(self) -> Any:
        """The window as the engine indexes it; `read` may replace it."""
        return self._window.octets

    @property
    def position(self) -> int:
        """The window offset of the next byte to be read: what to discard up to when nothing is kept."""
        return self._window.at

    @property
    def bytes_read(self) -> int:
        """Bytes taken from the file so far, as they lie there."""
        return self._source.bytes_read

    @property
    def size(self) -> int | None:
        """Bytes of the file, None for a pipe."""
        return self._source.size

    def read(self, rows: Any, first: int, limit: int) -> int:
        """Turn up to `limit` further frames into `rows[first:first + limit]`; returns how many, 0 at the end.

        It waits for the first frame only.  Raises CaptureError at a frame of a link type that is not played.
        """
        count, mark = 0, self._window.at
        while not (count or self.ended or limit <= 0):
            try:
                count = self._file.read(self._window, rows, first, limit, self.frames + 1)
            except Damaged as fault:
                self._stop(fault)
            else:
                self._starved = count < limit
                if not count:
                    # Nothing but blocks without a frame since then: were they kept, a run of them would fill memory.
                    self._window.reclaim(mark)
                    self._fill()
        self.frames += count
        return count

    def discard(self, offset: int) -> int:
        """Give up the bytes before window offset `offset`; kept rows' offsets shrink by what is returned."""
        return self._window.discard(offset, self._starved)

    def close(self) -> None:
        """Close the file."""
        self._source.close()

    def __enter__(self) -> "CaptureReader":
        """Nothing to do: it is open."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        self.close()

    def _recognise(self, engine: Engine, device: int) -> PcapFile | PcapngFile:
        window = self._window
        while window.held() < 4 and window.fill():
            pass
        head = window.bytes(0, 4)
        if len(head) == 4:
            if word32(head, 0, 0) == SECTION_HEADER:
                return PcapngFile(engine, self._name, device)
            for big in (0, 1):
                magic = word32(head, 0, big)
                if magic in MAGICS:
                    return PcapFile(engine, self._name, big, magic, device)
        what = f"it starts with {head.hex(' ')}" if head else "it is empty"
        if self._source.damage:
            what += f", and {self._source.damage}"
        raise CaptureError(f"emu cannot read {self._name}: {what}; expected a pcap or pcapng file")

    def _open(self) -> None:
        try:
            while not (self.ended or self._file.open(self._window)):
                self._fill(self._file.first)
        except Damaged as fault:
            self._stop(fault)

    def _fill(self, wanted: str = "") -> None:
        window = self._window
        if window.fill():
            return
        self.ended = True
        if window.held():
            self._stop(Damaged(window.stream_at, wanted or self._file.wanted(window)))
        elif self._source.damage:
            self._stop(Damaged(window.stream_at, "more frames"))

    def _stop(self, fault: Damaged) -> None:
        found = fault.found
        if not found:
            found = (
                self._source.damage or f"the end of the file, at byte {self._window.stream_at + self._window.held()}"
            )
        self.ended = True
        self.damage_offset = fault.offset
        self.damage = CaptureError(f"{self._name}: byte {fault.offset}: expected {fault.expected}, found {found}")


def open_capture(path: str, engine: Engine, window_bytes: int = WINDOW, device: int = NONE) -> CaptureReader:
    """Open a capture, or standard input for `-`; raises CaptureError in one line when it cannot be read."""
    source = open_source(path)
    try:
        return CaptureReader(source, "stdin" if path == "-" else path, engine, window_bytes, device)
    except BaseException:
        source.close()
        raise

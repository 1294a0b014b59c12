"""What gives frames: a capture, several merged, crafted traffic, or one of them rewritten on the way.

Whoever reads frames reads them so: `read` rows, use them, `discard` what is no longer needed, and again.
"""

from typing import Any, Protocol

from emu.capture.pcap import Interface
from emu.errors import CaptureError


class FrameSource(Protocol):
    """A stream of frames over one window of bytes.

    `read` sets of a row: frame, packet_id, own_id, iface, file_time_ns, offset, caplen, length, direction, linktype,
    fcs_bytes, fcs_caplen; no other.  A frame's bytes are `octets[row.offset : row.offset + row.caplen]` until they
    are discarded.  Whoever wraps a source may change these bytes in place: each frame is handed out once.
    """

    @property
    def frames(self) -> int:
        """How many frames have been read so far."""
        ...

    @property
    def ended(self) -> bool:
        """Whether there are no further frames."""
        ...

    @property
    def interfaces(self) -> list[Interface]:
        """The interfaces met so far: `row.iface` is an index into them."""
        ...

    @property
    def octets(self) -> Any:
        """The window as the engine indexes it; `read` may replace it."""
        ...

    @property
    def position(self) -> int:
        """The window offset behind all that has been read: what to discard up to when nothing is kept."""
        ...

    @property
    def format(self) -> str:
        """Of the file: pcap or pcapng, else `crafted`; several are joined by commas."""
        ...

    @property
    def compression(self) -> str:
        """Of the file, or nothing."""
        ...

    @property
    def section_comments(self) -> list[str]:
        """The comments of the section headers met so far; crafted traffic has those that its file would have."""
        ...

    @property
    def skipped_blocks(self) -> int:
        """How many blocks were passed over because they carry no frame."""
        ...

    @property
    def bytes_read(self) -> int:
        """Bytes taken from files so far, as they lie there; of crafted traffic, the bytes made."""
        ...

    @property
    def size(self) -> int | None:
        """What `bytes_read` will be in the end, None when nobody knows."""
        ...

    @property
    def damage(self) -> CaptureError | None:
        """What is wrong with the capture, once all that is sound has been read."""
        ...

    @property
    def damage_offset(self) -> int:
        """Where it is damaged, in its uncompressed stream, else -1."""
        ...

    def read(self, rows: Any, first: int, limit: int) -> int:
        """Turn up to `limit` further frames into `rows[first:first + limit]`; returns how many, 0 at the end."""
        ...

    def discard(self, offset: int) -> int:
        """Give up the bytes before window offset `offset`; kept rows' offsets shrink by what is returned."""
        ...

    def close(self) -> None:
        """Close whatever is open."""
        ...

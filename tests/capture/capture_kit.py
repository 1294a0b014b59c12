"""What the capture tests share: both engines, a writer that knows nothing of the reader's code, and a player."""

import io
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from engine_pair import engine_named

from emu.capture.compression import Readable, Source
from emu.capture.frames import FrameSource
from emu.capture.reader import CaptureReader
from emu.engine.plain import Engine
from emu.kernel.machine import Packet

PCAPS = Path(__file__).parents[2] / "pcaps"
SAMPLES = ("login", "mixed", "nop")

NS = 1_000_000_000
LITTLE, BIG = "<", ">"
SHB, IDB, PB, SPB, NRB, ISB, EPB = 0x0A0D0D0A, 1, 2, 3, 4, 5, 6


# The player.


class Frame(NamedTuple):
    """A row's columns that the reader fills, with the frame's bytes in place of their offset."""

    frame: int
    packet_id: int
    iface: int
    file_time_ns: int
    caplen: int
    length: int
    direction: int
    octets: bytes
    linktype: int
    fcs_bytes: int
    fcs_caplen: int


class Dribble(io.RawIOBase):
    """A pipe that gives up to `most` bytes at a time."""

    def __init__(self, data: bytes, most: int) -> None:
        self._inner = io.BytesIO(data)
        self._most = most

    def readinto(self, into: Any) -> int:
        return self._inner.readinto(memoryview(into)[: self._most])


def source_of(data: bytes, most: int = 0) -> Source:
    readable: Readable = Dribble(data, most) if most else io.BytesIO(data)
    return Source(readable, "test", None if most else len(data))


def column(rows: Any, at: int, name: str) -> int:
    """A field of a row, whichever engine made it."""
    row = rows[at]
    return int(row[name]) if hasattr(row, "dtype") else getattr(row, name)


def frame_at(reader: FrameSource, rows: Any, at: int) -> Frame:
    offset = column(rows, at, "offset")
    octets = bytes(reader.octets[offset : offset + column(rows, at, "caplen")])
    return Frame(octets=octets, **{name: column(rows, at, name) for name in Frame._fields if name != "octets"})


def play(reader: FrameSource, engine: Engine, limit: int = 64, keep: int = 0) -> list[Frame]:
    """Read all frames; the last `keep` of them are held over each further read, and must stay the same."""
    rows = engine.rows(Packet, limit)
    frames: list[Frame] = []
    kept: list[tuple[int, Frame]] = []  # offset in the window, and what was there
    while count := reader.read(rows, 0, limit):
        assert 0 < count <= limit
        fresh = [(column(rows, at, "offset"), frame_at(reader, rows, at)) for at in range(count)]
        frames += [frame for _, frame in fresh]
        kept = (kept + fresh)[-keep:] if keep else []
        moved = reader.discard(kept[0][0] if kept else reader.position)
        kept = [(offset - moved, frame) for offset, frame in kept]
        for offset, frame in kept:
            assert bytes(reader.octets[offset : offset + frame.caplen]) == frame.octets
    assert reader.ended
    assert reader.frames == len(frames)
    return frames


def play_bytes(data: bytes, engine: str, window: int = 1 << 16, most: int = 0) -> tuple[list[Frame], CaptureReader]:
    """All frames of a capture in memory, and its reader."""
    made = engine_named(engine)
    reader = CaptureReader(source_of(data, most), "test", made, window)
    return play(reader, made), reader


# The writer.


def pcap_header(order: str = LITTLE, magic: int = 0xA1B2C3D4, linktype: int = 1) -> bytes:
    return struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 262_144, linktype)


def pcap_record(
    data: bytes, seconds: int = 0, ticks: int = 0, length: int | None = None, order: str = LITTLE, tail: bytes = b""
) -> bytes:
    length = len(data) if length is None else length
    return struct.pack(order + "IIII", seconds, ticks, len(data), length) + tail + data


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def options(order: str, pairs: Iterable[tuple[int, bytes]], end: bool = True) -> bytes:
    made = b"".join(struct.pack(order + "HH", code, len(value)) + padded(value) for code, value in pairs)
    return made + bytes(4) if made and end else made


def block(order: str, kind: int, body: bytes) -> bytes:
    length = struct.pack(order + "I", 12 + len(padded(body)))
    return struct.pack(order + "I", kind) + length + padded(body) + length


def shb(order: str = LITTLE, comments: Iterable[bytes] = ()) -> bytes:
    head = struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1)
    return block(order, SHB, head + options(order, [(1, comment) for comment in comments]))


def idb(
    order: str = LITTLE,
    linktype: int = 1,
    snaplen: int = 0,
    name: bytes = b"",
    tsresol: int | None = None,
    tsoffset: int | None = None,
    noise: Iterable[tuple[int, bytes]] = (),
    fcslen: int | None = None,
) -> bytes:
    pairs = list(noise)
    if name:
        pairs.append((2, name))
    if tsresol is not None:
        pairs.append((9, bytes([tsresol])))
    if tsoffset is not None:
        pairs.append((14, struct.pack(order + "q", tsoffset)))
    if fcslen is not None:
        pairs.append((13, bytes([fcslen])))
    return block(order, IDB, struct.pack(order + "HHI", linktype, 0, snaplen) + options(order, pairs))


def epb(
    data: bytes,
    ticks: int = 0,
    iface: int = 0,
    length: int | None = None,
    order: str = LITTLE,
    pairs: Iterable[tuple[int, bytes]] = (),
) -> bytes:
    length = len(data) if length is None else length
    head = struct.pack(order + "IIIII", iface, ticks >> 32, ticks & 0xFFFFFFFF, len(data), length)
    return block(order, EPB, head + padded(data) + options(order, pairs))


def old_pb(data: bytes, ticks: int = 0, iface: int = 0, order: str = LITTLE, flags: int = 0) -> bytes:
    head = struct.pack(order + "HHIIII", iface, 7, ticks >> 32, ticks & 0xFFFFFFFF, len(data), len(data))
    return block(order, PB, head + padded(data) + options(order, [(2, struct.pack(order + "I", flags))]))


def spb(data: bytes, length: int | None = None, order: str = LITTLE) -> bytes:
    return block(order, SPB, struct.pack(order + "I", len(data) if length is None else length) + data)

"""What the tests of crafted iSCSI sessions share: their frames, and files of them for other people's programs."""

import struct
from pathlib import Path
from typing import Any, NamedTuple

from emu.engine.plain import Engine, PlainEngine
from emu.kernel.machine import Packet
from emu.traffic.iscsi.options import IscsiAcks
from emu.traffic.iscsi.session import SessionReader

PLAIN = PlainEngine()


class Crafted(NamedTuple):
    """A frame: its bytes, when, and which way (kernel.machine DIR_*)."""

    octets: bytes
    time_ns: int
    direction: int


def frames_of(
    reader: SessionReader, engine: Engine = PLAIN, batch: int = 64, most: int = 1 << 40, first_frame: int = 1
) -> list[Crafted]:
    """What a reader gives, up to `most` frames, each batch discarded before the next is read."""
    rows = engine.rows(Packet, batch)
    frames: list[Crafted] = []
    while len(frames) < most:
        count = reader.read(rows, 0, min(batch, most - len(frames)))
        if not count:
            break
        for at in range(count):
            row = rows[at]
            assert row.frame == len(frames) + first_frame and row.caplen == row.length and row.iface == 0
            frames.append(
                Crafted(
                    bytes(reader.octets[row.offset : row.offset + row.caplen]),
                    int(row.file_time_ns),
                    int(row.direction),
                )
            )
        reader.discard(reader.position)
    return frames


def crafted(engine: Engine = PLAIN, most: int = 1 << 40, **options: Any) -> list[Crafted]:
    """The frames of a session."""
    return frames_of(SessionReader(IscsiAcks(**options), engine), engine, most=most)


def pcap_of(frames: list[Crafted], path: Path) -> Path:
    """A pcap with nanoseconds."""
    octets = bytearray(struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262_144, 1))
    for frame in frames:
        size = len(frame.octets)
        octets += struct.pack("<IIII", *divmod(frame.time_ns, 10**9), size, size) + frame.octets
    path.write_bytes(octets)
    return path

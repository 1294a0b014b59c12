"""The block of one frame: written, and its options read back from another file's."""

import struct
from collections.abc import Iterator
from typing import Any

from emu.capture.blocks import (
    EPB_FLAGS,
    EPB_PACKETID,
    EPB_QUEUE,
    EPB_TYPE,
    OPT_ENDOFOPT,
    PACKET_HEADER,
    block,
    options,
    time_words,
)

EPB_DROPCOUNT = 4
# Options that are integers, by their size: of another byte order they are turned round.
WORDS = {EPB_FLAGS: 4, EPB_DROPCOUNT: 8, EPB_PACKETID: 8, EPB_QUEUE: 4}


def packet_block(interface: int, time_ns: int, packet: bytes, length: int, said: bytes | None = None) -> bytes:
    """An Enhanced Packet Block; `said` are its options as they stand, with their end."""
    head = struct.pack("<I", interface) + time_words(time_ns) + struct.pack("<II", len(packet), length)
    return block(EPB_TYPE, head + packet + bytes(-len(packet) % 4) + (options() if said is None else said))


def options_of(offset: int, held: int, octets: Any) -> bytes:
    """The options behind a frame in the window of `held` bytes from `offset` on, little-endian.

    One that does not fit ends them.  A block that is no Enhanced Packet Block, of an old or foreign file, has none.
    """
    start = offset - PACKET_HEADER
    if start < 0:
        return options()
    head = bytes(octets[start : start + 8])
    order = "<" if head[:4] == EPB_TYPE.to_bytes(4, "little") else ">"
    kind, length = struct.unpack(f"{order}II", head)
    if kind != EPB_TYPE:
        return options()
    at = offset + (held + 3 & ~3)
    end = start + length - 4
    kept = []
    for code, value in walk_options(bytes(octets[at:end]), order):
        turned = order == ">" and WORDS.get(code) == len(value)
        kept.append((code, value[::-1] if turned else value))
    return options(*kept)


def walk_options(said: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """The options of a block in a byte order of struct; one that does not fit ends them."""
    at = 0
    while at + 4 <= len(said):
        code, length = struct.unpack_from(f"{order}HH", said, at)
        if code == OPT_ENDOFOPT or at + 4 + length > len(said):
            return
        yield code, said[at + 4 : at + 4 + length]
        at += 4 + (length + 3 & ~3)

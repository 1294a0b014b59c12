"""A capture of emu's without the comments of its frames, as a tool leaves it that does not keep them."""

import struct
from pathlib import Path

EPB, OPT_COMMENT, NOBODYS_OPTION = 6, 1, 0x7777


def strip_comments(source: Path, target: Path) -> None:
    """Turn the comments of all frames into options that nobody knows; blocks and their lengths stay."""
    octets = bytearray(source.read_bytes())
    at = 0
    while at < len(octets):
        kind, length = struct.unpack_from("<II", octets, at)
        held = struct.unpack_from("<I", octets, at + 20)[0] if kind == EPB else 0
        option = at + 28 + (held + 3 & ~3) if kind == EPB else at + length
        while option + 4 < at + length:
            code, size = struct.unpack_from("<HH", octets, option)
            if code == OPT_COMMENT:
                struct.pack_into("<H", octets, option, NOBODYS_OPTION)
            option += 4 + (size + 3 & ~3)
        at += length
    target.write_bytes(octets)

"""The blocks of a pcapng file as emu writes them (draft-ietf-opsawg-pcapng; block and option numbers carry its names).

What is written once is put together in Python; what is written per frame runs plain and compiled.
"""

import struct
from collections.abc import Sequence
from typing import Any

from emu import __version__
from emu.errors import UsageError
from emu.wire.octets import Octets, copy_octets, put_le16, put_le32

SNAPLEN = 262_144  # of every interface; Wireshark and libpcap read no longer frames

SHB_TYPE, IDB_TYPE, ISB_TYPE, EPB_TYPE = 0x0A0D0D0A, 1, 5, 6
BYTE_ORDER_MAGIC = 0x1A2B3C4D
OPT_ENDOFOPT, OPT_COMMENT = 0, 1
SHB_USERAPPL = 4
IF_NAME, IF_DESCRIPTION, IF_TSRESOL = 2, 3, 9
EPB_FLAGS, EPB_PACKETID, EPB_QUEUE = 2, 5, 6
FLAG_NO_DIRECTION, FLAG_INBOUND, FLAG_OUTBOUND = range(3)
FLAGS_FCS_SHIFT, MAX_FCS_BYTES = 5, 15
NANOSECONDS = b"\x09"
MAX_OPTION = 65_535  # bytes in one option
PACKET_HEADER = 28  # of an Enhanced Packet Block, before the frame


def put_frame(packet: Any, octets: Octets, out: bytearray, at: int, interface: int, time_ns: int) -> int:
    """The head of an Enhanced Packet Block and the frame, padded; returns where the options begin."""
    held = packet.caplen + packet.fcs_caplen
    put_le32(out, at, EPB_TYPE)
    put_le32(out, at + 8, interface)
    put_le32(out, at + 12, time_ns >> 32)
    put_le32(out, at + 16, time_ns)
    put_le32(out, at + 20, held)
    put_le32(out, at + 24, packet.length + packet.fcs_bytes)
    copy_octets(out, at + PACKET_HEADER, octets, packet.offset, held)
    return pad(out, at + PACKET_HEADER + held)


def end_packet(out: bytearray, start: int, at: int) -> int:
    """Close the block that began at `start` and whose options end at `at`; returns its end."""
    put_le32(out, start + 4, at + 4 - start)
    put_le32(out, at, at + 4 - start)
    return at + 4


def put_option(out: bytearray, at: int, code: int, length: int) -> None:
    """The head of an option; the length is without padding."""
    put_le16(out, at, code)
    put_le16(out, at + 2, length)


def pad(out: bytearray, at: int) -> int:
    """Zeros up to the next multiple of 4."""
    while at & 3:
        out[at] = 0
        at += 1
    return at


def block(kind: int, body: bytes) -> bytes:
    """A block, which must be a multiple of 4 bytes."""
    size = len(body) + 12
    return struct.pack("<II", kind, size) + body + struct.pack("<I", size)


def options(*given: tuple[int, bytes]) -> bytes:
    """Options and their end.  Errors: UsageError when one is too long."""
    parts = []
    for code, value in (*given, (OPT_ENDOFOPT, b"")):
        if len(value) > MAX_OPTION:
            raise UsageError(f"{value[:32]!r}...: {len(value)} bytes; a pcapng option holds {MAX_OPTION}")
        parts.append(struct.pack("<HH", code, len(value)) + value + bytes(-len(value) % 4))
    return b"".join(parts)


def section_header(comments: Sequence[str]) -> bytes:
    """The Section Header Block, with comments and the name of the program."""
    head = struct.pack("<IHHq", BYTE_ORDER_MAGIC, 1, 0, -1)
    said = [(OPT_COMMENT, comment.encode()) for comment in comments]
    return block(SHB_TYPE, head + options(*said, (SHB_USERAPPL, f"emu {__version__}".encode())))


def interface_block(linktype: int, name: str, description: str = "") -> bytes:
    """An Interface Description Block in nanoseconds; what is empty is left out."""
    said = [(IF_NAME, name.encode()), (IF_DESCRIPTION, description.encode())]
    head = struct.pack("<HHI", linktype, 0, SNAPLEN)
    return block(IDB_TYPE, head + options(*[option for option in said if option[1]], (IF_TSRESOL, NANOSECONDS)))


def statistics_block(interface: int, at_end_ns: int, *said: tuple[int, bytes]) -> bytes:
    """An Interface Statistics Block."""
    return block(ISB_TYPE, struct.pack("<I", interface) + time_words(at_end_ns) + options(*said))


def time_words(time_ns: int) -> bytes:
    """A time stamp: its high word, then its low one."""
    return struct.pack("<II", time_ns >> 32, time_ns & 0xFFFF_FFFF)

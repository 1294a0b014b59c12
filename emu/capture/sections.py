"""pcapng in Python: sections, their interfaces, and the blocks that are passed over.

Source: draft-ietf-opsawg-pcapng, "General Block Structure", "Section Header Block", "Interface Description
Block", "Options".
"""

from collections.abc import Iterator
from typing import Any

from emu.capture.linktype import PLAYED
from emu.capture.pcap import (
    BAD_CAPLEN,
    BAD_IFACE,
    BAD_LENGTH,
    BAD_TRAILER,
    FOREIGN,
    FULL,
    MAX_CAPLEN,
    OTHER,
    STARVED,
    Interface,
    foreign,
    word16,
    word32,
)
from emu.capture.pcapng import (
    MAX_BLOCK,
    MAX_SECONDS,
    NS,
    PACKET_BLOCK,
    PACKET_HEADER,
    SIMPLE_PACKET_BLOCK,
    Clock,
    set_clock,
    walk_blocks,
    word64,
)
from emu.capture.window import Damaged, Window
from emu.engine.plain import Engine
from emu.kernel.machine import NONE

SECTION_HEADER = 0x0A0D0D0A  # the same in both byte orders
INTERFACE_DESCRIPTION = 1
INTERFACE_STATISTICS = 5
STATISTICS_HEADER = 20  # before the options
BYTE_ORDER_MAGIC = 0x1A2B3C4D

OPT_COMMENT = 1
IF_NAME = 2
IF_TSRESOL = 9
IF_FCSLEN = 13  # bits
IF_TSOFFSET = 14

LONGEST_BLOCK = (1 << 32) - 4  # what is passed over needs no memory
MAX_INTERFACES = 65_536
MAX_NAME = 256  # bytes kept of an interface's name
MAX_COMMENTS = 1 << 24  # bytes kept of all comments: there is no end to the sections of a stream
MAX_OFFSET = 1 << 61  # seconds: with the seconds of a time stamp, below 2**62, it stays within 64 bits


class PcapngFile:
    """A pcapng file as the reader meets it."""

    name = "pcapng"
    first = "a section header block"

    def __init__(self, engine: Engine, file: str, device: int = NONE) -> None:
        """Start before the first section; `device` is what the user named for the file."""
        self.interfaces: list[Interface] = []
        self.section_comments: list[str] = []
        self.statistics_comments: list[str] = []
        self.skipped_blocks = 0
        self._file = file
        self._device = device
        self._walk = engine.function(walk_blocks)
        self._clocks = engine.rows(Clock, MAX_INTERFACES)
        self._set_clock = engine.function(set_clock)
        self._section = -1
        self._big = 0
        self._first_iface = 0
        self._time_ns = 0
        self._comment_bytes = 0

    def open(self, window: Window) -> bool:
        """Read the first section header; False: it is not all there yet."""
        return self._section_header(window)

    def read(self, window: Window, rows: Any, first: int, limit: int, frame: int) -> int:
        """Turn what the window holds into rows; 0: more bytes are needed."""
        count = 0
        while count < limit:
            at, walked, status, self._time_ns = self._walk(
                window.octets,
                window.at,
                window.end,
                self._big,
                self._clocks,
                self._first_iface,
                len(self.interfaces) - self._first_iface,
                self._time_ns,
                frame + count,
                rows,
                first + count,
                limit - count,
            )
            window.advance(at - window.at)
            count += walked
            if status in (FULL, STARVED):
                break
            if status == OTHER:
                # Frames that are there do not wait for a block that is not.
                if not self._other_block(window, wait=count == 0):
                    break
            elif count:
                break  # what is wrong is met again, and told, when the frames before it are played
            else:
                raise self._wrong(window, status)
        return count

    def wanted(self, window: Window) -> str:
        """What must stand where the stream has just ended."""
        if window.held() < 12:
            return "a block of at least 12 bytes"
        head = window.bytes(0, 12)
        big = _byte_order(head) if word32(head, 0, 0) == SECTION_HEADER else self._big
        return f"a block of {word32(head, 4, big)} bytes"

    def _other_block(self, window: Window, wait: bool) -> bool:
        """Take the block at hand, which carries no frame; False: it is not all there yet."""
        head = window.bytes(0, 8)
        kind, length = word32(head, 0, self._big), word32(head, 4, self._big)
        try:
            if kind == SECTION_HEADER:
                return self._section_header(window)
            if length & 3 or length < 12:
                raise _bad_length(window, length, 12, LONGEST_BLOCK)
            if kind == INTERFACE_DESCRIPTION:
                return self._interface_description(window, length)
            if kind == INTERFACE_STATISTICS and STATISTICS_HEADER + 4 <= length <= MAX_BLOCK:
                return self._interface_statistics(window, length)
            if window.held() >= length:
                return self._pass(window, length)
            return wait and self._skip(window, length)
        except Damaged:
            if wait:
                raise
            return False

    def _section_header(self, window: Window) -> bool:
        if window.held() < 12:
            return False
        head = window.bytes(0, 12)
        big = _byte_order(head)
        if big < 0:
            raise Damaged(window.stream_at + 8, "a byte-order magic 1a2b3c4d", head[8:].hex())
        block = _whole_block(window, word32(head, 4, big), 28, big)
        if not block:
            return False
        major, minor = word16(block, 12, big), word16(block, 14, big)
        if major != 1:
            raise Damaged(window.stream_at + 12, "pcapng version 1.x", f"version {major}.{minor}")
        self._keep_comments(block, 24, big, self.section_comments)
        self._big = big
        self._section += 1
        self._first_iface = len(self.interfaces)
        window.advance(len(block))
        return True

    def _interface_description(self, window: Window, length: int) -> bool:
        big = self._big
        block = _whole_block(window, length, 20, big)
        if not block:
            return False
        if len(self.interfaces) == MAX_INTERFACES:
            raise Damaged(window.stream_at, f"at most {MAX_INTERFACES} interfaces", "another one")
        name, tsresol, tsoffset, fcs_bytes = "", 6, 0, 0
        for code, value in _options(block, 16, big):
            if code == IF_NAME:
                name = _text(value[:MAX_NAME])
            elif code == IF_TSRESOL and len(value) == 1:
                tsresol = value[0]
            elif code == IF_FCSLEN and len(value) == 1:
                fcs_bytes = value[0] // 8
            elif code == IF_TSOFFSET and len(value) == 8:
                tsoffset = word64(value, 0, big)
        linktype, snaplen = word16(block, 8, big), word32(block, 12, big)
        interface = Interface(name, linktype, snaplen, self._section, tsresol, tsoffset, fcs_bytes, self._device)
        self._set_clock(self._clocks, len(self.interfaces), *clock_of(interface))
        self.interfaces.append(interface)
        window.advance(length)
        return True

    def _interface_statistics(self, window: Window, length: int) -> bool:
        """Pass over statistics, but for their comments."""
        block = _whole_block(window, length, STATISTICS_HEADER + 4, self._big)
        if not block:
            return False
        self._keep_comments(block, STATISTICS_HEADER, self._big, self.statistics_comments)
        window.advance(length)
        self.skipped_blocks += 1
        return True

    def _keep_comments(self, block: bytes, at: int, big: int, kept: list[str]) -> None:
        for code, value in _options(block, at, big):
            if code == OPT_COMMENT and self._comment_bytes + len(value) <= MAX_COMMENTS:
                self._comment_bytes += len(value)
                kept.append(_text(value))

    def _pass(self, window: Window, length: int) -> bool:
        trailer = word32(window.bytes(length - 4, 4), 0, self._big)
        if trailer != length:
            raise _bad_trailer(window.stream_at, length, trailer)
        window.advance(length)
        self.skipped_blocks += 1
        return True

    def _skip(self, window: Window, length: int) -> bool:
        """Pass over a block that the window may be too small for; this waits for all of it."""
        start, big = window.stream_at, self._big
        passed = window.skip(length - 4)
        while window.held() < 4 and passed == length - 4 and window.fill():
            pass
        if window.held() < 4 or passed < length - 4:
            raise Damaged(start, f"a block of {length} bytes")
        trailer = word32(window.bytes(0, 4), 0, big)
        if trailer != length:
            raise _bad_trailer(start, length, trailer)
        window.advance(4)
        self.skipped_blocks += 1
        return True

    def _wrong(self, window: Window, status: int) -> Exception:
        """What the walker objects to in the block at hand."""
        at, big = window.stream_at, self._big
        head = window.bytes(0, PACKET_HEADER)
        kind, length = word32(head, 0, big), word32(head, 4, big)
        if status == BAD_LENGTH:
            return _bad_length(window, length, 16 if kind == SIMPLE_PACKET_BLOCK else 32)
        if status == BAD_TRAILER:
            return _bad_trailer(at, length, word32(window.bytes(length - 4, 4), 0, big))
        iface = 0
        if kind != SIMPLE_PACKET_BLOCK:
            iface = word16(head, 8, big) if kind == PACKET_BLOCK else word32(head, 8, big)
        if status == BAD_IFACE:
            known = len(self.interfaces) - self._first_iface
            return Damaged(at, f"one of the {known} interfaces of its section", f"a frame of interface {iface}")
        if status == FOREIGN:
            return foreign(self._file, self.interfaces[self._first_iface + iface].linktype)
        assert status == BAD_CAPLEN
        caplen = word32(head, 8 if kind == SIMPLE_PACKET_BLOCK else 20, big)
        return Damaged(
            at,
            f"a frame of at most {MAX_CAPLEN} bytes that fits its block of {length}",
            f"a length of {caplen}",
        )


def clock_of(interface: Interface) -> tuple[int, ...]:
    """An interface as the fields of a Clock: the factors of its time stamps ("if_tsresol", "if_tsoffset")."""
    exponent = interface.tsresol & 0x7F
    decimal = not interface.tsresol & 0x80
    fine = exponent - 9
    ns_per_tick = 10 ** max(-fine, 0)
    easy = decimal and fine <= 0 and not interface.tsoffset
    return (
        interface.linktype,
        int(interface.linktype in PLAYED),
        interface.fcs_bytes,
        interface.snaplen,
        -1 if decimal else exponent,
        10 ** min(exponent, 9),
        ns_per_tick,
        # In two steps, because 10**19 does not fit; from 10**20 on nothing is left of a 64-bit time stamp.
        10 ** min(fine, 9) if decimal and fine > 0 else 0,
        10 ** min(max(fine - 9, 0), 18),
        min(max(interface.tsoffset, -MAX_OFFSET), MAX_OFFSET),
        (MAX_SECONDS * NS // ns_per_tick) >> 32 if easy else 0,
    )


def _byte_order(head: bytes) -> int:
    """1 for big-endian, 0 for little-endian, -1 for neither."""
    if word32(head, 8, 0) == BYTE_ORDER_MAGIC:
        return 0
    return 1 if word32(head, 8, 1) == BYTE_ORDER_MAGIC else -1


def _whole_block(window: Window, length: int, shortest: int, big: int) -> bytes:
    """The block at hand, checked; none when it is not all there yet."""
    if length & 3 or length < shortest or length > MAX_BLOCK:
        raise _bad_length(window, length, shortest)
    if window.held() < length:
        return b""
    block = window.bytes(0, length)
    trailer = word32(block, length - 4, big)
    if trailer != length:
        raise _bad_trailer(window.stream_at, length, trailer)
    return block


def _options(block: bytes, at: int, big: int) -> Iterator[tuple[int, bytes]]:
    """The options of a block; one that does not fit ends them."""
    end = len(block) - 4
    while at + 4 <= end:
        code, length = word16(block, at, big), word16(block, at + 2, big)
        if not code or at + 4 + length > end:
            return
        yield code, block[at + 4 : at + 4 + length]
        at += 4 + (length + 3 & ~3)


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode("utf-8", "replace")


def _bad_length(window: Window, length: int, shortest: int, longest: int = MAX_BLOCK) -> Damaged:
    expected = f"a block length from {shortest} to {longest} that is a multiple of 4"
    return Damaged(window.stream_at, expected, f"{length}")


def _bad_trailer(at: int, length: int, trailer: int) -> Damaged:
    return Damaged(at, f"a block that ends in its length {length}", f"{trailer}")

"""pcap: one header, then records (draft-ietf-opsawg-pcap, sections "File Header" and "Packet Record").

The functions run plain and compiled: integers in, tuples of integers out.  `PcapFile` is the part that meets
a file once, in Python.
"""

from typing import Any, NamedTuple

from emu.capture.linktype import PLAYED, linktype_name
from emu.capture.window import Damaged, Window
from emu.engine.plain import Engine
from emu.errors import CaptureError
from emu.kernel.machine import (
    DIR_INBOUND,
    DIR_OUTBOUND,
    DIR_UNKNOWN,
    NONE,
    PACKET_HOST,
    PACKET_OTHERHOST,
    PACKET_OUTGOING,
)
from emu.wire.octets import Octets

MAX_CAPLEN = 262_144  # libpcap's and Wireshark's bound for Ethernet: a longer "frame" is a damaged length
FILE_HEADER = 24
RECORD_HEADER = 16
PACKET_TYPE_AT = 22  # in Kuznetzov's record header (libpcap 1.10 sf-pcap.c, pcap_sf_patched_pkthdr)

# The word of the link type: "FCS len" counts 16-bit units and means something when the f bit is set.
FCS_KNOWN = 1 << 26
FCS_UNITS_SHIFT = 28

# Why a walker returns; pcapng has more of them.
FULL, STARVED, OTHER, BAD_LENGTH, BAD_TRAILER, BAD_IFACE, BAD_CAPLEN, FOREIGN = range(8)

# Magic number, as written by a little-endian machine: (nanoseconds per tick, bytes of a record header).
MAGICS = {
    0xA1B2C3D4: (1_000, RECORD_HEADER),
    0xA1B23C4D: (1, RECORD_HEADER),
    0xA1B2CD34: (
        1_000,
        24,
    ),  # Kuznetzov's: each record also has an interface index, a protocol and a packet type
}


class Interface(NamedTuple):
    """A capture's interface: `tsresol` is the option's octet, `tsoffset` in seconds.

    `device` is the device that the user named for the capture, else -1.
    """

    name: str
    linktype: int
    snaplen: int
    section: int
    tsresol: int
    tsoffset: int
    fcs_bytes: int = 0
    device: int = NONE


def word16(octets: Octets, at: int, big: int) -> int:
    """The 16-bit integer at `at`, big-endian if `big`.

    It is a sum of products because numba types `uint8 << int` as uint64, which with an int64 makes a float.
    """
    if big:
        return octets[at] * 0x100 + octets[at + 1]
    return octets[at] + octets[at + 1] * 0x100


def word32(octets: Octets, at: int, big: int) -> int:
    """The 32-bit integer at `at`, big-endian if `big`; see `word16` for why not with shifts."""
    if big:
        return octets[at] * 0x1000000 + octets[at + 1] * 0x10000 + octets[at + 2] * 0x100 + octets[at + 3]
    return octets[at] + octets[at + 1] * 0x100 + octets[at + 2] * 0x10000 + octets[at + 3] * 0x1000000


def set_lengths(row: Any, caplen: int, length: int, fcs: int) -> None:
    """The frame's lengths, without its frame check sequence of `fcs` bytes, if it has one."""
    fcs = min(fcs, length)
    row.length = length - fcs
    row.caplen = min(caplen, length - fcs)
    row.fcs_bytes = fcs
    row.fcs_caplen = caplen - min(caplen, length - fcs)


def direction_of(packet_type: int) -> int:
    """DIR_* of a packet type of the kernel (PACKET_*)."""
    if packet_type == PACKET_OUTGOING:
        return DIR_OUTBOUND
    if PACKET_HOST <= packet_type <= PACKET_OTHERHOST:
        return DIR_INBOUND
    return DIR_UNKNOWN


def walk_records(
    octets: Octets,
    at: int,
    end: int,
    big: int,
    tick_ns: int,
    header: int,
    linktype: int,
    fcs: int,
    frame: int,
    rows: Any,
    first: int,
    limit: int,
) -> tuple[int, int, int]:
    """Turn the records from `at` on into up to `limit` rows, numbered from `frame`.

    Returns where it stopped, how many rows there are, and why: FULL, STARVED, BAD_CAPLEN.
    """
    count = 0
    while count < limit:
        if end - at < header:
            return at, count, STARVED
        caplen = word32(octets, at + 8, big)
        if caplen > MAX_CAPLEN:
            return at, count, BAD_CAPLEN
        if end - at - header < caplen:
            return at, count, STARVED
        length = word32(octets, at + 12, big)
        row = rows[first + count]
        row.frame = frame
        row.packet_id = frame
        row.own_id = 0
        row.iface = 0
        # 2**32 s and 2**32 us together stay below 2**62 ns.
        row.file_time_ns = word32(octets, at, big) * 1_000_000_000 + word32(octets, at + 4, big) * tick_ns
        row.offset = at + header
        # Some writers leave the length at 0; a frame is no shorter than what was caught of it.
        set_lengths(row, caplen, max(length, caplen), fcs)
        row.direction = DIR_UNKNOWN
        if header > RECORD_HEADER:
            row.direction = direction_of(octets[at + PACKET_TYPE_AT] & 0xFF)
        row.linktype = linktype
        at += header + caplen
        frame += 1
        count += 1
    return at, count, FULL


class PcapFile:
    """A pcap file as the reader meets it."""

    name = "pcap"
    first = "a file header of 24 bytes"

    def __init__(self, engine: Engine, file: str, big: int, magic: int, device: int = NONE) -> None:
        """Know the byte order and the resolution from the magic number; `device` is what the user named for it."""
        self.interfaces: list[Interface] = []
        self.section_comments: list[str] = []
        self.statistics_comments: list[str] = []
        self.skipped_blocks = 0
        self._file = file
        self._walk = engine.function(walk_records)
        self._big = big
        self._device = device
        self._linktype = self._fcs = 0
        self._tick_ns, self._header = MAGICS[magic]

    def open(self, window: Window) -> bool:
        """Read the file header; False: it is not all there yet."""
        if window.held() < FILE_HEADER:
            return False
        head = window.bytes(0, FILE_HEADER)
        major, minor = word16(head, 4, self._big), word16(head, 6, self._big)
        if major != 2:
            raise Damaged(window.stream_at + 4, "pcap version 2.x", f"version {major}.{minor}")
        # The upper bits say how long a frame check sequence is, and are not part of the type.
        word = word32(head, 20, self._big)
        self._linktype = word & 0xFFFF
        self._fcs = (word >> FCS_UNITS_SHIFT) * 2 if word & FCS_KNOWN else 0
        if self._linktype not in PLAYED:
            raise foreign(self._file, self._linktype)
        resolution, snaplen = 9 if self._tick_ns == 1 else 6, word32(head, 16, self._big)
        self.interfaces.append(Interface("", self._linktype, snaplen, 0, resolution, 0, self._fcs, self._device))
        window.advance(FILE_HEADER)
        return True

    def read(self, window: Window, rows: Any, first: int, limit: int, frame: int) -> int:
        """Turn what the window holds into rows; 0: more bytes are needed."""
        big, tick_ns, header = self._big, self._tick_ns, self._header
        at, count, status = self._walk(
            window.octets,
            window.at,
            window.end,
            big,
            tick_ns,
            header,
            self._linktype,
            self._fcs,
            frame,
            rows,
            first,
            limit,
        )
        window.advance(at - window.at)
        if status == BAD_CAPLEN and not count:
            caplen = word32(window.bytes(8, 4), 0, big)
            raise Damaged(window.stream_at, f"a record of at most {MAX_CAPLEN} bytes", f"a length of {caplen}")
        return count

    def wanted(self, window: Window) -> str:
        """What must stand where the stream has just ended."""
        if window.held() < self._header:
            return f"a record header of {self._header} bytes"
        return f"a record of {self._header + word32(window.bytes(8, 4), 0, self._big)} bytes"


def foreign(file: str, linktype: int) -> CaptureError:
    """The error for frames of a link type that is not played."""
    kind = f"link type {linktype} ({linktype_name(linktype)})"
    expected = "Ethernet, Linux cooked (SLL), BSD loopback or raw IP"
    return CaptureError(f"emu cannot play {file}: its frames have {kind}, expected {expected}")

"""The plain capture: frames as a source gives them, in pcapng or pcap, nanoseconds in both.

A pcapng keeps everything that a row says: interfaces by name and link type, direction and frame check sequence in
epb_flags, packet ids that the file itself had, and the comments of the section header.  A pcap has room for one link
type, and neither for comments nor for directions.
Sources: draft-ietf-opsawg-pcapng; draft-ietf-opsawg-pcap, sections "File Header" and "Packet Record".
"""

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from emu.capture.blocks import (
    EPB_FLAGS,
    EPB_PACKETID,
    FLAG_INBOUND,
    FLAG_OUTBOUND,
    FLAGS_FCS_SHIFT,
    MAX_FCS_BYTES,
    OPT_COMMENT,
    OPT_ENDOFOPT,
    SNAPLEN,
    end_packet,
    interface_block,
    put_frame,
    put_option,
    section_header,
    statistics_block,
)
from emu.capture.frames import FrameSource
from emu.capture.output import OutputFile
from emu.capture.pcap import FCS_KNOWN, FCS_UNITS_SHIFT, RECORD_HEADER, Interface
from emu.engine.plain import Engine
from emu.errors import UsageError
from emu.kernel.machine import DIR_INBOUND, DIR_OUTBOUND
from emu.kernel.record import record
from emu.wire.headers import LINKTYPE_ETHERNET
from emu.wire.octets import Octets, copy_octets, put_le32

PCAP, PCAPNG = "pcap", "pcapng"
COMPRESSED_SUFFIXES = (".gz", ".zst", ".xz", ".lz4")
PCAP_NS_MAGIC = 0xA1B23C4D
SECOND_NS = 1_000_000_000
SECONDS_END = 1 << 32  # a pcap has 32 bits for them: until 2106

FILL = 1 << 20  # the buffer is written when it holds so much
MAX_OVERHEAD = 64  # bytes of a block around its frame: header, padding, options, trailer
BUFFER = FILL + SNAPLEN + MAX_OVERHEAD
assert FILL % 4 == 0 and BUFFER % 4 == 0, "blocks start on multiples of 4"


@record
class Form:
    """What the encoder must know besides rows, and what it counts."""

    pcapng: int  # 1: blocks, 0: records
    interfaces: int  # that are described
    linktype: int  # of a pcap
    fcs_bytes: int  # of a pcap, of every frame
    frames: int
    octets: int  # of frames, as captured
    last_ns: int


def format_of(name: str) -> str:
    """PCAP or PCAPNG, by the name of the file.  Errors: UsageError for a name that promises compression."""
    suffix = Path(name).suffix.lower()
    if suffix in COMPRESSED_SUFFIXES:
        raise UsageError(f"{name}: emu does not compress; write a .pcapng, or -w - into {_compressor(suffix)}")
    return PCAP if suffix == ".pcap" else PCAPNG


def _compressor(suffix: str) -> str:
    return {".gz": "gzip", ".zst": "zstd"}.get(suffix, suffix[1:])


class CaptureWriter:
    """Writes frames as they are; after every `write` the file is valid.

    `frames` and `octets` say how many frames and how many of their bytes have been written.
    """

    def __init__(
        self,
        output: OutputFile,
        engine: Engine,
        *,
        file_format: str = PCAPNG,
        comments: Sequence[str] = (),
        interfaces: Sequence[Interface] = (),
    ) -> None:
        """Write the headers as far as they are known; `comments` go to a pcapng's section header.

        Errors: UsageError when a comment or a name is too long, or a pcap is to hold two link types.
        """
        assert file_format in (PCAP, PCAPNG), file_format
        self.output = output
        self.format = file_format
        self._buffer = bytearray(BUFFER)
        self._out = engine.view(self._buffer)
        self._encode = engine.function(encode_plain)
        self._faults = engine.function(fault_of)
        self._form = engine.new(Form)
        self._form.pcapng = int(file_format == PCAPNG)
        self._headed = file_format == PCAPNG  # the file header of a pcap waits for the first frame
        if file_format == PCAPNG:
            output.write(section_header(comments))
        self._describe(interfaces)

    @property
    def frames(self) -> int:
        """How many frames have been written."""
        return int(self._form.frames)

    @property
    def octets(self) -> int:
        """How many of their bytes."""
        return int(self._form.octets)

    def write(self, rows: Any, first: int, last: int, source: FrameSource) -> None:
        """Write `rows[first:last]`, which `source` has read and not discarded.

        Errors: UsageError when a frame does not fit the format.
        """
        self._describe(source.interfaces)
        if first < last and not self._headed:
            linktype, fcs = int(rows[first].linktype), int(rows[first].fcs_bytes)
            self._head(linktype, fcs)
        while first < last:
            after, size = self._encode(rows, first, last, source.octets, self._out, self._form)
            self.output.write(memoryview(self._buffer)[:size])
            if after < last and size < FILL:
                self._refuse(rows, after, len(source.octets))
            first = after

    def close(self, incomplete: str | None = None) -> None:
        """Write what stands at the end; the caller finishes the output.

        `incomplete` says why the capture ends early: it becomes the comment of the first interface's statistics.  A
        pcap has no place for it.
        """
        if not self._headed:
            self._head(LINKTYPE_ETHERNET, 0)
        if incomplete is not None and self.format == PCAPNG and int(self._form.interfaces):
            self.output.write(statistics_block(0, int(self._form.last_ns), (OPT_COMMENT, incomplete.encode())))

    def _describe(self, interfaces: Sequence[Interface]) -> None:
        """Describe the interfaces that are new."""
        for interface in interfaces[int(self._form.interfaces) :]:
            if self.format == PCAPNG:
                self.output.write(interface_block(interface.linktype, interface.name))
            self._form.interfaces += 1

    def _head(self, linktype: int, fcs_bytes: int) -> None:
        """The file header of a pcap: all frames must be like the first; an odd length cannot be told."""
        self._form.linktype = linktype
        self._form.fcs_bytes = fcs_bytes
        told = FCS_KNOWN | fcs_bytes // 2 << FCS_UNITS_SHIFT if fcs_bytes and fcs_bytes % 2 == 0 else 0
        if fcs_bytes and not told:
            raise UsageError(f"{self.output.name}: a pcap cannot tell of {fcs_bytes} bytes of FCS; write a .pcapng")
        self.output.write(struct.pack("<IHHiIII", PCAP_NS_MAGIC, 2, 4, 0, 0, SNAPLEN, linktype | told))
        self._headed = True

    def _refuse(self, rows: Any, at: int, size: int) -> None:
        """Say why a row could not be written; anything but a limit of the pcap format is a bug."""
        frame, fault = self._faults(rows, at, size, self._form)
        where = f"{self.output.name}: frame {frame}"
        if fault == OTHER_LINKTYPE:
            raise UsageError(
                f"{where}: its link type differs from the first frame's; a pcap holds one, write a .pcapng"
            )
        if fault == OTHER_FCS:
            raise UsageError(
                f"{where}: its FCS differs from the first frame's; a pcap holds one length, write a .pcapng"
            )
        if fault == LATE:
            raise UsageError(f"{where}: its time lies beyond 2106, which a pcap cannot tell; write a .pcapng")
        raise AssertionError(f"{where}: not within the window, or of no interface")


SOUND, OTHER_LINKTYPE, OTHER_FCS, LATE, UNSOUND = range(5)


def encode_plain(rows: Any, first: int, last: int, octets: Octets, out: bytearray, form: Any) -> tuple[int, int]:
    """Encode frames from `rows[first]` on into `out`; returns the next row and the end of what is written.

    Stops before `last` when `out` holds FILL bytes, and at a row that cannot be written.
    """
    row, at = first, 0
    while row < last and at < FILL:
        packet = rows[row]
        if plain_fault(packet, len(octets), form) != SOUND:
            break
        time_ns = max(packet.file_time_ns, 0)
        if form.pcapng:
            at = put_packet_block(packet, octets, out, at, time_ns)
        else:
            at = put_pcap_record(packet, octets, out, at, time_ns)
        form.frames += 1
        form.octets += packet.caplen
        form.last_ns = max(form.last_ns, time_ns)
        row += 1
    return row, at


def plain_fault(packet: Any, size: int, form: Any) -> int:
    """Why a row cannot be written, or SOUND."""
    held = packet.caplen + packet.fcs_caplen
    if packet.caplen < 0 or packet.fcs_caplen < 0 or held > SNAPLEN:
        return UNSOUND
    if packet.offset < 0 or packet.offset > size - held or packet.iface < 0 or packet.iface >= form.interfaces:
        return UNSOUND
    if form.pcapng:
        return SOUND
    if packet.linktype != form.linktype:
        return OTHER_LINKTYPE
    if packet.fcs_bytes != form.fcs_bytes:
        return OTHER_FCS
    return LATE if packet.file_time_ns >= SECONDS_END * SECOND_NS else SOUND


def fault_of(rows: Any, at: int, size: int, form: Any) -> tuple[int, int]:
    """The frame number of a row, and why it cannot be written."""
    return int(rows[at].frame), plain_fault(rows[at], size, form)


def put_packet_block(packet: Any, octets: Octets, out: bytearray, at: int, time_ns: int) -> int:
    """One Enhanced Packet Block; returns its end.  What nobody knows is left out."""
    start = at
    at = put_frame(packet, octets, out, at, packet.iface, time_ns)
    told = flags_of(packet)
    if told:
        put_option(out, at, EPB_FLAGS, 4)
        put_le32(out, at + 4, told)
        at += 8
    if packet.own_id:
        put_option(out, at, EPB_PACKETID, 8)
        put_le32(out, at + 4, packet.packet_id)
        put_le32(out, at + 8, packet.packet_id >> 32)
        at += 12
    if told or packet.own_id:
        put_option(out, at, OPT_ENDOFOPT, 0)
        at += 4
    return end_packet(out, start, at)


def flags_of(packet: Any) -> int:
    """The word of epb_flags: direction and FCS length."""
    way = FLAG_INBOUND if packet.direction == DIR_INBOUND else 0
    if packet.direction == DIR_OUTBOUND:
        way = FLAG_OUTBOUND
    return int(way | min(packet.fcs_bytes, MAX_FCS_BYTES) << FLAGS_FCS_SHIFT)


def put_pcap_record(packet: Any, octets: Octets, out: bytearray, at: int, time_ns: int) -> int:
    """One record of a pcap; returns its end."""
    held = packet.caplen + packet.fcs_caplen
    put_le32(out, at, time_ns // SECOND_NS)
    put_le32(out, at + 4, time_ns % SECOND_NS)
    put_le32(out, at + 8, held)
    put_le32(out, at + 12, packet.length + packet.fcs_bytes)
    copy_octets(out, at + RECORD_HEADER, octets, packet.offset, held)
    return int(at + RECORD_HEADER + held)


__all__ = ["PCAP", "PCAPNG", "CaptureWriter", "format_of"]

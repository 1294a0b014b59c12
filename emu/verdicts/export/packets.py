"""Captures with only some frames of an annotated one: those that survived, or those that were lost.

Whose frame it is, the interface says: `eth0` or `eth0-drop`.  Survivors are what the emulated machine had to do with
and did not lose: frames that it delivered, that were still on their way at the end, that it sent, and that it only
overheard.  So TCP analysis sees each segment as often as the host did.  Lost are drops, what an oops took along, and
what was not played after it.

A pcapng keeps names of interfaces, comments, directions, packet ids and queues; the statistics of interfaces are left
out, for they speak of the whole run.  A pcap keeps frames and times (nanoseconds).
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from emu import __version__
from emu.capture.annotate import pair_of
from emu.capture.annotated import AnnotatedReader
from emu.capture.blocks import (
    OPT_COMMENT,
    interface_block,
    section_header,
    statistics_block,
)
from emu.capture.comments import Verdict
from emu.capture.output import OutputFile
from emu.capture.pcap import Interface
from emu.capture.reader import CaptureReader
from emu.capture.write import PCAP, CaptureWriter
from emu.engine.plain import Engine
from emu.errors import CaptureError
from emu.kernel.machine import Packet
from emu.verdicts.export.formats import Advance, Exported
from emu.verdicts.export.packet_block import options_of, packet_block

BATCH = 4_096  # rows


def export_packets(
    reader: CaptureReader,
    engine: Engine,
    name: str,
    lost: bool,
    output: OutputFile,
    file_format: str,
    advance: Advance | None,
) -> Exported:
    """Write the frames that were lost, or the others, of the annotated capture `reader`, opened with `engine`.

    Errors: CaptureError when it is not one, UsageError when a pcap cannot hold what it has.
    """
    if file_format == PCAP:
        frames = _write_pcap(reader, engine, lost, output, advance)
    else:
        what = "lost frames" if lost else "survivors"
        comment = f"emu {__version__} export: {what} of {name}"
        frames = _write_pcapng(reader, engine, lost, output, comment, advance)
    if not any(pair_of(interface.name)[1] for interface in reader.interfaces):
        raise CaptureError(f"{name}: {NO_LOST}")
    nothing = "no frame of it was lost" if lost else "all frames of it were lost"
    annotated = AnnotatedReader(reader, engine)
    return Exported(frames, "frames", nothing=nothing, incomplete=annotated.incomplete, damage=annotated.damage)


NO_LOST = "has no interface NAME-drop: no annotated capture; `emu replay CAPTURE -w FILE` writes one"


def batches(
    source: CaptureReader | AnnotatedReader, rows: Any, reader: CaptureReader, advance: Advance | None
) -> Iterator[int]:
    """Read `source` batch by batch into `rows`; yields how many there are.  `reader` knows how far it is."""
    while count := source.read(rows, 0, BATCH):
        yield count
        source.discard(source.position)
        if advance is not None:
            advance(reader.bytes_read, reader.size)


class Frame(NamedTuple):
    """What is copied of a row, by either engine: see Packet."""

    iface: int
    file_time_ns: int
    offset: int
    caplen: int
    fcs_caplen: int
    length: int
    fcs_bytes: int


def chosen(ifaces: Sequence[int], interfaces: Sequence[Interface], lost: bool) -> list[int]:
    """Which rows of a batch are wanted, by the interfaces that they came in on."""
    wanted = [pair_of(interface.name)[1] is lost for interface in interfaces]
    return [at for at, iface in enumerate(ifaces) if wanted[iface]]


def _write_pcap(reader: CaptureReader, engine: Engine, lost: bool, output: OutputFile, advance: Advance | None) -> int:
    writer = CaptureWriter(output, engine, file_format=PCAP)
    rows = engine.rows(Packet, BATCH)
    for count in batches(reader, rows, reader, advance):
        wanted = chosen(engine.column(rows, "iface", count), reader.interfaces, lost)
        for first, last in runs(wanted):
            writer.write(rows, first, last, reader)
    writer.close()
    return writer.frames


def runs(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Ascending numbers as ranges without a gap: the first, and one behind the last."""
    first = 0
    for at in range(1, len(numbers) + 1):
        if at == len(numbers) or numbers[at] != numbers[at - 1] + 1:
            yield numbers[first], numbers[at - 1] + 1
            first = at


def _write_pcapng(
    reader: CaptureReader, engine: Engine, lost: bool, output: OutputFile, comment: str, advance: Advance | None
) -> int:
    """Write wanted frames with their options; interfaces are numbered anew, and times are in nanoseconds."""
    frames, last_ns, numbers = 0, 0, Numbers(lost)
    # The type of rows that verdicts are read with: what is compiled for them serves here.
    rows = engine.rows(Verdict, BATCH)
    output.write(section_header([*reader.section_comments, comment]))
    for count in batches(reader, rows, reader, advance):
        output.write(numbers.describe(reader.interfaces))
        columns = zip(*(engine.column(rows, field, count) for field in Frame._fields), strict=True)
        parts = []
        for frame in map(Frame._make, columns):
            if frame.iface in numbers.of:
                parts.append(copied_block(frame, reader.octets, numbers.of[frame.iface]))
                last_ns = max(last_ns, frame.file_time_ns)
        output.write(b"".join(parts))
        frames += len(parts)
    output.write(numbers.describe(reader.interfaces))
    incomplete = AnnotatedReader(reader, engine).incomplete
    if incomplete and numbers.of:
        output.write(statistics_block(0, last_ns, (OPT_COMMENT, incomplete.encode())))
    return frames


class Numbers:
    """The interfaces of the new file: `of` says the number of an old one."""

    def __init__(self, lost: bool) -> None:
        """Those of lost frames, or the others."""
        self.of: dict[int, int] = {}
        self._lost = lost
        self._met = 0

    def describe(self, interfaces: Sequence[Interface]) -> bytes:
        """The descriptions of those that are new and wanted."""
        described = []
        for number in range(self._met, len(interfaces)):
            interface = interfaces[number]
            if pair_of(interface.name)[1] is self._lost:
                self.of[number] = len(self.of)
                described.append(interface_block(interface.linktype, interface.name))
        self._met = len(interfaces)
        return b"".join(described)


def copied_block(frame: Frame, octets: Any, interface: int) -> bytes:
    """The frame's block for another file: the same bytes, the same options."""
    held = frame.caplen + frame.fcs_caplen
    packet = bytes(octets[frame.offset : frame.offset + held])
    said = options_of(frame.offset, held, octets)
    return packet_block(interface, max(frame.file_time_ns, 0), packet, frame.length + frame.fcs_bytes, said)

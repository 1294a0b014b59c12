"""What the tests of rewriting share: a capture rewritten, in rows and as a file that other tools read."""

import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from capture_kit import Frame, pcap_header, pcap_record, play, source_of

from emu.capture.frames import FrameSource
from emu.capture.reader import CaptureReader
from emu.engine.plain import Engine, PlainEngine
from emu.traffic.rewrite.rules import Rewritten
from emu.traffic.rewrite.source import report_of, rewritten
from emu.traffic.rewrite.spec import parse_rewrite

PLAIN = PlainEngine()
ETHERNET = 1
NS = 1_000_000_000


def capture_of(frames: Iterable[bytes], linktype: int = ETHERNET, gap_us: int = 10) -> bytes:
    """A pcap of these frames, from second 1 on."""
    records = [pcap_record(octets, 1, at * gap_us) for at, octets in enumerate(frames)]
    return pcap_header(linktype=linktype) + b"".join(records)


def reader_of(data: bytes | Path, engine: Engine = PLAIN, window: int = 1 << 16) -> CaptureReader:
    """A reader of a capture in memory, or of a file."""
    return CaptureReader(source_of(data.read_bytes() if isinstance(data, Path) else data), "test", engine, window)


def rewritten_reader(
    data: bytes | Path, engine: Engine = PLAIN, host: str | None = None, **options: Any
) -> FrameSource:
    """A capture as the options (of parse_rewrite) want it."""
    rewrite = parse_rewrite(**options)
    return rewritten(reader_of(data, engine), rewrite, engine, lambda: reader_of(data, engine), host)


def rewrite(data: bytes | Path, engine: Engine = PLAIN, **options: Any) -> tuple[list[Frame], Rewritten]:
    """All frames of a rewritten capture, and the report."""
    reader = rewritten_reader(data, engine, **options)
    frames = play(reader, engine, 512)
    report = report_of(reader)
    assert report is not None
    return frames, report


def rewrite_frames(frames: Iterable[bytes], linktype: int = ETHERNET, **options: Any) -> list[bytes]:
    """Frames rewritten."""
    return [frame.octets for frame in rewrite(capture_of(frames, linktype), **options)[0]]


def written(path: Path, frames: Iterable[Frame], linktype: int = ETHERNET) -> Path:
    """The frames as a pcap in nanoseconds."""
    with path.open("wb") as out:
        out.write(pcap_header(magic=0xA1B23C4D, linktype=linktype))
        for frame in frames:
            seconds, ticks = divmod(frame.file_time_ns, NS)
            out.write(struct.pack("<IIII", seconds, ticks, frame.caplen, frame.length) + frame.octets)
    return path

"""Crafted floods as frames in memory, as a capture for other tools, and as those tools read them."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from external_tools import run

from emu.engine.plain import PlainEngine
from emu.kernel.machine import Packet
from emu.traffic.flood.kinds import parse_flood
from emu.traffic.flood.source import Ends, open_flood

BATCH = 512
PCAP_NS = 0xA1B23C4D
CHECKSUMS = [f"-o{protocol}.check_checksum:TRUE" for protocol in ("ip", "tcp", "udp")]
BAD_CHECKSUM = "0"  # a checksum's status, as tshark numbers it
LEAST_ERROR = 0x800000  # severity of an expert item


class Crafted(NamedTuple):
    """A frame and its time."""

    time_ns: int
    octets: bytes


def craft(text: str, ends: Ends | None = None) -> Iterator[Crafted]:
    """The frames of a flood as `--flood` takes it."""
    engine = PlainEngine()
    source = open_flood(parse_flood(text, "test"), engine, ends=ends)
    rows = engine.rows(Packet, BATCH)
    while count := source.read(rows, 0, BATCH):
        for row in (rows[at] for at in range(count)):
            yield Crafted(row.file_time_ns, bytes(source.octets[row.offset : row.offset + row.caplen]))
        source.discard(source.position)
    source.close()


def write_pcap(path: Path, frames: Iterator[Crafted] | list[Crafted]) -> Path:
    """A pcap with nanoseconds of these frames."""
    with path.open("wb") as file:
        file.write(struct.pack("<IHHiIII", PCAP_NS, 2, 4, 0, 0, 65535, 1))
        for frame in frames:
            size = len(frame.octets)
            file.write(struct.pack("<IIII", *divmod(frame.time_ns, 10**9), size, size) + frame.octets)
    return path


def tshark_fields(path: Path, fields: list[str], *options: str) -> list[dict[str, str]]:
    """What tshark shows of each frame, checksums validated."""
    wanted = [word for field in fields for word in ("-e", field)]
    shown = run("tshark", "-n", "-r", path, *CHECKSUMS, *options, "-Tfields", "-Eseparator=/t", *wanted)
    return [dict(zip(fields, line.split("\t"), strict=True)) for line in shown.splitlines()]


def template_file(path: Path, frames: list[Any]) -> Path:
    """A capture of Scapy's frames."""
    return write_pcap(path, [Crafted(0, bytes(frame)) for frame in frames])

"""User CPU of tshark with the plugin and without it, alternately in one run, on a large annotated capture.

Inputs are generated, one frame in ten dropped: `mixed` repeats pcaps/mixed.pcap with new addresses for each copy,
`udp` 60-byte datagrams, the least work that plain tshark can have with a frame.  The CPU of whole processes counts.

The floor is a plugin that reads the comments and does nothing: no Lua plugin that knows them can be quicker, for tshark
builds a tree of every frame as soon as any field is read, and without one it builds none for the packet list.
"""

import argparse
import resource
import statistics
import struct
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from emu.capture.annotate import AnnotatedWriter
from emu.capture.output import OutputFile
from emu.capture.reader import open_capture
from emu.engine.plain import PlainEngine
from emu.kernel import drop_reason as dr
from emu.kernel.machine import Packet
from emu.wire.headers import KIND_TCP, KIND_UDP
from emu.wireshark.plugin import plugin_text

ROOT = Path(__file__).parent.parent.parent
EPB = 6
COPY_NS = 5_000_000_000  # from one copy to the next
PROTOCOL_KINDS = {6: KIND_TCP, 17: KIND_UDP}
WANTED = 1.6  # times the user CPU of plain tshark, at most

# What is measured: name -> arguments of plain tshark, arguments of the plugin's.
PAIRS = {
    "packet list": ((), ()),
    "numbers of frames": (("-T", "fields", "-e", "frame.number"),) * 2,
    "nothing shown": (("-Y", "frame.number < 0"),) * 2,
    "filter on drops": (("-Y", 'frame.comment contains "DROP"'), ("-Y", "emu.dropped == 1")),
    "all fields of drops": (
        ("-T", "fields", "-e", "frame.comment"),
        ("-T", "fields", "-e", "emu.reason", "-e", "emu.class", "-e", "emu.reserve_used", "-e", "emu.culprit"),
    ),
    "details": (("-V",), ("-V",)),
}
FLOOR = """local floor, comments = Proto("floor", "Reads the comments"), Field.new("frame.comment")
function floor.dissector() comments() end
register_postdissector(floor)
"""


def write_datagrams(path: Path, count: int) -> None:
    """A pcap of UDP datagrams of 60 bytes to 16 ports of a host."""
    with path.open("wb") as out:
        out.write(struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262144, 1))
        for number in range(count):
            ip = bytes.fromhex("4500002e0001000040110000 0a420001 0a420002")
            frame = bytes.fromhex("020000000001 020000000002 0800") + ip
            frame += struct.pack(">HHHH", 4000, 9000 + number % 16, 26, 0) + bytes(18)
            out.write(struct.pack("<IIII", 1_700_000_000, number * 10_000, len(frame), len(frame)) + frame)


def drop(row: Any, octets: bytearray) -> None:
    """Make the frame a dropped one, with numbers of the usual size."""
    protocol = octets[row.offset + 23]
    kind = PROTOCOL_KINDS.get(protocol, KIND_UDP)
    values = {
        "verdict": dr.DROPPED,
        "reason": dr.PFMEMALLOC,
        "point": dr.AT_TCP_V4_RCV,
        "rule": 1,
        "kind": kind,
        "sk": 0,
    }
    values |= {"reserve_used_before": row.frame % 50, "reserve_used_after": 49, "cap_skbs": 50}
    values |= {"free_pages": row.frame % 97, "floor_pages": 137, "ring_free": 64, "culprit_id": row.frame - 1}
    for name, value in values.items():
        setattr(row, name, value)


def annotate(source: Path, into: Path) -> int:
    """Write an annotated capture of a capture, every tenth frame dropped; returns its number of frames."""
    engine = PlainEngine()
    with open_capture(str(source), engine) as reader, OutputFile(into) as output:
        writer = AnnotatedWriter(
            output, engine, policy="phillips-v5", rules=("", "tcp: device in reserve"), devices=("eth0",), comments=()
        )
        rows = engine.rows(Packet, 256)
        while count := reader.read(rows, 0, 256):
            for row in (rows[at] for at in range(count)):
                row.verdict, row.time_ns = dr.DELIVERED, row.file_time_ns
                row.decided_ns = row.time_ns + 9_000
                if row.frame % 10 == 0:
                    drop(row, reader.octets)
            writer.write(rows, 0, count, reader.octets)
            reader.discard(reader.position)
        writer.close()
        return reader.frames


def packet_blocks(capture: bytes) -> tuple[int, list[int]]:
    """Where the packets of our own capture begin, and the length of each packet's block."""
    at, first, lengths = 0, 0, []
    while at < len(capture):
        kind, length = struct.unpack_from("<II", capture, at)
        if kind == EPB:
            first = first or at
            lengths.append(length)
        at += length
    return first, lengths


def repeat(capture: Path, into: Path, frames: int) -> int:
    """Copies of an annotated capture, each later and of other hosts than the one before; returns the frames."""
    source = capture.read_bytes()
    first, lengths = packet_blocks(source)
    copies = -(-frames // len(lengths))
    with into.open("wb") as out:
        out.write(source[:first])
        for copy in range(copies):
            block = bytearray(source[first : first + sum(lengths)])
            at = 0
            for number, length in enumerate(lengths, 1):
                move(block, at, length, copy, copy * len(lengths) + number)
                at += length
            out.write(block)
    return copies * len(lengths)


def move(block: bytearray, at: int, length: int, copy: int, packet_id: int) -> None:
    """Give a packet block another time, packet id and, if it is IPv4, other addresses."""
    high, low = struct.unpack_from("<II", block, at + 12)
    time_ns = (high << 32 | low) + copy * COPY_NS
    struct.pack_into("<II", block, at + 12, time_ns >> 32, time_ns & 0xFFFFFFFF)
    # At the end: the packet id, the queue (8 bytes), the end of options (4), the length (4).
    struct.pack_into("<Q", block, at + length - 24, packet_id)
    if block[at + 40 : at + 42] == b"\x08\x00":
        for address in (at + 28 + 26, at + 28 + 30):
            block[address + 1] ^= copy >> 8
            block[address + 2] ^= copy & 0xFF


def user_seconds(*arguments: str) -> float:
    """User CPU of one run of tshark; nothing but the note about root may stand in its errors."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    done = subprocess.run(("tshark", *arguments), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=True)
    errors = [line for line in done.stderr.decode().splitlines() if not line.startswith("Running as user")]
    assert not errors, errors
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before


def measure(console: Console, name: str, path: Path, frames: int, rounds: int, folder: Path, kinds: list[str]) -> None:
    """Print the medians of each command's runs, and how many times plain tshark's CPU the floor and the plugin take."""
    table = Table(title=f"{name}: {frames} frames, {path.stat().st_size >> 20} MiB, {rounds} rounds, user CPU")
    for column in (
        "what",
        "plain, s",
        "floor, s",
        "plugin, s",
        "floor/plain",
        f"plugin/plain (wanted: {WANTED})",
        "range",
    ):
        table.add_column(column, justify="left" if column == "what" else "right")
    for kind in kinds:
        plain, ours = PAIRS[kind]
        commands = (plain, (*loaded(folder / "floor.lua"), *plain), (*loaded(folder / "emu.lua"), *ours))
        spent = [[user_seconds("-r", str(path), *command) for command in commands] for _ in range(rounds)]
        seconds = [f"{statistics.median(column):.2f}" for column in zip(*spent, strict=True)]
        ratios = [[run / of_round[0] for run in of_round[1:]] for of_round in spent]
        floor, plugin = zip(*ratios, strict=True)
        shown = (f"{statistics.median(floor):.2f}", f"{statistics.median(plugin):.2f}")
        table.add_row(kind, *seconds, *shown, f"{min(plugin):.2f}-{max(plugin):.2f}")
    console.print(table)


def loaded(plugin: Path) -> tuple[str, str]:
    """The arguments that make tshark load a plugin."""
    return "-X", f"lua_script:{plugin}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--what", choices=PAIRS, action="append", help="default: all")
    parser.add_argument("--input", choices=("mixed", "udp"), action="append", help="default: both")
    chosen = parser.parse_args()
    console = Console(width=120)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "emu.lua").write_text(plugin_text(), encoding="utf-8")
        Path(folder, "floor.lua").write_text(FLOOR, encoding="utf-8")
        for name in chosen.input or ("mixed", "udp"):
            source = ROOT / "pcaps/mixed.pcap"
            if name == "udp":
                source = Path(folder, "udp.pcap")
                write_datagrams(source, 5000)
            once, path = Path(folder, f"{name}-once.pcapng"), Path(folder, f"{name}.pcapng")
            annotate(source, once)
            frames = repeat(once, path, chosen.frames)
            measure(console, name, path, frames, chosen.rounds, Path(folder), chosen.what or list(PAIRS))
            path.unlink()


if __name__ == "__main__":
    main()

"""A directory with the trace of a real kernel, read and verified before anything is compared.

Source: the traces that this reads were made with kprobes on Debian kernels; tests/check/e1000e_61/README.md says how.
Equal rows are kept once with their count: 45 000 rows are some twenty different ones.
"""

import csv
import gzip
import json
import lzma
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, NamedTuple

from emu.errors import CaptureError, UsageError

PACKETS = "packets.csv.gz"
SUMMARY = "summary.json"
RUN = "run.json"
GUEST_TAP = "guest_tap.pcap"
HOST_TAP = "host_tap.pcap"

COLUMNS = ("class", "seq", "pfmemalloc", "sk_memalloc", "filter_ret", "fate", "location")
FIRST = 10  # how many examples are kept of anything

# What a damaged compressed file raises, whichever compression it is.
DAMAGE = (EOFError, OSError, zlib.error, lzma.LZMAError, UnicodeDecodeError, csv.Error)

OPENERS: tuple[tuple[str, Any], ...] = ((".xz", lzma.open), (".gz", gzip.open), ("", open))

CLASS_UDP = "udp_unread"
CLASS_ECHO = "icmp_echo"
UDP_PORT = 9001  # of the class udp_unread; its payload starts with the sequence number
ECHO_ID = 0x4837  # of the class icmp_echo; likewise
ICMP_ECHOREPLY, ICMP_ECHO = 0, 8


class Row(NamedTuple):
    """What one received packet's record says; None where a column is empty."""

    traffic: str  # its class
    pfmemalloc: int
    sk_memalloc: int | None  # of the socket whose filter it met
    filter_ret: int | None  # what sk_filter_trim_cap returned
    fate: str  # `ok`, or `drop:` and a reason
    location: str  # where it was dropped


@dataclass
class Repeated:
    """Equal rows: how many, and the numbers of the first of them."""

    row: Row
    count: int = 0
    first: list[int] = field(default_factory=list)


@dataclass
class Tap:
    """What a packet tap saw of the traffic that can be joined to rows: sequence numbers."""

    name: str
    frames: int = 0
    cut: bool = False  # the last record is incomplete
    udp: set[int] = field(default_factory=set)
    echo_requests: set[int] = field(default_factory=set)
    echo_replies: set[int] = field(default_factory=set)


@dataclass
class Trace:
    """A trace directory, as far as it is there."""

    name: str
    kernel: str  # as run.json names it, "" when it does not
    nic: str
    arguments: dict[str, Any]
    summary: dict[str, Any]
    rows: int
    repeated: list[Repeated]
    sequences: dict[
        tuple[str, int], list[int]
    ]  # by class and pfmemalloc bit, of the classes that taps can be joined to
    guest_tap: Tap | None
    host_tap: Tap | None

    def section(self, name: str) -> dict[str, Any] | None:
        """An object of the summary; None when there is none of that name."""
        value = self.summary.get(name)
        if value is not None and not isinstance(value, dict):
            raise CaptureError(f"{self.name}/{SUMMARY}: {name}: expected an object, found {_brief(value)}")
        return value

    def entries(self, name: str) -> list[Any] | None:
        """A list of the summary; None when there is none of that name."""
        value = self.summary.get(name)
        if value is not None and not isinstance(value, list):
            raise CaptureError(f"{self.name}/{SUMMARY}: {name}: expected a list, found {_brief(value)}")
        return value

    def whole(self, where: str, value: Any) -> int:
        """A whole number of the summary."""
        if isinstance(value, bool) or not isinstance(value, int):
            raise CaptureError(f"{self.name}/{SUMMARY}: {where}: expected a whole number, found {_brief(value)}")
        return value

    @property
    def lost_events(self) -> int | None:
        """How many trace events the kernel's ring buffer lost; None when the summary does not say."""
        lines = self.entries("ftrace_dropped")
        if not lines:
            return None
        lost = 0
        for line in lines:
            said = re.fullmatch(r"\s*([a-z ]+?)\s*:\s*(\d+)\s*", line) if isinstance(line, str) else None
            if said is None:
                raise CaptureError(
                    f"{self.name}/{SUMMARY}: ftrace_dropped: expected lines as 'overrun: 0', found {_brief(line)}"
                )
            if said[1] != "entries":
                lost += int(said[2])
        return lost

    @property
    def rows_traced(self) -> int | None:
        """How many rows the trace had when its summary was made; None when the summary does not say."""
        classes = self.section("per_class")
        if classes is None:
            return None
        return sum(
            self.whole(f"per_class {name} rx", counts.get("rx", 0)) if isinstance(counts, dict) else 0
            for name, counts in classes.items()
        )


def _brief(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else text[:37] + "..."


def read_trace(directory: Path) -> Trace:
    """Read a trace directory; UsageError when something needed is not there, CaptureError when it is damaged."""
    if not directory.is_dir():
        raise UsageError(f"{directory}: expected a directory with {PACKETS}, {SUMMARY} and {RUN}")
    for name in (PACKETS, SUMMARY, RUN):
        if not (directory / name).is_file():
            raise UsageError(f"{directory}: there is no {name}; expected {PACKETS}, {SUMMARY} and {RUN}")
    summary = _read_json(directory / SUMMARY)
    arguments = _read_json(directory / RUN).get("args", {})
    if not isinstance(arguments, dict):
        raise CaptureError(f"{directory / RUN}: args: expected an object, found {_brief(arguments)}")
    trace = Trace(
        name=str(directory),
        kernel=str(arguments.get("kernel", "")),
        nic=str(arguments.get("nic", "")),
        arguments=arguments,
        summary=summary,
        rows=0,
        repeated=[],
        sequences={},
        guest_tap=_read_tap(directory, GUEST_TAP),
        host_tap=_read_tap(directory, HOST_TAP),
    )
    _read_packets(directory / PACKETS, trace)
    return trace


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise CaptureError(f"{path}: expected JSON: {error}") from error
    if not isinstance(value, dict):
        raise CaptureError(f"{path}: expected a JSON object, found {_brief(value)}")
    return value


def _read_packets(path: Path, trace: Trace) -> None:
    repeated: dict[tuple[str, ...], Repeated] = {}
    number = 0
    try:
        with gzip.open(path, "rt", encoding="utf-8", newline="") as stream:
            lines = csv.reader(stream)
            header = next(lines, [])
            missing = [name for name in COLUMNS if name not in header]
            if missing:
                raise CaptureError(f"{path}: the header lacks {', '.join(missing)}; expected {', '.join(COLUMNS)}")
            at_class, at_seq, at_bit, at_sk, at_ret, at_fate, at_location = (header.index(name) for name in COLUMNS)
            for number, cells in enumerate(lines, 1):
                if len(cells) != len(header):
                    raise CaptureError(f"{path}: row {number}: expected {len(header)} columns, found {len(cells)}")
                traffic, bit = cells[at_class], cells[at_bit]
                key = (traffic, bit, cells[at_sk], cells[at_ret], cells[at_fate], cells[at_location])
                seen = repeated.get(key)
                if seen is None:
                    seen = repeated[key] = Repeated(_row(key, f"{path}: row {number}"))
                seen.count += 1
                if len(seen.first) < FIRST:
                    seen.first.append(number)
                if traffic in (CLASS_UDP, CLASS_ECHO):
                    sequence = _whole(cells[at_seq], f"{path}: row {number}: seq")
                    trace.sequences.setdefault((traffic, seen.row.pfmemalloc), []).append(sequence)
    except DAMAGE as error:
        raise CaptureError(f"{path}: expected gzip'd CSV, found damage after row {number}: {error}") from error
    trace.rows = number
    trace.repeated = list(repeated.values())


def _row(key: tuple[str, ...], where: str) -> Row:
    traffic, bit, memalloc, returned, fate, location = key
    for name, value, may_be_empty in (("pfmemalloc", bit, False), ("sk_memalloc", memalloc, True)):
        if value not in ("0", "1") and not (may_be_empty and value == ""):
            raise CaptureError(f"{where}: {name}: expected 0 or 1, found {value!r}")
    if fate != "ok" and not (fate.startswith("drop:") and len(fate) > len("drop:")):
        raise CaptureError(f"{where}: fate: expected ok or drop:REASON, found {fate!r}")
    return Row(
        traffic=traffic,
        pfmemalloc=int(bit),
        sk_memalloc=int(memalloc) if memalloc else None,
        filter_ret=_whole(returned, f"{where}: filter_ret") if returned else None,
        fate=fate,
        location=location,
    )


def _whole(text: str, where: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise CaptureError(f"{where}: expected a whole number, found {text!r}") from None


def open_capture(directory: Path, name: str) -> tuple[Path, IO[bytes]] | None:
    """Open a capture by its name without the suffix of its compression; None when there is none."""
    for suffix, open_file in OPENERS:
        path = directory / (name + suffix)
        if path.is_file():
            return path, open_file(path, "rb")
    return None


class Captured(NamedTuple):
    """A frame of a pcap file: when, how long it was on the wire, and what is there of it."""

    time_ns: int
    length: int
    octets: bytes


def frames(path: Path, stream: IO[bytes], tap: Tap) -> Iterator[Captured]:
    """The frames of a pcap file, either byte order; sets `tap.cut` when the last one is not all there."""
    header = stream.read(24)
    unit_ns = 1 if b"\x3c\xb2" in header[:4] or b"\xb2\x3c" in header[:4] else 1000
    order: Any = {b"\xd4\xc3\xb2\xa1": "little", b"\x4d\x3c\xb2\xa1": "little"}.get(header[:4])
    if order is None:
        order = {b"\xa1\xb2\xc3\xd4": "big", b"\xa1\xb2\x3c\x4d": "big"}.get(header[:4])
    if order is None or len(header) < 24:
        raise CaptureError(f"{path}: expected a pcap file, found one that starts with {header[:4].hex(' ')}")
    while record := stream.read(16):
        length = int.from_bytes(record[8:12], order)
        frame = stream.read(length) if len(record) == 16 and length <= 1 << 18 else b""
        if len(record) < 16 or len(frame) < length:
            tap.cut = True  # the capturing program was stopped in the middle of a record
            return
        seconds, fraction, wire = (int.from_bytes(record[at : at + 4], order) for at in (0, 4, 12))
        yield Captured(seconds * 1_000_000_000 + fraction * unit_ns, wire, frame)


def _read_tap(directory: Path, name: str) -> Tap | None:
    opened = open_capture(directory, name)
    if opened is None:
        return None
    path, stream = opened
    tap = Tap(path.name)
    try:
        with stream:
            for frame in frames(path, stream, tap):
                tap.frames += 1
                _note(tap, frame.octets)
    except DAMAGE as error:
        raise CaptureError(f"{path}: damaged after frame {tap.frames}: {error}") from error
    return tap


def _note(tap: Tap, frame: bytes) -> None:
    """Note a frame's sequence number if it is of a class that carries one; IPv4 without options, as it was sent."""
    if len(frame) < 46 or frame[12:15] != b"\x08\x00\x45":
        return
    sequence = int.from_bytes(frame[42:46], "big")
    if frame[23] == 17:
        if int.from_bytes(frame[36:38], "big") == UDP_PORT:
            tap.udp.add(sequence)
    elif frame[23] == 1 and int.from_bytes(frame[38:40], "big") == ECHO_ID:
        if frame[34] == ICMP_ECHO:
            tap.echo_requests.add(sequence)
        elif frame[34] == ICMP_ECHOREPLY:
            tap.echo_replies.add(sequence)

"""The recorded event stream as a file: what the machine did and what happened to it, between which frames.

One JSON object a line: a header, then `[event, frames, time_ns, dev, number]`, where `frames` is how many frames had
arrived before and `dev` is a device, socket or zone (see `kernel.machine.EVENTS`).  The header holds the scenario, and
of a live run who the host is on each device, so that a replay needs capture and stream alone.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from emu.capture.output import OutputFile
from emu.engine.plain import Engine
from emu.errors import UsageError
from emu.kernel.machine import BACKLOG_DEV, EVENTS, MAX_AGAIN, MAX_DEVICES, MAX_SOCKETS, MAX_ZONES, Event
from emu.traffic.host import Host

VERSION = 1
CHUNK = 4096
MAX_HEADER = 1 << 24  # bytes
MAC_BITS = 48
MAX_NUMBER = 1 << 24  # packets, buffers or pages of one event
POLLS = ("poll-begin", "packets", "poll-end", "squeeze")  # of a device, or of the CPU's backlog
BOUNDS = {"read": MAX_SOCKETS, "open": MAX_SOCKETS, "pages": MAX_ZONES, "again": MAX_AGAIN}


COLUMNS = ("event", "frames", "time_ns", "dev", "number")


class HostOf(Struct, frozen=True, kw_only=True):
    """Who the host is on a device whose frames state their direction."""

    dev: int
    mac: int


class Header(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a stream begins with; `scenario` has the tables of the file that would say the same."""

    emu_events: int
    scenario_sha256: str | None = None
    scenario: dict[str, Any] | None = None
    hosts: list[HostOf] = []


def header_of(scenario_sha256: str, scenario: dict[str, Any], hosts: Mapping[int, Host]) -> Header:
    """The header of a stream that begins now; only hosts that are known by direction are told."""
    told = [HostOf(dev=dev, mac=host.mac) for dev, host in sorted(hosts.items()) if host.by_direction]
    return Header(emu_events=VERSION, scenario_sha256=scenario_sha256, scenario=_said(scenario), hosts=told)


def _said(tables: Any) -> Any:
    """What a file would say: a key without a value is not there."""
    if isinstance(tables, dict):
        return {key: _said(value) for key, value in tables.items() if value is not None}
    return [_said(each) for each in tables] if isinstance(tables, list) else tables


class EventWriter:
    """Writes a stream while it is recorded."""

    def __init__(self, output: OutputFile, engine: Engine, header: Header) -> None:
        """Write the header."""
        self.output = output
        self._column = engine.column
        self._encode = msgspec.json.Encoder().encode_lines
        output.write(msgspec.json.encode(header, order="deterministic") + b"\n")

    def write(self, log: Any, length: int) -> None:
        """Append log[0:length]."""
        if length:
            kinds, *numbers = (self._column(log, name, length) for name in COLUMNS)
            rows = zip(map(EVENTS.__getitem__, kinds), *numbers, strict=True)
            self.output.write(self._encode(list(rows)))


def header_in(path: str) -> Header:
    """The header of a stream.  Errors: UsageError when there is none, or not one of this version."""
    try:
        with Path(path).open("rb") as file:
            return _header(path, file.readline(MAX_HEADER))
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: str, error: OSError) -> UsageError:
    return UsageError(f"{path}: cannot read the event stream: {error}")


def _header(path: str, line: bytes) -> Header:
    try:
        header = msgspec.json.decode(line, type=Header)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        header = None
    if header is None or header.emu_events != VERSION or not all(map(_is_possible, header.hosts)):
        raise UsageError(f"{path}: not an event stream of emu (version {VERSION}); see --record-events")
    return header


def _is_possible(host: HostOf) -> bool:
    return 0 <= host.dev < MAX_DEVICES and 0 <= host.mac < 1 << MAC_BITS


class EventReader:
    """Reads a stream in chunks; a line that is none is a UsageError that names it."""

    def __init__(
        self, path: str, engine: Engine, devices: int, plan: int = 0, scenario_sha256: str | None = None
    ) -> None:
        """Open the file and check its header; the machine has `devices` devices, its plan `plan` entries.

        A header that names another scenario than `scenario_sha256` is a UsageError.
        """
        self.path = path
        self.plan = plan
        self.bounds = BOUNDS | dict.fromkeys((*POLLS, "intr"), devices)
        self.engine = engine
        self.events = engine.rows(Event, CHUNK)
        self.more = True
        self._lines = self._read()
        header = next(self._lines)
        self.hosts = {
            each.dev: Host(each.mac, True, "the recording says so") for each in header.hosts if each.dev < devices
        }
        recorded = header.scenario_sha256 or scenario_sha256
        if scenario_sha256 is not None and recorded != scenario_sha256:
            raise UsageError(
                f"{path}: recorded under another scenario (sha256 {str(recorded)[:12]}..., this one is "
                f"{scenario_sha256[:12]}...); give the scenario, policy and settings of the recording"
            )

    def _read(self) -> Iterator[Any]:
        """The header, then what each line says."""
        try:
            with Path(self.path).open("rb") as file:
                yield _header(self.path, file.readline(MAX_HEADER))
                for number, line in enumerate(file, 2):
                    try:
                        yield json.loads(line)
                    except (ValueError, RecursionError):
                        raise UsageError(f"{self.path}: line {number}: not JSON") from None
        except OSError as error:
            raise _unreadable(self.path, error) from None

    def chunk(self) -> int:
        """Read the next events into `events`; how many, and `more` is false after the last."""
        count = 0
        for count, row in enumerate(self._lines, 1):
            self.engine.fill(self.events[count - 1], self._event(row))
            if count == CHUNK:
                return count
        self.more = False
        return count

    def _event(self, row: Any) -> dict[str, int]:
        good = isinstance(row, list) and len(row) == 5 and row[0] in EVENTS
        if not good or not all(type(value) is int and abs(value) < 1 << 62 for value in row[1:]):
            raise UsageError(f"{self.path}: not an event: {json.dumps(row)[:80]}")
        event, frames, time_ns, dev, number = row
        possible = 0 <= dev < self.bounds.get(event, 1) or (event in POLLS and dev == BACKLOG_DEV)
        if not possible or abs(number) > MAX_NUMBER or (event == "plan" and not 0 <= number < self.plan):
            raise UsageError(f"{self.path}: not possible on this machine: {json.dumps(row)}")
        return {"event": EVENTS.index(event), "frames": frames, "time_ns": time_ns, "dev": dev, "number": number}

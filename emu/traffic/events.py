"""The recorded event stream as a file: what the machine did and what happened to it, between which frames.

One JSON object a line: a header, then `[event, frames, time_ns, dev, number]`, where `frames` is how many frames had
arrived before and `dev` is a device, socket or zone (see `kernel.machine.EVENTS`).
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from emu.capture.output import OutputFile
from emu.engine.plain import Engine
from emu.errors import UsageError
from emu.kernel.machine import BACKLOG_DEV, EVENTS, MAX_AGAIN, MAX_SOCKETS, MAX_ZONES, Event

VERSION = 1
CHUNK = 4096
MAX_NUMBER = 1 << 24  # packets, buffers or pages of one event
POLLS = ("poll-begin", "packets", "poll-end")  # of a device, or of the CPU's backlog
BOUNDS = {"read": MAX_SOCKETS, "pages": MAX_ZONES, "again": MAX_AGAIN}


class EventWriter:
    """Writes a stream while it is recorded."""

    def __init__(self, output: OutputFile, scenario_sha256: str) -> None:
        """Write the header."""
        self.output = output
        header = {"emu_events": VERSION, "scenario_sha256": scenario_sha256}
        output.write(json.dumps(header).encode() + b"\n")

    def write(self, log: Any, length: int) -> None:
        """Append log[0:length]."""
        lines = []
        for at in range(length):
            e = log[at]
            row = [EVENTS[int(e.event)], int(e.frames), int(e.time_ns), int(e.dev), int(e.number)]
            lines.append(json.dumps(row))
        if lines:
            self.output.write(("\n".join(lines) + "\n").encode())


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
        header = next(self._lines, None)
        if not isinstance(header, dict) or header.get("emu_events") != VERSION:
            raise UsageError(f"{path}: not an event stream of emu (version {VERSION}); see --record-events")
        recorded = header.get("scenario_sha256", scenario_sha256)
        if scenario_sha256 is not None and recorded != scenario_sha256:
            raise UsageError(
                f"{path}: recorded under another scenario (sha256 {str(recorded)[:12]}..., this one is "
                f"{scenario_sha256[:12]}...); give the scenario, policy and settings of the recording"
            )

    def _read(self) -> Iterator[Any]:
        try:
            with Path(self.path).open(encoding="utf-8") as file:
                for number, line in enumerate(file, 1):
                    try:
                        yield json.loads(line)
                    except ValueError:
                        raise UsageError(f"{self.path}: line {number}: not JSON") from None
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{self.path}: cannot read the event stream: {error}") from None

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

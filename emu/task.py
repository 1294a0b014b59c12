"""What is to be replayed, and what is left when the replay has ended."""

import os
from collections.abc import Mapping
from fractions import Fraction
from typing import Any, NamedTuple

from emu.errors import CaptureError
from emu.scenario import Scenario
from emu.traffic.beside import Playing
from emu.traffic.crafted import Crafted
from emu.traffic.host import Host
from emu.traffic.pace import PACE_CAPTURED
from emu.traffic.rewrite.rules import Rewritten
from emu.traffic.tally import Totals
from emu.verdicts.expect import Expectation

BATCH = 4096


class Pace(NamedTuple):
    """When frames arrive: PACE_* and its rate as a fraction."""

    mode: int = PACE_CAPTURED
    over: int = 1
    under: int = 1


class Outputs(NamedTuple):
    """What a replay writes; None: not."""

    write: str | None = None
    annotate: str = "drops"
    log: str | None = None
    log_rows: str = "all"
    record_events: str | None = None


NO_OUTPUTS = Outputs()


class Input(NamedTuple):
    """A capture, and the device that it is of; none named: its interfaces say, else the first device."""

    device: str
    path: str
    called: str = ""  # where the path is a temporary file's, which means nothing to a person

    @property
    def name(self) -> str:
        """The capture for a person; a file's name need not be UTF-8, what we write is."""
        if self.called:
            return self.called
        return "stdin" if self.path == "-" else os.fsencode(self.path).decode(errors="replace")


class Task(NamedTuple):
    """What to replay and how."""

    scenario: Scenario
    name: str
    host: str | None = None
    pace: Pace = Pace()
    limit: int | None = None
    filter: str | None = None
    events: str | None = None
    outputs: Outputs = NO_OUTPUTS
    inputs: tuple[Input, ...] = ()
    expectations: tuple[Expectation, ...] = ()
    scenario_files: tuple[str, ...] = ()  # what was read, beside captures: no output may replace it
    batch: int = BATCH
    cores: int = 0  # that a replay may use; 0: two, if this process may and the engine is compiled
    realtime: Fraction | None = None  # times as fast as the clock; None: as fast as can be


class Outcome(NamedTuple):
    """What is left when a replay has ended: the machine, and what was met on the way."""

    task: Task
    machine: Any
    feed: Any
    host: Host  # of the first device that shows frames
    hosts: Mapping[int, Host]  # by device
    engine: str
    compression: str
    interfaces: int
    skipped_blocks: int
    limited: bool
    incomplete: str | None
    damage: CaptureError | None
    interrupted: bool
    first_ns: int
    oops_frame: int  # frames that had arrived when the kernel died
    wall_seconds: float
    cpu_seconds: float
    rss_peak_bytes: int
    crafted: tuple[Crafted, ...] = ()  # what crafted traffic says of itself
    floods: tuple[tuple[Playing, Totals], ...] = ()
    rewritten: Rewritten | None = None

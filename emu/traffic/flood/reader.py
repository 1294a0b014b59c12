"""The reader of a flood: a plan as a source of frames, made on the fly in a window of memory."""

from fractions import Fraction
from typing import Any, NamedTuple

from emu.capture.made import MadeFrames
from emu.capture.pcap import MAX_CAPLEN, Interface
from emu.capture.reader import WINDOW
from emu.engine.plain import Engine
from emu.errors import CaptureError, UsageError
from emu.kernel.machine import NONE
from emu.traffic.crafted import START_NS
from emu.traffic.flood.emit import FLOOD_DONE, FULL_WINDOW, emit
from emu.traffic.flood.plan import RATE_BPS, Plan
from emu.traffic.flood.profile import SECOND_NS, mean_rate, profile_of, rate_text
from emu.traffic.flood.tables import largest_frame, tables_of
from emu.traffic.pace import FRAMING_BYTES
from emu.wire.headers import LINKTYPE_ETHERNET

LAST_START_NS = 1 << 61  # a flood that starts later would outlast the clock


class FloodReport(NamedTuple):
    """What a flood was asked to be, and what it was; rates are exact, and over what was made so far."""

    frames: int
    octets: int  # of frames, without FCS
    first_ns: int
    last_ns: int
    asked: str  # in words
    by_bits: bool  # whether the rate was asked for in bits per second, else in frames per second
    asked_rate: Fraction  # per second, pauses included; of a ramp, its final rate
    achieved_pps: Fraction  # frames per second, from the first frame to the last; 0: there is no time between them
    achieved_bps: Fraction  # with what each frame takes on the wire besides its bytes


class FloodReader(MadeFrames):
    """Reads a flood: a FrameSource.  Memory is the window, however long the flood."""

    format = "crafted"
    compression = ""
    skipped_blocks = 0
    size: int | None = None
    damage: CaptureError | None = None
    damage_offset = -1

    def __init__(
        self,
        plan: Plan,
        engine: Engine,
        *,
        start_ns: int = START_NS,
        device: int = NONE,
        interface: str = "eth0",
        window_bytes: int = WINDOW,
    ) -> None:
        """Set the plan up; `device` is the device that the frames arrive on, -1: none named.

        Errors: UsageError for a plan beyond what emit can do, or a rate that cannot be kept exactly.
        """
        super().__init__(engine, max(window_bytes, largest_frame(plan)))
        self.frames = 0
        self.bytes_read = 0
        self.ended = False
        self.interfaces = [Interface(interface, LINKTYPE_ETHERNET, MAX_CAPLEN, 0, 9, 0, 0, device)]
        self.section_comments = [plan.comment] if plan.comment else []
        self.plan = plan
        self._tables = tables_of(plan, engine, start_ns)
        self._profile = profile_of(plan, engine, largest_frame(plan))
        self._start_ns = START_NS
        self.start_ns = start_ns
        self._emit = engine.function(emit)

    @property
    def endless(self) -> bool:
        """Whether neither a number of frames nor a duration ends the flood."""
        return not (self.plan.frames or self.plan.duration_ns)

    @property
    def start_ns(self) -> int:
        """When the flood starts, in nanoseconds since 1970; it may be set until the first frame is read.

        Errors: UsageError for a time before 1970 or one that the clock has no room behind.
        """
        return self._start_ns

    @start_ns.setter
    def start_ns(self, start_ns: int) -> None:
        assert not self.frames, "frames have been made"
        if not 0 <= start_ns <= LAST_START_NS:
            raise UsageError(f"flood: start at {start_ns} ns; expected 0 to {LAST_START_NS} ns since 1970")
        self._start_ns = start_ns
        self._engine.fill(self._tables.flood, {"start_ns": start_ns})

    def read(self, rows: Any, first: int, limit: int) -> int:
        """Make up to `limit` further frames as `rows[first:first + limit]`; returns how many, 0 at the end."""
        count = 0
        while not (count or self.ended or limit <= 0):
            flood, image = self._tables
            before = self._at
            count, self._at, why = self._emit(flood, self._profile, image, rows, first, limit, self.octets, before)
            self.bytes_read += self._at - before
            self._cramped = why == FULL_WINDOW
            self.ended = why == FLOOD_DONE
            if self._cramped and not count:
                self._grow()
        self.frames += count
        return count

    def report(self) -> FloodReport:
        """What has been made so far, and at what rate; the gap behind the last frame does not count."""
        flood, by_bits = self._tables.flood, self.plan.rate.unit == RATE_BPS
        first_ns, last_ns, octets = int(flood.first_ns), int(flood.last_ns), int(flood.frame_octets)
        last = int(flood.last_size)
        sent_bits = 8 * (octets - last + FRAMING_BYTES * (self.frames - 1))
        per_second = Fraction(SECOND_NS, last_ns - first_ns) if last_ns > first_ns else Fraction(0)
        return FloodReport(
            frames=self.frames,
            octets=octets,
            first_ns=first_ns,
            last_ns=last_ns,
            asked=rate_text(self.plan.rate),
            by_bits=by_bits,
            asked_rate=mean_rate(self.plan.rate),
            achieved_pps=(self.frames - 1) * per_second,
            achieved_bps=sent_bits * per_second,
        )

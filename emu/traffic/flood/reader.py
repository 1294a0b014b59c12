"""The reader of a flood: a plan as a source of frames, made on the fly in a window of memory."""

from typing import Any

from emu.capture.made import CraftedFrames
from emu.capture.reader import WINDOW
from emu.engine.plain import Engine
from emu.errors import UsageError
from emu.kernel.machine import NONE
from emu.traffic.crafted import START_NS
from emu.traffic.flood.emit import FLOOD_DONE, FULL_WINDOW, emit
from emu.traffic.flood.plan import Plan
from emu.traffic.flood.profile import profile_of
from emu.traffic.flood.tables import largest_frame, tables_of

LAST_START_NS = 1 << 61  # a flood that starts later would outlast the clock


class FloodReader(CraftedFrames):
    """Reads a flood: a FrameSource.  Memory is the window, however long the flood."""

    def __init__(
        self,
        plan: Plan,
        engine: Engine,
        *,
        start_ns: int = START_NS,
        device: int = NONE,
        window_bytes: int = WINDOW,
    ) -> None:
        """Set the plan up; `device` is the device that the frames arrive on, -1: none named.

        Errors: UsageError for a plan beyond what emit can do, a rate that cannot be kept exactly, or a start before
        1970 or so late that the clock has no room behind it.
        """
        if not 0 <= start_ns <= LAST_START_NS:
            raise UsageError(f"flood: start at {start_ns} ns; expected 0 to {LAST_START_NS} ns since 1970")
        comments = [plan.comment] if plan.comment else []
        super().__init__(engine, max(window_bytes, largest_frame(plan)), comments, device)
        self._tables = tables_of(plan, engine, start_ns)
        self._profile = profile_of(plan, engine, largest_frame(plan))
        self._emit = engine.function(emit)

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

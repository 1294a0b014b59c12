"""Real readers as something that happens to the machine: what they have consumed is taken off the emulated sockets."""

import time
from typing import Any

from emu.kernel.machine import EVENT_READ, NONE
from emu.kernel.sock import READER_REAL
from emu.live.consumption import Consumption
from emu.live.diag import SocketDiag
from emu.live.live_run import Happening
from emu.live.real_reads import RealReads
from emu.live.truesize import Truesize
from emu.live.wire import LENGTH_BITS, RECENT


class RealReaders:
    """Looks at the host's sockets whenever emulated ones hold something for a real reader."""

    def __init__(self, wire: Any, diag: SocketDiag, truesize: Truesize, *, arrives_at_once: bool = True) -> None:
        """`wire` remembers how long recent frames were; the others are as of `Consumption`."""
        recent = wire.recent
        self._recent = recent.item if hasattr(recent, "item") else recent.__getitem__
        self._wire = wire
        self._consumption = Consumption(self._length_of, truesize=truesize, arrives_at_once=arrives_at_once)
        self._reads = RealReads(diag, self._consumption)
        self._refused = 0
        self.buffers_read = 0

    def look(self, machine: Any) -> list[Happening]:
        """What has been read since the last look."""
        rows = self._waiting(machine)
        if not rows:
            return []
        refused = int(self._wire.survivors_refused)
        if refused != self._refused:  # nobody knows whose they were
            self._refused = refused
            for row in rows:
                self._consumption.lost(machine, row)
        found = self._reads.reads(machine, rows, time.monotonic_ns())
        self.buffers_read += sum(buffers for _, buffers in found)
        return [Happening(EVENT_READ, row, buffers) for row, buffers in found]

    def _waiting(self, machine: Any) -> list[int]:
        """The sockets that hold something for a real reader."""
        of = self._consumption.fields(machine)
        rows, row = [], int(machine.ready_head[READER_REAL])
        while row != NONE:
            rows.append(row)
            row = of.ready_next(row)
        return rows

    def _length_of(self, frame: int) -> int:
        """How many bytes a frame had; 0 of one that was too long ago."""
        told = int(self._recent(frame % RECENT))
        return told & ((1 << LENGTH_BITS) - 1) if told >> LENGTH_BITS == frame else 0

"""Real readers as something that happens to the machine: what they have consumed is taken off the emulated sockets."""

import time
from typing import Any

from emu.kernel.drop_reason import NO_SOCKET
from emu.kernel.machine import EVENT_CONTEXT, EVENT_OPEN, EVENT_READ, NONE
from emu.kernel.sock import IPPROTO_UDP, SS_CLOSED, ends_of_port, sk_find
from emu.live.live_run import Happening
from emu.live.readers.consumption import Consumption
from emu.live.readers.diag import SocketDiag
from emu.live.readers.real_reads import RealReads, rows_waiting
from emu.live.readers.truesize import Truesize
from emu.live.wire import LENGTH_BITS, RECENT

OPENED_EVERY_NS = 250_000_000  # a look at all sockets takes a millisecond


class RealReaders:
    """Looks at the host's sockets whenever emulated ones hold something for a real reader."""

    def __init__(self, wire: Any, diag: SocketDiag, truesize: Truesize, *, arrives_at_once: bool = True) -> None:
        """`wire` remembers how long recent frames were; the others are as of `Consumption`."""
        recent = wire.recent
        self._recent = recent.item if hasattr(recent, "item") else recent.__getitem__
        self._wire = wire
        self._consumption = Consumption(self._length_of, truesize=truesize, arrives_at_once=arrives_at_once)
        self._reads = RealReads(diag, self._consumption)
        self._diag = diag
        self._no_socket = 0  # packets that found none
        self._asked_ns = 0
        self._refused = 0
        self.buffers_read = 0

    def look(self, machine: Any) -> list[Happening]:
        """What has been read since the last look, and which sockets are there again."""
        return self._opened(machine) + self._read(machine)

    def _opened(self, machine: Any) -> list[Happening]:
        """UDP sockets on ports for which the host had refused a datagram: no frame shows that they are there now."""
        refused, now_ns = int(machine.total.drops_by_reason[NO_SOCKET]), time.monotonic_ns()
        if refused == self._no_socket or now_ns - self._asked_ns < OPENED_EVERY_NS:
            return []
        self._no_socket, self._asked_ns = refused, now_ns
        found = []
        for socket in self._diag.look():
            for family in socket.families:
                row = sk_find(machine, ends_of_port(family, IPPROTO_UDP, socket.local_port))
                if socket.protocol == IPPROTO_UDP and row != NONE and int(machine.sk[row].state) == SS_CLOSED:
                    found.append(Happening(EVENT_OPEN, int(row), 0))
        return found

    def _read(self, machine: Any) -> list[Happening]:
        rows = rows_waiting(machine)
        if not rows:
            return []
        refused = int(self._wire.survivors_refused)
        if refused != self._refused:  # nobody knows whose they were
            self._refused = refused
            for row in rows:
                self._consumption.lost(machine, row)
        found = self._reads.reads(machine, rows, time.monotonic_ns())
        self.buffers_read += sum(buffers for _, buffers in found)
        read = [Happening(EVENT_READ, row, buffers) for row, buffers in found]
        return [*read, Happening(EVENT_CONTEXT, 0, 0)] if read else []

    def _length_of(self, frame: int) -> int:
        """How many bytes a frame had; 0 of one that was too long ago."""
        told = int(self._recent(frame % RECENT))
        return told & ((1 << LENGTH_BITS) - 1) if told >> LENGTH_BITS == frame else 0

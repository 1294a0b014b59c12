"""The frames of a live run, as they come: a source like any other, but for its clock."""

from typing import Any

from emu.capture.made import CraftedFrames
from emu.capture.pcap import MAX_CAPLEN, Interface
from emu.engine.plain import Engine
from emu.live.wire import MAX_FRAME, receive
from emu.wire.headers import LINKTYPE_ETHERNET

WINDOW_BYTES = 2 << 20
NANOSECONDS = 9  # as if_tsresol says it
assert WINDOW_BYTES >= 4 * MAX_FRAME, "a frame of each side has room, however little is discarded"


class LiveFrames(CraftedFrames):
    """Reads what waits at both interfaces of a wire; it never ends by itself."""

    format = "live"

    def __init__(self, engine: Engine, wire: Any, device: str) -> None:
        """`wire` is a `Wire`; the frames are those of the device that is called so."""
        super().__init__(engine, WINDOW_BYTES, [], 0)
        self.interfaces = [Interface(device, LINKTYPE_ETHERNET, MAX_CAPLEN, 0, NANOSECONDS, 0, device=0)]
        self._wire = wire
        self._receive = engine.function(receive)

    def read(self, rows: Any, first: int, limit: int) -> int:
        """Turn up to `limit` frames that wait into `rows[first:first + limit]`; how many: 0 when none does."""
        if self._cramped and self._at + 2 * MAX_FRAME > len(self._buffer):
            self._grow()
        last, at = self._receive(self._wire, rows, first, first + limit, self.octets, self._at)
        count = int(last) - first
        self.frames += count
        self.bytes_read += int(at) - self._at
        self._at = int(at)
        self._cramped = self._at + 2 * MAX_FRAME > len(self._buffer)
        return count

    @property
    def is_half_full(self) -> bool:
        """Whether it is time to discard what has been decided."""
        return 2 * self._at > len(self._buffer)

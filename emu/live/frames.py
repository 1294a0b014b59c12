"""The frames of a live run, as they come: a source like any other, but for its clock."""

from typing import Any

from emu.capture.made import CraftedFrames
from emu.capture.pcap import MAX_CAPLEN, Interface
from emu.engine.plain import Engine
from emu.live.system import MAX_FRAME
from emu.wire.headers import LINKTYPE_ETHERNET

WINDOW_BYTES = 2 << 20
NANOSECONDS = 9  # as if_tsresol says it
assert WINDOW_BYTES >= 4 * MAX_FRAME, "a frame of each side has room, however little is discarded"


class LiveFrames(CraftedFrames):
    """The window into which a live run reads its frames; they never end by themselves."""

    format = "live"

    def __init__(self, engine: Engine, device: str) -> None:
        """The frames are those of the device that is called so."""
        super().__init__(engine, WINDOW_BYTES, [], 0)
        self.interfaces = [Interface(device, LINKTYPE_ETHERNET, MAX_CAPLEN, 0, NANOSECONDS, 0, device=0)]

    def read(self, _rows: Any, _first: int, _limit: int) -> int:
        """Nothing: frames are read where they are played (`emu.live.serve`)."""
        return 0

    @property
    def is_half_full(self) -> bool:
        """Whether it is time to discard what has been decided."""
        return 2 * self._at > len(self._buffer)

    def read_to(self, at: int, frames: int) -> None:
        """Note how much of the window is in use, and how many frames have been read in all."""
        self.bytes_read += at - self._at
        self.frames, self._at = frames, at
        self._cramped = at + 2 * MAX_FRAME > len(self._buffer)

    def make_room(self) -> None:
        """Have room for a frame of each side, whatever has to be kept."""
        if self._at + 2 * MAX_FRAME > len(self._buffer):
            self._grow()

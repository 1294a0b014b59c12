"""Frames that wait for an emulated reader: the real stack gets one when its skb has been read.

For sockets whose reader is not a real one: `rate`, `needs-memory`, `never`.
"""

import os
from contextlib import suppress
from typing import Any

from emu.kernel.machine import NONE
from emu.kernel.sock import SS_FREE


class HeldFrames:
    """The frames, by the emulated socket that holds them and in the order of their arrival."""

    def __init__(self, host_fd: int) -> None:
        """Frames are released to this descriptor."""
        self._host_fd = host_fd
        self._held: dict[int, dict[int, bytes]] = {}  # by socket and by frame
        self.released = 0
        self.refused = 0  # of these, that the host's interface did not take

    def __len__(self) -> int:
        """How many are held."""
        return sum(map(len, self._held.values()))

    def keep(self, row: Any, octets: Any) -> None:
        """Hold the frame of a row that has been delivered."""
        at, size = int(row.offset), int(row.caplen)
        self._held.setdefault(int(row.sk), {})[int(row.frame)] = bytes(octets[at : at + size])

    def release(self, m: Any) -> None:
        """Give the host the frames whose skbs lie in no queue of their socket any more."""
        for socket, frames in list(self._held.items()):
            sk = m.sk[socket]
            queued: set[int] = set()
            if int(sk.state) != SS_FREE:
                queued = frames_of(m, int(sk.queue_head)) | frames_of(m, int(sk.ofo_head))
            for frame in [frame for frame in frames if frame not in queued]:
                self._release(frames.pop(frame))
            if not frames:
                del self._held[socket]

    def _release(self, octets: bytes) -> None:
        self.released += 1
        with suppress(OSError):
            os.write(self._host_fd, octets)
            return
        self.refused += 1


def frames_of(m: Any, b: int) -> set[int]:
    """The frames of a queue that begins with an skb."""
    found = set()
    while b != NONE:
        found.add(int(m.skb[b].frame))
        b = int(m.skb[b].next)
    return found

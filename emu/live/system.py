"""What a live run asks of the system for every frame; compiled it is `emu.engine.twins`."""

import os
import select
import sys
import time
from typing import cast

from emu.wire.octets import Octets

NOTHING = -1
MAX_FRAME = 65_600  # the longest that an interface may give: one that aggregates gives 64 KiB and headers
NS_PER_S = 1_000_000_000


def read_into(fd: int, octets: Octets, at: int, size: int) -> int:
    """Read a frame into octets[at:at + size]: its bytes, or -1 when none waits or the descriptor is none to read."""
    try:
        return os.readv(fd, [memoryview(cast(bytearray, octets))[at : at + size]])
    except OSError:
        return NOTHING


def write_from(fd: int, octets: Octets, at: int, size: int) -> int:
    """Write the frame octets[at:at + size]: its bytes, or -1 when it is not taken."""
    try:
        return os.write(fd, memoryview(octets)[at : at + size])
    except OSError:
        return NOTHING


def wait_readable(one: int, other: int, timeout_ns: int) -> int:
    """Wait until one of two descriptors has a frame, so long at most: how many have one, or -1."""
    try:
        return len(select.select([one, other], [], [], timeout_ns / NS_PER_S)[0])
    except (OSError, ValueError):
        return NOTHING


def load_word(memory: Octets, at: int) -> int:
    """The 32-bit word at memory[at:], in this machine's order; what is read after it is not older than it."""
    return int.from_bytes(memory[at : at + 4], sys.byteorder)


def store_word(memory: Octets, at: int, value: int) -> None:
    """Store a 32-bit word, in this machine's order; what was read before it may be written over from then on."""
    cast(bytearray, memory)[at : at + 4] = value.to_bytes(4, sys.byteorder)


def clock_ns() -> int:
    """A clock that never goes back, in ns."""
    return time.monotonic_ns()

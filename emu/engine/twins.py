"""Functions with a second body, for numba alone: where plain Python has one quick step, compiled code has a loop.

A test holds each to the function that it stands for, byte by byte.
"""

from typing import Any

import numpy as np

from emu.capture import lexicon
from emu.engine.memcpy import memcpy
from emu.engine.syscalls import sys_clock_ns, sys_load, sys_read, sys_store, sys_wait, sys_write
from emu.live import system
from emu.wire import checksum, octets
from emu.wire.octets import Octets, be16, be32

FEW_WORDS = 16  # so few take no longer one by one


def vector_sum(span: Any) -> int:
    """The sum of the 32-bit words of an array of bytes, little-endian, as vector instructions."""
    words: Any = span.view(np.uint32)
    total = 0
    for at in range(len(words)):
        total += int(words[at])
    return total


def folded(total: int) -> int:
    """A sum of words modulo 65535, of which 65536 is 1: a division takes as long as the sum of a header."""
    total = (total >> 32) + (total & 0xFFFFFFFF)
    total = (total >> 16) + (total & 0xFFFF)
    total = (total >> 16) + (total & 0xFFFF)
    total = (total >> 16) + (total & 0xFFFF)
    return 0 if total == 65535 else total


def ones_sum(octets: Octets, at: int, end: int) -> int:
    """The sum of 16-bit words, as `emu.wire.checksum.ones_sum`."""
    words = (end - at) >> 2
    total = 0
    if words <= FEW_WORDS:
        for word in range(words):
            total += be32(octets, at + 4 * word)
    else:
        # The sum of words whose bytes are swapped is the sum with its bytes swapped (RFC 1071 section 2 B).
        swapped = folded(vector_sum(octets[at : at + 4 * words]))
        total = (swapped & 0xFF) << 8 | swapped >> 8
    at += 4 * words
    if end - at >= 2:
        total += be16(octets, at)
        at += 2
    if at < end:
        total += (octets[at] & 0xFF) << 8
    return folded(total)


def copy_octets(out: bytearray, at: int, octets: Octets, start: int, length: int) -> None:
    """Copy bytes between places that do not overlap, as `emu.wire.octets.copy_octets`."""
    if length > 0:  # memcpy takes it for a number without a sign
        memcpy(out, at, octets, start, length)


def find_octet(octets: Octets, at: int, end: int, wanted: int) -> int:
    """The place of the first `wanted` in octets[at:end], else `end`: numba has no `find`."""
    while at < end and octets[at] & 0xFF != wanted:
        at += 1
    return at


def same_octets(octets: Octets, at: int, words: Octets, start: int, length: int) -> bool:
    """Whether two stretches of bytes are the same: in numba arrays compare element by element."""
    for index in range(length):  # noqa: SIM110 - numba has no generators
        if octets[at + index] != words[start + index]:
            return False
    return True


def read_into(fd: int, octets: Octets, at: int, size: int) -> int:
    """Read a frame, as `emu.live.system.read_into`."""
    return sys_read(fd, octets, at, size)


def write_from(fd: int, octets: Octets, at: int, size: int) -> int:
    """Write a frame, as `emu.live.system.write_from`."""
    return sys_write(fd, octets, at, size)


def wait_readable(one: int, other: int, timeout_ns: int) -> int:
    """Wait for a frame, as `emu.live.system.wait_readable`."""
    return sys_wait(one, other, timeout_ns)


def load_word(memory: Octets, at: int) -> int:
    """A word of shared memory, as `emu.live.system.load_word`."""
    return sys_load(memory, at)


def store_word(memory: Octets, at: int, value: int) -> None:
    """Set a word of shared memory, as `emu.live.system.store_word`."""
    sys_store(memory, at, value)


def clock_ns() -> int:
    """The clock, as `emu.live.system.clock_ns`."""
    return sys_clock_ns()


TWINS: dict[Any, Any] = {
    checksum.ones_sum: ones_sum,
    octets.copy_octets: copy_octets,
    lexicon.find_octet: find_octet,
    lexicon.same_octets: same_octets,
    system.read_into: read_into,
    system.write_from: write_from,
    system.wait_readable: wait_readable,
    system.load_word: load_word,
    system.store_word: store_word,
    system.clock_ns: clock_ns,
}

"""Integers in byte buffers.  `octets` is anything that yields 0..255 when indexed; LLVM merges these into one load."""

from typing import TypeAlias

# The masks change no value; they keep numba's type of a byte, which is unsigned, out of signed arithmetic.
Octets: TypeAlias = bytes | bytearray | memoryview


def be16(octets: Octets, at: int) -> int:
    """The big-endian 16-bit integer at `at`."""
    return (octets[at] << 8 | octets[at + 1]) & 0xFFFF


def be32(octets: Octets, at: int) -> int:
    """The big-endian 32-bit integer at `at`."""
    return (octets[at] << 24 | octets[at + 1] << 16 | octets[at + 2] << 8 | octets[at + 3]) & 0xFFFFFFFF


def be64_signed(octets: Octets, at: int) -> int:
    """The big-endian 64-bit integer at `at`, two's complement: it fits where all integers are signed."""
    high = be32(octets, at)
    return ((high ^ 0x80000000) - 0x80000000) << 32 | be32(octets, at + 4)


def is_zero(octets: Octets, at: int, end: int) -> bool:
    """Whether all bytes of octets[at:end] are zero."""
    for i in range(at, end):  # noqa: SIM110 - numba has no generators
        if octets[i] != 0:
            return False
    return True


def le16(octets: Octets, at: int) -> int:
    """The little-endian 16-bit integer at `at`."""
    return (octets[at] | octets[at + 1] << 8) & 0xFFFF


def le32(octets: Octets, at: int) -> int:
    """The little-endian 32-bit integer at `at`."""
    return (octets[at] | octets[at + 1] << 8 | octets[at + 2] << 16 | octets[at + 3] << 24) & 0xFFFFFFFF


def put_le16(out: bytearray, at: int, value: int) -> None:
    """Store 16 bits, little-endian."""
    out[at] = value & 0xFF
    out[at + 1] = value >> 8 & 0xFF


def put_le32(out: bytearray, at: int, value: int) -> None:
    """Store 32 bits, little-endian."""
    out[at] = value & 0xFF
    out[at + 1] = value >> 8 & 0xFF
    out[at + 2] = value >> 16 & 0xFF
    out[at + 3] = value >> 24 & 0xFF


def put_be16(out: bytearray, at: int, value: int) -> None:
    """Store 16 bits, big-endian."""
    out[at] = value >> 8 & 0xFF
    out[at + 1] = value & 0xFF


def put_be32(out: bytearray, at: int, value: int) -> None:
    """Store 32 bits, big-endian."""
    out[at] = value >> 24 & 0xFF
    out[at + 1] = value >> 16 & 0xFF
    out[at + 2] = value >> 8 & 0xFF
    out[at + 3] = value & 0xFF


def copy_octets(out: bytearray, at: int, octets: Octets, start: int, length: int) -> None:
    """Copy bytes from one buffer into another."""
    out[at : at + length] = octets[start : start + length]

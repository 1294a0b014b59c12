"""The Internet checksum (RFC 1071): one's complement sums of 16-bit words.

`ones_sum` is the one function with two bodies: a sum of 16-bit words modulo 65535 is a big integer modulo 65535,
which plain Python does in one step, while the compiled engine adds words.  A test holds them equal.
"""

from emu.wire.octets import Octets


def _ones_sum_compiled(octets: Octets, at: int, end: int) -> int:
    # High and low bytes apart: so the loop becomes vector instructions, five times as fast.
    words = (end - at) >> 1
    span = octets[at : at + 2 * words]
    high = 0
    low = 0
    for word in range(words):
        high += span[2 * word]
        low += span[2 * word + 1]
    if (end - at) & 1:
        high += octets[end - 1]
    return ((high << 8) + low) % 65535


def ones_sum(octets: Octets, at: int, end: int) -> int:
    """The sum of the 16-bit words of octets[at:end], an odd last byte padded with zero, modulo 65535."""
    value = int.from_bytes(octets[at:end], "big")
    if (end - at) & 1:
        value <<= 8
    return value % 65535


ones_sum.compiled_twin = _ones_sum_compiled  # type: ignore[attr-defined]


def addresses_sum(saddr: int, daddr: int) -> int:
    """The share of two IPv4 addresses in a pseudo header's sum; not reduced, so never 0 but for two zeros."""
    return (saddr >> 16) + (saddr & 0xFFFF) + (daddr >> 16) + (daddr & 0xFFFF)

"""The Internet checksum (RFC 1071): one's complement sums of 16-bit words.

A sum of 16-bit words modulo 65535 is a big integer modulo 65535, which plain Python does in one step; the compiled
engine adds words (`emu.engine.twins`).
"""

from emu.wire.octets import Octets


def ones_sum(octets: Octets, at: int, end: int) -> int:
    """The sum of the 16-bit words of octets[at:end], an odd last byte padded with zero, modulo 65535."""
    value = int.from_bytes(octets[at:end], "big")
    if (end - at) & 1:
        value <<= 8
    return value % 65535


def addresses_sum(saddr: int, daddr: int) -> int:
    """The share of two IPv4 addresses in a pseudo header's sum; not reduced, so never 0 but for two zeros."""
    return (saddr >> 16) + (saddr & 0xFFFF) + (daddr >> 16) + (daddr & 0xFFFF)

"""IP addresses as texts.  IPv6 as RFC 5952 section 4 and 5 ask for, by our own code: C libraries and releases of
Python differ in what they do with embedded IPv4 addresses, and outputs must not.
"""

from functools import lru_cache

TEXTS = 65_536  # that are remembered: most packets belong to few flows
OCTET = tuple(map(str, range(256)))
HALF = (1 << 64) - 1
MAPPED = 0xFFFF << 32  # ::ffff:0:0/96


@lru_cache(maxsize=TEXTS)
def ipv4_text(address: int) -> str:
    """An IPv4 address; bits above the 32nd are ignored."""
    return (
        f"{OCTET[address >> 24 & 255]}.{OCTET[address >> 16 & 255]}.{OCTET[address >> 8 & 255]}.{OCTET[address & 255]}"
    )


@lru_cache(maxsize=TEXTS)
def ipv6_text(high: int, low: int) -> str:
    """An IPv6 address from its halves, signed or not."""
    high, low = high & HALF, low & HALF
    if high == 0 and low >> 32 << 32 == MAPPED:
        return f"::ffff:{ipv4_text(low & 0xFFFFFFFF)}"
    groups = [half >> shift & 0xFFFF for half in (high, low) for shift in (48, 32, 16, 0)]
    first, length = _longest_zeros(groups)
    if length < 2:
        return ":".join(f"{group:x}" for group in groups)
    before, after = groups[:first], groups[first + length :]
    return f"{':'.join(f'{group:x}' for group in before)}::{':'.join(f'{group:x}' for group in after)}"


def address_text(family: int, high: int, low: int) -> str:
    """An address of a family; all of an IPv4 one is in `low`."""
    return ipv4_text(low) if family == 4 else ipv6_text(high, low)


def _longest_zeros(groups: list[int]) -> tuple[int, int]:
    """Where the first of the longest runs of zeros starts, and how long it is."""
    best = start = length = 0
    best_start = 0
    for at, group in enumerate([*groups, 1]):
        if group:
            if length > best:
                best_start, best = start, length
            length = 0
        else:
            start = at if length == 0 else start
            length += 1
    return best_start, best

"""What every table of a scenario is made of: the class of tables, notes on keys, numbers with units."""

import re
from typing import Annotated, Literal

from msgspec import Meta, Struct

from emu.kernel.sock import READERS

Count = Annotated[int, Meta(ge=0, le=1 << 40)]
Rate = Annotated[int, Meta(ge=1, le=1_000_000_000)]
Rcvbuf = Annotated[int, Meta(ge=256, le=1 << 30)]
Reader = Literal["immediate", "rate", "needs-memory", "never", "real"]
assert Reader.__args__ == READERS  # type: ignore[attr-defined]

TIMES = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": 10**9, "min": 60 * 10**9, "h": 3600 * 10**9}
SIZES = {"B": 1, "kB": 1000, "KiB": 1 << 10, "MB": 10**6, "MiB": 1 << 20, "GiB": 1 << 30}
BYTE_RATES = {"B/s": 1, "kB/s": 1000, "MB/s": 10**6, "GB/s": 10**9}
BIT_RATES = {"kbit/s": 1000, "Mbit/s": 10**6, "Gbit/s": 10**9}


def about(meaning: str, unit: str = "") -> Meta:
    """What a key means, in one sentence, and the unit of its number."""
    return Meta(description=meaning, extra={"unit": unit})


class Part(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """A table of the scenario: unknown keys are refused."""


def _number_of(text: str | int, units: dict[str, int], expected: str) -> int:
    """A number with a unit, such as '1.5s', in the smallest unit; a bare number is in that already."""
    if isinstance(text, int):
        return text
    words = "|".join(sorted(map(re.escape, units), key=len, reverse=True))
    found = re.fullmatch(rf"(\d{{1,9}})(?:\.(\d{{1,9}}))?\s*({words})", text)
    if not found:
        raise ValueError(f"'{text}': expected {expected}")
    unit, part = units[found[3]], found[2] or "0"
    return int(found[1]) * unit + int(part) * unit // int(10 ** len(part))


def time_ns_of(time: str | int) -> int:
    """A time after the first frame, in ns; a bare number is ns.  Errors: ValueError."""
    return _number_of(time, TIMES, "a time such as '1.5s' or '200ms'")


def size_bytes_of(size: str | int) -> int:
    """A size in bytes; a bare number is bytes.  Errors: ValueError."""
    return _number_of(size, SIZES, "a size such as '4KiB' or '64MiB'")


def byte_rate_of(rate: str | int) -> int:
    """A rate in bytes per second; 0: 'unlimited'.  Errors: ValueError, also for a rate of nothing."""
    if rate == "unlimited":
        return 0
    found = _number_of(rate, BYTE_RATES, "'unlimited' or a rate such as '20MB/s'")
    if found == 0:
        raise ValueError(f"'{rate}': expected more than nothing")
    return found


def bit_rate_of(rate: str | int) -> int:
    """A rate in bits per second.  Errors: ValueError."""
    return _number_of(rate, BIT_RATES, "a rate such as '1Gbit/s' or '100Mbit/s'")

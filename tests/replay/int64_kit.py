"""A plain engine that notices what would wrap when compiled: integers of records that must stay within 64 bits.

Every number that a record holds is an `Int64`, and so is whatever is computed from one: a sum, product or shift that
leaves the signed 64 bits is an `Overflow`, even where the end result fits again.  What Python reads from bytes is a
plain integer until it is put into a record; the products there are bounded by the words' widths.
"""

import sys
from collections.abc import Mapping
from functools import cache
from typing import Any

from emu.engine.plain import PlainEngine
from emu.kernel.record import Rows, fields_of

MOST = (1 << 63) - 1
LEAST = -MOST - 1
# Where a product is to lose its upper bits: draw.mix masks it, and the lower bits of 64 are right.
MAY_WRAP = ("emu.traffic.draw",)
OPERATIONS = (
    *("add", "sub", "mul", "floordiv", "mod", "lshift", "rshift", "and", "or", "xor"),
    *("radd", "rsub", "rmul", "rfloordiv", "rmod", "rlshift", "rrshift", "rand", "ror", "rxor"),
    *("neg", "pos", "abs", "invert"),
)


class Overflow(Exception):  # noqa: N818
    """A number that 64 bits do not hold."""


class Int64(int):
    """An integer of 64 bits, whose arithmetic is checked."""


def int64(value: int, depth: int = 2) -> int:
    """The value as an Int64.  Errors: Overflow, unless who computes may wrap."""
    if LEAST <= value <= MOST:
        return Int64(value)
    if sys._getframe(depth).f_globals["__name__"] in MAY_WRAP:
        return value
    code = sys._getframe(depth)
    raise Overflow(f"{code.f_globals['__name__']}.{code.f_code.co_name}, line {code.f_lineno}: {value}")


def checked(name: str) -> Any:
    """The operation of int of this name, its result checked."""
    operation = getattr(int, f"__{name}__")

    def compute(*operands: Any) -> Any:
        result = operation(*operands)
        return result if result is NotImplemented else int64(result)

    return compute


for each in OPERATIONS:
    setattr(Int64, f"__{each}__", checked(each))


class Column(list[int]):
    """An array of integers in a record, of which none counts from the end: compiled, that is before its beginning."""

    def __getitem__(self, at: Any) -> Any:
        if at < 0:
            raise IndexError(f"[{at}] of {len(self)} integers")
        return super().__getitem__(at)

    def __setitem__(self, at: Any, value: Any) -> None:
        if at < 0:
            raise IndexError(f"[{at}] of {len(self)} integers")
        super().__setitem__(at, int64(value))


@cache
def guarded(row: type) -> Any:
    """The record class with checked integers."""
    fields = fields_of(row)

    def __init__(self: Any) -> None:  # noqa: N807
        for name, nested, length in fields:
            if nested is None:
                value: Any = Column([Int64(0)] * length) if length else Int64(0)
            else:
                value = Rows(guarded(nested), length) if length else guarded(nested)()
            object.__setattr__(self, name, value)

    def __setattr__(self: Any, name: str, value: Any) -> None:  # noqa: N807
        object.__setattr__(self, name, int64(value))

    return type(row.__name__, (row,), {"__slots__": (), "__init__": __init__, "__setattr__": __setattr__})


class Int64Engine(PlainEngine):
    """The plain engine on checked records."""

    def new(self, row: type) -> Any:
        """One checked record, zeroed."""
        return guarded(row)()

    def rows(self, row: type, length: int) -> Any:
        """An array of checked records."""
        return Rows(guarded(row), length)

    def fill(self, record: Any, values: Mapping[str, int]) -> None:
        """Set fields of a record."""
        for name, value in values.items():
            setattr(record, name, value)

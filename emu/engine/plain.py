"""The plain engine: the machine's functions as they stand, on plain Python records.  No numpy, no numba."""

from collections.abc import Callable, Mapping
from mmap import mmap
from typing import Any, Protocol, TypeVar

from emu.kernel.record import Rows

REPLAY = "replay"  # what an engine is used for: each use compiles functions of its own
FLOOD = "flood"
RUN = "run"
LIVE = "live"

F = TypeVar("F", bound=Callable[..., Any])


class Engine(Protocol):
    """What the rest of the program needs to know of an engine."""

    name: str

    def function(self, function: F) -> F:
        """The function as this engine runs it."""
        ...

    def new(self, row: type) -> Any:
        """One record, zeroed."""
        ...

    def rows(self, row: type, length: int) -> Any:
        """An array of `length` records, zeroed."""
        ...

    def view(self, buffer: bytearray | mmap) -> Any:
        """The buffer as this engine's functions index it."""
        ...

    def fill(self, record: Any, values: Mapping[str, int]) -> None:
        """Set fields of a record; for set-up, not for the batch loop."""
        ...

    def move(self, rows: Any, source: int, count: int) -> None:
        """Move rows[source:source + count] to the front; what stood there is lost."""
        ...

    def grown(self, rows: Any, length: int) -> Any:
        """The rows in an array of `length` records."""
        ...

    def column(self, rows: Any, name: str, count: int) -> list[int]:
        """A field of the first `count` rows."""
        ...

    def finished(self, use: str = REPLAY) -> None:
        """A run of this use has ended well."""
        ...


class PlainEngine:
    """Runs every function as it is: at once, and steppable in a debugger."""

    name = "plain"

    def function(self, function: F) -> F:
        """The function itself."""
        return function

    def new(self, row: type) -> Any:
        """One record, zeroed."""
        return row()

    def rows(self, row: type, length: int) -> Any:
        """An array of `length` records that come into being when touched."""
        return Rows(row, length)

    def view(self, buffer: bytearray | mmap) -> Any:
        """The buffer itself."""
        return buffer

    def fill(self, record: Any, values: Mapping[str, int]) -> None:
        """Set fields of a record."""
        for name, value in values.items():
            setattr(record, name, int(value))

    def move(self, rows: Any, source: int, count: int) -> None:
        """Swap row objects: the ones at the front are used again."""
        for i in range(count):
            rows[i], rows[source + i] = rows[source + i], rows[i]

    def grown(self, rows: Any, length: int) -> Any:
        """The same rows with a larger bound."""
        grown = Rows(rows.row, length)
        grown.update(rows)
        return grown

    def column(self, rows: Any, name: str, count: int) -> list[int]:
        """A field of the first `count` rows."""
        return [int(getattr(rows[i], name)) for i in range(count)]

    def finished(self, use: str = REPLAY) -> None:
        """Nothing is kept."""

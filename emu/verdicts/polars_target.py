"""A place to write to as polars wants a file."""

from collections.abc import Callable


class PolarsTarget:
    """Hands bytes to a function and keeps its error, for polars tells only the error's text."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        """Write with `write`, which takes all that it is given or raises."""
        self._write = write
        self._size = 0
        self.error: BaseException | None = None

    def write(self, octets: bytes) -> int:
        """Write all of it; after an error nothing more."""
        self.check()
        try:
            self._write(octets)
        except BaseException as error:
            self.error = error
            raise
        self._size += len(octets)
        return len(octets)

    def tell(self) -> int:
        """How many bytes have been written."""
        return self._size

    def flush(self) -> None:
        """Who writes flushes when it finishes."""

    def check(self) -> None:
        """Raise what has gone wrong, if anything has."""
        if self.error is not None:
            raise self.error

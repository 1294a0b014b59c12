"""Standard output whose errors say that it was standard output: Python's own name no file."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO


class NamedOutput(io.TextIOWrapper):
    """A stream of text in place of another on the same bytes; its OSErrors have a name for `filename`."""

    def __init__(self, called: str, stream: TextIO) -> None:
        """Take the place of `stream`, which must not be written any more."""
        unbuffered = isinstance(stream.buffer, io.RawIOBase)
        stream.flush()
        super().__init__(
            stream.buffer,
            stream.encoding,
            stream.errors,
            line_buffering=bool(stream.line_buffering),
            write_through=unbuffered,
        )
        self._called = called

    def write(self, text: str) -> int:
        """Write a text; returns its length."""
        with self._named():
            return super().write(text)

    def flush(self) -> None:
        """Hand what was written to the system."""
        with self._named():
            super().flush()

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            error.filename = self._called
            raise

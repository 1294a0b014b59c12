"""Inputs that are read more than once: by several policies, or by a loop."""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from emu.capture.output import kept_in
from emu.task import Input


@contextmanager
def rereadable(inputs: Sequence[Input]) -> Iterator[Sequence[Input]]:
    """The inputs such that they can be read more than once: a pipe is kept in a temporary file."""
    with ExitStack() as kept:
        yield [
            given._replace(path=_copied(given, kept)) if given.path == "-" or Path(given.path).is_fifo() else given
            for given in inputs
        ]


def _copied(given: Input, until: ExitStack) -> str:
    path = given.path
    folder = Path(until.enter_context(tempfile.TemporaryDirectory(prefix="emu-stdin-")))
    copy = folder / "capture"
    with (
        kept_in(folder.parent, given.name),
        open(0 if path == "-" else path, "rb", closefd=path != "-") as pipe,
        copy.open("wb") as into,
    ):
        shutil.copyfileobj(pipe, into)
    return str(copy)

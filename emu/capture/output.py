"""The files that emu writes: complete under their own name, or visibly unfinished as `NAME.partial`."""

import errno
import os
import re
import shutil
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import IO

from emu.errors import EmuError, Exit, UsageError

STDOUT = "-"
PARTIAL = ".partial"
# What to do about an error of the system, where there is something to do.
CURES = {
    errno.ENOSPC: "make room there, or write to another disk",
    errno.EDQUOT: "your quota is used up: make room, or write to another disk",
    errno.EFBIG: "files may not be larger here: see ulimit -f",
}
POLARS_ERRNO = re.compile(r"\(os error (\d+)\)")  # which tells numbers in words only


class ClosedPipe(EmuError):  # noqa: N818 - not a mistake of anybody: `emu ... -w - | head` closes the pipe
    """Whoever read our output has had enough; nothing needs to be said."""

    exit_code = Exit.EXPECTATION_FAILED


class OutputFile:
    """A binary output: written to `NAME.partial` beside its place, renamed into place by `finish`.

    As a context it finishes when the body ends without an exception, else it keeps `NAME.partial`.  "-" is
    standard output; it, devices and named pipes are written directly.  Errors: UsageError that names the file
    when it cannot be written or is one of `inputs`; ClosedPipe when the reader of a pipe has gone.
    """

    def __init__(self, name: str | os.PathLike[str], inputs: Sequence[str | os.PathLike[str]] = ()) -> None:
        """Open the output; nothing is created when it is refused."""
        self.name = os.fspath(name)
        self.partial: Path | None = None
        self.finished = False
        self.failed = False  # it could not be written: there is no more to come
        # A link stays a link: the file that it points to is replaced.
        self.path = Path(os.path.realpath(self.name))
        try:
            self._refuse(inputs)
            self.stream = self._open()
        except OSError as error:
            raise self._failed(error) from error

    def _open(self) -> IO[bytes]:
        if self.name == STDOUT:
            if sys.stdout is None:
                raise UsageError("-: standard output is closed")
            sys.stdout.flush()
            return sys.stdout.buffer
        # By its name: /dev/stdout and /dev/fd/63 may lead to pipes, which have no path of their own.
        if Path(self.name).exists() and not Path(self.name).is_file():
            return Path(self.name).open("wb")
        partial = self.path.with_name(self.path.name + PARTIAL)
        # What lies there may be a link that somebody else has set: it is removed, never followed.
        partial.unlink(missing_ok=True)
        stream = partial.open("xb")
        self.partial = partial
        return stream

    def _refuse(self, inputs: Sequence[str | os.PathLike[str]]) -> None:
        if not self.name:
            raise UsageError("'': expected the name of a file to write")
        if self.name != STDOUT:
            if self.path.is_dir():
                raise UsageError(f"{self.name}: is a directory; name a file in it")
            if self.path.exists() and not os.access(self.path, os.W_OK):
                raise UsageError(f"{self.name}: exists and is read-only")
        partial = f"{self.path}{PARTIAL}"
        ours = [_identity(self.name, sys.stdout), None if self.name == STDOUT else _identity(partial, None)]
        for given in inputs:
            theirs = _identity(os.fspath(given), sys.stdin)
            if theirs is not None and theirs in ours:
                raise UsageError(f"{self.name}: would overwrite the input {given}; name another output")

    def write(self, octets: bytes | bytearray | memoryview) -> None:
        """Write all of it."""
        try:
            self.stream.write(octets)
        except OSError as error:
            raise self._failed(error) from error

    def flush(self) -> None:
        """Hand what is written to the system: for a reader that watches."""
        try:
            self.stream.flush()
        except OSError as error:
            raise self._failed(error) from error

    def finish(self) -> None:
        """The output is complete: close it and give it its name.  Once finished, does nothing."""
        if self.finished:
            return
        try:
            self.stream.flush()
            if self.name != STDOUT:
                self.stream.close()
            if self.partial is not None:
                self.partial.replace(self.path)
        except OSError as error:
            raise self._failed(error) from error
        self.finished = True

    def abandon(self) -> None:
        """Close it as it is: what was written stays in `NAME.partial`."""
        # A second error would hide the one for which we are here.
        with suppress(OSError):
            if self.name == STDOUT:
                self.stream.flush()
            else:
                self.stream.close()

    def discard(self) -> None:
        """Let go as if it had never been opened: no unfinished file stays behind."""
        self.abandon()
        if self.partial is not None and not self.finished:
            with suppress(OSError):
                self.partial.unlink(missing_ok=True)

    def __enter__(self) -> "OutputFile":
        """The output itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Finish when all went well, else keep what there is."""
        if kind is None:
            self.finish()
        elif not self.finished:
            self.abandon()

    def _failed(self, error: OSError) -> EmuError:
        """What to raise; the stream is closed, for a later flush could only fail again."""
        self.failed = True
        if self.name == STDOUT:
            _discard_stdout()
        elif hasattr(self, "stream"):
            self.abandon()
        if isinstance(error, BrokenPipeError):
            return ClosedPipe(f"{self.name}: nobody reads it any more")
        what = error.strerror or str(error)
        kept = f"; what was written is in {self.partial}" if self.partial else ""
        name = "standard output" if self.name == STDOUT else self.name
        cure = CURES.get(error.errno or 0)
        return UsageError(f"{name}: {what}{kept}{f'; {cure}' if cure else ''}")


@contextmanager
def kept_in(folder: Path, name: str) -> Iterator[None]:
    """Keep what is read of `name` in a temporary folder.  Errors: UsageError when that has no room for it."""
    try:
        yield
    except OSError as error:
        found = POLARS_ERRNO.search(str(error))
        number = error.errno or (int(found[1]) if found else 0)
        if number not in CURES:
            raise
        free = shutil.disk_usage(folder).free
        raise UsageError(
            f"{name}: cannot be kept in {folder} ({os.strerror(number)}; {free >> 20} MiB are free there): "
            f"name another folder in TMPDIR{', or give a file' if name == 'stdin' else ''}"
        ) from None


def _discard_stdout() -> None:
    """Let Python's own flush at exit succeed: it would print a traceback after ours was kept quiet."""
    with suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _identity(name: str, standard: IO[str] | None) -> tuple[int, int] | None:
    """Device and inode of a regular file, else None; "-" is the standard stream, wherever that leads."""
    try:
        found = os.fstat(standard.fileno()) if name == STDOUT and standard else Path(name).stat()
    except (OSError, ValueError):  # not there yet, or not a file at all
        return None
    return (found.st_dev, found.st_ino) if stat.S_ISREG(found.st_mode) else None

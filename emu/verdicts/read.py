"""Verdicts read back, from a log or from an annotated capture, as one table.

What a file does not say is null.  The verdict of a frame of an annotated capture may be unknown in two ways, which
`reason` tells apart (emu.verdicts.fates): it is empty when the frame has no comment because it was not lost, and null
when the frame stands on an interface of lost ones and its comments are gone.  A frame of an interface without verdicts
(another capture that was merged in) is not unknown but `pending`: nobody has decided on it.

What is not Parquet or Arrow is read once and kept as Arrow files in a temporary folder until the program ends, so a
table may be asked as often as one likes, pipes too.
"""

import sys
import tempfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from emu.capture.compression import Source, open_source
from emu.capture.output import kept_in
from emu.capture.pcap import MAGICS
from emu.capture.sections import SECTION_HEADER
from emu.errors import CaptureError
from emu.verdicts.log import SUFFIXES, import_polars
from emu.verdicts.read_capture import read_capture
from emu.verdicts.read_log import read_log, readable

if TYPE_CHECKING:
    import polars

HEAD = 64  # bytes that tell what a file is
PARQUET, ARROW = b"PAR1", b"ARROW1"
_folders: list[tempfile.TemporaryDirectory[str]] = []


@dataclass(frozen=True)
class Verdicts:
    """Verdicts by frame: `table` has the columns of schema.COLUMNS in their order, null where the file does not say.

    `frame` counts in this file.  `is_capture`: an annotated capture, which has every frame; else a log, which has
    events too, and with `drops_only` nothing but them and drops.  `policy` is empty when the file does not name one,
    or several; `incomplete` says why it ends early, else it is empty; `notes` are sentences for a person.  `damage` is
    what is wrong with the file itself, a part of `incomplete`: the whole file of a run that was interrupted has none.
    """

    name: str
    is_capture: bool
    table: "polars.LazyFrame"
    drops_only: bool
    policy: str
    incomplete: str
    notes: tuple[str, ...]
    damage: str = ""

    def collect(self, query: "polars.LazyFrame") -> "polars.DataFrame":
        """The result of a query of `table`, in bounded memory but for the result.

        Errors: CaptureError when the log turns out to be damaged where the query reads it.
        """
        with readable(self.name):
            return query.collect(engine="streaming")


def _say(sentence: str) -> None:
    print(f"emu: {sentence}", file=sys.stderr)


def open_verdicts(path: str, *, wanted_by: str, engine: str = "auto", say: Callable[[str], None] = _say) -> Verdicts:
    """Open a log or an annotated capture, or standard input for `-`; its contents tell which it is.

    `wanted_by` is the verb that wants it, `engine` one of ENGINES, for captures; `say` takes a sentence when that is
    compiled first.  Errors: CaptureError and UsageError of one line, when it is neither, or cannot be read.
    """
    import_polars(wanted_by)
    name = "stdin" if path == "-" else path
    spooled = ""
    with closing(open_source(path)) as source:
        head = _head(source)
        kind = _kind_of(head, name)
        folder = _new_folder()
        if path == "-" or (kind and source.compression):
            path = _spooled(source, name, folder / "whole", head)
            spooled = source.damage
    if not kind:
        with kept_in(folder.parent, name):
            capture = read_capture(path, folder, engine, say)
        policy = capture.policies[0] if len(capture.policies) == 1 else ""
        incomplete, damage = _both(capture.incomplete, spooled), _both(capture.damage, spooled)
        return Verdicts(name, True, capture.table, False, policy, incomplete, tuple(capture.notes), damage)
    with kept_in(folder.parent, name):
        log = read_log(path, name, kind, folder)
    damage = _both(log.damage, spooled)
    incomplete = _both(log.incomplete, damage)
    return Verdicts(name, False, log.table, log.drops_only, log.policy, incomplete, tuple(log.notes), damage)


def remove_folders() -> None:
    """Remove what tables were kept in; for a program that leaves without the interpreter's own clearing up."""
    while _folders:
        _folders.pop().cleanup()


def _both(sentence: str, other: str) -> str:
    return "; ".join(filter(None, (sentence, other)))


def _new_folder() -> Path:
    _folders.append(tempfile.TemporaryDirectory(prefix="emu-verdicts-", ignore_cleanup_errors=True))
    return Path(_folders[-1].name)


def _head(source: Source) -> bytes:
    head = bytearray(HEAD)
    held = 0
    while held < HEAD and (count := source.readinto(memoryview(head)[held:])):
        held += count
    return bytes(head[:held])


def _spooled(source: Source, name: str, target: Path, head: bytes = b"") -> str:
    """Copy what a source still has, uncompressed, behind `head`; returns where it is."""
    piece = memoryview(bytearray(1 << 20))
    with kept_in(target.parent.parent, name), target.open("wb") as file:
        file.write(head)
        while count := source.readinto(piece):
            file.write(piece[:count])
    return str(target)


def _kind_of(head: bytes, name: str) -> str:
    """The suffix of the log that begins so, or nothing for a capture."""
    words = {int.from_bytes(head[:4], order) for order in ("little", "big")}
    if len(head) >= 4 and words & {SECTION_HEADER, *MAGICS}:
        return ""
    if head.startswith(PARQUET):
        return ".parquet"
    if head.startswith(ARROW):
        return ".arrow"
    if head.startswith(b"{"):
        return ".jsonl"
    if head.startswith(b"frame,"):
        return ".csv"
    suffixes = Path(name.lower()).suffixes
    if not head and ".jsonl" in suffixes:
        return ".jsonl"  # a log without a row
    what = f"it begins with {head[:4].hex(' ')}" if head else "it is empty"
    raise CaptureError(
        f"{name}: {what}; expected a log of emu ({', '.join(SUFFIXES)}) or an annotated capture (emu replay -w)"
    )

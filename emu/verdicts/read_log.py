"""A log read back: its columns must be the schema's, and a log of text is turned into Arrow once, with its types."""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from emu.errors import CaptureError
from emu.printable import printable
from emu.verdicts.chunks import polars_schema
from emu.verdicts.fates import DROPPED_NAME, EVENT
from emu.verdicts.log import INCOMPLETE_KEY, POLICY_KEY, ROWS_KEY, VERSION_KEY
from emu.verdicts.schema import ENUM, NAMES, SCHEMA_VERSION, TEXT, columns

if TYPE_CHECKING:
    import polars

TEXTUAL = [column.name for column in columns() if column.type in (ENUM, TEXT)]
TAIL = 1 << 16  # bytes, in which a text's last line ends
LONGEST_LINE = 1 << 16
WRITE_AGAIN = "write it again with this emu (emu replay --log)"


class ReadLog(NamedTuple):
    """What a log says of itself; `damage`: what is wrong with it."""

    table: "polars.LazyFrame"
    drops_only: bool
    policy: str
    incomplete: str
    damage: str
    notes: list[str]


def read_log(path: str, name: str, suffix: str, folder: Path) -> ReadLog:
    """Open a log of a format of log.SUFFIXES; `folder` takes what must be converted, `name` is for messages.

    Errors: CaptureError when it is damaged, or not of this version's schema.
    """
    import polars

    damage = ""
    with readable(name):
        if suffix == ".parquet":
            facts = polars.read_parquet_metadata(path)
            _check_version(facts.get(VERSION_KEY, ""), name)
            table = polars.scan_parquet(path)
            _check_columns(table.collect_schema(), name)
            drops_only = facts[ROWS_KEY] == "drops" if ROWS_KEY in facts else _lacks_survivors(table)
            return ReadLog(table, drops_only, facts.get(POLICY_KEY, ""), facts.get(INCOMPLETE_KEY, ""), damage, [])
        if suffix == ".arrow":
            table = polars.scan_ipc(path)
        else:
            damage = _cut_off_at(Path(path), folder / "lines")
            table = _converted(str(folder / "lines") if damage else path, name, suffix, folder / "log.arrow")
        _check_columns(table.collect_schema(), name)
        drops_only = _lacks_survivors(table)
    notes = [f"{suffix} does not say whether it has all packets: it has drops only"] if drops_only else []
    notes.append(f"{suffix} does not name the policy; a .parquet log does")
    return ReadLog(table, drops_only, "", "", damage, notes)


@contextmanager
def readable(name: str) -> Iterator[None]:
    """Whatever polars cannot read is a CaptureError of one line; for queries of a table that was opened, too."""
    try:
        with queried(name):
            yield
    except (OSError, ValueError) as error:
        raise _unreadable(name, error) from None


@contextmanager
def queried(name: str) -> Iterator[None]:
    """The same where outputs are written, too: what is wrong with those is no fault of the log."""
    import polars

    try:
        yield
    except (polars.exceptions.PolarsError, polars.exceptions.PanicException) as error:
        raise _unreadable(name, error) from None


def _unreadable(name: str, error: BaseException) -> CaptureError:
    told = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".:")
    # What polars says may hold what the file holds.
    return CaptureError(
        f"{name}: cannot be read as a log of emu ({printable(told)}); it is damaged, or was not finished: {WRITE_AGAIN}"
    )


def _check_version(version: str, name: str) -> None:
    if version and version != str(SCHEMA_VERSION):
        raise CaptureError(
            f"{name}: its columns are of schema version {version}, expected {SCHEMA_VERSION}: {WRITE_AGAIN}"
        )


def _check_columns(found: Any, name: str) -> None:
    """Compare names and types; a log that was made by hand from another one is as good."""
    for column, wanted in polars_schema().items():
        if column not in found:
            raise CaptureError(f"{name}: column {column} is missing; expected the columns of emu schema: {WRITE_AGAIN}")
        if found[column] != wanted:
            other = "other names" if type(found[column]) is type(wanted) else str(found[column])
            raise CaptureError(f"{name}: column {column} is of {other}, expected those of emu schema: {WRITE_AGAIN}")
    foreign = [column for column in found if column not in NAMES]
    if foreign:
        raise CaptureError(f"{name}: column {foreign[0]} is not one of emu schema: {WRITE_AGAIN}")


def _lacks_survivors(table: "polars.LazyFrame") -> bool:
    """Whether nothing but drops and events stands in the log, and frames are missing between them."""
    import polars

    lost = polars.col("verdict") == DROPPED_NAME
    others = ~polars.col("verdict").is_in([DROPPED_NAME, EVENT])
    found = table.select(others=others.sum(), drops=lost.sum(), last=polars.col("frame").max().fill_null(0)).collect(
        engine="streaming"
    )
    others_found, drops, last = found.row(0)
    return bool(not others_found and drops < last)


def _cut_off_at(path: Path, whole: Path) -> str:
    """If the last line is cut off, copy the lines before it to `whole` and say so."""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(size - TAIL, 0))
        tail = file.read()
        kept = size - len(tail) + tail.rfind(b"\n") + 1
        if kept == size:
            return ""
        file.seek(0)
        with whole.open("wb") as copy:
            for start in range(0, kept, TAIL):
                copy.write(file.read(min(TAIL, kept - start)))
    return f"its last line, at byte {kept}, is cut off"


def _converted(path: str, name: str, suffix: str, target: Path) -> "polars.LazyFrame":
    """A log of text as one of Arrow, every value of the column's type."""
    import polars

    types = polars_schema()
    texts = {column: polars.String if column in TEXTUAL else polars.Int64 for column in NAMES}
    texts |= {column: kind for column, kind in types.items() if kind == polars.UInt64}
    with Path(path).open(encoding="utf-8") as file:
        line = file.readline(LONGEST_LINE).rstrip("\r\n")
    values = [polars.col(column) for column in NAMES]
    if suffix == ".csv":
        _check_columns(_typed(line.split(",")), name)
        read = polars.scan_csv(path, schema=texts)
        # Releases of polars differ in how they are asked not to take an empty text for a missing one.
        values = [polars.col(column).fill_null("") if column in TEXTUAL else polars.col(column) for column in NAMES]
    elif line:
        _check_columns(_typed(json.loads(line)), name)
        read = polars.scan_ndjson(path, schema=texts)
    else:
        read = polars.LazyFrame(schema=texts)
    read.select(value.cast(types[column]) for column, value in zip(NAMES, values, strict=True)).sink_ipc(target)
    table = polars.scan_ipc(target)
    missing = table.null_count().collect(engine="streaming").row(0)
    for column, count in zip(NAMES, missing, strict=True):
        if count:
            raise CaptureError(f"{name}: {count} rows have no {column}; no value of a log is ever missing")
    return table


def _typed(names: Iterable[str]) -> dict[str, Any]:
    """Columns of a text, as if they had the types that they should have."""
    types = polars_schema()
    return {column: types.get(column) for column in names}

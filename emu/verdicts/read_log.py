"""A log read back: its columns must be the schema's, and a log of text is turned into Arrow once, with its types."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from emu.errors import CaptureError
from emu.kernel.drop_reason import DROPPED, LATER, VERDICTS
from emu.verdicts.chunks import polars_schema
from emu.verdicts.log import INCOMPLETE_KEY, ROWS_KEY, VERSION_KEY
from emu.verdicts.schema import ENUM, NAMES, SCHEMA_VERSION, TEXT, columns

if TYPE_CHECKING:
    import polars

TEXTUAL = [column.name for column in columns() if column.type in (ENUM, TEXT)]
TAIL = 1 << 16  # bytes, in which a text's last line ends
WRITE_AGAIN = "write it again with this emu (emu replay --log)"


class ReadLog(NamedTuple):
    """What a log says of itself."""

    table: "polars.LazyFrame"
    drops_only: bool
    incomplete: str
    notes: list[str]


def read_log(path: str, name: str, suffix: str, folder: Path) -> ReadLog:
    """Open a log of a format of log.SUFFIXES; `folder` takes what must be converted, `name` is for messages.

    Errors: CaptureError when it is damaged, or not of this version's schema.
    """
    import polars

    incomplete = ""
    with readable(name):
        if suffix == ".parquet":
            facts = polars.read_parquet_metadata(path)
            _check_version(facts.get(VERSION_KEY, ""), name)
            table = polars.scan_parquet(path)
            _check_columns(table.collect_schema(), name)
            drops_only = facts[ROWS_KEY] == "drops" if ROWS_KEY in facts else _lacks_survivors(table)
            return ReadLog(table, drops_only, facts.get(INCOMPLETE_KEY, ""), [])
        if suffix == ".arrow":
            table = polars.scan_ipc(path)
        else:
            incomplete = _cut_off_at(Path(path), folder / "lines")
            table = _converted(str(folder / "lines") if incomplete else path, name, suffix, folder / "log.arrow")
        _check_columns(table.collect_schema(), name)
        drops_only = _lacks_survivors(table)
    notes = [f"{suffix} does not say whether it has all packets: it has drops only"] if drops_only else []
    return ReadLog(table, drops_only, incomplete, notes)


@contextmanager
def readable(name: str) -> Iterator[None]:
    """Whatever polars cannot read is a CaptureError of one line; for queries of a table that was opened, too."""
    import polars

    try:
        yield
    except (polars.exceptions.PolarsError, OSError, ValueError) as error:
        if type(error).__module__.startswith("emu."):
            raise
        said = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".:")
        raise CaptureError(
            f"{name}: cannot be read as a log of emu ({said}); it is damaged, or was not finished: {WRITE_AGAIN}"
        ) from None


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

    lost = polars.col("verdict") == VERDICTS[DROPPED]
    others = ~polars.col("verdict").is_in([VERDICTS[DROPPED], VERDICTS[LATER]])
    found = table.select(
        others=others.sum(), drops=lost.sum(), last=polars.col("frame").max().fill_null(0)
    ).collect(engine="streaming")
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
    texts = types | dict.fromkeys(TEXTUAL, polars.String)
    if Path(path).stat().st_size == 0:
        read = polars.LazyFrame(schema=texts)
    elif suffix == ".csv":
        header = Path(path).open(encoding="utf-8", errors="replace").readline(TAIL).rstrip("\r\n")  # noqa: SIM115
        _check_columns(_typed(header.split(",")), name)
        read = polars.scan_csv(path, schema=texts, missing_utf8_is_empty_string=True)
    else:
        first = polars.read_ndjson(path, n_rows=1)
        _check_columns(_typed(first.columns), name)
        read = polars.scan_ndjson(path, schema=texts)
    read.select(polars.col(column).cast(types[column]) for column in NAMES).sink_ipc(target, compression="lz4")
    table = polars.scan_ipc(target)
    missing = table.null_count().collect(engine="streaming").row(0)
    for column, count in zip(NAMES, missing, strict=True):
        if count:
            raise CaptureError(f"{name}: {count} rows have no {column}; no value of a log is ever missing")
    return table


def _typed(names: list[str]) -> dict[str, Any]:
    """Columns of a text, which have the types that they should have; the schema's first, then what is not in it."""
    types = polars_schema()
    return {column: types.get(column) for column in names}

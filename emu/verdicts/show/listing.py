"""The packet list: a line of text per row, made by polars, so that a million of them are no more work than a copy."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from emu.verdicts.fates import UNDECIDED, is_event, verdict_expression
from emu.verdicts.polars_target import PolarsTarget
from emu.verdicts.show.select import Totals

if TYPE_CHECKING:
    import polars

UNKNOWN, NOTHING = "?", "-"
# Escape sequences (ECMA-48, Select Graphic Rendition) by verdict; whoever survived stays as it is.
COLOURS = {"dropped": "31", "oops": "1;35", "in_flight": "33", "event": "36"}
COLOURS |= dict.fromkeys(("not_received", "not_played", UNDECIDED), "2")
CONTROLS = r"[\x00-\x1f\x7f-\x9f]"  # a capture may name a device anything; a terminal must not obey it
MOST_DEVICE = 15  # of a column: a longer name pushes its line to the right


class Field(NamedTuple):
    """A column of the list: its title, its width (0: it is the last), on which side it is padded, what makes it."""

    title: str
    width: int
    right: bool
    text: Any


def list_fields(totals: Totals) -> list[Field]:
    """The columns of the list of a file."""
    import polars

    column = polars.col
    cause, rule = (column(name).cast(polars.String) for name in ("cause", "policy_rule"))
    why = polars.when(cause != "").then(cause).otherwise(rule)
    why_width = max(totals.widths["cause"], totals.widths["policy_rule"])
    fields = [
        Field("frame", len(str(totals.last_frame)), True, _number("frame")),
        Field("time s", 10, True, seconds(column("time_ns") - totals.start_ns)),
        Field("device", min(totals.widths["device"], MOST_DEVICE), False, _word("device")),
        Field("class", totals.widths["class"], False, _word("class")),
        Field("bytes", 5, True, _number("length")),
        Field("verdict", max(map(len, totals.by_verdict), default=0), False, verdict_expression()),
        Field("reason", totals.widths["reason"], False, _word("reason")),
        Field("used/cap", 8, True, polars.concat_str(_number("reserve_used_before"), polars.lit("/"), _cap())),
        Field("free pages", 10, True, _number("free_pages")),
        Field("ring", 4, True, _number("ring_free")),
        Field("cause or rule", why_width, False, _shown(why)),
        Field("flow", 0, False, _word("flow")),
    ]
    return [field._replace(width=max(field.width, len(field.title))) for field in fields[:-1]] + fields[-1:]


def heading(fields: Iterable[Field]) -> str:
    """The titles over the columns."""
    padded = (f.title.rjust(f.width) if f.right else f.title.ljust(f.width) for f in fields)
    return " ".join(padded).rstrip()


def lines(rows: "polars.LazyFrame", fields: Iterable[Field], coloured: bool) -> "polars.LazyFrame":
    """The rows as lines, one column of text."""
    import polars

    padded = [f.text.str.pad_start(f.width) if f.right else f.text.str.pad_end(f.width) for f in fields]
    line = polars.concat_str(padded, separator=" ").str.strip_chars_end(" ")
    if coloured:
        codes = polars.col("verdict").cast(polars.String).replace_strict(COLOURS, default=None)
        painted = polars.concat_str(polars.lit("\x1b["), codes, polars.lit("m"), line, polars.lit("\x1b[0m"))
        line = polars.coalesce(painted, line)
    return rows.select(line.alias("line"))


def seconds(nanoseconds: Any, digits: int = 6) -> Any:
    """Nanoseconds (an expression, not negative) as seconds, cut off behind so many digits."""
    import polars

    part = (nanoseconds % 10**9 // 10 ** (9 - digits)).cast(polars.String).str.zfill(digits)
    return polars.concat_str((nanoseconds // 10**9).cast(polars.String), polars.lit("."), part).fill_null(UNKNOWN)


def write_lines(rows: "polars.LazyFrame", write: Callable[[bytes], object]) -> None:
    """Hand the lines over, piece by piece.  Errors: what `write` raises."""
    with _written_to(write) as target:
        rows.sink_csv(target, include_header=False, quote_style="never", engine="streaming")


def write_json_lines(rows: "polars.LazyFrame", write: Callable[[bytes], object]) -> None:
    """Hand the rows over as JSON lines, piece by piece; the same keys as a log has.  Errors: what `write` raises."""
    with _written_to(write) as target:
        rows.sink_ndjson(target, engine="streaming")


@contextmanager
def _written_to(write: Callable[[bytes], object]) -> Iterator[Any]:
    """A target for polars; what `write` raised is raised as it was."""
    target = PolarsTarget(write)
    try:
        yield target
    except BaseException:
        if target.error is not None:
            raise target.error from None
        raise


def _number(name: str) -> Any:
    """A number of a packet; an event has none but its frame."""
    import polars

    text = polars.col(name).cast(polars.String).fill_null(UNKNOWN)
    if name == "frame":
        return text
    return polars.when(is_event()).then(polars.lit(NOTHING)).otherwise(text)


def _cap() -> Any:
    import polars

    return polars.when(polars.col("cap_skbs") == 0).then(polars.lit(NOTHING)).otherwise(_number("cap_skbs"))


def _word(name: str) -> Any:
    import polars

    return _shown(polars.col(name).cast(polars.String))


def _shown(text: Any) -> Any:
    import polars

    text = text.str.replace_all(CONTROLS, "?")
    return polars.when(text == "").then(polars.lit(NOTHING)).otherwise(text.fill_null(UNKNOWN))

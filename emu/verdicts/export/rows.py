"""Rows as they are, in the formats of the log: JSON lines, CSV, Parquet, Arrow.

They are what `emu replay --log` writes in that format, byte for byte where they come from a complete log of another.
A capture knows less than a log: what its comments do not say is null in JSON, Parquet and Arrow, and empty in CSV.
"""

from typing import TYPE_CHECKING, Any

from emu.capture.output import OutputFile
from emu.verdicts.chunks import CHUNK, polars_schema
from emu.verdicts.export.formats import Advance, Exported
from emu.verdicts.export.sink import drain
from emu.verdicts.log import facts_of

if TYPE_CHECKING:
    import polars

    from emu.verdicts.read import Verdicts


def export_rows(verdicts: "Verdicts", name: str, output: OutputFile, advance: Advance | None) -> Exported:
    """Write every row in the format `name`."""
    rows = 0
    facts = facts_of("drops" if verdicts.drops_only else "all", verdicts.policy, verdicts.incomplete)

    def count(morsel: "polars.DataFrame") -> "polars.DataFrame":
        nonlocal rows
        rows += morsel.height
        return morsel

    def sink(query: "polars.LazyFrame", target: Any) -> Any:
        return _sink(query, target, name, facts)

    drain(verdicts.table, count, polars_schema(), output, sink, advance)
    ends = {"incomplete": verdicts.incomplete, "damage": verdicts.damage}
    return Exported(rows, "rows", verdicts.notes, nothing="it has no rows", **ends)


def _sink(query: "polars.LazyFrame", target: Any, name: str, facts: dict[str, str]) -> None:
    import polars

    if name == "jsonl":
        query.sink_ndjson(target)
    elif name == "csv":
        query.sink_csv(target)
    elif name == "parquet":
        query.sink_parquet(target, compression="zstd", row_group_size=CHUNK, metadata=facts)
    else:
        # As the log does: plain Arrow strings, which every reader knows.
        query.sink_ipc(target, compression="lz4", compat_level=polars.CompatLevel.oldest())

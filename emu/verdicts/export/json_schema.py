"""The JSON Schema (draft 2020-12) of a row of JSON lines, made from the columns of the log."""

from typing import Any

from emu.kernel.drop_reason import LATER, VERDICTS
from emu.verdicts.schema import COLUMNS, ENUM, FLAG, INT, SCHEMA_VERSION, TYPES, UINT, Column

DRAFT = "https://json-schema.org/draft/2020-12/schema"
# The smallest and the largest value of the types that are numbers.
RANGES = {INT: (-(1 << 63), (1 << 63) - 1), UINT: (0, (1 << 64) - 1), FLAG: (0, 1)}


def json_schema() -> dict[str, Any]:
    """The schema of one line."""
    return {
        "$schema": DRAFT,
        "$id": f"urn:emu:verdict-row:{SCHEMA_VERSION}",
        "title": "A verdict of emu",
        "description": (
            "A line of `emu replay --log FILE.jsonl` or `emu export --format jsonl`: what became of a packet, or what "
            f"happened to it later (verdict {VERDICTS[LATER]}). A log leaves nothing out; null stands where an "
            "annotated capture, exported, does not say it."
        ),
        "x-schema-version": SCHEMA_VERSION,
        "type": "object",
        "properties": {column.name: property_of(column) for column in COLUMNS},
        "required": [column.name for column in COLUMNS],
        "additionalProperties": False,
    }


def property_of(column: Column) -> dict[str, Any]:
    """What the schema says of a column."""
    said: dict[str, Any] = {"description": column.meaning, "x-type": TYPES[column.type]}
    if column.unit:
        said["x-unit"] = column.unit
    if column.type == ENUM:
        return said | {"enum": [*column.names, None]}
    if column.type in RANGES:
        least, most = RANGES[column.type]
        return said | {"type": ["integer", "null"], "minimum": least, "maximum": most}
    return said | {"type": ["string", "null"]}

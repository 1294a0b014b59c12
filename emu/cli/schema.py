"""`emu schema`: the columns of the log."""

import sys

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from emu.cli.replay import print_json, screen
from emu.errors import Exit, UsageError
from emu.verdicts.export.json_schema import json_schema
from emu.verdicts.schema import SCHEMA_VERSION, TYPES, columns, describe


def schema(as_json: bool, as_json_schema: bool = False) -> int:
    """Print the schema; the exit code."""
    if as_json_schema:
        if as_json:
            raise UsageError("--json and --json-schema are two ways to print it; give one")
        print_json(json_schema())
    elif as_json:
        print_json({"schema_version": SCHEMA_VERSION, "types": TYPES, "columns": describe()})
    else:
        show_schema(screen(sys.stdout))
    return Exit.DONE


def show_schema(console: Console) -> None:
    """Print the columns, and the names that enums are made of."""
    console.print(Text(f"The log's columns, schema version {SCHEMA_VERSION}", "bold"))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("column", "type", "unit"):
        table.add_column(title, no_wrap=True)
    table.add_column("what it says")
    for column in columns():
        table.add_row(Text(column.name), column.type, column.unit, Text(column.meaning))
    console.print(table)
    for column in columns():
        if column.names:
            names = ", ".join(f'"{name}"' if not name or "," in name else name for name in column.names)
            console.print(Text.assemble((column.name, "bold"), f": {names}"))

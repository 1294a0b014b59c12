"""Generates docs/scenario.md from the scenario's schema; `--check` says whether it is current (exit 1: it is not)."""

import sys
from pathlib import Path

from emu.cli.scenarios import default_text
from emu.scenario import SCHEMA, schema_keys
from emu.scenario_file import load_scenario, show_scenario
from emu.tables import Key
from emu.verdicts.outcome import outcome_rules

PAGE = Path(__file__).parents[1] / "docs" / "scenario.md"
HEAD = f"""\
# Scenarios

A scenario is a TOML file that describes an experiment: the machine, the policy, the devices, who else wants memory, and
what must hold in the end. `emu replay CAPTURE --scenario FILE.toml` plays it; `--set KEY=VALUE` changes one key. What a
file leaves out has its default. `emu scenarios check FILE` names every problem with its line, `emu scenarios show FILE`
prints the complete scenario. This page is generated from the schema (schema {SCHEMA}) by `tools/docs.py`.

An array of tables (`device`, `socket`) is written `[[device]]`, once per element; `device.*.ring` below is the key
`ring` of each, and `--set device.0.ring=512` sets that of the first. A number's unit is in the column "unit".
"""

OUTCOME_HEAD = """\
## What a run comes to

`emu run` ends in one word, `outcome` in its summary; the first row that holds is it. `emu compare` shows it by policy.
"""

COLUMNS = ("| key | type, range | unit | default | what it says |", "|---|---|---|---|---|")


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    tables = {key.name: key for key in schema_keys() if key.type.endswith(("table", "tables"))}
    sections: dict[str, list[str]] = {}
    for key in schema_keys():
        if key.name not in tables:
            sections.setdefault(table_of(key), []).append(row(key))
    for table, rows in sections.items():
        title, meaning = heading(table, tables)
        parts.append("\n".join((f"## {title}", "", meaning, "", *COLUMNS, *rows, "")))
    parts.append("\n".join((OUTCOME_HEAD, *outcome_rules(), "")))
    parts.append(f"## The default scenario\n\n```toml\n{show_scenario(load_scenario(None))}```\n")
    return "\n".join(parts)


def table_of(key: Key) -> str:
    """The table that a key is in."""
    return key.name.rpartition(".")[0].removesuffix(".*")


def heading(table: str, tables: dict[str, Key]) -> tuple[str, str]:
    """A section's title, and what its table is for."""
    if table not in tables:
        return "Top level", "Keys outside of any table."
    found = tables[table]
    bounds = f" ({found.range.removeprefix('of ')} of them)" if found.range else ""
    brackets = "[[{}]]" if found.type.startswith("array") else "[{}]"
    return f"`{brackets.format(table)}`", f"{found.meaning[:-1]}{bounds}."


def row(key: Key) -> str:
    """A key's row."""
    default = default_text(key)
    if default and default != "required":
        default = f"`{default}`"
    cells = (f"`{key.name}`", ", ".join(filter(None, (key.type, key.range))), key.unit, default, key.meaning)
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def main() -> int:
    """Write or check the page; the exit code."""
    if "--check" in sys.argv[1:]:
        current = PAGE.exists() and PAGE.read_text(encoding="utf-8") == page()
        if not current:
            print(f"{PAGE}: out of date; run: python {Path(__file__).name}", file=sys.stderr)
        return 0 if current else 1
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

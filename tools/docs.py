"""Generates docs/scenario.md from the scenario's schema, and the tables of docs/wireshark.md from emu's own.

`--check` says whether they are current (exit 1: they are not).
`--runs` plays the shipped deadlock instead: the table of README.md between its marks, and docs/lockup.png.  It needs
emu[fast,plots]; the same sources make the same table, and the same fonts the same picture.
"""

import re
import sys
from collections.abc import Callable, Sequence
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from typing import Any

from emu.api.runs import RunResult, compare_runs, run
from emu.cli.scenarios import default_text
from emu.scenario import SCHEMA, schema_keys
from emu.scenario_file import load_scenario, show_scenario
from emu.tables import Key
from emu.verdicts.export.formats import FORMATS
from emu.verdicts.outcome import outcome_rules
from emu.wireshark.extcap_dialog import FIELDS, INTERFACES
from emu.wireshark.plugin import PLUGIN_FILE, fields

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "scenario.md"
WIRESHARK = ROOT / "docs" / "wireshark.md"
README = ROOT / "README.md"
PICTURE = ROOT / "docs" / "lockup.png"
COLOURS = 256  # enough for the picture, and a third of its bytes
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

RUNS_MARK = re.compile(r"(?<=<!-- runs: make docs -->\n).*?(?=<!-- /runs -->)", re.DOTALL)
RUNS_POLICIES = ("linux-2.6.12", "reserve-only", "phillips-v5", "phillips-v6", "mainline")
CURE_POLICIES = ("linux-2.6.12", "phillips-v5", "mainline")
RUNS_HEADINGS = (
    *("scenario", "policy", "outcome", "last page, locked up", "block I/O (of its own)", "longest stall"),
    *("memalloc lost", "others lost"),
)

# How the plugin's source declares a field of a kind of its table, and one that it derives from others.
KIND = re.compile(r"^  (\w+) = function\(row\) return ProtoField\.(\w+)\(", re.MULTILINE)
DERIVED = re.compile(r'^  ProtoField\.(\w+)\("(emu\.\w+)", [^\n]*?(?:\n    )?"([^"\n]*)"\),$', re.MULTILINE)

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
    return table_row([cell.replace("|", chr(92) + "|") for cell in cells])


def wireshark_page(text: str) -> str:
    """The page of Wireshark, with the tables of this version of emu."""
    for name, table in TABLES.items():
        begin, end = f"<!-- {name}: python tools/docs.py -->\n", f"<!-- /{name} -->"
        before, begun, rest = text.partition(begin)
        _, ended, after = rest.partition(end)
        if not (begun and ended):
            raise ValueError(f"{WIRESHARK}: expected the lines {begin.strip()} and {end}")
        text = "".join((before, begin, *(f"{row}\n" for row in table()), end, after))
    return text


def fields_table() -> list[str]:
    """The fields of the plugin: those that comments hold, then those that follow from them."""
    source = files("emu.wireshark").joinpath(PLUGIN_FILE).read_text(encoding="utf-8")
    types = dict(KIND.findall(source))
    rows = [(f"`{row.field}`", f"`{row.key}`", types[row.kind], row.about) for row in fields()]
    derived = [(f"`{name}`", "", kind, about) for kind, name, about in DERIVED.findall(source)]
    return table_of_rows(("field", "in the comment", "type", "what it says"), [*rows, *derived])


def formats_table() -> list[str]:
    """What `emu export` writes."""
    rows = []
    for form in FORMATS:
        source = "annotated capture" if form.needs_packets else "log or annotated capture"
        rows.append((f"`{form.name}`", source, form.what))
    return table_of_rows(("`--format`", "of", "what it is"), rows)


def extcap_table() -> list[str]:
    """The options of the capture interfaces, with those who have them."""
    who: dict[tuple[str, str, str], list[str]] = {}
    for interface in INTERFACES:
        for field in FIELDS[interface]:
            said = field.display, field.tooltip
            who.setdefault((f"`{field.name}`", *said), []).append(f"`{interface}`")
    rows = [(name, ", ".join(having), display, tooltip) for (name, display, tooltip), having in who.items()]
    return table_of_rows(("NAME", "of", "in the dialog", "what it says"), rows)


TABLES: dict[str, Callable[[], list[str]]] = {
    "fields": fields_table,
    "formats": formats_table,
    "extcap": extcap_table,
}


def table_of_rows(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table."""
    escaped = [[cell.replace("|", chr(92) + "|") for cell in cells] for cells in rows]
    return [table_row(headings), "|---" * len(headings) + "|", *map(table_row, escaped)]


def runs_table() -> str:
    """What the deadlock comes to under some policies, and its cure."""
    compared = compare_runs("deadlock", policies=RUNS_POLICIES, engine="compiled")
    rows = [run_row("deadlock", result) for result in compared.values()]
    cured = compare_runs("smallest-cure", policies=CURE_POLICIES, engine="compiled")
    rows += [run_row("smallest-cure", result) for result in cured.values()]
    return "\n".join((table_row(RUNS_HEADINGS), "|---" * len(RUNS_HEADINGS) + "|", *rows, ""))


def run_row(scenario: str, result: RunResult) -> str:
    """A run's row."""
    block, lockup = result.block_io, result.lockup
    times = f"{seconds(lockup['last_page_ns'])}, {seconds(lockup['time_ns'])}" if lockup else ""
    share = f" ({block['mb_per_s'] / block['baseline_mb_per_s']:.0%})" if block["baseline_mb_per_s"] else ""
    cells = (
        f"`{scenario}`",
        result.policy,
        result.outcome,
        times,
        f"{block['mb_per_s']:.1f} MB/s{share}",
        f"{block['longest_stall_ms']:.0f} ms",
        *(lost(result.summary[flows]) for flows in ("memalloc", "other")),
    )
    return table_row(cells)


def table_row(cells: Sequence[str]) -> str:
    """A row of a table of Markdown."""
    return f"| {' | '.join(cells)} |"


def seconds(time_ns: int) -> str:
    """A time since play started."""
    return f"{time_ns / 1e9:.3f} s"


def lost(flows: dict[str, Any]) -> str:
    """How many packets of a class were dropped."""
    return f"{flows['dropped']:,} of {flows['received']:,}".replace(",", " ")


def picture() -> bytes:
    """The lockup as `emu run deadlock --plot` shows it."""
    from PIL import Image

    from emu.verdicts.plots.image import plot_of

    locked = run("deadlock", policy="linux-2.6.12", baseline=False, duration="2500ms", engine="compiled")
    drawn = plot_of([(locked.policy, locked.summary, locked.samples)], "emu run deadlock --policy linux-2.6.12", "png")
    target = BytesIO()
    Image.open(BytesIO(drawn)).convert("RGB").quantize(COLOURS).save(target, "png", optimize=True)
    return target.getvalue()


def write_runs() -> int:
    """Write what the runs come to; the exit code."""
    text = README.read_text(encoding="utf-8")
    table = runs_table()
    README.write_text(RUNS_MARK.sub(lambda _: table, text), encoding="utf-8")
    PICTURE.write_bytes(picture())
    return 0


def main() -> int:
    """Write or check the pages; the exit code."""
    if "--runs" in sys.argv[1:]:
        return write_runs()
    pages = {PAGE: page(), WIRESHARK: wireshark_page(WIRESHARK.read_text(encoding="utf-8"))}
    if "--check" in sys.argv[1:]:
        old = [path for path, text in pages.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
        for path in old:
            print(f"{path}: out of date; run: python tools/{Path(__file__).name}", file=sys.stderr)
        return 1 if old else 0
    for path, text in pages.items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

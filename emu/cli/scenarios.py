"""`emu scenarios`: list the shipped ones, check scenario files, show one complete, print what a scenario may say."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from emu.cli.replay import print_json, screen
from emu.errors import Exit, UsageError
from emu.scenario import SCHEMA, schema_keys
from emu.scenario_file import (
    ScenarioError,
    load_scenario,
    scenario_path,
    shipped_scenarios,
    show_scenario,
    tables_of,
)
from emu.tables import Key
from emu.toml_text import toml_value
from emu.verdicts.expect import EVERY_POLICY


def list_shipped(as_json: bool) -> int:
    """Print the scenarios that come with emu; the exit code."""
    rows = [_listed(name, path) for name, path in shipped_scenarios().items()]
    if as_json:
        print_json({"scenarios": rows})
        return Exit.DONE
    console = screen(sys.stdout)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("scenario", "played by"):
        table.add_column(title, no_wrap=True)
    table.add_column("why, in short", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, (row["name"], row["verb"], first_sentence(row["why"]))))
    console.print(table)
    console.print(Text("emu scenarios show NAME: all of it, with what it expects of which policy"))
    return Exit.DONE


def first_sentence(text: str) -> str:
    """A text up to its first full stop."""
    sentence, stop, _ = text.partition(". ")
    return sentence + stop.rstrip()


def _listed(name: str, path: str) -> dict[str, Any]:
    scenario = load_scenario(path)
    expected = scenario.expect
    real = scenario.replay.peers == "real"
    verb = "emu live" if real else "emu run" if scenario.is_run else "emu step"
    policies = [*expected] if isinstance(expected, dict) else [EVERY_POLICY] if expected else []
    return {"name": name, "verb": verb, "why": " ".join(scenario.why.split()), "expects_of": policies}


def check(files: Sequence[Path], as_json: bool) -> int:
    """Print every problem of every file; the exit code."""
    found = [_checked(str(file)) for file in files]
    if as_json:
        print_json({"files": found})
    else:
        for file in found:
            for problem in file["problems"]:
                print(problem["text"])
            if file["ok"]:
                print(f"{file['file']}: ok, sha256 {file['scenario_sha256']}")
    return Exit.DONE if all(file["ok"] for file in found) else Exit.USAGE


def _checked(file: str) -> dict[str, Any]:
    problems: list[dict[str, Any]] = []
    digest = None
    try:
        digest = load_scenario(scenario_path(file)).digest()
    except ScenarioError as error:
        problems = [problem._asdict() | {"text": str(problem)} for problem in error.problems]
    except UsageError as error:
        problems = [{"origin": file, "line": 0, "key": "", "sentence": str(error), "text": str(error)}]
    return {"file": file, "ok": not problems, "scenario_sha256": digest, "problems": problems}


def show(file: Path, as_json: bool) -> int:
    """Print a scenario with its defaults; the exit code."""
    scenario = load_scenario(scenario_path(str(file)))
    if as_json:
        print_json(tables_of(scenario))
    else:
        sys.stdout.write(show_scenario(scenario))
    return Exit.DONE


def schema(as_json: bool) -> int:
    """Print every key; the exit code."""
    if as_json:
        print_json({"scenario_schema": SCHEMA, "keys": [key._asdict() for key in schema_keys()]})
    else:
        show_schema(screen(sys.stdout))
    return Exit.DONE


def show_schema(console: Console) -> None:
    """Print the keys as a table."""
    console.print(Text(f"The keys of a scenario, schema {SCHEMA}", "bold"))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("key", no_wrap=True)
    for title in ("type, range", "unit", "default", "what it says"):
        table.add_column(title, overflow="fold")
    for key in schema_keys():
        kind = ", ".join(filter(None, (key.type, key.range)))
        table.add_row(*map(Text, (key.name, kind, key.unit, default_text(key), key.meaning)))
    console.print(table)


def default_text(key: Key) -> str:
    """A key's default as TOML."""
    if key.required:
        return "required"
    return "" if key.default is None else toml_value(key.default)

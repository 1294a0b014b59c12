"""Scenarios as text: TOML files, single settings, and every problem of them at once, with its place."""

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from emu.errors import UsageError
from emu.scenario import LOOP_TABLES, DeviceTable, Scenario
from emu.scenario_checks import CHECKS
from emu.scenarios import shipped_names, shipped_scenario
from emu.tables import Problem, convert_tables, dotted, nearest_line
from emu.toml_text import key_lines, toml_text, toml_value


class ScenarioError(UsageError):
    """A scenario with problems: one line each."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        """Say each once: what options set comes first, then the file from its beginning."""
        self.problems = sorted(dict.fromkeys(problems), key=lambda problem: problem.line)
        super().__init__("\n".join(map(str, self.problems)))


def shipped_scenarios() -> dict[str, str]:
    """The scenarios that come with emu: their files by name."""
    return {name: str(shipped_scenario(name)) for name in shipped_names()}


def scenario_path(text: str) -> str:
    """The file of a scenario: that of this path, else that of a shipped one of this name; else the text as it is."""
    return text if Path(text).exists() else shipped_scenarios().get(text, text)


def named_scenario(text: str) -> str:
    """As `scenario_path`.  Errors: UsageError for what is neither a file nor the name of a shipped one."""
    if not text:
        raise UsageError("'': expected a scenario's name, or its file")
    return text if Path(text).exists() else str(shipped_scenario(text))


def load_scenario(
    path: str | None,
    settings: Mapping[str, Any] | None = None,
    options: Mapping[str, str] | None = None,
    devices: Sequence[str] = (),
    tables: dict[str, Any] | None = None,
    usual: Mapping[str, Any] | None = None,
) -> Scenario:
    """Read a scenario file (none: `tables`, else all defaults) and put `settings` (dotted key -> value) over it.

    `usual` has defaults of the caller's own (table -> key -> value) for what the file of a replay does not say.

    `options` names the option that made a setting, where it was not --set.  `devices` are there in any case: with
    defaults, when the scenario does not name them.  Errors: UsageError, a ScenarioError with every problem.
    """
    tree, lines = (tables or {}, {}) if path is None else _read_toml(path)
    problems = []
    said: dict[tuple[str | int, ...], str] = {}
    for key, value in (settings or {}).items():
        option = (options or {}).get(key, f"--set {key}={toml_value(value)}")
        try:
            said[_put(tree, key, value)] = option
        except ValueError as error:
            problems.append(Problem(option, 0, "", str(error)))
    said |= _add_devices(tree, devices)
    _complete_run(tree)
    for table, keys in (usual or {}).items() if "run" not in tree else ():
        if isinstance(said_of := tree.setdefault(table, {}), dict):
            for key, value in keys.items():
                said_of.setdefault(key, value)

    def problem(place: tuple[str | int, ...], sentence: str) -> Problem:
        around = [option for key, option in said.items() if place[: len(key)] == key]
        inside = [option for key, option in said.items() if key[: len(place)] == place and place not in lines]
        if around or inside:
            return Problem((around or inside)[-1], 0, dotted(place), sentence)
        return Problem(path or "", nearest_line(place, lines), dotted(place), sentence)

    scenario, found = convert_tables(tree, Scenario)
    problems += [problem(place, sentence) for place, sentence in found]
    if scenario is not None:
        wrong = {place for place, _ in found}
        if wrong & {("run",), ("session",)}:  # whether it is a run, and of what, nobody knows
            wrong |= {(table,) for table in LOOP_TABLES}
        for key, sentence in (each for check in CHECKS for each in check(scenario)):
            place = _place(key)
            if not any(place[:length] in wrong for length in range(1, len(place) + 1)):  # else it is a stand-in
                problems.append(problem(place, sentence))
    if problems:
        raise ScenarioError(problems)
    assert isinstance(scenario, Scenario)
    return scenario


def _complete_run(tree: dict[str, Any]) -> None:
    """A run of the closed loop has its tables, and begins with all memory free where it does not say otherwise."""
    run, session = tree.get("run"), tree.get("session")
    if isinstance(run, dict) or (run is None and isinstance(session, list) and session):
        for table in ("run", "vm", "pressure"):
            tree.setdefault(table, {})
        if isinstance(tree["pressure"], dict):
            tree["pressure"].setdefault("start", "quiet")


def _add_devices(tree: dict[str, Any], names: Sequence[str]) -> dict[tuple[str | int, ...], str]:
    """Devices that the command line names; the option of each that was added, by its place."""
    tables = tree.setdefault("device", []) if names else []
    if not isinstance(tables, list):
        return {}
    known = [table.get("name", DeviceTable().name) for table in tables if isinstance(table, dict)]
    added: dict[tuple[str | int, ...], str] = {}
    for name in names:
        if name not in known:
            added["device", len(tables)] = f"--device {name}"
            tables.append({"name": name})
    return added


def show_scenario(scenario: Scenario) -> str:
    """The complete scenario, defaults included, as TOML that loads as the same scenario."""
    return toml_text(tables_of(scenario))


def tables_of(scenario: Scenario) -> dict[str, Any]:
    """The complete scenario as tables; a replay's has none of a closed loop."""
    tables: dict[str, Any] = msgspec.to_builtins(scenario)
    return tables if scenario.is_run else {key: table for key, table in tables.items() if key not in LOOP_TABLES}


def parse_setting(text: str) -> tuple[str, Any]:
    """`key=value` as a dotted key and a TOML value; what is no TOML value is a string."""
    key, equals, value = text.partition("=")
    key = key.strip()
    if not equals or not re.fullmatch(r"[a-z0-9_]+(\.[a-z0-9_]+)*", key):
        raise UsageError(f"--set {text}: expected key=value, such as pressure.background_skbs=0")
    try:
        parsed = tomllib.loads(f"value = {value}")
    except (tomllib.TOMLDecodeError, RecursionError):
        return key, value
    return key, parsed["value"] if list(parsed) == ["value"] else value


def _read_toml(path: str) -> tuple[dict[str, Any], dict[tuple[str | int, ...], int]]:
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path}: cannot read the scenario: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not UTF-8 at byte {error.start}; a scenario is a TOML file") from None
    try:
        return tomllib.loads(text), key_lines(text)
    except RecursionError:
        raise UsageError(f"{path}: not TOML: nested too deeply") from None
    except ValueError as error:  # tomllib's own error, or an impossible date or number
        where = re.search(r" \(at line (\d+), column \d+\)$", str(error))
        line = int(where[1]) if where else text.count("\n") + 1 if "end of document" in str(error) else 0
        raise ScenarioError([Problem(path, line, "", f"not TOML: {error}")]) from None


def _put(tree: dict[str, Any], key: str, value: Any) -> tuple[str | int, ...]:
    """Set a dotted key; its place.  Errors: ValueError that says why it leads nowhere."""
    at: Any = tree
    place = _place(key)
    words = key.split(".")
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if isinstance(at, list):
            index = int(word) if word.isdigit() and len(word) < 6 else -1
            if not 0 <= index <= len(at):
                raise ValueError(f"'{word}' is not an element from 0 to {len(at)}")
            if index == len(at):
                at.append({})
            if not following:
                at[index] = value
                break
            at = at[index]
            continue
        if not isinstance(at, dict):
            raise ValueError(f"'{word}' lies inside a value that is not a table")
        if not following:
            at[word] = value
            break
        at = at.setdefault(word, [{}] if following.isdigit() else {})
    return place


def _place(key: str) -> tuple[str | int, ...]:
    return tuple(int(word) if word.isdigit() else word for word in key.split(".") if word)

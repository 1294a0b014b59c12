"""Scenarios: every problem at once with its line and key, what may stand there, and the complete file."""

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from emu_process import NOP, emu_here
from hypothesis import given
from hypothesis import strategies as st

from emu.scenario import Scenario, schema_keys
from emu.scenario_file import ScenarioError, load_scenario, show_scenario
from emu.toml_text import key_lines, toml_text

BAD = """\
schema = 2
nothing = 1
device = [ {name = "eth0", ring = 100},
  {nmae = "x"} ]
expect = ["nonsense",
 "frames == 1", 7]
[machine]
ram = 1
memory = "lots"
[readers]
rate = 'fast'
[[socket]]
[[socket]]
match = "gopher"
[policy.rules]
x = 1
check_tcp = "a"
"""
# Line and key of each problem of BAD, worked out by hand.
PROBLEMS = [
    (1, "schema"),
    (2, "nothing"),
    (3, "device.0.ring"),
    (4, "device.1.nmae"),
    (4, "device.1.name"),
    (5, "expect.0"),
    (6, "expect.2"),
    (8, "machine.ram"),
    (9, "machine.memory"),
    (11, "readers.rate"),
    (12, "socket.0"),
    (14, "socket.1.match"),
    (16, "policy.rules.x"),
    (17, "policy.rules.check_tcp"),
]


def problems(text: str, folder: Path, **how: Any) -> list[tuple[int, str]]:
    file = folder / "s.toml"
    file.write_text(text)
    with pytest.raises(ScenarioError) as caught:
        load_scenario(str(file), **how)
    assert str(caught.value).splitlines() == [str(problem) for problem in caught.value.problems]
    return [(problem.line, problem.key) for problem in caught.value.problems]


def test_every_problem_is_told_with_its_line(tmp_path: Path) -> None:
    assert problems(BAD, tmp_path) == PROBLEMS


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[machine]\n[machine.x]\ny = 1\n", [(2, "machine.x")]),
        ("machine = 3\n", [(1, "machine")]),
        ("device = 3\n", [(1, "device")]),
        ("device = [3]\n", [(1, "device.0")]),
        ("policy.rules = [\n]\n", [(1, "policy.rules")]),
        ("policy = {rules = {check_tcp = 1.5}}\n", [(1, "policy.rules.check_tcp")]),
        ("schema = true\n", [(1, "schema")]),
        ("[pressure]\nmemalloc_socket = 1\n", [(2, "pressure.memalloc_socket")]),
        ("why = 1979-05-27\n", [(1, "why")]),
        ("[readers]\nrate = true\n", [(2, "readers.rate")]),
        ("[machine]\nmemory = 1e400\n", [(2, "machine.memory")]),
        ("[machine]\nmemory = -99999999999999999999\n", [(2, "machine.memory")]),
        (
            'x = \'\'\'\n[device]\n\'\'\'\n"y z" = """\n\\""""\n[replay]\nz = 1\n',
            [(1, "x"), (4, "y z"), (7, "replay.z")],
        ),
        ("expect = [ # one\n  'a == 1', # two ]\n 3 ]\n", [(3, "expect.1")]),
        ("[[device]]\nname = 'a'\n[[device]]\nname = 'b'\nring = 1\n", [(5, "device.1.ring")]),
        ("[[device]]\n" * 17, [(1, "device")]),
    ],
)
def test_lines_of_tables_arrays_and_strings(tmp_path: Path, text: str, expected: list[tuple[int, str]]) -> None:
    assert problems(text, tmp_path) == expected


def test_a_problem_of_an_option_names_the_option(tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    file.write_text("[readers]\nrate = 0\n")
    settings = {"readers.ordinary": "x", "device.7.name": 1, "why.x": 1, "why": 3}
    with pytest.raises(ScenarioError) as caught:
        load_scenario(str(file), settings, {"readers.ordinary": "--readers x"}, ["eth1", "9"])
    said = [(problem.origin, problem.line, problem.key) for problem in caught.value.problems]
    assert said[-1] == (str(file), 2, "readers.rate")
    assert sorted(said[:-1]) == [
        ("--device 9", 0, "device.2.name"),
        ("--readers x", 0, "readers.ordinary"),
        ("--set device.7.name=1", 0, ""),
        ("--set why=3", 0, "why"),
    ]


def test_what_is_left_is_checked_too(tmp_path: Path) -> None:
    """A wrong key does not hide that another one is impossible."""
    assert problems("[[device]]\nring = 'x'\n[pressure]\nbackground_skbs = 5000\n", tmp_path) == [
        (2, "device.0.ring"),
        (4, "pressure.background_skbs"),
    ]


def test_devices_of_the_command_line_are_added(tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    file.write_text("[[device]]\nname = 'eth1'\nring = 80\n[pressure]\nbackground_skbs = 0\n")
    named = load_scenario(str(file), devices=["eth0", "eth1"]).device
    assert [(device.name, device.ring) for device in named] == [("eth1", 80), ("eth0", None)]
    assert [device.name for device in load_scenario(None, devices=["eth3", "eth4"]).device] == ["eth3", "eth4"]


WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=8)
LEAVES = st.booleans() | st.integers(-(1 << 60), 1 << 60) | WORDS
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3), max_leaves=12
)


@given(tree=st.dictionaries(WORDS, VALUES, max_size=5))
def test_what_is_written_as_toml_reads_back(tree: dict[str, Any]) -> None:
    """Any tree of tables survives, and every key of it has a line on which it stands."""
    text = toml_text(tree)
    assert tomllib.loads(text) == tree
    lines = key_lines(text)
    count = text.count("\n") + 1
    assert all(1 <= line <= count for line in lines.values())
    assert {path for path in lines if len(path) == 1} == {(key,) for key in tree}


@given(text=st.text(alphabet="[]{}\"'=.,#\n\\ ab1", max_size=60))
def test_the_walk_ends_whatever_it_reads(text: str) -> None:
    assert all(line >= 1 for line in key_lines(text).values())


@given(st.data())
def test_a_complete_scenario_loads_as_itself(data: st.DataObject) -> None:
    ring = data.draw(st.integers(5, 256)) * 16
    settings = {
        "why": data.draw(WORDS),
        "replay.closed": data.draw(st.sampled_from(["", "tcp port 9"])),
        "device.0.ring": ring,
        "pressure.background_skbs": data.draw(st.integers(0, ring - 32)),
    }
    scenario = load_scenario(None, settings)
    assert load_text(show_scenario(scenario)) == scenario


def load_text(text: str) -> Scenario:
    import tempfile

    with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".toml") as file:
        file.write(text)
        file.flush()
        return load_scenario(file.name)


def test_every_key_says_what_it_means() -> None:
    keys = schema_keys()
    assert len({key.name for key in keys}) == len(keys)
    for key in keys:
        assert key.meaning.endswith("."), key.name
        assert "\n" not in key.meaning


# The verbs.


def test_check_names_the_problems_of_all_files(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text(BAD)
    (tmp_path / "worse.toml").write_text("[")
    (tmp_path / "good.toml").write_text("why = 'fine'\n")
    done = emu_here("scenarios", "check", "bad.toml", "good.toml", "worse.toml", "missing.toml", cwd=tmp_path)
    lines = done.out.splitlines()
    assert (done.code, done.err, len(lines)) == (2, "", len(PROBLEMS) + 3)
    assert lines[0] == "bad.toml:1: schema: expected 1, found 2"
    digest = load_scenario(str(tmp_path / "good.toml")).digest()
    assert lines[len(PROBLEMS)] == f"good.toml: ok, sha256 {digest}"
    assert lines[-2].startswith("worse.toml:1: not TOML: ")
    assert lines[-1] == "missing.toml: cannot read the scenario: No such file or directory"
    alone = emu_here("scenarios", "check", "good.toml", cwd=tmp_path)
    assert (alone.code, alone.out) == (0, f"good.toml: ok, sha256 {digest}\n")


def test_check_as_json(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text(BAD)
    done = emu_here("scenarios", "check", "bad.toml", "--json", cwd=tmp_path)
    (file,) = json.loads(done.out)["files"]
    assert (done.code, file["ok"], file["scenario_sha256"]) == (2, False, None)
    assert [(problem["line"], problem["key"]) for problem in file["problems"]] == PROBLEMS


def test_replay_prints_the_same_list(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text(BAD)
    checked = emu_here("scenarios", "check", "bad.toml", cwd=tmp_path)
    replayed = emu_here("replay", NOP, "--scenario", "bad.toml", "-w", "out.pcapng", cwd=tmp_path)
    assert (replayed.code, replayed.out) == (2, "")
    assert replayed.err.splitlines() == [f"emu: {line}" for line in checked.out.splitlines()]
    assert [path.name for path in tmp_path.iterdir()] == ["bad.toml"]


def test_schema_lists_every_key() -> None:
    done = emu_here("scenarios", "schema", "--json")
    said = json.loads(done.out)
    assert (done.code, done.err) == (0, "")
    assert [key["name"] for key in said["keys"]] == [key.name for key in schema_keys()]
    ring = next(key for key in said["keys"] if key["name"] == "device.*.ring")
    assert (ring["type"], ring["unit"], ring["default"]) == ("integer", "descriptors", None)
    assert ring["range"] == "from 1 to 4096"
    table = emu_here("scenarios", "schema")
    assert table.code == 0
    assert all(key.name in table.out for key in schema_keys())


def test_show_prints_the_complete_scenario(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text("[[socket]]\nmatch = 'tcp'\n[policy.rules]\ncheck_tcp = 0\n")
    done = emu_here("scenarios", "show", "s.toml", cwd=tmp_path)
    (tmp_path / "shown.toml").write_text(done.out)
    assert load_scenario(str(tmp_path / "shown.toml")) == load_scenario(str(tmp_path / "s.toml"))
    assert tomllib.loads(done.out)["replay"]["drain_ns"] == 1_000_000_000
    shown = json.loads(emu_here("scenarios", "show", "s.toml", "--json", cwd=tmp_path).out)
    assert shown["policy"] == {"name": "phillips-v5", "as_posted": "", "rules": {"check_tcp": 0}}

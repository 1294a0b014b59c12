"""Every bug of the table can be seen: its scenario expects it, and the same packets without it do the opposite."""

import importlib.util
import json
import shlex
from pathlib import Path

import pytest
from emu_process import ROOT, emu_here, refused

from emu.kernel.bugs import BUG_COMPILE, BUGS, Bug
from emu.scenario_file import load_scenario
from emu.verdicts.explain import seeing

FOLDER = ROOT / "pcaps" / "bugs"
LONG_CAPTURE_BYTES = 16 << 10


def run(command: str) -> list[str]:
    """The arguments of a command that the table gives, with one JSON object as its output."""
    words = shlex.split(command)
    assert words[:2] == ["emu", "replay"]
    return [*words[1:], "--json", "--no-progress"]


def held(command: str) -> None:
    """The command's own expectations hold, and there are some."""
    done = emu_here(*run(command), cwd=ROOT)
    assert done.code == 0, (command, done.err, done.out[-1500:])
    assert json.loads(done.out)["expectations"], command


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: f"{bug.number:02}")
def test_a_bug_is_seen_with_it_and_not_without_it(bug: Bug) -> None:
    """The pair of commands that `emu explain bug N` prints does what it says."""
    see = seeing(bug)
    if bug.number == BUG_COMPILE:
        said = refused(*run(see.with_bug), code=2, cwd=ROOT)
        assert "does not compile (bug 4" in said
    else:
        held(see.with_bug)
    held(see.without_bug)


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: f"{bug.number:02}")
def test_a_scenario_plays_a_revision_that_has_the_bug(bug: Bug) -> None:
    """The scenario says why it is there, and switches on its own bug alone; one that stays needs no switch."""
    scenario = load_scenario(str(FOLDER / bug.see.scenario))
    assert scenario.policy.name in bug.revisions
    assert scenario.policy.as_posted == ("" if bug.stays else str(bug.number))
    assert scenario.why


def test_the_captures_are_what_the_tool_makes(tmp_path: Path) -> None:
    """Committed and crafted bytes are the same, and few."""
    spec = importlib.util.spec_from_file_location("make_bug_captures", ROOT / "tools" / "make_bug_captures.py")
    assert spec is not None and spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    tool.make(tmp_path)
    made = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert made == {path.name: path.read_bytes() for path in FOLDER.glob("*.pcap")}
    assert all(len(octets) < LONG_CAPTURE_BYTES for octets in made.values())


def test_nothing_lies_in_the_folder_that_no_bug_names() -> None:
    """Every scenario belongs to a bug, and every bug has one."""
    assert {path.name for path in FOLDER.glob("*.toml")} == {bug.see.scenario for bug in BUGS}

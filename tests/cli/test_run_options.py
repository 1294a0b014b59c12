"""`emu run`, `emu compare` of a run and `emu scenarios`: what they list, and what they refuse at once."""

import json
from pathlib import Path

import pytest
from emu_process import NOP, emu_here, refused

from emu.scenario_file import load_scenario, shipped_scenarios

RUN = "why = 'a test'\n[run]\nfor = '1s'\n[[session]]\n"
SHIPPED = sorted(shipped_scenarios())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "run.toml").write_text(RUN)
    (tmp_path / "replay.toml").write_text("why = 'no run'\n")
    return tmp_path


def test_shipped_scenarios_are_listed_with_their_why() -> None:
    """Each has a reason and says by which verb it is played; in JSON, too, for whom it has expectations."""
    done = emu_here("scenarios")
    assert (done.code, done.err) == (0, "")
    listed = json.loads(emu_here("scenarios", "--json").out)["scenarios"]
    assert [row["name"] for row in listed] == SHIPPED
    for row in listed:
        assert row["name"] in done.out
        assert row["why"].endswith(".")
        scenario = load_scenario(shipped_scenarios()[row["name"]])
        real = scenario.replay.peers == "real"
        assert row["verb"] == ("emu live" if real else "emu run" if scenario.is_run else "emu step")
        assert row["expects_of"] == ([*scenario.expect] if isinstance(scenario.expect, dict) else row["expects_of"])


def test_a_shipped_scenario_is_shown_and_checked_by_name() -> None:
    name = SHIPPED[0]
    path = shipped_scenarios()[name]
    assert emu_here("scenarios", "show", name).out == emu_here("scenarios", "show", path).out
    digest = load_scenario(path).digest()
    assert emu_here("scenarios", "check", name).out == f"{name}: ok, sha256 {digest}\n"


def test_a_file_goes_before_a_shipped_scenario_of_its_name(folder: Path) -> None:
    (folder / SHIPPED[0]).write_text(RUN)
    shown = json.loads(emu_here("scenarios", "show", SHIPPED[0], "--json", cwd=folder).out)
    assert shown["why"] == "a test"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("run",), "Missing argument 'SCENARIO'"),
        (("run", "deadlok"), "did you mean deadlock"),
        (("run", "replay.toml"), "replay.toml: has no [run]: it is played by: emu replay --scenario replay.toml"),
        (("run", "run.toml", "--policy", "windows"), "--policy windows: policy.name: 'windows' is not one of"),
        (("run", "run.toml", "--for", "soon"), "--for soon: run.for: 'soon': expected a time"),
        (("run", "run.toml", "--set", "run.fo=1"), "unknown key 'fo'; did you mean 'for'?"),
        (("run", "run.toml", "--annotate", "some"), "--annotate some: expected one of drops, all"),
        (("run", "run.toml", "--log-rows", "some"), "--log-rows some: expected one of all, drops"),
        (("run", "run.toml", "--engine", "fast"), "--engine fast: expected one of auto, compiled, plain"),
        (("run", "run.toml", "--report", "out.pdf"), "--report out.pdf: expected a name that ends in .html"),
        (("run", "run.toml", "--plot", "out.pdf"), "--plot out.pdf: expected a name that ends in .png or .svg"),
        (("run", "run.toml", "-w", "-", "--json"), "-w - and --json both want standard output"),
        (("run", "run.toml", "--expect", "outcome"), "--expect 'outcome': expected PATH OP VALUE"),
        (("compare", "run.toml", "--host", "10.0.0.2"), "--host: is about captures, and run.toml is a run"),
        (("compare", "run.toml", "--pps", "3"), "--pps: is about captures"),
        (("compare", "run.toml", "--policies", "none"), "--policies: 'none' is not one of"),
        (("compare", "replay.toml"), "replay.toml: has no [run]"),
        (("compare", NOP, "--seed", "3"), "--seed: is for runs of the closed loop"),
        (("compare", NOP, "--no-baseline"), "--no-baseline: is for runs of the closed loop"),
        (("replay", "--scenario", "run.toml", NOP), "run.toml: a run of the closed loop"),
        (("replay", NOP, "--set", "run.seed=1"), "--set: a run of the closed loop"),
        (("scenarios", "--json", "check", "run.toml"), "emu scenarios --json: lists the shipped ones"),
    ],
)
def test_what_cannot_be_run_is_one_line(words: tuple[str, ...], said: str, folder: Path) -> None:
    before = sorted(folder.iterdir())
    assert said in refused(*words, code=2, cwd=folder)
    assert sorted(folder.iterdir()) == before

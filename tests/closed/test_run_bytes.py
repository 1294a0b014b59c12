"""A run's bytes depend on its scenario and its seed alone: not on the engine, nor on how much is handed out at once."""

from pathlib import Path
from typing import Any

import pytest
from loop_kit import Tree, run_of_tree
from replay_kit import files_of

from emu.closed import ClosedRun
from emu.engine.choose import choose_engine
from emu.engine.plain import RUN, Engine, PlainEngine
from emu.kernel.policy import POLICIES
from emu.scenario_file import load_scenario, shipped_scenarios
from emu.task import BATCH, Outputs, Task
from emu.verdicts.run_summary import summarise_run

WORLD: Tree = {
    "policy": {"name": "phillips-v5"},
    "run": {"for": "120ms", "flood": ["udp:pps=3k,size=1514,ports=16", "arp:pps=500"]},
    "zone": [
        {"name": "DMA", "free_pages": 0},
        {"name": "Normal", "present_pages": 1024, "min_pages": 15, "low_pages": 18, "high_pages": 22}
        | {"free_pages": 200},
    ],
    "device": [{"name": "eth0", "ring": 80, "rx_reserve": 100}],
    "readers": {"ordinary": "never"},
    "vm": {"dirty_background_ratio": 0},
    "writer": [{"rate": "2MB/s"}],
    "session": [{"queue_depth": 8}],
    "download": [{"reader": "immediate"}],
    "wire": [{"rate": "50Mbit/s"}],
    "blackout": [{"start": "30ms", "for": "5ms"}],
}
SHIPPED = [name for name, path in shipped_scenarios().items() if load_scenario(path).is_run]
SHORT = "60ms"


def judged(run: ClosedRun) -> dict[str, Any]:
    """What the run comes to, without how it was played."""
    summary = summarise_run(run.run())
    del summary["run"]
    return summary


def outputs_in(folder: Path) -> Outputs:
    return Outputs(write=str(folder / "out.pcapng"), annotate="all", log=str(folder / "log.csv"))


def everything(tree: Tree, folder: Path, **how: Any) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The summary and the bytes of every output."""
    folder.mkdir()
    (folder / "out").mkdir()
    summary = judged(run_of_tree(tree, folder, outputs_in(folder / "out"), **how))
    return summary, files_of(folder / "out")


def test_bytes_do_not_depend_on_how_much_is_handed_out_at_once(tmp_path: Path) -> None:
    expected = everything(WORLD, tmp_path / "expected")
    assert expected[0]["dropped"] > 0
    for batch in (1, 2, 7, 100):
        assert everything(WORLD, tmp_path / str(batch), batch=batch) == expected, batch


def test_bytes_do_not_depend_on_steps(tmp_path: Path) -> None:
    """A run that is stopped after every step, and at odd times, is the same run."""
    expected = everything(WORLD, tmp_path / "expected")
    folder = tmp_path / "stepped"
    (folder / "out").mkdir(parents=True)
    run = run_of_tree(WORLD, folder, outputs_in(folder / "out"))
    for _ in range(700):
        run.advance(steps=1)
    assert (judged(run), files_of(folder / "out")) == expected


def test_a_seed_changes_bytes(tmp_path: Path) -> None:
    """Another seed gives other sequence numbers, data and floods; the same one gives the same run again."""
    first, again = everything(WORLD, tmp_path / "first"), everything(WORLD, tmp_path / "again")
    other = everything(WORLD | {"run": WORLD["run"] | {"seed": 2}}, tmp_path / "other")
    assert first == again
    assert first[1]["out.pcapng"] != other[1]["out.pcapng"]
    assert first[1]["log.csv"] != other[1]["log.csv"]


@pytest.mark.slow
@pytest.mark.parametrize("policy", POLICIES)
def test_engines_agree_on_every_policy(policy: str, tmp_path: Path) -> None:
    tree = WORLD | {"policy": {"name": policy}}
    plain = everything(tree, tmp_path / "plain")
    assert everything(tree, tmp_path / "compiled", engine=compiled()) == plain


@pytest.mark.slow
@pytest.mark.parametrize("name", SHIPPED)
def test_engines_agree_on_what_is_shipped(name: str, tmp_path: Path) -> None:
    """The first moments of every shipped run, all outputs."""
    assert of_shipped(name, tmp_path / "plain", PlainEngine()) == of_shipped(name, tmp_path / "compiled", compiled())


def of_shipped(name: str, folder: Path, engine: Engine) -> tuple[dict[str, Any], dict[str, bytes]]:
    scenario = load_scenario(shipped_scenarios()[name], {"run.for": SHORT})
    folder.mkdir()
    task = Task(scenario=scenario, name=name, outputs=outputs_in(folder), batch=BATCH)
    return judged(ClosedRun(task, engine)), files_of(folder)


def compiled() -> Engine:
    return choose_engine("compiled", None, RUN)[0]

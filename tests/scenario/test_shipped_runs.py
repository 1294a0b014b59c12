"""The shipped runs come to what they say, under each policy that they name; what is stuck stays stuck."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from emu.cli.run_options import RunCommand
from emu.closed_runs import run_closed_once
from emu.runs import Run
from emu.scenario import Scenario
from emu.scenario_file import load_scenario, shipped_scenarios
from emu.task import NO_OUTPUTS
from emu.verdicts.expect import EVERY_POLICY

SHIPPED = {name: load_scenario(path) for name, path in shipped_scenarios().items()}


def policies_of(scenario: Scenario) -> list[str]:
    """The policies that a run expects something of; its own where it expects the same of all."""
    if not scenario.is_run or not isinstance(scenario.expect, dict):
        return []
    return [scenario.policy.name if policy == EVERY_POLICY else policy for policy in scenario.expect]


EXPECTED = [(name, policy) for name, scenario in SHIPPED.items() for policy in policies_of(scenario)]


def locked(scenario: Scenario) -> list[str]:
    """The policies under which a run is expected to lock up, in the scenario's order."""
    assert isinstance(scenario.expect, dict)
    return [policy for policy in policies_of(scenario) if scenario.expect.get(policy, {}).get("outcome") == "LOCKUP"]


# One policy of each scenario, every second one its last: so every kind of policy has its turn.
LOCKED = [
    (name, locked(SHIPPED[name])[-(at % 2)])
    for at, name in enumerate(name for name, scenario in SHIPPED.items() if policies_of(scenario) and locked(scenario))
]


@contextmanager
def nobody_watches(_what: str, _duration_ns: int) -> Iterator[None]:
    """Show nothing."""
    yield None


def played(name: str, policy: str, *settings: str, baseline: bool = False) -> Run:
    """A shipped scenario, run on the compiled engine."""
    command = RunCommand(
        scenario=name, policy=policy, settings=list(settings), engine="compiled", baseline=baseline, progress=False
    )
    return run_closed_once(command, NO_OUTPUTS, nobody_watches, lambda _text: None)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "policy"), EXPECTED)
def test_a_shipped_run_comes_to_what_it_says(name: str, policy: str) -> None:
    run = played(name, policy, baseline=needs_baseline(name, policy))
    assert run.judgements
    assert [judgement for judgement in run.judgements if not judgement.holds] == []


def needs_baseline(name: str, policy: str) -> bool:
    """Whether what is expected depends on what the run does alone: of a lockup only its share of that."""
    expect = SHIPPED[name].expect
    assert isinstance(expect, dict)
    expected = expect.get(policy, expect.get(EVERY_POLICY, {}))
    return expected.get("outcome") != "LOCKUP" or any("baseline" in path for path in expected)


def completed(summary: dict[str, Any]) -> int:
    """Bytes of block I/O that were written."""
    return int(summary["block_io"]["bytes_completed"])


@pytest.mark.slow
@pytest.mark.parametrize(("name", "policy"), LOCKED)
def test_no_lockup_recovers_in_a_hundred_seconds(name: str, policy: str) -> None:
    """The flood ends after some seconds, and nobody is stopped: not a byte more is written."""
    at_once = played(name, policy, "run.stop_at_lockup=true").summary
    assert at_once["outcome"] == "LOCKUP"
    found_ns = at_once["lockup"]["time_ns"]
    goes_on = ("run.stop_at_lockup=false", f'run.for="{found_ns // 10**9 + 100}s"')
    later = played(name, policy, *goes_on).summary
    assert later["outcome"] == "LOCKUP"
    assert later["lockup"]["time_ns"] == found_ns
    assert completed(later) == completed(at_once)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "policy"),
    [("non-napi-starvation", "phillips-v5"), ("smallest-cure", "phillips-v3"), ("many-nics-many-disks", "phillips-v5")],
)
def test_a_degraded_run_goes_on_once_the_flood_is_over_or_says_that_nothing_is_left_to_do(
    name: str, policy: str
) -> None:
    """A run that was only degraded writes on when it lasts longer, has nothing left to write, or turns out to be stuck
    once the last timer that might have helped has fired."""
    first = played(name, policy).summary
    assert first["outcome"] == "degraded"
    later = played(name, policy, 'run.for="40s"').summary
    went_on = completed(later) > completed(first)
    assert went_on or later["block_io"]["unfinished_pages"] == 0 or later["outcome"] == "LOCKUP"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sockets", "policy", "outcome"),
    [
        (9, "linux-2.6.12", "progress"),
        (9, "phillips-v5", "progress"),
        (10, "linux-2.6.12", "LOCKUP"),
        (10, "phillips-v5", "progress"),
        (11, "phillips-v5", "degraded"),
        (18, "phillips-v5", "LOCKUP"),
    ],
)
def test_the_cure_ends_where_its_scenario_says(sockets: int, policy: str, outcome: str) -> None:
    """Each socket holds 46 pages: v5 moves the edge of progress by one socket, and that of the lockup by eight."""
    flood = f'run.flood=["udp:pps=20k,for=4s,start=1s,size=1514,ports={sockets}"]'
    assert played("smallest-cure", policy, flood).summary["outcome"] == outcome

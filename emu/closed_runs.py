"""Runs of the closed loop that are played to their end and judged: one, or the same scenario under several policies.

The verbs of the command line and the functions of `emu.api` both call these; nothing here prints.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

from msgspec import structs

from emu.apart import Job, Teller, check_jobs, play_each, worth_at_once
from emu.as_posted import as_posted_for_each, buildable, parse_as_posted
from emu.capture.output import STDOUT, OutputFile
from emu.cli.run_options import RunCommand
from emu.engine.choose import ENGINES, choose_engine
from emu.engine.plain import RUN, Engine
from emu.errors import UsageError
from emu.pacing import parse_realtime
from emu.reached import Reached, Show, telling
from emu.request import check_choice
from emu.runs import Run, exit_code_of, in_order, once, oops_unasked, policies_of
from emu.scenario import Scenario
from emu.scenario_file import load_scenario, named_scenario, parse_setting
from emu.task import NO_OUTPUTS, Outputs, Task
from emu.verdicts.expect import judge, parse_expectation, texts_for
from emu.world_of import duration_ns

Watch = Callable[[str, int], AbstractContextManager[Show | None]]  # shows how far a policy's run of so many ns is

BYTES_PER_S = 10_000_000  # that a run's connections are taken to carry, for the choice of an engine
USUAL_FLOOD_FACTOR = 3


def run_scenario_of(command: RunCommand, policy: str | None) -> Scenario:
    """The scenario, then --set, then the options that have a name of their own.  Errors: UsageError."""
    path = named_scenario(command.scenario)
    settings = dict(parse_setting(text) for text in command.settings or [])
    options = {}
    for key, option, value in (
        ("policy.name", "--policy", policy),
        ("policy.as_posted", "--as-posted", command.as_posted),
        ("run.for", "--for", command.duration),
        ("run.seed", "--seed", command.seed),
    ):
        if value is not None:
            settings[key] = value
            options[key] = f"{option} {value}"
    scenario = load_scenario(path, settings, options)
    if not scenario.is_run:
        raise UsageError(f"{command.scenario}: has no [run]: it is played by: emu replay --scenario {command.scenario}")
    return scenario


def scenario_name(text: str) -> str:
    """What the summary calls a scenario: the shipped one's name, or the file's, which need not be UTF-8."""
    return os.fsencode(Path(text).name).decode(errors="replace")


def run_task(command: RunCommand, scenario: Scenario, outputs: Outputs) -> Task:
    """The command as a task."""
    texts = [*texts_for(scenario.expect, scenario.policy.name), *(command.expect or [])]
    return Task(
        scenario=scenario,
        name=scenario_name(command.scenario),
        outputs=outputs,
        expectations=tuple(map(parse_expectation, texts)),
        scenario_files=(named_scenario(command.scenario),),
        realtime=parse_realtime(command.realtime),
    )


def run_closed_once(command: RunCommand, outputs: Outputs, watch: Watch, say: Callable[[str], None]) -> Run:
    """Run under the command's policy.  Errors: UsageError; KeyboardInterrupt when it is stopped before it has begun."""
    task = run_task(command, run_scenario_of(command, command.policy), outputs)
    check_pictures(command)
    return _run(task, watch, _engine(command.engine, task.scenario, say), command.baseline)


def run_closed_each(
    command: RunCommand,
    policies: str,
    watch: Watch,
    say: Callable[[str], None],
    outputs: Callable[[str], Outputs] = lambda _policy: NO_OUTPUTS,
    jobs: int | None = None,
) -> Iterator[Run]:
    """Run under each of the policies, in that order; after an interruption no further one begins.

    `jobs` are played at once, each in a process of its own; the runs are the same whatever their number.  Errors: as
    `run_closed_once`, and as `emu.runs.run_each`.
    """
    names = policies_of(policies)
    jobs = check_jobs(jobs)
    scenario = run_scenario_of(replace(command, as_posted=None), None)
    asked = scenario.policy.as_posted if command.as_posted is None else command.as_posted
    as_posted = as_posted_for_each(asked, names)
    refused = {name: buildable(name, parse_as_posted(as_posted[name], name)) for name in names}
    if all(refused.values()):
        raise UsageError(refused[names[0]])
    check_pictures(command)
    check_choice("--engine", command.engine, ENGINES)
    each = []
    for name in names:
        if not refused[name]:
            its_own = replace(command, as_posted=as_posted[name])
            task = run_task(its_own, run_scenario_of(its_own, name), outputs(name))
            each.append(Job(name, _run_under, (task, scenario, command.engine, command.baseline), watch))
    at_once = jobs or worth_at_once(command.engine, expected_bytes(scenario), RUN, len(each))
    yield from in_order(names, refused, play_each(each, at_once, once(say)))


def _run_under(teller: Teller, task: Task, scenario: Scenario, engine: str, with_baseline: bool) -> Run:
    return _run(task, teller.watch, _engine(engine, scenario, teller.say), with_baseline)


def expected_bytes(scenario: Scenario) -> int:
    """About how much a run carries."""
    connections = len(scenario.session) + len(scenario.download)
    floods = USUAL_FLOOD_FACTOR * len(scenario.run.flood) if scenario.run else 0
    return (connections + floods) * BYTES_PER_S * duration_ns(scenario) // 10**9


def _engine(asked: str, scenario: Scenario, say: Callable[[str], None]) -> Engine:
    check_choice("--engine", asked, ENGINES)
    engine, said = choose_engine(asked, expected_bytes(scenario), RUN)
    if said:
        say(said)
    return engine


def without_load(scenario: Scenario) -> Scenario:
    """The same run without floods and downloads."""
    assert scenario.run is not None
    return structs.replace(scenario, run=structs.replace(scenario.run, flood=[]), download=[])


def reached_of(lasts_ns: int) -> Callable[[int, Any], Reached]:
    """How far a run is that lasts so long."""
    return lambda elapsed_ns, m: Reached(elapsed_ns, lasts_ns, int(m.total.frames), int(m.total.dropped))


def _run(task: Task, watch: Watch, engine: Engine, with_baseline: bool) -> Run:
    from emu.closed import ClosedRun

    scenario = task.scenario
    lasts_ns = duration_ns(scenario)
    baseline = None
    unloaded = without_load(scenario)
    if with_baseline and scenario.session and unloaded != scenario:
        alone = Task(scenario=unloaded, name=task.name)
        with telling(watch(f"{scenario.policy.name} alone", lasts_ns), reached_of(lasts_ns)) as advance:
            outcome = ClosedRun(alone, engine).run(advance)
        if outcome.interrupted:
            raise KeyboardInterrupt
        baseline = _summary(outcome)
    with telling(watch(scenario.policy.name, lasts_ns), reached_of(lasts_ns)) as advance:
        outcome = ClosedRun(task, engine, None, baseline).run(advance)
    summary = _summary(outcome)
    judgements = tuple(judge(expectation, summary) for expectation in task.expectations)
    code = exit_code_of(
        interrupted=outcome.interrupted,
        damaged=False,
        failed=oops_unasked(task, outcome.machine) or not all(judgement.holds for judgement in judgements),
    )
    return Run(scenario.policy.name, summary, judgements, code, outcome.interrupted, outcome.samples)


def _summary(outcome: Any) -> dict[str, Any]:
    from emu.verdicts.run_summary import summarise_run

    return summarise_run(outcome)


def check_pictures(command: RunCommand) -> None:
    """Refuse, before anything is played, a report or plot that could not be written in the end.  Errors: UsageError."""
    if command.report is not None:
        if not command.report.lower().endswith((".html", ".htm")):
            raise UsageError(f"--report {command.report}: expected a name that ends in .html")
        from emu.verdicts.plots.html import require_plotly

        require_plotly()
    if command.plot is not None:
        from emu.verdicts.plots.image import check_plot

        check_plot(command.plot)
    inputs = [named_scenario(command.scenario)]
    others = [os.path.realpath(name) for name in (command.write, command.log) if name not in (None, STDOUT)]
    for name in filter(None, (command.report, command.plot)):
        if os.path.realpath(name) in others:
            raise UsageError(f"{name}: is asked for twice; name another output")
        if Path(name).is_file() or not Path(name).exists():  # a pipe is opened when there is something to write
            OutputFile(name, inputs).discard()


def write_pictures(command: RunCommand, runs: Sequence[Run]) -> None:
    """The report and the plot that the command asks for.  Errors: UsageError, also when what draws them is missing."""
    if command.report is None and command.plot is None:
        return
    drawn = [(run.policy, run.summary, run.samples or {}) for run in runs if run.builds]
    inputs = [named_scenario(command.scenario)]
    title = scenario_name(command.scenario)
    if command.report is not None:
        from emu.verdicts.plots.html import write_report

        write_report(command.report, drawn, title, inputs)
    if command.plot is not None:
        from emu.verdicts.plots.image import write_plot

        write_plot(command.plot, drawn, title, inputs)

"""`emu compare`: one capture, or one run of the closed loop, several policies, one table."""

import sys
from dataclasses import fields

from emu.cli.replay import print_json, progress_bar, screen, tell
from emu.cli.run_options import CompareVerb, RunCommand
from emu.errors import UsageError
from emu.request import inputs_of, say_on_stderr
from emu.runs import Run, run_each
from emu.scenario_file import shipped_scenarios
from emu.verdicts.screen import show_comparison, show_judgements

# What a comparison of runs takes; everything else is about captures.
OF_RUNS = ("report", "plot", "duration", "seed", "baseline")
OF_BOTH = ("capture", "policies", "settings", "expect", "as_posted", "engine", "progress", "json")


def run_compare(command: CompareVerb) -> int:
    """Play under each policy; the worst exit code."""
    scenario = scenario_of_runs(command)
    if scenario is not None:
        return compare_runs(command, scenario)
    for name in OF_RUNS:
        if given(command, name):
            raise UsageError(f"{option_of(name)}: is for runs of the closed loop: emu compare SCENARIO (emu scenarios)")
    inputs = inputs_of(command)
    runs = list(run_each(command, inputs, lambda task: progress_bar(command.progress, task), say_on_stderr))
    last = [run for run in runs if run.builds][-1]
    capture = last.summary["capture"]
    if command.json:
        print_json({"capture": capture, "policies": {run.policy: run.printed() for run in runs}})
    else:
        console = screen(sys.stdout)
        show_comparison(console, capture, [run.summary for run in runs])
        judge_each(runs)
    tell(last)
    return max(run.code for run in runs)


def judge_each(runs: list[Run]) -> None:
    """Print what was expected under each policy."""
    console = screen(sys.stdout)
    for run in runs:
        show_judgements(console, [found._replace(text=f"{run.policy}: {found.text}") for found in run.judgements])


def scenario_of_runs(command: CompareVerb) -> str | None:
    """The scenario that is given in place of captures: a shipped one's name, or a TOML file; None: captures."""
    captures = command.capture or []
    if len(captures) != 1 or command.device:
        return None
    (name,) = captures
    return name if name.lower().endswith(".toml") or name in shipped_scenarios() else None


def given(command: CompareVerb, name: str) -> bool:
    """Whether an option was given."""
    default = next(field.default for field in fields(CompareVerb) if field.name == name)
    return bool(getattr(command, name) != default)


def option_of(name: str) -> str:
    """What the command line calls a field of the command."""
    return {"duration": "--for", "settings": "--set", "baseline": "--no-baseline"}.get(
        name, f"--{name.replace('_', '-')}"
    )


def run_command_of(command: CompareVerb, scenario: str) -> RunCommand:
    """The command as one of `emu run`.  Errors: UsageError for an option that is about captures."""
    for field in fields(CompareVerb):
        if field.name not in (*OF_RUNS, *OF_BOTH) and given(command, field.name):
            raise UsageError(f"{option_of(field.name)}: is about captures, and {scenario} is a run of the closed loop")
    return RunCommand(
        scenario=scenario,
        settings=command.settings,
        expect=command.expect,
        as_posted=command.as_posted,
        engine=command.engine,
        progress=command.progress,
        json=command.json,
        report=command.report,
        plot=command.plot,
        duration=command.duration,
        seed=command.seed,
        baseline=command.baseline,
    )


def compare_runs(command: CompareVerb, scenario: str) -> int:
    """Run a scenario under each policy; the worst exit code."""
    from emu.cli.run import watch_on_stderr
    from emu.closed_runs import run_closed_each, scenario_name, write_pictures
    from emu.verdicts.run_screen import show_run_comparison

    its_own = run_command_of(command, scenario)
    runs = list(run_closed_each(its_own, command.policies, watch_on_stderr(command.progress), say_on_stderr))
    write_pictures(its_own, runs)
    name = scenario_name(scenario)
    if command.json:
        print_json({"scenario": name, "policies": {run.policy: run.printed() for run in runs}})
    else:
        show_run_comparison(screen(sys.stdout), name, [run.summary for run in runs])
        judge_each(runs)
    tell([run for run in runs if run.builds][-1])
    return max(run.code for run in runs)

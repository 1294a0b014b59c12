"""`emu compare`: one capture, or one run of the closed loop, several policies, one table."""

import sys
from dataclasses import fields

from emu.cli.progress import bars, replays_in, runs_in
from emu.cli.replay import print_json, screen, tell
from emu.cli.run_options import CompareVerb, RunCommand
from emu.errors import Exit, UsageError
from emu.request import inputs_of, say_on_stderr
from emu.runs import Run, collected, policies_of, run_each
from emu.scenario_file import shipped_scenarios
from emu.verdicts.screen import show_comparison, show_judgements

# What a comparison of runs takes; everything else is about captures.
OF_RUNS = ("report", "plot", "duration", "seed", "baseline")
OF_BOTH = ("capture", "policies", "settings", "expect", "as_posted", "engine", "jobs", "progress", "json")


def run_compare(command: CompareVerb) -> int:
    """Play under each policy; the worst exit code."""
    scenario = scenario_of_runs(command)
    if scenario is not None:
        return compare_runs(command, scenario)
    for name in OF_RUNS:
        if given(command, name):
            raise UsageError(f"{option_of(name)}: is for runs of the closed loop: emu compare SCENARIO (emu scenarios)")
    inputs = inputs_of(command)
    with bars(command.progress) as shown:
        runs, stopped = collected(run_each(command, inputs, replays_in(shown), say_on_stderr))
    capture = next(run for run in runs if run.builds).summary["capture"]
    if command.json:
        print_json({"capture": capture, "policies": {run.policy: run.printed() for run in runs}})
    else:
        console = screen(sys.stdout)
        show_comparison(console, capture, [run.summary for run in runs])
        judge_each(runs)
    return told(runs, stopped, command.policies)


def told(runs: list[Run], stopped: bool, policies: str) -> int:
    """Say on stderr what cut the comparison short; the worst exit code."""
    played = [run for run in runs if run.builds]
    tell(next((run for run in played if run.interrupted), played[-1]))
    missing = [name for name in policies_of(policies) if name not in [run.policy for run in runs]]
    if missing:
        say_on_stderr(f"interrupted: not played under {', '.join(missing)}")
    return max([run.code for run in runs] + [Exit.INTERRUPTED] * stopped)


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
    from emu.closed_runs import run_closed_each, scenario_name, write_pictures
    from emu.verdicts.run_screen import show_run_comparison

    its_own = run_command_of(command, scenario)
    with bars(command.progress) as shown:
        watch = runs_in(shown)
        each = run_closed_each(its_own, command.policies, watch, say_on_stderr, jobs=command.jobs)
        runs, stopped = collected(each)
    write_pictures(its_own, runs)
    name = scenario_name(scenario)
    if command.json:
        print_json({"scenario": name, "policies": {run.policy: run.printed() for run in runs}})
    else:
        show_run_comparison(screen(sys.stdout), name, [run.summary for run in runs])
        judge_each(runs)
    return told(runs, stopped, command.policies)

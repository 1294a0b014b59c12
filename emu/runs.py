"""Runs that are played to their end and judged: one, or the same input under several policies.

The verbs of the command line and the functions of `emu.api` both call these; nothing here prints.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

from emu.apart import Job, Teller, check_jobs, play_each, worth_at_once
from emu.as_posted import as_posted_for_each, buildable, parse_as_posted
from emu.cli.options import CompareCommand, PlayCommand, ReplayCommand
from emu.cores import usable_cores
from emu.engine.choose import ENGINES
from emu.engine.plain import REPLAY
from emu.errors import Exit, UsageError
from emu.kernel.policy import POLICIES
from emu.pacing import parse_realtime
from emu.reached import Show, reached_in, telling
from emu.request import check_choice, file_bytes, play, scenario_of, task_of
from emu.reread import rereadable
from emu.task import NO_OUTPUTS, Input, Outcome, Outputs, Task
from emu.verdicts.expect import Expectation, Judgement, judge, speaks_of_oops
from emu.verdicts.summary import summarise

Watch = Callable[[Task], AbstractContextManager[Show | None]]  # what shows how far a task has come


class Run(NamedTuple):
    """How a run ended; `summary` is what `--json` prints, without expectations.

    A policy that does not build has no summary but `policy` and `does_not_build`.
    """

    policy: str
    summary: dict[str, Any]
    judgements: tuple[Judgement, ...] = ()
    code: Exit = Exit.DONE
    interrupted: bool = False
    samples: dict[str, list[int]] | None = None  # the timeline of a run of the closed loop

    @property
    def builds(self) -> bool:
        """Whether there was a kernel to run."""
        return "does_not_build" not in self.summary

    @property
    def damage(self) -> str | None:
        """What is wrong with the capture."""
        return self.summary["input"]["damage"] if "input" in self.summary else None

    def printed(self) -> dict[str, Any]:
        """The summary as `--json` prints it."""
        if not self.builds:
            return self.summary
        return self.summary | {"expectations": [judgement._asdict() for judgement in self.judgements]}


def run_once(
    command: ReplayCommand, inputs: Sequence[Input], outputs: Outputs, watch: Watch, say: Callable[[str], None]
) -> Run:
    """Replay under the command's policy.  Errors: UsageError, CaptureError, NothingToPlayError."""
    check_choice("--annotate", command.annotate, ("drops", "all"))
    check_choice("--log-rows", command.log_rows, ("all", "drops"))
    task = task_of(command, inputs, policy=command.policy, events=command.events, outputs=outputs)
    task = task._replace(realtime=parse_realtime(command.realtime))
    return _played(command, task, inputs, watch, say)


def _played(command: PlayCommand, task: Task, inputs: Sequence[Input], watch: Watch, say: Callable[[str], None]) -> Run:
    return judged(play(command, task, inputs, telling(watch(task), reached_in), say), task.expectations)


def run_each(
    command: CompareCommand,
    inputs: Sequence[Input],
    watch: Watch,
    say: Callable[[str], None],
    outputs: Callable[[str], Outputs] = lambda _policy: NO_OUTPUTS,
) -> Iterator[Run]:
    """Replay under each policy that the command names, in that order; after an interruption no further one begins.

    `command.jobs` are played at once, each in a process of its own; the runs are the same whatever their number.  What
    `say` is told, it is told once for all.  Errors: as `run_once`; UsageError when none of the policies builds;
    WorkerDiedError; KeyboardInterrupt, behind the runs that there are, when one was stopped before it had begun.
    """
    policies = policies_of(command.policies)
    jobs_asked = check_jobs(command.jobs)
    check_choice("--engine", command.engine, ENGINES)
    say = once(say)
    scenario = scenario_of(replace(command, as_posted=None), inputs)
    asked = scenario.policy.as_posted if command.as_posted is None else command.as_posted
    as_posted = as_posted_for_each(asked, policies)
    refused = {name: buildable(name, parse_as_posted(as_posted[name], name)) for name in policies}
    if all(refused.values()):
        raise UsageError(refused[policies[0]])
    playable = [name for name in policies if not refused[name]]
    with rereadable(inputs) as again:
        size = sum(file_bytes(given.path) for given in again) * (command.loop or 1)
        at_once = jobs_asked or worth_at_once(command.engine, size, REPLAY, len(playable))
        cores = max(1, usable_cores() // at_once) if at_once > 1 else 0
        commands = [replace(command, as_posted=as_posted[name]) for name in playable]
        tasks = [
            task_of(its_own, inputs, policy=name, outputs=outputs(name))._replace(cores=cores)
            for name, its_own in zip(playable, commands, strict=True)
        ]
        jobs = [
            Job(name, _play_under, (its_own, task, again), partial(_watched, watch, task))
            for name, its_own, task in zip(playable, commands, tasks, strict=True)
        ]
        yield from in_order(policies, refused, play_each(jobs, at_once, say))


def _play_under(teller: Teller, command: PlayCommand, task: Task, inputs: Sequence[Input]) -> Run:
    return _played(command, task, inputs, lambda task: teller.watch(task.scenario.policy.name, 0), teller.say)


def _watched(watch: Watch, task: Task, _what: str, _lasts_ns: int) -> AbstractContextManager[Show | None]:
    return watch(task)


def in_order(policies: Sequence[str], refused: Mapping[str, str], runs: Iterator[Run]) -> Iterator[Run]:
    """The runs, and in their places the policies that do not build; one that was not played any more is left out."""
    found: Run | None = None
    for name in policies:
        if refused[name]:
            yield Run(name, {"policy": name, "does_not_build": refused[name]})
            continue
        found = found or next(runs, None)
        if found is not None and found.policy == name:
            yield found
            found = None


def collected(runs: Iterator[Run]) -> tuple[list[Run], bool]:
    """The runs, and whether a signal came before all of them had begun.  Errors: KeyboardInterrupt: before any had."""
    found = []
    try:
        for run in runs:
            found.append(run)  # noqa: PERF402 - those before an exception are kept
    except KeyboardInterrupt:
        if not any(run.builds for run in found):
            raise
        return found, True
    return found, False


def once(say: Callable[[str], None]) -> Callable[[str], None]:
    """Says each sentence to `say` the first time only."""
    told: set[str] = set()

    def say_once(sentence: str) -> None:
        if sentence not in told:
            told.add(sentence)
            say(sentence)

    return say_once


def judged(outcome: Outcome, expectations: Sequence[Expectation]) -> Run:
    """How a run ended, held against what was expected of it."""
    summary = summarise(outcome)
    judgements = tuple(judge(expectation, summary) for expectation in expectations)
    return Run(summary["policy"], summary, judgements, exit_code(outcome, judgements), outcome.interrupted)


def exit_code(outcome: Outcome, judgements: Sequence[Judgement]) -> Exit:
    """The exit code of a replay."""
    failed = oops_unasked(outcome.task, outcome.machine) or not all(judgement.holds for judgement in judgements)
    return exit_code_of(interrupted=outcome.interrupted, damaged=outcome.damage is not None, failed=failed)


def exit_code_of(*, interrupted: bool, damaged: bool, failed: bool) -> Exit:
    """The exit code of a run, by what is worst of it."""
    if interrupted:
        return Exit.INTERRUPTED
    if damaged:
        return Exit.CAPTURE
    return Exit.EXPECTATION_FAILED if failed else Exit.DONE


def oops_unasked(task: Task, m: Any) -> bool:
    """Whether the kernel died of a bug that nobody left in on purpose, and no expectation speaks of."""
    asked = int(m.config.as_posted) >> int(m.oops) & 1
    spoken = any(speaks_of_oops(expectation) for expectation in task.expectations)
    return bool(int(m.oops)) and not asked and not spoken


def policies_of(names: str) -> list[str]:
    """The policies by name, in the order given."""
    if names.strip() == "all":
        return list(POLICIES)
    found = [name.strip() for name in names.split(",") if name.strip()]
    for name in found:
        if name not in POLICIES:
            raise UsageError(f"--policies: '{name}' is not one of {', '.join(POLICIES)}")
    if not found or len(set(found)) < len(found):
        raise UsageError(f"--policies '{names}': expected different names of {', '.join(POLICIES)}, or all")
    return found

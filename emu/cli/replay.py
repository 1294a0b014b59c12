"""`emu replay`: options become a task, the task is played, the summary is shown."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
from rich.console import Console

from emu.capture.frames import FrameSource
from emu.capture.output import STDOUT
from emu.cli.options import ReplayCommand
from emu.errors import Exit, UsageError
from emu.request import Advance, check_choice, inputs_of, play, task_of
from emu.task import Outcome, Outputs, Task
from emu.verdicts.expect import Judgement, judge, speaks_of_oops
from emu.verdicts.screen import show_judgements, show_summary
from emu.verdicts.summary import summarise


def run_replay(command: ReplayCommand) -> int:
    """Play one capture; the exit code."""
    check_choice("--annotate", command.annotate, ("drops", "all"))
    check_choice("--log-rows", command.log_rows, ("all", "drops"))
    if command.write == STDOUT and command.json:
        raise UsageError("-w - and --json both want standard output; write one of them to a file")
    inputs = inputs_of(command)
    task = task_of(
        command,
        inputs,
        policy=command.policy,
        events=command.events,
        outputs=Outputs(command.write, command.annotate, command.log, command.log_rows, command.record_events),
    )
    outcome = play(command, task, inputs, progress_bar(command.progress, task))
    summary = summarise(outcome)
    judgements = [judge(expectation, summary) for expectation in task.expectations]
    if command.json:
        print_json(summary | {"expectations": [judgement._asdict() for judgement in judgements]})
    else:
        console = screen(sys.stderr if command.write == STDOUT or command.log == STDOUT else sys.stdout)
        show_summary(console, summary)
        show_judgements(console, judgements)
    tell(outcome)
    return exit_code(outcome, judgements)


@contextmanager
def progress_bar(asked: bool | None, task: Task) -> Iterator[Advance | None]:
    """A bar on stderr: bytes, frames, drops; nothing when stderr is no terminal, unless asked for."""
    if asked is False or (asked is None and not sys.stderr.isatty()):
        yield None
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[frames]} frames, {task.fields[drops]} drops"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=asked is None) as progress:
        bar = progress.add_task(task.scenario.policy.name, total=None, frames=0, drops=0)

        def advance(reader: FrameSource, m: Any) -> None:
            progress.update(
                bar,
                total=reader.size,
                completed=reader.bytes_read,
                frames=int(m.total.frames),
                drops=int(m.total.dropped),
            )

        yield advance


def print_json(value: Any) -> None:
    """One JSON object on standard output."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")
    sys.stdout.flush()


def screen(stream: Any) -> Console:
    """A console for people; off a terminal it is wide, so that lines are not broken."""
    return Console(file=stream, width=None if stream.isatty() else 120, soft_wrap=False)


def tell(outcome: Outcome) -> None:
    """Say on stderr what cut the run short."""
    if outcome.interrupted:
        print(f"emu: {outcome.incomplete}; outputs are closed and say so", file=sys.stderr)
    elif outcome.damage is not None:
        print(f"emu: {outcome.damage}", file=sys.stderr)


def exit_code(outcome: Outcome, judgements: list[Judgement]) -> int:
    """The exit code of a run."""
    if outcome.interrupted:
        return Exit.INTERRUPTED
    if outcome.damage is not None:
        return Exit.CAPTURE
    if oops_unasked(outcome) or not all(judgement.holds for judgement in judgements):
        return Exit.EXPECTATION_FAILED
    return Exit.DONE


def oops_unasked(outcome: Outcome) -> bool:
    """Whether the kernel died of a bug that nobody left in on purpose, and no expectation speaks of."""
    m = outcome.machine
    asked = int(m.config.as_posted) >> int(m.oops) & 1
    spoken = any(speaks_of_oops(expectation) for expectation in outcome.task.expectations)
    return bool(int(m.oops)) and not asked and not spoken

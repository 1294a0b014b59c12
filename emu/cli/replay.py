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
from emu.errors import UsageError
from emu.request import Advance, inputs_of, outputs_of, say_on_stderr
from emu.runs import Run, run_once
from emu.task import Outputs, Task
from emu.verdicts.screen import show_judgements, show_summary


def run_replay(command: ReplayCommand) -> int:
    """Play one capture; the exit code."""
    if command.write == STDOUT and command.json:
        raise UsageError("-w - and --json both want standard output; write one of them to a file")
    run = _played(command)
    if command.json:
        print_json(run.printed())
    else:
        console = screen(sys.stderr if command.write == STDOUT or command.log == STDOUT else sys.stdout)
        show_summary(console, run.summary)
        show_judgements(console, run.judgements)
    tell(run)
    return run.code


def _played(command: ReplayCommand) -> Run:
    inputs, outputs = inputs_of(command), outputs_of(command)

    def play(outputs: Outputs) -> Run:
        return run_once(command, inputs, outputs, lambda task: progress_bar(command.progress, task), say_on_stderr)

    if command.report is None:
        return play(outputs)
    from emu.replay_report import run_reported

    return run_reported(command, inputs, outputs, play)


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


def tell(run: Run) -> None:
    """Say on stderr what cut the run short."""
    if run.interrupted:
        print(f"emu: {run.summary['incomplete']}; outputs are closed and say so", file=sys.stderr)
    elif run.damage is not None:
        print(f"emu: {run.damage}", file=sys.stderr)

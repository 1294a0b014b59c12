"""`emu replay`: options become a task, the task is played, the summary is shown."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
from rich.console import Console

from emu.capture.output import STDOUT
from emu.cli.options import ReplayCommand
from emu.cli.progress import bars, replays_in
from emu.errors import UsageError
from emu.reached import Show
from emu.request import inputs_of, outputs_of, say_on_stderr
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
def progress_bar(asked: bool | None, task: Task) -> Iterator[Show | None]:
    """A row on stderr: rate, time left, frames, drops; nothing when stderr is no terminal, unless asked for."""
    with bars(asked) as shown, replays_in(shown)(task) as show:
        yield show


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

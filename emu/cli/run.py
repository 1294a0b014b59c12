"""`emu run`: a scenario of the closed loop is played, and what it comes to is shown."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from emu.capture.output import STDOUT
from emu.cli.progress import bars, runs_in
from emu.cli.replay import print_json, screen, tell
from emu.cli.run_options import RunCommand
from emu.closed_runs import Watch, run_closed_once, write_pictures
from emu.errors import UsageError
from emu.reached import Show
from emu.request import check_choice, say_on_stderr
from emu.task import Outputs
from emu.verdicts.run_screen import show_run
from emu.verdicts.screen import show_judgements


def run_run(command: RunCommand) -> int:
    """Play one scenario; the exit code."""
    if command.write == STDOUT and command.json:
        raise UsageError("-w - and --json both want standard output; write one of them to a file")
    run = run_closed_once(command, outputs_of_run(command), watch_on_stderr(command.progress), say_on_stderr)
    write_pictures(command, [run])
    if command.json:
        print_json(run.printed())
    else:
        console = screen(sys.stderr if STDOUT in (command.write, command.log) else sys.stdout)
        show_run(console, run.summary)
        show_judgements(console, run.judgements)
    tell(run)
    return run.code


def outputs_of_run(command: RunCommand) -> Outputs:
    """What the command writes.  Errors: UsageError for a word that is none of the choices."""
    check_choice("--annotate", command.annotate, ("drops", "all"))
    check_choice("--log-rows", command.log_rows, ("all", "drops"))
    return Outputs(command.write, command.annotate, command.log, command.log_rows)


def watch_on_stderr(asked: bool | None) -> Watch:
    """A row of virtual time on stderr; nothing when stderr is no terminal, unless asked for."""

    @contextmanager
    def watch(what: str, lasts_ns: int) -> Iterator[Show | None]:
        with bars(asked) as shown, runs_in(shown)(what, lasts_ns) as show:
            yield show

    return watch

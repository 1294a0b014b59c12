"""`emu compare`: one capture, several policies, one table."""

import sys

from emu.cli.options import CompareCommand
from emu.cli.replay import print_json, progress_bar, screen, tell
from emu.request import inputs_of, say_on_stderr
from emu.runs import run_each
from emu.verdicts.screen import show_comparison, show_judgements


def run_compare(command: CompareCommand) -> int:
    """Replay under each policy; the worst exit code."""
    inputs = inputs_of(command)
    runs = list(run_each(command, inputs, lambda task: progress_bar(command.progress, task), say_on_stderr))
    last = [run for run in runs if run.builds][-1]
    capture = last.summary["capture"]
    if command.json:
        print_json({"capture": capture, "policies": {run.policy: run.printed() for run in runs}})
    else:
        console = screen(sys.stdout)
        show_comparison(console, capture, [run.summary for run in runs])
        for run in runs:
            show_judgements(console, [found._replace(text=f"{run.policy}: {found.text}") for found in run.judgements])
    tell(last)
    return max(run.code for run in runs)

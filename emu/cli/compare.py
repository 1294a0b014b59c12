"""`emu compare`: one capture, several policies, one table."""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from emu.cli.replay import ReplayCommand, exit_code, play, print_json, screen, task_of, tell
from emu.errors import UsageError
from emu.kernel.policy import POLICIES
from emu.verdicts.expect import judge, parse_expectation
from emu.verdicts.screen import show_comparison, show_judgements
from emu.verdicts.summary import summarise


def run_compare(command: ReplayCommand, names: str) -> int:
    """Replay under each policy; the worst exit code."""
    policies = policies_of(names)
    expectations = [parse_expectation(text) for text in command.expect]
    summaries = []
    judgements = []
    codes = []
    with rereadable(command) as again:
        for name in policies:
            outcome = play(again, task_of(again, name)._replace(name=shown(command)))
            summary = summarise(outcome)
            found = [judge(expectation, summary) for expectation in expectations]
            summaries.append(summary | {"expectations": [judgement._asdict() for judgement in found]})
            judgements += [judgement._replace(text=f"{name}: {judgement.text}") for judgement in found]
            codes.append(exit_code(outcome, found))
            if outcome.interrupted:
                break
    if command.json:
        print_json({"capture": shown(command), "policies": {summary["policy"]: summary for summary in summaries}})
    else:
        console = screen(sys.stdout)
        show_comparison(console, shown(command), summaries)
        show_judgements(console, judgements)
    tell(outcome)
    return max(codes)


def shown(command: ReplayCommand) -> str:
    """What the capture is called."""
    return "stdin" if command.capture == "-" else command.capture


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


@contextmanager
def rereadable(command: ReplayCommand) -> Iterator[ReplayCommand]:
    """The command with a capture that can be read more than once: a pipe is kept in a temporary file."""
    if command.capture != "-":
        yield command
        return
    with tempfile.NamedTemporaryFile(prefix="emu-stdin-") as kept:
        with os.fdopen(0, "rb", closefd=False) as stdin:
            shutil.copyfileobj(stdin, kept)
        kept.flush()
        yield command._replace(capture=kept.name)

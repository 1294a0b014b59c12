"""`emu compare`: one capture, several policies, one table."""

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from emu.as_posted import as_posted_for_each, buildable, parse_as_posted
from emu.cli.replay import ReplayCommand, capture_name, exit_code, play, print_json, scenario_of, screen, task_of, tell
from emu.errors import UsageError
from emu.kernel.policy import POLICIES
from emu.verdicts.expect import judge, parse_expectation
from emu.verdicts.screen import show_comparison, show_judgements
from emu.verdicts.summary import summarise


def run_compare(command: ReplayCommand, names: str) -> int:
    """Replay under each policy; the worst exit code."""
    policies = policies_of(names)
    scenario = scenario_of(command._replace(as_posted=None), None)
    asked = scenario.policy.as_posted if command.as_posted is None else command.as_posted
    as_posted = as_posted_for_each(asked, policies)
    expectations = [parse_expectation(text) for text in [*scenario.expect, *command.expect]]
    summaries = []
    judgements = []
    codes: list[int] = []
    outcome = None
    with rereadable(command) as again:
        for name in policies:
            refused = buildable(name, parse_as_posted(as_posted[name], name))
            if refused:
                summaries.append({"policy": name, "does_not_build": refused})
                continue
            task = task_of(again._replace(as_posted=as_posted[name]), name)
            outcome = play(again, task._replace(name=capture_name(command)))
            summary = summarise(outcome)
            found = [judge(expectation, summary) for expectation in expectations]
            summaries.append(summary | {"expectations": [judgement._asdict() for judgement in found]})
            judgements += [judgement._replace(text=f"{name}: {judgement.text}") for judgement in found]
            codes.append(exit_code(outcome, found))
            if outcome.interrupted:
                break
    if outcome is None:
        raise UsageError(summaries[0]["does_not_build"])
    if command.json:
        print_json(
            {"capture": capture_name(command), "policies": {summary["policy"]: summary for summary in summaries}}
        )
    else:
        console = screen(sys.stdout)
        show_comparison(console, capture_name(command), summaries)
        show_judgements(console, judgements)
    tell(outcome)
    return max(codes)


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
    if command.capture != "-" and not Path(command.capture).is_fifo():
        yield command
        return
    with tempfile.NamedTemporaryFile(prefix="emu-stdin-") as kept:
        with open(0 if command.capture == "-" else command.capture, "rb", closefd=command.capture != "-") as pipe:
            shutil.copyfileobj(pipe, kept)
        kept.flush()
        yield command._replace(capture=kept.name)

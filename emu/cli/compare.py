"""`emu compare`: one capture, several policies, one table."""

import sys
from dataclasses import replace
from typing import Any

from emu.as_posted import as_posted_for_each, buildable, parse_as_posted
from emu.cli.options import CompareCommand
from emu.cli.replay import exit_code, print_json, progress_bar, screen, tell
from emu.errors import UsageError
from emu.kernel.policy import POLICIES
from emu.request import expectations_of, input_name, inputs_of, play, scenario_of, task_of
from emu.reread import rereadable
from emu.verdicts.expect import judge
from emu.verdicts.screen import show_comparison, show_judgements
from emu.verdicts.summary import summarise


def run_compare(command: CompareCommand) -> int:
    """Replay under each policy; the worst exit code."""
    policies = policies_of(command.policies)
    inputs = inputs_of(command)
    scenario = scenario_of(replace(command, as_posted=None), inputs)
    asked = scenario.policy.as_posted if command.as_posted is None else command.as_posted
    as_posted = as_posted_for_each(asked, policies)
    expectations = expectations_of(command, scenario)
    summaries: list[dict[str, Any]] = []
    judgements = []
    codes: list[int] = []
    outcome = None
    name_of_all = ", ".join(map(input_name, inputs))
    with rereadable(inputs) as again:
        for name in policies:
            refused = buildable(name, parse_as_posted(as_posted[name], name))
            if refused:
                summaries.append({"policy": name, "does_not_build": refused})
                continue
            its_own = replace(command, as_posted=as_posted[name])
            task = task_of(its_own, inputs, policy=name)
            outcome = play(its_own, task, again, progress_bar(command.progress, task))
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
        print_json({"capture": name_of_all, "policies": {summary["policy"]: summary for summary in summaries}})
    else:
        console = screen(sys.stdout)
        show_comparison(console, name_of_all, summaries)
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

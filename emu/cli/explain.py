"""`emu explain`: what a drop reason, a cause or a bug means, where it is decided, which policies produce it."""

import sys
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from emu.cli.bugs import bug_as_json, show_bug
from emu.cli.replay import print_json, screen
from emu.errors import Exit
from emu.kernel.policy import POLICIES
from emu.verdicts.explain import (
    Case,
    CauseExplanation,
    Explanation,
    Producer,
    explain_cause,
    explain_reason,
    find_bug,
    is_reason,
)

COLUMNS_NOTE = "{words in braces} are columns of the log: emu schema"


def explain(words: str, as_json: bool) -> int:
    """Explain a reason, a cause or a bug; the exit code.  Errors: UsageError when there is no such thing.

    A word that names both a reason and a cause (NOMEM) is explained as both.
    """
    bug = find_bug(words)
    if bug is not None:
        if as_json:
            print_json(bug_as_json(bug))
        else:
            show_bug(screen(sys.stdout), bug)
        return Exit.DONE
    cause = explain_cause(words)
    reason = explain_reason(words) if cause is None or is_reason(words) else None
    if as_json:
        print_json((_as_json(reason) if reason else {}) | (_cause_as_json(cause, bool(reason)) if cause else {}))
        return Exit.DONE
    console = screen(sys.stdout)
    if reason is not None:
        show_explanation(console, reason)
    if cause is not None:
        show_cause(console, cause)
    return Exit.DONE


def show_cause(console: Console, cause: CauseExplanation) -> None:
    """Print what a cause means."""
    console.print(Text.assemble((cause.name, "bold"), f" (a cause: column `cause` behind {', '.join(cause.reasons)})"))
    _say(console, cause.sentence)
    console.print(Text("Policies", "bold"))
    _say(console, _under(cause.policies))


def show_explanation(console: Console, explanation: Explanation) -> None:
    """Print an explanation."""
    whose = "emu's own word" if explanation.ours else "the kernel's word"
    console.print(Text.assemble((explanation.name, "bold"), f" ({whose})"))
    _say(console, explanation.sentence)
    for title, text in (
        ("Decided in", explanation.point),
        ("Source", explanation.source),
    ):
        console.print(Text(title, "bold"))
        _say(console, text)
    show_cases(console, explanation.cases)
    if explanation.causes:
        console.print(Text("Cause", "bold"))
        for cause in explanation.causes:
            _say(console, f"{cause.name}: {cause.sentence} ({_under(cause.policies)})")
    console.print(Text("Policies", "bold"))
    _say(console, _under(explanation.policies))
    for producer in explanation.policies:
        if producer.rules:
            _say(console, f"{producer.name}: {producer.title}")
            for rule in producer.rules:
                _say(console, f"{rule.asks} {rule.answer}", indent=4)


def show_cases(console: Console, cases: tuple[Case, ...]) -> None:
    """Print what the packet asked for, what there was, and what would have saved it, case by case."""
    console.print(Text("Why", "bold"))
    for case in cases:
        indent = 2
        if len(cases) > 1:
            _say(console, f"{case.when}:" if case.when else "else:")
            indent = 4
        for title, text in (("needed", case.needed), ("had", case.had), ("saved by", case.saved)):
            _say(console, f"{title}: {text}", indent)
    _say(console, COLUMNS_NOTE)


def _say(console: Console, text: str, indent: int = 2) -> None:
    console.print(Padding(Text(text), (0, 0, 0, indent), expand=False))


def _under(producers: tuple[Producer, ...]) -> str:
    if len(producers) == len(POLICIES):
        return "under every policy"
    return "under " + ", ".join(producer.name for producer in producers)


def _cause_as_json(cause: CauseExplanation, beside_reason: bool) -> dict[str, Any]:
    """A cause as an object of its own; beside the reason of the same name, under the key `as_cause`."""
    told = cause._asdict() | {"policies": [producer.name for producer in cause.policies]}
    return {"as_cause": told} if beside_reason else told


def _as_json(explanation: Explanation) -> dict[str, Any]:
    return explanation._asdict() | {
        "causes": [cause._asdict() | {"policies": [p.name for p in cause.policies]} for cause in explanation.causes],
        "policies": [p._asdict() | {"rules": [rule._asdict() for rule in p.rules]} for p in explanation.policies],
    }

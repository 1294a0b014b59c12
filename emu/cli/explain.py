"""`emu explain`: what a drop reason means, where the kernel decides it, which policies produce it."""

import sys
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from emu.cli.replay import print_json, screen
from emu.errors import Exit
from emu.kernel.policy import POLICIES
from emu.verdicts.explain import Explanation, Producer, explain_reason

PREDICATE_NOTE = "{words in braces} are columns of the log: emu schema"


def explain(word: str, as_json: bool) -> int:
    """Explain a reason; the exit code.  Errors: UsageError when there is no such reason."""
    explanation = explain_reason(word)
    if as_json:
        print_json(_as_json(explanation))
    else:
        show_explanation(screen(sys.stdout), explanation)
    return Exit.DONE


def show_explanation(console: Console, explanation: Explanation) -> None:
    """Print an explanation."""
    whose = "emu's own word" if explanation.ours else "the kernel's word"
    console.print(Text.assemble((explanation.name, "bold"), f" ({whose})"))
    _say(console, explanation.sentence)
    for title, text in (
        ("Decided in", explanation.point),
        ("Source", explanation.source),
        ("When", f"{explanation.predicate}\n{PREDICATE_NOTE}"),
    ):
        console.print(Text(title, "bold"))
        _say(console, text)
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


def _say(console: Console, text: str, indent: int = 2) -> None:
    console.print(Padding(Text(text), (0, 0, 0, indent), expand=False))


def _under(producers: tuple[Producer, ...]) -> str:
    if len(producers) == len(POLICIES):
        return "under every policy"
    return "under " + ", ".join(producer.name for producer in producers)


def _as_json(explanation: Explanation) -> dict[str, Any]:
    return explanation._asdict() | {
        "causes": [cause._asdict() | {"policies": [p.name for p in cause.policies]} for cause in explanation.causes],
        "policies": [p._asdict() | {"rules": [rule._asdict() for rule in p.rules]} for p in explanation.policies],
    }

"""`emu policies`: all policies in one narrow table, or some of them rule by rule in whole sentences."""

import sys
from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from emu.cli.replay import print_json, screen
from emu.errors import Exit, UsageError
from emu.kernel.policy import DEFAULT_POLICY, POLICIES, QUESTIONS, PolicyRow, Question, word
from emu.verdicts.explain import rules_of

LABEL_WIDTH = max(len(question.label) for question in QUESTIONS)
WORD_WIDTH = 8  # "phillips"
QUESTION_WIDTH = 26
# The least and the most in which an answer reads well; policies that have no room get a table of their own.
ANSWER_WIDTHS = 15, 40
GAP = 2  # between columns: a blank of padding and one of the box
EDGES = 2


def policies(names: Sequence[str], as_json: bool) -> int:
    """Show all policies, or those of these names in whole sentences; the exit code.

    Errors: UsageError when there is no such policy.
    """
    for name in names:
        if name not in POLICIES:
            raise UsageError(f"'{name}' is not one of {', '.join(POLICIES)}")
    rows = [POLICIES[name] for name in names] or list(POLICIES.values())
    if as_json:
        print_json({"default": DEFAULT_POLICY, "policies": [_as_json(row) for row in rows]})
    elif names:
        show_policies(screen(sys.stdout), rows)
    else:
        show_overview(screen(sys.stdout))
    return Exit.DONE


def show_overview(console: Console) -> None:
    """Print all policies, a word per rule: rules down, policies across; what each policy is stands below."""
    rows = list(POLICIES.values())
    room = console.width - EDGES - LABEL_WIDTH
    for some in _side_by_side(rows, max(1, room // (WORD_WIDTH + 1))):
        console.print(_overview(some))
    for row in rows:
        default = " (default)" if row.name == DEFAULT_POLICY else ""
        console.print(Text.assemble((row.name, "bold"), f"{default}: {row.title}"))
    console.print(Text("words and sources: emu policies NAME; bugs: emu bugs", "dim"))


def show_policies(console: Console, rows: Sequence[PolicyRow]) -> None:
    """Print these policies in sentences: questions down, policies across, their sources below."""
    least, most = ANSWER_WIDTHS
    room = console.width - EDGES - QUESTION_WIDTH - GAP
    beside = min(max(1, room // (least + GAP)), len(rows))
    width = min(max(least, room // beside - GAP), most)
    for some in _side_by_side(rows, beside):
        console.print(_table(some, width))
    for row in rows:
        default = " (default)" if row.name == DEFAULT_POLICY else ""
        console.print(Text.assemble((row.name, "bold"), f"{default}: {row.title}"))
        console.print(Padding(Text(row.source, "dim"), (0, 0, 0, 2), expand=False))


def _side_by_side(rows: Sequence[PolicyRow], beside: int) -> list[Sequence[PolicyRow]]:
    return [rows[start : start + beside] for start in range(0, len(rows), beside)]


def _overview(rows: Sequence[PolicyRow]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=0)
    table.add_column("", width=LABEL_WIDTH)
    for row in rows:
        family, _, which = row.name.rpartition("-")
        table.add_column(Text(f"{family}\n{which}"), width=WORD_WIDTH)
    for question in QUESTIONS:
        table.add_row(Text(question.label), *(_word(row, question) for row in rows))
    table.add_row(Text("bugs as posted"), *(_bugs(row) for row in rows))
    return table


def _word(row: PolicyRow, question: Question) -> Text:
    said = word(question, row.rules[question.field])
    return Text("-" if said == "0" else said)


def _bugs(row: PolicyRow) -> Text:
    return Text(" ".join(map(str, row.bugs)) or "-")


def _table(rows: Sequence[PolicyRow], width: int) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, GAP - 1, 0, 0), leading=1)
    # Widths are given: rich would share them out by the longest text, and cut the last column off.
    table.add_column("", width=QUESTION_WIDTH)
    for row in rows:
        table.add_column(Text(row.name), width=width)
    for number, question in enumerate(QUESTIONS):
        table.add_row(Text(question.asks), *(Text(rules_of(row)[number].answer) for row in rows))
    table.add_row(Text("Which bugs was it posted with (emu bugs)?"), *(_bugs(row) for row in rows))
    return table


def _as_json(row: PolicyRow) -> dict[str, Any]:
    return {
        "name": row.name,
        "title": row.title,
        "source": row.source,
        "rules": [rule._asdict() for rule in rules_of(row)],
        "bugs": list(row.bugs),
    }

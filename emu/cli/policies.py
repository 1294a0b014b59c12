"""`emu policies`: the table of policies, rule by rule."""

import sys
from typing import Any

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from emu.cli.replay import print_json, screen
from emu.errors import Exit
from emu.kernel.policy import DEFAULT_POLICY, POLICIES, QUESTIONS, PolicyRow
from emu.verdicts.explain import rules_of

QUESTION_WIDTH = 26
# The least and the most in which an answer reads well; policies that have no room get a table of their own.
ANSWER_WIDTHS = 15, 40
GAP = 2  # between columns: a blank of padding and one of the box
EDGES = 2


def policies(as_json: bool) -> int:
    """Show all policies; the exit code."""
    if as_json:
        print_json({"default": DEFAULT_POLICY, "policies": [_as_json(row) for row in POLICIES.values()]})
    else:
        show_policies(screen(sys.stdout))
    return Exit.DONE


def show_policies(console: Console) -> None:
    """Print the table: questions down, policies across, what each policy is and its source below."""
    rows = list(POLICIES.values())
    least, most = ANSWER_WIDTHS
    room = console.width - EDGES - QUESTION_WIDTH - GAP
    beside = min(max(1, room // (least + GAP)), len(rows))
    width = min(max(least, room // beside - GAP), most)
    for start in range(0, len(rows), beside):
        console.print(_table(rows[start : start + beside], width))
    _sources(console, rows)


def _table(rows: list[PolicyRow], width: int) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, GAP - 1, 0, 0), leading=1)
    # Widths are given: rich would share them out by the longest text, and cut the last column off.
    table.add_column("", width=QUESTION_WIDTH)
    for row in rows:
        table.add_column(Text(row.name), width=width)
    for number, question in enumerate(QUESTIONS):
        table.add_row(Text(question.asks), *(Text(rules_of(row)[number].answer) for row in rows))
    return table


def _sources(console: Console, rows: list[PolicyRow]) -> None:
    for row in rows:
        default = " (default)" if row.name == DEFAULT_POLICY else ""
        console.print(Text.assemble((row.name, "bold"), f"{default}: {row.title}"))
        console.print(Padding(Text(row.source, "dim"), (0, 0, 0, 2), expand=False))


def _as_json(row: PolicyRow) -> dict[str, Any]:
    return {
        "name": row.name,
        "title": row.title,
        "source": row.source,
        "rules": [rule._asdict() for rule in rules_of(row)],
    }

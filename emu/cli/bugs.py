"""`emu bugs`: the bugs that the patch of August 2005 was posted with."""

import sys
from typing import Any

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from emu.cli.replay import print_json, screen
from emu.errors import Exit
from emu.kernel.bugs import BUGS, Bug
from emu.verdicts.explain import Seeing, revisions_in_short, seeing


def bugs(as_json: bool) -> int:
    """Show the table of bugs; the exit code."""
    if as_json:
        print_json({"bugs": [bug_as_json(bug) for bug in BUGS]})
    else:
        show_bugs(screen(sys.stdout))
    return Exit.DONE


def show_bugs(console: Console) -> None:
    """Print a line per bug: number, revisions, what, and what the policy rows do instead."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("", justify="right", no_wrap=True)
    table.add_column("revisions", no_wrap=True)
    table.add_column("bug")
    table.add_column("a policy row, as intended")
    for bug in BUGS:
        intended = f"stays: {bug.intended}" if bug.stays else bug.intended
        table.add_row(str(bug.number), revisions_in_short(bug), Text(bug.title), Text(intended))
    console.print(table)
    console.print(Text("what one does and how to see it: emu explain bug 11; to run with it: --as-posted=11", "dim"))


def show_bug(console: Console, bug: Bug) -> None:
    """Print all that is known of one bug, and the commands that show it."""
    console.print(Text.assemble((f"bug {bug.number}", "bold"), f" of phillips-{revisions_in_short(bug)}: {bug.title}"))
    see: Seeing = seeing(bug)
    for title, text in (
        ("Effect", bug.effect),
        ("Source", bug.source),
        ("Noticed", bug.noticed),
        ("As intended", f"stays: {bug.intended}" if bug.stays else bug.intended),
    ):
        console.print(Text(title, "bold"))
        _say(console, text)
    console.print(Text("See it", "bold"))
    _say(console, see.with_bug)
    console.print(Text("and without it", "bold"))
    _say(console, see.without_bug)


def bug_as_json(bug: Bug) -> dict[str, Any]:
    """One bug as an object."""
    return bug._asdict() | {"see": seeing(bug)._asdict()}


def _say(console: Console, text: str) -> None:
    console.print(Padding(Text(text), (0, 0, 0, 2), expand=False))

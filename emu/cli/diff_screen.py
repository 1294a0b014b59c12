"""A difference between two runs as text to read."""

from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from emu.printable import printable
from emu.verdicts.diff import CHANGED, ONE_ONLY, SAME, Difference, Divergence, differing, told_by_either
from emu.verdicts.explain import Explained
from emu.verdicts.read import Verdicts
from emu.verdicts.screen import counted, figure, plain_table
from emu.verdicts.side_by_side import OF_B

NS_PER_S = 1_000_000_000


def show_difference(console: Console, files: tuple[Verdicts, Verdicts], found: Difference) -> None:
    """Print the whole difference: totals first, then the first packet with another fate, then the list."""
    for letter, verdicts in zip("AB", files, strict=True):
        console.print(Text(f"{letter}  {printable(verdicts.name)}: {_kind(verdicts)}"), soft_wrap=True)
    console.print(Text(_totals(found)), soft_wrap=True)
    if found.fates:
        _show_fates(console, found)
    if any(found.events):
        _show_events(console, found)
    if found.parted:
        _show_machine(console, found)
    if found.first is not None:
        show_first(console, found.first, found.by)
    if found.changes:
        _show_changes(console, found)


def _kind(verdicts: Verdicts) -> str:
    kind = "an annotated capture" if verdicts.is_capture else "a log of drops" if verdicts.drops_only else "a log"
    return f"{kind}, policy {verdicts.policy}" if verdicts.policy else kind


def _totals(found: Difference) -> str:
    packets = sum(fates.packets for fates in found.fates)
    same = found.packets(SAME)
    fates = f"{figure(same)} with the same fate, {figure(found.changed)} with another"
    said = [f"{counted(packets, 'packet')}, by {found.by}: {fates}"]
    for number, what in (
        (found.packets(ONE_ONLY), "in one file only"),
        (found.not_selected, "not selected"),
        (found.not_compared, "not compared: behind the end of a file that ends early"),
    ):
        if number:
            said.append(f"{figure(number)} {what}")
    return "; ".join(said)


def _show(console: Console, title: str, table: Table) -> None:
    """Print a table under its title, which may be wider."""
    console.print(Text(title, "bold"), soft_wrap=True)
    console.print(table)


def _show_fates(console: Console, found: Difference) -> None:
    table = plain_table("", "in A", "in B", "packets", "of block I/O")
    table.columns[1].justify = "left"
    table.columns[1].no_wrap = True
    for fates in found.fates:
        cells = (fates.a, fates.b, figure(fates.packets), figure(fates.memalloc))
        table.add_row(*cells, style=None if fates.agree == CHANGED else "dim")
    _show(console, "Fates", table)


def _show_events(console: Console, found: Difference) -> None:
    table = plain_table("", "reason", "A", "B")
    for reason in dict.fromkeys(name for events in found.events for name in events or ()):
        cells = ("not told" if events is None else figure(events.get(reason, 0)) for events in found.events)
        table.add_row(reason, *cells)
    _show(console, "Later: events by reason", table)


def _show_machine(console: Console, found: Difference) -> None:
    table = plain_table("", "column", "frame", "A", "B")
    for parting in found.parted:
        table.add_row(parting.column, figure(parting.frame), figure(parting.a), figure(parting.b))
    until = "" if found.first is None else ", up to the first change of a fate"
    _show(console, f"Where the machine first differs{until}", table)


def show_first(console: Console, first: Divergence, by: str) -> None:
    """Print the first packet with another fate: what it is, in what the rows differ, and what they mean."""
    row = next(row for row in first.rows if row is not None)
    what = row["flow"] or row["class"]
    block_io = ", of block I/O" if any(row is not None and row["memalloc"] for row in first.rows) else ""
    title = f"First change: {by} {first.key}, {what}, {row['length']} B{block_io}"
    console.print(Text(title, "bold"), soft_wrap=True)
    table = plain_table("", "column", "A", "B")
    for column in differing(first.rows):
        table.add_row(column, *(_cell(row) for row in (row[column] for row in first.rows if row is not None)))
    if table.row_count:
        console.print(table)
    for letter, fate, explained in zip("AB", first.fates, first.explained, strict=True):
        console.print(Text.assemble((f"{letter}: {fate}", "bold")))
        for label, text in _story(explained, fate):
            console.print(Padding(Text(f"{label}{text}"), (0, 0, 0, 3), expand=False))
    console.print()


def _story(explained: Explained, fate: str) -> Iterable[tuple[str, str]]:
    labels = zip(("needed: ", "had: ", "rule: ", "saved by: "), explained, strict=True)
    told = [(label, text) for label, text in labels if text]
    if not explained.needed:
        told = [("" if label == "had: " else label, text) for label, text in told if text != fate]
    return told


def _cell(value: Any) -> str:
    if value is None:
        return "not told"
    return escape(printable(value)) if isinstance(value, str) else str(value)


def _show_changes(console: Console, found: Difference) -> None:
    shown = len(found.changes)
    table = plain_table("", found.by, "class", "flow", "I/O", "in A", "in B")
    for column in table.columns[1:]:
        column.justify = "left"
    for row in found.changes:
        told = told_by_either(row)
        block_io = "block" if row["memalloc"] or row["memalloc" + OF_B] else ""
        name, flow = str(told[found.by]), escape(told["flow"] or "")
        table.add_row(name, told["class"] or "", flow, block_io, row["fate"], row["fate" + OF_B])
    more = f", the first {figure(shown)} of {figure(found.changed)} (--limit)" if shown < found.changed else ""
    _show(console, f"Changed packets{more}", table)

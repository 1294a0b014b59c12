"""The tables of a replay's report as HTML; each can be sorted by a press on a heading, the long ones filtered."""

import re
from collections.abc import Iterable, Sequence
from enum import Enum
from html import escape
from typing import Any, NamedTuple

from emu.verdicts.fates import verdict_of
from emu.verdicts.names import REASON_NAMES
from emu.verdicts.plots.palette import COLOURS
from emu.verdicts.report.drops import Drops
from emu.verdicts.report.figures import NOT_SAID, Figures, reason_of
from emu.verdicts.report.flows import FlowCount, FlowCounts
from emu.verdicts.screen import counted, figure, share

NS_PER_S = 1_000_000_000
NO_FLOW = "no flow: malformed"


class Said(Enum):
    """What a file says: the fate of every packet, of lost ones among all frames, or of lost ones alone."""

    ALL = "all"
    FRAMES = "frames"
    DROPS = "drops"


FATES = {
    Said.ALL: ("#Received", "#Delivered", "#Lost", "#Share lost"),
    Said.FRAMES: ("#Frames", "#Lost", "#Share lost"),
    Said.DROPS: ("#Lost",),
}


class Cell(NamedTuple):
    """A cell: its text as HTML, and what it is sorted by where that is not its text."""

    html: str
    sort: int | None = None


def anchor(name: str) -> str:
    """Where a reason or a cause is explained in the page."""
    return "means-" + re.sub(r"[^A-Za-z0-9_]", "-", name)


def tiles(items: Iterable[tuple[str, str, str]]) -> str:
    """The figures that one looks at first."""
    cells = "".join(
        f'<div class="card"><dt>{escape(name)}</dt><dd>{escape(value)}</dd><small>{escape(word)}</small></div>'
        for name, value, word in items
    )
    return f'<dl class="tiles">{cells}</dl>'


def losers(flows: FlowCounts, said: Said) -> str:
    """The flows that lost most."""
    rows = [
        [_flow(one), _number(one.lost), _share(one.lost, one.seen), _reason(one.reason), _first(one)]
        for one in flows.losers
    ]
    heads = ["Flow", "#Lost", "#Share of its own", "Most by", "#First frame lost"]
    if said is Said.DROPS:
        rows = [[*row[:2], *row[3:]] for row in rows]
        heads.pop(2)
    return _table(heads, rows)


def by_flow(flows: FlowCounts, said: Said) -> str:
    """The flows that brought most, and the others in one line."""
    rows = [[_flow(one), *_fate(said, one.seen, one.delivered, one.lost), _first(one)] for one in flows.top]
    heads = ("Flow", *FATES[said], "#First frame lost")
    further = flows.number - len(flows.top)
    if not further:
        return _table(heads, rows, filtered="flows")
    lost = f"{figure(flows.others_lost)} of them lost"
    told = f"and {counted(further, 'further flow')}: {counted(flows.others_seen, 'packet')}, {lost}"
    return _table(heads, rows, filtered="flows", below=told)


def by_reason(figures: Figures, colours: dict[str, str]) -> str:
    """What was lost by reason, and why the ring was dry."""
    rows = [
        [
            Cell(_swatch(colours.get(one.reason)) + _reason(one.reason).html),
            _linked(one.cause, f"cause {one.cause}"),
            _number(one.dropped),
            Cell(share(one.dropped, figures.all.lost), one.dropped),
            _number(one.memalloc),
            _number(one.events),
        ]
        for one in figures.reasons
    ]
    return _table(("Reason", "Cause", "#Dropped", "#Share", "#Block I/O's", "#Later, of accepted ones"), rows)


def by_class(figures: Figures, said: Said) -> str:
    """What became of each class, and of block I/O's packets among all."""
    rows = [
        [Cell(escape(name or NOT_SAID)), *_fate(said, fates.seen, fates.delivered, fates.lost)]
        for name, fates in figures.classes
    ]
    block_io = figures.memalloc
    # Which of the survivors were block I/O's, a capture does not say.
    seen = None if said is Said.FRAMES else block_io.seen
    rows.append([Cell("<em>block I/O (memalloc)</em>"), *_fate(said, seen, block_io.delivered, block_io.lost)])
    return _table(("Class", *FATES[said]), rows)


def _fate(said: Said, seen: int | None, delivered: int, lost: int) -> list[Cell]:
    """The cells under FATES; `seen` is None where the file does not say."""
    if said is Said.DROPS:
        return [_number(lost)]
    if seen is None:
        return [Cell(NOT_SAID, -1), _number(lost), Cell(NOT_SAID, -1)]
    survived = [_number(delivered)] if said is Said.ALL else []
    return [_number(seen), *survived, _number(lost), _share(lost, seen)]


def drops(found: Drops, first_ns: int) -> str:
    """The list of drops, and how many it leaves out."""
    shown = len(found.rows)
    told = f"All {figure(shown)} are shown." if shown == found.total else _sampled(found)
    rows = [
        [
            Cell(_frame(row["frame"]), row["frame"]),
            Cell(_seconds(row["time_ns"], first_ns), row["time_ns"]),
            Cell(escape(verdict_of(row))),
            _reason(reason_of(row)),
            _linked(row["cause"] or "", f"cause {row['cause']}"),
            Cell(escape(row["class"] or "")),
            Cell("yes" if row["memalloc"] else ""),
            Cell(escape(row["flow"] or "")),
        ]
        for row in found.rows
    ]
    heads = ("#Frame", "#Second", "Verdict", "Reason", "Cause", "Class", "Block I/O", "Flow")
    press = "Press one: its numbers, and Wireshark's filter for its frame in the clipboard."
    return f'<p class="told">{told} {press}</p>' + _table(heads, rows, filtered="drops", drops=True)


def _sampled(found: Drops) -> str:
    return (
        f"Shown {figure(len(found.rows))} of {figure(found.total)}: the first ones of each reason, and one in "
        f"{figure(found.every)} of all. emu show lists every one."
    )


def _table(
    heads: Sequence[str], rows: Sequence[Sequence[Cell]], *, filtered: str = "", below: str = "", drops: bool = False
) -> str:
    """A table; a head that begins with # is of numbers, one that is `filtered` is long and scrolls in its place."""
    numbers = [head.startswith("#") for head in heads]
    head = "".join(
        f'<th scope="col"{_kind(number)}><button type="button">{escape(name.removeprefix("#"))}</button></th>'
        for name, number in zip(heads, numbers, strict=True)
    )
    body = "".join(
        f"<tr{f' data-drop={at} tabindex=0' if drops else ''}>{_cells(row, numbers)}</tr>"
        for at, row in enumerate(rows)
    )
    box = (
        f'<label class="filter"><input type="search" placeholder="filter {escape(filtered)}" '
        f'aria-label="filter {escape(filtered)}"><output></output></label>'
        if filtered
        else ""
    )
    after = f'<p class="further">{escape(below)}</p>' if below else ""
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'{box}<div class="rows card{" long" if filtered else ""}">{table}</div>{after}'


def _cells(row: Sequence[Cell], numbers: Sequence[bool]) -> str:
    return "".join(
        f"<td{_kind(number)}{'' if cell.sort is None else f' data-sort={cell.sort}'}>{cell.html}</td>"
        for cell, number in zip(row, numbers, strict=True)
    )


def _kind(number: bool) -> str:
    return ' class="number"' if number else ""


def _number(count: int) -> Cell:
    return Cell(figure(count), count)


def _share(lost: int, seen: int) -> Cell:
    return Cell(share(lost, seen), 10_000 * lost // max(seen, 1))


def _flow(one: FlowCount) -> Cell:
    text = NOT_SAID if one.flow is None else one.flow or NO_FLOW
    mark = ' <span class="mark">block I/O</span>' if one.memalloc else ""
    return Cell(f"{escape(text)}{mark}")


def _first(one: FlowCount) -> Cell:
    return Cell(_frame(one.first_frame) if one.first_frame else "", one.first_frame)


def _frame(number: Any) -> str:
    if number is None:
        return ""
    return f'<button type="button" class="frame" data-frame="{number}">{number}</button>'


def _seconds(time_ns: int | None, first_ns: int) -> str:
    return "" if time_ns is None else f"{(time_ns - first_ns) / NS_PER_S:.6f}"


def _reason(name: str) -> Cell:
    return _linked(name, name) if name in REASON_NAMES else Cell(escape(name))


def _linked(name: str, to: str) -> Cell:
    return Cell(f'<a href="#{anchor(to)}">{escape(name)}</a>' if name else "")


def _swatch(colour: str | None) -> str:
    shades = COLOURS[colour or "grey"]
    return f'<i class="swatch" style="background:light-dark({shades.light},{shades.dark})"></i>'

"""A replay's report as one HTML file: what was lost, when and why, and the drops that are shown, one by one."""

import os
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

from emu.capture.output import OutputFile
from emu.kernel.drop_reason import CAUSES, REASONS
from emu.verdicts.explain import explain_row
from emu.verdicts.plots.html import fill_page, own_text, panels_data, require_plotly
from emu.verdicts.plots.palette import COLOURS
from emu.verdicts.read import Verdicts
from emu.verdicts.report import tables
from emu.verdicts.report.drops import Drops, drops_of
from emu.verdicts.report.figures import Figures, figures_of, reason_of
from emu.verdicts.report.flows import FlowCounts, flows_of
from emu.verdicts.report.tables import Said
from emu.verdicts.report.timeline import NS_PER_S, ReplayTimeline, timeline_of, width_text
from emu.verdicts.schema import COLUMNS
from emu.verdicts.screen import counted, figure, share

FOOTER = "Times are seconds since the first packet arrived; pages are of 4 KiB."
DETAILS = '<div class="details card" role="region" aria-label="One drop" aria-live="polite" hidden></div>'
FILTER = "frame.number == "


class Contents(NamedTuple):
    """All that the page shows."""

    verdicts: Verdicts
    figures: Figures
    flows: FlowCounts
    drops: Drops
    timeline: ReplayTimeline


def write_replay_report(
    path: str | os.PathLike[str], verdicts: Verdicts, inputs: Sequence[str | os.PathLike[str]] = ()
) -> Contents:
    """Write the report: complete under its own name or not at all; the same rows make the same bytes.

    Errors: UsageError when plotly is missing, or the file cannot be written or is one of `inputs`.
    """
    plotly = require_plotly("a report")
    contents = contents_of(verdicts)
    page = page_of(contents, plotly).encode()
    with OutputFile(path, inputs) as output:
        output.write(page)
    return contents


def contents_of(verdicts: Verdicts) -> Contents:
    """Count, sort into bins and choose."""
    table = verdicts.table
    figures = figures_of(table)
    return Contents(verdicts, figures, flows_of(table), drops_of(table, figures), timeline_of(table, figures))


def page_of(contents: Contents, plotly: str) -> str:
    """The text of the page; `plotly` is the JavaScript of require_plotly."""
    verdicts, figures, flows, drops, timeline = contents
    said = said_of(contents)
    parts = [
        _warnings(verdicts),
        tables.tiles(_tiles(verdicts, figures, said)),
        _section("Timeline", _timeline(timeline, figures)),
        _section("Top losers", tables.losers(flows, said)) if flows.losers else "",
        _section("By reason", tables.by_reason(figures, timeline.colours)) if figures.reasons else "",
        _section("By class", tables.by_class(figures, said)),
        _section("By flow", tables.by_flow(flows, said)),
        _section("Drops", tables.drops(drops, timeline.first_ns)) if drops.rows else "",
        _section("What the reasons mean", _glossary(figures)) if figures.reasons else "",
        DETAILS,
    ]
    return fill_page(
        title=verdicts.name,
        lead=lead(verdicts, figures, said),
        body="\n".join(filter(None, parts)),
        footer=FOOTER,
        data=_data(drops, timeline),
        plotly=plotly,
        script=own_text(__package__, "replay.js"),
        style=own_text(__package__, "replay.css"),
    )


def said_of(contents: Contents) -> Said:
    """What the file says."""
    if contents.verdicts.drops_only:
        return Said.DROPS
    found = contents.figures.all
    return Said.FRAMES if found.unsaid or found.untold else Said.ALL


def lead(verdicts: Verdicts, figures: Figures, said: Said) -> str:
    """The replay in one sentence."""
    found = figures.all
    under = f" under {verdicts.policy}" if verdicts.policy else ""
    lost = f"{figure(found.lost)} lost"
    block_io = f", {figure(figures.memalloc.lost)} of them block I/O's (memalloc)" if found.lost else ""
    if said is Said.DROPS:
        return f"A log of drops alone{under}: {lost}{block_io}."
    if said is Said.FRAMES:
        return f"{figure(figures.frames)} frames{under}: {lost} ({share(found.lost, found.seen)}){block_io}."
    fates = f"{figure(found.delivered)} delivered, {lost} ({share(found.lost, found.received)})"
    return f"{figure(found.received)} packets received{under}: {fates}{block_io}."


def _tiles(verdicts: Verdicts, figures: Figures, said: Said) -> Iterator[tuple[str, str, str]]:
    """Name, figure, and a word on it."""
    found, block_io = figures.all, figures.memalloc
    if said is Said.ALL:
        yield "Received", figure(found.received), f"of {figure(figures.frames)} frames"
        yield "Delivered", figure(found.delivered), share(found.delivered, found.received)
    elif said is Said.FRAMES:
        yield "Frames", figure(figures.frames), ""
        yield "No verdict", figure(found.unsaid), "survived, or were not for the host"
    word = "this log holds drops alone" if said is Said.DROPS else share(found.dropped, found.seen)
    yield "Dropped", figure(found.dropped), word
    whole = f"of {figure(block_io.received)} received" if said is Said.ALL else ""
    yield "Block I/O lost", figure(block_io.lost), whole
    for name, count, meaning in (
        ("In an oops", found.oops, "in the machine when it died"),
        ("Lost, untold", found.untold, "the file does not say to what"),
        ("In flight", found.in_flight, "not decided when it ended"),
        ("Lost later", figures.events, "events of accepted packets"),
    ):
        if count:
            yield name, figure(count), meaning
    yield "Policy", verdicts.policy or "not said", "" if verdicts.policy else "the file does not name it"


def _warnings(verdicts: Verdicts) -> str:
    parts = []
    if verdicts.incomplete:
        text = f"<strong>Incomplete</strong>{escape(verdicts.incomplete)}"
        parts.append(f'<div class="verdict card incomplete"><p>{text}</p></div>')
    if verdicts.notes:
        items = "".join(f"<li>{escape(note)}</li>" for note in verdicts.notes)
        parts.append(f'<ul class="notes">{items}</ul>')
    return "".join(parts)


def _section(title: str, body: str) -> str:
    return f'<section aria-label="{escape(title)}"><h2>{escape(title)}</h2>{body}</section>'


def _timeline(timeline: ReplayTimeline, figures: Figures) -> str:
    if not timeline.seconds:
        return '<p class="empty card">There is no packet to draw.</p>'
    bins = len(timeline.seconds)
    packets = figures.frames + figures.events
    told = f"{counted(packets, 'row')} in {counted(bins, 'bin')} of {width_text(timeline.width_ns)}"
    left = f" Not drawn: {escape('; '.join(timeline.notes))}." if timeline.notes else ""
    keeps = "of memory, reserve and ring each keeps the least and the most that was seen in it"
    if figures.all.unsaid:
        keeps += "; frames without a verdict do not say it"
    return f'<p class="told">{told}; {keeps}.{left}</p><div class="panels card replay"></div>'


def _glossary(figures: Figures) -> str:
    """The sentence of each reason and cause that occurred."""
    names = {one.reason for one in figures.reasons}
    causes = {one.cause for one in figures.reasons}
    entries = [
        f'<dt id="{tables.anchor(reason.name)}">{escape(reason.name)}</dt><dd>{escape(reason.sentence)}'
        f"<small>{escape(reason.point)} · {escape(reason.source)}</small></dd>"
        for reason in REASONS
        if reason.name and reason.name in names
    ]
    entries += [
        f'<dt id="{tables.anchor("cause " + cause.name)}">{escape(cause.name)}<small>cause</small></dt>'
        f"<dd>{escape(cause.sentence)}</dd>"
        for cause in CAUSES
        if cause.name and cause.name in causes
    ]
    return f'<dl class="glossary card">{"".join(entries)}</dl>'


def _data(drops: Drops, timeline: ReplayTimeline) -> dict[str, Any]:
    return {
        "colours": COLOURS,
        "filter": FILTER,
        "run": {
            "binned": True,
            "right": timeline.right_s,
            "seconds": timeline.seconds,
            "lockup": None,
            **panels_data(timeline.panels),
        },
        "reasons": [*dict.fromkeys(map(reason_of, drops.rows))],
        "reasonColours": timeline.colours,
        "every": drops.every,
        "total": drops.total,
        "columns": [[column.name, column.unit, column.meaning] for column in COLUMNS],
        "drops": [
            {
                "second": None if row["time_ns"] is None else round((row["time_ns"] - timeline.first_ns) / NS_PER_S, 9),
                "reason": reason_of(row),
                "why": _why(row),
                # In text: a packet_id or a time of 64 bits is more than JavaScript's numbers hold.
                "row": [None if value is None else str(value) for value in row.values()],
            }
            for row in drops.rows
        ],
    }


def _why(row: Mapping[str, Any]) -> str:
    """What a lost packet needed, what there was, and what would have saved it."""
    explained = explain_row(row)
    return f"{explained.line}; saved by: {explained.saved}" if explained.saved else explained.line

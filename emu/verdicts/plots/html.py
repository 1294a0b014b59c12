"""A report of runs as one HTML file: interactive, readable offline, for one run or for several beside each other."""

import json
import os
from collections.abc import Sequence
from html import escape
from importlib import resources
from string import Template
from typing import Any

from emu.capture.output import OutputFile
from emu.errors import UsageError
from emu.verdicts.plots.outcomes import NO_BUILD, NONE, SIGNS, TABLE, TONES, Lockup, drops_of
from emu.verdicts.plots.palette import COLOURS
from emu.verdicts.plots.timeline import Comparison, Line, Panel, Run, Timeline, Values, compare, timeline_of
from emu.verdicts.screen import figure

AROUND_BEFORE_S = 1.0  # what a look at the lockup from close by shows before the last page went, and behind
AROUND_AFTER_S = 0.25
FOOTER = "Times are virtual seconds since play started; pages are of 4 KiB."
LINKS_SHOWN = 10  # of a chain; the others are there when asked for


def require_plotly(wanted_by: str = "--report") -> str:
    """The JavaScript that draws.  Errors: UsageError when plotly is not installed, which says who wants it."""
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise UsageError(f"{wanted_by} needs plotly: pip install 'emu[plots]'") from error
    return str(get_plotlyjs())


def write_report(
    path: str | os.PathLike[str], runs: Sequence[Run], title: str, inputs: Sequence[str | os.PathLike[str]] = ()
) -> None:
    """Write the report: complete under its own name or not at all; the same runs make the same bytes.

    Errors: UsageError when plotly is missing, the file cannot be written or is one of `inputs`, there is no run, or
    samples are not those of a run.
    """
    page = page_of(runs, title, require_plotly()).encode()
    with OutputFile(path, inputs) as output:
        output.write(page)


def page_of(runs: Sequence[Run], title: str, plotly: str) -> str:
    """The text of the page; `plotly` is the JavaScript of require_plotly."""
    if not runs:
        raise UsageError("report: there is no run to show; expected at least one")
    timelines = [timeline_of(run) for run in runs]
    comparison = compare(timelines) if len(runs) > 1 else ()
    parts = [_outcomes(runs, timelines)]
    parts += [_comparison(), _tabs(timelines)] if comparison else ["<h2>Timeline</h2>"]
    parts += [
        _article(number, timeline, run[1]) for number, (timeline, run) in enumerate(zip(timelines, runs, strict=True))
    ]
    lead = _alone(timelines[0]) if len(runs) == 1 else _counted(timelines)
    return fill_page(
        title=title,
        lead=lead,
        body="\n".join(parts),
        footer=FOOTER,
        data=_as_data(timelines, comparison),
        plotly=plotly,
        script=own_text(__package__, "report.js"),
    )


def fill_page(
    *, title: str, lead: str, body: str, footer: str, data: Any, plotly: str, script: str, style: str = ""
) -> str:
    """A page with the look of all reports: `body` is HTML, `data` what `script` draws, `style` beside the common one.

    `script` finds `panelKit`, which draws panels of lines.
    """
    return Template(own_text(__package__, "report.html")).substitute(
        title=escape(title),
        lead=escape(lead),
        style=own_text(__package__, "report.css") + style,
        body=body,
        footer=escape(footer),
        data=json_in_html(data),
        plotly=plotly,
        script=own_text(__package__, "panels.js") + script,
    )


def own_text(package: str, name: str) -> str:
    """A file that stands beside a package's modules."""
    return resources.files(package).joinpath(name).read_text(encoding="utf-8")


def json_in_html(data: Any) -> str:
    """JSON that may stand in an element of script: a "</script>" in a name must not end it."""
    return json.dumps(data, separators=(",", ":"), ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")


def _counted(timelines: Sequence[Timeline]) -> str:
    outcomes = [timeline.outcome for timeline in timelines]
    counts = [f"{outcomes.count(word)} × {word}" for word in dict.fromkeys(outcomes)]  # noqa: RUF001 - times
    return f"The same scenario and seed under {len(outcomes)} policies: {', '.join(counts)}."


def _alone(timeline: Timeline) -> str:
    if not timeline.seconds:
        return "One run, without samples."
    return f"One run, {timeline.seconds[-1]:.3f} virtual seconds in {len(timeline.seconds)} samples."


def _tone(outcome: str) -> str:
    return f"light-dark({','.join(COLOURS[TONES.get(outcome, 'grey')])})"


def _sign(outcome: str, word: bool = False) -> str:
    text = f"{SIGNS.get(outcome, '')} {escape(outcome) if word else ''}".strip()
    return f'<span class="outcome" style="color:{_tone(outcome)}">{text}</span>'


def _outcomes(runs: Sequence[Run], timelines: Sequence[Timeline]) -> str:
    head = "".join(f'<th scope="col" title="{escape(column.means)}">{escape(column.title)}</th>' for column in TABLE)
    rows = []
    for (policy, summary, _), timeline in zip(runs, timelines, strict=True):
        cells = "".join(_cell(column.title, column.read(summary)) for column in TABLE)
        rows.append(
            f'<tr><th scope="row">{escape(policy)}</th><td>{_sign(timeline.outcome, word=True)}</td>{cells}</tr>'
        )
    return (
        '<section aria-label="Outcomes"><h2>Outcome</h2><div class="outcomes card"><table>'
        f'<thead><tr><th scope="col">Policy</th><th scope="col">Outcome</th>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div></section>"
    )


def _cell(title: str, text: str) -> str:
    kind = ' class="none"' if text == NONE else ""
    return f'<td data-name="{escape(title)}"{kind}>{escape(text)}</td>'


def _comparison() -> str:
    return (
        '<section aria-label="Comparison"><h2>All policies</h2><div class="legend"></div>'
        '<div class="panels compare card"></div></section>'
    )


def _tabs(timelines: Sequence[Timeline]) -> str:
    tabs = "".join(
        f'<button type="button" role="tab" data-run="{number}" aria-selected="false">'
        f"{_sign(timeline.outcome)} {escape(timeline.policy)}</button>"
        for number, timeline in enumerate(timelines)
    )
    return f'<h2>One policy at a time</h2><div class="tabs" role="tablist">{tabs}</div>'


def _article(number: int, timeline: Timeline, summary: dict[str, Any]) -> str:
    chain = "" if timeline.lockup is None else _chain(timeline.lockup)
    verdict = (
        f'<div class="verdict card" style="--tone:{_tone(timeline.outcome)}"><p>{_sign(timeline.outcome, word=True)}'
        f"<strong>{escape(timeline.policy)}</strong>{escape(timeline.headline)}</p>{chain}</div>"
    )
    if timeline.outcome == NO_BUILD or not timeline.seconds:
        plots = '<p class="empty card">There are no samples to draw.</p>'
    else:
        plots = f'{_zoom(timeline)}<div class="panels card" data-run="{number}"></div>'
    label = escape(timeline.policy)
    return f'<article class="run" data-run="{number}" aria-label="{label}">{verdict}{plots}{_drops(summary)}</article>'


def _chain(lockup: Lockup) -> str:
    links = [
        f"<li><b>{escape(link.actor)}</b><span>{escape(link.waits_for)}</span><small>{escape(link.why)}</small></li>"
        for link in lockup.chain
    ]
    shown = f'<ol class="chain">{"".join(links[:LINKS_SHOWN])}</ol>'
    more = len(links) - LINKS_SHOWN
    if more <= 0:
        return shown
    rest = f'<ol class="chain" style="counter-reset:link {LINKS_SHOWN}">{"".join(links[LINKS_SHOWN:])}</ol>'
    return f"{shown}<details><summary>{more} more who wait</summary>{rest}</details>"


def _drops(summary: dict[str, Any]) -> str:
    """What was dropped in all: the plots show when."""
    rows = "".join(
        f"<tr><td>{escape(heading)}</td><td>{escape(name)}</td><td>{figure(count)}</td></tr>"
        for heading, name, count in drops_of(summary)
    )
    if not rows:
        return ""
    head = '<tr><th scope="col">By</th><th scope="col">Which</th><th scope="col">Packets</th></tr>'
    return (
        '<details class="drops card"><summary>Drops by class and reason</summary>'
        f"<table><thead>{head}</thead><tbody>{rows}</tbody></table></details>"
    )


def _zoom(timeline: Timeline) -> str:
    lockup = timeline.lockup
    if lockup is None:
        return ""
    began = lockup.time_s if lockup.last_page_s is None else min(lockup.last_page_s, lockup.time_s)
    close = json.dumps([max(began - AROUND_BEFORE_S, 0.0), lockup.time_s + AROUND_AFTER_S])
    return (
        '<div class="zoom"><button type="button">Whole run</button>'
        f'<button type="button" data-range="{close}">Around the lockup</button></div>'
    )


def _as_data(timelines: Sequence[Timeline], comparison: Sequence[Comparison]) -> dict[str, Any]:
    return {
        "colours": COLOURS,
        "runs": [_run(timeline) for timeline in timelines],
        "compare": [
            {
                "title": panel.title,
                "unit": panel.unit,
                "why": panel.why,
                "magnified": panel.magnified,
                "lines": [
                    {"run": one.run, "key": one.line.key, "colour": one.colour, "dash": one.dash} for one in panel.lines
                ],
            }
            for panel in comparison
        ],
    }


def _run(timeline: Timeline) -> dict[str, Any]:
    lockup = timeline.lockup
    return {
        "policy": timeline.policy,
        "right": timeline.right_s,
        "seconds": [round(second, 6) for second in timeline.seconds],
        "lockup": None
        if lockup is None
        else {
            "time": lockup.time_s,
            "last": lockup.last_page_s,
            "at": timeline.lockup_at,
        },
        **panels_data(timeline.panels),
    }


def panels_data(panels: Sequence[Panel]) -> dict[str, Any]:
    """Panels and their lines as the script wants them."""
    return {
        "lines": {line.key: _line(line) for panel in panels for line in panel.lines},
        "panels": [
            {
                "title": panel.title,
                "unit": panel.unit,
                "why": panel.why,
                "magnified": panel.magnified,
                "keys": [line.key for line in panel.lines],
            }
            for panel in panels
        ],
    }


def _line(line: Line) -> dict[str, Any]:
    return {
        "name": line.name,
        "unit": line.unit,
        "colour": line.colour,
        "style": line.style,
        "values": _packed(line.values),
    }


def _packed(values: Values) -> Values | float | None:
    """A line that never changes as its one value: watermarks would else be a third of the file."""
    return values[0] if values and all(value == values[0] for value in values) else values

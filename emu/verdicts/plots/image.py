"""A plot of runs as PNG or SVG: the whole timeline of one run, or what is compared of several."""

import math
import os
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from emu.capture.output import OutputFile
from emu.errors import UsageError
from emu.verdicts.plots.outcomes import SIGNS, TABLE, TONES
from emu.verdicts.plots.palette import COLOURS
from emu.verdicts.plots.palette import look as look_of
from emu.verdicts.plots.timeline import (
    FILLED,
    LIMIT,
    READOUT,
    STACKED,
    Comparison,
    Line,
    Panel,
    Run,
    Timeline,
    Values,
    compare,
    timeline_of,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = (".png", ".svg")
DOTS_PER_INCH = 110

# Inches.
WIDTH, LEFT, RIGHT, TOP, BOTTOM = 12.0, 0.75, 0.25, 0.2, 0.3
TITLE, LINE, HEADING, PLOT, PLOT_FIRST, UNDER = 0.42, 0.24, 0.36, 1.15, 1.8, 0.34

INK, SOFT, RULE = "#1b1f24", "#59626d", "#e3e6ea"
DASHES: dict[str, Any] = {"solid": "-", "dash": (0, (4, 1.6)), "dot": (0, (1.2, 1.2))}
DECADES = (0, 1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000)
LINKS_SHOWN = 10  # of a chain: a report has them all
HEADLINE_COLUMNS, CHAIN_COLUMNS = 120, 150  # characters of a line under the title

# The columns of outcomes.TABLE for which there is room in a picture, and where they begin, in inches.
TOLD = {
    "Locked up at": 3.45,
    "Last page": 4.4,
    "Block I/O": 6.25,
    "Longest stall": 7.85,
    "p99": 8.8,
    "Clean after": 9.45,
    "Reserve, most": 10.15,
    "Block I/O lost": 11.1,
}


def check_plot(path: str | os.PathLike[str], option: str = "--plot") -> str:
    """The format that the name asks for.  Errors: UsageError for another, and when matplotlib is not installed."""
    suffix = Path(path).suffix.lower()
    if suffix not in FORMATS:
        raise UsageError(f"{option} {os.fspath(path)}: expected a name that ends in .png or .svg")
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise UsageError(f"{option} needs matplotlib: pip install 'emu[plots]'") from error
    return suffix[1:]


def write_plot(
    path: str | os.PathLike[str], runs: Sequence[Run], title: str, inputs: Sequence[str | os.PathLike[str]] = ()
) -> None:
    """Write the plot: complete under its own name or not at all; the same runs make the same bytes.

    Errors: UsageError when matplotlib is missing, the name ends in neither .png nor .svg, the file cannot be written or
    is one of `inputs`, there is no run, or samples are not those of a run.
    """
    octets = plot_of(runs, title, check_plot(path))
    with OutputFile(path, inputs) as output:
        output.write(octets)


def plot_of(runs: Sequence[Run], title: str, form: str) -> bytes:
    """The plot's file; `form` is "png" or "svg"."""
    if not runs:
        raise UsageError("plot: there is no run to show; expected at least one")
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    timelines = [timeline_of(run) for run in runs]
    with mpl.rc_context():
        # What the user's matplotlibrc says must not show, nor a salt that is drawn anew each time.
        mpl.rcdefaults()
        mpl.rcParams.update(
            {"svg.hashsalt": "emu", "font.family": "DejaVu Sans", "font.size": 9, "text.parse_math": False}
        )
        sheet = _one(Figure, timelines[0], title) if len(runs) == 1 else _several(Figure, runs, timelines, title)
        FigureCanvasAgg(sheet)
        target = BytesIO()
        told: dict[str, Any] = {"Software": None} if form == "png" else {"Date": None, "Creator": None}
        sheet.savefig(target, format=form, dpi=DOTS_PER_INCH, metadata=told)
    return target.getvalue()


class Sheet:
    """A figure that is filled from the top; heights are inches."""

    def __init__(self, figure: "type[Figure]", height: float, right_s: float) -> None:
        """An empty one, of which every plot shows the seconds from 0 to `right_s`."""
        self.figure = figure(figsize=(WIDTH, height), facecolor="white")
        self.height = height
        self.right_s = right_s
        self.at = TOP

    def text(self, x: float, text: str, height: float = 0.0, **look: Any) -> None:
        """Words at this height; `height` is what they take of it."""
        self.figure.text(x / WIDTH, 1 - (self.at + 0.14) / self.height, text, va="baseline", **look)
        self.at += height

    def swatch(self, x: float, colour: str, dash: str) -> None:
        """How a line looks in the plots below, at this height."""
        from matplotlib.lines import Line2D

        y = 1 - (self.at + 0.1) / self.height
        style: dict[str, Any] = {"color": COLOURS[colour].light, "linestyle": DASHES[dash], "linewidth": 2.2}
        self.figure.add_artist(Line2D((x / WIDTH, (x + 0.27) / WIDTH), (y, y), **style))

    def plot(self, title: str, unit: str, magnified: bool, height: float) -> "Axes":
        """An empty plot under its heading."""
        self.at += HEADING
        bottom = 1 - (self.at + height) / self.height
        axes = self.figure.add_axes((LEFT / WIDTH, bottom, (WIDTH - LEFT - RIGHT) / WIDTH, height / self.height))
        axes.set_title(f"{title}", loc="left", fontsize=10, fontweight="bold", color=INK, pad=5)
        axes.set_ylabel(unit, color=SOFT, fontsize=8)
        axes.set_xlim(0, self.right_s)
        axes.grid(color=RULE, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.tick_params(colors=SOFT, labelsize=8)
        axes.xaxis.set_major_formatter("{x:g} s")
        for side, spine in axes.spines.items():
            spine.set_visible(side in ("left", "bottom"))
            spine.set_color("#9aa3ad")
        if magnified:
            axes.set_yscale("symlog", linthresh=1, linscale=0.4)
        self.at += height + UNDER
        return axes


def _plots(count: int) -> float:
    return count * (HEADING + PLOT + UNDER) + PLOT_FIRST - PLOT


def _one(figure: "type[Figure]", timeline: Timeline, title: str) -> "Figure":
    told = _chain(timeline)
    sentences = wrap(timeline.headline, HEADLINE_COLUMNS)
    height = TOP + TITLE + LINE * (len(told) + len(sentences)) + _plots(len(timeline.panels)) + BOTTOM
    sheet = Sheet(figure, height, timeline.right_s)
    sheet.text(LEFT, title, TITLE, fontsize=15, fontweight="bold", color=INK)
    sheet.text(LEFT, _outcome(timeline), fontsize=11, fontweight="bold", color=_tone(timeline))
    for sentence in sentences:
        sheet.text(LEFT + 1.5, sentence, LINE, fontsize=10, color=INK)
    for ordinal, line in told:
        sheet.text(LEFT, ordinal, fontweight="bold", color=_tone(timeline))
        sheet.text(LEFT + 0.25, line, LINE, color=INK)
    for number, panel in enumerate(timeline.panels):
        axes = sheet.plot(panel.title, panel.unit, panel.magnified, PLOT_FIRST if number == 0 else PLOT)
        _draw(axes, panel, timeline)
        _mark(axes, timeline, first=number == 0)
    return sheet.figure


def _chain(timeline: Timeline) -> list[tuple[str, str]]:
    """The links of a lockup, in lines that fit: the first of each with its number."""
    if timeline.lockup is None:
        return []
    lines = []
    for number, link in enumerate(timeline.lockup.chain[:LINKS_SHOWN], 1):
        words = wrap(f"{link.actor} waits for {link.waits_for}: {link.why}", CHAIN_COLUMNS)
        lines += [(f"{number}." if part == 0 else "", text) for part, text in enumerate(words)]
    more = len(timeline.lockup.chain) - LINKS_SHOWN
    return [*lines, ("", f"and {more} more")] if more > 0 else lines


def _several(figure: "type[Figure]", runs: Sequence[Run], timelines: Sequence[Timeline], title: str) -> "Figure":
    panels = compare(timelines)
    height = TOP + TITLE + LINE * (len(runs) + 1.5) + _plots(len(panels)) + BOTTOM
    sheet = Sheet(figure, height, max(timeline.right_s for timeline in timelines))
    sheet.text(LEFT, title, TITLE, fontsize=15, fontweight="bold", color=INK)
    _table(sheet, runs, timelines)
    for number, panel in enumerate(panels):
        axes = sheet.plot(panel.title, panel.unit, panel.magnified, PLOT_FIRST if number == 0 else PLOT)
        _draw_compared(axes, panel, timelines)
    return sheet.figure


def _table(sheet: Sheet, runs: Sequence[Run], timelines: Sequence[Timeline]) -> None:
    columns = [(TOLD[column.title], column) for column in TABLE if column.title in TOLD]
    for x, column in columns:
        sheet.text(x, column.title, color=SOFT, fontsize=8)
    sheet.at += LINE
    for number, ((policy, summary, _), timeline) in enumerate(zip(runs, timelines, strict=True)):
        if timeline.seconds:
            sheet.swatch(LEFT, *look_of(number))
        sheet.text(LEFT + 0.35, policy, fontweight="bold", color=INK)
        sheet.text(LEFT + 1.4, _outcome(timeline), fontweight="bold", color=_tone(timeline))
        for x, column in columns:
            sheet.text(x, column.read(summary), color=INK)
        sheet.at += LINE
    sheet.at += LINE / 2


def _outcome(timeline: Timeline) -> str:
    return f"{SIGNS.get(timeline.outcome, '')} {timeline.outcome}".strip()


def _tone(timeline: Timeline) -> str:
    return COLOURS[TONES.get(timeline.outcome, "grey")].light


def _floats(values: Values) -> list[float]:
    return [math.nan if value is None else float(value) for value in values]


def _draw(axes: "Axes", panel: Panel, timeline: Timeline) -> None:
    seconds = timeline.seconds
    under = [0.0] * len(seconds)
    for line in panel.lines:
        if line.style == READOUT:
            continue
        values = _floats(line.values)
        colour = COLOURS[line.colour].light
        if line.style == STACKED:
            over = [low + value for low, value in zip(under, values, strict=True)]
            axes.fill_between(seconds, under, over, color=colour, alpha=0.45, linewidth=0.6, label=line.name)
            under = over
            continue
        axes.plot(seconds, values, color=colour, label=line.name, **_stroke(line, len(seconds)))
        if line.style == FILLED:
            axes.fill_between(seconds, values, color=colour, alpha=0.15, linewidth=0)
    _scale(axes, panel.magnified)
    axes.legend(
        loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=len(panel.lines), frameon=False, fontsize=8,
        labelcolor=INK, borderaxespad=0.1, handlelength=1.6, columnspacing=1.4,
    )  # fmt: skip


def _stroke(line: Line, count: int) -> dict[str, Any]:
    stroke: dict[str, Any] = {"linewidth": 1.1, "linestyle": (0, (5, 3))} if line.style == LIMIT else {"linewidth": 1.4}
    return stroke | ({"marker": "o"} if count < 3 else {})


def _scale(axes: "Axes", magnified: bool) -> None:
    high = axes.get_ylim()[1]
    if magnified:
        axes.set_yticks([decade for decade in DECADES if decade <= max(high, 1)])
        axes.set_yticks([], minor=True)
        axes.set_ylim(-0.15, max(high, 1))
    else:
        axes.set_ylim(0, max(high, 1))
    axes.yaxis.set_major_formatter(_counted)


def _counted(value: float, _position: float) -> str:
    return f"{value / 1000:g}k" if abs(value) >= 1000 else f"{value:g}"


def _mark(axes: "Axes", timeline: Timeline, first: bool) -> None:
    lockup = timeline.lockup
    if lockup is None:
        return
    red = COLOURS["red"].light
    axes.axvspan(lockup.time_s, timeline.right_s, color=red, alpha=0.13, linewidth=0)
    axes.axvline(lockup.time_s, color=red, linewidth=1.8)
    if lockup.last_page_s is not None:
        axes.axvline(lockup.last_page_s, color=red, linewidth=1.3, linestyle=":")
    if not first:
        return
    words: dict[str, Any] = {"color": red, "fontsize": 9, "va": "top", "textcoords": "offset points"}
    words |= {
        "xycoords": ("data", "axes fraction"),
        "bbox": {"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 1.5},
    }
    axes.annotate(f"✖ LOCKUP {lockup.time_s:.3f} s", (lockup.time_s, 1), (5, -2), fontweight="bold", **words)
    if lockup.last_page_s is not None:
        axes.annotate(f"last page {lockup.last_page_s:.3f} s", (lockup.last_page_s, 1), (-5, -2), ha="right", **words)


def _draw_compared(axes: "Axes", panel: Comparison, timelines: Sequence[Timeline]) -> None:
    for one in panel.lines:
        timeline = timelines[one.run]
        values = _floats(one.line.values)
        colour = COLOURS[one.colour].light
        stroke = _stroke(one.line._replace(style=""), len(values)) | {"linestyle": DASHES[one.dash]}
        axes.plot(timeline.seconds, values, color=colour, **stroke)
        at = timeline.lockup_at
        if at is not None:
            axes.plot(timeline.seconds[at], values[at], "X", color=colour, markersize=9, markeredgecolor="white")
    _scale(axes, panel.magnified)

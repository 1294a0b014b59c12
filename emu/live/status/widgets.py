"""Parts of the live screens: bars, rows of a name and a value, panels side by side where there is room."""

from collections.abc import Iterable, Sequence

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.panel import Panel
from rich.segment import Segment
from rich.style import Style
from rich.table import Table
from rich.text import Text

from emu.printable import printable

BAR_COLUMNS = 20
SIDE_BY_SIDE_COLUMNS = 100  # two panels need so many; below that one stands over the other
TWO_PANELS_COLUMNS = 90  # ... short ones
NAME_COLUMNS = 15


class Level:
    """A bar: how much there is of how much; a mark may say where it becomes tight."""

    def __init__(self, value: int, whole: int, *, mark: int | None = None, style: str = "green") -> None:
        """`mark`: a value, such as the floor of free pages."""
        self._filled = _cells(value, whole)
        self._mark = None if mark is None else min(_cells(mark, whole), BAR_COLUMNS - 1)
        self._style = style

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        """The bar, in characters that the terminal has."""
        full, empty, mark = ("#", "-", "|") if options.ascii_only else ("━", "╌", "┃")
        for cell in range(BAR_COLUMNS):
            if cell == self._mark:
                yield Segment(mark, Style.parse("bold"))
            elif cell < self._filled:
                yield Segment(full, Style.parse(self._style))
            else:
                yield Segment(empty, Style.parse("dim"))

    def __rich_measure__(self, _console: Console, _options: ConsoleOptions) -> Measurement:
        """It is as wide as it is."""
        return Measurement(BAR_COLUMNS, BAR_COLUMNS)


def _cells(value: int, whole: int) -> int:
    """Cells for a value; something is never shown as nothing, nor nearly all as all."""
    if whole <= 0 or value <= 0:
        return 0
    if value >= whole:
        return BAR_COLUMNS
    return min(max(1, value * BAR_COLUMNS // whole), BAR_COLUMNS - 1)


def can_follow(console: Console) -> bool:
    """Whether it can draw a picture over the one before; rich itself takes FORCE_COLOR for a terminal."""
    return console.file.isatty() and not console.is_dumb_terminal


def text(words: str, style: str = "") -> Text:
    """Words that may come from elsewhere: what looks like markup or a terminal's command is only text."""
    return Text(printable(words), style)


class Rows:
    """Rows of a name, and a value with or without a bar."""

    def __init__(self) -> None:
        """No row yet."""
        self._grid = Table.grid(padding=(0, 1))
        self._grid.add_column(width=NAME_COLUMNS, style="dim", overflow="fold")
        self._grid.add_column(overflow="fold")

    def add(self, name: str, value: str | Text, level: Level | None = None) -> None:
        """A row."""
        shown = value if isinstance(value, Text) else text(value)
        if level is None:
            self._grid.add_row(text(name), shown)
            return
        with_bar = Table.grid(padding=(0, 1))
        with_bar.add_column(width=BAR_COLUMNS)  # words give way, a bar does not: it would tell another value
        with_bar.add_column(overflow="fold")
        with_bar.add_row(level, shown)
        self._grid.add_row(text(name), with_bar)

    def add_lines(self, name: str, lines: Iterable[str | Text]) -> None:
        """A row of several lines; none at all where there is no line."""
        for number, line in enumerate(lines):
            self.add("" if number else name, line)

    def shown(self) -> Table:
        """What to print."""
        return self._grid


def framed(title: str, parts: Iterable[RenderableType], style: str = "") -> Panel:
    """A panel with a title."""
    return Panel(Group(*parts), title=text(title, "bold"), title_align="left", border_style=style or "none")


class SideBySide:
    """Panels beside each other where the terminal is wide enough, else one over the other."""

    def __init__(self, panels: Sequence[RenderableType], columns: int = SIDE_BY_SIDE_COLUMNS) -> None:
        """`columns`: how wide a terminal must be for two of them."""
        self._panels = panels
        self._columns = columns

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        """The panels for this width."""
        across = max(1, 2 * options.max_width // self._columns)
        for first in range(0, len(self._panels), across):
            row = self._panels[first : first + across]
            grid = Table.grid(expand=True)
            for _ in row:
                grid.add_column(ratio=1)
            grid.add_row(*row)
            yield grid

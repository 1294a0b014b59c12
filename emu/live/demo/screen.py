"""The demonstration's screen: its worlds side by side; where there is no terminal, a line for each change."""

import time
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.text import Text

from emu.live.demo.view import DemoView, WorldView
from emu.live.status.short_picture import host_parts, machine_parts
from emu.live.status.widgets import TWO_PANELS_COLUMNS, Level, Rows, SideBySide, can_follow, framed, text
from emu.verdicts.run_screen import COLOURS
from emu.verdicts.screen import figure

if TYPE_CHECKING:
    from rich.live import Live


class DemoScreen:
    """Shows a demonstration on stderr while it runs; use it in a `with`."""

    def __init__(self, console: Console | None = None) -> None:
        """On stderr, or a console of the caller's."""
        self._console = console or Console(stderr=True, highlight=False)
        self._live: Live | None = None
        self._told: dict[str, tuple[str, str]] = {}  # by world: the phase and outcome that were said last

    def __enter__(self) -> "DemoScreen":
        """Take the terminal, if there is one."""
        if can_follow(self._console):
            from rich.live import Live

            self._live = Live(console=self._console, auto_refresh=False)
            self._live.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """Give the terminal back; the last picture stays."""
        if self._live is not None:
            self._live.stop()

    def update(self, view: DemoView) -> None:
        """Show how it stands; call it some four times a second, and once when all is over."""
        if self._live is not None:
            self._live.update(demo_picture(view), refresh=True)
            return
        for world in view.worlds:
            now = (world.phase, world.outcome)
            if self._told.get(world.label) != now:
                self._told[world.label] = now
                self._console.print(_said(view, world), soft_wrap=True)


def demo_picture(view: DemoView, now_ns: int | None = None) -> RenderableType:
    """The worlds, and below them what each came to; `now_ns`: since the epoch."""
    now_ns = time.time_ns() if now_ns is None else now_ns
    title = text(view.title, "bold")
    title.append(f"  {view.seconds:.1f} s of at most {view.limit_seconds:g} s", "not bold dim")
    worlds = SideBySide([world_panel(world, now_ns) for world in view.worlds], TWO_PANELS_COLUMNS)
    return Group(title, worlds, *(verdict_line(world) for world in view.worlds if world.outcome))


def world_panel(world: WorldView, now_ns: int) -> RenderableType:
    """One world: its writes, its machine, its connection."""
    rows = Rows()
    rows.add("now", f"{world.phase}, {world.seconds:.1f} s")
    rows.add(
        "real writes",
        f"{figure(world.completed)} of {figure(world.total)}",
        Level(world.completed, world.total, style=COLOURS.get(world.outcome, "cyan")),
    )
    parts: list[RenderableType] = [rows.shown()]
    if world.state is not None:
        parts += machine_parts(world.state, None if world.outcome else now_ns)
    if world.real is not None:
        parts += host_parts(world.real)
    return framed(f"{world.label}: {world.policy}", parts, COLOURS.get(world.outcome, ""))


def verdict_line(world: WorldView) -> Text:
    """What a world came to."""
    line = text(f"{world.label} ({world.policy}): ")
    line.append_text(text(world.outcome, f"bold {COLOURS.get(world.outcome, 'white')}"))
    return line.append_text(text(f", {world.verdict or _writes(world)}"))


def _writes(world: WorldView) -> str:
    return f"{figure(world.completed)} of {figure(world.total)} writes"


def _said(view: DemoView, world: WorldView) -> Text:
    """A line for a change, where there is no terminal."""
    line = text(f"{view.seconds:5.1f} s  ")
    if world.outcome:
        return line.append_text(verdict_line(world))
    return line.append_text(text(f"{world.label} ({world.policy}): {world.phase}, {_writes(world)}"))

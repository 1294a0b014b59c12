"""The demonstration's screen: its worlds side by side; where there is no terminal, a line for each change."""

import time
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from emu.live.demo_view import DemoView, WorldView
from emu.live.find_runs import is_stale, silent_ns
from emu.live.iscsi_sockets import worst_first
from emu.live.real_host import RealHost
from emu.live.screen import (
    EMULATED_TITLE,
    REAL_TITLE,
    add_levels,
    connection_words,
    crunch_words,
    end_of,
    outside_words,
)
from emu.live.state import Emulated, LiveState
from emu.live.widgets import Level, Rows, SideBySide, can_follow, framed, text
from emu.verdicts.run_screen import COLOURS, NOTHING
from emu.verdicts.screen import figure

if TYPE_CHECKING:
    from rich.live import Live

TWO_WORLDS_COLUMNS = 90


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
    worlds = SideBySide([world_panel(world, now_ns) for world in view.worlds], TWO_WORLDS_COLUMNS)
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
        parts += [text(EMULATED_TITLE, "magenta"), _machine(world, world.state, now_ns)]
    if world.real is not None:
        parts += [text(REAL_TITLE, "blue"), _real(world.real)]
    return framed(f"{world.label}: {world.policy}", parts, COLOURS.get(world.outcome, ""))


def verdict_line(world: WorldView) -> Text:
    """What a world came to."""
    line = text(f"{world.label} ({world.policy}): ")
    line.append_text(text(world.outcome, f"bold {COLOURS.get(world.outcome, 'white')}"))
    return line.append_text(text(f", {world.verdict or _writes(world)}"))


def _writes(world: WorldView) -> str:
    return f"{figure(world.completed)} of {figure(world.total)} writes"


def _machine(world: WorldView, state: LiveState, now_ns: int) -> Table:
    machine = state.emulated
    rows = Rows()
    add_levels(rows, machine)
    rows.add("from reserve", f"{figure(machine.reserve_allocations)} packets")
    rows.add("tasks", crunch_words(machine))
    rows.add("dropped", _drops(machine))
    rows.add("frames", f"{figure(machine.frames)}, {figure(state.frames_per_second)}/s")
    rows.add("outside model", outside_words(state.outside))
    if not world.outcome and is_stale(state, now_ns):
        rows.add("silent", text(f"for {silent_ns(state, now_ns) / 1e9:.1f} s: this is old", "bold yellow"))
    return rows.shown()


def _drops(machine: Emulated) -> Text:
    line = text(f"{figure(machine.memalloc.dropped)} of block I/O", "bold red" if machine.memalloc.dropped else "")
    return line.append(f", {figure(machine.other.dropped)} others", "not bold default")


def _real(real: RealHost) -> Table:
    """Of each end of the iSCSI connection, the sender that has waited longest; and who is busy."""
    rows = Rows()
    ends: dict[str, Text] = {}
    for connection in worst_first(real.connections):
        ends.setdefault(f"{end_of(connection)} TCP", connection_words(connection))
    for end in sorted(ends, reverse=True):
        rows.add(end, ends[end])
    if not ends:
        rows.add("iSCSI, TCP", text("no connection", "dim"))
    cpus = (f"{one.name} {one.cpu_percent:.0f} %" for one in real.processes if one.cpu_percent is not None)
    rows.add("CPU", ", ".join(cpus) or NOTHING)
    for line in real.not_seen:
        rows.add("not seen", text(line, "yellow"))
    return rows.shown()


def _said(view: DemoView, world: WorldView) -> Text:
    """A line for a change, where there is no terminal."""
    line = text(f"{view.seconds:5.1f} s  ")
    if world.outcome:
        return line.append_text(verdict_line(world))
    return line.append_text(text(f"{world.label} ({world.policy}): {world.phase}, {_writes(world)}"))

"""A run in a panel of half a screen: what matters of both machines, for runs that stand side by side."""

from rich.console import RenderableType
from rich.text import Text

from emu.live.state import Emulated, LiveState
from emu.live.status.find_runs import is_stale, silent_ns
from emu.live.status.iscsi_sockets import worst_first
from emu.live.status.real_host import RealHost
from emu.live.status.screen import (
    EMULATED_TITLE,
    REAL_TITLE,
    RunView,
    add_levels,
    connection_words,
    crunch_words,
    end_of,
    heading,
    outside_words,
)
from emu.live.status.widgets import Rows, framed, text
from emu.verdicts.run_screen import NOTHING
from emu.verdicts.screen import figure


def run_panel(view: RunView, now_ns: int) -> RenderableType:
    """One run among others."""
    state = view.state
    parts = [heading(state, now_ns), *machine_parts(state, None), *host_parts(view.real)]
    return framed(f"{state.label or state.pid}: {state.policy}", parts)


def machine_parts(state: LiveState, now_ns: int | None) -> list[RenderableType]:
    """The emulated machine; `now_ns`: since the epoch, to say when the run is silent; None: nobody asks."""
    machine = state.emulated
    rows = Rows()
    add_levels(rows, machine)
    rows.add("from reserve", f"{figure(machine.reserve_allocations)} packets")
    rows.add("tasks", crunch_words(machine))
    rows.add("dropped", _drops(machine))
    rows.add("frames", f"{figure(machine.frames)}, {figure(state.frames_per_second)}/s")
    rows.add("outside model", outside_words(state.outside))
    if now_ns is not None and is_stale(state, now_ns):
        rows.add("silent", text(f"for {silent_ns(state, now_ns) / 1e9:.1f} s: this is old", "bold yellow"))
    return [text(EMULATED_TITLE, "magenta"), rows.shown()]


def host_parts(real: RealHost) -> list[RenderableType]:
    """The live host: of each end of the iSCSI connection the sender that has waited longest; who is busy."""
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
    rows.add_lines("not seen", (text(line, "yellow") for line in real.not_seen))
    return [text(REAL_TITLE, "blue"), rows.shown()]


def _drops(machine: Emulated) -> Text:
    line = text(f"{figure(machine.memalloc.dropped)} of block I/O", "bold red" if machine.memalloc.dropped else "")
    return line.append(f", {figure(machine.other.dropped)} others", "not bold default")

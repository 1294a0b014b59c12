"""`emu live status`: the live runs of this machine, on a screen that follows them, once, or as JSON."""

import sys
import time
from typing import Any

import msgspec
from rich.console import Console, Group, RenderableType

from emu.errors import Exit, NothingToPlayError, UsageError
from emu.interrupt import Interruption
from emu.live.state import run_folder
from emu.live.status.find_runs import Found, find_runs
from emu.live.status.real_host import RealHostReader
from emu.live.status.screen import RunView, run_picture
from emu.live.status.short_picture import run_panel
from emu.live.status.widgets import TWO_PANELS_COLUMNS, SideBySide, can_follow, text

PERIOD_S = 0.25  # as often as a run tells its state
FIRST_LOOKS_S = 0.2  # between two looks: percentages are of the time between them


class Watcher:
    """Looks at all runs again and again."""

    def __init__(self) -> None:
        """Nothing was seen yet."""
        self._readers: dict[tuple[int, int], RealHostReader] = {}
        self.found = Found()

    def look(self) -> list[RunView]:
        """The runs as they are now; in `found`, what cannot be shown."""
        self.found = find_runs()
        keys = [(state.pid, state.started_ns) for state in self.found.runs]
        self._readers = {key: self._readers.get(key) or RealHostReader() for key in keys}
        return [
            RunView(state=state, real=self._readers[key].look(state))
            for key, state in zip(keys, self.found.runs, strict=True)
        ]

    def look_twice(self) -> list[RunView]:
        """The runs as they are now, with percentages.  Errors: see `_at_least_one`."""
        _at_least_one(self.look(), self.found)
        time.sleep(FIRST_LOOKS_S)
        return _at_least_one(self.look(), self.found)


def status_screen(*, once: bool = False) -> Exit:
    """Show the runs until Ctrl-C, or until the last one has ended; once where standard output is no terminal.

    Ctrl-C is code 130 as with every other verb, so that a script can tell it from the end of the runs; it is no error,
    and nothing is said.  Errors: NothingToPlayError: no run lives, which is neither misuse nor a success; UsageError:
    there are runs that this user may not see.
    """
    console = Console(highlight=False)
    watcher = Watcher()
    if once or not can_follow(console):
        console.print(picture(watcher.look_twice(), watcher.found))
        return Exit.DONE
    return _follow(console, watcher)


def status_json() -> Exit:
    """Print one object: `runs`, each with what it tells (`state`) and the live host (`real`); `hidden`; `died`.

    It is printed when no run can be shown, too, and the exit code says why, as `status_screen` does.
    """
    watcher = Watcher()
    watcher.look()
    if watcher.found.runs:
        time.sleep(FIRST_LOOKS_S)
    views = watcher.look()
    told: dict[str, Any] = {"runs": views, "hidden": watcher.found.hidden, "died": watcher.found.died}
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(told), indent=2).decode() + "\n")
    if views:
        return Exit.DONE
    return Exit.USAGE if watcher.found.hidden else Exit.NOTHING_TO_PLAY


def picture(views: list[RunView], found: Found, now_ns: int | None = None, *, short: bool = False) -> RenderableType:
    """All runs, one over the other or in short panels side by side, and a line for each that cannot be shown."""
    now_ns = time.time_ns() if now_ns is None else now_ns
    parts = [run_picture(view, now_ns) for view in views]
    if short:
        parts = [SideBySide([run_panel(view, now_ns) for view in views], TWO_PANELS_COLUMNS)]
    lines = [text(line, "yellow") for line in found.hidden]
    if found.died:
        those = "a run that has died" if found.died == 1 else f"{found.died} runs that have died"
        lines.append(text(f"{those} left something behind; the next `emu live` removes it", "dim"))
    return Group(*parts, *lines)


def _at_least_one(views: list[RunView], found: Found) -> list[RunView]:
    if views:
        return views
    if found.hidden:
        raise UsageError("\n".join(found.hidden))
    raise NothingToPlayError(f"no live run has its folder in {run_folder()} (sudo emu live demo starts one)")


def _follow(console: Console, watcher: Watcher) -> Exit:
    from rich.live import Live

    def draw(views: list[RunView]) -> RenderableType:
        # A picture that is higher than the terminal would be cut off: several runs are shown in short.
        return picture(views, watcher.found, short=len(views) > 1)

    shown = draw(_at_least_one(watcher.look(), watcher.found))
    with Interruption() as interruption, Live(shown, console=console, auto_refresh=False) as live:
        while not interruption.happened:
            time.sleep(PERIOD_S)
            views = watcher.look()
            if not views:
                break  # the last picture stays
            live.update(draw(views), refresh=True)
    if interruption.happened:
        return Exit.INTERRUPTED
    console.print("the last run has ended")
    return Exit.DONE

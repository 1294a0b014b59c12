"""The live runs of this machine, and what is wrong with those that cannot be shown."""

import time
from pathlib import Path

import msgspec
import psutil
from msgspec import Struct

from emu.live.state import STATE_FILE, LiveState, run_folder

STALE_NS = 2_000_000_000  # a run tells its state four times a second


class Found(Struct, frozen=True, kw_only=True):
    """What was found: runs in the order of their processes, sentences about the others."""

    runs: list[LiveState] = []
    hidden: list[str] = []  # a run may be there, and cannot be shown: a line each, what to do in it
    died: int = 0  # folders of runs whose process is gone


def find_runs() -> Found:
    """Look through the folder of runs."""
    folder = run_folder()
    try:
        names = [path for path in folder.iterdir() if path.name.isdecimal()]
    except FileNotFoundError:
        return Found()
    except OSError as error:
        return Found(hidden=[f"{folder}: {error.strerror} (sudo emu live status)"])
    runs, hidden, died = [], [], 0
    for path in sorted(names, key=lambda path: int(path.name)):
        found = _run_in(path)
        if isinstance(found, LiveState):
            runs.append(found)
        elif found:
            hidden.append(found)
        elif found is None:
            died += 1
    return Found(runs=runs, hidden=hidden, died=died)


def is_stale(state: LiveState, now_ns: int | None = None) -> bool:
    """It lives and says nothing any more: it is stopped, or the machine does not let it run."""
    return silent_ns(state, now_ns) > STALE_NS


def silent_ns(state: LiveState, now_ns: int | None = None) -> int:
    """For how long it has not told its state."""
    return max(0, (time.time_ns() if now_ns is None else now_ns) - state.updated_ns)


def _run_in(path: Path) -> LiveState | str | None:
    """The run of a folder; a sentence why it cannot be shown, "" when it is no run's; None: its process is gone."""
    if not psutil.pid_exists(int(path.name)):
        return None
    try:
        octets = (path / STATE_FILE).read_bytes()
    except FileNotFoundError:
        return ""  # a demonstration's own folder, or a run that has not begun to tell
    except OSError as error:
        return f"run {path.name}: {error.strerror} (sudo emu live status)"
    try:
        state = msgspec.json.decode(octets, type=LiveState)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        return f"{path / STATE_FILE}: is damaged, or another version of emu wrote it: {error}"
    if state.pid != int(path.name):
        return f"{path / STATE_FILE}: tells of process {state.pid}, in another's folder"
    return state if _wrote_it(state) else None


def _wrote_it(state: LiveState) -> bool:
    """Whether the process is the one that told the state: one that began later has only got its number."""
    try:
        began_s = psutil.Process(state.pid).create_time()
    except psutil.NoSuchProcess:
        return False
    return began_s * 1e9 <= state.updated_ns

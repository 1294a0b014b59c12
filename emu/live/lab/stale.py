"""What a record names is taken down: at the end of its run, or by the next run when it died."""

import fcntl
import os
import re
import shutil
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec

from emu.live.lab.children import in_sessions, start_time
from emu.live.lab.links import remove_link
from emu.live.lab.namespaces import NAMES, namespace_exists, remove_namespace
from emu.live.lab.record import RECORD_FILE, Made, boot_id, is_alive, namespace_prefix, read_record
from emu.live.state import run_folder


def sweep() -> list[str]:
    """Remove what runs left behind that died without a chance to; sentences that tell the user.

    Only what stands in a record below `run_folder()` is removed, and only when the record's process is gone.  A folder
    that another run or another sweep holds is left to it.
    """
    told = []
    try:
        folders = sorted(folder for folder in run_folder().iterdir() if re.fullmatch("[1-9][0-9]{0,9}", folder.name))
    except OSError:
        return []
    for folder in folders:
        told += sweep_folder(folder)
    return told


def sweep_folder(folder: Path) -> list[str]:
    """As `sweep`, of one run's folder."""
    lock = lock_folder(folder)
    if lock is None:
        return []
    try:
        return _sweep_locked(folder)
    finally:
        os.close(lock)


def lock_folder(folder: Path) -> int | None:
    """A descriptor that holds a folder until it is closed; None: another holds it, or it is not a folder of ours."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        # Whoever else wrote that record is not to tell us what to remove.
        if os.fstat(descriptor).st_uid != os.geteuid():
            raise PermissionError
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def take_down(made: Made) -> tuple[list[str], list[str]]:
    """Remove what a record names; what was there, and what could not be removed and why."""
    gone: list[str] = []
    stays: list[str] = []
    if made.boot != boot_id():  # the machine took it all down
        return gone, stays
    for program in made.programs:
        _note(gone, stays, f"program {program.name}", lambda program=program: _kill(program.pid, program.start_ticks))  # type: ignore[misc]
    for pid in in_sessions([program.pid for program in made.programs], made.namespaces):
        _note(gone, stays, f"process {pid}", lambda pid=pid: _kill(pid, start_time(pid)))  # type: ignore[misc]
    for link in made.links:
        if not link.namespace or namespace_exists(link.namespace):
            what = f"interface {link.name}"
            _note(gone, stays, what, lambda link=link: remove_link(link.namespace, link.name, made.mark))  # type: ignore[misc]
    for name in made.namespaces:
        _note(gone, stays, f"namespace {name}", lambda name=name: remove_namespace(name))  # type: ignore[misc]
    return gone, stays


def remove_folder(folder: Path) -> None:
    """Remove a run's folder with all that is in it, the record last."""
    with suppress(OSError):
        for path in folder.iterdir():
            if path.name == RECORD_FILE:
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def _sweep_locked(folder: Path) -> list[str]:
    who = f"a run that died (process {folder.name})"
    try:
        made = read_record(folder)
    except (OSError, msgspec.MsgspecError, ValueError) as error:
        return _sweep_unknown(folder, error)
    if is_alive(made):
        return []
    gone, stays = take_down(made)
    told = []
    if gone:
        told.append(f"{who} had left {', '.join(gone)}: removed")
    if stays:
        told.append(f"{who} has left what cannot be removed: {'; '.join(stays)}")
    else:
        remove_folder(folder)
    return told


def _sweep_unknown(folder: Path, error: Exception) -> list[str]:
    """A folder whose record cannot be read: nobody knows what its run made, so nothing but the folder goes."""
    if start_time(int(folder.name)):  # it may just be starting
        return []
    if isinstance(error, FileNotFoundError):
        return _sweep_recordless(folder)
    left = sorted(path.name for path in NAMES.glob(f"{namespace_prefix(int(folder.name))}*"))
    said = f"{folder / RECORD_FILE}: the record of a run that died cannot be read ({_why(error)})"
    if left:
        commands = "; ".join(f"`ip netns delete {name}`" for name in left)
        return [f"{said}; these namespaces look like its own and are left: {commands}, then remove {folder}"]
    remove_folder(folder)
    return [f"{said}; its folder is removed, and no namespace has its name"]


def _sweep_recordless(folder: Path) -> list[str]:
    """A folder without a record: its run died before it made anything, or it is somebody else's."""
    with suppress(OSError):
        (folder / f"{RECORD_FILE}.partial").unlink(missing_ok=True)
        folder.rmdir()
    return [f"{folder}: no record of what was made, so it is left: remove it"] if folder.exists() else []


def _why(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _note(gone: list[str], stays: list[str], what: str, remove: Callable[[], bool]) -> None:
    try:
        if remove():
            gone.append(what)
    except Exception as error:  # noqa: BLE001 - whatever it is, the rest is to go
        stays.append(f"{what} ({_why(error)})")


def _kill(pid: int, start_ticks: int) -> bool:
    """Kill a program of a dead run, which its parent's death ought to have killed; never another of that number."""
    if not start_ticks or start_time(pid) != start_ticks:
        return False
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
        return True
    return False

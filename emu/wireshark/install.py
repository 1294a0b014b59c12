"""Bring plugin, profile and capture interface into the user's own folders of Wireshark, and take them back.

Files are replaced only when they are as an earlier install wrote them; what the user has changed is kept and told.
The manifest is written first, and an install that fails puts back what was there.
"""

import os
import stat
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from emu.capture.output import PARTIAL, OutputFile
from emu.errors import UsageError
from emu.wireshark.folders import Folders
from emu.wireshark.launcher import LAUNCHER_NAME, launcher_text
from emu.wireshark.manifest import (
    Entry,
    Manifest,
    make_folders,
    read_manifest,
    remove_folders,
    sha256,
    write_manifest,
)
from emu.wireshark.plugin import plugin_text
from emu.wireshark.profile import profile_files, recent_text

PARTS = ("plugin", "profile", "extcap")
PLUGIN_NAME = "emu.lua"
RECENT = "recent"  # Wireshark's state of a profile: ours says how wide the columns are, then it is Wireshark's

WROTE, UPDATED, KEPT = "wrote", "updated", "kept"  # what became of a file, among other words

READABLE, EXECUTABLE = 0o644, 0o755


class Item(NamedTuple):
    """A file to install."""

    part: str
    path: Path
    octets: bytes
    mode: int = READABLE
    wiresharks: bool = False


class Told(NamedTuple):
    """What became of a file, or how it stands."""

    part: str
    path: Path
    what: str
    why: str = ""


def items(folders: Folders, parts: Sequence[str]) -> list[Item]:
    """The files of these parts; the profile draws the plugin's fields only where the plugin is."""
    found = []
    if "plugin" in parts:
        found.append(Item("plugin", folders.plugins / PLUGIN_NAME, plugin_text().encode()))
    if "profile" in parts:
        texts = profile_files(plugin="plugin" in parts)
        found += [Item("profile", folders.profile / name, text.encode()) for name, text in texts.items()]
        found.append(Item("profile", folders.profile / RECENT, recent_text().encode(), wiresharks=True))
    if "extcap" in parts:
        found.append(Item("extcap", folders.extcaps / LAUNCHER_NAME, launcher_text().encode(), EXECUTABLE))
    return found


def install(folders: Folders, parts: Sequence[str] = PARTS, *, dry_run: bool = False) -> list[Told]:
    """Install these parts, and bring up to date what is installed of others.

    Errors: UsageError when a file of somebody else is in the way (nothing is written then) or one cannot be written.
    """
    manifest = read_manifest(folders.configuration)
    together = [part for part in PARTS if part in parts or any(entry.part == part for entry in manifest.files)]
    wanted = items(folders, together)
    steps = [(item, judged(item, manifest)) for item in wanted]
    gone = [entry for entry in manifest.files if Path(entry.path) not in [item.path for item in wanted]]
    told = [step[1] for step in steps] + [_taken_back(entry, False, dry_run=True) for entry in gone]
    if not dry_run:
        _carry_out(folders, manifest, [step for step in steps if step[1].what in (WROTE, UPDATED)], gone)
    return told


def judged(item: Item, manifest: Manifest) -> Told:
    """What an install does with a file."""
    entry = manifest.entry(item.path)
    octets = _read(item.path)
    if octets is None:
        return Told(item.part, item.path, WROTE)
    if entry is None:
        if octets == item.octets:
            return Told(item.part, item.path, KEPT, "it is the same already; it was not emu that put it there")
        raise UsageError(f"{item.path}: exists, and emu did not put it there; rename or remove it, then install again")
    if entry.wiresharks:
        return Told(item.part, item.path, KEPT, "Wireshark's own state")
    if sha256(octets) not in entry.sha256:
        return Told(item.part, item.path, KEPT, "changed since; remove it and install again to have emu's")
    if octets == item.octets and _mode(item.path) & item.mode == item.mode:
        return Told(item.part, item.path, "up to date")
    return Told(item.part, item.path, UPDATED)


def _carry_out(folders: Folders, before: Manifest, steps: Sequence[tuple[Item, Told]], gone: Sequence[Entry]) -> None:
    """Write the files, the manifest around them; when something fails, put back what was there."""
    undo: list[Callable[[], None]] = []
    try:
        made = _make_folders([folders.configuration, *(item.path.parent for item, _ in steps)], undo)
        after = _with(before, [item for item, _ in steps], [*before.folders, *map(str, made)])
        undo.append(lambda: write_manifest(folders.configuration, before))
        # Until all is written a file may be as it was or as it will be: the manifest knows both.
        write_manifest(folders.configuration, _both(before, after))
        for item, _ in steps:
            undo.append(_put_back(item.path))
            _write(item)
        for entry in gone:
            undo.append(_put_back(Path(entry.path)))
            _taken_back(entry, False)
        still = [entry for entry in gone if os.path.lexists(entry.path)]
        files = tuple(entry for entry in after.files if entry not in gone or entry in still)
        write_manifest(folders.configuration, Manifest(files=files, folders=after.folders))
    except BaseException:
        for step in reversed(undo):
            with suppress(OSError, UsageError):  # the first error is the one to tell
                step()
        raise


def _make_folders(wanted: Sequence[Path], undo: list[Callable[[], None]]) -> list[Path]:
    made: list[Path] = []
    undo.append(lambda: _remove_made(made))
    try:
        make_folders(wanted, made)
    except OSError as error:
        raise UsageError(f"{error.filename}: {error.strerror}; expected a folder that can be made there") from error
    return made


def _remove_made(made: Sequence[Path]) -> None:
    remove_folders([str(folder) for folder in made])


def _with(manifest: Manifest, written: Sequence[Item], folders: Sequence[str]) -> Manifest:
    """The manifest after these were written."""
    entries = {entry.path: entry for entry in manifest.files}
    for item in written:
        entries[str(item.path)] = Entry(item.part, str(item.path), (sha256(item.octets),), item.wiresharks)
    return Manifest(files=tuple(entries.values()), folders=tuple(dict.fromkeys(folders)))


def _both(before: Manifest, after: Manifest) -> Manifest:
    """The manifest while the files are being written."""
    files = []
    for entry in after.files:
        old = before.entry(Path(entry.path))
        hashes = (*(old.sha256 if old else ()), *entry.sha256)
        files.append(Entry(entry.part, entry.path, tuple(dict.fromkeys(hashes)), entry.wiresharks))
    return Manifest(files=tuple(files), folders=after.folders)


def _put_back(path: Path) -> Callable[[], None]:
    """How a file gets back what it holds now."""
    octets = _read(path)
    mode = READABLE if octets is None else stat.S_IMODE(_mode(path))

    def put_back() -> None:
        path.with_name(path.name + PARTIAL).unlink(missing_ok=True)
        if octets is None:
            path.unlink(missing_ok=True)
        else:
            _write(Item("", path, octets, mode))

    return put_back


def _write(item: Item) -> None:
    """Write a file, with its mode from the moment it has its name."""
    with OutputFile(item.path) as output:
        os.fchmod(output.stream.fileno(), item.mode)
        output.write(item.octets)


def uninstall(folders: Folders, *, purge: bool = False, dry_run: bool = False) -> list[Told]:
    """Remove what install has written and nobody has changed since, and the folders that it made if they are empty.

    With `purge` changed files go too, and whatever else Wireshark has put into a profile folder that install made.
    Errors: UsageError when something cannot be removed.
    """
    manifest = read_manifest(folders.configuration)
    told = [_taken_back(entry, purge, dry_run=dry_run) for entry in manifest.files]
    if purge:
        told += _purged(folders, manifest, dry_run)
    if dry_run:
        return told
    kept = tuple(entry for entry, one in zip(manifest.files, told, strict=False) if one.what == KEPT)
    # The manifest lies in a folder that may have to go; what stays is still known by it.
    write_manifest(folders.configuration, Manifest(files=kept, folders=manifest.folders))
    left = remove_folders(manifest.folders)
    if kept:
        write_manifest(folders.configuration, Manifest(files=kept, folders=tuple(left)))
    innermost = [folder for folder in map(Path, left) if not any(folder in Path(other).parents for other in left)]
    return told + [Told("folder", folder, KEPT, _inside(folder)) for folder in innermost]


def _taken_back(entry: Entry, purge: bool, *, dry_run: bool = False) -> Told:
    """Remove a file, unless it was changed."""
    path = Path(entry.path)
    octets = _read(path)
    if not dry_run:
        path.with_name(path.name + PARTIAL).unlink(missing_ok=True)  # of an install that was killed
    if octets is None:
        return Told(entry.part, path, "gone", "it was not there any more")
    if not (purge or entry.wiresharks or sha256(octets) in entry.sha256):
        return Told(entry.part, path, KEPT, "changed since it was installed (--purge removes it)")
    if not dry_run:
        _remove(path)
    return Told(entry.part, path, "removed")


def _purged(folders: Folders, manifest: Manifest, dry_run: bool) -> list[Told]:
    """Remove what Wireshark has put into our profile, if the folder is ours."""
    if str(folders.profile) not in manifest.folders or not folders.profile.is_dir():
        return []
    ours = [entry.path for entry in manifest.files]
    others = [path for path in sorted(folders.profile.iterdir()) if path.is_file() and str(path) not in ours]
    if not dry_run:
        for path in others:
            _remove(path)
    return [Told("profile", path, "removed", "Wireshark had put it there") for path in others]


def _remove(path: Path) -> None:
    try:
        path.unlink()
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}; it could not be removed") from error


def _inside(folder: Path) -> str:
    """What keeps a folder from being removed."""
    try:
        names = sorted(each.name for each in folder.iterdir())
    except OSError as error:
        return error.strerror or str(error)
    return f"not empty: {', '.join(names[:3])}{' ...' if len(names) > 3 else ''}"


def status(folders: Folders) -> list[Told]:
    """How each file stands."""
    manifest = read_manifest(folders.configuration)
    parts = [part for part in PARTS if any(entry.part == part for entry in manifest.files)]
    current = {item.path: item for item in items(folders, parts)}
    told = [_standing(entry, current.get(Path(entry.path))) for entry in manifest.files]
    there = [one.path for one in told]
    missing = [item for item in items(folders, PARTS) if item.path not in there]
    return told + [_not_installed(item) for item in missing]


def _standing(entry: Entry, item: Item | None) -> Told:
    path = Path(entry.path)
    octets = _read(path)
    if octets is None:
        return Told(entry.part, path, "missing", "emu wireshark install puts it back")
    if entry.wiresharks:
        return Told(entry.part, path, "installed", "Wireshark's own state")
    if sha256(octets) not in entry.sha256:
        return Told(entry.part, path, "changed", "not as emu wrote it")
    if item is None or octets != item.octets or _mode(path) & item.mode != item.mode:
        return Told(entry.part, path, "out of date", "emu wireshark install brings it up to date")
    return Told(entry.part, path, "installed")


def _not_installed(item: Item) -> Told:
    octets = _read(item.path)
    if octets is None:
        return Told(item.part, item.path, "not installed")
    if octets == item.octets:
        return Told(item.part, item.path, "the same", "but it was not emu that put it there")
    return Told(item.part, item.path, "in the way", "a file that emu did not put there")


def _read(path: Path) -> bytes | None:
    """What a file holds; None when there is none.  Errors: UsageError when it is no file, or cannot be read."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        if path.is_symlink():
            raise UsageError(f"{path}: is a link that leads nowhere; remove it, then try again") from None
        return None
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}; expected a file; rename or remove it, then try again") from error


def _mode(path: Path) -> int:
    return path.stat().st_mode

"""What `emu wireshark install` has written, so that uninstall takes back exactly that."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import msgspec

from emu import __version__
from emu.capture.output import OutputFile
from emu.errors import UsageError

MANIFEST_NAME = "emu-installed.json"  # in Wireshark's configuration folder
FORMAT = 1


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file that install has written."""

    part: str
    path: str  # absolute
    sha256: tuple[str, ...]  # as it was written; two while an update is under way
    wiresharks: bool = False  # Wireshark writes its own state there: it is never the user's work


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All files, and the folders that were made for them, outermost first."""

    emu_wireshark: int = FORMAT
    version: str = __version__
    files: tuple[Entry, ...] = ()
    folders: tuple[str, ...] = ()

    def entry(self, path: Path) -> Entry | None:
        """The entry of a file."""
        return next((entry for entry in self.files if entry.path == str(path)), None)


def read_manifest(configuration: Path) -> Manifest:
    """The manifest; an empty one where nothing is installed.  Errors: UsageError that says what is wrong with it."""
    path = configuration / MANIFEST_NAME
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    except FileNotFoundError:
        return Manifest()
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}; expected a folder that you may write") from error
    except msgspec.MsgspecError as error:
        what = "expected what `emu wireshark install` wrote; remove it to start anew"
        raise UsageError(f"{path}: {error}; {what}") from error
    if manifest.emu_wireshark != FORMAT:
        raise UsageError(f"{path}: format {manifest.emu_wireshark}, expected {FORMAT}; use the emu that wrote it")
    return manifest


def write_manifest(configuration: Path, manifest: Manifest) -> None:
    """Write it; without files it is removed."""
    path = configuration / MANIFEST_NAME
    if not manifest.files:
        path.unlink(missing_ok=True)
        return
    with OutputFile(path) as output:
        output.write(msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")


def sha256(octets: bytes) -> str:
    """The checksum of a file, in hexadecimal."""
    return hashlib.sha256(octets).hexdigest()


def make_folders(wanted: Sequence[Path], made: list[Path]) -> None:
    """Make folders with what is above them; those that were not there are put into `made`, outermost first."""
    for folder in wanted:
        missing = [above for above in (folder, *folder.parents) if not above.exists()]
        for each in reversed(missing):
            each.mkdir()
            made.append(each)


def remove_folders(folders: Sequence[str]) -> list[str]:
    """Remove the folders that are empty, innermost first; those that are left, outermost first."""
    left = []
    for folder in reversed(folders):
        try:
            Path(folder).rmdir()
        except FileNotFoundError:
            continue
        except OSError:  # not empty, or not ours to remove
            left.append(folder)
    return left[::-1]

"""Where compiled code is kept: a folder for each state of the sources, each Python, numba and CPU.

A folder is named by what the code depends on, never by where the sources lie or how old they are: a new installation
of equal sources finds what the last one compiled, and so does a second checkout.
"""

import fcntl
import hashlib
import importlib.util
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType

KEPT_FOLDERS = 8  # the last ones by use: a few versions, times a few Pythons; each is some 20 MB
FOLDER = re.compile(r"[0-9a-f]{24}(-[0-9a-f]{8})?")
DIGEST_BYTES = 32  # of SHA-256


def key_of(modules: Iterable[str], facts: Iterable[str]) -> str:
    """The name of the folder: a hash of the modules' sources, and of whatever else (`facts`) the code depends on."""
    digest = hashlib.sha256(repr(tuple(facts)).encode())
    for name in modules:
        source = source_of(name).read_bytes()
        digest.update(f"{name} {len(source)} ".encode() + source)
    return digest.hexdigest()[:24]


def source_of(name: str) -> Path:
    """The file of a module, which is not imported for it."""
    package, *inside = name.split(".")
    if inside:
        return source_of(package).parent.joinpath(*inside).with_suffix(".py")
    found = importlib.util.find_spec(package)
    assert found is not None
    assert found.origin is not None
    return Path(found.origin)


def user_root() -> Path:
    """The user's cache, which is where compiled code is kept if it can be written."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "emu"


def temporary_root() -> Path:
    """A private temporary folder of this user, the same one every time."""
    return Path(tempfile.gettempdir()) / f"emu-cache-{os.getuid()}"


class CacheFolder:
    """The folder of one key, made if need be; other processes do not prune it while this one lives."""

    def __init__(self, key: str) -> None:
        """`path` is None where nothing can be written at all: what is compiled is then for this process only."""
        self.path: Path | None = None
        self._held: int | None = None
        for root in (user_root(), temporary_root()):
            if self._take(root, key):
                break

    @property
    def note(self) -> str:
        """A half sentence where the code is not kept in the user's cache, else nothing."""
        if self.path is None:
            return f"kept nowhere: neither {user_root()} nor {temporary_root()} can be written"
        if self.path.parent != user_root():
            return f"kept in {self.path.parent}: {user_root()} cannot be written"
        return ""

    def read(self, name: str) -> bytes | None:
        """What is kept under a name; None if nothing is, or not what was written."""
        if self.path is None:
            return None
        try:
            octets = (self.path / name).read_bytes()
        except OSError:
            return None
        content = octets[DIGEST_BYTES:]
        return content if octets[:DIGEST_BYTES] == hashlib.sha256(content).digest() else None

    def write(self, name: str, content: bytes) -> bool:
        """Keep it, whole or not at all; whether it could be kept.  The last of several writers at once wins."""
        if self.path is None:
            return False
        beside = self.path / f"{name}.{uuid.uuid4().hex[:8]}"
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            beside.write_bytes(hashlib.sha256(content).digest() + content)
            beside.replace(self.path / name)
        except OSError:
            with suppress(OSError):
                beside.unlink()
            return False
        return True

    def size_bytes(self) -> int:
        """What it takes on the disk."""
        return 0 if self.path is None else sum(file.stat().st_size for file in self.path.iterdir())

    def _take(self, root: Path, key: str) -> bool:
        """Use the folder below this root, if it is ours to write."""
        folder = root / key
        try:
            is_new = not folder.exists()
            root.mkdir(parents=True, exist_ok=True, mode=0o700)
            folder.mkdir(exist_ok=True, mode=0o700)
            if not (is_private(root) and is_private(folder) and os.access(folder, os.W_OK | os.X_OK)):
                return False
            os.utime(folder)  # which is how pruning knows the last ones used
        except OSError:
            return False
        self.path = folder
        self._held = hold(folder)
        if is_new:
            prune(root)
        return True


def is_private(folder: Path) -> bool:
    """Whether it is this user's, and not everybody can write to it: code is loaded from there."""
    facts = folder.stat()
    return facts.st_uid == os.getuid() and not facts.st_mode & 0o002


def hold(folder: Path) -> int | None:
    """Say that this process uses the folder, until it ends; None where the file system knows no locks."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


class Alone:
    """Whether no process uses a folder, and none begins to while this lasts."""

    def __init__(self, folder: Path) -> None:
        """Nothing is asked yet."""
        self._folder = folder
        self._descriptor = -1

    def __enter__(self) -> bool:
        try:
            self._descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)


def prune(root: Path) -> None:
    """Remove the folders that were used longest ago, none that is in use; what cannot be removed stays."""
    used: list[tuple[float, Path]] = []
    with suppress(OSError):
        for folder in root.iterdir():
            if FOLDER.fullmatch(folder.name):
                with suppress(OSError):
                    used.append((folder.stat().st_mtime, folder))
    for _, folder in sorted(used, reverse=True)[KEPT_FOLDERS:]:
        with Alone(folder) as alone:
            if alone:
                shutil.rmtree(folder, ignore_errors=True)

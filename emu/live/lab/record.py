"""What a live run has made, on disk before it is made: whoever comes after a dead run takes it down by this."""

import os
import stat
from pathlib import Path

import msgspec
from msgspec import Struct, field

from emu.live.lab.children import start_time

RECORD_FILE = "made.json"
RECORD_OCTETS = 1 << 20  # none is so long
PREFIX = "emu"
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Link(Struct):
    """An interface, in a namespace ("": the one in which emu was started)."""

    namespace: str
    name: str


class Started(Struct):
    """A program."""

    name: str
    pid: int
    start_ticks: int  # since the boot


class Made(Struct, forbid_unknown_fields=True):
    """Everything that a run has made, or was about to make."""

    pid: int
    start_ticks: int  # of the run's process, since the boot
    boot: str  # whose processes and namespaces these are
    namespaces: list[str] = field(default_factory=list)
    taps: list[Link] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)
    programs: list[Started] = field(default_factory=list)

    @property
    def mark(self) -> str:
        """The alias of the run's interfaces, by which they are known as its own."""
        return f"{PREFIX}-{self.pid}-{self.start_ticks}"

    def namespace_name(self, name: str) -> str:
        """The system's name of the namespace that the run calls `name`."""
        return f"{namespace_prefix(self.pid)}{name}"


def namespace_prefix(pid: int) -> str:
    """How the names of a run's namespaces begin."""
    return f"{PREFIX}-{pid}-"


def of_this_process() -> Made:
    """A record that has nothing yet."""
    return Made(pid=os.getpid(), start_ticks=start_time(os.getpid()), boot=boot_id())


def boot_id() -> str:
    """Which boot this is."""
    return BOOT_ID.read_text().strip()


def is_alive(made: Made) -> bool:
    """Whether the run's process is there still: that one, not another which got its number."""
    return made.boot == boot_id() and start_time(made.pid) == made.start_ticks != 0


def write_record(folder: Path, made: Made) -> None:
    """Put the record into the run's folder, whole (a power cut ends what it names, too)."""
    beside = folder / f"{RECORD_FILE}.partial"
    beside.write_bytes(msgspec.json.encode(made))
    beside.replace(folder / RECORD_FILE)


def read_record(folder: Path) -> Made:
    """The record in a run's folder.  Errors: OSError, msgspec.MsgspecError, ValueError when it is not that folder's."""
    path = folder / RECORD_FILE
    facts = path.lstat()
    if not stat.S_ISREG(facts.st_mode) or facts.st_size > RECORD_OCTETS:
        raise ValueError("it is not a file of ours")
    made = msgspec.json.decode(path.read_bytes(), type=Made)
    if str(made.pid) != folder.name:
        raise ValueError(f"it is of process {made.pid}")
    prefix = namespace_prefix(made.pid)
    for name in made.namespaces:
        if not name.startswith(prefix) or "/" in name:
            raise ValueError(f"namespace {name!r} is not named {prefix}...")
    return made

"""What a live run tells while it runs: a state that anybody may read, and words of memory shared with its programs.

A run has a folder of its own below `run_folder()`, named by its process.  The wire writes `state.json` there some four
times a second, beside and renamed, so that whoever reads it reads it whole; `words` is a few integers that the wire and
the programs of a demonstration change and read in place.
"""

import mmap
import os
import struct
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

RUN_FOLDER = "EMU_RUN_DIR"  # the environment's word for where runs have their folders
STATE_FILE = "state.json"
WORDS_FILE = "words"


class Fates(Struct, frozen=True, kw_only=True):
    """Packets of one kind of flow, as the summary counts them."""

    received: int = 0
    delivered: int = 0
    dropped: int = 0


class Emulated(Struct, frozen=True, kw_only=True):
    """The emulated machine: pages and skbs, none of them real."""

    free_pages: int = 0  # of ZONE_NORMAL
    floor_pages: int = 0  # GFP_ATOMIC gets a page only above this
    pages_min: int = 0
    memory_pages: int = 0
    writer_pages: int = 0  # taken by blocked writers
    rx_reserve_used: int = 0
    cap_skbs: int = 0
    reserve_allocations: int = 0  # packets whose buffer came from the reserve
    ring_size: int = 0
    ring_free: int = 0  # descriptors that the NIC may fill
    skbs_used: int = 0
    sockets: int = 0
    queued_skbs: int = 0  # in sockets whose readers have not come
    would_wait: bool = False  # a task that asks for a page waits: the machine is in a crunch
    writes_completed: int = 0  # real ones, each of which gave back its page
    frames: int = 0
    memalloc: Fates = Fates()  # flows that block I/O depends on
    other: Fates = Fates()
    drops_by_reason: dict[str, int] = {}


class Outside(Struct, frozen=True, kw_only=True):
    """What is not the model's doing: frames that were lost outside it, and those of a form that no wire carries."""

    wire_queue: int = 0  # lost before the emulated NIC: the queue of the wire's interface was full
    host_queue: int = 0  # survivors that the host's interface did not take
    too_long: int = 0  # not lost, but longer than the MTU: the interface aggregates (GRO, TSO)
    sent_by_host: int = 0  # of the host, that the wire's interface did not take


class Program(Struct, frozen=True, kw_only=True):
    """A process of the run."""

    name: str
    pid: int


class LiveState(Struct, frozen=True, kw_only=True):
    """A live run as it stands; times in ns since the epoch."""

    pid: int
    label: str = ""  # what a demonstration calls this world
    policy: str = ""
    scenario: str = ""
    host_if: str = ""
    wire_if: str = ""
    host_kind: str = "a TAP"  # what the interface is
    wire_kind: str = "a TAP"
    host_namespace: str = ""  # "": the namespace in which emu was started
    wire_namespace: str = ""
    started_ns: int = 0
    updated_ns: int = 0
    bound_seconds: float = 0.0  # the run ends by itself after so long
    frames_per_second: int = 0
    emulated: Emulated = Emulated()
    outside: Outside = Outside()
    programs: list[Program] = []


def run_folder() -> Path:
    """Where live runs have their folders."""
    return Path(os.environ.get(RUN_FOLDER) or "/run/emu")


def write_state(folder: Path, state: LiveState) -> None:
    """Put a state where others find it, whole."""
    beside = folder / f"{STATE_FILE}.partial"
    beside.write_bytes(msgspec.json.encode(state))
    beside.replace(folder / STATE_FILE)


def read_state(folder: Path) -> LiveState | None:
    """The state in a run's folder; None when there is none."""
    try:
        return msgspec.json.decode((folder / STATE_FILE).read_bytes(), type=LiveState)
    except (OSError, msgspec.MsgspecError):
        return None


WORDS = (
    "would_wait",  # wire -> readers: 1 while a task that asks for a page waits
    "writes_completed",  # writer -> wire: real writes that have been answered
    "bytes_downloaded",  # download -> whoever looks
    "datagrams_sent",  # flood -> whoever looks
    "stop",  # 1: programs end
)


class SharedWords:
    """A few 64-bit integers in memory that processes share: each is written by one of them, and read by others."""

    def __init__(self, path: Path) -> None:
        """Make the file if it is not there, and map it."""
        size = 8 * len(WORDS)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if os.fstat(descriptor).st_size < size:
                os.ftruncate(descriptor, size)
            self._memory = mmap.mmap(descriptor, size)
        finally:
            os.close(descriptor)

    def get(self, word: str) -> int:
        """A word."""
        found: tuple[Any, ...] = struct.unpack_from("=q", self._memory, 8 * WORDS.index(word))
        return int(found[0])

    def put(self, word: str, value: int) -> None:
        """Set a word."""
        struct.pack_into("=q", self._memory, 8 * WORDS.index(word), value)

    def close(self) -> None:
        """Unmap it; the file stays."""
        self._memory.close()

"""What the real machine shows of a live run: processes, interfaces, counters and connections; never emulated memory."""

from msgspec import Struct

from emu.live.iscsi_sockets import Connection


class Process(Struct, frozen=True, kw_only=True):
    """A process of the run; None: the system does not tell it to this user."""

    name: str
    pid: int
    lives: bool = True
    cpu_percent: float | None = None  # of one core, since the last look; None at the first one
    rss_bytes: int | None = None
    context_switches: int | None = None  # voluntary or not, since it began
    descriptors: int | None = None


class Interface(Struct, frozen=True, kw_only=True):
    """An interface as its namespace counts it: in is what the stack above it receives."""

    name: str
    namespace: str  # "": that of the run
    packets_in: int
    bytes_in: int
    drops_in: int
    packets_out: int
    bytes_out: int
    drops_out: int


class System(Struct, frozen=True, kw_only=True):
    """The machine as a whole, with whatever else runs on it."""

    cpu_percent: list[float] = []  # of each CPU, since the last look; empty at the first one
    load: list[float] = []  # over 1, 5 and 15 minutes
    available_bytes: int = 0
    memory_bytes: int = 0


class RealHost(Struct, frozen=True, kw_only=True):
    """The live host of one run."""

    taken_ns: int = 0  # since the epoch
    processes: list[Process] = []
    interfaces: list[Interface] = []
    counters: dict[str, int] = {}  # of the host's namespace, by nstat's names; one that the kernel lacks is not there
    connections: list[Connection] = []
    system: System = System()
    not_seen: list[str] = []  # what could not be read, and why

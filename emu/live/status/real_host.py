"""What the real machine shows of a live run: processes, interfaces, counters and connections; never emulated memory."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
from msgspec import Struct

from emu.live.state import LiveState, Program
from emu.live.status.iscsi_sockets import ISCSI_PORT, Connection, ask_ss, connections_in
from emu.live.status.look_inside import look_inside, namespace_file
from emu.live.status.net_counters import Interface, counters_in, interface_in

OWN_NET = Path("/proc/thread-self/net")
NIC = "emulated NIC"  # what the process of the run itself is called


class Process(Struct, frozen=True, kw_only=True):
    """A process of the run; None: the system does not tell it to this user, or the process has ended."""

    name: str
    pid: int
    lives: bool = True
    cpu_percent: float | None = None  # of one core, since the last look; None at the first one
    rss_bytes: int | None = None
    context_switches: int | None = None  # voluntary or not, since it began
    descriptors: int | None = None


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


class _Spent(Struct, frozen=True):
    """Seconds of one CPU since boot."""

    busy: float
    whole: float

    @classmethod
    def of(cls, times: Any) -> "_Spent":
        # A guest's time is in `user` and `nice` already.
        whole = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
        return cls(whole - times.idle - getattr(times, "iowait", 0.0), whole)

    def percent_since(self, before: "_Spent") -> float:
        whole = self.whole - before.whole
        return round(100 * min(max(self.busy - before.busy, 0.0) / whole, 1.0), 1) if whole > 0 else 0.0


class RealHostReader:
    """Looks at one run again and again; it keeps what percentages are counted from."""

    def __init__(self, port: int = ISCSI_PORT) -> None:
        """`port`: where the run's iSCSI target listens."""
        self._port = port
        self._known: dict[int, psutil.Process] = {}
        self._cpus: list[_Spent] = []

    def look(self, state: LiveState, programs: Sequence[Program] = ()) -> RealHost:
        """The live host of a run as it is now; what cannot be read is said in `not_seen`, nothing is raised.

        `programs`: processes that belong to the run and that its state does not tell of.
        """
        not_seen: list[str] = []
        named = {program.pid: program for program in (Program(name=NIC, pid=state.pid), *state.programs, *programs)}
        host = _look_at(state, state.host_namespace, self._port, not_seen)
        wire = host
        if state.wire_namespace != state.host_namespace:
            wire = _look_at(state, state.wire_namespace, self._port, not_seen)
        asked = ((host, state.host_if, state.host_namespace), (wire, state.wire_if, state.wire_namespace))
        interfaces = [_interface(there.dev, name, namespace, not_seen) for there, name, namespace in asked if name]
        ends = host.connections if wire is host else host.connections + wire.connections
        return RealHost(
            taken_ns=time.time_ns(),
            processes=[self._process(program) for program in named.values()],
            interfaces=[interface for interface in interfaces if interface is not None],
            counters=host.counters,
            connections=ends,
            system=self._system(),
            not_seen=not_seen,
        )

    def _process(self, program: Program) -> Process:
        first = program.pid not in self._known
        try:
            process = self._known[program.pid] if not first else psutil.Process(program.pid)
            with process.oneshot():
                if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
                    raise psutil.NoSuchProcess(program.pid)
                cpu_percent, switches = process.cpu_percent(), process.num_ctx_switches()
                rss_bytes = process.memory_info().rss
        except (psutil.NoSuchProcess, ValueError):  # ValueError: no process can have such a number
            return Process(name=program.name, pid=program.pid, lives=False)
        except psutil.AccessDenied:
            return Process(name=program.name, pid=program.pid)
        self._known[program.pid] = process
        return Process(
            name=program.name,
            pid=program.pid,
            cpu_percent=None if first else cpu_percent,
            rss_bytes=rss_bytes,
            context_switches=switches.voluntary + switches.involuntary,
            descriptors=_descriptors(process),
        )

    def _system(self) -> System:
        # psutil.cpu_percent has one memory for all who ask; each reader here wants the time since its own last look.
        before, self._cpus = self._cpus, [_Spent.of(times) for times in psutil.cpu_times(percpu=True)]
        memory = psutil.virtual_memory()
        return System(
            cpu_percent=[now.percent_since(then) for then, now in zip(before, self._cpus, strict=False)],
            load=[round(load, 2) for load in psutil.getloadavg()],
            available_bytes=memory.available,
            memory_bytes=memory.total,
        )


def _descriptors(process: psutil.Process) -> int | None:
    """Its open files: root or its owner may count them."""
    try:
        return process.num_fds()
    except psutil.Error:
        return None


class _Seen(Struct, frozen=True, kw_only=True):
    """One namespace."""

    dev: str | None = None  # None: it could not be entered, which has been said
    counters: dict[str, int] = {}
    connections: list[Connection] = []


def _look_at(state: LiveState, namespace: str, port: int, not_seen: list[str]) -> _Seen:
    def look() -> _Seen:
        dev, snmp, netstat = (_told(name) for name in ("dev", "snmp", "netstat"))
        try:
            connections = connections_in(ask_ss(port), namespace)
        except OSError as error:
            connections = []
            if f"connections: {error}" not in not_seen:
                not_seen.append(f"connections: {error}")
        return _Seen(dev=dev, counters=counters_in(snmp, netstat), connections=connections)

    try:
        return look_inside(namespace_file(namespace, state.pid), look)
    except PermissionError:
        not_seen.append(f"{_called(namespace)}: only root may look into it (sudo emu live status)")
    except FileNotFoundError:
        not_seen.append(f"{_called(namespace)}: is gone")
    except OSError as error:
        not_seen.append(f"{_called(namespace)}: {error.strerror or error}")
    return _Seen()


def _told(name: str) -> str:
    """A file of /proc/net, in the namespace of this thread; a kernel may be built without one."""
    try:
        return (OWN_NET / name).read_text()
    except FileNotFoundError:
        return ""


def _called(namespace: str) -> str:
    return f"namespace {namespace}" if namespace else "the run's own namespace"


def _interface(dev: str | None, name: str, namespace: str, not_seen: list[str]) -> Interface | None:
    found = None if dev is None else interface_in(dev, name, namespace)
    if dev is not None and found is None:
        not_seen.append(f"interface {name}: is not in {_called(namespace)}")
    return found

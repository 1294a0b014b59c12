"""The picture of a live run: the real machine on the left, the emulated one on the right."""

from msgspec import Struct
from rich.console import Group, RenderableType
from rich.text import Text

from emu.kernel.drop_reason import REASONS
from emu.live.state import Emulated, Fates, LiveState, Outside
from emu.live.status.find_runs import is_stale, silent_ns
from emu.live.status.iscsi_sockets import ISCSI_PORT, Connection, worst_first
from emu.live.status.net_counters import COUNTERS, Interface
from emu.live.status.real_host import Process, RealHost, System
from emu.live.status.widgets import Level, Rows, SideBySide, framed, text
from emu.verdicts.run_screen import NOTHING, duration
from emu.verdicts.screen import figure, share

REAL_TITLE = "live host (real)"
EMULATED_TITLE = "emulated machine (no real memory)"
MOST_CONNECTIONS = 6  # more of them are counted; those that have waited longest come first


class RunView(Struct, frozen=True, kw_only=True):
    """A run and the real machine under it, seen at one time."""

    state: LiveState
    real: RealHost


def run_picture(view: RunView, now_ns: int) -> RenderableType:
    """One run; `now_ns`: since the epoch."""
    real = framed(REAL_TITLE, real_parts(view.real), "blue")
    emulated = framed(EMULATED_TITLE, emulated_parts(view.state), "magenta")
    return Group(heading(view.state, now_ns), SideBySide([real, emulated]))


def heading(state: LiveState, now_ns: int) -> Text:
    """Which run it is, how far, and whether it still speaks."""
    named = " ".join(filter(None, (state.label or f"run {state.pid}", state.scenario and f"({state.scenario})")))
    line = text(named, "bold")
    line.append_text(text(f" under {state.policy}: {state.host_if} - {state.wire_if}, "))
    bound = f" of at most {state.bound_seconds:g} s" if state.bound_seconds else ""
    line.append(f"{max(0, now_ns - state.started_ns) / 1e9:.0f} s{bound}, {figure(state.frames_per_second)} frames/s")
    if is_stale(state, now_ns):
        line.append(f"  silent for {silent_ns(state, now_ns) / 1e9:.1f} s: what follows is old", "bold yellow")
    return line


def real_parts(real: RealHost) -> list[RenderableType]:
    """Processes, interfaces, connections, counters, the machine; and what could not be seen."""
    rows = Rows()
    for process in real.processes:
        rows.add_lines(process.name, _process(process))
    for interface in real.interfaces:
        rows.add_lines(interface.name, _interface(interface))
    for connection in worst_first(real.connections)[:MOST_CONNECTIONS]:
        ends = f"from {connection.local} to {connection.peer}"
        rows.add_lines(f"{end_of(connection)} TCP", (connection_words(connection), ends))
    if not real.connections:
        rows.add("iSCSI, TCP", text("no connection", "dim"))
    if len(real.connections) > MOST_CONNECTIONS:
        rows.add("", f"and {len(real.connections) - MOST_CONNECTIONS} more connections")
    counts = (f"{COUNTERS.get(name, name)}: {figure(count)}" for name, count in real.counters.items())
    rows.add_lines("host's network", counts)
    rows.add_lines("machine", machine_words(real.system))
    return [rows.shown(), *(text(f"not seen: {line}", "yellow") for line in real.not_seen)]


def _process(process: Process) -> list[Text]:
    if not process.lives:
        return [text(f"process {process.pid} has ended", "bold red")]
    cpu = NOTHING if process.cpu_percent is None else f"{process.cpu_percent:.0f} %"
    switches, files = (NOTHING if n is None else figure(n) for n in (process.context_switches, process.descriptors))
    return [
        text(f"pid {process.pid}, {cpu} CPU, {_size(process.rss_bytes)}"),
        text(f"{switches} switches, {files} open files"),
    ]


def _interface(interface: Interface) -> list[str]:
    """What came in and what went out; `dropped` is what the real stack or driver could not take."""
    ways = (
        ("in", interface.packets_in, interface.bytes_in, interface.drops_in),
        ("out", interface.packets_out, interface.bytes_out, interface.drops_out),
    )
    return [f"{figure(n)} {way}, {_size(size)}, {figure(drops)} dropped" for way, n, size, drops in ways]


def end_of(connection: Connection) -> str:
    """Which end of an iSCSI connection it is: the target listens."""
    return "target's" if connection.local.endswith(f":{ISCSI_PORT}") else "initiator's"


def connection_words(connection: Connection) -> Text:
    """How long one end waits before it tries again, how often that has doubled, and for what it waits."""
    rto = duration(1000 * connection.rto_ms) if connection.rto_ms else NOTHING
    line = text(f"RTO {rto}, backoff {connection.backoff}", "bold red" if connection.backoff else "")
    told = f", cwnd {connection.cwnd}, {connection.unacked} unacked, {connection.lost} lost"
    return line.append(f"{told}, {connection.retransmitted} sent again", "not bold default")


def machine_words(system: System) -> list[str]:
    """The machine as a whole."""
    cpus = " ".join(f"{percent:.0f} %" for percent in system.cpu_percent) or NOTHING
    load = " ".join(f"{load:.2f}" for load in system.load) or NOTHING
    return [
        f"CPUs {cpus}, load {load}",
        f"{_size(system.available_bytes)} of {_size(system.memory_bytes)} available",
    ]


def _size(count: int | None) -> str:
    if count is None:
        return NOTHING
    for unit, octets in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= octets:
            return f"{count / octets:.1f} {unit}" if unit == "GiB" else f"{count / octets:.0f} {unit}"
    return f"{count} B"


def emulated_parts(state: LiveState) -> list[RenderableType]:
    """Pages, reserve, ring, queues; packets and drops; what was lost outside."""
    machine = state.emulated
    rows = Rows()
    add_levels(rows, machine)
    rows.add("from reserve", f"{figure(machine.reserve_allocations)} packets had a buffer of it")
    rows.add("queued", f"{figure(machine.queued_skbs)} skbs of {figure(machine.sockets)} sockets")
    rows.add("skbs in use", figure(machine.skbs_used))
    rows.add("tasks", crunch_words(machine))
    rows.add("blocked writers", f"hold {figure(machine.writer_pages)} pages")
    rows.add("real writes", f"{figure(machine.writes_completed)} completed, each gave back its page")
    rows.add("block I/O", _fates(machine.memalloc))
    rows.add("all others", _fates(machine.other))
    drops = _by_frequency(machine.drops_by_reason)
    rows.add_lines("dropped", (f"{figure(count)} {name}" for name, count in drops))
    rows.add("outside model", outside_words(state.outside))
    return [rows.shown()]


def add_levels(rows: Rows, machine: Emulated) -> None:
    """Pages down to the floor, the reserve up to its cap, the ring."""
    tight = machine.free_pages <= machine.floor_pages
    rows.add(
        "free pages",
        text(f"{figure(machine.free_pages)}, floor {figure(machine.floor_pages)}", "bold red" if tight else ""),
        Level(
            machine.free_pages,
            machine.memory_pages,
            mark=machine.floor_pages,
            style="red" if tight else "green",
        ),
    )
    if machine.cap_skbs:
        full = machine.rx_reserve_used >= machine.cap_skbs
        rows.add(
            "reserve used",
            f"{figure(machine.rx_reserve_used)} of {figure(machine.cap_skbs)} skbs",
            Level(machine.rx_reserve_used, machine.cap_skbs, style="red" if full else "yellow"),
        )
    else:
        rows.add("reserve used", f"{figure(machine.rx_reserve_used)} skbs, no cap")
    dry = machine.ring_free == 0
    rows.add(
        "ring, free",
        text(f"{figure(machine.ring_free)} of {figure(machine.ring_size)}", "bold red" if dry else ""),
        Level(machine.ring_free, machine.ring_size, style="green"),
    )


def crunch_words(machine: Emulated) -> Text:
    """Whether a task that asks for a page waits."""
    if machine.would_wait:
        return text("wait for pages: readers do not come", "bold red")
    return text("get pages: readers come")


def _fates(fates: Fates) -> str:
    lost = f" ({share(fates.dropped, fates.received)})" if fates.dropped else ""
    return f"{figure(fates.received)} received, {figure(fates.dropped)} dropped{lost}"


def _by_frequency(by_reason: dict[str, int]) -> list[tuple[str, int]]:
    """Drops, the most frequent first; those that are equally frequent in the order of the table of reasons."""
    order = {reason.name: reason.number for reason in REASONS}
    return sorted(by_reason.items(), key=lambda item: (-item[1], order.get(item[0], len(order)), item[0]))


def outside_words(outside: Outside) -> Text:
    """Frames that the model has not lost, and those that came in a form that no wire carries."""
    told = (
        (outside.wire_queue, "in the queue before the emulated NIC"),
        (outside.host_queue, "in the host's queue"),
        (outside.sent_by_host, "of the host's own, before the wire"),
    )
    lost = [f"{figure(count)} {where}" for count, where in told if count]
    aggregated = f"; {figure(outside.too_long)} longer than the MTU, but played" if outside.too_long else ""
    words = f"lost: {', '.join(lost)}" if lost else "no frame was lost"
    return text(f"{words}{aggregated}", "yellow" if lost or aggregated else "dim")

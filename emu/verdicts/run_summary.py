"""The summary of a run of the closed loop: one object for `--json`, for expectations, for the screen and for plots."""

from typing import TYPE_CHECKING, Any

from emu.kernel.closed_loop import (
    BLOCKED_DIRTY,
    BLOCKED_MEMORY,
    CONN_ESTABLISHED,
    SESSION_FULL_FEATURE,
)
from emu.kernel.drop_reason import POINTS
from emu.kernel.machine import PAGE_SIZE
from emu.kernel.policy import RX_NEVER
from emu.scenario import Scenario, memory_pages, notes_on_geometry
from emu.scenario_loop import SessionTable
from emu.verdicts.outcome import mb_per_s, outcome_of
from emu.verdicts.summary import (
    SUMMARY_VERSION,
    counters_of,
    device_facts,
    flood_facts,
    memory_facts,
    socket_facts,
    upper_devices,
    verdict_facts,
)

if TYPE_CHECKING:
    from emu.closed import RunOutcome

NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000
CLOSED_LOOP = (
    "the loop is closed: TCP on both ends answers, windows are obeyed, what is lost is sent again; only floods obey "
    "nothing"
)
BLOCKED_WORDS = {BLOCKED_DIRTY: "dirty limit", BLOCKED_MEMORY: "memory"}


def summarise_run(outcome: "RunOutcome") -> dict[str, Any]:
    """The summary of a run; everything but `run` depends on the scenario and the version alone."""
    m, scenario = outcome.machine, outcome.task.scenario
    total = m.total
    return {
        "emu_summary": SUMMARY_VERSION,
        "scenario": outcome.task.name,
        "policy": scenario.policy.name,
        "scenario_sha256": scenario.digest(),
        **_outcome(outcome),
        "frames": int(total.frames),
        "received": int(total.received),
        "sent": int(total.not_received),
        "not_played": int(total.not_played),
        **verdict_facts(m, outcome.oops_frame),
        "writers": _writers(outcome),
        "sessions": _sessions(outcome),
        "downloads": _downloads(outcome),
        "floods": [flood_facts(flood.recipe, flood.asked, totals, flood.device) for flood, totals in outcome.floods],
        "wires": _wires(outcome),
        "devices": {device.name: device_facts(m, d) | _sending(m, d) for d, device in enumerate(scenario.device)},
        "upper_devices": upper_devices(m, scenario),
        "memory": memory_facts(m) | _dirty(m),
        "sockets": socket_facts(m),
        "counters": counters_of(m),
        "duration_ns": outcome.elapsed_ns,
        "asked_ns": outcome.duration_ns,
        "findings": findings(outcome),
        "assumptions": assumptions(scenario),
        "incomplete": outcome.incomplete,
        "run": _run(outcome),
    }


def _outcome(outcome: "RunOutcome") -> dict[str, Any]:
    """What the run came to (`verdicts.outcome`), against the same run without floods and downloads."""
    baseline = outcome.baseline
    found: dict[str, Any] = outcome_of(
        outcome.machine,
        outcome.world,
        outcome.samples,
        start_ns=int(outcome.tick.start_ns),
        elapsed_ns=rated_ns(outcome),
        baseline_mb_per_s=None if baseline is None else baseline["block_io"]["mb_per_s"],
        device_names=[device.name for device in outcome.task.scenario.device],
    )
    return found


def rated_ns(outcome: "RunOutcome") -> int:
    """Over how long rates and stalls are counted, ns: a machine that is stuck or dead stays so to the end asked for.

    So a run that `run.stop_at_lockup` ends early compares fairly with one that goes on.
    """
    over = int(outcome.machine.oops) or int(outcome.machine.lockup.locked)
    return outcome.duration_ns if over else outcome.elapsed_ns


def _sending(m: Any, d: int) -> dict[str, int]:
    """What a NIC has sent; `tx_dropped`: frames for which its queue had no room, or that it lost when it went down."""
    return {"tx_packets": int(m.dev[d].tx_packets), "tx_dropped": int(m.dev[d].tx_dropped)}


def _writers(outcome: "RunOutcome") -> list[dict[str, Any]]:
    m = outcome.machine
    found = []
    for at in range(int(m.vm.writers)):
        writer = m.vm.writer[at]
        blocked = int(writer.blocked)
        since_ns = int(m.now_ns) - int(writer.blocked_since_ns) if blocked else 0
        octets = int(writer.pages_written) * PAGE_SIZE
        found.append(
            {
                "bytes_written": octets,
                "mb_per_s": mb_per_s(octets, rated_ns(outcome)),
                "blocked_ms": (int(writer.blocked_ns) + since_ns) // NS_PER_MS,
                "waits_for": BLOCKED_WORDS.get(blocked),
            }
        )
    return found


def _sessions(outcome: "RunOutcome") -> list[dict[str, Any]]:
    m = outcome.machine
    found = []
    for s, table in enumerate(outcome.task.scenario.session):
        session, conn = m.session[s], m.conn[s]
        found.append(
            {
                "target": table.target,
                "logged_in": int(session.state) == SESSION_FULL_FEATURE,
                "writes_issued": int(session.writes_issued),
                "writes_completed": int(session.writes_completed),
                "bytes_completed": int(session.bytes_completed),
                "mb_per_s": mb_per_s(int(session.bytes_completed), rated_ns(outcome)),
                "reinstatements": int(session.reinstatements),
                "retransmits": int(conn.retransmits),
                "timeouts": int(conn.timeouts),
                "tx_alloc_failed": int(conn.tx_alloc_failed),
            }
        )
    return found


def _downloads(outcome: "RunOutcome") -> list[dict[str, Any]]:
    m, w, scenario = outcome.machine, outcome.world, outcome.task.scenario
    found = []
    for at, table in enumerate(scenario.download):
        c = len(scenario.session) + at
        octets = max(0, int(w.peer[c].bytes_acked) - 1)  # its SYN counts one
        found.append(
            {
                "server": table.server,
                "connected": int(m.conn[c].state) == CONN_ESTABLISHED,
                "bytes_received": octets,
                "mb_per_s": mb_per_s(octets, rated_ns(outcome)),
                "server_timeouts": int(w.peer[c].timeouts),
            }
        )
    return found


def _wires(outcome: "RunOutcome") -> dict[str, int]:
    w = outcome.world
    return {"lost_in_blackouts": int(w.lost_on_wire), "lost_from_host": int(w.lost_from_host)}


def _dirty(m: Any) -> dict[str, int]:
    names = ("dirty_pages", "writeback_pages", "clean_pages", "dirty_limit_pages", "background_limit_pages")
    values = {name: int(getattr(m.vm, name)) for name in names}
    return values | {"pages_dirtied": int(m.vm.pages_dirtied), "pages_cleaned": int(m.vm.pages_cleaned)}


def _run(outcome: "RunOutcome") -> dict[str, Any]:
    seconds = max(outcome.wall_seconds, 1e-9)
    return {
        "engine": outcome.engine.name,
        "packets_per_second": round(int(outcome.machine.total.frames) / seconds),
        "virtual_per_wall": round(outcome.elapsed_ns / NS_PER_S / seconds, 3),
        "wall_seconds": round(outcome.wall_seconds, 6),
        "cpu_seconds": round(outcome.cpu_seconds, 6),
        "rss_peak_bytes": outcome.rss_peak_bytes,
    }


def findings(outcome: "RunOutcome") -> list[str]:
    """What a reader must know to read the figures right."""
    m, scenario = outcome.machine, outcome.task.scenario
    said = notes_on_geometry(scenario)
    allocations = sum(int(m.dev[d].reserve_allocations) for d in range(int(m.devices)))
    if int(m.policy.rx_memalloc) != RX_NEVER and allocations == 0:
        said.append("the reserve was never touched, so this result proves nothing about it")
    if int(m.oops):
        said.append(
            f"the kernel died of bug {int(m.oops)} of the patch as posted, in {POINTS[int(m.oops_point)]}, when "
            f"{outcome.oops_frame} frames were on the wire"
        )
    if int(m.total.sockets_evicted):
        said.append(f"{int(m.total.sockets_evicted)} sockets were forgotten to make room; they are made anew when seen")
    if int(outcome.tick.replies_lost):
        said.append(
            f"{int(outcome.tick.replies_lost)} replies of the host answered packets long gone and were not sent"
        )
    if int(outcome.world.lost_full):
        said.append(f"{int(outcome.world.lost_full)} frames found no room on a wire of this world and were lost")
    return said


def assumptions(scenario: Scenario) -> list[str]:
    """What was assumed and not measured, in sentences."""
    machine = scenario.machine
    pages = memory_pages(scenario)
    per_byte = f"{machine.cpu_ps_per_byte / 1000:g} ns per byte (an assumption, not a measurement)"
    start = "all memory free" if scenario.pressure.start == "quiet" else "every zone at its GFP_ATOMIC floor"
    said = [
        CLOSED_LOOP,
        f"the CPU needs {machine.cpu_ns_per_packet} ns per packet and {per_byte}; what tasks do costs nothing",
        f"play starts with {start}: {machine.geometry}, {pages} pages ({pages // 256} MiB)",
        f"sockets of floods are inferred from their frames; readers: {scenario.readers.ordinary}",
    ]
    if any(session.iscsid == SessionTable().iscsid for session in scenario.session):
        said.append("login and pings are a daemon's, which waits for memory like any other task")
    return said

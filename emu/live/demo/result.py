"""What a demonstration came to: the figures of each run, and what they prove or do not prove."""

from typing import Any

from msgspec import Struct

from emu.errors import Exit
from emu.kernel.policy import POLICIES
from emu.live.demo.programs.download import DownloadResult
from emu.live.demo.programs.flood import FloodResult
from emu.live.demo.programs.ports import PortsResult
from emu.live.demo.programs.writer import DONE, WriterResult
from emu.live.state import LiveState
from emu.verdicts.screen import counted, figure

MOST_TIMES_BASELINE = 1.5
INTERRUPTED, OUT_OF_TIME = "interrupted", "out of time"
LOCKUP, PROGRESS, DEGRADED, NO_EVIDENCE, BROKEN = "LOCKUP", "progress", "degraded", "no evidence", "broken"


class RunResult(Struct, frozen=True, kw_only=True):
    """One run: its programs' own figures, and the emulated NIC's."""

    policy: str
    flooded: bool
    problem: str = ""  # why there is no result
    writes: WriterResult | None = None
    flood: FloodResult | None = None
    download: DownloadResult | None = None
    ports: PortsResult | None = None
    reserve_packets: int | None = None  # whose buffer came from the reserve; None: not told
    block_io_dropped: int | None = None  # packets of flows that block I/O depends on, wherever they were lost
    block_io_dropped_by_check: int | None = None  # of these, by the reserve's check
    files: dict[str, str] = {}  # captures, by what they hold
    state: LiveState | None = None  # of the emulated machine, when it was last told
    nic: dict[str, Any] | None = None  # the summary of `emu live`

    @property
    def finished(self) -> bool:
        """All writes were answered with success, and those that were read back were right."""
        writes = self.writes
        if writes is None or writes.ended != DONE or writes.errors:
            return False
        return writes.blocks_wrong == 0 and writes.blocks_not_read == 0


class WorldResult(Struct, frozen=True, kw_only=True):
    """One policy: without the flood, and under it."""

    label: str
    policy: str
    has_reserve: bool
    without_flood: RunResult | None = None
    under_flood: RunResult | None = None
    times_baseline: float | None = None
    outcome: str = ""
    verdict: str = ""  # a sentence
    as_claimed: bool = False


class DemoResult(Struct, frozen=True, kw_only=True):
    """The whole demonstration."""

    emu_live_demo: int = 1  # of this layout
    scenario: str
    writes: int
    depth: int
    page_cache: bool = False  # the writes were write-back of the machine's own page cache
    flood_per_second: int
    limit_seconds: float
    seconds: float
    proven: bool  # every world did what is claimed of its policy
    ended_by: str = ""  # what cut it short
    folder: str
    unwritten: str = ""  # why the result is not in its file
    worlds: list[WorldResult]

    @property
    def exit_code(self) -> Exit:
        """0 when every world did what is claimed of its policy."""
        if self.ended_by == INTERRUPTED:
            return Exit.INTERRUPTED
        if self.unwritten:
            return Exit.USAGE
        return Exit.DONE if self.proven else Exit.EXPECTATION_FAILED


def has_reserve(policy: str) -> bool:
    """Whether a policy lets receive buffers come from the reserve: then the cure is claimed of it, else the lockup."""
    return POLICIES[policy].rules["rx_memalloc"] != 0


def packets_of(nic: dict[str, Any] | None) -> dict[str, int | None]:
    """The three figures of `RunResult` that decide, from the emulated NIC's summary."""
    if nic is None:
        return {"reserve_packets": None, "block_io_dropped": None, "block_io_dropped_by_check": None}
    return {
        "reserve_packets": sum(int(device["reserve_allocations"]) for device in nic["devices"].values()),
        "block_io_dropped": int(nic["memalloc"]["dropped"]),
        "block_io_dropped_by_check": int(nic["live"]["memalloc_drops_by_reason"].get("PFMEMALLOC", 0)),
    }


def judge(world: WorldResult) -> tuple[str, str, bool]:
    """Outcome, sentence, and whether it is what is claimed of the policy."""
    if problem := _problem(world.without_flood):
        return BROKEN, problem, False
    assert world.without_flood is not None
    if not world.without_flood.finished:
        return BROKEN, f"without the flood: {_fell_short(world.without_flood)}", False
    if problem := _problem(world.under_flood):
        return BROKEN, problem, False
    assert world.under_flood is not None
    if not world.under_flood.finished:
        return _judge_unfinished(world, world.under_flood)
    return _judge_finished(world, world.under_flood)


def _problem(run: RunResult | None) -> str:
    """Why there is nothing to judge; "" when there is."""
    if run is None:
        return "not run"
    return run.problem or ("" if run.writes is not None else "the writer told no result")


def _judge_unfinished(world: WorldResult, run: RunResult) -> tuple[str, str, bool]:
    assert run.writes is not None
    locked = run.writes.ended != DONE and run.writes.errors == 0
    # What the machine did not drop it has not locked up.
    as_claimed = locked and not world.has_reserve and run.writes.completed == 0 and bool(run.block_io_dropped)
    outcome = LOCKUP if locked else BROKEN
    return outcome, _fell_short(run) + _losses(run), as_claimed


def _fell_short(run: RunResult) -> str:
    writes = run.writes
    assert writes is not None
    said = f"{figure(writes.completed)} of {figure(writes.asked)} writes in {writes.seconds:.2f} s"
    if writes.errors:
        said += f", {figure(writes.errors)} with errors"
    if writes.blocks_wrong or writes.blocks_not_read:
        said += f"; read back: {writes.blocks_wrong} blocks wrong, {writes.blocks_not_read} not answered"
    if writes.completed < writes.asked and writes.ended != DONE:
        said += f", ended by: {writes.ended}{f' ({writes.why})' if writes.why else ''}"
        said += f", longest gap {writes.longest_gap_seconds:.2f} s"
    return said


def _losses(run: RunResult) -> str:
    if run.block_io_dropped is None:
        return _lost_outside(run)
    return f"; {counted(run.block_io_dropped, 'packet')} of block I/O dropped{_lost_outside(run)}"


def _lost_outside(run: RunResult) -> str:
    """What the machine is not to blame for: whose frames they were nobody knows."""
    if run.nic is None:
        return ""
    outside = run.nic["live"]["lost_outside"]
    lost = sum(int(outside[name]) for name in ("wire_queue", "host_queue", "sent_by_host"))
    return f"; {counted(lost, 'frame')} lost outside the model" if lost else ""


def _judge_finished(world: WorldResult, run: RunResult) -> tuple[str, str, bool]:
    assert run.writes is not None
    times = world.times_baseline
    said = f"{counted(run.writes.completed, 'write')} in {run.writes.seconds:.2f} s"
    if times is not None:
        said += f", {times:.2f} times as long as without the flood"
    if run.reserve_packets is None:
        return NO_EVIDENCE, f"{said}; nothing tells whether the reserve was touched", False
    said += f"; {counted(run.reserve_packets, 'packet')} from the reserve"
    by_check = run.block_io_dropped_by_check
    said += f", {'an unknown number' if by_check is None else figure(by_check)} of block I/O dropped by its check"
    said += _lost_outside(run)
    if not world.has_reserve:
        return NO_EVIDENCE, f"{said}; no lockup, though the policy has no reserve: the flood did not bite", False
    if run.reserve_packets == 0:
        return NO_EVIDENCE, f"{said}; the reserve was never touched, so this proves nothing", False
    cured = by_check == 0 and times is not None and times <= MOST_TIMES_BASELINE
    return PROGRESS if cured else DEGRADED, said, cured

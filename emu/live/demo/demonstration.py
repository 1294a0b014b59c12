"""The demonstration: real block I/O under a real flood, through the emulated NIC, under one policy after the other.

Each policy has two runs, without the flood and under it; each run has namespaces, a target, an initiator and an
emulated NIC of its own, because sockets of a run that was locked up go on for minutes.
"""

import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from emu.errors import UsageError
from emu.kernel.policy import POLICIES
from emu.live.demo.foreign import require_binaries
from emu.live.demo.joins import MakeJoin, NicJoin
from emu.live.demo.page_cache import MOST_WRITES, require_page_cache
from emu.live.demo.result import (
    BROKEN,
    INTERRUPTED,
    OUT_OF_TIME,
    DemoResult,
    RunResult,
    WorldResult,
    has_reserve,
    judge,
)
from emu.live.demo.view import WorldView
from emu.live.demo.watch import Screen, Watch
from emu.live.demo.worlds import RunPlan, run_world
from emu.live.lab.lab import needs_privileges, sweep

TITLE = "the same real writes under the same real flood"
RESULT_FILE = "demo.json"
AROUND_SECONDS = 5.0  # what a run takes beside its writes, on a busy machine
MOST_SECONDS = 600  # of the whole, and of one run's writes
HARD_STOP_SECONDS = 3.0  # after the bound, whatever hangs is interrupted


class DemoOptions(Struct, frozen=True, kw_only=True):
    """What a demonstration does; the defaults are what it is known to prove."""

    policies: tuple[str, ...] = ("linux-2.6.12", "phillips-v5")
    scenario: str = "live-demo"
    writes: int = 8192  # of 4 KiB: 32 MiB
    depth: int = 8
    verify_blocks: int = 64  # read back when all are written
    lead_seconds: float = 1.0  # flood and download run for so long before the first write
    limit_seconds: float = 15.0  # of the writes of one run
    bound_seconds: float = 90.0  # of the whole demonstration
    flood_per_second: int = 5000
    flood_bytes: int = 1200
    ports: int = 16  # flooded, bound, unread
    download_bytes_per_second: int = 20_000_000  # 0: as fast as it goes
    download_receive_bytes: int = 0  # SO_RCVBUF of its reader; 0: the system's own, which grows
    page_cache: bool = False  # the machine's own page cache writes; only for policies with a reserve
    captures: bool = True
    out: Path | None = None  # None: a temporary folder, which is told


def run_demo(
    options: DemoOptions,
    say: Callable[[str], None],
    screen: Screen | None,
    make_join: MakeJoin = NicJoin,
) -> DemoResult:
    """Run all worlds; what came of it, which is also in `demo.json` of the folder.

    Errors: UsageError when the options, the privileges or the programs do not allow it.  Ctrl-C and SIGTERM end the run
    that is on, take everything down, and the result says so.
    """
    _check(options)
    needs_privileges()
    require_binaries()
    if options.page_cache:
        require_page_cache()
    for sentence in sweep():
        say(sentence)
    folder = _folder(options.out)
    say(f"captures and results: {folder}")
    began = time.monotonic()
    views = [WorldView(label=_label(p), policy=p, phase="waiting", total=options.writes) for p in options.policies]
    watch = Watch(TITLE, views, options.bound_seconds, screen)
    worlds = [WorldResult(label=_label(p), policy=p, has_reserve=has_reserve(p)) for p in options.policies]
    ended_by = ""
    try:
        with _bounded(options.bound_seconds):
            for at in range(len(worlds)):
                _run_both(at, worlds, options, folder, make_join, watch)
    except KeyboardInterrupt:
        ended_by = INTERRUPTED if watch.seconds_left else OUT_OF_TIME
        worlds = [world if world.outcome else replace(world, outcome=BROKEN, verdict=ended_by) for world in worlds]
    for sentence in sweep():  # an emulated NIC that was killed leaves its folder
        say(sentence)
    result = DemoResult(
        scenario=options.scenario,
        writes=options.writes,
        depth=options.depth,
        page_cache=options.page_cache,
        flood_per_second=options.flood_per_second,
        limit_seconds=options.limit_seconds,
        seconds=round(time.monotonic() - began, 2),
        proven=not ended_by and all(world.as_claimed for world in worlds),
        ended_by=ended_by,
        folder=str(folder),
        worlds=worlds,
    )
    return replace(result, unwritten=_write(folder / RESULT_FILE, result))


def _check(options: DemoOptions) -> None:
    if not options.policies:
        raise UsageError("--policies names none, and nothing would be proven; expected rows of `emu policies`")
    for policy in options.policies:
        if policy not in POLICIES:
            raise UsageError(f"--policies: '{policy}' is not one of {', '.join(POLICIES)}")
    if len(set(options.policies)) != len(options.policies):
        raise UsageError("a policy is asked for twice: each has one world")
    least = {"writes": 1, "depth": 1, "ports": 1, "flood_per_second": 1, "flood_bytes": 1, "verify_blocks": 0}
    for name, lowest in least.items():
        if getattr(options, name) < lowest:
            raise UsageError(f"{name.replace('_', ' ')}: {lowest} or more expected, not {getattr(options, name)}")
    if options.page_cache:
        _check_page_cache(options)
    for option, seconds in (("--limit", options.limit_seconds), ("--for", options.bound_seconds)):
        if not 0 < seconds <= MOST_SECONDS:
            raise UsageError(f"{option} {seconds:g}s: more than 0 s and at most {MOST_SECONDS} s expected")


def _check_page_cache(options: DemoOptions) -> None:
    """A machine that locks up would hold real write-back of the whole machine until it is cut off."""
    for policy in options.policies:
        if not has_reserve(policy):
            raise UsageError(
                f"the real page cache is not for {policy}, which has no reserve: in its lockup write-back of this "
                "machine hangs; leave the policy out, or the page cache"
            )
    if options.writes > MOST_WRITES:
        raise UsageError(f"writes: at most {MOST_WRITES} through the real page cache, not {options.writes}")


def _label(policy: str) -> str:
    return "with a reserve" if has_reserve(policy) else "without a reserve"


def _folder(asked: Path | None) -> Path:
    if asked is None:
        return Path(tempfile.mkdtemp(prefix="emu-live-demo-"))
    try:
        asked.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{asked}: {error.strerror}; a folder for captures and results is expected") from error
    return asked.resolve()


def _run_both(
    at: int, worlds: list[WorldResult], options: DemoOptions, folder: Path, make_join: MakeJoin, watch: Watch
) -> None:
    """The two runs of one world, and what they say together."""
    for flooded in (False, True):
        plan = _plan(worlds[at].policy, flooded, options, folder)
        run = _in_time(at, plan, make_join, watch)
        worlds[at] = replace(worlds[at], **{"under_flood" if flooded else "without_flood": run})
        if not run.finished:
            break  # without a baseline there is nothing to compare with
    worlds[at] = replace(worlds[at], times_baseline=_times(worlds[at]))
    outcome, verdict, as_claimed = judge(worlds[at])
    worlds[at] = replace(worlds[at], outcome=outcome, verdict=verdict, as_claimed=as_claimed)
    watch.verdict(at, outcome, verdict)


def _in_time(at: int, plan: RunPlan, make_join: MakeJoin, watch: Watch) -> RunResult:
    if watch.seconds_left < plan.lead_seconds + plan.limit_seconds + AROUND_SECONDS:
        may_take = f"its writes may take {plan.limit_seconds:g} s (--for, --limit)"
        why = f"not run: {watch.seconds_left:.0f} s were left, and {may_take}"
        return RunResult(policy=plan.policy, flooded=plan.flooded, problem=why)
    return run_world(at, plan, make_join, watch)


def _plan(policy: str, flooded: bool, options: DemoOptions, folder: Path) -> RunPlan:
    return RunPlan(
        policy=policy,
        scenario=options.scenario,
        flooded=flooded,
        writes=options.writes,
        depth=options.depth,
        verify_blocks=options.verify_blocks,
        lead_seconds=options.lead_seconds,
        limit_seconds=options.limit_seconds,
        flood_per_second=options.flood_per_second,
        flood_bytes=options.flood_bytes,
        ports=options.ports,
        download_bytes_per_second=options.download_bytes_per_second,
        download_receive_bytes=options.download_receive_bytes,
        page_cache=options.page_cache,
        seed=int.from_bytes(os.urandom(7), "big"),
        captures=folder / f"{policy}-{'flood' if flooded else 'baseline'}" if options.captures else None,
    )


def _times(world: WorldResult) -> float | None:
    alone, flooded = world.without_flood, world.under_flood
    if alone is None or flooded is None or not (alone.finished and flooded.finished):
        return None
    assert alone.writes is not None
    assert flooded.writes is not None
    return round(flooded.writes.seconds / alone.writes.seconds, 3) if alone.writes.seconds > 0 else None


def _write(path: Path, result: DemoResult) -> str:
    """Write the result, whole or not at all; why it could not be written, which is no reason not to tell it."""
    encoded = msgspec.json.format(msgspec.json.encode(result), indent=2)
    beside = path.with_name(f"{path.name}.partial")
    try:
        beside.write_bytes(encoded + b"\n")
        beside.replace(path)
    except OSError as error:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
        return f"{path}: {error.strerror}; the results are to be written there"
    return ""


@contextmanager
def _bounded(seconds: float) -> Iterator[None]:
    """SIGTERM and the hard stop at the bound are a Ctrl-C: labs take down what they made, and nothing waits on."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    def terminate(_number: int, _frame: FrameType | None) -> None:
        signal.raise_signal(signal.SIGTERM)  # which a lab puts off while it takes something down

    handlers = {signal.SIGTERM: interrupt, signal.SIGALRM: terminate}
    before = [(number, signal.signal(number, handler)) for number, handler in handlers.items()]
    signal.setitimer(signal.ITIMER_REAL, seconds + HARD_STOP_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before:
            signal.signal(number, handler)

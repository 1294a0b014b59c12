"""`emu live`, from its options to its end: interfaces are made, the run is played, all is taken down."""

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from emu.cli.live_options import LiveCommand
from emu.engine.choose import ENGINES, choose_engine
from emu.engine.plain import LIVE, Engine
from emu.errors import Exit, UsageError
from emu.interrupt import Interruption
from emu.live.lab.lab import Lab, Tap, needs_privileges, sweep
from emu.live.live_run import Ends, LiveRun
from emu.live.ports import Asked, Port, host_behind, open_ports, put_together, tell_rings, warnings
from emu.live.readers.diag import SocketDiag
from emu.live.readers.real_readers import RealReaders
from emu.live.readers.truesize import measured_truesize
from emu.live.state import LiveState, Outside, SharedWords, write_state
from emu.live.told import Neighbours, StateTeller
from emu.live.warm import warm
from emu.live.wire import Wire
from emu.request import check_choice, expectations_of, outputs_of, refuse_run, settings_of
from emu.runs import Run, judged
from emu.scenario import Scenario, readers_of
from emu.scenario_file import load_scenario, scenario_path
from emu.scenario_parts import time_ns_of
from emu.task import Task
from emu.verdicts.summary import by_reason
from emu.wire import ethernet

VLAN_BYTES = 4
USUAL = {"readers": {"ordinary": "real"}, "replay": {"peers": "real"}}  # what a live run is where nobody says otherwise

SHORT_OF_MEMORY = (  # or who tries it with a ping takes it for broken
    "the emulated machine starts short of memory, and drops most of what is no block I/O, a ping too; "
    "`--set pressure.start=quiet` starts with all its memory free"
)


class LiveEnd(NamedTuple):
    """How a live run ended: as a replay does, and what the interfaces counted."""

    run: Run
    live: dict[str, Any]

    def printed(self) -> dict[str, Any]:
        """The summary as `--json` prints it."""
        return self.run.printed() | {"live": self.live}


def live_scenario(command: LiveCommand) -> Scenario:
    """The scenario file, then --set, then the options with a name of their own.  Errors: UsageError."""
    settings, said = settings_of(
        command.settings,
        ("policy.name", "--policy", command.policy),
        ("policy.as_posted", "--as-posted", command.as_posted),
        ("replay.memalloc", "--memalloc", command.memalloc),
    )
    path = None if command.scenario is None else scenario_path(str(command.scenario))
    scenario = load_scenario(path, settings, said, usual=USUAL)
    refuse_run(scenario, command.scenario)
    name = command.scenario or "--set"
    if len(scenario.device) > 1:
        raise UsageError(f"{name}: emu live is one NIC; expected one [[device]], found {len(scenario.device)}")
    if scenario.replay.flood:
        raise UsageError(f"{name}: replay.flood is for captures; a live run gets what its interfaces give")
    return scenario


def time_ns_asked(option: str, text: str) -> int:
    """A time that an option gives.  Errors: UsageError, which names the option."""
    try:
        return time_ns_of(text)
    except ValueError as error:
        raise UsageError(f"{option} {error}") from None


def duration_seconds(option: str, text: str) -> float:
    """How long an option lets something last.  Errors: UsageError, which names the option."""
    seconds = time_ns_asked(option, text) / 1e9
    if seconds <= 0:
        raise UsageError(f"{option} {text}: expected more than nothing")
    return seconds


def live(command: LiveCommand, say: Callable[[str], None], started: Callable[[LiveState], None]) -> LiveEnd:
    """Play until the time is over or a signal comes; `started` is told when frames may come.

    Errors: UsageError.
    """
    check_choice("--engine", command.engine, ENGINES)
    check_choice("--annotate", command.annotate, ("drops", "all"))
    check_choice("--log-rows", command.log_rows, ("all", "drops"))
    scenario, seconds = live_scenario(command), duration_seconds("--for", command.duration)
    time_ns_asked("--awake", command.awake)  # before anything is made
    outputs = outputs_of(command)
    task = Task(
        scenario=scenario,
        name=f"{command.wire_if} to {command.host_if}",
        outputs=outputs,
        expectations=tuple(expectations_of(command, scenario)),
    )
    # What real readers' sockets are charged is measured in a namespace that is made for it.
    named = command.host_namespace or command.wire_namespace
    needs_privileges(namespaces=bool(named) or has_real_readers(scenario))
    for sentence in sweep():
        say(sentence)
    engine, said = choose_engine(command.engine, None, LIVE)
    if said:
        say(said)
    warm(engine, with_log=outputs.log is not None)
    with Lab() as lab, ExitStack() as stack:
        return _play(lab, stack, command, task, engine, seconds, say, started)


def _play(
    lab: Lab,
    stack: ExitStack,
    command: LiveCommand,
    task: Task,
    engine: Engine,
    seconds: float,
    say: Callable[[str], None],
    started: Callable[[LiveState], None],
) -> LiveEnd:
    longest = task.scenario.device[0].mtu + ethernet.HEADER_LEN + VLAN_BYTES
    host, towards = _interfaces(lab, stack, command, longest, say)
    wire = engine.new(Wire)
    epoch_ns = time.time_ns() - time.monotonic_ns()
    engine.fill(wire, {"host_fd": host.fd, "wire_fd": towards.fd, "epoch_ns": epoch_ns, "longest": longest})
    engine.fill(wire, {"awake_ns": time_ns_asked("--awake", command.awake)})
    memories = tell_rings(engine, wire, host, towards)
    neighbours = None if command.words is None else _neighbours(stack, command.words)
    readers = _real_readers(lab, stack, command, task.scenario, wire, host)
    run = LiveRun(
        task,
        engine,
        wire,
        host_behind(host, command.host_mac),
        memories=memories,
        outside=[each for each in (readers, neighbours) if each is not None],
        host_capture=command.host_capture,
        interruption=Interruption(),
    )
    named = LiveState(
        pid=0,
        policy=task.scenario.policy.name,
        scenario="" if command.scenario is None else str(command.scenario),
        host_if=host.name,
        wire_if=towards.name,
        host_kind=host.kind,
        wire_kind=towards.kind,
        host_namespace=host.namespace,
        wire_namespace=towards.namespace,
        started_ns=time.time_ns(),
        bound_seconds=seconds,
    )
    teller = StateTeller(named, lambda: lost_outside(wire, host, towards, run), neighbours)
    told = False

    def tell(run: LiveRun) -> None:
        nonlocal told
        state = teller.state(run)
        write_state(lab.folder, state)
        if not told:
            told = True
            started(state)
            if command.scenario is None and task.scenario.pressure.start == "crunch":
                say(SHORT_OF_MEMORY)

    outcome = run.run_live(Ends(seconds, lambda: host.gone() or towards.gone()), tell)
    facts = {
        "host_if": host.name,
        "wire_if": towards.name,
        "survivors": int(wire.survivors) + run.held.released,
        "held": len(run.held),  # that no emulated reader has come for
        "held_thrown_away": run.held.lost,  # of those held before: a full socket gave them up unread
        "handed_on": int(wire.handed_on),
        "memalloc_drops_by_reason": by_reason(wire.critical_drops),
        "sent_by_host": int(wire.sent),
        "lost_outside": lost_outside(wire, host, towards, run),
        "aggregated": int(wire.host_ring.aggregated) + int(wire.wire_ring.aggregated),
        "checksums_finished": int(wire.host_ring.finished) + int(wire.wire_ring.finished),
        "buffers_read": 0 if readers is None else readers.buffers_read,
        "writes_completed": 0 if neighbours is None else neighbours.writes_completed,
    }
    for sentence in put_together(wire, host, towards):
        say(sentence)
    return LiveEnd(judged(outcome, task.expectations), facts)


def _real_readers(
    lab: Lab, stack: ExitStack, command: LiveCommand, scenario: Scenario, wire: Any, host: Port
) -> RealReaders | None:
    """Who tells what real readers have read; nobody where the scenario has none.  Errors: UsageError."""
    if not has_real_readers(scenario):
        return None
    if not isinstance(host, Tap):
        asked = "--set readers.ordinary=immediate"
        raise UsageError(f"--host-if {host.name}: what the host behind it has read cannot be seen from here; {asked}")
    diag = SocketDiag(command.host_namespace)
    stack.callback(diag.close)
    return RealReaders(wire, diag, measured_truesize(lab))


def _neighbours(stack: ExitStack, path: Path) -> Neighbours:
    """The programs that share words of memory with this run."""
    words = SharedWords(path)
    stack.callback(words.close)
    return Neighbours(words)


def has_real_readers(scenario: Scenario) -> bool:
    """Whether real programs have to come for what the machine has queued."""
    return "real" in readers_of(scenario).values()


def _interfaces(
    lab: Lab, stack: ExitStack, command: LiveCommand, longest: int, say: Callable[[str], None]
) -> tuple[Port, Port]:
    """The host's interface and the wire's, open; warnings are said."""
    host, towards = open_ports(
        lab,
        stack,
        Asked("host", command.host_if, command.host_namespace, command.host_address),
        Asked("wire", command.wire_if, command.wire_namespace, command.wire_address),
        longest,
    )
    for sentence in warnings(host, towards):
        say(sentence)
    return host, towards


def lost_outside(wire: Any, host: Port, towards: Port, run: LiveRun) -> Outside:
    """What was lost outside the model."""
    return Outside(
        wire_queue=towards.lost_frames() + int(wire.wire_ring.lost),
        host_queue=int(wire.survivors_refused) + run.held.refused,
        too_long=int(wire.too_long),
        sent_by_host=int(wire.sent_refused) + host.lost_frames() + int(wire.host_ring.lost),
    )


def exit_code(end: LiveEnd) -> Exit:
    """The exit code: a signal is how a live run ends, an interface that goes is not."""
    return Exit.CAPTURE if end.run.summary["incomplete"] else end.run.code

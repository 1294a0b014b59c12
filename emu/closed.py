"""One run of the closed loop: a scenario in, a timeline, a verdict for every packet and an outcome out.

The loop makes its frames itself, as the host and its peers send them; floods are crafted beside it.  Frames, their
bytes and their verdicts are handed out as a replay's are, so that memory is bounded however long a run is; its samples
are, too: when there are too many, every second one is let go, and they are taken half as often.
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

from emu.capture.bpf import Filter
from emu.engine.loop import end_in_oops
from emu.engine.plain import RUN, Engine
from emu.errors import UsageError
from emu.in_progress import RunInProgress, rss_peak_bytes
from emu.interrupt import Interruption
from emu.kernel.boot import start_clock
from emu.kernel.closed_loop import Sample
from emu.kernel.machine import Event, Packet
from emu.kernel.record import fields_of
from emu.pacing import Pacer
from emu.scenario import Scenario
from emu.scenario_parts import time_ns_of
from emu.task import Task
from emu.traffic.arrivals import Feed
from emu.traffic.beside import Beside, Company, Playing, in_a_run, parse_beside
from emu.traffic.crafted import START_NS, Crafted, crafted_of
from emu.traffic.flood.source import Ends
from emu.traffic.host import mac_number
from emu.traffic.inlets import Inlet, device_table
from emu.traffic.peer.loop import (
    LONGEST_FRAME_BYTES,
    MAX_FLOOD_INTERFACES,
    WHY_FLOOD,
    WHY_LIMIT,
    WHY_LOCKUP,
    WHY_OOPS,
    WHY_OVER,
    WHY_ROWS,
    WHY_SAMPLES,
    WHY_STEP,
    Tick,
    run_closed,
)
from emu.traffic.peer.setup import build_world
from emu.traffic.tally import Tally, Totals, tally_rows, totals_of
from emu.verdicts.expect import refuse_impossible
from emu.verdicts.run_summary import summarise_run
from emu.wire.headers import CHECKSUMS, LINKTYPE_ETHERNET
from emu.world_of import duration_ns, run_machine, run_of, world_setup

SAMPLES = 4_096
WINDOW_BYTES = 8 << 20
EVENT_LOG = 16  # nothing is recorded: the loop makes its own events
FIRST_TURN_STEPS, MOST_TURN_STEPS = 256, 1 << 20
TURN_NS = 100_000_000  # about so long one call of the loop may take: so late Ctrl-C and the progress bar are heard
ENDED = (WHY_OVER, WHY_OOPS, WHY_LOCKUP, WHY_LIMIT)

Samples = dict[str, list[int]]  # the fields of `Sample`, as columns
Advance = Callable[[int, Any], None]  # told of the virtual time that has passed, ns, and of the machine


class RunOutcome(NamedTuple):
    """What is left when a run has ended: the machine, the world around it, its timeline."""

    task: Task
    machine: Any
    world: Any
    tick: Any
    engine: Engine
    samples: Samples
    elapsed_ns: int  # virtual, since play started
    duration_ns: int  # for how long it was to run
    baseline: dict[str, Any] | None  # the summary of the same run without floods and downloads
    floods: tuple[tuple[Playing, Totals], ...]
    crafted: tuple[Crafted, ...]
    oops_frame: int
    incomplete: str | None
    interrupted: bool
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    rss_peak_bytes: int = 0


class ClosedRun(RunInProgress):
    """A run of the closed loop in progress."""

    verb = "run of"
    use = RUN

    def __init__(
        self,
        task: Task,
        engine: Engine,
        interruption: Interruption | None = None,
        baseline: dict[str, Any] | None = None,
    ) -> None:
        """Set host and world up and open the outputs; `baseline` is the summary to compare with, where there is one.

        Errors: UsageError for what cannot be, also for expectations of what no summary has.
        """
        scenario = task.scenario
        self.baseline = baseline
        self.interruption = interruption or Interruption()
        self.company = floods_of(scenario, engine)
        self.crafted = tuple(crafted_of(self.company.reader.section_comments)) if self.company else ()
        super().__init__(task, engine, run_machine(engine, scenario, self.crafted), 2 * task.batch)
        self.world, self.moulds, self.pool, self.store = build_world(engine, world_setup(scenario), self.machine)
        self._refuse_unplaced()
        self.engine.fill(self.machine.lockup, {"silent_devices": self._silent_devices()})
        self.end_ns = START_NS + duration_ns(scenario)
        self.samples = engine.rows(Sample, SAMPLES)
        self.tick = self._tick()
        self._window = bytearray(WINDOW_BYTES)
        self._octets = engine.view(self._window)
        self._at = 0
        self._turn_steps = FIRST_TURN_STEPS
        self._meet_devices()
        self._wait_for_floods()
        self.event_log = engine.rows(Event, EVENT_LOG)
        self.oops_frame = 0
        self.pacer: Pacer | None = None
        engine.function(start_clock)(self.machine, START_NS)
        refuse_impossible(task.expectations, summarise_run(self._outcome()))
        self.advance(steps=0)  # compiles the loop, where it is not: Ctrl-C need not wait for that
        inputs = [name for each in self._besides() if (name := getattr(each.flood.options, "template", None))]
        with self.interruption:  # what opens a log takes a moment
            self._open_outputs([*inputs, *task.scenario_files])

    def _refuse_unplaced(self) -> None:
        unplaced = int(self.machine.vm.unplaced_pages)
        if unplaced:
            raise UsageError(
                f"{self.task.name}: vm.anonymous and vm.clean are {unplaced} pages more than the machine has left; "
                "expected less of them, or more machine.memory"
            )

    def _silent_devices(self) -> int:
        """Bit d for each device on which nobody sends anything to the host."""
        speaking = {int(self.machine.conn[c].dev) for c in range(int(self.machine.conns))}
        speaking |= {self.devices.index(each.device) for each in self._besides()}
        return sum(1 << d for d in range(len(self.devices)) if d not in speaking)

    def _besides(self) -> list[Beside]:
        return besides_of_run(self.task.scenario)

    def _tick(self) -> Any:
        run = run_of(self.task.scenario)
        tick = self.engine.new(Tick)
        self.engine.fill(
            tick,
            {
                "start_ns": START_NS,
                "sample_ns": time_ns_of(run.sample),
                "next_sample_ns": START_NS,
                "samples_room": SAMPLES,
                "steps_left": -1,
                "stop_at_lockup": run.stop_at_lockup,
                "progress_ns": START_NS,
            },
        )
        return tick

    def _meet_devices(self) -> None:
        """Every device has a wire, on which the host's frames are known by its MAC."""
        engine, replay = self.engine, self.task.scenario.replay
        self.inlets = engine.rows(Inlet, len(self.devices))
        for dev, device in enumerate(self.task.scenario.device):
            host = {"host_known": 1, "host_mac": mac_number(Ends().host_mac)}
            engine.fill(self.inlets[dev], {"dev": dev, "mtu": device.mtu} | host)
        nothing = Filter(None)
        nothing.meet({LINKTYPE_ETHERNET})
        self.program = nothing.load(engine)
        self.feed = engine.new(Feed)
        engine.fill(self.feed, {"inlets": len(self.devices), "checksums": CHECKSUMS.index(replay.checksums)})

    def _wait_for_floods(self) -> None:
        engine = self.engine
        count = self.task.batch if self.company else 1
        self.flood_rows = engine.rows(Packet, count)
        self.flood_at = self.flood_end = 0
        self.flood_more = int(self.company is not None)
        self.no_octets = engine.view(bytearray(1))
        self.tallies = engine.rows(Tally, MAX_FLOOD_INTERFACES)

    @property
    def octets(self) -> Any:
        """The window of the frames that the loop has made."""
        return self._octets

    @property
    def position(self) -> int:
        """Behind the last frame's bytes."""
        return self._at

    def discard(self, offset: int) -> int:
        """Move what is kept to the window's front."""
        rest = self._at - offset
        self._window[:rest] = self._window[offset : self._at]
        self._at = rest
        return offset

    def run(self, progress: Advance | None = None) -> RunOutcome:
        """Let the loop run to its end; the outputs are complete and in place when this returns."""
        started, cpu_started = time.perf_counter(), time.process_time()
        with self.stack, self.interruption:
            self.pacer = self._pacer(self.interruption)
            if self.pacer is not None:
                self.pacer.start(self.elapsed_ns)
            while self._take_turn() not in ENDED and not self.interruption.happened:
                if progress is not None:
                    progress(self.elapsed_ns, self.machine)
            interrupted = self.interruption.happened
            incomplete = f"interrupted after frame {int(self.tick.frame)}" if interrupted else None
            self._end_rows()
            self._close_outputs(incomplete)
        return self._outcome()._replace(
            incomplete=incomplete,
            interrupted=interrupted,
            wall_seconds=time.perf_counter() - started,
            cpu_seconds=time.process_time() - cpu_started,
            rss_peak_bytes=rss_peak_bytes(),
        )

    def _take_turn(self) -> int:
        """Let the loop go on for about TURN_NS, whatever engine and scenario; why it stopped (WHY_*).

        Where it is to go as the clock does, for about a slice: a turn's frames are seen at its end.
        """
        began, began_ns = self._busy_ns(), self.elapsed_ns
        why = self.advance(steps=self._turn_steps)
        share = (self._busy_ns() - began) / TURN_NS
        if self.pacer is not None:
            share = max(share, (self.elapsed_ns - began_ns) / self.pacer.slice_ns)
        if share > 1:
            self._turn_steps = max(1, self._turn_steps // 2)
        elif why == WHY_STEP and 2 * share < 1:
            self._turn_steps = min(2 * self._turn_steps, MOST_TURN_STEPS)
        return why

    def _busy_ns(self) -> int:
        """A clock that stands while the run waits for its time to come."""
        return time.perf_counter_ns() - (0 if self.pacer is None else self.pacer.waited_ns)

    def _show(self, used: int, pacer: Pacer) -> None:
        """Hand out what has been played once its time has come."""
        pacer.wait_until(self.elapsed_ns)
        self._hand_out(used)
        pacer.written()

    @property
    def elapsed_ns(self) -> int:
        """Virtual time that has passed."""
        return int(self.machine.now_ns) - START_NS

    def advance(self, until_ns: int | None = None, steps: int = -1) -> int:
        """Let the loop go on to a time (none: the run's end) or for so many steps; why it stopped (WHY_*).

        What it needs further to go on, it is given: room, frames of floods.  WHY_ROWS and the like are for the caller's
        progress only.
        """
        self.tick.steps_left = steps
        first_flood = self.flood_at
        used, self._at, self.flood_at, why = self.engine.function(run_closed)(
            self.machine,
            self.world,
            self.tick,
            self.rows,
            self.kept,
            self.room,
            self._octets,
            self._at,
            self.moulds,
            self.pool,
            self.store,
            self.feed,
            self.program,
            self.inlets,
            self.flood_rows,
            self.flood_at,
            self.flood_end,
            self.flood_more,
            self.company.reader.octets if self.company else self.no_octets,
            self.samples,
            self.event_log,
            self.end_ns if until_ns is None else min(until_ns, self.end_ns),
        )
        if self.company:
            self.engine.function(tally_rows)(self.flood_rows, first_flood, self.flood_at, self.tallies)
        self._take_later()
        if why == WHY_OOPS:
            self.oops_frame = int(self.tick.frame)
            self.engine.function(end_in_oops)(self.machine, self.rows, used, used)
        self._refuse_limit()
        if self.pacer is not None:
            self._show(used, self.pacer)
        elif why != WHY_STEP:
            self._hand_out(used)
        else:
            self.kept = used
        self._give(why)
        return why

    def _give(self, why: int) -> None:
        """What the loop has asked for."""
        if why == WHY_FLOOD:
            self._read_floods()
        elif why == WHY_SAMPLES:
            self._let_samples_go()
        elif why == WHY_ROWS:
            if 2 * (self.kept + 1) > self.room:
                self.room *= 2
                self.rows = self.engine.grown(self.rows, self.room)
            if len(self._window) - self._at < 2 * LONGEST_FRAME_BYTES:
                self._window = self._window + bytearray(len(self._window))
                self._octets = self.engine.view(self._window)

    def _read_floods(self) -> None:
        assert self.company is not None
        reader = self.company.reader
        reader.discard(reader.position)
        self.flood_at, self.flood_end = 0, reader.read(self.flood_rows, 0, self.task.batch)
        self.flood_more = int(self.flood_end > 0)
        table = device_table(reader.interfaces, self.devices)
        for number, dev in enumerate(table):
            self.tick.flood_dev[number] = dev

    def _let_samples_go(self) -> None:
        """Keep every second sample, and take them half as often from now on."""
        kept = int(self.tick.samples) // 2
        for at in range(1, kept):
            source = self.samples[2 * at]
            self.engine.fill(self.samples[at], {name: int(getattr(source, name)) for name in SAMPLE_FIELDS})
        self.engine.fill(self.tick, {"samples": kept, "sample_ns": 2 * int(self.tick.sample_ns)})

    def columns(self) -> Samples:
        """The samples so far."""
        count = int(self.tick.samples)
        return {name: self.engine.column(self.samples, name, count) for name in SAMPLE_FIELDS}

    def _outcome(self) -> RunOutcome:
        floods = self.company.floods if self.company else ()
        return RunOutcome(
            task=self.task,
            machine=self.machine,
            world=self.world,
            tick=self.tick,
            engine=self.engine,
            samples=self.columns(),
            elapsed_ns=self.elapsed_ns,
            duration_ns=self.end_ns - START_NS,
            baseline=self.baseline,
            floods=tuple((flood, totals_of(self.tallies[flood.iface])) for flood in floods),
            crafted=self.crafted,
            oops_frame=self.oops_frame,
            incomplete=None,
            interrupted=False,
        )


SAMPLE_FIELDS = tuple(field.name for field in fields_of(Sample))


def besides_of_run(scenario: Scenario) -> list[Beside]:
    """The floods of a run, which has been checked."""
    devices = [device.name for device in scenario.device]
    return [parse_beside(text, "run.flood", devices) for text in run_of(scenario).flood]


def floods_of(scenario: Scenario, engine: Engine) -> Company | None:
    """The floods of a run, opened; None: there is none.  Errors: UsageError."""
    besides = besides_of_run(scenario)
    if not besides:
        return None
    devices = [device.name for device in scenario.device]
    return in_a_run(besides, engine, devices, START_NS, run_of(scenario).seed)

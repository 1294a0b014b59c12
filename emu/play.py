"""One replay: a capture in, a verdict for every packet out.

Windows of the capture become rows, rows become arrivals, the machine decides them, and what is decided goes to the
annotated capture and to the log, in the order of the frames.  What still waits in a ring is carried into the next
batch, so memory is bounded whatever the capture's size.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from emu.capture.bpf import Filter
from emu.capture.frames import FrameSource
from emu.cores import usable_cores
from emu.engine.loop import end_in_oops, run, run_recorded
from emu.engine.plain import Engine
from emu.errors import EmuError, NothingToPlayError
from emu.in_progress import RunInProgress, rss_peak_bytes
from emu.interrupt import Interruption
from emu.kernel.boot import start_clock
from emu.kernel.iscsi_follow import follow_begin, follow_wire
from emu.kernel.iscsi_follow_state import FOLLOW_STORE_BYTES, MAX_FOLLOWED
from emu.kernel.machine import LATER_ENOUGH, Event
from emu.machine_of import JUMBO_MTU, machine_of
from emu.pacing import Pacer
from emu.second_core import SecondCore
from emu.task import Outcome, Outputs, Pace, Task
from emu.time_slices import TimeSlices
from emu.traffic.arrivals import OFFLOADS, Feed, prepare
from emu.traffic.beside import Playing
from emu.traffic.crafted import crafted_of
from emu.traffic.events import EventReader
from emu.traffic.host import HOST_FRAMES, Host, host_beside
from emu.traffic.inlets import Inlet, device_table
from emu.traffic.tally import Tally, tally_rows, totals_of
from emu.verdicts.expect import refuse_impossible
from emu.verdicts.summary import summarise
from emu.wire.headers import CHECKSUMS, LINKTYPE_ETHERNET

EVENT_LOG = 1 << 16
MOST_AHEAD_BYTES = 2 << 20  # of frames that are read ahead: a batch of large ones would fill memory

Progress = Callable[[FrameSource, Any], None]  # told of the source and the machine, whenever something has been played


def _unseen(_reader: FrameSource, _machine: Any) -> None:
    """Nobody looks."""


class Replay(RunInProgress):
    """A replay in progress."""

    verb = "replay of"

    def __init__(
        self,
        task: Task,
        engine: Engine,
        reader: FrameSource,
        inputs: Sequence[str],
        interruption: Interruption | None = None,
        floods: Sequence[Playing] = (),
        hosts: Mapping[int, Host] | None = None,
    ) -> None:
        """Set the machine up and open the outputs; `inputs` may not be overwritten.

        `floods` are among what `reader` gives, `hosts` who the host of a device is, where that is known already.
        """
        self.crafted = crafted_of(reader.section_comments)
        self.filter = Filter(task.filter)
        machine = machine_of(engine, task.scenario, self.crafted)
        super().__init__(task, engine, machine, 2 * max(task.batch, HOST_FRAMES))
        self.reader = reader
        self.interruption = interruption or Interruption()
        self.floods = floods
        self.feed = self._feed()
        self.events = self._recorded()
        self.hosts = dict(hosts or (self.events.hosts if self.events else {}))  # by device
        self.host = Host(0, False, "")  # of the first device that shows frames
        self.tally_room = 1
        self.tallies = engine.rows(Tally, self.tally_room)
        self._meet_interfaces()
        self.store = self._begin_to_follow()
        self.event_log = engine.rows(Event, EVENT_LOG)
        self.at_event = 0
        self.events_read = 0
        self.first_ns = 0
        self.oops_frame = 0
        self.limited = False
        self.unreadable: EmuError | None = None
        self.pacer: Pacer | None = None
        self.progress: Progress = _unseen
        refuse_impossible(task.expectations, summarise(self._outcome()))
        self._open_outputs(inputs)

    @property
    def octets(self) -> Any:
        """The reader's window."""
        return self.reader.octets

    @property
    def position(self) -> int:
        """Behind all that has been read."""
        return self.reader.position

    def discard(self, offset: int) -> int:
        """Let the reader reuse its window."""
        return self.reader.discard(offset)

    def _hosts_known(self) -> Mapping[int, Host]:
        return self.hosts

    def _begin_to_follow(self) -> Any:
        """Where the last bytes of followed iSCSI connections are remembered; nothing if none are to be followed."""
        if not int(self.machine.config.write_back):
            return None
        self.engine.function(follow_begin)(self.machine)
        return self.engine.view(bytearray(2 * MAX_FOLLOWED * FOLLOW_STORE_BYTES))

    def _feed(self) -> Any:
        replay = self.task.scenario.replay
        feed = self.engine.new(Feed)
        self.engine.fill(
            feed,
            {
                "checksums": CHECKSUMS.index(replay.checksums),
                "offload": OFFLOADS.index(replay.offload),
                "pace": self.task.pace.mode,
                "rate_over": self.task.pace.over,
                "rate_under": self.task.pace.under,
            },
        )
        return feed

    def _meet_interfaces(self) -> None:
        """Say on which device the frames of each interface arrive, and compile the filter for their link types."""
        devices, jumbo = self.task.scenario.device, self.task.scenario.replay.offload == "jumbo"
        interfaces = self.reader.interfaces
        table = device_table(interfaces, self.devices) or [0]
        self.inlets = self.engine.rows(Inlet, len(table))
        for at, dev in enumerate(table):
            mtu = JUMBO_MTU if jumbo else devices[dev].mtu
            self.engine.fill(self.inlets[at], {"dev": dev, "mtu": mtu} | self._host_fields(dev))
        # Ethernet goes without saying: a bad filter is refused before anything is read.
        if self.filter.meet({interface.linktype for interface in interfaces} or {LINKTYPE_ETHERNET}):
            self.program = self.filter.load(self.engine)
        for index, start in enumerate(self.filter.starts):
            self.feed.filter_start[index] = start
        self.engine.fill(self.feed, {"inlets": len(table), "filter_length": self.filter.length})
        self.interfaces_met = len(interfaces)
        if self.floods and len(table) > self.tally_room:
            self.tally_room = 2 * len(table)
            self.tallies = self.engine.grown(self.tallies, self.tally_room)

    def _host_fields(self, dev: int) -> dict[str, int]:
        host = self.hosts.get(dev)
        if host is None:
            return {"host_known": 0}
        family, hi, lo = host.address
        address = {"host_family": family, "host_addr": lo, "host_addr_hi": hi}
        return address | {"host_known": 1, "host_mac": host.mac, "by_direction": host.by_direction}

    def _decide_host(self, dev: int, which: Sequence[int]) -> None:
        """Say who the host is on a device, from some of its frames."""
        crafted = [traffic.host_mac for traffic in self.crafted]
        if dev not in self.hosts:
            self.hosts[dev] = host_beside(self.hosts, self.rows, which, self.reader.octets, self.task.host, crafted)
        if not self.host.because:
            self.host = self.hosts[dev]

    def _recorded(self) -> EventReader | None:
        if self.task.events is None:
            return None
        return EventReader(
            self.task.events, self.engine, len(self.devices), int(self.machine.plan_len), self.task.scenario.digest()
        )

    def run(self, progress: Progress | None = None) -> Outcome:
        """Play the whole capture; the outputs are complete and in place when this returns."""
        started = time.perf_counter()
        cpu_started = time.process_time()
        with self.stack, self.interruption:
            self.pacer = self._pacer(self.interruption)
            self.progress = progress or _unseen
            while True:
                wanted = self._wanted()
                if wanted == 0:
                    self.limited = True
                    break
                count = self._read(wanted)
                if count == 0:
                    break
                self._play(count)
                self.show_progress()
                if self._has_help():
                    SecondCore(self).run()
                    break
            interrupted = self.interruption.happened
            incomplete = self._incomplete(interrupted)
            self._finish(interrupted)
            self._close_outputs(incomplete)
        return self._outcome()._replace(
            incomplete=incomplete,
            interrupted=interrupted,
            wall_seconds=time.perf_counter() - started,
            cpu_seconds=time.process_time() - cpu_started,
            rss_peak_bytes=rss_peak_bytes(),
        )

    def _outcome(self) -> Outcome:
        """How things stand: before the first frame, what a summary will speak of."""
        return Outcome(
            task=self.task,
            machine=self.machine,
            feed=self.feed,
            host=self.host,
            hosts=dict(self.hosts),
            engine=self.engine.name,
            compression=self.reader.compression,
            interfaces=len(self.reader.interfaces),
            skipped_blocks=self.reader.skipped_blocks,
            limited=self.limited,
            incomplete=None,
            damage=self.reader.damage,
            interrupted=False,
            first_ns=self.first_ns,
            oops_frame=self.oops_frame,
            wall_seconds=0.0,
            cpu_seconds=0.0,
            rss_peak_bytes=0,
            crafted=tuple(self.crafted),
            floods=tuple((flood, totals_of(self.tallies[flood.iface])) for flood in self.floods),
        )

    def _wanted(self) -> int:
        if self.task.limit is None:
            return self.task.batch
        return min(self.task.batch, self.task.limit - self.reader.frames)

    def _read(self, wanted: int) -> int:
        if self.kept + max(wanted, HOST_FRAMES) > self.room:
            self.make_room(2 * self.room)
        count = self._next(self.kept, wanted)
        if self.host.because or count == 0:
            return count
        enough = HOST_FRAMES if self.task.limit is None else min(HOST_FRAMES, self.task.limit)
        while count < enough:
            further = self._next(count, enough - count)
            if further == 0:
                break
            count += further
        self._meet_interfaces()
        frames: dict[int, list[int]] = {}
        for at in range(min(count, enough)):
            frames.setdefault(int(self.inlets[int(self.rows[at].iface)].dev), []).append(at)
        for dev, which in frames.items():
            self._decide_host(dev, which)
        self._meet_interfaces()
        return count

    def _has_help(self) -> bool:
        """Whether a second core reads and writes: frames that are there already, for the machine that is fast."""
        cores = self.task.cores or (usable_cores() if self.engine.name == "compiled" else 1)
        waits = self.pacer is not None or self.reader.size is None or not self.host.because
        return cores > 1 and not waits and not self.floods

    def read_further(self, first: int) -> int:
        """Read a batch of rows from rows[first] on, of a source that waits for nobody; how many, 0 at the end."""
        if self.interruption.happened and not self.interruption.input_ended:
            return 0
        if self.unreadable is not None:
            raise self.unreadable
        wanted = self._wanted()
        self.limited = wanted == 0
        count, position = 0, self.reader.position
        try:
            while count < wanted and self.reader.position - position < MOST_AHEAD_BYTES:
                further = self.reader.read(self.rows, first + count, wanted - count)
                if further == 0:
                    break
                count += further
        except EmuError as error:
            if count == 0:
                raise
            self.unreadable = error  # what stands before it is played
        return count

    def _next(self, first: int, wanted: int) -> int:
        return self.interruption.wait_for(lambda: self.reader.read(self.rows, first, wanted))

    def _play(self, count: int) -> None:
        first, last = self.kept, self.kept + count
        if self.pacer is not None:
            self._play_in_time(self.pacer, first, last)
            return
        self.prepare(first, last)
        self.arrive(first, last)
        self._hand_out(last)

    def _play_in_time(self, pacer: Pacer, first: int, last: int) -> None:
        """Play the rows as the clock goes on; after a signal those whose time has not come are not played."""
        slices = TimeSlices(pacer, self.interruption, self.feed, self.rows, self.task.filter is not None)
        while first < last and slices.has_come(first):
            due, until_ns = slices.next(first, last, self.prepare)
            pacer.wait_until(until_ns)
            self.arrive(first, due)
            # What waits in a ring would else be seen with the next frame only, which may be hours away.
            self._advance(due, due, until_ns)
            gone = self._hand_out(due, last - due)
            pacer.written()
            self.show_progress()
            first, last = due - gone, last - gone

    def arrive(self, first: int, last: int) -> None:
        """Let the prepared rows arrive."""
        if int(self.machine.total.frames) == 0:
            self.first_ns = int(self.rows[0].time_ns)
            self.engine.function(start_clock)(self.machine, self.first_ns)
        while first < last:
            followed = self._follow(first, last)
            self._advance(first, followed)
            first = followed

    def _follow(self, first: int, last: int) -> int:
        """Read the iSCSI of the rows up to where the machine must hear of it; the row after them."""
        if self.store is None:
            return last
        rows, octets = self.rows, self.reader.octets
        return int(self.engine.function(follow_wire)(self.machine, rows, first, last, octets, self.store))

    def prepare(self, first: int, last: int) -> None:
        """Make arrivals of the rows; a device that shows its first frame late is told its host by that frame."""
        if len(self.reader.interfaces) != self.interfaces_met:
            self._meet_interfaces()
        if self.floods:
            self.engine.function(tally_rows)(self.rows, first, last, self.tallies)
        while (first := self.prepare_known(first, last)) < last:
            self._decide_host(int(self.inlets[int(self.rows[first].iface)].dev), [first])
            self._meet_interfaces()

    def prepare_known(self, first: int, last: int) -> int:
        """Make arrivals of rows, up to one of an interface or for a host that is not known yet; that one."""
        if len(self.reader.interfaces) != self.interfaces_met:
            return first
        make = self.engine.function(prepare)
        return int(make(self.feed, self.rows, first, last, self.reader.octets, self.program, self.inlets))

    def show_progress(self) -> None:
        """Tell whoever looks."""
        self.progress(self.reader, self.machine)

    def _advance(self, first: int, last: int, until_ns: int = 0) -> None:
        m, rows, function = self.machine, self.rows, self.engine.function
        if self.events is not None:
            first = self._advance_recorded(first, last)
        else:
            while not int(m.oops):
                first, logged = function(run)(m, rows, first, last, until_ns, self.event_log, EVENT_LOG)
                if self.recorder is not None:
                    self.recorder.write(self.event_log, logged)
                full = logged + 4 > EVENT_LOG or int(m.later_len) > LATER_ENOUGH
                self._take_later()
                if first == last and not full:
                    break
        if int(m.oops):
            if int(m.total.oops) + int(m.total.not_played) == 0:
                self.oops_frame = int(m.total.frames)
            function(end_in_oops)(m, rows, first, last)
        self._refuse_limit()

    def _advance_recorded(self, first: int, last: int) -> int:
        assert self.events is not None
        while True:
            first, self.at_event = self.engine.function(run_recorded)(
                self.machine,
                self.rows,
                first,
                last,
                self.events.events,
                self.at_event,
                self.events_read,
                int(self.events.more),
            )
            full = int(self.machine.later_len) > LATER_ENOUGH
            self._take_later()
            if int(self.machine.oops):
                return first
            if self.at_event == self.events_read and self.events.more:
                self.events_read = self.events.chunk()
                self.at_event = 0
            elif first == last and not full:
                return first

    def _incomplete(self, interrupted: bool) -> str | None:
        frames = int(self.machine.total.frames)
        if interrupted:
            return f"interrupted after frame {frames}"
        if self.reader.damage is not None:
            return f"after frame {frames}: {self.reader.damage}"
        return None

    def _finish(self, interrupted: bool) -> None:
        """Let the machine run on, then say of the rest that it is in flight."""
        total = self.machine.total
        if int(total.frames) == int(total.filtered) and not interrupted:
            self._discard_outputs()
            nothing = (
                f"none of {int(total.frames)} frames matches --filter" if int(total.frames) else "no frame to play"
            )
            raise self.reader.damage or NothingToPlayError(f"{self.task.name}: {nothing}")
        if int(total.frames) and not interrupted and not int(self.machine.oops):
            end_ns = int(self.feed.last_time_ns) + self.task.scenario.replay.drain_ns
            self._advance(self.kept, self.kept, end_ns)
        self._end_rows()


def replay(
    task: Task,
    engine: Engine,
    reader: FrameSource,
    inputs: Sequence[str] = (),
    progress: Progress | None = None,
    interruption: Interruption | None = None,
    floods: Sequence[Playing] = (),
    hosts: Mapping[int, Host] | None = None,
) -> Outcome:
    """Replay a capture, `floods` among it, for `hosts`.  Errors: UsageError, CaptureError, NothingToPlayError."""
    return Replay(task, engine, reader, inputs, interruption, floods, hosts).run(progress)


__all__ = ["Outcome", "Outputs", "Pace", "Replay", "Task", "replay"]

"""A live run: what two interfaces give is played as it comes, and what survives goes to the host.

One thread, in turns: wait for a frame or for some milliseconds, read what waits, let it arrive, let the machine come up
to now, hand over what it has delivered.  What is decided goes to the annotated capture and to the log as in a replay,
of which this is one: its frames come from interfaces, its clock is the wall's, and its event stream holds what happened
outside, so that a replay of capture and stream comes to the same verdicts.
"""

import select
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from emu.capture.output import OutputFile
from emu.capture.write import CaptureWriter, format_of
from emu.engine.plain import Engine
from emu.in_progress import rss_peak_bytes
from emu.interrupt import Interruption
from emu.kernel.machine import EVENT_CONTEXT, MAX_OUTSIDE, Packet
from emu.live.frames import LiveFrames
from emu.live.held import HeldFrames
from emu.live.wire import hand_over, select_survivors
from emu.play import Replay
from emu.task import Outcome, Task
from emu.traffic.host import Host

NS_PER_MS = 1_000_000
BURST = 64  # frames that are read before the machine goes on: the first of them waits for the last
HAND_OUT_ROWS = 1024
HAND_OUT_NS = 20 * NS_PER_MS
LOOK_NS = 2 * NS_PER_MS  # how often what happens outside is looked at
TELL_NS = 250 * NS_PER_MS
IDLE_MS = 2  # how long a turn waits for a frame


class Happening(NamedTuple):
    """Something that happens to the machine from outside, as `kernel.machine.Event` has it."""

    event: int
    dev: int
    number: int


class Outside(Protocol):
    """Whatever lets things happen to the machine, or is told how it stands."""

    def look(self, machine: Any) -> list[Happening]:
        """What has happened since the last look."""
        ...


class Ends(NamedTuple):
    """When a live run ends by itself, and what else ends it."""

    seconds: float
    gone: Callable[[], str]  # says what is wrong when one of the interfaces has gone, else nothing


class LiveRun(Replay):
    """A live run in progress."""

    verb = "live run of"
    reader: LiveFrames

    def __init__(
        self,
        task: Task,
        engine: Engine,
        wire: Any,
        host: Host,
        *,
        outside: Sequence[Outside] = (),
        host_capture: str | None = None,
        interruption: Interruption | None = None,
    ) -> None:
        """Set the machine up; `wire` is a `Wire` whose interfaces are open, `host_capture` a file for the host's side.

        Errors: as of a replay.
        """
        self.wire = wire
        self.outside = list(outside)
        self.host_capture: CaptureWriter | None = None
        self.host_capture_name = host_capture
        frames = LiveFrames(engine, wire, task.scenario.device[0].name)
        super().__init__(task, engine, frames, [], interruption, hosts={0: host})
        self.host = host
        engine.fill(self.wire, {"holds": self._holds()})
        self.held = HeldFrames(int(wire.host_fd))
        self.last = 0  # rows[0:last] are there, and rows[0:done] are decided and handed over
        self.done = 0
        self.handed_out_ns = 0
        self.looked_ns = 0
        self.told_ns = 0
        self.poll = select.poll()
        for descriptor in (int(wire.host_fd), int(wire.wire_fd)):
            self.poll.register(descriptor, select.POLLIN)

    def _holds(self) -> bool:
        """Whether any socket may have an emulated reader that comes later than at once."""
        scenario = self.task.scenario
        readers = [scenario.readers.ordinary, scenario.readers.memalloc, *(each.reader for each in scenario.socket)]
        return any(reader not in (None, "immediate", "real") for reader in readers)

    def _open_outputs(self, inputs: Sequence[str]) -> None:
        super()._open_outputs(inputs)
        if self.host_capture_name is None:
            return
        self.host_file = OutputFile(self.host_capture_name, inputs)
        self.opened.append(self.host_file)
        self.stack.callback(self.host_file.abandon)
        self.host_capture = CaptureWriter(
            self.host_file,
            self.engine,
            file_format=format_of(self.host_capture_name),
            comments=self._comments(),
        )
        self.chosen_room = 0

    def run_live(self, ends: Ends, tell: Callable[["LiveRun"], None]) -> Outcome:
        """Play until the time is over, a signal comes or an interface goes; `tell` is called some times a second."""
        started, cpu_started = time.perf_counter(), time.process_time()
        clock_started_ns = time.monotonic_ns()
        incomplete = ""
        with self.stack, self.interruption:
            self._warm()
            while not self.interruption.happened and not incomplete:
                self._turn()
                now_ns = time.monotonic_ns()
                if now_ns - self.told_ns >= TELL_NS:
                    self.told_ns = now_ns
                    tell(self)
                    incomplete = ends.gone()
                    if (now_ns - clock_started_ns) / 1e9 >= ends.seconds or int(self.machine.oops):
                        break
            self._end()
            tell(self)
            self._close_outputs(incomplete or None)
        return self._outcome()._replace(
            incomplete=incomplete or None,
            interrupted=False,
            wall_seconds=time.perf_counter() - started,
            cpu_seconds=time.process_time() - cpu_started,
            rss_peak_bytes=rss_peak_bytes(),
        )

    def now_ns(self) -> int:
        """The time of the wire's clock."""
        return time.monotonic_ns() + int(self.wire.epoch_ns)

    def _warm(self) -> None:
        """Have everything compiled before the first frame waits."""
        self.prepare(0, 0)
        self._advance(0, 0)
        self._hand_over()

    def _turn(self) -> None:
        """Wait, read, play, hand over."""
        self.poll.poll(0 if int(self.machine.poll_len) else IDLE_MS)
        count = self.reader.read(self.rows, self.last, BURST)
        now_ns = self.now_ns()
        if count:
            first, self.last = self.last, self.last + count
            self.prepare(first, self.last)
            self.arrive(first, self.last)
        if now_ns - self.looked_ns >= LOOK_NS:
            self.looked_ns = now_ns
            self._look(now_ns)
        if int(self.machine.total.frames):
            self._advance(self.last, self.last, now_ns)
        self._hand_over()
        many = self.last >= HAND_OUT_ROWS or self.last + BURST > self.room or self.reader.is_half_full
        if many or now_ns - self.handed_out_ns >= HAND_OUT_NS:
            self._hand_out_live(now_ns)

    def _look(self, now_ns: int) -> None:
        """Let happen what has happened outside; before the first frame the machine's clock stands."""
        for each in self.outside:
            happened = each.look(self.machine)
            if happened and int(self.machine.total.frames):
                self._happen([*happened, Happening(EVENT_CONTEXT, 0, 0)], now_ns)
        if self.held:
            self.held.release(self.machine)

    def _happen(self, happened: Sequence[Happening], now_ns: int) -> None:
        for at in range(0, len(happened), MAX_OUTSIDE):
            some = happened[at : at + MAX_OUTSIDE]
            for place, each in enumerate(some):
                self.engine.fill(self.machine.outside[place], each._asdict() | {"time_ns": now_ns})
            self.engine.fill(self.machine, {"outside_len": len(some)})
            self._advance(self.last, self.last, now_ns)

    def _hand_over(self) -> None:
        """Give the host what has survived, and keep what an emulated reader has to come for first."""
        give = self.engine.function(hand_over)
        while True:
            self.done = int(give(self.wire, self.machine, self.rows, self.done, self.last, self.reader.octets))
            if self.done == self.last or not self._is_held(self.done):
                return
            self.held.keep(self.rows[self.done], self.reader.octets)
            self.done += 1

    def _is_held(self, at: int) -> bool:
        return bool(int(self.wire.holds)) and int(self.rows[at].verdict) != 0

    def _hand_out_live(self, now_ns: int) -> None:
        """Give what is decided to the outputs."""
        self.handed_out_ns = now_ns
        if self.last == 0:
            return
        self._write_host_side(self.done)
        gone = self._hand_out(self.last)
        assert gone == self.done, "what is decided has been handed over"
        self.last -= gone
        self.done = 0

    def _write_host_side(self, last: int) -> None:
        if self.host_capture is None:
            return
        if last > self.chosen_room:
            self.chosen_room = 2 * last
            self.chosen = self.engine.rows(Packet, self.chosen_room)
        count = int(self.engine.function(select_survivors)(self.rows, 0, last, self.chosen))
        self.host_capture.write(self.chosen, 0, count, self.reader)

    def _end(self) -> None:
        """The run is over: what is still in a ring stays in flight."""
        now_ns = self.now_ns()
        if int(self.machine.total.frames):
            self._advance(self.last, self.last, now_ns)
        self._hand_over()
        self._hand_out_live(now_ns)
        self.kept = self.last
        self._end_rows()
        if self.host_capture is not None:
            self.host_capture.close()
            self.host_file.finish()

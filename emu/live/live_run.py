"""A live run: what two interfaces give is played as it comes, and what survives goes to the host.

One thread.  The turns themselves are `emu.live.serve`; every few milliseconds Python looks at what has happened
outside, and hands to the annotated capture and to the log what is decided.  It is a replay whose frames come from
interfaces, whose clock is the wall's, and whose event stream holds what happened outside, so that a replay of capture
and stream comes to the same verdicts.
"""

import os
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from emu.capture.output import OutputFile
from emu.capture.pcap import Interface
from emu.capture.write import CaptureWriter, format_of
from emu.engine.loop import end_in_oops
from emu.engine.plain import LIVE, Engine
from emu.errors import UsageError
from emu.in_progress import rss_peak_bytes
from emu.interrupt import Interruption
from emu.kernel.machine import DIR_INBOUND, MAX_OUTSIDE, Packet
from emu.live.frames import LiveFrames
from emu.live.held import Held, HeldFrames
from emu.live.ring import SCRATCH_BYTES
from emu.live.serve import BURST, Turn, serve
from emu.live.wire import RECENT, is_held, select_survivors
from emu.play import EVENT_LOG, Replay
from emu.scenario import readers_of
from emu.task import Outcome, Outputs, Task
from emu.traffic.host import Host
from emu.wire.headers import LINKTYPE_ETHERNET

NS_PER_MS = 1_000_000
HAND_OUT_ROWS = 1024
MOST_ROWS = RECENT  # behind one that waits in the ring; more of them wait in the interfaces' queues
HAND_OUT_NS = 20 * NS_PER_MS
LOOK_NS = 2 * NS_PER_MS  # how often what happens outside is looked at
TELL_NS = 250 * NS_PER_MS


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


class Released(NamedTuple):
    """What a writer of captures asks of whoever has the frames."""

    octets: Any
    interfaces: Sequence[Interface]


def refuse_double(host_capture: str | None, outputs: Outputs) -> None:
    """The host's side has a file of its own.  Errors: UsageError when another output has that name."""
    others = (outputs.write, outputs.log, outputs.record_events)
    if host_capture is not None and os.path.realpath(host_capture) in [os.path.realpath(o) for o in others if o]:
        raise UsageError(f"--host-capture {host_capture}: is asked for twice; name another output")


class LiveRun(Replay):
    """A live run in progress."""

    verb = "live run of"
    use = LIVE
    reader: LiveFrames

    def __init__(
        self,
        task: Task,
        engine: Engine,
        wire: Any,
        host: Host,
        *,
        memories: Sequence[Any] = (),
        outside: Sequence[Outside] = (),
        host_capture: str | None = None,
        interruption: Interruption | None = None,
    ) -> None:
        """Set the machine up; `wire` is a `Wire` whose interfaces are open, `memories` are their rings'.

        The host's interface comes first in `memories`; `host_capture` is a file for the host's side.

        Errors: as of a replay.
        """
        self.wire = wire
        # Where an interface is a TAP it has no ring, and its memory is never looked at.
        self.memories = list(memories) or [engine.view(bytearray(1)), engine.view(bytearray(1))]
        self.scratch = engine.view(bytearray(2 * SCRATCH_BYTES))
        self.outside = list(outside)
        self.host_capture: CaptureWriter | None = None
        self.host_capture_name = host_capture
        frames = LiveFrames(engine, task.scenario.device[0].name)
        super().__init__(task, engine, frames, [], interruption, hosts={0: host})
        self.host = host
        engine.fill(self.wire, {"holds": self._holds()})
        self.held = HeldFrames(int(wire.host_fd))
        self.turn = engine.new(Turn)
        self.followed = self.store if self.store is not None else engine.view(bytearray(1))
        # Python's turn keeps frames waiting: often and short where it has work, else seldom.
        has_work = bool(self.outside) or self._holds() or self.recorder is not None
        self.round_ns = LOOK_NS if has_work else HAND_OUT_NS
        self.handed_out_ns = 0
        self.looked_ns = 0
        self.told_ns = 0

    def _holds(self) -> bool:
        """Whether any socket may have an emulated reader that comes later than at once."""
        return any(reader not in ("immediate", "real") for reader in readers_of(self.task.scenario).values())

    def _open_outputs(self, inputs: Sequence[str]) -> None:
        refuse_double(self.host_capture_name, self.task.outputs)
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
            while not self.interruption.happened and not incomplete:
                self._round()
                now_ns = time.monotonic_ns()
                if now_ns - self.told_ns >= TELL_NS:
                    self.told_ns = now_ns
                    tell(self)
                    self._let_see()
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

    def run_rounds(self, rounds: int) -> Outcome:
        """Play so many rounds, of some milliseconds each."""
        with self.stack:
            for _ in range(rounds):
                self._round()
            self._end()
            self._close_outputs(None)
        return self._outcome()

    def _turns(self, until_ns: int) -> int:
        """Take turns until then, or until there is something to do; the time of the last one."""
        now_ns = self._serve(until_ns)
        while self._is_held_back():
            self._hold()
            now_ns = self._serve(0, int(self.turn.last))  # reads none: what is there has its turn first
        return now_ns

    def _serve(self, until_ns: int, most_rows: int = MOST_ROWS) -> int:
        """The same up to a frame that is held; so many rows there may be."""
        self.reader.make_room()
        turn = self.turn
        if int(turn.last) + 2 * BURST > self.room:
            self.make_room(min(2 * self.room, MOST_ROWS))
        now_ns = int(
            self.engine.function(serve)(
                self.wire,
                self.memories[0],
                self.memories[1],
                self.scratch,
                turn,
                self.machine,
                self.feed,
                self.rows,
                min(self.room, most_rows),
                self.reader.octets,
                self.followed,
                self.program,
                self.inlets,
                self.event_log,
                EVENT_LOG,
                until_ns,
            )
        )
        self.reader.read_to(int(turn.at), int(self.wire.frames))
        if self.first_ns == 0 and int(turn.arrived):
            self.first_ns = int(self.rows[0].time_ns)
        if int(turn.logged):
            if self.recorder is not None:
                self.recorder.write(self.event_log, int(turn.logged))
            turn.logged = 0
        self._take_later()
        self._refuse_limit()
        return now_ns

    def _round(self) -> None:
        """Some milliseconds of turns, and what has to be done after them."""
        now_ns = self._turns(time.monotonic_ns() + int(self.wire.epoch_ns) + self.round_ns)
        if now_ns - self.looked_ns >= LOOK_NS:
            self.looked_ns = now_ns
            self._look(now_ns)
        many = int(self.turn.last) >= HAND_OUT_ROWS or self.reader.is_half_full
        if many or now_ns - self.handed_out_ns >= HAND_OUT_NS:
            self._hand_out_live(now_ns)

    def _look(self, now_ns: int) -> None:
        """Let happen what has happened outside; before the first frame the machine's clock stands."""
        for each in self.outside:
            happened = each.look(self.machine)
            if happened and int(self.machine.total.frames):
                self._happen(happened, now_ns)
        if self.held and (released := self.held.release(self.machine)):
            self._hand_out_live(now_ns)  # what has come before goes to the host's capture before
            self._write_released(released, now_ns)

    def _happen(self, happened: Sequence[Happening], now_ns: int) -> None:
        for at in range(0, len(happened), MAX_OUTSIDE):
            some = happened[at : at + MAX_OUTSIDE]
            for place, each in enumerate(some):
                self.engine.fill(self.machine.outside[place], each._asdict() | {"time_ns": now_ns})
            self.engine.fill(self.machine, {"outside_len": len(some)})
            self._turns(0)

    def _is_held_back(self) -> bool:
        """Whether the next frame to be handed over has to wait for an emulated reader."""
        done = int(self.turn.done)
        if not int(self.wire.holds) or done == int(self.turn.arrived):
            return False
        return bool(is_held(self.wire, self.machine, self.rows[done]))

    def _hold(self) -> None:
        """Keep the frame until it has been read."""
        self.held.keep(self.rows[int(self.turn.done)], self.reader.octets)
        self.turn.done += 1

    def _hand_out_live(self, now_ns: int) -> None:
        """Give what is decided to the outputs."""
        self.handed_out_ns = now_ns
        turn = self.turn
        last, done = int(turn.last), int(turn.done)
        if last == 0 or int(turn.arrived) < last:  # what waits to arrive does so in the next turn
            return
        self._write_host_side(done)
        gone = self._hand_out(last)
        assert gone == done, "what is decided has been handed over"
        self.engine.fill(turn, {"last": last - gone, "arrived": last - gone, "done": 0, "at": self.reader.position})

    def _write_host_side(self, last: int) -> None:
        if self.host_capture is None:
            return
        if last >= self.chosen_room:
            self.chosen_room = 2 * last + 1
            self.chosen = self.engine.rows(Packet, self.chosen_room)
        count = int(self.engine.function(select_survivors)(self.wire, self.rows, 0, last, self.chosen))
        self.host_capture.write(self.chosen, 0, count, self.reader)

    def _write_released(self, released: Sequence[Held], now_ns: int) -> None:
        """Frames that the host has got only now."""
        if self.host_capture is None:
            return
        rows = self.engine.rows(Packet, len(released))
        at = 0
        for place, held in enumerate(released):
            size = len(held.octets)
            said = {"frame": held.frame, "packet_id": held.frame, "own_id": 1, "file_time_ns": now_ns}
            said |= {"offset": at, "caplen": size, "length": size}
            self.engine.fill(rows[place], said | {"direction": DIR_INBOUND, "linktype": LINKTYPE_ETHERNET})
            at += size
        octets = self.engine.view(bytearray().join(held.octets for held in released))
        source: Any = Released(octets, self.reader.interfaces)
        self.host_capture.write(rows, 0, len(released), source)

    def _let_see(self) -> None:
        """Whoever watches the captures sees them grow."""
        if self.annotated is not None:
            self.annotated_file.flush()
        if self.host_capture is not None:
            self.host_file.flush()

    def _end(self) -> None:
        """The run is over: what is still in a ring stays in flight."""
        turn = self.turn
        now_ns = self._turns(0)
        while int(turn.arrived) < int(turn.last) and not int(self.machine.oops):
            now_ns = self._turns(0)
        if int(self.machine.oops):
            self._bury()
        self._hand_out_live(now_ns)
        self.kept = int(turn.last)
        self._write_host_side(self.kept)
        self._end_rows()
        if self.host_capture is not None:
            self.host_capture.close()
            self.host_file.finish()

    def _bury(self) -> None:
        """The kernel has died of a bug of the patch: what it had received dies with it."""
        turn = self.turn
        if int(self.machine.total.oops) + int(self.machine.total.not_played) == 0:
            self.oops_frame = int(self.machine.total.frames)
        self.engine.function(end_in_oops)(self.machine, self.rows, int(turn.arrived), int(turn.last))
        self.engine.fill(turn, {"arrived": int(turn.last), "done": int(turn.last)})

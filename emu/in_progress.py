"""What is played, by a capture or in a closed loop, and how its verdicts reach the outputs.

A run has one machine and one batch of rows.  What is decided goes to the annotated capture and to the log, in the order
of the frames; what still waits in a ring is carried into the next batch, so memory is bounded however long it takes.
"""

import os
import resource
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import emu
from emu.capture.annotate import AnnotatedWriter
from emu.capture.output import STDOUT, OutputFile
from emu.engine.loop import leave_in_flight, resolved, rows_of_later, shift_offsets
from emu.engine.plain import REPLAY, Engine
from emu.errors import UsageError
from emu.interrupt import Interruption
from emu.kernel.invariants import HOLDS, SENTENCES, check_conservation, check_structures
from emu.kernel.machine import LIMITS, Packet
from emu.kernel.policy import RULES
from emu.pacing import Pacer
from emu.scenario_file import tables_of
from emu.task import Outputs, Task
from emu.traffic.events import EventWriter, header_of
from emu.traffic.host import Host
from emu.verdicts.log import LogWriter
from emu.verdicts.summary import netdev_names

MAX_WAITING = 1 << 18  # frames kept behind one that waits in the ring: some 120 MB of rows when compiled


def invariants_hold(engine: Engine, m: Any, check: Callable[[Any], int]) -> None:
    """Raise AssertionError naming the frame when an invariant of the machine is broken: a bug of ours."""
    broken = engine.function(check)(m)
    if broken != HOLDS:
        raise AssertionError(f"frame {int(m.total.frames)}: broken invariant: {SENTENCES[broken]}")


def rss_peak_bytes() -> int:
    """The most memory that this process has held; getrusage would count that of the process that started it."""
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="utf-8").splitlines() if status.exists() else []
    peaks = [int(line.split()[1]) for line in lines if line.startswith("VmHWM:")]
    return (peaks or [resource.getrusage(resource.RUSAGE_SELF).ru_maxrss])[0] * 1024


class RunInProgress:
    """A run in progress: its machine, its rows, its outputs."""

    verb = ""  # what is done to the task, for the comment of the capture
    use = REPLAY  # what the engine is used for

    def __init__(self, task: Task, engine: Engine, machine: Any, room: int) -> None:
        """A batch of `room` rows; `open_outputs` comes when nothing can be refused any more."""
        self.task = task
        self.engine = engine
        self.machine = machine
        self.devices = [device.name for device in task.scenario.device]
        self.netdevs = list(self.devices)  # and the upper devices, as they appear
        self.room = room
        self.rows = engine.rows(Packet, room)
        self.kept = 0
        self.later_room = 64
        self.later = engine.rows(Packet, self.later_room)
        self.later_kept = 0  # events that wait for their place among the rows

    @property
    def octets(self) -> Any:
        """The window in which the frames' bytes stand, as the engine indexes it."""
        raise NotImplementedError

    @property
    def position(self) -> int:
        """The offset behind all bytes of the window."""
        raise NotImplementedError

    def discard(self, offset: int) -> int:
        """Give up the bytes before an offset; kept rows' offsets shrink by what is returned."""
        raise NotImplementedError

    def _open_outputs(self, inputs: Sequence[str]) -> None:
        outputs, scenario = self.task.outputs, self.task.scenario
        _refuse_doubles(outputs)
        self.stack = ExitStack()
        self.opened: list[OutputFile | LogWriter] = []
        self.annotated: AnnotatedWriter | None = None
        self.log: LogWriter | None = None
        self.recorder: EventWriter | None = None
        self.stack.callback(self._forget_outputs)
        with self.stack:
            if outputs.write is not None:
                self.annotated_file = OutputFile(outputs.write, inputs)
                self._opened(self.annotated_file)
            if outputs.log is not None:
                self.log = LogWriter(
                    outputs.log,
                    engine_name=self.engine.name,
                    devices=self.netdevs,
                    rows=outputs.log_rows,
                    policy=scenario.policy.name,
                    inputs=inputs,
                )
                self._opened(self.log)
            if outputs.record_events is not None:
                self.recorder_file = OutputFile(outputs.record_events, inputs)
                self._opened(self.recorder_file)
                header = header_of(scenario.digest(), tables_of(scenario), self._hosts_known())
                self.recorder = EventWriter(self.recorder_file, self.engine, header)
                self.engine.fill(self.machine.config, {"recording": 1})
            if outputs.write is not None:
                self.annotated = AnnotatedWriter(
                    self.annotated_file,
                    self.engine,
                    annotate=outputs.annotate,
                    policy=scenario.policy.name,
                    rules=RULES,
                    devices=self.devices,
                    comments=self._comments(),
                )
            self.stack.pop_all()
        for output in self.opened:
            self.stack.callback(output.abandon)

    def _hosts_known(self) -> Mapping[int, Host]:
        """Who the host is on each device, as far as that is known before the first frame."""
        return {}

    def _forget_outputs(self) -> None:
        """They could not all be opened: none of them is left behind."""
        for output in self.opened:
            output.discard()

    def _opened(self, output: OutputFile | LogWriter) -> None:
        self.opened.append(output)

    def _comments(self) -> list[str]:
        scenario = self.task.scenario
        policy = f"policy {scenario.policy.name}, scenario sha256 {scenario.digest()}"
        return [f"emu {emu.__version__} {self.verb} {self.task.name}: {policy}"]

    def _pacer(self, interruption: Interruption) -> Pacer | None:
        """What keeps the run from going faster than it is to; None: nothing does."""
        if self.task.realtime is None:
            return None
        return Pacer(self.task.realtime, interruption, None if self.annotated is None else self.annotated_file)

    def _hand_out(self, last: int, coming: int = 0) -> int:
        """Give what is decided to the outputs, keep the rest for the next batch; how many rows have gone.

        Behind `last` stand `coming` rows that have not arrived yet.
        """
        done = self.decided(0, last)
        self._write(0, done)
        self.keep(done, last, coming)
        return done

    def keep(self, first: int, last: int, coming: int = 0) -> None:
        """Keep rows[first:last], and `coming` rows behind them, for the next batch."""
        self.to_front(first, last + coming)
        self.let_bytes_go(0, last + coming - first)
        self.kept = last - first

    def make_room(self, rows: int) -> None:
        """Have room for so many rows at the least."""
        if rows > self.room:
            self.room = rows
            self.rows = self.engine.grown(self.rows, rows)

    def decided(self, first: int, last: int) -> int:
        """The row of rows[first:last] from which on verdicts are still open."""
        done = int(self.engine.function(resolved)(self.rows, first, last))
        invariants_hold(self.engine, self.machine, check_conservation)
        if last - done > MAX_WAITING:
            raise UsageError(
                f"{self.task.name}: frame {int(self.rows[done].frame)}: more than {MAX_WAITING} frames arrive before "
                "the CPU has taken this one; the clock stands still or runs too fast: give it a pace (--pps 100k)"
            )
        return done

    def to_front(self, first: int, last: int) -> None:
        """Move rows[first:last] to the front, over those that are no longer needed."""
        self.engine.move(self.rows, first, last - first)
        self.engine.fill(self.machine, {"seq_base": int(self.machine.seq_base) + first})

    def let_bytes_go(self, first: int, last: int) -> None:
        """Let go of the bytes of all frames but those of rows[first:last]."""
        shift = self.discard(int(self.rows[first].offset) if first < last else self.position)
        if shift:
            self.engine.function(shift_offsets)(self.rows, first, last, shift)

    def _take_later(self) -> None:
        """Turn the machine's events of packets into rows of the log, and make room for further ones."""
        fresh = int(self.machine.later_len)
        if fresh == 0:
            return
        if self.log is not None:
            if self.later_kept + fresh > self.later_room:
                self.later_room = 2 * (self.later_kept + fresh)
                self.later = self.engine.grown(self.later, self.later_room)
            self.engine.function(rows_of_later)(self.machine, self.later, self.later_kept)
            self.later_kept += fresh
        self.engine.fill(self.machine, {"later_len": 0})

    def _write(self, first: int, last: int) -> None:
        self.write_capture(first, last, int(self.machine.oops))
        self.write_log(first, last)

    def write_capture(self, first: int, last: int, oops_bug: int) -> None:
        """Write rows[first:last] into the annotated capture; `oops_bug` is what had killed the kernel by then."""
        if self.annotated is not None:
            self.annotated.write(self.rows, first, last, self.octets, oops_bug)

    def write_log(self, first: int, last: int) -> None:
        """Write rows[first:last] into the log, and what happened after they had been accepted."""
        if self.log is not None:
            self._write_log(self.log, first, last)

    def _write_log(self, log: LogWriter, first: int, last: int) -> None:
        """The packets that are decided, in frame order, and behind each what happened before the next one arrived."""
        if int(self.machine.netdevs) != len(self.netdevs):
            self.netdevs[:] = netdev_names(self.machine, self.task.scenario)
        written, event = first, 0
        while first < last and event < self.later_kept:
            after_frame = int(self.later[event].decided_after)
            upto = first + after_frame - int(self.rows[first].frame) + 1
            if upto > last:
                break
            same = event + 1
            while same < self.later_kept and int(self.later[same].decided_after) == after_frame:
                same += 1
            log.write(self.rows, written, max(upto, written))
            log.write(self.later, event, same)
            written, event = max(upto, written), same
        log.write(self.rows, written, last)
        self.later_kept -= event
        self.engine.move(self.later, event, self.later_kept)

    def _refuse_limit(self) -> None:
        """Say which fixed maximum was reached, if one was."""
        m = self.machine
        if int(m.limit_hit):
            raise UsageError(
                f"{self.task.name}: frame {int(m.total.frames)}: the machine holds {LIMITS[int(m.limit_hit)]} and none "
                "of them can go; play less at once (--limit, --filter) or let the sockets be read (readers.ordinary)"
            )

    def _end_rows(self) -> None:
        """Say of what is still undecided that it is in flight, and hand out the rest."""
        self.engine.function(leave_in_flight)(self.machine, self.rows, 0, self.kept)
        self._write(0, self.kept)
        if self.log is not None:
            self.log.write(self.later, 0, self.later_kept)
        invariants_hold(self.engine, self.machine, check_conservation)
        invariants_hold(self.engine, self.machine, check_structures)

    def _discard_outputs(self) -> None:
        """Nothing was played: leave no unfinished file behind."""
        self.stack.pop_all()
        for output in self.opened:
            output.discard()

    def _close_outputs(self, incomplete: str | None) -> None:
        if self.annotated is not None:
            self.annotated.close(incomplete)
            self.annotated_file.finish()
        if self.log is not None:
            self.log.close(incomplete)
        if self.recorder is not None:
            self.recorder_file.finish()
        self.stack.pop_all()
        self.engine.finished(self.use)


def _refuse_doubles(outputs: Outputs) -> None:
    wanted = (outputs.write, outputs.log, outputs.record_events)
    names = [
        name for name in wanted if name not in (None, STDOUT) and (Path(name).is_file() or not Path(name).exists())
    ]
    places = [os.path.realpath(name) for name in names]
    for place, name in zip(places, names, strict=True):
        if places.count(place) > 1:
            raise UsageError(f"{name}: is asked for twice; name another output")

"""The processes of `emu.apart`, seen from who has started them."""

import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from multiprocessing.connection import Connection, Pipe, wait
from typing import Any

from emu.apart import ASKS, BEGINS, DONE, ENDS, FAILED, GO, INTERRUPTED, SAID, STOP, Job
from emu.errors import WorkerDiedError
from emu.interrupt import Interruption
from emu.reached import Reached, Show


def play_apart(jobs: Sequence[Job], at_once: int, say: Callable[[str], None]) -> Iterator[Any]:
    """The results in the order of the jobs, each as soon as those before it are there.

    After a signal no further job begins, those that run are told to stop, and what they return is given.  Errors:
    what the first job that fails has raised, in the order of the jobs; WorkerDiedError; KeyboardInterrupt, behind what
    there is to give, when a job was stopped before it had anything to give; at once at a second signal.
    """
    with _Workers(jobs, at_once, say) as workers:
        interruption = Interruption()
        for number in range(len(jobs)):
            with interruption:
                ended = workers.until(number, interruption)
            if ended is None:
                continue
            kind, result = ended
            if kind == FAILED:
                raise result
            if kind == DONE:
                yield result
        if interruption.happened and workers.unplayed:
            raise KeyboardInterrupt


class _Worker:
    """A process that does one job."""

    def __init__(self, number: int, job: Job) -> None:
        self.number = number
        self.job = job
        self.shows = ExitStack()
        self.show: Show | None = None
        self.channel, theirs = Pipe()
        with theirs:
            os.set_inheritable(theirs.fileno(), True)
            command = [sys.executable, "-P", "-m", "emu.apart_worker", str(theirs.fileno())]
            # Standard input and what a shell has opened are the worker's too: a capture may be called /dev/fd/63.
            self.process = subprocess.Popen(  # noqa: S603 - ourselves
                command, stdout=subprocess.DEVNULL, close_fds=False, process_group=0, env=_environment()
            )
        self.tell((job.play, job.arguments))

    def tell(self, message: Any) -> None:
        """Tell the worker something; one that is gone is noticed where its end is read."""
        try:
            self.channel.send(message)
        except OSError:
            return

    def died(self) -> WorkerDiedError:
        """What to say of a worker that has gone without a word."""
        code = self.process.wait()
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        why = "; when memory is short, run fewer at once: --jobs 1" if -code == signal.SIGKILL else ""
        return WorkerDiedError(f"{self.job.name}: the process that played it {how}{why}")

    def close(self) -> None:
        """End it, if it has not ended by itself."""
        self.shows.close()
        self.channel.close()
        self.process.kill()
        self.process.wait()


class _Workers:
    """The workers that run, and what has come of those that have ended."""

    def __init__(self, jobs: Sequence[Job], at_once: int, say: Callable[[str], None]) -> None:
        self._waiting = deque(enumerate(jobs))
        self._at_once = at_once
        self._say = say
        self._running: dict[Connection, _Worker] = {}
        self._ended: dict[int, tuple[str, Any]] = {}
        self._compiling: _Worker | None = None
        self._asking: list[_Worker] = []
        self._stopped = False
        self._failed_at = len(jobs)

    @property
    def unplayed(self) -> bool:
        """Whether a job has nothing to give because it was stopped."""
        return bool(self._waiting) or any(kind == INTERRUPTED for kind, _ in self._ended.values())

    def until(self, number: int, interruption: Interruption) -> tuple[str, Any] | None:
        """How a job has ended; None: it has not begun, and does not any more."""
        while number not in self._ended:
            if interruption.happened:
                self._stop()
                if not self._running:
                    break
                self._hear(None)
                continue
            self._start()
            interruption.wait_for(lambda: len(wait(list(self._running))))
            if not interruption.happened:
                self._hear(0)
        return self._ended.get(number)

    def _start(self) -> None:
        while self._waiting and len(self._running) < self._at_once and self._waiting[0][0] <= self._failed_at:
            worker = _Worker(*self._waiting.popleft())
            self._running[worker.channel] = worker

    def _stop(self) -> None:
        if not self._stopped:
            self._stopped = True
            for worker in self._running.values():
                worker.tell(STOP)

    def _hear(self, seconds: float | None) -> None:
        """Take what the workers have to say; None: wait for it."""
        for channel in wait(list(self._running), seconds):
            assert isinstance(channel, Connection)
            worker = self._running[channel]
            try:
                kind, *rest = channel.recv()
            except (EOFError, ConnectionResetError):
                kind, rest = FAILED, [worker.died()]
            if kind in (DONE, FAILED, INTERRUPTED):
                self._end(worker, kind, rest[0])
            else:
                self._take(worker, kind, rest)

    def _take(self, worker: _Worker, kind: str, rest: list[Any]) -> None:
        if kind == SAID:
            self._say(rest[0])
        elif kind == ASKS:
            self._asking.append(worker)
            self._give_leave()
        elif kind == BEGINS:
            worker.show = worker.shows.enter_context(worker.job.watch(*rest))
        elif kind == ENDS:
            worker.shows.close()
            worker.show = None
        elif worker.show is not None:
            worker.show(Reached(*rest))

    def _end(self, worker: _Worker, kind: str, result: Any) -> None:
        self._ended[worker.number] = (kind, result)
        if kind == FAILED:
            self._failed_at = min(self._failed_at, worker.number)
        del self._running[worker.channel]
        worker.close()
        if worker in self._asking:
            self._asking.remove(worker)
        if worker is self._compiling:
            self._compiling = None
        self._give_leave()

    def _give_leave(self) -> None:
        """One compiles, until its work is done; the others then find in the cache what it has compiled."""
        if self._compiling is None and self._asking:
            self._compiling = self._asking.pop(0)
            self._compiling.tell(GO)

    def __enter__(self) -> "_Workers":
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._running.values():
            worker.close()


def _environment() -> dict[str, str]:
    """Ours, and where modules are found: the worker's Python finds them in the same places."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(os.path.abspath(place) for place in sys.path)}  # noqa: PTH100

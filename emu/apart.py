"""Work that is done at once, each piece in a process of its own; what comes back does not depend on how many there are.

A worker is a fresh Python, not a fork: numba and polars have threads, which a fork would lose.  It is no child of the
terminal's Ctrl-C either: whoever has started it hears that, and tells it once to stop, so that it closes its outputs.
Both talk over one pipe.  When this end of it is gone, so is the worker.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

from emu.cores import usable_cores
from emu.engine.choose import FRAME_BYTES, PLAIN_FRAMES_PER_SECOND, WORTH_LOADING_BYTES, choose_engine
from emu.engine.plain import REPLAY, RUN
from emu.errors import UsageError
from emu.reached import Show

# Measured on one core of a 2-core cloud machine with CPython 3.11.
WORKER_S = 1.5  # what the second process takes until it plays: Python, numba, the compiled code
COMPILED_BYTES_PER_S = {REPLAY: 1_000_000_000, RUN: 100_000_000}

GO, STOP = "go", "stop"  # what a worker is told
SAID, ASKS, BEGINS, AT, ENDS, DONE, FAILED, INTERRUPTED = (  # what it tells
    "said",
    "asks",  # for leave to compile
    "begins",  # something whose progress is to be seen
    "at",
    "ends",
    "done",
    "failed",
    "interrupted",  # before there was anything to tell
)


class Teller(Protocol):
    """What a job tells whoever has started it."""

    def say(self, sentence: str) -> None:
        """Say something that is no result."""
        ...

    def watch(self, what: str, lasts_ns: int) -> AbstractContextManager[Show | None]:
        """Show how far something is that takes so many virtual ns (0: that is not known)."""
        ...


class Ended(Protocol):
    """What a job returns."""

    @property
    def interrupted(self) -> bool:
        """Whether a signal has ended it."""
        ...


class Job(NamedTuple):
    """A piece of work: `play(teller, *arguments)`, which may be called in another process; so may be what it returns.

    `watch` stays in this one: it is what the teller's leads to.
    """

    name: str
    play: Callable[..., Any]
    arguments: tuple[Any, ...]
    watch: Callable[[str, int], AbstractContextManager[Show | None]]


def check_jobs(jobs: int | None) -> int | None:
    """How many are to be played at once.  Errors: UsageError for none at all."""
    if jobs is not None and jobs < 1:
        raise UsageError(f"--jobs {jobs}: expected 1 or more; leave it away for as many as there are cores")
    return jobs


def worth_at_once(engine: str, size: int, use: str, jobs: int) -> int:
    """How many jobs to do at once where nobody has said it: one by one where other processes would not be sooner.

    `size` is how many bytes each plays, `engine` one of ENGINES.
    """
    most = min(usable_cores(), jobs)
    spared = jobs - -(-jobs // most)
    if not spared or size < WORTH_LOADING_BYTES:
        return 1
    if spared * size / COMPILED_BYTES_PER_S[use] > WORKER_S:
        return most
    chosen, _ = choose_engine(engine, size, use)
    slowly = spared * size / FRAME_BYTES / PLAIN_FRAMES_PER_SECOND
    return most if chosen.name == "plain" and slowly > WORKER_S else 1


def play_each(jobs: Sequence[Job], at_once: int, say: Callable[[str], None]) -> Iterator[Any]:
    """The results in the order of the jobs: of the same bytes, however many are done at once."""
    if min(at_once, len(jobs)) > 1:
        from emu.workers import play_apart  # what it imports takes a moment

        yield from play_apart(jobs, at_once, say)
        return
    for job in jobs:
        ended = job.play(_Here(say, job.watch), *job.arguments)
        yield ended
        if ended.interrupted:
            return


class _Here(NamedTuple):
    """The teller of a job that is done in this process."""

    say: Callable[[str], None]
    watch: Callable[[str, int], AbstractContextManager[Show | None]]

"""The second core of a replay: it writes and reads while the machine decides on the first.

One batch is ahead of the machine, read and dissected, and one behind it, on its way into the annotated capture:

    rows   | written | being written | wait in a ring | arrive now | prepared | being read

Who does what changes no byte: the batches are the same, in the same order, and the two meet after each.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from emu.play import Replay

ROOM_BATCHES = 10  # rows move to the front once in so many batches


class Ahead(NamedTuple):
    """What has been read: so many rows, of which the first are prepared."""

    read: int
    prepared: int


class SecondCore:
    """Plays what is left of a replay with two threads; `replay` has played its first batch."""

    def __init__(self, replay: "Replay") -> None:
        """All rows that wait are at the front, and nothing is on its way into a file."""
        self._replay = replay
        replay.make_room(ROOM_BATCHES * replay.task.batch)
        self._written = 0  # rows before this one are no longer needed
        self._open = 0  # the first row whose verdict is open
        self._last = replay.kept  # behind the last one that has arrived
        self._coming = 0  # rows behind it that are prepared

    def run(self) -> None:
        """Play to the end, or to a signal.  Rows that wait are at the front again, all others are written."""
        with ThreadPoolExecutor(1, "emu-second-core") as pool:
            self._coming = self._finished(self._help(0, 0, self._last, 0))
            while self._coming:
                self._step(pool)
        replay = self._replay
        replay.write_capture(self._written, self._open, int(replay.machine.oops))
        replay.keep(self._open, self._last)

    def _step(self, pool: ThreadPoolExecutor) -> None:
        """Let one batch arrive, while the one before it is written and the next one read."""
        replay = self._replay
        first, self._last = self._last, self._last + self._coming
        help_ = pool.submit(self._help, self._written, self._open, self._last, int(replay.machine.oops))
        try:
            replay.arrive(first, self._last)
        except BaseException:
            help_.exception()  # of two errors the machine's comes first, as without help
            raise
        self._written, self._open = self._open, replay.decided(self._open, self._last)
        replay.write_log(self._written, self._open)
        self._coming = self._finished(help_.result())
        self._make_room()
        replay.show_progress()

    def _help(self, written: int, decided: int, last: int, oops_bug: int) -> Ahead:
        """Write rows[written:decided], read and prepare further ones from `last` on: the second core's work."""
        replay = self._replay
        replay.write_capture(written, decided, oops_bug)
        count = replay.read_further(last)
        return Ahead(count, replay.prepare_known(last, last + count))

    def _finished(self, ahead: Ahead) -> int:
        """Prepare what could not be without a look at interfaces or hosts that are new; how many rows are coming."""
        if ahead.prepared < self._last + ahead.read:
            self._replay.prepare(ahead.prepared, self._last + ahead.read)
        return ahead.read

    def _make_room(self) -> None:
        """Room for the next batch, among the rows and in the window: what has been written goes."""
        replay = self._replay
        if self._last + self._coming + replay.task.batch > replay.room:
            replay.to_front(self._written, self._last + self._coming)
            self._last -= self._written
            self._open -= self._written
            self._written = 0
            while 2 * (self._last + self._coming + replay.task.batch) > replay.room:
                replay.make_room(2 * replay.room)
        # What has arrived is looked at again only by who writes it.
        needed = self._last if replay.annotated is None else self._written
        replay.let_bytes_go(needed, self._last + self._coming)

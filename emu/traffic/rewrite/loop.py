"""A source played several times over: its time goes on, its frames are numbered on, and no round looks like another.

Damage ends the loop in the round that meets it, which is the first unless the file changes.  Frames are copied once,
from the window of the round's source into one of the loop's own, so that kept rows outlive a round.

How TCP goes on: with `seq`, each round's numbers, both ways and in SACK blocks, lie about 2^31 ahead of the last
round's, by amounts that are the same in every run.  A connection that was not closed so starts anew where the next
round does (the machine takes a jump of more than 1 GiB for that), as long as a round carries less than 900 MB of it.
"""

from collections.abc import Callable
from typing import Any

from emu.capture.frames import FrameSource
from emu.capture.made import MadeFrames
from emu.capture.pcap import Interface
from emu.capture.reader import WINDOW
from emu.engine.plain import Engine
from emu.errors import CaptureError
from emu.kernel.machine import Packet
from emu.traffic.rewrite.frames import copy_rows
from emu.traffic.rewrite.reader import Rewriter, truncated_interfaces
from emu.traffic.rewrite.rules import Rewritten
from emu.traffic.rewrite.said import rewritten_comments

BATCH = 1024  # frames of the round's source that wait to be copied


class LoopedReader(MadeFrames):
    """Reads a source `rewriter.rewrite.loop` times, rewriting its frames; a FrameSource."""

    def __init__(
        self,
        source: FrameSource,
        again: Callable[[], FrameSource],
        rewriter: Rewriter,
        engine: Engine,
        window_bytes: int = WINDOW,
    ) -> None:
        """Take over the source of the first round; `again` opens that of each further one, from its start."""
        self.frames = 0
        self.ended = False
        self.damage: CaptureError | None = None
        self.damage_offset = -1
        self._source = source
        self._again = again
        self._rewriter = rewriter
        self._copy = engine.function(copy_rows)
        self._rows = engine.rows(Packet, BATCH)
        self._waiting = (0, 0)  # the rows that are read and not yet copied
        self._interfaces: list[Interface] = []
        self._before = 0  # bytes of the rounds before this one
        self._skipped = 0
        self._comments: list[str] = []
        super().__init__(engine, window_bytes)
        self._meet()

    @property
    def report(self) -> Rewritten:
        """What rewriting has done so far."""
        return self._rewriter.report

    @property
    def interfaces(self) -> list[Interface]:
        """The interfaces met so far; they are the same in every round."""
        return truncated_interfaces(self._interfaces, self._rewriter.rewrite.truncate)

    @property
    def format(self) -> str:
        """The source's."""
        return self._source.format

    @property
    def compression(self) -> str:
        """The source's."""
        return self._source.compression

    @property
    def section_comments(self) -> list[str]:
        """The comments of the section headers met so far; each round has the same."""
        return self._comments

    @property
    def skipped_blocks(self) -> int:
        """How many blocks were passed over, in all rounds."""
        return self._skipped + self._source.skipped_blocks

    @property
    def bytes_read(self) -> int:
        """Bytes taken from the file so far, in all rounds."""
        return self._before + self._source.bytes_read

    @property
    def size(self) -> int | None:
        """What `bytes_read` will be in the end, None when nobody knows."""
        size = self._source.size
        return None if size is None else size * self._rewriter.rewrite.loop

    def read(self, rows: Any, first: int, limit: int) -> int:
        """Turn up to `limit` further frames into `rows[first:first + limit]`; returns how many, 0 at the end."""
        count = 0
        while not (count or self.ended or limit <= 0):
            at, end = self._waiting
            if at == end:
                self._fill()
                continue
            count, self._at = self._copy(
                self._rows,
                at,
                end,
                self._source.octets,
                rows,
                first,
                limit,
                self.octets,
                self._at,
                self.frames + 1,
                self._rewriter.rounds > 1,
            )
            self._rewriter.apply(rows, first, count, self.octets)
            self._waiting = (at + count, end)
            self._cramped = count < min(limit, end - at)
            if not count:
                self._grow()
        self.frames += count
        return count

    def close(self) -> None:
        """Close the source of the present round."""
        self._source.close()

    def _fill(self) -> None:
        """Read further frames of this round, or begin the next one; without frames there is no next one."""
        self._source.discard(self._source.position)
        count = self._source.read(self._rows, 0, BATCH)
        self._waiting = (0, count)
        self._meet()
        if count:
            return
        self.damage, self.damage_offset = self._source.damage, self._source.damage_offset
        last = self._rewriter.rounds == self._rewriter.rewrite.loop
        if last or self.damage is not None or self.frames == 0 or not self._begin_round():
            self.ended = True

    def _begin_round(self) -> bool:
        try:
            source = self._again()
        except CaptureError as error:  # the file went away: what was played stays played
            self.damage = error
            return False
        self._before += self._source.bytes_read
        self._skipped += self._source.skipped_blocks
        self._source.close()
        self._source = source
        self._rewriter.next_round()
        return True

    def _meet(self) -> None:
        if len(self._source.interfaces) > len(self._interfaces):
            self._interfaces = list(self._source.interfaces)
        if len(self._source.section_comments) > len(self._comments):
            self._comments = rewritten_comments(self._source.section_comments, self._rewriter.rewrite)

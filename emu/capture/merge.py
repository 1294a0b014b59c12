"""Several captures as one: their frames in the order of their times, as mergecap(1) puts them.

Of the captures' next frames the earliest comes first, and of equal ones that of the capture named first; a frame that
a capture holds out of order comes when its turn in that capture has come.  Clocks are believed as they are: a skew
between two captures is not corrected, and moves their frames against each other by as much.

Two captures are merged at a time, and merged ones again: each step copies a frame's bytes once, from the window of
its capture into one of its own, so memory is bounded by the windows.
"""

from collections.abc import Sequence
from typing import Any

from emu.capture.frames import FrameSource
from emu.capture.made import MadeFrames
from emu.capture.pcap import Interface
from emu.capture.reader import WINDOW, open_capture
from emu.engine.plain import Engine
from emu.errors import CaptureError
from emu.kernel.machine import Packet
from emu.kernel.record import record
from emu.wire.octets import Octets, copy_octets

BATCH = 1024  # frames of each capture that wait to be merged

MERGED, FIRST_DRY, SECOND_DRY, FULL_WINDOW = range(4)


@record
class Queue:
    """A capture's frames that wait: rows[at:end], and whether more will come."""

    at: int
    end: int
    more: int


@record
class Iface:
    """The number that an interface of one capture has among those of all."""

    number: int


def copy_frame(row: Any, source: Any, octets: bytearray, source_octets: Octets, at: int, frame: int, iface: int) -> int:
    """A frame as it was read, with its bytes at `octets[at:]` and its number among the frames of all; their end."""
    size = source.caplen + source.fcs_caplen
    copy_octets(octets, at, source_octets, source.offset, size)
    row.frame = frame
    row.own_id = source.own_id
    row.packet_id = source.packet_id if source.own_id else frame
    row.iface = iface
    row.file_time_ns = source.file_time_ns
    row.offset = at
    row.caplen = source.caplen
    row.length = source.length
    row.direction = source.direction
    row.linktype = source.linktype
    row.fcs_bytes = source.fcs_bytes
    row.fcs_caplen = source.fcs_caplen
    return int(at + size)


def merge_rows(
    one: Any,
    one_rows: Any,
    one_octets: Octets,
    one_ifaces: Any,
    two: Any,
    two_rows: Any,
    two_octets: Octets,
    two_ifaces: Any,
    rows: Any,
    first: int,
    limit: int,
    octets: bytearray,
    at: int,
    frame: int,
) -> tuple[int, int, int]:
    """Merge into up to `limit` rows from `rows[first]` on, numbered from `frame`, their bytes at `octets[at:]`.

    Returns how many there are, where their bytes end, and why it stopped: MERGED (the limit, or the end of both),
    *_DRY (a capture of which more will come has no frame waiting), FULL_WINDOW (no room for the next frame).
    """
    count = 0
    while count < limit:
        if one.at == one.end and one.more:
            return count, at, FIRST_DRY
        if two.at == two.end and two.more:
            return count, at, SECOND_DRY
        if one.at == one.end and two.at == two.end:
            break
        from_one = two.at == two.end or (
            one.at < one.end and one_rows[one.at].file_time_ns <= two_rows[two.at].file_time_ns
        )
        source = one_rows[one.at] if from_one else two_rows[two.at]
        if source.caplen + source.fcs_caplen > len(octets) - at:
            return count, at, FULL_WINDOW
        row = rows[first + count]
        if from_one:
            at = copy_frame(row, source, octets, one_octets, at, frame, one_ifaces[source.iface].number)
            one.at += 1
        else:
            at = copy_frame(row, source, octets, two_octets, at, frame, two_ifaces[source.iface].number)
            two.at += 1
        frame += 1
        count += 1
    return count, at, MERGED


class Waiting:
    """One of the two captures: its reader, its frames that wait, and its interfaces' numbers."""

    def __init__(self, reader: FrameSource, engine: Engine) -> None:
        """Nothing is read yet."""
        self.reader = reader
        self.engine = engine
        self.queue = engine.new(Queue)
        self.queue.more = 1
        self.rows = engine.rows(Packet, BATCH)
        self.room = 1
        self.ifaces = engine.rows(Iface, self.room)
        self.known = 0

    def fill(self, interfaces: list[Interface]) -> None:
        """Read further frames, which may wait for a pipe; interfaces that are met are appended to `interfaces`."""
        self.reader.discard(self.reader.position)
        count = self.reader.read(self.rows, 0, BATCH)
        self.engine.fill(self.queue, {"at": 0, "end": count, "more": count > 0})
        self.meet(interfaces)

    def fill_up(self) -> int:
        """Read the first frames, as many as there is room for: who looks at them first does not wait for the merger.

        Returns how many there are.
        """
        count = 0
        while count < BATCH and (further := self.reader.read(self.rows, count, BATCH - count)):
            count += further
        self.engine.fill(self.queue, {"at": 0, "end": count, "more": count > 0})
        return count

    def give_up(self) -> None:
        """There are no further frames, whatever the reader would give."""
        self.engine.fill(self.queue, {"at": 0, "end": 0, "more": 0})

    def meet(self, interfaces: list[Interface]) -> None:
        """Number the interfaces that are not yet among those of all."""
        found = self.reader.interfaces
        if len(found) > self.room:
            self.room = 2 * len(found)
            self.ifaces = self.engine.grown(self.ifaces, self.room)
        for at in range(self.known, len(found)):
            self.engine.fill(self.ifaces[at], {"number": len(interfaces)})
            interfaces.append(found[at])
        self.known = len(found)


class MergedReader(MadeFrames):
    """Reads two captures as one, in the order of their times; a FrameSource.

    Damage in one capture ends that one: the frames before it are played and the other goes on; `damage` says at the end
    what was found, of each.
    """

    def __init__(
        self,
        one: FrameSource | Waiting,
        two: FrameSource,
        engine: Engine,
        window_bytes: int = WINDOW,
        until_one_ends: bool = False,
    ) -> None:
        """Take over both readers: `close` closes them.

        `until_one_ends`: nothing of `two` comes behind the last frame of `one`; its end may then be nowhere.
        """
        self.frames = 0
        self.ended = False
        self.interfaces: list[Interface] = []
        self._sides = (one if isinstance(one, Waiting) else Waiting(one, engine), Waiting(two, engine))
        self._until_one_ends = until_one_ends
        if until_one_ends and isinstance(one, Waiting) and not int(one.queue.more):  # it has been read, and is empty
            self._sides[1].give_up()
        for side in self._sides:
            side.meet(self.interfaces)
        self._merge = engine.function(merge_rows)
        super().__init__(engine, window_bytes)

    @property
    def _readers(self) -> tuple[FrameSource, ...]:
        return tuple(side.reader for side in self._sides)

    @property
    def format(self) -> str:
        """Each of the formats once."""
        return _each_once([reader.format for reader in self._readers])

    @property
    def compression(self) -> str:
        """Each of the compressions once; nothing where none is compressed."""
        return _each_once([reader.compression for reader in self._readers if reader.compression])

    @property
    def section_comments(self) -> list[str]:
        """The comments of the section headers met so far, capture by capture."""
        return [comment for reader in self._readers for comment in reader.section_comments]

    @property
    def skipped_blocks(self) -> int:
        """How many blocks were passed over because they carry no frame."""
        return sum(reader.skipped_blocks for reader in self._readers)

    @property
    def bytes_read(self) -> int:
        """Bytes taken from the files so far, as they lie there."""
        return sum(reader.bytes_read for reader in self._readers)

    @property
    def size(self) -> int | None:
        """Bytes of the files, None when one is a pipe."""
        sizes = [reader.size for reader in self._readers]
        return None if None in sizes else sum(size for size in sizes if size is not None)

    @property
    def damage(self) -> CaptureError | None:
        """What is wrong with the captures, once all that is sound has been read."""
        if not self.ended:
            return None
        found = [str(reader.damage) for reader in self._readers if reader.damage is not None]
        return CaptureError("; ".join(found)) if found else None

    @property
    def damage_offset(self) -> int:
        """Where the first damaged capture is damaged, in its uncompressed stream."""
        return next((reader.damage_offset for reader in self._readers if reader.damage is not None), -1)

    def read(self, rows: Any, first: int, limit: int) -> int:
        """Turn up to `limit` further frames into `rows[first:first + limit]`; returns how many, 0 at the end.

        It waits until each capture has shown its next frame.  Raises CaptureError as CaptureReader does.
        """
        one, two = self._sides
        count = 0
        while not (count or self.ended or limit <= 0):
            count, self._at, why = self._merge(
                one.queue,
                one.rows,
                one.reader.octets,
                one.ifaces,
                two.queue,
                two.rows,
                two.reader.octets,
                two.ifaces,
                rows,
                first,
                limit,
                self.octets,
                self._at,
                self.frames + 1,
            )
            self._cramped = why == FULL_WINDOW
            if count:
                break
            if why == FIRST_DRY:
                one.fill(self.interfaces)
                if self._until_one_ends and not int(one.queue.more):
                    two.give_up()
            elif why == SECOND_DRY:
                two.fill(self.interfaces)
            elif why == FULL_WINDOW:
                self._grow()
            else:
                self.ended = True
        self.frames += count
        return count

    def number_of(self, source: FrameSource, iface: int) -> int:
        """Which of all interfaces is the `iface`th of a source that is merged here; -1: no such source."""
        for side in self._sides:
            inner = side.reader
            at = iface if inner is source else -1
            if at < 0 and isinstance(inner, MergedReader):
                at = inner.number_of(source, iface)
            if at >= 0:
                return int(side.ifaces[at].number)
        return -1

    def close(self) -> None:
        """Close both."""
        for reader in self._readers:
            reader.close()


def _each_once(words: Sequence[str]) -> str:
    return ", ".join(dict.fromkeys(word for text in words for word in text.split(", ")))


def merged(readers: Sequence[FrameSource], engine: Engine) -> FrameSource:
    """Any number of captures as one, in as few steps as possible; one alone is left as it is."""
    assert readers
    if len(readers) == 1:
        return readers[0]
    half = (len(readers) + 1) // 2
    return MergedReader(merged(readers[:half], engine), merged(readers[half:], engine), engine)


def open_captures(captures: Sequence[tuple[str, int]], engine: Engine, window_bytes: int = WINDOW) -> FrameSource:
    """Open captures, each with the device that the user named for it (-1: none), as one.

    Errors: CaptureError in one line when one cannot be read, or when more than one is standard input.
    """
    if [path for path, _ in captures].count("-") > 1:
        raise CaptureError("emu cannot read stdin twice; name it once")
    opened: list[FrameSource] = []
    try:
        for path, device in captures:
            opened.append(open_capture(path, engine, window_bytes, device))
    except BaseException:
        for reader in opened:
            reader.close()
        raise
    return merged(opened, engine)


__all__ = ["MergedReader", "merged", "open_captures"]

"""A source of frames that are rewritten as they are read, in place, in the source's own window."""

from types import TracebackType
from typing import Any

from emu.capture.frames import FrameSource
from emu.capture.pcap import Interface
from emu.engine.plain import Engine
from emu.errors import CaptureError
from emu.traffic.host import Host
from emu.traffic.rewrite.frames import rewrite_rows
from emu.traffic.rewrite.rules import Rewritten, report_of, rules_of, tables_of
from emu.traffic.rewrite.said import rewritten_comments
from emu.traffic.rewrite.spec import END_OF_TIMES_NS, Rewrite

HALF_CIRCLE = 1 << 31
WOBBLE = 1 << 27
PORT_STRIDE = 39_869  # has no factor in common with 64512: so all ports are met, and those side by side meet late
MASK = (1 << 64) - 1
LONE_FRAME_GAP_NS = 1_000_000  # between rounds of a single frame, which has no gap of its own


def scattered(number: int) -> int:
    """64 bits that look random, the same on any machine (SplitMix64: Steele, Lea, Flood 2014)."""
    mixed = (number * 0x9E3779B97F4A7C15) & MASK
    mixed = ((mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9) & MASK
    mixed = ((mixed ^ mixed >> 27) * 0x94D049BB133111EB) & MASK
    return mixed ^ mixed >> 31


def sequence_step(number: int) -> int:
    """By how much round `number`'s TCP sequence numbers lie ahead of the last round's.

    About half of all numbers, so that none of the last round's data is in sight: neither old nor ahead in a window.
    """
    return HALF_CIRCLE + scattered(number) % WOBBLE - WOBBLE // 2


class Rewriter:
    """Rewrites rows of frames, and counts what it did."""

    def __init__(self, rewrite: Rewrite, engine: Engine) -> None:
        """Start with the first round."""
        self.rewrite = rewrite
        self.rounds = 1
        self._engine = engine
        self._rules = rules_of(rewrite, engine)
        self._tables = tables_of(rewrite, engine)
        self._rewrite = engine.function(rewrite_rows)

    def apply(self, rows: Any, first: int, count: int, octets: Any) -> None:
        """Rewrite the frames rows[first:first + count], whose bytes lie in `octets`."""
        if count:
            self._rewrite(self._rules, *self._tables, rows, first, first + count, octets)

    def tell_host(self, host: Host) -> None:
        """Say which end the host is: the addresses of all others differ from round to round."""
        family, hi, lo = host.address
        columns = {"host_mac": host.mac, "by_direction": host.by_direction}
        self._engine.fill(self._rules, columns | {"host_family": family, "host_addr_hi": hi, "host_addr": lo})

    def next_round(self) -> None:
        """Begin another round: later by the last one's span and a gap, and distinct from all before."""
        rules, rewrite, number = self._rules, self.rewrite, self.rounds
        span = max(0, int(rules.latest_ns) - int(rules.earliest_ns))
        gap = rewrite.loop_gap_ns
        if gap is None:
            gap = span // (int(rules.round_frames) - 1) if int(rules.round_frames) > 1 else LONE_FRAME_GAP_NS
        columns = {
            "round_shift_ns": min(int(rules.round_shift_ns) + span + gap, END_OF_TIMES_NS),
            "earliest_ns": END_OF_TIMES_NS,
            "latest_ns": 0,
            "round_frames": 0,
        }
        if rewrite.loop_distinct != "none":
            columns["edits"] = 1
        if rewrite.loop_distinct == "seq":
            columns["seq_add"] = (int(rules.seq_add) + sequence_step(number)) & 0xFFFFFFFF
        elif rewrite.loop_distinct == "addresses":
            columns["address_add"] = number
        elif rewrite.loop_distinct == "ports":
            columns["port_add"] = number * PORT_STRIDE % 64_512
        self._engine.fill(rules, columns)
        self.rounds += 1

    @property
    def report(self) -> Rewritten:
        """What has been done so far."""
        return report_of(self._rules, self.rounds)


class RewrittenReader:
    """Reads a source and rewrites its frames; a FrameSource, in all else what the source is."""

    def __init__(self, source: FrameSource, rewriter: Rewriter) -> None:
        """Take the source over: `close` closes it."""
        self._source = source
        self._rewriter = rewriter

    @property
    def report(self) -> Rewritten:
        """What rewriting has done so far."""
        return self._rewriter.report

    @property
    def frames(self) -> int:
        """How many frames have been read so far."""
        return self._source.frames

    @property
    def ended(self) -> bool:
        """Whether there are no further frames."""
        return self._source.ended

    @property
    def interfaces(self) -> list[Interface]:
        """The source's, with the snap length that truncation makes."""
        return truncated_interfaces(self._source.interfaces, self._rewriter.rewrite.truncate)

    @property
    def octets(self) -> Any:
        """The source's window."""
        return self._source.octets

    @property
    def position(self) -> int:
        """The window offset behind all that has been read."""
        return self._source.position

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
        """The source's, as they hold of what its frames have become."""
        return rewritten_comments(self._source.section_comments, self._rewriter.rewrite)

    @property
    def skipped_blocks(self) -> int:
        """The source's."""
        return self._source.skipped_blocks

    @property
    def bytes_read(self) -> int:
        """The source's."""
        return self._source.bytes_read

    @property
    def size(self) -> int | None:
        """The source's."""
        return self._source.size

    @property
    def damage(self) -> CaptureError | None:
        """The source's."""
        return self._source.damage

    @property
    def damage_offset(self) -> int:
        """The source's."""
        return self._source.damage_offset

    def read(self, rows: Any, first: int, limit: int) -> int:
        """Turn up to `limit` further frames into rows, rewritten; returns how many, 0 at the end."""
        count = self._source.read(rows, first, limit)
        self._rewriter.apply(rows, first, count, self._source.octets)
        return count

    def discard(self, offset: int) -> int:
        """Give up the bytes before window offset `offset`; kept rows' offsets shrink by what is returned."""
        return self._source.discard(offset)

    def close(self) -> None:
        """Close the source."""
        self._source.close()

    def __enter__(self) -> "RewrittenReader":
        """Nothing to do: it is open."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the source."""
        self.close()


def truncated_interfaces(interfaces: list[Interface], truncate: int | None) -> list[Interface]:
    """The interfaces with a snap length of at most `truncate` bytes; 0 stands for none."""
    if truncate is None:
        return interfaces
    return [given._replace(snaplen=min(given.snaplen or truncate, truncate)) for given in interfaces]

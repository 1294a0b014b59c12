"""How much traffic there was, by interface: frames, bytes, and the rates that follow, in exact integers."""

from typing import Any, NamedTuple

from emu.kernel.record import record
from emu.traffic.pace import FRAMING_BYTES


@record
class Tally:
    """What the frames of one interface add up to; bytes are without FCS."""

    frames: int
    octets: int
    least: int  # size of the smallest frame
    most: int
    first_ns: int
    last_ns: int
    last_octets: int  # size of the last frame, which takes its time behind `last_ns`


class Totals(NamedTuple):
    """A tally in Python's numbers; rates are rounded down to thousandths, 0 where one frame or none tells of none."""

    frames: int
    octets: int
    least: int
    most: int
    first_ns: int
    last_ns: int
    milli_pps: int
    bits_per_second: int  # each frame with its FRAMING_BYTES


def tally_rows(rows: Any, first: int, last: int, tallies: Any) -> None:
    """Add rows[first:last] to the tallies of their interfaces, `tallies[row.iface]`."""
    for at in range(first, last):
        row = rows[at]
        t = tallies[row.iface]
        if t.frames == 0:
            t.first_ns = row.file_time_ns
            t.least = row.length
        t.frames += 1
        t.octets += row.length
        t.least = min(t.least, row.length)
        t.most = max(t.most, row.length)
        t.last_ns = row.file_time_ns
        t.last_octets = row.length


def totals_of(t: Any) -> Totals:
    """The totals of one interface, or of several tallies added up."""
    frames, octets = int(t.frames), int(t.octets)
    first_ns, last_ns = int(t.first_ns), int(t.last_ns)
    span_ns = last_ns - first_ns
    before = octets - int(t.last_octets) + FRAMING_BYTES * (frames - 1)  # what took the time up to the last frame
    return Totals(
        frames,
        octets,
        int(t.least),
        int(t.most),
        first_ns,
        last_ns,
        (frames - 1) * 10**12 // span_ns if span_ns > 0 else 0,
        before * 8 * 10**9 // span_ns if span_ns > 0 else 0,
    )

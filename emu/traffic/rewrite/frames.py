"""Rows of frames rewritten: their times, their bytes, what is captured of them.  Plain and compiled."""

from typing import Any

from emu.capture.merge import copy_frame
from emu.traffic.rewrite.edit import edit_frame
from emu.traffic.rewrite.fix import fix_frame
from emu.traffic.rewrite.rules import Rules
from emu.traffic.rewrite.spec import END_OF_TIMES_NS
from emu.wire.octets import Octets


def retime(r: Rules, row: Any) -> None:
    """Shift a frame's time, and hold it within what a capture can say."""
    if r.rebase and r.frames == 0:
        r.shift_ns = r.rebase_ns - row.file_time_ns
    asked = row.file_time_ns + r.shift_ns
    time_ns = min(max(asked, 0), END_OF_TIMES_NS - 1)
    r.earliest_ns = min(r.earliest_ns, time_ns)
    r.latest_ns = max(r.latest_ns, time_ns)
    later = min(time_ns + r.round_shift_ns, END_OF_TIMES_NS - 1)
    r.held += int(time_ns != asked or later != time_ns + r.round_shift_ns)
    row.file_time_ns = later


def truncate(r: Rules, row: Any) -> None:
    """Cut what is captured of a frame, as a capture with this snap length would have; its length stays."""
    if row.caplen + row.fcs_caplen > r.truncate:
        row.caplen = min(row.caplen, r.truncate)
        row.fcs_caplen = r.truncate - row.caplen if row.caplen < r.truncate else 0
        r.cut += 1


def rewrite_bytes(r: Rules, macs: Any, nets: Any, ports: Any, octets: bytearray, row: Any) -> None:
    """Rewrite a frame's bytes; a frame check sequence is given up, for it does not fit the new ones."""
    r.hit = 0
    r.missed = 0
    at = edit_frame(r, macs, nets, ports, octets, row)
    if r.fix and at >= 0:
        end = row.offset + min(row.caplen, row.length)
        fix_frame(r, octets, at, end, row.offset + row.length - at, r.link.ethertype)
    elif r.fix:
        r.left += 1
    if r.hit:
        row.fcs_caplen = 0
    r.changed += r.hit
    r.unreadable += r.missed


def rewrite_rows(
    r: Rules, macs: Any, nets: Any, ports: Any, rows: Any, first: int, last: int, octets: bytearray
) -> None:
    """Rewrite the frames rows[first:last], whose bytes lie in `octets`."""
    for index in range(first, last):
        row = rows[index]
        retime(r, row)
        if r.edits:
            rewrite_bytes(r, macs, nets, ports, octets, row)
        if r.truncate:
            truncate(r, row)
        r.frames += 1
        r.round_frames += 1


def copy_rows(
    source: Any,
    at: int,
    end: int,
    source_octets: Octets,
    rows: Any,
    first: int,
    limit: int,
    octets: bytearray,
    where: int,
    frame: int,
    repeated: int,
) -> tuple[int, int]:
    """Copy up to `limit` of the frames source[at:end] to rows[first:], numbered from `frame`, bytes at octets[where:].

    A `repeated` frame has no packet id of its own any more, for that was another's.  Returns how many found room, and
    where their bytes end.
    """
    count = 0
    while count < limit and at + count < end:
        row = source[at + count]
        if row.caplen + row.fcs_caplen > len(octets) - where:
            break
        if repeated:
            row.own_id = 0
        where = copy_frame(rows[first + count], row, octets, source_octets, where, frame + count, row.iface)
        count += 1
    return count, where

"""The drops of an annotated capture on their way into drop-monitor messages; `net_dm` has the format."""

from collections import Counter
from typing import Any, NamedTuple

from emu import __version__
from emu.capture.annotated import AnnotatedReader
from emu.capture.comments import TOLD_LOST
from emu.capture.output import OutputFile
from emu.capture.reader import CaptureReader
from emu.engine.plain import Engine
from emu.kernel.drop_reason import DROPPED, NOT_PLAYED, OOPS, PENDING, POINTS, REASONS, RX_LENGTH, RX_MISSED
from emu.verdicts.export.formats import Advance, Exported
from emu.verdicts.export.freed import NIC, RECYCLED, WHY_RECYCLED
from emu.verdicts.export.net_dm import FIRST_IFINDEX, Drop, NetDmWriter, ethernet_frame
from emu.verdicts.export.packets import BATCH, batches

WHY_OOPS = "an oops took along: a kernel that is dead reports nothing"
WHY_NOT_PLAYED = "came after the oops"
WHY_UNTOLD = "are on an interface for lost frames, but have no comment that says why"


class Row(NamedTuple):
    """What is needed of a row, by either engine: see Packet and comments.Verdict."""

    frame: int
    told: int
    verdict: int
    reason: int
    point: int
    dev: int
    time_ns: int
    decided_ns: int
    linktype: int
    offset: int
    caplen: int
    length: int


def export_net_dm(
    reader: CaptureReader, engine: Engine, name: str, output: OutputFile, file_format: str, advance: Advance | None
) -> Exported:
    """Write a message per drop of the annotated capture `reader`, opened with `engine`.

    Errors: CaptureError when it is not one.
    """
    annotated = AnnotatedReader(reader, engine)
    writer = NetDmWriter(output, file_format, [f"emu {__version__} export: drops of {name}"])
    rows = annotated.rows(BATCH)
    counts: Counter[str] = Counter()
    written = 0
    for count in batches(annotated, rows, reader, advance):
        columns = zip(*(engine.column(rows, field, count) for field in Row._fields), strict=True)
        for row in map(Row._make, columns):
            why = left_out(row)
            if why is None:
                writer.write(drop_of(row, annotated.octets, annotated.devices))
                written += 1
            else:
                counts[why] += 1
    if not annotated.is_annotated:
        raise annotated.not_annotated()
    order = (WHY_RECYCLED, WHY_OOPS, WHY_NOT_PLAYED, WHY_UNTOLD)
    notes = tuple(f"left out: {counts[why]} packets that {why}" for why in order if counts[why])
    ends = {"incomplete": annotated.incomplete, "damage": annotated.damage}
    return Exported(written, "drops", notes, nothing="no frame of it was dropped", **ends)


def left_out(row: Row) -> str | None:
    """Why a frame has no message: an empty text when it was not lost, None when it has one."""
    if row.told == TOLD_LOST and row.verdict == PENDING:
        return WHY_UNTOLD
    if row.verdict == OOPS:
        return WHY_OOPS
    if row.verdict == NOT_PLAYED:
        return WHY_NOT_PLAYED
    if row.verdict != DROPPED:
        return ""
    return WHY_RECYCLED if POINTS[row.point] in RECYCLED else None


def drop_of(row: Row, octets: Any, devices: list[str]) -> Drop:
    """What the drop monitor says of a dropped frame."""
    captured = bytes(octets[row.offset : row.offset + row.caplen])
    frame, length, protocol = ethernet_frame(captured, row.length, row.linktype)
    return Drop(
        reason=REASONS[row.reason].name,
        # A short comment alone does not name the function; what only a NIC does needs no name.
        point=NIC if row.reason in (RX_MISSED, RX_LENGTH) else POINTS[row.point],
        ifindex=FIRST_IFINDEX + row.dev,
        device=devices[row.dev],
        time_ns=max(row.decided_ns, row.time_ns),
        length=length,
        protocol=protocol,
        frame=frame,
    )

"""The drops of an annotated capture on their way into drop-monitor messages; `net_dm` has the format."""

from collections import Counter
from typing import Any

from emu import __version__
from emu.capture.annotated import AnnotatedReader
from emu.capture.comments import TOLD_LOST
from emu.capture.output import OutputFile
from emu.capture.reader import CaptureReader
from emu.engine.plain import PlainEngine
from emu.errors import UsageError
from emu.kernel.drop_reason import DROPPED, NOT_PLAYED, OOPS, PENDING, POINTS, REASONS, RX_LENGTH, RX_MISSED
from emu.verdicts.export.formats import Advance, Exported
from emu.verdicts.export.freed import NIC, RECYCLED, WHY_RECYCLED
from emu.verdicts.export.net_dm import FIRST_IFINDEX, Drop, NetDmWriter, ethernet_frame
from emu.verdicts.export.packets import BATCH, NOT_ANNOTATED, batches

WHY_OOPS = "an oops took along: a kernel that is dead reports nothing"
WHY_NOT_PLAYED = "came after the oops"
WHY_UNTOLD = "are on an interface for lost frames, but have no comment that says why"


def export_net_dm(
    reader: CaptureReader, name: str, output: OutputFile, file_format: str, advance: Advance | None
) -> Exported:
    """Write a message per drop of the annotated capture `reader`.  Errors: UsageError when it is not one."""
    annotated = AnnotatedReader(reader, PlainEngine())
    writer = NetDmWriter(output, file_format, [f"emu {__version__} export: drops of {name}"])
    rows = annotated.rows(BATCH)
    counts: Counter[str] = Counter()
    written = 0
    for count in batches(annotated, rows, reader, advance):
        for at in range(count):
            packet = rows[at]
            why = left_out(packet)
            if why is None:
                writer.write(drop_of(packet, annotated.octets, annotated.devices))
                written += 1
            else:
                counts[why] += 1
    if not annotated.is_annotated:
        raise UsageError(f"{name}: {NOT_ANNOTATED}")
    order = (WHY_RECYCLED, WHY_OOPS, WHY_NOT_PLAYED, WHY_UNTOLD)
    notes = tuple(f"left out: {counts[why]} packets that {why}" for why in order if counts[why])
    return Exported(written, "drops", notes, nothing="no frame of it was dropped", damage=str(reader.damage or ""))


def left_out(packet: Any) -> str | None:
    """Why a frame has no message: an empty text when it was not lost, None when it has one."""
    if packet.told == TOLD_LOST and packet.verdict == PENDING:
        return WHY_UNTOLD
    if packet.verdict == OOPS:
        return WHY_OOPS
    if packet.verdict == NOT_PLAYED:
        return WHY_NOT_PLAYED
    if packet.verdict != DROPPED:
        return ""
    return WHY_RECYCLED if POINTS[packet.point] in RECYCLED else None


def drop_of(packet: Any, octets: Any, devices: list[str]) -> Drop:
    """What the drop monitor says of a dropped frame."""
    frame, length, protocol = ethernet_frame(octets, packet)
    return Drop(
        reason=REASONS[packet.reason].name,
        # A short comment alone does not name the function; what only a NIC does needs no name.
        point=NIC if packet.reason in (RX_MISSED, RX_LENGTH) else POINTS[packet.point],
        ifindex=FIRST_IFINDEX + packet.dev,
        device=devices[packet.dev],
        time_ns=max(packet.decided_ns, packet.time_ns),
        length=length,
        protocol=protocol,
        frame=frame,
    )

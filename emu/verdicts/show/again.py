"""Retransmissions in an annotated capture: lost TCP segments whose bytes the capture's own sender sent once more.

A log has no sequence numbers, so the capture's frames are read; who sends again begins at the same sequence number.
"""

from pathlib import Path
from typing import NamedTuple

from emu.capture.annotated import open_annotated
from emu.capture.lexicon import TOLD_LOST, TOLD_NOTHING
from emu.engine.choose import choose_engine
from emu.kernel.drop_reason import DROPPED, OOPS
from emu.wire.headers import KIND_TCP

BATCH = 4_096  # frames that are read at once
SEGMENT = ("saddr_hi", "saddr", "daddr_hi", "daddr", "sport", "dport", "tcp_seq")
FIELDS = ("frame", "kind", "payload_length", "verdict", "told", *SEGMENT)
USE = "read"  # what the engine is used for


class SentAgain(NamedTuple):
    """Of lost segments with payload: how many came again in the capture, and of how many a repetition survived."""

    came: int
    survived: int


def sent_again(path: str, frames: set[int], engine_name: str) -> SentAgain:
    """Look for the repetitions of these frames of a capture.  Errors: CaptureError.

    Memory grows with the number of lost segments, not with the capture.
    """
    engine, _ = choose_engine(engine_name, Path(path).stat().st_size, USE)
    lost: dict[tuple[int, ...], bool] = {}  # by segment: whether it came again
    survived: set[tuple[int, ...]] = set()
    with open_annotated(path, engine) as reader:
        rows = reader.rows(BATCH)
        while count := reader.read(rows, 0, BATCH):
            columns = (engine.column(rows, field, count) for field in FIELDS)
            for frame, kind, payload, verdict, told, *segment in zip(*columns, strict=True):
                if kind != KIND_TCP or not payload or told == TOLD_NOTHING:
                    continue
                key = tuple(segment)
                is_lost = verdict in (DROPPED, OOPS) or told == TOLD_LOST
                if key in lost:
                    lost[key] = True
                    if not is_lost:
                        survived.add(key)
                elif is_lost and frame in frames:
                    lost[key] = False
            reader.discard(reader.position)
    engine.finished(USE)
    return SentAgain(sum(lost.values()), len(survived))

"""Dissection compiled and plain: every column of every frame of the corpus, whole, cut and mutated."""

import random
from unittest.mock import patch

import pytest
from corpus import frames_of

from emu.engine.plain import Engine, PlainEngine
from emu.kernel.machine import Packet
from emu.kernel.record import fields_of
from emu.wire.dissect import dissect
from emu.wire.headers import CHECKSUMS, DISSECTED_LINKTYPES

pytest.importorskip("numba")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def variants(octets: bytes, dice: random.Random) -> list[tuple[bytes, int]]:
    """The frame, cut frames, cut captures, and some with other bytes in the headers: with their captured lengths."""
    made = [(octets, len(octets)), (octets, dice.randrange(len(octets)))]
    short = octets[: dice.randrange(len(octets))]
    made.append((short, len(short)))
    for _ in range(3):
        other = bytearray(octets)
        for _ in range(dice.randrange(1, 4)):
            other[dice.randrange(min(len(other), 120))] = dice.choice((0, 0xFF, dice.randrange(256)))
        made.append((bytes(other), len(other)))
    return made


def test_both_engines_read_every_frame_alike() -> None:
    """Every integer of every row is the same."""
    import emu.engine.compiled as module

    with patch.object(module, "SOURCES", tuple(name for name in module.SOURCES if ".wire." in name)):
        fast = module.CompiledEngine()
    engines: tuple[Engine, Engine] = (PlainEngine(), fast)
    dice = random.Random(3)
    frames = [
        (linktype, octets, caplen)
        for linktype in DISSECTED_LINKTYPES
        for frame in frames_of(linktype).values()
        for octets, caplen in variants(frame, dice)
    ]
    window = bytearray(b"".join(octets for _, octets, _ in frames))
    rows = [engine.rows(Packet, len(frames)) for engine in engines]
    for engine, table in zip(engines, rows, strict=True):
        view = engine.view(window)
        offset = 0
        for at, (linktype, octets, caplen) in enumerate(frames):
            where = {"offset": offset, "caplen": caplen, "length": len(octets), "linktype": linktype}
            engine.fill(table[at], where)
            engine.function(dissect)(table[at], view, at % len(CHECKSUMS))
            offset += len(octets)
    names = [field.name for field in fields_of(Packet)]
    for at, frame in enumerate(frames):
        plain, compiled = ({name: int(getattr(table[at], name)) for name in names} for table in rows)
        assert plain == compiled, frame

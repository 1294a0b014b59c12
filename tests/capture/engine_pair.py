"""Both engines, as far as the modules of this folder need them."""

import functools
from typing import Any
from unittest.mock import patch

import pytest

from emu.engine.plain import Engine, PlainEngine
from emu.kernel.machine import Packet

NAMES = ("plain", "compiled")
SOURCES = ("emu.wire.octets", "emu.capture.bpf", "emu.capture.annotate")


@functools.cache
def engine(name: str) -> Engine:
    """One of NAMES; the compiled one once per process, for linking it costs time."""
    if name == "plain":
        return PlainEngine()
    compiled = pytest.importorskip("emu.engine.compiled")
    # Only what is under test: the other sources may be unfinished, and would only be linked in vain.
    with patch.object(compiled, "SOURCES", SOURCES):
        made: Engine = compiled.CompiledEngine()
    return made


def packets(engine: Engine, values: list[dict[str, int]]) -> Any:
    """Rows with these columns set, all others zero."""
    rows = engine.rows(Packet, max(len(values), 1))
    for at, columns in enumerate(values):
        row = rows[at]
        for name, value in columns.items():
            if engine.name == "plain":
                setattr(row, name, value)
            else:
                row[name] = value
    return rows

"""Both engines, as far as the modules of this folder need them."""

import functools
from typing import Any

from emu.engine.compiled import CompiledEngine
from emu.engine.plain import Engine, PlainEngine
from emu.kernel.machine import Packet

NAMES = ("plain", "compiled")


@functools.cache
def engine_named(name: str) -> Engine:
    """One of NAMES; the compiled one once per process, for linking it costs time."""
    return PlainEngine() if name == "plain" else CompiledEngine()


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

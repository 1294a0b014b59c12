"""Which engine plays: small captures run plain and answer at once, large ones are worth compiling."""

import functools
from typing import TYPE_CHECKING

from emu.engine.plain import FLOOD, REPLAY, Engine, PlainEngine
from emu.errors import UsageError

if TYPE_CHECKING:
    from emu.engine.compiled import CompiledEngine

ENGINES = ("auto", "compiled", "plain")
WORTH_COMPILING_BYTES = 8 << 20  # plain plays some 20 000 frames a second, compiling takes a minute
WORTH_LOADING_BYTES = 1 << 20  # with a warm cache numba is up in a second

WORTH_COMPILING_FRAMES = 200_000  # of a flood: plain makes some 50 000 a second, compiling takes some seconds


def choose_flood_engine(asked: str, frames: int) -> tuple[Engine, str]:
    """The engine that makes a flood of so many frames, and a sentence when the choice needs one."""
    if asked == "plain" or (asked == "auto" and frames < WORTH_COMPILING_FRAMES):
        return PlainEngine(), ""
    compiled = _compiled(asked)
    if isinstance(compiled, str):
        return PlainEngine(), compiled
    return compiled, "" if compiled.is_warm(FLOOD) else "compiling, once for this version and CPU: some seconds"


def choose_engine(asked: str, capture_bytes: int | None, use: str = REPLAY) -> tuple[Engine, str]:
    """The engine, and a sentence when the choice needs one; `capture_bytes` None: more than a window of a pipe."""
    if asked == "plain" or (asked == "auto" and capture_bytes is not None and capture_bytes < WORTH_LOADING_BYTES):
        return PlainEngine(), ""
    compiled = _compiled(asked)
    if isinstance(compiled, str):
        return PlainEngine(), compiled
    if compiled.is_warm(use):
        return compiled, ""
    if asked == "auto" and capture_bytes is not None and capture_bytes < WORTH_COMPILING_BYTES:
        return PlainEngine(), ""
    return compiled, "compiling the engine, once for this version and CPU: about a minute"


@functools.cache
def _one_for_all() -> "CompiledEngine":
    """The compiled engine of this process: it has no state but what it has compiled, which every run can use."""
    from emu.engine.compiled import CompiledEngine

    return CompiledEngine()


def _compiled(asked: str) -> "CompiledEngine | str":
    """The compiled engine, or why there is none; a UsageError where it was asked for."""
    try:
        return _one_for_all()
    except ImportError as error:
        missing = f"the compiled engine needs numba ({error}): pip install 'emu[fast]'"
        if asked == "compiled":
            raise UsageError(missing) from None
        return f"plain engine: {missing}"

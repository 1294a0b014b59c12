"""Which engine plays: small captures run plain and answer at once, large ones are worth compiling."""

import functools
from typing import TYPE_CHECKING

from emu.engine.plain import FLOOD, REPLAY, RUN, Engine, PlainEngine
from emu.errors import UsageError

if TYPE_CHECKING:
    from emu.engine.compiled import CompiledEngine

ENGINES = ("auto", "compiled", "plain")

# Compiling pays where plain would take longer.  Measured on one core of a 2-core cloud machine with CPython 3.11.
COLD_SECONDS = 45  # of one core, the first compiled replay of a version, on a CPU; two take 30
COLD_FLOOD_SECONDS = 5  # of what makes a flood
LOAD_SECONDS = 0.5  # a warm cache: numba is imported, the code is loaded
PLAIN_FRAMES_PER_SECOND = 20_000  # replayed: 15 000 of a busy mix, more where frames are missed
PLAIN_FLOOD_FRAMES_PER_SECOND = 50_000  # made
FRAME_BYTES = 100  # of a capture, record header and all, where it has many small frames: what plain is slowest at

WORTH_COMPILING_BYTES = int(COLD_SECONDS * PLAIN_FRAMES_PER_SECOND * FRAME_BYTES)
WORTH_LOADING_BYTES = int(LOAD_SECONDS * PLAIN_FRAMES_PER_SECOND * FRAME_BYTES)
WORTH_COMPILING_FRAMES = int(COLD_FLOOD_SECONDS * PLAIN_FLOOD_FRAMES_PER_SECOND)

COMPILING = "compiling the engine"  # so begins what is said before it is done
WORTH_A_HINT_BYTES = 10 * WORTH_LOADING_BYTES  # seconds
HINT = "plain engine: to compile the other would take longer than this; `emu warmup` does it once for all"


def choose_flood_engine(asked: str, frames: int) -> tuple[Engine, str]:
    """The engine that makes a flood of so many frames, and a sentence when the choice needs one."""
    if asked == "plain" or (asked == "auto" and frames < WORTH_COMPILING_FRAMES):
        return PlainEngine(), ""
    compiled = _compiled(asked)
    if isinstance(compiled, str):
        return PlainEngine(), compiled
    return compiled, "" if compiled.is_warm(FLOOD) else _compiling(compiled, "some seconds")


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
        return PlainEngine(), HINT if capture_bytes >= WORTH_A_HINT_BYTES else ""
    compiled.expect(use)
    return compiled, _compiling(compiled, "about a minute" if use == RUN else "less than a minute")


def _compiling(engine: "CompiledEngine", how_long: str) -> str:
    """What a user is told who has to wait for it."""
    note = engine.cache.note
    return f"{COMPILING}, once for this version and CPU: {how_long}{'; ' if note else ''}{note}"


@functools.cache
def _one_for_all() -> "CompiledEngine | str":
    """The compiled engine of this process: it has no state but what it has compiled, which every run can use.

    Else why there is none: numba missing, or not able to work with this Python, this numpy or this CPU.
    """
    try:
        from emu.engine.compiled import CompiledEngine

        return CompiledEngine()
    except ImportError as error:
        if (error.name or "").partition(".")[0] == "emu":
            raise
        return f"the compiled engine needs numba ({in_a_line(error)}): pip install 'emu[fast]'"
    except Exception as error:  # noqa: BLE001 - what numba and LLVM raise where they cannot work is of many kinds
        return f"numba does not work here ({type(error).__name__}: {in_a_line(error)})"


def in_a_line(error: Exception) -> str:
    """The first line of what is wrong."""
    return (str(error).strip().splitlines() or ["no reason given"])[0]


def _compiled(asked: str) -> "CompiledEngine | str":
    """The compiled engine, or why there is none; a UsageError where it was asked for."""
    found = _one_for_all()
    if not isinstance(found, str):
        return found
    if asked == "compiled":
        raise UsageError(found)
    return f"plain engine: {found}"

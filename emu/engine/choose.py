"""Which engine plays: small captures run plain and answer at once, large ones are worth compiling."""

from emu.engine.plain import Engine, PlainEngine
from emu.errors import UsageError

ENGINES = ("auto", "compiled", "plain")
WORTH_COMPILING_BYTES = 8 << 20  # plain plays some 20 000 frames a second, compiling takes a minute
WORTH_LOADING_BYTES = 1 << 20  # with a warm cache numba is up in a second


def choose_engine(asked: str, capture_bytes: int | None) -> tuple[Engine, str]:
    """The engine, and a sentence when the choice needs one; `capture_bytes` None: more than a window of a pipe."""
    if asked == "plain" or (asked == "auto" and capture_bytes is not None and capture_bytes < WORTH_LOADING_BYTES):
        return PlainEngine(), ""
    try:
        from emu.engine.compiled import CompiledEngine
    except ImportError as error:
        missing = f"the compiled engine needs numba ({error}): pip install 'emu[fast]'"
        if asked == "compiled":
            raise UsageError(missing) from None
        return PlainEngine(), f"plain engine: {missing}"
    compiled = CompiledEngine()
    if compiled.is_warm():
        return compiled, ""
    if asked == "auto" and capture_bytes is not None and capture_bytes < WORTH_COMPILING_BYTES:
        return PlainEngine(), ""
    return compiled, "compiling the engine, once for this version and CPU: about a minute"

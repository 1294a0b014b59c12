"""emu: which packets survive a kernel that is short of memory, and why.

What Python programs and notebooks use is here and documented in docs/api.md; it is imported when it is first used, so
that `import emu` and the command line stay quick.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from emu.api import (
        Comparison,
        Fates,
        Flood,
        Interrupted,
        ReplayResult,
        RunComparison,
        RunResult,
        compare,
        compare_runs,
        flood,
        replay,
        run,
    )
    from emu.errors import CaptureError, EmuError, NothingToPlayError, UsageError

__version__ = "0.1.0"

_ERRORS = ("CaptureError", "EmuError", "NothingToPlayError", "UsageError")

__all__ = [
    "CaptureError",
    "Comparison",
    "EmuError",
    "Fates",
    "Flood",
    "Interrupted",
    "NothingToPlayError",
    "ReplayResult",
    "RunComparison",
    "RunResult",
    "UsageError",
    "__version__",
    "compare",
    "compare_runs",
    "flood",
    "replay",
    "run",
]


def __getattr__(name: str) -> Any:
    """Import what is asked for (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module 'emu' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module("emu.errors" if name in _ERRORS else "emu.api"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """What there is, imported or not yet."""
    return sorted({*globals(), *__all__})

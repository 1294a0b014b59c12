"""The Python API: what the command line does, as functions that neither print nor exit, and results as objects.

docs/api.md shows it at work.  Errors are those of `emu.errors`, one line each; a wrong keyword or type is a TypeError.
"""

from emu.api.floods import Flood, flood
from emu.api.play import compare, replay
from emu.api.result import Comparison, Fates, Interrupted, ReplayResult
from emu.api.runs import RunComparison, RunResult, compare_runs, run

__all__ = [
    "Comparison",
    "Fates",
    "Flood",
    "Interrupted",
    "ReplayResult",
    "RunComparison",
    "RunResult",
    "compare",
    "compare_runs",
    "flood",
    "replay",
    "run",
]

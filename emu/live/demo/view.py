"""What a demonstration shows while it runs: its worlds side by side, each under its policy."""

from msgspec import Struct

from emu.live.state import LiveState
from emu.live.status.real_host import RealHost


class WorldView(Struct, frozen=True, kw_only=True):
    """One world as it stands."""

    label: str
    policy: str
    phase: str  # what it is doing, in a few words: `starting the target`, `writing`, `done`
    completed: int = 0  # writes that have been answered
    total: int = 0  # writes in all
    seconds: float = 0.0  # since its writer began
    outcome: str = ""  # a word of `COLOURS` in emu/verdicts/run_screen.py; "" while it runs
    verdict: str = ""  # a sentence to go with the outcome
    state: LiveState | None = None  # None until its emulated NIC tells it
    real: RealHost | None = None


class DemoView(Struct, frozen=True, kw_only=True):
    """The whole demonstration as it stands."""

    title: str
    seconds: float  # since it began
    limit_seconds: float  # it ends by itself after so long
    worlds: list[WorldView] = []

"""The experiments that are shipped: one TOML file each, found by name."""

from pathlib import Path

from emu.errors import UsageError
from emu.near_miss import did_you_mean

FOLDER = Path(__file__).parent


def shipped_names() -> list[str]:
    """The names of the scenarios that are shipped, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def shipped_scenario(name: str) -> Path:
    """The file of a scenario that is shipped.  Errors: UsageError with the names that come close."""
    names = shipped_names()
    if name in names:
        return FOLDER / f"{name}.toml"
    hint = did_you_mean(name, names, f"expected a file, or one of {', '.join(names)}")
    raise UsageError(f"{name}: there is no such file, nor a scenario of that name; {hint}")

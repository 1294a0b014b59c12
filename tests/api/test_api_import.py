"""`import emu` brings everything, later: it stays quick, and no module of the package hides a function."""

import importlib
import pkgutil
import subprocess
import sys

import pytest

import emu

HEAVY = ("msgspec", "numba", "numpy", "polars", "rich", "scapy", "typer")


def modules_after(code: str) -> set[str]:
    """The packages that are loaded after a piece of Python."""
    words = [sys.executable, "-c", f"import sys; {code}; print(*sys.modules)"]
    loaded = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
    return {name.split(".")[0] for name in loaded} | {name for name in loaded if name.startswith("emu.")}


def test_nothing_is_imported_before_it_is_used() -> None:
    """`import emu` loads itself alone; its errors need nothing heavy; a replay needs neither Scapy nor polars."""
    bare = modules_after("import emu")
    assert not bare & {*HEAVY, "emu.api", "dataclasses", "inspect"}
    assert "emu" in bare
    assert not modules_after("from emu import EmuError, UsageError") & {*HEAVY, "emu.api"}
    assert not modules_after("from emu import compare, replay") & {"scapy", "polars", "numpy", "numba"}


def test_what_the_package_offers() -> None:
    """Every name of `__all__` is there, is listed, and stays what it is; any other is an AttributeError."""
    assert sorted(emu.__all__) == emu.__all__
    for name in emu.__all__:
        assert name in dir(emu)
        assert getattr(emu, name) is getattr(emu, name)
    with pytest.raises(AttributeError, match="module 'emu' has no attribute 'replya'"):
        emu.replya  # noqa: B018
    assert not hasattr(emu, "__wrapped__")


def test_no_module_hides_a_function() -> None:
    """A module `emu.replay` would, once imported, stand where the function `emu.replay` is."""
    modules = {module.name for module in pkgutil.iter_modules(emu.__path__)}
    assert {"api", "errors", "request"} <= modules
    assert not modules & set(emu.__all__)
    importlib.import_module("emu.play")
    assert callable(emu.replay)

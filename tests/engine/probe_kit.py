"""A module of a test's own, compiled in place of emu's, into a cache of its own."""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest

from emu.engine import compiled


@contextmanager
def probed(name: str, text: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The module of this name and text, while it is all that the compiled engine compiles."""
    (folder / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    monkeypatch.setattr(compiled, "SOURCES", (name,))
    yield importlib.import_module(name)
    sys.modules.pop(name)

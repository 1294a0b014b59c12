"""An entry point that a second process compiles: the first one loads it, and does without where that fails."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytest.importorskip("numba")
from probe_kit import probed

from emu.engine import ahead, compiled
from emu.engine.plain import REPLAY

PROBE = """
def inner(x):
    return x + x


def first(x):
    return inner(x)


def large(x):
    return inner(x) + 1
"""


@pytest.fixture
def probe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.setattr(compiled, "is_worth_it", lambda: True)
    with probed("ahead_probe", PROBE, tmp_path, monkeypatch) as module:
        monkeypatch.setattr(compiled, "AHEAD", {REPLAY: (module.first, module.large, (compiled.INTEGER,))})
        yield module


def both(engine: compiled.CompiledEngine, module: ModuleType) -> Any:
    """Run both functions; the larger one's dispatcher."""
    assert engine.function(module.first)(4) == 8
    large: Any = engine.function(module.large)
    assert large(4) == 9
    return large


def test_the_larger_one_is_compiled_by_the_helper_and_loaded_here(probe: ModuleType) -> None:
    engine = compiled.CompiledEngine()
    engine.expect(REPLAY)
    large = both(engine, probe)
    assert (len(large._cache_hits), len(large._cache_misses)) == (1, 0)


def test_without_an_expectation_there_is_no_helper(probe: ModuleType) -> None:
    engine = compiled.CompiledEngine()
    large = both(engine, probe)
    assert engine.helper is None
    assert (len(large._cache_hits), len(large._cache_misses)) == (0, 1)


def test_what_the_helper_did_not_make_is_compiled_here(probe: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "Helper", lambda _work: ahead.Helper(lambda: os._exit(3)))
    engine = compiled.CompiledEngine()
    engine.expect(REPLAY)
    large = both(engine, probe)
    assert (len(large._cache_hits), len(large._cache_misses)) == (0, 1)


def test_a_helper_ends_with_its_parent_and_keeps_no_stream(tmp_path: Path) -> None:
    """The pipe's end is seen at once though the helper would sleep for an hour."""
    import subprocess

    program = "import os, time; from emu.engine.ahead import Helper; Helper(lambda: time.sleep(3600)); os._exit(0)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=30, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")

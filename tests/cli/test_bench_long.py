"""The benches that guard against regressions: instructions per packet; memory and conservation over very many."""

import importlib.util
import subprocess
import sys
from types import ModuleType
from typing import Any

import pytest
from emu_process import ROOT
from external_tools import tool

from emu.kernel.machine import Machine

SLOW = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.xdist_group("compiled")]


def bench(name: str) -> ModuleType:
    """A tool as a module; tools/ is no package."""
    spec = importlib.util.spec_from_file_location(f"bench_{name}", ROOT / f"tools/bench/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def ran(name: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """A tool, to its end."""
    command = [sys.executable, str(ROOT / f"tools/bench/{name}.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=800)


class TestSlow:
    pytestmark = SLOW

    def test_no_packet_takes_more_instructions_than_it_is_said_to(self) -> None:
        """Off figures are printed; where other versions made the table, they are only told."""
        pytest.importorskip("numba")
        tool("valgrind")
        done = ran("instructions")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "mix-all" in done.stdout

    @pytest.mark.parametrize("kind", ["small", "mix"])
    def test_many_rounds_of_a_capture_neither_grow_nor_lose_a_packet(self, kind: str) -> None:
        pytest.importorskip("numba")
        arguments = ("--packets", "2e5", "--every", "2e4", "--capture-packets", "3e4", "--kind", kind)
        done = ran("billion", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        assert len(done.stdout.splitlines()) == 11
        assert "200000 packets in" in done.stdout
        assert done.stdout.endswith("all accounted for\n")


@pytest.fixture
def instructions() -> Any:
    return bench("instructions")


def table_of(instructions: Any, **figures: int) -> dict[str, Any]:
    versions = instructions.versions()
    return {"tolerance_percent": 3, "versions": versions, "instructions_per_packet": figures}


@pytest.mark.parametrize(("found", "code"), [(1000, 0), (1029, 0), (1031, 1), (971, 0), (969, 1)])
def test_a_figure_that_is_off_either_way_is_a_failure(instructions: Any, found: int, code: int) -> None:
    table = table_of(instructions, small=1000)
    lines, found_code = instructions.judged(instructions.compare({"small": found}, table), table)
    assert found_code == code
    assert any("off by more than 3 %: small" in line for line in lines) == bool(code)


def test_other_versions_are_told_and_are_no_failure(instructions: Any) -> None:
    table = table_of(instructions, small=1000)
    table["versions"] = dict(table["versions"]) | {"numba": "0.1"}
    lines, code = instructions.judged(instructions.compare({"small": 2000}, table), table)
    assert code == 0
    assert any("made with numba 0.1, here" in line for line in lines)
    assert "off" in lines[1]


def test_a_case_without_a_committed_figure_or_without_a_count_is_not_passed_over(instructions: Any) -> None:
    table = table_of(instructions, small=1000)
    assert instructions.judged(instructions.compare({"small": 1000, "mix": 1}, table), table)[1] == 1
    with pytest.raises(instructions.CountError, match="not counted: small"):
        instructions.compare({"mix": 1}, table)


def test_the_committed_table_has_every_case(instructions: Any) -> None:
    text = instructions.TABLE.read_text()
    for kind in instructions.KINDS:
        for mode in instructions.MODES:
            assert f"\n{kind}-{mode} = " in text


def test_a_soak_ends_where_memory_grows_or_a_packet_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    billion = bench("billion")
    m, held = Machine(), 100 << 20
    monkeypatch.setattr(billion, "resident_bytes", lambda: held)
    watch = billion.Watch(1000, 10, 4 << 20, 100)
    for frames in (10, 100, 110):
        m.total.frames = m.total.filtered = frames
        watch.look(None, m)
    held += (4 << 20) + 1
    m.total.frames = m.total.filtered = 119
    watch.look(None, m)  # not its time yet
    m.total.frames = m.total.filtered = 120
    with pytest.raises(billion.SoakError, match=r"grown from 100\.0 to 104\.0 MiB"):
        watch.look(None, m)
    m.total.frames = 131
    with pytest.raises(billion.SoakError, match="after 131 frames: 0 received, 120 not"):
        watch.look(None, m)

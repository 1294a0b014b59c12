"""The ground of tests that make namespaces, interfaces and programs: `machine` says they may, `lab` makes them."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from emu.errors import EmuError, UsageError
from emu.live.lab.lab import Lab, needs_privileges
from emu.live.state import RUN_FOLDER


@pytest.fixture(scope="session")
def ground(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Why nothing can be made here; "" when all can."""
    patch = pytest.MonkeyPatch()
    patch.setenv(RUN_FOLDER, str(tmp_path_factory.mktemp("ground")))
    try:
        needs_privileges()
        with Lab() as made:  # a container may hold the capabilities and still not be let
            made.tap("ground0", namespace=made.namespace("ground"))
    except EmuError as error:
        return str(error)
    finally:
        patch.undo()
    return ""


def lacking(why: str) -> NoReturn:
    """Skip the test, or fail it where everything has to be there."""
    if os.environ.get("EMU_REQUIRE_TOOLS"):
        pytest.fail(f"{why}, and EMU_REQUIRE_TOOLS is set")
    pytest.skip(why)


def required(*checks: Callable[[], None]) -> None:
    """The foreign programs and devices of a demonstration are here, else as `lacking`."""
    try:
        for check in checks:
            check()
    except UsageError as missing:
        lacking(str(missing))


@pytest.fixture
def machine(ground: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of runs of this test and of the programs it starts; the test is skipped where nothing can be made."""
    if ground:
        lacking(ground)
    runs = tmp_path / "runs"
    monkeypatch.setenv(RUN_FOLDER, str(runs))
    return runs


@pytest.fixture
def lab(machine: Path) -> Iterator[Lab]:
    """A lab, taken down when the test ends."""
    with Lab() as made:
        yield made

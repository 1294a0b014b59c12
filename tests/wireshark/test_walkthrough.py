"""docs/wireshark.md is true: its commands run in order, and print what it says that they print."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest
from external_tools import tool
from wireshark_window import PROGRAMS, complaints_in, screen, settle_in

ROOT = Path(__file__).parents[2]
TOOLS = ("tshark", "capinfos", "editcap")
SETTLED_SECONDS = 3
NO_COMPLAINT = " MESSAGE] -- "  # that a capture has begun and ended
TITLE = {"verdicts.pcapng": r"verdicts\.pcapng", "-": r"\*-"}  # what it captures has no name yet


@pytest.fixture(scope="module")
def walkthrough() -> Iterator[ModuleType]:
    """tools/walkthrough.py."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "tools"))
        import walkthrough

        yield walkthrough


def test_what_the_page_shows_is_what_its_commands_print(walkthrough: ModuleType, tmp_path: Path) -> None:
    """All that need no screen, as a user who has a home of his own."""
    for name in TOOLS:
        tool(name)
    steps = [step for step in walkthrough.steps_of(walkthrough.PAGE.read_text("utf-8")) if not step.opens_a_window]
    assert {"install", "show", "diff", "export", "report"} <= {word for step in steps for word in step.command.split()}
    environment = walkthrough.settle(tmp_path)
    for step in steps:
        said = walkthrough.play(step, tmp_path, environment)
        where = f"{walkthrough.PAGE.name}:{step.line}: $ {step.command}"
        assert said.code in walkthrough.may_end_with(step), (where, said)
        assert said.complaints == [], where
        assert walkthrough.agrees(step.shown, said.out), f"{where}\n" + "\n".join(said.out)
    written = {path.name for path in tmp_path.iterdir()}
    assert {"verdicts.pcapng", "verdicts.parquet", "survivors.pcapng", "drops.netlink.pcap", "report.html"} <= written


def test_wireshark_opens_what_the_page_opens(walkthrough: ModuleType, tmp_path: Path) -> None:
    """Its own windows: the file, and a replay that goes on, through a pipe; no dialog, no complaint."""
    for program in PROGRAMS:
        tool(program)
    steps = walkthrough.steps_of(walkthrough.PAGE.read_text("utf-8"))
    environment = walkthrough.settle(tmp_path)
    for step in steps:
        if step.command.startswith(("emu wireshark install", "emu replay")) and not step.opens_a_window:
            assert walkthrough.play(step, tmp_path, environment).code == 0, step
        if step.command.startswith("emu wireshark install"):
            break
    settle_in(Path(environment["HOME"]) / ".config/wireshark")
    opening = [step for step in steps if step.opens_a_window]
    assert len(opening) == len(TITLE)
    for step, (argument, title) in zip(opening, TITLE.items(), strict=True):
        assert step.command.endswith(argument)
        with screen() as on, played(step.command, tmp_path, {**environment, "DISPLAY": on.display}) as stderr:
            on.window(f"{title}.*")
            time.sleep(SETTLED_SECONDS)
            assert all(re.fullmatch(f"{title}.*", window) for window in on.windows()), on.windows()
            assert [line for line in complaints_in(stderr.read_text()) if NO_COMPLAINT not in line] == []


@contextmanager
def played(command: str, folder: Path, environment: dict[str, str]) -> Iterator[Path]:
    """A command that goes on until it is ended, with all that it has started; the file of its stderr."""
    complaints, runtime = folder / "stderr", folder / "runtime"
    runtime.mkdir(mode=0o700, exist_ok=True)
    with complaints.open("wb") as stderr:
        program = subprocess.Popen(
            ["bash", "-c", command],
            cwd=folder,
            env={**environment, "XDG_RUNTIME_DIR": str(runtime)},
            stdout=stderr,
            stderr=stderr,
            start_new_session=True,
        )
    try:
        yield complaints
    finally:
        os.killpg(program.pid, signal.SIGTERM)
        program.wait(20)


@pytest.mark.parametrize(
    ("shown", "said", "same"),
    [
        (["a", "b"], ["a", "b"], True),
        (["a"], ["a", "b"], False),
        (["a", "b"], ["a"], False),
        (["a", "...", "d"], ["a", "b", "c", "d"], True),
        (["a", "..."], ["a"], True),
        (["...", "x"], ["a", "b"], False),
        ([], ["a"], False),
    ],
)
def test_an_output_that_differs_is_noticed(
    walkthrough: ModuleType, shown: list[str], said: list[str], same: bool
) -> None:
    assert walkthrough.agrees(shown, said) is same

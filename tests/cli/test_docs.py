"""The generated pages are current, and the README shows what is there."""

import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


def test_the_generated_pages_are_current() -> None:
    """docs/scenario.md, and the tables of docs/wireshark.md, are what tools/docs.py makes of emu's own."""
    done = subprocess.run([sys.executable, "tools/docs.py", "--check"], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, ""), "run: python tools/docs.py"


@pytest.mark.parametrize("text", ["README.md", "docs/wireshark.md"])
def test_every_picture_and_page_that_is_linked_is_there(text: str) -> None:
    """Pictures are pictures; tools/screenshots.py and tools/docs.py make them."""
    linked = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", (ROOT / text).read_text(encoding="utf-8"))
    assert len(linked) > 2
    for name in linked:
        data = ((ROOT / text).parent / name).read_bytes()
        assert data.startswith(b"\x89PNG") == name.endswith(".png"), name


def test_the_readme_shows_a_drop_as_the_walk_through_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `emu show` prints there is part of what docs/wireshark.md shows, which is run by a test."""
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    from walkthrough import ANYTHING, PAGE, agrees, steps_of

    shown = re.findall(
        r"^```\n\$ (emu show .*)\n((?:.*\n)*?)```$", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE
    )
    assert len(shown) == 1
    said = {step.command: step.shown for step in steps_of(PAGE.read_text("utf-8"))}
    assert agrees([*shown[0][1].splitlines(), ANYTHING], said[shown[0][0]])


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """tools/docs.py."""
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    import docs

    return docs


@pytest.mark.slow
def test_the_readme_says_of_the_deadlock_what_it_comes_to(tool: ModuleType) -> None:
    """The table of README.md is that of the runs."""
    pytest.importorskip("numba")
    assert tool.RUNS_MARK.findall(tool.README.read_text(encoding="utf-8")) == [tool.runs_table()], "run: make docs"


def test_the_readme_shows_the_lockup(tool: ModuleType) -> None:
    """The picture is there, and is one."""
    assert "(docs/lockup.png)" in tool.README.read_text(encoding="utf-8")
    assert tool.PICTURE.read_bytes().startswith(b"\x89PNG")

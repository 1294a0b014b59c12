"""The generated pages are current."""

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


def test_the_page_of_the_scenario_is_current(tmp_path: Path) -> None:
    """docs/scenario.md is what tools/docs.py makes of the schema."""
    done = subprocess.run([sys.executable, "tools/docs.py", "--check"], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, ""), "run: python tools/docs.py"


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

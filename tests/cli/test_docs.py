"""The generated pages are current."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_page_of_the_scenario_is_current(tmp_path: Path) -> None:
    """docs/scenario.md is what tools/docs.py makes of the schema."""
    done = subprocess.run([sys.executable, "tools/docs.py", "--check"], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, ""), "run: python tools/docs.py"

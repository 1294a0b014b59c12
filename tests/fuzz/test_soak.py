"""The soak runs, and tells the seed of what it finds."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def soak(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "tools" / "soak.py"), *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_plain_runs_agree_in_all_batches() -> None:
    """Some seeds, always the same: no invariant breaks, and no output depends on the size of batches."""
    done = soak("--plain-only", "--seed", "1", "--runs", "25", "--seconds", "100")
    assert done.returncode == 0, done.stdout + done.stderr
    assert " frames agree" in done.stdout


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.xdist_group("compiled")
def test_engines_agree() -> None:
    """Some seconds of both engines."""
    pytest.importorskip("numba")
    done = soak("--seed", "1000", "--seconds", "12")
    assert done.returncode == 0, done.stdout + done.stderr

"""Other people's programs as judges of ours: a test that needs one is skipped where it is not installed.

With EMU_REQUIRE_TOOLS set (as in CI) such a test fails instead: a skip must not pass for a check.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest


def tool(name: str) -> str:
    """The path of a program, e.g. `tool("tshark")`."""
    found = shutil.which(name)
    if found is None:
        if os.environ.get("EMU_REQUIRE_TOOLS"):
            pytest.fail(f"{name} is not installed, and EMU_REQUIRE_TOOLS is set")
        pytest.skip(f"{name} is not installed")
    return found


def run(name: str, *arguments: str | Path) -> str:
    """What the program prints; it must succeed."""
    done = subprocess.run([tool(name), *map(str, arguments)], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return done.stdout.decode()

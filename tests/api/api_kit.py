"""What the tests of the Python API share: captures, and what the command line says of the same."""

import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

from replay_kit import PCAPS

NOP, LOGIN, MIXED = (str(PCAPS / f"{name}.pcap") for name in ("nop", "login", "mixed"))


def command(*words: str | Path) -> tuple[int, str]:
    """The exit code of the command line, and what it prints on standard output."""
    from emu.cli.main import main

    out = io.StringIO()
    with patch.object(sys, "argv", ["emu", *map(str, words)]), contextlib.redirect_stdout(out):
        try:
            main()
        except SystemExit as leaving:
            return int(leaving.code or 0), out.getvalue()
    raise AssertionError("main() always leaves")


def printed(*words: str | Path) -> dict[str, Any]:
    """What the command line prints with --json."""
    found: dict[str, Any] = json.loads(command(*words, "--json")[1])
    return found


def without_run(summary: dict[str, Any]) -> dict[str, Any]:
    """A summary without what differs from run to run."""
    return {key: value for key, value in summary.items() if key != "run"}

"""A home of its own for Wireshark, with what emu installs there, and what tshark says in it."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from external_tools import tool

from emu.wireshark.folders import folders
from emu.wireshark.install import PARTS, install

ROOT = Path(__file__).parents[2]
MIXED = ROOT / "pcaps" / "mixed.pcap"
EXTCAP_COMPLAINS = "emu-extcap: "


def environment_of(home: Path, **more: str) -> dict[str, str]:
    """What a program sees whose user lives there: nothing of ours but where programs are."""
    return {"PATH": os.environ["PATH"], "HOME": str(home), "LC_ALL": "C.UTF-8", **more}


def emu_at(environment: Mapping[str, str], *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run emu as that user."""
    return subprocess.run(
        [sys.executable, "-m", "emu", *map(str, arguments)],
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def installed(home: Path, *parts: str) -> dict[str, str]:
    """Install these parts into a home, or all; its environment."""
    tool("tshark")
    home.mkdir(parents=True, exist_ok=True)
    environment = environment_of(home)
    install(folders(environment), parts or PARTS)
    return environment


def tshark(environment: Mapping[str, str], *arguments: str | Path) -> tuple[list[str], list[str]]:
    """The lines that tshark prints there, and those of its stderr that complain."""
    done = subprocess.run(
        [tool("tshark"), *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    complaints = [line for line in done.stderr.splitlines() if not line.startswith("Running as user ")]
    assert done.returncode == 0 or complaints, done
    return done.stdout.splitlines(), complaints


def replayed(folder: Path, name: str, *arguments: str) -> tuple[Path, Path]:
    """A replay's annotated capture, and its log as JSON lines."""
    capture, log = folder / f"{name}.pcapng", folder / f"{name}.jsonl"
    options: tuple[str | Path, ...] = ("--engine", "plain", "-w", capture, "--log", log, *arguments)
    done = emu_at(os.environ, "replay", MIXED, *options)
    assert done.returncode in (0, 1), done.stderr  # 1: an oops
    return capture, log

"""A home with our extcap in it, for tshark, and the extcap as Wireshark starts it, with a reader at its pipe."""

import os
import shlex
import subprocess
import sys
import threading
import time
from pathlib import Path

import replay_kit

ROOT = replay_kit.ROOT
PCAPS = replay_kit.PCAPS
PATIENCE_S = 60.0

EXTCAP = (sys.executable, "-P", "-m", "emu.wireshark.extcap")


def environment(home: Path) -> dict[str, str]:
    """Of a user whose home this is."""
    return os.environ | {"HOME": str(home), "PYTHONPATH": str(ROOT), "XDG_CONFIG_HOME": str(home / ".config")}


def make_home(home: Path) -> Path:
    """A home with the extcap; 4.0 finds it here whoever the user is."""
    folder = home / ".config" / "wireshark" / "extcap"
    folder.mkdir(parents=True)
    program = folder / "emu-extcap"
    program.write_text(f'#!/bin/sh\nexec {shlex.join(EXTCAP)} "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    return home


def tshark(home: Path, *arguments: str | Path, user: str | None = None) -> "subprocess.CompletedProcess[str]":
    """Run tshark in that home."""
    return subprocess.run(
        [replay_kit.tool("tshark"), *map(str, arguments)],
        env=environment(home),
        cwd=home,
        user=user,
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE_S,
        check=False,
    )


def extcap(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    """One call of the extcap, to its end."""
    words = [*EXTCAP, *map(str, arguments)]
    return subprocess.run(words, env=environment(Path.home()), capture_output=True, text=True, timeout=PATIENCE_S)


class Capturing:
    """The extcap capturing into a pipe that a thread reads."""

    def __init__(self, folder: Path, interface: str, *arguments: str | Path) -> None:
        """Start it, and wait until it has opened the pipe."""
        fifo = folder / "fifo"
        os.mkfifo(fifo)
        words = ["--capture", "--extcap-interface", interface, "--fifo", str(fifo), *map(str, arguments)]
        self.process = subprocess.Popen([*EXTCAP, *words], env=environment(Path.home()), stderr=subprocess.PIPE)
        self.octets = b""
        self.ended = False
        self._pipe = os.open(fifo, os.O_RDONLY)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while octets := os.read(self._pipe, 65536):
            self.octets += octets
        self.ended = True

    def until(self, size: int) -> None:
        """Wait until so many bytes have come."""
        deadline = time.monotonic() + PATIENCE_S
        while len(self.octets) < size and time.monotonic() < deadline:
            time.sleep(0.02)
        assert len(self.octets) >= size

    def end(self) -> tuple[int, str]:
        """How it ended: exit code and what it said."""
        _, err = self.process.communicate(timeout=PATIENCE_S)
        self._reader.join(PATIENCE_S)
        assert self.ended
        os.close(self._pipe)
        return self.process.returncode, err.decode()


def processes_of(word: str) -> list[int]:
    """The processes with this word on their command line."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if word.encode() in entry.read_bytes().split(b"\0"):
                found.append(int(entry.parent.name))
        except OSError:  # it has gone
            continue
    return found

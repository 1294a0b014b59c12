"""`emu` as a user runs it: what it prints, its exit code, and what it leaves behind."""

import contextlib
import io
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import replay_kit as kit

ROOT = kit.ROOT

NOP, LOGIN, MIXED = (str(kit.PCAPS / f"{name}.pcap") for name in ("nop", "login", "mixed"))
EMU = (sys.executable, "-m", "emu")

__all__ = ["EMU", "LOGIN", "MIXED", "NOP", "Done", "emu", "emu_here", "kit", "refused"]


class Done(NamedTuple):
    """How a run ended."""

    code: int
    out: str
    err: str


def emu(*arguments: str | Path, stdin: bytes = b"", cwd: Path | None = None) -> Done:
    """Run `emu` to its end, in a process of its own."""
    done = subprocess.run([*EMU, *map(str, arguments)], input=stdin, capture_output=True, cwd=cwd, timeout=120)
    return Done(done.returncode, done.stdout.decode(), done.stderr.decode())


def emu_here(*arguments: str | Path, cwd: Path | None = None) -> Done:
    """Run `emu` in this process: the same main, without the start of another Python."""
    from emu.cli.main import main

    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
    with (
        patch.object(sys, "argv", ["emu", *map(str, arguments)]),
        contextlib.chdir(cwd or Path.cwd()),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as leaving:
            code = int(str(leaving.code))
    texts = []
    for stream in (out, err):
        stream.flush()
        octets = stream.buffer
        assert isinstance(octets, io.BytesIO)
        texts.append(octets.getvalue().decode())
    return Done(code, *texts)


def refused(*arguments: str | Path, code: int, stdin: bytes | None = None, cwd: Path | None = None) -> str:
    """Run `emu` where it must refuse: exit code, nothing on stdout, one line on stderr, which is returned."""
    done = emu_here(*arguments, cwd=cwd) if stdin is None else emu(*arguments, stdin=stdin, cwd=cwd)
    assert (done.code, done.out) == (code, ""), done
    lines = done.err.splitlines()
    assert len(lines) == 1, done.err
    assert lines[0].startswith("emu: ")
    assert "bug of emu" not in lines[0]
    return lines[0].removeprefix("emu: ")

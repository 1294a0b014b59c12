"""Who may not make interfaces is told so in one line; these need no privilege themselves."""

import subprocess
import sys
from pathlib import Path

import pytest

from emu.errors import Exit, UsageError
from emu.live.lab import privileges
from emu.live.lab.lab import needs_privileges

# As the command line does: a line, and the error's code.
ASK = """
import sys
from emu.errors import EmuError
from emu.live.lab.lab import Lab, needs_privileges
try:
    {what}
except EmuError as error:
    print(error, file=sys.stderr)
    sys.exit(error.exit_code)
"""


def without_capabilities(what: str) -> "subprocess.CompletedProcess[str]":
    dropped = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if privileges.effective_capabilities() else []
    command = [*dropped, sys.executable, "-c", ASK.format(what=what)]
    return subprocess.run(command, capture_output=True, check=False, text=True, timeout=20)


def test_a_user_without_the_capabilities_is_told_which_and_what_to_do() -> None:
    done = without_capabilities("needs_privileges()")
    assert done.returncode == Exit.USAGE
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert "CAP_NET_ADMIN" in line
    assert "CAP_SYS_ADMIN" in line
    assert "sudo" in line


def test_what_is_made_without_asking_first_fails_in_a_line_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMU_RUN_DIR", str(tmp_path / "runs"))
    for what in ("Lab().__enter__().tap('emut0')", "Lab().__enter__().namespace('a')"):
        done = without_capabilities(what)
        assert done.returncode == Exit.USAGE, done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_without_pyroute2_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyroute2", None)
    with pytest.raises(UsageError, match=r"pip install 'emu\[live\]'"):
        needs_privileges()


def test_without_a_tun_device_what_to_do_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("pyroute2")
    monkeypatch.setattr(privileges, "TUN_DEVICE", tmp_path / "tun")
    monkeypatch.setattr(privileges, "effective_capabilities", lambda: -1)
    with pytest.raises(UsageError, match="modprobe tun"):
        needs_privileges()

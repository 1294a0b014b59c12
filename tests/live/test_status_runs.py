"""Which runs are found, what is said of those that cannot be shown, and how the screen ends."""

import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
from status_kit import tell

from emu.errors import Exit, NothingToPlayError, UsageError
from emu.live.state import RUN_FOLDER, STATE_FILE, LiveState
from emu.live.status.find_runs import find_runs, is_stale
from emu.live.status.status import status_json, status_screen

FOLLOW = "import sys; from emu.live.status.status import status_screen; sys.exit(int(status_screen()))"
SEEN_S = 20.0


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where runs have their folders in this test; it is not there yet."""
    monkeypatch.setenv(RUN_FOLDER, str(tmp_path / "runs"))
    return tmp_path / "runs"


def dead_pid() -> int:
    """A process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    return process.pid


def test_a_run_is_found_while_its_process_lives(runs: Path) -> None:
    state = tell(runs)
    tell(runs, pid=dead_pid())
    (runs / "notes").mkdir()
    found = find_runs()
    assert found.runs == [state]
    assert not found.hidden
    assert found.died == 1


def test_a_process_that_got_the_number_of_a_dead_run_is_not_taken_for_it(runs: Path) -> None:
    tell(runs, updated_ns=time.time_ns() - 10**9 * 86_400 * 365 * 30)
    found = find_runs()
    assert not found.runs
    assert found.died == 1


def test_a_folder_without_a_state_is_no_run(runs: Path) -> None:
    (runs / str(os.getpid())).mkdir(parents=True)
    found = find_runs()
    assert not found.runs
    assert not found.hidden
    assert not found.died


@pytest.mark.parametrize("octets", [b"", b"{", b"\xff", b'{"pid": "x"}', b'{"policy": "mainline"}'])
def test_a_damaged_state_is_said_in_one_line(runs: Path, octets: bytes) -> None:
    tell(runs)
    file = runs / str(os.getpid()) / STATE_FILE
    file.write_bytes(octets)
    (line,) = find_runs().hidden
    assert line.startswith(f"{file}: is damaged, or another version of emu wrote it: ")
    with pytest.raises(UsageError, match="is damaged"):
        status_screen(once=True)


def test_a_state_in_the_folder_of_another_process_is_said(runs: Path) -> None:
    tell(runs)
    (runs / str(os.getpid())).rename(runs / str(os.getppid()))
    assert "in another's folder" in find_runs().hidden[0]


def test_a_folder_that_this_user_may_not_read_says_what_to_do(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tell(runs)

    def refuse(_self: Path) -> bytes:  # root may read all, so the refusal is made
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert find_runs().hidden == [f"run {os.getpid()}: Permission denied (sudo emu live status)"]


def test_a_run_is_stale_when_it_has_not_told_anything_for_two_seconds() -> None:
    state = LiveState(pid=1, updated_ns=10**18)
    assert not is_stale(state, 10**18 + 2 * 10**9)
    assert is_stale(state, 10**18 + 2 * 10**9 + 1)


def test_no_run_is_its_own_exit_code(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(NothingToPlayError, match="no live run"):
        status_screen()
    assert status_json() == Exit.NOTHING_TO_PLAY
    assert json.loads(capsys.readouterr().out) == {"runs": [], "hidden": [], "died": 0}


def test_json_has_what_the_run_tells_beside_the_real_host(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = tell(runs, label="x", host_if="lo")
    assert status_json() == Exit.DONE
    (run,) = json.loads(capsys.readouterr().out)["runs"]
    assert set(run) == {"state", "real"}
    assert run["state"]["label"] == state.label
    assert run["state"]["pid"] == run["real"]["processes"][0]["pid"] == os.getpid()
    assert run["real"]["processes"][0]["rss_bytes"] > 1 << 20
    assert [interface["name"] for interface in run["real"]["interfaces"]] == ["lo"]


def test_where_there_is_no_terminal_it_is_printed_once(
    runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes it for a terminal
    tell(runs, label="the run")
    assert status_screen() == Exit.DONE
    assert capsys.readouterr().out.count("the run") == 1


def follow(runs: Path, stop: str) -> tuple[int, bytes]:
    """Follow on a terminal until it has drawn twice; then a signal, or the run ends."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 60, 140, 0, 0))
    with subprocess.Popen(["sleep", "60"]) as run:
        state = tell(runs, pid=run.pid, label="followed")
        environment = os.environ | {"TERM": "xterm"}
        with subprocess.Popen([sys.executable, "-c", FOLLOW], stdout=theirs, stderr=theirs, env=environment) as viewer:
            os.close(theirs)
            try:
                shown = read_until(ours, b"followed", b"")
                tell(runs, **{name: getattr(state, name) for name in ("pid", "label")}, frames_per_second=777)
                shown = read_until(ours, b"777 frames/s", shown)
                if stop == "run ends":
                    run.kill()
                    run.wait()
                else:
                    viewer.send_signal(getattr(signal, stop))
                shown = read_until(ours, None, shown)
                return viewer.wait(SEEN_S), shown
            finally:
                viewer.kill()
                run.kill()
                os.close(ours)


def read_until(terminal: int, words: bytes | None, shown: bytes) -> bytes:
    """What a terminal was given, until it has these words; None: until nobody writes to it any more."""
    until = time.monotonic() + SEEN_S
    while words is None or words not in shown:
        assert time.monotonic() < until, shown
        try:
            shown += os.read(terminal, 65536)
        except OSError:  # EIO: it is closed at the other end
            assert words is None, shown
            break
    return shown


@pytest.mark.parametrize(
    ("stop", "code"), [("SIGINT", Exit.INTERRUPTED), ("SIGTERM", Exit.INTERRUPTED), ("run ends", Exit.DONE)]
)
def test_it_follows_until_a_signal_or_the_end_of_the_run(runs: Path, stop: str, code: Exit) -> None:
    ended, shown = follow(runs, stop)
    assert ended == code, shown
    assert b"\x1b[?25h" in shown  # the cursor is there again
    assert b"Traceback" not in shown
    assert (b"the last run has ended" in shown) == (stop == "run ends")

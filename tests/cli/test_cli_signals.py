"""Ctrl-C, SIGTERM and closed pipes: outputs are complete in themselves, and at most one line is said."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from emu_process import EMU, LOGIN, MIXED, NOP, ROOT, kit

PATIENCE_S = 20.0


@contextmanager
def slow_pipe(octets: bytes, *arguments: str, cwd: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`emu replay -` on a pipe that has given `octets` and stays open."""
    process = subprocess.Popen(
        [*EMU, "replay", "-", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=cwd,
    )
    assert process.stdin is not None
    process.stdin.write(octets)
    process.stdin.flush()
    try:
        wait_until_it_waits(process)
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_until_it_waits(process: subprocess.Popen[bytes]) -> None:
    """Until the process has read what there is and sleeps in a read of the pipe."""
    ready = Path(f"/proc/{process.pid}/syscall")
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        words = ready.read_text().split() if process.poll() is None else []
        if words[:2] in (["0", "0x0"], ["63", "0x0"]):  # read(0, ...) on x86-64 and arm64
            return
        time.sleep(0.02)
    pytest.fail("the process does not wait for its input")


def stop(process: subprocess.Popen[bytes], number: signal.Signals) -> tuple[int, str, str]:
    """Send a signal; exit code, stdout and stderr."""
    process.send_signal(number)
    out, err = process.communicate(timeout=PATIENCE_S)
    return process.returncode, out.decode(), err.decode()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("engine", ["auto", "plain"])
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_an_interrupted_pipe_is_played_as_far_as_it_came(
    tmp_path: Path, number: signal.Signals, engine: str, suffix: str
) -> None:
    """A signal while a slow pipe is read: exit 130, what came is played, the outputs are whole and say why they end."""
    octets = Path(LOGIN).read_bytes()
    outputs = ("-w", "out.pcapng", "--log", f"log{suffix}", "--engine", engine)
    with slow_pipe(octets + bytes(7), *outputs, cwd=tmp_path) as process:
        code, out, err = stop(process, number)
    assert (code, err) == (130, "emu: interrupted after frame 80; outputs are closed and say so\n")
    assert "80 frames" in out
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"log{suffix}", "out.pcapng"]
    assert b"interrupted after frame 80" in (tmp_path / "out.pcapng").read_bytes()
    assert "80" in kit.run("capinfos", "-Mc", tmp_path / "out.pcapng")
    assert b"interrupted" in (tmp_path / f"log{suffix}").read_bytes() or suffix == ".csv"


@pytest.mark.parametrize("octets", [b"", b"\xd4\xc3", kit.pcap([])])
def test_an_interruption_before_the_first_frame(tmp_path: Path, octets: bytes) -> None:
    """Before a frame came: exit 130, one line, and no output that pretends to hold anything."""
    with slow_pipe(octets, "-w", "out.pcapng", cwd=tmp_path) as process:
        code, _, err = stop(process, signal.SIGINT)
    assert code == 130
    assert len(err.splitlines()) == 1
    assert err.startswith("emu: interrupted")
    for path in tmp_path.iterdir():
        assert path.name == "out.pcapng"
        assert b"interrupted after frame 0" in path.read_bytes()


@pytest.mark.parametrize(
    ("words", "frames"),
    [((), 41), (("--flood", "arp:count=5"), 46), (("--flood", "arp:count=5", "--engine", "plain"), 46)],
)
def test_an_interrupted_run_prints_json(words: tuple[str, ...], frames: int, tmp_path: Path) -> None:
    """With --json the summary of what was played is complete and says why it ends; a flood beside it plays too."""
    with slow_pipe(Path(NOP).read_bytes(), *words, "--json", cwd=tmp_path) as process:
        code, out, _ = stop(process, signal.SIGINT)
    assert code == 130
    assert f'"incomplete": "interrupted after frame {frames}"' in out


def test_an_interrupted_comparison_says_so(tmp_path: Path) -> None:
    """Ctrl-C while compare still reads its pipe: exit 130 and one line."""
    process = subprocess.Popen(
        [*EMU, "compare", "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path
    )
    try:
        wait_until_it_waits(process)
        assert stop(process, signal.SIGINT) == (130, "", "emu: interrupted\n")
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("after_s", [0.08, 0.16, 0.24])
def test_sigterm_while_it_starts_is_one_line(after_s: float, tmp_path: Path) -> None:
    """While modules are imported or the command line is read: exit 130, as for Ctrl-C, and nothing is left."""
    command = [*EMU, "replay", "-", "-w", "out.pcapng"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path)
    try:
        wait_until_it_heeds(process, signal.SIGTERM)
        time.sleep(after_s)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
    assert process.returncode == 130
    assert err.splitlines()[-1].startswith(b"emu: interrupted")
    assert len(err.splitlines()) == 1


def wait_until_it_heeds(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Until the process has a handler for the signal."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        status = Path(f"/proc/{process.pid}/status").read_text()
        caught = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:"))
        if int(caught, 16) >> (number - 1) & 1:
            return
        time.sleep(0.005)
    pytest.fail("the process has no handler")


@pytest.mark.parametrize("words", ["export - --format jsonl -w out.jsonl", "report - -w out.html", "show -"])
def test_an_interrupted_verb_of_verdicts_leaves_nothing(words: str, tmp_path: Path) -> None:
    """What is made of verdicts can be made again: half of it is not kept, nor what was read of the pipe."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    process = subprocess.Popen(
        [*EMU, *words.split()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(temporary)},
    )
    try:
        assert process.stdin is not None
        process.stdin.write(Path(NOP).read_bytes())
        process.stdin.flush()
        wait_until_it_waits(process)
        assert stop(process, signal.SIGTERM) == (130, "", "emu: interrupted\n")
    finally:
        process.kill()
        process.communicate()
    assert list(temporary.iterdir()) == []
    assert [path.name for path in tmp_path.iterdir()] == ["temporary"]


@pytest.mark.parametrize(
    "command",
    [
        f"replay {MIXED} --engine plain -w - --limit 2000",
        f"replay {LOGIN} --json",
        f"replay {LOGIN}",
        f"compare {NOP}",
        f"compare {NOP} --policies mainline,phillips-v1 --engine plain --jobs 2",
        "policies",
        "schema",
    ],
)
def test_a_closed_pipe_is_no_mishap(command: str) -> None:
    """`| head -c 1`: no traceback, nothing but the summary on stderr."""
    shell = f"set -o pipefail; {' '.join(EMU)} {command} | head -c 1 > /dev/null"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, cwd=ROOT, timeout=60, check=False)
    assert done.returncode in (0, 1)
    assert done.stderr == b""


def test_stdout_that_is_full_is_one_line() -> None:
    """Standard output on a full disk: one line, no traceback."""
    with open(os.devnull.replace("null", "full"), "wb") as full:  # noqa: PTH123
        done = subprocess.run([*EMU, "replay", NOP, "--json"], stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode != 0
    assert len(done.stderr.splitlines()) == 1
    assert b"No space left on device" in done.stderr

"""A disk that is full, or a limit that is reached: one line, an exit code, and nothing that looks whole."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from emu_process import LOGIN, MIXED, ROOT, emu

# Python ignores SIGXFSZ: the write fails with EFBIG.
LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
sys.argv[0] = "emu"
from emu.cli.main import run
run()
"""
PLAIN = ("--engine", "plain")


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An annotated capture, beside a log of it."""
    folder = tmp_path_factory.mktemp("verdicts")
    capture = folder / "a.pcapng"
    done = emu("replay", MIXED, *PLAIN, "-w", capture, "--annotate", "all", "--log", folder / "a.parquet")
    assert done.code == 0
    return capture


def limited(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """`emu` that may write files of 20 000 bytes only."""
    command = [sys.executable, "-B", "-c", LIMITED, *map(str, arguments)]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment, timeout=120, check=False)


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (("replay", MIXED, *PLAIN, "-w"), "o.pcapng"),
        (("replay", MIXED, *PLAIN, "--log"), "o.arrow"),
        (("replay", MIXED, *PLAIN, "--log"), "o.csv"),
        (("replay", MIXED, *PLAIN, "--record-events"), "o.jsonl"),
        (("replay", LOGIN, *PLAIN, "--report"), "o.html"),
        (("flood", "udp", "--count", "3000", *PLAIN, "-w"), "o.pcap"),
        (("run", "deadlock", "--for", "50ms", "--no-baseline", *PLAIN, "--plot"), "o.png"),
        (("report", "a.parquet", "-w"), "o.html"),
        (("export", "a.parquet", "--format", "jsonl", "-w"), "o.jsonl"),
        (("export", "a.pcapng", "--format", "drops", *PLAIN, "-w"), "o.drops.pcapng"),
    ],
)
def test_an_output_that_cannot_grow_stays_partial(
    words: tuple[str, ...], name: str, verdicts: Path, tmp_path: Path
) -> None:
    """The line names the file, what happened and where the rest is; under its own name there is nothing."""
    words = tuple(str(verdicts.parent / word) if word.startswith("a.") else word for word in words)
    done = limited(*words, name, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"emu: {name}: File too large; what was written is in {tmp_path / name}.partial; files may not be larger here: "
        "see ulimit -f\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == [f"{name}.partial"]


def test_rows_that_a_report_is_made_of_are_no_output(tmp_path: Path) -> None:
    """They lie beside it and go with it: the line speaks of the report, and nothing is left."""
    done = limited("replay", MIXED, *PLAIN, "--loop", "3", "--report", "o.html", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"emu: o.html: File too large: until it is written, its rows are kept in {tmp_path}; make room there, or name "
        "another place for it\n"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [("show",), ("report", "-w", "o.html"), ("export", "--format", "csv", "-w", "o.csv")])
def test_a_temporary_folder_without_room_is_named(words: tuple[str, ...], verdicts: Path, tmp_path: Path) -> None:
    """Verdicts of a capture are kept in a temporary folder; no half output stays for want of it."""
    done = limited(words[0], verdicts, *words[1:], cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"emu: {verdicts}: cannot be kept in ")
    assert done.stderr.endswith("name another folder in TMPDIR\n")
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words", [("replay", LOGIN, "-w"), ("replay", LOGIN, "--record-events"), ("flood", "udp", "-w")]
)
def test_a_full_device_is_one_line(words: tuple[str, ...]) -> None:
    """It is named, and what to do."""
    done = emu(*words, "/dev/full", *PLAIN)
    assert (done.code, done.out.count("\n")) == (2, 0)
    assert done.err.splitlines()[-1] == (
        "emu: /dev/full: No space left on device; make room there, or write to another disk"
    )


def test_a_full_disk(tmp_path: Path) -> None:
    """A real file system of 64 KiB: outputs, and what a comparison keeps of its standard input."""
    disk = tmp_path / "disk"
    disk.mkdir()
    script = (
        f"mount -t tmpfs -o size=64k tmpfs '{disk}' || exit 99\n"
        f"'{sys.executable}' -m emu replay '{MIXED}' --engine plain -w '{disk}/o.pcapng'; echo $?; ls '{disk}'\n"
        f"rm '{disk}'/*\n"
        f"cat '{MIXED}' | TMPDIR='{disk}' '{sys.executable}' -m emu compare - --engine plain; echo $?; ls -A '{disk}'\n"
    )
    if shutil.which("unshare") is None:
        pytest.skip("there is no unshare, with which to mount something of our own")
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script], capture_output=True, text=True, cwd=ROOT, timeout=60, check=False
    )
    if done.returncode == 99 or "unshare" in done.stderr:
        pytest.skip(f"nothing can be mounted here: {done.stderr}")
    assert done.stdout == "2\no.pcapng.partial\n2\n"
    first, second = done.stderr.splitlines()
    assert first == (
        f"emu: {disk}/o.pcapng: No space left on device; what was written is in {disk}/o.pcapng.partial; make room "
        "there, or write to another disk"
    )
    assert second.startswith(f"emu: stdin: cannot be kept in {disk} (No space left on device; 0 MiB are free there)")

"""Outputs are complete under their name or visibly unfinished, whatever happens while they are written."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from emu.capture.output import ClosedPipe, OutputFile
from emu.errors import EmuError, Exit, UsageError


def partial(path: Path) -> Path:
    return path.with_name(path.name + ".partial")


def python(source: str, *arguments: str | Path, before: str = "", after: str = "") -> subprocess.CompletedProcess[str]:
    """Run a few lines in a process of their own, within a shell line."""
    line = f'{before} "$0" -c "$1" "${{@:2}}" {after}'
    command = ["bash", "-c", line, sys.executable, source, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


WRITE = "import sys; from emu.capture.output import *; "


def test_output_has_its_name_only_when_finished(tmp_path: Path) -> None:
    path = tmp_path / "x.pcapng"
    output = OutputFile(path)
    output.write(b"octets")
    assert not path.exists()
    output.flush()
    assert partial(path).read_bytes() == b"octets"
    output.finish()
    assert path.read_bytes() == b"octets"
    assert os.listdir(tmp_path) == ["x.pcapng"]  # noqa: PTH208 - only the names
    output.finish()


def test_context_finishes_and_replaces_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"of yesterday")
    with OutputFile(str(path)) as output:
        output.write(bytearray(b"of "))
        output.write(memoryview(b"today"))
        assert path.read_bytes() == b"of yesterday"
    assert path.read_bytes() == b"of today"


def test_crash_keeps_the_old_file_and_the_partial_one(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"of yesterday")
    with pytest.raises(ZeroDivisionError), OutputFile(path) as output:
        output.write(b"half")
        raise ZeroDivisionError
    assert path.read_bytes() == b"of yesterday"
    assert partial(path).read_bytes() == b"half"


def test_output_finished_before_a_later_crash_stays(tmp_path: Path) -> None:
    path = tmp_path / "x"
    with pytest.raises(KeyboardInterrupt), OutputFile(path) as output:
        output.finish()
        raise KeyboardInterrupt
    assert path.exists()
    assert not partial(path).exists()


def test_stale_partial_is_replaced_and_a_link_there_not_followed(tmp_path: Path) -> None:
    path, victim = tmp_path / "x", tmp_path / "victim"
    victim.write_bytes(b"precious")
    partial(path).symlink_to(victim)
    with OutputFile(path) as output:
        output.write(b"new")
    assert victim.read_bytes() == b"precious"
    assert path.read_bytes() == b"new"
    assert not path.is_symlink()


def test_link_stays_a_link(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    link.symlink_to(target)
    with OutputFile(link) as output:
        output.write(b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"


def test_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a directory; name a file in it"):
        OutputFile(tmp_path)


def test_read_only_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"precious")
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everything
    with pytest.raises(UsageError, match="exists and is read-only"):
        OutputFile(path)


def test_missing_folder_is_told(tmp_path: Path) -> None:
    path = tmp_path / "no" / "x"
    with pytest.raises(UsageError) as raised:
        OutputFile(path)
    assert str(raised.value) == f"{path}: No such file or directory"


def test_partial_name_taken_by_a_folder_is_told(tmp_path: Path) -> None:
    path = tmp_path / "x"
    partial(path).mkdir()
    with pytest.raises(UsageError, match="Is a directory"):
        OutputFile(path)


@pytest.mark.parametrize("how", ["itself", "symlink", "hardlink", "partial"])
def test_input_is_never_overwritten(tmp_path: Path, how: str) -> None:
    given = tmp_path / "capture.pcap"
    given.write_bytes(b"precious")
    output = tmp_path / "other"
    if how == "itself":
        output = given
    elif how == "symlink":
        output.symlink_to(given)
    elif how == "hardlink":
        output.hardlink_to(given)
    else:
        given = given.rename(partial(output))
    with pytest.raises(UsageError, match=r"would overwrite the input .*; name another output"):
        OutputFile(output, inputs=[tmp_path / "nothing", "-", given])
    assert given.read_bytes() == b"precious"


def test_input_that_the_shell_feeds_or_extends_is_never_overwritten(tmp_path: Path) -> None:
    given = tmp_path / "capture.pcap"
    given.write_bytes(b"precious")
    fed = python(WRITE + "OutputFile(sys.argv[1], ['-'])", given, after=f"< '{given}'")
    assert "would overwrite the input -" in fed.stderr
    extended = python(WRITE + "OutputFile('-', [sys.argv[1]])", given, after=f">> '{given}'")
    assert "-: would overwrite the input" in extended.stderr
    assert given.read_bytes() == b"precious"


def test_same_device_is_no_same_file(tmp_path: Path) -> None:
    with OutputFile("/dev/null", inputs=["/dev/null"]) as output:
        output.write(b"nobody reads this")
    assert not Path("/dev/null.partial").exists()


def test_full_device_is_told_with_its_name() -> None:
    with pytest.raises(UsageError) as raised, OutputFile("/dev/full") as output:
        output.write(b"x" * 100_000)
    assert str(raised.value) == "/dev/full: No space left on device; make room there, or write to another disk"
    with pytest.raises(UsageError, match="No space left"), OutputFile("/dev/full") as output:
        output.write(b"x")
        output.flush()
    with pytest.raises(UsageError, match="No space left"), OutputFile("/dev/full") as output:
        output.write(b"x")


def test_disk_full_keeps_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "x"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, limits[1]))  # Python ignores SIGXFSZ: writes fail
        with pytest.raises(UsageError) as raised, OutputFile(path) as output:
            for _ in range(100):
                output.write(b"x" * 10_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    kept = f"what was written is in {partial(path)}"
    assert str(raised.value) == f"{path}: File too large; {kept}; files may not be larger here: see ulimit -f"
    assert raised.value.exit_code == Exit.USAGE
    assert not path.exists()
    assert partial(path).stat().st_size == 65_536


def test_failed_rename_is_told(tmp_path: Path) -> None:
    path = tmp_path / "x"
    output = OutputFile(path)
    output.write(b"x")
    path.mkdir()
    with pytest.raises(UsageError, match="what was written is in"):
        output.finish()
    assert partial(path).read_bytes() == b"x"


def test_stdout_gets_the_octets_unchanged() -> None:
    done = python(WRITE + "o = OutputFile('-'); o.write(b'a\\nb'); o.flush(); o.finish(); print('after')")
    assert (done.stdout, done.stderr) == ("a\nbafter\n", "")


def test_stdout_after_a_crash_keeps_what_was_written() -> None:
    done = python(WRITE + "\nwith OutputFile('-') as o:\n o.write(b'half')\n raise SystemExit(7)")
    assert (done.stdout, done.returncode) == ("half", 7)


def test_closed_stdout_is_told() -> None:
    done = python(WRITE + "OutputFile('-')", after=">&-")
    assert done.stderr.endswith("UsageError: -: standard output is closed\n")


def test_reader_that_has_enough_is_no_error_to_speak_of() -> None:
    source = (
        WRITE + "\ntry:\n with OutputFile('-') as o:\n  for _ in range(1000): o.write(bytes(10_000))\n"
        "except ClosedPipe as closed: raise SystemExit(closed.exit_code)"
    )
    done = python(source, after="| head -c 5 > /dev/null; exit ${PIPESTATUS[0]}")
    assert (done.returncode, done.stderr) == (1, "")


def test_pipe_whose_reader_is_gone_before_the_first_flush(tmp_path: Path) -> None:
    source = WRITE + "\ntry:\n o = OutputFile('-'); o.write(b'x'); o.finish()\nexcept ClosedPipe: print('quiet')"
    done = python(f"import time; time.sleep(0.3)\n{source}", after="| true; exit ${PIPESTATUS[0]}")
    assert (done.returncode, done.stderr) == (0, "")


def test_closed_pipe_is_an_error_of_ours() -> None:
    assert issubclass(ClosedPipe, EmuError)
    assert ClosedPipe.exit_code == Exit.EXPECTATION_FAILED


def test_named_pipe_is_written_directly(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = subprocess.Popen(["cat", path], stdout=subprocess.PIPE)
    with OutputFile(path) as output:
        output.write(b"through")
    assert reader.communicate()[0] == b"through"
    assert path.is_fifo()


def test_pipe_under_a_descriptors_name_is_written_directly() -> None:
    reader, writer = os.pipe()
    with OutputFile(f"/dev/fd/{writer}") as output:
        output.write(b"through")
    assert os.read(reader, 100) == b"through"
    os.close(writer)
    os.close(reader)

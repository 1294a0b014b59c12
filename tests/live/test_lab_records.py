"""Records that are damaged, strange or of another process: they are told, and nothing that is not ours goes."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from emu.errors import UsageError
from emu.live.lab.children import start_time
from emu.live.lab.lab import Lab, sweep
from emu.live.lab.namespaces import make_namespace, namespace_exists, remove_namespace
from emu.live.lab.record import of_this_process

pytestmark = pytest.mark.live


@pytest.fixture
def dead() -> int:
    """The number of a process that is gone."""
    gone = subprocess.Popen(["true"])
    gone.wait()
    return gone.pid


@pytest.fixture
def theirs(machine: Path) -> Iterator[str]:
    """A namespace that is none of ours."""
    name = f"lab-theirs-{os.getpid()}"
    make_namespace(name)
    yield name
    remove_namespace(name)


def folder_of(machine: Path, pid: int) -> Path:
    folder = machine / str(pid)
    folder.mkdir(mode=0o700, parents=True)
    return folder


def put(machine: Path, pid: int, **more: Any) -> Path:
    """The folder of a run, with a record as that process would have written it."""
    folder = folder_of(machine, pid)
    plain = {"pid": pid, "start_ticks": 1, "boot": of_this_process().boot}
    (folder / "made.json").write_text(json.dumps(plain | more))
    return folder


@pytest.mark.parametrize(
    "octets", [b"", b"{", b"null", b"[]", b'{"pid": "x"}', b"\xff\xfe", b"[" * 100_000, bytes(2**21)]
)
def test_a_damaged_record_of_a_dead_run_is_told_and_its_folder_goes(machine: Path, dead: int, octets: bytes) -> None:
    folder = folder_of(machine, dead)
    (folder / "made.json").write_bytes(octets)
    (said,) = sweep()
    assert "made.json: the record of a run that died cannot be read" in said
    assert "\n" not in said
    assert not folder.exists()
    assert sweep() == []


def test_a_damaged_record_keeps_its_folder_while_namespaces_look_like_its_own(machine: Path, dead: int) -> None:
    folder = folder_of(machine, dead)
    (folder / "made.json").write_bytes(b"{")
    name = f"emu-{dead}-host"
    make_namespace(name)
    try:
        (said,) = sweep()
        assert f"`ip netns delete {name}`" in said
        assert namespace_exists(name)
        assert folder.exists()
    finally:
        remove_namespace(name)


def test_a_damaged_record_of_a_process_that_is_there_is_left(machine: Path) -> None:
    folder = folder_of(machine, os.getpid())
    (folder / "made.json").write_bytes(b"{")
    assert sweep() == []
    assert folder.exists()


@pytest.mark.parametrize("namespace", ["THEIRS", "emu-1-host", "emu-PID-../../x", "/run/netns/THEIRS"])
def test_a_record_does_not_remove_namespaces_that_are_not_named_as_ours(
    machine: Path, dead: int, theirs: str, namespace: str
) -> None:
    put(machine, dead, namespaces=[namespace.replace("THEIRS", theirs).replace("PID", str(dead))])
    (said,) = sweep()
    assert "is not named" in said
    assert namespace_exists(theirs)


def test_a_record_does_not_remove_an_interface_without_our_mark(machine: Path, dead: int, lab: Lab) -> None:
    host = lab.namespace("host")
    lab.veth("va", "vb", namespaces=(host, host))
    put(machine, dead, links=[{"namespace": host, "name": "va"}, {"namespace": "", "name": "lo"}])
    assert sweep() == []
    assert not (machine / str(dead)).exists()
    links = subprocess.run(["ip", "-n", host, "-o", "link"], capture_output=True, check=True, text=True).stdout
    assert "va@vb" in links


def test_a_record_of_another_process_than_its_folder_says_is_not_believed(machine: Path, dead: int, lab: Lab) -> None:
    host = lab.namespace("host")
    folder = folder_of(machine, dead)
    (folder / "made.json").write_bytes((lab.folder / "made.json").read_bytes())
    (said,) = sweep()
    assert f"it is of process {os.getpid()}" in said
    assert namespace_exists(host)


def test_a_process_that_got_the_number_of_a_dead_one_is_neither_the_run_nor_killed(machine: Path) -> None:
    other = subprocess.Popen(["sleep", "60"])
    try:
        ticks = start_time(other.pid)
        program = {"name": "sleep", "pid": other.pid, "start_ticks": ticks - 1}
        folder = put(machine, other.pid, start_ticks=ticks - 1, programs=[program])
        assert sweep() == []
        assert not folder.exists()
        assert other.poll() is None
        folder = put(machine, other.pid, start_ticks=ticks)
        assert sweep() == []
        assert folder.exists()  # that process itself
    finally:
        other.kill()
        other.wait()


def test_what_was_made_before_the_machine_was_booted_is_gone_already(machine: Path, dead: int) -> None:
    name = f"emu-{dead}-host"
    make_namespace(name)
    try:
        folder = put(machine, dead, boot="another", namespaces=[name])
        assert sweep() == []
        assert not folder.exists()
        assert namespace_exists(name)  # somebody has made it since
    finally:
        remove_namespace(name)


def test_folders_that_no_run_has_made_are_left(machine: Path, dead: int, tmp_path: Path) -> None:
    strange = [machine / name for name in ("notes", "0", "-5", "12x", "\u0661\u0662", "9" * 30)]
    for folder in strange:
        folder.mkdir(parents=True)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (machine / str(dead)).symlink_to(elsewhere)
    (machine / "77").write_text("a file")
    assert sweep() == []
    assert all(path.exists() for path in (*strange, elsewhere, machine / "77"))


def test_a_folder_without_a_record_goes_when_it_is_empty_and_is_told_when_it_is_not(machine: Path, dead: int) -> None:
    folder = folder_of(machine, dead)
    (folder / "made.json.partial").write_bytes(b"{")
    assert sweep() == []
    assert not folder.exists()
    folder.mkdir()
    (folder / "kept").write_text("x")
    (said,) = sweep()
    assert said.startswith(f"{folder}: no record")
    assert (folder / "kept").exists()


def test_a_record_that_would_be_waited_for_is_not(machine: Path, dead: int) -> None:
    folder = folder_of(machine, dead)
    os.mkfifo(folder / "made.json")
    (said,) = sweep()
    assert "it is not a file of ours" in said


def test_a_folder_of_another_user_is_not_believed(machine: Path, dead: int) -> None:
    name = f"emu-{dead}-host"
    make_namespace(name)
    try:
        os.chown(put(machine, dead, namespaces=[name]), 65534, 65534)
        assert sweep() == []
        assert namespace_exists(name)
    finally:
        remove_namespace(name)


def test_where_there_are_no_runs_nothing_is_swept(machine: Path) -> None:
    assert sweep() == []
    machine.write_text("a file")
    assert sweep() == []


def test_a_folder_of_runs_that_cannot_be_made_is_said_in_a_line(machine: Path) -> None:
    machine.write_text("a file")
    with pytest.raises(UsageError, match="it is where a live run keeps its record"):
        Lab().__enter__()

"""Logs read back: every format gives the same table, and what is no log of this version is refused in one line."""

import gzip
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import polars
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from log_kit import PACKET, SUFFIXES, rows_of, write_log
from polars.testing import assert_frame_equal

from emu.errors import CaptureError, EmuError
from emu.kernel import drop_reason as dr
from emu.verdicts.chunks import polars_schema
from emu.verdicts.log import VERSION_KEY
from emu.verdicts.read import Verdicts, open_verdicts, remove_folders
from emu.verdicts.schema import NAMES, SCHEMA_VERSION

DROP = {"verdict": dr.DROPPED, "reason": dr.PFMEMALLOC, "dev": 1, "sk": 3, "kind": 3}
ROWS = [{"frame": number, "packet_id": number} | (DROP if number % 3 else {"verdict": 1}) for number in range(1, 200)]


def opened(path: Path | str) -> Verdicts:
    return open_verdicts(str(path), wanted_by="a test")


def log(folder: Path, suffix: str, which: str = "all", incomplete: str | None = None) -> Path:
    path = folder / f"log{suffix}"
    write_log(path, "plain", rows_of("plain", ROWS), len(ROWS), which=which, incomplete=incomplete)
    return path


def refusal(path: Path | str) -> str:
    with pytest.raises(EmuError) as caught:
        opened(path)
    said = str(caught.value)
    assert "\n" not in said and str(path) in said
    return said


@settings(max_examples=10)
@given(packets=st.lists(PACKET, max_size=20))
def test_every_format_gives_the_same_table(
    tmp_path_factory: pytest.TempPathFactory, packets: list[dict[str, int]]
) -> None:
    packets = [packet | {"verdict": dr.DELIVERED} for packet in packets]
    folder = tmp_path_factory.mktemp("logs")
    tables = []
    for suffix in SUFFIXES:
        path = folder / f"log{suffix}"
        write_log(path, "plain", rows_of("plain", packets), len(packets), policy="a policy")
        verdicts = opened(path)
        tables.append(verdicts.table.collect())
        assert not verdicts.is_capture and not verdicts.drops_only and not verdicts.incomplete
        assert verdicts.policy == ("a policy" if suffix == ".parquet" else "")
        assert len(verdicts.notes) == (suffix != ".parquet")
        assert dict(tables[-1].schema) == polars_schema() and tables[-1].columns == list(NAMES)
    for table in tables:
        assert_frame_equal(table, tables[0])
        assert table.height == len(packets) and not any(table.null_count().row(0))
    remove_folders()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_log_of_drops_is_known_as_one(tmp_path: Path, suffix: str) -> None:
    verdicts = opened(log(tmp_path, suffix, "drops"))
    assert verdicts.drops_only and any("drops only" in note for note in verdicts.notes) == (suffix != ".parquet")


def test_a_log_in_which_every_packet_is_a_drop_lacks_none(tmp_path: Path) -> None:
    rows = [DROP | {"frame": number} for number in range(1, 10)]
    write_log(tmp_path / "x.csv", "plain", rows_of("plain", rows), len(rows))
    assert not opened(tmp_path / "x.csv").drops_only


def test_a_log_says_why_it_ends_early(tmp_path: Path) -> None:
    verdicts = opened(log(tmp_path, ".parquet", incomplete="after frame 7: of a test"))
    assert (verdicts.incomplete, verdicts.damage) == ("after frame 7: of a test", "")  # the log itself is whole


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_contents_tell_the_format_not_the_name(tmp_path: Path, suffix: str) -> None:
    path = log(tmp_path, suffix)
    table = opened(path).table.collect()
    assert_frame_equal(opened(path.rename(tmp_path / "verdicts")).table.collect(), table)
    (tmp_path / "packed").write_bytes(gzip.compress((tmp_path / "verdicts").read_bytes()))
    assert_frame_equal(opened(tmp_path / "packed").table.collect(), table)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_a_text_that_is_cut_off_has_the_lines_before(tmp_path: Path, suffix: str) -> None:
    path = log(tmp_path, suffix)
    whole = path.read_bytes()
    table = opened(path).table.collect()
    lines = 0 if suffix == ".jsonl" else -1
    for size in (len(whole) - 1, len(whole) // 2, 400):
        path.write_bytes(whole[:size])
        verdicts = opened(path)
        begins = whole[:size].rfind(b"\n") + 1
        assert verdicts.incomplete == verdicts.damage == f"its last line, at byte {begins}, is cut off"
        assert_frame_equal(verdicts.table.collect(), table.head(whole[:size].count(b"\n") + lines))


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_a_log_without_its_end_is_refused(tmp_path: Path, suffix: str) -> None:
    path = log(tmp_path, suffix)
    whole = path.read_bytes()
    for size in (8, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        assert "was not finished" in refusal(path)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_a_log_of_text_without_a_row(tmp_path: Path, suffix: str) -> None:
    write_log(tmp_path / f"x{suffix}", "plain", rows_of("plain", []), 0)
    assert opened(tmp_path / f"x{suffix}").table.collect().height == 0


def of_other_version(folder: Path) -> Path:
    table = opened(log(folder, ".parquet")).table.collect()
    table.write_parquet(folder / "old.parquet", metadata={VERSION_KEY: str(SCHEMA_VERSION - 1)})
    return folder / "old.parquet"


def changed(change: Callable[[str], str], suffix: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = log(folder, suffix)
        path.write_text(change(path.read_text()))
        return path

    return make


def with_type(folder: Path) -> Path:
    table = opened(log(folder, ".parquet")).table.collect()
    table.with_columns(polars.col("frame").cast(polars.Int32)).write_ipc(folder / "x.arrow")
    return folder / "x.arrow"


def with_other_names(folder: Path) -> Path:
    table = opened(log(folder, ".parquet")).table.collect()
    names = polars.Enum(["dropped", "delivered"])
    table.with_columns(polars.col("verdict").cast(polars.String).cast(names)).write_parquet(folder / "x.parquet")
    return folder / "x.parquet"


def text(contents: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / "x.txt").write_text(contents)
        return folder / "x.txt"

    return make


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (of_other_version, f"schema version {SCHEMA_VERSION - 1}, expected {SCHEMA_VERSION}"),
        (with_type, "column frame is of Int32"),
        (with_other_names, "column verdict is of other names"),
        (changed(lambda log: log.replace(",reason,", ",raison,"), ".csv"), "column reason is missing"),
        (changed(lambda log: log.replace("\n", ",1\n").replace("e,1", "e,mine", 1), ".csv"), "column mine is not one"),
        (changed(lambda log: log.replace("PFMEMALLOC", "PFMEM"), ".csv"), "cannot be read as a log"),
        (changed(lambda log: log.replace('"frame":7,', '"frame":"seven",'), ".jsonl"), "cannot be read as a log"),
        (changed(lambda log: log.replace('"frame":7,', ""), ".jsonl"), "1 rows have no frame"),
        (changed(lambda log: log.replace('"memalloc":0', '"memalloc":1000'), ".jsonl"), "cannot be read as a log"),
        (text('{"a":\n'), "cannot be read as a log"),
        (text("[1]\n"), "it begins with 5b 31 5d"),
        (text(""), "it is empty; expected a log of emu"),
        (text("PAR1 and nothing else"), "was not finished"),
        (text("ARROW1 and nothing else"), "was not finished"),
    ],
)
def test_what_is_no_log_is_refused(tmp_path: Path, make: Callable[[Path], Path], said: str) -> None:
    assert said in refusal(make(tmp_path))


def test_there_must_be_a_file(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "none.parquet")


@settings(max_examples=60)
@given(
    data=st.binary(max_size=300),
    head=st.sampled_from([b"", b"PAR1", b"ARROW1\0\0", b"{", b"frame,", (",".join(NAMES) + "\n").encode()]),
)
def test_any_bytes_are_read_or_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, head: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any"
    path.write_bytes(head + data)
    try:
        opened(path).table.collect()
    except EmuError as error:
        assert "\n" not in str(error)
    remove_folders()


def test_damage_that_a_query_meets_is_one_line_too(tmp_path: Path) -> None:
    path = log(tmp_path, ".parquet")
    octets = bytearray(path.read_bytes())
    octets[4:300] = bytes(296)
    path.write_bytes(octets)
    verdicts = opened(path)
    with pytest.raises(CaptureError, match="damaged"):
        verdicts.collect(verdicts.table)


READ_STDIN = """
import os, sys
from emu.verdicts.read import open_verdicts
verdicts = open_verdicts("-", wanted_by="a test")
print(verdicts.name, verdicts.table.collect().height, verdicts.table.collect().height)
"""


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_a_pipe_can_be_asked_twice_and_leaves_nothing_behind(tmp_path: Path, suffix: str) -> None:
    octets = log(tmp_path, suffix).read_bytes()
    folder = tmp_path / "temporary"
    folder.mkdir()
    environment = os.environ | {"TMPDIR": str(folder), "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", READ_STDIN], input=octets, capture_output=True, env=environment, check=True
    )
    assert done.stdout.decode() == f"stdin {len(ROWS)} {len(ROWS)}\n"
    assert not list(folder.iterdir())

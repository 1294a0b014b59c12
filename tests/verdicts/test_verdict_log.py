"""The log says of every received packet what its row says, in every format, from both engines, byte for byte."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("numpy")
polars = pytest.importorskip("polars")
pytest.importorskip("numba")

from log_kit import DEVICES, ENGINES, PACKET, SUFFIXES, flood, read_log, rows_of, write_log  # noqa: E402

from emu.capture.output import OutputFile  # noqa: E402
from emu.errors import UsageError  # noqa: E402
from emu.kernel import drop_reason as dr  # noqa: E402
from emu.verdicts.chunks import BLOCK, CHUNK, RECEIVED  # noqa: E402
from emu.verdicts.log import INCOMPLETE_KEY, ROWS_KEY, VERSION_KEY, LogWriter  # noqa: E402
from emu.verdicts.schema import NAMES, SCHEMA_VERSION, row_values  # noqa: E402
from emu.wire.headers import KIND_ICMPV6  # noqa: E402

PACKETS = st.lists(PACKET, max_size=12)


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@pytest.mark.parametrize("suffix", SUFFIXES)
@settings(max_examples=12, deadline=None)
@given(packets=PACKETS, drops=st.booleans(), batch=st.integers(1, 13))
def test_log_reads_back_as_the_rows(suffix: str, packets: list[dict[str, int]], drops: bool, batch: int) -> None:
    logged = (dr.DROPPED, dr.LATER) if drops else (*RECEIVED, dr.LATER)
    with tempfile.TemporaryDirectory() as name:
        written = []
        for engine in ENGINES:
            rows = rows_of(engine, packets)
            path = Path(name, engine + suffix)
            written.append(write_log(path, engine, rows, len(packets), batch, "drops" if drops else "all"))
            expected = [row_values(rows[at], DEVICES) for at in range(len(packets)) if rows[at].verdict in logged]
            assert read_log(path) == expected
        assert written[0] == written[1]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_bytes_do_not_depend_on_batches(tmp_path: Path, suffix: str) -> None:
    size = CHUNK + 77
    rows = flood(size, flows=9)
    written = {write_log(tmp_path / f"x{suffix}", "compiled", rows, size, batch) for batch in (size, BLOCK + 1, 10_007)}
    assert len(written) == 1


def test_chunks_of_both_engines_are_alike(tmp_path: Path) -> None:
    size = CHUNK + 50
    compiled = flood(size, flows=70_000)
    names = compiled.dtype.names
    plain = rows_of("plain", [dict(zip(names, row, strict=True)) for row in compiled.tolist()])
    for suffix in (".parquet", ".arrow"):
        octets = write_log(tmp_path / f"plain{suffix}", "plain", plain, size)
        assert octets == write_log(tmp_path / f"compiled{suffix}", "compiled", compiled, size)


def test_bytes_do_not_depend_on_threads(tmp_path: Path) -> None:
    source = (
        "import hashlib, sys; from pathlib import Path; from log_kit import flood, write_log\n"
        "for suffix in ('.parquet', '.arrow'):\n"
        "    octets = write_log(Path(sys.argv[1] + suffix), 'compiled', flood(70_000, 50), 70_000)\n"
        "    print(hashlib.sha256(octets).hexdigest())\n"
    )
    said = {run(source, tmp_path / threads, POLARS_MAX_THREADS=threads).stdout for threads in ("1", "7")}
    assert len(said) == 1


def run(source: str, *arguments: Any, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a few lines in a process of their own."""
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(
        [sys.executable, "-c", source, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": path} | environment,
        capture_output=True,
        text=True,
        check=check,
        timeout=60,
    )


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_log_of_nothing_has_the_columns(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    write_log(path, "plain", rows_of("plain", []), 0)
    assert read_log(path) == []
    if suffix == ".parquet":
        assert tuple(polars.read_parquet_schema(path)) == NAMES
    assert os.listdir(tmp_path) == [path.name]  # noqa: PTH208 - only the names


def test_parquet_says_what_it_holds_and_why_it_ends(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    rows = flood(10, 1)
    write_log(path, "compiled", rows, 10, which="drops")
    facts = polars.read_parquet_metadata(path)
    assert facts[VERSION_KEY] == str(SCHEMA_VERSION) and facts[ROWS_KEY] == "drops"
    assert INCOMPLETE_KEY not in facts
    write_log(path, "compiled", rows, 10, incomplete="interrupted after frame 10")
    assert polars.read_parquet_metadata(path)[INCOMPLETE_KEY] == "interrupted after frame 10"


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_a_format_cannot_say_is_left_to_the_caller(tmp_path: Path, suffix: str) -> None:
    log = LogWriter(tmp_path / f"x{suffix}", engine_name="plain", devices=DEVICES)
    log.close("damaged")
    assert log.untold == (None if suffix == ".parquet" else "damaged")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_log_that_is_discarded_was_never_there(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    rows = flood(10, 1)
    log = LogWriter(path, engine_name="compiled", devices=DEVICES)
    log.write(rows, 0, 10)
    log.discard()
    assert list(tmp_path.iterdir()) == []
    write_log(path, "compiled", rows, 10)
    log.discard()
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_chunks_of_both_engines_are_alike_in_ipv6(tmp_path: Path, suffix: str) -> None:
    size = 3000
    compiled = flood(size, flows=70_000)
    compiled["ip_version"][::2] = 6
    compiled["saddr_hi"] = compiled["frame"] * -0x1234567
    compiled["kind"][::7] = KIND_ICMPV6
    compiled["vlan_outer"] = compiled["frame"]
    compiled["skb_dev"] = compiled["frame"] % 3 - 1
    names = compiled.dtype.names
    plain = rows_of("plain", [dict(zip(names, row, strict=True)) for row in compiled.tolist()])
    octets = write_log(tmp_path / f"plain{suffix}", "plain", plain, size)
    assert octets == write_log(tmp_path / f"compiled{suffix}", "compiled", compiled, size)


@pytest.mark.parametrize("engine", ENGINES)
def test_open_verdict_is_a_crash(tmp_path: Path, engine: str) -> None:
    log = LogWriter(tmp_path / "x.csv", engine_name=engine, devices=DEVICES)
    with pytest.raises(AssertionError, match="frame 7: no final verdict"):
        log.write(rows_of(engine, [{"frame": 7}]), 0, 1)
    log.abandon()


@pytest.mark.slow
def test_memory_is_bounded(tmp_path: Path) -> None:
    source = (
        "import sys, resource; from log_kit import flood; from emu.verdicts.log import LogWriter\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "rows = flood(1 << 16, 500)\n"
        "log = LogWriter(sys.argv[1], engine_name='compiled', devices=['eth0'])\n"
        "before = peak()\n"
        "for chunk in range(16):\n"
        "    rows['frame'] += 1 << 16\n"
        "    log.write(rows, 0, 1 << 16)\n"
        "log.close(); print(peak() - before)\n"
    )
    path = tmp_path / "x.parquet"
    assert int(run(source, path).stdout) < 150_000  # KiB
    assert polars.scan_parquet(path).select(polars.len()).collect().item() == 1 << 20


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_full_disk_is_one_line(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    path.symlink_to("/dev/full")
    with pytest.raises(UsageError, match=r"No space left on device"):
        write_log(path, "compiled", flood(2 * CHUNK, 3), 2 * CHUNK)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_full_disk_keeps_what_was_written(tmp_path: Path, suffix: str) -> None:
    source = (
        "import resource, signal, sys; from log_kit import *\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n"
        "from emu.errors import UsageError\n"
        "try: write_log(Path(sys.argv[1]), 'compiled', flood(140_000, 3), 140_000)\n"
        "except UsageError as error: print(error)\n"
    )
    path = tmp_path / f"x{suffix}"
    said = run(source, path).stdout.strip()
    assert (
        said
        == f"{path}: File too large; what was written is in {path}.partial; files may not be larger here: see ulimit -f"
    )
    assert os.listdir(tmp_path) == [f"x{suffix}.partial"]  # noqa: PTH208 - only the names


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_error_in_the_sink_is_told_and_told_again(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: OutputFile, octets: bytes) -> None:
        raise UsageError("the disk is gone")

    monkeypatch.setattr(OutputFile, "write", refuse)
    log = LogWriter(tmp_path / f"x{suffix}", engine_name="compiled", devices=DEVICES)
    rows = flood(CHUNK, 1)
    with pytest.raises(UsageError, match="the disk is gone"):
        for _ in range(50):
            log.write(rows, 0, CHUNK)
    with pytest.raises(UsageError, match="the disk is gone"):
        log.close()
    log.abandon()
    assert not (tmp_path / f"x{suffix}").exists()


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("chunks", [0, 1, 4])
def test_abandoned_log_keeps_the_old_file(tmp_path: Path, suffix: str, chunks: int) -> None:
    path = tmp_path / f"x{suffix}"
    path.write_bytes(b"of yesterday")
    log = LogWriter(path, engine_name="compiled", devices=DEVICES)
    rows = flood(CHUNK, 1)
    for _ in range(chunks):
        log.write(rows, 0, CHUNK)
    log.abandon()
    log.abandon()
    log.close()
    assert path.read_bytes() == b"of yesterday"
    assert path.with_name(path.name + ".partial").exists()


def test_crash_without_a_word_does_not_hang(tmp_path: Path) -> None:
    source = (
        "import sys; from log_kit import *\n"
        "log = LogWriter(sys.argv[1], engine_name='compiled', devices=DEVICES)\n"
        "log.write(flood(200_000, 3), 0, 200_000)\n"
        "print('leaving', flush=True)\n"
    )
    # polars' own threads may abort the interpreter while it goes away; what counts is that it does go.
    assert run(source, tmp_path / "x.parquet", check=False).stdout == "leaving\n"
    assert os.listdir(tmp_path) == ["x.parquet.partial"]  # noqa: PTH208 - only the names


def test_interrupt_leaves_a_whole_log(tmp_path: Path) -> None:
    """polars' own hook, set when it is imported, would make every later call of it fail."""
    source = (
        "import signal, sys; signal.signal(signal.SIGINT, lambda number, frame: print('seen'))\n"
        "from log_kit import *\n"
        "for suffix in SUFFIXES:\n"
        "    log = LogWriter(sys.argv[1] + suffix, engine_name='compiled', devices=DEVICES)\n"
        "    rows = flood(1 << 16, 1)\n"
        "    log.write(rows, 0, 1 << 16); signal.raise_signal(signal.SIGINT)\n"
        "    log.write(rows, 0, 1 << 16); log.write(rows, 0, 9); log.close('interrupted')\n"
    )
    assert run(source, tmp_path / "x").stdout == "seen\n" * len(SUFFIXES)
    assert polars.read_parquet(tmp_path / "x.parquet").height == 2 * CHUNK + 9
    assert polars.read_ipc(tmp_path / "x.arrow").height == 2 * CHUNK + 9


def test_names_that_cannot_be_a_log(tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "input.csv").write_text("frames")
    for name, options, what in (
        ("x.txt", {}, r"expected \.parquet, \.arrow, \.csv, \.jsonl"),
        ("-", {}, "expected"),
        ("x.csv", {"rows": "some"}, "expected all or drops"),
        ("folder.csv", {}, "is a directory"),
        ("nowhere/x.csv", {}, "No such file or directory"),
        ("input.csv", {"inputs": [str(tmp_path / "input.csv")]}, "would overwrite the input"),
    ):
        with pytest.raises(UsageError, match=what) as caught:
            LogWriter(tmp_path / name, engine_name="plain", devices=DEVICES, **options)
        assert "\n" not in str(caught.value)
    assert sorted(os.listdir(tmp_path)) == ["folder.csv", "input.csv"]  # noqa: PTH208 - only the names


def test_without_polars_one_line_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(UsageError, match=r"^--log needs polars: pip install 'emu\[log\]'$"):
        LogWriter(tmp_path / "x.csv", engine_name="plain", devices=DEVICES)
    assert not list(tmp_path.iterdir())


def test_plain_engine_needs_no_numpy(tmp_path: Path) -> None:
    source = (
        "import sys; sys.modules['numpy'] = None\n"
        "from emu.kernel.machine import Packet; from emu.kernel.record import Rows\n"
        "from emu.verdicts.log import LogWriter\n"
        "rows = Rows(Packet, 3); rows[0].verdict = rows[1].verdict = rows[2].verdict = 2\n"
        "for suffix in ('.parquet', '.arrow', '.csv', '.jsonl'):\n"
        "    log = LogWriter(sys.argv[1] + suffix, engine_name='plain', devices=['eth0'])\n"
        "    log.write(rows, 0, 3); log.close()\n"
    )
    run(source, tmp_path / "x")
    assert [len(read_log(tmp_path / f"x{suffix}")) for suffix in SUFFIXES] == [3] * 4

"""`emu export` of rows, and the JSON Schema that says what a row is."""

import json
import os
import signal
import threading
from pathlib import Path
from typing import Any
from unittest.mock import patch

import polars
import pytest
from emu_process import emu_here, refused
from export_kit import FRAMES, Made, json_lines, kit, make
from hypothesis import given, settings
from hypothesis import strategies as st

from emu.capture.output import OutputFile
from emu.errors import InterruptedEarlyError
from emu.verdicts.chunks import polars_schema
from emu.verdicts.export import sink
from emu.verdicts.export.formats import FORMATS
from emu.verdicts.export.json_schema import json_schema
from emu.verdicts.schema import COLUMNS, ENUM, FLAG, INT, NAMES, UINT

SCHEMA = json_schema()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The run."""
    return make(tmp_path_factory.mktemp("run"))


def complaints(row: Any, schema: dict[str, Any]) -> list[str]:
    """What a validator of the keywords that our schema uses has to say; an unknown keyword is an error of ours."""
    known = {"$schema", "$id", "title", "description", "type", "properties", "required", "additionalProperties"}
    assert set(schema) - known <= {"x-schema-version"}
    if not isinstance(row, dict):
        return ["no object"]
    found = [f"{name} is missing" for name in schema["required"] if name not in row]
    found += [f"{name} is unknown" for name in row if name not in schema["properties"]]
    for name, rules in schema["properties"].items():
        if name in row and not holds(row[name], rules):
            found.append(f"{name}: {row[name]!r}")
    return found


def holds(value: Any, rules: dict[str, Any]) -> bool:
    """Whether a value keeps the rules of its property."""
    assert set(rules) <= {"description", "x-type", "x-unit", "type", "enum", "minimum", "maximum"}
    if "enum" in rules:
        return value in rules["enum"]
    if value is None:
        return "null" in rules["type"]
    if "integer" in rules["type"]:
        return type(value) is int and rules["minimum"] <= value <= rules["maximum"]
    return type(value) is str


def test_the_schema_is_published_and_says_every_column() -> None:
    done = emu_here("schema", "--json-schema")
    assert (done.code, done.err) == (0, "")
    said = json.loads(done.out)
    assert said == SCHEMA and said["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert tuple(said["required"]) == tuple(said["properties"]) == NAMES
    for column in COLUMNS:
        rules = said["properties"][column.name]
        assert rules["description"] == column.meaning and rules.get("x-unit", "") == column.unit
        assert rules.get("enum", [None]) == [*column.names, None]
    assert "two ways" in refused("schema", "--json", "--json-schema", code=2)


def test_logs_and_exported_rows_keep_the_schema(made: Made) -> None:
    done = emu_here("export", made.capture, "--format", "jsonl")
    assert done.code == 0
    from_capture = json_lines(done.out)
    assert len(made.rows) < len(from_capture) == FRAMES, "the log has received packets only"
    assert made.rows and not any(complaints(row, SCHEMA) for row in made.rows + from_capture)
    assert all(value is not None for row in made.rows for value in row.values())


VALUES: dict[str, st.SearchStrategy[Any]] = {
    INT: st.integers(-(1 << 63), (1 << 63) - 1),
    UINT: st.integers(0, (1 << 64) - 1),
    FLAG: st.integers(0, 1),
}
ROWS = st.fixed_dictionaries(
    {c.name: st.sampled_from(c.names) if c.type == ENUM else VALUES.get(c.type, st.text()) for c in COLUMNS}
)


@given(ROWS, st.sampled_from(COLUMNS), st.sampled_from([1.5, [], "no such name", 1 << 64, True]))
@settings(max_examples=50)
def test_every_row_keeps_the_schema_and_no_broken_one(row: dict[str, Any], column: Any, wrong: Any) -> None:
    assert complaints(row, SCHEMA) == []
    if not (isinstance(wrong, str) and column.type == "text"):
        assert complaints(row | {column.name: wrong}, SCHEMA) == [f"{column.name}: {wrong!r}"]
    assert complaints({name: row[name] for name in NAMES if name != column.name}, SCHEMA)
    assert complaints(row | {"more": 1}, SCHEMA) == ["more is unknown"]


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_text_is_what_the_log_would_have_been(made: Made, tmp_path: Path, suffix: str) -> None:
    parquet, target = tmp_path / "log.parquet", tmp_path / f"again{suffix}"
    polars.DataFrame(made.rows, schema=polars_schema()).write_parquet(parquet)
    done = emu_here("export", parquet, "-w", target)
    assert (done.code, done.err) == (0, f"emu: {len(made.rows)} rows exported\n")
    if suffix == ".jsonl":
        assert target.read_bytes() == made.log.read_bytes()
    else:
        assert [list(row.values()) for row in kit.rows_of(target)] == [
            [str(value) for value in row.values()] for row in made.rows
        ]
    assert emu_here("export", target, "--format", "jsonl").out == made.log.read_text()


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_binary_rows_read_back_as_they_were(made: Made, tmp_path: Path, suffix: str) -> None:
    target = tmp_path / f"log{suffix}"
    assert emu_here("export", made.log, "-w", target).code == 0
    table = polars.read_parquet(target) if suffix == ".parquet" else polars.read_ipc(target)
    assert table.to_dicts() == made.rows
    assert emu_here("export", target, "--format", "jsonl").out == made.log.read_text()


def test_a_capture_says_of_its_drops_what_the_log_says(made: Made) -> None:
    exported = json_lines(emu_here("export", made.capture, "--format", "jsonl").out)
    by_id = {row["packet_id"]: row for row in exported}
    for row in made.dropped:
        found = by_id[row["packet_id"]]
        assert {name: value for name, value in row.items() if found[name] is not None} == {
            name: value for name, value in found.items() if value is not None
        }


def test_an_incomplete_log_is_exported_and_said(made: Made, tmp_path: Path) -> None:
    cut = tmp_path / "cut.jsonl"
    cut.write_bytes(made.log.read_bytes()[:-200])
    done = emu_here("export", cut, "--format", "csv")
    assert done.code == 3 and "cut.jsonl" in done.err.splitlines()[-1]
    assert len(done.out.splitlines()) == len(made.rows)


def test_what_cannot_be_is_one_line(made: Made, tmp_path: Path) -> None:
    def said(*words: str | Path) -> str:
        return refused("export", *words, code=2)

    assert "did you mean net_dm?" in said(made.log, "--format", "netdm")
    assert "expected one of net_dm, kfree_skb, jsonl" in said(made.log, "--format", "x")
    assert "name a format with --format" in said(made.log)
    assert "name a format with --format" in said(made.capture, "-w", tmp_path / "x.pcapng")
    assert "would overwrite the input" in said(made.log, "--format", "jsonl", "-w", made.log)
    assert "with -w" in said(made.capture, "--format", "drops")
    assert "does not compress" in said(made.capture, "--format", "drops", "-w", tmp_path / "x.pcap.gz")
    missing = tmp_path / "missing.pcapng"
    for words in (("net_dm", "-w", tmp_path / "x.pcap"), ("jsonl",)):
        assert "No such file" in refused("export", missing, "--format", *words, code=3)
    assert not list(tmp_path.iterdir())


def test_ctrl_c_ends_the_query(tmp_path: Path) -> None:
    def convert(morsel: polars.DataFrame) -> polars.DataFrame:
        os.kill(os.getpid(), signal.SIGINT)
        stopped.wait(10)
        return morsel

    def stop() -> Exception:
        stopped.set()
        return ValueError()

    stopped = threading.Event()
    table = polars.DataFrame({"a": ["x"]}).lazy()
    output = OutputFile(tmp_path / "x.csv")
    with patch.object(sink, "Stopped", side_effect=stop), pytest.raises(InterruptedEarlyError):
        sink.drain(table, convert, {"a": polars.String()}, output, lambda query, target: query.sink_csv(target))
    assert stopped.is_set()
    output.discard()


def test_what_a_disk_refuses_is_one_line(made: Made) -> None:
    for form in ("csv", "parquet", "kfree_skb"):
        assert "No space left" in refused("export", made.log, "--format", form, "-w", "/dev/full", code=2)


def test_help_names_every_format() -> None:
    done = emu_here("export", "--help")
    assert done.code == 0 and all(form.name in done.out for form in FORMATS)

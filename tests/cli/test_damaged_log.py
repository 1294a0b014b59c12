"""A log that is damaged where only a query finds it: one line that names the file, whatever was asked."""

from pathlib import Path

import polars
import pytest
from emu_process import LOGIN, emu_here, refused


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log whose metadata is whole, and whose first columns are not."""
    path = tmp_path_factory.mktemp("damaged") / "log.parquet"
    assert emu_here("replay", LOGIN, "--engine", "plain", "--log", path).code == 0
    octets = bytearray(path.read_bytes())
    octets[4:3000] = bytes(2996)
    path.write_bytes(octets)
    assert polars.scan_parquet(path).collect_schema()
    return path


@pytest.mark.parametrize(
    "words",
    [
        ("show",),
        ("show", "--json"),
        ("show", "--by", "flow"),
        ("show", "--frame", "3"),
        ("show", "--fate", "--flow", "3260"),
        ("export", "--format", "jsonl"),
        ("export", "--format", "parquet", "-w", "out.parquet"),
        ("export", "--format", "kfree_skb"),
        ("report", "-w", "out.html"),
        ("diff",),
    ],
    ids=" ".join,
)
def test_damage_is_told_in_one_line(damaged: Path, words: tuple[str, ...], tmp_path: Path) -> None:
    if words[0] == "diff":  # with itself
        words = ("diff", str(damaged))
    said = refused(*words[:1], damaged, *words[1:], code=3, cwd=tmp_path)
    assert said.startswith(f"{damaged}: ") and "damaged" in said and said.isprintable()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("folder", [".", "/"])
def test_a_folder_is_no_log(folder: str, tmp_path: Path) -> None:
    assert refused("report", folder, code=2, cwd=tmp_path).startswith(f"{folder}: is a folder")

"""Damaged captures: what could be read is played and reported, with the byte offset; nothing incomplete looks whole."""

import gzip
from pathlib import Path

import polars
import pytest
from replay_kit import (
    PCAPS,
    Frame,
    files_of,
    outputs_in,
    paced,
    pcap,
    played,
    rows_of,
    run,
    udp,
    wild_frames,
)

from emu.errors import CaptureError, Exit, NothingToPlayError, UsageError
from emu.task import Outputs

FRAMES = paced([udp(payload=at) for at in range(20)])
RECORD = 16
HEADER = 24


def offset_of(frame: int) -> int:
    """Where the record of a frame (from 0) begins."""
    return len(pcap(FRAMES[:frame]))


@pytest.mark.parametrize("frames", [1, 7, 19])
@pytest.mark.parametrize("into", [1, RECORD, RECORD + 30])
def test_a_cut_capture_is_played_up_to_the_cut(tmp_path: Path, frames: int, into: int) -> None:
    """Cut in a record header, between header and frame, or in a frame: the frames before it are complete outputs."""
    cut = offset_of(frames) + into
    found = played(pcap(FRAMES)[:cut], outputs=outputs_in(tmp_path))
    whole = tmp_path / "whole"
    whole.mkdir()
    played(pcap(FRAMES[:frames]), outputs=outputs_in(whole))
    damage = found.outcome.damage
    assert damage is not None and damage.exit_code == Exit.CAPTURE
    assert f"byte {offset_of(frames)}: " in str(damage) and f"at byte {cut}" in str(damage)
    assert found.summary["frames"] == frames
    assert found.summary["incomplete"] == f"after frame {frames}: {damage}"
    assert rows_of(tmp_path / "log.csv") == rows_of(whole / "log.csv")
    assert {path.name for path in tmp_path.iterdir() if path.is_file()} == {"out.pcapng", "log.csv"}
    assert f"Number of packets = {frames}" in run("capinfos", "-Mc", tmp_path / "out.pcapng").replace(":   ", " = ")
    assert found.summary["incomplete"].encode() in (tmp_path / "out.pcapng").read_bytes()


def test_parquet_says_that_it_is_incomplete(tmp_path: Path) -> None:
    """The log of a damaged capture can be read, and its metadata say why it ends."""
    found = played(pcap(FRAMES)[:-1], outputs=outputs_in(tmp_path, ".parquet"))
    facts = polars.read_parquet_metadata(tmp_path / "log.parquet")
    assert facts["emu.incomplete"] == found.summary["incomplete"]
    assert polars.read_parquet(tmp_path / "log.parquet").height == found.summary["received"] == 19


def test_a_damaged_gzip_stream_is_played_up_to_the_damage(tmp_path: Path) -> None:
    """What the compressed stream gave before its damage is played."""
    capture = pcap(wild_frames(8, 400))
    packed = gzip.compress(capture)
    found = played(packed[: len(packed) // 2], outputs=outputs_in(tmp_path))
    assert 0 < found.summary["frames"] < 400
    assert "the gzip stream ends early" in str(found.outcome.damage)


@pytest.mark.parametrize(
    ("capture", "said"),
    [
        (b"", "it is empty"),
        (b"%PDF-1.7\n", "expected a pcap or pcapng file"),
        (b"BZh9" + bytes(60), "compressed with bzip2"),
        (pcap([])[:-4] + (105).to_bytes(4, "little") + bytes(60), "IEEE802_11"),
        (pcap([])[:10], "byte 0: "),
        (pcap(FRAMES)[: HEADER + 5], f"byte {HEADER}: "),
    ],
)
def test_what_cannot_be_read_at_all_leaves_nothing_behind(tmp_path: Path, capture: bytes, said: str) -> None:
    """Empty, no capture, bzip2, another link type, or cut before the first frame: an error and no output."""
    with pytest.raises(CaptureError) as error:
        played(capture, outputs=outputs_in(tmp_path, record=True))
    assert error.value.exit_code == Exit.CAPTURE
    assert said in str(error.value)
    assert files_of(tmp_path) == {}


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_capture_without_frames_leaves_nothing_behind(tmp_path: Path, suffix: str) -> None:
    """A header alone is nothing to play: exit 4, no output, not even an unfinished one; old files stay."""
    (tmp_path / "out.pcapng").write_bytes(b"of yesterday")
    with pytest.raises(NothingToPlayError) as error:
        played(pcap([]), outputs=outputs_in(tmp_path, suffix, record=True))
    assert error.value.exit_code == Exit.NOTHING_TO_PLAY
    assert files_of(tmp_path) == {"out.pcapng": b"of yesterday"}


def test_two_outputs_may_not_be_one_file(tmp_path: Path) -> None:
    """The log and the annotated capture under one name would overwrite each other: refused, nothing is written."""
    name = str(tmp_path / "same.csv")
    with pytest.raises(UsageError, match="is asked for twice"):
        played(PCAPS / "nop.pcap", outputs=Outputs(write=name, log=name))
    assert files_of(tmp_path) == {}


def test_a_crash_leaves_the_output_visibly_unfinished(tmp_path: Path) -> None:
    """When the machine runs into a fixed maximum in mid-run, what was written stays under another name."""
    frames = [Frame(udp(1 + at % 60_000, source=f"10.1.{at >> 8 & 255}.{at & 255}"), at) for at in range(3)]
    with pytest.raises(UsageError, match=r"events\.jsonl: line 2: not JSON"):
        (tmp_path / "events.jsonl").write_text('{"emu_events": 1}\nnonsense\n')
        played(pcap(frames), outputs=outputs_in(tmp_path), events=str(tmp_path / "events.jsonl"))
    assert sorted(files_of(tmp_path)) == ["events.jsonl", "log.csv.partial", "out.pcapng.partial"]

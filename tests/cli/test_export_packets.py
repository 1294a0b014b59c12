"""`emu export` of survivors and of drops: captures that every tool reads, with nothing lost but the other frames."""

import gzip
import struct
from pathlib import Path

import pytest
from emu_process import emu_here, refused
from export_kit import FRAMES, Made, kit, make, tshark_rows
from external_tools import run

from emu.capture.blocks import OPT_COMMENT
from emu.verdicts.export.packets import runs

FIELDS = ("frame.number", "frame.time_epoch", "frame.len", "frame.interface_name", "frame.packet_id", "frame.comment")
EXTRA = ("frame.packet_flags", "frame.interface_queue", "frame.md5_hash")
HASHED = ("-o", "frame.generate_md5_hash:TRUE")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The run."""
    return make(tmp_path_factory.mktemp("run"))


def shown(capture: Path) -> list[dict[str, str]]:
    """The frames of a capture by everything that tshark knows of their blocks."""
    return tshark_rows(capture, *FIELDS, *EXTRA, options=HASHED)


def exported(source: Path, form: str, target: Path) -> list[dict[str, str]]:
    done = emu_here("export", source, "--format", form, "-w", target)
    assert done.code == 0, done.err
    rows = shown(target)
    assert done.err == f"emu: {len(rows)} frames exported\n"
    return rows


def test_both_halves_are_the_whole(made: Made, tmp_path: Path) -> None:
    whole = shown(made.capture)
    assert len(whole) == FRAMES and all(row["frame.md5_hash"] for row in whole)
    drops = exported(made.capture, "drops", tmp_path / "drops.pcapng")
    survivors = exported(made.capture, "survivors", tmp_path / "survivors.pcapng")
    assert len(drops) == len(made.dropped)
    for half, name in ((drops, "eth0-drop"), (survivors, "eth0")):
        wanted = [row for row in whole if row["frame.interface_name"] == name]
        unnumbered = [{**row, "frame.number": ""} for row in half]
        assert unnumbered == [{**row, "frame.number": ""} for row in wanted]
        assert [row["frame.number"] for row in half] == [str(at + 1) for at in range(len(half))]
    assert all("reason=" in row["frame.comment"] for row in drops)


def test_capinfos_finds_one_interface_and_the_comments(made: Made, tmp_path: Path) -> None:
    target = tmp_path / "survivors.pcapng"
    exported(made.capture, "survivors", target)
    said = run("capinfos", "-M", target)
    assert "Number of interfaces in file: 1" in said and "Name = eth0\n" in said
    assert "policy phillips-v5" in said and "export: survivors of" in said
    assert f"Number of packets = {FRAMES - len(made.dropped)}" in said


def test_a_pcap_keeps_frames_and_nanoseconds(made: Made, tmp_path: Path) -> None:
    rows = exported(made.capture, "drops", tmp_path / "drops.pcap")
    wanted = [row for row in shown(made.capture) if row["frame.interface_name"] == "eth0-drop"]
    for name in ("frame.time_epoch", "frame.len", "frame.md5_hash"):
        assert [row[name] for row in rows] == [row[name] for row in wanted]
    assert (tmp_path / "drops.pcap").read_bytes()[:4] == bytes.fromhex("4d3cb2a1")
    said = run("tcpdump", "-n", "-r", tmp_path / "drops.pcap")
    assert len(said.splitlines()) == len(made.dropped)


def test_survivors_can_be_exported_again_and_played(made: Made, tmp_path: Path) -> None:
    survivors = tmp_path / "survivors.pcapng"
    exported(made.capture, "survivors", survivors)
    said = refused("export", survivors, "--format", "drops", "-w", tmp_path / "x.pcap", code=3)
    assert "has no interface NAME-drop" in said
    assert kit.played(survivors).outcome.machine.total.frames == FRAMES - len(made.dropped)
    drops = tmp_path / "drops.pcapng"
    exported(made.capture, "drops", drops)
    again = refused("export", drops, "--format", "survivors", "-w", tmp_path / "x.pcap", code=4)
    assert "all frames of it were lost" in again
    assert exported(drops, "drops", tmp_path / "again.pcapng") == shown(drops)


def test_foreign_tools_in_between_change_nothing(made: Made, tmp_path: Path) -> None:
    edited, zipped = tmp_path / "edited.pcapng", tmp_path / "edited.pcapng.gz"
    run("tshark", "-r", made.capture, "-w", edited)
    zipped.write_bytes(gzip.compress(edited.read_bytes()))
    assert exported(zipped, "drops", tmp_path / "a.pcapng") == exported(made.capture, "drops", tmp_path / "b.pcapng")


def test_captures_of_other_byte_order_keep_their_options(tmp_path: Path) -> None:
    source = tmp_path / "big.pcapng"
    source.write_bytes(big_endian())
    rows = exported(source, "drops", tmp_path / "little.pcapng")
    assert rows == [{**row, "frame.number": "1"} for row in shown(source) if row["frame.packet_id"] == "7"]
    assert rows[0]["frame.comment"] == "DROP PFMEMALLOC" and rows[0]["frame.interface_queue"] == "3"
    assert rows[0]["frame.time_epoch"] == "1.000002000"


def big_endian() -> bytes:
    """An annotated capture as a big-endian machine writes it, in microseconds, with one frame on each interface."""

    def block(kind: int, body: bytes) -> bytes:
        return struct.pack(">II", kind, len(body) + 12) + body + struct.pack(">I", len(body) + 12)

    def option(code: int, value: bytes) -> bytes:
        return struct.pack(">HH", code, len(value)) + value + bytes(-len(value) % 4)

    said = option(OPT_COMMENT, b"DROP PFMEMALLOC") + option(2, struct.pack(">I", 1)) + option(5, struct.pack(">Q", 7))
    said += option(6, struct.pack(">I", 3)) + option(0, b"")
    head = struct.pack(">IHHq", 0x1A2B3C4D, 1, 0, -1)
    parts = [block(0x0A0D0D0A, head)]
    parts += [block(1, struct.pack(">HHI", 1, 0, 0) + option(2, name) + option(0, b"")) for name in (b"a", b"a-drop")]
    for interface in (0, 1):
        frame = struct.pack(">IIIII", interface, 0, 1_000_002, 61, 61) + bytes(64)
        parts.append(block(6, frame + (said if interface else b"")))
    return b"".join(parts)


def test_a_cut_off_capture_is_exported_and_says_so(made: Made, tmp_path: Path) -> None:
    cut, target = tmp_path / "cut.pcapng", tmp_path / "drops.pcapng"
    cut.write_bytes(made.capture.read_bytes()[:-5_000])
    done = emu_here("export", cut, "--format", "drops", "-w", target)
    assert done.code == 3 and "cut.pcapng ends early: byte " in done.err
    assert 0 < len(shown(target)) < len(made.dropped)
    assert b"cut.pcapng: byte " in target.read_bytes()[-300:]


@pytest.mark.parametrize(
    ("numbers", "found"),
    [([], []), ([3], [(3, 4)]), ([0, 1, 2], [(0, 3)]), ([0, 2, 3, 9], [(0, 1), (2, 4), (9, 10)])],
)
def test_runs(numbers: list[int], found: list[tuple[int, int]]) -> None:
    assert list(runs(numbers)) == found

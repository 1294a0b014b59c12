"""Comments that no emu wrote, and frames that are no frames: the plugin never raises an error."""

import struct
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plugin_kit import frames, tshark, values

from emu.capture.blocks import EPB_TYPE, OPT_COMMENT, block, interface_block, options, section_header
from emu.wireshark.plugin import fields

FRAME = bytes.fromhex("020000000001 020000000002 0800 4500001c00010000401166cf0a0000010a000002 0035003500080000")


def capture(path: Path, comments: list[bytes], frame: bytes = FRAME) -> Path:
    """A foreign capture: a frame with each comment, no packet ids."""
    body = struct.pack("<IIIII", 0, 0, 0, len(frame), len(frame)) + frame + bytes(-len(frame) % 4)
    packets = [block(EPB_TYPE, body + options((OPT_COMMENT, comment))) for comment in comments]
    path.write_bytes(section_header(["foreign"]) + interface_block(1, "eth0", "a device") + b"".join(packets))
    return path


RUBBISH = [
    b"emu ",
    b"emu rubbish=1",
    b"emu verdict=",
    b"emu verdict=dropped",
    b"emu verdict=dropped reason=",
    b"emu verdict=dropped class=tcp culprit=1 has_socket=1",
    b"emu verdict=dropped class=udp culprit=-1 has_socket=1",
    b"emu verdict=dropped free_pages=" + b"9" * 400,
    b"emu verdict=dropped free_pages=-5 time_ns=-1 waited_ns=-1000000001 culprit=18446744073709551615",
    b"emu verdict=dropped memalloc=2 time_ns=1e9 cap=0x10 cap=7 culprit=99999999999999999999",
    b"emu verdict=dropped " + b"a=1 " * 15_000,
    b"emu verdict=dropped reason=" + b"R" * 60_000,
    b"emu verdict=\xff\xfe\x00\x01 reason=\xf0\x28",
    b"emu verdict=dropped %s%n=%d [%w+]=. = == x= =y",
    b"a comment of somebody else",
    b"NOT PLAYED",
]


def test_rubbish_raises_no_error(tmp_path: Path) -> None:
    written = capture(tmp_path / "hostile.pcapng", RUBBISH)
    assert "Emulated receive path" in tshark("-r", written, "-V", "-2")
    ours = [number for number, text in enumerate(RUBBISH, 1) if text.startswith(b"emu verdict=") and text[12:]]
    assert frames(written, "emu.verdict") == [*ours, len(RUBBISH)]


def test_what_cannot_be_read_is_kept_as_text(tmp_path: Path) -> None:
    comment = b"emu verdict=dropped memalloc=2 free_pages=" + b"9" * 30 + b" cap=7 cap=8 newer=x culprit=1.5"
    written = capture(tmp_path / "extra.pcapng", [comment])
    ((extra, cap, pages),) = values(written, "emu.extra", "emu.cap", "emu.free_pages")
    assert (cap, pages) == ("7", "")
    assert sorted(extra.split()) == sorted(["memalloc=2", "free_pages=" + "9" * 30, "cap=8", "newer=x", "culprit=1.5"])


def test_signed_and_large_numbers_are_read(tmp_path: Path) -> None:
    comments = [f"emu verdict=dropped culprit={n}".encode() for n in (-1, -(1 << 63), (1 << 64) - 1, 1 << 63)]
    found = values(capture(tmp_path / "numbers.pcapng", comments), "emu.culprit_id")
    assert [int(row[0]) for row in found] == [(1 << 64) - 1, 1 << 63, (1 << 64) - 1, 1 << 63]


def test_frames_without_bytes_are_told_of(tmp_path: Path) -> None:
    parts = []
    for size in (1, 13, 33, len(FRAME)):
        comments = [b"emu verdict=dropped class=tcp has_socket=1"] * 2
        parts.append(capture(tmp_path / f"{size}.pcapng", comments, FRAME[:size]))
    written = tmp_path / "parts.pcapng"
    written.write_bytes(b"".join(part.read_bytes() for part in parts))  # a section after the other
    assert frames(written, "emu.dropped == 1") == list(range(1, 9))


@settings(max_examples=4, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(max_size=80).map(lambda rest: b"emu verdict=dropped " + rest), min_size=20, max_size=100))
def test_any_octets_raise_no_error(tmp_path: Path, comments: list[bytes]) -> None:
    written = capture(tmp_path / "any.pcapng", comments)
    assert len(values(written, *(field.field for field in fields()))) == len(comments)

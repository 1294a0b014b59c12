"""The reader's window: whatever its size, the rows are the same, the bytes stay put, and memory is bounded."""

import itertools
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from capture_kit import PCAPS, block, epb, idb, pcap_header, pcap_record, play, play_bytes, shb, source_of
from engine_pair import NAMES, engine_named

from emu.capture.compression import Source
from emu.capture.reader import CaptureReader, linktype_name, open_capture
from emu.engine.plain import PlainEngine
from emu.errors import CaptureError, Exit
from emu.kernel.machine import Packet

PLAIN = PlainEngine()


def as_pcapng(data: bytes) -> bytes:
    """The same frames as a pcapng file with something else between them."""
    frames, _ = play_bytes(data, "plain")
    blocks = [shb(comments=[b"c" * 300]), idb(name=b"eth0")]
    for number, frame in enumerate(frames):
        blocks.append(epb(frame.octets, frame.file_time_ns // 1000))
        if number % 5 == 0:
            blocks.append(block("<", 0xBAD, bytes(number * 4)))
    return b"".join(blocks)


CAPTURES = {
    "pcap": (PCAPS / "nop.pcap").read_bytes(),
    "pcapng": as_pcapng((PCAPS / "nop.pcap").read_bytes()),
}


@pytest.mark.parametrize("kind", CAPTURES)
@pytest.mark.parametrize("engine", NAMES)
def test_no_window_is_too_small(engine: str, kind: str) -> None:
    made, data = engine_named(engine), CAPTURES[kind]
    expected, _ = play_bytes(CAPTURES["pcap"], "plain")
    windows = [*range(1, 200, 13), 255, 256, 257, 1000, 4096, 1 << 16]
    for window, most, (limit, keep) in itertools.product(windows, (0, 100), ((1, 0), (3, 2), (64, 0), (7, 30))):
        reader = CaptureReader(source_of(data, most), "test", made, window)
        assert play(reader, made, limit, keep) == expected, (window, most, limit, keep)
        assert reader.damage is None
        # Twice what is kept, one frame and the window: it doubles.
        kept = sum(len(frame.octets) + 48 for frame in expected[-keep:]) if keep else 0
        assert len(reader.octets) <= 2 * (max(window, 64) + kept + 4096)


def test_frames_lie_in_the_window_and_are_not_copied() -> None:
    reader = CaptureReader(source_of(CAPTURES["pcap"]), "test", PLAIN)
    rows = PLAIN.rows(Packet, 64)
    octets = reader.octets
    assert reader.read(rows, 0, 64) == 41
    assert reader.octets is octets
    assert octets[: reader.position] == CAPTURES["pcap"]


def test_rows_are_written_where_asked() -> None:
    reader = CaptureReader(source_of(CAPTURES["pcap"]), "test", PLAIN)
    rows = PLAIN.rows(Packet, 64)
    assert reader.read(rows, 10, 5) == 5
    assert reader.read(rows, 20, 0) == 0
    assert not reader.ended
    assert reader.read(rows, 15, 5) == 5
    assert [rows[at].frame for at in range(9, 21)] == [0, *range(1, 11), 0]


def test_discard_without_need_moves_nothing() -> None:
    reader = CaptureReader(source_of(CAPTURES["pcap"]), "test", PLAIN)
    rows = PLAIN.rows(Packet, 64)
    reader.read(rows, 0, 5)
    assert reader.discard(rows[4].offset) == 0
    assert reader.discard(-5) == 0
    reader.read(rows, 0, 64)
    end = reader.position
    assert reader.discard(1 << 40) == end
    assert reader.position == 0


class Endless:
    """A pipe that writes `total` bytes: a head, and then one record over and over."""

    def __init__(self, head: bytes, again: bytes, total: int) -> None:
        self._parts = self._generate(head, again, total)
        self._part = b""

    @staticmethod
    def _generate(head: bytes, again: bytes, total: int) -> Iterator[bytes]:
        yield head
        many = again * (60_000 // len(again) + 1)
        for _ in range(total // len(many)):
            yield many

    def readinto(self, into: memoryview) -> int:
        self._part = self._part or next(self._parts, b"")
        count = min(len(into), len(self._part))
        into[:count] = self._part[:count]
        self._part = self._part[count:]
        return count

    def fileno(self) -> int:
        raise OSError

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("head", "again", "total"),
    [
        (pcap_header(), pcap_record(bytes(1498)), 200_000_000),
        (shb() + idb(), epb(bytes(1508)), 200_000_000),
        (shb() + idb(), block("<", 0xBAD, bytes(1508)), 20_000_000),
        (shb() + idb(), b"\x0b\0\0\0\xfc\xff\xff\xff" + bytes(1520), 200_000_000),
    ],
    ids=["pcap", "pcapng", "other blocks", "one block of 4 GiB"],
)
def test_memory_does_not_grow(head: bytes, again: bytes, total: int) -> None:
    engine = engine_named("compiled")
    rows = engine.rows(Packet, 4096)
    play_bytes(head, "compiled")  # compiles what is needed before memory is watched
    tracemalloc.start()
    reader = CaptureReader(Source(Endless(head, again, total), "pipe"), "pipe", engine, 1 << 17)
    start = tracemalloc.get_traced_memory()[0]
    while reader.read(rows, 0, 4096):
        reader.discard(reader.position)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert reader.bytes_read > total * 0.99
    assert reader.ended
    assert len(reader.octets) == 1 << 17
    assert peak - start < 1_000_000


def test_not_a_capture() -> None:
    for data, found in (
        (b"", "it is empty"),
        (b"\xd4\xc3", "it starts with d4 c3"),
        (b"GIF89a;", "it starts with 47 49 46 38"),
    ):
        with pytest.raises(CaptureError) as caught:
            play_bytes(data, "plain")
        assert str(caught.value) == f"emu cannot read test: {found}; expected a pcap or pcapng file"
        assert caught.value.exit_code == Exit.CAPTURE


def test_only_a_header_is_a_capture_of_no_frame() -> None:
    for data in (pcap_header(), shb(), shb() + idb()):
        frames, reader = play_bytes(data, "plain")
        assert not frames
        assert reader.damage is None


def test_the_section_comment_is_known_before_the_first_frame(tmp_path: Path) -> None:
    path = tmp_path / "flood.pcapng"
    path.write_bytes(shb(comments=[b"emu sockets"]) + idb() + epb(b"abcd"))
    with open_capture(str(path), PLAIN) as reader:
        assert reader.section_comments == ["emu sockets"]
        assert reader.size == path.stat().st_size


def test_messages_name_the_file(tmp_path: Path) -> None:
    path = tmp_path / "cut.pcap"
    path.write_bytes(CAPTURES["pcap"][:-1])
    with open_capture(str(path), PLAIN) as reader:
        assert len(play(reader, PLAIN)) == 40
        start = len(CAPTURES["pcap"]) - 82
        assert reader.damage_offset == start
        assert str(reader.damage) == (
            f"{path}: byte {start}: expected a record of 82 bytes, "
            f"found the end of the file, at byte {len(CAPTURES['pcap']) - 1}"
        )
        assert reader.damage is not None
        assert reader.damage.exit_code == Exit.CAPTURE


def test_link_types_have_names() -> None:
    assert linktype_name(1) == "LINKTYPE_ETHERNET"
    assert linktype_name(276) == "LINKTYPE_LINUX_SLL2"
    assert linktype_name(65535) == "no name known"

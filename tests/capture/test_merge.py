"""Several captures as one: mergecap's order, stable frames and interfaces, bounded memory, damage told at the end."""

import gzip
import io
import struct
import tracemalloc
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from capture_kit import NS, PCAPS, SAMPLES, epb, frame_at, idb, pcap_header, pcap_record, play, shb, source_of
from engine_pair import NAMES, engine_named
from external_tools import run
from hypothesis import given, settings
from hypothesis import strategies as st

from emu.capture.compression import Source
from emu.capture.merge import MergedReader, merged, open_captures
from emu.capture.reader import CaptureReader
from emu.engine.plain import PlainEngine
from emu.errors import CaptureError
from emu.kernel.machine import Packet

PLAIN = PlainEngine()


def reader_of(data: bytes, engine: Any, window: int = 1 << 16, name: str = "test", device: int = -1) -> CaptureReader:
    return CaptureReader(source_of(data), name, engine, window, device)


def capture_of(times_us: list[int], mark: bytes) -> bytes:
    """A pcap whose frames say which capture they are of, and the how-manieth."""
    records = [
        pcap_record(mark + bytes([at]) * (1 + at % 40), *divmod(time, 10**6)) for at, time in enumerate(times_us)
    ]
    return pcap_header() + b"".join(records)


def in_order(captures: list[list[int]]) -> list[tuple[int, int]]:
    """What the merge must do, told in the plainest way: (capture, place) of each frame."""
    heads, order = [0] * len(captures), []
    while any(head < len(times) for head, times in zip(heads, captures, strict=True)):
        _, which = min((captures[at][head], at) for at, head in enumerate(heads) if head < len(captures[at]))
        order.append((which, heads[which]))
        heads[which] += 1
    return order


TIMES = st.lists(st.integers(0, 60), max_size=25)


@pytest.mark.parametrize("name", NAMES)
@settings(deadline=None, derandomize=True, max_examples=60)
@given(
    captures=st.lists(TIMES, min_size=2, max_size=5),
    window=st.integers(1, 400),
    limit=st.integers(1, 30),
    keep=st.integers(0, 40),
)
def test_frames_come_by_time_and_then_by_capture(
    name: str, captures: list[list[int]], window: int, limit: int, keep: int
) -> None:
    """Whatever the windows, the batches and what is kept; also where a capture is not in order itself."""
    engine = engine_named(name)
    readers = [reader_of(capture_of(times, bytes([at])), engine, window) for at, times in enumerate(captures)]
    whole = merged(readers, engine)
    assert isinstance(whole, MergedReader)
    whole = MergedReader(reader_of(pcap_header(), engine), whole, engine, window)
    frames = play(whole, engine, limit, keep)
    order = in_order(captures)
    assert [(f.octets[0], f.octets[-1] if len(f.octets) > 1 else 0) for f in frames] == order
    assert [f.frame for f in frames] == [f.packet_id for f in frames] == list(range(1, len(order) + 1))
    assert [f.iface - 1 for f in frames] == [which for which, _ in order]
    assert [f.file_time_ns for f in frames] == [captures[which][at] * 1000 for which, at in order]
    assert whole.damage is None


@pytest.mark.parametrize("name", NAMES)
def test_mergecap_has_the_same_order(name: str, tmp_path: Path) -> None:
    """Our samples, shifted into one another by odd numbers of microseconds, so that no two times are equal."""
    paths = []
    for at, sample in enumerate(SAMPLES):
        start = int(
            run("tshark", "-r", PCAPS / f"{sample}.pcap", "-c", "1", "-T", "fields", "-e", "frame.time_epoch")[:10]
        )
        paths.append(tmp_path / f"{sample}.pcapng")
        shift = 1_700_000_000 - start + at * 0.0000037
        run("editcap", "-F", "pcapng", "-t", f"{shift:.7f}", PCAPS / f"{sample}.pcap", paths[-1])
    run("mergecap", "-w", tmp_path / "judge.pcapng", *paths)
    engine = engine_named(name)
    with closing(open_captures([(str(path), -1) for path in paths], engine)) as ours:
        frames = play(ours, engine, 500)
    with closing(open_captures([(str(tmp_path / "judge.pcapng"), -1)], engine)) as judge:
        assert isinstance(judge, CaptureReader)
        expected = play(judge, engine, 500)
    assert len(frames) > 500
    assert [(f.file_time_ns, f.octets) for f in frames] == [(f.file_time_ns, f.octets) for f in expected]


@pytest.mark.parametrize("name", NAMES)
def test_a_frame_keeps_what_its_capture_says_of_it(name: str) -> None:
    """Packet id, direction, link type, check sequence and length; an id that is none of the capture's is a new one."""
    engine = engine_named(name)
    pairs = [(2, struct.pack("<I", 2 | 4 << 5)), (5, struct.pack("<Q", 1))]
    one = shb(comments=[b"one"]) + idb(name=b"a") + epb(b"first", 1) + epb(b"third+fcs", 3, length=100, pairs=pairs)
    two = shb(comments=[b"two"]) + idb(linktype=113) + epb(b"second", 2)
    readers = [reader_of(one, engine), reader_of(two, engine, device=3)]
    whole = merged(readers, engine)
    frames = play(whole, engine)
    seen = [(f.packet_id, f.direction, f.linktype, f.length, f.fcs_bytes, f.iface, f.octets) for f in frames]
    assert seen == [
        (1, 0, 1, 5, 0, 0, b"first"),
        (2, 0, 113, 6, 0, 1, b"second"),
        (1, 2, 1, 96, 4, 0, b"third+fcs"),
    ]
    assert [(i.name, i.linktype, i.device) for i in whole.interfaces] == [("a", 1, -1), ("", 113, 3)]
    assert whole.section_comments == ["one", "two"]


@pytest.mark.parametrize("name", NAMES)
def test_the_check_sequence_is_copied_with_its_frame(name: str) -> None:
    engine = engine_named(name)
    data = pcap_header(linktype=0x24000001) + pcap_record(b"frame/fcs")
    whole = merged([reader_of(pcap_header(), engine), reader_of(data, engine)], engine)
    rows = engine.rows(Packet, 4)
    assert whole.read(rows, 0, 4) == 1
    frame = frame_at(whole, rows, 0)
    assert (frame.octets, frame.fcs_caplen) == (b"frame", 4)
    assert bytes(whole.octets[: whole.position]) == b"frame/fcs"


@pytest.mark.parametrize("name", NAMES)
def test_interfaces_that_appear_later_do_not_shift_the_others(name: str) -> None:
    engine = engine_named(name)
    one = shb() + idb(name=b"a") + epb(b"a", 1) + idb(name=b"late") + epb(b"late", 3_000, iface=1) + epb(b"a", 5_000)
    two = shb() + idb(name=b"b") + b"".join(epb(b"b", 10 * at) for at in range(2_000))
    whole = merged([reader_of(one, engine), reader_of(two, engine)], engine)
    for frame in play(whole, engine, 100):
        assert whole.interfaces[frame.iface].name.encode() == frame.octets
    assert len(whole.interfaces) == 3


@pytest.mark.parametrize("name", NAMES)
def test_damage_ends_one_capture_and_is_told_at_the_end(name: str) -> None:
    engine = engine_named(name)
    good = capture_of([10, 20, 30, 40], b"g")
    cut = capture_of([15, 25], b"c")[:-1]
    packed = gzip.compress(capture_of([5], b"p"))[:-3]
    readers = [reader_of(data, engine, name=said) for data, said in ((good, "good"), (cut, "cut"), (packed, "packed"))]
    whole = merged(readers, engine)
    rows = engine.rows(Packet, 16)
    assert whole.read(rows, 0, 1) == 1
    assert whole.damage is None
    assert "".join(f.octets[:1].decode() for f in play_on(whole, engine)) == "gcggg"
    said = str(whole.damage)
    assert said.startswith(
        "cut: byte 42: expected a record of 19 bytes, found the end of the file, at byte 60; packed: byte "
    )
    assert whole.damage_offset == 42
    assert whole.compression == "gzip"


def play_on(reader: Any, engine: Any) -> list[Any]:
    """The frames that are left."""
    rows, frames = engine.rows(Packet, 8), []
    while count := reader.read(rows, 0, 8):
        frames += [frame_at(reader, rows, at) for at in range(count)]
        reader.discard(reader.position)
    return frames


def test_sizes_and_bytes_are_those_of_all() -> None:
    one, two = capture_of([1, 2], b"1"), gzip.compress(capture_of([1], b"2"))
    whole = merged([reader_of(one, PLAIN), reader_of(two, PLAIN)], PLAIN)
    assert whole.size == len(one) + len(two)
    assert len(play(whole, PLAIN)) == 3
    assert whole.bytes_read == len(one) + len(two)
    assert whole.format == "pcap"
    pipe = CaptureReader(source_of(one, 100), "pipe", PLAIN)
    assert merged([pipe, reader_of(two, PLAIN)], PLAIN).size is None


class Many:
    """A long capture, made as it is read."""

    def __init__(self, total: int) -> None:
        self.left = total
        self.part = pcap_header()

    def readinto(self, into: memoryview) -> int:
        if not self.part and self.left:
            self.left -= 1
            self.part = pcap_record(bytes(1400), self.left % 7) * 40
        count = min(len(into), len(self.part))
        into[:count] = self.part[:count]
        self.part = self.part[count:]
        return count

    def fileno(self) -> int:
        raise OSError

    def close(self) -> None:
        pass


def test_memory_does_not_grow() -> None:
    engine = engine_named("compiled")
    rows = engine.rows(Packet, 4096)
    readers = [CaptureReader(Source(Many(1_500), "pipe"), "pipe", engine, 1 << 17) for _ in range(3)]
    whole = merged(readers, engine)
    frames = whole.read(rows, 0, 4096)
    tracemalloc.start()
    start = tracemalloc.get_traced_memory()[0]
    while count := whole.read(rows, 0, 4096):
        frames += count
        whole.discard(whole.position)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert frames == 3 * 1_500 * 40
    assert peak - start < 2_000_000


def test_every_capture_is_closed_and_a_bad_one_is_named(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.pcap", tmp_path / "bad.pcap"
    good.write_bytes(capture_of([1], b"g"))
    bad.write_bytes(b"GIF89a;")
    with pytest.raises(CaptureError, match=r"^emu cannot read .*bad.pcap: it starts with 47 49 46 38"):
        open_captures([(str(good), -1), (str(bad), 0)], PLAIN)
    with pytest.raises(CaptureError, match=r"^emu cannot read stdin twice"):
        open_captures([("-", -1), (str(good), 0), ("-", 1)], PLAIN)
    with closing(open_captures([(str(good), 2), (str(good), -1)], PLAIN)) as whole:
        assert [interface.device for interface in whole.interfaces] == [2, -1]
        assert len(play(whole, PLAIN)) == 2


@settings(deadline=None, derandomize=True, max_examples=100)
@given(
    cuts=st.tuples(st.integers(24, 400), st.integers(24, 400)),
    edits=st.lists(st.tuples(st.integers(24, 399), st.integers(0, 255)), max_size=4),
)
def test_hostile_captures_never_break_the_merge(cuts: tuple[int, int], edits: list[tuple[int, int]]) -> None:
    """All that is sound in each is played, at both speeds alike."""
    data = [
        bytearray(capture_of([at * 7 % 50 for at in range(12)], mark)[:cut])
        for mark, cut in zip((b"x", b"y"), cuts, strict=True)
    ]
    for at, value in edits:
        capture = data[at % 2]
        if at < len(capture):
            capture[at] = value
    alone = [len(play(reader_of(bytes(one), PLAIN), PLAIN)) for one in data]
    found = []
    for name in NAMES:
        engine = engine_named(name)
        whole = merged([reader_of(bytes(one), engine, 64) for one in data], engine)
        found.append((play(whole, engine, 5), str(whole.damage)))
    assert found[0] == found[1]
    assert len(found[0][0]) == sum(alone)


def test_io_is_not_read_ahead_of_need() -> None:
    """The first frames of all captures are there before any of them has been read to its end."""
    readers = [
        CaptureReader(Source(io.BytesIO(capture_of(list(range(200)), m)), "t"), "t", PLAIN, 128) for m in (b"a", b"b")
    ]
    whole = merged(readers, PLAIN)
    rows = PLAIN.rows(Packet, 8)
    assert whole.read(rows, 0, 8) > 0
    assert not any(reader.ended for reader in readers)
    assert whole.read(rows, 0, 0) == 0
    assert rows[0].file_time_ns < NS

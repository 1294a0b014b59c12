"""pcapng files: against a writer of our own, against Scapy and against python-pcapng."""

import struct
import subprocess
from pathlib import Path
from typing import Any

import pcapng
import pytest
from capture_kit import (
    BIG,
    EPB,
    ISB,
    LITTLE,
    NRB,
    NS,
    PCAPS,
    SAMPLES,
    Frame,
    block,
    epb,
    idb,
    old_pb,
    play,
    play_bytes,
    shb,
    source_of,
    spb,
)
from engine_pair import NAMES, engine_named
from external_tools import tool
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.utils import RawPcapNgReader

from emu.capture.reader import CaptureReader, open_capture
from emu.errors import CaptureError
from emu.kernel.machine import Packet

ORDERS = st.sampled_from((LITTLE, BIG))
TSRESOLS = st.one_of(st.none(), st.integers(0, 12), st.integers(0, 255), st.sampled_from((0x80, 0x94, 0xA0, 0xBF)))
TSOFFSETS = st.one_of(st.none(), st.integers(-(2**34), 2**34), st.sampled_from((-(2**63), 2**63 - 1)))
TICKS = st.one_of(st.integers(0, 2**64 - 1), st.integers(1_700_000_000 * NS, 1_900_000_000 * NS), st.just(2**64 - 1))
NOISE = st.lists(st.tuples(st.integers(15, 0x8003), st.binary(max_size=9)), max_size=3)
LATEST_NS = 2**62 // NS * NS


def time_ns(ticks: int, tsresol: int | None, tsoffset: int | None) -> int:
    """What a time stamp means, in unbounded integers, with the clamps that keep the reader's within 64 bits."""
    tsresol = 6 if tsresol is None else tsresol
    per_second: int = 2 ** (tsresol & 0x7F) if tsresol & 0x80 else 10**tsresol
    offset = min(max(tsoffset or 0, -(2**61)), 2**61)
    seconds = min(ticks // per_second, 2**62 - 1) + offset
    return min(max(seconds * NS + ticks % per_second * NS // per_second, -LATEST_NS), LATEST_NS)


@st.composite
def captures(draw: st.DrawFn) -> tuple[bytes, list[Frame], list[str], int]:
    """A file of several sections, its frames, its comments, and how many of its blocks are to be skipped."""
    data, skipped, ifaces, last = b"", 0, 0, 0
    frames: list[Frame] = []
    all_comments: list[str] = []
    for _ in range(draw(st.integers(1, 3))):
        order = draw(ORDERS)
        comments = draw(
            st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8), max_size=2)
        )
        data += shb(order, [comment.encode() for comment in comments])
        all_comments += comments
        clocks: list[tuple[int | None, int | None, int]] = []
        for _ in range(draw(st.integers(0, 14))):
            what = draw(st.sampled_from((IDB_, FRAME, FRAME, SIMPLE, OLD, OTHER)))
            if what == IDB_:
                clock = (draw(TSRESOLS), draw(TSOFFSETS), draw(st.sampled_from((0, 20, 65535))))
                data += idb(order, 1, clock[2], b"eth0", clock[0], clock[1], draw(NOISE))
                clocks.append(clock)
            elif what == OTHER:
                kind = draw(st.sampled_from((NRB, ISB, 0xBAD, 0x80000001)))
                data += block(order, kind, draw(st.binary(max_size=100)))
                skipped += 1
            elif clocks:
                octets, ticks = draw(st.binary(max_size=50)), draw(TICKS)
                number, iface = len(frames) + 1, draw(st.integers(0, len(clocks) - 1))
                tsresol, tsoffset, snaplen = clocks[iface]
                flags, packet_id, cut, length = draw(st.integers(0, 2)), number, 0, len(octets)
                if what == SIMPLE:
                    iface, snaplen = 0, clocks[0][2]
                    octets = octets[: snaplen or None]
                    data += spb(octets, length, order)
                    flags = 0
                elif what == OLD:
                    last = time_ns(ticks, tsresol, tsoffset)
                    data += old_pb(octets, ticks, iface, order, flags)
                else:
                    last = time_ns(ticks, tsresol, tsoffset)
                    cut, packet_id = draw(st.integers(0, 2000)), draw(st.integers(-(2**63), 2**63 - 1))
                    pairs = [(2, struct.pack(order + "I", flags | 0x60)), (5, struct.pack(order + "q", packet_id))]
                    pairs = draw(st.permutations([*pairs, *draw(NOISE)]))
                    data += epb(octets, ticks, iface, length + cut, order, pairs)
                direction = flags
                frames.append(
                    Frame(
                        number, packet_id, ifaces + iface, last, len(octets), length + cut, direction, octets, 1, 0, 0
                    )
                    if what != FRAME
                    else with_fcs(number, packet_id, ifaces + iface, last, length + cut, direction, octets)
                )
        ifaces += len(clocks)
    return data, frames, all_comments, skipped


IDB_, FRAME, SIMPLE, OLD, OTHER = range(5)


def with_fcs(number: int, packet_id: int, iface: int, ns: int, length: int, direction: int, octets: bytes) -> Frame:
    """A frame whose last three bytes on the wire are a frame check sequence, as flags of 0x60 say."""
    fcs = min(3, length)
    caplen = min(len(octets), length - fcs)
    held = len(octets) - caplen
    return Frame(number, packet_id, iface, ns, caplen, length - fcs, direction, octets[:caplen], 1, fcs, held)


@pytest.mark.parametrize("engine", NAMES)
@pytest.mark.parametrize(
    ("fcslen", "flags", "fcs"),
    [(None, 0, 0), (32, 0, 4), (16, 4 << 5, 4), (32, 2 << 5, 2), (4, 0, 0), (0, 15 << 5, 15)],
)
def test_the_length_of_the_check_sequence_is_in_bits_or_in_octets(
    engine: str, fcslen: int | None, flags: int, fcs: int
) -> None:
    """if_fcslen counts bits, epb_flags octets, and what a packet says of itself holds."""
    pairs = [(2, struct.pack("<I", flags | 1))]
    data = shb() + idb(fcslen=fcslen) + epb(bytes(64), length=100, pairs=pairs) + epb(bytes(64), pairs=pairs)
    frames, reader = play_bytes(data, engine)
    assert [(f.length, f.caplen, f.fcs_bytes, f.fcs_caplen) for f in frames] == [
        (100 - fcs, 64, fcs, 0),
        (64 - fcs, 64 - fcs, fcs, fcs),
    ]
    assert reader.interfaces[0].fcs_bytes == (fcslen or 0) // 8


@pytest.mark.parametrize("engine", NAMES)
@settings(deadline=None, derandomize=True, max_examples=100)
@given(capture=captures(), window=st.integers(1, 400), most=st.integers(0, 60))
def test_what_is_written_is_read(
    engine: str, capture: tuple[bytes, list[Frame], list[str], int], window: int, most: int
) -> None:
    data, expected, comments, skipped = capture
    frames, reader = play_bytes(data, engine, window, most)
    assert reader.damage is None
    assert frames == expected
    assert reader.section_comments == comments
    assert reader.skipped_blocks == skipped
    assert reader.format == "pcapng"


@pytest.mark.parametrize("engine", NAMES)
def test_every_resolution_is_exact(engine: str) -> None:
    ticks = [0, 1, 999, 10**6 + 1, 2**31, 2**32 - 1, 2**32, 2**33 + 7, 10**18 + 3, 2**62 - 1, 2**62, 2**63 - 1]
    ticks += [2**63, 2**63 + 12345, 2**64 - 1]
    resolutions = [*range(13), *range(13, 128), *range(128, 256)]
    offsets = [0, 1, -1, -11_644_473_600, 2**40, -(2**63)]
    data, expected = shb(), []
    for resolution in resolutions:
        for offset in offsets:
            data += idb(tsresol=resolution, tsoffset=offset)
    for index, (resolution, offset) in enumerate((r, o) for r in resolutions for o in offsets):
        for tick in ticks:
            data += epb(b"", tick, index)
            expected.append(time_ns(tick, resolution, offset))
    frames, reader = play_bytes(data, engine)
    assert reader.damage is None
    assert [f.file_time_ns for f in frames] == expected


@pytest.mark.parametrize("sample", SAMPLES)
@pytest.mark.parametrize("engine", NAMES)
def test_scapy_and_python_pcapng_read_the_same(engine: str, sample: str, tmp_path: Path) -> None:
    path = str(tmp_path / "sample.pcapng")
    # The clock shift makes nanoseconds; the comment makes an option.
    command = [tool("editcap"), "-F", "pcapng", "-a", "3:seen", "-t", "0.5", str(PCAPS / f"{sample}.pcap"), path]
    subprocess.run(command, check=True, capture_output=True)
    made = engine_named(engine)
    with open_capture(path, made) as capture:
        frames = play(capture, made, 4096)
        assert capture.damage is None
    with RawPcapNgReader(path) as reader:
        scapys = [((m.tshigh << 32 | m.tslow) * NS // m.tsresol, m.wirelen, data) for data, m in reader]
    assert [(f.file_time_ns, f.length, f.octets) for f in frames] == scapys
    assert [(f.file_time_ns, f.length, f.octets) for f in frames] == list(_python_pcapng(path))


def _python_pcapng(path: str) -> Any:
    with Path(path).open("rb") as file:
        for entry in pcapng.FileScanner(file):
            if isinstance(entry, pcapng.blocks.EnhancedPacket):
                ticks = entry.timestamp_high << 32 | entry.timestamp_low
                resolution = round(1 / entry.interface.timestamp_resolution)
                yield ticks * NS // resolution, entry.packet_len, entry.packet_data


def test_python_pcapng_agrees_on_sections_and_options(tmp_path: Path) -> None:
    path = tmp_path / "sections.pcapng"
    flags = [(1, b"a comment"), (2, struct.pack(">I", 2)), (5, struct.pack(">Q", 77))]
    path.write_bytes(
        shb() + idb(name=b"a", tsresol=9) + epb(b"12345", 10**18) + shb(BIG, [b"two"]) + idb(BIG, tsresol=3)
        + epb(b"6", 5, order=BIG, pairs=flags)
    )  # fmt: skip
    with path.open("rb") as file:
        theirs = [e for e in pcapng.FileScanner(file) if isinstance(e, pcapng.blocks.EnhancedPacket)]
    frames, reader = play_bytes(path.read_bytes(), "plain")
    assert [f.octets for f in frames] == [e.packet_data for e in theirs]
    assert [f.file_time_ns for f in frames] == [10**18, 5_000_000]
    assert [(f.iface, f.direction, f.packet_id) for f in frames] == [(0, 0, 1), (1, 2, 77)]
    assert [(i.name, i.section) for i in reader.interfaces] == [("a", 0), ("", 1)]
    assert reader.section_comments == ["two"]


@pytest.mark.parametrize("engine", NAMES)
def test_frames_before_another_link_type_are_delivered(engine: str) -> None:
    data = shb() + idb() + idb(linktype=105) + epb(b"abc") + epb(b"def", iface=1)
    made = engine_named(engine)
    reader = CaptureReader(source_of(data), "test", made)
    rows = made.rows(Packet, 8)
    assert reader.read(rows, 0, 8) == 1
    for _ in range(2):
        with pytest.raises(CaptureError, match=r"link type 105 \(LINKTYPE_IEEE802_11\), expected Ethernet"):
            reader.read(rows, 0, 8)


def test_an_interface_of_another_link_type_without_frames_is_no_matter() -> None:
    frames, reader = play_bytes(shb() + idb(linktype=147) + idb() + epb(b"abc", iface=1), "plain")
    assert [f.iface for f in frames] == [1]
    assert reader.damage is None


def test_comments_that_are_no_utf8_are_shown_as_far_as_they_are() -> None:
    _, reader = play_bytes(shb(comments=[b"\xff\xfeok", "grün".encode()]), "plain")
    assert reader.section_comments == ["\ufffd\ufffdok", "grün"]


WRONG = {
    "a frame of interface 1": epb(b"", iface=1),
    "a frame of interface 3": old_pb(b"", iface=3),
    "a length of 262145": epb(bytes(262_145)),
    "a length of 90": block(LITTLE, EPB, struct.pack("<IIIII", 0, 0, 0, 90, 90) + bytes(60)),
    "a length of 91": spb(b"abcd", 91),
    "found 28": block(LITTLE, EPB, bytes(16)),
    "found 33": struct.pack("<II", EPB, 33) + bytes(32),
    "found 16777220": struct.pack("<II", EPB, (1 << 24) + 4) + bytes(32),
    "found 8": struct.pack("<II", 77, 8) + bytes(8),
    "found 99": epb(b"abcd")[:-4] + struct.pack("<I", 99),
    "found 98": block(LITTLE, 77, bytes(200))[:-4] + struct.pack("<I", 98),
    "found 97": idb()[:-4] + struct.pack("<I", 97),
    "found 96": shb()[:-4] + struct.pack("<I", 96),
    "found 1a2b3c4f": shb().replace(struct.pack("<I", 0x1A2B3C4D), bytes.fromhex("1a2b3c4f")),
    "found version 2.0": shb().replace(struct.pack("<HH", 1, 0), struct.pack("<HH", 2, 0)),
}


@pytest.mark.parametrize("engine", NAMES)
@pytest.mark.parametrize("found", WRONG)
def test_damage_says_what_was_found(engine: str, found: str) -> None:
    start = shb() + idb() + epb(b"good")
    for window in (64, 1 << 16):
        frames, reader = play_bytes(start + WRONG[found] + epb(b"lost"), engine, window)
        assert [f.octets for f in frames] == [b"good"]
        assert found in str(reader.damage)
        assert len(start) <= reader.damage_offset <= len(start) + 12
        assert str(reader.damage).startswith(f"test: byte {reader.damage_offset}: expected ")


def test_a_simple_packet_needs_an_interface() -> None:
    _, reader = play_bytes(shb() + spb(b"abcd"), "plain")
    assert "expected one of the 0 interfaces of its section, found a frame of interface 0" in str(reader.damage)


def test_names_and_comments_are_bounded() -> None:
    _, reader = play_bytes(shb() + idb(name=b"n" * 60_000), "plain")
    assert len(reader.interfaces[0].name) == 256
    many = b"".join(shb(comments=[b"c" * 65_000]) for _ in range(400))
    _, reader = play_bytes(many, "plain")
    assert reader.damage is None
    assert sum(map(len, reader.section_comments)) <= 1 << 24

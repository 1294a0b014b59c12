"""pcap files: against a writer of our own, and against Scapy."""

import struct
import subprocess
from pathlib import Path

import pytest
from capture_kit import BIG, LITTLE, NS, PCAPS, SAMPLES, Frame, pcap_header, pcap_record, play, play_bytes
from engine_pair import NAMES, engine_named
from external_tools import tool
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.utils import RawPcapReader

from emu.capture.linktype import PLAYED
from emu.capture.reader import open_capture
from emu.errors import CaptureError

U32 = st.integers(0, 2**32 - 1)
RECORDS = st.lists(st.tuples(U32, st.integers(0, NS - 1), st.binary(max_size=90), st.integers(0, 2000)), max_size=12)


@pytest.mark.parametrize("engine", NAMES)
@settings(deadline=None, derandomize=True, max_examples=60)
@given(
    records=RECORDS,
    order=st.sampled_from((LITTLE, BIG)),
    magic=st.sampled_from((0xA1B2C3D4, 0xA1B23C4D, 0xA1B2CD34)),
    window=st.integers(1, 300),
    most=st.integers(0, 40),
)
def test_what_is_written_is_read(
    engine: str, records: list[tuple[int, int, bytes, int]], order: str, magic: int, window: int, most: int
) -> None:
    nanos = magic == 0xA1B23C4D
    tail = bytes(range(8)) if magic == 0xA1B2CD34 else b""
    data = pcap_header(order, magic)
    expected = []
    for number, (seconds, ns, octets, cut) in enumerate(records, 1):
        ticks = ns if nanos else ns // 1000
        time_ns = seconds * NS + (ns if nanos else ns // 1000 * 1000)
        data += pcap_record(octets, seconds, ticks, len(octets) + cut, order, tail)
        expected.append(Frame(number, number, 0, time_ns, len(octets), len(octets) + cut, 0, octets, 1, 0, 0))

    frames, reader = play_bytes(data, engine, window, most)

    assert frames == expected
    assert reader.damage is None
    assert reader.format == "pcap"
    assert reader.bytes_read == len(data)
    assert [(i.linktype, i.snaplen, i.tsresol) for i in reader.interfaces] == [(1, 262_144, 9 if nanos else 6)]


@pytest.mark.parametrize("engine", NAMES)
@pytest.mark.parametrize("sample", SAMPLES)
def test_scapy_reads_the_same(engine: str, sample: str) -> None:
    path = str(PCAPS / f"{sample}.pcap")
    with RawPcapReader(path) as reader:
        expected = [((meta.sec * NS + meta.usec * 1000), meta.wirelen, data) for data, meta in reader]
    made = engine_named(engine)
    with open_capture(path, made) as capture:
        frames = play(capture, made, 4096)
        assert capture.size == capture.bytes_read == Path(path).stat().st_size
    assert [(f.file_time_ns, f.length, f.octets) for f in frames] == expected
    assert [f.frame for f in frames] == list(range(1, len(expected) + 1))


@pytest.mark.parametrize("engine", NAMES)
def test_nanoseconds_survive(engine: str, tmp_path: Path) -> None:
    path = str(tmp_path / "ns.pcap")
    command = [tool("editcap"), "-F", "nsecpcap", "-t", "0.000000123", str(PCAPS / "nop.pcap"), path]
    subprocess.run(command, check=True, capture_output=True)
    with RawPcapReader(path) as reader:
        expected = [meta.sec * NS + meta.usec for _, meta in reader]
    made = engine_named(engine)
    with open_capture(path, made) as capture:
        assert [f.file_time_ns for f in play(capture, made)] == expected
    assert all(time % 1000 == 123 for time in expected)


@pytest.mark.parametrize("engine", NAMES)
def test_a_length_below_caplen_counts_as_caplen(engine: str) -> None:
    frames, _ = play_bytes(pcap_header() + pcap_record(b"x" * 60, length=0), engine)
    assert [(f.caplen, f.length) for f in frames] == [(60, 60)]


def test_fcs_bits_are_no_part_of_the_link_type() -> None:
    for word, fcs in ((0x24000001, 4), (0x14000001, 2), (0x20000001, 0), (0x04000001, 0), (0x00010001, 0)):
        frames, reader = play_bytes(pcap_header(linktype=word) + pcap_record(b"abcdef", length=10), "plain")
        assert [(f.length, f.fcs_bytes) for f in frames] == [(10 - fcs, fcs)]
        assert reader.interfaces[0].linktype == 1
        assert reader.interfaces[0].fcs_bytes == fcs


@pytest.mark.parametrize("engine", NAMES)
@pytest.mark.parametrize(
    ("captured", "length", "frame", "behind"),
    [(64, 64, 60, 4), (62, 64, 60, 2), (60, 64, 60, 0), (40, 64, 40, 0), (3, 3, 0, 3), (0, 0, 0, 0)],
)
def test_a_frame_check_sequence_is_behind_the_frame(
    engine: str, captured: int, length: int, frame: int, behind: int
) -> None:
    """What the capture holds of it is told, and it counts for no length."""
    data = pcap_header(linktype=0x24000001) + pcap_record(bytes(captured), length=length)
    frames, _ = play_bytes(data, engine)
    assert [(f.caplen, f.fcs_caplen, f.length + f.fcs_bytes) for f in frames] == [(frame, behind, length)]


@pytest.mark.parametrize("engine", NAMES)
def test_kuznetzovs_packet_type_is_the_direction(engine: str) -> None:
    records = b"".join(
        pcap_record(b"abcd", tail=bytes([1, 0, 0, 0, 8, 0, kind, 0])) for kind in (0, 1, 2, 3, 4, 5, 255)
    )
    frames, _ = play_bytes(pcap_header(magic=0xA1B2CD34) + records, engine)
    assert [f.direction for f in frames] == [1, 1, 1, 1, 2, 0, 0]


@pytest.mark.parametrize("engine", NAMES)
@pytest.mark.parametrize("linktype", PLAYED)
def test_rows_know_their_link_type(engine: str, linktype: int) -> None:
    frames, reader = play_bytes(pcap_header(linktype=linktype) + pcap_record(b"abcd"), engine)
    assert [f.linktype for f in frames] == [linktype]
    assert reader.interfaces[0].linktype == linktype


def test_another_link_type_is_refused_at_once() -> None:
    with pytest.raises(CaptureError, match=r"test: its frames have link type 105 \(LINKTYPE_IEEE802_11\)"):
        play_bytes(pcap_header(linktype=105), "plain")


def test_another_version_is_damage() -> None:
    frames, reader = play_bytes(struct.pack("<IHHiIII", 0xA1B2C3D4, 3, 1, 0, 0, 65535, 1), "plain")
    assert not frames
    assert str(reader.damage) == "test: byte 4: expected pcap version 2.x, found version 3.1"


@pytest.mark.parametrize("engine", NAMES)
def test_the_longest_frame_is_read_and_a_longer_one_is_damage(engine: str) -> None:
    start = pcap_header() + pcap_record(bytes(262_144))
    frames, reader = play_bytes(start + pcap_record(bytes(262_145)), engine, 4096)
    assert [f.caplen for f in frames] == [262_144]
    assert reader.damage_offset == len(start)
    assert str(reader.damage) == (
        f"test: byte {len(start)}: expected a record of at most 262144 bytes, found a length of 262145"
    )

"""The plain capture: what is read is written as it was, and other programs read it."""

import io
import struct
from pathlib import Path
from typing import Any

import capture_kit as kit
import pcapng
import pytest
from capture_kit import LITTLE, PCAPS, Frame, play_bytes
from engine_pair import NAMES, engine_named
from external_tools import run
from hypothesis import given, settings
from hypothesis import strategies as st

from emu.capture import write
from emu.capture.output import OutputFile
from emu.capture.reader import CaptureReader
from emu.capture.write import PCAP, PCAPNG, CaptureWriter, format_of
from emu.errors import UsageError
from emu.kernel.machine import Packet

NS = kit.NS
FRAME = bytes.fromhex("020000000002 020000000001 0800 4500001c00010000401166cf0a0000010a000002 0035003500080000")
COMMENT = "what the section is about"


def copied(
    data: bytes,
    path: Path,
    file_format: str = PCAPNG,
    engine: str = "plain",
    batch: int = 64,
    incomplete: str | None = None,
) -> bytes:
    """A capture, read and written again."""
    made = engine_named(engine)
    with CaptureReader(kit.source_of(data), "test", made) as reader, OutputFile(path) as output:
        writer = CaptureWriter(output, made, file_format=file_format, comments=reader.section_comments)
        rows = made.rows(Packet, batch)
        while count := reader.read(rows, 0, batch):
            writer.write(rows, 0, count, reader)
            reader.discard(reader.position)
        writer.close(incomplete)
        assert writer.frames == reader.frames
    return path.read_bytes()


def rich_pcapng() -> bytes:
    """Everything that a row can say: two interfaces and link types, directions, FCS, packet ids, cut frames."""
    parts = [kit.shb(comments=[COMMENT.encode()]), kit.idb(name=b"eth0", tsresol=9)]
    parts.append(kit.epb(FRAME, NS + 1, pairs=[(2, struct.pack("<I", 1))]))
    parts.append(kit.epb(FRAME + bytes(4), NS + 2, pairs=[(2, struct.pack("<I", 2 | 4 << 5))]))
    parts.append(kit.idb(name=b"lo", linktype=101, tsresol=9))
    parts.append(kit.epb(FRAME[14:], NS + 2, iface=1, pairs=[(5, struct.pack("<q", -3))]))
    parts.append(kit.epb(FRAME[:20], 1 << 60, length=1514))
    parts.append(kit.epb(b"", 5))
    return b"".join(parts)


@pytest.mark.parametrize("engine", NAMES)
def test_a_pcapng_keeps_all_that_its_frames_say(tmp_path: Path, engine: str) -> None:
    """Every column that the reader fills, the comments and the interfaces; a copy of the copy is byte-identical."""
    data = rich_pcapng()
    again = copied(data, tmp_path / "copy.pcapng", engine=engine)
    frames, _ = play_bytes(data, engine)
    found, copy = play_bytes(again, engine)
    assert found == frames
    assert len(frames) == 5
    assert copy.section_comments == [COMMENT]
    assert [(each.name, each.linktype) for each in copy.interfaces] == [("eth0", 1), ("lo", 101)]
    assert copied(again, tmp_path / "twice.pcapng", engine=engine, batch=1) == again


@pytest.mark.parametrize("sample", kit.SAMPLES)
def test_a_sample_comes_back(tmp_path: Path, sample: str) -> None:
    """Both formats hold the frames of a capture, whatever the batch; pcap loses what it has no room for."""
    data = (PCAPS / f"{sample}.pcap").read_bytes()
    frames, _ = play_bytes(data, "plain")
    for file_format in (PCAPNG, PCAP):
        large = copied(data, tmp_path / "large", file_format, batch=1000)
        assert copied(data, tmp_path / "small", file_format, batch=7) == large
        found, reader = play_bytes(large, "plain")
        assert reader.format == file_format
        assert found == frames


def test_both_engines_write_the_same_bytes(tmp_path: Path) -> None:
    """Over buffers that fill up in the middle of a batch too."""
    data = (PCAPS / "mixed.pcap").read_bytes()
    for file_format in (PCAPNG, PCAP):
        plain, compiled = (copied(data, tmp_path / name, file_format, name, batch=300) for name in NAMES)
        assert plain == compiled


FRAMES = st.lists(
    st.tuples(
        st.binary(max_size=90),
        st.integers(0, (1 << 62) - 1),
        st.integers(0, 2),  # direction
        st.sampled_from([0, 2, 4, 15]),  # FCS
        st.one_of(st.none(), st.integers(-(1 << 63), (1 << 63) - 1)),
        st.integers(0, 9000),
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(frames=FRAMES, fill=st.integers(1, 50).map(lambda words: 4 * words), batch=st.integers(1, 5))
def test_what_is_written_reads_as_what_was_read(
    tmp_path_factory: pytest.TempPathFactory, frames: list[Any], fill: int, batch: int
) -> None:
    """Any frames, with any buffer and batch."""
    parts = [kit.shb(), kit.idb(name=b"x", tsresol=9)]
    for octets, time_ns, way, fcs, packet_id, more in frames:
        pairs = [(2, struct.pack("<I", way | fcs << 5))]
        if packet_id is not None:
            pairs.append((5, struct.pack("<q", packet_id)))
        parts.append(kit.epb(octets, time_ns, length=len(octets) + more, pairs=pairs))
    data = b"".join(parts)
    path = tmp_path_factory.mktemp("written") / "copy.pcapng"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(write, "FILL", fill)
        again = copied(data, path, batch=batch)
    assert play_bytes(again, "plain")[0] == play_bytes(data, "plain")[0]


def test_other_programs_read_both_formats(tmp_path: Path) -> None:
    """Tshark, capinfos, tcpdump, editcap, tcprewrite, Scapy and python-pcapng see the frames, times and lengths."""
    data = (PCAPS / "login.pcap").read_bytes()
    frames, _ = play_bytes(data, "plain")
    for name, file_format in (("a.pcapng", PCAPNG), ("a.pcap", PCAP)):
        path = tmp_path / name
        copied(data, path, file_format)
        seen = run("tshark", "-r", path, "-T", "fields", "-e", "frame.time_epoch", "-e", "frame.len").splitlines()
        assert seen == [f"{f.file_time_ns // NS}.{f.file_time_ns % NS:09}\t{f.length}" for f in frames]
        counted = run("capinfos", "-T", "-M", "-c", path).splitlines()[1].split("\t")[-1]
        assert counted == str(len(frames))
        assert len(run("tcpdump", "-nr", path).splitlines()) == len(frames)
        assert_scapy_agrees(path, frames)
    run("tcprewrite", f"--infile={tmp_path / 'a.pcap'}", f"--outfile={tmp_path / 'rewritten.pcap'}", "--fixcsum")
    with (tmp_path / "a.pcapng").open("rb") as stream:
        blocks = [block for block in pcapng.FileScanner(stream) if type(block).__name__ == "EnhancedPacket"]
    assert [block.packet_data for block in blocks] == [frame.octets for frame in frames]


def assert_scapy_agrees(path: Path, frames: list[Frame]) -> None:
    from scapy.utils import RawPcapReader

    with RawPcapReader(str(path)) as packets:
        assert [octets for octets, _ in packets] == [frame.octets for frame in frames]


def test_direction_and_interface_are_shown_by_tshark(tmp_path: Path) -> None:
    """The words of epb_flags and the names, as Wireshark has them."""
    path = tmp_path / "a.pcapng"
    copied(kit.shb() + kit.idb(name=b"eth0", tsresol=9) + kit.epb(FRAME, NS, pairs=[(2, b"\1\0\0\0")]), path)
    shown = run(
        "tshark", "-r", path, "-T", "fields", "-e", "frame.interface_name", "-e", "frame.packet_flags_direction"
    )
    assert shown.split() == ["eth0", "0x00000001"]


def test_an_incomplete_capture_says_so(tmp_path: Path) -> None:
    """In the statistics of the first interface; a file that is complete has none."""
    data = kit.shb() + kit.idb(tsresol=9) + kit.epb(FRAME, NS)
    whole = copied(data, tmp_path / "whole.pcapng")
    cut = copied(data, tmp_path / "cut.pcapng", incomplete="interrupted after frame 1")
    assert cut.startswith(whole)
    last = list(pcapng.FileScanner(io.BytesIO(cut)))[-1]
    assert (type(last).__name__, last.options["opt_comment"]) == ("InterfaceStatistics", "interrupted after frame 1")
    assert run("capinfos", "-T", "-M", "-c", tmp_path / "cut.pcapng").splitlines()[1].split("\t")[-1] == "1"


def test_an_incomplete_pcap_is_sound(tmp_path: Path) -> None:
    """It has no place to say so, and is left as it is."""
    data = kit.pcap_header() + kit.pcap_record(FRAME)
    assert copied(data, tmp_path / "cut.pcap", PCAP, incomplete="why") == copied(data, tmp_path / "a.pcap", PCAP)


def test_an_empty_source_makes_a_valid_file(tmp_path: Path) -> None:
    """No frame: headers alone, which the reader and capinfos take."""
    for file_format in (PCAPNG, PCAP):
        path = tmp_path / f"empty.{file_format}"
        made = copied(kit.pcap_header(), path, file_format)
        assert play_bytes(made, "plain")[0] == []
        assert run("capinfos", "-T", "-M", "-c", path).splitlines()[1].split("\t")[-1] == "0"


def two(first: bytes, second: bytes) -> bytes:
    return b"".join((kit.shb(), kit.idb(tsresol=9), kit.idb(linktype=101, tsresol=9), first, second))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (two(kit.epb(FRAME), kit.epb(FRAME[14:], iface=1)), "frame 2: its link type differs from the first frame's"),
        (
            two(kit.epb(FRAME), kit.epb(FRAME, pairs=[(2, struct.pack("<I", 4 << 5))])),
            "frame 2: its FCS differs from the first frame's",
        ),
        (two(kit.epb(FRAME), kit.epb(FRAME, NS << 32)), "frame 2: its time lies beyond 2106"),
        (two(kit.epb(FRAME, pairs=[(2, struct.pack("<I", 3 << 5))]), b""), "cannot tell of 3 bytes of FCS"),
    ],
)
def test_what_a_pcap_cannot_hold_is_refused_in_one_line(tmp_path: Path, data: bytes, said: str) -> None:
    """The line names the file and the frame, and says what can hold it; a pcapng takes all of it."""
    with pytest.raises(UsageError) as refusal:
        copied(data, tmp_path / "a.pcap", PCAP)
    assert said in str(refusal.value)
    assert str(refusal.value).startswith(str(tmp_path / "a.pcap"))
    assert "\n" not in str(refusal.value)
    assert "write a .pcapng" in str(refusal.value)
    copied(data, tmp_path / "a.pcapng", PCAPNG)


def test_a_pcap_tells_the_length_of_its_fcs(tmp_path: Path) -> None:
    """In the word of the link type, as it was read."""
    data = kit.pcap_header(LITTLE, 0xA1B23C4D, 1 | 1 << 26 | 2 << 28) + kit.pcap_record(FRAME + bytes(4), 7, 9)
    again = copied(data, tmp_path / "a.pcap", PCAP)
    assert again == data
    assert play_bytes(again, "plain")[0][0].fcs_bytes == 4


def test_the_format_follows_the_name() -> None:
    """A pcap if the name ends so; a name that promises compression is refused."""
    assert [format_of(name) for name in ("a.pcap", "b.PCAP", "c.pcapng", "-", "/dev/null", "d")] == [
        *[PCAP] * 2,
        *[PCAPNG] * 4,
    ]
    for suffix in ("gz", "zst", "xz", "lz4"):
        with pytest.raises(UsageError, match=rf"a\.pcapng\.{suffix}: emu does not compress; write a \.pcapng"):
            format_of(f"a.pcapng.{suffix}")

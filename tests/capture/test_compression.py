"""Compressed captures: recognised by their first bytes, read in bounded memory, and as far as they are sound."""

import functools
import gzip
import io
import lzma
import os
import random
import struct
import subprocess
import sys
import threading
import tracemalloc
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from capture_kit import PCAPS, Dribble, column, pcap_header, pcap_record, play, play_bytes, source_of
from external_tools import tool

from emu.capture.compression import Source, open_source
from emu.capture.reader import CaptureReader, open_capture
from emu.engine.plain import PlainEngine
from emu.errors import CaptureError
from emu.kernel.machine import Packet

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

PLAIN = PlainEngine()
SKIPPABLE = struct.pack("<II", 0x184D2A53, 11) + b"hello skip!"


def zstd_frame(data: bytes, checksum: bool = True) -> bytes:
    return zstd.compress(data, options={zstd.CompressionParameter.checksum_flag: checksum})


PACKERS: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "zstd": zstd_frame, "xz": lzma.compress}
with suppress(ImportError):  # an extra
    import lz4.frame  # type: ignore[import-untyped,import-not-found,unused-ignore]

    PACKERS["lz4"] = functools.partial(lz4.frame.compress, content_checksum=True)
SUMS = {"gzip": -6, "zstd": -2, "lz4": -2}  # a byte of the checksum at the end


def noisy_capture(frames: int) -> bytes:
    """A capture that hardly compresses, so that damage lies where we put it."""
    dice = random.Random(7)
    return pcap_header() + b"".join(pcap_record(dice.randbytes(1000), at) for at in range(frames))


def drain(source: Source, size: int = 1000) -> bytes:
    out, buffer = b"", bytearray(size)
    while count := source.readinto(memoryview(buffer)):
        out += buffer[:count]
    return out


@pytest.mark.parametrize("most", [0, 1, 7, 5000])
@pytest.mark.parametrize("kind", PACKERS)
def test_members_and_frames_follow_one_another(kind: str, most: int) -> None:
    data = (PCAPS / "nop.pcap").read_bytes()
    parts = [data[:10], b"", data[10:5000], data[5000:]]
    packed = b"".join(map(PACKERS[kind], parts))
    frames, reader = play_bytes(packed, "plain", most=most)
    assert reader.compression == kind
    assert reader.damage is None
    assert reader.bytes_read == len(packed)
    assert frames == play_bytes(data, "plain")[0]


def test_a_name_decides_nothing(tmp_path: Path) -> None:
    data = (PCAPS / "nop.pcap").read_bytes()
    (tmp_path / "a.gz").write_bytes(data)
    (tmp_path / "b.pcap").write_bytes(gzip.compress(data))
    expected = play_bytes(data, "plain")[0]
    for name, compression in (("a.gz", ""), ("b.pcap", "gzip")):
        with open_capture(str(tmp_path / name), PLAIN) as reader:
            assert play(reader, PLAIN) == expected
            assert reader.compression == compression


def test_foreign_packers_are_read(tmp_path: Path) -> None:
    data = (PCAPS / "mixed.pcap").read_bytes()
    expected = play_bytes(data, "plain")[0]
    commands = ["zstd -19 -c", "zstd -c -B1000 --no-check", "gzip -c", "xz -c", "xz -9e -T2 --block-size=50000 -c"]
    if "lz4" in PACKERS:
        commands += ["lz4 -c", "lz4 -c -B4 -BD -BX --content-size", "lz4 -c -9 --no-frame-crc"]
    for command in map(str.split, commands):
        packed = subprocess.run([tool(command[0]), *command[1:]], input=data, check=True, capture_output=True).stdout
        frames, reader = play_bytes(packed, "plain")
        assert reader.damage is None
        assert frames == expected


def test_skippable_frames_are_skipped() -> None:
    data = (PCAPS / "nop.pcap").read_bytes()
    large = struct.pack("<II", 0x184D2A50, 200_000) + bytes(200_000)
    packed = SKIPPABLE + zstd_frame(data[:3000]) + large + SKIPPABLE + zstd_frame(data[3000:], checksum=False)
    assert drain(source_of(packed)) == data


def test_zeros_after_gzip_are_padding_and_anything_else_is_damage() -> None:
    packed = gzip.compress(b"x" * 100)
    for most in (0, 1):
        source = source_of(packed + bytes(70_000) + gzip.compress(b"y"), most)
        assert drain(source) == b"x" * 100 + b"y"
        assert not source.damage
    source = source_of(packed + b"rubbish")
    assert drain(source) == b"x" * 100
    assert source.damage == f"the gzip stream is damaged at byte {len(packed) + 1} (incorrect header check)"


@pytest.mark.parametrize("kind", PACKERS)
def test_cut_at_every_byte(kind: str) -> None:
    data = b"".join(bytes([at]) * at for at in range(60))
    packed = PACKERS[kind](data[:900]) + PACKERS[kind](data[900:])
    second = len(PACKERS[kind](data[:900]))
    for cut in range(6, len(packed)):
        source = source_of(packed[:cut])
        out = drain(source)
        assert data.startswith(out)
        assert len(out) >= 900 or cut < second
        assert bool(source.damage) == (cut != second), cut
        assert source.readinto(memoryview(bytearray(5))) == 0


@pytest.mark.parametrize("kind", sorted(PACKERS.keys() & SUMS.keys()))
def test_everything_before_a_wrong_checksum_is_read(kind: str) -> None:
    data = noisy_capture(300)
    packed = bytearray(PACKERS[kind](data))
    packed[SUMS[kind]] ^= 1
    frames, reader = play_bytes(bytes(packed), "plain")
    assert len(frames) == 300
    assert reader.damage_offset == len(data)
    assert f"the {kind} stream is damaged at byte" in str(reader.damage)


def test_everything_before_a_damaged_zstd_block_is_read() -> None:
    data = noisy_capture(600)
    packed = bytearray(zstd_frame(data))
    packed[9 + 3 * (3 + 131_072)] ^= 6  # a raw block, the fourth, becomes one of reserved type
    source = source_of(bytes(packed))
    assert drain(source, 1 << 16) == data[: 3 * 131_072]
    assert source.damage.startswith(f"the zstd stream is damaged at byte {9 + 3 * (3 + 131_072)} (")
    frames, reader = play_bytes(bytes(packed), "plain")
    assert len(frames) == (3 * 131_072 - 24) // 1016
    assert reader.damage_offset == 24 + 1016 * len(frames)


def test_a_damaged_xz_stream_loses_little_before_the_damage() -> None:
    data = noisy_capture(600)
    packed = bytearray(lzma.compress(data))
    packed[300_000:300_060] = bytes(60)
    source = source_of(bytes(packed))
    out = drain(source, 1 << 16)
    assert source.damage.startswith("the xz stream is damaged at byte ")
    at = int(source.damage.split()[7])
    assert 299_000 < at < len(packed)
    sound = next(place for place in range(len(data)) if out[place : place + 1] != data[place : place + 1])
    assert sound > 300_000 - 4_096 - 1_000  # what precedes the damage, but for one piece; noise has the same length
    assert len(out) <= len(data)


def test_xz_says_what_it_needs_too_much_memory_for() -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 256 << 20}]
    source = source_of(lzma.compress(b"x" * 100, filters=filters))
    assert drain(source) == b""
    assert source.damage.endswith(" (Memory usage limit exceeded)")


def test_zeros_after_xz_are_padding_and_anything_else_is_damage() -> None:
    packed = lzma.compress(b"x" * 100)
    for most in (0, 1):
        source = source_of(packed + bytes(70_000) + lzma.compress(b"y"), most)
        assert drain(source) == b"x" * 100 + b"y"
        assert not source.damage
    source = source_of(packed + b"rubbish" * 9)
    assert drain(source) == b"x" * 100
    assert source.damage.startswith(f"the xz stream is damaged at byte {len(packed)} (")


def test_a_damaged_lz4_block_is_told_and_all_before_it_is_read() -> None:
    lz4_frame = pytest.importorskip("lz4.frame")
    data = noisy_capture(300)
    packed = bytearray(lz4_frame.compress(data, block_size=lz4_frame.BLOCKSIZE_MAX64KB, store_size=False))
    at = 7
    for _ in range(2):  # to the third block's length
        at += 4 + (struct.unpack_from("<I", packed, at)[0] & 0x7FFFFFFF)
    packed[at : at + 4] = b"\xff\xff\xff\xff"
    source = source_of(bytes(packed))
    assert drain(source, 1 << 16) == data[: 2 * 65_536]
    assert source.damage == f"the lz4 stream is damaged at byte {at} (a block of more than 65536 bytes)"
    skipped = SKIPPABLE + bytes(packed)
    assert drain(source_of(lz4_frame.compress(data) + skipped), 1 << 16) == data + data[: 2 * 65_536]


def test_without_the_package_lz4_is_named_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lz4", None)
    monkeypatch.setitem(sys.modules, "lz4.frame", None)
    with pytest.raises(CaptureError, match=r"^emu cannot read lz4: .*; pip install 'emu\[lz4\]'$"):
        play_bytes(b"\x04\x22\x4d\x18" + bytes(50), "plain")


@pytest.mark.parametrize("at", [11, 5000, 70_000, 300_000])
def test_everything_before_a_damaged_gzip_byte_is_read(at: int) -> None:
    packed = bytearray(gzip.compress((PCAPS / "mixed.pcap").read_bytes() * 2))
    packed[at : at + 60] = bytes([0xA5]) * 60
    reference, sound, good = zlib.decompressobj(31), bytearray(), 0
    with pytest.raises(zlib.error):
        while True:
            sound += reference.decompress(packed[good : good + 1])
            good += 1
    source = source_of(bytes(packed))
    assert drain(source, 1 << 16) == sound
    assert source.damage.startswith(f"the gzip stream is damaged at byte {good} (")


@pytest.mark.parametrize(("start", "kind"), [(b"\x02\x21\x4c\x18", "lz4's legacy format"), (b"BZh91AY", "bzip2")])
def test_other_compressions_are_named(start: bytes, kind: str) -> None:
    with pytest.raises(CaptureError, match=f"emu cannot read test: it is compressed with {kind}, which is not"):
        source_of(start + bytes(50))


def test_a_compressed_file_that_is_no_capture() -> None:
    with pytest.raises(CaptureError, match="it starts with 68 65 6c 6c; expected a pcap or pcapng file"):
        play_bytes(gzip.compress(b"hello"), "plain")
    with pytest.raises(CaptureError, match="it is empty, and the gzip stream ends early, at byte 8; expected"):
        play_bytes(gzip.compress(b"hello")[:8], "plain")


def test_a_bomb_stays_small() -> None:
    for kind, pack in PACKERS.items():
        source = source_of(pack(pcap_header()) + pack(bytes(60_000_000)))
        buffer = bytearray(1 << 16)
        tracemalloc.start()
        total = 0
        while count := source.readinto(memoryview(buffer)):
            total += count
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert total == 60_000_024
        assert peak < (10_000_000 if kind in ("lz4", "xz") else 4_000_000)  # blocks of 4 MiB, a window of 8 MiB


def test_a_read_error_is_damage_after_what_was_read() -> None:
    class Broken(Dribble):
        def readinto(self, into: Any) -> int:
            count = super().readinto(into)
            if not count:
                raise OSError(5, "Input/output error")
            return count

    data = pcap_header() + pcap_record(b"abcd")
    source = Source(Broken(data, 11), "disk")
    assert source.peek(1000) == len(data)
    reader = CaptureReader(source, "disk", PLAIN)
    assert [f.octets for f in play(reader, PLAIN)] == [b"abcd"]
    assert str(reader.damage) == f"disk: byte {len(data)}: expected more frames, found Input/output error"


@pytest.mark.parametrize("kind", ["", *PACKERS])
def test_a_pipe_is_read_as_it_fills(kind: str) -> None:
    """Frames that have arrived are played while the writer is still silent."""
    pack = PACKERS.get(kind, bytes)
    parts = [pack(pcap_header() + pcap_record(b"one") + pcap_record(b"two")), pack(pcap_record(b"three"))]
    out, into = os.pipe()
    os.set_blocking(out, False)  # as some shells leave it
    reader_end = io.FileIO(out)
    os.write(into, parts[0])
    reader = CaptureReader(Source(reader_end, "pipe"), "pipe", PLAIN)
    rows = PLAIN.rows(Packet, 8)
    assert reader.read(rows, 0, 8) == 2
    assert [column(rows, at, "caplen") for at in range(2)] == [3, 3]
    assert reader.size is None

    def write_the_rest() -> None:
        os.write(into, parts[1])
        os.close(into)

    later = threading.Timer(0.05, write_the_rest)
    later.start()
    assert reader.read(rows, 2, 6) == 1
    assert reader.read(rows, 3, 5) == 0
    assert reader.ended
    assert reader.damage is None
    later.join()
    reader.close()


@pytest.mark.parametrize("kind", ["", *PACKERS])
def test_a_look_ahead_reads_nothing(kind: str) -> None:
    data = noisy_capture(300)
    packed = PACKERS.get(kind, bytes)(data)
    for most in (0, 5000):
        for count in (0, 1, 100_000, 1 << 20):
            source = source_of(packed, most)
            assert min(count, len(packed)) <= source.peek(count) <= len(packed)
            assert drain(source, 1 << 16) == data
            assert not source.damage


def test_standard_input() -> None:
    script = (
        "from emu.capture.reader import open_capture\n"
        "from emu.engine.plain import PlainEngine\n"
        "from emu.kernel.machine import Packet\n"
        "engine = PlainEngine()\n"
        "reader = open_capture('-', engine)\n"
        "rows, total = engine.rows(Packet, 100), 0\n"
        "while count := reader.read(rows, 0, 100):\n"
        "    total += count\n"
        "print(total, reader.damage, reader.size, reader.compression)\n"
    )
    data = zstd_frame((PCAPS / "login.pcap").read_bytes())
    run = subprocess.run([sys.executable, "-c", script], input=data, check=True, capture_output=True)
    assert run.stdout.split() == [b"80", b"None", b"None", b"zstd"]
    run = subprocess.run([sys.executable, "-c", script], input=b"", check=False, capture_output=True)
    assert b"emu cannot read stdin: it is empty; expected a pcap or pcapng file" in run.stderr


def test_a_terminal_is_no_capture() -> None:
    master, slave = os.openpty()
    script = "from emu.capture.compression import open_source; open_source('-')"
    run = subprocess.run([sys.executable, "-c", script], stdin=slave, check=False, capture_output=True)
    os.close(master)
    os.close(slave)
    assert b"UsageError: emu cannot read stdin: it is a terminal; pipe a capture into it" in run.stderr


@pytest.mark.parametrize(("name", "why"), [("missing", "No such file"), (".", "Is a directory"), ("a\0b", "null byte")])
def test_a_file_that_cannot_be_opened(name: str, why: str, tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match=f"emu cannot read .*: .*{why}") as caught:
        open_source(f"{tmp_path}/{name}")
    assert "\n" not in str(caught.value)

"""Damaged and hostile captures: no exception, no hang, and all that is sound is read, at both speeds alike."""

import struct

import pytest
from capture_kit import BIG, EPB, LITTLE, block, epb, idb, old_pb, pcap_header, pcap_record, play_bytes, shb, spb
from engine_pair import NAMES
from hypothesis import given, settings
from hypothesis import strategies as st

from emu.errors import CaptureError

PCAP = [pcap_header(), *(pcap_record(bytes([at]) * (at * 7 % 40), at, at) for at in range(9))]
FLAGS = [(2, struct.pack("<I", 1)), (1, b"comment"), (5, bytes(8))]
PCAPNG = [
    shb(comments=[b"first"]),
    idb(name=b"eth0", tsresol=9),
    epb(b"abcde", 5, pairs=FLAGS),
    spb(b"simple"),
    block(LITTLE, 0xBAD, bytes(70)),
    epb(b"", 6),
    shb(BIG, [b"second"]),
    idb(BIG, tsoffset=-7),
    epb(b"x" * 33, 1 << 40, order=BIG),
    old_pb(b"oldest", 9, order=BIG, flags=2),
    epb(b"last", 7, order=BIG),
]
FRAMES = {0x0A0D0D0A: 0, 1: 0, 0xBAD: 0}  # blocks of any other kind carry one


def carries_frame(part: bytes) -> bool:
    return struct.unpack("<I", part[:4])[0] not in FRAMES and struct.unpack(">I", part[:4])[0] not in FRAMES


@pytest.mark.parametrize("engine", NAMES)
@pytest.mark.parametrize("window", [64, 1 << 16])
@pytest.mark.parametrize("kind", ["pcap", "pcapng"])
def test_cut_at_every_byte(kind: str, window: int, engine: str) -> None:
    parts = PCAP if kind == "pcap" else PCAPNG
    data = b"".join(parts)
    starts = [sum(map(len, parts[:at])) for at in range(len(parts))]
    frame_ends = [
        start + len(part)
        for at, (start, part) in enumerate(zip(starts, parts, strict=True))
        if (at > 0 if kind == "pcap" else carries_frame(part))
    ]
    whole, _ = play_bytes(data, engine)
    assert len(whole) == len(frame_ends)
    for cut in range(4, len(data) + 1):
        frames, reader = play_bytes(data[:cut], engine, window)
        assert frames == whole[: sum(end <= cut for end in frame_ends)], cut
        if cut in starts or cut == len(data):
            assert reader.damage is None, cut
        else:
            assert reader.damage_offset == max(start for start in starts if start < cut), cut
            assert f"found the end of the file, at byte {cut}" in str(reader.damage)
    for cut in range(4):
        with pytest.raises(CaptureError):
            play_bytes(data[:cut], engine, window)


Outcome = tuple[object, ...]


def outcome(data: bytes, engine: str, window: int) -> Outcome:
    """All that a user can see of a capture."""
    try:
        frames, reader = play_bytes(data, engine, window)
    except CaptureError as error:
        return (str(error),)
    return (frames, str(reader.damage), reader.interfaces, reader.section_comments, reader.skipped_blocks)


SEEDS = [
    b"".join(PCAP),
    b"".join(PCAPNG),
    pcap_header(BIG) + pcap_record(b"abc", order=BIG),
    shb() + idb(tsresol=0xFF) + epb(b"abc", 2**64 - 1),
]
EDITS = st.lists(
    st.tuples(
        st.integers(0, 600),
        st.one_of(
            st.binary(min_size=1, max_size=4),
            st.sampled_from([struct.pack("<I", value) for value in (0, 1, 12, 28, 2**31, 2**32 - 4, 2**32 - 1, EPB)]),
        ),
        st.booleans(),
    ),
    min_size=1,
    max_size=6,
)


@settings(deadline=None, derandomize=True, max_examples=400)
@given(seed=st.sampled_from(SEEDS), edits=EDITS, window=st.integers(1, 500))
def test_random_damage(seed: bytes, edits: list[tuple[int, bytes, bool]], window: int) -> None:
    data = seed
    for at, octets, inserted in edits:
        at %= len(data)
        data = data[:at] + octets + data[at if inserted else at + len(octets) :]
    plain = outcome(data, "plain", window)
    assert outcome(data, "compiled", window) == plain
    assert outcome(data, "plain", 1 << 16) == plain


@settings(deadline=None, derandomize=True, max_examples=150)
@given(start=st.sampled_from([part[:24] for part in SEEDS] + [b""]), rest=st.binary(max_size=300))
def test_random_bytes(start: bytes, rest: bytes) -> None:
    assert outcome(start + rest, "plain", 64) == outcome(start + rest, "compiled", 1 << 16)


@pytest.mark.parametrize("engine", NAMES)
def test_options_that_do_not_fit_end_the_options_and_not_the_file(engine: str) -> None:
    body = struct.pack("<IIIII", 0, 0, 0, 4, 4) + b"abcd"
    noises = [
        struct.pack("<HHI", 2, 4, 2) + struct.pack("<HH", 5, 8),
        struct.pack("<HHI", 2, 4, 2) + struct.pack("<HH", 1, 65535) + bytes(8),
        struct.pack("<HHI", 2, 4, 2) + bytes(4) + struct.pack("<HHI", 2, 4, 1),
        struct.pack("<HHI", 2, 3, 1) + struct.pack("<HHQ", 2, 8, 1) + struct.pack("<HHI", 2, 4, 2),
        struct.pack("<HHI", 2, 4, 2) + bytes(2),
    ]
    for noise in noises:
        frames, reader = play_bytes(shb() + idb() + block(LITTLE, EPB, body + noise), engine)
        assert reader.damage is None
        assert [(f.direction, f.packet_id) for f in frames] == [(2, 1)], noise


def test_no_more_interfaces_than_can_be_held() -> None:
    data = shb() + idb() * 65_536 + epb(b"abcd", iface=65_535)
    frames, reader = play_bytes(data + idb(), "plain")
    assert [f.iface for f in frames] == [65_535]
    assert reader.damage_offset == len(data)
    assert "expected at most 65536 interfaces, found another one" in str(reader.damage)

"""What an interface put together is cut as the wire would have carried it, on both engines."""

import struct
from typing import Any

import pytest
from engine_pair import engine_named
from hypothesis import given, settings
from hypothesis import strategies as st

from emu.engine.plain import PlainEngine
from emu.live.cut import Cut, begin_cut, finish_checksum, next_segment
from emu.wire.checksum import ones_sum

MACS = bytes.fromhex("020000000002 020000000001")
SRC4, DST4 = bytes([10, 0, 0, 1]), bytes([10, 0, 0, 2])
SRC6, DST6 = bytes(15) + b"\x01", bytes(15) + b"\x02"
FIN_PSH_ACK_CWR = 0x99


def tcp_header(seq: int, flags: int, options: bytes = b"") -> bytes:
    return struct.pack("!HHIIBBHHH", 3260, 40000, seq, 7, (20 + len(options)) << 2, flags, 512, 0, 0) + options


def network(version: int, protocol: int, length: int, number: int = 0) -> bytes:
    if version == 6:
        return struct.pack("!IHBB", 6 << 28, length, protocol, 64) + SRC6 + DST6
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + length, number, 0x4000, 64, protocol, 0) + SRC4 + DST4
    return header[:10] + struct.pack("!H", -ones_sum(header, 0, 20) % 65535) + header[12:]


def with_checksum(version: int, protocol: int, segment: bytes, where: int) -> bytes:
    addresses = SRC4 + DST4 if version == 4 else SRC6 + DST6
    pseudo = addresses + struct.pack("!II", len(segment), protocol) + segment
    value = -ones_sum(pseudo, 0, len(pseudo)) % 65535 or 0xFFFF
    return segment[:where] + struct.pack("!H", value) + segment[where + 2 :]


def wire_frames(
    version: int, protocol: int, tags: bytes, payload: bytes, size: int, seq: int, number: int
) -> list[bytes]:
    """The frames that a sender without offloads sends: an independent statement of what is expected."""
    kind = b"\x08\x00" if version == 4 else b"\x86\xdd"
    parts = [payload[at : at + size] for at in range(0, len(payload), size)]
    frames = []
    for place, part in enumerate(parts):
        if protocol == 6:
            flags = 0x10 | (0x09 if place == len(parts) - 1 else 0) | (0x80 if place == 0 else 0)
            header, where = tcp_header((seq + place * size) % 2**32, flags, bytes([1, 1, 8, 10, 1, 2, 3, 4])), 16
        else:
            header, where = struct.pack("!HHHH", 1, 2, 8 + len(part), 0), 6
        segment = with_checksum(version, protocol, header + part, where)
        frames.append(MACS + tags + kind + network(version, protocol, len(segment), (number + place) % 65536) + segment)
    return frames


def aggregated(version: int, protocol: int, tags: bytes, payload: bytes, seq: int, number: int) -> tuple[bytes, int]:
    """The one frame that a sender with offloads sends, and the place of its transport header."""
    kind = b"\x08\x00" if version == 4 else b"\x86\xdd"
    header = struct.pack("!HHHH", 1, 2, 8 + len(payload), 0)
    if protocol == 6:
        header = tcp_header(seq, FIN_PSH_ACK_CWR, bytes([1, 1, 8, 10, 1, 2, 3, 4]))
    before = MACS + tags + kind + network(version, protocol, len(header) + len(payload), number)
    return before + header + payload, len(before)


def pieces(engine: Any, frame: bytes, start: int, transport: int, size: int) -> list[bytes]:
    cut, source, out = engine.new(Cut), bytearray(start) + frame, bytearray(1 << 17)
    octets, into = engine.view(source), engine.view(out)
    if not engine.function(begin_cut)(cut, octets, start, len(frame), transport, size):
        return []
    found, at = [], 3
    while int(cut.next) < int(cut.end):
        length = int(engine.function(next_segment)(cut, octets, into, at))
        found.append(bytes(out[at : at + length]))
        at = (at + length) % 1000
    return found


@settings(max_examples=40)
@given(
    version=st.sampled_from([4, 6]),
    protocol=st.sampled_from([6, 17]),
    tags=st.sampled_from([b"", b"\x81\x00\x20\x05", b"\x88\xa8\x00\x07\x81\x00\x20\x05"]),
    payload=st.binary(min_size=1, max_size=4000),
    size=st.integers(48, 1460),
    seq=st.integers(0, 2**32 - 1),
    number=st.integers(0, 65535),
)
@pytest.mark.parametrize("engine", ["plain", "compiled"])
def test_segments_are_those_that_a_sender_without_offloads_sends(
    engine: str, version: int, protocol: int, tags: bytes, payload: bytes, size: int, seq: int, number: int
) -> None:
    frame, transport = aggregated(version, protocol, tags, payload, seq, number)
    expected = wire_frames(version, protocol, tags, payload, size, seq, number)
    assert pieces(engine_named(engine), frame, 5, transport, size) == expected


@given(payload=st.binary(max_size=200), padding=st.integers(0, 9))
def test_a_checksum_that_the_nic_was_to_finish_is_finished(payload: bytes, padding: int) -> None:
    segment = struct.pack("!HHHH", 1, 2, 8 + len(payload), 0) + payload
    whole = with_checksum(4, 17, segment, 6)
    pseudo = SRC4 + DST4 + struct.pack("!HH", 17, len(segment))
    begun = whole[:6] + struct.pack("!H", ones_sum(pseudo, 0, len(pseudo))) + whole[8:]
    octets = bytearray(padding) + MACS + begun
    finish_checksum(octets, padding, len(MACS) + len(begun), len(MACS), 6)
    assert octets == bytearray(padding) + MACS + whole


def test_a_checksum_whose_place_is_outside_the_frame_is_left() -> None:
    octets = bytearray(range(40))
    finish_checksum(octets, 0, 30, 20, 9)
    assert octets == bytearray(range(40))


def test_what_is_neither_tcp_nor_udp_behind_ip_stays_whole() -> None:
    frame, transport = aggregated(4, 6, b"", bytes(3000), 1, 1)
    engine = PlainEngine()
    assert len(pieces(engine, frame, 0, transport, 1000)) == 3
    assert pieces(engine, frame, 0, transport + 2, 1000) == []  # the header tells another place than the packet
    assert pieces(engine, frame, 0, transport, 0) == []
    assert pieces(engine, frame[:23] + b"\x2f" + frame[24:], 0, transport, 1000) == []  # GRE
    assert pieces(engine, frame[:12] + b"\x88\x47" + frame[14:], 0, transport, 1000) == []  # MPLS
    assert pieces(engine, frame[:40], 0, transport, 1000) == []

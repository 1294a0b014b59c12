"""Frames for the tests of dissection: built by Scapy, read by ours, written as captures for tshark."""

import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from emu.kernel.machine import Packet
from emu.kernel.record import fields_of
from emu.wire.dissect import dissect
from emu.wire.headers import CHECKSUMS_VERIFY, LINKTYPE_ETHERNET

PADDING = b"\xaa" * 7  # the frame lies somewhere in a window
WHERE = ("offset", "caplen", "length", "linktype")  # what dissection is told


class Watched:
    """Octets that refuse to be read outside the captured frame, however they are asked."""

    def __init__(self, octets: bytes, at: int) -> None:
        """A frame that starts at `at` of a window; what surrounds it may not be read."""
        self.octets = octets
        self.at = at

    def __getitem__(self, where: int | slice) -> Any:
        """One byte, or a span of them, inside the frame."""
        if isinstance(where, slice):
            assert where.step is None
            start, stop = where.start, where.stop
            assert start >= self.at and stop <= self.at + len(self.octets) and start <= stop, (where, len(self.octets))
            return self.octets[start - self.at : stop - self.at]
        assert 0 <= where - self.at < len(self.octets), (where - self.at, len(self.octets))
        return self.octets[where - self.at]


def read(
    octets: bytes,
    *,
    linktype: int = LINKTYPE_ETHERNET,
    caplen: int | None = None,
    length: int | None = None,
    how: int = CHECKSUMS_VERIFY,
) -> Any:
    """The row of a frame of which `caplen` bytes were captured; reading anything else fails."""
    captured = bytes(octets[:caplen] if caplen is not None else octets)
    row: Any = Packet()  # type: ignore[call-arg,unused-ignore]
    for field in fields_of(Packet):
        setattr(row, field.name, -99)  # what an earlier frame left behind
    row.offset = len(PADDING)
    row.caplen = len(captured)
    row.length = len(octets) if length is None else length
    row.linktype = linktype
    watched: Any = Watched(captured, len(PADDING))
    dissect(row, watched, how)
    return row


def columns(row: Any) -> dict[str, int]:
    """All that dissection wrote into a row."""
    values = {field.name: int(getattr(row, field.name)) for field in fields_of(Packet)}
    return {name: value for name, value in values.items() if value != -99 and name not in WHERE}


def write_pcap(path: Path, frames: Iterable[bytes], linktype: int = LINKTYPE_ETHERNET, snaplen: int = 1 << 18) -> Path:
    """A classic pcap file of these frames, each cut at `snaplen` bytes."""
    with path.open("wb") as out:
        out.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 1 << 18, linktype))
        for frame in frames:
            out.write(struct.pack("<IIII", 0, 0, min(len(frame), snaplen), len(frame)) + frame[:snaplen])
    return path


def read_pcap(path: Path) -> tuple[int, list[bytes]]:
    """Link type and frames of a classic little-endian pcap file."""
    data = path.read_bytes()
    magic, *_, linktype = struct.unpack_from("<IHHiIII", data)
    assert magic in (0xA1B2C3D4, 0xA1B23C4D)
    frames = []
    at = 24
    while at < len(data):
        caplen = struct.unpack_from("<I", data, at + 8)[0]
        frames.append(data[at + 16 : at + 16 + caplen])
        at += 16 + caplen
    return linktype, frames


def cooked(ethertype: int, payload: bytes, *, arphrd: int = 1, packet_type: int = 0) -> bytes:
    """A LINUX_SLL frame."""
    return struct.pack("!HHH8sH", packet_type, arphrd, 6, b"\x02\0\0\0\0\x01\0\0", ethertype) + payload


def cooked2(ethertype: int, payload: bytes, *, arphrd: int = 1, packet_type: int = 0) -> bytes:
    """A LINUX_SLL2 frame."""
    return struct.pack("!HHIHBB8s", ethertype, 0, 3, arphrd, packet_type, 6, b"\x02\0\0\0\0\x01\0\0") + payload


def joined(high: int, low: int) -> int:
    """An IPv6 address from its two signed halves."""
    return (high & (1 << 64) - 1) << 64 | low & (1 << 64) - 1

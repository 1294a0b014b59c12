"""What the harnesses share: a frame whose neighbours must not be read, and a tiny capture made by hand."""

import struct
from typing import Any, overload

NS = 1_000_000_000
HOST, PEER = bytes.fromhex("020000000002"), bytes.fromhex("020000000001")


class Guarded:
    """Bytes of which only [first, last) may be read: any other index is the fault that the fuzzer looks for."""

    def __init__(self, octets: bytes, first: int, last: int) -> None:
        self.octets = octets
        self.first = first
        self.last = last

    @overload
    def __getitem__(self, at: int) -> int: ...

    @overload
    def __getitem__(self, at: slice) -> bytes: ...

    def __getitem__(self, at: int | slice) -> int | bytes:
        if isinstance(at, slice):
            assert self.first <= at.start <= at.stop <= self.last or at.start == at.stop, f"bytes {at} read"
            return self.octets[at]
        assert self.first <= at < self.last, f"byte {at} read, the frame is [{self.first}, {self.last})"
        return self.octets[at]

    def __len__(self) -> int:
        return len(self.octets)


def udp_frame(dport: int, payload: bytes) -> bytes:
    """A UDP datagram to the host, without checksums."""
    udp = struct.pack(">HHHH", 4000, dport, 8 + len(payload), 0) + payload
    ip = struct.pack(
        ">BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, bytes((10, 0, 0, 1)), bytes((10, 0, 0, 2))
    )
    total = sum(struct.unpack(">10H", ip))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    ip = ip[:10] + struct.pack(">H", 0xFFFF - total) + ip[12:]
    return HOST + PEER + b"\x08\x00" + ip + udp


def tiny_pcap(frames: list[bytes], gap_ns: int = 10_000, linktype: int = 1, magic: int = 0xA1B23C4D) -> bytes:
    """A pcap file with times in nanoseconds."""
    parts = [struct.pack("<IHHiIII", magic, 2, 4, 0, 0, 262_144, linktype)]
    for number, frame in enumerate(frames):
        seconds, ticks = divmod(NS + number * gap_ns, NS)
        parts.append(struct.pack("<IIII", seconds, ticks, len(frame), len(frame)) + frame)
    return b"".join(parts)


def fields_of(packet: Any) -> dict[str, int]:
    """All integers of a row."""
    return {name: getattr(packet, name) for name in type(packet).__slots__}


def fits_64_bits(packet: Any) -> None:
    """The compiled engine must be able to hold what the plain one has made."""
    for name, value in fields_of(packet).items():
        assert -(1 << 63) <= value < 1 << 63, f"{name} = {value}"

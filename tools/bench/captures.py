"""Captures to measure with, written with numpy: `small`, 60-byte UDP frames, and `mix`, ten kinds of frame of 476 B on
average.

python tools/bench/captures.py KIND PACKETS FILE      (- is stdout; same KIND and PACKETS, same bytes)

Frames come at random (a Poisson process) at 1.2 million a second from one peer to one host.  All checksums are right,
TCP's sequence numbers run on, fragments come in pairs: what a kernel would throw away at sight is not measured.  The
mix: iSCSI acknowledgements and responses (which block I/O depends on), a download, UDP of four sizes, VLAN-tagged TCP,
IPv6 with hop-by-hop options, fragmented UDP.
"""

import argparse
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Octets = NDArray[np.uint8]
Numbers = NDArray[np.int64]

PER_SECOND = 1_200_000
CHUNK = 100_000  # packets made at once
RECORD_HEADER = 16
FILE_HEADER = struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262144, 1)  # nanoseconds, Ethernet
MACS = bytes.fromhex("020000000002 020000000001")
PEER, HOST = bytes([10, 0, 0, 1]), bytes([10, 0, 0, 2])
PEER6, HOST6 = (bytes.fromhex("fd00") + bytes(13) + bytes([end]) for end in (1, 2))
TCP, UDP = 6, 17
TIMESTAMPS = bytes.fromhex("0101080a 0000000100000001")  # the option that real segments carry
SCSI_RESPONSE = bytes([0x21, 0x80]) + bytes(46)


class Kind(NamedTuple):
    """One kind of frame of a capture."""

    share: float
    frame: bytes
    flows: int  # distinct destination ports, taken in turn
    ip_at: int  # where the IP header is
    l4_at: int  # where TCP or UDP is; 0: fragments, nothing of it is changed
    protocol: int
    payload: int  # what TCP's sequence number advances by

    @property
    def is_ipv4(self) -> bool:
        """Whether the IP header has a checksum and an id."""
        return self.frame[self.ip_at] >> 4 == 4


def ipv4(protocol: int, payload: bytes, fragment: int = 0x4000) -> bytes:
    """An IPv4 packet whose id and checksum are not set; `fragment` is flags and offset."""
    return struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(payload), 0, fragment, 64, protocol, 0) + PEER + HOST + payload


def tcp(source: int, destination: int, payload: bytes) -> bytes:
    """A segment whose checksum is not set."""
    return struct.pack(">HHIIBBHHH", source, destination, 1, 1, 0x80, 0x18, 512, 0, 0) + TIMESTAMPS + payload


def udp(destination: int, payload: bytes) -> bytes:
    """A datagram whose checksum is not set."""
    return struct.pack(">HHHH", 1000, destination, 8 + len(payload), 0) + payload


def segments(share: float, source: int, destination: int, payload: bytes, tag: bytes = b"") -> Kind:
    """TCP over IPv4, 64 flows, perhaps behind a VLAN tag."""
    frame = MACS + tag + b"\x08\x00" + ipv4(TCP, tcp(source, destination, payload))
    at = 14 + len(tag)
    return Kind(share, frame, 64, at, at + 20, TCP, len(payload))


def datagrams(share: float, destination: int, size: int, flows: int) -> Kind:
    """UDP over IPv4 in frames of a size."""
    frame = MACS + b"\x08\x00" + ipv4(UDP, udp(destination, b"u" * (size - 42)))
    return Kind(share, frame, flows, 14, 34, UDP, 0)


def datagrams_ipv6(share: float) -> Kind:
    """UDP behind a hop-by-hop header that holds nothing but padding."""
    packet = struct.pack(">BBBB", UDP, 0, 1, 4) + bytes(4) + udp(45_000, b"6" * 24)
    header = struct.pack(">IHBB", 6 << 28, len(packet), 0, 64) + PEER6 + HOST6
    return Kind(share, MACS + b"\x86\xdd" + header + packet, 16, 14, 62, UDP, 0)


def fragments(share: float) -> Kind:
    """Halves of UDP datagrams without checksum, 1394 bytes each; `make_frames` turns every other one into a second."""
    whole = udp(46_000, b"f" * (2 * 1360 - 8))
    return Kind(share, MACS + b"\x08\x00" + ipv4(UDP, whole[:1360], fragment=0x2000), 1, 14, 0, UDP, 0)


CAPTURES: dict[str, tuple[Kind, ...]] = {
    "small": (datagrams(1.0, 40_000, 60, 350),),
    "mix": (
        segments(0.30, 3260, 41_000, b""),
        segments(0.20, 3260, 41_000, SCSI_RESPONSE),
        segments(0.20, 80, 50_000, b"x" * 1448),
        *(datagrams(share, 40_000, size, 64) for share, size in ((0.08, 64), (0.06, 200), (0.04, 600), (0.04, 1400))),
        segments(0.04, 80, 52_000, b"", tag=bytes.fromhex("81000064")),
        datagrams_ipv6(0.02),
        fragments(0.02),
    ),
}


def word_sum(octets: Octets) -> Numbers:
    """The sum of each row's big-endian 16-bit words."""
    sums: Numbers = octets[:, ::2].sum(axis=1, dtype=np.int64) * 256 + octets[:, 1::2].sum(axis=1, dtype=np.int64)
    return sums


def put(rows: Octets, at: int, values: Numbers, width: int) -> None:
    """Write each row's value there, big-endian."""
    for octet in range(width):
        rows[:, at + octet] = values >> 8 * (width - 1 - octet) & 0xFF


def complement(sums: Numbers) -> Numbers:
    """Internet checksums of sums of words (below 2^32); never 0, which in UDP means none."""
    folded = (sums & 0xFFFF) + (sums >> 16)
    folded = ~((folded & 0xFFFF) + (folded >> 16)) & 0xFFFF
    never_0: Numbers = np.where(folded == 0, 0xFFFF, folded)
    return never_0


def make_frames(kind: Kind, numbers: Numbers) -> Octets:
    """The frames of a kind, one per row, with these running numbers."""
    rows = np.tile(np.frombuffer(kind.frame, np.uint8), (len(numbers), 1))
    if kind.is_ipv4:
        put(rows, kind.ip_at + 4, (numbers if kind.l4_at else numbers >> 1) & 0xFFFF, 2)
        if not kind.l4_at:
            second = numbers & 1 == 1
            rows[second, kind.ip_at + 6 : kind.ip_at + 8] = (0, 1360 // 8)
            rows[second, kind.ip_at + 20 : kind.ip_at + 28] = ord("f")
        put(rows, kind.ip_at + 10, complement(word_sum(rows[:, kind.ip_at : kind.ip_at + 20])), 2)
    if kind.l4_at:
        put_transport(kind, rows, numbers)
    return rows


def put_transport(kind: Kind, rows: Octets, numbers: Numbers) -> None:
    """Set ports, sequence numbers and checksums: the template's own sum is taken once, what differs is added."""
    at = kind.l4_at
    checksum_at = at + (16 if kind.protocol == TCP else 6)
    ports = struct.unpack_from(">H", kind.frame, at + 2)[0] + numbers % kind.flows
    sums = template_sum(kind) + ports
    put(rows, at + 2, ports, 2)
    if kind.protocol == TCP:
        sequence = 1 + numbers // kind.flows * kind.payload & 0xFFFFFFFF
        put(rows, at + 4, sequence, 4)
        sums = sums + (sequence >> 16) + (sequence & 0xFFFF)
    put(rows, checksum_at, complement(sums), 2)


def template_sum(kind: Kind) -> int:
    """The words of TCP or UDP and of its pseudo header, without destination port and sequence number."""
    segment = bytearray(kind.frame[kind.l4_at :])
    addresses = PEER + HOST if kind.is_ipv4 else PEER6 + HOST6
    pseudo = addresses + struct.pack(">HH", kind.protocol, len(segment))
    segment[2:4] = bytes(2)
    if kind.protocol == TCP:
        segment[4:8] = bytes(4)
    words = np.frombuffer(pseudo + segment + bytes(len(segment) % 2), ">u2")
    return int(words.sum(dtype=np.int64))


def chunks(kinds: tuple[Kind, ...], packets: int) -> Iterator[Octets]:
    """The records of a capture, some at a time."""
    random = np.random.default_rng(7)
    made = np.zeros(len(kinds), np.int64)
    now_ns = 1_000_000_000
    lengths = np.array([len(kind.frame) for kind in kinds])
    for begin in range(0, packets, CHUNK):
        count = min(CHUNK, packets - begin)
        drawn = random.choice(len(kinds), count, p=[kind.share for kind in kinds])
        times_ns = now_ns + random.exponential(1e9 / PER_SECOND, count).cumsum().astype(np.int64)
        now_ns = int(times_ns[-1])
        ends = (RECORD_HEADER + lengths[drawn]).cumsum()
        chunk = np.empty(int(ends[-1]), np.uint8)
        for number, kind in enumerate(kinds):
            of_kind = np.flatnonzero(drawn == number)
            frames = make_frames(kind, made[number] + np.arange(len(of_kind)))
            made[number] += len(of_kind)
            length = RECORD_HEADER + len(kind.frame)
            records = np.hstack((headers(times_ns[of_kind], len(kind.frame)), frames))
            # A window of this length at every offset: assigning to some of them copies whole records.
            windows = np.lib.stride_tricks.sliding_window_view(chunk, length, writeable=True)
            windows[ends[of_kind] - length] = records
        yield chunk


def headers(times_ns: Numbers, length: int) -> Octets:
    """Record headers of frames of one length."""
    words = np.empty((len(times_ns), 4), "<u4")
    words[:, 0], words[:, 1] = np.divmod(times_ns, 1_000_000_000)
    words[:, 2:] = length
    return words.view(np.uint8)


def write_capture(out: IO[bytes], kind: str, packets: int) -> None:
    """Write a whole capture, in memory that does not grow with it."""
    out.write(FILE_HEADER)
    for chunk in chunks(CAPTURES[kind], packets):
        out.write(chunk.data)


def zstd_file(out: IO[bytes]) -> Any:
    """What is written here arrives compressed there."""
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return zstd.open(out, "wb", level=1)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=CAPTURES)
    parser.add_argument("packets", type=int)
    parser.add_argument("file")
    parser.add_argument("--zstd", action="store_true", help="compress what goes to stdout")
    options = parser.parse_args()
    if options.file == "-":
        with zstd_file(sys.stdout.buffer) if options.zstd else sys.stdout.buffer as out:
            write_capture(out, options.kind, options.packets)
        return 0
    partial = Path(options.file + ".partial")
    with partial.open("wb") as out:
        write_capture(out, options.kind, options.packets)
    partial.rename(options.file)
    return 0


if __name__ == "__main__":
    sys.exit(main())

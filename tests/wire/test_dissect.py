"""Dissection against Scapy: crafted, random, malformed and cut frames."""

import random
import struct
from typing import Any

import pytest
from engine_pair import engine_named
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_NOP, IPOption_Timestamp
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Raw
from wire_kit import read

from emu.kernel.machine import Packet
from emu.wire.checksum import addresses_sum, ones_sum
from emu.wire.dissect import dissect
from emu.wire.headers import (
    CHECKSUMS_AUTO,
    CHECKSUMS_TRUST,
    CHECKSUMS_VERIFY,
    CSUM_BAD,
    CSUM_GOOD,
    CSUM_PARTIAL,
    CSUM_UNKNOWN,
    IP_HEADER_BAD,
    IP_TOO_SHORT,
    KIND_ARP,
    KIND_ICMP,
    KIND_IP_FRAGMENT,
    KIND_IP_OTHER,
    KIND_MALFORMED,
    KIND_OTHER,
    KIND_TCP,
    KIND_UDP,
    NO_ERROR,
    TOO_SHORT,
)
from emu.wire.octets import be16, be32, le16, le32, put_le16, put_le32

ETHER = Ether(dst="02:00:00:00:00:02", src="02:00:00:00:00:01")
ADDRESSES = {"src": "10.0.0.1", "dst": "10.0.0.2"}


def made(*layers: Any) -> bytes:
    """An Ethernet frame of these layers, as Scapy builds it."""
    packet = ETHER.copy()
    for layer in layers:
        packet = packet / layer
    return bytes(packet)


def address(dotted: str) -> int:
    """An IPv4 address as an integer."""
    return int.from_bytes(bytes(map(int, dotted.split("."))), "big")


OPTIONS = [[], [IPOption_NOP()] * 4, [IPOption_Timestamp(length=12, pointer=5, flg=0), IPOption_NOP()]]
PAYLOADS = (b"", b"x", b"odd", bytes(range(200)), b"\xff" * 1001, bytes(1460))


@pytest.mark.parametrize("options", range(len(OPTIONS)))
@pytest.mark.parametrize("payload", PAYLOADS, ids=len)
@pytest.mark.parametrize("protocol", ["tcp", "udp", "icmp"])
def test_a_good_packet_is_read_as_scapy_reads_it(protocol: str, payload: bytes, options: int) -> None:
    """Addresses, ports, flags, lengths and checksums are Scapy's, whatever the IP options and odd lengths."""
    layer = {
        "tcp": TCP(sport=3260, dport=40_000, seq=0xFEDCBA98, flags="PA", options=[("NOP", None)] * 4),
        "udp": UDP(sport=53, dport=65_535),
        "icmp": ICMP(type=8, id=1, seq=2),
    }[protocol]
    octets = made(IP(**ADDRESSES, options=OPTIONS[options]), layer, Raw(payload))
    theirs = Ether(octets)
    p = read(octets)
    assert (p.saddr, p.daddr) == (address(theirs[IP].src), address(theirs[IP].dst))
    assert (p.ethertype, p.ip_protocol, p.header_error) == (0x0800, theirs[IP].proto, NO_ERROR)
    assert (p.ip_csum, p.l4_csum) == (CSUM_GOOD, CSUM_GOOD)
    assert p.l4_length == theirs[IP].len - theirs[IP].ihl * 4
    if protocol == "tcp":
        assert (p.kind, p.sport, p.dport) == (KIND_TCP, theirs[TCP].sport, theirs[TCP].dport)
        assert (p.tcp_flags, p.tcp_seq) == (int(theirs[TCP].flags), theirs[TCP].seq)
        assert p.payload_length == len(payload)
    elif protocol == "udp":
        assert (p.kind, p.sport, p.dport, p.payload_length) == (KIND_UDP, 53, 65_535, len(payload))
    else:
        assert (p.kind, p.icmp_type, p.payload_length) == (KIND_ICMP, 8, len(payload))


@pytest.mark.parametrize("seed", range(300))
def test_random_packets_verify_exactly_when_scapy_rebuilds_the_same_checksum(seed: int) -> None:
    """One bit flipped anywhere behind the addresses: the checksums that no longer match are the ones called bad."""
    dice = random.Random(seed)
    layer = dice.choice([TCP(sport=1, dport=2, flags="A", ack=0x89ABCDEF), UDP(sport=1, dport=2), ICMP()])
    octets = bytearray(made(IP(**ADDRESSES), layer, Raw(dice.randbytes(dice.randrange(64)))))
    assert (read(bytes(octets)).ip_csum, read(bytes(octets)).l4_csum) == (CSUM_GOOD, CSUM_GOOD)
    where = dice.randrange(34 + 8, len(octets)) if len(octets) > 42 else 34
    octets[where] ^= 1 << dice.randrange(8)
    p = read(bytes(octets))
    if p.header_error == NO_ERROR:
        assert (p.ip_csum, p.l4_csum) == (CSUM_GOOD, CSUM_BAD)
    octets[34 - 8] ^= 0x10  # the IP header's TTL
    assert (read(bytes(octets)).ip_csum, read(bytes(octets)).l4_csum) == (CSUM_BAD, CSUM_GOOD)


@pytest.mark.parametrize("how", [CHECKSUMS_AUTO, CHECKSUMS_VERIFY, CHECKSUMS_TRUST])
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_an_unfinished_checksum_is_good_for_auto_and_bad_for_verify(how: int, protocol: str) -> None:
    """A sender's capture holds the pseudo header's sum in the field, which its NIC would have completed."""
    layer = TCP(sport=1, dport=2, flags="A") if protocol == "tcp" else UDP(sport=1, dport=2)
    octets = bytearray(made(IP(**ADDRESSES), layer, Raw(b"payload")))
    number, field, size = (6, 34 + 16, 27) if protocol == "tcp" else (17, 34 + 6, 15)
    pseudo = (addresses_sum(address("10.0.0.1"), address("10.0.0.2")) + number + size) % 65535
    octets[field : field + 2] = pseudo.to_bytes(2, "big")
    expected = {CHECKSUMS_AUTO: CSUM_PARTIAL, CHECKSUMS_VERIFY: CSUM_BAD, CHECKSUMS_TRUST: CSUM_GOOD}[how]
    assert read(bytes(octets), how=how).l4_csum == expected


def test_a_udp_checksum_of_zero_means_none() -> None:
    """RFC 768: zero on the wire is no checksum, so nothing can be wrong with it."""
    octets = bytearray(made(IP(**ADDRESSES), UDP(sport=1, dport=2), Raw(b"payload")))
    octets[34 + 6 : 34 + 8] = b"\0\0"
    assert read(bytes(octets)).l4_csum == CSUM_GOOD
    octets[34 + 6 : 34 + 8] = b"\0\1"
    assert read(bytes(octets)).l4_csum == CSUM_BAD


def test_trust_believes_every_checksum() -> None:
    """With trust, neither the IP header's nor the transport's checksum is looked at."""
    octets = bytearray(made(IP(**ADDRESSES, chksum=1), TCP(chksum=1)))
    assert [read(bytes(octets), how=CHECKSUMS_TRUST).ip_csum, read(bytes(octets), how=CHECKSUMS_TRUST).l4_csum] == [
        CSUM_GOOD
    ] * 2
    assert read(bytes(octets)).ip_csum == CSUM_BAD


@pytest.mark.parametrize(
    ("layers", "kind", "error"),
    [
        ((ARP(psrc="10.0.0.1", pdst="10.0.0.2"),), KIND_ARP, NO_ERROR),
        ((IP(**ADDRESSES, proto=132), Raw(bytes(20))), KIND_IP_OTHER, NO_ERROR),
        ((IP(**ADDRESSES, flags="MF"), UDP()), KIND_IP_FRAGMENT, NO_ERROR),
        ((IP(**ADDRESSES, frag=1), Raw(bytes(20))), KIND_IP_FRAGMENT, NO_ERROR),
        ((IP(**ADDRESSES, version=5), TCP()), KIND_IP_OTHER, IP_HEADER_BAD),
        ((IP(**ADDRESSES, ihl=4), TCP()), KIND_IP_OTHER, IP_HEADER_BAD),
        ((IP(**ADDRESSES, ihl=15), Raw(b"")), KIND_IP_OTHER, IP_HEADER_BAD),
        ((IP(**ADDRESSES, len=19), TCP()), KIND_IP_OTHER, IP_HEADER_BAD),
        ((IP(**ADDRESSES, len=1000), TCP()), KIND_IP_OTHER, IP_HEADER_BAD),
        ((IP(**ADDRESSES), Raw(bytes(19))), KIND_IP_OTHER, NO_ERROR),
        ((IP(**ADDRESSES, proto=6), Raw(bytes(19))), KIND_TCP, TOO_SHORT),
        ((IP(**ADDRESSES, proto=17), Raw(bytes(7))), KIND_UDP, TOO_SHORT),
        ((IP(**ADDRESSES, proto=1), Raw(bytes(7))), KIND_ICMP, TOO_SHORT),
        ((IP(**ADDRESSES), TCP(dataofs=4)), KIND_TCP, TOO_SHORT),
        ((IP(**ADDRESSES), TCP(dataofs=6)), KIND_TCP, TOO_SHORT),
        ((IP(**ADDRESSES), UDP(len=7)), KIND_UDP, TOO_SHORT),
        ((IP(**ADDRESSES), UDP(len=9)), KIND_UDP, TOO_SHORT),
    ],
)
def test_kinds_and_malformed_headers(layers: tuple[Any, ...], kind: int, error: int) -> None:
    """Each header that the kernel would refuse is named, in the order of its own tests."""
    p = read(made(*layers))
    assert (p.kind, p.header_error) == (kind, error)


def test_arp_gives_its_two_protocol_addresses() -> None:
    """An ARP row shows who asks and for whom."""
    p = read(made(ARP(psrc="10.0.0.1", pdst="10.0.0.2")))
    assert (p.saddr, p.daddr) == (address("10.0.0.1"), address("10.0.0.2"))
    assert read(made(ARP())[:41]).header_error == TOO_SHORT


def test_ethernet_padding_and_a_longer_udp_packet_are_not_payload() -> None:
    """A short packet is padded to 60 bytes on the wire: lengths are IP's and UDP's, not the frame's."""
    octets = made(IP(**ADDRESSES), UDP(sport=1, dport=2), Raw(b"abc"))
    p = read(octets + bytes(60 - len(octets)))
    assert (p.l4_length, p.payload_length, p.l4_csum, p.header_error) == (11, 3, CSUM_GOOD, NO_ERROR)


@pytest.mark.parametrize("quoted", [UDP(sport=5, dport=1234), TCP(sport=5, dport=1234)])
@pytest.mark.parametrize("code", [1, 3])
@pytest.mark.parametrize("options", range(len(OPTIONS)))
def test_a_port_unreachable_quotes_the_port_that_is_closed(quoted: Any, code: int, options: int) -> None:
    """Only code 3 about a UDP datagram names a port, wherever the quoted header's options put it."""
    inner = bytes(IP(**ADDRESSES, options=OPTIONS[options]) / quoted)
    p = read(made(IP(**ADDRESSES), ICMP(type=3, code=code), Raw(inner)))
    assert p.quoted_port == (1234 if code == 3 and quoted.name == "UDP" else -1)


@pytest.mark.parametrize("length", range(14))
def test_less_than_an_ethernet_header_is_malformed(length: int) -> None:
    """The frame itself is too short, not only its capture."""
    assert read(bytes(length)).kind == KIND_MALFORMED


@pytest.mark.parametrize(
    "layers",
    [
        (IP(**ADDRESSES, options=OPTIONS[1]), TCP(sport=1, dport=2, flags="A"), Raw(b"abcdefgh")),
        (IP(**ADDRESSES), UDP(sport=1, dport=2), Raw(b"abcdefgh")),
        (IP(**ADDRESSES), ICMP(type=3, code=3), IP(**ADDRESSES), UDP(sport=5, dport=1234)),
        (ARP(psrc="10.0.0.1", pdst="10.0.0.2"),),
    ],
)
def test_a_capture_cut_at_any_byte_says_nothing_that_the_whole_frame_denies(layers: tuple[Any, ...]) -> None:
    """Every field is the whole frame's or unknown; nothing beyond the capture is read; a cut is no malformation."""
    octets = made(*layers)
    full = read(octets)
    for caplen in range(len(octets)):
        p = read(octets, caplen=caplen, length=len(octets))
        assert p.header_error == NO_ERROR
        assert p.ip_csum in (CSUM_GOOD, CSUM_UNKNOWN)
        assert p.l4_csum in (CSUM_GOOD, CSUM_UNKNOWN)
        for name in ("ethertype", "ip_protocol", "saddr", "daddr", "sport", "dport", "tcp_flags", "tcp_seq", "tcp_ack"):
            assert getattr(p, name) in (0, getattr(full, name)), (name, caplen)
        assert p.quoted_port in (-1, full.quoted_port)
        assert p.icmp_type in (-1, full.icmp_type)
        assert p.kind in (KIND_OTHER, KIND_IP_OTHER, full.kind)
        if p.kind == full.kind and full.kind in (KIND_TCP, KIND_UDP, KIND_ICMP):
            assert p.l4_length == full.l4_length
            assert p.l4_csum == CSUM_UNKNOWN
    assert read(octets).l4_csum == CSUM_GOOD


@pytest.mark.parametrize("seed", range(200))
def test_random_bytes_never_read_outside_the_capture(seed: int) -> None:
    """Whatever the bytes and however they are cut, what lies behind the capture makes no difference."""
    dice = random.Random(seed)
    head = made(IP(**ADDRESSES), dice.choice([TCP(), UDP(), ICMP()]))
    octets = bytearray(head + dice.randbytes(dice.randrange(40)))
    for _ in range(dice.randrange(6)):
        octets[dice.randrange(12, len(octets))] = dice.randrange(256)
    caplen = dice.randrange(len(octets) + 1)
    results = []
    for behind in (b"\x00", b"\xff", b"\x45"):
        row: Any = Packet()  # type: ignore[call-arg,unused-ignore]
        row.offset, row.caplen, row.length, row.linktype = 0, caplen, len(octets), 1
        dissect(row, bytes(octets[:caplen]) + behind * 100, CHECKSUMS_AUTO)
        results.append({name: getattr(row, name) for name in Packet.__slots__})  # type: ignore[attr-defined,unused-ignore]
    assert results[0] == results[1] == results[2]


def test_a_row_forgets_the_frame_before() -> None:
    """Rows are used again: a runt after a port unreachable shows nothing of it."""
    octets = made(IP(**ADDRESSES), ICMP(type=3, code=3), IP(**ADDRESSES), UDP(sport=5, dport=1234))
    row: Any = Packet()  # type: ignore[call-arg,unused-ignore]
    row.caplen = row.length = len(octets)
    row.linktype = 1
    dissect(row, octets, CHECKSUMS_AUTO)
    assert (row.quoted_port, row.icmp_type) == (1234, 3)
    row.caplen = row.length = 10
    dissect(row, octets, CHECKSUMS_AUTO)
    assert (row.kind, row.quoted_port, row.icmp_type, row.saddr, row.ip_protocol) == (KIND_MALFORMED, -1, -1, 0, 0)


def test_an_aggregated_packet_too_long_for_its_length_field_is_as_long_as_its_frame() -> None:
    """BIG TCP: IPv4 total length 0 and more than 65535 bytes there."""
    octets = bytearray(made(IP(**ADDRESSES), TCP(sport=1, dport=2, flags="A")))
    octets[16:18] = b"\0\0"
    p = read(bytes(octets), length=14 + 70_000, how=CHECKSUMS_TRUST)
    assert (p.kind, p.l4_length, p.payload_length) == (KIND_TCP, 70_000 - 20, 70_000 - 40)
    assert read(bytes(octets), how=CHECKSUMS_TRUST).header_error == IP_HEADER_BAD


def test_less_than_an_ip_header_is_too_short() -> None:
    """19 bytes behind the ethertype are no IPv4 header."""
    assert read(made(IP(**ADDRESSES))[: 14 + 19]).header_error == IP_TOO_SHORT
    assert read(made(IP(**ADDRESSES, proto=132))[: 14 + 20]).header_error == NO_ERROR


@pytest.mark.parametrize("seed", range(100))
def test_the_two_bodies_of_ones_sum_agree(seed: int) -> None:
    """The big integer and the compiled sum of words are the same modulo 65535, for every start and length."""
    engine = engine_named("compiled")
    dice = random.Random(seed)
    octets = dice.choice([dice.randbytes(1501), bytes(1501), b"\xff" * 1501])
    compiled, view = engine.function(ones_sum), engine.view(bytearray(octets))
    for _ in range(20):
        at = dice.randrange(1500)
        end = dice.randrange(at, 1501)
        words = struct.unpack(f">{(end - at + 1) // 2}H", octets[at:end] + bytes((end - at) & 1))
        assert ones_sum(octets, at, end) == compiled(view, at, end) == sum(words) % 65535


@pytest.mark.parametrize("value", [0, 1, 0x1234, 0xFFFF, 0x12345678, 0xFFFFFFFF])
def test_integers_are_stored_and_read_in_both_byte_orders(value: int) -> None:
    """The reading functions are struct's, and little-endian stores are read back."""
    octets = bytearray(struct.pack("<I", value) + struct.pack(">I", value))
    assert (le32(octets, 0), be32(octets, 4)) == (value, value)
    assert (le16(octets, 0), be16(octets, 6)) == (value & 0xFFFF, value & 0xFFFF)
    out = bytearray(6)
    put_le16(out, 0, value)
    put_le32(out, 2, value)
    assert bytes(out) == struct.pack("<HI", value & 0xFFFF, value)

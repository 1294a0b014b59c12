"""VLAN tags, link layers, IPv6 and fragments: what is malformed, what is left, what the columns say."""

import struct
from typing import Any

import pytest
from corpus import DATA, DATAGRAM, LONG, MACS, SEGMENT, V4, V6, fragments, jumbogram
from scapy.layers.inet import ICMP, IP, TCP, UDP, fragment
from scapy.layers.inet6 import ICMPv6DestUnreach, IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, fragment6
from scapy.layers.l2 import Dot1AD, Dot1Q, Ether
from scapy.packet import Raw
from wire_kit import columns, cooked, cooked2, joined, read

from emu.wire.checksum import ones_sum
from emu.wire.headers import (
    CHECKSUMS_AUTO,
    CHECKSUMS_TRUST,
    CSUM_BAD,
    CSUM_GOOD,
    CSUM_PARTIAL,
    CSUM_UNKNOWN,
    IP_HEADER_BAD,
    IP_TOO_SHORT,
    KIND_ICMP,
    KIND_ICMPV6,
    KIND_IP_FRAGMENT,
    KIND_IP_OTHER,
    KIND_MALFORMED,
    KIND_OTHER,
    KIND_TCP,
    KIND_UDP,
    NO_ERROR,
    TOO_SHORT,
)
from emu.wire.octets import be64_signed
from emu.wire.transport import NOTHING_TO_VERIFY

RAW = 101


def raw(packet: Any, **how: Any) -> Any:
    """The row of an IP packet without a link header."""
    return read(bytes(packet), linktype=RAW, **how)


def v6(next_header: int, rest: bytes, claimed: int | None = None) -> bytes:
    """An IPv6 packet whose first next header is this one."""
    addresses = bytes(range(16)) + bytes(range(16, 32))
    return struct.pack("!IHBB", 6 << 28, len(rest) if claimed is None else claimed, next_header, 64) + addresses + rest


def test_tags_are_kept_with_their_tpid_and_the_ethertype_is_what_follows() -> None:
    """TPID and TCI of the first two, and how many there are."""
    frame = Ether(**MACS) / Dot1AD(vlan=100, prio=1) / Dot1Q(vlan=200, id=1) / Dot1Q(vlan=3) / IP(**V4) / SEGMENT
    p = read(bytes(frame))
    assert (p.vlan_tags, p.vlan_outer, p.vlan_inner) == (3, 0x88A8_2064, 0x8100_10C8)
    assert (p.kind, p.ethertype, p.l4_csum) == (KIND_TCP, 0x0800, CSUM_GOOD)


@pytest.mark.parametrize("tpid", [0x8100, 0x88A8, 0x9100])
def test_a_frame_that_ends_in_a_tag_is_too_short_and_a_capture_that_does_is_not(tpid: int) -> None:
    """The tag's TPID stays as the ethertype; the tag is not counted."""
    octets = bytes(12) + struct.pack("!HHH", tpid, 5, 0x0800)
    for length in range(14, 18):
        p = read(octets[:length])
        assert (p.kind, p.ethertype, p.vlan_tags, p.header_error) == (KIND_OTHER, tpid, 0, TOO_SHORT)
        assert read(octets, caplen=length).header_error == NO_ERROR
    assert (read(octets).vlan_tags, read(octets).header_error) == (1, IP_TOO_SHORT)


def test_a_ninth_tag_is_left_unread() -> None:
    """The walk is bounded."""
    frame = bytes(12) + struct.pack("!HH", 0x8100, 1) * 9 + b"\x08\x00" + bytes(IP(**V4) / SEGMENT)
    p = read(frame)
    assert (p.vlan_tags, p.ethertype, p.kind) == (8, 0x8100, KIND_OTHER)


def test_an_802_3_length_is_another_ethertype() -> None:
    """LLC is not unpacked."""
    p = read(bytes(12) + b"\x00\x26\x42\x42\x03" + bytes(35))
    assert (p.kind, p.ethertype) == (KIND_OTHER, 0x26)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(("family", "kind"), [(2, KIND_TCP), (10, KIND_IP_OTHER), (24, KIND_IP_OTHER), (7, KIND_OTHER)])
def test_bsd_loopback_has_its_family_in_either_byte_order(family: int, kind: int, order: str) -> None:
    """NULL is in the order of whoever captured; LOOP only in the network's."""
    octets = struct.pack(order + "I", family) + bytes(IP(**V4) / SEGMENT)
    p = read(octets, linktype=0)
    assert p.kind == kind
    assert (p.header_error == IP_HEADER_BAD) == (kind == KIND_IP_OTHER)  # version 4 under an IPv6 family
    assert read(octets, linktype=108).kind == (kind if order == ">" else KIND_OTHER)


@pytest.mark.parametrize(("linktype", "header"), [(1, 14), (0, 4), (108, 4), (113, 16), (276, 20), (101, 1), (228, 1)])
def test_a_frame_shorter_than_its_link_header_is_malformed(linktype: int, header: int) -> None:
    """Not one that is only captured so short."""
    for length in range(header):
        assert read(bytes(length), linktype=linktype).kind == KIND_MALFORMED
        assert read(bytes(header), caplen=length, linktype=linktype).kind == KIND_OTHER
    assert read(bytes(header), linktype=linktype).kind in (KIND_OTHER, KIND_IP_OTHER)


def test_raw_packets_are_told_apart_by_their_version() -> None:
    """A version that is neither 4 nor 6 is no IP; where the link type says which, the other is a bad header."""
    packet = bytes(IP(**V4) / SEGMENT)
    assert (raw(packet).kind, raw(packet).ethertype) == (KIND_TCP, 0x0800)
    assert (raw(b"\x55" + packet[1:]).kind, raw(b"\x55" + packet[1:]).ethertype) == (KIND_OTHER, 0)
    assert read(packet, linktype=229).header_error == IP_HEADER_BAD
    assert read(bytes(IPv6(**V6) / SEGMENT), linktype=228).header_error == IP_HEADER_BAD


def test_a_cooked_frame_of_a_device_without_ethertypes_is_not_ip() -> None:
    """Netlink and radiotap devices use the protocol field for something else, or not at all."""
    packet = bytes(IP(**V4) / SEGMENT)
    for made, linktype in ((cooked, 113), (cooked2, 276)):
        assert read(made(0x0800, packet), linktype=linktype).kind == KIND_TCP
        p = read(made(0x0800, packet, arphrd=824), linktype=linktype)
        assert (p.kind, p.ethertype) == (KIND_OTHER, 0)
        tagged = made(0x8100, struct.pack("!HH", 7, 0x0800) + packet)
        assert (read(tagged, linktype=linktype).kind, read(tagged, linktype=linktype).vlan_outer) == (
            KIND_TCP,
            0x8100_0007,
        )


def test_ipv6_addresses_are_two_signed_halves() -> None:
    """fe80:: is negative, and joined they are the address again."""
    p = raw(v6(59, b""))
    assert joined(p.saddr_hi, p.saddr) == int.from_bytes(bytes(range(16)))
    assert be64_signed(b"\xff" * 8, 0) == -1
    assert be64_signed(b"\x80" + bytes(7), 0) == -(1 << 63)


HOP = 0
ROUTER_ALERT = b"\x05\x02\x00\x00"
JUMBO = b"\xc2\x04" + struct.pack("!I", 70_000)


@pytest.mark.parametrize(
    ("packet", "error"),
    [
        (v6(59, b"")[:39], IP_TOO_SHORT),
        (v6(59, b""), NO_ERROR),
        (v6(59, b"", claimed=1), IP_HEADER_BAD),
        (v6(HOP, b"\x3b\x00\x01\x04" + bytes(4)), NO_ERROR),
        (v6(HOP, b"\x3b\x00" + bytes(6)), NO_ERROR),
        (v6(HOP, b"\x3b\x01" + bytes(6)), IP_HEADER_BAD),
        (v6(HOP, b"\x3b\x00\x01\x05" + bytes(4)), IP_HEADER_BAD),
        (v6(HOP, b"\x3b\x00" + ROUTER_ALERT + b"\x01\x00"), NO_ERROR),
        (v6(HOP, b"\x3b\x00\x05\x03" + bytes(3) + b"\x00"), IP_HEADER_BAD),
        (v6(HOP, b"\x3b\x00\x3e\x04" + bytes(4)), NO_ERROR),
        (v6(HOP, b"\x3b\x00\x7e\x04" + bytes(4)), IP_HEADER_BAD),
        (v6(HOP, b"\x3b\x00\xbe\x04" + bytes(4)), IP_HEADER_BAD),
        (v6(HOP, b"\x3b\x00" + JUMBO), IP_HEADER_BAD),
        (v6(HOP, b"\x3b\x00" + JUMBO, claimed=0), IP_HEADER_BAD),
        (v6(HOP, b"\x3b\x00\xc2\x04\x00\x00\xff\xff", claimed=0), IP_HEADER_BAD),
        (v6(60, b"\x3b"), TOO_SHORT),
        (v6(60, b"\x3b\x01" + bytes(6)), TOO_SHORT),
        (v6(44, b"\x3b\x00\x00"), TOO_SHORT),
        (v6(51, b"\x3b\x02" + bytes(10)), TOO_SHORT),
        (v6(51, b"\x3b\x02" + bytes(14)), NO_ERROR),
        (v6(135, b"\x3b\x00" + bytes(6)), NO_ERROR),
        (v6(44, b"\x11\x00\x00\x01" + bytes(12), claimed=0), TOO_SHORT),
    ],
)
def test_ipv6_headers_that_the_kernel_refuses(packet: bytes, error: int) -> None:
    """Lengths, hop-by-hop options and chains that leave the packet."""
    p = raw(packet)
    assert (p.kind, p.header_error, p.ip_version) == (KIND_IP_OTHER, error, 6)


def test_a_jumbogram_is_as_long_as_its_option_says() -> None:
    """RFC 2675, and an aggregated frame whose length is in no field."""
    packet = jumbogram()
    p = raw(packet + b"trailer", how=CHECKSUMS_TRUST)
    assert (p.kind, p.payload_length, p.header_error) == (KIND_TCP, 70_000, NO_ERROR)
    aggregated = v6(6, bytes(TCP(flags="A")) + bytes(70_000), claimed=0)
    assert raw(aggregated, how=CHECKSUMS_TRUST).payload_length == 70_000
    assert raw(v6(44, b"\x06\x00\x00\x01" + bytes(70_000), claimed=0)).header_error == IP_HEADER_BAD


def test_a_hop_by_hop_header_counts_only_in_the_first_place_and_a_chain_ends() -> None:
    """Elsewhere, and past 32 headers, it is an unknown protocol."""
    late = v6(60, b"\x00\x00\x01\x04\0\0\0\0" + b"\x3b\x00\x01\x04\0\0\0\0")
    assert (raw(late).kind, raw(late).ip_protocol) == (KIND_IP_OTHER, 0)
    option = b"\x3c\x00\x01\x04\0\0\0\0"
    assert raw(v6(60, option * 31 + b"\x3b" + option[1:])).ip_protocol == 59
    assert raw(v6(60, option * 32 + b"\x3b" + option[1:])).ip_protocol == 60


def test_a_port_unreachable_over_ipv6_quotes_the_port_that_is_closed() -> None:
    """Behind extension headers too; other codes and protocols name none."""
    for code, quoted, port in (
        (4, IPv6(**V6) / UDP(sport=5, dport=1234), 1234),
        (4, IPv6(**V6) / IPv6ExtHdrDestOpt() / UDP(sport=5, dport=1234), 1234),
        (3, IPv6(**V6) / UDP(sport=5, dport=1234), -1),
        (4, IPv6(**V6) / TCP(sport=5, dport=1234), -1),
    ):
        p = raw(IPv6(**V6) / ICMPv6DestUnreach(code=code) / quoted)
        assert (p.kind, p.icmp_type, p.quoted_port) == (KIND_ICMPV6, 1, port)


@pytest.mark.parametrize("ip", [IP(**V4), IPv6(**V6)], ids=["v4", "v6"])
def test_all_pieces_of_a_datagram_sum_up_to_its_checksum(ip: Any) -> None:
    """Their sums and the pseudo header's add up to zero; the first one has the transport columns."""
    for layer, protocol in ((TCP(sport=1, dport=2, seq=3, ack=4, flags="A"), 6), (UDP(sport=1, dport=2), 17)):
        whole = ip / IPv6ExtHdrFragment(id=0xFEEDBEEF) / layer / LONG if ip.version == 6 else ip / layer / LONG
        pieces = fragment6(whole, 1400) if ip.version == 6 else fragment(whole, fragsize=1400)
        rows = [raw(piece) for piece in pieces]
        assert {(p.kind, p.ip_protocol, p.frag_id, p.header_error) for p in rows} == {
            (KIND_IP_FRAGMENT, protocol, rows[0].frag_id, NO_ERROR)
        }
        assert [p.frag_offset for p in rows] == [sum(p.frag_length for p in rows[:at]) for at in range(len(rows))]
        assert [p.frag_more for p in rows] == [1] * (len(rows) - 1) + [0]
        length = sum(p.frag_length for p in rows)
        addresses = bytes(pieces[0])[12:20] if ip.version == 4 else bytes(pieces[0])[8:40]
        pseudo = ones_sum(addresses, 0, len(addresses)) + protocol + length
        assert (pseudo + sum(p.frag_sum for p in rows)) % 65535 == 0
        header = 20 if protocol == 6 else 8
        first = rows[0]
        assert (first.sport, first.dport, first.l4_csum) == (1, 2, CSUM_GOOD)
        assert (first.l4_length, first.payload_length) == (first.frag_length, first.frag_length - header)
        assert (first.tcp_seq, first.tcp_ack, first.tcp_flags) == ((3, 4, 0x10) if protocol == 6 else (0, 0, 0))
        assert {(p.sport, p.l4_length, p.payload_length) for p in rows[1:]} == {(0, 0, 0)}


def test_extension_headers_of_a_first_fragment_are_in_its_share_and_not_in_its_sum() -> None:
    """The transport header starts behind them."""
    p = raw(bytes(IPv6(**V6) / IPv6ExtHdrFragment(id=5, m=1, nh=60) / IPv6ExtHdrDestOpt(nh=17) / UDP(sport=1, dport=2)))
    assert (p.ip_protocol, p.frag_length, p.l4_length, p.sport, p.payload_length) == (17, 16, 8, 1, 0)


def test_nothing_is_to_verify_of_a_piece_cut_off_or_believed_or_without_checksum() -> None:
    """Such a piece must not make its datagram bad."""
    for packet in (bytes(piece) for piece in fragments().values()):
        assert raw(packet, caplen=len(packet) - 1).frag_sum == NOTHING_TO_VERIFY
        assert raw(packet, how=CHECKSUMS_TRUST).frag_sum == NOTHING_TO_VERIFY
    plain = fragment(IP(**V4) / UDP(sport=1, dport=2, chksum=0) / LONG, fragsize=1400)
    assert [raw(piece).frag_sum == NOTHING_TO_VERIFY for piece in plain] == [True, False, False]


def test_the_transport_header_of_a_tiny_first_fragment_is_read_as_far_as_it_goes() -> None:
    """8 bytes of TCP are ports and a sequence number; only what no later piece can mend is malformed."""
    p = raw(IP(**V4, flags="MF", proto=6) / Raw(bytes(TCP(sport=1, dport=2, seq=3, ack=4))[:8]))
    assert (p.kind, p.header_error, p.sport, p.dport, p.tcp_seq, p.tcp_ack) == (KIND_IP_FRAGMENT, NO_ERROR, 1, 2, 3, 0)
    assert (p.l4_length, p.payload_length) == (8, 0)
    assert raw(IP(**V4, flags="MF") / TCP(dataofs=4) / DATA).header_error == TOO_SHORT
    assert raw(IP(**V4, flags="MF") / UDP(len=4000) / DATA).header_error == NO_ERROR
    assert raw(IP(**V4, flags="MF") / ICMP(type=8) / DATA).icmp_type == 8


def test_a_message_of_zeros_has_a_bad_checksum() -> None:
    """One's complement has two zeros: a correct ICMP message of zeros carries 0xffff."""
    assert raw(IP(**V4, proto=1) / Raw(bytes(40))).l4_csum == CSUM_BAD
    assert raw(IP(**V4, proto=1) / Raw(b"\0\0\xff\xff" + bytes(36))).l4_csum == CSUM_GOOD
    assert raw(IP(**V4, proto=2) / Raw(bytes(8))).l4_csum == CSUM_BAD
    assert raw(IP(**V4, proto=1) / Raw(bytes(40))).kind == KIND_ICMP


def test_unfinished_and_missing_checksums_over_ipv6() -> None:
    """A pseudo header's sum is good for auto; UDP without a checksum is bad unless all is believed."""
    packet = bytearray(bytes(IPv6(**V6) / DATAGRAM))
    pseudo = ones_sum(bytes(packet), 8, 40) + 17 + len(packet) - 40
    packet[46:48] = (pseudo % 65535).to_bytes(2, "big")
    assert raw(packet, how=CHECKSUMS_AUTO).l4_csum == CSUM_PARTIAL
    assert raw(packet).l4_csum == CSUM_BAD
    packet[46:48] = b"\0\0"
    assert [raw(packet, how=how).l4_csum for how in (CHECKSUMS_AUTO, CHECKSUMS_TRUST)] == [CSUM_BAD, CSUM_GOOD]
    assert raw(packet, caplen=len(packet) - 1).kind == KIND_UDP
    packet[46:48] = b"\0\1"
    assert raw(packet, caplen=len(packet) - 1).l4_csum == CSUM_UNKNOWN


def test_a_row_forgets_every_column_of_the_frame_before() -> None:
    """A runt leaves nothing but what `forget_headers` says."""
    clean = columns(read(b""))
    assert clean["kind"] == KIND_MALFORMED
    assert {name: value for name, value in clean.items() if value} == {"icmp_type": -1, "quoted_port": -1}

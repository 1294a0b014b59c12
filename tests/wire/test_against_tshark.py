"""Dissection against tshark, field by field, for every kind of frame and on real captures."""

import ipaddress
from pathlib import Path
from typing import Any

import pytest
from corpus import frames_of
from external_tools import run
from wire_kit import joined, read, read_pcap, write_pcap

from emu.wire.headers import (
    CSUM_BAD,
    CSUM_GOOD,
    DISSECTED_LINKTYPES,
    KIND_ARP,
    KIND_ICMP,
    KIND_ICMPV6,
    KIND_IP_FRAGMENT,
    KIND_TCP,
    KIND_UDP,
    NO_ERROR,
)

PCAPS = Path(__file__).parents[2] / "pcaps"

FIELDS = [
    "ieee8021ad.id",
    "vlan.id",
    "ip.src",
    "ip.dst",
    "ip.proto",
    "ip.id",
    "ip.frag_offset",
    "ip.flags.mf",
    "ip.checksum.status",
    "ipv6.src",
    "ipv6.dst",
    "ipv6.fraghdr.ident",
    "ipv6.fraghdr.offset",
    "ipv6.fraghdr.more",
    "tcp.srcport",
    "tcp.dstport",
    "tcp.seq_raw",
    "tcp.ack_raw",
    "tcp.flags",
    "tcp.len",
    "tcp.checksum.status",
    "udp.srcport",
    "udp.dstport",
    "udp.length",
    "udp.checksum.status",
    "icmp.type",
    "icmp.checksum.status",
    "icmpv6.type",
    "icmpv6.checksum.status",
    "igmp.checksum.status",
    "arp.src.proto_ipv4",
    "arp.dst.proto_ipv4",
]
TAGS = ("ieee8021ad.id", "vlan.id")  # a service tag stands outside
BAD, GOOD, UNVERIFIED, NOT_PRESENT, ILLEGAL = "01234"
CSUM = {BAD: CSUM_BAD, GOOD: CSUM_GOOD, NOT_PRESENT: CSUM_GOOD, ILLEGAL: CSUM_BAD}
PREFERENCES = (
    "ip.defragment:FALSE",
    "ipv6.defragment:FALSE",
    "ip.check_checksum:TRUE",
    "tcp.check_checksum:TRUE",
    "udp.check_checksum:TRUE",
    "udp.ignore_ipv6_zero_checksum:FALSE",
    "tcp.try_heuristic_first:FALSE",
)


def tshark(path: Path) -> list[dict[str, str]]:
    """What tshark says of each frame; of what occurs twice, the outermost, of VLAN ids all."""
    options = [part for preference in PREFERENCES for part in ("-o", preference)]
    asked = [part for field in FIELDS for part in ("-e", field)]
    shape = ["-T", "fields", "-E", "separator=/t", "-E", "occurrence=a", "-E", "aggregator=;"]
    lines = run("tshark", "-n", "-r", path, *options, *shape, *asked).splitlines()
    return [dict(zip(FIELDS, line.split("\t"), strict=True)) for line in lines]


def first(theirs: dict[str, str], field: str) -> str:
    """The outermost occurrence."""
    return theirs[field].split(";")[0]


def number(theirs: dict[str, str], field: str) -> int:
    """The outermost occurrence, as a number; tshark prints a flag as a number or as a word."""
    text = first(theirs, field)
    return {"True": 1, "False": 0}[text] if text in ("True", "False") else int(text, 0)


def compare_network(p: Any, theirs: dict[str, str]) -> None:
    """Addresses and fragments."""
    if p.ip_version == 4:
        assert str(ipaddress.IPv4Address(p.saddr)) == first(theirs, "ip.src")
        assert str(ipaddress.IPv4Address(p.daddr)) == first(theirs, "ip.dst")
        assert p.ip_csum == CSUM[first(theirs, "ip.checksum.status")]
        if p.ip_csum == CSUM_GOOD and p.header_error == NO_ERROR:
            fragment = (p.kind == KIND_IP_FRAGMENT, p.frag_offset, p.frag_more)
            offset, more = 8 * number(theirs, "ip.frag_offset"), number(theirs, "ip.flags.mf")
            assert fragment == (offset > 0 or more > 0, offset, more)
            if p.kind == KIND_IP_FRAGMENT:
                assert p.frag_id == number(theirs, "ip.id")
    elif p.ip_version == 6:
        assert ipaddress.IPv6Address(joined(p.saddr_hi, p.saddr)) == ipaddress.IPv6Address(first(theirs, "ipv6.src"))
        assert ipaddress.IPv6Address(joined(p.daddr_hi, p.daddr)) == ipaddress.IPv6Address(first(theirs, "ipv6.dst"))
        if p.kind == KIND_IP_FRAGMENT:
            assert p.frag_id == number(theirs, "ipv6.fraghdr.ident")
            assert (p.frag_offset, p.frag_more) == (
                number(theirs, "ipv6.fraghdr.offset") * 8,
                number(theirs, "ipv6.fraghdr.more"),
            )
    elif p.kind == KIND_ARP:
        assert str(ipaddress.IPv4Address(p.saddr)) == first(theirs, "arp.src.proto_ipv4")
        assert str(ipaddress.IPv4Address(p.daddr)) == first(theirs, "arp.dst.proto_ipv4")


def compare_transport(p: Any, theirs: dict[str, str]) -> None:
    """Ports, flags, numbers and checksums, of a first fragment too."""
    l4 = p.frag_offset == 0 and p.header_error == NO_ERROR and p.ip_csum == CSUM_GOOD
    whole = p.kind != KIND_IP_FRAGMENT
    if p.ip_protocol == 6 and l4:
        assert whole == (p.kind == KIND_TCP)
        assert (p.sport, p.dport) == (number(theirs, "tcp.srcport"), number(theirs, "tcp.dstport"))
        assert (p.tcp_seq, p.tcp_ack) == (number(theirs, "tcp.seq_raw"), number(theirs, "tcp.ack_raw"))
        assert p.tcp_flags == number(theirs, "tcp.flags") & 0xFF
        if whole:
            assert p.payload_length == number(theirs, "tcp.len")
            assert p.l4_csum == CSUM[first(theirs, "tcp.checksum.status")]
    elif p.ip_protocol == 17 and l4:
        assert whole == (p.kind == KIND_UDP)
        assert (p.sport, p.dport) == (number(theirs, "udp.srcport"), number(theirs, "udp.dstport"))
        if whole:
            assert p.l4_length == number(theirs, "udp.length")
            assert p.l4_csum == CSUM[first(theirs, "udp.checksum.status")]
    elif p.ip_protocol == 1 and p.ip_version == 4 and l4:
        assert whole == (p.kind == KIND_ICMP)
        assert p.icmp_type == number(theirs, "icmp.type")
        assert not whole or p.l4_csum == CSUM[first(theirs, "icmp.checksum.status")]
    elif p.ip_protocol == 58 and p.ip_version == 6 and l4:
        assert whole == (p.kind == KIND_ICMPV6)
        assert p.icmp_type == number(theirs, "icmpv6.type")
        assert not whole or p.l4_csum == CSUM[first(theirs, "icmpv6.checksum.status")]
    elif p.ip_protocol == 2 and l4:
        assert p.l4_csum == CSUM[first(theirs, "igmp.checksum.status")]
    else:
        ports = {first(theirs, f"{protocol}.{end}") for protocol in ("tcp", "udp") for end in ("srcport", "dstport")}
        assert ports == {""} or p.header_error or p.ip_csum == CSUM_BAD


def compare(frames: dict[str, bytes], path: Path, linktype: int) -> int:
    """Compare all frames; returns how many tshark saw IP in."""
    said = tshark(write_pcap(path, frames.values(), linktype))
    assert len(said) == len(frames)
    seen = 0
    wrong = []
    for (name, octets), theirs in zip(frames.items(), said, strict=True):
        p = read(octets, linktype=linktype)
        seen += p.ip_version > 0
        try:
            tags = [int(text, 0) for field in TAGS for text in theirs[field].split(";") if text]
            assert p.vlan_tags == len(tags)
            assert [p.vlan_outer & 0xFFF, p.vlan_inner & 0xFFF] == [*tags, 0, 0][:2]
            assert (p.ip_version > 0) == (theirs["ip.src"] != "" or theirs["ipv6.src"] != "") or name == "snap"
            compare_network(p, theirs)
            if name != "snap":  # IP in LLC, which the kernel of this machine does not unpack
                compare_transport(p, theirs)
        except (AssertionError, ValueError, KeyError) as error:
            wrong.append(f"{name}: {error}\n{ {field: text for field, text in theirs.items() if text} }")
    assert not wrong, "\n".join(wrong)
    return seen


# Two old numbers of RAW mean something else to tshark, on this system.
@pytest.mark.parametrize("linktype", sorted(set(DISSECTED_LINKTYPES) - {12, 14}))
def test_every_kind_of_frame_is_read_as_tshark_reads_it(linktype: int, tmp_path: Path) -> None:
    """Tags, addresses, fragments, ports, numbers and checksums, over every link layer."""
    assert compare(frames_of(linktype), tmp_path / "frames.pcap", linktype) > 10


@pytest.mark.parametrize("capture", ["login.pcap", "nop.pcap", "mixed.pcap"])
def test_real_captures_are_read_as_tshark_reads_them(capture: str, tmp_path: Path) -> None:
    """What a real iSCSI initiator and its target said, with whatever their NICs left undone."""
    linktype, frames = read_pcap(PCAPS / capture)
    some = {str(at): frame for at, frame in enumerate(frames[:3000])}
    assert compare(some, tmp_path / "frames.pcap", linktype) > 10

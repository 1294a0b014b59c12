"""A user's own frames as templates: sent in their order, changed as options say, or refused in one line."""

import tempfile
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from flood_kinds_kit import BAD_CHECKSUM, Crafted, craft, template_file, tshark_fields, write_pcap
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.dns import DNS, DNSQR
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6, IPv6ExtHdrFragment
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Packet, Raw

from emu.errors import UsageError
from emu.traffic.flood.layout import with_field, with_payload

MACS = {"src": "02:00:00:00:00:51", "dst": "02:00:00:00:00:52"}
ENDS = {"src": "192.0.2.1", "dst": "192.0.2.2"}
ENDS6 = {"src": "2001:db8::1", "dst": "2001:db8::2"}
QUERY = Ether(**MACS) / IP(**ENDS) / UDP(sport=5353, dport=53) / DNS(id=7, qd=DNSQR(qname="example.org"))
DATA = Ether(**MACS) / IP(**ENDS, options=[]) / TCP(sport=80, dport=4242, seq=9, flags="PA") / Raw(b"x" * 101)
DATAGRAM6 = Ether(**MACS) / IPv6(**ENDS6) / UDP(sport=7, dport=8) / Raw(b"some data to be cut")


def test_frames_are_sent_in_their_order_as_they_are(tmp_path: Path) -> None:
    frames = [QUERY, QUERY / Raw(b"more"), Ether(**MACS) / IP(**ENDS) / UDP(dport=99) / Raw(b"y" * 60)]
    path = template_file(tmp_path / "own.pcap", frames)
    seen = [frame.octets for frame in craft(f"udp:template={path},count=7")]
    assert seen[:6] == [bytes(frame) for frame in frames] * 2


def test_options_change_the_frames(tmp_path: Path) -> None:
    path = template_file(tmp_path / "own.pcap", [QUERY])
    text = f"udp:template={path},to=10.7.7.7,to_mac=02:00:00:00:00:99,spoof=10.8.0.0/16,ports=53-55,count=300"
    frames = [Ether(frame.octets) for frame in craft(text)]
    assert {(frame.dst, frame.src) for frame in frames} == {("02:00:00:00:00:99", MACS["src"])}
    assert {frame[IP].dst for frame in frames} == {"10.7.7.7"}
    assert len({frame[IP].src for frame in frames}) > 290
    assert Counter(frame[UDP].dport for frame in frames) == {53: 100, 54: 100, 55: 100}
    assert {frame[UDP].sport for frame in frames} == {5353}
    assert {bytes(frame[UDP].payload) for frame in frames} == {bytes(QUERY[DNS])}
    rows = tshark_fields(
        write_pcap(tmp_path / "seen.pcap", craft(text)), ["udp.checksum.status", "ip.checksum.status", "dns.qry.name"]
    )
    assert BAD_CHECKSUM not in [word for row in rows for word in row.values()]
    assert [row["dns.qry.name"] for row in rows] == ["example.org"] * 300  # by its sender's port, whatever its own


@pytest.mark.parametrize("frame", [QUERY, DATAGRAM6, Ether(**MACS) / Dot1Q(vlan=3) / IP(**ENDS) / UDP() / Raw(b"odd")])
def test_size_fills_or_cuts_the_frames(frame: Packet, tmp_path: Path) -> None:
    path = template_file(tmp_path / "own.pcap", [frame])
    frames = list(craft(f"udp:template={path},size=66..1400,payload=random,count=200"))
    assert len({len(frame.octets) for frame in frames}) > 150
    rows = tshark_fields(write_pcap(tmp_path / "seen.pcap", frames), ["udp.checksum.status", "ip.checksum.status"])
    assert {row["udp.checksum.status"] for row in rows} == {"1"}
    assert BAD_CHECKSUM not in [row["ip.checksum.status"] for row in rows]


def test_own_segments_advance_in_sequence(tmp_path: Path) -> None:
    path = template_file(tmp_path / "own.pcap", [DATA])
    frames = [Ether(frame.octets)[TCP] for frame in craft(f"tcp-bulk:template={path},count=20")]
    assert [later.seq - frame.seq & 0xFFFFFFFF for frame, later in pairwise(frames)] == [101] * 19
    assert {(frame.sport, frame.dport) for frame in frames} == {(80, 4242)}


def test_python_file_gives_scapy_packets(tmp_path: Path) -> None:
    path = tmp_path / "own.py"
    path.write_text(
        "from scapy.all import *\n"
        "template = [Ether(src='02:00:00:00:00:51', dst='02:00:00:00:00:52') / IP(src='192.0.2.1', dst='192.0.2.2')"
        " / UDP(sport=1, dport=port) / Raw(b'z' * 40) for port in (5, 6)]\n"
    )
    frames = [Ether(frame.octets) for frame in craft(f"udp:template={path},count=4,from=10.0.0.77")]
    assert [(frame[IP].src, frame[UDP].dport) for frame in frames] == [("10.0.0.77", port) for port in (5, 6, 5, 6)]


def test_python_file_may_read_its_packets_with_scapy_and_print(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`rdpcap` gives no list, but one that behaves so; standard output stays the capture's."""
    path = tmp_path / "own.py"
    capture = template_file(tmp_path / "own.pcap", [QUERY, DATAGRAM6])
    path.write_text(f"from scapy.all import rdpcap\ntemplate = rdpcap({str(capture)!r})\nprint(template)\n")
    assert [frame.octets for frame in craft(f"udp:template={path},count=2")] == [bytes(QUERY), bytes(DATAGRAM6)]
    said = capsys.readouterr()
    assert said.out == ""
    assert "own.pcap" in said.err


@pytest.mark.parametrize(
    ("options", "frames", "sentence"),
    [
        ("udp", [QUERY, DATA], "frame 2 has no UDP header, which udp or its options need"),
        ("tcp-bulk", [QUERY], "frame 1 has no TCP header"),
        ("icmp-echo", [QUERY], "frame 1 has no ICMP or ICMPv6EchoRequest or ICMPv6EchoReply header"),
        ("arp", [QUERY], "frame 1 has no ARP header"),
        ("vlan", [QUERY], "frame 1 has no Dot1Q or Dot1AD header"),
        ("ipv6-udp", [QUERY], "frame 1 has no IPv6 header"),
        ("udp:to=fd00::2", [DATAGRAM6, QUERY], "frame 2 is not IPv6, but to fd00::2 is; expected one family"),
        ("udp:spoof=10.0.0.0/8", [DATAGRAM6], "frame 1 is not IPv4, but spoof 10.0.0.0/8 is"),
        ("udp:size=60", [DATAGRAM6], "frame 1: its headers take 62 bytes; size 60 has no room for them"),
        ("tcp-bulk", [Ether(**MACS) / IP(**ENDS) / TCP()], "frame 1 has no data, or padding behind it"),
        ("udp", [Ether(**MACS) / IP(**ENDS) / UDP() / Raw(b"x" * 9000)], "frame 1: 9042 bytes; expected 14 to 9014"),
        ("udp", [QUERY] * 257, "more than 256 frames"),
        ("udp", [], "no frame in it"),
        (
            "udp:size=100",
            [Ether(**MACS) / IP(**ENDS, flags="MF") / UDP(len=99) / Raw(b"x" * 16)],
            "frame 1 is a fragment, whose size cannot change",
        ),
    ],
)
def test_frame_that_cannot_be_used_is_told(options: str, frames: list[Packet], sentence: str, tmp_path: Path) -> None:
    path = template_file(tmp_path / "own.pcap", frames)
    with pytest.raises(UsageError) as told:
        list(craft(f"{options}{',' if ':' in options else ':'}template={path},count=3"))
    assert str(told.value).startswith(f"template {path}: {sentence}")
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("own.pcap", b"nothing of the kind", ""),
        ("own.pcap", None, ""),
        ("own.py", b"template = (", "SyntaxError: "),
        ("own.py", b"raise ValueError('a\\nb')", "ValueError: a b"),
        ("own.py", b"raise SystemExit(3)", "SystemExit: 3"),
        ("own.py", b"other = 1", "expected that it sets `template` to a Scapy packet"),
        ("own.py", b"template = [b'bytes']", "frame 1 does not begin with Ether()"),
        ("own.py", b"from scapy.all import IP\ntemplate = IP()", "frame 1 does not begin with Ether()"),
    ],
)
def test_file_that_is_no_template_is_told(name: str, content: bytes | None, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError) as told:
        list(craft(f"udp:template={path},count=3"))
    assert f"{path}: {sentence}" in str(told.value)
    assert "\n" not in str(told.value)


WHOLE = [
    bytes(QUERY),
    bytes(DATA),
    bytes(DATAGRAM6),
    bytes(
        Ether(**MACS) / Dot1Q(vlan=1) / IP(**ENDS, options=[b"\x83\x03\x04\x01"]) / TCP(options=[("MSS", 1)]) / b"data"
    ),
    bytes(Ether(**MACS) / IPv6(**ENDS6) / IPv6ExtHdrFragment(nh=17) / UDP() / b"data"),
]


@settings(max_examples=60)
@given(
    st.sampled_from(WHOLE),
    st.lists(st.tuples(st.integers(12, 90), st.integers(0, 255)), max_size=3),
    st.integers(14, 200),
    st.sampled_from(
        ["udp:to=10.0.0.9,ports=3", "udp:size=70..90", "tcp-bulk:from_ports=2", "other-ethertype:size=64..80"]
    ),
)
def test_damaged_frame_is_sent_or_told(frame: bytes, damage: list[tuple[int, int]], length: int, text: str) -> None:
    octets = bytearray(frame[:length])
    for at, value in damage:
        octets[at % len(octets)] = value
    with tempfile.TemporaryDirectory() as folder:
        path = write_pcap(Path(folder) / "own.pcap", [Crafted(0, bytes(octets))])
        try:
            assert len(list(craft(f"{text},template={path},count=3"))) == 3
        except UsageError as error:
            assert "frame 1" in str(error)


# --- fields are found and changed in any frame -----------------------------------------------------------------------

NETWORKS = [IP(**ENDS), IP(**ENDS, options=[b"\x01\x01\x01\x00"]), IPv6(**ENDS6)]
TRANSPORTS = [UDP(sport=7, dport=9), TCP(sport=7, dport=9, options=[("MSS", 1460)]), UDP(sport=7, dport=9, chksum=0)]
LINKS = [Ether(**MACS), Ether(**MACS) / Dot1Q(vlan=5), Ether(**MACS) / Dot1Q(vlan=5) / Dot1Q(vlan=6)]


@given(
    st.sampled_from(LINKS), st.sampled_from(NETWORKS), st.sampled_from(TRANSPORTS), st.binary(max_size=64),
    st.binary(max_size=64), st.integers(0, 65535), st.binary(min_size=4, max_size=4),
)  # fmt: skip
def test_changed_frame_is_what_scapy_would_have_built(
    link: Packet, network: Packet, transport: Packet, before: bytes, after: bytes, port: int, address: bytes
) -> None:
    source = IPv6(**ENDS6).src if isinstance(network, IPv6) else ".".join(map(str, address))
    packed = bytes(IPv6(**ENDS6))[8:24] if isinstance(network, IPv6) else address
    octets = bytes(link / network / transport / Raw(before))
    octets = with_payload(octets, after)
    octets = with_field(octets, (UDP, TCP), "dport", port.to_bytes(2))
    octets = with_field(octets, (IP, IPv6), "src", packed)
    other, ported = network.copy(), transport.copy()
    other.src, ported.dport = source, port
    assert octets == bytes(link / other / ported / Raw(after))


@pytest.mark.parametrize(
    "frame",
    [
        Ether(**MACS) / IP(**ENDS) / ICMP(seq=1) / Raw(b"abc"),
        Ether(**MACS) / IPv6(**ENDS6) / ICMPv6EchoRequest(seq=1, data=b"abc"),
    ],
)
def test_echo_is_changed_with_its_checksum(frame: Packet) -> None:
    changed = with_field(bytes(frame), (ICMP, ICMPv6EchoRequest), "seq", (77).to_bytes(2))
    again = Ether(changed)
    for layer, field in ((ICMP, "chksum"), (ICMPv6EchoRequest, "cksum")):
        if layer in again:
            assert again[layer].seq == 77
            again[layer].delfieldval(field)
    assert bytes(again) == changed


def test_arp_and_later_fragments_have_no_checksum_of_ports(tmp_path: Path) -> None:
    ask = Ether(**MACS) / ARP(psrc="192.0.2.1", pdst="192.0.2.2", hwsrc=MACS["src"])
    path = template_file(tmp_path / "own.pcap", [ask])
    frames = [Ether(frame.octets) for frame in craft(f"arp:template={path},to=10.0.0.5,spoof=10.9.0.0/24,count=50")]
    assert {frame[ARP].pdst for frame in frames} == {"10.0.0.5"}
    assert len({frame[ARP].psrc for frame in frames}) > 30
    later = bytes(Ether(**MACS) / IPv6(**ENDS6) / IPv6ExtHdrFragment(offset=3, nh=17, id=5) / Raw(b"x" * 40))
    moved = with_field(later, (IPv6,), "src", bytes(16))
    assert moved[:22] + bytes(16) + moved[38:] == moved
    assert moved[38:] == later[38:]

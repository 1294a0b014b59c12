"""Every kind of flood with only --count and --seed: real packets, as tshark and Scapy judge, and as asked."""

import hashlib
import ipaddress
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from flood_kinds_kit import BAD_CHECKSUM, LEAST_ERROR, Crafted, craft, tshark_fields, write_pcap
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment
from scapy.layers.l2 import Ether

from emu.traffic.crafted import crafted_of
from emu.traffic.flood.kinds import KINDS, parse_flood
from emu.traffic.flood.plan import GAPS_POISSON, RATE_BPS, VARY_COUNT, Rate, Variable
from emu.traffic.flood.recipes import group_mac, plan_of
from emu.traffic.flood.source import Ends, settled

FRAMES = 10_000
STATUS = [f"{protocol}.checksum.status" for protocol in ("ip", "tcp", "udp", "icmp", "icmpv6")]
SEEN = {
    "udp": "eth:ethertype:ip:udp",
    "tcp-bulk": "eth:ethertype:ip:tcp",
    "synflood": "eth:ethertype:ip:tcp",
    "tcp-closed-port": "eth:ethertype:ip:tcp",
    "icmp-echo": "eth:ethertype:ip:icmp",
    "arp": "eth:ethertype:arp",
    "ipv6-udp": "eth:ethertype:ipv6:udp",
    "multicast": "eth:ethertype:ip:udp",
    "broadcast": "eth:ethertype:ip:udp",
    "fragments": "eth:ethertype:ip",
    "vlan": "eth:ethertype:vlan:ethertype:ip:udp",
    "other-ethertype": "eth:ethertype:data",
    "jumbo": "eth:ethertype:ip:udp",
    "mixed-imix": "eth:ethertype:ip",
    "iscsi-acks": "eth:ethertype:ip:tcp",
}
VARIANTS = [
    "udp:to=fd00::2,spoof=fd00:5::/40,size=62..1514,ports=9000-9015",
    "udp:spoof=198.18.0.0/15,size=60..99,payload=random,from_ports=5",
    "udp:size=60..1514,payload=hex:ffffff",
    "tcp-bulk:to=fd00::2,size=imix,ports=7",
    "synflood:spoof=198.18.0.0/15,options=mss,ports=80-83",
    "synflood:to=fd00::2,spoof=fd00:7::/64",
    "tcp-closed-port:segment=ack,ports=4",
    "icmp-echo:to=fd00::2,size=imix",
    "icmp-echo:size=60..1514,spoof=10.0.0.0/24",
    "arp:op=reply,spoof=10.0.0.0/24",
    "arp:op=gratuitous,spoof=10.0.0.0/24",
    "multicast:to=ff02::1:5",
    "fragments:to=fd00::2,order=reverse,ports=3,spoof=fd00:7::/96,mtu=1280",
    "fragments:order=reverse,missing=first,spoof=10.7.0.0/16,ports=5,mtu=68,datagram=100",
    "vlan:outer=7,id=9,priority=5,size=64..1522",
    "vlan:to=fd00::2,size=imix",
    "other-ethertype:ethertype=lldp",
    "other-ethertype:size=60..1514",
    "jumbo:size=1515..9014,payload=random",
    "mixed-imix:to=fd00::2,spoof=fd00:7::/96",
    "mixed-imix:mix=tcp;icmp,size=64+65:3+1499..1514,spoof=10.7.0.0/16",
]


def with_count(text: str, count: int) -> str:
    return f"{text}{',' if ':' in text else ':'}count={count},seed=7"


def judge(path: Path, *fields: str) -> list[dict[str, str]]:
    """What tshark reads: nothing malformed, no bad checksum, and the fields asked for."""
    rows = tshark_fields(path, ["frame.protocols", "_ws.malformed", "_ws.expert.severity", *STATUS, *fields])
    for row in rows:
        assert not row["_ws.malformed"], row
        assert not [word for word in row["_ws.expert.severity"].split(",") if word and int(word) >= LEAST_ERROR], row
        assert BAD_CHECKSUM not in [row[status] for status in STATUS], row
    return rows


def test_every_kind_with_count_and_seed_alone_is_sound(tmp_path: Path) -> None:
    """All in one capture, because tshark takes longer to start than to judge one of them."""
    kinds: list[str] = []

    def crafted() -> Iterator[Crafted]:
        for kind in SEEN:
            for frame in craft(with_count(kind, FRAMES)):
                kinds.append(kind)
                yield frame

    rows = judge(write_pcap(tmp_path / "flood.pcap", crafted()))
    for kind, row in zip(kinds, rows, strict=True):
        assert row["frame.protocols"].startswith(SEEN[kind]), (kind, row)
    for kind, frames in Counter(kinds).items():
        assert FRAMES <= frames < FRAMES + 3, kind  # a datagram once begun is completed


def test_every_kind_is_judged() -> None:
    assert set(SEEN) == set(KINDS)


def test_other_options_are_sound_too(tmp_path: Path) -> None:
    """In one capture, too: each has ids, ports or addresses of its own."""
    frames = [frame for text in VARIANTS for frame in craft(with_count(text, 200))]
    assert len(judge(write_pcap(tmp_path / "flood.pcap", frames))) == len(frames) >= 200 * len(VARIANTS)


@pytest.mark.parametrize("text", VARIANTS)
def test_scapy_builds_the_same_frames(text: str) -> None:
    for frame in list(craft(with_count(text, 200)))[::20]:
        rebuilt = Ether(frame.octets)
        whole = IPv6ExtHdrFragment not in rebuilt and not (IP in rebuilt and rebuilt[IP].flags.MF)
        for layer in (IP, IPv6, TCP, UDP, ICMP):
            if layer in rebuilt and (whole or layer in (IP, IPv6)):  # Scapy would sum the first fragment alone
                for field in ("chksum", "len", "plen"):
                    if field in [described.name for described in rebuilt[layer].fields_desc]:
                        rebuilt[layer].delfieldval(field)
        assert bytes(rebuilt) == frame.octets


@pytest.mark.parametrize("kind", list(SEEN))
def test_another_seed_other_bytes(kind: str) -> None:
    random = ",payload=random" if hasattr(KINDS[kind](), "payload") else ""
    one, again, other = (list(craft(f"{kind}:count=20,seed={seed}{random}")) for seed in (3, 3, 4))
    assert one == again
    assert (one != other) == (kind != "arp")  # of which nothing is drawn


GOLDEN = {
    "udp": "9b466a021d21f266",
    "tcp-bulk": "9151246febe8dc03",
    "synflood": "74b2c4f937d41cc3",
    "tcp-closed-port": "c29d9aee256caeda",
    "icmp-echo": "c30b8443b4183842",
    "arp": "324fa808386e8cfa",
    "ipv6-udp": "046f66738d4b257b",
    "multicast": "ca0f4e1cb41adbba",
    "broadcast": "e33a30f83ef282b0",
    "fragments": "c292fa8affba16e9",
    "vlan": "0375c72a8f93486a",
    "other-ethertype": "e7423fd8cc62b843",
    "jumbo": "c0c5fff12703728e",
    "mixed-imix": "b2a542b4721241f9",
}


@pytest.mark.parametrize(("kind", "digest"), list(GOLDEN.items()))
def test_bytes_and_times_are_those_of_every_other_machine(kind: str, digest: str) -> None:
    crafted = b"".join(frame.time_ns.to_bytes(8) + frame.octets for frame in craft(f"{kind}:count=100,seed=7,poisson"))
    assert hashlib.sha256(crafted).hexdigest()[:16] == digest


def test_scapy_is_not_loaded_before_a_flood_is_opened() -> None:
    code = "import sys, emu.traffic.flood.source; sys.exit(any(name.startswith('scapy') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- what was asked for -----------------------------------------------------------------------------------------------


def test_addresses_and_ports_are_those_asked_for() -> None:
    text = "udp:to=10.1.1.1,from=10.2.2.2,to_mac=02:00:00:00:01:01,from_mac=02:00:00:00:02:02,ports=5,from_ports=7-9"
    frames = [Ether(frame.octets) for frame in craft(with_count(text, 150))]
    assert {(frame.dst, frame.src) for frame in frames} == {("02:00:00:00:01:01", "02:00:00:00:02:02")}
    assert {(frame[IP].dst, frame[IP].src) for frame in frames} == {("10.1.1.1", "10.2.2.2")}
    flows = Counter((frame[UDP].dport, frame[UDP].sport) for frame in frames)
    assert flows == {(to, source): 10 for to in range(9000, 9005) for source in (7, 8, 9)}
    assert [frame[IP].id for frame in frames[:3]] == [frames[0][IP].id + step for step in range(3)]


def test_ends_say_what_the_options_leave_out() -> None:
    ends = Ends(host_mac="02:00:00:00:00:77", host_ipv4="192.0.2.7", peer_mac="", peer_ipv4="192.0.2.1")
    frame = Ether(next(craft("udp:count=1", ends)).octets)
    assert (frame.dst, frame[IP].dst, frame[IP].src) == ("02:00:00:00:00:77", "192.0.2.7", "192.0.2.1")
    assert frame.src == Ends().peer_mac
    told = Ether(next(craft("udp:count=1,to=10.0.0.9", ends)).octets)
    assert told[IP].dst == "10.0.0.9"


@pytest.mark.parametrize("network", ["10.8.0.0/16", "10.8.0.0/30", "10.8.0.5/32", "fd00:5::/40", "fd00:5::/124"])
def test_spoofed_senders_are_spread_over_their_network(network: str) -> None:
    to = "fd00::2" if ":" in network else "10.0.0.2"
    layer = IPv6 if ":" in network else IP
    senders = [
        ipaddress.ip_address(Ether(frame.octets)[layer].src)
        for frame in craft(with_count(f"udp:to={to},spoof={network}", 1000))
    ]
    hosts = ipaddress.ip_network(network)
    assert all(sender in hosts for sender in senders)
    possible = min(hosts.num_addresses - (2 if layer is IP and hosts.num_addresses > 2 else 0), 1 << 16)
    assert len(set(senders)) >= min(possible, 1000) * 0.95
    if possible > 1000:
        for share in range(4):  # each quarter of the network has its quarter of the senders, give or take five sigma
            quarter = hosts.num_addresses // 4
            first = int(hosts[0]) + share * quarter
            assert abs(sum(first <= int(sender) < first + quarter for sender in senders) - 250) < 69
        assert hosts[0] not in senders


def test_session_is_aimed_at_the_ends_too() -> None:
    ends = Ends(host_mac="02:00:00:00:00:77", host_ipv4="192.0.2.7", peer_ipv4="192.0.2.1")
    frame = Ether(next(craft("iscsi-acks:count=1", ends)).octets)
    assert (frame.dst, frame[IP].dst, frame[IP].src) == ("02:00:00:00:00:77", "192.0.2.7", "192.0.2.1")
    told = Ether(next(craft("iscsi-acks:count=1,target=192.0.2.9", ends)).octets)
    assert (told[IP].dst, told[IP].src) == ("192.0.2.7", "192.0.2.9")


def test_peer_is_never_the_host_itself() -> None:
    ends = settled(Ends(host_ipv4="10.0.0.1", host_ipv6="fd00::1", host_mac="02:00:00:00:00:01"))
    assert ends[3:] == ("02:00:00:00:00:02", "10.0.0.2", "fd00::2")
    assert settled(Ends(host_ipv4="10.0.0.2", peer_ipv4="10.0.0.2")).peer_ipv4 == "10.0.0.1"


def test_sizes_come_in_their_shares() -> None:
    sizes = Counter(len(frame.octets) for frame in craft(with_count("mixed-imix", 12_000)))
    assert set(sizes) == {60, 590, 1514}
    for size, expected in ((60, 7000), (590, 4000), (1514, 1000)):
        assert abs(sizes[size] - expected) < 5 * (expected * (1 - expected / 12_000)) ** 0.5
    even = Counter(len(frame.octets) for frame in craft(with_count("udp:size=64..95", 6400)))
    assert sorted(even) == list(range(64, 96))
    assert sum((seen - 200) ** 2 / 200 for seen in even.values()) < 70  # chi-square, 31 degrees: 1 in 10 000


def test_protocols_of_a_mix_come_in_their_shares() -> None:
    seen = Counter(frame.octets[23] for frame in craft(with_count("mixed-imix", 12_000)))
    for protocol, expected in ((17, 7000), (6, 4000), (1, 1000)):
        assert abs(seen[protocol] - expected) < 5 * (expected * (1 - expected / 12_000)) ** 0.5


def test_bulk_connections_lose_and_repeat_nothing(tmp_path: Path) -> None:
    path = write_pcap(tmp_path / "bulk.pcap", craft("tcp-bulk:count=2000,size=60..1514,ports=3"))
    rows = judge(path, "tcp.stream", "tcp.analysis.flags", "tcp.seq_raw", "tcp.len")
    assert {row["tcp.stream"] for row in rows} == {"0", "1", "2"}
    assert not [row for row in rows if row["tcp.analysis.flags"]]
    expected: dict[str, int] = {}
    for row in rows:
        seq = int(row["tcp.seq_raw"])
        assert expected.setdefault(row["tcp.stream"], seq) == seq
        expected[row["tcp.stream"]] = seq + int(row["tcp.len"]) & 0xFFFFFFFF


def test_syns_differ_in_port_and_sequence_number() -> None:
    frames = [Ether(frame.octets)[TCP] for frame in craft("synflood:count=2000")]
    assert all(str(frame.flags) == "S" for frame in frames)
    assert [name for name, _ in frames[0].options] == ["MSS", "SAckOK", "Timestamp", "NOP", "WScale"]
    assert len({frame.seq for frame in frames}) > 1990
    assert len({frame.sport for frame in frames}) > 1900
    assert min(frame.sport for frame in frames) >= 1024


def test_echo_requests_are_numbered() -> None:
    """From 1 on, and around behind 65 535, as ids do: see test_variables_count_flow_and_spread."""
    echoes = [Ether(frame.octets)[ICMP] for frame in craft("icmp-echo:count=3")]
    assert [(echo.type, echo.seq) for echo in echoes] == [(8, 1), (8, 2), (8, 3)]
    assert Variable(VARY_COUNT, 1, 1 << 16) in plan_of(parse_flood("icmp-echo", "test")).variables


@pytest.mark.parametrize(
    ("to", "order", "missing"),  # every pair of two
    [
        ("10.0.0.2", "forward", "first"),
        ("10.0.0.2", "reverse", "last"),
        ("fd00::2", "forward", "last"),
        ("fd00::2", "reverse", "first"),
    ],
)
def test_complete_datagrams_reassemble_and_others_do_not(to: str, order: str, missing: str, tmp_path: Path) -> None:
    text = f"fragments:to={to},order={order},missing={missing},incomplete=30,count=600,ports=3"
    frames = list(craft(text))
    ident = slice(18, 20) if to == "10.0.0.2" else slice(58, 62)
    datagrams = Counter(frame.octets[ident] for frame in frames)
    complete = sum(fragments == 3 for fragments in datagrams.values())
    assert set(datagrams.values()) == {2, 3}
    assert 0.6 < complete / len(datagrams) < 0.8
    path = write_pcap(tmp_path / "fragments.pcap", frames)
    protocol = "ip" if to == "10.0.0.2" else "ipv6"
    count = "ip.fragment.count" if protocol == "ip" else "ipv6.fragment.count"
    rows = judge(path, count, "udp.length")
    whole = [row for row in rows if row[count] == "3"]
    assert len(whole) == complete
    assert {row["udp.length"] for row in whole} == {"4008"}


@pytest.mark.parametrize(("share", "sizes"), [(0, {3}), (100, {2})])
def test_all_or_none_can_be_complete(share: int, sizes: set[int]) -> None:
    ids = Counter(Ether(frame.octets)[IP].id for frame in craft(f"fragments:incomplete={share},count=60"))
    assert set(ids.values()) == sizes


@pytest.mark.parametrize(
    ("group", "mac"),
    [
        ("239.1.2.3", "01:00:5e:01:02:03"),
        ("224.128.0.251", "01:00:5e:00:00:fb"),  # the 24th bit is lost
        ("ff02::1:ff00:1234", "33:33:ff:00:12:34"),
    ],
)
def test_group_has_its_mac(group: str, mac: str) -> None:
    assert group_mac(group) == mac
    assert Ether(next(craft(f"multicast:to={group},count=1")).octets).dst == mac


def test_tags_are_those_asked_for(tmp_path: Path) -> None:
    path = write_pcap(tmp_path / "tags.pcap", craft("vlan:outer=7,id=9,priority=5,count=3"))
    rows = judge(path, "ieee8021ad.id", "vlan.id", "vlan.priority")
    assert {tuple(row.values())[-3:] for row in rows} == {("7", "9", "5")}


def test_arp_asks_for_the_host(tmp_path: Path) -> None:
    fields = ("arp.opcode", "arp.src.proto_ipv4", "arp.dst.proto_ipv4", "eth.dst")
    request = judge(write_pcap(tmp_path / "ask.pcap", craft("arp:count=2")), *fields)[0]
    assert [request[field] for field in fields] == ["1", "10.0.0.1", "10.0.0.2", "ff:ff:ff:ff:ff:ff"]
    rows = judge(write_pcap(tmp_path / "say.pcap", craft("arp:op=gratuitous,spoof=10.0.0.0/24,count=50")), *fields)
    assert all(row[fields[1]] == row[fields[2]] for row in rows)
    assert len({row[fields[1]] for row in rows}) > 35


def test_file_says_which_ports_are_closed() -> None:
    (said,) = crafted_of([plan_of(parse_flood("tcp-closed-port:ports=81-83,count=5", "test")).comment])
    assert said.recipe == "tcp-closed-port:count=5,ports=81-83"
    assert (said.host_mac, said.host_addresses) == ("02:00:00:00:00:02", ["10.0.0.2"])
    assert [(socket.match, socket.local_port, socket.closed) for socket in said.sockets] == [
        ("tcp", port, True) for port in (81, 82, 83)
    ]


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("udp", Rate(over=10_000)),
        ("udp:pps=1.5M", Rate(over=1_500_000)),
        ("udp:pps=0.3", Rate(over=3, under=10)),
        ("udp:mbps=0.5", Rate(unit=RATE_BPS, over=500_000)),
        ("udp:poisson", Rate(gaps=GAPS_POISSON)),
        ("udp:burst=10ms/90ms", Rate(on_ns=10_000_000, off_ns=90_000_000)),
        ("udp:pps=1k..2k,for=2s", Rate(over=1000, ramp_ns=2 * 10**9, ramp_over=2000)),
        ("udp:mbps=2..1,ramp=1s", Rate(RATE_BPS, 2_000_000, ramp_ns=10**9, ramp_over=1_000_000)),
    ],
)
def test_rate_is_planned_exactly(text: str, rate: Rate) -> None:
    assert plan_of(parse_flood(text, "test")).rate == rate

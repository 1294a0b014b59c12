"""Rewritten captures as others see them: tshark's dissection and checksums, tcprewrite's and editcap's bytes."""

import ipaddress
from pathlib import Path
from typing import Any

import pytest
from capture_kit import PCAPS, play
from corpus import frames_of
from external_tools import run
from rewrite_kit import NS, PLAIN, capture_of, reader_of, rewrite, written
from wire_kit import read

from emu.wire.headers import CSUM_BAD, KIND_IP_FRAGMENT

SAMPLES = ("login", "mixed", "nop")
LINKTYPES = (1, 101, 113)
ADDRESSES = ("ip.src", "ip.dst", "ipv6.src", "ipv6.dst", "arp.src.proto_ipv4", "arp.dst.proto_ipv4")
PORTS = {"tcp.srcport": "tcp", "tcp.dstport": "tcp", "udp.srcport": "udp", "udp.dstport": "udp"}
STATUS = tuple(f"{name}.checksum.status" for name in ("ip", "tcp", "udp", "icmp", "icmpv6"))
TCP_FIELDS = ("tcp.stream", "tcp.seq", "tcp.ack", "tcp.len", "tcp.analysis.flags")
FOLLOWED = (*TCP_FIELDS, "iscsi.opcode", "iscsi.cmdsn", "udp.stream", "http.request.uri")
CHECKED = ("ip.check_checksum:TRUE", "tcp.check_checksum:TRUE", "udp.check_checksum:TRUE")
VALIDATE = (*CHECKED, "udp.ignore_ipv6_zero_checksum:FALSE")
UNASSEMBLED = ("ip.defragment:FALSE", "ipv6.defragment:FALSE", "tcp.try_heuristic_first:FALSE")
BAD = "0"


def seen(path: Path, fields: tuple[str, ...], preferences: tuple[str, ...] = VALIDATE) -> list[dict[str, str]]:
    """What tshark says of each frame; what occurs more than once is joined by semicolons."""
    options = [part for preference in preferences for part in ("-o", preference)]
    asked = [part for field in fields for part in ("-e", field)]
    shape = ["-T", "fields", "-E", "separator=/t", "-E", "occurrence=a", "-E", "aggregator=;"]
    lines = run("tshark", "-n", "-r", path, *options, *shape, *asked).splitlines()
    return [dict(zip(fields, line.split("\t"), strict=True)) for line in lines]


MAP_IP = ("10.66.0.0/24=192.168.7.0/24", "10.66.0.1=203.0.113.200")
MAP_PORT = ("tcp:3260=860", "udp:9000-9015=19000-19015", "9016-9023=29016-29023")
MAP_MAC = ("02:00:00:00:00:01=02:00:00:00:00:99",)


def mapped(text: str, maps: dict[str, str]) -> str:
    return ";".join(maps.get(part, part) for part in text.split(";"))


@pytest.mark.parametrize("sample", SAMPLES)
def test_tshark_follows_the_same_sessions_and_finds_no_bad_checksum(sample: str, tmp_path: Path) -> None:
    """Every frame is of the same stream at the same place, only with mapped ends."""
    original = PCAPS / f"{sample}.pcap"
    frames, report = rewrite(original, map_ip=MAP_IP, map_port=MAP_PORT, map_mac=MAP_MAC)
    assert report.frames == len(frames) >= report.changed > 0
    path = written(tmp_path / "mapped.pcap", frames)
    fields = (*ADDRESSES, *PORTS, *STATUS, *FOLLOWED)
    # 860 is iSCSI's other port; tshark is told so.
    ours = seen(path, fields, (*VALIDATE, "iscsi.target_ports:860"))
    theirs = seen(original, fields)
    addresses = {f"10.66.0.{host}": f"192.168.7.{host}" for host in range(256)} | {"10.66.0.1": "203.0.113.200"}
    udp = {str(port): str(port + (10_000 if port < 9016 else 20_000)) for port in range(9000, 9024)}
    ports = {"tcp": {"3260": "860"}, "udp": udp}
    for frame, was in zip(ours, theirs, strict=True):
        expected = {field: mapped(was[field], addresses) for field in ADDRESSES}
        expected |= {field: mapped(was[field], ports[protocol]) for field, protocol in PORTS.items()}
        assert frame == was | expected
        assert not any(BAD in frame[status].split(";") for status in STATUS)


@pytest.mark.parametrize("linktype", LINKTYPES)
def test_every_kind_of_frame_keeps_the_verdict_on_its_checksums(linktype: int, tmp_path: Path) -> None:
    """Right ones stay right and wrong ones wrong, behind tags, extension headers, in fragments and in quotes."""
    data = capture_of(frames_of(linktype).values(), linktype)
    (tmp_path / "before.pcap").write_bytes(data)
    maps = ("10.0.0.0/24=192.168.7.0/24", "2001:db8::/32=fd12:3456::/32", "fe80::/16=fd00::/16")
    frames, _ = rewrite(data, map_ip=maps, map_port=("tcp:3260=17", "udp:53=11053", "1234=4321"))
    path = written(tmp_path / "after.pcap", frames, linktype)
    fields = (*ADDRESSES, *PORTS, *STATUS)

    def address(text: str) -> str:
        if not text:
            return text
        where = ipaddress.ip_address(text)
        for old, new in (pair.split("=") for pair in maps):
            if where in ipaddress.ip_network(old):
                low = int(where) - int(ipaddress.ip_network(old)[0])
                return str(ipaddress.ip_network(new)[0] + low)
        return text

    ports = {"tcp": {"3260": "17", "1234": "4321"}, "udp": {"53": "11053", "1234": "4321"}}
    before = seen(tmp_path / "before.pcap", fields, VALIDATE + UNASSEMBLED)
    after = seen(path, fields, VALIDATE + UNASSEMBLED)
    assert any(BAD in frame["tcp.checksum.status"] for frame in before)
    for name, frame, was in zip(frames_of(linktype), after, before, strict=True):
        if name == "snap":  # an 802.3 frame: neither the host's dissection nor rewriting looks into it
            continue
        expected = dict(was)
        for field in ADDRESSES:
            expected[field] = ";".join(map(address, was[field].split(";")))
        if "two left" in name or "segments" in name:  # tshark shows the addresses on the way too, and those stay
            expected["ipv6.dst"] = frame["ipv6.dst"]
        expected |= {field: mapped(was[field], ports[protocol]) for field, protocol in PORTS.items()}
        assert (name, frame) == (name, expected)


def test_wrong_checksums_are_fixed_on_request(tmp_path: Path) -> None:
    data = capture_of(frames_of(1).values())
    frames, report = rewrite(data, fix_checksums=True)
    path = written(tmp_path / "fixed.pcap", frames)
    found = seen(path, STATUS, VALIDATE + UNASSEMBLED)
    assert [name for name, frame in zip(frames_of(1), found, strict=True) if BAD in ";".join(frame.values())] == []
    rows = [read(octets) for octets in frames_of(1).values()]
    wrong = sum(CSUM_BAD in (row.ip_csum, row.l4_csum) for row in rows)
    assert report.changed == report.checksums_fixed == wrong > 5
    assert report.checksums_left == sum(row.kind == KIND_IP_FRAGMENT for row in rows) > 5


def test_tcprewrite_makes_the_same_bytes(tmp_path: Path) -> None:
    """Of networks, ports and Ethernet addresses, on a real session; ARP too."""
    original = PCAPS / "login.pcap"
    first = seen(original, ("eth.src", "eth.dst"))[0]
    options = ["--pnat=10.66.0.0/24:192.168.7.0/24", "--portmap=3260:860"]
    options += [f"--enet-subsmac={first['eth.src']},02:00:00:00:00:77"]
    run("tcprewrite", *options, f"--infile={original}", f"--outfile={tmp_path / 'judge.pcap'}")
    judge = play(reader_of(tmp_path / "judge.pcap"), PLAIN)
    frames, _ = rewrite(
        original,
        map_ip=["10.66.0.0/24=192.168.7.0/24"],
        map_port=["3260=860"],
        map_mac=[f"{first['eth.src']}=02:00:00:00:00:77"],
    )
    assert [(f.octets, f.length, f.file_time_ns) for f in frames] == [
        (f.octets, f.length, f.file_time_ns) for f in judge
    ]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({"truncate": 70}, ["-s", "70"]),
        ({"shift_time": "+1.5s"}, ["-t", "1.5"]),
        ({"shift_time": "-250ms"}, ["-t", "-0.25"]),
    ],
)
def test_editcap_makes_the_same_frames(ours: dict[str, Any], theirs: list[str], tmp_path: Path) -> None:
    run("editcap", "-F", "pcap", *theirs, PCAPS / "nop.pcap", tmp_path / "judge.pcap")
    judge = play(reader_of(tmp_path / "judge.pcap"), PLAIN)
    frames, report = rewrite(PCAPS / "nop.pcap", **ours)
    assert frames == judge
    assert report.truncated == sum(frame.caplen < frame.length for frame in judge)


def test_the_first_frame_comes_when_it_is_asked_to() -> None:
    before = play(reader_of(PCAPS / "login.pcap"), PLAIN)
    frames, _ = rewrite(PCAPS / "login.pcap", rebase_time="2005-08-12T00:00:00.000000001Z")
    start = 1_123_804_800 * NS + 1
    gaps = [frame.file_time_ns - before[0].file_time_ns for frame in before]
    assert [frame.file_time_ns - start for frame in frames] == gaps

"""Floods beside captures, several captures on one command, and what crafted files say of the host and its sockets."""

import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from emu_process import LOGIN, MIXED, NOP, emu, emu_here, kit, refused

from emu.traffic.crafted import Crafted, CraftedSocket

PLAIN = ("--engine", "plain")


def replayed(*arguments: str | Path, code: int = 0, err: str = "", verb: str = "replay") -> dict[str, Any]:
    """The summary of a replay."""
    done = emu_here(verb, *arguments, *PLAIN, "--json")
    assert (done.code, done.err) == (code, err), done
    summary: dict[str, Any] = json.loads(done.out)
    return summary


def crafted(path: Path, kind: str, *options: str) -> Path:
    """A crafted file."""
    done = emu_here("flood", kind, *options, "-w", path)
    assert done.code == 0, done.err
    return path


def verdicts(summary: dict[str, Any]) -> dict[str, Any]:
    """A summary without what hangs on the names of files and on the machine."""
    told = ("capture", "inputs", "run", "input", "floods", "scenario_sha256")
    return {key: value for key, value in summary.items() if key not in told}


def rows_of(path: Path, *names: str) -> list[list[str]]:
    asked = [word for name in names for word in ("-e", name)]
    return [line.split("\t") for line in kit.run("tshark", "-r", path, "-T", "fields", *asked).splitlines()]


def capture(path: Path, frames: Sequence[tuple[bytes, int]], comment: str = "") -> Path:
    """A pcapng that nobody's direction is in, as other tools write it."""
    parts = [block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1) + comment_option(comment))]
    parts.append(block(1, struct.pack("<HHI", 1, 0, 0) + struct.pack("<HHB3xI", 9, 1, 9, 0)))
    for octets, time_ns in frames:
        head = struct.pack("<IIIII", 0, time_ns >> 32, time_ns & 0xFFFFFFFF, len(octets), len(octets))
        parts.append(block(6, head + octets + bytes(-len(octets) % 4)))
    path.write_bytes(b"".join(parts))
    return path


def comment_option(text: str) -> bytes:
    octets = text.encode()
    return struct.pack("<HH", 1, len(octets)) + octets + bytes(-len(octets) % 4) + bytes(4) if text else b""


def block(kind: int, body: bytes) -> bytes:
    size = struct.pack("<I", 12 + len(body))
    return struct.pack("<I", kind) + size + body + size


# Several captures.


def test_captures_on_one_command_are_merged_by_time(tmp_path: Path) -> None:
    """As mergecap puts them together; the summary names each."""
    run_merge = tmp_path / "merged.pcapng"
    kit.run("mergecap", "-w", run_merge, LOGIN, NOP)
    both, one = replayed(LOGIN, NOP), replayed(run_merge)
    assert both["capture"] == f"{LOGIN}, {NOP}"
    assert [given["capture"] for given in both["inputs"]] == [LOGIN, NOP]
    assert verdicts(both) == verdicts(one)
    assert both["frames"] == replayed(LOGIN)["frames"] + replayed(NOP)["frames"]


def test_compare_takes_several_captures_too() -> None:
    """Each policy plays all of them."""
    found = replayed(LOGIN, NOP, "--policies", "phillips-v5,mainline", verb="compare")
    assert {summary["frames"] for summary in found["policies"].values()} == {replayed(LOGIN, NOP)["frames"]}


def test_standard_input_is_one_of_several_captures() -> None:
    """Once; twice is refused."""
    done = emu("replay", "-", NOP, *PLAIN, "--json", stdin=Path(LOGIN).read_bytes())
    assert verdicts(json.loads(done.out)) == verdicts(replayed(LOGIN, NOP))
    assert refused("replay", "-", "-", code=2) == "-: standard input can be one capture only"


# Floods beside captures.


def test_a_flood_is_aimed_at_the_captures_host_and_ends_with_it(tmp_path: Path) -> None:
    """Its MAC and address are the host's, its first frame comes with the captures' first, none behind their last."""
    out = tmp_path / "v.pcapng"
    alone = replayed(LOGIN)
    found = replayed(LOGIN, "--flood", "udp:pps=1k,size=1400,ports=16", "-w", out)
    assert found["host"] == alone["host"]
    (flood,) = found["floods"]
    assert flood["recipe"] == "udp:pps=1k,ports=16,size=1400"
    assert flood["frames"] == -(-alone["duration_ns"] // 1_000_000)
    assert found["frames"] == alone["frames"] + flood["frames"]
    assert found["duration_ns"] == alone["duration_ns"]
    rows = rows_of(out, "eth.dst", "ip.dst", "udp.dstport", "frame.len", "frame.time_epoch")
    login = rows_of(Path(LOGIN), "eth.src", "ip.src", "frame.time_epoch", "tcp.dstport")
    address = next(ip for mac, ip, _, port in login if mac == alone["host"]["mac"] and port == "3260")
    ours = [row for row in rows if row[3] == "1400"]
    assert len(ours) == flood["frames"]
    assert {(row[0], row[1]) for row in ours} == {(alone["host"]["mac"], address)}
    assert sorted({int(row[2]) for row in ours}) == list(range(9000, 9016))
    assert ours[0][4] == login[0][2]
    assert float(ours[-1][4]) <= float(login[-1][2])


def test_a_flood_with_an_end_outlasts_the_captures(tmp_path: Path) -> None:
    """`count` and `for` are kept, `start` is after the captures' first frame."""
    alone = replayed(LOGIN)
    found = replayed(LOGIN, "--flood", "icmp-echo:pps=10,count=30,start=500ms", "--flood", "arp:for=1s,pps=20")
    echo, arp = found["floods"]
    assert (echo["frames"], arp["frames"]) == (30, 20)
    assert echo["start_ns"] - arp["start_ns"] == 500_000_000
    assert found["duration_ns"] == 500_000_000 + 29 * 100_000_000
    assert found["frames"] == alone["frames"] + 50


def test_endless_and_ended_floods_beside_one_capture() -> None:
    """Each keeps to its own end, whatever the order in which they are asked for."""
    one = replayed(LOGIN, "--flood", "udp:pps=1k", "--flood", "arp:count=30,pps=1k")
    two = replayed(LOGIN, "--flood", "arp:count=30,pps=1k", "--flood", "udp:pps=1k")
    assert [flood["frames"] for flood in one["floods"]] == [flood["frames"] for flood in reversed(two["floods"])]
    assert one["floods"][1]["frames"] == 30
    assert one["floods"][0]["frames"] == -(-replayed(LOGIN)["duration_ns"] // 1_000_000)


def test_a_flood_goes_where_it_is_told(tmp_path: Path) -> None:
    """`to`, `to_mac` and `device` win over the captures' host."""
    out = tmp_path / "v.pcapng"
    where = ("--device", f"eth0={LOGIN}", "--device", f"eth1={NOP}")
    found = replayed(*where, "--flood", "udp:pps=50,device=eth1,to=192.0.2.9,port=7", "-w", out)
    assert found["floods"][0]["device"] == "eth1"
    rows = [row for row in rows_of(out, "frame.interface_name", "ip.dst", "udp.dstport") if row[2] == "7"]
    assert {(row[0].removesuffix("-drop"), row[1]) for row in rows} == {("eth1", "192.0.2.9")}
    assert found["devices"]["eth1"]["rx_packets"] > replayed(*where)["devices"]["eth1"]["rx_packets"]


def test_floods_without_a_capture() -> None:
    """They are all there is; one without an end gets one, which is said, unless --limit says it."""
    said = "emu: udp: neither count nor for, and no capture: 10000 frames\n"
    assert replayed("--flood", "udp", err=said)["frames"] == 10_000
    assert replayed("--flood", "udp", "--limit", "70")["frames"] == 70
    two = replayed("--flood", "udp:count=100", "--flood", "arp:count=20,start=1s")
    assert (two["capture"], two["frames"]) == ("udp:count=100, arp:count=20,start=1s", 120)
    assert two["floods"][1]["start_ns"] - two["floods"][0]["start_ns"] == 10**9
    assert two["inputs"] == []


def test_a_flood_on_the_fly_is_the_flood_of_a_file(tmp_path: Path) -> None:
    """Nothing on disk between makes no difference to any verdict."""
    path = crafted(tmp_path / "a.pcapng", "mixed-imix", "--count", "400", "--seed", "9")
    on_the_fly, from_file = replayed("--flood", "mixed-imix:count=400,seed=9"), replayed(path)
    assert verdicts(on_the_fly) == verdicts(from_file)


def test_a_scenario_has_floods_too_and_the_command_adds_its_own(tmp_path: Path) -> None:
    """The scenario's come first; its checksum covers both."""
    scenario = tmp_path / "s.toml"
    scenario.write_text('[replay]\nflood = ["arp:count=20"]\n', encoding="utf-8")
    one = replayed("--scenario", scenario)
    two = replayed("--scenario", scenario, "--flood", "udp:count=30")
    assert [flood["recipe"] for flood in two["floods"]] == ["arp:count=20", "udp:count=30"]
    assert (one["frames"], two["frames"]) == (20, 50)
    assert one["scenario_sha256"] != two["scenario_sha256"]


def test_a_filter_and_a_limit_hold_for_crafted_frames() -> None:
    """The tally counts what was made, the filter decides what arrives."""
    found = replayed(LOGIN, "--flood", "udp:pps=1k", "--filter", "udp")
    assert found["received"] == found["floods"][0]["frames"]
    limited = replayed(LOGIN, "--flood", "udp:pps=1k", "--limit", "40")
    assert (limited["frames"], limited["input"]["limited"]) == (40, True)
    assert limited["floods"][0]["frames"] < found["floods"][0]["frames"]


def test_a_capture_without_ethernet_gets_a_flood_with_the_usual_mac(tmp_path: Path) -> None:
    """Raw IP has no MAC to aim at: the host gets one, and the flood is for it."""
    data = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 101)
    packet = kit.tcp()[14:]
    for number in range(20):
        data += struct.pack("<IIII", 1, number * 1000, len(packet), len(packet)) + packet
    (tmp_path / "raw.pcap").write_bytes(data)
    found = replayed(tmp_path / "raw.pcap", "--flood", "icmp-echo:pps=1k")
    assert found["host"]["mac"] == "02:00:00:00:00:02"
    assert found["received"] == 20 + found["floods"][0]["frames"]
    assert found["floods"][0]["frames"] == 19


def test_an_empty_capture_gives_an_endless_flood_no_frame(tmp_path: Path) -> None:
    """It ends with the captures, which are at their end: nothing to play, exit 4."""
    (tmp_path / "empty.pcap").write_bytes(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
    line = refused("replay", tmp_path / "empty.pcap", "--flood", "udp", *PLAIN, code=4)
    assert line.endswith("no frame to play")
    assert replayed(tmp_path / "empty.pcap", "--flood", "udp:count=5")["frames"] == 5


def test_the_screen_has_a_line_for_each_flood() -> None:
    """Asked and achieved."""
    done = emu_here("replay", LOGIN, *PLAIN, "--flood", "udp:pps=1k,count=11")
    line = next(line for line in done.out.splitlines() if line.startswith("crafted: "))
    assert line == (
        "crafted: udp:pps=1k,count=11: 11 frames, 704 bytes in 0.01 s; asked 1k pps, achieved 1000 pps, 0.704 Mbit/s"
    )


def test_compare_plays_the_same_flood_under_every_policy() -> None:
    """And says once what there is to say."""
    said = "emu: arp: neither count nor for, and no capture: 10000 frames\n"
    found = replayed("--flood", "arp", "--policies", "phillips-v5,mainline", verb="compare", err=said)
    floods = [summary["floods"] for summary in found["policies"].values()]
    assert floods[0] == floods[1]
    assert floods[0][0]["frames"] == 10_000


# What crafted files say.


def test_the_closed_ports_of_a_crafted_file_are_closed(tmp_path: Path) -> None:
    """From the file and on the fly; the summary says who said so.  --closed, said by the user, is all there is."""
    path = crafted(tmp_path / "a.pcapng", "tcp-closed-port", "--ports", "2", "--count", "200")
    for arguments in ([path], ["--flood", "tcp-closed-port:ports=2,count=200"]):
        found = replayed(*arguments)
        assert found["drops_by_reason"] == {"NO_SOCKET": 200}
        assert [(row["local_port"], row["closed"]) for row in found["crafted_sockets"]] == [(81, True), (82, True)]
        said = [line for line in found["assumptions"] if "crafted traffic says so" in line]
        assert said[0].startswith("'tcp' at local port 81 is closed")
    told = replayed(path, "--closed", "tcp port 81")
    assert told["drops_by_reason"]["NO_SOCKET"] == 100
    assert told["crafted_sockets"] == []


def test_a_crafted_session_on_another_port_is_memalloc_on_replay(tmp_path: Path) -> None:
    """iSCSI elsewhere than at port 3260 is known by what its file says, unless the user says otherwise."""
    path = crafted(tmp_path / "acks.pcapng", "iscsi-acks", "--port", "13260", "--writes", "40")
    found = replayed(path)
    assert found["memalloc"]["received"] == found["received"] > 40
    assert [row["memalloc"] for row in found["crafted_sockets"]] == [True]
    assert "port 13260' is memalloc" in " ".join(found["assumptions"])
    assert replayed(path, "--memalloc", "none")["memalloc"]["received"] == 0
    rule = ("--set", "socket.0.match=tcp port 13260", "--set", "socket.0.memalloc=false")
    assert replayed(path, *rule)["memalloc"]["received"] == 0


def test_a_session_on_the_fly_beside_a_flood() -> None:
    """The issue's mix: what is for block I/O is known in the midst of the rest."""
    found = replayed("--flood", "iscsi-acks:port=13260,writes=40", "--flood", "udp:count=300,size=1400")
    session, flood = found["floods"]
    assert found["memalloc"]["received"] == session["frames"]
    assert found["other"]["received"] == flood["frames"] == 300


def frames_between(host: str, peer: str) -> list[tuple[bytes, int]]:
    """More traffic from the peer than to it: who is busiest would be a toss between the two."""
    made = [kit.ether(peer, host, kit.IP(src="10.0.0.1", dst="10.0.0.2") / kit.UDP(sport=5, dport=9))] * 3
    made += [kit.ether(host, peer, kit.IP(src="10.0.0.2", dst="10.0.0.1") / kit.UDP(sport=9, dport=5))] * 5
    return [(octets, 10**9 + number) for number, octets in enumerate(made)]


def test_the_host_of_a_crafted_comment_counts_where_nothing_else_tells(tmp_path: Path) -> None:
    """Below --host, above who is busiest; not where its MAC is not met."""
    frames = frames_between(kit.HOST_MAC, kit.PEER_MAC)
    plain = replayed(capture(tmp_path / "a.pcapng", frames))
    assert plain["host"]["mac"] == kit.PEER_MAC
    said = Crafted(recipe="udp", host_mac=kit.HOST_MAC).comment()
    found = replayed(capture(tmp_path / "b.pcapng", frames, said))
    assert (found["host"]["mac"], found["host"]["because"]) == (kit.HOST_MAC, "the crafted file says so")
    assert replayed(tmp_path / "b.pcapng", "--host", kit.PEER_MAC)["host"]["mac"] == kit.PEER_MAC
    elsewhere = Crafted(recipe="udp", host_mac=kit.OTHER_MAC).comment()
    assert replayed(capture(tmp_path / "c.pcapng", frames, elsewhere))["host"]["mac"] == kit.PEER_MAC


@pytest.mark.parametrize(
    ("sockets", "said"),
    [
        ([CraftedSocket(match="sctp", closed=True)], "expected tcp or udp, found 'sctp'"),
        ([CraftedSocket(match="tcp", local_port=10**30, closed=True)], "is not a port"),
        ([CraftedSocket(match="tcp", local_port=port, closed=True) for port in range(1, 80)], "at most 64"),
    ],
)
def test_a_comment_with_impossible_sockets_is_one_line(tmp_path: Path, sockets: list[CraftedSocket], said: str) -> None:
    """Anybody may have written the file: exit 2."""
    comment = Crafted(recipe="udp:\x1b[2J\nx", sockets=sockets).comment()
    path = capture(tmp_path / "a.pcapng", frames_between(kit.HOST_MAC, kit.PEER_MAC), comment)
    line = refused("replay", path, *PLAIN, code=2)
    assert said in line
    assert line.isprintable()


@pytest.mark.parametrize("comment", ["emu crafted {", 'emu crafted {"recipe": 3}', "emu crafted", "another's"])
def test_a_damaged_comment_says_nothing(tmp_path: Path, comment: str) -> None:
    """The frames are played all the same."""
    path = capture(tmp_path / "a.pcapng", frames_between(kit.HOST_MAC, kit.PEER_MAC), comment)
    assert replayed(path)["crafted_sockets"] == []


# Bad input.


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--flood", "upd"], "--flood 'upd': no kind of flood 'upd'; did you mean 'udp'?"),
        (["--flood", ""], "--flood '': no kind of flood ''"),
        (["--flood", "udp:pps=0"], "--flood 'udp:pps=0': pps 0: expected a rate above 0"),
        (["--flood", "udp:sizes=9"], "--flood 'udp:sizes=9': sizes: unknown key 'sizes'; did you mean 'size'?"),
        (["--flood", "udp:size=20"], "size 20: udp over IPv4 needs 42 bytes"),
        (["--flood", "udp:start=soon"], "start: 'soon': expected a time such as '1.5s'"),
        (["--flood", "udp:device=eth7"], "device: 'eth7' is not one of eth0"),
        (["--flood", "udp:to=10.0.0.2,from=fd00::1"], "from fd00::1: IPv6, but the receiver's address is IPv4"),
        (["--flood", "udp:count=0"], "count: expected an integer of at least 1, found 0"),
        (["--flood", "udp:template=none.pcap"], "none.pcap"),
        (["--set", "replay.flood=['udp:pps=0']"], "replay.flood.0: 'udp:pps=0': pps 0: expected a rate"),
        (["--set", "replay.flood=7"], "replay.flood: expected an array of texts, found 7"),
    ],
)
def test_a_bad_flood_is_one_line(tmp_path: Path, arguments: list[str], said: str) -> None:
    """On both verbs; it names the text and the key: exit 2, no output."""
    for verb in ("replay", "compare"):
        output = ["-w", "v.pcapng"] if verb == "replay" else []
        line = refused(verb, NOP, *arguments, *output, *PLAIN, code=2, cwd=tmp_path)
        assert said in line
    assert list(tmp_path.iterdir()) == []


def test_a_bad_flood_of_a_scenario_is_told_with_its_line(tmp_path: Path) -> None:
    """By `emu scenarios check` as by a replay."""
    scenario = tmp_path / "s.toml"
    scenario.write_text('why = "x"\n[replay]\nflood = [\n  "arp",\n  "udp:pps=none",\n]\n', encoding="utf-8")
    done = emu_here("scenarios", "check", scenario)
    assert done.code == 2
    line = refused("replay", NOP, "--scenario", scenario, code=2)
    assert line.startswith(f"{scenario}:5: replay.flood.1: 'udp:pps=none': pps none: expected a rate above 0")
    assert line in done.out + done.err


def test_a_damaged_capture_beside_a_flood_is_told(tmp_path: Path) -> None:
    """What was sound is played, the flood ends with it: exit 3."""
    (tmp_path / "cut.pcap").write_bytes(Path(MIXED).read_bytes()[:5000])
    done = emu_here("replay", tmp_path / "cut.pcap", "--flood", "udp:pps=100", *PLAIN, "--json")
    assert done.code == 3
    assert "expected a record" in done.err
    assert json.loads(done.out)["floods"][0]["frames"] > 0

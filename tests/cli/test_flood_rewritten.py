"""Crafted traffic that is rewritten on its way into a file: frames, what the file says of them, and a replay of it."""

import json
import os
import subprocess
from decimal import Decimal
from pathlib import Path

import pytest
from emu_process import emu_here, kit, refused
from external_tools import tool

from emu.capture.reader import open_capture
from emu.engine.plain import PlainEngine
from emu.traffic.crafted import PREFIX, Crafted, crafted_of
from emu.traffic.rewrite.said import rewritten_comments
from emu.traffic.rewrite.spec import parse_rewrite


def crafted(path: Path, *arguments: str) -> Crafted:
    """Write a flood; what its file says of itself."""
    done = emu_here("flood", *arguments, "-w", path)
    assert done.code == 0, done.err
    with open_capture(str(path), PlainEngine()) as reader:
        (said,) = crafted_of(reader.section_comments)
    return said


def summary(*arguments: str | Path) -> dict[str, object]:
    """The JSON of a replay."""
    done = emu_here("replay", *arguments, "--json", "--set", "pressure.start=quiet")
    assert done.code == 0, done.err
    found: dict[str, object] = json.loads(done.out)
    return found


MAPS = (
    *("--map-ip", "10.0.0.0/24=192.168.7.0/24", "--map-port", "tcp:13260=23260"),
    *("--map-mac", "02:00:00:00:00:02=02:00:00:00:00:aa"),
)


def test_the_file_speaks_of_the_rewritten_ends(tmp_path: Path) -> None:
    path = tmp_path / "acks.pcapng"
    said = crafted(path, "iscsi-acks", "--writes", "20", "--port", "13260", *MAPS)
    assert (said.host_mac, said.host_addresses) == ("02:00:00:00:00:aa", ["192.168.7.2"])
    assert [socket.match for socket in said.sockets] == ["tcp host 192.168.7.1 port 23260"]
    found = summary(path)
    memalloc = found["memalloc"]
    assert isinstance(memalloc, dict) and memalloc["delivered"] == memalloc["received"] > 40


def test_a_replay_that_rewrites_believes_what_the_traffic_said_before(tmp_path: Path) -> None:
    path = tmp_path / "acks.pcapng"
    crafted(path, "iscsi-acks", "--writes", "20", "--port", "13260")
    plain, mapped = summary(path), summary(path, *MAPS)
    assert plain["memalloc"] == mapped["memalloc"]
    looped = summary(path, "--loop", "3", "--loop-distinct", "addresses")
    one, three = plain["memalloc"], looped["memalloc"]
    assert isinstance(one, dict) and isinstance(three, dict)
    assert three["received"] == 3 * one["received"] == three["delivered"]


def test_closed_ports_move_with_their_map(tmp_path: Path) -> None:
    said = crafted(tmp_path / "closed.pcapng", "tcp-closed-port", "--port", "81", "--count", "5", "--map-port", "81=91")
    assert [(socket.match, socket.local_port, socket.closed) for socket in said.sockets] == [("tcp", 91, True)]


def test_a_flood_is_looped_and_cut(tmp_path: Path) -> None:
    path = tmp_path / "udp.pcap"
    done = emu_here(
        *("flood", "udp", "--count", "50", "--size", "200", "--pps", "1k", "-w", path),
        *("--loop", "3", "--truncate", "96", "--rebase-time", "2020-01-01T00:00:00Z"),
    )
    assert done.code == 0, done.err
    lines = kit.run("tshark", "-r", path, "-T", "fields", "-e", "frame.time_epoch", "-e", "frame.cap_len").splitlines()
    times = [Decimal(line.split("\t")[0]) - 1_577_836_800 for line in lines]
    assert {line.split("\t")[1] for line in lines} == {"96"}
    assert times == [Decimal(n) / 1000 for n in range(150)]


def test_what_rewriting_did_is_reported() -> None:
    """On the screen and as JSON; times that could not be shifted are told, not only held."""
    held = ("flood", "udp", "--count", "3", "--shift-time", "-50000d", "--truncate", "50")
    assert json.loads(emu_here(*held, "--json").out)["rewritten"] == {
        "frames": 3,
        "changed": 0,
        "checksums_fixed": 0,
        "checksums_left": 0,
        "truncated": 3,
        "unreadable": 0,
        "times_held": 3,
        "rounds": 1,
    }
    said = emu_here(*held).out.splitlines()
    assert "frames are rewritten: 0 of 3 frames have other bytes" in said
    assert "3 frames would have been before 1970 or after 2116, and were put there" in said
    assert json.loads(emu_here("flood", "udp", "--count", "3", "--json").out)["rewritten"] is None


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (("--loop", "3"), "--loop"),
        (("--truncate", "20"), "--truncate"),
        (("--map-mac", f"{kit.HOST_MAC}={kit.PEER_MAC}"), "--map-mac"),
    ],
)
def test_rewriting_without_a_capture_is_refused(words: tuple[str, ...], option: str) -> None:
    """What is crafted on the fly is not rewritten, and that is not passed over in silence."""
    for verb in ("replay", "compare"):
        line = refused(verb, "--flood", "udp:count=3", *words, "--engine", "plain", code=2)
        assert line == f"{option}: there is no capture to rewrite; a flood is rewritten by emu flood KIND {option}"


def test_checksums_stay_right(tmp_path: Path) -> None:
    path = tmp_path / "imix.pcap"
    emu_here("flood", "mixed-imix", "--count", "500", "--map-ip", "10.0.0.0/8=172.0.0.0/8", "-w", path)
    prefs = [word for name in ("ip", "tcp", "udp") for word in ("-o", f"{name}.check_checksum:TRUE")]
    assert kit.run("tshark", "-r", path, *prefs, "-Y", "_ws.malformed or ip.checksum.status == Bad") == ""
    assert kit.run("tshark", "-r", path, *prefs, "-Y", "tcp.checksum.status == Bad or udp.checksum.status == Bad") == ""
    assert len(kit.run("tshark", "-r", path, "-Y", "ip.src == 172.0.0.1 and ip.dst == 172.0.0.2").splitlines()) == 500


@pytest.mark.parametrize(
    "damaged",
    [
        {"host_mac": "zz"},
        {"host_mac": 5},
        {"host_addresses": ["10.0.0.2/8"]},
        {"host_addresses": ["fe80::1%eth0"]},
        {"host_mac": "02:00:00:00:00:02", "host_addresses": ["nobody"]},
    ],
)
def test_what_a_hostile_file_says_of_itself_says_nothing(damaged: dict[str, object]) -> None:
    """With and without rewriting, which reads the same words."""
    comments = [PREFIX + json.dumps({"recipe": "udp", **damaged})]
    assert crafted_of(comments) == []
    assert rewritten_comments(comments, parse_rewrite(map_ip=["10.0.0.0/8=172.0.0.0/8"])) == comments


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--loop", "0"), "--loop 0: expected a number of rounds from 1 to 1000000000"),
        (("--map-ip", "10.0.0.1"), "--map-ip 10.0.0.1: expected"),
        (("--loop-gap", "1s"), "--loop-gap 1s: there is no loop"),
    ],
)
def test_what_cannot_be_is_refused(arguments: tuple[str, ...], says: str, tmp_path: Path) -> None:
    assert says in refused("flood", "udp", "--count", "5", *arguments, "-w", tmp_path / "x.pcapng", code=2)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["mixed-imix", "iscsi-acks", "fragments", "arp"])
def test_tcpreplay_sends_them(kind: str, tmp_path: Path) -> None:
    """On the loopback of a network namespace of its own, which goes with the process."""
    path = tmp_path / f"{kind}.pcapng"
    assert emu_here("flood", kind, "--count", "200", "-w", path).code == 0
    replayed = f"ip link set lo up && exec {tool('tcpreplay')} --topspeed --intf1=lo {path}"
    done = subprocess.run(
        [tool("unshare"), "-rn", "sh", "-c", replayed], capture_output=True, text=True, timeout=60, check=False
    )
    if "unshare failed" in done.stderr and not os.environ.get("EMU_REQUIRE_TOOLS"):
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    sent = [line for line in done.stdout.splitlines() if "Successful packets" in line]
    failed = [line for line in done.stdout.splitlines() if "Failed packets" in line]
    assert int(sent[0].split()[-1]) >= 200
    assert int(failed[0].split()[-1]) == 0

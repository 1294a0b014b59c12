"""Loops: time and numbers go on, rounds are told apart, both ends agree, and memory stays bounded."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from capture_kit import PCAPS, epb, idb, pcap_header, play, shb
from external_tools import run
from hypothesis import given, settings
from hypothesis import strategies as st
from replay_kit import HOST, HOST_MAC, PEER, PEER_MAC, ether
from rewrite_kit import PLAIN, capture_of, reader_of, rewrite, rewritten_reader, written
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPerror, UDPerror
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6ND_NS, IPv6
from scapy.layers.l2 import ARP, Ether

from emu.capture.frames import FrameSource
from emu.capture.reader import CaptureReader
from emu.errors import CaptureError, UsageError
from emu.kernel.machine import Packet
from emu.play import replay
from emu.scenario_file import load_scenario
from emu.task import Task
from emu.traffic.rewrite.loop import LoopedReader
from emu.traffic.rewrite.reader import Rewriter, sequence_step
from emu.traffic.rewrite.source import rewritten
from emu.traffic.rewrite.spec import parse_rewrite
from emu.verdicts.summary import summarise

TIMES = st.lists(st.integers(0, 60), max_size=12)


def looped(data: bytes, rounds: int, window: int = 1 << 16, **options: Any) -> LoopedReader:
    def again() -> CaptureReader:
        return reader_of(data, PLAIN, window)

    rewriter = Rewriter(parse_rewrite(loop=rounds, **options), PLAIN)
    return LoopedReader(again(), again, rewriter, PLAIN, window)


def timed(times_us: list[int]) -> bytes:
    """A pcapng whose frames differ in length and content."""
    blocks = [epb(bytes([at] * (1 + 3 * at)), 10_000_000 + time) for at, time in enumerate(times_us)]
    return shb() + idb(name=b"eth0") + b"".join(blocks)


@settings(deadline=None, max_examples=80)
@given(
    times=TIMES,
    rounds=st.integers(2, 5),
    window=st.integers(1, 300),
    limit=st.integers(1, 20),
    keep=st.integers(0, 30),
    gap=st.none() | st.integers(0, 90),
)
def test_rounds_follow_one_another(
    times: list[int], rounds: int, window: int, limit: int, keep: int, gap: int | None
) -> None:
    """Whatever the windows, the batches and what is kept: no round reaches back into the one before."""
    reader = looped(timed(times), rounds, window, loop_gap=None if gap is None else f"{gap}us", loop_distinct="none")
    frames = play(reader, PLAIN, limit, keep)
    once = play(reader_of(timed(times)), PLAIN)
    assert [frame.octets for frame in frames] == [frame.octets for frame in once] * rounds
    assert [frame.frame for frame in frames] == [frame.packet_id for frame in frames] == list(range(1, len(frames) + 1))
    span = max(times, default=0) - min(times, default=0)
    expected = gap * 1000 if gap is not None else span * 1000 // (len(times) - 1) if len(times) > 1 else 1_000_000
    first = [frame.file_time_ns for frame in once]
    for number in range(rounds):
        place = number * len(times)
        assert [frame.file_time_ns for frame in frames[place : place + len(times)]] == [
            time + number * (span * 1000 + expected) for time in first
        ]
    assert (reader.report.rounds, reader.damage) == (rounds if times else 1, None)


def test_a_packet_id_of_the_capture_is_that_of_its_first_round_alone() -> None:
    named = epb(b"one", 1, pairs=[(5, (77).to_bytes(8, "little"))]) + epb(b"two", 2)
    frames = play(looped(shb() + idb() + named, 2), PLAIN)
    assert [frame.packet_id for frame in frames] == [77, 2, 3, 4]


def test_interfaces_comments_and_bytes_are_those_of_all_rounds() -> None:
    data = shb(comments=[b"said"]) + idb(name=b"a") + epb(b"x" * 60, 1) + idb(name=b"b") + epb(b"y" * 60, 2, iface=1)
    reader = looped(data, 3, truncate=20)
    assert [frame.iface for frame in play(reader, PLAIN)] == [0, 1] * 3
    assert [(given.name, given.snaplen) for given in reader.interfaces] == [("a", 20), ("b", 20)]
    assert reader.section_comments == ["said"]
    assert reader.bytes_read == reader.size == 3 * len(data)


def test_only_frames_that_are_handed_out_count_as_rewritten() -> None:
    reader = looped(capture_of([b"x" * 60] * 9), 2, truncate=20)
    assert isinstance(reader, LoopedReader)
    assert reader.read(PLAIN.rows(Packet, 4), 0, 4) == 4
    assert (reader.report.frames, reader.report.truncated) == (4, 4)


def test_damage_ends_the_loop_and_is_told() -> None:
    data = capture_of([b"x" * 60, b"y" * 60])[:-1]
    reader = looped(data, 5)
    assert [frame.octets[:1] for frame in play(reader, PLAIN)] == [b"x"]
    assert "expected a record of 76 bytes" in str(reader.damage)
    assert reader.damage_offset == 24 + 16 + 60


def test_a_file_that_goes_away_ends_the_loop_and_is_told() -> None:
    def gone() -> FrameSource:
        raise CaptureError("emu cannot read test: No such file or directory")

    rewriter = Rewriter(parse_rewrite(loop=2), PLAIN)
    reader = LoopedReader(reader_of(capture_of([b"x" * 60])), gone, rewriter, PLAIN)
    assert len(play(reader, PLAIN)) == 1
    assert str(reader.damage) == "emu cannot read test: No such file or directory"


def test_an_empty_capture_stays_empty() -> None:
    assert play(looped(pcap_header(), 9), PLAIN) == []


def test_a_loop_of_what_cannot_be_read_again_is_refused() -> None:
    with pytest.raises(UsageError, match="--loop 2: this input cannot be read again; expected a file"):
        rewritten(reader_of(pcap_header()), parse_rewrite(loop=2), PLAIN)


# What tells rounds apart.

SACK = [("SAck", (0xFFFFFFF0, 16, 100, 200)), ("NOP", None), ("NOP", None)]


def segments() -> list[bytes]:
    """A connection whose numbers pass 2^32 in the first round."""
    made = []
    for sport, dport, seq, ack, flags, options in (
        (40_000, 3260, 0xFFFFFF00, 0, "S", [("MSS", 1460), ("SAckOK", b"")]),
        (3260, 40_000, 0x7FFFFFFE, 0xFFFFFF01, "SA", []),
        (40_000, 3260, 0xFFFFFF01, 0x7FFFFFFF, "PA", [("NOP", None), ("NOP", None), *SACK[:1]]),
        (3260, 40_000, 0x7FFFFFFF, 0xFFFFFFF0, "A", SACK),
        (40_000, 3260, 0x00000010, 0, "R", []),
    ):
        host = sport == 40_000
        ends = {"src": HOST, "dst": PEER} if host else {"src": PEER, "dst": HOST}
        segment = TCP(sport=sport, dport=dport, seq=seq, ack=ack, flags=flags, options=options)
        made.append(ether(HOST_MAC if host else PEER_MAC, PEER_MAC if host else HOST_MAC, IP(**ends) / segment))
    return made


def test_sequence_numbers_of_a_round_are_shifted_alike_both_ways() -> None:
    """Seq, ack where there is one, SACK blocks, modulo 2^32; checksums as Scapy computes them."""
    frames, _ = rewrite(capture_of(segments()), loop=3)
    shift = 0
    for number in range(3):
        shift = shift + sequence_step(number) & 0xFFFFFFFF if number else 0
        for octets, frame in zip(segments(), frames[5 * number : 5 * number + 5], strict=True):
            expected = Ether(octets)
            tcp = expected[TCP]
            tcp.seq = tcp.seq + shift & 0xFFFFFFFF
            if "A" in tcp.flags:
                tcp.ack = tcp.ack + shift & 0xFFFFFFFF
            tcp.options = [
                (name, tuple(edge + shift & 0xFFFFFFFF for edge in value) if name == "SAck" else value)
                for name, value in tcp.options
            ]
            del tcp.chksum
            assert frame.octets == bytes(expected)


def test_no_round_lies_within_reach_of_the_one_before() -> None:
    steps = [sequence_step(number) for number in range(1, 2000)]
    assert all(1.4e9 * 1.4 < step < 2.3e9 for step in steps)
    assert len(set(steps)) > 1990


def others() -> list[bytes]:
    """Traffic with the host: both ways, ARP, ICMP that quotes, IPv6, and between two others."""
    third = "02:00:00:00:00:03"
    return [
        ether(PEER_MAC, HOST_MAC, IP(src=PEER, dst=HOST) / UDP(sport=5, dport=6)),
        ether(HOST_MAC, PEER_MAC, IP(src=HOST, dst=PEER) / UDP(sport=6, dport=5)),
        ether(PEER_MAC, "ff:ff:ff:ff:ff:ff", ARP(psrc=PEER, pdst=HOST)),
        ether(HOST_MAC, PEER_MAC, ARP(op=2, psrc=HOST, pdst=PEER)),
        ether(
            PEER_MAC, HOST_MAC, IP(src=PEER, dst=HOST) / ICMP(type=3, code=3) / IPerror(src=HOST, dst=PEER) / UDPerror()
        ),
        ether(PEER_MAC, HOST_MAC, IPv6(src="fd00::1", dst="fd00::2") / UDP()),
        ether(HOST_MAC, PEER_MAC, IPv6(src="fd00::2", dst="fd00::1") / ICMPv6ND_NS(tgt="fd00::1")),
        ether(PEER_MAC, HOST_MAC, IPv6(src="fd00::1", dst="fd00::2") / ICMPv6ND_NA(tgt="fd00::1")),
        ether(PEER_MAC, third, IP(src=PEER, dst="10.0.0.3") / UDP(sport=1, dport=2)),
        ether(PEER_MAC, "01:00:5e:00:00:fb", IP(src=PEER, dst="224.0.0.251") / UDP(sport=1, dport=2)),
        ether(PEER_MAC, HOST_MAC, IP(src="10.0.200.2", dst=HOST) / UDP(sport=5, dport=6)),
    ]


def rebuilt(packet: Any) -> bytes:
    """The packet with checksums that Scapy computes, those of what it quotes apart."""
    packet = packet.copy()
    for layer, name in (
        (IP, "chksum"),
        (UDP, "chksum"),
        (ICMP, "chksum"),
        (ICMPv6ND_NS, "cksum"),
        (ICMPv6ND_NA, "cksum"),
    ):
        if layer in packet:
            packet[layer].delfieldval(name)
    return bytes(packet)


def test_remote_addresses_differ_from_round_to_round_and_the_host_stays() -> None:
    frames, report = rewrite(capture_of(others()), loop=3, loop_distinct="addresses", host=HOST_MAC)
    assert report.rounds == 3
    for number in range(3):
        peer, peer6 = f"10.0.{number}.1", f"fd00::{f'{number}:' if number else ''}1"
        made = [Ether(frame.octets) for frame in frames[11 * number : 11 * number + 11]]
        assert [(made[at][IP].src, made[at][IP].dst) for at in (0, 1, 4)] == [(peer, HOST), (HOST, peer), (peer, HOST)]
        assert [(made[at][ARP].psrc, made[at][ARP].pdst) for at in (2, 3)] == [(peer, HOST), (HOST, peer)]
        assert (made[4][IPerror].src, made[4][IPerror].dst) == (HOST, peer)
        assert [made[at][IPv6].src for at in (5, 6)] == [peer6, "fd00::2"]
        assert (made[6][ICMPv6ND_NS].tgt, made[7][ICMPv6ND_NA].tgt) == (peer6, peer6)
        assert (made[8][IP].src, made[8][IP].dst) == (peer, f"10.0.{number}.3")
        assert (made[9][IP].src, made[9][IP].dst) == (peer, "224.0.0.251")
        assert made[10][IP].src == f"10.0.{200 + number}.2"
        assert [rebuilt(packet) for packet in made] == [bytes(packet) for packet in made]


def test_a_remote_address_never_becomes_the_hosts() -> None:
    """10.255.255.2 would be 10.0.0.2 in the second round."""
    frame = ether(PEER_MAC, HOST_MAC, IP(src="10.255.255.2", dst=HOST) / UDP())
    frames, _ = rewrite(capture_of([frame]), loop=4, loop_distinct="addresses", host=HOST_MAC)
    assert [Ether(frame.octets)[IP].src for frame in frames] == ["10.255.255.2", "10.0.3.2", "10.0.1.2", "10.0.2.2"]


def test_clients_ports_differ_from_round_to_round() -> None:
    """Of a pair the larger one, both ways and in what is quoted; the server's stays."""
    frames, _ = rewrite(capture_of(segments()), loop=4, loop_distinct="ports")
    pairs = [tuple(sorted((Ether(f.octets)[TCP].sport, Ether(f.octets)[TCP].dport))) for f in frames]
    assert [len(set(pairs[5 * number : 5 * number + 5])) for number in range(4)] == [1] * 4
    assert {server for server, _ in pairs} == {3260}
    assert len({client for _, client in pairs}) == 4
    assert all(1024 <= client <= 65_535 for _, client in pairs)


def quiet_replay(distinct: str) -> dict[str, Any]:
    """The summary of an idle iSCSI session of which the handshake was not captured, played four times over."""
    data = (PCAPS / "nop.pcap").read_bytes()
    reader = rewritten_reader(data, loop=4, loop_distinct=distinct)
    task = Task(load_scenario(None, {}), "test", filter="tcp[13] & 7 = 0")
    summary: dict[str, Any] = summarise(replay(task, PLAIN, reader))
    return summary


@pytest.mark.parametrize("distinct", ["seq", "addresses", "ports"])
def test_a_looped_session_does_not_look_like_retransmissions(distinct: str) -> None:
    summary = quiet_replay(distinct)
    assert summary["received"] == summary["delivered"] == 72
    assert summary["drops_by_reason"] == {}


def test_a_loop_of_the_same_bytes_does() -> None:
    assert set(quiet_replay("none")["drops_by_reason"]) == {"TCP_OLD_DATA"}


def test_tshark_sees_right_checksums_in_each_round(tmp_path: Path) -> None:
    frames, _ = rewrite(PCAPS / "login.pcap", loop=3, map_ip=["10.66.0.0/24=10.7.0.0/24"])
    path = written(tmp_path / "looped.pcap", frames)
    checks = [part for name in ("ip", "tcp") for part in ("-o", f"{name}.check_checksum:TRUE")]
    bad = run("tshark", "-n", "-r", path, *checks, "-Y", "ip.checksum.status != 1 || tcp.checksum.status != 1")
    assert bad == ""
    assert run("capinfos", "-o", "-T", "-r", path).split("\t")[-1].strip() == "True"  # strict time order


def test_standard_input_is_looped_too() -> None:
    options = ["--loop", "3", "--engine", "plain", "--json", "--expect", "frames == 240"]
    with (PCAPS / "login.pcap").open("rb") as stdin:
        done = subprocess.run([sys.executable, "-m", "emu", "replay", "-", *options], stdin=stdin, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")


def test_each_of_several_captures_is_rewritten_by_itself(tmp_path: Path) -> None:
    """Both begin at the same time, and both are looped."""
    for name, second in (("a", 5), ("b", 9_000)):
        (tmp_path / name).write_bytes(shb() + idb(tsresol=0) + epb(others()[0], second) + epb(others()[1], second + 1))
    given = [part for name in ("a", "b") for part in ("--device", f"{name}={tmp_path / name}")]
    options = ["--rebase-time", "100", "--loop", "2", "--loop-gap", "1s", "--engine", "plain", "--json"]
    options += ["--expect", "frames == 8", "--expect", "duration_ns == 3000000000", "--map-port", "5=7"]
    done = subprocess.run([sys.executable, "-m", "emu", "replay", *given, *options], capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    summary = json.loads(done.stdout)
    assert summary["rewritten"] == {
        "frames": 8,
        "changed": 8,
        "checksums_fixed": 0,
        "checksums_left": 0,
        "truncated": 0,
        "unreadable": 0,
        "times_held": 0,
        "rounds": 2,
    }
    assert "captures are rewritten: 8 of 8 frames have other bytes in 2 rounds" in summary["assumptions"]

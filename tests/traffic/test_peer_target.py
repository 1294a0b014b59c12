"""An iSCSI target outside the host: what it says, when, and that no single loss stops it."""

import struct
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest
from external_tools import run
from hypothesis import given, settings
from hypothesis import strategies as st
from peer_kit import ISS, LATENCY_NS, PEER, START_NS, TARGET, WORLD, Host, Initiator
from scapy.layers.inet import TCP
from scapy.layers.l2 import Ether
from session_kit import pcap_of

from emu.kernel.closed_loop import CONN_CLOSED, CONN_ESTABLISHED
from emu.kernel.iscsi_pdu import (
    FINAL,
    IMMEDIATE,
    NO_TAG,
    OP_LOGIN_RESPONSE,
    OP_LOGOUT_RESPONSE,
    OP_NOP_IN,
    OP_R2T,
    OP_SCSI_RESPONSE,
    OP_TASK_MANAGEMENT,
    OP_TASK_MANAGEMENT_RESPONSE,
    first_word,
    high_of,
    low_of,
    word_of,
)
from emu.kernel.machine import DIR_INBOUND, DIR_OUTBOUND
from emu.kernel.tcp_seq import TCP_ACK, TCP_RST, TCP_SYN, seq_add
from emu.traffic.iscsi.conversation import TARGET_NS
from emu.traffic.peer.setup import WorldSetup
from emu.traffic.peer.wire import world_run
from emu.wire.iscsi import DataOut, SCSICommand, SCSIResponse, pdus

MS = 10**6
CHECKS = ("-o", "ip.check_checksum:TRUE", "-o", "tcp.check_checksum:TRUE")


def setup_with(**values: Any) -> WorldSetup:
    """The usual world with another target."""
    return WORLD._replace(targets=(TARGET._replace(**values),))


def opcodes(host: Initiator) -> list[int]:
    """What the host has read, in order."""
    return [said.opcode for said in host.said]


def test_a_small_write_travels_with_its_command_and_is_answered_after_its_service() -> None:
    host = Initiator((4096,))
    host.run()
    assert opcodes(host) == [OP_LOGIN_RESPONSE, OP_LOGIN_RESPONSE, OP_SCSI_RESPONSE, OP_NOP_IN, OP_LOGOUT_RESPONSE]
    assert host.answers == [(0, 101)]
    assert (host.w.target[0].writes_done, host.w.target[0].bytes_done) == (1, 4096)
    command = 2 * LATENCY_NS + 300_000  # handshake and login are over by then
    assert host.said[2].time_ns - host.said[1].time_ns > 150_000 + 2 * LATENCY_NS
    assert host.said[2].time_ns - host.said[1].time_ns < 250_000 + command


def test_the_handshake_takes_two_latencies_and_the_frames_own_time() -> None:
    host = Host()
    host.connect()
    host.run(10 * MS)
    syn_ns = (74 + 24) * 8  # a SYN with MSS, timestamps and window scale: 74 bytes
    assert [frame.time_ns - START_NS for frame in host.frames[:2]] == [0, 2 * (syn_ns + LATENCY_NS)]
    answer = Ether(host.frames[1].octets)[TCP]
    assert answer.flags == "SA" and answer.ack == seq_add(ISS, 1)
    assert dict(answer.options)["MSS"] == 1460 and dict(answer.options)["WScale"] == 7
    assert host.w.peer[0].state == CONN_ESTABLISHED


def test_answers_follow_after_the_targets_reaction_and_their_way() -> None:
    host = Initiator((65_536,))
    host.run()
    requests = [f for f in host.frames if f.direction == DIR_OUTBOUND and len(f.octets) > 80]
    login_ns = (len(requests[0].octets) + 24) * 8 + LATENCY_NS
    frame = next(f for f in host.frames if f.direction == DIR_INBOUND and len(f.octets) > 80)
    assert frame.time_ns - requests[0].time_ns == login_ns + TARGET_NS + (len(frame.octets) + 24) * 8 + LATENCY_NS


@pytest.mark.parametrize(
    ("size", "initial_r2t", "immediate", "asked"),
    [
        (65_536, True, True, [(8_192, 57_344)]),
        (2 << 20, True, True, [(8_192 + n * 262_144, 262_144) for n in range(7)] + [(1_843_200, 253_952)]),
        (65_536, True, False, [(0, 65_536)]),
        (65_536, False, True, []),
        (100_352, False, False, [(65_536, 34_816)]),
    ],
)
def test_r2ts_ask_for_what_may_not_come_unasked(
    size: int, initial_r2t: bool, immediate: bool, asked: list[tuple[int, int]]
) -> None:
    host = Initiator((size,), setup_with(initial_r2t=initial_r2t, immediate_data=immediate))
    host.run()
    r2ts = [said.word for said in host.said if said.opcode == OP_R2T]
    assert [(high_of(word[5]), low_of(word[5])) for word in r2ts] == asked
    assert [low_of(word[4]) for word in r2ts] == list(range(len(asked)))  # R2TSN
    response = next(said.word for said in host.said if said.opcode == OP_SCSI_RESPONSE)
    assert low_of(response[4]) == len(asked)  # ExpDataSN
    assert host.answers == [(0, 101)] and host.w.target[0].bytes_done == size


def test_numbers_of_commands_and_responses_run_on() -> None:
    host = Initiator((4096,) * 20)
    host.run()
    stat_sns = [high_of(said.word[3]) for said in host.said if said.opcode != OP_R2T]
    assert stat_sns == [seq_add(stat_sns[0], n) for n in range(len(stat_sns))]
    last = [said.word for said in host.said if said.opcode == OP_SCSI_RESPONSE and said.word[0] >> 32 & 0xFF == 0][-1]
    assert low_of(last[3]) == seq_add(0xFFFFFFFE, 20)
    assert low_of(last[3]) == seq_add(high_of(last[4]), -7)  # MaxCmdSN: room for a whole queue


def test_more_commands_than_the_queue_holds_find_the_task_set_full() -> None:
    host = Initiator((4096,) * 10, setup_with(immediate_data=False))
    host.run()
    assert Counter(status for status, _ in host.answers) == {0x00: 8, 0x28: 2}
    assert host.w.target[0].refused == 2


def test_no_read_is_served() -> None:
    class Reader(Initiator):
        def begin(self) -> None:
            self.command(0, flags=0x40, first=0x28 << 24)

    host = Reader((0,))
    host.run()
    assert host.answers == [(0x02, 101)]
    frame = next(f for f in host.frames if f.direction == DIR_INBOUND and b"\x00\x12\x70\x00\x05" in f.octets)
    (response,) = pdus(bytes(Ether(frame.octets)[TCP].payload))
    assert isinstance(response, SCSIResponse) and response.Status == 2


def test_an_aborted_command_is_never_answered() -> None:
    class Aborter(Initiator):
        def begin(self) -> None:
            itt = self.command(4096)
            words = (word_of(0x99, itt), word_of(self.cmd_sn, self.stat_sn), 0, 0)
            self.write_pdu(first_word(OP_TASK_MANAGEMENT | IMMEDIATE, FINAL | 1, 0), 0, *words)

    host = Aborter((4096,))
    host.run(1_000 * MS)
    assert opcodes(host)[2:] == [OP_TASK_MANAGEMENT_RESPONSE]
    assert host.w.target[0].outstanding == 0 and host.answers == []


def test_what_a_target_cannot_understand_resets_the_connection() -> None:
    class Babbler(Initiator):
        def begin(self) -> None:
            self.write_pdu(first_word(0x3E, FINAL, 0), 0, 0, 0, 0, 0)

    host = Babbler((4096,))
    host.run(1_000 * MS)
    assert Ether(host.frames[-1].octets)[TCP].flags == "RA"
    assert host.conn.state == host.w.peer[0].state == CONN_CLOSED


def test_a_target_pings_when_told_to_and_waits_for_the_answer() -> None:
    class Idle(Initiator):
        def begin(self) -> None:
            """Do nothing but answer."""

    host = Idle((4096,), setup_with(nop_interval_ns=10 * MS))
    host.run(95 * MS)
    pings = [said for said in host.said if said.opcode == OP_NOP_IN]
    assert len(pings) == 9 and all(high_of(ping.word[2]) == NO_TAG for ping in pings)


LOSSY = (20_480, 4_096)
LOSSLESS = Initiator(LOSSY)
LOSSLESS.run()


@pytest.mark.parametrize("lost", range(len(LOSSLESS.frames)))
def test_the_loss_of_any_frame_is_made_good(lost: int) -> None:
    host = Initiator(LOSSY, lost=(lost,))
    host.run()
    assert host.logged_out and sorted(host.answers) == [(0, 101), (0, 102)]
    assert host.w.target[0].bytes_done == sum(LOSSY) and host.w.target[0].writes_done == 2
    assert Counter(opcodes(host)) == Counter(opcodes(LOSSLESS))
    took_ns = host.now_ns - START_NS
    assert took_ns < 3_100 * MS + (LOSSLESS.now_ns - START_NS)  # a SYN's timeout at most
    if host.frames[lost].direction == DIR_OUTBOUND:
        assert host.w.lost_on_wire == host.w.lost_from_host == 1


def segments_of_stream(host: Initiator) -> tuple[int, int]:
    """A logged-in host whose command of 20 KiB with all its data is written, but not sent: where, how much."""
    host.run(2 * MS)
    begin = host.conn.snd_nxt
    host.command(20_480)
    return begin, (host.conn.write_seq - begin) & 0xFFFFFFFF


class Silent(Initiator):
    """Logs in and does nothing."""

    def begin(self) -> None:
        """Nothing."""


@settings(max_examples=25, deadline=None)
@given(
    pieces=st.lists(st.tuples(st.integers(0, 20_000), st.integers(1, 1_448)), max_size=30),
    order=st.randoms(use_true_random=False),
)
def test_segments_may_come_twice_out_of_order_and_overlapping(pieces: list[tuple[int, int]], order: Random) -> None:
    host = Silent((), setup_with(initial_r2t=False))
    begin, length = segments_of_stream(host)
    pieces = [(at, min(size, length - at)) for at, size in pieces if at < length]
    pieces += [(at, min(1_448, length - at)) for at in range(0, length, 1_448)]
    order.shuffle(pieces)
    come: set[int] = set()
    for at, size in pieces:
        host.emit(seq_add(begin, at), size, TCP_ACK)
        come.update(range(at, at + size))
        host.now_ns += 100_000
        host.engine.fill(host.w, {"now_ns": host.now_ns})
        world_run(host.w, host.m, host.store)
        expected = next(n for n in range(length + 1) if n not in come)
        assert host.w.peer[0].rcv_nxt == seq_add(begin, expected)
    target = host.w.target[0]
    assert target.commands == 1 and target.outstanding <= 1
    host.engine.fill(host.w, {"now_ns": host.now_ns + MS})
    world_run(host.w, host.m, host.store)
    assert target.bytes_done == 20_480 and target.writes_done == 1


def test_a_new_connection_replaces_the_session_and_what_was_under_way_is_forgotten() -> None:
    host = Initiator((65_536,))
    while not any(said.opcode == OP_R2T for said in host.said):
        host.run(host.now_ns - START_NS + 10_000)
    assert host.w.target[0].outstanding == 1
    old_port, old_next = host.conn.sport, host.conn.snd_nxt
    host.cmd_sn = 1
    host.connect(port=old_port + 1, iss=12_345)
    host.emit(old_next, 0, TCP_ACK)  # says the new port: neither number is in the new windows
    host.run()
    assert host.logged_out and host.w.target[0].logins == 2
    assert host.answers[-1][0] == 0 and host.w.target[0].bytes_done == 65_536
    assert host.w.peer[0].generation == 2


def test_frames_of_a_connection_that_was_opened_anew_meanwhile_never_reach_the_host() -> None:
    host = Initiator((4096,))
    while len(host.said) < 1:
        host.run(host.now_ns - START_NS + 5_000)
    host.connect(port=60_000, iss=99)  # its SYN overtakes nothing, but the target may still be sending
    host.run()
    ports = {Ether(f.octets)[TCP].dport for f in host.frames if f.direction == DIR_INBOUND}
    assert ports == {50_000, 60_000} and host.logged_out


def test_a_syn_again_is_answered_again_and_opens_nothing() -> None:
    host = Host()
    host.connect()
    host.emit(ISS, 0, TCP_SYN)
    host.run(MS)
    answers = [Ether(f.octets)[TCP].flags for f in host.frames if f.direction == DIR_INBOUND]
    assert answers[:2] == ["SA", "SA"] and host.w.peer[0].generation == 1


def test_a_reset_outside_of_the_window_is_ignored_and_one_inside_is_not() -> None:
    host = Silent(())
    host.run(2 * MS)
    host.emit(seq_add(host.conn.snd_nxt, 1 << 30), 0, TCP_RST)
    host.run(3 * MS)
    assert host.w.peer[0].state == CONN_ESTABLISHED and host.w.strays == 1
    host.emit(host.conn.snd_nxt, 0, TCP_RST)
    host.run(4 * MS)
    assert host.w.peer[0].state == CONN_CLOSED
    host.emit(host.conn.snd_nxt, 0, TCP_ACK, ack=77)
    host.run(5 * MS)
    answer = Ether(host.frames[-1].octets)[TCP]
    assert answer.flags == "R" and answer.seq == 77


def test_the_same_seed_makes_the_same_bytes_and_another_one_others() -> None:
    hosts = [Initiator((20_480,), WORLD._replace(seed=seed)) for seed in (3, 3, 4)]
    for host in hosts:
        host.run()
    one, again, other = ([frame.octets for frame in host.frames] for host in hosts)
    assert one == again and one[1] != other[1]


def stream_bytes(host: Initiator, direction: int) -> bytes:
    """One direction of the conversation, put together by sequence numbers."""
    pieces: dict[int, bytes] = {}
    for frame in host.frames:
        segment = Ether(frame.octets)[TCP]
        payload = bytes(segment.payload)[: struct.unpack_from(">H", frame.octets, 16)[0] - 20 - 4 * segment.dataofs]
        if frame.direction == direction and payload:
            pieces[segment.seq] = payload
    seq = seq_add(ISS, 1) if direction == DIR_OUTBOUND else min(pieces)
    octets = b""
    while seq in pieces:
        octets += pieces[seq]
        seq = seq_add(seq, len(pieces[seq]))
    return octets


def test_scapy_reads_back_what_the_host_said() -> None:
    host = Initiator((65_536,))
    host.run()
    found = list(pdus(stream_bytes(host, DIR_OUTBOUND)))
    data = [bytes(pdu.Data) for pdu in found if isinstance(pdu, (SCSICommand, DataOut))]
    assert sum(len(each) for each in data) == 65_536
    assert all(each == bytes(host.pool[: len(each)]) for each in data)


def test_tshark_finds_nothing_wrong_and_counts_the_same_pdus(tmp_path: Path) -> None:
    host = Initiator((4096, 65_536, 2 << 20), setup_with(nop_interval_ns=5 * MS))
    host.run()
    path = pcap_of(host.frames, tmp_path / "peer.pcap")
    fields = ("frame.number", "ip.checksum.status", "tcp.checksum.status", "_ws.malformed", "tcp.analysis.flags")
    asked = [word for field in (*fields, "iscsi.opcode") for word in ("-e", field)]
    shown = run("tshark", "-n", "-r", path, *CHECKS, "-Tfields", "-Eseparator=/t", *asked).splitlines()
    rows = [line.split("\t") for line in shown]
    assert len(rows) == len(host.frames)
    assert [row for row in rows if row[1] != "1" or row[2] != "1" or row[3]] == []
    assert [row for row in rows if row[4]] == []  # no retransmission, no hole, no full window
    seen = Counter(int(word, 0) for row in rows for word in row[5].split(",") if word)
    asked_for = Counter(opcodes(host))
    data_outs = sum(-(-low_of(said.word[5]) // 8_192) for said in host.said if said.opcode == OP_R2T)
    answered = asked_for[OP_NOP_IN] - 1  # one was the answer to the host's own ping
    assert seen == asked_for + Counter({0x00: 1 + answered, 0x01: 3, 0x03: 2, 0x05: data_outs, 0x06: 1})


def test_peer_is_who_it_says() -> None:
    host = Host()
    host.connect()
    host.run(MS)
    first, second = (Ether(frame.octets) for frame in host.frames[:2])
    assert (first.src, first.dst) == (second.dst, second.src) == ("02:00:00:00:00:02", "02:01:0a:00:00:01")
    assert (second["IP"].src, second[TCP].sport) == (PEER.address, PEER.port)

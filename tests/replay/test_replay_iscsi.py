"""Replays that follow iSCSI: which responses free their write's pages, and what comes again after it was lost."""

import json
import struct
from pathlib import Path
from typing import Any

import iscsi_kit
import pytest
from replay_kit import (
    HOST,
    HOST_MAC,
    IP,
    ISCSI,
    NS,
    PCAPS,
    PEER_MAC,
    TARGET,
    TCP,
    Frame,
    Raw,
    column,
    ether,
    log_of,
    outputs_in,
    pcap,
    played,
    run,
    udp,
)

from emu.task import Outputs
from emu.wire.iscsi import SCSICommand

MS = 1_000_000
PORT = 40_000
ANSWERS_FROM, REQUESTS_FROM = 0xFFFFFF00, 5_000  # the answers' sequence numbers wrap
QUIET = {"pressure.start": "quiet", "at": [{"time": 0, "action": "pages", "value": 1000}]}


def command(itt: int, length: int, writes: bool = True) -> bytes:
    """A SCSI Command; of a write without immediate data, as R2T asks for it."""
    flags = 0xA0 if writes else 0xC0
    return struct.pack(">BBHIQIIIIQQ", 1, flags, 0, 0, 1 << 48, itt, length, itt, 1, 0x2A << 56, 0)


def response(itt: int) -> bytes:
    """A SCSI Response: good."""
    return struct.pack(">BBHIQIIIIIIII", 0x21, 0x80, 0, 0, 0, itt, 0, itt, itt, 99, 0, 0, 0)


def data_in(itt: int, length: int, status: bool) -> bytes:
    """A Data-In with or without its command's status."""
    head = struct.pack(">BBHIQIIIIIIII", 0x25, 0x81 if status else 0x80, 0, length, 0, itt, NO_TAG, 0, 0, 99, 0, 0, 0)
    return head + bytes(length + -length % 4)


NO_TAG = 0xFFFFFFFF


def login_response(text: bytes) -> bytes:
    """A login response that ends the login and answers with this text."""
    head = struct.pack(">BBHIQIIIIIIQ", 0x23, 0x87, 0, len(text), 1, 1, 0, 1, 1, 99, 0, 0)
    return head + text + bytes(-len(text) % 4)


class Talk:
    """A connection: each frame takes the next numbers of its direction; 1 ms lies between two frames."""

    def __init__(self, greet: bool = True) -> None:
        """Connect, unless the capture begins late."""
        self.frames: list[Frame] = []
        self.sent, self.got = REQUESTS_FROM, ANSWERS_FROM
        if greet:
            self.host(b"", "S", seq=REQUESTS_FROM - 1)
            self.target(b"", "SA", seq=ANSWERS_FROM - 1)

    def add(self, octets: bytes, length: int | None = None, cut: int | None = None) -> None:
        """A frame, of which the capture has `cut` bytes."""
        when = NS + len(self.frames) * MS
        self.frames.append(Frame(octets[:cut], when, len(octets) if cut is not None else length))

    def host(self, payload: bytes, flags: str = "PA", seq: int | None = None, **how: Any) -> None:
        """The initiator sends."""
        number = self.sent if seq is None else seq
        segment = TCP(sport=PORT, dport=ISCSI, flags=flags, seq=number % (1 << 32), ack=self.got % (1 << 32))
        self.add(ether(HOST_MAC, PEER_MAC, IP(src=HOST, dst=TARGET) / segment / Raw(payload)), **how)
        self.sent += len(payload) if seq is None else 0

    def target(self, payload: bytes, flags: str = "PA", seq: int | None = None, **how: Any) -> None:
        """The target sends."""
        number = self.got if seq is None else seq
        segment = TCP(sport=ISCSI, dport=PORT, flags=flags, seq=number % (1 << 32), ack=self.sent % (1 << 32))
        self.add(ether(PEER_MAC, HOST_MAC, IP(src=TARGET, dst=HOST) / segment / Raw(payload)), **how)
        self.got += len(payload) if seq is None else 0

    def wait(self, until_ms: int) -> None:
        """Another host's frame at this time, so that the next ones come later."""
        self.frames.append(Frame(udp(9), NS + until_ms * MS))


def found(frames: list[Frame], policy: str = "phillips-v5", **settings: Any) -> dict[str, Any]:
    """The summary of a quiet replay in which others hold 1000 pages."""
    return played(pcap(frames), policy=policy, settings=QUIET | settings).summary


def iscsi(frames: list[Frame], **how: Any) -> dict[str, int]:
    """What the summary says of iSCSI."""
    said: dict[str, int] = found(frames, **how)["iscsi"]
    return said


def away(start_ms: int, end_ms: int) -> dict[str, Any]:
    """The interface is down for a time: what comes then is dropped at the NIC."""
    plan = [*QUIET["at"], {"time": start_ms * MS, "action": "down", "device": "eth0"}]
    return {"at": [*plan, {"time": end_ms * MS, "action": "up", "device": "eth0"}]}


def test_a_delivered_response_frees_the_pages_of_its_write() -> None:
    """8193 bytes are three pages; the read has none; the response to nobody is counted."""
    talk = Talk()
    talk.host(command(1, 8193) + command(2, 4096, writes=False))
    talk.target(data_in(2, 4096 - 3, status=True))
    assert iscsi(talk.frames)["pages_freed"] == 0
    talk.target(response(1) + response(77))
    summary = found(talk.frames)
    assert summary["iscsi"] == {
        "flows": 1,
        "commands": 2,
        "writes": 1,
        "responses": 3,
        "unmatched": 1,
        "pages_written": 3,
        "pages_short": 0,
        "pages_freed": 3,
        "pages_stuck": 0,
        "responses_lost": 0,
        "resyncs": 0,
        "skipped_bytes": 0,
        "truncated": 0,
    }
    assert any("1 writes put 3 pages under write-back" in said for said in summary["assumptions"])


def test_a_dropped_response_frees_nothing_and_later_ones_free_theirs() -> None:
    """The response to write 1 meets an interface that is down; open loop, the connection goes on."""
    talk = Talk()
    talk.host(command(1, 4096) + command(2, 8192))
    talk.target(response(1))
    talk.wait(10)
    talk.target(response(2))
    talk.frames[-1] = talk.frames[-1]._replace(time_ns=NS + 11 * MS)
    said = iscsi(talk.frames, **away(3, 9))
    assert (said["pages_written"], said["pages_freed"], said["responses_lost"]) == (3, 2, 1)


def test_a_lost_half_of_a_response_is_a_lost_response_until_the_capture_brings_it_again() -> None:
    """A captured retransmission is a fresh arrival: then the response is whole."""
    talk = Talk()
    talk.host(command(1, 4096))
    at = talk.got
    talk.target(response(1)[:20])  # 3 ms: the interface is down
    talk.wait(10)
    talk.target(response(1)[20:])
    talk.frames[-1] = talk.frames[-1]._replace(time_ns=NS + 11 * MS)
    said = iscsi(talk.frames, **away(3, 9))
    assert (said["pages_freed"], said["responses_lost"]) == (0, 1)
    talk.target(response(1)[:20], seq=at)
    talk.frames[-1] = talk.frames[-1]._replace(time_ns=NS + 12 * MS)
    said = iscsi(talk.frames, **away(3, 9))
    assert (said["pages_freed"], said["responses_lost"]) == (1, 0)


def test_a_response_counts_when_it_is_read() -> None:
    """Where nobody reads the initiator's socket, nothing is freed."""
    talk = Talk()
    talk.host(command(1, 4096))
    talk.target(response(1))
    assert iscsi(talk.frames, **{"readers.memalloc": "never"})["pages_freed"] == 0
    assert iscsi(talk.frames, **{"readers.memalloc": "rate", "readers.rate": 500})["pages_freed"] == 1
    assert iscsi(talk.frames, **{"readers.memalloc": "needs-memory"})["pages_freed"] == 1


@pytest.mark.parametrize("size", [5, 48, 100, 1400])
def test_pdus_are_found_across_segments(size: int) -> None:
    """However the bytes are cut into segments, the same PDUs are in them."""
    talk = Talk()
    requests = b"".join(command(itt, 4096 * itt) for itt in range(1, 5))
    answers = b"".join(data_in(9, 70, status=False) + response(itt) for itt in range(1, 5))
    for at in range(0, len(requests), size):
        talk.host(requests[at : at + size])
    for at in range(0, len(answers), size):
        talk.target(answers[at : at + size])
    said = iscsi(talk.frames)
    assert (said["commands"], said["responses"], said["pages_freed"]) == (4, 4, 10)


def test_segments_out_of_order_and_twice_change_nothing() -> None:
    """The second half of a command comes first, and the first half twice; so with the answers."""
    talk = Talk()
    first, answers = command(1, 4096) + command(2, 4096), response(1) + response(2)
    sent, got = talk.sent, talk.got
    for seq, part in ((60, first[60:]), (0, first[:60]), (0, first[:60])):
        talk.host(part, seq=sent + seq)
    for seq, part in ((30, answers[30:]), (0, answers[:30]), (0, answers[:30])):
        talk.target(part, seq=got + seq)
    said = iscsi(talk.frames)
    assert (said["commands"], said["responses"], said["pages_freed"], said["resyncs"]) == (2, 2, 2, 0)


def test_a_capture_that_begins_late_is_followed_from_the_first_header() -> None:
    """What comes before it is no PDU to us, and is no loss either: nothing was in step yet."""
    talk = Talk(greet=False)
    talk.host(bytes(100))
    talk.host(command(1, 4096))
    talk.target(response(1))
    said = iscsi(talk.frames)
    assert (said["flows"], said["commands"], said["pages_freed"], said["resyncs"]) == (1, 1, 1, 0)


def test_frames_that_the_capture_lacks_cost_what_was_in_them_and_no_more() -> None:
    """A command is missing; the target's acknowledgement shows that it was sent, and the next one is found."""
    talk = Talk()
    talk.host(command(1, 4096))
    talk.sent += 48  # command 2
    talk.host(command(3, 4096))
    talk.target(response(1) + response(2) + response(3))
    said = iscsi(talk.frames)
    assert (said["commands"], said["responses"], said["unmatched"], said["pages_freed"]) == (2, 3, 1, 2)
    assert (said["resyncs"], said["skipped_bytes"]) == (1, 48)


def test_data_that_the_capture_lacks_or_cuts_off_is_passed_over() -> None:
    """Of a data segment the length is known: cut by a snap length, or missing, it keeps the stream in step."""
    talk = Talk()
    talk.host(command(1, 4096) + command(2, 4096, writes=False))
    whole = data_in(2, 3000, status=True)
    talk.target(whole[:1000], cut=54 + 60)
    talk.got += 1000  # a segment that the capture lacks
    talk.target(whole[2000:] + response(1))
    talk.host(b"", "A")  # the host has it all
    talk.target(response(99))
    said = iscsi(talk.frames)
    assert (said["truncated"], said["resyncs"], said["pages_freed"], said["unmatched"]) == (1, 0, 1, 1)


@pytest.mark.parametrize("burst", [500, 3072])
@pytest.mark.parametrize("digests", [0, 1, 2, 3])
def test_every_kind_of_pdu_keeps_the_stream_in_step(digests: int, burst: int) -> None:
    """Every PDU that there is, with AHS, padding, sense data and digests, in segments of 1460 bytes."""
    pdus = iscsi_kit.conversation(digests, burst)
    frames = [Frame(octets, NS + at * MS) for at, octets in enumerate(iscsi_kit.frames_of(pdus))]
    said = iscsi(frames)
    writes = [pdu for pdu in pdus if isinstance(pdu, SCSICommand)]
    assert (said["commands"], said["responses"], said["unmatched"]) == (len(writes), len(writes), 0)
    assert (said["pages_freed"], said["resyncs"], said["skipped_bytes"]) == (said["pages_written"], 0, 0)


@pytest.mark.parametrize("cut", [True, False])
def test_a_header_that_is_cut_off_is_lost_until_a_segment_begins_with_one(cut: bool) -> None:
    """The second of two responses in a segment lies behind the snap length."""
    talk = Talk()
    talk.host(command(1, 4096) + command(2, 4096) + command(3, 4096))
    talk.target(response(1) + response(2), cut=54 + 60 if cut else None)
    talk.target(response(3))
    said = iscsi(talk.frames)
    assert (said["responses"], said["pages_freed"], said["resyncs"]) == ((2, 2, 1) if cut else (3, 3, 0))


def test_digests_are_as_the_login_says() -> None:
    """Behind the login each header has four bytes of digest, and so has each data segment."""
    talk = Talk()
    talk.target(login_response(b"TargetPortalGroupTag=1\0HeaderDigest=CRC32C\0DataDigest=CRC32C\0"))
    talk.host(command(1, 4096) + b"\xff" * 4 + command(2, 4096) + b"\xff" * 4)
    talk.target(data_in(7, 5, status=False)[:48] + b"\xff" * 4 + bytes(8) + b"\xff" * 4 + response(1) + b"\xff" * 4)
    talk.target(response(2) + b"\xff" * 4)
    said = iscsi(talk.frames)
    assert (said["commands"], said["responses"], said["pages_freed"], said["resyncs"]) == (2, 2, 2, 0)


def test_a_new_connection_of_the_same_addresses_forgets_the_old_one() -> None:
    """The tag is used again: the new write is another one, the old one's pages are dirty and not free."""
    talk = Talk()
    talk.host(command(1, 40960))
    talk.host(b"", "S", seq=REQUESTS_FROM - 1)
    talk.target(b"", "SA", seq=ANSWERS_FROM - 1)
    talk.sent, talk.got = REQUESTS_FROM, ANSWERS_FROM
    talk.host(command(1, 4096))
    talk.target(response(1))
    said = iscsi(talk.frames)
    assert (said["flows"], said["pages_written"], said["pages_freed"], said["pages_stuck"]) == (2, 11, 1, 0)
    talk.host(command(2, 4096) + command(2, 8192))
    talk.target(response(2))
    said = iscsi(talk.frames)
    assert (said["pages_written"], said["pages_freed"], said["pages_stuck"]) == (14, 3, 1)


def test_more_connections_and_writes_than_there_are_rows_for() -> None:
    """Nine connections with one write each, and one with three hundred: the oldest give way."""
    frames: list[Any] = []
    for port in range(9):
        talk = Talk()
        talk.host(command(1, 4096))
        for frame in talk.frames:
            octets = bytearray(frame.octets)
            at = 34 if octets[34:36] == PORT.to_bytes(2, "big") else 36
            octets[at : at + 2] = (PORT + port).to_bytes(2, "big")
            octets[50:52] = bytes(2)
            frames.append(Frame(bytes(octets), NS + len(frames) * MS))
    said = iscsi(frames, **{"replay.checksums": "trust"})
    assert (said["flows"], said["pages_written"]) == (9, 9)
    talk = Talk()
    talk.host(b"".join(command(itt, 4096) for itt in range(300)))
    talk.target(b"".join(response(itt) for itt in range(300)))
    said = iscsi(talk.frames, **{"replay.offload": "jumbo"})
    assert (said["commands"], said["responses"], said["unmatched"], said["pages_freed"]) == (300, 300, 44, 256)


def test_lost_responses_are_counted_however_many_they_are() -> None:
    """Of three hundred that are lost the first are forgotten; what is delivered behind them still counts."""
    talk = Talk()
    talk.host(b"".join(command(itt, 4096) for itt in range(200)))
    talk.target(b"".join(response(itt) for itt in range(200)))
    talk.target(b"".join(response(itt) for itt in range(1000, 1100)))
    talk.target(response(7))
    talk.frames[-1] = talk.frames[-1]._replace(time_ns=NS + 11 * MS)
    said = iscsi(talk.frames, **away(3, 9), **{"replay.offload": "jumbo"})
    assert (said["responses"], said["responses_lost"], said["pages_freed"]) == (1, 300, 1)


def test_what_nobody_holds_cannot_be_written() -> None:
    """A quiet machine has no pages of others; nothing is invented."""
    talk = Talk()
    talk.host(command(1, 4096))
    talk.target(response(1))
    said = iscsi(talk.frames, at=[])
    assert (said["pages_written"], said["pages_short"], said["pages_freed"], said["responses"]) == (0, 1, 0, 1)


def test_write_back_is_ignored_when_it_is_to_be() -> None:
    """And without iSCSI there is nothing to say; UDP to the port is none."""
    talk = Talk()
    talk.host(command(1, 4096))
    talk.target(response(1))
    assert found(talk.frames, **{"replay.write_back": "ignored"})["iscsi"] is None
    assert found([Frame(udp(ISCSI), NS)])["iscsi"] is None


def test_memalloc_flows_of_other_ports_are_followed_where_they_look_like_iscsi() -> None:
    """A target at port 3261, which the user names."""
    talk = Talk()
    talk.host(command(1, 4096))
    talk.target(response(1))
    other = [frame._replace(octets=frame.octets.replace(b"\x0c\xbc", b"\x0c\xbd")) for frame in talk.frames]
    settings = QUIET | {"replay.checksums": "trust"}
    assert played(pcap(other), settings=settings, host=HOST).summary["iscsi"] is None
    settings |= {"replay.memalloc": "tcp port 3261"}
    assert played(pcap(other), settings=settings, host=HOST).summary["iscsi"]["pages_freed"] == 1


def test_the_writes_of_a_real_capture_are_those_that_tshark_sees() -> None:
    """Every command, response and page of mixed.pcap; on a quiet machine all of them come back."""
    capture = PCAPS / "mixed.pcap"
    fields = ("-e", "iscsi.scsicommand.W", "-e", "iscsi.scsicommand.expecteddatatransferlength")
    lines = run("tshark", "-r", capture, "-Y", "iscsi.opcode == 0x01", "-T", "fields", "-E", "aggregator=;", *fields)
    rows = [line.split("\t") for line in lines.splitlines()]
    pairs = [pair for writes, sizes in rows for pair in zip(writes.split(";"), sizes.split(";"), strict=True)]
    pages = sum((int(size) + 4095) // 4096 for writes, size in pairs if writes in ("1", "True"))
    said = played(capture, settings=QUIET | {"readers.ordinary": "immediate"}).summary["iscsi"]
    assert (said["commands"], said["responses"], said["unmatched"]) == (len(pairs), len(pairs), 0)
    assert (said["pages_written"], said["pages_freed"]) == (pages, pages)


def test_pages_that_come_back_save_packets() -> None:
    """Three bursts of 60 writes on mainline: 180 pages come back, and more of the others' packets find a buffer."""
    saved = [
        played(PCAPS / "mixed.pcap", policy="mainline", settings={"replay.write_back": how}, limit=3000).summary
        for how in ("ignored", "followed")
    ]
    assert saved[1]["iscsi"]["pages_freed"] == 180
    assert saved[1]["other"]["delivered"] > saved[0]["other"]["delivered"]


# --- --retransmit ----------------------------------------------------------------------------------------------------


def lost(down_until_ms: int) -> tuple[list[Frame], dict[str, Any]]:
    """The response to write 1 is sent while the interface is down, that to write 2 when it is up again."""
    talk = Talk()
    talk.host(command(1, 4096) + command(2, 8192))
    talk.target(response(1))
    talk.frames[-1] = talk.frames[-1]._replace(time_ns=NS + 10 * MS)
    talk.target(response(2))
    talk.frames[-1] = talk.frames[-1]._replace(time_ns=NS + (down_until_ms + 5) * MS)
    settings = away(5, down_until_ms) | {"replay.retransmit": True, "replay.drain_ns": 2 * NS}
    return talk.frames, settings


@pytest.mark.parametrize(
    ("down_until_ms", "arrivals"),
    [(100, 1), (209, 1), (211, 2), (609, 2), (611, 3), (1409, 3), (1411, 4)],
)
def test_a_lost_segment_comes_again_after_200_400_800_ms(down_until_ms: int, arrivals: int) -> None:
    """It was lost at 10 ms: it comes at 210, 610, 1410 and 3010 ms until it is delivered."""
    frames, settings = lost(down_until_ms)
    summary = found(frames, **settings)
    again = {"arrivals": arrivals, "delivered": 1, "dropped": arrivals - 1, "waiting": 0}
    assert summary["retransmitted"] == again
    assert (summary["iscsi"]["pages_freed"], summary["iscsi"]["responses_lost"]) == (3, 0)
    assert summary["memalloc"] == {"received": 3, "delivered": 2, "dropped": 1}
    assert (summary["frames"], summary["sockets"]["holes_filled"]) == (5, 0)


def test_later_segments_wait_for_the_one_that_is_lost() -> None:
    """What is behind the hole frees nothing before the hole is filled; the open loop fills it at once."""
    frames, settings = lost(100)
    waits = settings | {"replay.drain_ns": 100 * MS}
    summary = found(frames, **waits)
    assert summary["iscsi"]["pages_freed"] == 0
    assert summary["retransmitted"] == {"arrivals": 0, "delivered": 0, "dropped": 0, "waiting": 1}
    open_loop = found(frames, **(waits | {"replay.retransmit": False}))
    assert (open_loop["iscsi"]["pages_freed"], open_loop["retransmitted"]) == (2, None)


def test_what_the_host_has_meanwhile_does_not_come_again() -> None:
    """The capture's own retransmission was delivered at 105 ms: the sender's timer is stopped."""
    frames, settings = lost(100)
    copy = frames[3]._replace(time_ns=NS + 106 * MS)
    summary = found([*frames, copy], **settings)
    assert summary["retransmitted"] == {"arrivals": 0, "delivered": 0, "dropped": 0, "waiting": 0}
    assert summary["iscsi"]["pages_freed"] == 3


def test_other_flows_stay_open_loop() -> None:
    """Only memalloc flows have a sender that tries again."""
    frames, settings = lost(100)
    summary = found(frames, **settings, **{"replay.memalloc": "none"})
    assert summary["retransmitted"] == {"arrivals": 0, "delivered": 0, "dropped": 0, "waiting": 0}
    assert summary["sockets"]["holes_filled"] == 1


def test_what_became_of_a_segment_that_came_again_is_an_event_of_its_frame(tmp_path: Path) -> None:
    """The frame's own row keeps its verdict; a further row says when the copy was dropped, another that it was not."""
    frames, settings = lost(211)
    rows = log_of(pcap(frames), tmp_path, settings=QUIET | settings)
    of_frame = [row for row in rows if row["frame"] == "4"]
    assert column(of_frame, "verdict") == ["dropped", "event", "event"]
    assert column(of_frame, "reason") == ["DEV_READY", "DEV_READY", ""]
    times = [int(row["decided_ns"]) - NS for row in of_frame]
    assert times[:2] == [10 * MS, 210 * MS]
    assert 610 * MS <= times[2] < 611 * MS


@pytest.mark.parametrize("batch", [1, 3, 4096])
def test_batches_and_windows_change_nothing(batch: int, tmp_path: Path) -> None:
    """Every output of a replay that follows and retransmits, whatever the size of batch and window."""
    capture = PCAPS / "mixed.pcap"
    settings = {"replay.retransmit": True, "readers.ordinary": "immediate"}
    results = []
    ways: dict[str, dict[str, Any]] = {"a": {"batch": batch, "window": 1 << 17}, "b": {"batch": 1000}}
    for name, how in ways.items():
        log = tmp_path / f"{name}.csv"
        played(capture, policy="phillips-v5", settings=settings, outputs=Outputs(log=str(log)), limit=700, **how)
        results.append(log.read_bytes())
    assert results[0] == results[1]


def test_a_recorded_stream_plays_back_with_the_segments_that_came_again(tmp_path: Path) -> None:
    """The recording says which segment came again, and when."""
    frames, settings = lost(211)
    first = played(pcap(frames), settings=QUIET | settings, outputs=outputs_in(tmp_path, record=True))
    events = tmp_path / "events.jsonl"
    assert [json.loads(line)[0] for line in events.read_text().splitlines()[1:]].count("again") == 2
    again = played(pcap(frames), settings=QUIET | settings, events=str(events))
    assert again.result == first.result

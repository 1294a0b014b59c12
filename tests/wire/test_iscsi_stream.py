"""iSCSI PDUs in TCP streams: Scapy's session puts them together, whatever the segments, and misreads nothing."""

from itertools import accumulate, pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from iscsi_kit import CAPTURES, alone, conversation, followed, frames_of, from_host, iscsi_frames, segments
from scapy.config import conf
from scapy.layers.inet import TCP
from scapy.layers.l2 import Ether
from scapy.sessions import TCPSession

from emu.wire.iscsi import (
    DATA_DIGEST,
    HEADER_DIGEST,
    ISCSI,
    DataIn,
    DataOut,
    ISCSIFragment,
    LoginRequest,
    LoginResponse,
    Negotiation,
    NOPIn,
    NOPOut,
    SCSICommand,
    SCSIResponse,
    pdus,
)

BOTH = HEADER_DIGEST | DATA_DIGEST
STREAM = [
    NOPOut(ITT=1),
    SCSICommand(ITT=2, Data=bytes(range(256)) * 3),
    DataOut(ITT=3, Data=b"\xff" * 33),
    NOPOut(ITT=4),
]


def octets_of(layers: list[Any]) -> list[bytes]:
    """Each PDU's bytes."""
    return [alone(layer) for layer in layers]


@pytest.mark.parametrize("mss", [7, 48, 49, 100, 536, 1460])
def test_segments_of_any_size_give_the_same_pdus(mss: int) -> None:
    stream = b"".join(map(bytes, STREAM))
    found = followed(segments(stream, host=True, mss=mss))
    assert [type(layer) for layer in found] == [type(pdu) for pdu in STREAM]
    assert octets_of(found) == [bytes(pdu) for pdu in STREAM]


@given(st.lists(st.integers(min_value=1, max_value=970), max_size=8, unique=True).map(sorted))
@settings(max_examples=40, deadline=None)
def test_cuts_anywhere_give_the_same_pdus(cuts: list[int]) -> None:
    stream = b"".join(map(bytes, STREAM))
    frames = [
        frame
        for start, end in pairwise([0, *cuts, len(stream)])
        for frame in segments(stream[start:end], host=True, first=1000 + start)
    ]
    assert octets_of(followed(frames)) == [bytes(pdu) for pdu in STREAM]


@pytest.mark.parametrize("digests", [0, HEADER_DIGEST, DATA_DIGEST, BOTH])
def test_the_session_follows_the_login_to_digests(digests: int) -> None:
    sent = conversation(digests)
    found = followed(frames_of(sent))
    assert octets_of(found) == [bytes(pdu) for pdu in sent]
    assert [int(layer.digests) for layer in found] == [0, 0] + [digests] * (len(sent) - 2)
    assert all(isinstance(layer.HeaderDigest, int) == bool(digests & HEADER_DIGEST) for layer in found[2:])
    assert any(isinstance(layer.DataDigest, int) for layer in found[2:]) == bool(digests & DATA_DIGEST)


def test_a_session_without_its_login_is_told_of_digests(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = conversation(BOTH)[2:]
    monkeypatch.setitem(conf.contribs["ISCSI"], "digests", BOTH)
    assert octets_of(followed(frames_of(sent))) == [bytes(pdu) for pdu in sent]


def logins(offer: str, answer: str, **response: Any) -> list[Any]:
    """A login in which the initiator offers header digests and the target answers."""
    last = {"T": 1, "CSG": 1, "NSG": 3}
    return [
        LoginRequest(KeyValues={"HeaderDigest": offer}, **last),
        LoginResponse(KeyValues={"HeaderDigest": answer}, **(last | response)),
    ]


@pytest.mark.parametrize(
    ("offer", "answer", "response", "agreed"),
    [
        ("None,CRC32C", "CRC32C", {}, HEADER_DIGEST),
        ("CRC32C,None", "None", {}, 0),
        ("CRC32C", "Reject", {}, 0),
        ("CRC32C", "CRC32C", {"StatusClass": 2}, 0),
        ("CRC32C", "CRC32C", {"T": 0}, 0),
        ("CRC32C", "CRC32C", {"NSG": 1}, 0),
    ],
)
def test_digests_hold_when_agreed_and_when_the_login_is_over(
    offer: str, answer: str, response: Any, agreed: int
) -> None:
    negotiation = Negotiation(BOTH)
    for pdu in logins(offer, answer, **response):
        negotiation.follow(ISCSI(bytes(pdu)))
    assert negotiation.digests == agreed


def test_an_answer_over_several_logins_is_remembered() -> None:
    negotiation = Negotiation(0)
    for pdu in [*logins("CRC32C", "CRC32C", T=0), LoginRequest(T=1, CSG=1, NSG=3), LoginResponse(T=1, CSG=1, NSG=3)]:
        negotiation.follow(ISCSI(bytes(pdu)))
    assert negotiation.digests == HEADER_DIGEST


@pytest.mark.parametrize(
    "filling", [b"\0", b"\xcd", b"abc", bytes(range(256))], ids=["zeros", "pattern", "text", "counting"]
)
def test_a_capture_that_starts_inside_a_pdu_is_not_misread(filling: bytes) -> None:
    cut = DataOut(ITT=1, Data=(filling * 4000)[:4000])
    stream = bytes(cut) + bytes(NOPOut(ITT=2))
    found = followed(
        [*segments(stream, host=True)[1:], *segments(bytes(NOPOut(ITT=3)), host=True, first=1000 + len(stream))]
    )
    fragments, rest = found[:-1], found[-1]
    assert all(type(layer) is ISCSIFragment for layer in fragments)
    assert b"".join(octets_of(fragments)) == stream[1460:]
    assert (type(rest), rest.ITT) == (NOPOut, 3)  # found again at the start of the next segment


PATTERNS = [DataIn(ITT=tag, Data=bytes([0xC0 + tag]) * 4000) for tag in range(30)]


@pytest.mark.parametrize("lost", [1, 2, 3, 5])
def test_a_lost_segment_is_not_misread(lost: int) -> None:
    frames = segments(b"".join(map(bytes, PATTERNS)), host=False)
    del frames[lost]
    found = followed(frames)
    read = [layer for layer in found if isinstance(layer, ISCSI)]
    assert any(type(layer) is ISCSIFragment for layer in found)
    assert all(type(layer) is DataIn and layer.Data == bytes([0xC0 + layer.ITT]) * 4000 for layer in read)
    assert [layer.ITT for layer in read[: lost * 1460 // 4048]] == list(range(lost * 1460 // 4048))


@pytest.mark.parametrize("lost", [[2], [3, 4], [2, 5]], ids=str)
def test_after_a_lost_segment_pdus_are_found_again(lost: list[int]) -> None:
    gone, after = PATTERNS[:20], NOPIn(StatSN=7)  # the NOP has a segment of its own, long after what is waited for
    stream = b"".join(map(bytes, gone))
    frames = [frame for number, frame in enumerate(segments(stream, host=False)) if number not in lost]
    frames += segments(bytes(after), host=False, first=1000 + len(stream))
    found = followed(frames)
    assert (type(found[-1]), found[-1].StatSN) == (NOPIn, 7)
    assert sum(len(layer.load) for layer in found if type(layer) is ISCSIFragment) > 20000


@given(st.permutations(range(12)).map(lambda order: [0, *(number + 1 for number in order)]))
@settings(max_examples=25, deadline=None)
def test_segments_in_any_order_give_the_same_pdus(order: list[int]) -> None:
    sent = [DataOut(ITT=tag, Data=bytes([tag]) * 900) for tag in range(1, 14)]
    frames = segments(b"".join(map(bytes, sent)), host=True, mss=960)
    assert len(frames) == len(order)
    found = followed([frames[number] for number in order])
    read = [layer for layer in found if isinstance(layer, ISCSI)]
    assert all(layer.Data == bytes([layer.ITT]) * 900 for layer in read)


def test_segments_that_change_places_are_put_in_order() -> None:
    sent = [DataIn(ITT=tag, Data=bytes([tag]) * 3000) for tag in range(1, 9)]
    frames = segments(b"".join(map(bytes, sent)), host=False, mss=1000)
    for number in range(1, len(frames) - 2, 3):  # never the first of what Scapy's buffer holds
        frames[number], frames[number + 1] = frames[number + 1], frames[number]
    assert octets_of(followed(frames)) == [bytes(pdu) for pdu in sent]


def test_a_stream_that_ends_inside_a_pdu_gives_what_it_has() -> None:
    frames = [Ether(frame) for frame in segments(bytes(NOPOut()) + bytes(NOPOut(Data=b"lost"))[:50], host=True, mss=60)]
    frames[-1][TCP].flags = "FA"
    found = followed([bytes(frame) for frame in frames])
    assert [type(layer) for layer in found] == [NOPOut, ISCSIFragment]
    assert bytes(found[1]) == bytes(NOPOut(Data=b"lost"))[:50]


def test_more_pdus_than_layers_are_kept_as_bytes() -> None:
    many = [NOPIn(StatSN=number) for number in range(100)]
    stream = b"".join(map(bytes, many))
    found = followed(segments(stream, host=False, mss=len(stream)))
    assert [layer.StatSN for layer in found[:64]] == list(range(64))
    assert [pdu.StatSN for pdu in pdus(found[64].load)] == list(range(64, 100))
    assert len(found) == 65


def test_a_socket_that_gives_bytes_is_read_pdu_by_pdu() -> None:
    stream = b"".join(map(bytes, STREAM))
    session = TCPSession(app=True)
    found = []
    for at in range(0, len(stream), 100):
        packet = session.process(stream[at : at + 100], cls=ISCSI)
        while packet:
            found += [layer for layer in iterate(packet) if isinstance(layer, ISCSI)]
            packet = session.process(b"", cls=ISCSI)
    assert octets_of(found) == [bytes(pdu) for pdu in STREAM]


def iterate(packet: Any) -> list[Any]:
    """A packet's layers."""
    return [packet, *iterate(packet.payload)] if packet else []


@given(st.binary(max_size=300), st.sampled_from([0, HEADER_DIGEST, DATA_DIGEST, BOTH]), st.integers(0, 4))
@settings(max_examples=150, deadline=None)
def test_pdus_of_a_stream_are_the_stream(noise: bytes, digests: int, count: int) -> None:
    stream = b"".join(bytes(pdu) for pdu in STREAM[:count]) + noise
    assert b"".join(bytes(pdu) for pdu in pdus(stream, digests)) == stream


def test_pdus_of_a_stream_follow_its_login() -> None:
    sent = [pdu for pdu in conversation(BOTH) if not from_host(pdu)]
    found = list(pdus(b"".join(map(bytes, sent)), Negotiation(0)))
    assert octets_of(found) == [bytes(pdu) for pdu in sent]
    ends = list(accumulate(len(bytes(pdu)) for pdu in sent))
    cut = list(pdus(b"".join(map(bytes, sent))[: ends[3] + 5], Negotiation(0)))
    assert [len(bytes(pdu)) for pdu in cut[4:]] == [5]


@pytest.mark.parametrize("name", ["login.pcap", "nop.pcap", "mixed.pcap"])
def test_frames_of_real_captures_dissect_one_by_one_to_the_same_bytes(name: str) -> None:
    frames = iscsi_frames(CAPTURES / name)
    kinds = set()
    for frame in frames:
        packet = Ether(frame)
        kinds.add(type(packet[TCP].payload))
        assert bytes(packet) == frame
    assert SCSICommand in kinds
    assert SCSIResponse in kinds
    assert len(frames) > 30

"""iSCSI followed frame by frame: boundaries however the bytes are cut, pages conserved whatever is lost."""

import struct
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from machines import HOST, ISCSI, PEER, PLAIN, Setup, booted, holds

from emu.kernel.drop_reason import DELIVERED, DROPPED, RX_MISSED
from emu.kernel.iscsi_follow import begins_answer, begins_request, follow_wire, word_at
from emu.kernel.iscsi_follow_state import (
    FOLLOW_STORE_BYTES,
    MAX_FOLLOWED,
    NEWS_COMMAND,
    NEWS_OPEN,
    NEWS_RESPONSE,
    FollowedAnswer,
)
from emu.kernel.iscsi_write_back import answer_lose, answer_regain, follow_news, follow_verdict, is_lost, responses_lost
from emu.kernel.machine import PACKET_HOST, PACKET_OUTGOING, ZONE_NORMAL, Packet
from emu.kernel.retransmit import TCP_RTO_MAX_NS, rto_ns
from emu.kernel.sock import Ends, sk_alloc
from emu.wire.dissect import dissect
from emu.wire.headers import CHECKSUMS_TRUST, LINKTYPE_ETHERNET

SPACE = 1 << 32
STORE = 2 * MAX_FOLLOWED * FOLLOW_STORE_BYTES
FROM = 0xFFFFFFC0  # the sequence numbers wrap soon
PORT = 40_000


def command(itt: int, length: int, data: int = 0) -> bytes:
    """A write with immediate data."""
    head = struct.pack(">BBHIQIIIIQQ", 1, 0xA0, 0, data, 1 << 48, itt, length, itt, 1, 0x2A << 56, 0)
    return head + bytes(data + -data % 4)


def answer(itt: int, sense: int = 0) -> bytes:
    """A SCSI Response with sense data."""
    head = struct.pack(">BBHIQIIIIIIII", 0x21, 0x80, 0, sense, 0, itt, 0, itt, itt, 99, 0, 0, 0)
    return head + bytes(sense + -sense % 4)


def framed(outgoing: bool, seq: int, payload: bytes, flags: int = 0x10) -> bytes:
    """A TCP segment in a frame, its checksums not minded."""
    ends = (HOST, PEER, PORT, ISCSI) if outgoing else (PEER, HOST, ISCSI, PORT)
    ip = struct.pack(">BBHHHBBHII", 0x45, 0, 40 + len(payload), 0, 0, 64, 6, 0, ends[0], ends[1])
    return (
        bytes(12)
        + b"\x08\x00"
        + ip
        + struct.pack(">HHIIBBHHH", *ends[2:], seq % SPACE, 0, 0x50, flags, 0, 0, 0)
        + payload
    )


class Wire:
    """A machine and the frames that it is shown."""

    def __init__(self) -> None:
        """Nothing has been seen yet."""
        self.m: Any = booted(Setup(), PLAIN, 0)
        self.store = bytearray(STORE)
        self.rows = PLAIN.rows(Packet, 1)
        self.news: list[tuple[int, int, int, int, int]] = []

    def show(self, outgoing: bool, seq: int, payload: bytes, flags: int = 0x10) -> Any:
        """A frame on the wire; what is new goes to the machine, as its arrival would have it."""
        octets = framed(outgoing, seq, payload, flags)
        p = self.rows[0]
        p.offset, p.caplen, p.length, p.linktype = 0, len(octets), len(octets), LINKTYPE_ETHERNET
        dissect(p, octets, CHECKSUMS_TRUST)
        p.pkt_type = PACKET_OUTGOING if outgoing else PACKET_HOST
        assert follow_wire(self.m, self.rows, 0, 1, octets, self.store) == 1
        follow = self.m.follow
        for at in range(follow.news_at, follow.news_len):
            news = follow.news[at]
            self.news.append((news.what, news.itt, news.bytes, news.seq, news.end_seq))
        follow_news(self.m, p, self.m.seq_base)
        self.m.seq_base += 1
        return p


pieces = st.lists(st.integers(1, 200), min_size=1, max_size=40)
pdus = st.lists(st.tuples(st.integers(0, 5), st.sampled_from((0, 0, 1, 47, 48, 49, 500))), min_size=1, max_size=12)


def cut(stream: bytes, sizes: list[int]) -> list[tuple[int, bytes]]:
    """A stream in segments of these sizes, over and over."""
    segments: list[tuple[int, bytes]] = []
    at = 0
    while at < len(stream):
        size = sizes[len(segments) % len(sizes)]
        segments.append((at, stream[at : at + size]))
        at += size
    return segments


@settings(max_examples=30, deadline=None)
@given(pdus, pieces, st.randoms(use_true_random=False), st.booleans())
def test_the_same_pdus_however_the_stream_is_cut_and_shuffled(
    wanted: list[tuple[int, int]], sizes: list[int], dice: Any, outgoing: bool
) -> None:
    """Segments arrive up to three places late, some twice: the news are those of one segment per PDU."""
    made = [command(itt, 4096, data) if outgoing else answer(itt, data) for itt, data in wanted]
    expected, seq = [(NEWS_OPEN, 0, 0, 0, 0)], FROM
    for (itt, _), octets in zip(wanted, made, strict=True):
        end = (seq + len(octets)) % SPACE
        expected.append((NEWS_COMMAND, itt, 4096, 0, 0) if outgoing else (NEWS_RESPONSE, itt, 0, seq, end))
        seq = end
    segments = cut(b"".join(made), sizes)
    segments += [dice.choice(segments) for _ in range(len(segments) // 4)]
    segments.sort(key=lambda segment: segment[0])
    order = sorted(range(len(segments)), key=lambda at: at + dice.choice((0, 0, 0, 3.5)))
    wire = Wire()
    wire.show(outgoing, FROM - 1, b"", flags=0x02)
    for at in order:
        wire.show(outgoing, FROM + segments[at][0], segments[at][1])
    assert wire.news == expected
    assert wire.m.follow.resyncs == 0
    assert wire.m.follow.skipped_bytes == 0


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.booleans(),
            st.integers(-400, 1 << 20),
            st.binary(max_size=300)
            | st.builds(answer, st.integers(0, 3))
            | st.builds(command, st.integers(0, 3), st.integers(0, SPACE - 1)),
            st.sampled_from((0x10, 0x10, 0x10, 0x02, 0x12)),
        ),
        max_size=40,
    )
)
def test_any_bytes_at_the_port_are_borne(frames: list[tuple[bool, int, bytes, int]]) -> None:
    """Noise, jumps and new beginnings: pages are conserved, and what is under write-back was taken for a write."""
    wire = Wire()
    for outgoing, seq, payload, flags in frames:
        wire.show(outgoing, FROM + seq, payload, flags)
        holds(wire.m)
    follow = wire.m.follow
    under_way = sum(wire.m.zone[zone].writeback_pages for zone in range(wire.m.zones))
    assert 0 <= under_way <= follow.pages_written
    assert follow.writes <= follow.commands == sum(news[0] == NEWS_COMMAND for news in wire.news)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 7), st.sampled_from(("command", "lost", "delivered"))), max_size=40))
def test_pages_come_back_once_and_only_for_what_was_delivered(steps: list[tuple[int, str]]) -> None:
    """Writes of one page each and their responses in any fate: those delivered free a page, those lost do not."""
    wire = Wire()
    m = wire.m
    i = sk_alloc(m, Ends(4, 6, 0, HOST, PORT, 0, PEER, ISCSI))
    m.sk[i].state = 1
    wire.show(True, FROM - 1, b"", flags=0x02)
    wire.show(False, FROM - 1, b"", flags=0x12)
    sent = got = FROM
    open_writes: set[int] = set()
    freed = lost = 0
    for itt, what in steps:
        if what == "command":
            wire.show(True, sent, command(itt, 1))
            sent += 48
            open_writes.add(itt)
            continue
        p = wire.show(False, got, answer(itt))
        got += 48
        p.sk, p.verdict, p.reason = i, (DROPPED if what == "lost" else DELIVERED), (RX_MISSED if what == "lost" else 0)
        m.sk[i].rcv_nxt = got % SPACE  # the open loop counts what was lost as received
        follow_verdict(m, p)
        if what == "delivered":
            freed += itt in open_writes
            open_writes.discard(itt)
        lost += what == "lost"
        assert (m.follow.pages_freed, responses_lost(m)) == (freed, lost)
    m.sk[i].state = 0
    assert m.zone[ZONE_NORMAL].writeback_pages == m.follow.pages_written - freed


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 60), st.integers(1, 60)), max_size=12))
def test_a_response_is_whole_only_when_every_byte_of_it_is(steps: list[tuple[bool, int, int]]) -> None:
    """Against a set of bytes: what is not lost to us is not lost; one range lost and delivered again is whole."""
    row, missing = FollowedAnswer(), set[int]()
    row.seq, row.end_seq, row.lost_seq, row.lost_end = FROM, (FROM + 48) % SPACE, FROM, FROM
    for loses, start, length in steps:
        seq, end = (FROM - 6 + start) % SPACE, (FROM - 6 + start + length) % SPACE
        covered = {at for at in range(start - 6, start - 6 + length) if 0 <= at < 48}
        if loses:
            answer_lose(row, seq, end)
            missing |= covered
        else:
            answer_regain(row, seq, end)
            missing -= covered
        assert is_lost(row) or not missing
    answer_regain(row, FROM, row.end_seq)
    assert not is_lost(row)


def test_headers_of_every_kind_are_known_for_what_they_are() -> None:
    """Each request begins like a request and no request like an answer; zeros and text begin like nothing."""
    requests = (0x4080, 0x01A0, 0x0280, 0x4387, 0x0480, 0x0500, 0x0580, 0x0680, 0x1080)
    answers = (0x2080, 0x2180, 0x2280, 0x2387, 0x2480, 0x2581, 0x2680, 0x3180, 0x3280, 0x3F80)
    for head in requests:
        assert begins_request(head << 48, 100)
        assert not begins_answer(head << 48, 100)
    for head in answers:
        assert begins_answer(head << 48, 100)
        assert not begins_request(head << 48, 100)
    for noise in (
        bytes(8),
        b"GET / HT",
        b"\xff" * 8,
        b"\x21\x80\0\0\0\x7f\0\0",
        b"\x21\x80\0\0\1\0\0\0",
        b"\x01\xa0\1\0\0\0\0\0",
    ):
        word = word_at(noise, 0, 0, 0xFF)
        assert not begins_request(word, 1 << 20)
        assert not begins_answer(word, 1 << 20)


def test_the_timer_doubles_up_to_two_minutes() -> None:
    """200 ms, 400, 800 ... 102.4 s, then 120 s."""
    assert [rto_ns(losses) // 1_000_000 for losses in (1, 2, 3, 10, 11, 12, 1000)] == [
        200,
        400,
        800,
        102_400,
        120_000,
        120_000,
        120_000,
    ]
    assert rto_ns(1 << 40) == TCP_RTO_MAX_NS

"""Reassembly: what a datagram in fragments costs, when it is whole, and what ends a queue that never gets whole."""

import random
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from machines import (
    OPEN,
    Nic,
    Play,
    Setup,
    booted,
    fragment,
    holds,
    icmp,
    in_ipv6,
    leave_free,
    paced,
    packet_sock,
    play,
    plenty,
    rows_of,
    rule,
    udp,
)

from emu.engine.loop import run, run_recorded
from emu.kernel.drop_reason import DELIVERED, DROPPED, POINTS, REASONS
from emu.kernel.invariants import SENTENCES, check_structures
from emu.kernel.ip_fragment import FRAG_QUEUE_BYTES, IPQ_BYTES, frag_timer_ns
from emu.kernel.machine import DRIVER_E1000E, EVENTS, MAX_FRAG_QUEUES, MM_6X, PACKET_BROADCAST
from emu.kernel.sock import READER_NEVER
from emu.wire.checksum import ones_sum
from emu.wire.headers import CSUM_BAD, CSUM_GOOD, CSUM_UNKNOWN, KIND_IP_FRAGMENT, KIND_UDP, TOO_SHORT

MS = 1_000_000
SECOND_NS = 1_000 * MS
TRUESIZE = 2344
QUIET = Setup(config=plenty(), nics=(Nic(ring=128),))
UNREAD = Setup(config=plenty(ordinary_reader=READER_NEVER, udp_rcvbuf=1 << 20), nics=(Nic(ring=128),))
HOST, PEER = 0x0A000002, 0x0A000001


def pseudo_header(length: int) -> int:
    """The sum of the pseudo header of a UDP datagram from the peer to the host."""
    return (PEER >> 16) + (PEER & 0xFFFF) + (HOST >> 16) + (HOST & 0xFFFF) + 17 + length


def datagram(payload: int, *, wrong: bool = False) -> bytearray:
    """A UDP datagram from the peer's port 40000 to the host's open one, with its checksum."""
    octets = bytearray(random.Random(payload).randbytes(8 + payload))
    octets[0:8] = (40_000).to_bytes(2, "big") + OPEN.to_bytes(2, "big") + (8 + payload).to_bytes(2, "big") + bytes(2)
    total = (pseudo_header(len(octets)) + ones_sum(octets, 0, len(octets))) % 65535
    octets[6:8] = ((65535 - total + wrong) % 65535 or 65535).to_bytes(2, "big")
    return octets


def piece(octets: bytearray, start: int, end: int, **columns: int) -> dict[str, int]:
    """The fragment with octets[start:end]."""
    known = {"more": int(end < len(octets)), "frag_sum": ones_sum(octets, start, end)} | columns
    made: dict[str, int] = fragment(start, end - start, **known)
    return made


def cut(octets: bytearray, at: list[int], **columns: int) -> list[dict[str, int]]:
    """All of a datagram, cut at these multiples of 8."""
    bounds = [0, *at, len(octets)]
    return [piece(octets, start, end, **columns) for start, end in pairwise(bounds)]


def events_of(m: Any) -> list[tuple[int, str, str]]:
    """Frame, reason and point of all that happened to packets after their verdict."""
    return [(int(e.frame), REASONS[e.reason].name, POINTS[e.point]) for e in (m.later[at] for at in range(m.later_len))]


def points(played: Play) -> list[str]:
    """Where each verdict fell."""
    return [POINTS[point] for point in played.column("point")]


def test_fragments_wait_and_the_last_one_gets_the_datagrams_verdict() -> None:
    """Three fragments: two are queued, the third stands for the datagram, with its ports, length and truesize."""
    frames = paced(cut(datagram(4000), [1480, 2960]), MS)
    played = play(UNREAD, frames, until_ns=SECOND_NS)
    assert points(played) == ["ip_defrag", "ip_defrag", "sock_queue_rcv_skb"]
    whole = played.rows[2]
    assert (whole.kind, whole.sport, whole.dport) == (KIND_UDP, 40_000, OPEN)
    assert (whole.l4_length, whole.payload_length) == (4008, 4000)
    assert (whole.l4_csum, whole.truesize) == (CSUM_GOOD, 3 * TRUESIZE)
    assert (played.m.sk[0].rmem_alloc, played.m.sk[0].queue_len) == (3 * TRUESIZE, 3)
    assert (played.m.mib.IpReasmReqds, played.m.mib.IpReasmOKs, played.m.mib.IpInDelivers) == (3, 1, 1)
    assert (played.m.mib.UdpInDatagrams, played.m.frag_queues, played.m.frag_mem[0]) == (1, 0, 0)


def test_a_queue_is_charged_for_its_fragments_and_its_descriptor() -> None:
    """ip_frag_mem counts truesize and struct ipq; IPv6 counts its own."""
    octets = datagram(4000)
    pieces = [piece(octets, 1480, 2960), in_ipv6(piece(octets, 2960, 4008)), piece(octets, 0, 1480)]
    m = play(QUIET, paced(pieces, MS), until_ns=4 * MS).m
    assert (m.frag_mem[0], m.frag_mem[1]) == (2 * TRUESIZE + IPQ_BYTES, TRUESIZE + FRAG_QUEUE_BYTES)


@given(st.data())
def test_a_datagram_cut_and_shuffled_any_way_is_delivered_once_and_its_memory_returns(data: st.DataObject) -> None:
    """Whatever the cuts and the order, in IPv4 and in IPv6: one delivery, a right checksum, and nothing is left."""
    octets = datagram(data.draw(st.integers(1, 6000)))
    units = (len(octets) - 1) // 8
    at = data.draw(st.lists(st.integers(1, units), unique=True, max_size=12)) if units else []
    pieces = data.draw(st.permutations(cut(octets, [8 * unit for unit in sorted(at)])))
    version = data.draw(st.sampled_from((4, 6)))
    if len(pieces) == 1:
        return
    if version == 6:  # its pseudo header has other addresses: what they sum to is another test's
        pieces = [in_ipv6(one) | {"frag_sum": -1} for one in pieces]
    setup = Setup(config=plenty(), nics=(Nic(ring=32),), rules=())
    m = booted(setup)
    skbs = m.skbs_used
    played = play(setup, paced(pieces, MS), until_ns=SECOND_NS, machine=m)
    assert points(played).count("sock_queue_rcv_skb") == 1
    assert points(played)[-1] == "sock_queue_rcv_skb"
    assert set(played.column("verdict")) == {DELIVERED}
    assert played.rows[len(pieces) - 1].l4_csum == (CSUM_GOOD if version == 4 else CSUM_UNKNOWN)
    assert played.m.mib.UdpInDatagrams + played.m.mib.Udp6InDatagrams == 1
    assert (m.frag_mem[0], m.frag_mem[1], m.frag_queues, m.later_len) == (0, 0, 0, 0)
    assert m.skbs_used == skbs


def test_an_ipv6_datagrams_checksum_is_verified_over_its_own_pseudo_header() -> None:
    """The sums of the fragments, the addresses, the length and the protocol make 0 modulo 65535, or it is wrong."""
    octets = datagram(100)
    pseudo = pseudo_header(len(octets))
    # fe80:: twice is what in_ipv6 puts before the same low halves.
    extra = 2 * 0xFE80
    for wrong in (0, 1):
        rest = (-(pseudo + extra + ones_sum(octets, 0, 48)) + wrong) % 65535
        pieces = [in_ipv6(piece(octets, 0, 48)), in_ipv6(piece(octets, 48, 108, frag_sum=rest))]
        played = play(QUIET, paced(pieces, MS), until_ns=SECOND_NS)
        assert played.rows[1].l4_csum == (CSUM_BAD if wrong else CSUM_GOOD)


def test_extension_headers_in_the_first_fragment_are_not_the_transports() -> None:
    """What of the first fragment's share precedes the transport header is no part of what the socket sees."""
    first = in_ipv6(fragment(0, 1400, l4_length=1392, payload_length=1384))
    played = play(QUIET, paced([first, in_ipv6(fragment(1400, 100, 0))], MS), until_ns=SECOND_NS)
    assert (played.rows[1].l4_length, played.rows[1].payload_length) == (1492, 1484)


@pytest.mark.parametrize("octets", [8, 1400])
def test_a_transport_header_that_no_later_fragment_can_put_right_stays_wrong(octets: int) -> None:
    """A data offset below five words, or a whole datagram shorter than its header."""
    wrong = TOO_SHORT if octets == 1400 else 0
    pieces = [fragment(0, octets, ip_protocol=6, header_error=wrong), fragment(octets, 8, 0, ip_protocol=6)]
    assert play(QUIET, paced(pieces, MS), until_ns=SECOND_NS).reasons() == ["", "PKT_TOO_SMALL"]


def test_a_recorded_stream_replays_timeouts() -> None:
    """What timed out is part of the stream: a playback ends in the same machine."""
    setup = Setup(config=plenty(recording=1), nics=(Nic(ring=64),))
    frames = paced([fragment(0, 1480, frag_id=at) for at in range(5)], MS)
    frames += paced([fragment(1480, 8, 0, frag_id=9), udp()], 40 * SECOND_NS, SECOND_NS)
    played = play(setup, frames)
    assert "frag" in [EVENTS[played.log[at].event] for at in range(played.events)]
    m = booted(setup)
    run_recorded(m, rows_of(frames), 0, len(frames), played.log, 0, played.events, 0)
    assert events_of(m) == events_of(played.m)
    assert (m.frag_queues, m.skbs_used) == (played.m.frag_queues, played.m.skbs_used)


def test_at_most_one_of_a_datagrams_buffers_is_given_back() -> None:
    """In reserve, fragments are queued unchecked; the whole datagram lowers the count by one and is dropped."""
    m = booted(Setup("phillips-v5", config=plenty(), nics=(Nic(ring=64),)))
    m.dev[0].rx_reserve_used = 5
    played = play(QUIET, paced(cut(datagram(5000), [1480, 2960, 4440]), MS), machine=m, until_ns=SECOND_NS)
    assert played.reasons() == ["", "", "", "PFMEMALLOC"]
    assert m.dev[0].rx_reserve_used == 4
    assert events_of(m) == [(frame, "PFMEMALLOC", "udp_rcv") for frame in (1, 2, 3)]
    assert m.total.dropped == 1


def test_a_tagged_first_fragment_tags_the_datagram() -> None:
    """Mainline looks at the head fragment's tag; a tag on a later fragment is not seen."""
    for tagged, reason in ((0, "PFMEMALLOC"), (1, "")):
        setup = Setup("mainline", config=plenty(), nics=(Nic(ring=64),))
        m = booted(setup)
        m.skb[m.dev[0].ring_skb[tagged]].pfmemalloc = 1
        played = play(setup, paced(cut(datagram(2000), [1480]), MS), machine=m, until_ns=SECOND_NS)
        assert played.reasons() == ["", reason]


def test_a_datagram_with_a_wrong_checksum_is_thrown_away_by_its_reader() -> None:
    """UDP leaves it to the reader: the verdict stands, every fragment becomes an event, one error is counted."""
    played = play(QUIET, paced(cut(datagram(2000, wrong=True), [1480]), MS), until_ns=SECOND_NS)
    assert played.column("verdict") == [DELIVERED] * 2
    assert events_of(played.m) == [(1, "UDP_CSUM", "udp_recvmsg"), (2, "UDP_CSUM", "udp_recvmsg")]
    assert (played.m.mib.UdpInDatagrams, played.m.mib.UdpInErrors) == (1, 1)


def test_reason_DUP_FRAG() -> None:  # noqa: N802
    """A fragment inside another is refused; one that covers another replaces it."""
    octets = datagram(4000)
    frames = [piece(octets, 0, 1480), piece(octets, 8, 800), piece(octets, 1480, 2000), piece(octets, 1480, 2960)]
    played = play(QUIET, paced(frames, MS), until_ns=5 * MS)
    assert played.reasons() == ["", "DUP_FRAG", "", ""]
    assert points(played)[1] == "ip_defrag"
    assert events_of(played.m) == [(3, "DUP_FRAG", "ip_defrag")]


def test_overlaps_are_trimmed_and_hide_the_checksum() -> None:
    """2.6.12 cuts the newcomer's front and the follower's front; the whole is still put together."""
    octets = datagram(4000)
    frames = [piece(octets, 0, 1480), piece(octets, 2960, 4008), piece(octets, 1000, 3200)]
    played = play(UNREAD, paced(frames, MS), until_ns=SECOND_NS)
    assert points(played)[-1] == "sock_queue_rcv_skb"
    assert (played.rows[2].l4_csum, played.rows[2].l4_length) == (CSUM_UNKNOWN, 4008)
    assert played.m.sk[0].rmem_alloc == 3 * TRUESIZE


def test_reason_FRAG_REASM_TIMEOUT() -> None:  # noqa: N802
    """After 30 s the fragments are events, and the sender of the first one is told; after 60 s in IPv6."""
    octets = datagram(4000)
    pieces = [piece(octets, 0, 1480), piece(octets, 1480, 2960), in_ipv6(piece(octets, 0, 1480))]
    m = booted(QUIET)
    skbs = m.skbs_used
    played = play(QUIET, paced(pieces, MS), machine=m, until_ns=29 * SECOND_NS)
    assert (events_of(m), frag_timer_ns(m)) == ([], 30 * SECOND_NS)
    run(m, played.rows, 3, 3, 31 * SECOND_NS, played.log, 8)
    assert events_of(m) == [(frame, "FRAG_REASM_TIMEOUT", "ip_expire") for frame in (1, 2)]
    assert (m.mib.IpReasmTimeout, m.mib.IpReasmFails, m.mib.IcmpOutTimeExcds) == (1, 1, 1)
    run(m, played.rows, 3, 3, 61 * SECOND_NS, played.log, 8)
    assert events_of(m)[2:] == [(3, "FRAG_REASM_TIMEOUT", "ip6_frag_expire")]
    assert (m.mib.Ip6ReasmTimeout, m.mib.Icmp6OutTimeExcds, m.skbs_used) == (1, 1, skbs)
    holds(m)


def test_nobody_is_told_of_a_timeout_without_the_first_fragment_or_of_a_broadcast() -> None:
    """ICMP quotes the first fragment, and answers no broadcast."""
    octets = datagram(4000)
    pieces = [piece(octets, 1480, 2960), piece(octets, 0, 1480, frag_id=2, pkt_type=PACKET_BROADCAST)]
    m = play(QUIET, paced(pieces, MS), until_ns=40 * SECOND_NS).m
    assert (m.mib.IpReasmTimeout, m.mib.IcmpOutTimeExcds) == (2, 0)


def test_reason_FRAG_EVICTED() -> None:  # noqa: N802
    """Above ipfrag_high_thresh the least recently used queues go, until what is left is within ipfrag_low_thresh."""
    limits = {"high_thresh": 22_000, "low_thresh": 10_000, "time_ns": 30 * SECOND_NS}
    setup = Setup(config=plenty(), nics=(Nic(ring=128),), frag_limits=(limits, limits))
    octets = datagram(4000)
    pieces = [piece(octets, 0, 1480, frag_id=1 + at) for at in range(9)]
    pieces += [piece(octets, 1480, 2960, frag_id=1), piece(octets, 0, 1480, frag_id=77)]
    m = play(setup, paced(pieces, MS), until_ns=SECOND_NS).m
    # 10 fragments in 9 queues are 24 232 bytes; queue 1 was used last, so 2 to 7 go: 6 * 2432 bytes.
    assert events_of(m) == [(frame, "FRAG_EVICTED", "ip_evictor") for frame in (2, 3, 4, 5, 6, 7)]
    assert (m.mib.IpReasmFails, m.frag_mem[0]) == (6, 24_232 - 6 * 2432 + 2432)


def test_there_are_no_more_queues_than_rows() -> None:
    """Where limits allow more, the least recently used queue gives way."""
    limits = {"high_thresh": 1 << 30, "low_thresh": 1 << 30, "time_ns": 3_000 * SECOND_NS}
    setup = Setup(config=plenty(memory_pages=65_536), nics=(Nic(ring=128),), frag_limits=(limits, limits))
    pieces = [fragment(0, 1480, frag_id=at) for at in range(MAX_FRAG_QUEUES + 3)]
    m = play(setup, paced(pieces, 100_000), until_ns=SECOND_NS).m
    assert (m.frag_queues, m.frag_queues_made) == (MAX_FRAG_QUEUES, MAX_FRAG_QUEUES)
    assert [event[0] for event in events_of(m)] == [1, 2, 3]


@pytest.mark.parametrize(
    "pieces",
    [
        [fragment(1480, 20, 0), fragment(1480, 400, 0)],  # another end
        [fragment(1480, 20, 0), fragment(2960, 400, 1)],  # beyond the end
        [fragment(0, 7, 1)],  # less than the 8 bytes that a fragment with more to follow must have
        [fragment(8, 65_000 // 8 * 8, 1), fragment(65_008, 1000, 0), fragment(0, 8, 1)],  # 66 008 bytes
    ],
    ids=["two ends", "beyond the end", "nothing in it", "oversize"],
)
def test_fragments_that_cannot_be_are_refused(pieces: list[dict[str, int]]) -> None:
    """The kernel frees them without a word."""
    played = play(QUIET, paced(pieces, MS), until_ns=SECOND_NS)
    assert played.reasons() == [""] * (len(pieces) - 1) + ["NOT_SPECIFIED"]
    assert points(played)[-1] == "ip_defrag"


@pytest.mark.parametrize("columns", [fragment(0, 1484), fragment(65_528, 1000, 0)], ids=["not in eights", "too far"])
def test_bad_ipv6_fragments_earn_a_parameter_problem(columns: dict[str, int]) -> None:
    """IPv6 is strict where IPv4 trims."""
    played = play(QUIET, paced([in_ipv6(columns)], MS), until_ns=SECOND_NS)
    assert played.reasons() == ["IP_INHDR"]
    assert (points(played), played.m.mib.Icmp6OutParmProblems) == (["ipv6_frag_rcv"], 1)


def test_a_fragment_whose_queue_finds_no_memory_is_dropped() -> None:
    """The descriptor comes with GFP_ATOMIC."""
    setup = Setup("linux-2.6.12", nics=(Nic(ring=32, background=0),))
    m = booted(setup)
    leave_free(m, 0)
    played = play(setup, paced([fragment()], MS), machine=m, until_ns=SECOND_NS)
    assert played.reasons() == ["NOMEM"]
    assert (points(played), m.mib.IpReasmFails) == (["ip_defrag"], 1)


def test_a_tap_on_the_first_fragment_makes_reassembly_copy_it() -> None:
    """The head of a datagram must not be shared: it gets data of its own, or the datagram is lost."""
    setup = Setup(config=plenty(), nics=(Nic(ring=64),), taps=(packet_sock(),))
    played = play(setup, paced(cut(datagram(2000), [1480]), MS), until_ns=SECOND_NS)
    assert points(played) == ["ip_defrag", "sock_queue_rcv_skb"]
    assert played.m.tap[0].tp_packets == 2


def test_the_copy_of_a_shared_head_has_an_object_of_the_size_of_its_data() -> None:
    """The e1000e's 1522 bytes with headroom and shared info of 6.x, 1920, fit into an object of 2048."""
    geometry = {"mm": MM_6X, "sk_buff_bytes": 232, "l1_bytes": 64, "netdev_max_backlog": 1000, "netdev_budget": 300}
    config = plenty(**geometry) | {"ordinary_reader": READER_NEVER, "udp_rcvbuf": 1 << 20}
    tap = packet_sock(reader=READER_NEVER, rcvbuf=1 << 20)
    setup = Setup("mainline", config=config, nics=(Nic(driver=DRIVER_E1000E),), taps=(tap,))
    m = booted(setup)
    used = play(setup, paced(cut(datagram(2000), [1480]), MS), machine=m, until_ns=SECOND_NS)
    assert points(used) == ["ip_defrag", "sock_queue_rcv_skb"]
    copy = m.slab[m.skb[m.sk[used.rows[1].sk].queue_head].data_slab]
    assert m.cache[copy.cache].objsize == 2048


@pytest.mark.parametrize(("tagged", "reason"), [(0, "NOMEM"), (1, "")])
def test_the_copy_of_a_tagged_head_may_come_from_the_reserve(tagged: int, reason: str) -> None:
    """Mainline, at the floor: the first fragment's tag decides, not that of the fragment that completes."""
    tap = packet_sock(reader=READER_NEVER, rcvbuf=1 << 20)
    rules = (rule(17, local_port=OPEN, memalloc=1),)
    setup = Setup("mainline", config=plenty(memalloc_socket=1), nics=(Nic(ring=64),), taps=(tap,), rules=rules)
    m = booted(setup)
    first, last = paced(cut(datagram(2000), [1480]), MS)
    play(setup, [first], machine=m, until_ns=first["time_ns"] + MS // 2)
    head = m.frag_queue[0].fragments
    m.skb[head].pfmemalloc = tagged
    leave_free(m, 4)
    played = play(setup, [last], machine=m, until_ns=SECOND_NS)
    assert played.reasons() == [reason]


def test_sockets_of_fragmented_flows_follow_the_rules() -> None:
    """A datagram in fragments makes its socket when it is whole, and a rule can refuse it."""
    setup = Setup(config=plenty(), nics=(Nic(ring=64),), rules=(rule(17, local_port=OPEN, closed=1),))
    played = play(setup, paced(cut(datagram(2000), [1480]), MS), until_ns=SECOND_NS)
    assert played.reasons() == ["", "NO_SOCKET"]
    assert events_of(played.m) == [(1, "NO_SOCKET", "udp_rcv")]
    assert (played.column("verdict"), played.m.mib.UdpNoPorts) == ([DELIVERED, DROPPED], 1)


def test_a_fragmented_echo_request_is_answered() -> None:
    """Reassembly goes on to ICMP, whose checksum has no pseudo header."""
    pieces = [fragment(0, 1480, ip_protocol=1, icmp_type=8), fragment(1480, 200, 0, ip_protocol=1)]
    m = play(QUIET, paced(pieces, MS), until_ns=SECOND_NS).m
    assert (m.mib.IcmpInEchos, m.mib.IcmpOutEchoReps) == (1, 1)


def test_the_invariant_notices_lost_fragments() -> None:
    """What no queue holds is found missing."""
    played = play(QUIET, paced([fragment(), icmp(), udp()], MS), until_ns=SECOND_NS)
    assert played.rows[0].kind == KIND_IP_FRAGMENT
    played.m.frag_mem[0] -= 1
    assert SENTENCES[check_structures(played.m)].startswith("fragment memory")

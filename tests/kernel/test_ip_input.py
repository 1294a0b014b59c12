"""The IP layers: whose packet it is, who gets it, what is answered and what that takes."""

from typing import Any

import pytest
from machines import (
    CLOSED,
    FE80,
    HOST,
    SYN,
    Nic,
    Play,
    Setup,
    arp,
    booted,
    fragment,
    icmp,
    in_ipv6,
    ip_other,
    leave_free,
    paced,
    packet_sock,
    play,
    plenty,
    rule,
    tcp,
    udp,
)

from emu.kernel.drop_reason import DELIVERED, DROPPED, POINTS, REASONS
from emu.kernel.machine import PACKET_BROADCAST, PACKET_MULTICAST, PACKET_OTHERHOST, PACKET_OUTGOING
from emu.kernel.policy import RULE_FILTER
from emu.kernel.sock import READER_NEVER, READER_RATE, sk_close
from emu.wire.headers import CSUM_BAD, IP_HEADER_BAD, IP_TOO_SHORT, TOO_SHORT

MS = 1_000_000
SECOND_NS = 1_000 * MS
TRUESIZE = 2344
ELSEWHERE = 0x0A000009
QUIET = Setup(config=plenty(), nics=(Nic(ring=64),))
PROMISC = Setup(config=plenty(), nics=(Nic(ring=64, promisc=1),))
UNREAD = plenty(ordinary_reader=READER_NEVER)


def ends(played: Play) -> list[tuple[str, str]]:
    """Why each packet was dropped and where its verdict fell."""
    return list(zip(played.reasons(), (POINTS[point] for point in played.column("point")), strict=True))


def alone(packet: Any, setup: Setup = QUIET) -> tuple[str, str]:
    """What becomes of one packet."""
    return ends(play(setup, paced([packet], MS), until_ns=SECOND_NS))[0]


def events_of(m: Any) -> list[tuple[int, str, str]]:
    """Frame, reason and point of what happened after a verdict."""
    return [(int(e.frame), REASONS[e.reason].name, POINTS[e.point]) for e in (m.later[at] for at in range(m.later_len))]


def test_reason_OTHERHOST() -> None:  # noqa: N802
    """A promiscuous NIC takes what is for others; each protocol frees it, uncounted."""
    others = [one | {"pkt_type": PACKET_OTHERHOST} for one in (udp(), in_ipv6(udp()), arp())]
    played = play(PROMISC, paced(others, MS), until_ns=SECOND_NS)
    assert ends(played) == [("OTHERHOST", "ip_rcv"), ("OTHERHOST", "ipv6_rcv"), ("OTHERHOST", "arp_rcv")]
    assert (played.m.mib.IpInReceives, played.m.mib.Ip6InReceives, played.m.sk_live) == (0, 0, 0)
    assert play(QUIET, paced(others, MS), until_ns=SECOND_NS).m.total.not_received == 3


OWN = ({"family": 4, "addr": HOST}, {"family": 6, "addr_hi": FE80, "addr": HOST})


def test_reason_IP_INADDRERRORS() -> None:  # noqa: N802
    """With addresses of its own, the host drops what is for another one; without, all that reaches it is its own."""
    stray = [udp(daddr=ELSEWHERE), in_ipv6(udp(daddr=ELSEWHERE)), udp(), udp(daddr=0xE00000FB)]
    setup = Setup(config=plenty(), nics=(Nic(ring=64),), local_addrs=OWN)
    played = play(setup, paced(stray, MS), until_ns=SECOND_NS)
    assert ends(played)[:2] == [("IP_INADDRERRORS", "ip_rcv_finish"), ("IP_INADDRERRORS", "ip6_rcv_finish")]
    assert played.reasons()[2:] == ["", ""]
    assert (played.m.mib.IpInAddrErrors, played.m.mib.Ip6InAddrErrors) == (1, 1)
    assert play(QUIET, paced(stray, MS), until_ns=SECOND_NS).reasons() == [""] * 4


def test_a_router_forwards_what_is_not_for_it_unchecked() -> None:
    """Forwarded packets never reach a check: the count stays; no socket is inferred; fragments are not gathered."""
    setup = Setup(config=plenty(ip_forward=1), nics=(Nic(ring=64),), local_addrs=OWN)
    m = booted(setup)
    m.dev[0].rx_reserve_used = 5
    packets = [tcp(daddr=ELSEWHERE), fragment(daddr=ELSEWHERE), in_ipv6(udp(daddr=ELSEWHERE))]
    played = play(setup, paced(packets, MS), machine=m, until_ns=SECOND_NS)
    assert ends(played) == [("", "ip_forward"), ("", "ip_forward"), ("", "ip6_forward")]
    assert (m.mib.IpForwDatagrams, m.mib.Ip6OutForwDatagrams, m.dev[0].rx_reserve_used) == (2, 1, 5)
    assert (m.sk_live, m.frag_queues) == (0, 0)


@pytest.mark.parametrize(
    ("packet", "reason", "point"),
    [
        (udp(), "", "sock_queue_rcv_skb"),
        (tcp(), "", "tcp_data_queue"),
        (tcp(payload=0, flags=SYN), "", "tcp_v4_rcv"),
        (udp(CLOSED), "NO_SOCKET", "udp_rcv"),
        (tcp(CLOSED), "NO_SOCKET", "tcp_v4_rcv"),
        (icmp(128), "", "icmpv6_rcv"),
        (icmp(135, pkt_type=PACKET_MULTICAST), "", "icmpv6_rcv"),
        (icmp(128, l4_csum=CSUM_BAD), "ICMP_CSUM", "icmpv6_rcv"),
        (icmp(128, header_error=TOO_SHORT), "PKT_TOO_SMALL", "icmpv6_rcv"),
        (ip_other(132), "IP_NOPROTO", "ip6_input_finish"),
        (ip_other(59), "", "ip6_input_finish"),
        (udp(header_error=IP_TOO_SHORT), "PKT_TOO_SMALL", "ipv6_rcv"),
        (udp(header_error=IP_HEADER_BAD), "IP_INHDR", "ipv6_rcv"),
        (ip_other(132, header_error=TOO_SHORT), "IP_INHDR", "ipv6_rcv"),
        (fragment(), "", "ipv6_frag_rcv"),
    ],
)
def test_ipv6_is_received_and_never_checked(packet: dict[str, int], reason: str, point: str) -> None:
    """No hook of the 2005 patch stands in IPv6: in the middle of a reserve nothing is given back or dropped for it."""
    v6 = in_ipv6(packet) | ({"kind": packet["kind"]} if packet["ip_protocol"] != 1 else {})
    m = booted(QUIET)
    m.dev[0].rx_reserve_used = 5
    played = play(QUIET, paced([v6], MS), machine=m, until_ns=SECOND_NS)
    assert (ends(played), m.dev[0].rx_reserve_used) == ([(reason, point)], 5)


@pytest.mark.parametrize("packet", [udp(), tcp()], ids=["udp", "tcp"])
def test_mainline_filters_ipv6_too(packet: dict[str, int]) -> None:
    """sk_filter knows no address family."""
    setup = Setup("mainline", config=plenty(), nics=(Nic(ring=64),))
    m = booted(setup)
    m.skb[m.dev[0].ring_skb[0]].pfmemalloc = 1
    assert ends(play(setup, paced([in_ipv6(packet)], MS), machine=m, until_ns=SECOND_NS)) == [
        ("PFMEMALLOC", "sk_filter_trim_cap")
    ]


def test_ipv6_counts_on_its_own() -> None:
    """/proc/net/snmp6 beside /proc/net/snmp; TCP's counters are common."""
    frames = [in_ipv6(one) for one in (udp(), udp(CLOSED), tcp(CLOSED), icmp(128), icmp(135), ip_other(132))]
    frames[3]["icmp_type"], frames[4]["icmp_type"] = 128, 135
    mib = play(QUIET, paced(frames, MS), until_ns=SECOND_NS).m.mib
    assert (mib.Ip6InReceives, mib.Ip6InDelivers, mib.Ip6InUnknownProtos) == (6, 5, 1)
    assert (mib.Udp6InDatagrams, mib.Udp6NoPorts, mib.Icmp6OutDestUnreachs, mib.Icmp6OutParmProblems) == (1, 1, 1, 1)
    assert (mib.Icmp6InMsgs, mib.Icmp6OutEchoReplies, mib.Icmp6OutNeighborAdvertisements) == (2, 1, 1)
    assert (mib.IpInReceives, mib.UdpInDatagrams, mib.IcmpInMsgs, mib.TcpInSegs) == (0, 0, 0, 1)


def asked_without_memory(packet: dict[str, int], *before: dict[str, int]) -> Any:
    """Play a packet on a machine that has not one page left, and no free object either."""
    setup = Setup("linux-2.6.12", nics=(Nic(ring=64, background=0),))
    m = booted(setup)
    leave_free(m, 0)
    play(setup, paced([*before, packet], MS), machine=m, until_ns=SECOND_NS)
    return m


@pytest.mark.parametrize(
    "packet",
    [icmp(8), udp(CLOSED), ip_other(132), in_ipv6(icmp(8)) | {"icmp_type": 135}],
    ids=["echo", "port unreachable", "protocol unreachable", "neighbour"],
)
def test_an_answer_needs_memory(packet: dict[str, int]) -> None:
    """Replies come with GFP_ATOMIC: without a page there is none, whatever the packet's verdict."""
    assert asked_without_memory(packet).mib.tx_alloc_failed == 1


def test_arp_answers_for_the_hosts_address_only() -> None:
    """The target must be an address of the scenario, or the one that the last packet to the host had."""
    assert asked_without_memory(arp(daddr=HOST)).mib.tx_alloc_failed == 0
    assert asked_without_memory(arp(daddr=HOST), icmp(0)).mib.tx_alloc_failed == 1
    assert asked_without_memory(arp(daddr=ELSEWHERE), icmp(0)).mib.tx_alloc_failed == 0
    setup = Setup("linux-2.6.12", nics=(Nic(ring=64, background=0),), local_addrs=OWN)
    m = booted(setup)
    leave_free(m, 0)
    play(setup, paced([arp(daddr=HOST), arp(daddr=ELSEWHERE)], MS), machine=m, until_ns=SECOND_NS)
    assert m.mib.tx_alloc_failed == 1


def test_icmp_errors_are_limited_and_echo_replies_are_not() -> None:
    """Six at once, then one a second; what the limit holds back is counted as sent all the same (icmp_out_count)."""
    setup = Setup("linux-2.6.12", nics=(Nic(ring=64, background=0),))
    for packet, tried in ((udp(CLOSED), 6 + 1), (icmp(8), 11)):
        m = booted(setup)
        leave_free(m, 0)
        late = packet | {"time_ns": 1_100 * MS}
        play(setup, [*paced([packet] * 10, MS), late], machine=m, until_ns=2 * SECOND_NS)
        assert m.mib.tx_alloc_failed == tried
        assert m.mib.IcmpOutDestUnreachs + m.mib.IcmpOutEchoReps == 11


def test_a_long_echo_reply_leaves_in_fragments(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request in three fragments is answered in three skbs, of the device's MTU at most."""
    sizes: list[int] = []

    def reply(_m: Any, size: int) -> bool:
        sizes.append(size)
        return True

    monkeypatch.setattr("emu.kernel.reply.reply", reply)
    pieces = [fragment(at, min(1480, 4008 - at), at < 2960, ip_protocol=1, icmp_type=8) for at in (0, 1480, 2960)]
    play(QUIET, paced(pieces, MS), until_ns=SECOND_NS)
    assert [size - 31 - 20 for size in sizes] == [1480, 1480, 1048]


@pytest.mark.parametrize(
    ("mtu", "version", "octets", "pieces"),
    [
        (1500, 6, 1460, [1460]),
        (1500, 6, 1461, [1448, 13]),
        (1500, 6, 2900, [1448, 1448, 4]),
        (1500, 4, 1480, [1480]),
        (1500, 4, 1481, [1480, 1]),
        (4078, 4, 4058, [4058]),  # 4058 is no multiple of 8, and need not be where nothing follows
        (4078, 4, 8115, [4056, 4056, 3]),
        (4078, 4, 8114, [4056, 4058]),
    ],
)
def test_an_echo_reply_is_cut_only_where_it_exceeds_the_mtu(
    monkeypatch: pytest.MonkeyPatch, mtu: int, version: int, octets: int, pieces: list[int]
) -> None:
    """ip_append_data and ip6_append_data: what is left goes whole if it fits; a cut lies at a multiple of 8."""
    sizes: list[int] = []

    def reply(_m: Any, size: int) -> bool:
        sizes.append(size)
        return True

    monkeypatch.setattr("emu.kernel.reply.reply", reply)
    setup = Setup(config=plenty(), nics=(Nic(ring=64, mtu=mtu),))
    asked = icmp(8, octets - 8) | {"length": 1000, "caplen": 1000}
    play(setup, paced([asked if version == 4 else in_ipv6(asked) | {"icmp_type": 128}], MS), until_ns=SECOND_NS)
    assert [size - 31 - (20 if version == 4 else 40) for size in sizes] == pieces


@pytest.mark.parametrize("packet", [icmp(3, pkt_type=PACKET_BROADCAST), icmp(40)], ids=["broadcast", "unknown type"])
def test_icmp_types_that_must_not_be(packet: dict[str, int]) -> None:
    """icmp_rcv frees them as errors."""
    played = play(QUIET, paced([packet], MS), until_ns=SECOND_NS)
    assert (ends(played), played.m.mib.IcmpInErrors) == ([("NOT_SPECIFIED", "icmp_rcv")], 1)


# --- groups ---------------------------------------------------------------------------------------------------------

GROUP = rule(17, local_port=5353, members=3, reader=READER_NEVER, rcvbuf=10_000)
MCAST = udp(5353, pkt_type=PACKET_MULTICAST, daddr=0xE00000FB)


def test_every_member_gets_a_multicast_over_the_same_data() -> None:
    """Two clones and the skb itself: three truesizes are charged, one data area is held; nobody else need have made
    the sockets."""
    setup = Setup(config=plenty(), nics=(Nic(ring=64),), rules=(GROUP,))
    m = booted(setup)
    skbs = m.skbs_used
    played = play(setup, paced([MCAST] * 2, MS), machine=m, until_ns=SECOND_NS)
    assert ends(played) == [("", "sock_queue_rcv_skb")] * 2
    assert [m.sk[i].rmem_alloc for i in range(3)] == [2 * TRUESIZE] * 3
    assert (m.mib.UdpInDatagrams, m.skbs_used, m.sk_live) == (6, skbs + 6, 3)
    assert len({int(m.skb[m.sk[i].queue_head].data_slab) for i in range(3)}) == 1
    sk_close(m, 0)
    assert m.skbs_used == skbs


def test_a_multicast_is_dropped_only_if_no_member_takes_it() -> None:
    """Four fit into a buffer of 10 000 bytes; a member that has read takes the next."""
    setup = Setup(config=plenty(), nics=(Nic(ring=64),), rules=(GROUP,))
    full = play(setup, paced([MCAST] * 5, MS), until_ns=SECOND_NS)
    assert full.reasons() == [""] * 4 + ["SOCKET_RCVBUFF"]
    assert (full.m.mib.UdpRcvbufErrors, full.m.mib.UdpInErrors) == (3, 3)
    m = booted(setup)
    play(setup, paced([MCAST] * 4, MS), machine=m, until_ns=SECOND_NS)
    m.sk[m.sk[0].mcast_next].rcvbuf = 20_000
    assert play(setup, paced([MCAST], MS, 2 * SECOND_NS), machine=m, until_ns=3 * SECOND_NS).reasons() == [""]


def test_mainline_filters_each_member() -> None:
    """A tagged multicast is refused three times, and dropped for that."""
    setup = Setup("mainline", config=plenty(), nics=(Nic(ring=64),), rules=(GROUP,))
    m = booted(setup)
    m.skb[m.dev[0].ring_skb[0]].pfmemalloc = 1
    played = play(setup, paced([MCAST], MS), machine=m, until_ns=SECOND_NS)
    assert (ends(played), played.rows[0].rule) == ([("PFMEMALLOC", "sk_filter_trim_cap")], RULE_FILTER)
    assert (m.mib.TcpExtPFMemallocDrop, m.mib.UdpInErrors) == (3, 3)


def test_a_member_whose_clone_finds_no_memory_misses_it() -> None:
    """The last member gets the skb itself, and the verdict is delivered."""
    setup = Setup("linux-2.6.12", nics=(Nic(ring=64, background=0),), rules=(GROUP,))
    m = booted(setup)
    leave_free(m, 0)
    played = play(setup, paced([MCAST], MS), machine=m, until_ns=SECOND_NS)
    assert played.column("verdict") == [DELIVERED]
    assert m.mib.UdpInDatagrams == 1


def test_a_refused_port_has_no_members_any_more() -> None:
    """The host's own port unreachable closes all sockets of the port."""
    setup = Setup(config=plenty(), nics=(Nic(ring=64),), rules=(GROUP,))
    refusal = icmp(3, quoted_port=5353, pkt_type=PACKET_OUTGOING)
    played = play(setup, paced([MCAST, refusal, MCAST], MS), until_ns=SECOND_NS)
    assert ends(played)[2] == ("NO_SOCKET", "udp_v4_mcast_deliver")
    assert all(m_sk == 0 for m_sk in (played.m.sk[i].rmem_alloc for i in range(3)))


# --- taps and raw sockets ---------------------------------------------------------------------------------------------


def test_a_tap_keeps_the_buffer_that_the_patch_has_given_back() -> None:
    """Reserve, check, drop: the count goes down by one, and the data stays with the tap."""
    setup = Setup("phillips-v5", config=UNREAD, nics=(Nic(ring=64),), taps=(packet_sock(),))
    m = booted(setup)
    m.dev[0].rx_reserve_used = 5
    skbs = m.skbs_used
    played = play(setup, paced([udp()], MS), machine=m, until_ns=SECOND_NS)
    assert (ends(played), m.dev[0].rx_reserve_used) == ([("PFMEMALLOC", "udp_rcv")], 4)
    assert (m.tap[0].tp_packets, m.sk[m.tap[0].sk].rmem_alloc, m.skbs_used) == (1, TRUESIZE, skbs + 1)


def test_a_tap_is_full_or_sees_one_device_only_and_changes_no_verdict() -> None:
    """Refused at rmem_alloc + truesize >= rcvbuf; a tap on another device sees nothing; segments count one by one."""
    setup = Setup(config=plenty(), nics=(Nic(ring=64), Nic(ring=64)), taps=(packet_sock(rcvbuf=7000, dev=1),))
    frames = [udp(dev=1)] * 4 + [udp(dev=0), udp(CLOSED, dev=1)]
    played = play(setup, paced(frames, MS), until_ns=SECOND_NS)
    assert (played.m.tap[0].tp_packets, played.m.tap[0].tp_drops) == (2, 3)
    assert played.reasons() == [""] * 5 + ["NO_SOCKET"]
    big = tcp(payload=4000, segments=4)
    assert play(setup, paced([big | {"dev": 1, "length": 4200}], MS), until_ns=SECOND_NS).m.tap[0].tp_packets == 2


def test_a_tap_without_memory_for_its_clone_counts_a_drop() -> None:
    """The sk_buff of a clone comes with GFP_ATOMIC."""
    setup = Setup("linux-2.6.12", nics=(Nic(ring=64, background=0),), taps=(packet_sock(),))
    m = booted(setup)
    leave_free(m, 0)
    played = play(setup, paced([arp()], MS), machine=m, until_ns=SECOND_NS)
    assert (m.tap[0].tp_drops, played.column("verdict")) == (1, [DELIVERED])


def test_mainline_hides_tagged_packets_from_taps_while_storage_is_open() -> None:
    """The static key decides; raw sockets are filtered always."""
    raw = packet_sock(protocol=17)
    setup = Setup("mainline", config=plenty(), nics=(Nic(ring=64),), taps=(packet_sock(),), raws=(raw,))
    for key, seen in ((1, 0), (0, 1)):
        m = booted(setup)
        m.memalloc_socks = key
        m.skb[m.dev[0].ring_skb[0]].pfmemalloc = 1
        play(setup, paced([udp(CLOSED)], MS), machine=m, until_ns=SECOND_NS)
        assert (m.tap[0].tp_packets, m.sk[m.raw[0].sk].queue_len, m.mib.TcpExtPFMemallocDrop) == (seen, 0, 1)


def test_a_raw_socket_makes_its_protocol_known() -> None:
    """SCTP with a raw socket is no unknown protocol, and earns no ICMP error even when the socket is full."""
    setup = Setup(config=UNREAD, nics=(Nic(ring=64),), raws=(packet_sock(protocol=132, rcvbuf=3000),))
    played = play(setup, paced([ip_other(132)] * 2, MS), until_ns=SECOND_NS)
    assert ends(played) == [("", "raw_rcv"), ("SOCKET_RCVBUFF", "raw_rcv")]
    mib = played.m.mib
    assert (mib.IpInUnknownProtos, mib.IcmpOutDestUnreachs, mib.IpInDelivers) == (0, 0, 2)


def test_a_raw_socket_gets_whole_datagrams_before_the_check() -> None:
    """Two fragments are one raw packet; the datagram is then dropped by the check, and the raw socket keeps it."""
    setup = Setup("phillips-v5", config=plenty(), nics=(Nic(ring=64),), raws=(packet_sock(protocol=17),))
    m = booted(setup)
    m.dev[0].rx_reserve_used = 5
    pieces = [fragment(0, 1480), fragment(1480, 100, 0)]
    played = play(setup, paced(pieces, MS), machine=m, until_ns=SECOND_NS)
    assert played.column("verdict") == [DELIVERED, DROPPED]
    assert (m.sk[m.raw[0].sk].rmem_alloc, m.sk[m.raw[0].sk].queue_len) == (2 * TRUESIZE, 2)


def test_readers_of_taps_read() -> None:
    """A tap with a rate is drained like any socket."""
    tap = packet_sock(reader=READER_RATE, read_rate=1000)
    setup = Setup(config=plenty(), nics=(Nic(ring=64),), taps=(tap,))
    m = play(setup, paced([udp()] * 8, 10_000), until_ns=SECOND_NS).m
    assert (m.tap[0].tp_packets, m.sk[m.tap[0].sk].queue_len) == (8, 0)


# --- UDP's checksum ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [4, 6])
def test_a_wrong_checksum_on_a_queued_datagram_is_found_when_it_is_read(version: int) -> None:
    """The datagram is delivered and counted; its reader throws it away: an event, and an error."""
    packet = udp(l4_csum=CSUM_BAD) if version == 4 else in_ipv6(udp(l4_csum=CSUM_BAD))
    for setup, read in ((QUIET, 1), (Setup(config=UNREAD, nics=(Nic(ring=64),)), 0)):
        played = play(setup, paced([packet], MS), until_ns=SECOND_NS)
        mib = played.m.mib
        assert (mib.UdpInDatagrams, mib.Udp6InDatagrams) == ((1, 0) if version == 4 else (0, 1))
        assert (mib.UdpInErrors, mib.Udp6InErrors) == ((read, 0) if version == 4 else (0, read))
        assert events_of(played.m) == [(1, "UDP_CSUM", "udp_recvmsg")] * read
        assert played.column("verdict") == [DELIVERED]

"""Where the checks stand: which packets give one back, which never reach a check, and who is dropped."""

from typing import Any

import pytest
from machines import (
    CLOSED,
    FIN,
    ISCSI,
    OPEN,
    SYN,
    Nic,
    Play,
    Setup,
    arp,
    booted,
    ethertype,
    fragment,
    icmp,
    ip_other,
    iscsi,
    paced,
    play,
    plenty,
    runt,
    tcp,
    udp,
)

from emu.kernel.drop_reason import POINTS
from emu.kernel.machine import PACKET_BROADCAST, PACKET_MULTICAST
from emu.kernel.policy import RULE_CORE, RULE_FILTER, RULE_ICMP, RULE_NONE, RULE_TCP, RULE_UDP
from emu.wire.headers import CSUM_BAD, IP_HEADER_BAD, IP_TOO_SHORT, TOO_SHORT

SECOND_NS = 1_000_000_000
USED = 5


def last_of(setup: Setup, frames: list[dict[str, int]], *, used: int = 0, tagged: int = 0, socks: int = 0) -> Play:
    """Play frames one by one on a machine in this state of reserve; memory is plentiful."""
    m = booted(setup)
    m.dev[0].rx_reserve_used = used
    m.memalloc_socks = socks
    for slot in range(m.dev[0].ring_size):
        m.skb[m.dev[0].ring_skb[slot]].pfmemalloc = tagged
    return play(setup, paced(frames, 1_000_000), machine=m, until_ns=SECOND_NS)


GIVES_BACK = [
    ("tcp", tcp(), "PFMEMALLOC", "tcp_v4_rcv", RULE_TCP),
    ("tcp, memalloc", iscsi(), "", "tcp_data_queue", RULE_NONE),
    ("tcp ack, memalloc", iscsi(0), "", "tcp_rcv_established", RULE_NONE),
    ("tcp fin, memalloc", iscsi(0, flags=FIN), "", "tcp_data_queue", RULE_NONE),
    ("tcp syn to a listener", tcp(payload=0, flags=SYN), "PFMEMALLOC", "tcp_v4_rcv", RULE_TCP),
    ("tcp, 77 bytes, bad checksum", tcp(payload=57, l4_csum=CSUM_BAD), "PFMEMALLOC", "tcp_v4_rcv", RULE_TCP),
    ("memalloc, 77 bytes, bad checksum", iscsi(57, l4_csum=CSUM_BAD), "TCP_CSUM", "tcp_rcv_established", RULE_NONE),
    ("udp", udp(), "PFMEMALLOC", "udp_rcv", RULE_UDP),
    ("udp, bad checksum", udp(l4_csum=CSUM_BAD), "PFMEMALLOC", "udp_rcv", RULE_UDP),
    ("udp, memalloc", udp(sport=ISCSI), "", "sock_queue_rcv_skb", RULE_NONE),
    ("icmp echo request", icmp(8), "PFMEMALLOC", "icmp_rcv", RULE_ICMP),
    ("icmp fragmentation needed", icmp(3), "PFMEMALLOC", "icmp_rcv", RULE_ICMP),
    ("icmp echo reply", icmp(0), "PFMEMALLOC", "icmp_rcv", RULE_ICMP),
    ("icmp, too short for its header", icmp(payload=-4, header_error=TOO_SHORT), "PFMEMALLOC", "icmp_rcv", RULE_ICMP),
]
KEEPS = [
    ("tcp to a closed port", tcp(CLOSED), "NO_SOCKET", "tcp_v4_rcv"),
    ("tcp with a bad header", tcp(header_error=TOO_SHORT), "PKT_TOO_SMALL", "tcp_v4_rcv"),
    ("tcp, 76 bytes, bad checksum", tcp(payload=56, l4_csum=CSUM_BAD), "TCP_CSUM", "tcp_v4_rcv"),
    ("memalloc, 76 bytes, bad checksum", iscsi(56, l4_csum=CSUM_BAD), "TCP_CSUM", "tcp_v4_rcv"),
    ("tcp to a closed port, bad checksum", tcp(CLOSED, l4_csum=CSUM_BAD), "TCP_CSUM", "tcp_v4_rcv"),
    ("tcp by broadcast", tcp(pkt_type=PACKET_BROADCAST), "NOT_SPECIFIED", "tcp_v4_rcv"),
    ("udp to a closed port", udp(CLOSED), "NO_SOCKET", "udp_rcv"),
    ("udp to a closed port, bad checksum", udp(CLOSED, l4_csum=CSUM_BAD), "UDP_CSUM", "udp_rcv"),
    ("udp with a bad header", udp(header_error=TOO_SHORT), "PKT_TOO_SMALL", "udp_rcv"),
    ("udp by broadcast to nobody", udp(80, pkt_type=PACKET_BROADCAST), "NO_SOCKET", "udp_v4_mcast_deliver"),
    ("udp by multicast to nobody", udp(80, pkt_type=PACKET_MULTICAST), "NO_SOCKET", "udp_v4_mcast_deliver"),
    ("icmp, bad checksum", icmp(l4_csum=CSUM_BAD), "ICMP_CSUM", "icmp_rcv"),
    ("arp", arp(), "", "arp_rcv"),
    ("arp, too short", arp(header_error=TOO_SHORT), "PKT_TOO_SMALL", "arp_rcv"),
    ("igmp", ip_other(2), "", "igmp_rcv"),
    ("sctp", ip_other(132), "IP_NOPROTO", "ip_local_deliver_finish"),
    ("gre", ip_other(47), "IP_NOPROTO", "ip_local_deliver_finish"),
    ("a fragment", fragment(), "", "ip_defrag"),
    ("ip, bad checksum", tcp(ip_csum=CSUM_BAD), "IP_CSUM", "ip_rcv"),
    ("ip, bad header", tcp(header_error=IP_HEADER_BAD), "IP_INHDR", "ip_rcv"),
    ("ip, too short", tcp(header_error=IP_TOO_SHORT), "PKT_TOO_SMALL", "ip_rcv"),
    ("ipv6", ethertype(0x86DD), "UNHANDLED_PROTO", "netif_receive_skb"),
    ("vlan", ethertype(0x8100), "UNHANDLED_PROTO", "netif_receive_skb"),
    ("lldp", ethertype(0x88CC), "UNHANDLED_PROTO", "netif_receive_skb"),
    ("a runt", runt(), "HDR_TRUNC", "eth_type_trans"),
]
V5 = Setup("phillips-v5", config=plenty(), nics=(Nic(ring=32),))


@pytest.mark.parametrize(("what", "packet", "reason", "point", "rule"), GIVES_BACK, ids=[row[0] for row in GIVES_BACK])
def test_v5_checked_packets_give_one_back(what: str, packet: Any, reason: str, point: str, rule: int) -> None:
    """While the device is in reserve a checked packet lowers the count by one, and is dropped unless memalloc."""
    played = last_of(V5, [packet], used=USED)
    p = played.rows[0]
    assert (p.reserve_used_before, p.reserve_used_after, played.m.dev[0].rx_reserve_used) == (USED, USED - 1, USED - 1)
    assert (played.reasons(), POINTS[p.point], p.rule) == ([reason], point, rule)


@pytest.mark.parametrize(("what", "packet", "reason", "point"), KEEPS, ids=[row[0] for row in KEEPS])
def test_v5_unchecked_packets_keep_the_count(what: str, packet: Any, reason: str, point: str) -> None:
    """What never reaches a check leaves the count as it is, whatever becomes of it."""
    played = last_of(V5, [packet], used=USED)
    p = played.rows[0]
    assert (p.reserve_used_before, p.reserve_used_after, played.m.dev[0].rx_reserve_used) == (USED, USED, USED)
    assert (played.reasons(), POINTS[p.point], p.rule) == ([reason], point, RULE_NONE)


def test_v5_udp_by_broadcast_leaves_for_its_socket_before_the_check() -> None:
    """A socket that exists gets its broadcasts in the middle of a reserve, and the count stays."""
    frames = [udp(), udp(pkt_type=PACKET_BROADCAST), udp(pkt_type=PACKET_MULTICAST)]
    played = last_of(V5, frames, used=USED)
    assert played.reasons() == ["PFMEMALLOC", "", ""]
    assert played.m.dev[0].rx_reserve_used == USED - 1


@pytest.mark.parametrize("packet", [row[1] for row in GIVES_BACK], ids=[row[0] for row in GIVES_BACK])
def test_v5_out_of_reserve_drops_nothing_for_it(packet: Any) -> None:
    """With the count at zero no packet is dropped for the reserve, and the count stays at zero."""
    played = last_of(V5, [packet])
    assert "PFMEMALLOC" not in played.reasons()
    assert played.m.dev[0].rx_reserve_used == 0


def test_v5_the_check_looks_at_the_device_of_the_packet() -> None:
    """A device out of reserve delivers while its neighbour drops."""
    setup = Setup("phillips-v5", config=plenty(), nics=(Nic(ring=32), Nic(ring=32)))
    played = last_of(setup, [udp(dev=0), udp(dev=1)], used=USED)
    assert played.reasons() == ["PFMEMALLOC", ""]


@pytest.mark.parametrize("policy", ["linux-2.6.12", "reserve-only"])
@pytest.mark.parametrize("packet", [row[1] for row in GIVES_BACK], ids=[row[0] for row in GIVES_BACK])
def test_a_kernel_without_checks_ignores_count_and_tag(policy: str, packet: Any) -> None:
    """Without triage nothing is dropped for the reserve and nothing is given back."""
    played = last_of(Setup(policy, config=plenty(), nics=(Nic(ring=32),)), [packet], used=USED, tagged=1, socks=1)
    assert "PFMEMALLOC" not in played.reasons()
    assert played.m.dev[0].rx_reserve_used == USED


MAINLINE = Setup("mainline", config=plenty(), nics=(Nic(ring=32),))
TAGGED = [
    ("tcp", tcp(), "PFMEMALLOC", "sk_filter_trim_cap", RULE_FILTER),
    ("tcp ack", tcp(payload=0), "PFMEMALLOC", "sk_filter_trim_cap", RULE_FILTER),
    ("tcp syn to a listener", tcp(payload=0, flags=SYN), "PFMEMALLOC", "sk_filter_trim_cap", RULE_FILTER),
    ("udp", udp(), "PFMEMALLOC", "sk_filter_trim_cap", RULE_FILTER),
    ("tcp, memalloc", iscsi(), "", "tcp_data_queue", RULE_NONE),
    ("udp, memalloc", udp(sport=ISCSI), "", "sock_queue_rcv_skb", RULE_NONE),
    ("tcp to a closed port: RST", tcp(CLOSED), "NO_SOCKET", "tcp_v4_rcv", RULE_NONE),
    ("udp to a closed port: unreachable", udp(CLOSED), "NO_SOCKET", "udp_rcv", RULE_NONE),
    ("icmp echo: answered", icmp(8), "", "icmp_rcv", RULE_NONE),
    ("arp", arp(), "", "arp_rcv", RULE_NONE),
    ("igmp", ip_other(2), "", "igmp_rcv", RULE_NONE),
    ("a fragment: queued", fragment(), "", "ip_defrag", RULE_NONE),
    ("ipv6 is on the list", ethertype(0x86DD), "UNHANDLED_PROTO", "netif_receive_skb", RULE_NONE),
    ("802.1Q is on the list", ethertype(0x8100), "UNHANDLED_PROTO", "netif_receive_skb", RULE_NONE),
    ("802.1AD is on the list", ethertype(0x88A8), "UNHANDLED_PROTO", "netif_receive_skb", RULE_NONE),
    ("lldp is not", ethertype(0x88CC), "PFMEMALLOC", "netif_receive_skb", RULE_CORE),
    ("tcp, short, bad checksum", tcp(payload=56, l4_csum=CSUM_BAD), "TCP_CSUM", "tcp_v4_rcv", RULE_NONE),
]


@pytest.mark.parametrize(("what", "packet", "reason", "point", "rule"), TAGGED, ids=[row[0] for row in TAGGED])
def test_mainline_tagged_packets_in_a_reserve(what: str, packet: Any, reason: str, point: str, rule: int) -> None:
    """With the key on: unknown ethertypes fall in the core, sockets that are not memalloc refuse in sk_filter."""
    played = last_of(MAINLINE, [packet], tagged=1, socks=1)
    p = played.rows[0]
    assert (played.reasons(), POINTS[p.point], p.rule) == ([reason], point, rule)
    assert played.m.mib.TcpExtPFMemallocDrop == (rule == RULE_FILTER)
    assert played.m.mib.dev_rx_dropped == (rule == RULE_CORE)


@pytest.mark.parametrize("packet", [row[1] for row in TAGGED], ids=[row[0] for row in TAGGED])
def test_mainline_untagged_packets_are_never_refused(packet: Any) -> None:
    """Without the tag no rule of mainline drops anything."""
    assert "PFMEMALLOC" not in last_of(MAINLINE, [packet], socks=1).reasons()


def test_mainline_the_core_asks_for_the_key_and_sk_filter_does_not() -> None:
    """Without a SOCK_MEMALLOC socket a tagged LLDP frame goes on to find no handler; a tagged datagram still falls."""
    played = last_of(MAINLINE, [ethertype(0x88CC), udp()], tagged=1)
    assert played.reasons() == ["UNHANDLED_PROTO", "PFMEMALLOC"]


def test_the_sockets_counters_are_those_of_nstat() -> None:
    """Each verdict moves the counters that the kernel's own function moves."""
    frames = [udp(), udp(CLOSED), udp(CLOSED, l4_csum=CSUM_BAD), tcp(CLOSED), tcp(CLOSED, flags=4), icmp(8), icmp(0)]
    frames += [
        tcp(payload=1, l4_csum=CSUM_BAD),
        ip_other(132),
        fragment(),
        tcp(ip_csum=CSUM_BAD),
        icmp(l4_csum=CSUM_BAD),
    ]
    mib = last_of(V5, frames).m.mib
    assert (mib.IpInReceives, mib.IpInDelivers, mib.IpInHdrErrors, mib.IpInUnknownProtos) == (12, 9, 1, 1)
    assert (mib.UdpInDatagrams, mib.UdpNoPorts, mib.UdpInErrors) == (1, 1, 1)
    assert (mib.TcpInSegs, mib.TcpInErrs, mib.TcpOutRsts) == (3, 1, 1)
    assert (mib.IcmpInMsgs, mib.IcmpInErrors, mib.IcmpInEchos, mib.IcmpOutEchoReps) == (3, 1, 1, 1)
    assert (mib.IcmpOutDestUnreachs, mib.IpReasmReqds) == (2, 1)
    assert OPEN != CLOSED

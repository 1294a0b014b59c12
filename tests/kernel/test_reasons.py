"""Every reason, every cause and every verdict is reached, each by a test of its name."""

from pathlib import Path
from typing import Any

import pytest
from machines import (
    CLOSED,
    PLAIN,
    Nic,
    Play,
    Setup,
    arp,
    booted,
    ethertype,
    icmp,
    ip_other,
    iscsi,
    leave_free,
    paced,
    play,
    plenty,
    rows_of,
    runt,
    sent,
    tcp,
    udp,
)

from emu.engine.loop import run
from emu.kernel.drop_reason import (
    CAUSES,
    CPU_BUSY,
    DELIVERED,
    DEVICE_CAP,
    DROPPED,
    IN_FLIGHT,
    NO_CAUSE,
    NOMEM,
    NOT_RECEIVED,
    PENDING,
    POINTS,
    REASONS,
    VERDICTS,
)
from emu.kernel.machine import PACKET_BROADCAST, PACKET_OTHERHOST, Event
from emu.kernel.policy import RULE_CAP, RULE_NO_RESERVE, RULE_NONE
from emu.kernel.sock import READER_NEVER
from emu.wire.headers import CSUM_BAD, IP_HEADER_BAD, TOO_SHORT

SECOND_NS = 1_000_000_000
NOT_OF_THE_KERNEL = {"oops", "not_played", "event"}  # the engine's caller gives these: the machine stopped


def test_every_reason_has_a_test() -> None:
    """A reason that no test reaches is a promise that nobody keeps."""
    tests = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_*.py"))
    missing = [reason.name for reason in REASONS[1:] if f"def test_reason_{reason.name}(" not in tests]
    assert missing == []


def test_every_cause_has_a_test() -> None:
    """So is a cause."""
    assert [cause.name for cause in CAUSES[1:] if f"test_cause_{cause.name}" not in globals()] == []


def test_every_verdict_has_a_test() -> None:
    """So is a verdict, but for those that the machine itself never gives."""
    ours = [verdict for verdict in VERDICTS if verdict not in NOT_OF_THE_KERNEL]
    assert [verdict for verdict in ours if f"test_verdict_{verdict}" not in globals()] == []


QUIET = Setup(config=plenty(), nics=(Nic(ring=32),))


def dropped(
    packet: Any,
    reason: str,
    point: str,
    setup: Setup = QUIET,
    before: tuple[Any, ...] = (),
    machine: Any = None,
) -> Play:
    """Play one packet (after others) and see it dropped for this reason, there, and counted there only."""
    frames = paced((*before, packet), 1_000_000)
    played = play(setup, frames, until_ns=SECOND_NS, machine=machine)
    last = played.rows[len(frames) - 1]
    assert (last.verdict, REASONS[last.reason].name, POINTS[last.point]) == (DROPPED, reason, point)
    counted = {REASONS[at].name: n for at, n in enumerate(played.m.total.drops_by_reason) if n}
    assert counted[reason] == played.reasons().count(reason)
    assert sum(counted.values()) == played.m.total.dropped
    return played


def test_reason_RX_MISSED() -> None:  # noqa: N802
    """A ring that shows the NIC 16 descriptors misses the 17th frame of a burst."""
    played = play(QUIET, [udp(time_ns=0)] * 17)
    assert played.reasons() == [""] * 16 + ["RX_MISSED"]
    assert (played.m.dev[0].rx_missed, POINTS[played.rows[16].point]) == (1, "nic")


def test_reason_RX_LENGTH() -> None:  # noqa: N802
    """At MTU 1500 a frame of 1519 bytes without FCS is too long, one of 1518 is not."""
    assert dropped(udp(payload=1477), "RX_LENGTH", "nic").m.dev[0].rx_length_errors == 1
    assert play(QUIET, [udp(payload=1476, time_ns=0)], until_ns=SECOND_NS).reasons() == [""]


def test_reason_PFMEMALLOC() -> None:  # noqa: N802
    """In the default crunch the ordinary datagrams after the ring's turn are dropped for block I/O's sake."""
    setup = Setup("phillips-v5", nics=(Nic(ring=32, background=0),))
    played = play(setup, paced([udp(), *[udp(), iscsi()] * 40], 100_000), until_ns=SECOND_NS)
    ordinary = played.reasons()[1::2]
    assert "PFMEMALLOC" in ordinary
    assert set(played.reasons()[2::2]) == {""}
    assert played.m.dev[0].rx_reserve_used_max > 0


def test_reason_NO_SOCKET() -> None:  # noqa: N802
    """Nobody listens on a port that the user calls closed, nor on one that the host has refused with a RST."""
    assert dropped(tcp(CLOSED), "NO_SOCKET", "tcp_v4_rcv").m.mib.TcpOutRsts == 1
    assert dropped(udp(CLOSED), "NO_SOCKET", "udp_rcv").m.mib.UdpNoPorts == 1
    refused = (tcp(), sent(tcp(flags=4, payload=0)))
    assert dropped(tcp(), "NO_SOCKET", "tcp_v4_rcv", before=refused).column("verdict") == [
        DELIVERED,
        NOT_RECEIVED,
        DROPPED,
    ]


def never_read(**config: int) -> Setup:
    """Plenty of memory, and nobody reads."""
    quiet = plenty(**config) | {"ordinary_reader": READER_NEVER, "memalloc_reader": READER_NEVER}
    return Setup("linux-2.6.12", config=quiet, nics=(Nic(ring=64),))


def test_reason_SOCKET_RCVBUFF() -> None:  # noqa: N802
    """The default UDP buffer takes 46 e1000 buffers of truesize 2344: refused when the sum reaches 108544."""
    played = dropped(udp(), "SOCKET_RCVBUFF", "sock_queue_rcv_skb", never_read(), (udp(),) * 46)
    assert played.reasons() == [""] * 46 + ["SOCKET_RCVBUFF"]
    assert (played.m.sk[0].rmem_alloc, played.m.mib.UdpRcvbufErrors) == (46 * 2344, 1)


def test_reason_PROTO_MEM() -> None:  # noqa: N802
    """The default TCP buffer takes 38 segments: queued while what it holds is not above 87380; none to copy them."""
    m = booted(never_read())
    leave_free(m, 0)
    played = dropped(tcp(), "PROTO_MEM", "tcp_data_queue", never_read(), (tcp(),) * 38, machine=m)
    assert played.reasons() == [""] * 38 + ["PROTO_MEM"]
    assert (m.sk[0].rmem_alloc, m.mib.TcpExtPruneCalled, m.mib.TcpExtRcvPruned) == (38 * 2344, 1, 1)


def test_reason_PKT_TOO_SMALL() -> None:  # noqa: N802
    """A header that promises more than there is."""
    dropped(udp(header_error=TOO_SHORT), "PKT_TOO_SMALL", "udp_rcv")
    dropped(icmp(header_error=TOO_SHORT), "PKT_TOO_SMALL", "icmp_rcv")


def test_reason_HDR_TRUNC() -> None:  # noqa: N802
    """Less than an Ethernet header."""
    dropped(runt(), "HDR_TRUNC", "eth_type_trans")


def test_reason_IP_INHDR() -> None:  # noqa: N802
    """A version or a length that cannot be."""
    assert dropped(udp(header_error=IP_HEADER_BAD), "IP_INHDR", "ip_rcv").m.mib.IpInHdrErrors == 1


def test_reason_IP_CSUM() -> None:  # noqa: N802
    """A header checksum that does not add up."""
    assert dropped(udp(ip_csum=CSUM_BAD), "IP_CSUM", "ip_rcv").m.mib.IpInHdrErrors == 1


def test_reason_IP_NOPROTO() -> None:  # noqa: N802
    """SCTP to a host without SCTP is answered with a protocol unreachable."""
    assert dropped(ip_other(132), "IP_NOPROTO", "ip_local_deliver_finish").m.mib.IcmpOutDestUnreachs == 1


def test_reason_TCP_CSUM() -> None:  # noqa: N802
    """Short segments are verified before the lookup, long ones by the socket."""
    dropped(tcp(payload=56, l4_csum=CSUM_BAD), "TCP_CSUM", "tcp_v4_rcv")
    dropped(tcp(payload=57, l4_csum=CSUM_BAD), "TCP_CSUM", "tcp_rcv_established")


def test_reason_UDP_CSUM() -> None:  # noqa: N802
    """Only a datagram that nobody takes has its checksum verified in udp_rcv, and then no unreachable is sent."""
    assert dropped(udp(CLOSED, l4_csum=CSUM_BAD), "UDP_CSUM", "udp_rcv").m.mib.IcmpOutDestUnreachs == 0


def test_reason_ICMP_CSUM() -> None:  # noqa: N802
    """ICMP verifies at once."""
    dropped(icmp(l4_csum=CSUM_BAD), "ICMP_CSUM", "icmp_rcv")


def test_reason_UNHANDLED_PROTO() -> None:  # noqa: N802
    """No handler for LLDP."""
    dropped(ethertype(0x88CC), "UNHANDLED_PROTO", "netif_receive_skb")


def test_reason_NOT_SPECIFIED() -> None:  # noqa: N802
    """TCP that is not for this host alone."""
    dropped(tcp(pkt_type=PACKET_BROADCAST), "NOT_SPECIFIED", "tcp_v4_rcv")


def missed(setup: Setup, frames: list[dict[str, int]]) -> tuple[set[int], set[int], Play]:
    """The causes and rules of all missed frames."""
    played = play(setup, frames, until_ns=frames[-1]["time_ns"] + 1)
    lost = [played.rows[at] for at, reason in enumerate(played.reasons()) if reason == "RX_MISSED"]
    assert lost
    return {p.cause for p in lost}, {p.rule for p in lost}, played


def test_cause_DEVICE_CAP() -> None:  # noqa: N802
    """Broadcasts are never checked and never credited: five held reserve buffers are the cap, and the ring dries."""
    setup = Setup("phillips-v5", nics=(Nic(ring=32, background=0, reserve=5),))
    frames = paced([udp(), *[udp(pkt_type=PACKET_BROADCAST)] * 60], 100_000)
    causes, rules, played = missed(setup, frames)
    assert (causes, rules) == ({DEVICE_CAP}, {RULE_CAP})
    assert (played.m.dev[0].rx_reserve_used, played.m.dev[0].reserve_allocations) == (5, 5)


@pytest.mark.parametrize(("policy", "rule"), [("linux-2.6.12", RULE_NO_RESERVE), ("reserve-only", RULE_NONE)])
def test_cause_NOMEM(policy: str, rule: int) -> None:  # noqa: N802
    """Without a reserve, or with one that is used up by a blocked reader's queue, no page is left for the ring."""
    setup = Setup(policy, nics=(Nic(ring=32, background=0),), config={"memory_pages": 4096, "udp_rcvbuf": 1 << 20})
    causes, rules, played = missed(setup, paced([udp()] * 400, 100_000))
    assert (causes, rules) == ({NOMEM}, {rule})
    assert played.m.dev[0].rx_missed_frames_dry == played.m.dev[0].rx_missed


def test_cause_CPU_BUSY() -> None:  # noqa: N802
    """With memory in plenty a burst beyond the ring is lost for want of CPU, and not for want of pages."""
    causes, rules, played = missed(QUIET, [udp(time_ns=0)] * 40)
    assert (causes, rules) == ({CPU_BUSY}, {RULE_NONE})
    assert played.m.dev[0].rx_missed_frames_dry == 0


def test_only_missed_frames_have_a_cause() -> None:
    """The cause says why a ring was dry, and nothing else has one."""
    played = play(QUIET, [udp(time_ns=0)] * 40)
    assert all(
        (cause == NO_CAUSE) == (reason != "RX_MISSED")
        for cause, reason in zip(played.column("cause"), played.reasons(), strict=True)
    )


def test_verdict_pending() -> None:
    """A packet in the ring has no verdict yet."""
    m = booted(QUIET)
    rows = rows_of([arp(time_ns=0)])
    run(m, rows, 0, 1, 0, PLAIN.rows(Event, 4), 4)
    assert (rows[0].verdict, m.dev[0].ring_done) == (PENDING, 1)


def test_verdict_delivered() -> None:
    """A protocol took it."""
    assert play(QUIET, [arp(time_ns=0)], until_ns=1).column("verdict") == [DELIVERED]


def test_verdict_dropped() -> None:
    """The kernel freed it."""
    assert play(QUIET, [runt(time_ns=0)], until_ns=1).column("verdict") == [DROPPED]


def test_verdict_in_flight() -> None:
    """The run ended while it was in the ring."""
    played = play(QUIET, [arp(time_ns=0)])
    assert played.column("verdict") == [IN_FLIGHT]
    assert played.m.total.received == 1


def test_verdict_not_received() -> None:
    """Sent by the host, or for somebody else: no ring, no memory, no socket."""
    played = play(QUIET, [sent(tcp(time_ns=0)), tcp(time_ns=0, pkt_type=PACKET_OTHERHOST)], until_ns=1)
    assert played.column("verdict") == [NOT_RECEIVED] * 2
    assert (played.m.total.not_received, played.m.total.received, played.m.sk_live) == (2, 0, 0)


def test_verdict_filtered() -> None:
    """The user's filter took it out: it is counted and nothing else happens."""
    from emu.kernel.drop_reason import FILTERED
    from emu.kernel.machine import PACKET_FILTERED

    played = play(QUIET, [tcp(time_ns=0, pkt_type=PACKET_FILTERED)], until_ns=1)
    assert played.column("verdict") == [FILTERED]
    assert (played.m.total.filtered, played.m.total.received, played.m.sk_live) == (1, 0, 0)

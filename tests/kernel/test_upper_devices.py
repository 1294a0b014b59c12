"""VLANs, bonds and bridges: the device that a protocol sees, and the reserve that it never has (bug 14)."""

from typing import Any

import pytest
from machines import Nic, Setup, Upper, arp, booted, ethertype, icmp, paced, play, plenty, sent, tcp, udp

from emu.kernel.drop_reason import AT_BR_FORWARD, AT_IP_RCV, AT_NETIF_RECEIVE_SKB, AT_VLAN_SKB_RECV
from emu.kernel.machine import (
    DRIVER_BOND,
    DRIVER_BRIDGE,
    DRIVER_VLAN,
    MAX_DEVICES,
    PACKET_BROADCAST,
    PACKET_OTHERHOST,
    VLAN_ANY,
)

SECOND_NS = 1_000_000_000
Q, AD = 0x8100 << 16, 0x88A8 << 16


def tagged(outer: int, inner: int = 0) -> dict[str, int]:
    """The columns of one tag or two; a priority of 5 must not matter."""
    return {"vlan_tags": 1 + (inner > 0), "vlan_outer": outer | 5 << 13, "vlan_inner": inner}


def quiet(*uppers: Upper, nics: int = 2, **config: int) -> Setup:
    """Two NICs with memory in plenty and the upper devices over them."""
    return Setup("phillips-v5", config=plenty(**config), nics=(Nic(ring=80),) * nics, uppers=uppers)


def counts(m: Any, d: int) -> tuple[int, int]:
    """What a device's own counters show."""
    return m.dev[d].rx_packets, m.dev[d].rx_bytes


def test_a_tag_selects_the_vlan_device_over_its_nic() -> None:
    """The same tag over another NIC is another device; an untagged frame stays with the NIC."""
    setup = quiet(Upper(DRIVER_VLAN, (0,), Q | 5), Upper(DRIVER_VLAN, (1,), Q | 5))
    frames = [udp() | tagged(Q | 5), udp(dev=1) | tagged(Q | 5), udp()]
    played = play(setup, paced(frames), until_ns=SECOND_NS)
    assert played.column("skb_dev") == [2, 3, 0]
    assert [counts(played.m, d) for d in range(4)] == [(2, 2084), (1, 1042), (1, 1042), (1, 1042)]


def test_a_tag_without_a_vlan_device_is_freed_unhandled() -> None:
    """2.6.12: no device for the VLAN id; and 802.1ad is no protocol that it knows."""
    setup = quiet(Upper(DRIVER_VLAN, (0,), Q | 5))
    frames = [udp() | tagged(Q | 6), udp() | tagged(AD | 5), udp() | tagged(Q)]
    played = play(setup, paced(frames), until_ns=SECOND_NS)
    assert played.reasons() == ["UNHANDLED_PROTO"] * 3
    assert played.column("point") == [AT_VLAN_SKB_RECV, AT_NETIF_RECEIVE_SKB, AT_VLAN_SKB_RECV]


def test_a_kernel_of_6_knows_8021ad_takes_priority_tags_and_passes_unknown_vlans_up_as_another_hosts() -> None:
    """v6.19 vlan_do_receive: id 0 is no VLAN; an unknown one reaches ip_rcv as PACKET_OTHERHOST."""
    setup = quiet(Upper(DRIVER_VLAN, (0,), AD | 5), vlan_8021ad=1)
    frames = [udp(ip_version=4) | tagged(tag) for tag in (AD | 5, Q, Q | 7)] + [arp() | tagged(Q | 7)]
    played = play(setup, paced(frames), until_ns=SECOND_NS)
    assert played.reasons() == ["", "", "OTHERHOST", "OTHERHOST"]
    assert played.column("skb_dev")[:2] == [2, 0]
    assert played.rows[2].point == AT_IP_RCV


def test_reason_OTHERHOST() -> None:  # noqa: N802
    """A promiscuous NIC takes another host's frame, and IP and ARP free it; another NIC does not receive it."""
    setup = Setup("linux-2.6.12", config=plenty(), nics=(Nic(promisc=1), Nic()))
    frames = [columns | {"pkt_type": PACKET_OTHERHOST} for columns in (udp(), arp(), udp(dev=1))]
    played = play(setup, paced(frames), until_ns=SECOND_NS)
    assert played.reasons() == ["OTHERHOST", "OTHERHOST", ""]
    assert (played.m.total.received, played.m.total.not_received, played.m.mib.IpInReceives) == (2, 1, 0)


def test_a_tag_behind_a_tag_is_a_vlan_over_a_vlan() -> None:
    """8100 in 8100; without the inner device the packet is freed."""
    outer, inner = Upper(DRIVER_VLAN, (0,), Q | 5), Upper(DRIVER_VLAN, (2,), Q | 9)
    frames = [udp() | tagged(Q | 5, Q | 9), udp() | tagged(Q | 5, Q | 8), udp() | tagged(Q | 5)]
    played = play(quiet(outer, inner), paced(frames), until_ns=SECOND_NS)
    assert played.reasons() == ["", "UNHANDLED_PROTO", ""]
    assert played.column("skb_dev") == [3, 2, 2]
    assert [counts(played.m, d)[0] for d in (2, 3)] == [3, 1]


def test_inferred_vlans_come_into_being_with_their_tags_and_the_last_row_stands_for_the_rest() -> None:
    """One NIC: 14 tags have a device of their own, and one device takes all further ones."""
    frames = [udp() | tagged(Q | (1 + at % 20)) for at in range(60)] + [udp() | tagged(Q | 1, Q | 2)]
    played = play(quiet(nics=1, vlans_inferred=1), paced(frames), until_ns=SECOND_NS)
    m = played.m
    assert (m.netdevs, m.dev[MAX_DEVICES - 1].vlan_tag, m.total.delivered) == (MAX_DEVICES, VLAN_ANY, 61)
    assert played.column("skb_dev")[:20] == list(range(1, 15)) + [15] * 6
    assert played.column("skb_dev")[20:40] == played.column("skb_dev")[:20]
    assert played.rows[60].skb_dev == 15


def test_both_slaves_of_a_bond_are_the_bond_and_its_vlans_are_over_it() -> None:
    """skb_bond; a slave's NIC finds the VLAN devices of its master."""
    setup = quiet(Upper(DRIVER_BOND, (0, 1)), Upper(DRIVER_VLAN, (2,), Q | 5))
    frames = [udp(), udp(dev=1), udp(dev=1) | tagged(Q | 5), arp()]
    played = play(setup, paced(frames), until_ns=SECOND_NS)
    assert played.column("skb_dev") == [2, 2, 3, 2]
    assert played.reasons() == [""] * 4


def test_a_bridge_takes_the_hosts_frames_up_and_forwards_the_others() -> None:
    """Broadcast and the bridge's own MAC go up; another host's frame leaves by the other port, its memory freed."""
    setup = quiet(Upper(DRIVER_BRIDGE, (0, 1)), Upper(DRIVER_VLAN, (2,), Q | 5))
    other = {"pkt_type": PACKET_OTHERHOST}
    frames = [udp(), arp(dev=1), udp(dev=1) | other, tcp() | tagged(Q | 5), icmp(pkt_type=PACKET_BROADCAST)]
    played = play(setup, paced(frames), until_ns=SECOND_NS)
    assert played.reasons() == [""] * 5
    assert played.column("skb_dev") == [2, 2, 1, 3, 2]
    assert (played.rows[2].point, played.rows[2].sk) == (AT_BR_FORWARD, -1)
    assert [played.m.dev[d].promisc for d in range(3)] == [1, 1, 0]
    assert (played.m.total.delivered, counts(played.m, 2)[0]) == (5, 4)


def test_a_bridge_over_a_vlan_makes_the_nic_promiscuous_too() -> None:
    """br_add_if asks the VLAN device, which asks the NIC."""
    setup = quiet(Upper(DRIVER_VLAN, (0,), Q | 5), Upper(DRIVER_BRIDGE, (2, 1)))
    frames = [udp() | tagged(Q | 5), udp(pkt_type=PACKET_OTHERHOST) | tagged(Q | 5), udp(dev=1)]
    played = play(setup, paced(frames), until_ns=SECOND_NS)
    assert played.column("skb_dev") == [3, 2, 3]
    assert played.rows[1].point == AT_BR_FORWARD
    assert [played.m.dev[d].promisc for d in range(4)] == [1, 1, 1, 0]


@pytest.mark.parametrize(
    ("upper", "columns"),
    [
        (Upper(DRIVER_VLAN, (0,), Q | 5), tagged(Q | 5)),
        (Upper(DRIVER_BOND, (0,)), {}),
        (Upper(DRIVER_BRIDGE, (0,)), {}),
    ],
    ids=["vlan", "bond", "bridge"],
)
def test_the_reserve_sticks_at_the_cap_below_an_upper_device(upper: Upper, columns: dict[str, int]) -> None:
    """Bug 14: nothing is dropped for the reserve and nothing given back, until the NIC stands dry at its cap."""
    frames = paced([tcp(sport=1 + at) | columns for at in range(600)], 20_000)
    over = play(Setup("phillips-v5", uppers=(upper,)), frames, until_ns=SECOND_NS)
    plain = play(Setup("phillips-v5"), paced([tcp(sport=1 + at) for at in range(600)], 20_000), until_ns=SECOND_NS)
    assert "PFMEMALLOC" not in over.reasons()
    assert "PFMEMALLOC" in plain.reasons()
    assert (over.m.dev[0].rx_reserve_used, over.m.dev[1].rx_reserve_used) == (50, 0)
    assert set(over.reasons()[-50:]) == {"RX_MISSED"}
    assert plain.m.dev[0].rx_reserve_used < 50


def test_a_sent_frame_and_an_unknown_ethertype_stay_what_they_are() -> None:
    """Upper devices change nothing for frames of the host and protocols without a handler."""
    setup = quiet(Upper(DRIVER_BOND, (0, 1)))
    played = play(setup, paced([sent(tcp()), ethertype(0x88CC)]), until_ns=SECOND_NS)
    assert played.reasons() == ["", "UNHANDLED_PROTO"]
    assert (played.m.total.not_received, played.rows[1].skb_dev) == (1, 2)


def test_upper_devices_never_allocate() -> None:
    """No ring, no buffers, no reserve of their own."""
    m = booted(quiet(Upper(DRIVER_BOND, (0, 1)), Upper(DRIVER_VLAN, (2,), Q | 5)))
    assert [(m.dev[d].ring_filled, m.dev[d].memalloc_pages, m.dev[d].rx_reserve_used) for d in (2, 3)] == [
        (0, 0, 0)
    ] * 2

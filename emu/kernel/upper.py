"""Devices over devices: before a protocol sees a packet, skb->dev becomes the VLAN, the bond or the bridge.

Source: Linux 2.6.12 net/core/dev.c netif_receive_skb (skb_bond, handle_bridge), net/bridge/br_input.c
br_handle_frame_finish, br_pass_frame_up; drivers/net/bonding.  ether_setup gives bonds and bridges rx_reserve 50, a
VLAN has 0, and none of them ever allocates: their rx_reserve_used is always 0.  So the patch's checks drop nothing
and give nothing back for packets that come in over them, and the NIC below sticks at its cap: bug 14, a limit of the
design that is always in force.
Differs: a bridge hands frames up at once (2.6.12 puts them through netif_rx, 2.6.13 and later do as here); its
forwarding table knows the host's addresses only, so every other unicast frame leaves through the other ports; what
it floods besides handing it up needs no clone; a bond hears all its slaves.
"""

from emu.kernel.drop_reason import (
    AT_ARP_RCV,
    AT_BR_FORWARD,
    AT_IP_RCV,
    AT_IPV6_RCV,
    AT_NETIF_RECEIVE_SKB,
    AT_VLAN_SKB_RECV,
    OTHERHOST,
    UNHANDLED_PROTO,
)
from emu.kernel.fate import consume, drop
from emu.kernel.machine import (
    DRIVER_BOND,
    DRIVER_BRIDGE,
    MAX_DEVICES,
    NONE,
    PACKET_OTHERHOST,
    Machine,
    Packet,
)
from emu.kernel.vlan import TAGS_KNOWN, VLAN_VID_MASK, find_vlan_dev, knows_tag, tag_of, vlan_dev_of
from emu.wire.headers import KIND_ARP


def link_devices(m: Machine) -> None:
    """Tell each device what lies over it; a bridge's ports, and what is below them, are promiscuous (br_add_if)."""
    for d in range(m.netdevs):
        m.dev[d].master = NONE
        m.dev[d].bridge = NONE
    for upper in range(m.netdevs - 1, m.devices - 1, -1):
        above = m.dev[upper]
        above.up = 1
        for d in range(upper):
            if above.lower_mask >> d & 1 == 0:
                continue
            below = m.dev[d]
            if above.driver == DRIVER_BOND:
                below.master = upper
            elif above.driver == DRIVER_BRIDGE:
                below.bridge = upper
            if above.driver == DRIVER_BRIDGE or above.promisc:
                below.promisc = 1


def goes_to(m: Machine, p: Packet, d: int) -> None:
    """The packet goes on as one of upper device `d`."""
    dev = m.dev[d]
    dev.rx_packets += p.segments
    dev.rx_bytes += p.length
    p.skb_dev = d


def hwaccel_tags(m: Machine, p: Packet) -> int:
    """How many tags the NIC strips: the first, when a VLAN device of its own, or of its bond, takes it."""
    dev = m.dev[p.dev]
    if p.vlan_tags == 0:
        return 0
    tag = tag_of(p, 0)
    if not knows_tag(m, tag):
        return 0
    d = find_vlan_dev(m, p.dev, tag)
    if d == NONE and dev.master != NONE:
        d = find_vlan_dev(m, dev.master, tag)
    if d == NONE:
        return 0
    goes_to(m, p, d)
    return 1


def drop_tagged(m: Machine, p: Packet, b: int, tag: int) -> None:
    """No device takes the tag: 2.6.12 frees the packet; 6.x passes it up as another host's, where it is freed."""
    if m.config.vlan_8021ad == 0:
        drop(m, p, b, UNHANDLED_PROTO, AT_VLAN_SKB_RECV if knows_tag(m, tag) else AT_NETIF_RECEIVE_SKB)
        return
    if p.ip_version == 6:
        drop(m, p, b, OTHERHOST, AT_IPV6_RCV)
    elif p.ip_version == 4:
        drop(m, p, b, OTHERHOST, AT_IP_RCV)
    elif p.kind == KIND_ARP:
        drop(m, p, b, OTHERHOST, AT_ARP_RCV)
    else:
        drop(m, p, b, UNHANDLED_PROTO, AT_NETIF_RECEIVE_SKB)


def goes_up(m: Machine, p: Packet, b: int) -> bool:
    """Find the device that a protocol sees; whether the packet goes on to its protocol, else it has its verdict."""
    p.skb_dev = p.dev
    at = hwaccel_tags(m, p)
    for _ in range(MAX_DEVICES):  # an upper device lies over earlier rows only
        dev = m.dev[p.skb_dev]
        if dev.master != NONE:
            goes_to(m, p, dev.master)
        elif dev.bridge != NONE:
            if p.pkt_type == PACKET_OTHERHOST:
                consume(m, p, b, AT_BR_FORWARD)
                return False
            goes_to(m, p, dev.bridge)
        elif at < min(p.vlan_tags, TAGS_KNOWN):
            tag = tag_of(p, at)
            d = vlan_dev_of(m, p.skb_dev, tag) if knows_tag(m, tag) else NONE
            if d != NONE:
                goes_to(m, p, d)
            elif m.config.vlan_8021ad == 0 or tag & VLAN_VID_MASK:
                drop_tagged(m, p, b, tag)
                return False
            at += 1
        else:
            break
    return True

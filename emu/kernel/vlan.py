"""VLAN devices: the NIC strips the tag and the packet goes on as if it had come in on the VLAN device.

Source: Linux 2.6.12 include/linux/if_vlan.h __vlan_hwaccel_rx (e1000, 8139cp and tg3 strip tags), net/8021q/vlan_dev.c
vlan_skb_recv (a tag behind a tag, or behind a bridge); v6.19 net/8021q/vlan_core.c vlan_do_receive, net/core/dev.c.
A VLAN device's rx_reserve is 0 and its rx_reserve_used stays 0, so the patch's checks see no reserve there (bug 14).
Differs: with `vlans_inferred` the VLAN device of a tag comes into being when the tag is first met; a third tag is not
looked at; the device's own MAC and the priority maps are left out.
"""

from emu.kernel.machine import DRIVER_VLAN, MAX_DEVICES, NONE, VLAN_ANY, Machine, Packet

ETH_P_8021Q = 0x8100
VLAN_VID_MASK = 0xFFF
TAGS_KNOWN = 2  # of a packet's tags, the ones whose value its row holds


def tag_of(p: Packet, at: int) -> int:
    """The packet's tag number `at`, from 0: TPID << 16 | VLAN id."""
    tag = p.vlan_outer if at == 0 else p.vlan_inner
    return tag & (0xFFFF << 16 | VLAN_VID_MASK)


def knows_tag(m: Machine, tag: int) -> bool:
    """Whether this kernel takes the tag for a VLAN's: 2.6.12 knows 802.1Q only."""
    return m.config.vlan_8021ad > 0 or tag >> 16 == ETH_P_8021Q


def find_vlan_dev(m: Machine, lower: int, tag: int) -> int:
    """The VLAN device of a tag over device `lower`, or -1 (__find_vlan_dev)."""
    for d in range(m.devices, m.netdevs):
        dev = m.dev[d]
        if dev.driver == DRIVER_VLAN and (dev.vlan_tag == VLAN_ANY or dev.lower_mask >> lower & 1):
            if dev.vlan_tag in (VLAN_ANY, tag):
                return d
    return NONE


def infer_vlan_dev(m: Machine, lower: int, tag: int) -> int:
    """Make the VLAN device of a tag over device `lower`; the last free row stands for all that follow; -1: none left.

    Device rows are at rest until here, so all that a row needs is set.
    """
    if m.netdevs >= MAX_DEVICES:
        return NONE
    d = m.netdevs
    m.netdevs += 1
    dev = m.dev[d]
    dev.driver = DRIVER_VLAN
    dev.up = 1
    dev.mtu = m.dev[lower].mtu
    dev.lower_mask = 1 << lower
    dev.vlan_tag = VLAN_ANY if m.netdevs == MAX_DEVICES else tag
    dev.master = NONE
    dev.bridge = NONE
    return d


def vlan_dev_of(m: Machine, lower: int, tag: int) -> int:
    """The device that a tagged packet goes on with, or -1."""
    d = find_vlan_dev(m, lower, tag)
    if d == NONE and m.config.vlans_inferred:
        d = infer_vlan_dev(m, lower, tag)
    return d

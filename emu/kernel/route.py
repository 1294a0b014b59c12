"""Which way a packet goes: up to a protocol, on to another host, or nowhere.

Source: Linux 2.6.12 net/ipv4/route.c ip_route_input, net/ipv4/ip_forward.c; net/ipv6/route.c, ip6_output.c.
Differs: there are no routing tables.  The host's own addresses are those of the scenario; with none, every address
that reaches the host's MAC is its own.  Broadcast and multicast are what the link layer calls so, and every group is
joined.  An address that nobody routes is counted as InAddrErrors, which 2.6.12 drops without counting (v6.19 counts).
"""

from emu.kernel.machine import PACKET_HOST, Machine, Packet

IPV4_MULTICAST = 0xE  # the first four bits of 224.0.0.0/4
IPV4_BROADCAST = 0xFFFFFFFF
ROUTE_LOCAL, ROUTE_FORWARD, ROUTE_NONE = range(3)


def is_group(p: Packet) -> bool:
    """Whether the destination is a multicast group, or IPv4's limited broadcast."""
    if p.ip_version == 6:
        return p.daddr_hi >> 56 & 0xFF == 0xFF
    return p.daddr >> 28 == IPV4_MULTICAST or p.daddr == IPV4_BROADCAST


def is_local_addr(m: Machine, family: int, high: int, low: int) -> bool:
    """Whether an address is one that the scenario gives the host."""
    for at in range(m.local_addrs):
        local = m.local_addr[at]
        if local.family == family and local.addr_hi == high and local.addr == low:
            return True
    return False


def route_input(m: Machine, p: Packet) -> int:
    """ROUTE_* of a packet from a device."""
    family = 6 if p.ip_version == 6 else 4
    if m.local_addrs == 0 or p.pkt_type != PACKET_HOST or is_group(p):
        return ROUTE_LOCAL
    if is_local_addr(m, family, p.daddr_hi, p.daddr):
        return ROUTE_LOCAL
    return ROUTE_FORWARD if m.config.ip_forward else ROUTE_NONE

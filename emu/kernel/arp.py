"""ARP: never checked, so under the patch a reserve buffer that carries ARP is not credited by it.

Source: Linux 2.6.12 net/ipv4/arp.c arp_rcv, arp_process, arp_send (alloc_skb with GFP_ATOMIC).
Differs: a broadcast ARP packet is a request, a unicast one an answer; it asks for the host when its target is one of
the scenario's addresses, or, with none, the address of the last unicast packet to the host; no neighbour table.
"""

from emu.kernel.drop_reason import AT_ARP_RCV, OTHERHOST, PKT_TOO_SMALL
from emu.kernel.fate import consume, drop
from emu.kernel.machine import PACKET_BROADCAST, PACKET_OTHERHOST, Machine, Packet
from emu.kernel.reply import reply
from emu.kernel.route import is_local_addr

ARP_REPLY_BYTES = 8 + 2 * (6 + 4) + 16  # struct arphdr, two pairs of addresses, LL_RESERVED_SPACE


def asks_for_host(m: Machine, p: Packet) -> bool:
    """Whether an ARP packet is a request for an address of the host."""
    if p.pkt_type != PACKET_BROADCAST:
        return False
    if m.local_addrs > 0:
        return is_local_addr(m, 4, 0, p.daddr)
    return m.host_addr != 0 and p.daddr == m.host_addr


def arp_rcv(m: Machine, p: Packet, b: int) -> None:
    """An ARP packet."""
    if p.pkt_type == PACKET_OTHERHOST:
        drop(m, p, b, OTHERHOST, AT_ARP_RCV)
    elif p.header_error:
        drop(m, p, b, PKT_TOO_SMALL, AT_ARP_RCV)
    else:
        if asks_for_host(m, p):
            reply(m, ARP_REPLY_BYTES)
        consume(m, p, b, AT_ARP_RCV)

"""ARP: never checked, so under the patch a reserve buffer that carries ARP is not credited by it.

Source: Linux 2.6.12 net/ipv4/arp.c arp_rcv.  Differs: the reply takes no memory; no neighbour table.
"""

from emu.kernel.drop_reason import AT_ARP_RCV, OTHERHOST, PKT_TOO_SMALL
from emu.kernel.fate import consume, drop
from emu.kernel.machine import PACKET_OTHERHOST, Machine, Packet


def arp_rcv(m: Machine, p: Packet, b: int) -> None:
    """An ARP packet."""
    if p.pkt_type == PACKET_OTHERHOST:
        drop(m, p, b, OTHERHOST, AT_ARP_RCV)
    elif p.header_error:
        drop(m, p, b, PKT_TOO_SMALL, AT_ARP_RCV)
    else:
        consume(m, p, b, AT_ARP_RCV)

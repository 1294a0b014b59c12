"""Packet taps: every frame of a device, cloned before any protocol or check sees it.

Source: Linux 2.6.12 net/core/dev.c netif_receive_skb (ptype_all), net/packet/af_packet.c packet_rcv: refused when
rmem_alloc + truesize >= rcvbuf, before the clone, which takes an sk_buff with GFP_ATOMIC and shares the data.  So a
buffer that a tap holds stays taken after the patch has given it back.
Differs: the last tap of a frame that no protocol wants gets a clone too, where the kernel hands over the skb itself; a
tap never changes the packet's verdict; no filter, no memory-mapped ring, no outgoing frames.
"""

from emu.kernel.machine import NONE, Machine, Packet, PacketSock
from emu.kernel.skbuff import skb_clone
from emu.kernel.sock import SS_BOUND, Ends, lru_place, sk_accept, sk_alloc_unhashed

AF_PACKET = 17
ETH_P_ALL = 3


def open_packet_sock(m: Machine, s: PacketSock, ends: Ends) -> None:
    """Give a tap or a raw socket its row in the table of sockets; it is never evicted."""
    s.sk = sk_alloc_unhashed(m, ends)
    sk = m.sk[s.sk]
    sk.state = SS_BOUND
    sk.pinned = 1
    sk.rcvbuf = s.rcvbuf if s.rcvbuf > 0 else m.config.udp_rcvbuf  # sysctl_rmem_default
    sk.reader = s.reader
    sk.read_rate = s.read_rate
    lru_place(m, s.sk)


def open_taps(m: Machine) -> None:
    """The taps are there when play starts."""
    for at in range(m.taps):
        open_packet_sock(m, m.tap[at], Ends(AF_PACKET, ETH_P_ALL, 0, 0, 0, 0, 0, 0))


def tap_rcv(m: Machine, s: PacketSock, p: Packet, b: int) -> None:
    """One skb for one tap."""
    sk = m.sk[s.sk]
    c = NONE
    if sk.rmem_alloc + m.skb[b].truesize < sk.rcvbuf:
        c = skb_clone(m, b, 1)
    if c == NONE:
        s.tp_drops += 1
        return
    s.tp_packets += 1
    sk_accept(m, s.sk, c, p)


def packet_rcv(m: Machine, p: Packet, b: int) -> None:
    """Show a packet, or each segment of an aggregated frame, to the taps of its device."""
    while b != NONE and m.taps > 0:
        for at in range(m.taps):
            tap = m.tap[at]
            if tap.dev in (NONE, p.skb_dev):
                tap_rcv(m, tap, p, b)
        b = m.skb[b].next

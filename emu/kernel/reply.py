"""What the host sends because of what it received: ACKs, RSTs, echo replies, ARP replies, port unreachables.

Source: Linux 2.6.12 net/ipv4/tcp_output.c tcp_send_ack, net/ipv4/icmp.c: every reply's skb comes with GFP_ATOMIC, never
from the reserve, whatever the flow.  The patch of 2005 is for reception only (bug 15).  Mainline answers a tagged
packet with PF_MEMALLOC set, so without watermarks.
Differs: in a replay the reply leaves at once, so its memory is back at once, and it meets no transmit queue; in a
closed loop it waits in that of the device that the packet came from.
"""

from emu.kernel.closed_loop import TX_REPLY
from emu.kernel.machine import NONE, Machine
from emu.kernel.skbuff import alloc_skb, gfp_atomic, kfree_skb
from emu.kernel.tx_queue import dev_queue_xmit

MAX_TCP_HEADER = 160  # bytes, without IPv6 and tunnels


def reply(m: Machine, size: int) -> bool:
    """Allocate and send a reply of `size` bytes with its headers; False when there was no memory for it."""
    return reply_gfp(m, size, gfp_atomic(m))


def reply_in_pieces(m: Machine, octets: int, room: int, piece_max: int, headers: int) -> None:
    """Send `octets` bytes, in pieces of `piece_max` while they are more than `room`, each behind `headers` bytes.

    Without memory for one, the rest is not sent.
    """
    while octets > 0:
        piece = octets if octets <= room else piece_max
        if not reply(m, headers + piece):
            return
        octets -= piece


def reply_gfp(m: Machine, size: int, gfp: int) -> bool:
    """The same with other allocation flags: mainline's SOCK_MEMALLOC sockets send from the reserve, too."""
    return transmit_reply(m, size, gfp, 0)


def reply_tcp(m: Machine, tcp_flags: int, gfp: int) -> bool:
    """Answer a segment that belongs to no connection of ours with an empty one that has these flags."""
    return transmit_reply(m, MAX_TCP_HEADER, gfp, tcp_flags)


def transmit_reply(m: Machine, size: int, gfp: int, tcp_flags: int) -> bool:
    """Allocate a reply and send it; in a closed loop its bytes are made before the next packet is processed."""
    if m.config.silent:
        return True
    b = alloc_skb(m, size, gfp, m.policy.atomic_first_nomemalloc)
    if b == NONE:
        m.mib.tx_alloc_failed += 1
        return False
    if m.config.closed:
        return dev_queue_xmit(m, m.rx_dev, b, TX_REPLY, NONE, 0, 0, 0, size, tcp_flags)
    kfree_skb(m, b)
    return True

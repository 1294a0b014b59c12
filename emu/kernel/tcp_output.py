"""What TCP sends because of what it received.

Source: Linux 2.6.12 net/ipv4/tcp_output.c tcp_send_ack, tcp_input.c __tcp_ack_snd_check; RFC 1122 4.2.3.2 (an ACK for
every second segment).  mainline: v6.19 tcp_send_ack asks with sk_gfp_mask, so a SOCK_MEMALLOC socket's ACK may come
from the reserve.  The patch of 2005 is for reception only (bug 15): there it may not.
Differs: no delayed-ACK timer: the ACK of an odd last segment is not sent, and one that found no memory is tried again
with the next segment.
"""

from emu.kernel.machine import Machine
from emu.kernel.page_alloc import GFP_ATOMIC, GFP_MEMALLOC
from emu.kernel.policy import RX_WHILE_MEMALLOC_SOCKS
from emu.kernel.reply import MAX_TCP_HEADER, reply_gfp

DELAYED_SEGMENTS = 2


def tcp_send_ack(m: Machine, i: int) -> None:
    """Send an ACK now."""
    sk = m.sk[i]
    gfp = GFP_ATOMIC
    if sk.memalloc and m.policy.rx_memalloc == RX_WHILE_MEMALLOC_SOCKS:
        gfp |= GFP_MEMALLOC
    if reply_gfp(m, MAX_TCP_HEADER, gfp):
        sk.ack_owed = 0
    elif sk.block_io:
        m.mib.MemallocAckFailed += 1


def tcp_ack_snd_check(m: Machine, i: int, segments: int) -> None:
    """In-order segments are acknowledged two at a time."""
    sk = m.sk[i]
    sk.ack_owed += segments
    if sk.ack_owed >= DELAYED_SEGMENTS:
        tcp_send_ack(m, i)

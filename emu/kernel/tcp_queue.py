"""A segment's skbs into a TCP socket's queues: the same in a replay and on a connection of the closed loop.

Source: Linux 2.6.12 net/ipv4/tcp_input.c tcp_data_queue.
"""

from emu.kernel.drop_reason import AT_TCP_DATA_QUEUE, TCP_OFOMERGE
from emu.kernel.fate import deliver, drop
from emu.kernel.machine import NONE, Machine, Packet
from emu.kernel.skbuff import kfree_skb
from emu.kernel.sock import sk_charge
from emu.kernel.tcp_seq import tcp_ofo_insert, tcp_take


def tcp_queue_tail(m: Machine, i: int, b: int) -> None:
    """Charge a segment's skbs and queue them in order."""
    while b != NONE:
        following = m.skb[b].next
        sk_charge(m, i, m.skb[b].truesize)
        tcp_take(m, i, b)
        b = following


def tcp_queue_ofo(m: Machine, p: Packet, b: int, i: int) -> None:
    """A segment is ahead: it waits in the out-of-order queue, unless all of it is there already."""
    sorted_in = 0
    while b != NONE:
        following = m.skb[b].next
        if tcp_ofo_insert(m, i, b):
            sorted_in += 1
        else:
            kfree_skb(m, b)
        b = following
    if sorted_in:
        deliver(m, p, AT_TCP_DATA_QUEUE)
    else:
        drop(m, p, NONE, TCP_OFOMERGE, AT_TCP_DATA_QUEUE)

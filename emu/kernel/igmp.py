"""IGMP: never checked; a query starts timers, a report stops them, and the packet is done with.

Source: Linux 2.6.12 net/ipv4/igmp.c igmp_rcv.  Differs: the host's own reports are not sent.
"""

from emu.kernel.drop_reason import AT_IGMP_RCV
from emu.kernel.fate import consume
from emu.kernel.machine import Machine, Packet


def igmp_rcv(m: Machine, p: Packet, b: int) -> None:
    """An IGMP message from IP."""
    consume(m, p, b, AT_IGMP_RCV)

"""ICMP: in reserve, the patch drops every type, even the ones that the critical connection needs.

Source: Linux 2.6.12 net/ipv4/icmp.c icmp_rcv; the patch's check follows the checksum (v4 to v6).
Differs: replies take no memory; errors for sockets are accepted, not acted on.
"""

from emu.kernel.drop_reason import AT_ICMP_RCV, ICMP_CSUM, PKT_TOO_SMALL
from emu.kernel.fate import consume, drop, drop_for_reserve
from emu.kernel.machine import Machine, Packet
from emu.kernel.netdevice import in_reserve, rule_of_check
from emu.kernel.policy import RULE_ICMP
from emu.wire.headers import CSUM_BAD

ICMP_ECHO = 8


def icmp_rcv(m: Machine, p: Packet, b: int) -> None:
    """An ICMP message from IP."""
    m.mib.IcmpInMsgs += 1
    if p.l4_csum == CSUM_BAD:
        m.mib.IcmpInErrors += 1
        drop(m, p, b, ICMP_CSUM, AT_ICMP_RCV)
        return
    if in_reserve(m, m.policy.check_icmp, p, b):
        drop_for_reserve(m, p, b, rule_of_check(m.policy.check_icmp, RULE_ICMP), AT_ICMP_RCV)
        return
    if p.header_error:
        m.mib.IcmpInErrors += 1
        drop(m, p, b, PKT_TOO_SMALL, AT_ICMP_RCV)
        return
    if p.icmp_type == ICMP_ECHO:
        m.mib.IcmpInEchos += 1
        m.mib.IcmpOutEchoReps += 1
    consume(m, p, b, AT_ICMP_RCV)

"""IPv6 input: the same way as IPv4's, and no revision of the patch of 2005 stands on it.

Source: Linux 2.6.12 net/ipv6/ip6_input.c ipv6_rcv, ip6_input_finish.  TCP and UDP go through the functions of IPv4,
which leave the patch's checks out for IPv6; mainline's filter holds for both.
Differs: as in IPv4; extension headers are walked by dissection, a chain that leaves the packet is a bad header.
"""

from emu.kernel.drop_reason import (
    AT_IP6_FORWARD,
    AT_IP6_INPUT_FINISH,
    AT_IP6_RCV_FINISH,
    AT_IPV6_RCV,
    IP_INADDRERRORS,
    IP_INHDR,
    IP_NOPROTO,
    OTHERHOST,
    PKT_TOO_SMALL,
)
from emu.kernel.fate import consume, drop
from emu.kernel.icmpv6 import ICMPV6_PARAMPROB, icmpv6_rcv, icmpv6_send
from emu.kernel.ip_fragment import ip_defrag
from emu.kernel.ip_input import raw_only
from emu.kernel.machine import NONE, PACKET_OTHERHOST, Machine, Packet
from emu.kernel.raw import RAW_NONE, raw_input
from emu.kernel.route import ROUTE_FORWARD, ROUTE_LOCAL, route_input
from emu.kernel.tcp_ipv4 import tcp_v4_rcv
from emu.kernel.udp import udp_rcv
from emu.wire.headers import (
    IP_HEADER_BAD,
    IP_TOO_SHORT,
    KIND_ICMPV6,
    KIND_IP_FRAGMENT,
    KIND_TCP,
    KIND_UDP,
    TOO_SHORT,
)

NEXTHDR_NONE = 59


def ip6_input_finish(m: Machine, p: Packet, b: int) -> None:
    """Hand a whole packet for this host to raw sockets and to its upper protocol."""
    outcome = raw_input(m, p, b)
    if p.kind in (KIND_TCP, KIND_UDP, KIND_ICMPV6) or p.ip_protocol == NEXTHDR_NONE or outcome != RAW_NONE:
        m.mib.Ip6InDelivers += 1
    if p.kind == KIND_TCP:
        tcp_v4_rcv(m, p, b)
    elif p.kind == KIND_UDP:
        udp_rcv(m, p, b)
    elif p.kind == KIND_ICMPV6:
        icmpv6_rcv(m, p, b)
    elif p.ip_protocol == NEXTHDR_NONE:
        consume(m, p, b, AT_IP6_INPUT_FINISH)
    elif outcome != RAW_NONE:
        raw_only(m, p, b, outcome)
    else:
        m.mib.Ip6InUnknownProtos += 1
        icmpv6_send(m, ICMPV6_PARAMPROB, p.pkt_type, p.l4_length)
        drop(m, p, b, IP_NOPROTO, AT_IP6_INPUT_FINISH)


def ip6_input(m: Machine, p: Packet, b: int) -> None:
    """A packet for this host: fragments wait for the others."""
    if p.kind == KIND_IP_FRAGMENT:
        b = ip_defrag(m, p, b)
        if b == NONE:
            return
    ip6_input_finish(m, p, b)


def ip6_rcv_finish(m: Machine, p: Packet, b: int) -> None:
    """Send a packet with a good header on its way."""
    route = route_input(m, p)
    if route == ROUTE_LOCAL:
        ip6_input(m, p, b)
    elif route == ROUTE_FORWARD:
        m.mib.Ip6OutForwDatagrams += 1
        consume(m, p, b, AT_IP6_FORWARD)
    else:
        m.mib.Ip6InAddrErrors += 1
        drop(m, p, b, IP_INADDRERRORS, AT_IP6_RCV_FINISH)


def ipv6_rcv(m: Machine, p: Packet, b: int) -> None:
    """An IPv6 packet from a device."""
    if p.pkt_type == PACKET_OTHERHOST:
        drop(m, p, b, OTHERHOST, AT_IPV6_RCV)
        return
    m.mib.Ip6InReceives += 1
    if p.header_error == IP_TOO_SHORT:
        m.mib.Ip6InHdrErrors += 1
        drop(m, p, b, PKT_TOO_SMALL, AT_IPV6_RCV)
    elif p.header_error == IP_HEADER_BAD or (
        p.header_error == TOO_SHORT and p.kind not in (KIND_TCP, KIND_UDP, KIND_ICMPV6, KIND_IP_FRAGMENT)
    ):
        m.mib.Ip6InHdrErrors += 1
        drop(m, p, b, IP_INHDR, AT_IPV6_RCV)
    else:
        ip6_rcv_finish(m, p, b)

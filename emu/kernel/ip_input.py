"""IPv4 input: header checks, the way the packet goes, reassembly, raw sockets, then the protocol.

Source: Linux 2.6.12 net/ipv4/ip_input.c ip_rcv, ip_rcv_finish, ip_local_deliver, ip_local_deliver_finish.
Differs: no netfilter, no IP options; a forwarded packet is freed at once (it meets no transmit queue, and its TTL is
not looked at).
"""

from emu.kernel.drop_reason import (
    AT_IP_FORWARD,
    AT_IP_LOCAL_DELIVER,
    AT_IP_RCV,
    AT_IP_RCV_FINISH,
    AT_RAW_RCV,
    IP_CSUM,
    IP_INADDRERRORS,
    IP_INHDR,
    IP_NOPROTO,
    NO_REASON,
    OTHERHOST,
    PFMEMALLOC,
    PKT_TOO_SMALL,
)
from emu.kernel.fate import consume, drop, drop_for_reserve
from emu.kernel.icmp import ICMP_DEST_UNREACH, icmp_rcv, icmp_send
from emu.kernel.igmp import igmp_rcv
from emu.kernel.ip_fragment import ip_defrag
from emu.kernel.machine import NONE, PACKET_HOST, PACKET_OTHERHOST, Machine, Packet
from emu.kernel.policy import RULE_FILTER
from emu.kernel.raw import RAW_NONE, raw_input
from emu.kernel.route import ROUTE_FORWARD, ROUTE_LOCAL, is_group, route_input
from emu.kernel.sock import IPPROTO_IGMP
from emu.kernel.tcp_ipv4 import tcp_v4_rcv
from emu.kernel.udp import udp_rcv
from emu.wire.headers import (
    CSUM_BAD,
    IP_HEADER_BAD,
    IP_TOO_SHORT,
    KIND_ICMP,
    KIND_IP_FRAGMENT,
    KIND_TCP,
    KIND_UDP,
)


def raw_only(m: Machine, p: Packet, b: int, outcome: int) -> None:
    """A protocol without a handler, but with a raw socket: `outcome` is what `raw_input` said."""
    if outcome == NO_REASON:
        consume(m, p, b, AT_RAW_RCV)
    elif outcome == PFMEMALLOC:
        drop_for_reserve(m, p, b, RULE_FILTER, AT_RAW_RCV)
    else:
        drop(m, p, b, outcome, AT_RAW_RCV)


def ip_local_deliver_finish(m: Machine, p: Packet, b: int) -> None:
    """Hand a whole packet for this host to raw sockets and to its protocol."""
    outcome = raw_input(m, p, b)
    known = p.kind in (KIND_TCP, KIND_UDP, KIND_ICMP) or p.ip_protocol == IPPROTO_IGMP
    if known or outcome != RAW_NONE:
        m.mib.IpInDelivers += 1
    if p.kind == KIND_TCP:
        tcp_v4_rcv(m, p, b)
    elif p.kind == KIND_UDP:
        udp_rcv(m, p, b)
    elif p.kind == KIND_ICMP:
        icmp_rcv(m, p, b)
    elif p.ip_protocol == IPPROTO_IGMP:
        igmp_rcv(m, p, b)
    elif outcome != RAW_NONE:
        raw_only(m, p, b, outcome)
    else:
        m.mib.IpInUnknownProtos += 1
        icmp_send(m, ICMP_DEST_UNREACH, p.pkt_type, p.l4_length)
        drop(m, p, b, IP_NOPROTO, AT_IP_LOCAL_DELIVER)


def ip_local_deliver(m: Machine, p: Packet, b: int) -> None:
    """A packet for this host: fragments wait for the others."""
    if p.kind == KIND_IP_FRAGMENT:
        b = ip_defrag(m, p, b)
        if b == NONE:
            return
    ip_local_deliver_finish(m, p, b)


def ip_rcv_finish(m: Machine, p: Packet, b: int) -> None:
    """Send a packet with a good header on its way."""
    route = route_input(m, p)
    if route == ROUTE_LOCAL:
        if p.pkt_type == PACKET_HOST and not is_group(p):
            m.host_addr = p.daddr
        ip_local_deliver(m, p, b)
    elif route == ROUTE_FORWARD:
        m.mib.IpForwDatagrams += 1
        consume(m, p, b, AT_IP_FORWARD)
    else:
        m.mib.IpInAddrErrors += 1
        drop(m, p, b, IP_INADDRERRORS, AT_IP_RCV_FINISH)


def ip_rcv(m: Machine, p: Packet, b: int) -> None:
    """An IPv4 packet from a device."""
    if p.pkt_type == PACKET_OTHERHOST:
        drop(m, p, b, OTHERHOST, AT_IP_RCV)
        return
    m.mib.IpInReceives += 1
    if p.header_error == IP_TOO_SHORT:
        m.mib.IpInHdrErrors += 1
        drop(m, p, b, PKT_TOO_SMALL, AT_IP_RCV)
    elif p.header_error == IP_HEADER_BAD:
        m.mib.IpInHdrErrors += 1
        drop(m, p, b, IP_INHDR, AT_IP_RCV)
    elif p.ip_csum == CSUM_BAD:
        m.mib.IpInHdrErrors += 1
        drop(m, p, b, IP_CSUM, AT_IP_RCV)
    else:
        ip_rcv_finish(m, p, b)

"""IPv4 input: header checks, then the protocol.

Source: Linux 2.6.12 net/ipv4/ip_input.c ip_rcv, ip_local_deliver_finish.
Differs: fragments are taken by ip_defrag and freed at once (no reassembly); nothing is forwarded: what reaches the
host's MAC is local; no netfilter, no raw sockets.
"""

from emu.kernel.drop_reason import (
    AT_IP_DEFRAG,
    AT_IP_LOCAL_DELIVER,
    AT_IP_RCV,
    IP_CSUM,
    IP_INHDR,
    IP_NOPROTO,
    OTHERHOST,
    PKT_TOO_SMALL,
)
from emu.kernel.fate import consume, drop
from emu.kernel.icmp import icmp_rcv
from emu.kernel.machine import PACKET_HOST, PACKET_OTHERHOST, Machine, Packet
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


def ip_local_deliver(m: Machine, p: Packet, b: int) -> None:
    """Hand a packet for this host to its protocol."""
    if p.kind == KIND_IP_FRAGMENT:
        m.mib.IpReasmReqds += 1
        consume(m, p, b, AT_IP_DEFRAG)
        return
    m.mib.IpInDelivers += 1
    if p.kind == KIND_TCP:
        tcp_v4_rcv(m, p, b)
    elif p.kind == KIND_UDP:
        udp_rcv(m, p, b)
    elif p.kind == KIND_ICMP:
        icmp_rcv(m, p, b)
    elif p.ip_protocol == IPPROTO_IGMP:
        consume(m, p, b, AT_IP_LOCAL_DELIVER)
    else:
        m.mib.IpInUnknownProtos += 1
        if p.pkt_type == PACKET_HOST:
            m.mib.IcmpOutDestUnreachs += 1
        drop(m, p, b, IP_NOPROTO, AT_IP_LOCAL_DELIVER)


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
        ip_local_deliver(m, p, b)

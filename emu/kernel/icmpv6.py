"""ICMPv6: echo and neighbour discovery are answered, everything else is taken.  No revision of the patch checks it.

Source: Linux 2.6.12 net/ipv6/icmp.c icmpv6_rcv, icmpv6_send, icmpv6_echo_reply, icmpv6_xrlim_allow (one a second, all
errors but "packet too big"), net/ipv6/ndisc.c ndisc_recv_ns, ndisc_send_na (its socket allocates with GFP_ATOMIC).
Differs: one bucket for all destinations; a solicitation is taken to be for the host when no own IPv6 address is given
or when it is sent to one or to a group; multicast listener queries are taken, not answered; no neighbour table.
"""

from emu.kernel.drop_reason import AT_ICMPV6_RCV, ICMP_CSUM, PKT_TOO_SMALL
from emu.kernel.fate import consume, drop
from emu.kernel.icmp import ICMP_HEADER_BYTES, LINK_BYTES, xrlim_allow
from emu.kernel.machine import PACKET_HOST, Machine, Packet
from emu.kernel.reply import reply, reply_in_pieces
from emu.wire.headers import CSUM_BAD

ICMPV6_DEST_UNREACH = 1
ICMPV6_TIME_EXCEED = 3
ICMPV6_PARAMPROB = 4
ICMPV6_ECHO_REQUEST = 128
NDISC_NEIGHBOUR_SOLICITATION = 135

IPV6_HEADER_BYTES = 40
FRAGMENT_HEADER_BYTES = 8
IPV6_MIN_MTU = 1280
ICMPV6_QUOTED_MAX_BYTES = IPV6_MIN_MTU - IPV6_HEADER_BYTES - ICMP_HEADER_BYTES
NEIGHBOUR_ADVERTISEMENT_BYTES = 32 + LINK_BYTES + IPV6_HEADER_BYTES + 32  # MAX_HEADER first


def icmpv6_send(m: Machine, icmp_type: int, pkt_type: int, payload: int) -> None:
    """Send an error about an IPv6 packet with `payload` bytes behind its header, if the rate allows it."""
    if pkt_type != PACKET_HOST or not xrlim_allow(m, 1):
        return
    if icmp_type == ICMPV6_TIME_EXCEED:
        m.mib.Icmp6OutTimeExcds += 1
    elif icmp_type == ICMPV6_PARAMPROB:
        m.mib.Icmp6OutParmProblems += 1
    else:
        m.mib.Icmp6OutDestUnreachs += 1
    quoted = min(IPV6_HEADER_BYTES + payload, ICMPV6_QUOTED_MAX_BYTES)
    reply(m, LINK_BYTES + IPV6_HEADER_BYTES + ICMP_HEADER_BYTES + quoted)


def icmpv6_echo_reply(m: Machine, p: Packet) -> None:
    """Send an echo request's payload back: whole if the device's MTU allows, else in fragments (ip6_append_data)."""
    m.mib.Icmp6OutEchoReplies += 1
    octets = ICMP_HEADER_BYTES + p.payload_length
    room = max(m.dev[p.dev].mtu, IPV6_MIN_MTU) - IPV6_HEADER_BYTES
    piece_max = (room - FRAGMENT_HEADER_BYTES) // 8 * 8
    if octets > room:
        room = piece_max  # every fragment has a header of its own, the last one too
    reply_in_pieces(m, octets, room, piece_max, LINK_BYTES + IPV6_HEADER_BYTES)


def icmpv6_rcv(m: Machine, p: Packet, b: int) -> None:
    """An ICMPv6 message from IPv6."""
    m.mib.Icmp6InMsgs += 1
    if p.l4_csum == CSUM_BAD:
        m.mib.Icmp6InErrors += 1
        drop(m, p, b, ICMP_CSUM, AT_ICMPV6_RCV)
        return
    if p.header_error:
        m.mib.Icmp6InErrors += 1
        drop(m, p, b, PKT_TOO_SMALL, AT_ICMPV6_RCV)
        return
    if p.icmp_type == ICMPV6_ECHO_REQUEST:
        m.mib.Icmp6InEchos += 1
        icmpv6_echo_reply(m, p)
    elif p.icmp_type == NDISC_NEIGHBOUR_SOLICITATION:
        m.mib.Icmp6InNeighborSolicits += 1
        if reply(m, NEIGHBOUR_ADVERTISEMENT_BYTES):
            m.mib.Icmp6OutNeighborAdvertisements += 1
    consume(m, p, b, AT_ICMPV6_RCV)

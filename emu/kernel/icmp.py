"""ICMP: in reserve, the patch drops every type, even the ones that the critical connection needs.

Source: Linux 2.6.12 net/ipv4/icmp.c icmp_rcv, icmp_reply, icmp_send, net/ipv4/ip_output.c ip_append_data; the patch's
check follows the checksum (v4 to v6).  Errors are limited to one a second with bursts of six (icmpv4_xrlim_allow,
ratemask 0x1818); echo replies are not.
Differs: one bucket for all destinations instead of one per route; the pieces of a long echo reply are allocated one
after the other, not together; only echo requests are answered (no timestamps); errors for sockets are accepted, not
acted on.
"""

from emu.kernel.drop_reason import AT_ICMP_RCV, ICMP_CSUM, NOT_SPECIFIED, PKT_TOO_SMALL
from emu.kernel.fate import consume, drop, drop_for_reserve
from emu.kernel.machine import PACKET_HOST, Machine, Packet
from emu.kernel.netdevice import in_reserve, rule_of_check
from emu.kernel.policy import RULE_ICMP
from emu.kernel.reply import reply, reply_in_pieces
from emu.wire.headers import CSUM_BAD

ICMP_DEST_UNREACH = 3
ICMP_SOURCE_QUENCH = 4
ICMP_REDIRECT = 5
ICMP_ECHO = 8
ICMP_TIME_EXCEEDED = 11
ICMP_PARAMETERPROB = 12
ICMP_TIMESTAMP = 13
ICMP_ADDRESS = 17
NR_ICMP_TYPES = 18

IP_HEADER_BYTES = 20
IP_MIN_MTU = 68
ICMP_HEADER_BYTES = 8
LINK_BYTES = 16 + 15  # LL_RESERVED_SPACE of Ethernet, and what ip_append_data adds
ICMP_QUOTED_MAX_BYTES = 576 - IP_HEADER_BYTES - ICMP_HEADER_BYTES

XRLIM_TIMEOUT_NS = 1_000_000_000
XRLIM_BURST_FACTOR = 6


def xrlim_allow(m: Machine, family: int) -> bool:
    """Whether one more ICMP error may be sent now; `family` is 0 for IPv4, 1 for IPv6."""
    tokens_ns = XRLIM_BURST_FACTOR * XRLIM_TIMEOUT_NS
    # How long ago the last one was is asked only when it matters: between a capture's ends there may be 2**63 ns.
    if m.now_ns < m.icmp_last_ns[family] + tokens_ns:
        tokens_ns = min(m.icmp_tokens_ns[family] + m.now_ns - m.icmp_last_ns[family], tokens_ns)
    m.icmp_last_ns[family] = m.now_ns
    allowed = tokens_ns >= XRLIM_TIMEOUT_NS
    m.icmp_tokens_ns[family] = tokens_ns - XRLIM_TIMEOUT_NS if allowed else tokens_ns
    return allowed


def is_icmp_error(icmp_type: int) -> bool:
    """Whether an ICMP message is an error, which earns no error (icmp_pointers[].error)."""
    return icmp_type in (
        ICMP_DEST_UNREACH,
        ICMP_SOURCE_QUENCH,
        ICMP_REDIRECT,
        ICMP_TIME_EXCEEDED,
        ICMP_PARAMETERPROB,
    )


def icmp_send(m: Machine, icmp_type: int, pkt_type: int, payload: int) -> None:
    """Send an error about an IP packet with `payload` bytes behind its header; counted even if the rate forbids it."""
    if pkt_type != PACKET_HOST:
        return
    if icmp_type == ICMP_TIME_EXCEEDED:
        m.mib.IcmpOutTimeExcds += 1
    else:
        m.mib.IcmpOutDestUnreachs += 1
    if xrlim_allow(m, 0):
        quoted = min(IP_HEADER_BYTES + payload, ICMP_QUOTED_MAX_BYTES)
        reply(m, LINK_BYTES + IP_HEADER_BYTES + ICMP_HEADER_BYTES + quoted)


def icmp_echo(m: Machine, p: Packet) -> None:
    """Send an echo request's payload back, in fragments as long as the device's MTU allows."""
    m.mib.IcmpOutEchoReps += 1
    room = max(m.dev[p.dev].mtu, IP_MIN_MTU) - IP_HEADER_BYTES
    reply_in_pieces(m, ICMP_HEADER_BYTES + p.payload_length, room, room // 8 * 8, LINK_BYTES + IP_HEADER_BYTES)


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
    asks = p.icmp_type in (ICMP_ECHO, ICMP_TIMESTAMP, ICMP_ADDRESS, ICMP_ADDRESS + 1)
    if p.icmp_type > NR_ICMP_TYPES or (p.pkt_type != PACKET_HOST and not asks):
        m.mib.IcmpInErrors += 1
        drop(m, p, b, NOT_SPECIFIED, AT_ICMP_RCV)
        return
    if p.icmp_type == ICMP_ECHO:
        m.mib.IcmpInEchos += 1
        icmp_echo(m, p)
    consume(m, p, b, AT_ICMP_RCV)

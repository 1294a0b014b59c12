"""Raw sockets: they get a clone of every local packet of their protocol, before its handler and before any check.

Source: Linux 2.6.12 net/ipv4/raw.c raw_v4_input, raw_rcv_skb, include/net/sock.h sock_queue_rcv_skb; net/ipv6/raw.c
ipv6_raw_deliver.  A protocol with a raw socket is not unknown: no ICMP error, whether or not the socket had room.
Mainline filters each raw socket (v6.19 sk_filter_trim_cap).
Differs: sockets are bound to a protocol only, not to addresses; no ICMP filter; an unknown protocol's packet is
delivered if a raw socket took its clone, and dropped for the last refusal else.
"""

from emu.kernel.af_packet import open_packet_sock
from emu.kernel.drop_reason import NO_MEMORY, NO_REASON, PFMEMALLOC, SOCKET_RCVBUFF
from emu.kernel.machine import NONE, Machine, Packet
from emu.kernel.skbuff import kfree_chain, skb_clone_chain
from emu.kernel.sock import Ends, sk_accept, sk_filter_refuses, sk_has_room

RAW_NONE = -1  # no raw socket has this protocol


def open_raws(m: Machine) -> None:
    """The raw sockets are there when play starts."""
    for at in range(m.raws):
        raw = m.raw[at]
        open_packet_sock(m, raw, Ends(raw.family, raw.protocol, 0, 0, 0, 0, 0, 0))


def raw_rcv(m: Machine, p: Packet, b: int, i: int) -> int:
    """One packet for one raw socket; NO_REASON, or why it did not get it."""
    clone = skb_clone_chain(m, b, p.segments)
    if clone == NONE:
        return NO_MEMORY
    reason = NO_REASON
    if sk_filter_refuses(m, i, clone):
        reason = PFMEMALLOC
    elif not sk_has_room(m, i, clone, p.segments):
        reason = SOCKET_RCVBUFF
    if reason == NO_REASON:
        sk_accept(m, i, clone, p)
    else:
        kfree_chain(m, clone)
    return reason


def raw_input(m: Machine, p: Packet, b: int) -> int:
    """Show a packet to the raw sockets of its protocol: NO_REASON if one took it, RAW_NONE if there is none."""
    family = 6 if p.ip_version == 6 else 4
    outcome = RAW_NONE
    for at in range(m.raws):
        raw = m.raw[at]
        if raw.family == family and raw.protocol == p.ip_protocol:
            reason = raw_rcv(m, p, b, raw.sk)
            if reason == NO_REASON or outcome != NO_REASON:
                outcome = reason
    return outcome

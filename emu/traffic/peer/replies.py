"""Bytes of what the host answers packets with: RST, SYN-ACK and ACK, echo replies, ICMP errors, ARP, neighbours.

The kernel has only said that it replies and how many bytes it asked memory for; what the reply says follows from the
packet that it answers (RFC 9293 3.10.7.1, RFC 792, RFC 4443, RFC 826, RFC 4861 7.2.4).
Differs: no TCP options; an echo reply in pieces, or to a request in pieces, carries zeros; an error about a datagram in
pieces quotes its last one; whatever is sent while a packet is processed is taken to answer that packet.
"""

from emu.kernel.closed_loop import TxFrame
from emu.kernel.icmp import ICMP_HEADER_BYTES, LINK_BYTES
from emu.kernel.icmpv6 import FRAGMENT_HEADER_BYTES, ICMPV6_ECHO_REQUEST
from emu.kernel.machine import NONE, Machine, Packet
from emu.kernel.tcp_seq import SEQ_MASK, TCP_ACK, TCP_RST, TCP_SYN, seq_add, seq_length
from emu.traffic.peer.state import World, slot_of
from emu.wire import arp, ethernet, icmp, icmpv6, ipv4, ipv6, tcp
from emu.wire.checksum import ones_sum
from emu.wire.headers import KIND_ARP, KIND_ICMP, KIND_ICMPV6, KIND_TCP, KIND_UDP, LINKTYPE_ETHERNET
from emu.wire.octets import Octets, be16, copy_octets, put_be16, put_be32

VLAN_TAG_BYTES = 4
MAC_BYTES = 6
TTL = 64
ND_HOP_LIMIT = 255
DONT_FRAGMENT = 0x4000
ARP_REPLY = 2
ISS_FACTOR = 0x45D9F3B
POINTER = 4  # where an ICMPv6 message of some types has four bytes of its own
WINDOW = 5_840  # 2.6.12 begins with four segments of 1460
PROTOCOL_UNREACHABLE = 2
PARAMETER_PROBLEM = 4
UNKNOWN_NEXT_HEADER = 1
ECHO_REPLY_V6 = 129
NEIGHBOUR_ADVERTISEMENT = 136
NA_FLAGS = 0x60  # solicited, override
TARGET_LINK_ADDRESS = 2


def craft_reply(w: World, m: Machine, tx_row: int, p: Packet, octets: Octets, store: bytearray) -> None:
    """Make the bytes of the reply in `Machine.tx` row `tx_row`, which answers packet p at `octets[p.offset:]`.

    They wait in the store; `reply_at` stays NONE where nothing can be said to such a packet, and `length` is that of
    the frame from now on.  `conn` is that of the peer whose segment a RST answers, if it was one.
    """
    tx = m.tx[tx_row]
    tx.conn = NONE
    tx.reply_at = NONE
    if p.linktype != LINKTYPE_ETHERNET or p.header_error or p.caplen < p.length:
        return
    if p.frame != w.reply_frame:
        w.reply_frame = p.frame
        w.reply_offset = 0
        w.reply_id = (w.reply_id + 1) & 0xFFFF
    at = slot_of(w, tx_row)
    head = at + link_bytes(p)
    end = NONE
    put_link(w, p, octets, store, at)
    if p.kind == KIND_ARP:
        end = put_arp(w, p, octets, store, head)
    elif p.ip_version == 4:
        end = put_over_ipv4(w, m, tx, p, octets, store, head)
    elif p.ip_version == 6:
        end = put_over_ipv6(w, m, tx, p, octets, store, head)
    if end != NONE:
        tx.reply_at = at
        tx.length = end - at
        if p.kind == KIND_TCP and p.ip_version == 4:
            tx.conn = peer_of(w, p)


def peer_of(w: World, p: Packet) -> int:
    """The connection of the peer that sent a segment, or NONE."""
    for c in range(w.conns):
        if w.peer[c].saddr == p.saddr and w.peer[c].sport == p.sport and w.peer[c].dport == p.dport:
            return c
    return NONE


def put_mac(octets: bytearray, at: int, mac: int) -> None:
    """Six bytes of a MAC address."""
    put_be16(octets, at, mac >> 32)
    put_be32(octets, at + 2, mac & 0xFFFFFFFF)


def link_bytes(p: Packet) -> int:
    """How long the link header of a packet is, and that of its answer."""
    return ethernet.HEADER_LEN + VLAN_TAG_BYTES * p.vlan_tags


def put_link(w: World, p: Packet, octets: Octets, out: bytearray, at: int) -> None:
    """The link header of an answer: the request's, its ends exchanged, tags as they were."""
    copy_octets(out, at, octets, p.offset, link_bytes(p))
    copy_octets(out, at + ethernet.DST, octets, p.offset + ethernet.SRC, MAC_BYTES)
    if octets[p.offset] & 1:
        put_mac(out, at + ethernet.SRC, w.host_mac)
    else:
        copy_octets(out, at + ethernet.SRC, octets, p.offset + ethernet.DST, MAC_BYTES)


def put_sum(out: bytearray, at: int, total: int) -> None:
    """A checksum of what sums to `total`."""
    put_be16(out, at, (65535 - total % 65535) % 65535)


def put_zeros(out: bytearray, at: int, count: int) -> None:
    """So many zeros."""
    for i in range(count):
        out[at + i] = 0


def put_arp(w: World, p: Packet, octets: Octets, out: bytearray, at: int) -> int:
    """The host is at its MAC (RFC 826); returns where the answer ends."""
    request = p.offset + link_bytes(p)
    sender = request + arp.SENDER_IP - MAC_BYTES
    copy_octets(out, at, octets, request, arp.OPERATION)
    put_be16(out, at + arp.OPERATION, ARP_REPLY)
    put_mac(out, at + arp.SENDER_IP - MAC_BYTES, w.host_mac)
    copy_octets(out, at + arp.SENDER_IP, octets, request + arp.TARGET_IP, 4)
    copy_octets(out, at + arp.TARGET_IP - MAC_BYTES, octets, sender, MAC_BYTES + 4)
    return at + arp.PACKET_LEN


def put_tcp(m: Machine, tx: TxFrame, p: Packet, out: bytearray, at: int) -> None:
    """The TCP header of an answer, its checksum zero: what `tcp_flags` asks for, else a RST (tcp_v4_send_reset)."""
    tcp_flags = tx.tcp_flags or TCP_RST
    seq = 0
    ack = seq_add(p.tcp_seq, seq_length(p))
    if p.tcp_flags & TCP_ACK:
        seq = p.tcp_ack
    if tcp_flags & TCP_RST:
        tcp_flags = TCP_RST if p.tcp_flags & TCP_ACK else TCP_RST | TCP_ACK
    elif tcp_flags & TCP_SYN:
        seq = ((p.tcp_seq ^ p.sport << 16 ^ p.dport) * ISS_FACTOR) & SEQ_MASK
    elif p.sk != NONE and m.sk[p.sk].rcv_nxt != NONE:
        ack = m.sk[p.sk].rcv_nxt
    put_be16(out, at + tcp.SPORT, p.dport)
    put_be16(out, at + tcp.DPORT, p.sport)
    put_be32(out, at + tcp.SEQ, seq)
    put_be32(out, at + tcp.ACK, ack if tcp_flags & TCP_ACK else 0)
    put_be16(out, at + tcp.DATA_OFFSET, (tcp.HEADER_LEN // 4) << 12 | tcp_flags)
    put_be16(out, at + tcp.FLAGS + 1, 0 if tcp_flags & TCP_RST else WINDOW)
    put_be32(out, at + tcp.CHECKSUM, 0)


def put_quote(octets: Octets, request: int, out: bytearray, at: int, there: int, quoted: int) -> int:
    """The start of the packet that an error is about, behind the error's header; returns the message's bytes."""
    quoted = min(quoted, there)
    put_be32(out, at + icmp.CHECKSUM, 0)
    put_be16(out, at + icmp.CHECKSUM + 4, 0)
    copy_octets(out, at + icmp.QUOTED, octets, request, quoted)
    return icmp.QUOTED + quoted


def put_echo(w: World, p: Packet, octets: Octets, request: int, out: bytearray, at: int, piece: int, kind: int) -> None:
    """`piece` bytes of an echo reply, its checksum zero: the request's, if it came in one piece, with another type."""
    in_pieces = p.frag_offset > 0 or p.frag_more or w.reply_offset > 0 or piece < ICMP_HEADER_BYTES + p.payload_length
    if in_pieces:
        put_zeros(out, at, piece)
    else:
        copy_octets(out, at, octets, request, piece)
    if w.reply_offset == 0:
        put_be16(out, at, kind << 8)
        put_be16(out, at + icmp.CHECKSUM, 0)


# --- over IPv4 -------------------------------------------------------------------------------------------------------


def put_ipv4(
    w: World, octets: Octets, request: int, out: bytearray, at: int, length: int, protocol: int, fragment: int
) -> None:
    """An IPv4 header, back to where the request's came from."""
    put_be16(out, at, 0x4500)
    put_be16(out, at + ipv4.TOTAL_LENGTH, ipv4.HEADER_LEN + length)
    put_be16(out, at + ipv4.ID, w.reply_id)
    put_be16(out, at + ipv4.FLAGS_FRAGMENT, fragment)
    out[at + ipv4.PROTOCOL - 1] = TTL
    out[at + ipv4.PROTOCOL] = protocol & 0xFF
    put_be16(out, at + ipv4.CHECKSUM, 0)
    copy_octets(out, at + ipv4.SRC, octets, request + ipv4.DST, 4)
    copy_octets(out, at + ipv4.DST, octets, request + ipv4.SRC, 4)
    put_sum(out, at + ipv4.CHECKSUM, ones_sum(out, at, at + ipv4.HEADER_LEN))


def put_over_ipv4(w: World, m: Machine, tx: TxFrame, p: Packet, octets: Octets, out: bytearray, at: int) -> int:
    """What answers an IPv4 packet, behind the link header; returns its end."""
    request = p.offset + link_bytes(p)
    body = at + ipv4.HEADER_LEN
    asked = tx.length - LINK_BYTES - ipv4.HEADER_LEN
    if p.kind == KIND_TCP:
        end = body + tcp.HEADER_LEN
        put_tcp(m, tx, p, out, body)
        put_ipv4(w, octets, request, out, at, tcp.HEADER_LEN, ipv4.PROTO_TCP, DONT_FRAGMENT)
        pseudo = ones_sum(out, at + ipv4.SRC, body) + ipv4.PROTO_TCP + tcp.HEADER_LEN
        put_sum(out, body + tcp.CHECKSUM, pseudo + ones_sum(out, body, end))
    elif p.kind == KIND_ICMP:
        end = body + asked
        l4 = request + ((octets[request] & 0x0F) << 2)
        put_echo(w, p, octets, l4, out, body, asked, 0)
        if w.reply_offset == 0:
            put_sum(out, body + icmp.CHECKSUM, ones_sum(out, body, end))  # further pieces are zeros
        fragment = w.reply_offset >> 3
        w.reply_offset += asked
        if w.reply_offset < ICMP_HEADER_BYTES + p.payload_length:
            fragment |= ipv4.MORE_FRAGMENTS
        put_ipv4(w, octets, request, out, at, asked, ipv4.PROTO_ICMP, fragment)
    else:
        code = icmp.PORT_UNREACHABLE if p.kind == KIND_UDP else PROTOCOL_UNREACHABLE
        put_be16(out, body, icmp.DEST_UNREACHABLE << 8 | code)
        there = be16(octets, request + ipv4.TOTAL_LENGTH)
        length = put_quote(octets, request, out, body, there, asked - ICMP_HEADER_BYTES)
        end = body + length
        put_sum(out, body + icmp.CHECKSUM, ones_sum(out, body, end))
        put_ipv4(w, octets, request, out, at, length, ipv4.PROTO_ICMP, 0)
    return end


# --- over IPv6 -------------------------------------------------------------------------------------------------------


def put_ipv6(octets: Octets, request: int, out: bytearray, at: int, length: int, next_header: int) -> None:
    """An IPv6 header, back to where the request's came from."""
    put_be32(out, at, 0x60000000)
    put_be16(out, at + ipv6.PAYLOAD_LENGTH, length)
    out[at + ipv6.NEXT_HEADER] = next_header & 0xFF
    out[at + ipv6.NEXT_HEADER + 1] = TTL
    copy_octets(out, at + ipv6.SRC, octets, request + ipv6.DST, ipv6.ADDRESS_LEN)
    copy_octets(out, at + ipv6.DST, octets, request + ipv6.SRC, ipv6.ADDRESS_LEN)


def put_sum_v6(out: bytearray, at: int, body: int, end: int, protocol: int, checksum: int) -> None:
    """A checksum over the pseudo header of the IPv6 header at `at` (RFC 8200 8.1)."""
    pseudo = ones_sum(out, at + ipv6.SRC, at + ipv6.HEADER_LEN) + protocol + end - body
    put_sum(out, checksum, pseudo + ones_sum(out, body, end))


def put_over_ipv6(w: World, m: Machine, tx: TxFrame, p: Packet, octets: Octets, out: bytearray, at: int) -> int:
    """What answers an IPv6 packet, behind the link header; returns its end."""
    request = p.offset + link_bytes(p)
    body = at + ipv6.HEADER_LEN
    l4 = request + ipv6.HEADER_LEN + be16(octets, request + ipv6.PAYLOAD_LENGTH) - p.l4_length
    if p.kind == KIND_TCP:
        end = body + tcp.HEADER_LEN
        put_tcp(m, tx, p, out, body)
        put_ipv6(octets, request, out, at, tcp.HEADER_LEN, ipv4.PROTO_TCP)
        put_sum_v6(out, at, body, end, ipv4.PROTO_TCP, body + tcp.CHECKSUM)
    elif p.kind == KIND_ICMPV6 and p.icmp_type == ICMPV6_ECHO_REQUEST:
        end = put_echo_v6(w, tx, p, octets, request, l4, out, at)
    elif p.kind == KIND_ICMPV6:
        end = put_advertisement(w, octets, request, l4, out, at)
    else:
        put_be16(out, body, icmpv6.DEST_UNREACHABLE << 8 | icmpv6.PORT_UNREACHABLE)
        if p.kind != KIND_UDP:
            put_be16(out, body, PARAMETER_PROBLEM << 8 | UNKNOWN_NEXT_HEADER)
        there = ipv6.HEADER_LEN + be16(octets, request + ipv6.PAYLOAD_LENGTH)
        quoted = tx.length - LINK_BYTES - ipv6.HEADER_LEN - ICMP_HEADER_BYTES
        length = put_quote(octets, request, out, body, there, quoted)
        if p.kind != KIND_UDP:
            put_be32(out, body + POINTER, ipv6.NEXT_HEADER)
        end = body + length
        put_ipv6(octets, request, out, at, length, ipv6.PROTO_ICMPV6)
        put_sum_v6(out, at, body, end, ipv6.PROTO_ICMPV6, body + icmpv6.CHECKSUM)
    return end


def put_echo_v6(
    w: World, tx: TxFrame, p: Packet, octets: Octets, request: int, l4: int, out: bytearray, at: int
) -> int:
    """A piece of an echo reply, behind a fragment header if there are more; returns its end."""
    piece = tx.length - LINK_BYTES - ipv6.HEADER_LEN
    whole = ICMP_HEADER_BYTES + p.payload_length
    if w.reply_offset == 0 and piece == whole:
        body = at + ipv6.HEADER_LEN
        put_echo(w, p, octets, l4, out, body, piece, ECHO_REPLY_V6)
        put_ipv6(octets, request, out, at, piece, ipv6.PROTO_ICMPV6)
        put_sum_v6(out, at, body, body + piece, ipv6.PROTO_ICMPV6, body + icmpv6.CHECKSUM)
        return body + piece
    fragment = at + ipv6.HEADER_LEN
    body = fragment + FRAGMENT_HEADER_BYTES
    put_echo(w, p, octets, l4, out, body, piece, ECHO_REPLY_V6)
    put_ipv6(octets, request, out, at, FRAGMENT_HEADER_BYTES + piece, ipv6.PROTO_FRAGMENT)
    if w.reply_offset == 0:  # the other pieces are zeros
        pseudo = ones_sum(out, at + ipv6.SRC, fragment) + ipv6.PROTO_ICMPV6 + whole
        put_sum(out, body + icmpv6.CHECKSUM, pseudo + ones_sum(out, body, body + piece))
    more = 1 if w.reply_offset + piece < whole else 0
    put_be16(out, fragment, ipv6.PROTO_ICMPV6 << 8)
    put_be16(out, fragment + 2, w.reply_offset | more)
    put_be32(out, fragment + 4, w.reply_id)
    w.reply_offset += piece
    return body + piece


def put_advertisement(w: World, octets: Octets, request: int, l4: int, out: bytearray, at: int) -> int:
    """The host has the address that a neighbour solicitation asks for (RFC 4861 7.2.4); returns the answer's end."""
    body = at + ipv6.HEADER_LEN
    put_be16(out, body, NEIGHBOUR_ADVERTISEMENT << 8)
    put_be16(out, body + icmpv6.CHECKSUM, 0)
    put_be32(out, body + POINTER, NA_FLAGS << 24)
    copy_octets(out, body + ICMP_HEADER_BYTES, octets, l4 + ICMP_HEADER_BYTES, ipv6.ADDRESS_LEN)
    option = body + ICMP_HEADER_BYTES + ipv6.ADDRESS_LEN
    put_be16(out, option, TARGET_LINK_ADDRESS << 8 | 1)
    put_mac(out, option + 2, w.host_mac)
    end = option + 2 + MAC_BYTES
    put_ipv6(octets, request, out, at, end - body, ipv6.PROTO_ICMPV6)
    out[at + ipv6.NEXT_HEADER + 1] = ND_HOP_LIMIT
    copy_octets(out, at + ipv6.SRC, octets, l4 + ICMP_HEADER_BYTES, ipv6.ADDRESS_LEN)
    put_sum_v6(out, at, body, end, ipv6.PROTO_ICMPV6, body + icmpv6.CHECKSUM)
    return end

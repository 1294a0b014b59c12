"""What an interface has put together (GRO, TSO) or left to its NIC (checksums), as the wire would have carried it.

Compiled.  Source: struct virtio_net_hdr (linux/virtio_net.h), which tells where the checksum starts and how long the
segments are; net/ipv4/tcp_offload.c (tcp_gso_segment) and net/ipv4/af_inet.c (inet_gso_segment) for what differs
between segments.
"""

from emu.kernel.record import record
from emu.wire import ethernet, ipv4, ipv6, tcp, udp
from emu.wire.checksum import ones_sum
from emu.wire.octets import Octets, be16, be32, copy_octets, put_be16, put_be32
from emu.wire.vlan import TAG_LEN, TPID_8021AD, TPID_8021Q, TYPE

TCP_FIN, TCP_PSH, TCP_CWR = 0x01, 0x08, 0x80
SEQ_MASK = 0xFFFFFFFF


@record
class Cut:
    """An aggregated frame that is being cut; places are in its buffer, the others count from its first octet."""

    start: int
    network: int  # its IP header
    transport: int
    head: int  # bytes of all headers
    next: int  # place of the payload that has not been given out
    end: int  # place behind the frame; `next` is there: nothing is being cut
    segment_bytes: int  # of payload
    protocol: int
    given: int  # segments


def finish_checksum(octets: bytearray, at: int, size: int, start: int, where: int) -> None:
    """Finish the checksum of the frame octets[at:at + size] as a NIC does: over all from `start`.

    `where` counts from `start`; the pseudo header's sum stands there.  A 0 is written as 0xFFFF, as skb_checksum_help()
    does (net/core/dev.c): in UDP a 0 is none.
    """
    if start + where + 2 > size:
        return
    value = -ones_sum(octets, at + start, at + size) % 65535
    put_be16(octets, at + start + where, value if value > 0 else 0xFFFF)


def begin_cut(c: Cut, octets: Octets, start: int, size: int, transport: int, segment_bytes: int) -> bool:
    """Begin to cut octets[start:start + size], whose transport header is at `transport`.

    False: it is neither TCP nor UDP right behind an IP header, so that it stays as it is.
    """
    if size < transport + udp.HEADER_LEN or transport < ethernet.HEADER_LEN + ipv4.HEADER_LEN or segment_bytes <= 0:
        return False
    network, ethertype = ethernet.HEADER_LEN, be16(octets, start + ethernet.TYPE)
    while ethertype in (TPID_8021Q, TPID_8021AD) and network + TAG_LEN < transport:
        ethertype = be16(octets, start + network + TYPE)
        network += TAG_LEN
    header, protocol = 0, 0
    if ethertype == ethernet.TYPE_IPV4:
        header, protocol = (octets[start + network] & 0x0F) * 4, octets[start + network + ipv4.PROTOCOL] & 0xFF
    elif ethertype == ethernet.TYPE_IPV6:
        header, protocol = ipv6.HEADER_LEN, octets[start + network + ipv6.NEXT_HEADER] & 0xFF
    if header == 0 or network + header != transport:
        return False
    head = 0
    if protocol == ipv4.PROTO_TCP and size > transport + tcp.DATA_OFFSET:
        head = transport + (octets[start + transport + tcp.DATA_OFFSET] >> 4 & 0x0F) * 4
    elif protocol == ipv4.PROTO_UDP:
        head = transport + udp.HEADER_LEN
    if head <= transport or head >= size:
        return False
    c.start, c.network, c.transport, c.head = start, network, transport, head
    c.next, c.end, c.segment_bytes = start + head, start + size, segment_bytes
    c.protocol, c.given = protocol, 0
    return True


def settle_ip(c: Cut, octets: bytearray, packet: int, size: int) -> int:
    """Give the IP header at octets[packet:] the length and number of this segment; the sum of its addresses."""
    if octets[packet] >> 4 == 4:
        put_be16(octets, packet + ipv4.TOTAL_LENGTH, size)
        put_be16(octets, packet + ipv4.ID, be16(octets, packet + ipv4.ID) + c.given)
        put_be16(octets, packet + ipv4.CHECKSUM, 0)
        checksum = -ones_sum(octets, packet, packet + c.transport - c.network) % 65535
        put_be16(octets, packet + ipv4.CHECKSUM, checksum)
        return ones_sum(octets, packet + ipv4.SRC, packet + ipv4.HEADER_LEN)
    put_be16(octets, packet + ipv6.PAYLOAD_LENGTH, size - ipv6.HEADER_LEN)
    return ones_sum(octets, packet + ipv6.SRC, packet + ipv6.HEADER_LEN)


def settle_transport(c: Cut, octets: bytearray, segment: int, size: int, offset: int) -> int:
    """Give the TCP or UDP header at octets[segment:] what is this segment's, `offset` into the payload.

    The place of its checksum, from the header's start.
    """
    if c.protocol == ipv4.PROTO_UDP:
        put_be16(octets, segment + udp.LENGTH, size)
        return udp.CHECKSUM
    put_be32(octets, segment + tcp.SEQ, be32(octets, segment + tcp.SEQ) + offset & SEQ_MASK)
    flags = octets[segment + tcp.FLAGS] & 0xFF
    if c.next < c.end:
        flags &= 0xFF ^ TCP_FIN ^ TCP_PSH
    if c.given > 0:
        flags &= 0xFF ^ TCP_CWR
    octets[segment + tcp.FLAGS] = flags
    return tcp.CHECKSUM


def next_segment(c: Cut, source: Octets, octets: bytearray, at: int) -> int:
    """Put the next segment at octets[at:], its checksums right; its bytes."""
    payload = min(c.segment_bytes, c.end - c.next)
    offset = c.next - c.start - c.head
    copy_octets(octets, at, source, c.start, c.head)
    copy_octets(octets, at + c.head, source, c.next, payload)
    c.next += payload
    size, segment = c.head + payload, at + c.transport
    addresses = settle_ip(c, octets, at + c.network, size - c.network)
    length = size - c.transport
    where = segment + settle_transport(c, octets, segment, length, offset)
    put_be16(octets, where, 0)
    value = -(addresses + c.protocol + length + ones_sum(octets, segment, at + size)) % 65535
    put_be16(octets, where, value if value > 0 else 0xFFFF)
    c.given += 1
    return size

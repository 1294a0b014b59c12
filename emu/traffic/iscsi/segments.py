"""Frames of a crafted conversation: the templates' bytes, with the numbers of the moment and right checksums.

Every function runs plain and compiled.  IPv4 and TCP checksums are the sum of RFC 1071 over what was written; digests
are CRC32C, least significant byte first (RFC 7143 13.1).  (Wireshark 4.0 leaves the data digest out of a PDU's length
when it reassembles one from several segments, and then misses the PDU behind it.)
"""

from emu.traffic.iscsi.state import COMMAND, DATA_OUT, MASK, NOP_OUT, T_NOP_IN, T_R2T, T_RESPONSE, Session
from emu.wire.checksum import ones_sum
from emu.wire.octets import Octets, copy_octets, le32, put_be16, put_be32, put_le32

PSH = 0x08
DIGEST_BYTES = 4
STEP_BYTES = 4  # between two places of the pool where data may begin
BLOCK_SHIFT = 9


def crc32c(s: Session, octets: Octets, at: int, end: int) -> int:
    """CRC32C of octets[at:end] (RFC 7143 13.1; reflected polynomial 0x82F63B78), eight bytes a step.

    `s.crc` has one table for each of the eight places that a byte has in a step: 256 numbers, the last byte's first.
    """
    crc = MASK
    table = s.crc
    whole = at + (end - at) // 8 * 8
    for i in range(at, whole, 8):
        low = crc ^ le32(octets, i)
        crc = (
            table[0x700 + (low & 0xFF)]
            ^ table[0x600 + (low >> 8 & 0xFF)]
            ^ table[0x500 + (low >> 16 & 0xFF)]
            ^ table[0x400 + (low >> 24 & 0xFF)]
            ^ table[0x300 + (octets[i + 4] & 0xFF)]
            ^ table[0x200 + (octets[i + 5] & 0xFF)]
            ^ table[0x100 + (octets[i + 6] & 0xFF)]
            ^ table[octets[i + 7] & 0xFF]
        )
    for i in range(whole, end):
        crc = table[(crc ^ octets[i]) & 0xFF] ^ crc >> 8
    return crc ^ MASK


def put_ipv4_numbers(octets: bytearray, ip: int, length: int, ip_id: int, ip_sum: int) -> None:
    """Length, identification and checksum of an IPv4 header; `ip_sum` sums it with all three zero."""
    put_be16(octets, ip + 2, length)
    put_be16(octets, ip + 4, ip_id)
    put_be16(octets, ip + 10, (65535 - (ip_sum + length + ip_id) % 65535) % 65535)


def put_tcp_numbers(octets: bytearray, tcp: int, seq: int, ack: int, stamps: int, stamp: int, echo: int) -> None:
    """Sequence numbers of a TCP header, and its timestamps at `stamps`."""
    put_be32(octets, tcp + 4, seq)
    put_be32(octets, tcp + 8, ack)
    put_be32(octets, stamps, stamp)
    put_be32(octets, stamps + 4, echo)


def put_tcp_checksum(octets: bytearray, tcp: int, end: int, pseudo_sum: int) -> None:
    """The checksum of the segment octets[tcp:end], in which it is zero; `pseudo_sum` is without the length."""
    total = pseudo_sum + end - tcp + ones_sum(octets, tcp, end)
    put_be16(octets, tcp + 16, (65535 - total % 65535) % 65535)


def put_headers(
    s: Session, moulds: Octets, kind: int, octets: bytearray, at: int, payload: int, push: bool, ip_id: int
) -> None:
    """Headers of a frame with `payload` bytes behind them; TCP's numbers are not yet in."""
    shape = s.shapes[kind]
    copy_octets(octets, at, moulds, shape.head_at, shape.head_bytes)
    ip = at + s.ip_at
    length = shape.head_bytes - s.ip_at + payload
    if s.ipv6:
        put_be16(octets, ip + 4, length - 40)
    else:
        put_ipv4_numbers(octets, ip, length, ip_id, shape.ip_sum)
    if push:
        octets[at + s.tcp_at + 13] = octets[at + s.tcp_at + 13] | PSH


def put_numbers(
    s: Session, kind: int, octets: bytearray, at: int, size: int, seq: int, ack: int, stamp: int, echo: int
) -> None:
    """TCP's numbers of a frame that is otherwise complete, and the checksum."""
    shape = s.shapes[kind]
    tcp = at + s.tcp_at
    put_tcp_numbers(octets, tcp, seq, ack, at + shape.stamp_at, stamp, echo)
    put_tcp_checksum(octets, tcp, at + size, shape.pseudo_sum)


def put_part(
    octets: bytearray, at: int, start: int, end: int, source: Octets, source_at: int, part_at: int, part_bytes: int
) -> None:
    """Of a PDU's bytes [start, end), which go to `octets[at:]`, those of one part: `part_bytes` from `part_at` on."""
    low = max(start, part_at)
    high = min(end, part_at + part_bytes)
    if low < high:
        copy_octets(octets, at + low - start, source, source_at + low - part_at, high - low)


def put_request_bytes(s: Session, moulds: Octets, pool: Octets, octets: bytearray, at: int, end: int) -> None:
    """Bytes [s.pdu_sent, end) of the initiator's PDU under way: header, data, digests (RFC 7143 11.2)."""
    shape = s.shapes[s.pdu]
    head = shape.pdu_bytes + (s.header_digest if s.logged_in else 0)
    digest_at = shape.pdu_at + shape.pdu_bytes + DIGEST_BYTES
    start = s.pdu_sent
    put_part(octets, at, start, end, moulds, shape.pdu_at, 0, head)
    if s.pdu_data:
        put_part(octets, at, start, end, pool, s.pdu_pool, head, s.pdu_data)
        put_part(octets, at, start, end, moulds, digest_at, head + s.pdu_data, s.data_digest)


def put_header_digest(s: Session, moulds: bytearray, pdu_at: int, pdu_bytes: int) -> None:
    """The digest of a header, behind it."""
    if s.header_digest and s.logged_in:
        put_le32(moulds, pdu_at + pdu_bytes, crc32c(s, moulds, pdu_at, pdu_at + pdu_bytes))


def patch_request(s: Session, moulds: bytearray, pool: Octets) -> None:
    """The header of the initiator's next PDU, and its digests (RFC 7143 11.3, 11.7, 11.12, 11.14, 11.18)."""
    shape = s.shapes[s.pdu]
    at = shape.pdu_at
    put_be32(moulds, at + 28, s.h_stat_sn)
    if s.pdu == DATA_OUT:
        write = s.outstanding[s.pdu_tag]
        moulds[at + 1] = 0x80 if write.offset + s.pdu_data == write.burst_end else 0
        put_be32(moulds, at + 4, s.pdu_data)
        put_be32(moulds, at + 16, write.itt)
        put_be32(moulds, at + 20, write.ttt)
        put_be32(moulds, at + 36, write.data_sn)
        put_be32(moulds, at + 40, write.offset)
    else:
        put_be32(moulds, at + 24, s.cmd_sn)
        if s.pdu == NOP_OUT:
            put_be32(moulds, at + 20, s.pdu_tag)
        else:
            put_be32(moulds, at + 16, s.itt)
        if s.pdu == COMMAND:
            blocks = s.write_bytes >> BLOCK_SHIFT
            put_be32(moulds, at + 34, s.issued * blocks & 0x7FFFFFFF)  # the disk's end is the first block's turn again
    put_header_digest(s, moulds, at, shape.pdu_bytes)
    if s.data_digest and s.pdu_data:
        digest = crc32c(s, pool, s.pdu_pool, s.pdu_pool + s.pdu_data)
        put_le32(moulds, at + shape.pdu_bytes + DIGEST_BYTES, digest)


def patch_answer(s: Session, moulds: bytearray, kind: int, tag: int) -> None:
    """The header of the target's next PDU, and its digest (RFC 7143 11.4, 11.8, 11.13, 11.15, 11.19)."""
    shape = s.shapes[kind]
    at = shape.pdu_at
    put_be32(moulds, at + 24, s.t_stat_sn)
    put_be32(moulds, at + 28, s.exp_cmd_sn)
    put_be32(moulds, at + 32, s.max_cmd_sn)
    if kind == T_NOP_IN:
        put_be32(moulds, at + 20, s.ttt)
    elif kind in (T_RESPONSE, T_R2T):
        write = s.outstanding[tag]
        put_be32(moulds, at + 16, write.itt)
        if kind == T_R2T:
            put_be32(moulds, at + 20, write.ttt)
            put_be32(moulds, at + 36, write.r2ts)
            put_be32(moulds, at + 40, write.offset)
            put_be32(moulds, at + 44, write.burst_end - write.offset)
        else:
            put_be32(moulds, at + 36, write.r2ts)
    else:
        put_be32(moulds, at + 16, s.itt)
    put_header_digest(s, moulds, at, shape.pdu_bytes)

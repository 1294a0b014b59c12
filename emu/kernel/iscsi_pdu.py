"""iSCSI PDUs in a stream of bytes: written as numbers, made into bytes when a segment needs them, read back.

Source: RFC 7143 11.2 (basic header segment, padding, digests), which keeps the layouts of RFC 3720.
Differs: what the host and its targets write carries no digests and no additional header segments; both are read.
"""

from emu.kernel.closed_loop import BHS_BYTES, BHS_WORDS, MAX_PDUS, PduReader, Stream
from emu.kernel.tcp_seq import after, before, seq_add
from emu.wire.octets import Octets, copy_octets

OP_NOP_OUT, OP_SCSI_COMMAND, OP_TASK_MANAGEMENT, OP_LOGIN, OP_TEXT, OP_DATA_OUT, OP_LOGOUT = range(7)
OP_NOP_IN = 0x20
OP_SCSI_RESPONSE = 0x21
OP_TASK_MANAGEMENT_RESPONSE = 0x22
OP_LOGIN_RESPONSE = 0x23
OP_TEXT_RESPONSE = 0x24
OP_DATA_IN = 0x25
OP_LOGOUT_RESPONSE = 0x26
OP_R2T = 0x31
OP_ASYNC = 0x32
OP_REJECT = 0x3F
OP_MASK = 0x3F
IMMEDIATE = 0x40
FINAL = 0x80
NO_TAG = 0xFFFFFFFF
PADDING = 4
LOW = 0xFFFFFFFF


def word_of(high: int, low: int) -> int:
    """Two fields of four bytes as one signed word of eight."""
    if high >= 0x80000000:
        high -= 0x100000000
    return high << 32 | low


def high_of(word: int) -> int:
    """The first four bytes of a word."""
    return word >> 32 & LOW


def low_of(word: int) -> int:
    """The last four bytes of a word."""
    return word & LOW


def opcode_of(word: int) -> int:
    """The opcode in a header's first word, without the immediate bit."""
    return word >> 56 & OP_MASK


def flags_of(word: int) -> int:
    """The second byte of a header's first word."""
    return word >> 48 & 0xFF


def first_word(opcode: int, flags: int, data_bytes: int) -> int:
    """A header's first word: opcode (with IMMEDIATE or not), flags, no AHS, the length of the data."""
    return opcode << 56 | flags << 48 | data_bytes


def padded(data_bytes: int) -> int:
    """A data segment's length on the wire."""
    return (data_bytes + PADDING - 1) // PADDING * PADDING


def pdu_bytes(data_bytes: int) -> int:
    """The length of a PDU that we write."""
    return BHS_BYTES + padded(data_bytes)


def stream_open(stream: Stream, seq: int) -> None:
    """A connection is open: its first PDU will begin at `seq`."""
    stream.pdus = 0
    stream.end_seq = seq


def stream_write(
    stream: Stream, one: int, two: int, three: int, four: int, five: int, six: int, data_bytes: int, pool_at: int
) -> int:
    """Append a PDU, its header in six words; its length in bytes."""
    pdu = stream.pdu[stream.pdus % MAX_PDUS]
    pdu.seq = stream.end_seq
    pdu.word[0] = one
    pdu.word[1] = two
    pdu.word[2] = three
    pdu.word[3] = four
    pdu.word[4] = five
    pdu.word[5] = six
    pdu.data_bytes = data_bytes
    pdu.pool_at = pool_at
    stream.pdus += 1
    length = pdu_bytes(data_bytes)
    stream.end_seq = seq_add(stream.end_seq, length)
    return length


def put_stream(stream: Stream, pool: Octets, octets: bytearray, at: int, seq: int, length: int) -> None:
    """Make the stream's bytes [seq, seq + length) at `octets[at:]`."""
    n = stream.pdus - 1
    while before(seq, stream.pdu[n % MAX_PDUS].seq):
        n -= 1
    assert n >= 0 and stream.pdus - n <= MAX_PDUS
    while length > 0:
        pdu = stream.pdu[n % MAX_PDUS]
        start = (seq - pdu.seq) & LOW
        whole = pdu_bytes(pdu.data_bytes)
        part = min(length, whole - start)
        put_pdu_bytes(stream, n, pool, octets, at, start, part)
        at += part
        seq = seq_add(seq, part)
        length -= part
        n += 1


def put_pdu_bytes(stream: Stream, n: int, pool: Octets, octets: bytearray, at: int, start: int, count: int) -> None:
    """Bytes [start, start + count) of PDU number `n` of a stream."""
    pdu = stream.pdu[n % MAX_PDUS]
    end = start + count
    for i in range(start, min(end, BHS_BYTES)):
        octets[at + i - start] = pdu.word[i >> 3] >> (56 - 8 * (i & 7)) & 0xFF
    low = max(start, BHS_BYTES)
    high = min(end, BHS_BYTES + pdu.data_bytes)
    if low < high:
        copy_octets(octets, at + low - start, pool, pdu.pool_at + low - BHS_BYTES, high - low)
    for i in range(max(start, BHS_BYTES + pdu.data_bytes), end):
        octets[at + i - start] = 0


def reader_open(reader: PduReader, seq: int) -> None:
    """Expect a PDU to begin at `seq`."""
    reader.next_seq = seq
    reader.has_header = 0
    reader.left_bytes = 0
    reader.data_bytes = 0


def read_header(reader: PduReader, store: Octets, base: int, mask: int) -> None:
    """Take in the 48 bytes of a header, and what they say of the bytes behind it."""
    for w in range(BHS_WORDS):
        word = 0
        for i in range(8):
            byte = store[base + ((reader.next_seq + 8 * w + i) & mask)] & 0xFF
            if i == 0 and byte >= 0x80:
                byte -= 0x100
            word = word << 8 | byte
        reader.word[w] = word
    ahs_bytes = 4 * (reader.word[0] >> 24 & 0xFF)
    reader.data_bytes = reader.word[0] & 0xFFFFFF
    reader.left_bytes = ahs_bytes + reader.header_digest + padded(reader.data_bytes)
    if reader.data_bytes > 0:
        reader.left_bytes += reader.data_digest
    reader.next_seq = seq_add(reader.next_seq, BHS_BYTES)
    reader.has_header = 1


def read_pdu(reader: PduReader, store: Octets, base: int, mask: int, end_seq: int) -> bool:
    """Whether the next PDU is whole within the bytes before `end_seq`; its header is in `reader.word` then.

    The byte of sequence number n stands at `store[base + (n & mask)]`.  Call it again for the PDU behind it.
    """
    if not after(end_seq, reader.next_seq):
        return False
    there = (end_seq - reader.next_seq) & LOW
    if not reader.has_header:
        if there < BHS_BYTES:
            return False
        read_header(reader, store, base, mask)
        there -= BHS_BYTES
    passed = min(there, reader.left_bytes)
    reader.next_seq = seq_add(reader.next_seq, passed)
    reader.left_bytes -= passed
    if reader.left_bytes > 0:
        return False
    reader.has_header = 0
    return True

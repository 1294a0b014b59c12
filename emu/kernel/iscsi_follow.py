"""iSCSI as the wire of a capture shows it: where PDUs begin, which writes are commanded, which are answered.

A capture is read in its own order, whatever becomes of its frames in the machine; `iscsi_write_back` says what the
machine makes of it.  Followed are TCP connections whose remote end is iSCSI's port 3260, and memalloc flows to other
ports once a segment of theirs begins with a header that only iSCSI has.
Source: RFC 7143 section 11 (headers, padding, digests), 6.1 and 13.1 (digests are as the target's login response says).
Differs: markers (RFC 3720 appendix A, gone from RFC 7143) are not known; where PDU boundaries are lost (the capture
begins late, lacks frames or cuts them off) the next segment that begins with a plausible header is where they are found
again, and without a login seen there are no digests; TCP in IP fragments is passed over.
"""

from typing import Any

from emu.kernel.closed_loop import BHS_BYTES
from emu.kernel.flows import rule_matches
from emu.kernel.iscsi_follow_state import (
    FOLLOW_STORE_BYTES,
    MAX_FOLLOWED,
    MAX_NEWS,
    MAX_STRETCHES,
    NEWS_COMMAND,
    NEWS_OPEN,
    NEWS_RESPONSE,
    WAY_IN,
    WAY_OUT,
    FollowedWay,
    FollowedWire,
)
from emu.kernel.iscsi_pdu import (
    LOW,
    OP_ASYNC,
    OP_DATA_IN,
    OP_DATA_OUT,
    OP_LOGIN,
    OP_LOGIN_RESPONSE,
    OP_LOGOUT,
    OP_LOGOUT_RESPONSE,
    OP_NOP_IN,
    OP_NOP_OUT,
    OP_R2T,
    OP_REJECT,
    OP_SCSI_COMMAND,
    OP_SCSI_RESPONSE,
    OP_TASK_MANAGEMENT,
    OP_TASK_MANAGEMENT_RESPONSE,
    OP_TEXT,
    OP_TEXT_RESPONSE,
    flags_of,
    high_of,
    low_of,
    opcode_of,
    read_pdu,
    reader_open,
)
from emu.kernel.machine import NONE, PACKET_HOST, PACKET_OUTGOING, Machine, Packet
from emu.kernel.sock import IPPROTO_TCP, Ends, ends_received, ends_sent
from emu.kernel.tcp_seq import TCP_ACK, TCP_SYN, after, before, is_far, seq_add
from emu.wire.dissect import ip6_total_length
from emu.wire.headers import CSUM_BAD, KIND_TCP, NO_ERROR
from emu.wire.link import link_header_len
from emu.wire.octets import Octets, copy_octets
from emu.wire.vlan import TAG_LEN

ISCSI_PORT = 3260
OP_SNACK = 0x10
STORE_MASK = FOLLOW_STORE_BYTES - 1
MOST_PLAUSIBLE_BYTES = 1 << 20  # of a PDU's data, where it is not known that a PDU begins
MOST_AHS_WORDS = 16
MOST_NEWS_OF_FRAME = FOLLOW_STORE_BYTES // BHS_BYTES + 2  # a frame completes no more than the store holds
WRITES = 0x20  # the W bit of a SCSI Command
STATUS = 0x01  # the S bit of a Data-In: it ends its command, without a SCSI Response (RFC 7143 11.7.3)
TRANSIT = 0x80  # the T bit of a login response
NEXT_STAGE = 0x03
FULL_FEATURE_PHASE = 3
DIGEST_BYTES = 4
HEADER_DIGEST_SAID = tuple(b"HeaderDigest=CRC32C\0")
DATA_DIGEST_SAID = tuple(b"DataDigest=CRC32C\0")

assert MAX_NEWS > MOST_NEWS_OF_FRAME


def payload_at(p: Packet, octets: Octets) -> int:
    """Where the TCP payload of a dissected frame begins."""
    at = p.offset + link_header_len(p.linktype) + TAG_LEN * p.vlan_tags
    if p.ip_version == 4:
        at += (octets[at] & 0x0F) * 4 + p.l4_length
    else:
        captured = p.offset + min(p.caplen, p.length) - at
        at += ip6_total_length(octets, at, p.offset + p.length - at, captured)
    return at - p.payload_length


def begins_request(word: int, most_bytes: int) -> bool:
    """Whether an initiator may send a header with this first word (RFC 7143 11.3 to 11.18)."""
    flags = flags_of(word)
    opcode = opcode_of(word)
    ahs_words = word >> 24 & 0xFF
    if word < 0 or word & 0xFFFFFF > most_bytes or (ahs_words > 0 and opcode != OP_SCSI_COMMAND):
        return False
    if opcode in (OP_NOP_OUT, OP_TASK_MANAGEMENT, OP_LOGOUT, OP_SNACK):
        return flags & 0x80 > 0 and (opcode != OP_NOP_OUT or flags == 0x80)
    if opcode == OP_SCSI_COMMAND:
        return flags & 0x18 == 0 and word >> 40 & 0xFF == 0 and ahs_words <= MOST_AHS_WORDS
    if opcode == OP_LOGIN:
        return word >> 32 & 0xFFFF == 0 and flags & 0x30 == 0
    if opcode == OP_TEXT:
        return flags & 0x3F == 0
    return opcode == OP_DATA_OUT and flags & 0x7F == 0


def begins_answer(word: int, most_bytes: int) -> bool:
    """Whether a target may send a header with this first word (RFC 7143 11.4 to 11.19)."""
    flags = flags_of(word)
    opcode = word >> 56 & 0xFF
    if word < 0 or word & 0xFFFFFF > most_bytes or word >> 24 & 0xFF > 0:
        return False
    if opcode in (OP_NOP_IN, OP_TASK_MANAGEMENT_RESPONSE, OP_LOGOUT_RESPONSE, OP_R2T, OP_ASYNC, OP_REJECT):
        return flags == 0x80
    if opcode == OP_SCSI_RESPONSE:
        return flags & 0xE1 == 0x80
    if opcode == OP_LOGIN_RESPONSE:
        return word >> 32 & 0xFFFF == 0 and flags & 0x30 == 0
    if opcode == OP_TEXT_RESPONSE:
        return flags & 0x3F == 0
    return opcode == OP_DATA_IN and flags & 0x38 == 0


def begins_pdu(direction: int, word: int, most_bytes: int) -> bool:
    """Whether a PDU of this direction may begin so."""
    if direction == WAY_OUT:
        return begins_request(word, most_bytes)
    return begins_answer(word, most_bytes)


def word_at(octets: Octets, start: int, at: int, mask: int) -> int:
    """Eight bytes as a signed word, at `octets[start + (at & mask)]` and on."""
    word = 0
    for i in range(8):
        byte = octets[start + ((at + i) & mask)] & 0xFF
        if i == 0 and byte >= 0x80:
            byte -= 0x100
        word = word << 8 | byte
    return word


def store_at(k: int, direction: int) -> int:
    """Where the bytes of one direction of a connection are remembered."""
    return (2 * k + direction) * FOLLOW_STORE_BYTES


# --- one direction ---------------------------------------------------------------------------------------------------


def way_open(way: FollowedWay, seq: int) -> None:
    """A PDU begins at `seq`; what came before is of no interest."""
    way.known = 1
    way.synced = 1
    way.end_seq = seq
    way.pdu_seq = seq
    way.aheads = 0
    way.blanks = 0
    reader_open(way.reader, seq)


def way_lose(m: Machine, way: FollowedWay) -> None:
    """Nobody knows any more where the next PDU begins."""
    way.synced = 0
    way.blanks = 0
    m.follow.resyncs += 1
    m.follow.skipped_bytes += (way.end_seq - way.pdu_seq) & LOW


def ahead_add(way: FollowedWay, seq: int, end_seq: int) -> bool:
    """Remember a segment behind a gap; False when there are too many of them."""
    at = 0
    while at < way.aheads and before(way.ahead[at].end_seq, seq):
        at += 1
    upto = at
    while upto < way.aheads and not after(way.ahead[upto].seq, end_seq):
        if before(way.ahead[upto].seq, seq):
            seq = way.ahead[upto].seq
        if after(way.ahead[upto].end_seq, end_seq):
            end_seq = way.ahead[upto].end_seq
        upto += 1
    if upto == at and way.aheads == MAX_STRETCHES:
        return False
    aheads_replace(way, at, upto)
    way.ahead[at].seq = seq
    way.ahead[at].end_seq = end_seq
    return True


def aheads_replace(way: FollowedWay, at: int, upto: int) -> None:
    """Make one row of the rows from `at` to before `upto`."""
    moved = at + 1 - upto
    if moved > 0:
        for row in range(way.aheads - 1, at - 1, -1):
            way.ahead[row + 1].seq = way.ahead[row].seq
            way.ahead[row + 1].end_seq = way.ahead[row].end_seq
    else:
        for row in range(upto, way.aheads):
            way.ahead[row + moved].seq = way.ahead[row].seq
            way.ahead[row + moved].end_seq = way.ahead[row].end_seq
    way.aheads += moved


def aheads_absorb(way: FollowedWay) -> None:
    """What is there without a gap now is no longer ahead."""
    absorbed = 0
    while absorbed < way.aheads and not after(way.ahead[absorbed].seq, way.end_seq):
        if after(way.ahead[absorbed].end_seq, way.end_seq):
            way.end_seq = way.ahead[absorbed].end_seq
        absorbed += 1
    for row in range(absorbed, way.aheads):
        way.ahead[row - absorbed].seq = way.ahead[row].seq
        way.ahead[row - absorbed].end_seq = way.ahead[row].end_seq
    way.aheads -= absorbed


def blank_add(way: FollowedWay, seq: int, end_seq: int) -> None:
    """The capture lacks these bytes; without a row left the last blank swallows what lies between."""
    at = min(way.blanks, MAX_STRETCHES - 1)
    if way.blanks == MAX_STRETCHES:
        seq = way.blank[at].seq if before(way.blank[at].seq, seq) else seq
        end_seq = way.blank[at].end_seq if after(way.blank[at].end_seq, end_seq) else end_seq
    else:
        way.blanks += 1
    way.blank[at].seq = seq
    way.blank[at].end_seq = end_seq


def blank_end(way: FollowedWay, seq: int, end_seq: int) -> int:
    """Where the last blank that touches [seq, end_seq) ends, else -1; those before `seq` are forgotten."""
    kept = 0
    found = NONE
    for row in range(way.blanks):
        blank = way.blank[row]
        if not after(blank.end_seq, seq):
            continue
        if before(blank.seq, end_seq) and (found == NONE or after(blank.end_seq, found)):
            found = blank.end_seq
        way.blank[kept].seq = blank.seq
        way.blank[kept].end_seq = blank.end_seq
        kept += 1
    way.blanks = kept
    return found


def gap_is_past(m: Machine, k: int, direction: int, store: bytearray, row: int) -> None:
    """The other end has what lies before the first segment ahead: the capture lacks it."""
    way = m.follow.wire[k].way[direction]
    while way.synced and way.aheads > 0 and way.acked != NONE and not before(way.acked, way.ahead[0].seq):
        blank_add(way, way.end_seq, way.ahead[0].seq)
        way.end_seq = way.ahead[0].seq
        aheads_absorb(way)
        way_read(m, k, direction, store, row)


def way_segment(
    m: Machine, k: int, direction: int, p: Packet, octets: Octets, at: int, store: bytearray, row: int
) -> None:
    """A segment with payload, whose bytes lie at `octets[at:]` as far as they were captured."""
    way = m.follow.wire[k].way[direction]
    seq = p.tcp_seq
    length = p.payload_length
    captured = max(0, min(length, p.offset + min(p.caplen, p.length) - at))
    end_seq = seq_add(seq, length)
    if captured < length:
        m.follow.truncated += 1
    far = way.known > 0 and is_far(seq, way.end_seq)
    if way.known and not far and not after(end_seq, way.end_seq):
        return  # seen already
    if way.synced and (far or (end_seq - way.reader.next_seq) & LOW > FOLLOW_STORE_BYTES):
        way_lose(m, way)
    if not way.synced:
        begun = way.known > 0 and not far and before(seq, way.end_seq)
        if begun or not shows_iscsi(p, direction, octets, at):
            m.follow.skipped_bytes += length
            way.known = 1
            way.end_seq = end_seq
            return
        way_open(way, seq)
    put_store(store, store_at(k, direction), seq, octets, at, captured)
    if captured < length:
        blank_add(way, seq_add(seq, captured), end_seq)
    if after(seq, way.end_seq):
        if not ahead_add(way, seq, end_seq):
            way_lose(m, way)
            way.end_seq = end_seq
            return
        gap_is_past(m, k, direction, store, row)
        return
    way.end_seq = end_seq
    aheads_absorb(way)
    way_read(m, k, direction, store, row)


def put_store(store: bytearray, start: int, seq: int, octets: Octets, at: int, length: int) -> None:
    """Remember the bytes of a segment; the last FOLLOW_STORE_BYTES of a longer one."""
    passed = max(0, length - FOLLOW_STORE_BYTES)
    first = seq + passed & STORE_MASK
    length -= passed
    part = min(length, FOLLOW_STORE_BYTES - first)
    copy_octets(store, start + first, octets, at + passed, part)
    copy_octets(store, start, octets, at + passed + part, length - part)


def way_read(m: Machine, k: int, direction: int, store: bytearray, row: int) -> None:
    """Read the PDUs that are whole now."""
    way = m.follow.wire[k].way[direction]
    start = store_at(k, direction)
    reader = way.reader
    while way.synced and after(way.end_seq, reader.next_seq):
        if not reader.has_header:
            way.pdu_seq = reader.next_seq
            if (way.end_seq - reader.next_seq) & LOW < BHS_BYTES:
                return
            behind = blank_end(way, reader.next_seq, seq_add(reader.next_seq, BHS_BYTES))
            if behind != NONE or not begins_pdu(direction, word_at(store, start, reader.next_seq, STORE_MASK), LOW):
                way_find(m, k, direction, store, behind)
                continue
        if not read_pdu(reader, store, start, STORE_MASK, way.end_seq):
            return
        pdu_read(m, k, direction, store, row)


def way_find(m: Machine, k: int, direction: int, store: bytearray, behind: int) -> None:
    """No header where one was due: behind what the capture lacks a segment begins, and perhaps a PDU with it."""
    way = m.follow.wire[k].way[direction]
    there = (way.end_seq - behind) & LOW
    if behind != NONE and not before(way.end_seq, behind) and there >= BHS_BYTES:
        word = word_at(store, store_at(k, direction), behind, STORE_MASK)
        if begins_pdu(direction, word, MOST_PLAUSIBLE_BYTES):
            m.follow.resyncs += 1
            m.follow.skipped_bytes += (behind - way.pdu_seq) & LOW
            reader_open(way.reader, behind)
            return
    way_lose(m, way)


# --- PDUs ------------------------------------------------------------------------------------------------------------


def tell(m: Machine, k: int, row: int, what: int) -> int:
    """Hand news on to the machine; its place, for what else there is to say."""
    at = m.follow.news_len
    m.follow.news_len += 1
    news = m.follow.news[at]
    news.row = row
    news.what = what
    news.flow = k
    news.itt = 0
    news.bytes = 0
    news.seq = 0
    news.end_seq = 0
    return at


def pdu_read(m: Machine, k: int, direction: int, store: bytearray, row: int) -> None:
    """A PDU is whole on the wire: a command, a response, a word on digests."""
    way = m.follow.wire[k].way[direction]
    word = way.reader.word
    opcode = opcode_of(word[0])
    if direction == WAY_OUT and opcode == OP_SCSI_COMMAND:
        news = m.follow.news[tell(m, k, row, NEWS_COMMAND)]
        news.itt = high_of(word[2])
        news.bytes = low_of(word[2]) if flags_of(word[0]) & WRITES else -1
    elif direction == WAY_IN and (opcode == OP_SCSI_RESPONSE or (opcode == OP_DATA_IN and flags_of(word[0]) & STATUS)):
        news = m.follow.news[tell(m, k, row, NEWS_RESPONSE)]
        news.itt = high_of(word[2])
        news.seq = way.pdu_seq
        news.end_seq = way.reader.next_seq
    elif direction == WAY_IN and opcode == OP_LOGIN_RESPONSE:
        login_read(m.follow.wire[k], store, store_at(k, direction))


def login_read(wire: FollowedWire, store: bytearray, start: int) -> None:
    """What the target answers to a login is what is agreed on; with the full feature phase it holds (RFC 7143 6.3)."""
    way = wire.way[WAY_IN]
    word = way.reader.word
    first = seq_add(way.pdu_seq, BHS_BYTES)
    text_bytes = min(way.reader.data_bytes, STORE_MASK)
    if says(store, start, first, text_bytes, HEADER_DIGEST_SAID):
        wire.header_digest = DIGEST_BYTES
    if says(store, start, first, text_bytes, DATA_DIGEST_SAID):
        wire.data_digest = DIGEST_BYTES
    flags = flags_of(word[0])
    accepted = word[4] >> 24 & 0xFF == 0
    if accepted and flags & TRANSIT and flags & NEXT_STAGE == FULL_FEATURE_PHASE:
        for direction in range(2):
            wire.way[direction].reader.header_digest = wire.header_digest
            wire.way[direction].reader.data_digest = wire.data_digest


def says(store: bytearray, start: int, first: int, length: int, words: tuple[int, ...]) -> bool:
    """Whether a text of the login holds these bytes."""
    for at in range(length - len(words) + 1):
        same = 0
        while same < len(words) and store[start + (first + at + same & STORE_MASK)] == words[same]:
            same += 1
        if same == len(words):
            return True
    return False


# --- connections -----------------------------------------------------------------------------------------------------


def wire_find(m: Machine, ends: Ends) -> int:
    """The row of a connection that is followed, or -1."""
    for k in range(MAX_FOLLOWED):
        wire = m.follow.wire[k]
        if wire.used and wire.local_port == ends.local_port and wire.remote_port == ends.remote_port:
            if wire.local == ends.local and wire.remote == ends.remote and wire.family == ends.family:
                if wire.local_hi == ends.local_hi and wire.remote_hi == ends.remote_hi:
                    return k
    return NONE


def wire_open(m: Machine, ends: Ends, k: int, row: int) -> int:
    """Follow a connection from now on, in row `k` or, if that is -1, in that of the longest unused one; its row."""
    if k == NONE:
        k = 0
        for other in range(1, MAX_FOLLOWED):
            if m.follow.wire[other].used < m.follow.wire[k].used:
                k = other
    wire = m.follow.wire[k]
    wire.family = ends.family
    wire.local = ends.local
    wire.local_hi = ends.local_hi
    wire.local_port = ends.local_port
    wire.remote = ends.remote
    wire.remote_hi = ends.remote_hi
    wire.remote_port = ends.remote_port
    wire.header_digest = 0
    wire.data_digest = 0
    for direction in range(2):
        way = wire.way[direction]
        way.known = 0
        way.synced = 0
        way.acked = NONE
        way.aheads = 0
        way.blanks = 0
        way.reader.header_digest = 0
        way.reader.data_digest = 0
    m.follow.flows += 1
    tell(m, k, row, NEWS_OPEN)
    return k


def is_memalloc(m: Machine, ends: Ends) -> bool:
    """Whether the user says that block I/O depends on this flow."""
    found = False
    for rule in range(m.sock_rules):
        if m.sock_rule[rule].memalloc >= 0 and rule_matches(m, rule, ends):
            found = m.sock_rule[rule].memalloc > 0
    return found


def shows_iscsi(p: Packet, direction: int, octets: Octets, at: int) -> bool:
    """Whether a segment's payload begins with an iSCSI header."""
    captured = min(p.payload_length, p.offset + min(p.caplen, p.length) - at)
    return captured >= BHS_BYTES and begins_pdu(direction, word_at(octets, at, 0, LOW), MOST_PLAUSIBLE_BYTES)


def follow_segment(
    m: Machine, p: Packet, direction: int, ends: Ends, octets: Octets, store: bytearray, row: int
) -> None:
    """A TCP frame of a connection that may be iSCSI."""
    k = wire_find(m, ends)
    if p.tcp_flags & TCP_SYN:
        if ends.remote_port != ISCSI_PORT and k == NONE:
            return
        if k == NONE or direction == WAY_OUT:
            k = wire_open(m, ends, k, row)
        m.follow.wire[k].used = row + 1
        way_open(m.follow.wire[k].way[direction], seq_add(p.tcp_seq, 1))
        return
    if p.payload_length > 0 or k != NONE:
        at = payload_at(p, octets)
        if k == NONE:
            if not shows_iscsi(p, direction, octets, at):
                return
            k = wire_open(m, ends, k, row)
        m.follow.wire[k].used = row + 1
        if p.tcp_flags & TCP_ACK:
            way_acked(m, k, 1 - direction, p.tcp_ack, store, row)
        if p.payload_length > 0:
            way_segment(m, k, direction, p, octets, at, store, row)


def way_acked(m: Machine, k: int, direction: int, ack: int, store: bytearray, row: int) -> None:
    """The other end has everything before `ack`."""
    way = m.follow.wire[k].way[direction]
    if way.acked == NONE or after(ack, way.acked) or is_far(ack, way.acked):
        way.acked = ack
        gap_is_past(m, k, direction, store, row)


def follow_wire(m: Machine, rows: Any, first: int, last: int, octets: Octets, store: bytearray) -> int:
    """Read the iSCSI of rows[first:last]; how far it came: what it found must reach the machine before it goes on."""
    f = m.follow
    if f.news_at == f.news_len:
        f.news_at = 0
        f.news_len = 0
    for i in range(first, last):
        p = rows[i]
        if p.kind != KIND_TCP or p.header_error != NO_ERROR or p.l4_csum == CSUM_BAD:
            continue
        if p.pkt_type == PACKET_OUTGOING and (p.dport == ISCSI_PORT or f.by_rule):
            direction = WAY_OUT
            ends = ends_sent(p)
        elif p.pkt_type == PACKET_HOST and (p.sport == ISCSI_PORT or f.by_rule):
            direction = WAY_IN
            ends = ends_received(p)
        else:
            continue
        if f.news_len + MOST_NEWS_OF_FRAME > MAX_NEWS:
            return i
        if ends.remote_port == ISCSI_PORT or is_memalloc(m, ends):
            follow_segment(m, p, direction, ends, octets, store, m.seq_base + i)
    return last


def follow_begin(m: Machine) -> None:
    """Note whether iSCSI may run over other ports than its own: the user's rules on memalloc flows say so."""
    for rule in range(m.sock_rules):
        r = m.sock_rule[rule]
        if r.protocol == IPPROTO_TCP and r.memalloc > 0 and r.remote_port != ISCSI_PORT:
            m.follow.by_rule = 1

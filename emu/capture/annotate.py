"""The annotated capture: every frame once, bytes and order untouched, and beside it what became of it.

A pcapng section with a pair of interfaces per device, `eth0` for the frames that survived and `eth0-drop` for
the others: dropped, lost in an oops, not played after it.  Frames of a further link type on the same device have a
pair of their own, `eth0.sll` and `eth0.sll-drop`.  A dropped frame has two comments, a short one that groups and a
long one of `key=value` that explains; stock Wireshark filters on both.  A survivor has none, or with `all` of ANNOTATE
the same two, of which the short one is its verdict.  A frame check sequence that the capture held is written behind its
frame as it was, and epb_flags says how long it is.

What is left out is left out for a reason: epb_verdict makes Wireshark 4.0 write damaged files, custom blocks become
rows of the packet list, tcpdump refuses interfaces that differ in snap length.  It also refuses those that differ in
link type, so it reads only files of one; and libpcap 1.10.3 none of raw IP, whose number in files, 101, it compares
with its own, 12.
"""

import struct
from collections.abc import Sequence
from typing import Annotated, Any

from emu.capture.blocks import (
    EPB_FLAGS,
    EPB_PACKETID,
    EPB_QUEUE,
    FLAG_INBOUND,
    FLAG_NO_DIRECTION,
    FLAG_OUTBOUND,
    FLAGS_FCS_SHIFT,
    MAX_FCS_BYTES,
    OPT_COMMENT,
    SNAPLEN,
    end_packet,
    interface_block,
    options,
    pad,
    put_frame,
    put_option,
    section_header,
    statistics_block,
    time_words,
)
from emu.capture.linktype import PLAYED, linktype_index, suffix_of
from emu.capture.output import OutputFile
from emu.engine.plain import Engine
from emu.errors import UsageError
from emu.kernel.drop_reason import (
    CAUSES,
    DELIVERED,
    DROPPED,
    FILTERED,
    NO_REASON,
    NOT_PLAYED,
    NOT_RECEIVED,
    OOPS,
    POINTS,
    REASONS,
    RX_LENGTH,
    RX_MISSED,
    VERDICTS,
)
from emu.kernel.machine import DIR_INBOUND, MAX_DEVICES, NONE, PACKET_OTHERHOST, PACKET_OUTGOING
from emu.kernel.record import record
from emu.wire.headers import KINDS, LINKTYPE_ETHERNET
from emu.wire.octets import Octets, copy_octets, put_le16, put_le32

DROP_SUFFIX = "-drop"
# What the descriptions of a pair's interfaces say; colour rules know survivors by it.
SURVIVED, WERE_DROPPED = "frames that survived", "frames that were dropped"
# The short comments: of drops and oopses how they begin, of all others the verdict in capitals.
DROP_GROUP, OOPS_GROUP = "DROP ", "OOPS bug "
VERDICT_GROUPS = tuple(verdict.replace("_", " ").upper() for verdict in VERDICTS)
NOT_PLAYED_GROUP = VERDICT_GROUPS[NOT_PLAYED]
ANNOTATE = ("drops", "all")

ISB_STARTTIME, ISB_ENDTIME, ISB_IFRECV, ISB_IFDROP, ISB_OSDROP, ISB_USRDELIV = 2, 3, 4, 5, 7, 8

# The names of a comment, in its order, each followed by `=` and a word; a name that does not apply is left out.
NAMES = ("verdict", "reason", "cause", "point", "rule", "class", "policy")
# Its numbers, and the columns of the log that they are; `waited_ns` is decided_ns - time_ns, `has_socket` whether there
# is a socket, and `culprit` the packet_id of culprit_frame: of a part of the file, or of several merged, the numbers
# of frames mean nothing any more.
KEYS = {
    "memalloc": "memalloc",
    "has_socket": "socket",
    "from_reserve": "from_reserve",
    "pfmemalloc": "pfmemalloc",
    "reserve_used": "reserve_used_before",
    "reserve_used_after": "reserve_used_after",
    "cap": "cap_skbs",
    "free_pages": "free_pages",
    "floor_pages": "floor_pages",
    "ring_free": "ring_free",
    "backlog_len": "backlog_len",
    "time_ns": "time_ns",
    "waited_ns": "decided_ns",
    "culprit": "culprit_frame",
}
(
    MEMALLOC_KEY,
    HAS_SOCKET_KEY,
    FROM_RESERVE_KEY,
    PFMEMALLOC_KEY,
    RESERVE_USED_KEY,
    RESERVE_USED_AFTER_KEY,
    CAP_KEY,
    FREE_PAGES_KEY,
    FLOOR_PAGES_KEY,
    RING_FREE_KEY,
    BACKLOG_LEN_KEY,
    TIME_KEY,
    WAITED_KEY,
    CULPRIT_KEY,
) = range(len(KEYS))
N_KEYS = len(KEYS)
N_NAMES = len(NAMES) - 1  # the policy is the same for all: it stands before the first number

# The words of comments stand in one blob; these are the places of each group's first word in their table.
VERDICT_WORDS = 0
DROP_WORDS = VERDICT_WORDS + len(VERDICTS)
REASON_WORDS = DROP_WORDS + len(REASONS)
CAUSE_WORDS = REASON_WORDS + len(REASONS)
POINT_WORDS = CAUSE_WORDS + len(CAUSES)
CLASS_WORDS = POINT_WORDS + len(POINTS)
KEY_WORDS = CLASS_WORDS + len(KINDS)
IDENTITY_WORD = KEY_WORDS + len(KEYS)  # no text, but the options that end every packet
OOPS_WORD = IDENTITY_WORD + 1
GROUP_WORDS = OOPS_WORD + 1
RULE_WORDS = GROUP_WORDS + len(VERDICT_GROUPS)
MAX_RULE_NAMES = 64
MAX_WORDS = RULE_WORDS + MAX_RULE_NAMES
MAX_NAME = 255  # bytes of a name in a comment

N_VERDICTS, N_REASONS, N_CAUSES, N_POINTS, N_KINDS = len(VERDICTS), len(REASONS), len(CAUSES), len(POINTS), len(KINDS)
N_LINKTYPES = len(PLAYED)
MAX_PAIRS = MAX_DEVICES * N_LINKTYPES
MAX_INTERFACES = 2 * MAX_PAIRS

MOST = (1 << 63) - 1
BILLION = 10**9
TEN_TO_19 = 10**19 - (1 << 64)  # as 64 bits are taken for a signed number

FILL = 1 << 20  # the buffer is written when it holds so much
MAX_OPTIONS = 8_192  # bytes: two comments and what else stands behind a frame
BUFFER = FILL + SNAPLEN + MAX_OPTIONS
assert 8 * (MAX_NAME + 32) + len(KEYS) * (32 + 20) < MAX_OPTIONS, "names and numbers of a block have room"
assert FILL % 4 == 0 and BUFFER % 4 == 0, "blocks start on multiples of 4"


@record
class Told:
    """The last story in the buffer of one verdict, to begin the next one with."""

    at: int  # where it begins; NONE: there is none yet
    names: int  # of `names_of`
    number: Annotated[list[int], N_KEYS]
    end: Annotated[list[int], N_KEYS + 1]  # of the names, and of each number; from `at` on


@record
class Sheet:
    """What `encode` needs besides packets and words, and what it counts for the statistics, by interface."""

    annotate_all: int  # 1: survivors get comments too
    stop_at: int  # bytes in the buffer at which to stop
    devices: int
    rules: int
    oops_bug: int  # the bug of the patch that killed the kernel, else 0
    told: Annotated[list[Told], N_VERDICTS]
    pair: Annotated[list[int], MAX_PAIRS]  # of each device and link type: 1 + its number, 0: not described yet
    word_start: Annotated[list[int], MAX_WORDS]  # in the blob
    word_length: Annotated[list[int], MAX_WORDS]
    frames: Annotated[list[int], MAX_INTERFACES]
    received: Annotated[list[int], MAX_INTERFACES]
    delivered: Annotated[list[int], MAX_INTERFACES]
    nic_drops: Annotated[list[int], MAX_INTERFACES]
    os_drops: Annotated[list[int], MAX_INTERFACES]
    first_ns: Annotated[list[int], MAX_INTERFACES]  # earliest time of a frame
    last_ns: Annotated[list[int], MAX_INTERFACES]


class AnnotatedWriter:
    """Writes packets with their verdicts as an annotated capture; after every `write` the file is valid."""

    def __init__(
        self,
        output: OutputFile,
        engine: Engine,
        *,
        annotate: str = "drops",
        policy: str,
        rules: Sequence[str],
        devices: Sequence[str],
        comments: Sequence[str],
    ) -> None:
        """Write the headers.

        `annotate` is one of ANNOTATE, `rules` names policy rules by `Packet.rule`, `devices` by `Packet.dev`;
        `comments` go to the section header.  Errors: UsageError when a name or comment is too long.
        """
        assert annotate in ANNOTATE, annotate
        assert 1 <= len(devices) <= MAX_DEVICES, devices
        assert 1 <= len(rules) <= MAX_RULE_NAMES, rules
        self.output = output
        self.devices = tuple(devices)
        self._engine = engine
        self._buffer = bytearray(BUFFER)
        self._out = engine.view(self._buffer)
        self._encode = engine.function(encode)
        self._sheet = engine.new(Sheet)
        self._sheet.annotate_all = int(annotate == "all")
        self._sheet.stop_at = FILL
        self._sheet.devices = len(devices)
        self._sheet.rules = len(rules)
        self._words = engine.view(_fill_words(self._sheet, _words(policy, rules)))
        self._names: list[str] = []  # of the pairs
        output.write(section_header(comments))

    def write(self, rows: Any, first: int, last: int, octets: Any, oops_bug: int = 0) -> None:
        """Write `rows[first:last]`: their verdicts are final, their frames in `octets`, an engine's view.

        `oops_bug` is the bug that has killed the kernel, for frames whose verdict is an oops.
        """
        self._sheet.oops_bug = oops_bug
        if first < last and not self._names:
            # Every device has its pair from the start, of the first frame's link type, whoever gets frames at all.
            self._describe_devices(self._engine.function(linktype_of)(rows, first))
        while first < last:
            after, size = self._encode(rows, first, last, octets, self._out, 0, self._sheet, self._words)
            self.output.write(memoryview(self._buffer)[:size])
            if after == first:
                self._describe_pair_of(rows, first)
            first = after

    def _describe_devices(self, linktype: int) -> None:
        for dev in range(len(self.devices)):
            self._describe(dev, linktype if linktype in PLAYED else LINKTYPE_ETHERNET)

    def _describe_pair_of(self, rows: Any, at: int) -> None:
        """Describe the interfaces for a row that could not be written for want of them; it is a bug if not."""
        dev, linktype = self._engine.function(device_of)(rows, at), self._engine.function(linktype_of)(rows, at)
        nobodys = dev >= len(self.devices) or linktype not in PLAYED
        if nobodys or self._sheet.pair[dev * N_LINKTYPES + linktype_index(linktype)]:
            frame = self._engine.function(frame_of)(rows, at)
            raise AssertionError(f"frame {frame}: no final verdict, or not within the window")
        self._describe(dev, linktype)

    def _describe(self, dev: int, linktype: int) -> None:
        """Write the descriptions of a pair of interfaces."""
        device = self.devices[dev]
        name = device if device not in self._names else f"{device}.{suffix_of(linktype)}"
        self._names.append(name)
        self._sheet.pair[dev * N_LINKTYPES + linktype_index(linktype)] = len(self._names)
        self.output.write(_interface_pair(name, linktype))

    def close(self, comments_incomplete: str | None = None) -> None:
        """Write the statistics; the caller finishes the output.

        `comments_incomplete` says why the capture ends early: the section header is long written, so it
        becomes the comment of the first interface's statistics.
        """
        if not self._names:
            self._describe_devices(LINKTYPE_ETHERNET)
        at_end = max(self._sheet.last_ns)
        blocks = []
        for interface in range(2 * len(self._names)):
            comment = comments_incomplete if interface == 0 else None
            blocks.append(_statistics(self._sheet, interface, int(at_end), comment))
        self.output.write(b"".join(blocks))


def pair_of(if_name: str) -> tuple[str, bool]:
    """The device that an interface of an annotated capture stands for, and whether it holds its drops."""
    device = if_name.removesuffix(DROP_SUFFIX)
    return (device, True) if device and device != if_name else (if_name, False)


def encode(
    rows: Any, first: int, last: int, octets: Octets, out: bytearray, at: int, sheet: Any, words: Octets
) -> tuple[int, int]:
    """Encode packets from `rows[first]` on into `out[at:]`; returns the next row and the end of the blocks.

    Stops before `last` when `out` holds `sheet.stop_at` bytes, and at a row that cannot be written.  Frames that
    the user's filter refused are left out: they never were on the emulated wire.
    """
    row = first
    for verdict in range(N_VERDICTS):
        sheet.told[verdict].at = NONE  # the buffer has been written since
    while row < last and at < sheet.stop_at:
        packet = rows[row]
        if packet.verdict != FILTERED:
            if not is_sound(packet, sheet, len(octets)):
                break
            at = put_packet(packet, octets, out, at, sheet, words)
        row += 1
    return row, at


def frame_of(rows: Any, at: int) -> int:
    """The frame number of a row."""
    return int(rows[at].frame)


def device_of(rows: Any, at: int) -> int:
    """The device of a row; a frame that no device took is shown on the first."""
    return int(max(rows[at].dev, 0))


def linktype_of(rows: Any, at: int) -> int:
    """The link type of a row."""
    return int(rows[at].linktype)


def pair_number(packet: Any, sheet: Any) -> int:
    """The number of the packet's pair of interfaces, or -1 where they are not described yet."""
    return int(sheet.pair[max(packet.dev, 0) * N_LINKTYPES + linktype_index(packet.linktype)] - 1)


def is_sound(packet: Any, sheet: Any, size: int) -> bool:
    """Whether the packet's verdict is final, its numbers have names and its bytes are there."""
    if packet.verdict < DELIVERED or packet.verdict > NOT_PLAYED:
        return False
    if packet.verdict == DROPPED and packet.reason == NO_REASON:
        return False
    if packet.dev < NONE or packet.dev >= sheet.devices or packet.rule < 0 or packet.rule >= sheet.rules:
        return False
    if packet.reason < 0 or packet.reason >= N_REASONS or packet.cause < 0 or packet.cause >= N_CAUSES:
        return False
    if packet.point < 0 or packet.point >= N_POINTS or packet.kind < 0 or packet.kind >= N_KINDS:
        return False
    if packet.caplen < 0 or packet.fcs_caplen < 0:
        return False
    if linktype_index(packet.linktype) < 0 or pair_number(packet, sheet) < 0:
        return False
    held = packet.caplen + packet.fcs_caplen
    return bool(held <= SNAPLEN and 0 <= packet.offset <= size - held)


def put_packet(packet: Any, octets: Octets, out: bytearray, at: int, sheet: Any, words: Octets) -> int:
    """One Enhanced Packet Block; returns its end."""
    dropped = packet.verdict == DROPPED
    lost = dropped or packet.verdict == OOPS or packet.verdict == NOT_PLAYED
    interface = 2 * pair_number(packet, sheet) + int(lost)
    time_ns = max(packet.file_time_ns, 0)
    start = at
    at = put_frame(packet, octets, out, at, interface, time_ns)
    if lost or sheet.annotate_all:
        at = put_group(packet, out, at, sheet, words)
    if dropped or packet.verdict == OOPS or sheet.annotate_all:
        end = put_story(packet, out, at + 4, sheet, words)
        at = end_comment(out, at, end)
    at = put_identity(packet, out, at, sheet, words)
    count(packet, sheet, interface, time_ns)
    return end_packet(out, start, at)


def put_group(packet: Any, out: bytearray, at: int, sheet: Any, words: Octets) -> int:
    """The short comment of a frame: what it has in common with others."""
    if packet.verdict == DROPPED:
        end = put_word(out, at + 4, sheet, words, DROP_WORDS + packet.reason)
    elif packet.verdict == OOPS:
        end = put_decimal(out, put_word(out, at + 4, sheet, words, OOPS_WORD), sheet.oops_bug)
    else:
        end = put_word(out, at + 4, sheet, words, GROUP_WORDS + packet.verdict)
    return end_comment(out, at, end)


def put_story(packet: Any, out: bytearray, at: int, sheet: Any, words: Octets) -> int:
    """The text that explains a verdict: names first, then the numbers that decided.

    Up to the first word that differs it is a copy of what the last packet with this verdict was told.
    """
    # Loops, not a line for each: numba inlines every call, and the first run waits for it.
    told = sheet.told[packet.verdict]
    start = at
    same = 0
    names = names_of(packet)
    if told.at != NONE and told.names == names:
        while same < N_KEYS and told.number[same] == number_of(packet, same):
            same += 1
        copy_octets(out, at, out, told.at, told.end[same])
        at += told.end[same]
    else:
        for group in range(N_NAMES):
            at = put_word(out, at, sheet, words, name_of(packet, group))
        told.end[0] = at - start
    told.at = start
    told.names = names
    for key in range(same, N_KEYS):
        number = number_of(packet, key)
        at = put_word(out, at, sheet, words, KEY_WORDS + key)
        at = put_unsigned(out, at, number) if key == CULPRIT_KEY else put_decimal(out, at, number)
        told.number[key] = number
        told.end[key + 1] = at - start
    return at


def names_of(packet: Any) -> int:
    """What the names of a story are about, in one number."""
    names = (packet.reason * N_CAUSES + packet.cause) * N_POINTS + packet.point
    return int((names * MAX_RULE_NAMES + packet.rule) * N_KINDS + packet.kind)


def name_of(packet: Any, group: int) -> int:
    """The word of each group of names, in the order of a comment."""
    if group == 0:
        word = VERDICT_WORDS + packet.verdict
    elif group == 1:
        word = REASON_WORDS + packet.reason
    elif group == 2:
        word = CAUSE_WORDS + packet.cause
    elif group == 3:
        word = POINT_WORDS + packet.point
    elif group == 4:
        word = RULE_WORDS + packet.rule
    else:
        word = CLASS_WORDS + packet.kind
    return int(word)


def number_of(packet: Any, key: int) -> int:
    """The number that belongs to a key of KEYS."""
    if key == MEMALLOC_KEY:
        number = packet.memalloc
    elif key == HAS_SOCKET_KEY:
        number = 1 if packet.sk >= 0 else 0
    elif key == FROM_RESERVE_KEY:
        number = packet.from_reserve
    elif key == PFMEMALLOC_KEY:
        number = packet.pfmemalloc
    elif key == RESERVE_USED_KEY:
        number = packet.reserve_used_before
    elif key == RESERVE_USED_AFTER_KEY:
        number = packet.reserve_used_after
    elif key == CAP_KEY:
        number = packet.cap_skbs
    elif key == FREE_PAGES_KEY:
        number = packet.free_pages
    elif key == FLOOR_PAGES_KEY:
        number = packet.floor_pages
    else:
        number = number_of_time(packet, key)
    return int(number)


def number_of_time(packet: Any, key: int) -> int:
    """The number that belongs to one of the last keys: queues, times, the culprit."""
    if key == RING_FREE_KEY:
        number = packet.ring_free
    elif key == BACKLOG_LEN_KEY:
        number = packet.backlog_len
    elif key == TIME_KEY:
        number = packet.time_ns
    elif key == WAITED_KEY:
        number = max(packet.decided_ns - packet.time_ns, 0)
    else:
        number = packet.culprit_id
    return int(number)


def put_identity(packet: Any, out: bytearray, at: int, sheet: Any, words: Octets) -> int:
    """The options that every frame has: direction and FCS length, packet id, queue, and the end of options."""
    end = put_word(out, at, sheet, words, IDENTITY_WORD)
    way = FLAG_INBOUND
    if packet.pkt_type == PACKET_OUTGOING:
        way = FLAG_OUTBOUND
    elif packet.pkt_type == PACKET_OTHERHOST and packet.direction != DIR_INBOUND:
        way = FLAG_NO_DIRECTION  # overheard: neither to the host nor from it, and nobody has said that it came in
    put_le16(out, at + 4, way | min(packet.fcs_bytes, MAX_FCS_BYTES) << FLAGS_FCS_SHIFT)
    put_le32(out, at + 12, packet.packet_id)
    put_le32(out, at + 16, packet.packet_id >> 32)
    return end


def end_comment(out: bytearray, at: int, end: int) -> int:
    """Make a comment option of the text from `at + 4` to `end`; returns the end of the option."""
    put_option(out, at, OPT_COMMENT, end - at - 4)
    return pad(out, end)


def put_word(out: bytearray, at: int, sheet: Any, words: Octets, word: int) -> int:
    """A word of the blob; returns its end."""
    length = sheet.word_length[word]
    copy_octets(out, at, words, sheet.word_start[word], length)
    return int(at + length)


def put_decimal(out: bytearray, at: int, value: int) -> int:
    """A number in decimal; returns its end."""
    if value < 0:
        out[at] = 0x2D
        at += 1
        if value >= -MOST:  # the least integer has no counterpart, but its bits are the number already
            value = -value
    return put_unsigned(out, at, value)


def put_unsigned(out: bytearray, at: int, value: int) -> int:
    """64 bits in decimal, as Wireshark shows a packet id: a negative integer is a number from 2**63 on; its end."""
    if 0 <= value < 10:
        out[at] = 0x30 + value
        return at + 1
    end = at + digits_of(value)
    if value < 0:
        rest = tenth(value)
        out[end - 1] = 0x30 + ((value & 15) - (rest & 7) * 10 & 15)  # what is left of a tenth needs no more bits
        put_digits(out, at, end - 1, rest)
    elif value < BILLION:
        put_digits(out, at, end, value)
    else:
        # A time: each digit waits for the one behind it, so two halves take half as long.
        seconds = value // BILLION
        put_digits(out, end - 9, end, value - seconds * BILLION)
        put_digits(out, at, end - 9, seconds)
    return end


def digits_of(value: int) -> int:
    """How many digits 64 bits have in decimal, taken as a number from 0."""
    if value < 0:
        return 20 if value >= TEN_TO_19 else 19
    digits = 1
    bound = 10
    while digits < 19 and bound <= value:
        bound *= 10
        digits += 1
    return digits


def put_digits(out: bytearray, at: int, end: int, value: int) -> None:
    """The last digits of a number that is not negative, in out[at:end]."""
    while end > at:
        end -= 1
        rest = (value & MOST) // 10
        out[end] = 0x30 + value - rest * 10
        value = rest


def tenth(value: int) -> int:
    """A tenth of 64 bits taken as a number from 0, rounded down."""
    return (value >> 1 & MOST) // 5


def count(packet: Any, sheet: Any, interface: int, time_ns: int) -> None:
    """Count the packet for the statistics of its interface."""
    if sheet.frames[interface] == 0 or time_ns < sheet.first_ns[interface]:
        sheet.first_ns[interface] = time_ns
    sheet.last_ns[interface] = max(time_ns, sheet.last_ns[interface])
    sheet.frames[interface] += 1
    if packet.verdict != NOT_RECEIVED and packet.verdict != NOT_PLAYED:
        sheet.received[interface] += 1
    if packet.verdict == DELIVERED:
        sheet.delivered[interface] += 1
    elif packet.verdict == DROPPED:
        if packet.reason == RX_MISSED or packet.reason == RX_LENGTH:
            sheet.nic_drops[interface] += 1
        else:
            sheet.os_drops[interface] += 1


def _words(policy: str, rules: Sequence[str]) -> list[bytes]:
    """Every word of a comment, in the order of the *_WORDS constants; empty where there is nothing to say."""
    reasons = [reason.name for reason in REASONS]
    words = [f"emu verdict={name}".encode() for name in VERDICTS]
    words += [f"{DROP_GROUP}{name}".encode() for name in reasons]
    words += _named("reason", reasons)
    words += _named("cause", [cause.name for cause in CAUSES])
    words += _named("point", POINTS)
    words += _named("class", KINDS)
    words += [f" {key}=".encode() for key in KEYS]
    words.append(options((EPB_FLAGS, struct.pack("<I", FLAG_INBOUND)), (EPB_PACKETID, bytes(8)), (EPB_QUEUE, bytes(4))))
    words += [group.encode() for group in (OOPS_GROUP, *VERDICT_GROUPS)]
    words += _named("rule", rules)
    # The policy is the same for all packets: it stands with the key that follows it.
    words[KEY_WORDS] = _named("policy", [policy])[0] + words[KEY_WORDS]
    return words


def _named(key: str, names: Sequence[str]) -> list[bytes]:
    words = []
    for name in names:
        word = "_".join(name.split())  # a blank would end the value
        if len(word.encode()) > MAX_NAME:
            raise UsageError(f"{key} {word[:32]}...: a name in a comment has at most {MAX_NAME} bytes")
        words.append(f" {key}={word}".encode() if word else b"")
    return words


def _fill_words(sheet: Any, words: list[bytes]) -> bytearray:
    """Enter the words into the sheet's table; returns their blob."""
    blob = bytearray()
    for number, word in enumerate(words):
        sheet.word_start[number] = len(blob)
        sheet.word_length[number] = len(word)
        blob += word
    return blob


def _interface_pair(device: str, linktype: int) -> bytes:
    return b"".join(
        interface_block(linktype, f"{device}{suffix}", f"{device}: {fate}")
        for suffix, fate in (("", SURVIVED), (DROP_SUFFIX, WERE_DROPPED))
    )


def _statistics(sheet: Any, interface: int, at_end_ns: int, comment: str | None) -> bytes:
    """One Interface Statistics Block; over a pair, received = delivered + dropped + in flight + oops."""
    said: list[tuple[int, bytes]] = [] if comment is None else [(OPT_COMMENT, comment.encode())]
    if sheet.frames[interface]:
        said.append((ISB_STARTTIME, time_words(int(sheet.first_ns[interface]))))
        said.append((ISB_ENDTIME, time_words(int(sheet.last_ns[interface]))))
    for code, column in (
        (ISB_IFRECV, sheet.received),
        (ISB_IFDROP, sheet.nic_drops),
        (ISB_OSDROP, sheet.os_drops),
        (ISB_USRDELIV, sheet.delivered),
    ):
        said.append((code, struct.pack("<Q", int(column[interface]))))
    return statistics_block(interface, at_end_ns, *said)

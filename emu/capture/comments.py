"""Comments of annotated captures read back: the inverse of `annotate.put_story`, plain and compiled.

Any bytes may stand in a comment, for anybody may write one: what is not understood is counted and left.  Of several
comments of one kind the first counts, and of a name that stands twice in one its first value.
"""

from typing import Annotated, Any

from emu.capture.annotate import (
    BACKLOG_LEN_KEY,
    CAP_KEY,
    CULPRIT_KEY,
    FLOOR_PAGES_KEY,
    FREE_PAGES_KEY,
    FROM_RESERVE_KEY,
    HAS_SOCKET_KEY,
    KEYS,
    MEMALLOC_KEY,
    NAMES,
    PFMEMALLOC_KEY,
    RESERVE_USED_AFTER_KEY,
    RESERVE_USED_KEY,
    RING_FREE_KEY,
    TIME_KEY,
)
from emu.capture.blocks import OPT_COMMENT, OPT_ENDOFOPT
from emu.capture.pcap import word16, word32
from emu.capture.pcapng import ENHANCED_PACKET_BLOCK, PACKET_BLOCK, PACKET_HEADER
from emu.kernel.drop_reason import CAUSES, DELIVERED, DROPPED, NOT_PLAYED, OOPS, PENDING, POINTS, REASONS, VERDICTS
from emu.kernel.machine import NONE, Packet
from emu.kernel.policy import RULES
from emu.kernel.record import record
from emu.wire.headers import KINDS
from emu.wire.octets import Octets

# How much of a packet's verdict the file tells: nothing; that it survived, for it has no comment and stands on the
# interface of survivors; that it was lost; all, in a comment.
TOLD_NOTHING, TOLD_SURVIVED, TOLD_LOST, TOLD_ALL = range(4)
# Whose frames an interface holds.
NOBODYS, SURVIVORS, LOST = range(3)

VERDICT_NAME, REASON_NAME, CAUSE_NAME, POINT_NAME, RULE_NAME, CLASS_NAME, POLICY_NAME = range(len(NAMES))
N_NAMES = len(NAMES)
# Words stand in groups: what each name may be, then the names and keys themselves, then how a comment begins.
KEY_GROUP, OPENING_GROUP, GROUPS = N_NAMES, N_NAMES + 1, N_NAMES + 2
N_KEYS = N_NAMES + len(KEYS)
STORY, DROP, BUG, LEFT_OUT = range(4)
OPENINGS = ("emu verdict=", "DROP ", "OOPS bug ", "NOT PLAYED")
STORY_HEAD = len("emu ")
MAX_POLICIES = 64  # whose names are learned from one file
ROOM = 256  # words of a group
MAX_WORDS = GROUPS * ROOM
assert max(len(POINTS), len(REASONS), len(VERDICTS), N_KEYS) <= ROOM

FLAG_KEYS = (MEMALLOC_KEY, HAS_SOCKET_KEY, FROM_RESERVE_KEY, PFMEMALLOC_KEY)
BLANK, EQUALS, MINUS, ZERO, NINE = 0x20, 0x3D, 0x2D, 0x30, 0x39
MOST_TENTHS = (1 << 63) // 10 - 1  # a number with more before its last digit might leave 64 bits
LATEST_NS = 1 << 62

# Of a row, besides the packet: `told` is TOLD_*, `said` has bit k for KEYS[k], `policy` is 1 + the number of its
# name, `unknown` counts what a comment has and this version does not know.
EXTRA = ("told", "said", "policy", "oops_bug", "waited_ns", "unknown")
_fields = dict.fromkeys((*(field.name for field in Packet.FIELDS), *EXTRA), int)  # type: ignore[attr-defined]
Verdict: Any = record(type("Verdict", (), {"__annotations__": _fields, "__module__": __name__, "__doc__": "A frame."}))


@record
class Lexicon:
    """The words of comments, by group, and what reading counts over all frames."""

    first: Annotated[list[int], GROUPS]  # of each group's words
    count: Annotated[list[int], GROUPS]
    recent: Annotated[list[int], GROUPS]  # the word of a group to try first
    word_start: Annotated[list[int], MAX_WORDS]  # in the blob
    word_length: Annotated[list[int], MAX_WORDS]
    clock_ns: int  # the running maximum of the file's times: when an unpaced frame arrives
    told: Annotated[list[int], TOLD_ALL + 1]  # frames by TOLD_*
    policies: Annotated[list[int], MAX_POLICIES + 1]  # frames by `policy`
    lost_untold: int  # frames of an interface of lost ones that have no comment
    paced: int  # comments whose time is not the file's
    unknown: int  # words that were not understood
    strange_at: int  # a policy whose name is not known yet, in the window
    strange_end: int


@record
class Side:
    """An interface: whose frames it holds (NOBODYS, SURVIVORS, LOST), and its device."""

    holds: int
    dev: int


def lexicon_words() -> list[list[str]]:
    """The words of each group, in the order of their numbers; a blank in one is written `_`."""
    reasons = [reason.name for reason in REASONS]
    groups = [VERDICTS, reasons, [cause.name for cause in CAUSES], POINTS, RULES, KINDS, (), (*NAMES, *KEYS)]
    return [["_".join(word.split()) for word in group] for group in groups] + [list(OPENINGS)]


def find_octet(octets: Octets, at: int, end: int, wanted: int) -> int:
    """The place of the first `wanted` in octets[at:end], else `end`."""
    place = bytes(octets[at:end]).find(wanted)
    return end if place < 0 else at + place


def _find_octet_compiled(octets: Octets, at: int, end: int, wanted: int) -> int:
    """The same for numba, which has no `find`."""
    while at < end and octets[at] & 0xFF != wanted:
        at += 1
    return at


def same_octets(octets: Octets, at: int, words: Octets, start: int, length: int) -> bool:
    """Whether two stretches of bytes are the same."""
    return octets[at : at + length] == words[start : start + length]


def _same_octets_compiled(octets: Octets, at: int, words: Octets, start: int, length: int) -> bool:
    """The same for numba, where arrays compare element by element."""
    for index in range(length):  # noqa: SIM110 - numba has no generators
        if octets[at + index] != words[start + index]:
            return False
    return True


find_octet.compiled_twin = _find_octet_compiled  # type: ignore[attr-defined]
same_octets.compiled_twin = _same_octets_compiled  # type: ignore[attr-defined]


def is_word(octets: Octets, at: int, end: int, lexicon: Any, words: Octets, word: int) -> bool:
    """Whether octets[at:end] are a word of the table."""
    length = lexicon.word_length[word]
    return bool(length == end - at and same_octets(octets, at, words, lexicon.word_start[word], length))


def find_word(octets: Octets, at: int, end: int, lexicon: Any, words: Octets, group: int) -> int:
    """The number within its group of the word octets[at:end], or -1."""
    first = lexicon.first[group]
    recent = lexicon.recent[group]
    if recent < lexicon.count[group] and is_word(octets, at, end, lexicon, words, first + recent):
        return int(recent)
    for number in range(lexicon.count[group]):
        if is_word(octets, at, end, lexicon, words, first + number):
            lexicon.recent[group] = number
            return number
    return -1


def begins(octets: Octets, at: int, end: int, lexicon: Any, words: Octets, opening: int) -> bool:
    """Whether a comment begins with one of OPENINGS."""
    word = lexicon.first[OPENING_GROUP] + opening
    length = lexicon.word_length[word]
    return bool(length <= end - at and same_octets(octets, at, words, lexicon.word_start[word], length))


def read_decimal(octets: Octets, at: int, end: int) -> tuple[int, int]:
    """The number octets[at:end] in decimal, and 1; 0 and 0 when it is none of 64 bits."""
    sign = 1
    if at < end and octets[at] & 0xFF == MINUS:
        sign = -1
        at += 1
    if at >= end:
        return 0, 0
    value = 0
    while at < end:
        octet = octets[at] & 0xFF
        if octet < ZERO or octet > NINE or value > MOST_TENTHS:
            return 0, 0
        value = value * 10 + octet - ZERO
        at += 1
    return sign * value, 1


def forget_verdict(row: Any) -> None:
    """Clear what an earlier frame in this row left behind."""
    row.verdict = PENDING
    row.reason = 0
    row.cause = 0
    row.point = 0
    row.rule = 0
    row.decided_ns = 0
    row.skb_dev = NONE
    row.sk = NONE
    row.memalloc = 0
    row.from_reserve = 0
    row.pfmemalloc = 0
    row.reserve_used_before = 0
    row.reserve_used_after = 0
    row.cap_skbs = 0
    row.free_pages = 0
    row.floor_pages = 0
    row.ring_free = 0
    row.backlog_len = 0
    row.culprit_frame = 0
    row.culprit_id = 0
    row.told = TOLD_NOTHING
    row.said = 0
    row.policy = 0
    row.oops_bug = 0
    row.waited_ns = 0
    row.unknown = 0


def set_number(row: Any, key: int, value: int) -> bool:
    """Set what a key of KEYS stands for; False: it cannot be that number."""
    if key in FLAG_KEYS:
        if value != 0 and value != 1:
            return False
        set_flag(row, key, value)
    elif key == RESERVE_USED_KEY:
        row.reserve_used_before = value
    elif key == RESERVE_USED_AFTER_KEY:
        row.reserve_used_after = value
    elif key == CAP_KEY:
        row.cap_skbs = value
    elif key == FREE_PAGES_KEY:
        row.free_pages = value
    elif key == FLOOR_PAGES_KEY:
        row.floor_pages = value
    elif key == RING_FREE_KEY:
        row.ring_free = value
    elif key == BACKLOG_LEN_KEY:
        row.backlog_len = value
    elif key == CULPRIT_KEY:
        row.culprit_id = value
    else:
        return set_time(row, key, value)
    return True


def set_flag(row: Any, key: int, value: int) -> None:
    """Set what one of FLAG_KEYS stands for."""
    if key == MEMALLOC_KEY:
        row.memalloc = value
    elif key == HAS_SOCKET_KEY:
        row.sk = value - 1
    elif key == FROM_RESERVE_KEY:
        row.from_reserve = value
    else:
        row.pfmemalloc = value


def set_time(row: Any, key: int, value: int) -> bool:
    """Set a time; False: it is none that a clock of 64 bits can show."""
    if value < -LATEST_NS or value > LATEST_NS:
        return False
    if key == TIME_KEY:
        row.time_ns = value
    else:
        if value < 0:
            return False
        row.waited_ns = value
    return True


def set_name(row: Any, name: int, word: int) -> bool:
    """Set what one of NAMES stands for; False: no word of it."""
    if word < 0:
        return False
    if name == VERDICT_NAME:
        if word < DELIVERED or word > NOT_PLAYED:
            return False
        row.verdict = word
    elif name == REASON_NAME:
        row.reason = word
    elif name == CAUSE_NAME:
        row.cause = word
    elif name == POINT_NAME:
        row.point = word
    elif name == RULE_NAME:
        row.rule = word
    elif name == CLASS_NAME:
        row.kind = word
    else:
        row.policy = word + 1
    return True


def take_pair(octets: Octets, at: int, end: int, row: Any, given: int, lexicon: Any, words: Octets) -> int:
    """One `key=value` of a story; returns which of names and keys were given so far, as bits."""
    equals = find_octet(octets, at, end, EQUALS)
    key = find_word(octets, at, equals, lexicon, words, KEY_GROUP)
    if equals == end or key < 0 or given >> key & 1:
        row.unknown += 1
        return given
    lexicon.recent[KEY_GROUP] = key + 1  # they stand in one order
    at = equals + 1
    if key < N_NAMES:
        word = find_word(octets, at, end, lexicon, words, key)
        if key == POLICY_NAME and word < 0 and lexicon.count[POLICY_NAME] < MAX_POLICIES:
            lexicon.strange_at = at
            lexicon.strange_end = end
        elif not set_name(row, key, word):
            row.unknown += 1
    else:
        value, sound = read_decimal(octets, at, end)
        if sound == 0 or not set_number(row, key - N_NAMES, value):
            row.unknown += 1
            return given
        row.said |= 1 << (key - N_NAMES)
    return given | 1 << key


def take_story(octets: Octets, at: int, end: int, row: Any, lexicon: Any, words: Octets) -> None:
    """The long comment: names and numbers."""
    lexicon.recent[KEY_GROUP] = 0
    given = 0
    at += STORY_HEAD
    while at < end:
        stop = find_octet(octets, at, end, BLANK)
        if stop > at:
            given = take_pair(octets, at, stop, row, given, lexicon, words)
        at = stop + 1
    if row.verdict != PENDING:
        row.told = TOLD_ALL
        row.decided_ns = row.time_ns + row.waited_ns


def group_of(octets: Octets, at: int, end: int, lexicon: Any, words: Octets) -> tuple[int, int, int]:
    """What the short comment says: verdict (PENDING: it is another comment), reason, bug of the oops."""
    if begins(octets, at, end, lexicon, words, DROP):
        reason = find_word(octets, at + len(OPENINGS[DROP]), end, lexicon, words, REASON_NAME)
        if reason > 0:
            return DROPPED, reason, 0
    elif begins(octets, at, end, lexicon, words, BUG):
        bug, sound = read_decimal(octets, at + len(OPENINGS[BUG]), end)
        if sound:
            return OOPS, 0, bug
    elif end - at == len(OPENINGS[LEFT_OUT]) and begins(octets, at, end, lexicon, words, LEFT_OUT):
        return NOT_PLAYED, 0, 0
    return PENDING, 0, 0


def options_of(octets: Octets, row: Any, end: int) -> tuple[int, int, int]:
    """Where the options of the frame's block begin and end, and 1 if it is big-endian; before `end`, of the window.

    A Simple Packet Block has none: what stands where other blocks have the captured length is its own, which is more.
    """
    start = row.offset - PACKET_HEADER
    held = row.caplen + row.fcs_caplen
    if start < 0:
        return 0, 0, 0
    big = 1 if octets[start] & 0xFF == 0 else 0
    kind = word32(octets, start, big)
    if word32(octets, start + 20, big) != held or (kind != ENHANCED_PACKET_BLOCK and kind != PACKET_BLOCK):
        return 0, 0, 0
    stop = start + word32(octets, start + 4, big) - 4
    if stop + 4 > end:
        return 0, 0, 0
    return row.offset + (held + 3 & ~3), stop, big


def take_comments(octets: Octets, row: Any, end: int, lexicon: Any, words: Octets) -> None:
    """Read the comments of one frame's block; `end` is that of what has been walked."""
    at, stop, big = options_of(octets, row, end)
    story, story_end = 0, 0
    while at + 4 <= stop:
        code = word16(octets, at, big)
        length = word16(octets, at + 2, big)
        at += 4
        if code == OPT_ENDOFOPT or at + length > stop:
            break
        if code == OPT_COMMENT:
            if story == 0 and begins(octets, at, at + length, lexicon, words, STORY):
                story, story_end = at, at + length
            elif row.verdict == PENDING:
                row.verdict, row.reason, row.oops_bug = group_of(octets, at, at + length, lexicon, words)
        at += length + 3 & ~3
    if row.verdict != PENDING:
        row.told = TOLD_LOST
    if story > 0:
        take_story(octets, story, story_end, row, lexicon, words)


def judge(row: Any, side: Any, lexicon: Any) -> None:
    """What the interface says of a frame, and the counts."""
    if row.told == TOLD_NOTHING and side.holds == SURVIVORS:
        row.told = TOLD_SURVIVED
    elif row.told == TOLD_NOTHING and side.holds == LOST:
        row.told = TOLD_LOST
        lexicon.lost_untold += 1
    lexicon.told[row.told] += 1
    lexicon.policies[row.policy] += 1
    lexicon.unknown += row.unknown
    if row.said >> TIME_KEY & 1 and row.time_ns != lexicon.clock_ns:
        # A replay clamps the file's times; where that is not what happened, another capture begins, or another clock.
        lexicon.paced += int(row.time_ns != row.file_time_ns)
        lexicon.clock_ns = row.file_time_ns


def read_verdict(octets: Octets, row: Any, end: int, sides: Any, lexicon: Any, words: Octets) -> bool:
    """Complete one dissected row; False: its policy's name must be learned first, and the row read again."""
    forget_verdict(row)
    lexicon.strange_at = 0
    arrived_ns = max(lexicon.clock_ns, row.file_time_ns)
    row.time_ns = arrived_ns
    take_comments(octets, row, end, lexicon, words)
    if lexicon.strange_at > 0:
        return False
    lexicon.clock_ns = arrived_ns
    side = sides[row.iface]
    row.dev = side.dev
    judge(row, side, lexicon)
    return True

"""Comments of annotated captures read back: the inverse of `annotate.put_story`, plain and compiled.

Any bytes may stand in a comment, for anybody may write one: what is not understood is counted and left.  Of several
comments of one kind the first counts, and of a name that stands twice in one its first value.
"""

from typing import Any

from emu.capture.annotate import (
    BACKLOG_LEN_KEY,
    CAP_KEY,
    CULPRIT_KEY,
    FLOOR_PAGES_KEY,
    FREE_PAGES_KEY,
    FROM_RESERVE_KEY,
    HAS_SOCKET_KEY,
    MEMALLOC_KEY,
    PFMEMALLOC_KEY,
    RESERVE_USED_AFTER_KEY,
    RESERVE_USED_KEY,
    RING_FREE_KEY,
    TIME_KEY,
)
from emu.capture.blocks import OPT_COMMENT, OPT_ENDOFOPT
from emu.capture.lexicon import (
    BUG,
    CAUSE_NAME,
    CLASS_NAME,
    DROP,
    KEY_GROUP,
    MAX_POLICIES,
    N_NAMES,
    OPENING_GROUP,
    OPENINGS,
    POINT_NAME,
    POLICY_NAME,
    REASON_NAME,
    RULE_NAME,
    STORY,
    TOLD_ALL,
    TOLD_LOST,
    TOLD_NOTHING,
    TOLD_SURVIVED,
    VERDICT_NAME,
    WHOLE,
    WHOLE_VERDICTS,
    begins,
    find_octet,
    find_word,
    is_word,
    read_decimal,
    read_unsigned,
)
from emu.capture.pcap import word16, word32
from emu.capture.pcapng import ENHANCED_PACKET_BLOCK, PACKET_BLOCK, PACKET_HEADER
from emu.kernel.drop_reason import DELIVERED, DROPPED, NOT_PLAYED, OOPS, PENDING
from emu.kernel.machine import NONE, Packet
from emu.kernel.record import record
from emu.wire.octets import Octets

__all__ = ["EXTRA", "LOST", "NOBODYS", "SURVIVORS", "Side", "Verdict", "read_verdict"]
__all__ += ["TOLD_ALL", "TOLD_LOST", "TOLD_NOTHING", "TOLD_SURVIVED"]

# Whose frames an interface holds.
NOBODYS, SURVIVORS, LOST = range(3)

STORY_HEAD = len("emu ")
FLAG_KEYS = (MEMALLOC_KEY, HAS_SOCKET_KEY, FROM_RESERVE_KEY, PFMEMALLOC_KEY)
BLANK, EQUALS = 0x20, 0x3D
LATEST_NS = (1 << 62) - 1  # and twice that, a time and what was waited, has room

# Of a row, besides the packet: `told` is TOLD_*, `said` has bit k for KEYS[k], `policy` is 1 + the number of its
# name, `unknown` counts what a comment has and this version does not know.
EXTRA = ("told", "said", "policy", "oops_bug", "waited_ns", "unknown")
_fields = dict.fromkeys((*(field.name for field in Packet.FIELDS), *EXTRA), int)  # type: ignore[attr-defined]
Verdict: Any = record(type("Verdict", (), {"__annotations__": _fields, "__module__": __name__, "__doc__": "A frame."}))


@record
class Side:
    """An interface: whose frames it holds (NOBODYS, SURVIVORS, LOST), and its device."""

    holds: int
    dev: int


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


def read_number(octets: Octets, at: int, end: int, key: int) -> tuple[int, int]:
    """The number of a key of KEYS, and 1; 0 and 0 when it is none.  A packet id has 64 bits and no sign."""
    if key == CULPRIT_KEY:
        return read_unsigned(octets, at, end)
    return read_decimal(octets, at, end)


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
        value, sound = read_number(octets, at, end, key - N_NAMES)
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
    else:
        for number in range(len(WHOLE_VERDICTS)):
            if is_word(octets, at, end, lexicon, words, lexicon.first[OPENING_GROUP] + WHOLE + number):
                return WHOLE_VERDICTS[number], 0, 0
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
    if row.verdict == DROPPED or row.verdict == OOPS or row.verdict == NOT_PLAYED:
        row.told = TOLD_LOST
    if story > 0:
        take_story(octets, story, story_end, row, lexicon, words)


def judge(row: Any, side: Any, lexicon: Any) -> None:
    """What the interface says of a frame, and the counts."""
    if row.told == TOLD_NOTHING and side.holds != SURVIVORS:
        row.verdict = PENDING  # a short comment that only survivors have, and anybody may have written
    if row.told == TOLD_NOTHING and side.holds == SURVIVORS:
        row.told = TOLD_SURVIVED
        lexicon.survived_short += int(row.verdict != PENDING)
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

"""The words of comments in a table that compiled code can look them up in, and numbers in decimal."""

from typing import Annotated, Any

from emu.capture.annotate import DROP_GROUP, KEYS, MOST, NAMES, OOPS_GROUP, VERDICT_GROUPS
from emu.kernel.drop_reason import (
    CAUSES,
    DELIVERED,
    IN_FLIGHT,
    NOT_PLAYED,
    NOT_RECEIVED,
    POINTS,
    REASONS,
    VERDICTS,
)
from emu.kernel.policy import RULES
from emu.kernel.record import record
from emu.wire.headers import KINDS
from emu.wire.octets import Octets

# How much of a packet's verdict the file tells: nothing; that it survived, for it has no long comment and stands on the
# interface of survivors; that it was lost; all, in a comment.
TOLD_NOTHING, TOLD_SURVIVED, TOLD_LOST, TOLD_ALL = range(4)
VERDICT_NAME, REASON_NAME, CAUSE_NAME, POINT_NAME, RULE_NAME, CLASS_NAME, POLICY_NAME = range(len(NAMES))
N_NAMES = len(NAMES)
# Words stand in groups: what each name may be, then the names and keys themselves, then how a comment begins.
KEY_GROUP, OPENING_GROUP, GROUPS = N_NAMES, N_NAMES + 1, N_NAMES + 2
N_KEYS = N_NAMES + len(KEYS)
STORY, DROP, BUG, WHOLE = range(4)
WHOLE_VERDICTS = (NOT_PLAYED, DELIVERED, IN_FLIGHT, NOT_RECEIVED)  # whose short comments are nothing but they
OPENINGS = ("emu verdict=", DROP_GROUP, OOPS_GROUP, *(VERDICT_GROUPS[verdict] for verdict in WHOLE_VERDICTS))
MAX_POLICIES = 64  # whose names are learned from one file
ROOM = 256  # words of a group
MAX_WORDS = GROUPS * ROOM
assert max(len(POINTS), len(REASONS), len(VERDICTS), N_KEYS) <= ROOM

MINUS, ZERO = 0x2D, 0x30
TENTH, LAST_DIGIT = divmod((1 << 64) - 1, 10)
HALF_TENTH, HALF_DIGIT = divmod(MOST, 10)


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
    survived_short: int  # frames that survived and have a short comment only
    paced: int  # comments whose time is not the file's
    unknown: int  # words that were not understood
    strange_at: int  # a policy whose name is not known yet, in the window
    strange_end: int


def lexicon_words() -> list[list[str]]:
    """The words of each group, in the order of their numbers; a blank in one is written `_`."""
    reasons = [reason.name for reason in REASONS]
    groups = [VERDICTS, reasons, [cause.name for cause in CAUSES], POINTS, RULES, KINDS, (), (*NAMES, *KEYS)]
    return [["_".join(word.split()) for word in group] for group in groups] + [list(OPENINGS)]


def find_octet(octets: Octets, at: int, end: int, wanted: int) -> int:
    """The place of the first `wanted` in octets[at:end], else `end`."""
    place = bytes(octets[at:end]).find(wanted)
    return end if place < 0 else at + place


def same_octets(octets: Octets, at: int, words: Octets, start: int, length: int) -> bool:
    """Whether two stretches of bytes are the same."""
    return octets[at : at + length] == words[start : start + length]


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
    negative = at < end and octets[at] & 0xFF == MINUS
    value, sound = read_unsigned(octets, at + 1 if negative else at, end)
    if value == -MOST - 1 and negative:
        return value, sound
    if value < 0:
        return 0, 0
    return -value if negative else value, sound


def read_unsigned(octets: Octets, at: int, end: int) -> tuple[int, int]:
    """The same for a number from 0 up to 2**64 - 1; from 2**63 on its 64 bits, a negative integer."""
    if at >= end:
        return 0, 0
    value = 0
    while at < end:
        digit = (octets[at] & 0xFF) - ZERO
        if digit < 0 or digit > 9 or value < 0 or value > TENTH or (value == TENTH and digit > LAST_DIGIT):
            return 0, 0
        if value > HALF_TENTH or (value == HALF_TENTH and digit > HALF_DIGIT):
            value = (value - HALF_TENTH - 1) * 10 + (digit + 9 - HALF_DIGIT) - MOST - 1
        else:
            value = value * 10 + digit
        at += 1
    return value, 1

"""What a drop reason, a cause or a bug means, which policies can produce it, and what a row of the log says of it."""

import re
import shlex
from collections.abc import Mapping
from typing import Any, NamedTuple

from emu.errors import UsageError
from emu.kernel.bugs import BUGS, Bug
from emu.kernel.drop_reason import (
    CAUSES,
    DELIVERED,
    DEVICE_CAP,
    FILTERED,
    IN_FLIGHT,
    LATER,
    NO_CAUSE,
    NO_REASON,
    NOT_PLAYED,
    NOT_RECEIVED,
    OOPS,
    PENDING,
    PFMEMALLOC,
    REASONS,
    VERDICTS,
    Named,
    Reason,
)
from emu.kernel.policy import POLICIES, QUESTIONS, PolicyRow, answer
from emu.near_miss import did_you_mean
from emu.verdicts.reason_words import Words, causes_of, words_of
from emu.verdicts.schema import DEVICE_COLUMNS, NAMES

KERNEL_PREFIX = "SKB_DROP_REASON_"
BUG_CAPTURES = "pcaps/bugs"


class Answer(NamedTuple):
    """One rule of a policy in words, and its value."""

    field: str
    asks: str
    value: int
    answer: str


class Producer(NamedTuple):
    """A policy that can produce a reason, and the rules of it that make it so; none: every kernel does."""

    name: str
    title: str
    rules: tuple[Answer, ...]


class Cause(NamedTuple):
    """A cause and the policies under which it can occur."""

    name: str
    sentence: str
    policies: tuple[Producer, ...]


class CauseExplanation(NamedTuple):
    """All that is known of a cause: the reasons that it can stand behind, and the policies under which it occurs."""

    name: str
    sentence: str
    reasons: tuple[str, ...]
    policies: tuple[Producer, ...]


class Seeing(NamedTuple):
    """The command that shows a bug, and the one that shows the same packets without it."""

    with_bug: str
    without_bug: str


class Case(NamedTuple):
    """One way to be dropped for a reason; its texts are formats over the columns of the log.

    `when` tells by which columns of a row it is known, and is empty for the only one, or for all that is left.
    """

    when: str
    needed: str
    had: str
    saved: str


class Explained(NamedTuple):
    """What a row says: what the packet asked for, what there was, the rule that decided, what would have saved it.

    Of a packet that was not lost, and where the row does not tell, only `had` says something.
    """

    needed: str
    had: str
    rule: str
    saved: str

    @property
    def line(self) -> str:
        """What was asked for and what there was, in one line."""
        return f"needed {self.needed}; had {self.had}" if self.needed else self.had


class Explanation(NamedTuple):
    """All that is known of a reason; `ours`: the kernel has no word for it."""

    name: str
    sentence: str
    point: str
    source: str
    cases: tuple[Case, ...]
    ours: bool
    causes: tuple[Cause, ...]
    policies: tuple[Producer, ...]


def rules_of(policy: PolicyRow) -> tuple[Answer, ...]:
    """A policy's rules, question by question."""
    return tuple(
        Answer(question.field, question.asks, value, answer(question, value))
        for question in QUESTIONS
        for value in (policy.rules[question.field],)
    )


def explain_reason(name: str) -> Explanation:
    """Explain a reason by its name, in any case, with or without the kernel's prefix.

    Errors: UsageError with the names that come close.
    """
    reason = _find(name)
    causes = tuple(
        Cause(CAUSES[cause].name, CAUSES[cause].sentence, _producers(_decides_cause(CAUSES[cause])))
        for cause in causes_of(reason.number)
    )
    return Explanation(
        reason.name,
        reason.sentence,
        reason.point,
        reason.source,
        tuple(Case(_when(words), words.needed, words.had, words.saved) for words in words_of(reason.number)),
        reason.ours,
        causes,
        _producers(_decides_reason(reason)),
    )


def is_reason(name: str) -> bool:
    """Whether a word names a drop reason."""
    word = _word(name)
    return any(reason.name == word for reason in REASONS if reason.number != NO_REASON)


def explain_cause(name: str) -> CauseExplanation | None:
    """Explain a cause by its name, in any case; None when there is no such cause."""
    word = _word(name)
    for cause in CAUSES:
        if cause.number != NO_CAUSE and cause.name == word:
            behind = tuple(reason.name for reason in REASONS if cause.number in causes_of(reason.number))
            return CauseExplanation(cause.name, cause.sentence, behind, _producers(_decides_cause(cause)))
    return None


def find_bug(words: str) -> Bug | None:
    """The bug that `bug 11` or `bug:11` names; None when the words do not speak of a bug.

    Errors: UsageError when there is no bug of that number.
    """
    found = re.fullmatch(r"bugs?\s*[ :#]\s*(\S*)", words.strip().lower())
    if not found:
        return None
    if not found[1].isdecimal() or not 1 <= int(found[1]) <= len(BUGS):
        raise UsageError(f"'{words}': there is no such bug; they go from 1 to {len(BUGS)}: emu bugs")
    return BUGS[int(found[1]) - 1]


def revisions_in_short(bug: Bug) -> str:
    """The revisions that have a bug, such as v4-v6; they always follow one another."""
    first, last = (revision.removeprefix("phillips-") for revision in (bug.revisions[0], bug.revisions[-1]))
    return first if first == last else f"{first}-{last}"


def seeing(bug: Bug) -> Seeing:
    """The commands that show a bug and its absence, from the root of the repository."""
    see = bug.see
    command = f"emu replay {BUG_CAPTURES}/{see.capture} --scenario {BUG_CAPTURES}/{see.scenario}"
    listed = ", ".join(f'"{expectation}"' for expectation in see.expect)
    changed = " ".join(f"--set {shlex.quote(setting)}" for setting in (*see.settings, f"expect=[{listed}]"))
    return Seeing(command, f"{command} {changed}")


NOT_TOLD = "not told"
AN_EVENT = "what the row of an event does not tell: the numbers of that moment"
# What is said of a packet that was not dropped: what became of it, and what would have saved it.
UNDROPPED = {
    PENDING: ("no verdict: it comes from another capture", ""),
    DELIVERED: ("delivered", ""),
    IN_FLIGHT: ("in flight: it waited in the ring or in the CPU's queue when the run ended", ""),
    NOT_RECEIVED: ("not received: the host sent it, or no NIC took it", ""),
    OOPS: ("lost in the kernel's oops", "a kernel without that bug (emu bugs)"),
    NOT_PLAYED: ("not played: the kernel was dead by then", "a kernel without the bug that killed it (emu bugs)"),
    FILTERED: ("not played: the filter refused it", ""),
    LATER: ("it was lost, came again, and was not dropped", ""),
}
assert set(UNDROPPED) == set(range(len(VERDICTS))) - {VERDICTS.index("dropped")}
SURVIVED = "it survived, and the file says no more of it (a log does, or a capture made with --annotate all)"
LOST = "lost, and the file does not say to what: its comments are gone"
# The columns that an event's row fills in; its numbers are zeros, not what there was.
TOLD_OF_EVENTS = ("frame", "packet_id", "time_ns", "decided_ns", *DEVICE_COLUMNS, "verdict", "reason", "point")
UNTOLD_OF_EVENTS = tuple(f"{{{name}}}" for name in NAMES if name not in (*TOLD_OF_EVENTS, "socket", "flow"))
# What stands for a name or a text that is empty or not told.
NAMELESS = {"socket": "its socket", "flow": "the packet", "zone": "its zone"} | dict.fromkeys(
    DEVICE_COLUMNS, "its device"
)


def explain_row(row: Mapping[str, Any]) -> Explained:
    """One row of the log in words: those of its reason, filled in with its numbers; None: the file does not tell."""
    rule = row["policy_rule"] or ""
    for reason in REASONS:
        if reason.name == row["reason"] and reason.number != NO_REASON:
            words = next(words for words in words_of(reason.number) if words.speak_for(row))
            return _filled(words, row, rule)
    if row["verdict"] is None:
        return Explained("", LOST if row["reason"] is None else SURVIVED, rule, "")
    if row["verdict"] not in (VERDICTS[verdict] for verdict in UNDROPPED):
        return Explained("", "dropped, and the file does not say why", rule, "")
    said, saved = UNDROPPED[VERDICTS.index(row["verdict"])]
    return Explained("", f"{said}, at {row['point']}" if row["point"] else said, rule, saved)


def _filled(words: Words, row: Mapping[str, Any], rule: str) -> Explained:
    is_event = row["verdict"] == VERDICTS[LATER]
    told = TOLD_OF_EVENTS if is_event else NAMES
    phrases = {name: _phrase(name, row[name] if name in told else None) for name in NAMES}
    needed, had, saved = (text.format_map(phrases) for text in (words.needed, words.had, words.saved))
    if is_event:
        had = AN_EVENT if any(name in words.had for name in UNTOLD_OF_EVENTS) else had
        saved = "" if any(name in words.saved for name in UNTOLD_OF_EVENTS) else saved
    return Explained(needed, had, rule, saved)


def _phrase(name: str, value: int | str | None) -> str:
    """A column's value, as it stands in a text."""
    if value is None or value == "":
        return NAMELESS.get(name, NOT_TOLD)
    return f"socket {value}" if name == "socket" else str(value)


def _when(words: Words) -> str:
    """By which columns a row is told that these words speak for."""
    told = [f"{column} {' or '.join(names)}" for column, names in words.conditions().items() if names]
    return ", ".join(told)


def _word(name: str) -> str:
    return name.strip().upper().replace("-", "_").removeprefix(KERNEL_PREFIX)


def _find(name: str) -> Reason:
    word = _word(name)
    reasons = {reason.name: reason for reason in REASONS if reason.number != NO_REASON}
    if word in reasons:
        return reasons[word]
    known = [*reasons, *(cause.name for cause in CAUSES if cause.number != NO_CAUSE and cause.name not in reasons)]
    hint = did_you_mean(word, known, f"expected one of {', '.join(known)}, or bug N")
    raise UsageError(f"'{name}' is not a drop reason, a cause or a bug; {hint}")


def _decides_reason(reason: Reason) -> tuple[str, ...]:
    """The rules of which a policy needs at least one to produce this reason; none: it takes no rule."""
    if reason.number == PFMEMALLOC:
        return tuple(question.field for question in QUESTIONS if question.field.startswith("check_"))
    return ()


def _decides_cause(cause: Named) -> tuple[str, ...]:
    """The rules of which a policy needs at least one to show this cause."""
    return ("caps_reserve",) if cause.number == DEVICE_CAP else ()


def _producers(fields: tuple[str, ...]) -> tuple[Producer, ...]:
    found = []
    for policy in POLICIES.values():
        rules = tuple(rule for rule in rules_of(policy) if rule.field in fields and rule.value)
        if rules or not fields:
            found.append(Producer(policy.name, policy.title, rules))
    return tuple(found)

"""What a drop reason, a cause or a bug means: its row of the table, which policies can produce it, a row's numbers."""

import difflib
import re
import shlex
from collections.abc import Mapping
from typing import Any, NamedTuple

from emu.errors import UsageError
from emu.kernel.bugs import BUGS, Bug
from emu.kernel.drop_reason import CAUSES, DEVICE_CAP, NO_CAUSE, NO_REASON, PFMEMALLOC, REASONS, Named, Reason
from emu.kernel.policy import POLICIES, QUESTIONS, PolicyRow, answer

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


class Explanation(NamedTuple):
    """All that is known of a reason; `ours`: the kernel has no word for it."""

    name: str
    sentence: str
    point: str
    source: str
    predicate: str
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
    # Only a reason whose test speaks of a cause has any.
    causes = tuple(
        Cause(cause.name, cause.sentence, _producers(_decides_cause(cause)))
        for cause in CAUSES
        if cause.number != NO_CAUSE and "{cause}" in reason.predicate
    )
    return Explanation(
        reason.name,
        reason.sentence,
        reason.point,
        reason.source,
        reason.predicate,
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
            behind = tuple(reason.name for reason in REASONS if "{cause}" in reason.predicate)
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


def explain_row(row: Mapping[str, Any]) -> str:
    """One row of the log in words: the predicate of its reason, filled in with its numbers."""
    for reason in REASONS:
        if reason.name == row["reason"] and reason.number != NO_REASON:
            return reason.predicate.format_map(row)
    where = f" at {row['point']}" if row["point"] else ""
    return f"{row['verdict']}{where}, not dropped"


def _word(name: str) -> str:
    return name.strip().upper().replace("-", "_").removeprefix(KERNEL_PREFIX)


def _find(name: str) -> Reason:
    word = _word(name)
    reasons = {reason.name: reason for reason in REASONS if reason.number != NO_REASON}
    if word in reasons:
        return reasons[word]
    known = [*reasons, *(cause.name for cause in CAUSES if cause.number != NO_CAUSE and cause.name not in reasons)]
    close = difflib.get_close_matches(word, known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(close)}?" if close else f"expected one of {', '.join(known)}, or bug N"
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

"""What a drop reason means: its row of the table, which policies can produce it, and a row's own numbers."""

import difflib
from collections.abc import Mapping
from typing import Any, NamedTuple

from emu.errors import UsageError
from emu.kernel.drop_reason import CAUSES, DEVICE_CAP, NO_CAUSE, NO_REASON, PFMEMALLOC, REASONS, Named, Reason
from emu.kernel.policy import POLICIES, QUESTIONS, PolicyRow, answer

KERNEL_PREFIX = "SKB_DROP_REASON_"


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


def explain_row(row: Mapping[str, Any]) -> str:
    """One row of the log in words: the predicate of its reason, filled in with its numbers."""
    for reason in REASONS:
        if reason.name == row["reason"] and reason.number != NO_REASON:
            return reason.predicate.format_map(row)
    where = f" at {row['point']}" if row["point"] else ""
    return f"{row['verdict']}{where}, not dropped"


def _find(name: str) -> Reason:
    word = name.strip().upper().replace("-", "_").removeprefix(KERNEL_PREFIX)
    reasons = {reason.name: reason for reason in REASONS if reason.number != NO_REASON}
    if word in reasons:
        return reasons[word]
    causes = [cause.name for cause in CAUSES if cause.number != NO_CAUSE]
    if word in causes:
        of = [reason.name for reason in reasons.values() if "{cause}" in reason.predicate]
        raise UsageError(f"'{name}' is a cause, not a reason; try: emu explain {of[0]}")
    close = difflib.get_close_matches(word, list(reasons), n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(close)}?" if close else f"expected one of {', '.join(reasons)}"
    raise UsageError(f"'{name}' is not a drop reason; {hint}")


def _decides_reason(reason: Reason) -> tuple[str, ...]:
    """The rules of which a policy needs at least one to produce this reason; none: it takes no rule."""
    if reason.number == PFMEMALLOC:
        return tuple(question.field for question in QUESTIONS if question.field.startswith("check_"))
    return ()


def _decides_cause(cause: Named) -> tuple[str, ...]:
    return ("caps_reserve",) if cause.number == DEVICE_CAP else ()


def _producers(fields: tuple[str, ...]) -> tuple[Producer, ...]:
    found = []
    for policy in POLICIES.values():
        rules = tuple(rule for rule in rules_of(policy) if rule.field in fields and rule.value)
        if rules or not fields:
            found.append(Producer(policy.name, policy.title, rules))
    return tuple(found)

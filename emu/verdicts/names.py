"""Names that a user types, held against the lists that they come from: any case, and near misses are named."""

from collections.abc import Sequence

from emu.errors import UsageError
from emu.kernel.drop_reason import CAUSES, NO_CAUSE, NO_REASON, PENDING, REASONS, VERDICTS
from emu.kernel.policy import RULES
from emu.near_miss import did_you_mean, one_of
from emu.verdicts.explain import KERNEL_PREFIX
from emu.wire.headers import KINDS

REASON_NAMES = tuple(reason.name for reason in REASONS if reason.number != NO_REASON)
CAUSE_NAMES = tuple(cause.name for cause in CAUSES if cause.number != NO_CAUSE)
VERDICT_NAMES = tuple(name for number, name in enumerate(VERDICTS) if number != PENDING)
CLASS_NAMES = KINDS
RULE_NAMES = tuple(rule for rule in RULES if rule)


def names_of(option: str, texts: Sequence[str] | None, known: Sequence[str]) -> tuple[str, ...]:
    """The names behind an option that may be repeated and take lists, such as `--reason NOMEM,RX_MISSED`.

    Errors: UsageError with the names that come close.
    """
    words = [word.strip() for text in texts or () for word in text.split(",")]
    return tuple(dict.fromkeys(name_of(option, word, known) for word in words))


def name_of(option: str, word: str, known: Sequence[str]) -> str:
    """The known name that a word means: in any case, `-` for `_`, with or without the kernel's prefix."""
    by_form = {_form(name): name for name in known}
    found = by_form.get(_form(word.strip().upper().removeprefix(KERNEL_PREFIX)))
    if found is None:
        hint = did_you_mean(_form(word), by_form, _expected(known))
        raise UsageError(f"{option} '{word}': {hint}")
    return found


def rules_of(option: str, texts: Sequence[str] | None) -> tuple[str, ...]:
    """The rules of policies that words mean: the whole rule, or how it begins, such as `udp`.

    Errors: UsageError when it is none, or the beginning of several.
    """
    found = []
    for text in texts or ():
        begun = [rule for rule in RULE_NAMES if rule.lower().startswith(text.strip().lower())]
        whole = [rule for rule in begun if len(rule) == len(text.strip())]
        if len(whole or begun) != 1:
            hint = one_of(begun) if begun else did_you_mean(text.lower(), RULE_NAMES, _expected(RULE_NAMES))
            raise UsageError(f"{option} '{text}': {hint}")
        found.append((whole or begun)[0])
    return tuple(dict.fromkeys(found))


def _form(name: str) -> str:
    return name.lower().replace("_", "-")


def _expected(known: Sequence[str]) -> str:
    return "expected one of " + ", ".join(known)

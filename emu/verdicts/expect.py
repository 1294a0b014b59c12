"""Expectations: `PATH OP VALUE` over the summary, such as `memalloc.dropped == 0` or `drops_by_reason.PFMEMALLOC > 10`.

A path that the summary lacks is an error, before anything is played.  Under `drops_by_reason` and `events_by_reason` a
reason that did not occur is 0; what is said of an oops is null when there was none.
"""

import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from emu.errors import UsageError
from emu.kernel.drop_reason import REASONS
from emu.near_miss import did_you_mean
from emu.verdicts.outcome import OUTCOMES

OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
WORDS = {"null": None, "true": True, "false": False}
EVERY_POLICY = "*"  # among tables of expectations
OOPS_KEYS = ("bug", "point", "time_ns", "frame")
FORM = re.compile(r"\s*([A-Za-z_][\w.-]*)\s*(==|!=|<=|>=|<|>)\s*(\S.*?)\s*")
PATH = re.compile(r"[A-Za-z_][\w.-]*")


class Expectation(NamedTuple):
    """One expectation: a path, an operator, and a number, a word or another path."""

    text: str
    left: str
    symbol: str
    right: str


class Judgement(NamedTuple):
    """An expectation held against a summary."""

    text: str
    holds: bool
    found: Any


def parse_expectation(text: str) -> Expectation:
    """Read an expectation; UsageError when it has another form."""
    found = FORM.fullmatch(text)
    if not found:
        symbols = " ".join(OPERATORS)
        raise UsageError(f"--expect '{text}': expected PATH OP VALUE, such as 'memalloc.dropped == 0' (OP: {symbols})")
    return Expectation(text, found[1], found[2], found[3])


def expectation_text(path: str, value: str | int | float | bool) -> str:
    """A line of a table of expectations, `path = value`, as PATH OP VALUE.

    A text may begin with an operator; a word that is to be equal, or not, is a word and not another path.
    """
    if not isinstance(value, str):
        return f"{path} == {msgspec.json.encode(value).decode()}"
    found = re.fullmatch(r"\s*(==|!=|<=|>=|<|>)\s*(.*?)\s*", value)
    symbol, right = (found[1], found[2]) if found else ("==", value)
    is_word = symbol in ("==", "!=") and right[:1] not in ("'", '"') and right not in WORDS and not _is_number(right)
    return f"{path} {symbol} {quoted(right) if is_word else right}"


def quoted(word: str) -> str:
    """A word in quotes that it does not contain."""
    return f'"{word}"' if "'" in word else f"'{word}'"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def texts_for(expected: Sequence[str] | Mapping[str, Mapping[str, Any]], policy: str) -> list[str]:
    """What a scenario expects of a run under a policy: its list, or the tables of all policies and of this one."""
    if not isinstance(expected, Mapping):
        return list(expected)
    tables = [expected[name] for name in (EVERY_POLICY, policy) if name in expected]
    return [expectation_text(path, value) for table in tables for path, value in table.items()]


def speaks_of_oops(expectation: Expectation) -> bool:
    """Whether an expectation is about the kernel's death."""
    return any(side.split(".")[0] in ("oops", "oops_bug") for side in (expectation.left, expectation.right))


def refuse_impossible(expectations: Sequence[Expectation], summary: dict[str, Any]) -> None:
    """UsageError when an expectation cannot be judged whatever happens; `summary` is that of a run not yet begun."""
    for expectation in expectations:
        left = _lookup(expectation.left, summary, expectation.text)
        right = _value(expectation.right, summary, expectation.text)
        if left is None:
            continue
        judge(expectation, summary)
        whole = f"--expect '{expectation.text}'"
        if isinstance(left, Mapping | list):
            raise UsageError(f"{whole}: {expectation.left} is a table of the summary, not a value")
        if right is not None and isinstance(left, str) != isinstance(right, str):
            raise UsageError(f"{whole}: {left!r} and {right!r} cannot be compared: a word and a number")
        if expectation.left == "outcome" and isinstance(right, str) and right not in dict(OUTCOMES):
            raise UsageError(f"{whole}: '{right}' is not one of {', '.join(dict(OUTCOMES))}")


def judge(expectation: Expectation, summary: dict[str, Any]) -> Judgement:
    """Whether a summary fulfils an expectation; UsageError when a path leads nowhere."""
    left = _lookup(expectation.left, summary, expectation.text)
    right = _value(expectation.right, summary, expectation.text)
    try:
        holds = OPERATORS[expectation.symbol](left, right)
    except TypeError:
        if left is None or right is None:  # nothing is neither less nor more
            return Judgement(expectation.text, False, left)
        raise UsageError(f"--expect '{expectation.text}': {left!r} and {right!r} cannot be compared so") from None
    return Judgement(expectation.text, holds, left)


def _value(text: str, summary: dict[str, Any], whole: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    if text in WORDS:
        return WORDS[text]
    if len(text) > 1 and text[0] in "'\"" and text[-1] == text[0]:
        return text[1:-1]
    if PATH.fullmatch(text):
        return _lookup(text, summary, whole)
    raise UsageError(f"--expect '{whole}': '{text}' is not a number, a quoted word or a path of the summary")


def _lookup(path: str, summary: dict[str, Any], whole: str) -> Any:
    first, _, rest = path.partition(".")
    if first in ("drops_by_reason", "events_by_reason") and rest in {reason.name for reason in REASONS if reason.name}:
        return summary[first].get(rest, 0)
    if first == "oops_bug" and rest in OOPS_KEYS and summary[first] is None:
        return None
    at: Any = summary
    for word in path.split("."):
        if not isinstance(at, dict) or word not in at:
            hint = did_you_mean(path, _paths(summary), "`--json` shows the summary")
            raise UsageError(f"--expect '{whole}': the summary has no '{path}'; {hint}")
        at = at[word]
    return at


def _paths(summary: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in summary.items():
        if isinstance(value, dict):
            yield from _paths(value, f"{prefix}{key}.")
        else:
            yield prefix + key

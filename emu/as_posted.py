"""`--as-posted`: which of the bugs that its revision was posted with a run has."""

import re
from collections.abc import Sequence

from emu.errors import UsageError
from emu.kernel.bugs import BUG_COMPILE, BUGS, bugs_of

ALL = "all"
FORM = "'all', or numbers of `emu bugs` such as 1,8,11"


def parse_as_posted(text: str | None, policy: str) -> int:
    """The bugs to switch on under a policy, bit n for bug n; "" and None: none.

    Errors: UsageError when the text has another form, or asks for a bug that the policy's revision does not have.
    """
    numbers = _numbers(text)
    if numbers is None or numbers:
        has = bugs_of(policy)
        if not has:
            raise UsageError(f"as-posted '{text}': {policy} is not a revision of the patch, and has none of its bugs")
        strange = sorted(set(numbers or ()) - set(has))
        if strange:
            raise UsageError(f"as-posted '{text}': {policy} has no bug {strange[0]}; it has {_listed(has)}")
        return _mask(has if numbers is None else numbers)
    return 0


def as_posted_for_each(text: str | None, policies: Sequence[str]) -> dict[str, str]:
    """What to ask of each of several policies: the numbers that its revision has, "" for none.

    Errors: UsageError when the text has another form, or asks for a bug that none of the policies has.
    """
    numbers = _numbers(text)
    if numbers is not None and not numbers:
        return dict.fromkeys(policies, "")
    together = {number for policy in policies for number in bugs_of(policy)}
    if not together:
        raise UsageError(f"as-posted '{text}': none of {', '.join(policies)} is a revision of the patch")
    strange = sorted(set(numbers or ()) - together)
    if strange:
        raise UsageError(
            f"as-posted '{text}': none of {', '.join(policies)} has bug {strange[0]}; together they have "
            f"{_listed(sorted(together))}"
        )
    asked = together if numbers is None else set(numbers)
    return {policy: ",".join(str(number) for number in bugs_of(policy) if number in asked) for policy in policies}


def buildable(policy: str, mask: int) -> str:
    """Why there is no kernel to run with these bugs; "" when there is one."""
    if not mask >> BUG_COMPILE & 1:
        return ""
    others = [number for number in bugs_of(policy) if mask >> number & 1 and number != BUG_COMPILE]
    without = f"as-posted={_listed(others)}" if others else "no as-posted"
    return f"{policy} does not compile (bug {BUG_COMPILE}: {BUGS[BUG_COMPILE - 1].title}); leave it out: {without}"


def _numbers(text: str | None) -> tuple[int, ...] | None:
    """The numbers in ascending order; None for all."""
    said = (text or "").strip()
    if said == ALL:
        return None
    if not said:
        return ()
    words = [word.strip() for word in said.split(",")]
    for word in words:
        if not re.fullmatch("[0-9]{1,3}", word) or not 1 <= int(word) <= len(BUGS):
            raise UsageError(f"as-posted '{text}': '{word}' is not a bug from 1 to {len(BUGS)}; expected {FORM}")
    return tuple(sorted({int(word) for word in words}))


def _mask(numbers: Sequence[int]) -> int:
    return sum(1 << number for number in numbers)


def _listed(numbers: Sequence[int]) -> str:
    return ",".join(map(str, numbers))

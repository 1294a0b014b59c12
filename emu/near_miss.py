"""What somebody may have meant who wrote a name that there is not."""

import difflib
from collections.abc import Iterable, Mapping, Sequence

MOST, ALIKE = 3, 0.5


def did_you_mean(word: str, known: Iterable[str] | Mapping[str, str], otherwise: str) -> str:
    """The question that names what comes close to a word, or what is to be said when nothing does.

    A mapping has the names by the form in which they are compared with the word.
    """
    by_form = known if isinstance(known, Mapping) else {name: name for name in known}
    close = difflib.get_close_matches(word, list(by_form), MOST, ALIKE)
    return one_of([by_form[form] for form in close]) if close else otherwise


def one_of(names: Sequence[str]) -> str:
    """The question whether it was one of these."""
    return f"did you mean {' or '.join(repr(name) if ' ' in name else name for name in names)}?"

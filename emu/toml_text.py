"""What tomllib does not do: on which line each key of a TOML file stands, and a tree of tables as TOML text.

`key_lines` walks text that tomllib has accepted, so it knows words, strings and brackets only (TOML 1.0).
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

Path = tuple[str | int, ...]

BARE = re.compile(r"[A-Za-z0-9_-]+")
BLANK = re.compile(r"[ \t]*")
GAP = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")  # blanks, comments and ends of lines
SCALAR = re.compile(r"[^,\]}#\n]*")
STRINGS = (
    re.compile(r'"""(?:[^\\]|\\.)*?"{3,5}', re.DOTALL),
    re.compile(r"'''.*?'{3,5}", re.DOTALL),
    re.compile(r'"(?:[^"\\]|\\.)*"'),
    re.compile(r"'[^']*'"),
)


def key_lines(text: str) -> dict[Path, int]:
    """The line, from 1, of every key, table and array element of a TOML text; arrays of tables count their elements.

    The text must be TOML: of any other the result is unspecified, but the walk ends.
    """
    return _Walk(text).lines


class _Walk:
    """One pass over a text; every step moves forward or ends."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.line = 1
        self.lines: dict[Path, int] = {}
        self.elements: dict[Path, int] = {}  # how many [[tables]] an array has so far
        table: Path = ()
        while self._skip(GAP):
            if self.text[self.at] == "[":
                table = self._header()
            else:
                self._pair(table)
            self._skip(SCALAR)

    def _take(self, found: re.Match[str] | None) -> str:
        words = found[0] if found else self.text[self.at : self.at + 1]
        self.at += len(words)
        self.line += words.count("\n")
        return words

    def _skip(self, pattern: re.Pattern[str]) -> bool:
        """Pass over what the pattern matches; False at the end of the text."""
        self._take(pattern.match(self.text, self.at))
        return self.at < len(self.text)

    def _sees(self, word: str) -> bool:
        return self.text.startswith(word, self.at)

    def _header(self) -> Path:
        line, array = self.line, self._sees("[[")
        self.at += 1 + array
        place: Path = ()
        words = self._key()
        for number, word in enumerate(words, 1):
            place = (*place, word)
            self.lines.setdefault(place, line)
            if array and number == len(words):
                self.elements[place] = self.elements.get(place, -1) + 1
            if place in self.elements:
                place = (*place, self.elements[place])
                self.lines.setdefault(place, line)
        return place

    def _key(self) -> list[str]:
        words = []
        while self._skip(BLANK):
            if self.text[self.at] in "\"'":
                quoted = self._string()
                words.append(
                    json.loads(quoted, strict=False) if quoted[0] == '"' and _is_json(quoted) else quoted[1:-1]
                )
            else:
                words.append(self._take(BARE.match(self.text, self.at)))
            self._skip(BLANK)
            if not self._sees("."):
                break
            self.at += 1
        return words

    def _string(self) -> str:
        for pattern in STRINGS:
            found = pattern.match(self.text, self.at)
            if found:
                return self._take(found)
        return self._take(None)

    def _pair(self, table: Path) -> None:
        place = table
        line = self.line
        for word in self._key():
            place = (*place, word)
            self.lines.setdefault(place, line)
        if self._sees("="):
            self.at += 1
            self._value(place)

    def _value(self, place: Path) -> None:
        if not self._skip(BLANK):
            return
        first = self.text[self.at]
        if first in "\"'":
            self._string()
        elif first in "[{":
            self._bracket(place, "]" if first == "[" else "}")
        else:
            self._skip(SCALAR)

    def _bracket(self, place: Path, end: str) -> None:
        self.at += 1
        number = 0
        while self._skip(GAP) and not self._sees(end):
            if end == "]":
                self.lines.setdefault((*place, number), self.line)
                self._value((*place, number))
                number += 1
            else:
                self._pair(place)
            self._skip(GAP)
            if self._sees(","):
                self.at += 1
            elif not self._sees(end):
                return
        self.at += 1


def _is_json(quoted: str) -> bool:
    try:
        json.loads(quoted, strict=False)
    except ValueError:
        return False
    return True


def toml_text(tree: Mapping[str, Any]) -> str:
    """A tree of tables, arrays, texts, numbers and flags as TOML; a key whose value is None is left out."""
    return "\n".join(_table_lines(tree, "")).strip("\n") + "\n"


def _table_lines(table: Mapping[str, Any], place: str) -> Iterator[str]:
    later = []
    for key, value in table.items():
        if isinstance(value, dict):
            later.append((key, value, False))
        elif isinstance(value, list) and value and all(isinstance(element, dict) for element in value):
            later += [(key, element, True) for element in value]
        elif value is not None:
            yield f"{toml_key(key)} = {toml_value(value)}"
    for key, value, element in later:
        name = f"{place}{toml_key(key)}"
        yield ""
        yield f"[[{name}]]" if element else f"[{name}]"
        yield from _table_lines(value, f"{name}.")


def toml_key(key: str) -> str:
    """A key as TOML spells it."""
    return key if BARE.fullmatch(key) else toml_value(key)


def toml_value(value: Any) -> str:
    """A value as TOML spells it, on one line."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list):
        return f"[{', '.join(map(toml_value, value))}]"
    if isinstance(value, dict):
        inside = ", ".join(f"{toml_key(key)} = {toml_value(element)}" for key, element in value.items())
        return f"{{ {inside} }}" if inside else "{}"
    return json.dumps(value) if isinstance(value, bool | int | float) else str(value)

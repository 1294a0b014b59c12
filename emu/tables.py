"""Trees of tables held against `msgspec.Struct` classes: every problem at once, and what each key may be.

One description of a class serves the check, its messages, `emu scenarios schema` and the docs: the annotations.
"""

import difflib
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct, inspect

from emu.toml_text import Path, toml_value

ANY_COUNT = 1 << 40  # a bound that only keeps sums within 64 bits: it is not worth a word
MOST = 1 << 62  # of an integer without bounds
SHOWN = 60  # characters of a value in a message


class Problem(NamedTuple):
    """What is wrong with one key; `origin` is a file, with a line if one is to blame (else 0), or an option."""

    origin: str
    line: int
    key: str
    sentence: str

    def __str__(self) -> str:
        """One line for a person."""
        origin = f"{self.origin}:{self.line}" if self.line else self.origin
        return ": ".join(filter(None, (origin, self.key, self.sentence)))


class Key(NamedTuple):
    """One key of the schema: its dotted name (`*` is an element's number), and what may stand there."""

    name: str
    type: str
    unit: str
    range: str
    default: Any
    required: bool
    meaning: str


def dotted(path: Path) -> str:
    """A path as a person writes it: `device.0.ring`."""
    return ".".join(map(str, path))


def convert_tables(tree: Mapping[str, Any], kind: type[Struct]) -> tuple[Any, list[tuple[Path, str]]]:
    """The tree as a `kind`, with defaults where something is wrong, and what is wrong by path.

    What cannot be left out where it is wrong has a stand-in.  When nothing can be made of it, the first is None.
    """
    found: list[tuple[Path, str]] = []
    sound = _table(dict(tree), _struct(kind), (), found)
    try:
        return msgspec.convert(sound, kind), found
    except msgspec.ValidationError as error:
        if not found:  # a rule that the walk below does not know
            place = re.search(r" - at `\$\.?(.*)`$", str(error))
            found.append((tuple((place[1] if place else "").split(".")), str(error).partition(" - at ")[0]))
        return None, found


def _struct(kind: Any) -> inspect.StructType:
    described = inspect.type_info(kind)
    assert isinstance(described, inspect.StructType)
    return described


def _bare(described: Any) -> tuple[Any, str, Mapping[str, Any]]:
    """A type without its notes, its meaning, and the other notes."""
    meaning = ""
    notes: dict[str, Any] = {}
    while isinstance(described, inspect.Metadata):
        meaning = (described.extra_json_schema or {}).get("description", meaning)
        notes = notes | (described.extra or {})
        described = described.type
    return described, meaning, notes


def _alternatives(described: Any) -> list[Any]:
    bare = _bare(described)[0]
    return [_bare(kind)[0] for kind in bare.types] if isinstance(bare, inspect.UnionType) else [bare]


def _table(value: Any, struct: inspect.StructType, path: Path, found: list[tuple[Path, str]]) -> Any:
    """What is sound of a table; problems are appended to `found`."""
    if not isinstance(value, dict):
        found.append((path, f"expected a table, found {shown(value)}"))
        return None
    fields = {field.encode_name: field for field in struct.fields}
    sound = {}
    for key, inner in value.items():
        if key not in fields:
            found.append(((*path, key), unknown_key(key, list(fields))))
            continue
        before = len(found)
        kept = _value(inner, fields[key].type, (*path, key), found)
        if len(found) == before or isinstance(kept, dict | list):
            sound[key] = kept
    for key, field in fields.items():
        if field.required and key not in value:
            found.append((path, f"the key '{key}' is missing: {expected(field.type)}"))
        if field.required and key not in sound:
            sound[key] = _stand_in(field.type)
    return sound


def _stand_in(described: Any) -> Any:
    """Something of this type, so that the rest can be checked where a value is no good."""
    kind = _alternatives(described)[0]
    if isinstance(kind, inspect.LiteralType):
        return kind.values[0]
    return "" if isinstance(kind, inspect.StrType) else getattr(kind, "ge", None) or 0


def _value(value: Any, described: Any, path: Path, found: list[tuple[Path, str]]) -> Any:
    kinds = _alternatives(described)
    for kind in kinds:
        if isinstance(kind, inspect.StructType):
            return _table(value, kind, path, found)
        if isinstance(kind, inspect.DictType) and isinstance(value, dict):
            return _mapping(value, kind, path, found)
    for kind in kinds:
        if isinstance(kind, inspect.ListType):
            if not isinstance(value, list):
                found.append((path, f"expected {expected(described)}, found {shown(value)}"))
                return None
            return _array(value, kind, path, found)
    if not any(_fits(value, kind) for kind in kinds):
        told = any(isinstance(kind, inspect.IntType) and (kind.le or 0) > ANY_COUNT for kind in kinds)
        # A bound that goes without saying, until it is met.
        beyond = type(value) is int and value > ANY_COUNT and not told
        wanted = f"an integer of at most {ANY_COUNT}" if beyond else expected(described)
        found.append((path, f"expected {wanted}, found {shown(value)}"))
    return value


def _mapping(value: Mapping[str, Any], kind: inspect.DictType, path: Path, found: list[tuple[Path, str]]) -> Any:
    sound = {}
    for key, inner in value.items():
        before = len(found)
        kept = _value(inner, kind.value_type, (*path, key), found)
        if len(found) == before:
            sound[key] = kept
    return sound


def _array(value: list[Any], kind: inspect.ListType, path: Path, found: list[tuple[Path, str]]) -> list[Any] | None:
    least, most = kind.min_length or 0, kind.max_length
    if len(value) < least or (most is not None and len(value) > most):
        found.append((path, f"expected {expected(kind)}, found {len(value)} of them"))
    sound = []
    for number, element in enumerate(value):
        before = len(found)
        kept = _value(element, kind.item_type, (*path, number), found)
        # Elements keep their numbers: what is no good is replaced, not left out.
        good = len(found) == before or isinstance(kept, dict)
        sound.append(kept if good else _stand_in(kind.item_type))
    return sound if least <= len(value) and (most is None or len(value) <= most) else None


def _fits(value: Any, kind: Any) -> bool:
    """Whether a leaf's value is of this type and within its bounds."""
    if isinstance(kind, inspect.NoneType):
        return value is None
    if isinstance(kind, inspect.BoolType):
        return isinstance(value, bool)
    if isinstance(kind, inspect.LiteralType):
        return any(type(value) is type(choice) and value == choice for choice in kind.values)
    if isinstance(kind, inspect.StrType):
        long_enough = isinstance(value, str) and len(value) >= (kind.min_length or 0)
        return long_enough and (kind.pattern is None or re.search(kind.pattern, value) is not None)
    if isinstance(kind, inspect.IntType):
        return type(value) is int and _within(value, kind)
    if isinstance(kind, inspect.FloatType):
        return type(value) is float and math.isfinite(value)
    return isinstance(kind, inspect.DictType) and isinstance(value, dict)


def _within(value: int, kind: inspect.IntType) -> bool:
    least = -MOST if kind.ge is None else kind.ge
    most = MOST if kind.le is None else kind.le
    return least <= value <= most and (kind.multiple_of is None or value % kind.multiple_of == 0)


def unknown_key(key: str, known: list[str]) -> str:
    """The sentence for a key that nobody knows."""
    near = difflib.get_close_matches(key, known, 1, 0.6)
    hint = f"did you mean '{near[0]}'? " if near else ""
    return f"unknown key '{key}'; {hint}{'expected' if not near else 'Expected'} one of {', '.join(known)}"


def shown(value: Any) -> str:
    """A value for a message: on one line, not too long."""
    text = f"'{value}'" if isinstance(value, str) and value.isprintable() else toml_value(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def expected(described: Any) -> str:
    """What may stand at a key, in words: `an integer from 1 to 4096`."""
    kinds = [kind for kind in _alternatives(described) if not isinstance(kind, inspect.NoneType)]
    return " or ".join(" ".join(filter(None, (_noun(kind, True), range_of(kind)))) for kind in kinds)


def _noun(kind: Any, article: bool = False) -> str:
    if isinstance(kind, inspect.LiteralType):
        return "" if article else "word" if isinstance(kind.values[0], str) else "integer"
    if isinstance(kind, inspect.ListType):
        inside = _bare(kind.item_type)[0]
        return ("an array of " if article else "array of ") + ("tables" if _is_struct(inside) else f"{_noun(inside)}s")
    if isinstance(kind, inspect.DictType):
        inside = _bare(kind.value_type)[0]
        return ("a " if article else "") + f"table of {'integers' if isinstance(inside, inspect.IntType) else 'values'}"
    for known, noun in (
        (inspect.BoolType, "true or false"),
        (inspect.IntType, "integer"),
        (inspect.FloatType, "number"),
        (inspect.StrType, "text"),
        (inspect.StructType, "table"),
    ):
        if isinstance(kind, known):
            return noun if not article or noun.startswith("true") else f"{'an' if noun[0] == 'i' else 'a'} {noun}"
    raise AssertionError(f"{kind}: a type that no key has yet")


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, inspect.StructType)


def range_of(kind: Any) -> str:
    """The bounds of a type in words, or nothing."""
    if isinstance(kind, inspect.LiteralType):
        return f"{'one of ' if len(kind.values) > 1 else ''}{', '.join(map(str, kind.values))}"
    if isinstance(kind, inspect.StrType):
        return f"matching {kind.pattern}" if kind.pattern else ""
    if isinstance(kind, inspect.ListType):
        if kind.max_length is None and not kind.min_length:
            return ""
        return (
            f"of {kind.min_length or 0} to {kind.max_length}" if kind.max_length else f"of at least {kind.min_length}"
        )
    if not isinstance(kind, inspect.IntType):
        return ""
    least, most = kind.ge, None if kind.le == ANY_COUNT else kind.le
    if least is not None and most is not None:
        said = f"from {least} to {most}"
    else:
        said = f"of at least {least}" if least is not None else f"of at most {most}" if most is not None else ""
    return said + (f", a multiple of {kind.multiple_of}" if kind.multiple_of else "")


def keys_of(kind: type[Struct]) -> list[Key]:
    """Every key of a schema, tables before what is in them."""
    return list(_keys(_struct(kind), ""))


def _keys(struct: inspect.StructType, prefix: str) -> Iterator[Key]:
    for field in struct.fields:
        _, meaning, notes = _bare(field.type)
        kinds = [kind for kind in _alternatives(field.type) if not isinstance(kind, inspect.NoneType)]
        items = [_bare(kind.item_type)[0] if isinstance(kind, inspect.ListType) else kind for kind in kinds]
        inside = [kind for kind in items if _is_struct(kind)]
        array = any(isinstance(kind, inspect.ListType) for kind in kinds)
        name = f"{prefix}{field.encode_name}"
        if inside:
            meaning = meaning or " ".join((inside[0].cls.__doc__ or "").split("\n\n")[0].split())
        yield Key(
            name,
            " or ".join(_noun(kind) for kind in kinds),
            notes.get("unit", ""),
            "; ".join(filter(None, map(range_of, kinds))),
            None if inside else _default(field),
            field.required,
            meaning,
        )
        for table in inside:
            yield from _keys(table, f"{name}.{'*.' if array else ''}")


def _default(field: inspect.Field) -> Any:
    if field.default_factory is not msgspec.NODEFAULT:
        return field.default_factory()
    return None if field.default is msgspec.NODEFAULT else field.default


def nearest_line(path: Path, lines: Mapping[Path, int]) -> int:
    """The line of the key, else of the nearest table around it; 0: none."""
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path, 0)

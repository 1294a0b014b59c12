"""Keyword arguments become the command that the command line would have made of its options.

The dataclasses of `emu.cli.options` are the one table of options.  The typed dictionaries here say which Python types
each may be given as, for type checkers; a test holds their names against that table.
"""

import difflib
import inspect
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, fields
from decimal import Decimal
from numbers import Integral, Real
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeAlias, TypedDict, TypeVar, get_args, get_type_hints

from emu.cli.options import PlayCommand
from emu.cli.rewrite_options import RewriteOptions
from emu.errors import UsageError
from emu.toml_text import toml_value


class Crafted(Protocol):
    """A flood: `emu.Flood`."""

    @property
    def recipe(self) -> str:
        """As `--flood` takes it."""
        ...


FilePath: TypeAlias = str | os.PathLike[str]
Number: TypeAlias = int | float | Decimal | str
Texts: TypeAlias = str | Iterable[str]
Floods: TypeAlias = str | Crafted | Iterable[str | Crafted]
# A path, the bytes of a capture, a binary file or a pipe, a flood, one Scapy packet or several.
Capture: TypeAlias = FilePath | bytes | bytearray | memoryview | BinaryIO | Crafted | Iterable[Any]

BY_HAND = ("capture", "device", "json")  # captures are arguments, and nothing is printed
REALTIME = "Let time pass as on the clock (True), or so many times as fast: what is written appears in its time."
STDOUT_REFUSED = ("write", "log", "record_events", "report")
Command = TypeVar("Command", bound=PlayCommand)
Kind = TypeVar("Kind")


class PlayOptions(TypedDict, total=False):
    """What `replay` and `compare` take beside captures; None is as if not given."""

    device: Mapping[str, Capture] | None
    scenario: FilePath | Mapping[str, Any] | None
    flood: Floods | None
    settings: Mapping[str, Any] | Texts | None
    expect: Texts | None
    as_posted: bool | str | Iterable[int] | None
    host: str | None
    memalloc: str | None
    closed: str | None
    speed: Number | None
    pps: Number | None
    mbps: Number | None
    limit: int | None
    filter: str | None
    offload: str | None
    checksums: str | None
    retransmit: bool | None
    engine: str | None
    progress: bool | None
    map_mac: Mapping[str, str] | Texts | None
    map_ip: Mapping[str, str] | Texts | None
    map_port: Mapping[str | int, str | int] | Texts | None
    shift_time: str | None
    rebase_time: str | int | None
    truncate: int | None
    fix_checksums: bool | None
    loop: int | None
    loop_gap: str | None
    loop_distinct: str | None


class ReplayOptions(PlayOptions, total=False):
    """What `replay` takes."""

    write: FilePath | None
    annotate: str | None
    log: FilePath | None
    log_rows: str | None
    policy: str | None
    events: FilePath | None
    realtime: bool | Number | None
    record_events: FilePath | None
    report: FilePath | None


class CompareOptions(PlayOptions, total=False):
    """What `compare` takes."""

    policies: Texts | None
    jobs: int | None


def command_of(verb: str, kind: type[Kind], options: Mapping[str, Any]) -> Kind:
    """The command with these options; `device` is left to `emu.api.inputs`.

    Errors: TypeError for an unknown keyword (naming the nearest) or a value of a wrong type; UsageError for a value
    that the command line would refuse as well.
    """
    hints = get_type_hints(kind, include_extras=True)
    known = [name for name in hints if name not in BY_HAND]
    given = {name: value for name, value in options.items() if value is not None and name != "device"}
    given |= {"progress": options.get("progress", False) or False}
    scenario = given.get("scenario")
    if isinstance(scenario, Mapping):
        del given["scenario"]
        given["settings"] = [*_settings("scenario", scenario), *_settings("settings", given.get("settings", ()))]
    values = _values(verb, given, hints, known, [*known, "device"])
    for name in STDOUT_REFUSED:
        if values.get(name) == "-":
            raise UsageError(f"{name} '-': standard output is the command line's; name a file")
    return kind(**values)


def rewriting_of(verb: str, options: Mapping[str, Any], besides: Sequence[str] = ()) -> RewriteOptions:
    """The options of rewriting; `besides` names the keywords that the function has of its own.

    Errors: as `command_of`.
    """
    hints = get_type_hints(RewriteOptions, include_extras=True)
    given = {name: value for name, value in options.items() if value is not None}
    return RewriteOptions(**_values(verb, given, hints, list(hints), [*besides, *hints]))


def _values(
    verb: str, given: Mapping[str, Any], hints: Mapping[str, Any], known: Sequence[str], keywords: Sequence[str]
) -> dict[str, Any]:
    values = {}
    for name, value in given.items():
        if name not in known:
            near = difflib.get_close_matches(name, keywords, 1, 0.5)
            hint = f"; did you mean '{near[0]}'?" if near else f"; there are {', '.join(sorted(keywords))}"
            raise TypeError(f"{verb}() got an unexpected keyword argument '{name}'{hint}")
        values[name] = BY_NAME[name](name, value) if name in BY_NAME else _by_type(name, value, hints[name])
    return values


def described(function: Callable[..., Any], kind: type[Any], meanings: Mapping[str, str]) -> None:
    """Give a function the keywords that its command has, with their meaning: for help() and for completion.

    `meanings` of keywords that are the function's own, or that Python says in other words.
    """
    own = [each for each in inspect.signature(function).parameters.values() if each.kind is not each.VAR_KEYWORD]
    hints = get_type_hints(kind, include_extras=True)
    defaults = {
        field.name: field.default
        for field in fields(kind)
        if field.name not in ("capture", "json") and field.default is not MISSING
    }
    defaults["progress"] = False
    keywords = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=value) for name, value in defaults.items()
    ]
    signature = inspect.signature(function).replace(parameters=[*own, *keywords])
    function.__signature__ = signature  # type: ignore[attr-defined]
    lines = [
        f"    {each.name}: {meanings.get(each.name) or get_args(hints[each.name])[1].help}"
        for each in signature.parameters.values()
        if each.kind is each.KEYWORD_ONLY
    ]
    function.__doc__ = "\n".join([inspect.cleandoc(function.__doc__ or ""), "", "Keywords:", *lines])


def _by_type(name: str, value: Any, hint: Any) -> Any:
    """A value as an option's own type wants it."""
    plain, info = get_args(hint)[:2]
    kinds = [kind for kind in (get_args(plain) or (plain,)) if kind is not type(None)]
    if kinds[0] is bool:
        if not isinstance(value, bool):
            raise TypeError(f"{name}={value!r}: expected True or False")
        return value
    if kinds[0] is int:
        return _whole(name, value, info.min)
    if kinds[0] is Path:
        return Path(text_of(name, value))
    if isinstance(kinds[0], type) and issubclass(kinds[0], str):
        return text_of(name, value)
    return _texts(name, value)


def _whole(name: str, value: Any, least: int | None) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name}={value!r}: expected a whole number")
    if least is not None and value < least:
        raise UsageError(f"{name} {value}: expected {least} or more")
    return int(value)


RATES = ("pps", "mbps", "speed", "realtime")
RATE_DIGITS, RATE_DECIMALS = 9, 6


def text_of(name: str, value: Any) -> str:
    """A text, a path or a number as the command line has it; of a rate that is a float, the first nine digits.

    Errors: TypeError for anything else.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, os.PathLike):
        path = os.fspath(value)
        return os.fsdecode(path)
    if isinstance(value, bool) or not isinstance(value, Real | Decimal):
        raise TypeError(f"{name}={value!r}: expected a text, a path or a number")
    if isinstance(value, Integral):
        return str(int(value))
    number = value if isinstance(value, Decimal) else Decimal(repr(float(value)))
    if name in RATES and not isinstance(value, Decimal) and len(number.as_tuple().digits) > RATE_DIGITS:  # 1000 / 3
        number = round(Decimal(f"{number:.{RATE_DIGITS}g}"), RATE_DECIMALS)
    return format(number.normalize(), "f")


def _texts(name: str, value: Any) -> list[str]:
    """One text, several, or a mapping whose pairs become `A=B`."""
    if isinstance(value, Mapping):
        return [f"{text_of(name, key)}={text_of(name, element)}" for key, element in value.items()]
    if isinstance(value, str | os.PathLike):
        return [text_of(name, value)]
    return [text_of(name, element) for element in _several(name, value)]


def _several(name: str, value: Any) -> Iterable[Any]:
    if isinstance(value, bytes | bytearray) or not isinstance(value, Iterable):
        raise TypeError(f"{name}={value!r}: expected a text or several")
    return value


def _settings(name: str, value: Any) -> list[str]:
    """`KEY=VALUE`, from such texts or from a mapping; tables may be nested, or keys dotted."""
    if isinstance(value, Mapping):
        return [f"{key}={_toml(name, key, element)}" for key, element in _leaves(name, value)]
    return _texts(name, value)


def _leaves(name: str, tables: Mapping[Any, Any], place: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tables.items():
        if not isinstance(key, str):
            raise TypeError(f"{name}: {place}{key!r}: expected a key of the scenario, such as 'pressure.start'")
        if isinstance(value, Mapping):
            yield from _leaves(name, value, f"{place}{key}.")
        elif value is not None:
            yield place + key, value


def _toml(name: str, key: str, value: Any) -> str:
    return toml_value(_plain(name, key, value))


def _plain(name: str, key: str, value: Any) -> Any:
    """A value of a scenario as TOML knows values."""
    if isinstance(value, bool | str):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    if isinstance(value, Mapping):
        return {str(word): _plain(name, key, element) for word, element in value.items() if element is not None}
    if isinstance(value, list | tuple):
        return [_plain(name, key, element) for element in value]
    raise TypeError(f"{name}: {key}={value!r}: expected a text, a number, True or False, or a list of them")


def _as_posted(name: str, value: Any) -> str | None:
    """True: all bugs; False: none, whatever the scenario says; else as the command line, or numbers."""
    if isinstance(value, bool):
        return "all" if value else ""
    if isinstance(value, str):
        return value
    return ",".join(str(_whole(name, number, 1)) for number in _several(name, value))


def _realtime(name: str, value: Any) -> str | None:
    """True: as the clock; False: not at all; else so many times as fast."""
    if isinstance(value, bool):
        return "1" if value else None
    return text_of(name, value)


def _floods(name: str, value: Any) -> list[str]:
    """Recipes, from texts or floods."""
    given = [value] if isinstance(value, str) or hasattr(value, "recipe") else _several(name, value)
    return [text_of(name, getattr(each, "recipe", each)) for each in given]


def _listed(name: str, value: Any) -> str:
    return ",".join(_texts(name, value))


BY_NAME: dict[str, Callable[[str, Any], Any]] = {
    "as_posted": _as_posted,
    "flood": _floods,
    "policies": _listed,
    "realtime": _realtime,
    "settings": _settings,
}

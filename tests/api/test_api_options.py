"""Keywords are the options of the command line, by the same names, in Python's own types."""

import inspect
from dataclasses import fields
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy
import pytest
from api_kit import NOP

import emu
from emu.api.options import CompareOptions, ReplayOptions, command_of
from emu.cli.options import CompareCommand, PlayCommand, ReplayCommand

VERBS: list[tuple[str, type[PlayCommand], Any]] = [
    ("replay", ReplayCommand, ReplayOptions),
    ("compare", CompareCommand, CompareOptions),
]


@pytest.mark.parametrize(("verb", "kind", "typed"), VERBS)
def test_every_option_is_a_keyword(verb: str, kind: type[PlayCommand], typed: Any) -> None:
    """Type checkers, help() and the command line know the same options with the same defaults."""
    options = {field.name: field.default for field in fields(kind) if field.name not in ("capture", "json")}
    assert set(typed.__annotations__) == set(options)
    function = getattr(emu, verb)
    keywords = {
        name: each.default
        for name, each in inspect.signature(function).parameters.items()
        if each.kind is each.KEYWORD_ONLY and name != "keep_verdicts"
    }
    assert keywords == options | {"progress": False}
    for name in (*options, "keep_verdicts"):
        assert f"\n    {name}: " in function.__doc__


@pytest.mark.parametrize(
    ("given", "field", "word"),
    [
        ({"pps": 200_000}, "pps", "200000"),
        ({"pps": "200k"}, "pps", "200k"),
        ({"pps": 1e6}, "pps", "1000000"),
        ({"speed": 0.5}, "speed", "0.5"),
        ({"speed": 0.00001}, "speed", "0.00001"),
        ({"pps": 1000 / 3}, "pps", "333.333333"),
        ({"pps": 1e7 / 3}, "pps", "3333333.33"),
        ({"speed": 0.1 + 0.2}, "speed", "0.3"),
        ({"mbps": Decimal("1E+3")}, "mbps", "1000"),
        ({"mbps": numpy.int64(3)}, "mbps", "3"),
        ({"limit": numpy.int64(3)}, "limit", 3),
        ({"log": Path("x.csv")}, "log", "x.csv"),
        ({"scenario": "x.toml"}, "scenario", Path("x.toml")),
        ({"expect": "frames == 1"}, "expect", ["frames == 1"]),
        ({"expect": ("frames == 1", "oops == 0")}, "expect", ["frames == 1", "oops == 0"]),
        ({"as_posted": True}, "as_posted", "all"),
        ({"as_posted": False}, "as_posted", ""),
        ({"as_posted": [1, 8]}, "as_posted", "1,8"),
        ({"as_posted": "1,8"}, "as_posted", "1,8"),
        ({"settings": ["a.b=1"]}, "settings", ["a.b=1"]),
        ({"settings": {"a.b": 1, "c": {"d": "true", "e": [1, 2]}}}, "settings", ["a.b=1", 'c.d="true"', "c.e=[1, 2]"]),
        ({"settings": {"a": {"b": True, "c": None}}}, "settings", ["a.b=true"]),
        ({"scenario": {"a": {"b": 1}}, "settings": {"a.b": 2}}, "settings", ["a.b=1", "a.b=2"]),
        ({"scenario": {"device": [{"name": "x"}]}}, "settings", ['device=[{ name = "x" }]']),
        ({"policy": None}, "policy", None),
        ({"progress": True}, "progress", True),
        ({}, "progress", False),
        ({"progress": None}, "progress", False),
    ],
)
def test_a_value_becomes_the_word_of_the_command_line(given: dict[str, Any], field: str, word: Any) -> None:
    """Numbers, paths, lists and dictionaries are written as a user would type them."""
    assert getattr(command_of("replay", ReplayCommand, given), field) == word


def test_policies_may_be_a_list() -> None:
    """As names, or as one text."""
    assert command_of("compare", CompareCommand, {"policies": ["mainline", "phillips-v5"]}).policies == (
        "mainline,phillips-v5"
    )
    assert command_of("compare", CompareCommand, {"policies": "all"}).policies == "all"


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"polcy": "mainline"}, r"replay\(\) got an unexpected keyword argument 'polcy'; did you mean 'policy'\?"),
        ({"json": True}, "unexpected keyword argument 'json'"),
        ({"capture": NOP}, "unexpected keyword argument 'capture'"),
        ({"limit": 1.5}, "limit=1.5: expected a whole number"),
        ({"limit": True}, "limit=True: expected a whole number"),
        ({"progress": 1}, "progress=1: expected True or False"),
        ({"policy": ["mainline"]}, r"policy=\['mainline'\]: expected a text, a path or a number"),
        ({"pps": True}, "pps=True: expected a text, a path or a number"),
        ({"expect": 3}, "expect=3: expected a text or several"),
        ({"expect": b"frames == 1"}, "expected a text or several"),
        ({"as_posted": ["x"]}, "as_posted='x': expected a whole number"),
        ({"settings": {1: 2}}, "settings: 1: expected a key of the scenario"),
        ({"settings": {"a.b": object()}}, "settings: a.b=<object .*: expected a text, a number"),
        ({"settings": 3}, "settings=3: expected a text or several"),
    ],
)
def test_a_wrong_keyword_is_a_type_error(keywords: dict[str, Any], message: str) -> None:
    """Before anything is opened; the nearest keyword is named."""
    with pytest.raises(TypeError, match=message):
        emu.replay("/nowhere.pcap", **keywords)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"policy": "mainlin"}, "--policy mainlin"),
        ({"limit": 0}, "^limit 0: expected 1 or more$"),
        ({"pps": 0}, "--pps 0: expected a number above 0"),
        ({"pps": 1, "mbps": 1}, "--pps and --mbps exclude each other"),
        ({"engine": "fast"}, "--engine fast: expected one of auto, compiled, plain"),
        ({"annotate": "some"}, "--annotate some"),
        ({"log_rows": "some"}, "--log-rows some"),
        ({"settings": {"pressure.strat": "quiet"}}, "pressure.strat"),
        ({"settings": "pressure.start"}, "expected key=value"),
        ({"expect": "frames = 1"}, "expected PATH OP VALUE"),
        ({"write": "-"}, "write '-': standard output is the command line's; name a file"),
        ({"log": "x.txt"}, "x.txt: a log's format is told by its name"),
        ({"filter": "tcp and"}, "--filter"),
        ({"scenario": "/nowhere.toml"}, "/nowhere.toml: cannot read the scenario"),
    ],
)
def test_a_wrong_value_is_a_usage_error(
    keywords: dict[str, Any], message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """One line that names it; nothing is printed, and nobody exits."""
    with pytest.raises(emu.UsageError, match=message) as caught:
        emu.replay(NOP, **keywords)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")

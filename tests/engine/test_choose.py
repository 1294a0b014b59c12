"""Which engine plays: compiling and loading must cost less than they save."""

from types import SimpleNamespace

import pytest

from emu.engine import choose
from emu.engine.choose import WORTH_A_HINT_BYTES, WORTH_COMPILING_BYTES, WORTH_LOADING_BYTES, choose_engine

HOW_LONG = "compiling the engine, once for this version and CPU: less than a minute"


def having(monkeypatch: pytest.MonkeyPatch, *, warm: bool, note: str = "") -> None:
    """Have a compiled engine that is as warm, and kept as said."""
    cache = SimpleNamespace(note=note)
    engine = SimpleNamespace(name="compiled", is_warm=lambda _use: warm, expect=lambda _use: None, cache=cache)
    monkeypatch.setattr(choose, "_one_for_all", lambda: engine)


@pytest.mark.parametrize(
    ("size", "warm", "name", "sentence"),
    [
        (0, False, "plain", ""),
        (WORTH_LOADING_BYTES - 1, True, "plain", ""),
        (WORTH_LOADING_BYTES, True, "compiled", ""),
        (WORTH_LOADING_BYTES, False, "plain", ""),
        (WORTH_A_HINT_BYTES, False, "plain", choose.HINT),
        (WORTH_COMPILING_BYTES - 1, False, "plain", choose.HINT),
        (WORTH_COMPILING_BYTES, False, "compiled", HOW_LONG),
        (None, False, "compiled", HOW_LONG),
        (None, True, "compiled", ""),
    ],
)
def test_the_size_decides(
    monkeypatch: pytest.MonkeyPatch, size: int | None, warm: bool, name: str, sentence: str
) -> None:
    having(monkeypatch, warm=warm)
    engine, said = choose_engine("auto", size)
    assert (engine.name, said) == (name, sentence)


def test_who_asks_gets_it_whatever_the_size(monkeypatch: pytest.MonkeyPatch) -> None:
    having(monkeypatch, warm=False, note="kept in /elsewhere: /home/a/.cache/emu cannot be written")
    assert choose_engine("plain", 1 << 40)[0].name == "plain"
    engine, said = choose_engine("compiled", 0)
    assert (engine.name, said) == ("compiled", f"{HOW_LONG}; kept in /elsewhere: /home/a/.cache/emu cannot be written")

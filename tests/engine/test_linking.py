"""Functions linked into entry points behave as numba's own: values, errors from deep inside, strangers beside them."""

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from probe_kit import probed

from emu.engine import compiled, linking

PROBE = """
def inner(x):
    if x > 3:
        raise ValueError("too much")
    assert x > -5, "too little"
    return x + 1


def middle(x):
    return inner(x) * 2


def one(x):
    return middle(x)


def another(x):
    return middle(x) + inner(x) + max(x, 2)
"""


@pytest.fixture
def probe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    with probed("linking_probe", PROBE, tmp_path, monkeypatch) as module:
        yield module


def outcomes(module: ModuleType) -> list[object]:
    engine = compiled.CompiledEngine()
    found: list[object] = []
    for name in ("one", "another"):
        run = engine.function(getattr(module, name))
        for x in (2, -4, 9, -9):
            try:
                found.append(run(x))
            except (ValueError, AssertionError) as error:
                found.append((type(error), error.args))
    return found


EXPECTED = [
    *(6, -6, (ValueError, ("too much",)), (AssertionError, ("too little",))),
    *(11, -7, (ValueError, ("too much",)), (AssertionError, ("too little",))),
]


def test_values_and_errors_are_those_of_the_functions(probe: ModuleType) -> None:
    assert outcomes(probe) == EXPECTED
    assert outcomes(probe) == EXPECTED, "and from the cache"


def test_the_plain_way_of_numba_gives_the_same(probe: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "possible", lambda: False)
    assert outcomes(probe) == EXPECTED


def test_this_numba_is_one_that_can_be_linked() -> None:
    assert linking.possible()


def test_numba_is_left_as_it_was(probe: ModuleType) -> None:
    import numba
    from numba.core.registry import cpu_target

    codegen = cpu_target.target_context.codegen()
    before = (codegen._library_class, codegen.set_env, numba.types.Record.__repr__)
    assert outcomes(probe) == EXPECTED
    assert (codegen._library_class, codegen.set_env, numba.types.Record.__repr__) == before

    @numba.njit  # type: ignore[untyped-decorator]
    def stranger(values: list[int]) -> int:
        return values[-1] + max(values[0], 2) + len(values)

    assert stranger(numba.typed.List([3, 1, 2])) == 2 + 3 + 3

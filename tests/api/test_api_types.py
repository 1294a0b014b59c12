"""What a type checker knows of the API: mypy reads this file with all others, and refuses an ignore that is not needed.

The calls that are wrong stand where they are not executed.
"""

import io
from collections.abc import Callable
from pathlib import Path
from typing import assert_type

import polars
import pytest
from api_kit import NOP

import emu


def right() -> None:
    """Types of what is returned."""
    result = emu.replay(
        NOP, io.BytesIO(), Path(NOP), policy="mainline", pps=1_000, settings={"a": {"b": 1}}, limit=None
    )
    assert_type(result, emu.ReplayResult)
    assert_type(result.delivered, int)
    assert_type(result.by_reason, dict[str, int])
    assert_type(result.memalloc.lost, float)
    assert_type(result.verdicts(), polars.DataFrame)
    assert_type(result.verdicts(lazy=True), polars.LazyFrame)
    crafted = emu.flood("udp", pps=100_000, ports=range(9000, 9016))
    assert_type(crafted, emu.Flood)
    assert_type(crafted.to_polars(), polars.DataFrame)
    emu.replay(NOP, crafted, flood=[crafted, "udp"], device={"eth0": crafted})
    comparison = emu.compare(b"...", policies=["mainline"], keep_verdicts=True)
    assert_type(comparison, emu.Comparison)
    assert_type(comparison["mainline"], emu.ReplayResult)
    assert_type(comparison.to_polars(), polars.DataFrame)


def wrong() -> None:
    """What a type checker refuses, as the functions themselves do."""
    emu.replay(NOP, polcy="mainline")  # type: ignore[call-arg]
    emu.replay(NOP, limit="3")  # type: ignore[arg-type]
    emu.replay(3)  # type: ignore[arg-type]
    emu.compare(NOP, policy="mainline")  # type: ignore[call-arg]
    emu.compare(NOP, policies=3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "call",
    [
        lambda: emu.replay(NOP, polcy="mainline"),  # type: ignore[call-arg]
        lambda: emu.replay(NOP, limit="3"),  # type: ignore[arg-type]
        lambda: emu.replay(3),  # type: ignore[arg-type]
        lambda: emu.compare(NOP, policies=3),  # type: ignore[arg-type]
    ],
)
def test_what_types_refuse_is_refused(call: Callable[[], object]) -> None:
    """Each is a TypeError at run time too."""
    with pytest.raises(TypeError):
        call()
    assert callable(right)

"""A closed loop a century on, with writers at the fastest rate: every number stays within 64 bits."""

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from int64_kit import Int64Engine
from loop_kit import conserved, run_of_tree

import emu.closed
import emu.world_of
from emu.kernel.closed_loop import Writer
from emu.kernel.machine import NEVER_NS, Machine
from emu.kernel.page_writeback import PAGE_BYTE_NS, WRITER_CREDIT_NS, writer_credit

CENTURY_NS = 3_155_760_000 * 10**9
FASTEST = 1 << 40  # bytes a second, as the scenario allows
WORLD: dict[str, Any] = {
    "policy": {"name": "phillips-v5"},
    "run": {"for": "2s", "sample": "20ms", "seed": 3, "stop_at_lockup": False},
    "device": [{"name": "eth0"}],
    "writer": [{"rate": FASTEST}, {"rate": 1}, {}],
    "session": [{"device": "eth0"}],
    "wire": [{"device": "eth0", "rate": FASTEST}],
}


@pytest.mark.parametrize("rate", [1, FASTEST])
def test_a_closed_loop_runs_a_century_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rate: int) -> None:
    modules: tuple[ModuleType, ...] = (emu.closed, emu.world_of)
    for module in modules:
        monkeypatch.setattr(module, "START_NS", CENTURY_NS)
    tree = WORLD | {"wire": [{"device": "eth0", "rate": rate}]}
    run = run_of_tree(tree, tmp_path, engine=Int64Engine())
    assert conserved(run, 1_500) > 100  # at 1 bit/s there is little to do
    assert int(run.machine.now_ns) > CENTURY_NS
    assert int(run.machine.vm.writer[0].pages_written) > 100


@given(
    st.integers(1, FASTEST),
    st.lists(st.integers(0, 2 * WRITER_CREDIT_NS), min_size=1, max_size=5),
    st.integers(0, CENTURY_NS),
)
def test_credit_is_exactly_what_the_rate_gives(rate: int, gaps_ns: list[int], start_ns: int) -> None:
    """Pages owed are time x rate / page, whatever is left over carried, in numbers that 64 bits hold."""
    engine = Int64Engine()
    m, writer = engine.new(Machine), engine.new(Writer)
    writer.bytes_per_s, writer.stop_ns, writer.credited_ns = rate, NEVER_NS, start_ns
    m.now_ns = start_ns
    exact = 0
    longest_ns = max(WRITER_CREDIT_NS, PAGE_BYTE_NS // rate + 1)
    for gap_ns in gaps_ns:
        m.now_ns += gap_ns
        writer.due_ns = m.now_ns
        writer_credit(m, writer)
        exact += min(gap_ns, longest_ns) * rate
        assert (int(writer.owed_pages), int(writer.owed_over)) == divmod(exact, PAGE_BYTE_NS)

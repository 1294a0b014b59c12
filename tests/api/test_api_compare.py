"""`emu.compare`: the same input under several policies, as a mapping."""

import gc
import io
import pickle
import signal
import tempfile
from pathlib import Path
from typing import Any

import polars
import pytest
from api_kit import LOGIN, MIXED, NOP, command, printed, without_run

import emu
from emu.errors import Exit
from emu.kernel.policy import POLICIES
from emu.play import Replay

TWO = ("mainline", "phillips-v5")


def without_runs(summary: dict[str, Any]) -> dict[str, Any]:
    """A comparison's summary without what differs from run to run."""
    return summary | {"policies": {name: without_run(each) for name, each in summary["policies"].items()}}


def test_a_comparison_is_the_command() -> None:
    """The summary is what --json prints, str() what the command prints."""
    words = ("compare", LOGIN, "--policies", ",".join(TWO), "--expect", "memalloc.dropped == 0")
    comparison = emu.compare(LOGIN, policies=TWO, expect="memalloc.dropped == 0")
    assert without_runs(comparison.summary) == without_runs(printed(*words))
    code, tables = command(*words)
    assert str(comparison) == tables
    assert comparison.exit_code == code == max(result.exit_code for result in comparison.values())
    assert comparison.ok == all(result.ok for result in comparison.values())


def test_a_comparison_is_a_mapping() -> None:
    """From policies to results, in the order asked for; each is what a replay under that policy says."""
    comparison = emu.compare(NOP)
    assert list(comparison) == list(POLICIES)
    assert len(comparison) == len(POLICIES)
    assert comparison["mainline"] is comparison.results["mainline"]
    for policy, result in comparison.items():
        assert without_run(result.summary) == without_run(emu.replay(NOP, policy=policy, keep_verdicts=False).summary)
    with pytest.raises(KeyError):
        comparison["mainlin"]
    assert list(emu.compare(NOP, policies=TWO[::-1])) == list(TWO[::-1])
    assert repr(emu.compare(NOP, policies=TWO)) == f"<Comparison of {NOP!r} under mainline, phillips-v5>"


def test_a_comparison_as_polars() -> None:
    """A row per policy; drops by policy and reason."""
    comparison = emu.compare(MIXED, policies=TWO, limit=2000)
    rows = comparison.to_polars()
    assert rows["policy"].to_list() == list(TWO)
    assert rows["dropped"].to_list() == [result.dropped for result in comparison.values()]
    dropped = comparison.reasons().group_by("policy").agg(polars.col("packets").sum())
    assert dict(dropped.iter_rows()) == {policy: result.dropped for policy, result in comparison.items()}
    html = comparison._repr_html_()
    assert "who survives" in html
    assert "mainline" in html


def test_verdicts_of_a_comparison(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kept when asked for, a log per policy; each is that of its replay; a pipe is read once for all."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    comparison = emu.compare(io.BytesIO(Path(NOP).read_bytes()), policies=TWO, keep_verdicts=True)
    for policy, result in comparison.items():
        assert result.verdicts().equals(emu.replay(NOP, policy=policy).verdicts())
    again = pickle.loads(pickle.dumps(comparison))
    assert again.summary == comparison.summary
    del comparison, result
    gc.collect()
    assert not list(tmp_path.iterdir())
    with pytest.raises(emu.UsageError, match="keep_verdicts=True"):
        emu.compare(NOP, policies="mainline")["mainline"].verdicts()


def test_a_policy_that_does_not_build() -> None:
    """It is told why, and has no result; when none builds, that is an error."""
    comparison = emu.compare(NOP, policies=("phillips-v2", "mainline"), as_posted=True)
    assert list(comparison) == ["mainline"]
    assert "does not compile" in comparison.not_built["phillips-v2"]
    assert "does not compile" in str(comparison)
    with pytest.raises(emu.UsageError, match="does not compile"):
        emu.compare(NOP, policies="phillips-v2", as_posted=True)


def test_an_interruption_ends_a_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was compared until then is with the exception."""
    play = Replay._play

    def interrupted(self: Replay, count: int) -> None:
        play(self, count)
        if self.task.scenario.policy.name == "phillips-v5":
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Replay, "_play", interrupted)
    with pytest.raises(emu.Interrupted) as caught:
        emu.compare(NOP, policies=("mainline", "phillips-v5", "reserve-only"))
    comparison = caught.value.result
    assert isinstance(comparison, emu.Comparison)
    assert {policy: result.exit_code for policy, result in comparison.items()} == {
        "mainline": Exit.DONE,
        "phillips-v5": Exit.INTERRUPTED,
    }


@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        ({"policies": "mainlin"}, emu.UsageError, "'mainlin' is not one of"),
        ({"policies": ()}, emu.UsageError, "expected different names"),
        ({"policies": 3}, TypeError, "policies=3: expected a text or several"),
        ({"policy": "mainline"}, TypeError, "'policy'; did you mean 'policies'?"),
        ({"write": "x"}, TypeError, "unexpected keyword argument 'write'"),
    ],
)
def test_what_cannot_be_compared(keywords: dict[str, Any], error: type[Exception], message: str) -> None:
    """One line each."""
    with pytest.raises(error, match=message):
        emu.compare(NOP, **keywords)

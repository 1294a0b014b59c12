"""When the kernel dies, and what happens to packets that had their verdict: summary, log, exit code, in any batches."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from replay_kit import PCAPS, Played, files_of, iscsi, json_rows, outputs_in, paced, pcap, played, rows_of, udp

from emu.engine import loop
from emu.errors import UsageError
from emu.kernel.bugs import BUG_UDP_LABEL, oops
from emu.kernel.drop_reason import AT_TCP_PRUNE_QUEUE, AT_UDP_RCV, POINTS, REASONS, TCP_OFO_QUEUE_PRUNE
from emu.task import Outputs
from emu.verdicts.expect import parse_expectation

FRAMES = 40
CAPTURE = pcap(paced([udp(), iscsi()] * (FRAMES // 2), gap_ns=3_000))
REASON = REASONS[TCP_OFO_QUEUE_PRUNE].name
QUIET = {"pressure.start": "quiet"}


@pytest.fixture
def patched(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Any, Any], bool]], None]:
    """Put something before each packet that the CPU takes; when it says so the packet is not taken."""
    real = loop.poll_one  # type: ignore[attr-defined]

    def patch(before: Callable[[Any, Any], bool]) -> None:
        def poll_one(m: Any, d: int, p: Any) -> None:
            if before(m, p):
                real(m, d, p)

        monkeypatch.setattr(loop, "poll_one", poll_one)

    return patch


def dies_at(frame: int) -> Callable[[Any, Any], bool]:
    def before(m: Any, p: Any) -> bool:
        if p.frame >= frame:
            oops(m, BUG_UDP_LABEL, AT_UDP_RCV)
        return not m.oops

    return before


def prunes(m: Any, p: Any) -> bool:
    """Every third packet makes two earlier ones of its kind go, as a pruned out-of-order queue does."""
    for frame in (p.frame - 2, p.frame - 1) if p.frame % 3 == 0 else ():
        event = m.later[m.later_len]
        event.after_frame = m.total.frames
        event.frame, event.dev, event.time_ns = frame, 0, m.now_ns
        event.reason, event.point = TCP_OFO_QUEUE_PRUNE, AT_TCP_PRUNE_QUEUE
        m.later_len += 1
        m.total.events_by_reason[TCP_OFO_QUEUE_PRUNE] += 1
    return True


def test_an_oops_ends_the_run(tmp_path: Path, patched: Any) -> None:
    """What waited dies, what follows is not played, and summary, log and screen say of what."""
    patched(dies_at(11))
    found = played(CAPTURE, settings=QUIET, outputs=outputs_in(tmp_path)).summary
    assert found["delivered"] == 10
    assert found["oops_bug"]["bug"] == BUG_UDP_LABEL
    assert found["oops_bug"]["point"] == POINTS[AT_UDP_RCV]
    frame = found["oops_bug"]["frame"]
    assert 11 <= frame < FRAMES
    assert found["oops"] == frame - 10
    assert found["not_played"] == FRAMES - frame
    assert found["frames"] == found["received"] + found["not_played"] == FRAMES
    assert found["incomplete"] is None
    assert any(f"died of bug {BUG_UDP_LABEL} " in finding for finding in found["findings"])
    rows = rows_of(tmp_path / "log.csv")
    assert [row["verdict"] for row in rows] == ["delivered"] * 10 + ["oops"] * (frame - 10)
    assert {row["point"] for row in rows[10:]} == {POINTS[AT_UDP_RCV]}


def test_an_oops_is_the_same_in_any_batches(tmp_path: Path, patched: Any) -> None:
    patched(dies_at(11))
    expected = None
    for batch in (1, 3, 4096):
        folder = tmp_path / str(batch)
        folder.mkdir()
        result = played(CAPTURE, settings=QUIET, outputs=outputs_in(folder), batch=batch).result
        expected = expected or (result, files_of(folder))
        assert (result, files_of(folder)) == expected


def test_without_an_oops_there_is_none() -> None:
    assert played(CAPTURE, settings=QUIET).summary["oops_bug"] is None


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ((), 1),
        (("--expect", "oops > 0"), 0),
        (("--expect", "oops_bug.bug == 11"), 0),
        (("--expect", "oops_bug.bug == 12"), 1),
        (("--expect", "frames == 41"), 1),
    ],
)
def test_an_oops_that_nobody_asked_for_is_a_failure(
    options: tuple[str, ...], code: int, patched: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 1, unless an expectation speaks of it and holds."""
    from emu.cli.options import ReplayCommand
    from emu.cli.replay import run_replay

    patched(dies_at(20))
    expect = list(options[1::2])
    assert run_replay(ReplayCommand(capture=[str(PCAPS / "nop.pcap")], expect=expect)) == code
    assert f"died of bug {BUG_UDP_LABEL} " in capsys.readouterr().out.replace("\n", " ")


def test_expectations_of_an_oops_without_one() -> None:
    """What is said of an oops that did not happen is null: equal to nothing, neither less nor more."""
    from emu.verdicts.expect import judge

    summary = played(CAPTURE, settings=QUIET).summary
    for text, holds in (("oops_bug.bug == 1", False), ("oops_bug.bug < 99", False), ("oops_bug == null", True)):
        assert judge(parse_expectation(text), summary).holds == holds


def test_events_stand_behind_the_frame_that_caused_them(tmp_path: Path, patched: Any) -> None:
    """A row of verdict event has the number of its packet, whose own row stays; both kinds of log have it."""
    patched(prunes)
    outcome = played(CAPTURE, settings=QUIET, outputs=Outputs(log=str(tmp_path / "all.jsonl")))
    rows = json_rows(tmp_path / "all.jsonl")
    events = [row for row in rows if row["verdict"] == "event"]
    assert outcome.summary["events_by_reason"] == {REASON: len(events)}
    assert len(events) == 2 * (FRAMES // 3)
    assert {(row["reason"], row["flow"], row["socket"]) for row in events} == {(REASON, "", "")}
    assert [row["frame"] for row in rows if row["verdict"] != "event"] == list(range(1, FRAMES + 1))
    assert outcome.summary["delivered"] == FRAMES
    for at, row in enumerate(rows):
        if row["verdict"] == "event":
            assert row["frame"] in {earlier["frame"] for earlier in rows[:at]}
            before = [earlier["time_ns"] for earlier in rows[:at]]
            assert row["time_ns"] >= max(before)
    played(CAPTURE, settings=QUIET, outputs=Outputs(log=str(tmp_path / "drops.jsonl"), log_rows="drops"))
    assert json_rows(tmp_path / "drops.jsonl") == events


def test_events_are_shown_to_people(patched: Any, capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    from emu.verdicts.screen import show_summary

    patched(prunes)
    show_summary(Console(width=120), played(CAPTURE, settings=QUIET).summary)
    assert "Later: packets that had been accepted" in (shown := capsys.readouterr().out)
    assert REASON in shown


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_the_order_of_events_does_not_depend_on_batches(tmp_path: Path, patched: Any, suffix: str) -> None:
    patched(prunes)
    written = set()
    for batch in (1, 2, 5, 13, 4096):
        log = tmp_path / f"{batch}{suffix}"
        played(CAPTURE, settings=QUIET, outputs=Outputs(log=str(log)), batch=batch)
        written.add(log.read_bytes())
    assert len(written) == 1


def refused(tmp_path: Path, said: str, **how: Any) -> None:
    with pytest.raises(UsageError, match=said):
        played(CAPTURE, outputs=outputs_in(tmp_path), **how)


@pytest.mark.parametrize("text", ["dropped == 0", "drops_by_reason.PFMEMALLOC == 0", "devices.eth0.polls > 0"])
def test_an_expectation_is_looked_up_before_the_run(tmp_path: Path, text: str) -> None:
    """One that the summary can never answer leaves no output behind, not even an unfinished one."""
    assert isinstance(played(CAPTURE, expectations=(parse_expectation(text),)), Played)
    path = text.split(" ")[0]
    refused(tmp_path, f"the summary has no '{path}x'", expectations=(parse_expectation(f"{path}x == 0"),))
    refused(tmp_path, "cannot be compared so", expectations=(parse_expectation(f"{path} < 'x'"),))
    assert list(tmp_path.iterdir()) == []


def test_a_recording_of_another_scenario_is_refused(tmp_path: Path) -> None:
    """The header's checksum must be this scenario's; a recording that names none is taken as it is."""
    played(CAPTURE, outputs=outputs_in(tmp_path, record=True))
    events = tmp_path / "events.jsonl"
    folder = tmp_path / "again"
    folder.mkdir()
    refused(folder, "recorded under another scenario", policy="mainline", events=str(events))
    assert list(folder.iterdir()) == []
    lines = events.read_text().splitlines(keepends=True)
    header = json.loads(lines[0])
    del header["scenario_sha256"]
    events.write_text("".join([json.dumps(header) + "\n", *lines[1:]]))
    played(CAPTURE, policy="mainline", events=str(events))

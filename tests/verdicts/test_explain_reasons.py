"""`emu explain` and `emu policies` say what the tables say."""

import io
import json
from collections.abc import Callable

import pytest
from rich.console import Console
from syrupy.assertion import SnapshotAssertion

from emu.cli.explain import explain, show_explanation
from emu.cli.policies import policies, show_overview, show_policies
from emu.errors import UsageError
from emu.kernel import drop_reason as dr
from emu.kernel.bugs import bugs_of
from emu.kernel.policy import DEFAULT_POLICY, POLICIES, QUESTIONS, answer
from emu.verdicts.explain import explain_reason
from emu.verdicts.reason_words import words_of

REASONS = [reason for reason in dr.REASONS if reason.number != dr.NO_REASON]


def shown(show: Callable[[Console], None], width: int) -> str:
    screen = Console(file=io.StringIO(), width=width)
    show(screen)
    assert isinstance(screen.file, io.StringIO)
    lines = [line.rstrip() for line in screen.file.getvalue().splitlines()]
    assert max(map(len, lines)) <= width
    return "\n".join(lines)


@pytest.mark.parametrize("reason", REASONS, ids=lambda reason: reason.name)
def test_every_reason_is_explained(reason: dr.Reason, capsys: pytest.CaptureFixture[str]) -> None:
    explanation = explain_reason(f"skb_drop_reason_{reason.name.lower()}")
    assert explanation.name == reason.name and explanation.policies
    text = shown(lambda console: show_explanation(console, explanation), 400)
    words = [text for case in words_of(reason.number) for text in (case.needed, case.had, case.saved)]
    for said in (reason.sentence, reason.point, reason.source, *words):
        assert said in text
    assert explain(reason.name, True) == 0
    assert json.loads(capsys.readouterr().out)["sentence"] == reason.sentence
    assert explain(reason.name, False) == 0
    assert reason.name in capsys.readouterr().out


def test_policies_come_from_the_rules() -> None:
    for row in POLICIES.values():
        checks = [rule for rule, value in row.rules.items() if rule.startswith("check_") and value]
        said = {producer.name: producer for producer in explain_reason("PFMEMALLOC").policies}
        assert (row.name in said) == bool(checks)
        if checks:
            assert [rule.field for rule in said[row.name].rules] == checks
    missed = explain_reason("RX_MISSED")
    assert [producer.name for producer in missed.policies] == list(POLICIES)
    assert [cause.name for cause in missed.causes] == ["DEVICE_CAP", "NOMEM", "CPU_BUSY"]
    capped = [name for name, row in POLICIES.items() if row.rules["caps_reserve"]]
    assert [producer.name for producer in missed.causes[0].policies] == capped


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("PFMEMALOC", "did you mean PFMEMALLOC?"),
        ("socket-rcvbuf", "did you mean SOCKET_RCVBUFF"),
        ("DEVICE-CUP", "did you mean DEVICE_CAP or"),
        ("bug", "or bug N"),
        ("", "expected one of RX_MISSED, "),
        ("[/red]", "expected one of RX_MISSED, "),
    ],
)
def test_unknown_word_gets_a_hint(word: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        explain_reason(word)
    assert hint in str(caught.value) and "\n" not in str(caught.value)


def test_causes_are_explained(capsys: pytest.CaptureFixture[str]) -> None:
    """A cause that is no reason is explained alone; NOMEM, which is both, as both."""
    assert explain("device-cap", True) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["name"], said["reasons"]) == ("DEVICE_CAP", ["RX_MISSED", "NOMEM"])
    assert said["policies"] == [name for name, row in POLICIES.items() if row.rules["caps_reserve"]]
    assert explain("NOMEM", True) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["name"], said["as_cause"]["name"]) == ("NOMEM", "NOMEM")
    for word in ("CPU_BUSY", "NOMEM"):
        assert explain(word, False) == 0
        assert f"{word} (a cause: column `cause` behind RX_MISSED" in capsys.readouterr().out


@pytest.mark.parametrize("words", ["bug 11", "bug:11", "Bug #11", "bugs 11"])
def test_a_bug_is_explained_by_its_number(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert explain(words, False) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert said.startswith("bug 11 of phillips-v4-v6: UDP's drop label")
    assert "emu replay pcaps/bugs/crowd.pcap --scenario pcaps/bugs/11-udp-label.toml" in said


def test_a_bug_that_there_is_not() -> None:
    with pytest.raises(UsageError, match="they go from 1 to 15"):
        explain("bug 16", False)


@pytest.mark.parametrize("name", ["PFMEMALLOC", "RX_MISSED"])
def test_explanation_on_screen(name: str, snapshot: SnapshotAssertion) -> None:
    assert shown(lambda console: show_explanation(console, explain_reason(name)), 100) == snapshot


def sentences(console: Console) -> None:
    """All policies in whole sentences."""
    show_policies(console, list(POLICIES.values()))


@pytest.mark.parametrize("width", [80, 110])
def test_policies_on_screen(width: int, snapshot: SnapshotAssertion) -> None:
    assert shown(show_overview, width) == snapshot


def test_all_policies_stand_side_by_side_on_110_columns() -> None:
    (header,) = [line for line in shown(show_overview, 110).splitlines() if line.count("phillips") > 1]
    assert header.split() == [name.split("-")[0] for name in POLICIES if "-" in name]


def test_some_policies_in_sentences(snapshot: SnapshotAssertion) -> None:
    rows = [POLICIES["phillips-v5"], POLICIES["mainline"]]
    assert shown(lambda console: show_policies(console, rows), 110) == snapshot


@pytest.mark.parametrize("width", [50, 60, 80, 100, 120, 160])
def test_nothing_is_cut_off(width: int) -> None:
    words = shown(sentences, width).split()
    for row in POLICIES.values():
        for question in QUESTIONS:
            assert set(answer(question, row.rules[question.field]).split()) <= set(words)
            assert set(question.asks.split()) <= set(words)


def test_policies_on_a_narrow_screen_get_tables_of_their_own() -> None:
    text = shown(sentences, 60)
    assert text.count(QUESTIONS[0].asks.split()[0] + " a receive buffer") > 1


def test_policies_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert policies([], True) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["default"] == DEFAULT_POLICY
    assert {row["name"]: {rule["field"]: rule["value"] for rule in row["rules"]} for row in said["policies"]} == {
        name: row.rules for name, row in POLICIES.items()
    }
    assert {row["name"]: tuple(row["bugs"]) for row in said["policies"]} == {name: bugs_of(name) for name in POLICIES}
    assert policies([], False) == 0
    assert DEFAULT_POLICY in capsys.readouterr().out
    assert policies(["mainline"], True) == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out)["policies"]] == ["mainline"]
    with pytest.raises(UsageError, match="'linux-9' is not one of linux-"):
        policies(["linux-9"], False)

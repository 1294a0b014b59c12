"""A row of the log in words: for every reason, whatever its row says or leaves out, and true to its numbers."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from log_kit import DEVICES, PACKET
from syrupy.assertion import SnapshotAssertion

from emu.kernel import drop_reason as dr
from emu.kernel import policy
from emu.kernel.machine import Packet
from emu.verdicts.explain import AN_EVENT, NOT_TOLD, explain_row
from emu.verdicts.reason_words import WORDS, Words, causes_of
from emu.verdicts.schema import COLUMNS, FLAG, INT, NAMES, UINT, row_values
from emu.wire.headers import KIND_TCP

NUMBERS = {column.name for column in COLUMNS if column.type in (INT, UINT, FLAG)}


def a_row(**changed: int) -> dict[str, Any]:
    """A dropped segment's row: the numbers of a crunch, but for what is changed."""
    packet = Packet()
    fields = {"verdict": dr.DROPPED, "kind": KIND_TCP, "saddr": 0x0A420001, "daddr": 0x0A420002, "sport": 3260}
    fields |= {"dport": 48122, "ip_version": 4, "ip_protocol": 6, "length": 1514, "sk": 0, "free_pages": 47}
    fields |= {"floor_pages": 137, "reserve_used_before": 49, "cap_skbs": 50, "backlog_len": 301, "vlan_outer": 100}
    for field, value in (fields | changed).items():
        setattr(packet, field, value)
    return row_values(packet, ["eth0"])


def conditions_of(words: Words) -> dict[str, int]:
    """Fields of a row that these words speak for."""
    found = {"reason": words.reason}
    for field, values in (("cause", words.causes), ("rule", words.rules), ("point", words.points)):
        if values:
            found[field] = values[0]
    return found


@pytest.mark.parametrize("words", WORDS, ids=lambda words: dr.REASONS[words.reason].name)
def test_every_line_of_the_table_is_said_of_some_row(words: Words, snapshot: SnapshotAssertion) -> None:
    """No line hides behind an earlier one; what each says of a row was read by a person."""
    row = a_row(**conditions_of(words))
    assert next(other for other in WORDS if other.reason == words.reason and other.speak_for(row)) is words
    explained = explain_row(row)
    text = f"{explained.line}; saved by {explained.saved}"
    for column in NUMBERS:
        if f"{{{column}}}" in words.had:
            assert re.search(rf"\b{row[column]}\b", explained.had), column
    assert text == snapshot


@given(fields=PACKET, blank=st.sets(st.sampled_from(NAMES)), reason=st.sampled_from(dr.REASONS[1:]))
def test_whatever_a_row_says_it_is_explained(fields: dict[str, int], blank: set[str], reason: dr.Reason) -> None:
    packet = Packet()
    for field, value in (fields | {"verdict": dr.DROPPED, "reason": reason.number}).items():
        setattr(packet, field, value)
    row: dict[str, Any] = row_values(packet, DEVICES)
    row |= dict.fromkeys(blank - {"reason", "verdict"})
    explained = explain_row(row)
    assert explained.needed and explained.had and explained.saved
    assert explained.rule == (row["policy_rule"] or "")
    for text in (explained.needed, explained.had, explained.saved):
        assert not re.search(r"[{}]|None|  |\s$|^\s|\.$", text), text
    words = next(words for words in WORDS if words.reason == reason.number and words.speak_for(row))
    for column in NUMBERS:
        if f"{column} {{{column}}}" in words.had:
            told = NOT_TOLD if row[column] is None else str(row[column])
            assert f"{column} {told}" in explained.had


@given(reason=st.sampled_from(dr.REASONS[1:]), point=st.integers(0, len(dr.POINTS) - 1))
def test_an_event_is_explained_without_the_zeros_of_its_row(reason: dr.Reason, point: int) -> None:
    packet = Packet()
    packet.verdict, packet.reason, packet.point, packet.frame = dr.LATER, reason.number, point, 4711
    explained = explain_row(row_values(packet, ["eth0"]))
    assert explained.needed and explained.had
    said = f"{explained.needed} {explained.had} {explained.saved}".replace("a malformed one", "")
    assert not re.search(r"\b0\b|malformed", said)
    if reason.number in (dr.RX_MISSED, dr.CPU_BACKLOG):
        assert explained.had == AN_EVENT


@pytest.mark.parametrize(
    ("verdict", "point", "line"),
    [
        (dr.DELIVERED, dr.AT_TCP_DATA_QUEUE, "delivered, at tcp_data_queue"),
        (dr.IN_FLIGHT, 0, "in flight: it waited in the ring or in the CPU's queue when the run ended"),
        (dr.OOPS, dr.AT_CACHE_GROW, "lost in the kernel's oops, at cache_grow"),
        (dr.LATER, dr.AT_TCP_DATA_QUEUE, "it was lost, came again, and was not dropped, at tcp_data_queue"),
    ],
)
def test_row_that_was_not_dropped(verdict: int, point: int, line: str) -> None:
    explained = explain_row(a_row(verdict=verdict, point=point))
    assert (explained.line, explained.needed) == (line, "")


def test_what_the_file_does_not_tell() -> None:
    """A survivor of a capture has no comment; a reason that is missing is not guessed."""
    untold = dict.fromkeys(NAMES)
    assert "its comments are gone" in explain_row(untold).line
    assert "--annotate all" in explain_row(untold | {"reason": ""}).line
    assert explain_row(untold | {"verdict": "dropped"}).line == "dropped, and the file does not say why"
    missed = explain_row(untold | {"verdict": "dropped", "reason": "RX_MISSED"})
    assert missed.had == (
        "ring_free not told: reserve_used_before not told of cap_skbs not told; free_pages not told of its zone, of "
        "which GFP_ATOMIC gets one only above not told"
    )


def test_causes_stand_behind_the_reasons_that_speak_of_them() -> None:
    assert causes_of(dr.RX_MISSED) == (dr.DEVICE_CAP, dr.NOMEM, dr.CPU_BUSY)
    assert causes_of(dr.NO_MEMORY) == (dr.DEVICE_CAP, dr.NOMEM)
    assert causes_of(dr.PFMEMALLOC) == ()


def test_every_rule_that_refuses_has_words_of_its_own() -> None:
    """The fallback is for files that do not tell the rule."""
    said = {rule for words in WORDS for rule in words.rules}
    assert set(range(1, len(policy.RULES))) - said == {policy.RULE_CAP}  # which the cause DEVICE_CAP tells

"""The plugin under Lua 5.2 and 5.4, outside of Wireshark: the same comments add the same to the tree."""

from pathlib import Path

from external_tools import run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plugin_kit import PLUGIN

from emu.wireshark.plugin import fields

STUB = Path(__file__).with_name("wireshark_stub.lua")
LUAS = ("lua5.2", "lua5.4")

VALUE = st.sampled_from(["0", "1", "-1", "dropped", "", "9" * 19, "9" * 40, "-9223372036854775808", "1e3", "0x10"])
KEY = st.sampled_from([field.key for field in fields()] + ["newer", "%d", "emu"])
WORD = st.builds("{}={}".format, KEY, VALUE | st.integers(-(1 << 65), 1 << 65).map(str))
RUBBISH = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=30)
STORY = st.lists(WORD | RUBBISH, max_size=12).map(lambda words: "emu verdict=dropped " + " ".join(words))


def added(lua: str, folder: Path, comments: list[str]) -> list[list[str]]:
    """What the plugin adds: number of the frame, field, value."""
    given = folder / "comments"
    given.write_text("".join(line + "\n" for line in comments), encoding="utf-8")
    return [line.split("\t") for line in run(lua, STUB, PLUGIN, given).splitlines()]


STORY_OF_ALL_KINDS = (
    "emu verdict=dropped reason=PFMEMALLOC class=tcp rule=tcp:_device_in_reserve memalloc=1 has_socket=1"
    " free_pages=-3 time_ns=1795373690403277001 waited_ns=1000000007 culprit=1 newer=7"
)


def test_both_add_what_a_comment_says(tmp_path: Path) -> None:
    comments = [
        "",
        STORY_OF_ALL_KINDS,
        "",
        "NOT PLAYED",
        "emu is what I call this one",
    ]
    wanted = [
        ["2", "emu.drop", "Dropped: PFMEMALLOC"],
        ["2", "info", " [DROP PFMEMALLOC]"],
        ["2", "text", ": dropped"],
        ["2", "emu.verdict", "dropped"],
        ["2", "emu.reason", "PFMEMALLOC"],
        ["2", "emu.rule", "tcp: device in reserve"],
        ["2", "emu.class", "tcp"],
        ["2", "emu.memalloc", "true"],
        ["2", "emu.has_socket", "true"],
        ["2", "emu.free_pages", "-3"],
        ["2", "emu.time", "1795373690:403277001"],
        ["2", "emu.waited", "1:000000007"],
        ["2", "emu.culprit_id", "0/1"],
        ["2", "emu.extra", "newer=7"],
        ["2", "emu.dropped", "true"],
        ["2", "emu.socket", "tcp 10.0.0.2:40000"],
        ["2", "emu.culprit", "1"],
        ["3", "emu.retransmission_of", "2"],
        ["4", "emu.not_played", "Not played, the kernel was dead"],
        ["4", "info", " [NOT PLAYED]"],
        ["4", "text", ": not_played"],
        ["4", "emu.verdict", "not_played"],
        ["4", "emu.dropped", "false"],
    ]
    for lua in LUAS:
        assert added(lua, tmp_path, comments) == wanted


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(STORY | RUBBISH, min_size=1, max_size=40))
def test_both_add_the_same_of_any_comment(tmp_path: Path, comments: list[str]) -> None:
    first, second = (added(lua, tmp_path, comments) for lua in LUAS)
    assert first == second

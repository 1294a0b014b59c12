"""The fields of the plugin are the log's columns: in the file as it was written, and as other tools hand it on."""

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from external_tools import run
from plugin_kit import FRAMES, PLUGIN, Run, expected, frames, replayed, tshark, values

from emu.wireshark.plugin import fields, plugin_text

NAMES = [field.field for field in fields()]
TRUE = {"1": True, "True": True, "0": False, "False": False}


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Every frame has a comment."""
    return replayed(tmp_path_factory, "all")


@pytest.fixture(scope="module")
def drops(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Dropped frames have a comment."""
    return replayed(tmp_path_factory, "drops")


def dropped(log: dict[int, dict[str, Any]], **wanted: Any) -> list[int]:
    return [
        number
        for number, row in log.items()
        if row["verdict"] == "dropped" and all(row[name] == value for name, value in wanted.items())
    ]


def typed(kind: str, text: str) -> Any:
    """A field as tshark prints it, as the log has it."""
    if kind == "flag":
        return TRUE[text]
    if kind in ("number", "id"):
        return int(text)
    if kind == "span":
        seconds, _, nanoseconds = text.partition(".")
        return int(seconds) * 1_000_000_000 + int(nanoseconds)
    if kind == "moment":
        moment, _, rest = text.partition(".")
        utc = datetime.strptime(moment, "%b %d, %Y %H:%M:%S").replace(tzinfo=UTC)
        return int(utc.timestamp()) * 1_000_000_000 + int(rest.split()[0])
    return text


def test_the_shipped_file_is_what_the_tables_give() -> None:
    assert PLUGIN.read_text(encoding="utf-8") == plugin_text()


def test_every_typed_field_is_the_logs(everything: Run) -> None:
    seen = 0
    for number, *texts in values(everything.capture, "frame.number", *NAMES):
        row = everything.log.get(int(number))
        if row is None:
            assert texts[0] == "not_received"
            continue
        for field, text in zip(fields(), texts, strict=True):
            wanted = expected(field.key, row)
            if field.kind == "text":
                assert text == wanted, (number, field)
            else:
                assert typed(field.kind, text) == wanted, (number, field)
        seen += 1
    assert seen == len(everything.log) > FRAMES // 2


def test_what_follows_from_a_comment_is_the_logs(everything: Run) -> None:
    for number, flag, socket, culprit in values(
        everything.capture, "frame.number", "emu.dropped", "emu.socket", "emu.culprit"
    ):
        row = everything.log.get(int(number), {"verdict": "", "socket": "", "culprit_frame": 0})
        assert TRUE[flag] == (row["verdict"] == "dropped")
        assert socket == row["socket"]
        assert int(culprit or 0) == row["culprit_frame"]


def test_a_survivor_without_comment_has_no_fields(drops: Run) -> None:
    assert frames(drops.capture, "emu") == dropped(drops.log)


@pytest.mark.parametrize(
    ("display_filter", "wanted"),
    [
        ('emu.verdict == "dropped"', {}),
        ('emu.reason == "PFMEMALLOC"', {"reason": "PFMEMALLOC"}),
        ('emu.cause == "NOMEM"', {"cause": "NOMEM"}),
        ('emu.rule == "udp: device in reserve"', {"policy_rule": "udp: device in reserve"}),
        ('emu.dropped == 1 && emu.class == "tcp"', {"class": "tcp"}),
        ("emu.dropped == 1 && emu.memalloc == 1", {"memalloc": 1}),
    ],
)
def test_filters_find_what_the_log_says(drops: Run, display_filter: str, wanted: dict[str, Any]) -> None:
    assert frames(drops.capture, display_filter) == dropped(drops.log, **wanted) != []


def test_the_filter_of_the_readme_compares_numbers(drops: Run) -> None:
    wanted = [n for n in dropped(drops.log, reason="PFMEMALLOC") if drops.log[n]["reserve_used_before"] > 40]
    assert frames(drops.capture, 'emu.reason == "PFMEMALLOC" && emu.reserve_used > 40') == wanted != []


def test_expert_items_count_drops_by_reason(drops: Run) -> None:
    found = {}
    for line in tshark("-r", drops.capture, "-q", "-z", "expert,warn").splitlines():
        if " EMU " in line:
            count, _, _, text = line.split(maxsplit=3)
            found[text] = int(count)
    reasons = Counter(drops.log[number]["reason"] for number in dropped(drops.log))
    assert found == {f"Dropped: {reason}": count for reason, count in reasons.items()}


def test_the_info_column_ends_with_the_reason(drops: Run) -> None:
    lines = tshark("-r", drops.capture).splitlines()
    marked = {int(line.split()[0]): line.rsplit("[DROP ", 1)[1] for line in lines if "[DROP " in line}
    assert marked == {number: drops.log[number]["reason"] + "]" for number in dropped(drops.log)}


def test_numbers_can_be_drawn(everything: Run) -> None:
    received = everything.log.values()
    columns = (
        ("MAX(emu.reserve_used)emu.reserve_used", max(row["reserve_used_before"] for row in received)),
        ('MIN(emu.free_pages)emu.free_pages && emu.verdict != "not_received"', min(r["free_pages"] for r in received)),
        ("SUM(emu.ring_free)emu.ring_free && emu.dropped == 1", sum(r["ring_free"] for r in received if r["reason"])),
    )
    text = tshark("-r", everything.capture, "-q", "-z", "io,stat,0," + ",".join(name for name, _ in columns))
    (line,) = [line for line in text.splitlines() if "<>" in line]
    assert [int(word) for word in line.split("|")[2:5]] == [value for _, value in columns]


def counted(text: str) -> dict[str, dict[str, int]]:
    """The table of drops as it was printed."""
    groups: dict[str, dict[str, int]] = {}
    for line in text.splitlines()[1:]:
        if line.startswith("by "):
            groups[line[3:-1]] = {}
            continue
        count, name = line.split(maxsplit=1)
        groups[list(groups)[-1]][name] = int(count)
    return groups


def test_the_table_of_drops_has_the_logs_sums(drops: Run) -> None:
    text = tshark("-X", "lua_script1:drops", "-q", "-r", drops.capture)
    rows = [drops.log[number] for number in dropped(drops.log)]
    assert text.startswith(f"emu: {len(rows)} frames dropped\n")
    assert counted(text) == {name: dict(Counter(row[name] for row in rows)) for name in ("reason", "class", "flow")}


def test_the_table_is_printed_once_and_only_when_asked_for(drops: Run) -> None:
    assert tshark("-q", "-r", drops.capture) == ""
    asked = ("-o", "emu.drops:TRUE", "-X", "lua_script1:drops", "-X", f"lua_script:{PLUGIN}", "-X", "lua_script2:drops")
    assert tshark(*asked, "-q", "-r", drops.capture).count("by reason:") == 1


def test_a_plugin_loaded_twice_is_one(drops: Run) -> None:
    twice = ("-X", f"lua_script:{PLUGIN}")
    assert frames(drops.capture, "emu.dropped == 1", *twice) == dropped(drops.log)


@pytest.mark.parametrize("by", ["editcap", "mergecap", "tshark"])
def test_files_that_other_tools_wrote_filter_the_same(by: str, drops: Run, tmp_path: Path) -> None:
    written = tmp_path / "written.pcapng"
    if by == "editcap":
        run("editcap", drops.capture, written)
    elif by == "mergecap":
        run("mergecap", "-w", written, drops.capture)
    else:
        run("tshark", "-r", drops.capture, "-w", written)
    wanted = dropped(drops.log, reason="PFMEMALLOC")
    assert frames(written, 'emu.reason == "PFMEMALLOC"') == wanted
    culprits = values(written, "frame.number", "emu.culprit", options=("-Y", "emu.culprit"))
    assert culprits == [[str(n), str(row["culprit_frame"])] for n, row in drops.log.items() if row["culprit_frame"]]

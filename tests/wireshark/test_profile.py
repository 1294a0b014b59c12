"""The profile, judged by the installed tshark: every colour, button, graph and column, and not a word on stderr."""

import json
import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from external_tools import run
from wireshark_home import MIXED, emu_at, environment_of, installed, replayed, tshark

from emu.kernel.drop_reason import REASONS
from emu.wireshark.profile import (
    COLUMNS,
    MAIN_REASONS,
    PROFILE,
    buttons,
    graphs,
    profile_files,
    rgb16,
    rules,
    text_on,
)

COLOURS = ("-C", PROFILE, "--color", "-T", "fields", "-e", "frame.coloring_rule.name")
CROWDED = ("--set", "readers.ordinary=never", "--set", "readers.udp_rcvbuf=2000")
BURST = ("--flood", "udp:pps=1M,count=600,size=64", "--limit", "2000")
UNKNOWN = ("--flood", "other-ethertype:pps=2k,count=100")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A user who has the profile, and not the plugin."""
    return installed(tmp_path_factory.mktemp("home"), "profile")


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run that drops for many reasons."""
    return replayed(tmp_path_factory.mktemp("mixed"), "mixed", *CROWDED, *BURST, *UNKNOWN)


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run in which a bug of the patch kills the kernel."""
    return replayed(tmp_path_factory.mktemp("killed"), "killed", "--as-posted=1", "--limit", "200")


def expected_rule(row: dict[str, Any]) -> str:
    """The colour rule that a row of the log asks for."""
    if row["verdict"] == "dropped":
        main = [REASONS[reason].name for reason in MAIN_REASONS]
        return f"emu drop {row['reason']}" if row["reason"] in main else "emu drop, other reasons"
    return "emu oops" if row["verdict"] == "oops" else "emu survived"


def rules_of(capture: Path, log: Path, frames: int) -> list[str]:
    """The rule of each frame of the capture; the log has what was received, so not what the host sent, or too late."""
    rows = [row for row in rows_of(log) if row["verdict"] != "event"]
    end = min((row["frame"] for row in rows if row["verdict"] == "oops"), default=frames)
    expected = ["emu survived"] * end + ["emu not played"] * (frames - end)
    for row in rows:
        expected[row["frame"] - 1] = expected_rule(row)
    return expected


def rows_of(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines()]


def test_every_frame_has_the_colour_of_its_verdict(
    home: dict[str, str], mixed: tuple[Path, Path], killed: tuple[Path, Path]
) -> None:
    seen: Counter[str] = Counter()
    for capture, log in (mixed, killed):
        named, complaints = tshark(home, *COLOURS, "-r", capture)
        assert complaints == []
        assert named == rules_of(capture, log, len(named)), capture
        seen.update(named)
    assert set(seen) == {rule.name for rule in rules()}, "every rule was needed"


def test_files_that_other_tools_have_written_keep_their_colours(
    home: dict[str, str], mixed: tuple[Path, Path], killed: tuple[Path, Path], tmp_path: Path
) -> None:
    counted: Counter[str] = Counter()
    for capture, _ in (mixed, killed):
        counted.update(tshark(home, *COLOURS, "-r", capture)[0])
    run("mergecap", "-w", tmp_path / "both.pcapng", mixed[0], killed[0])
    run("editcap", tmp_path / "both.pcapng", tmp_path / "edited.pcapng")
    run("tshark", "-r", tmp_path / "edited.pcapng", "-w", tmp_path / "again.pcapng")
    for name in ("both", "edited", "again"):
        named, complaints = tshark(home, *COLOURS, "-r", tmp_path / f"{name}.pcapng")
        assert (Counter(named), complaints) == (counted, []), name


def test_a_capture_of_somebody_else_stays_as_it_is(home: dict[str, str]) -> None:
    assert tshark(home, *COLOURS, "-r", MIXED, "-c", "300") == ([""] * 300, [])


@pytest.mark.parametrize("broken", ["@bad@emu.nosuch == 1@[0,0,0][1,1,1]", "@bad@frame.comment ==@[0,0,0][1,1,1]"])
def test_a_broken_colour_rule_is_noticed(tmp_path: Path, mixed: tuple[Path, Path], broken: str) -> None:
    home = installed(tmp_path, "profile")
    rule_file = tmp_path / ".config/wireshark/profiles" / PROFILE / "colorfilters"
    rule_file.write_text(f"{rule_file.read_text()}{broken}\n")
    assert tshark(home, *COLOURS, "-c", "1", "-r", mixed[0])[1] != []


def test_the_profile_that_is_not_installed_is_noticed(tmp_path: Path, mixed: tuple[Path, Path]) -> None:
    assert tshark(environment_of(tmp_path), "-C", PROFILE, "-r", mixed[0])[1] != []


def table_of(text: str) -> Iterator[list[str]]:
    r"""The rows of one of Wireshark's tables, `\x22` taken for what it is (epan/uat_load.l, uat_undquote)."""
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        assert re.fullmatch(r'"(?:[^"\\]|\\x[0-9a-f]{2})*"(?:,"(?:[^"\\]|\\x[0-9a-f]{2})*")*', line), line
        values = [value[1:-1] for value in re.findall(r'"[^"]*"', line)]
        yield [re.sub(r"\\x(..)", lambda found: chr(int(found[1], 16)), value) for value in values]


def filters_of(name: str, column: int) -> dict[str, str]:
    """The filters of one of the profile's tables, as Wireshark will read them, by their second column."""
    return {row[1]: row[column] for row in table_of(profile_files()[name])}


def test_tables_say_what_they_were_made_of() -> None:
    assert filters_of("dfilter_buttons", 2) == {button.label: button.filter for button in buttons()}
    assert filters_of("io_graphs", 2) == {graph.name: graph.filter for graph in graphs()}
    assert {reason.name for reason in REASONS[1:]} <= {button.label.split("//")[-1] for button in buttons()}


def test_buttons_and_graphs_find_the_frames_of_the_log(
    home: dict[str, str], mixed: tuple[Path, Path], killed: tuple[Path, Path]
) -> None:
    for capture, log in (mixed, killed):
        wanted = filters_of("dfilter_buttons", 2) | filters_of("io_graphs", 2)
        counted = frames_by_filter(home, capture, list(wanted.values()))
        coloured = Counter(rules_of(capture, log, counted[""]))
        rows = [row for row in rows_of(log) if row["verdict"] in ("dropped", "oops")]
        expected = Counter(row["reason"] for row in rows)
        expected["Survived"] = coloured["emu survived"]
        expected["Lost"] = counted[""] - coloured["emu survived"]
        expected["Oops"] = sum(row["verdict"] == "oops" for row in rows)
        expected["Block I/O lost"] = sum(row["memalloc"] for row in rows)
        for label, display_filter in wanted.items():
            if display_filter:
                assert counted[display_filter] == expected[label.split("//")[-1]], (label, capture)


def frames_by_filter(home: dict[str, str], capture: Path, filters: list[str]) -> Counter[str]:
    """How many frames each display filter finds, in one pass: `-z io,stat` counts them all."""
    distinct = [found for found in dict.fromkeys(filters) if found]
    lines, complaints = tshark(
        home, "-C", PROFILE, "-q", "-z", ",".join(["io,stat,0", "frame", *distinct]), "-r", capture
    )
    assert complaints == []
    numbers = next(re.findall(r"\d+", line.split("|", 2)[2]) for line in lines if "<>" in line)
    counts = [int(number) for number in numbers[::2]]  # frames and bytes alternate
    assert len(counts) == 1 + len(distinct)
    return Counter(dict(zip(["", *distinct], counts, strict=True)))


def test_a_button_that_is_wrong_is_noticed(home: dict[str, str], mixed: tuple[Path, Path]) -> None:
    assert tshark(home, "-q", "-z", "io,stat,0,frame.nosuch", "-r", mixed[0])[1] != []


def test_columns_show_interface_and_verdict(home: dict[str, str], mixed: tuple[Path, Path]) -> None:
    wanted = 'frame.comment == "DROP PFMEMALLOC"'
    first, complaints = tshark(home, "-C", PROFILE, "-r", mixed[0], "-Y", wanted, "-T", "tabs")
    assert complaints == []
    values = [value.strip() for value in first[0].split("\t")]
    assert len(values) == len(COLUMNS) + 1, "tshark puts an arrow between the addresses"
    assert values[2:4] == ["eth0-drop", "DROP PFMEMALLOC"]


def test_what_was_dropped_is_neither_analysed_nor_put_together(home: dict[str, str], mixed: tuple[Path, Path]) -> None:
    ours, complaints = tshark(home, "-C", PROFILE, "-r", mixed[0], "-Y", "tcp.analysis")
    stock, _ = tshark(home, "-r", mixed[0], "-Y", "tcp.analysis")
    assert (ours, complaints) == ([], [])
    assert stock, "without the profile it is"


def test_fragments_are_shown_as_they_came(home: dict[str, str], tmp_path: Path) -> None:
    crafted = emu_at(os.environ, "flood", "fragments", "--count", "60", "--engine", "plain", "-w", tmp_path / "f.pcap")
    assert crafted.returncode == 0, crafted.stderr
    together = ("-r", tmp_path / "f.pcap", "-Y", "ip.fragments")
    assert tshark(home, "-C", PROFILE, *together) == ([], [])
    assert tshark(home, *together)[0] != [], "without the profile they are put together"


def test_a_setting_that_wireshark_does_not_know_is_noticed(tmp_path: Path) -> None:
    home = installed(tmp_path, "profile")
    preferences = tmp_path / ".config/wireshark/profiles" / PROFILE / "preferences"
    preferences.write_text(preferences.read_text().replace("ip.defragment", "ip.defragmentation"))
    assert tshark(home, "-C", PROFILE, "-r", MIXED, "-c", "1")[1] != []


def test_texts_can_be_read_on_their_colours() -> None:
    assert rgb16("#0080ff") == "[0,32896,65535]"
    assert (text_on("#ffffff"), text_on("#000000")) == ("#000000", "#ffffff")

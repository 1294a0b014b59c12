"""`emu diff`: two runs side by side, held against a join that is done row by row, and what it says when it cannot."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import polars
import pytest
from emu_process import MIXED, Done, emu, emu_here, refused
from external_tools import run
from hypothesis import given, settings
from hypothesis import strategies as st
from syrupy.assertion import SnapshotAssertion

from emu.kernel.drop_reason import REASONS
from emu.kernel.policy import RULE_UDP, RULES
from emu.verdicts import side_by_side
from emu.verdicts.chunks import polars_schema
from emu.verdicts.diff import CHANGED, ONE_ONLY, SAME, Difference, Selection, agreement, compare
from emu.verdicts.log import INCOMPLETE_KEY
from emu.verdicts.read import Verdicts
from emu.verdicts.schema import COLUMNS, ENUM, TEXT

FRAMES = 900  # of the real capture
FATES = [("delivered", ""), ("in_flight", ""), ("oops", ""), ("dropped", "PFMEMALLOC"), ("dropped", "RX_MISSED")]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The beginning of the real capture under two policies: logs of all and of drops, captures of both kinds."""
    folder = tmp_path_factory.mktemp("runs")
    for policy, name in (("phillips-v5", "patch"), ("mainline", "mainline")):
        for annotate, rows, suffix in (("drops", "all", ".parquet"), ("all", "drops", ".csv")):
            outputs = ("-w", f"{name}-{annotate}.pcapng", "--log", f"{name}-{rows}{suffix}", "--log-rows", rows)
            options = ("--limit", str(FRAMES), "--engine", "plain", "--policy", policy, "--annotate", annotate)
            done = emu_here("replay", MIXED, *options, *outputs, cwd=folder)
            assert done.code == 0, done.err
    return folder


def diff(folder: Path, *arguments: str | Path) -> tuple[int, Any]:
    """The exit code and the object of `emu diff --json`."""
    done = emu_here("diff", *arguments, "--json", cwd=folder)
    assert done.out, done.err
    return done.code, json.loads(done.out)


def fate_of(row: dict[str, Any]) -> str:
    return f"{row['verdict']} {row['reason']}".strip()


def rows_of(log: Path) -> dict[int, dict[str, Any]]:
    """A log's packets by frame, read with somebody else's reader."""
    return {row["frame"]: row for row in polars.read_parquet(log).to_dicts() if row["verdict"] != "event"}


def test_two_policies_against_a_join_by_hand(runs: Path) -> None:
    patch, mainline = (rows_of(runs / f"{name}-all.parquet") for name in ("patch", "mainline"))
    assert patch.keys() == mainline.keys()
    changed = [frame for frame in patch if fate_of(patch[frame]) != fate_of(mainline[frame])]
    code, said = diff(runs, "patch-all.parquet", "mainline-all.parquet", "--limit", "0")
    assert code == 1 and len(changed) > 100
    assert (said["changed"], said["same"], said["in_one_only"]) == (len(changed), len(patch) - len(changed), 0)
    assert [row["frame"] for row in said["changes"]] == changed
    assert [(row["a"], row["b"]) for row in said["changes"]] == [
        (fate_of(patch[frame]), fate_of(mainline[frame])) for frame in changed
    ]
    matrix = Counter((fate_of(patch[frame]), fate_of(mainline[frame])) for frame in patch)
    assert {(fates["a"], fates["b"]): fates["packets"] for fates in said["fates"]} == matrix
    assert said["first"]["a"]["row"] == patch[changed[0]] and said["first"]["b"]["row"] == mainline[changed[0]]
    for parting in said["machine"]:
        column = parting["column"]
        if column in polars_schema():
            frame = next(frame for frame in patch if patch[frame][column] != mainline[frame][column])
            assert (parting["frame"], parting["a"]) == (frame, patch[frame][column])
            assert frame <= changed[0]
    assert "cap_skbs" in {parting["column"] for parting in said["machine"]}


def test_the_explanation_of_both_is_that_of_their_rows(runs: Path) -> None:
    _code, said = diff(runs, "patch-all.parquet", "mainline-all.parquet")
    explained = said["first"]["a"]["explained"]
    row = said["first"]["a"]["row"]
    assert row["reason"] == "PFMEMALLOC" and explained["rule"] == row["policy_rule"]
    assert f"reserve_used_before {row['reserve_used_before']} of cap_skbs 50" in explained["had"]


@pytest.mark.parametrize("other", ["patch-drops.pcapng", "patch-all.pcapng", "patch-drops.csv"])
def test_one_run_has_the_same_fates_in_every_file(runs: Path, other: str) -> None:
    """Whatever a file leaves out is no difference; nor is the order of the two."""
    for pair in (("patch-all.parquet", other), (other, "patch-all.parquet"), (other, other)):
        code, said = diff(runs, *pair)
        assert (code, said["changed"], said["in_one_only"], said["first"]) == (0, 0, 0, None)
        drops = sum(fates["packets"] for fates in said["fates"] if fates["a"].startswith("dropped"))
        assert drops == sum(row["verdict"] == "dropped" for row in rows_of(runs / "patch-all.parquet").values())


def test_captures_and_logs_of_drops_find_the_changes_that_logs_find(runs: Path) -> None:
    whole = diff(runs, "patch-all.parquet", "mainline-all.parquet", "--limit", "0")[1]["changes"]
    for kind in ("drops.pcapng", "all.pcapng", "drops.csv"):
        code, said = diff(runs, f"patch-{kind}", f"mainline-{kind}", "--limit", "0")
        assert code == 1
        assert [row["frame"] for row in said["changes"]] == [row["frame"] for row in whole], kind


def test_a_part_of_a_capture_is_joined_by_packet_id(runs: Path, tmp_path: Path) -> None:
    part = tmp_path / "part.pcapng"
    run("editcap", "-r", runs / "patch-drops.pcapng", part, "100-300")
    said = refused("diff", part, runs / "patch-all.parquet", code=2)
    assert "part at frame" in said and "--by packet_id" in said
    code, found = diff(runs, part, "patch-all.parquet", "--by", "packet_id")
    in_part = [frame for frame in rows_of(runs / "patch-all.parquet") if 100 <= frame <= 300]
    left_out = len(rows_of(runs / "patch-all.parquet")) - len(in_part)
    assert (code, found["changed"], found["in_one_only"]) == (0, 0, left_out)


def test_captures_of_other_frames_are_refused(runs: Path, tmp_path: Path) -> None:
    other = tmp_path / "nop.parquet"
    assert emu_here("replay", str(Path(MIXED).with_name("nop.pcap")), "--engine", "plain", "--log", other).code == 0
    said = refused("diff", runs / "patch-all.parquet", other, code=2)
    assert "part at frame" in said and "verdicts of the same frames" in said


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (("--memalloc",), lambda row: row["memalloc"] == 1),
        (("--others",), lambda row: row["memalloc"] == 0),
        (("--class", "ARP,icmp"), lambda row: row["class"] in ("arp", "icmp")),
        (("--flow", "10.66.0.1:3260"), lambda row: "10.66.0.1:3260" in row["flow"]),
    ],
)
def test_filters_choose_what_is_compared(runs: Path, options: tuple[str, ...], wanted: Any) -> None:
    rows = rows_of(runs / "patch-all.parquet")
    chosen = [frame for frame, row in rows.items() if wanted(row)]
    assert chosen
    _code, said = diff(runs, "patch-all.parquet", "mainline-all.parquet", *options, "--limit", "0")
    assert said["same"] + said["changed"] == len(chosen)
    assert said["not_selected"] == len(rows) - len(chosen)
    assert {row["frame"] for row in said["changes"]} <= set(chosen)


def test_what_cannot_be_asked(runs: Path) -> None:
    log = runs / "patch-all.parquet"
    assert "expected one of" in refused("diff", log, log, "--by", "time", code=2)
    assert "--class 'tpc': did you mean tcp" in refused("diff", log, log, "--class", "tpc", code=2)
    assert "--flow" in refused("diff", log, log, "--flow", "a b c", code=2)
    assert "standard input" in refused("diff", "-", "-", code=2)
    assert "missing.parquet" in refused("diff", log, runs / "missing.parquet", code=3)


def test_standard_input_may_be_one_of_the_two(runs: Path) -> None:
    done: Done = emu("diff", "-", runs / "patch-all.parquet", stdin=(runs / "patch-drops.pcapng").read_bytes())
    assert done.code == 0, done.err
    assert done.out.splitlines()[0].startswith("A  stdin: an annotated capture, policy phillips-v5")


def hand_made(rows: list[dict[str, Any]]) -> polars.DataFrame:
    """A log of these rows; what a row leaves out is empty or 0."""
    empty: dict[str, Any] = {c.name: "" if c.type in (ENUM, TEXT) else 0 for c in COLUMNS}
    of_all = empty | {"zone": "Normal", "length": 60, "class": "udp", "flow": "udp 10.0.0.1:1 > 10.0.0.2:2"}
    made = [of_all | {"packet_id": row.get("frame", 0)} | row for row in rows]
    return polars.DataFrame(made, schema=polars_schema())


def verdicts_of(
    rows: list[dict[str, Any]], *, drops_only: bool = False, is_capture: bool = False, incomplete: str = ""
) -> Verdicts:
    return Verdicts("made", is_capture, hand_made(rows).lazy(), drops_only, "", incomplete, ())


def compared(a: Verdicts, b: Verdicts, by: str = "frame") -> Difference:
    return compare(a, b, by, Selection(), None)


ROWS = st.dictionaries(st.integers(1, 40), st.sampled_from(FATES), max_size=30)


@settings(max_examples=60)
@given(a=ROWS, b=ROWS, drops_only=st.tuples(st.booleans(), st.booleans()), rows_held=st.sampled_from([1, 2, 3, 7, 100]))
def test_any_two_logs_against_a_join_by_hand(
    a: dict[int, tuple[str, str]], b: dict[int, tuple[str, str]], drops_only: tuple[bool, bool], rows_held: int
) -> None:
    """However the files are cut into slices, and whatever frames are missing, with events anywhere between."""
    files, fates = [], []
    for some, only in zip((a, b), drops_only, strict=True):
        told = {frame: fate for frame, fate in sorted(some.items()) if fate[0] == "dropped" or not only}
        rows = [{"frame": frame, "verdict": verdict, "reason": reason} for frame, (verdict, reason) in told.items()]
        event = {"frame": 3, "verdict": "event", "reason": "QUEUE_PURGE", "length": 0}
        files.append(verdicts_of([*rows[:5], event, event, *rows[5:], event], drops_only=only))
        fates.append({frame: " ".join(fate).strip() for frame, fate in told.items()})
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(side_by_side, "SLICE", rows_held)
        found = compared(files[0], files[1])
    missing = ["not dropped" if only else "not in the log" for only in drops_only]
    pairs = {
        frame: (fates[0].get(frame, missing[0]), fates[1].get(frame, missing[1]))
        for frame in sorted(fates[0].keys() | fates[1].keys())
    }
    assert {(some.a, some.b): some.packets for some in found.fates} == Counter(pairs.values())
    changed = [frame for frame, pair in pairs.items() if agreement(*pair) == CHANGED]
    assert [row["frame"] if row["frame"] is not None else row["frame of B"] for row in found.changes] == changed
    assert (found.first.key if found.first else None) == (changed[0] if changed else None)
    assert found.changed == len(changed) and found.packets(SAME) == len(pairs) - len(changed)
    assert found.events == ({"QUEUE_PURGE": 3}, {"QUEUE_PURGE": 3})


@pytest.mark.parametrize(
    ("a", "b", "agree"),
    [
        ("delivered", "delivered", SAME),
        ("dropped NOMEM", "dropped RX_MISSED", CHANGED),
        ("survived", "delivered", SAME),
        ("survived", "dropped NOMEM", CHANGED),
        ("survived", "oops", CHANGED),
        ("not dropped", "oops", SAME),
        ("not dropped", "dropped NOMEM", CHANGED),
        ("not in the log", "not_received", SAME),
        ("not in the log", "delivered", CHANGED),
        ("not in the capture", "delivered", ONE_ONLY),
        ("lost", "dropped NOMEM", SAME),
        ("lost", "oops", SAME),
        ("lost", "not_played", SAME),
        ("lost", "not dropped", SAME),
        ("lost", "survived", CHANGED),
        ("lost", "delivered", CHANGED),
    ],
)
def test_fates_agree_as_far_as_they_are_known(a: str, b: str, agree: str) -> None:
    assert agreement(a, b) == agreement(b, a) == agree


def test_what_stands_behind_the_end_of_a_damaged_log_is_not_compared(tmp_path: Path) -> None:
    rows = [{"frame": frame, "verdict": "delivered"} for frame in range(1, 11)]
    log, short = tmp_path / "log.parquet", tmp_path / "short.parquet"
    hand_made(rows).write_parquet(log)
    hand_made(rows[:6]).write_parquet(short, metadata={INCOMPLETE_KEY: "the capture is cut off"})
    done = emu_here("diff", log, short)
    assert done.code == 0 and "4 not compared: behind the end of a file that ends early" in done.out
    assert "short.parquet ends early: the capture is cut off" in done.err


def test_keys_that_do_not_ascend_are_refused() -> None:
    good = verdicts_of([{"frame": 1, "verdict": "delivered"}, {"frame": 2, "verdict": "delivered"}])
    twice = verdicts_of([{"frame": 1, "verdict": "delivered"}, {"frame": 1, "verdict": "delivered"}])
    with pytest.raises(Exception, match=r"frame 1: its frame 1 comes behind 1; expected ascending .*--by packet_id"):
        compared(good, twice)


def test_a_fragment_that_stands_for_its_datagram_is_the_same_frame() -> None:
    """Which flow a fragment has depends on its fate: the last one stands for the datagram, if the first is there."""
    a = verdicts_of([{"frame": 1, "verdict": "delivered"}])
    fragment = {"class": "ip-fragment", "flow": "ip-proto-17 10.0.0.1 > 10.0.0.2"}
    b = verdicts_of([{"frame": 1, "verdict": "dropped", "reason": "RX_MISSED", "cause": "NOMEM", **fragment}])
    assert compared(a, b).changed == 1
    other = verdicts_of([{"frame": 1, "verdict": "delivered", "flow": "udp 10.0.0.1:9 > 10.0.0.2:2"}])
    with pytest.raises(Exception, match="part at frame 1: flow udp"):
        compared(a, other)


def test_every_reason_makes_a_fate_of_its_own() -> None:
    rows = [{"frame": r.number, "verdict": "dropped", "reason": r.name} for r in REASONS[1:]]
    found = compared(verdicts_of(rows), verdicts_of(list(rows)))
    assert {some.a for some in found.fates} == {f"dropped {reason.name}" for reason in REASONS[1:]}


def test_the_difference_on_screen(tmp_path: Path, snapshot: SnapshotAssertion) -> None:
    """Two small logs: one packet changes its fate, and the machine parted before."""
    common = {"device": "eth0", "socket": "udp :2", "verdict": "delivered", "point": "sock_queue_rcv_skb"}
    dropped = {
        "verdict": "dropped",
        "reason": "PFMEMALLOC",
        "point": "udp_rcv",
        "policy_rule": RULES[RULE_UDP],
    }
    numbers = {"cap_skbs": 50, "free_pages": 47, "floor_pages": 137}
    a = [common | {"frame": 1, "free_pages": 160}, common | numbers | dropped | {"frame": 2, "reserve_used_before": 3}]
    b = [common | {"frame": 1, "free_pages": 161}, common | numbers | {"frame": 2}]
    event = {"frame": 1, "verdict": "event", "reason": "QUEUE_PURGE", "point": "inet_sock_destruct"}
    hand_made(a).write_parquet(tmp_path / "a.parquet")
    hand_made([*b, event]).write_parquet(tmp_path / "b.parquet")
    done = emu_here("diff", "a.parquet", "b.parquet", cwd=tmp_path)
    assert done.code == 1
    assert "\n".join(line.rstrip() for line in done.out.splitlines()) == snapshot

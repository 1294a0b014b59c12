"""Annotated captures as tables: what the log of the same replay says, as far as the file tells it."""

import subprocess
from pathlib import Path
from typing import Any

import polars
import pytest
from bare_capture import strip_comments
from external_tools import run, tool
from polars.testing import assert_frame_equal
from replay_kit import PCAPS, Frame, ether, pcap, played, wild_frames
from scapy.layers.inet import IP, UDP, fragment
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6, IPv6ExtHdrFragment, fragment6
from scapy.layers.l2 import ARP, Dot1AD, Dot1Q
from scapy.packet import Raw

from emu.capture.annotate import KEYS
from emu.errors import CaptureError
from emu.task import Outputs
from emu.verdicts.chunks import polars_schema
from emu.verdicts.culprits import AMBIGUOUS, Culprits
from emu.verdicts.fates import LOST_NAMES, is_lost_untold, survived
from emu.verdicts.read import Verdicts, open_verdicts
from emu.verdicts.schema import NAMES

ENGINES = ("plain", "compiled")
# Frames that the NIC does not take, and what is not played, are in the capture and not in the log.
UNLOGGED = ("not_received", "not_played")
UNTOLD = "skb_device"  # no comment has it
# What only a comment tells.
TOLD = ("verdict", "reason", "cause", "point", "policy_rule", "zone", *(c for c in KEYS.values() if c != "time_ns"))


def network_frames() -> bytes:
    """VLAN tags, IPv6, fragments of both: from one peer to the host."""
    four, six = IP(src="10.0.0.1", dst="10.0.0.2", id=7), IPv6(src="fd00::1", dst="fd00::2")
    datagram = UDP(sport=9, dport=5000) / Raw(bytes(3000))
    frames = [four / datagram.copy(), six / UDP(sport=9, dport=53) / Raw(bytes(40)), six / ICMPv6EchoRequest()]
    frames += fragment(four / datagram.copy(), fragsize=1200)
    frames += fragment6(six / IPv6ExtHdrFragment(id=9) / datagram.copy(), 1280)
    frames += [Dot1Q(vlan=5) / four / UDP(dport=53), Dot1AD(vlan=7) / Dot1Q(vlan=5) / six / UDP(dport=53)]
    frames += [ARP(psrc="10.0.0.1", pdst="10.0.0.2"), Dot1Q(vlan=5) / ARP(psrc="10.0.0.1", pdst="10.0.0.2")]
    octets = [ether("02:00:00:00:00:01", "02:00:00:00:00:02", frame) for frame in frames] * 20
    return pcap(Frame(frame, 10**9 + at * 3_000) for at, frame in enumerate(octets))


CAPTURES: dict[str, Any] = {
    "mixed": (PCAPS / "mixed.pcap", {"limit": 1000}),
    "network": (network_frames(), {}),
    "wild": (pcap(wild_frames(6, 600)), {}),
}


@pytest.fixture(scope="module", params=CAPTURES)
def replayed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A capture with all comments, one with those of drops, and the log of the same replay."""
    capture, how = CAPTURES[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    every, drops, log = folder / "all.pcapng", folder / "drops.pcapng", folder / "log.parquet"
    played(capture, outputs=Outputs(str(every), "all", str(log)), **how)
    played(capture, outputs=Outputs(str(drops), "drops"), **how)
    return every, drops, log


def opened(path: Path, engine: str = "plain") -> Verdicts:
    return open_verdicts(str(path), wanted_by="a test", engine=engine)


def packets_of(log: Path) -> polars.DataFrame:
    """A log without events."""
    return opened(log).table.filter(polars.col("verdict") != "event").collect()


def same_rows(table: polars.DataFrame, log: polars.DataFrame) -> polars.DataFrame:
    return table.filter(polars.col("frame").is_in(log["frame"].implode()))


@pytest.mark.parametrize("engine", ENGINES)
def test_with_all_comments_it_is_the_log(replayed: tuple[Path, Path, Path], engine: str) -> None:
    every, _, log = replayed
    verdicts = opened(every, engine)
    table = verdicts.table.collect()
    assert verdicts.is_capture and not verdicts.drops_only and verdicts.policy == "phillips-v5" and not verdicts.notes
    assert dict(table.schema) == polars_schema() and table["frame"].to_list() == list(range(1, table.height + 1))
    logged = packets_of(log)
    assert logged.height > 50 and logged["verdict"].n_unique() > 1
    assert_frame_equal(same_rows(table, logged).drop(UNTOLD), logged.drop(UNTOLD))
    assert table[UNTOLD].null_count() == table.height
    others = table.filter(~polars.col("verdict").is_in(UNLOGGED))
    assert others.height == logged.height


@pytest.mark.parametrize("engine", ENGINES)
def test_with_comments_of_drops_survivors_say_nothing(replayed: tuple[Path, Path, Path], engine: str) -> None:
    _, drops, log = replayed
    verdicts = opened(drops, engine)
    table, logged = verdicts.table.collect(), packets_of(log)
    dropped = logged.filter(polars.col("verdict") == "dropped")
    told = table.filter(polars.col("verdict").is_not_null())
    assert dropped.height
    assert_frame_equal(told.drop(UNTOLD), dropped.drop(UNTOLD))
    silent = table.filter(polars.col("verdict").is_null())
    for name in NAMES:
        unknown = name in (*TOLD, UNTOLD) and name != "reason"
        assert silent[name].null_count() == (silent.height if unknown else 0), name
    assert set(silent["reason"]) == {""}
    # What the frame itself and the file's clock tell is there all the same.
    known = [name for name in NAMES if name not in (*TOLD, UNTOLD)]
    assert_frame_equal(same_rows(table, logged).select(known), logged.select(known))
    (note,) = verdicts.notes
    assert note.startswith(f"{silent.height} frames survived") and "--annotate all" in note


def through(tool_name: str, source: Path, target: Path) -> None:
    commands: dict[str, tuple[str | Path, ...]] = {
        "editcap": ("editcap", "-F", "pcapng", source, target),
        "mergecap": ("mergecap", "-w", target, source),
        "tshark": ("tshark", "-r", source, "-w", target),
    }
    name, *arguments = commands[tool_name]
    run(str(name), *arguments)


@pytest.mark.parametrize("foreign", ["editcap", "mergecap", "tshark"])
def test_other_programs_change_nothing(replayed: tuple[Path, Path, Path], foreign: str, tmp_path: Path) -> None:
    _, drops, _ = replayed
    through(foreign, drops, tmp_path / "again.pcapng")
    before, after = opened(drops), opened(tmp_path / "again.pcapng")
    assert_frame_equal(after.table.collect(), before.table.collect())
    assert (after.policy, after.notes) == (before.policy, before.notes)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small capture whose drops have culprits."""
    path = tmp_path_factory.mktemp("small") / "drops.pcapng"
    played(PCAPS / "mixed.pcap", outputs=Outputs(str(path)), limit=900)
    assert opened(path).table.select((polars.col("culprit_frame") > 0).sum()).collect().item() > 50
    return path


@pytest.mark.parametrize("engine", ENGINES)
def test_culprits_of_a_part_are_numbered_in_it(mixed: Path, engine: str, tmp_path: Path) -> None:
    run("editcap", "-r", mixed, tmp_path / "part.pcapng", "300-500", "600-900")
    whole, part = opened(mixed).table.collect(), opened(tmp_path / "part.pcapng", engine).table.collect()
    ids = {row["packet_id"]: row["frame"] for row in part.to_dicts()}
    culprits = dict(whole.select("packet_id", "culprit_frame").rows())
    expected = [None if (c := culprits[i]) is None else ids.get(c, 0) for i in part["packet_id"]]
    assert part["culprit_frame"].to_list() == expected
    assert any(expected) and 0 in expected


def test_a_lost_frame_whose_comments_are_gone_is_lost_and_nothing_else(mixed: Path, tmp_path: Path) -> None:
    strip_comments(mixed, tmp_path / "bare.pcapng")
    verdicts = opened(tmp_path / "bare.pcapng")
    whole, bare = opened(mixed).table.collect(), verdicts.table.collect()
    lost = whole["verdict"].is_in(list(LOST_NAMES)).fill_null(value=False)
    assert lost.any() and not lost.all() and bare["verdict"].null_count() == bare.height
    assert bare["reason"].is_null().to_list() == lost.to_list() and set(bare["reason"]) == {"", None}
    assert set(bare.filter(is_lost_untold())["frame"]) == set(whole.filter(lost)["frame"])
    assert set(bare.filter(survived())["frame"]) == set(whole.filter(~lost)["frame"])
    assert f"{int(lost.sum())} frames were lost and have no comment: to what is not known" in verdicts.notes


def test_culprits_of_merged_captures_are_not_guessed(mixed: Path, tmp_path: Path) -> None:
    run("mergecap", "-a", "-w", tmp_path / "two.pcapng", mixed, mixed)
    verdicts = opened(tmp_path / "two.pcapng")
    table = verdicts.table.filter(polars.col("verdict") == "dropped").collect()
    named = opened(mixed).table.filter(polars.col("culprit_frame") > 0).collect().height
    assert table["culprit_frame"].null_count() == 2 * named
    assert any("packet ids come more than once" in note for note in verdicts.notes)
    assert not any("clock" in note for note in verdicts.notes)


def test_culprits_as_a_dictionary_would_find_them() -> None:
    ids = [5, 6, 7, 100, 101, 3, 2, 1, 6, (1 << 63) - 1, 1 << 63, (1 << 64) - 1]
    culprits = Culprits()
    frames = list(range(1, len(ids) + 1))
    for first, last in ((0, 4), (4, 4), (4, 5), (5, 10), (10, 12)):
        culprits.meet(polars.Series(ids[first:last], dtype=polars.UInt64), polars.Series(frames[first:last]))
    asked = [0, *range(1, 9), 99, 100, 101, 102, 1 << 62, (1 << 63) - 1, -1, -(1 << 63), -(1 << 63) + 1]
    expected = []
    for number in asked:
        held = [frame for frame, held in zip(frames, ids, strict=True) if held == number % (1 << 64)]
        expected.append(0 if not number or not held else held[0] if len(held) == 1 else AMBIGUOUS)
    assert culprits.frame_of(polars.Series(asked, dtype=polars.Int64)).to_list() == expected
    assert culprits.has_doubles


def test_a_paced_replay_does_not_say_when_survivors_came(tmp_path: Path) -> None:
    path = tmp_path / "shifted.pcapng"
    played(PCAPS / "mixed.pcap", outputs=Outputs(str(tmp_path / "in.pcapng")), limit=500)
    run("editcap", "-t", "3600", tmp_path / "in.pcapng", path)
    verdicts = opened(path)
    table = verdicts.table.collect()
    assert table["time_ns"].is_null().to_list() == table["verdict"].is_null().to_list()
    assert any("clock" in note for note in verdicts.notes)


def test_a_truncated_capture_tells_what_it_has(mixed: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.pcapng"
    path.write_bytes(mixed.read_bytes()[:100_000])
    verdicts = opened(path)
    height = verdicts.table.collect().height
    assert 50 < height < 900 and "expected a block" in verdicts.incomplete
    assert_frame_equal(
        verdicts.table.collect().drop("culprit_frame"), opened(mixed).table.collect().head(height).drop("culprit_frame")
    )


def test_a_capture_of_a_damaged_one_says_so(tmp_path: Path) -> None:
    octets = (PCAPS / "login.pcap").read_bytes()
    played(octets[:-7], outputs=Outputs(str(tmp_path / "x.pcapng")))
    verdicts = opened(tmp_path / "x.pcapng")
    assert verdicts.incomplete.startswith("after frame ") and "expected" in verdicts.incomplete
    assert verdicts.notes[1:] == ()


def test_captures_of_two_policies_say_so(mixed: Path, tmp_path: Path) -> None:
    played(PCAPS / "mixed.pcap", policy="mainline", outputs=Outputs(str(tmp_path / "other.pcapng")), limit=400)
    run("mergecap", "-w", tmp_path / "two.pcapng", mixed, tmp_path / "other.pcapng")
    verdicts = opened(tmp_path / "two.pcapng")
    assert verdicts.policy == "" and "verdicts of several policies: " in verdicts.notes[-1]


def test_a_pipe_and_a_compressed_capture_are_the_same(mixed: Path, tmp_path: Path) -> None:
    packed = subprocess.run([tool("gzip"), "-c", mixed], capture_output=True, check=True).stdout
    (tmp_path / "x.pcapng.gz").write_bytes(packed)
    assert_frame_equal(opened(tmp_path / "x.pcapng.gz").table.collect(), opened(mixed).table.collect())


@pytest.mark.parametrize("what", ["pcap", "pcapng"])
def test_a_capture_without_verdicts_is_refused(what: str, tmp_path: Path) -> None:
    path = tmp_path / f"x.{what}"
    run("editcap", "-F", what, PCAPS / "login.pcap", path)
    with pytest.raises(CaptureError, match=r"no frame of it has a verdict: .*emu replay"):
        opened(path)

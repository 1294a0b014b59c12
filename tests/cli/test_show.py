"""`emu show` on logs and annotated captures of a real replay: lists, filters, tables, fates, one packet in words."""

import fcntl
import json
import os
import signal
import struct
import subprocess
import termios
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars
import pytest
from emu_process import EMU, LOGIN, MIXED, Done, emu, emu_here, kit, refused
from external_tools import run
from syrupy.assertion import SnapshotAssertion

from emu.verdicts.schema import COLUMNS

Row = dict[str, Any]
PLAIN = ("--engine", "plain")
EVERY_FATE = ("--flood", "udp:count=400,seed=5,pps=50k", "--limit", "3500", *PLAIN)
# Block I/O's packets are lost, come again and are lost again.
AGAIN = ("--retransmit", "--limit", "900", *PLAIN)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Logs and captures of two replays, and the same log in another format."""
    made = tmp_path_factory.mktemp("show")
    runs = (("a", EVERY_FATE), ("again", AGAIN))
    for name, how in runs:
        done = emu_here("replay", MIXED, *how, "--log", f"{name}.parquet", "-w", f"{name}.pcapng", cwd=made)
        assert done.code == 0, done
    done = emu_here("replay", MIXED, *AGAIN, "--log", "drops.parquet", "--log-rows", "drops", cwd=made)
    assert done.code == 0, done
    polars.read_parquet(made / "a.parquet").write_ndjson(made / "a.jsonl")
    return made


@pytest.fixture(scope="module")
def rows(folder: Path) -> list[Row]:
    return polars.read_parquet(folder / "a.parquet").to_dicts()


def show(folder: Path, *arguments: str) -> Done:
    done = emu_here("show", *arguments, *PLAIN, cwd=folder)
    assert done.code == 0, done
    return done


def shown(folder: Path, *arguments: str) -> list[Row]:
    return [json.loads(line) for line in show(folder, *arguments, "--json").out.splitlines()]


def start_of(rows: list[Row]) -> int:
    start: int = min(row["time_ns"] for row in rows if row["verdict"] != "event")
    return start


FILTERS: list[tuple[list[str], Callable[[Row, int], bool]]] = [
    ([], lambda row, _start: True),
    (["--drops"], lambda row, _start: row["verdict"] == "dropped"),
    (["--verdict", "delivered,in_flight"], lambda row, _start: row["verdict"] in ("delivered", "in_flight")),
    (["--reason", "pfmemalloc"], lambda row, _start: row["reason"] == "PFMEMALLOC"),
    (
        ["--reason", "RX_MISSED", "--reason", "no-socket"],
        lambda row, _start: row["reason"] in ("RX_MISSED", "NO_SOCKET"),
    ),
    (["--cause", "nomem"], lambda row, _start: row["cause"] == "NOMEM"),
    (["--class", "tcp,icmp"], lambda row, _start: row["class"] in ("tcp", "icmp")),
    (["--device", "eth0"], lambda row, _start: row["device"] == "eth0"),
    (["--policy-rule", "tcp"], lambda row, _start: row["policy_rule"] == "tcp: device in reserve"),
    (["--memalloc"], lambda row, _start: row["memalloc"] == 1),
    (["--others", "--drops"], lambda row, _start: row["memalloc"] == 0 and row["verdict"] == "dropped"),
    (["--flow", "10.0.0.1:40000"], lambda row, _start: "10.0.0.1:40000" in row["flow"].split()),
    (
        ["--flow", "8080", "--flow", "9000"],
        lambda row, _start: row["flow"].endswith(":9000") or ":8080 " in row["flow"],
    ),
    (["--from", "0.1", "--to", "0.2"], lambda row, start: 10**8 <= row["time_ns"] - start <= 2 * 10**8),
    (
        ["--frame", "3-7", "--frame", "320-330"],
        lambda row, _start: 3 <= row["frame"] <= 7 or 320 <= row["frame"] <= 330,
    ),
    (
        ["--where", "reserve_used_before > 40 and not free_pages >= floor_pages - 100"],
        lambda row, _start: row["reserve_used_before"] > 40 and row["free_pages"] < row["floor_pages"] - 100,
    ),
    (
        ["--drops", "--class", "udp", "--flow", "9000", "--to", "0.01", "--where", "ring_free < 90"],
        lambda row, start: (
            row["verdict"] == "dropped"
            and row["class"] == "udp"
            and row["flow"].endswith(":9000")
            and row["time_ns"] - start <= 10**7
            and row["ring_free"] < 90
        ),
    ),
]


@pytest.mark.parametrize(("words", "holds"), FILTERS, ids=[" ".join(words) or "all" for words, _ in FILTERS])
def test_filter_keeps_what_its_words_say(
    words: list[str], holds: Callable[[Row, int], bool], folder: Path, rows: list[Row]
) -> None:
    start = start_of(rows)
    expected = [row for row in rows if row["verdict"] != "event" and holds(row, start)]
    assert expected
    assert shown(folder, "a.parquet", *words) == expected
    done = show(folder, "a.parquet", *words)
    listed = done.out.splitlines()[2:]
    assert [int(line.split()[0]) for line in listed] == [row["frame"] for row in expected]
    assert done.err == ""
    if words:
        assert f"; {len(expected):,} match".replace(",", " ") in done.out.splitlines()[0]


def test_formats_show_the_same(folder: Path) -> None:
    assert shown(folder, "a.jsonl", "--drops") == shown(folder, "a.parquet", "--drops")


def test_capture_shows_the_drops_of_its_log(folder: Path) -> None:
    frames = {row["packet_id"]: row for row in shown(folder, "a.pcapng", "--drops")}
    logged = shown(folder, "a.parquet", "--drops")
    assert list(frames) == [row["packet_id"] for row in logged]
    same = [column.name for column in COLUMNS if column.name not in ("skb_device", "zone", "socket")]
    for row in logged:
        assert {name: frames[row["packet_id"]][name] for name in same} == {name: row[name] for name in same}


def test_capture_says_what_it_does_not_know(folder: Path) -> None:
    done = show(folder, "a.pcapng", "--memalloc")
    survivors = sum(1 for row in shown(folder, "a.pcapng") if row["verdict"] is None)
    assert survivors
    assert f"of {survivors:,}".replace(",", " ") + " packets this file does not say whether they match" in done.err
    assert "--annotate all" in done.err
    assert " without comment" in done.out.splitlines()[0]
    # What survived was not dropped: nothing is unknown of that.
    assert "whether they match" not in show(folder, "a.pcapng", "--drops", "--reason", "PFMEMALLOC").err


def test_events_are_listed_with_their_packets_flow(folder: Path) -> None:
    log = polars.read_parquet(folder / "again.parquet").to_dicts()
    flows = {row["frame"]: row["flow"] for row in log if row["verdict"] != "event"}
    events = [row for row in log if row["verdict"] == "event"]
    assert any(":3260 " in flows[row["frame"]] for row in events)
    found = shown(folder, "again.parquet", "--verdict", "event", "--flow", "3260")
    assert [(row["frame"], row["time_ns"]) for row in found] == [
        (row["frame"], row["time_ns"]) for row in events if ":3260 " in flows[row["frame"]]
    ]
    assert all(row["flow"] == flows[row["frame"]] and row["class"] == "tcp" for row in found)


@pytest.mark.parametrize(
    ("by", "column"), [("reason", "reason"), ("class", "class"), ("flow", "flow"), ("rule", "policy_rule")]
)
def test_groups_count_every_packet_once(by: str, column: str, folder: Path, rows: list[Row]) -> None:
    packets = [row for row in rows if row["verdict"] != "event"]
    found = json.loads(show(folder, "a.parquet", "--by", by, "--json").out)
    assert {group["key"]: group["packets"] for group in found["shown"]} == Counter(row[column] for row in packets)
    dropped = Counter(row[column] for row in packets if row["verdict"] == "dropped")
    assert {group["key"]: group["dropped"] for group in found["shown"] if group["dropped"]} == dropped
    for group in found["shown"]:
        lost = [row["frame"] for row in packets if row[column] == group["key"] and row["verdict"] == "dropped"]
        assert (group["first_drop_frame"], group["last_drop_frame"]) == ((lost[0], lost[-1]) if lost else (0, 0))
    assert [group["dropped"] for group in found["shown"]] == sorted(dropped.values(), reverse=True) + [0] * (
        len(found["shown"]) - len(dropped)
    )
    limited = show(folder, "a.parquet", "--by", by, "--limit", "1")
    assert f"emu: {len(found['shown']) - 1} more" in limited.err


def test_fate_of_a_flow_adds_up(folder: Path) -> None:
    log = polars.read_parquet(folder / "again.parquet").to_dicts()
    of_flow = [row for row in log if row["verdict"] != "event" and ":3260" in row["flow"]]
    lost = [row for row in of_flow if row["verdict"] == "dropped"]
    fate = json.loads(show(folder, "again.parquet", "--flow", "3260", "--fate", "--json").out)
    assert fate["packets"] == len(of_flow)
    assert fate["by_verdict"] == Counter(row["verdict"] for row in of_flow)
    assert fate["by_reason"] == Counter(row["reason"] for row in lost)
    assert (fate["first_drop"]["frame"], fate["last_drop"]["frame"]) == (lost[0]["frame"], lost[-1]["frame"])
    again = {row["frame"] for row in log if row["verdict"] == "event"} & {row["frame"] for row in lost}
    assert fate["came_again"] == len(again) > 0


def test_retransmissions_of_lost_segments_are_those_that_tshark_reads(folder: Path) -> None:
    fields = ("frame.interface_name", "ip.src", "tcp.srcport", "ip.dst", "tcp.dstport", "tcp.seq_raw", "tcp.len")
    wanted = [word for field in fields for word in ("-e", field)]
    read = kit.run(kit.tool("tshark"), "-r", folder / "a.pcapng", "-Y", "tcp.port == 8080", "-T", "fields", *wanted)
    lost: dict[tuple[str, ...], bool] = {}
    survived = set()
    for interface, *segment, length in (line.split("\t") for line in read.splitlines()):
        if length != "0" and tuple(segment) in lost:
            lost[tuple(segment)] = True
            survived |= {tuple(segment)} if interface == "eth0" else set()
        elif length != "0" and interface == "eth0-drop":
            lost[tuple(segment)] = False
    fate = json.loads(show(folder, "a.pcapng", "--flow", "8080", "--fate", "--json").out)
    assert (fate["came_again"], fate["taken_again"]) == (sum(lost.values()), len(survived))
    assert fate["again_in"] == "capture" and fate["came_again"] > 0


@pytest.mark.parametrize(
    "words",
    [
        "a.parquet --frame 310-325",
        "a.parquet --frame 3",
        "a.parquet --frame 320",
        "a.parquet --frame 2",
        "again.parquet --frame 718",
        "a.pcapng --frame 1",
        "a.pcapng --frame 3",
        "a.parquet --by reason",
        "a.parquet --flow 10.0.0.1:40000 --fate",
        "again.parquet --flow 3260 --fate",
        "a.pcapng --flow 10.66.0.1:8080 --fate",
    ],
)
def test_what_a_person_reads(words: str, folder: Path, snapshot: SnapshotAssertion) -> None:
    done = show(folder, *words.split(" ", 4))
    assert "\n".join(line.rstrip() for line in (done.out + done.err).splitlines()) == snapshot


def test_story_as_json_says_what_the_screen_says(folder: Path) -> None:
    story = json.loads(show(folder, "a.parquet", "--frame", "3", "--json").out)
    printed = " ".join(show(folder, "a.parquet", "--frame", "3").out.split())
    assert story["row"]["reason"] == "PFMEMALLOC"
    for said in (story["needed"], story["had"], story["saved"], *story["meaning"]):
        assert " ".join(said.split()) in printed
    assert story["culprit"]["frame"] == story["row"]["culprit_frame"]


def test_filters_that_are_named_find_the_packet(folder: Path) -> None:
    tshark = kit.tool("tshark")
    story = json.loads(show(folder, "a.pcapng", "--frame", "3", "--json").out)
    for name, display_filter in story["filters"]:
        done = kit.run(tshark, "-r", folder / "a.pcapng", "-Y", display_filter, "-T", "fields", "-e", "frame.number")
        frames = done.split()
        assert "3" in frames, (name, display_filter)
        assert (name == "the packet") == (len(frames) == 1), (name, frames)


REFUSED = [
    (["--reason", "PFMEMALOC"], "--reason 'PFMEMALOC': did you mean PFMEMALLOC?"),
    (["--class", "sctp"], "--class 'sctp': did you mean"),
    (["--verdict", "gone"], "--verdict 'gone': expected one of"),
    (["--cause", "cap"], "--cause 'cap': expected one of DEVICE_CAP, NOMEM, CPU_BUSY"),
    (["--device", "eth9"], "--device 'eth9': did you mean eth0?"),
    (["--policy-rule", "skb marks"], "--policy-rule 'skb marks': did you mean"),
    (["--flow", "10.0.0"], "is not an IP address"),
    (["--from", "soon"], "--from soon: expected seconds"),
    (["--frame", "0"], "--frame 0: frames are counted from 1"),
    (["--frame", "9-3"], "the first is not behind the last"),
    (["--frame", "x"], "expected N or N-M"),
    (["--frame", "3", "--drops"], "leave the other filters out"),
    (["--frame", "99999999"], "no frame 99999999; its last is"),
    (["--frame", "5"], "no frame 5: a log has what the host received"),
    (["--where", "frme == 1"], "did you mean frame"),
    (["--drops", "--verdict", "oops"], "leave one of them out"),
    (["--fate"], "name it with --flow"),
    (["--by", "colour"], "--by 'colour': expected one of"),
    (["--by", "flow", "--fate", "--flow", "1"], "one of them at a time"),
]


@pytest.mark.parametrize(("words", "said"), REFUSED, ids=[" ".join(words) for words, _ in REFUSED])
def test_refusals_are_one_line(words: list[str], said: str, folder: Path) -> None:
    assert said in refused("show", "a.parquet", *words, code=2, cwd=folder)


def test_log_of_drops_says_so(folder: Path) -> None:
    assert "(a log of drops)" in show(folder, "drops.parquet", "--limit", "1").out
    assert "it survived, or the host did not receive it" in refused(
        "show", "drops.parquet", "--frame", "1", code=2, cwd=folder
    )


def test_limit_says_how_many_are_not_shown(folder: Path) -> None:
    matching = len(shown(folder, "a.parquet", "--drops"))
    done = show(folder, "a.parquet", "--drops", "--limit", "3")
    assert len(done.out.splitlines()) == 2 + 3
    assert f"emu: {matching - 3:,} more match".replace(",", " ") in done.err
    assert len(show(folder, "a.parquet", "--drops", "--limit", "0").out.splitlines()) == 2 + matching


def test_terminal_gets_colours_and_few_lines(folder: Path) -> None:
    master, slave = os.openpty()
    with subprocess.Popen(
        [*EMU, "show", "a.parquet"],
        stdout=slave,
        stderr=subprocess.PIPE,
        cwd=folder,
        env=os.environ | {"TERM": "xterm", "COLUMNS": "100", "PYTHONPATH": str(kit.ROOT)},
    ) as process:
        os.close(slave)
        text = b""
        while True:
            try:
                piece = os.read(master, 65_536)
            except OSError:  # the other side is closed
                break
            if not piece:
                break
            text += piece
        assert process.stderr is not None
        said = process.stderr.read()
    os.close(master)
    lines = text.decode().splitlines()
    assert len(lines) == 2 + 50
    assert all(("\x1b[31m" in line) == ("dropped" in line) for line in lines[2:])
    assert b"more match; --limit N shows more" in said


def test_reader_that_has_enough_is_no_error(folder: Path) -> None:
    log = polars.read_parquet(folder / "a.parquet")
    polars.concat([log] * 40).write_parquet(folder / "long.parquet")
    with subprocess.Popen(
        [*EMU, "show", "long.parquet"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(kit.ROOT)},
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""


def test_interrupt_is_one_line(folder: Path) -> None:
    with subprocess.Popen(
        [*EMU, "show", "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(kit.ROOT)},
    ) as process:
        assert process.stdin is not None and process.stderr is not None
        process.stdin.write((folder / "a.pcapng").read_bytes()[:100_000])
        process.stdin.flush()
        while _unread(process.stdin.fileno()) and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
    assert (process.returncode, said) == (130, b"emu: interrupted\n")


def _unread(pipe: int) -> int:
    """How many bytes of a pipe nobody has read yet."""
    return int(struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)))[0])


def test_neither_log_nor_annotated(folder: Path) -> None:
    assert "expected a capture that emu has annotated" in refused("show", MIXED, code=3)
    (folder / "empty").write_bytes(b"")
    assert "it is empty" in refused("show", "empty", code=3, cwd=folder)
    assert "none.parquet: No such file" in refused("show", "none.parquet", code=3, cwd=folder)


def test_names_cannot_command_a_terminal(folder: Path, tmp_path: Path) -> None:
    log = polars.read_parquet(folder / "a.parquet").with_columns(polars.lit("eth\x1b[2J\n0").alias("device"))
    log.write_parquet(tmp_path / "wild.parquet")
    for words in (("--limit", "2"), ("--by", "device"), ("--frame", "3")):
        done = show(tmp_path, "wild.parquet", *words)
        assert "\x1b" not in done.out and "eth?[2J?0" in done.out


def test_process_of_its_own(folder: Path) -> None:
    done = emu("show", folder / "a.parquet", "--drops", "--limit", "1")
    assert done.code == 0 and done.out.startswith(str(folder / "a.parquet"))


@pytest.fixture(scope="module")
def merged(folder: Path) -> Path:
    """The annotated capture, and behind it another capture that emu has never played."""
    run("mergecap", "-a", "-w", folder / "merged.pcapng", folder / "again.pcapng", LOGIN)
    return folder


def test_a_frame_of_another_capture_has_no_verdict_and_did_not_survive(merged: Path) -> None:
    others = [row for row in shown(merged, "merged.pcapng") if row["frame"] > 900]
    assert {(row["verdict"], row["reason"], row["cause"]) for row in others} == {("pending", "", None)}
    done = show(merged, "merged.pcapng", "--frame", str(others[0]["frame"]))
    told = " ".join(done.out.split())
    assert "verdict no verdict: it stands on an interface that has none" in told
    assert "survived" not in told.partition("afterwards")[0] and "comment is gone" not in told
    totals = show(merged, "merged.pcapng", "--verdict", "delivered").out.splitlines()[0]
    assert f"{len(others)} without verdict" in totals
    assert shown(merged, "merged.pcapng", "--cause", "NOMEM") == shown(merged, "again.pcapng", "--cause", "NOMEM")


def test_nothing_of_another_capture_is_counted_as_survived(merged: Path) -> None:
    groups = json.loads(show(merged, "merged.pcapng", "--by", "verdict", "--json").out)["shown"]
    alone = json.loads(show(merged, "again.pcapng", "--by", "verdict", "--json").out)["shown"]
    assert [group for group in groups if group["key"] != "no verdict"] == alone
    assert len(groups) == len(alone) + 1


@pytest.mark.parametrize("how", [("--by", "flow"), ("--by", "flow", "--json"), (), ("--frame", "1")], ids=" ".join)
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_under_standard_output_is_told(folder: Path, how: tuple[str, ...], unbuffered: str) -> None:
    """However much is printed, and at once or from a buffer."""
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [*EMU, "show", "a.pcapng", *how, *PLAIN],
            cwd=folder,
            env=environment,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=120,
        )
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert last.startswith("emu: standard output: No space left on device")

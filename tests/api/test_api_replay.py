"""`emu.replay`: what the command does, as an object."""

import gc
import gzip
import io
import os
import pickle
import signal
import sys
import tempfile
import threading
from functools import cache
from pathlib import Path
from typing import Any

import polars
import pytest
from api_kit import LOGIN, MIXED, NOP, command, printed, without_run
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from replay_kit import PCAPS, tool
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Raw
from scapy.utils import rdpcap

import emu
from emu.errors import Exit
from emu.play import Replay
from emu.verdicts.schema import NAMES


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files are made during this test."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


# --- the same as the command ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({}, ()),
        ({"policy": "mainline", "pps": 200_000}, ("--policy", "mainline", "--pps", "200k")),
        (
            {"settings": {"pressure": {"start": "quiet"}}, "limit": 20},
            ("--set", "pressure.start=quiet", "--limit", "20"),
        ),
        ({"memalloc": "none", "filter": "tcp"}, ("--memalloc", "none", "--filter", "tcp")),
        ({"expect": ["frames == 80", "frames < 3"]}, ("--expect", "frames == 80", "--expect", "frames < 3")),
    ],
)
def test_a_replay_is_the_command(keywords: dict[str, Any], words: tuple[str, ...]) -> None:
    """The summary is what --json prints, str() what the command prints, `exit_code` what it exits with."""
    result = emu.replay(LOGIN, **keywords)
    assert without_run(result.summary) == without_run(printed("replay", LOGIN, *words))
    code, tables = command("replay", LOGIN, *words)
    assert result.exit_code == code
    mine, theirs = (
        [line for line in text.splitlines() if " packets/s, " not in line] for text in (str(result), tables)
    )
    assert mine == theirs


def test_the_main_figures_are_attributes() -> None:
    """They are those of the summary."""
    result = emu.replay(MIXED)
    summary = result.summary
    assert (result.capture, result.policy) == (MIXED, "phillips-v5")
    names = ("frames", "received", "delivered", "dropped", "duration_ns", "findings")
    assert {name: getattr(result, name) for name in names} == {name: summary[name] for name in names}
    assert result.by_reason == summary["drops_by_reason"]
    assert sum(result.by_reason.values()) == result.dropped > 0
    assert result.memalloc == (840, *(summary["memalloc"][name] for name in ("delivered", "dropped")))
    assert result.memalloc.lost == summary["memalloc"]["dropped"] / 840
    assert result.memalloc.received + result.other.received == result.received
    assert (result.ok, result.damage, result.expectations) == (True, None, ())
    assert emu.Fates(0, 0, 0).lost == 0.0


def test_outputs_are_those_of_the_command(tmp_path: Path) -> None:
    """`write`, `log` and `record_events` give the same bytes as the options, and verdicts() reads that log."""
    mine, theirs = tmp_path / "mine", tmp_path / "theirs"
    for folder in (mine, theirs):
        folder.mkdir()
    result = emu.replay(
        LOGIN, write=mine / "a.pcapng", annotate="all", log=mine / "l.csv", record_events=str(mine / "e")
    )
    given_words = ("-w", theirs / "a.pcapng", "--annotate", "all", "--log", theirs / "l.csv")
    assert command("replay", LOGIN, *given_words, "--record-events", theirs / "e")[0] == 0
    for name in ("a.pcapng", "l.csv", "e"):
        assert (mine / name).read_bytes() == (theirs / name).read_bytes()
    assert_frame_equal(result.verdicts(), emu.replay(LOGIN).verdicts())
    (mine / "l.csv").unlink()
    with pytest.raises(emu.UsageError, match=r"l\.csv: the log is not there any more"):
        result.verdicts()


@cache
def verdicts_of_mixed() -> polars.DataFrame:
    return emu.replay(MIXED, limit=2000).verdicts()


@pytest.mark.parametrize("suffix", [".parquet", ".arrow", ".csv", ".jsonl"])
def test_every_format_of_a_log_gives_the_same_frame(suffix: str, tmp_path: Path) -> None:
    """Types included; drops alone where the log has no others."""
    result = emu.replay(MIXED, limit=2000, log=tmp_path / f"log{suffix}", log_rows="drops")
    everything = verdicts_of_mixed()
    drops = everything.filter(polars.col("verdict").is_in(["dropped", "event"]))
    assert 0 < drops.height < everything.height
    assert_frame_equal(result.verdicts(), drops, categorical_as_str=True)


# --- what can be played -----------------------------------------------------------------------------------------------


def test_a_capture_in_any_form_is_the_same_capture(temporary: Path) -> None:
    """A path, bytes, compressed or not, an open file, a pipe, Scapy's packets; no temporary file is left."""
    octets = Path(LOGIN).read_bytes()
    frame = emu.replay(LOGIN).verdicts()
    reading, writing = os.pipe()

    def feed() -> None:
        with os.fdopen(writing, "wb") as into:
            into.write(octets)

    writer = threading.Thread(target=feed)
    writer.start()
    with Path(LOGIN).open("rb") as file, os.fdopen(reading, "rb") as pipe:
        forms: list[tuple[Any, str]] = [
            (Path(LOGIN), LOGIN),
            (octets, f"{len(octets)} bytes"),
            (memoryview(gzip.compress(octets)), f"{len(gzip.compress(octets))} bytes"),
            (io.BytesIO(octets), "a file"),
            (file, LOGIN),
            (pipe, "a file"),
            (rdpcap(LOGIN), "80 Scapy packets"),
            (list(rdpcap(LOGIN)), "80 Scapy packets"),
        ]
        for capture, name in forms:
            result = emu.replay(capture)
            assert result.capture == name
            assert [given["capture"] for given in result.summary["inputs"]] == [name]
            assert_frame_equal(result.verdicts(), frame)
            del result
    writer.join()
    gc.collect()
    assert not list(temporary.iterdir())


def test_crafted_packets() -> None:
    """A packet or a list of them; each arrives at its own `time`, to the nanosecond."""
    packet = Ether(dst="02:00:00:00:00:02", src="02:00:00:00:00:01") / IP(src="10.0.0.1", dst="10.0.0.2")
    one = packet / UDP(sport=4000, dport=5000) / Raw(b"x")
    one.time = 5
    assert emu.replay(one).capture == "a Scapy packet"
    later = one.copy()
    later.time = one.time + 7
    result = emu.replay([one, later], host="10.0.0.2", settings={"pressure.start": "quiet"})
    assert result.verdicts()["time_ns"].to_list() == [5_000_000_000, 12_000_000_000]
    assert result.delivered == 2
    raw = emu.replay([IP(src="10.0.0.1", dst="10.0.0.2") / TCP()], host="10.0.0.2")
    assert (raw.frames, raw.verdicts()["class"].to_list()) == (1, ["tcp"])


@pytest.mark.parametrize(
    ("captures", "error", "message"),
    [
        ((), emu.UsageError, "a capture is missing"),
        (("-",), emu.UsageError, r"-: .*give the file itself: sys\.stdin\.buffer"),
        (("/nowhere.pcap",), emu.CaptureError, r"/nowhere\.pcap"),
        ((b"",), emu.EmuError, "0 bytes"),
        ((b"no capture at all",), emu.CaptureError, "17 bytes"),
        (([],), emu.NothingToPlayError, "an empty list of packets"),
        ((3,), TypeError, "int: is no capture: expected a path, bytes, a binary file, or Scapy packets"),
        (([b"x"],), TypeError, "bytes: is no capture"),
        ((io.StringIO("x"),), TypeError, "open as text; open it as binary"),
        (([Raw(b"x")],), emu.UsageError, "begins with Raw, which is no link layer"),
        (([Ether() / IP(), IP()],), emu.UsageError, r"different layers \(Ether, IP\)"),
        ((str(PCAPS),), emu.EmuError, "pcaps"),
    ],
)
def test_what_cannot_be_played(
    captures: tuple[Any, ...],
    error: type[Exception],
    message: str,
    temporary: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """One line that says why, nothing on the terminal, nothing left behind."""
    with pytest.raises(error, match=message) as caught:
        emu.replay(*captures)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")
    del caught
    gc.collect()
    assert not list(temporary.iterdir())


@pytest.mark.parametrize("time", [-5, float("nan"), 1e30, 2**32])
def test_a_packet_at_an_impossible_time_is_told(time: float) -> None:
    """Which packet it is, in one line."""
    packet = Ether() / IP() / UDP()
    packet.time = time
    with pytest.raises(emu.UsageError, match=r"packets: packet 1 has the time .*; expected seconds"):
        emu.replay([packet], engine="plain")


def test_captures_of_devices() -> None:
    """A mapping from device to capture, in any form; beside it no other capture."""
    result = emu.replay(device={"eth0": NOP, "eth1": Path(LOGIN).read_bytes()})
    assert {name: device["rx_packets"] > 0 for name, device in result.summary["devices"].items()} == {
        "eth0": True,
        "eth1": True,
    }
    assert set(result.verdicts()["device"]) == {"eth0", "eth1"}
    with pytest.raises(emu.UsageError, match="name the device of each"):
        emu.replay(NOP, device={"eth1": LOGIN})


def test_several_captures_are_merged_by_time() -> None:
    """In any form, as the command merges files."""
    result = emu.replay(NOP, Path(LOGIN).read_bytes())
    expected = printed("replay", NOP, LOGIN)
    assert result.received == expected["received"] == emu.replay(NOP).received + emu.replay(LOGIN).received
    assert result.by_reason == expected["drops_by_reason"]


# --- verdicts ---------------------------------------------------------------------------------------------------------


def test_verdicts_live_as_long_as_their_result(temporary: Path) -> None:
    """They lie in a temporary file, which goes with the result; lazily they give the same."""
    result = emu.replay(NOP)
    assert len(list(temporary.rglob("*.parquet"))) == 1
    rows = result.verdicts()
    assert tuple(rows.columns) == NAMES
    assert rows.height == result.received
    lazy = result.verdicts(lazy=True).filter(polars.col("memalloc") == 1).select("frame")
    assert lazy.collect()["frame"].to_list() == rows.filter(memalloc=1)["frame"].to_list()
    again = pickle.loads(pickle.dumps(result))
    assert again.summary == result.summary
    del result, lazy
    gc.collect()
    assert not list(temporary.iterdir())
    with pytest.raises(emu.UsageError, match="keep_verdicts=True"):
        again.verdicts()


def test_verdicts_that_are_not_kept(temporary: Path) -> None:
    """Nothing is written, and verdicts() says what to do."""
    result = emu.replay(NOP, keep_verdicts=False)
    assert not list(temporary.iterdir())
    with pytest.raises(emu.UsageError, match=r"not kept; ask for keep_verdicts=True, or for log='NAME\.parquet'"):
        result.verdicts()


def test_without_polars_a_replay_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what needs polars says so, in one line."""
    monkeypatch.setitem(sys.modules, "polars", None)
    monkeypatch.setattr("emu.api.play.find_spec", lambda _name: None)
    result = emu.replay(NOP)
    assert result.received == 19
    for call in (result.verdicts, result.to_polars, result.reasons):
        with pytest.raises(emu.UsageError, match=rf"^{call.__name__}\(\) needs polars: pip install 'emu\[log\]'$"):
            call()


@settings(max_examples=12)
@given(
    ports=st.lists(st.sampled_from([3260, 80, 9000]), min_size=1, max_size=20),
    quiet=st.booleans(),
    limit=st.integers(1, 25),
)
def test_every_packet_is_accounted_for(ports: list[int], quiet: bool, limit: int) -> None:
    """Whatever is crafted: figures, reasons and verdicts say the same, and the same again."""
    head = Ether(dst="02:00:00:00:00:02", src="02:00:00:00:00:01") / IP(src="10.0.0.1", dst="10.0.0.2")
    packets = [head / TCP(sport=port, dport=40_000, flags="A", seq=1) / Raw(b"x" * port) for port in ports]
    for number, packet in enumerate(packets):
        packet.time = number / 1000
    given_words: dict[str, Any] = {"settings": {"pressure.start": "quiet" if quiet else "crunch"}, "limit": limit}
    result = emu.replay(packets, host="10.0.0.2", **given_words)
    assert (
        result.received == min(limit, len(packets)) == result.delivered + result.dropped + result.summary["in_flight"]
    )
    rows = result.verdicts()
    assert rows.filter(verdict="dropped").height == result.dropped == result.reasons()["packets"].sum()
    assert rows.filter(memalloc=1, verdict="dropped").height == result.memalloc.dropped
    assert_frame_equal(emu.replay(packets, host="10.0.0.2", **given_words).verdicts(), rows)


# --- what a notebook shows --------------------------------------------------------------------------------------------


def test_a_result_shows_itself(tmp_path: Path) -> None:
    """repr() is a line; HTML has the command's tables, and what a file's name says is text, never markup."""
    evil = tmp_path / "<script>[bold]&.pcap"
    evil.write_bytes(Path(NOP).read_bytes())
    result = emu.replay(evil, expect="memalloc.dropped == 0")
    assert repr(result) == (
        f"<ReplayResult {str(evil)!r} under phillips-v5: 19 received, {result.delivered} delivered, "
        f"{result.dropped} dropped; memalloc {result.memalloc.delivered}/19>"
    )
    html = result._repr_html_()
    assert html.startswith("<pre")
    assert "<script>" not in html
    assert "&lt;script&gt;[bold]&amp;.pcap" in html
    assert "memalloc (block I/O)" in html
    assert "expected memalloc.dropped == 0" in str(result)
    assert "\x1b" not in str(result)


def test_a_result_as_polars() -> None:
    """One row of main figures; the reasons in a long table."""
    result = emu.replay(LOGIN)
    row = result.to_polars().row(0, named=True)
    assert row["policy"] == "phillips-v5"
    assert (row["memalloc_received"], row["memalloc_delivered"], row["memalloc_dropped"]) == result.memalloc
    assert row["received"] == result.received
    assert dict(result.reasons().select("reason", "packets").iter_rows()) == result.by_reason
    assert result.reasons().schema == {"policy": polars.String, "reason": polars.String, "packets": polars.Int64}


# --- what goes wrong --------------------------------------------------------------------------------------------------


def test_a_damaged_capture_is_played_as_far_as_it_is_sound() -> None:
    """The result says what is wrong, as the command does with exit code 3."""
    result = emu.replay(Path(LOGIN).read_bytes()[:-7])
    assert result.frames == 79
    assert result.damage is not None
    assert result.damage in result.summary["incomplete"]
    assert (result.ok, result.exit_code) == (False, Exit.CAPTURE)
    assert "after frame 79" in repr(result)


def test_an_expectation_that_fails_is_told_not_raised() -> None:
    """`ok` and `expectations` say it."""
    result = emu.replay(NOP, expect=["frames == 41", "frames == 42"])
    assert [(each.holds, each.found) for each in result.expectations] == [(True, 41), (False, 41)]
    assert (result.ok, result.exit_code) == (False, Exit.EXPECTATION_FAILED)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_closes_the_outputs(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batch is finished, outputs say that they are incomplete; it is a KeyboardInterrupt that has the result."""
    play = Replay._play

    def interrupted(self: Replay, count: int) -> None:
        play(self, count)
        signal.raise_signal(number)

    monkeypatch.setattr(Replay, "_play", interrupted)
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt) as caught:
        emu.replay(MIXED, write=tmp_path / "a.pcapng")
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    assert isinstance(caught.value, emu.Interrupted)
    result = caught.value.result
    assert isinstance(result, emu.ReplayResult)
    assert result.summary["incomplete"] == "interrupted after frame 1996"
    assert (result.frames, result.exit_code) == (1996, Exit.INTERRUPTED)
    assert result.verdicts().height == result.received
    assert [path.name for path in tmp_path.iterdir()] == ["a.pcapng"]


def test_a_replay_in_a_thread_leaves_signals_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the main thread may set handlers; others play without, several at a time."""
    expected = emu.replay(NOP).verdicts()
    monkeypatch.setattr(signal, "signal", lambda *_: pytest.fail("a handler was set"))
    found: list[polars.DataFrame] = []
    threads = [threading.Thread(target=lambda: found.append(emu.replay(NOP).verdicts())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3
    for rows in found:
        assert_frame_equal(rows, expected)


def test_progress_is_shown_when_it_is_asked_for(capfd: pytest.CaptureFixture[str]) -> None:
    """On stderr; otherwise not a byte is printed."""
    emu.replay(NOP)
    assert capfd.readouterr() == ("", "")
    emu.replay(NOP, progress=True)
    shown = capfd.readouterr()
    assert shown.out == ""
    assert "phillips-v5" in shown.err


def test_the_annotated_capture_is_one(tmp_path: Path) -> None:
    """capinfos reads what `write` leaves, and counts the frames of the result."""
    import subprocess

    result = emu.replay(NOP, write=tmp_path / "a.pcapng")
    said = subprocess.run([tool("capinfos"), "-c", str(tmp_path / "a.pcapng")], capture_output=True, text=True)
    assert f"{result.frames}" in said.stdout.split()

"""The capture of a run, read by other programs: whole conversations, sound frames, and drops where they belong."""

from pathlib import Path

import pytest
from external_tools import run as run_tool
from loop_kit import Tree, run_of_tree
from replay_kit import column, played, rows_of
from scapy.utils import PcapNgReader

from emu.task import Outputs

# 270 of 1024 pages are free; 16 sockets that nobody reads take them within 0.1 s.
FLOODED: Tree = {
    "policy": {"name": "phillips-v5"},
    "run": {"for": "1s", "flood": ["udp:pps=5k,size=1514,ports=16,for=150ms,start=20ms"]},
    "zone": [
        {"name": "DMA", "free_pages": 0},
        {"name": "Normal", "present_pages": 1024, "min_pages": 15, "low_pages": 18, "high_pages": 22}
        | {"free_pages": 200},
    ],
    "device": [{"name": "eth0", "ring": 80, "rx_reserve": 100}],
    "readers": {"ordinary": "never"},
    "vm": {"dirty_background_ratio": 0},
    "writer": [{"rate": "2MB/s", "stop": "400ms"}],
    "session": [{"queue_depth": 8}],
    "download": [{"reader": "needs-memory", "bytes": "300KiB", "start": "10ms"}],
}
# A blackout takes segments and acknowledgements of both; nothing is short.
INTERRUPTED: Tree = {
    "run": {"for": "1500ms"},
    "vm": {"dirty_background_ratio": 0},
    "writer": [{"rate": "600kB/s", "stop": "800ms"}],
    "session": [{"write_size": "64KiB"}],
    "download": [{"reader": "immediate", "bytes": "300KiB", "start": "100ms"}],
    "blackout": [{"start": "102ms", "for": "150ms"}],
}
BLACKOUT_S = 0.102
CLEAN: Tree = {key: table for key, table in INTERRUPTED.items() if key != "blackout"}
WORLDS = {"flooded": FLOODED, "interrupted": INTERRUPTED, "clean": CLEAN}
WHOLE = 1 | 2 | 4 | 8  # tcp.completeness: SYN, SYN-ACK, ACK, data
WARNED = "_ws.expert.severity >= 0x600000"
VERIFY = [word for layer in ("ip", "tcp", "udp") for word in ("-o", f"{layer}.check_checksum:TRUE")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder per world, with the run's capture and log."""
    place = tmp_path_factory.mktemp("runs")
    for name, tree in WORLDS.items():
        (place / name).mkdir()
        outputs = Outputs(write=str(place / name / "out.pcapng"), log=str(place / name / "log.csv"))
        run_of_tree(tree, place / name, outputs).run()
    return place


def fields(folder: Path, name: str, *wanted: str, only: str = "frame") -> list[list[str]]:
    words = [word for each in wanted for word in ("-e", each)]
    text = run_tool("tshark", "-r", folder / name / "out.pcapng", *VERIFY, "-Y", only, "-T", "fields", *words)
    return [line.split("\t") for line in text.splitlines()]


@pytest.mark.parametrize("name", WORLDS)
def test_wireshark_finds_no_fault(folder: Path, name: str) -> None:
    """No frame is malformed, no checksum wrong, nothing worth a warning."""
    assert fields(folder, name, "frame.number", "_ws.expert.message", only="_ws.malformed or " + WARNED) == []
    checksums = {status for line in fields(folder, name, "tcp.checksum.status", only="tcp") for status in line}
    assert checksums == {"1"}, "every TCP checksum is good"


@pytest.mark.parametrize("name", WORLDS)
def test_conversations_are_complete_from_the_handshake_on(folder: Path, name: str) -> None:
    """Session and download begin with a handshake, carry data, and none is reset."""
    said = {stream: int(seen) for stream, seen in fields(folder, name, "tcp.stream", "tcp.completeness", only="tcp")}
    assert len(said) == 2
    assert set(said.values()) == {WHOLE}


def test_nothing_is_sent_twice_where_nothing_is_lost(folder: Path) -> None:
    flagged = fields(folder, "clean", "frame.number", "_ws.col.Info", only="tcp.analysis.flags")
    assert [line for line in flagged if "Window" not in line[1]] == []


def test_retransmissions_begin_with_the_blackout(folder: Path) -> None:
    """The host's segments come twice; what peers sent meanwhile never reached the NIC that the capture is taken at."""
    again = fields(folder, "interrupted", "frame.time_relative", "ip.src", only="tcp.analysis.retransmission")
    assert again
    assert min(float(seconds) for seconds, _ in again) > BLACKOUT_S
    assert {source for _, source in again} >= {"10.0.0.2"}


def test_retransmissions_follow_drops_of_their_stream(folder: Path) -> None:
    """The reserve loses no frame of the session's: not a segment of it comes twice; the download's do, after drops."""
    dropped = fields(
        folder, "flooded", "tcp.stream", "frame.number", only='frame.interface_name == "eth0-drop" and tcp'
    )
    first_drop: dict[str, int] = {}
    for stream, number in dropped:
        first_drop.setdefault(stream, int(number))
    again = fields(folder, "flooded", "tcp.stream", "frame.number", only="tcp.analysis.retransmission")
    assert again
    for stream, number in again:
        assert stream in first_drop, f"frame {number} is a retransmission of a stream of which nothing was dropped"
        assert first_drop[stream] < int(number)
    session = {stream for stream, *_ in fields(folder, "flooded", "tcp.stream", only="tcp.port == 3260")}
    assert not session & set(first_drop)


def test_drops_are_marked(folder: Path) -> None:
    """The frames on eth0-drop, with their comments, are those that the log says were dropped."""
    rows = rows_of(folder / "flooded" / "log.csv")
    dropped = [row for row in rows if row["verdict"] == "dropped"]
    marked = fields(folder, "flooded", "frame.number", "frame.comment", only='frame.interface_name == "eth0-drop"')
    assert [number for number, _ in marked] == column(dropped, "frame")
    assert all(row["reason"] in comment for row, (_, comment) in zip(dropped, marked, strict=True))
    assert {"RX_MISSED", "PFMEMALLOC"} <= set(column(dropped, "reason"))


@pytest.mark.parametrize("name", ["flooded", "interrupted"])
def test_other_readers_agree(folder: Path, name: str) -> None:
    """capinfos, Scapy and python-pcapng read as many frames as tshark does, in order of time."""
    from pcapng import FileScanner
    from pcapng.blocks import EnhancedPacket

    path = folder / name / "out.pcapng"
    count = len(fields(folder, name, "frame.number"))
    info = run_tool("capinfos", "-M", "-c", "-o", path)
    assert f"Number of packets:   {count}\n" in info
    assert "Strict time order:   True" in info
    with PcapNgReader(str(path)) as reader:
        assert sum(1 for _ in reader) == count
    with path.open("rb") as file:
        assert sum(isinstance(block, EnhancedPacket) for block in FileScanner(file)) == count


def test_a_replay_follows_the_session_of_a_run(folder: Path) -> None:
    """What a run has written can be replayed: every write of it is found again, and the Response that ends it."""
    capture = folder / "interrupted" / "out.pcapng"
    commands = fields(folder, "interrupted", "iscsi.initiatortasktag", only="iscsi.scsicommand.W == 1")
    responses = fields(folder, "interrupted", "iscsi.initiatortasktag", only="iscsi.opcode == 0x21")
    tags = {tag for line in commands for tag in line[0].split(",")}
    assert tags == {tag for line in responses for tag in line[0].split(",")}
    found = played(capture, settings={"readers.ordinary": "immediate"}).result
    followed = found["iscsi"]
    assert followed["writes"] == followed["responses"] == len(tags)
    assert followed["pages_written"] == followed["pages_freed"] >= len(tags)
    assert not any(followed[name] for name in ("pages_stuck", "resyncs", "skipped_bytes", "unmatched"))

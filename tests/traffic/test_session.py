"""A crafted iSCSI session is a valid one: tshark finds nothing wrong, and neither does a walk by the RFCs' rules."""

from pathlib import Path
from typing import Any

import pytest
from external_tools import run
from hypothesis import given, settings
from hypothesis import strategies as st
from session_kit import PLAIN, Crafted, crafted, frames_of, pcap_of
from session_walk import walk

from emu.kernel.machine import DIR_INBOUND, Packet
from emu.traffic.iscsi import templates
from emu.traffic.iscsi.options import IscsiAcks
from emu.traffic.iscsi.session import SessionReader

CHECKED = ("-o", "ip.check_checksum:TRUE", "-o", "tcp.check_checksum:TRUE")
WARNING = 0x600000
ANALYSIS = ("retransmission", "out_of_order", "lost_segment", "window_full")
SEEN = (
    "_ws.malformed",
    "_ws.expert.severity",
    "ip.checksum.status",
    "tcp.checksum.status",
    "tcp.analysis.flags",
    "tcp.flags.fin",
    "tcp.flags.syn",
    *(f"tcp.analysis.{name}" for name in ANALYSIS),
)
PDUS = ("iscsi.opcode", "iscsi.response_frame", "iscsi.request_frame")


def is_wrong(row: dict[str, str]) -> bool:
    """The notes of any connection that is opened or closed are Wireshark's own; every other expert note counts."""
    noted = [int(word) for word in row["_ws.expert.severity"].split(",") if word]
    ends, begins = row["tcp.flags.fin"] != "0", row["tcp.flags.syn"] != "0"
    return bool(
        row["_ws.malformed"]
        or any(severity >= WARNING for severity in noted)
        or "0" in (row["ip.checksum.status"], row["tcp.checksum.status"])
        or (row["tcp.analysis.flags"] and not ends)
        or any(row[f"tcp.analysis.{name}"] for name in ANALYSIS)
        or (noted and not ends and not begins)
    )


JUDGED: dict[str, dict[str, Any]] = {
    "512 bytes, depth 64": {"writes": 130, "write_size": 512, "queue_depth": 64},
    "4 KiB, depth 8": {"writes": 100},
    "4 KiB, depth 1, over IPv6": {"writes": 60, "queue_depth": 1, "target": "fd00::9"},
    "64 KiB, depth 8": {"writes": 16, "write_size": "64KiB"},
    "32 KiB, depth 64, far away": {"writes": 70, "write_size": "32KiB", "queue_depth": 64, "rtt": "20ms"},
    "1 MiB, depth 8": {"writes": 2, "write_size": "1MiB"},
    "1 MiB, jumbo frames": {"writes": 3, "write_size": "1MiB", "mss": 8960, "max_recv": "256KiB"},
    "small segments": {"writes": 12, "write_size": "16KiB", "mss": 536},
    "nothing immediate, no delays": {
        "writes": 60,
        "write_size": "8KiB",
        "immediate_data": False,
        "service": 0,
        "rtt": 0,
    },
    "header digests": {"writes": 12, "write_size": "64KiB", "digests": "header"},
    # Data digests in PDUs of one segment only: tshark does not count them when it reassembles.  The walk does.
    "both digests": {"writes": 60, "write_size": "1KiB", "digests": "both"},
    "pings": {"writes": 40, "pps": 20, "nop_interval": "150ms"},
}


def tshark_rows(capture: Path, *fields: str) -> list[dict[str, str]]:
    """Fields of all frames; read twice, for a command's response comes later."""
    asked = [argument for name in fields for argument in ("-e", name)]
    text = run("tshark", "-2", "-r", capture, *CHECKED, "-T", "fields", *asked)
    return [dict(zip(fields, line.split("\t"), strict=True)) for line in text.splitlines()]


def values(rows: list[dict[str, str]], field: str) -> list[str]:
    """All values of a field; a frame may hold several PDUs."""
    return [value for row in rows for value in row[field].split(",") if value]


def test_what_is_wrong_is_seen(tmp_path: Path) -> None:
    """A lost segment, a repeated one, and bytes that their checksum does not cover; the rest is right."""
    frames = crafted(direction="both", writes=9)
    assert not any(map(is_wrong, tshark_rows(pcap_of(frames, tmp_path / "right.pcap"), *SEEN)))
    inward = [at for at, frame in enumerate(frames) if frame.direction == DIR_INBOUND and len(frame.octets) > 100][2:5]
    lost, again, changed = inward
    frames[changed] = frames[changed]._replace(octets=frames[changed].octets[:-1] + b"\xa5")
    frames.insert(again, frames[again])
    del frames[lost]
    rows = tshark_rows(pcap_of(frames, tmp_path / "wrong.pcap"), *SEEN)
    assert 3 <= sum(map(is_wrong, rows)) < len(rows)


@pytest.mark.parametrize("options", list(JUDGED.values()), ids=list(JUDGED))
def test_tshark_finds_nothing_wrong_and_every_write_answered(options: dict[str, Any], tmp_path: Path) -> None:
    """No malformed frame, bad checksum or TCP analysis flag; each command has its response, as many as were asked."""
    frames = crafted(direction="both", **options)
    capture = pcap_of(frames, tmp_path / "session.pcap")
    rows = tshark_rows(capture, *SEEN, *PDUS)
    assert [row for row in rows if is_wrong(row)] == []
    writes = options["writes"]
    opcodes = values(rows, "iscsi.opcode")
    assert len(values([row for row in rows if "0x01" in row["iscsi.opcode"]], "iscsi.response_frame")) == writes
    assert len(values([row for row in rows if "0x21" in row["iscsi.opcode"]], "iscsi.request_frame")) == writes
    found = walk(frames, options.get("queue_depth", 8))
    by_opcode = {"SCSICommand": "0x01", "SCSIResponse": "0x21", "R2T": "0x31", "DataOut": "0x05", "NOPIn": "0x20"}
    for name, opcode in by_opcode.items():
        assert opcodes.count(opcode) == found.counts.get(name, 0), name
    assert [opcodes.count(opcode) for opcode in ("0x03", "0x23", "0x06", "0x26")] == [2, 2, 1, 1]
    digests = options.get("digests", "none")
    if digests != "none":
        data = found.counts["SCSICommand"] if digests == "both" else 0
        good = run("tshark", "-r", capture, "-V", "-Y", "iscsi").count("(Good CRC32)")
        assert good == len(opcodes) - 4 + data, "all but the login's PDUs have a digest"


def test_tshark_reads_what_the_initiator_receives(tmp_path: Path) -> None:
    """Seen in one direction: no malformed frame, no bad checksum, no gap, and all PDUs of the target."""
    frames = crafted(writes=200, write_size="16KiB", digests="header")
    rows = tshark_rows(pcap_of(frames, tmp_path / "acks.pcap"), *SEEN, *PDUS)
    assert len(rows) == len(frames)
    for row in rows:
        wrong = ("_ws.malformed", "tcp.analysis.retransmission", "tcp.analysis.lost_segment")
        assert not any(row[field] for field in wrong), row
        assert (row["ip.checksum.status"], row["tcp.checksum.status"]) == ("1", "1")
    opcodes = values(rows, "iscsi.opcode")
    assert [opcodes.count(opcode) for opcode in ("0x23", "0x31", "0x21", "0x26")] == [2, 200, 200, 1]


sizes = st.integers(1, 24).map(lambda blocks: 512 * blocks)


@st.composite
def asked(draw: st.DrawFn) -> dict[str, Any]:
    """Any session that can be, of few writes."""
    bursts = sorted((draw(sizes), draw(sizes)))
    return {
        "writes": draw(st.integers(1, 6)),
        "write_size": draw(sizes),
        "queue_depth": draw(st.sampled_from((1, 2, 3, 8, 1024))),
        "immediate_data": draw(st.booleans()),
        "first_burst": bursts[0],
        "max_burst": bursts[1],
        "max_recv": draw(sizes),
        "mss": draw(st.sampled_from((536, 1460, 9000, 16_070))),
        "digests": draw(st.sampled_from(("none", "header", "data", "both"))),
        "service": draw(st.integers(0, 10**6)),
        "rtt": draw(st.sampled_from((0, 1, 100_000, 90_000_000))),
        "pps": draw(st.sampled_from((None, 900, "2.5k", 10**9))),
        "nop_interval": draw(st.sampled_from((None, "20us", "300us", "200ms"))),
        "lun": draw(st.sampled_from((0, 1, 255, 256, 16_383))),
        "port": draw(st.sampled_from((3260, 1, 65535))),
        "initiator": draw(st.sampled_from((None, "192.0.2.1", "2001:db8::1"))),
        "seed": draw(st.integers(0, 1 << 62)),
    }


@settings(max_examples=15, deadline=None)
@given(asked())
def test_any_session_keeps_the_rules(options: dict[str, Any]) -> None:
    """TCP without a gap, a repetition or a full window; iSCSI's numbers, tags, lengths and digests as they must be."""
    frames = crafted(direction="both", **options)
    found = walk(frames, options["queue_depth"])
    assert found.counts["SCSICommand"] == found.counts["SCSIResponse"] == options["writes"]
    assert found.logged_out and not found.tasks and not found.pings
    assert all(end.finished and not end.stream for end in found.ends.values())
    assert found.most_outstanding <= min(options["queue_depth"], options["writes"])
    assert inbound(frames) == crafted(**options), "the one-directional session is the same one, seen in one direction"


def inbound(frames: list[Crafted]) -> list[Crafted]:
    """The frames that the initiator receives."""
    return [frame for frame in frames if frame.direction == DIR_INBOUND]


def test_the_queue_is_kept_full() -> None:
    """As many writes as the queue is deep are outstanding, no more; the target says so in MaxCmdSN."""
    assert walk(crafted(direction="both", writes=60, queue_depth=16, service="2ms"), 16).most_outstanding == 16


def test_numbers_wrap(monkeypatch: pytest.MonkeyPatch) -> None:
    """TCP sequence numbers, timestamps, IP ids, CmdSN, StatSN and task tags go on behind their last value."""
    choose = templates.choose

    def near_the_end(options: IscsiAcks) -> templates.Chosen:
        return choose(options)._replace(
            itt=0x7FFFFFFC,
            ttt=0x7FFFFFFE,
            cmd_sn=0xFFFFFFFC,
            stat_sn=0xFFFFFFFE,
            host_seq=0xFFFF0000,
            target_seq=0xFFFFFF80,
            host_id=0xFFF0,
            target_id=0xFFFE,
            host_stamp=0xFFFFFFFF,
            target_stamp=0xFFFFFFFE,
        )

    monkeypatch.setattr(templates, "choose", near_the_end)
    found = walk(crafted(direction="both", writes=40, write_size="32KiB", digests="header"), 8)
    assert found.counts["SCSIResponse"] == 40
    assert found.cmd_sn == 36 and found.stat_sn == (0xFFFFFFFE + 40 + 3) % (1 << 32)


def test_two_thousand_million_writes_end_as_they_began() -> None:
    """The state is the same few numbers however long the session is: only the counters stand elsewhere."""
    writes = 1 << 31
    reader = SessionReader(IscsiAcks(writes=writes, direction="both"), PLAIN)
    frames = frames_of(reader, most=100)
    state = reader._session
    skipped = writes - state.issued - 20
    state.issued += skipped
    state.completed += skipped
    rest = frames_of(reader, first_frame=len(frames) + 1)
    found = walk(frames + rest, 8)
    assert found.logged_out and reader.ended
    assert found.counts["SCSICommand"] == found.counts["SCSIResponse"] == writes - skipped


def test_memory_is_bounded() -> None:
    """The window does not grow while what was read is discarded, and grows when it is kept."""
    options = IscsiAcks(writes=2000, write_size="64KiB", direction="both")
    reader = SessionReader(options, PLAIN, window_bytes=1 << 14)
    frames_of(reader, batch=7, most=3000)
    assert len(reader.octets) == 1 << 14
    rows = PLAIN.rows(Packet, 256)
    kept = 0
    while kept < 256:
        kept += reader.read(rows, kept, 256 - kept)
    again = frames_of(SessionReader(options, PLAIN), most=3256)[3000:]
    assert [bytes(reader.octets[rows[at].offset :][: rows[at].caplen]) for at in range(256)] == [
        frame.octets for frame in again
    ]


@pytest.mark.parametrize("batch", [1, 3, 1000])
def test_how_it_is_read_changes_nothing(batch: int) -> None:
    """Batches and windows of any size give the same frames."""
    options = IscsiAcks(writes=30, write_size="16KiB", direction="both", digests="both")
    assert frames_of(SessionReader(options, PLAIN, window_bytes=1), batch=batch) == frames_of(
        SessionReader(options, PLAIN)
    )

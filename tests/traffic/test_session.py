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
# The notes of any connection that is closed are Wireshark's own; every other expert note counts.
WRONG = (
    f"_ws.malformed || _ws.expert.severity >= {WARNING} || tcp.checksum.status == 0 || ip.checksum.status == 0"
    " || (tcp.analysis.flags && !tcp.flags.fin) || tcp.analysis.retransmission || tcp.analysis.out_of_order"
    " || tcp.analysis.lost_segment || tcp.analysis.window_full || (_ws.expert && !tcp.flags.fin && !tcp.flags.syn)"
)

JUDGED: dict[str, dict[str, Any]] = {
    "512 bytes, depth 64": {"writes": 200, "write_size": 512, "queue_depth": 64},
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


def tshark_lines(capture: Path, display_filter: str, *fields: str) -> list[list[str]]:
    """Fields of the frames that a display filter shows; read twice, for a command's response comes later."""
    asked = [argument for name in ("frame.number", *fields) for argument in ("-e", name)]
    text = run("tshark", "-2", "-r", capture, *CHECKED, "-Y", display_filter, "-T", "fields", *asked)
    return [line.split("\t") for line in text.splitlines()]


def values(lines: list[list[str]], column: int) -> list[str]:
    """All values of a field; a frame may hold several PDUs."""
    return [value for line in lines for value in line[column].split(",") if value]


@pytest.mark.parametrize("options", list(JUDGED.values()), ids=list(JUDGED))
def test_tshark_finds_nothing_wrong_and_every_write_answered(options: dict[str, Any], tmp_path: Path) -> None:
    """No malformed frame, bad checksum or TCP analysis flag; each command has its response, as many as were asked."""
    frames = crafted(direction="both", **options)
    capture = pcap_of(frames, tmp_path / "session.pcap")
    assert tshark_lines(capture, WRONG) == []
    writes = options["writes"]
    lines = tshark_lines(capture, "iscsi", "iscsi.opcode", "iscsi.response_frame", "iscsi.request_frame")
    opcodes = values(lines, 1)
    assert len(values([line for line in lines if "0x01" in line[1]], 2)) == writes
    assert len(values([line for line in lines if "0x21" in line[1]], 3)) == writes
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
    frames = crafted(writes=500, write_size="16KiB", digests="header")
    capture = pcap_of(frames, tmp_path / "acks.pcap")
    wrong = "_ws.malformed || tcp.checksum.status == 0 || ip.checksum.status == 0"
    assert tshark_lines(capture, f"{wrong} || tcp.analysis.retransmission || tcp.analysis.lost_segment") == []
    opcodes = values(tshark_lines(capture, "iscsi", "iscsi.opcode"), 1)
    assert [opcodes.count(opcode) for opcode in ("0x23", "0x31", "0x21", "0x26")] == [2, 500, 500, 1]
    assert run("tshark", "-r", capture, *CHECKED, "-Y", "tcp.checksum.status == 1").count("\n") == len(frames)


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


@settings(max_examples=25, deadline=None)
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

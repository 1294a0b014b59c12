"""`emu export --format net_dm`: what the kernel's drop monitor would have said, as stock tshark reads it."""

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from emu_process import NOP, emu_here, refused
from export_kit import Made, make, tshark_rows
from external_tools import run

from emu.capture.blocks import OPT_COMMENT, interface_block, options, section_header
from emu.capture.comments import TOLD_LOST
from emu.capture.output import OutputFile
from emu.kernel import drop_reason as dr
from emu.verdicts.export.drops import WHY_NOT_PLAYED, WHY_OOPS, WHY_UNTOLD, Row, left_out
from emu.verdicts.export.freed import WHY_RECYCLED
from emu.verdicts.export.net_dm import MAX_PAYLOAD, NetDmWriter, alert, ethernet_frame
from emu.verdicts.export.net_dm import Drop as NetDmDrop
from emu.verdicts.export.packet_block import packet_block
from emu.wire import headers

FIELDS = (
    "net_dm.origin",
    "net_dm.symbol",
    "net_dm.hw_trap_name",
    "net_dm.hw_trap_group_name",
    "net_dm.port.netdev_index",
    "net_dm.port.netdev_name",
    "net_dm.timestamp",
    "net_dm.orig_len",
    "net_dm.proto",
    "frame.time_epoch",
    "ip.src",
    "ip.dst",
    "arp.src.proto_ipv4",
    "arp.dst.proto_ipv4",
)
PAYLOAD, REASON = 7, 23
IPV4 = bytes.fromhex("450000140000000040060000c0a80001c0a80002")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The run."""
    return make(tmp_path_factory.mktemp("run"))


@pytest.mark.parametrize("suffix", [".pcap", ".pcapng"])
def test_tshark_decodes_every_drop(made: Made, tmp_path: Path, suffix: str) -> None:
    target = tmp_path / f"drops{suffix}"
    done = emu_here("export", made.capture, "--format", "net_dm", "-w", target)
    assert (done.code, done.out, done.err) == (0, "", f"emu: {len(made.dropped)} drops exported\n")
    announced, *drops = tshark_rows(target, *FIELDS)
    assert announced["net_dm.origin"] == ""
    assert len(drops) == len(made.dropped)
    for said, row in zip(drops, made.dropped, strict=True):
        in_nic = row["point"] == "nic"
        assert said["net_dm.origin"] == str(int(in_nic))
        assert said["net_dm.symbol"] == ("" if in_nic else f"{row['point']}+0x0")
        assert said["net_dm.hw_trap_name"] == (row["reason"].lower() if in_nic else "")
        assert said["net_dm.hw_trap_group_name"] == ("buffer_drops" if in_nic else "")
        assert (said["net_dm.port.netdev_name"], said["net_dm.port.netdev_index"]) == (row["device"], "2")
        assert said["net_dm.orig_len"] == str(row["length"])
        assert int(said["net_dm.proto"], 0) == (0x0806 if row["class"] == "arp" else 0x0800)
        seconds, ns = divmod(row["decided_ns"], 1_000_000_000)
        assert said["frame.time_epoch"] == f"{seconds}.{ns:09}"
        source, destination = (end.rsplit(":", 1)[0] for end in row["flow"].split(" ", 1)[1].split(" > "))
        assert (said["ip.src"] or said["arp.src.proto_ipv4"]) == source
        assert (said["ip.dst"] or said["arp.dst.proto_ipv4"]) == destination


def test_messages_hold_the_frame_and_the_reason(made: Made, tmp_path: Path) -> None:
    target, frames = tmp_path / "drops.pcap", tmp_path / "frames.pcap"
    assert emu_here("export", made.capture, "--format", "net_dm", "-w", target).code == 0
    assert emu_here("export", made.capture, "--format", "drops", "-w", frames).code == 0
    messages = [octets for _, octets in records(target.read_bytes())][1:]
    lost = [octets for _, octets in records(frames.read_bytes())]
    for message, frame, row in zip(messages, lost, made.dropped, strict=True):
        said = dict(attributes(message[16 + 16 + 4 :]))
        assert said[PAYLOAD] == frame
        # tshark 4.0 does not know the attribute of the reason; drops in hardware have none.
        assert said.get(REASON) == (None if row["point"] == "nic" else row["reason"].encode() + b"\0")


def attributes(message: bytes) -> Iterator[tuple[int, bytes]]:
    """The attributes of a generic netlink message, behind its headers."""
    at = 0
    while at < len(message):
        length, code = struct.unpack_from("<HH", message, at)
        yield code & 0x3FFF, message[at + 4 : at + length]
        at += length + 3 & ~3


def records(pcap: bytes) -> list[tuple[int, bytes]]:
    """The records of a little-endian pcap in nanoseconds: time and bytes."""
    assert pcap[:4] == bytes.fromhex("4d3cb2a1")
    at, found = 24, []
    while at < len(pcap):
        seconds, ns, caplen, _length = struct.unpack_from("<IIII", pcap, at)
        found.append((seconds * 1_000_000_000 + ns, pcap[at + 16 : at + 16 + caplen]))
        at += 16 + caplen
    return found


def test_merged_and_cut_captures_say_the_same(made: Made, tmp_path: Path) -> None:
    merged, target = tmp_path / "merged.pcapng", tmp_path / "drops.pcapng"
    run("mergecap", "-a", "-w", merged, made.capture, made.capture)
    assert emu_here("export", merged, "--format", "net_dm", "-w", target).code == 0
    points = [row["net_dm.symbol"] for row in tshark_rows(target, "net_dm.symbol")][1:]
    once = ["" if row["point"] == "nic" else f"{row['point']}+0x0" for row in made.dropped]
    assert points == once + once


@pytest.mark.parametrize(
    ("linktype", "captured", "header", "protocol"),
    [
        (headers.LINKTYPE_RAW, IPV4, 0, 0x0800),
        (headers.LINKTYPE_IPV6, b"\x60" + bytes(39), 0, 0x86DD),
        (headers.LINKTYPE_NULL, b"\x02\0\0\0" + IPV4, 4, 0x0800),
        (headers.LINKTYPE_LINUX_SLL, bytes(14) + b"\x08\x06" + IPV4, 16, 0x0806),
        (headers.LINKTYPE_LINUX_SLL2, b"\x86\xdd" + bytes(18) + IPV4, 20, 0x86DD),
        (headers.LINKTYPE_LINUX_SLL, bytes(3), 16, 0),
        (headers.LINKTYPE_RAW, b"", 0, 0),
    ],
)
def test_a_frame_without_ethernet_gets_a_header(linktype: int, captured: bytes, header: int, protocol: int) -> None:
    frame, length, told = ethernet_frame(captured, 1000, linktype)
    assert frame == bytes(12) + protocol.to_bytes(2, "big") + captured[header:]
    assert (length, told) == (1000 - header + 14, protocol)


def test_an_ethernet_frame_stays_as_it_is() -> None:
    assert ethernet_frame(bytes(12) + b"\x08\x00" + IPV4, 60, headers.LINKTYPE_ETHERNET) == (
        bytes(12) + b"\x08\x00" + IPV4,
        60,
        0x0800,
    )
    assert ethernet_frame(bytes(13), 13, headers.LINKTYPE_ETHERNET) == (bytes(13), 13, 0)


def test_a_payload_ends_where_the_kernels_does(tmp_path: Path) -> None:
    frame = bytes(12) + b"\x08\x00" + bytes(70_000)
    drop = NetDmDrop("PFMEMALLOC", "udp_rcv", 2, "eth0", 1, len(frame), 0x0800, frame)
    assert alert(drop)[-MAX_PAYLOAD - 5 : -1] == struct.pack("<HH", MAX_PAYLOAD + 4, 7) + frame[:MAX_PAYLOAD]
    target = tmp_path / "long.pcapng"
    with OutputFile(target) as output:
        NetDmWriter(output, "pcapng", []).write(drop)
    rows = tshark_rows(target, "net_dm.orig_len", "_ws.malformed")
    assert (rows[1]["net_dm.orig_len"], rows[1]["_ws.malformed"]) == (str(len(frame)), "")


def row_of(**values: int) -> Row:
    return Row(**(dict.fromkeys(Row._fields, 0) | {"verdict": dr.DROPPED, "reason": dr.PFMEMALLOC} | values))


def test_what_no_monitor_hears_of_is_left_out() -> None:
    assert left_out(row_of(point=dr.AT_TCP_V4_RCV)) is None
    assert left_out(row_of(point=dr.AT_NIC, reason=dr.RX_MISSED)) is None
    assert left_out(row_of(verdict=dr.DELIVERED)) == ""
    assert left_out(row_of(verdict=dr.PENDING)) == ""
    assert left_out(row_of(point=dr.AT_TG3_RX, reason=dr.NO_MEMORY)) == WHY_RECYCLED
    assert left_out(row_of(point=dr.AT_CP_RX_POLL, reason=dr.NO_MEMORY)) == WHY_RECYCLED
    assert left_out(row_of(verdict=dr.OOPS)) == WHY_OOPS
    assert left_out(row_of(verdict=dr.NOT_PLAYED)) == WHY_NOT_PLAYED
    assert left_out(row_of(verdict=dr.PENDING, told=TOLD_LOST)) == WHY_UNTOLD


def test_hostile_comments_are_left_out_and_counted(tmp_path: Path) -> None:
    comments = (
        b"",
        b"DROP NOSUCHREASON",
        b"DROP ",
        b"emu verdict=dropped reason=" + b"A" * 60_000,
        b"emu verdict=dropped reason=PFMEMALLOC point=no_such_point time_ns=99999999999999999999999",
        b"\xff\x00\xfe emu verdict=dropped",
        b"emu verdict=dropped reason=PFMEMALLOC point=tcp_v4_rcv time_ns=-5 waited_ns=-5",
    )
    parts = [section_header([]), interface_block(1, "eth0"), interface_block(1, "eth0-drop")]
    parts += [packet_block(1, 1, bytes(60), 60, options((OPT_COMMENT, comment))) for comment in comments]
    capture, target = tmp_path / "hostile.pcapng", tmp_path / "drops.pcapng"
    capture.write_bytes(b"".join(parts))
    done = emu_here("export", capture, "--format", "net_dm", "-w", target)
    assert done.code == 0 and "Traceback" not in done.err, done.err
    written = len(tshark_rows(target, "net_dm.origin")) - 1
    counted = sum(int(line.split()[3]) for line in done.err.splitlines() if "left out: " in line)
    assert written + counted == len(comments) and written >= 1
    assert f"{written} drops exported" in done.err


def test_a_log_has_no_frames(made: Made, tmp_path: Path) -> None:
    said = refused("export", made.log, "--format", "net_dm", "-w", tmp_path / "x.pcap", code=2)
    assert "is a log, which has no bytes of frames" in said and "emu replay CAPTURE -w FILE" in said
    assert not list(tmp_path.iterdir())


def test_a_plain_capture_is_no_annotated_one(made: Made, tmp_path: Path) -> None:
    for form, expected in (("net_dm", "has annotated"), ("survivors", "no annotated capture")):
        said = refused("export", NOP, "--format", form, "-w", tmp_path / "x.pcap", code=3)
        assert expected in said and "emu replay CAPTURE -w" in said and not list(tmp_path.iterdir())


def test_a_cut_off_capture_is_exported_as_far_as_it_goes(made: Made, tmp_path: Path) -> None:
    cut, target = tmp_path / "cut.pcapng", tmp_path / "drops.pcap"
    whole = made.capture.read_bytes()
    cut.write_bytes(whole[: len(whole) * 2 // 3])
    done = emu_here("export", cut, "--format", "net_dm", "-w", target)
    assert done.code == 3 and "cut.pcapng ends early: byte " in done.err
    written = len(tshark_rows(target, "net_dm.origin")) - 1
    assert f"{written} drops exported" in done.err and 0 < written < len(made.dropped)

"""The annotated capture: both engines write the same bytes, and every reader that counts reads them."""

import io
import re
import struct
from pathlib import Path
from typing import Any

import pcapng
import pytest
from capture_kit import play_bytes
from engine_pair import NAMES, engine_named, packets
from external_tools import run
from hypothesis import given, settings
from hypothesis import strategies as st
from syrupy.assertion import SnapshotAssertion

from emu.capture import annotate
from emu.capture import blocks as pcapng_blocks
from emu.capture.annotate import AnnotatedWriter, pair_of
from emu.capture.output import OutputFile
from emu.errors import UsageError
from emu.kernel import drop_reason as dr
from emu.kernel import machine
from emu.wire.headers import KIND_UDP, KINDS

RULES = ("", "2005", "user's own")
START_NS = 1_700_000_000_123_456_789
FRAME = bytes.fromhex("020000000001 020000000002 0800 4500001c00010000401166cf0a0000010a000002 0035003500080000")

DROP: dict[str, int] = {
    "verdict": dr.DROPPED,
    "reason": dr.PFMEMALLOC,
    "point": dr.AT_TCP_V4_RCV,
    "rule": 1,
    "from_reserve": 1,
    "reserve_used_before": 12,
    "cap_skbs": 50,
    "free_pages": 197,
    "floor_pages": 256,
    "ring_free": 3,
    "culprit_frame": 1,
    "culprit_id": 7,
    "kind": KIND_UDP,
    "reserve_used_after": 11,
    "backlog_len": 4,
    "time_ns": 1_700_000_000_123_456_000,
    "decided_ns": 1_700_000_000_123_456_789,
}


def capture(frames: list[tuple[bytes, dict[str, int]]]) -> tuple[list[dict[str, int]], bytearray]:
    """Columns of consecutive frames, and the window in which they lie."""
    window, rows = bytearray(b"before"), []
    for number, (octets, columns) in enumerate(frames, 1):
        row = {"frame": number, "packet_id": number, "file_time_ns": START_NS + number * 1000}
        row |= {"offset": len(window), "caplen": len(octets), "length": len(octets), "linktype": 1}
        row |= {"verdict": dr.DELIVERED} | columns
        window += octets
        rows.append(row)
    return rows, window


def write(
    path: Path,
    frames: list[tuple[bytes, dict[str, int]]],
    name: str = "plain",
    batch: int = 1000,
    incomplete: str | None = None,
    **options: Any,
) -> bytes:
    rows, window = capture(frames)
    chosen = engine_named(name)
    given = {"policy": "phillips-v5", "rules": RULES, "devices": ["eth0", "eth1"], "comments": ["a test"]} | options
    with OutputFile(path) as output:
        writer = AnnotatedWriter(output, chosen, **given)
        table, view = packets(chosen, rows), chosen.view(window)
        for first in range(0, len(rows), batch):
            writer.write(table, first, min(first + batch, len(rows)), view, oops_bug=11)
        writer.close(incomplete)
    return path.read_bytes()


def story() -> list[tuple[bytes, dict[str, int]]]:
    """One frame of each verdict, drops at the NIC and above it, both devices."""
    nic = DROP | {"reason": dr.RX_MISSED, "cause": dr.DEVICE_CAP, "point": dr.AT_NIC, "rule": 0, "ring_free": 0}
    return [
        (FRAME, {}),
        (FRAME + b"\1", DROP),
        (FRAME + b"\1\2", nic | {"dev": 1, "length": 1514}),
        (FRAME + b"\1\2\3", {"verdict": dr.NOT_RECEIVED, "pkt_type": machine.PACKET_OUTGOING, "dev": -1}),
        (FRAME, {"verdict": dr.IN_FLIGHT, "packet_id": 1 << 40, "dev": 1}),
        (b"", {"verdict": dr.OOPS, "file_time_ns": -5}),
        (FRAME, {"verdict": dr.NOT_PLAYED}),
    ]


ZEROS = "ring_free=0 backlog_len=0 time_ns=0 waited_ns=0"
LONG = (
    "emu verdict=dropped reason=PFMEMALLOC point=tcp_v4_rcv rule=2005 class=udp policy=phillips-v5 memalloc=0 "
    "has_socket=1 from_reserve=1 pfmemalloc=0 reserve_used=12 reserve_used_after=11 cap=50 free_pages=197 "
    "floor_pages=256 ring_free=3 backlog_len=4 time_ns=1700000000123456000 waited_ns=789 culprit=7"
)
LONG_OOPS = (
    "emu verdict=oops class=malformed policy=phillips-v5 memalloc=0 has_socket=1 from_reserve=0 pfmemalloc=0 "
    f"reserve_used=0 reserve_used_after=0 cap=0 free_pages=0 floor_pages=0 {ZEROS} culprit=0"
)
LONG_NIC = LONG.replace("reason=PFMEMALLOC point=tcp_v4_rcv rule=2005", "reason=RX_MISSED cause=DEVICE_CAP point=nic")
LONG_NIC = LONG_NIC.replace("ring_free=3", "ring_free=0")


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "story.pcapng"
    write(path, story())
    return path


def hexdump(octets: bytes) -> str:
    lines = []
    for at in range(0, len(octets), 16):
        part = octets[at : at + 16]
        text = "".join(chr(octet) if 32 <= octet < 127 else "." for octet in part)
        lines.append(f"  {at:04x}  {part.hex(' ', 4):<35}  {text}")
    return "\n".join(lines)


def blocks(octets: bytes) -> list[bytes]:
    """The file cut into blocks; both lengths of each agree."""
    found, at = [], 0
    while at < len(octets):
        (size,) = struct.unpack_from("<I", octets, at + 4)
        assert size % 4 == 0
        assert struct.unpack_from("<I", octets, at + size - 4) == (size,)
        found.append(octets[at : at + size])
        at += size
    assert at == len(octets)
    return found


def scan(octets: bytes) -> list[Any]:
    """The blocks as python-pcapng reads them."""
    return list(pcapng.FileScanner(io.BytesIO(octets)))


def test_small_file_byte_for_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, snapshot: SnapshotAssertion) -> None:
    monkeypatch.setattr(pcapng_blocks, "__version__", "0.0")
    octets = write(tmp_path / "x", [*story()[:2], story()[3]], devices=["eth0"], incomplete="incomplete: ...")
    names = {pcapng_blocks.SHB_TYPE: "section", 1: "interface", 5: "statistics", 6: "packet"}
    text = []
    for block in blocks(octets):
        (kind,) = struct.unpack_from("<I", block)
        text.append(f"{names[kind]}, {len(block)} bytes\n{hexdump(block)}")
    assert "\n".join(text) == snapshot


COLUMNS = st.fixed_dictionaries(
    {},
    optional={
        "verdict": st.one_of(st.just(dr.DROPPED), st.integers(dr.DELIVERED, dr.NOT_PLAYED)),
        "reason": st.integers(0, len(dr.REASONS) - 1),
        "cause": st.integers(0, len(dr.CAUSES) - 1),
        "point": st.integers(0, len(dr.POINTS) - 1),
        "rule": st.integers(0, 2),
        "dev": st.integers(-1, 1),
        "pkt_type": st.integers(0, 4),
        "file_time_ns": st.integers(-(2**63), 2**63 - 1),
        "packet_id": st.integers(-(2**63), 2**63 - 1),
        "length": st.integers(1, 2**32 - 1),
        "memalloc": st.integers(0, 1),
        "reserve_used_before": st.integers(-(2**63), 2**63 - 1),
        "free_pages": st.sampled_from([0, 9, 10, 99, 100, 10**18, -1]),
        "culprit_id": st.one_of(
            st.integers(0, 10**6), st.sampled_from([-(2**63), -1]), st.integers(-(2**63), 2**63 - 1)
        ),
        "sk": st.integers(-1, 3),
        "kind": st.integers(0, len(KINDS) - 1),
        "time_ns": st.integers(0, 1 << 60),
        "decided_ns": st.integers(0, 1 << 60),
        "backlog_len": st.integers(0, 300),
        "reserve_used_after": st.integers(0, 50),
    },
)


def with_reason(columns: dict[str, int]) -> dict[str, int]:
    if columns.get("verdict") == dr.DROPPED and not columns.get("reason"):
        columns["reason"] = dr.NO_SOCKET
    return columns


FRAMES = st.lists(st.tuples(st.binary(max_size=70), COLUMNS.map(with_reason)), max_size=12)


@given(frames=FRAMES, mode=st.sampled_from(annotate.ANNOTATE), batch=st.integers(1, 12), fill=st.integers(4, 2000))
@settings(max_examples=100, deadline=None)
def test_engines_and_batches_make_no_difference(
    tmp_path_factory: pytest.TempPathFactory,
    frames: list[tuple[bytes, dict[str, int]]],
    mode: str,
    batch: int,
    fill: int,
) -> None:
    folder = tmp_path_factory.getbasetemp()
    octets = write(folder / "plain", frames, annotate=mode)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(annotate, "FILL", fill)
        assert write(folder / "compiled", frames, "compiled", batch, annotate=mode) == octets
        assert write(folder / "plain", frames, "plain", batch, annotate=mode) == octets
    check_against_pcapng(octets, frames, mode)


def check_against_pcapng(octets: bytes, frames: list[tuple[bytes, dict[str, int]]], mode: str) -> None:
    """What we meant, against what python-pcapng reads."""
    rows, _ = capture(frames)
    found = [block for block in blocks(octets) if block[0] == pcapng_blocks.EPB_TYPE]
    with_kind = scan(octets)
    epbs = [block for block in with_kind if isinstance(block, pcapng.blocks.EnhancedPacket)]
    assert len(epbs) == len(found) == len(rows)
    for block, row, (frame, _) in zip(epbs, rows, frames, strict=True):
        dropped, oops = row["verdict"] == dr.DROPPED, row["verdict"] == dr.OOPS
        lost = dropped or oops or row["verdict"] == dr.NOT_PLAYED
        assert block.interface_id == 2 * max(row.get("dev", 0), 0) + lost
        assert block.packet_data == frame
        assert block.packet_len == row["length"]
        assert block.timestamp_high << 32 | block.timestamp_low == max(row["file_time_ns"], 0)
        assert block.options["epb_packetid"] == row["packet_id"] % 2**64
        assert block.options["epb_queue"] == 0
        direction = {machine.PACKET_OUTGOING: 2, machine.PACKET_OTHERHOST: 0}.get(row.get("pkt_type", 0), 1)
        assert block.options.get_raw("epb_flags") == struct.pack("<I", direction)
        comments = block.options.get_all("opt_comment") if "opt_comment" in block.options else []
        story = dropped or oops or mode == "all"
        assert len(comments) == (lost or mode == "all") + story
        if story:
            check_comment(comments[-1], row)
        if comments:
            assert comments[0] == GROUPS.get(row["verdict"], f"DROP {dr.REASONS[row.get('reason', 0)].name}")
        assert set(block.options) <= {"opt_comment", "epb_flags", "epb_packetid", "epb_queue"}
    statistics = [block for block in with_kind if isinstance(block, pcapng.blocks.InterfaceStatistics)]
    assert with_kind[-4:] == statistics
    assert [block.interface_id for block in statistics] == [0, 1, 2, 3]


GROUPS = {
    dr.DELIVERED: "DELIVERED",
    dr.IN_FLIGHT: "IN FLIGHT",
    dr.NOT_RECEIVED: "NOT RECEIVED",
    dr.OOPS: "OOPS bug 11",
    dr.NOT_PLAYED: "NOT PLAYED",
}


def check_comment(comment: str, row: dict[str, int]) -> None:
    said = dict(word.split("=", 1) for word in comment.removeprefix("emu ").split(" "))
    names = {
        "verdict": dr.VERDICTS[row["verdict"]],
        "reason": dr.REASONS[row.get("reason", 0)].name,
        "cause": dr.CAUSES[row.get("cause", 0)].name,
        "point": dr.POINTS[row.get("point", 0)],
        "rule": RULES[row.get("rule", 0)].replace(" ", "_"),
        "class": KINDS[row.get("kind", 0)],
        "policy": "phillips-v5",
    }
    expected = {key: name for key, name in names.items() if name}
    numbers = {column: row.get(column, 0) for column in annotate.KEYS.values()}
    numbers["socket"] = int(row.get("sk", 0) >= 0)
    numbers["decided_ns"] = max(row.get("decided_ns", 0) - row.get("time_ns", 0), 0)
    numbers["culprit_frame"] = row.get("culprit_id", 0) % 2**64  # as Wireshark shows packet ids
    for key, column in annotate.KEYS.items():
        expected[key] = str(numbers[column])
    assert said == expected
    assert list(said) == list(expected)


def test_comments_in_full(written: Path) -> None:
    epbs = [b for b in scan(written.read_bytes()) if isinstance(b, pcapng.blocks.EnhancedPacket)]
    said = [b.options.get_all("opt_comment") if "opt_comment" in b.options else [] for b in epbs]
    assert said[:5] == [[], ["DROP PFMEMALLOC", LONG], ["DROP RX_MISSED", LONG_NIC], [], []]
    assert [len(comments) for comments in said[5:]] == [2, 1]
    assert said[5][0] == "OOPS bug 11"
    assert said[5][1] == LONG_OOPS
    assert said[6] == ["NOT PLAYED"]


def test_with_annotate_all_every_frame_is_grouped_and_explained(tmp_path: Path) -> None:
    """Wireshark's first comment is the short one: the profile's column, and Expert Information, group by it."""
    write(tmp_path / "x.pcapng", story(), annotate="all")
    said = run("tshark", "-r", tmp_path / "x.pcapng", "-T", "fields", "-E", "occurrence=f", "-e", "frame.comment")
    expected = ["DELIVERED", "DROP PFMEMALLOC", "DROP RX_MISSED", "NOT RECEIVED", "IN FLIGHT"]
    assert said.splitlines() == [*expected, "OOPS bug 11", "NOT PLAYED"]
    expert = run("tshark", "-r", tmp_path / "x.pcapng", "-q", "-z", "expert")
    assert all(re.search(rf"^ +1 +Comment +Frame +{group}$", expert, re.MULTILINE) for group in expected), expert


def test_scapy_reads_comments_interface_and_time(written: Path) -> None:
    scapy = pytest.importorskip("scapy.utils")
    with scapy.PcapNgReader(str(written)) as reader:
        read = list(reader)
    assert [packet.sniffed_on for packet in read[:3]] == ["eth0", "eth0-drop", "eth1-drop"]
    assert read[1].comments == [b"DROP PFMEMALLOC", LONG.encode()]
    assert int(read[1].time * 10**9) == START_NS + 2000
    assert read[2].wirelen == 1514


def test_tshark_shows_every_field(written: Path) -> None:
    fields = "number interface_name packet_id packet_flags interface_queue len cap_len time_epoch comment"
    arguments = [part for field in fields.split() for part in ("-e", f"frame.{field}")]
    lines = run("tshark", "-r", written, "-T", "fields", "-E", "separator=|", "-E", "aggregator=;", *arguments)
    assert lines.splitlines() == [
        "1|eth0|1|0x00000001|0|42|42|1700000000.123457789|",
        f"2|eth0-drop|2|0x00000001|0|43|43|1700000000.123458789|DROP PFMEMALLOC;{LONG}",
        f"3|eth1-drop|3|0x00000001|0|1514|44|1700000000.123459789|DROP RX_MISSED;{LONG_NIC}",
        "4|eth0|4|0x00000002|0|45|45|1700000000.123460789|",
        "5|eth1|1099511627776|0x00000001|0|42|42|1700000000.123461789|",
        f"6|eth0-drop|6|0x00000001|0|0|0|0.000000000|OOPS bug 11;{LONG_OOPS}",
        "7|eth0-drop|7|0x00000001|0|42|42|1700000000.123463789|NOT PLAYED",
    ]


@pytest.mark.parametrize(
    ("display_filter", "frames"),
    [
        ('frame.comment contains "reason=PFMEMALLOC"', "2"),
        ('frame.interface_name == "eth1-drop"', "3"),
        ('frame.interface_description contains "dropped"', "2 3 6 7"),
        ('frame.comment contains "OOPS"', "6"),
        ("frame.packet_id == 0x10000000000", "5"),
    ],
)
def test_stock_wireshark_filters_find_drops(written: Path, display_filter: str, frames: str) -> None:
    printed = run("tshark", "-r", written, "-Y", display_filter, "-T", "fields", "-e", "frame.number")
    assert " ".join(printed.split()) == frames


def statistics(path: Path) -> list[list[str]]:
    """The statistics blocks as Wireshark's own file dissector reads them."""
    prefix = "pcapng.options.option.data.interface."
    fields = ("received", "dropped", "dropped_by_os", "delivered_to_user")
    arguments = [part for field in fields for part in ("-e", prefix + field)]
    form = ("-T", "fields", "-E", "separator=|")
    printed = run("tshark", "-X", "read_format:MIME Files Format", "-r", path, *form, *arguments)
    return [column.split(",") for column in printed.strip().split("|")]


def test_wiresharks_file_dissector_reads_the_statistics(written: Path) -> None:
    received, nic, kernel, delivered = statistics(written)
    assert received == ["1", "2", "1", "1"]  # eth0, eth0-drop, eth1, eth1-drop
    assert nic == ["0", "0", "0", "1"]
    assert kernel == ["0", "1", "0", "0"]
    assert delivered == ["1", "0", "0", "0"]


def test_statistics_have_the_times_of_their_interface(written: Path) -> None:
    found = [b for b in scan(written.read_bytes()) if isinstance(b, pcapng.blocks.InterfaceStatistics)]
    times = [(b.options.get_raw("isb_starttime"), b.options.get_raw("isb_endtime")) for b in found]
    said = [tuple(high << 32 | low for high, low in (struct.unpack("<II", t) for t in pair)) for pair in times]
    assert said[0] == (START_NS + 1000, START_NS + 4000)
    assert said[1] == (0, START_NS + 7000)


def test_capinfos_tells_two_interfaces_per_device(written: Path) -> None:
    printed = run("capinfos", written)
    for line in ("Number of interfaces in file: 4", "Number of packets:   7", "Capture comment:     a test"):
        assert line in printed
    assert "Capture application: emu" in printed
    assert printed.count("Name = eth") == printed.count("Number of stat entries = 1") == 4
    assert printed.count("Time resolution = 0x09") == 4
    for packets_of in (2, 3, 1, 1):
        assert f"Number of packets = {packets_of}" in printed


def test_tcpdump_reads_every_frame(written: Path) -> None:
    printed = run("tcpdump", "-nn", "-r", written, "--count")
    assert printed.startswith("7 packets")


def test_editcap_and_mergecap_lose_only_the_statistics(written: Path, tmp_path: Path) -> None:
    edited, merged = tmp_path / "edited.pcapng", tmp_path / "merged.pcapng"
    run("editcap", written, edited)
    run("mergecap", "-a", "-w", merged, written, written)
    once = [body for body in map(packet_parts, blocks(written.read_bytes())) if body]
    assert [body for body in map(packet_parts, blocks(edited.read_bytes())) if body] == once
    assert [body for body in map(packet_parts, blocks(merged.read_bytes())) if body] == once + once
    assert "Number of stat entries = 0" in run("capinfos", edited)
    run("editcap", "-F", "nsecpcap", written, tmp_path / "plain.pcap")


def packet_parts(block: bytes) -> tuple[bytes, frozenset[bytes]] | None:
    """A packet's header and octets, and its options in any order: editcap has an order of its own."""
    if block[0] != pcapng_blocks.EPB_TYPE:
        return None
    (caplen,) = struct.unpack_from("<I", block, 20)
    at = 28 + (caplen + 3 & ~3)
    options = set()
    head = block[8:at]
    while at < len(block) - 4:
        _, length = struct.unpack_from("<HH", block, at)
        end = at + 4 + (length + 3 & ~3)
        options.add(block[at:end])
        at = end
    return head, frozenset(options)


def test_file_without_an_end_is_valid(tmp_path: Path) -> None:
    path = tmp_path / "early.pcapng"
    rows, window = capture(story())
    plain = engine_named("plain")
    with pytest.raises(KeyboardInterrupt), OutputFile(path) as output:
        writer = AnnotatedWriter(output, plain, policy="x", rules=RULES, devices=["eth0", "eth1"], comments=[])
        writer.write(packets(plain, rows), 0, 2, window)
        raise KeyboardInterrupt
    partial = path.with_name("early.pcapng.partial")
    assert len(scan(partial.read_bytes())) == 1 + 4 + 2
    printed = run("tshark", "-r", partial, "-T", "fields", "-e", "frame.number")
    assert printed.split() == ["1", "2"]


def test_file_without_a_frame_is_valid(tmp_path: Path) -> None:
    path = tmp_path / "empty.pcapng"
    write(path, [])
    assert run("tshark", "-r", path) == ""
    assert "Number of packets:   0" in run("capinfos", path)


def test_incomplete_is_a_comment_of_the_first_statistics(tmp_path: Path) -> None:
    path = tmp_path / "x.pcapng"
    write(path, story(), incomplete="incomplete: interrupted after frame 7")
    found = [b for b in scan(path.read_bytes()) if isinstance(b, pcapng.blocks.InterfaceStatistics)]
    assert found[0].options["opt_comment"] == "incomplete: interrupted after frame 7"
    assert "opt_comment" not in found[1].options
    assert statistics(path)[0] == ["1", "2", "1", "1"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "bad",
    [
        {"verdict": dr.PENDING},
        {"verdict": 99},
        {"dev": 2},
        {"dev": -2},
        {"rule": 3},
        {"reason": -1},
        {"verdict": dr.DROPPED, "reason": dr.NO_REASON},
        {"cause": 99},
        {"point": 99},
        {"linktype": 105},
        {"linktype": -1},
        {"fcs_caplen": 1 << 30},
        {"fcs_caplen": -1},
        {"caplen": 1 << 30},
        {"caplen": -1},
        {"offset": -1},
        {"offset": 1 << 40},
        {"offset": (1 << 63) - 1},
    ],
    ids=str,
)
def test_row_that_cannot_be_true_is_a_crash_with_the_frame_number(
    tmp_path: Path, name: str, bad: dict[str, int]
) -> None:
    with pytest.raises(AssertionError, match=r"^frame 2: "):
        write(tmp_path / "x", [(FRAME, {}), (FRAME, bad)], name)


def test_longest_frame_and_longest_names_fit_the_buffer(tmp_path: Path) -> None:
    frames = [(bytes(1000), DROP)] * 1100 + [(bytes(pcapng_blocks.SNAPLEN), DROP | {"rule": 0, "free_pages": 10**18})]
    names: dict[str, Any] = {"rules": ["r" * annotate.MAX_NAME] * 3, "policy": "p" * annotate.MAX_NAME}
    assert write(tmp_path / "a", frames, "compiled", **names) == write(tmp_path / "b", frames, "plain", **names)


def test_too_long_names_and_comments_are_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^policy p+\.\.\.: a name in a comment has at most 255 bytes$"):
        write(tmp_path / "x", [], policy="p" * 256)
    with pytest.raises(UsageError, match=r"65536 bytes; a pcapng option holds 65535$"):
        write(tmp_path / "x", [], comments=["c" * 65_536])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("batch", [1, 1000])
def test_a_further_link_type_has_a_pair_of_its_own(tmp_path: Path, name: str, batch: int) -> None:
    path = tmp_path / "links.pcapng"
    cooked = bytes(14) + b"\x08\x00" + FRAME[14:]
    frames = [
        (cooked, {"linktype": 113}),
        (FRAME, {"dev": 1}),
        (cooked, {"linktype": 113, "dev": 1} | {**DROP, "dev": 1}),
        (cooked, DROP | {"linktype": 113}),
        (FRAME[14:], {"linktype": 101}),
        (FRAME, DROP | {"dev": 1}),
    ]
    write(path, frames, name, batch)
    printed = run("tshark", "-r", path, "-T", "fields", "-e", "frame.interface_name", "-e", "ip.src")
    assert printed.split() == [
        word
        for interface in ("eth0", "eth1.ether", "eth1-drop", "eth0-drop", "eth0.raw", "eth1.ether-drop")
        for word in (interface, "10.0.0.1")
    ]
    descriptions = [b for b in scan(path.read_bytes()) if isinstance(b, pcapng.blocks.InterfaceDescription)]
    assert {description.snaplen for description in descriptions} == {pcapng_blocks.SNAPLEN}
    assert [description.link_type for description in descriptions] == [113] * 4 + [1] * 2 + [101] * 2


def test_a_capture_of_one_link_type_is_read_by_tcpdump(tmp_path: Path) -> None:
    """Its devices have no interface of another one, whoever gets frames at all."""
    for linktype, header in ((113, bytes(14) + b"\x08\x00"), (276, b"\x08\x00" + bytes(18)), (228, b"")):
        path = tmp_path / f"{linktype}.pcapng"
        frame = header + FRAME[14:]
        write(path, [(frame, {"linktype": linktype}), (frame, DROP | {"linktype": linktype})])
        assert run("tcpdump", "-nn", "-r", path, "--count").startswith("2 packets")
        assert run("tshark", "-r", path, "-T", "fields", "-e", "udp.dstport").split() == ["53", "53"]


def test_check_sequences_stay_behind_their_frames(tmp_path: Path) -> None:
    path = tmp_path / "fcs.pcapng"
    fcs = {"caplen": len(FRAME), "length": len(FRAME), "fcs_bytes": 4, "fcs_caplen": 4}
    write(path, [(FRAME + b"\1\2\3\4", fcs), (FRAME, {"fcs_bytes": 4}), (FRAME, {})])
    frames, reader = play_bytes(path.read_bytes(), "plain")
    assert [(f.caplen, f.length, f.fcs_bytes, f.fcs_caplen) for f in frames] == [
        (len(FRAME), len(FRAME), 4, 4),
        (len(FRAME), len(FRAME), 4, 0),
        (len(FRAME), len(FRAME), 0, 0),
    ]
    assert reader.damage is None
    assert bytes(scan(path.read_bytes())[5].packet_data) == FRAME + b"\1\2\3\4"
    printed = run("tshark", "-r", path, "-T", "fields", "-e", "frame.len", "-e", "eth.fcs")
    assert printed.split("\n")[0].split() == [str(len(FRAME) + 4), "0x01020304"]


def test_pair_of_folds_both_interfaces_into_one_device() -> None:
    assert pair_of("eth0") == ("eth0", False)
    assert pair_of("eth0-drop") == ("eth0", True)
    assert pair_of("-drop") == ("-drop", False)
    assert pair_of("") == ("", False)

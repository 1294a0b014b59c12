"""From a dropped frame to its culprit and to its retransmission, in whole files and in parts of them."""

from pathlib import Path

import pytest
from external_tools import run
from plugin_kit import Run, replayed, values
from replay_kit import ether, paced, pcap
from scapy.layers.inet import IP, TCP
from scapy.packet import Raw

from emu.capture.annotate import AnnotatedWriter
from emu.capture.output import OutputFile
from emu.capture.reader import open_capture
from emu.engine.plain import PlainEngine
from emu.kernel import drop_reason as dr
from emu.kernel.machine import Packet
from emu.wire.headers import KIND_TCP


@pytest.fixture(scope="module")
def drops(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return replayed(tmp_path_factory, "drops")


def culprits(capture: Path, *options: str) -> dict[str, tuple[str, str]]:
    """By frame: the culprit's packet id and frame number."""
    found = values(capture, "frame.number", "emu.culprit_id", "emu.culprit", options=(*options, "-Y", "emu"))
    return {number: (given, frame) for number, given, frame in found}


def test_a_part_of_a_file_knows_its_culprits_by_its_own_numbers(drops: Run, tmp_path: Path) -> None:
    part = tmp_path / "part.pcapng"
    run("editcap", "-r", drops.capture, part, "301-1000")
    for number, (given, frame) in culprits(part).items():
        row = drops.log[int(number) + 300]
        wanted = row["culprit_frame"]
        assert int(given) == wanted
        assert int(frame or 0) == (wanted - 300 if wanted > 300 else 0)


def test_a_filtered_file_names_no_wrong_culprit(drops: Run, tmp_path: Path) -> None:
    part = tmp_path / "filtered.pcapng"
    run("tshark", "-r", drops.capture, "-Y", "udp || frame.number == 324", "-w", part)
    places = {given: number for number, given in values(part, "frame.number", "frame.packet_id")}
    for passes in ((), ("-2",)):
        right = 0
        for given, frame in culprits(part, *passes).values():
            assert frame == places.get(given, "") or (frame == "" and not passes)
            right += frame != ""
        assert right > 50


@pytest.mark.parametrize("order", [("-a",), ()])
def test_ids_of_two_captures_name_no_wrong_frame(order: tuple[str, ...], drops: Run, tmp_path: Path) -> None:
    merged = tmp_path / "merged.pcapng"
    run("mergecap", *order, "-w", merged, drops.capture, drops.capture)
    ids = [given for (given,) in values(merged, "frame.packet_id")]
    for passes in ((), ("-2",)):
        found = culprits(merged, *passes)
        assert len(found) == 2 * sum(row["verdict"] == "dropped" for row in drops.log.values())
        for number, (given, frame) in found.items():
            if frame:
                # The first capture's culprits may be known, for as long as their ids are of one frame only.
                assert ids[int(frame) - 1] == given
                assert order and int(number) <= 1000


SEQ = 4_294_967_000  # the flow's sequence numbers run over
SEGMENTS = (
    # first sequence number from SEQ on, bytes, whether it is dropped
    (0, 100, False),
    (100, 100, True),
    (200, 100, True),
    (300, 100, True),
    (100, 100, True),  # again, and lost again
    (100, 50, False),  # half of it
    (100, 200, False),  # two at once, beyond 2^32
    (100, 100, False),  # not needed any more
    (300, 100, False),
)


def segment(seq: int, size: int) -> bytes:
    headers = IP(src="10.0.0.1", dst="10.0.0.2") / TCP(sport=3260, dport=40000, seq=seq)
    headers[TCP].flags = "A"
    return ether("02:00:00:00:00:01", "02:00:00:00:00:02", headers / Raw(bytes(size)))


def annotated(folder: Path) -> Path:
    """A flow of these segments as an annotated capture."""
    source, into = folder / "flow.pcap", folder / "flow.pcapng"
    octets = [segment((SEQ + at) % (1 << 32), size) for at, size, _ in SEGMENTS]
    source.write_bytes(pcap(paced(octets)))
    engine = PlainEngine()
    with open_capture(str(source), engine) as reader, OutputFile(into) as output:
        writer = AnnotatedWriter(output, engine, policy="p", rules=("",), devices=("eth0",), comments=())
        rows = engine.rows(Packet, len(SEGMENTS))
        assert reader.read(rows, 0, len(SEGMENTS)) == len(SEGMENTS)
        for at, (_, _, dropped) in enumerate(SEGMENTS):
            rows[at].verdict, rows[at].kind = dr.DROPPED if dropped else dr.DELIVERED, KIND_TCP
            rows[at].reason = dr.RX_MISSED if dropped else dr.NO_REASON
        writer.write(rows, 0, len(SEGMENTS), reader.octets)
        writer.close()
    return into


NAMES = ("frame.number", "emu.retransmitted_in", "emu.retransmission_of")


def test_a_retransmission_is_found_by_the_bytes_it_covers(tmp_path: Path) -> None:
    found = values(annotated(tmp_path), *NAMES, options=("-2", "-Y", "emu"))
    assert found == [["2", "5", ""], ["3", "7", ""], ["4", "9", ""], ["5", "7", "2"], ["7", "", "5"], ["9", "", "4"]]


def test_one_pass_knows_what_came_before(tmp_path: Path) -> None:
    found = values(annotated(tmp_path), *NAMES, options=("-Y", "emu.retransmission_of"))
    assert found == [["5", "", "2"], ["7", "", "5"], ["9", "", "4"]]

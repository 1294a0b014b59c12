"""What a frame becomes on its way to the NIC: aggregated ones, doubtful checksums, and what the filter refuses."""

from pathlib import Path
from typing import Any

import pytest
from traffic_kit import kit

from emu.errors import NothingToPlayError, UsageError

MTU_PAYLOAD = 1460  # of a TCP segment


def summary_of(frames: list[bytes], **how: Any) -> dict[str, Any]:
    """The summary of frames that come at a leisurely pace, to a host with memory."""
    settings = {"pressure.start": "quiet", "readers.ordinary": "immediate"} | how.pop("settings", {})
    found: dict[str, Any] = kit.played(kit.pcap(kit.paced(frames)), settings=settings, **how).summary
    return found


# Offloads.


@pytest.mark.parametrize(
    ("payload", "segments"),
    [(MTU_PAYLOAD, 1), (MTU_PAYLOAD + 4, 1), (1465, 2), (2 * MTU_PAYLOAD, 2), (2 * MTU_PAYLOAD + 1, 3), (65_000, 45)],
)
def test_an_aggregated_frame_is_charged_as_its_segments(payload: int, segments: int) -> None:
    """A TCP frame longer than the MTU (and a VLAN tag) costs a descriptor per wire frame, and has one verdict."""
    summary = summary_of([kit.tcp(payload=payload)])
    assert (summary["received"], summary["delivered"]) == (1, 1)
    assert summary["devices"]["eth0"]["rx_packets"] == segments
    assert summary["counters"]["softnet_processed"] == segments
    assert summary["input"]["aggregated_frames"] == int(segments > 1)


def test_udp_is_split_too_and_others_are_not() -> None:
    """UDP (GSO) is split as TCP is; a long ICMP frame is no aggregate, the NIC refuses it."""
    ping = kit.ether(kit.PEER_MAC, kit.HOST_MAC, kit.IP(src=kit.PEER, dst=kit.HOST) / kit.ICMP() / kit.Raw(bytes(3000)))
    summary = summary_of([kit.udp(payload=3000), ping], host=kit.HOST_MAC)
    assert summary["devices"]["eth0"]["rx_packets"] == 3
    assert summary["drops_by_reason"] == {"RX_LENGTH": 1}
    assert summary["devices"]["eth0"]["rx_length_errors"] == 1


def test_offload_drop_lets_the_nic_refuse_long_frames() -> None:
    """With --offload drop a frame longer than the MTU allows is RX_LENGTH; one that fits is not."""
    summary = summary_of([kit.tcp(payload=4000), kit.tcp(payload=1000)], settings={"replay.offload": "drop"})
    assert summary["drops_by_reason"] == {"RX_LENGTH": 1}
    assert summary["input"]["aggregated_frames"] == 0


def test_offload_jumbo_takes_long_frames_whole() -> None:
    """With --offload jumbo the NIC takes up to its largest buffer as one packet; what is longer is RX_LENGTH."""
    frames = [kit.tcp(payload=4000), kit.tcp(payload=16_000), kit.tcp(payload=17_000)]
    summary = summary_of(frames, settings={"replay.offload": "jumbo"})
    assert summary["devices"]["eth0"]["rx_packets"] == summary["delivered"] == 2
    assert summary["drops_by_reason"] == {"RX_LENGTH": 1}


def test_an_aggregate_that_the_ring_cannot_hold_is_missed_as_a_whole() -> None:
    """16 descriptors are left at the start: 17 segments are missed, 16 are not."""
    for segments, fate in ((16, "delivered"), (17, "dropped")):
        payload = segments * (MTU_PAYLOAD - 14)
        summary = kit.played(kit.pcap(kit.paced([kit.tcp(payload=payload)]))).summary
        assert (summary["received"], summary[fate]) == (1, 1), summary["drops_by_reason"]
        assert summary["devices"]["eth0"]["rx_missed"] == (segments if fate == "dropped" else 0)


# Checksums.


def partial() -> bytes:
    """A segment whose checksum field holds the sum of the pseudo header only, as before offloading."""
    from scapy.utils import checksum

    octets = bytearray(kit.tcp(40_001, payload=100))
    pseudo = octets[26:34] + bytes((0, 6)) + (len(octets) - 34).to_bytes(2, "big")
    octets[50:52] = (~checksum(bytes(pseudo)) & 0xFFFF).to_bytes(2, "big")
    return bytes(octets)


@pytest.mark.parametrize(
    ("checksums", "reasons", "partials"),
    [("auto", {"TCP_CSUM": 1}, 1), ("verify", {"TCP_CSUM": 2}, 0), ("trust", {}, 0)],
)
def test_checksums_are_believed_as_asked(checksums: str, reasons: dict[str, int], partials: int) -> None:
    """auto believes what a NIC would have finished and counts it, verify believes nothing, trust everything."""
    frames = [kit.tcp(payload=100), partial(), kit.tcp(payload=100, broken=True)]
    summary = summary_of(frames, settings={"replay.checksums": checksums})
    assert summary["drops_by_reason"] == reasons
    assert summary["input"]["partial_checksums"] == partials
    assert any("unfinished checksum" in said for said in summary["assumptions"]) == bool(partials)


def test_a_cut_frame_counts_as_valid_and_is_counted() -> None:
    """A frame of which the capture holds only a part cannot be verified: it is believed, and told."""
    octets = kit.tcp(payload=100, broken=True)
    capture = kit.pcap([kit.Frame(octets[:80], kit.NS, len(octets))])
    summary = kit.played(capture, settings={"pressure.start": "quiet"}).summary
    assert summary["delivered"] == 1
    assert (summary["input"]["truncated_frames"], summary["input"]["unverifiable_checksums"]) == (1, 1)
    assert any("are cut off" in said for said in summary["assumptions"])


def test_only_received_frames_are_counted_as_doubtful() -> None:
    """The host's own frames are not its input: an unfinished checksum of theirs is not told."""
    sent = bytearray(kit.sent(payload=100))
    sent[50:52] = b"\0\1"
    summary = summary_of([bytes(sent), kit.tcp(), kit.tcp()])
    assert (summary["not_received"], summary["input"]["partial_checksums"]) == (1, 0)


# The filter.


@pytest.mark.parametrize(
    ("expression", "expected"),
    [("udp", 1), ("tcp port 3260", 1), ("not arp", 4), ("ether host 02:00:00:00:00:02", 4)],
)
def test_filtered_frames_are_counted_and_never_arrive(expression: str, expected: int, tmp_path: Path) -> None:
    """Only what matches the BPF expression is received; the rest is in `filtered` and in no output."""
    frames = [kit.udp(), kit.iscsi(), kit.arp(), kit.tcp(), kit.icmp()]
    summary = summary_of(frames, filter=expression, outputs=kit.outputs_in(tmp_path))
    assert (summary["frames"], summary["filtered"], summary["received"]) == (5, 5 - expected, expected)
    assert len(kit.rows_of(tmp_path / "log.csv")) == expected


def test_a_filter_that_matches_nothing_leaves_nothing_to_play(tmp_path: Path) -> None:
    """No packet played is never a success; the frames are counted in the message and no output is left."""
    with pytest.raises(NothingToPlayError, match="none of 2 frames matches --filter"):
        summary_of([kit.udp(), kit.tcp()], filter="greater 10000", outputs=kit.outputs_in(tmp_path))
    assert list(tmp_path.glob("*.p*")) == []


def test_a_filtered_frame_opens_no_socket() -> None:
    """What never arrives infers nothing."""
    assert summary_of([kit.udp(1), kit.udp(2), kit.tcp()], filter="udp port 1")["sockets"]["made"] == 1


def test_a_bad_filter_is_refused_with_libpcaps_words() -> None:
    """An expression that libpcap cannot compile is one line that quotes it."""
    with pytest.raises(UsageError, match=r"^--filter 'port nowhere and': "):
        summary_of([kit.udp()], filter="port nowhere and")

"""One replay, three accounts of it: summary, log and annotated capture say the same, to us and to everybody's tools."""

from collections import Counter
from pathlib import Path
from typing import Any

import polars
import pytest
from replay_kit import (
    NS,
    PCAPS,
    POLICY_NAMES,
    Frame,
    arp,
    elsewhere,
    icmp,
    iscsi,
    outputs_in,
    paced,
    pcap,
    played,
    rows_of,
    run,
    sent,
    tcp,
    third_of_pairs,
    udp,
    wild_frames,
)
from scapy.utils import RawPcapNgReader, RawPcapReader

from emu.task import Outputs

MIXED = PCAPS / "mixed.pcap"


@pytest.fixture(scope="session")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The mixed capture replayed with every output; its folder and its summary."""
    folder = tmp_path_factory.mktemp("mixed")
    summary = played(MIXED, outputs=outputs_in(folder, annotate="drops")).summary
    return folder, summary


def test_policies_differ_and_the_patch_used_its_reserve() -> None:
    """On the mixed capture policies give different verdicts, and the Phillips run allocated from the reserve.

    v2 is v1 for drivers that ask, and v6 differs from v5 where packets are split and interfaces go down.
    """
    summaries = {policy: played(MIXED, policy=policy).summary for policy in POLICY_NAMES}
    verdicts = {
        policy: (summary["delivered"], tuple(summary["drops_by_reason"].items()))
        for policy, summary in summaries.items()
    }
    assert verdicts.pop("phillips-v2") == verdicts["phillips-v1"]
    assert verdicts.pop("phillips-v6") == verdicts["phillips-v5"]
    assert len(set(verdicts.values())) == len(verdicts) == 7
    reserve = {policy: summary["devices"]["eth0"]["reserve_allocations"] for policy, summary in summaries.items()}
    assert reserve["phillips-v5"] > 0
    assert reserve["linux-2.6.12"] == 0
    assert not [said for said in summaries["phillips-v5"]["findings"] if "never touched" in said]


def test_summary_and_log_give_the_same_numbers(mixed: tuple[Path, dict[str, Any]]) -> None:
    """Counts by reason, delivered, dropped and memalloc are those of the log's rows."""
    folder, summary = mixed
    logged = rows_of(folder / "log.csv")
    events = Counter(row["reason"] for row in logged if row["verdict"] == "event")
    assert events == summary["events_by_reason"] != {}
    rows = [row for row in logged if row["verdict"] != "event"]
    assert len(rows) == summary["received"]
    verdicts = Counter(row["verdict"] for row in rows)
    assert verdicts == {"delivered": summary["delivered"], "dropped": summary["dropped"]}
    assert Counter(row["reason"] for row in rows if row["reason"]) == summary["drops_by_reason"]
    for flag, key in (("1", "memalloc"), ("0", "other")):
        of_kind = [row for row in rows if row["memalloc"] == flag]
        fates = Counter(row["verdict"] for row in of_kind)
        found = {"received": len(of_kind), "delivered": fates["delivered"], "dropped": fates["dropped"]}
        assert found == summary[key]
    frames = [int(row["frame"]) for row in rows]
    assert frames == sorted(set(frames))


@pytest.mark.parametrize("suffix", [".parquet", ".arrow", ".jsonl"])
def test_every_format_of_the_log_has_the_same_rows(tmp_path: Path, suffix: str) -> None:
    """A log in another format holds what the CSV holds, whoever reads it."""
    capture = pcap(wild_frames(5, 200))
    played(capture, outputs=outputs_in(tmp_path))
    played(capture, outputs=outputs_in(tmp_path, suffix))
    path = tmp_path / f"log{suffix}"
    read: Any = {".parquet": polars.read_parquet, ".arrow": polars.read_ipc, ".jsonl": polars.read_ndjson}[suffix]
    rows = [{name: str(value) for name, value in row.items()} for row in read(path).to_dicts()]
    assert rows == rows_of(tmp_path / "log.csv")


def test_log_of_drops_is_the_dropped_part(tmp_path: Path) -> None:
    """`--log-rows drops` keeps exactly the rows whose verdict is dropped."""
    capture = pcap(wild_frames(6, 200))
    played(capture, outputs=outputs_in(tmp_path))
    played(capture, outputs=Outputs(log=str(tmp_path / "drops.csv"), log_rows="drops"))
    expected = [row for row in rows_of(tmp_path / "log.csv") if row["verdict"] == "dropped"]
    assert rows_of(tmp_path / "drops.csv") == expected != []


def frames_matching(path: Path, display_filter: str) -> list[int]:
    printed = run("tshark", "-r", path, "-Y", display_filter, "-T", "fields", "-e", "frame.number")
    return [int(line) for line in printed.split()]


def test_wireshark_filters_give_the_logs_frames(mixed: tuple[Path, dict[str, Any]]) -> None:
    """The display filters of the README select in tshark the very frames that the log names."""
    folder, summary = mixed
    annotated, rows = folder / "out.pcapng", rows_of(folder / "log.csv")
    refused = [int(row["frame"]) for row in rows if row["reason"] == "PFMEMALLOC"]
    assert frames_matching(annotated, 'frame.comment contains "DROP PFMEMALLOC"') == refused
    for reason, count in summary["drops_by_reason"].items():
        assert len(frames_matching(annotated, f'frame.comment contains "reason={reason}"')) == count
    dropped = [int(row["frame"]) for row in rows if row["verdict"] == "dropped"]
    assert frames_matching(annotated, 'frame.interface_name == "eth0-drop"') == dropped


def test_frames_and_their_order_are_untouched(mixed: tuple[Path, dict[str, Any]]) -> None:
    """Every frame of the input is in the annotated capture once, byte for byte, in order and at its time."""
    folder, _ = mixed
    with RawPcapReader(str(MIXED)) as reader:
        before = [
            (octets, meta.sec * NS + meta.usec * (1 if reader.nano else 1000), meta.wirelen) for octets, meta in reader
        ]
    with RawPcapNgReader(str(folder / "out.pcapng")) as reader:
        after = [
            (octets, (meta.tshigh << 32 | meta.tslow) * NS // meta.tsresol, meta.wirelen) for octets, meta in reader
        ]
    assert after == before


def test_everybody_reads_the_annotated_capture(mixed: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    """capinfos, tcpdump, editcap, mergecap, Scapy and python-pcapng count the same frames."""
    folder, summary = mixed
    annotated, frames = folder / "out.pcapng", summary["frames"]
    assert f"{frames}" in run("capinfos", "-Mc", annotated)
    assert len(run("tcpdump", "-nn", "-t", "-r", annotated).splitlines()) >= frames
    run("editcap", annotated, tmp_path / "edited.pcapng")
    run("mergecap", "-w", tmp_path / "merged.pcapng", annotated, annotated)
    assert f"{2 * frames}" in run("capinfos", "-Mc", tmp_path / "merged.pcapng")
    from pcapng import FileScanner
    from pcapng.blocks import EnhancedPacket

    with annotated.open("rb") as stream:
        assert sum(isinstance(block, EnhancedPacket) for block in FileScanner(stream)) == frames


def test_comments_survive_editcap(mixed: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    """After a round trip through editcap tshark shows the same comments at the same frames."""
    folder, _ = mixed
    edited = tmp_path / "edited.pcapng"
    run("editcap", folder / "out.pcapng", edited)
    fields = ("-T", "fields", "-e", "frame.number", "-e", "frame.comment")
    before = run("tshark", "-r", folder / "out.pcapng", *fields)
    assert run("tshark", "-r", edited, *fields) == before
    assert before.count("DROP ") > 100


def test_annotate_all_explains_survivors_too(tmp_path: Path) -> None:
    """With --annotate all every frame has its verdict in a comment, with drops only the dropped ones have."""
    capture = pcap(paced([iscsi(), udp(), icmp(), sent(), elsewhere()] * 8))
    for annotate in ("drops", "all"):
        folder = tmp_path / annotate
        folder.mkdir()
        summary = played(capture, outputs=outputs_in(folder, annotate=annotate)).summary
        commented = len(frames_matching(folder / "out.pcapng", "frame.comment"))
        assert commented == (summary["dropped"] if annotate == "drops" else summary["frames"])
        assert 0 < summary["dropped"] < summary["frames"]


# Replaying what we wrote.

WITHOUT = ("hosts", "capture", "input", "run", "host", "assumptions")
PROMISCUOUS = paced([iscsi(), udp(), sent(ISCSI := 3260, 50_000), arp(), elsewhere(), elsewhere(), tcp(), icmp()] * 20)


def result_of(summary: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in summary.items() if key not in WITHOUT}
    return kept | {"host mac": summary["host"]["mac"]}


@pytest.mark.parametrize(("name", "policy"), third_of_pairs(["login", "nop", "wild", "overheard"], POLICY_NAMES))
def test_our_own_capture_replays_to_the_same_verdicts(name: str, policy: str, tmp_path: Path) -> None:
    """An annotated capture is a capture: a second replay gives the same log, the same packet ids and summary."""
    made = {"wild": wild_frames(3, 400), "overheard": PROMISCUOUS}
    capture: bytes | Path = pcap(made[name]) if name in made else PCAPS / f"{name}.pcap"
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    once = played(capture, policy=policy, outputs=outputs_in(first)).summary
    again = played(first / "out.pcapng", policy=policy, outputs=outputs_in(second)).summary
    assert result_of(again) == result_of(once)
    assert (second / "log.csv").read_bytes() == (first / "log.csv").read_bytes()
    fields = ("-T", "fields", "-e", "frame.number", "-e", "frame.comment", "-e", "frame.packet_id")
    assert run("tshark", "-r", second / "out.pcapng", *fields) == run("tshark", "-r", first / "out.pcapng", *fields)


def test_a_pair_of_interfaces_is_one_device(tmp_path: Path) -> None:
    """The two interfaces of an annotated capture are one device when it is replayed."""
    played(MIXED, outputs=Outputs(str(tmp_path / "out.pcapng")), limit=300)
    again = played(tmp_path / "out.pcapng").summary
    assert again["input"]["interfaces"] == 2
    assert list(again["devices"]) == ["eth0"]


def test_filtered_frames_are_left_out_and_the_rest_keeps_its_identity(tmp_path: Path) -> None:
    """What the filter refuses is not in the annotated capture; the others keep their packet id, the old number."""
    capture = pcap(paced([iscsi(), udp(), tcp()] * 5))
    summary = played(capture, filter="not udp", outputs=outputs_in(tmp_path)).summary
    assert (summary["frames"], summary["filtered"], summary["received"]) == (15, 5, 10)
    printed = run("tshark", "-r", tmp_path / "out.pcapng", "-T", "fields", "-e", "frame.packet_id")
    assert [int(word) for word in printed.split()] == [at for at in range(1, 16) if at % 3 != 2]


def test_truncated_and_empty_frames_are_kept_as_they_are(tmp_path: Path) -> None:
    """A frame of no bytes, and one of which the capture holds a part, come out as they went in."""
    frames = [Frame(udp(), NS), Frame(b"", NS + 5, 60), Frame(udp()[:20], NS + 9, 142), Frame(b"", NS + 10, 0)]
    played(pcap(frames), outputs=Outputs(str(tmp_path / "out.pcapng")))
    with RawPcapNgReader(str(tmp_path / "out.pcapng")) as reader:
        assert [(octets, meta.wirelen) for octets, meta in reader] == [
            (frame.octets, len(frame.octets) if frame.length is None else frame.length) for frame in frames
        ]

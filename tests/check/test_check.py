"""`emu check`: the mainline policy does what a real kernel did, and the check would notice if it did not."""

import csv
import gzip
import json
import lzma
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from emu.cli.check import check
from emu.errors import CaptureError, EmuError, UsageError
from emu.kernel.policy import POLICIES
from emu.verdicts.check import ANY_RELEASE, RELEASES, Report, check_directory, release_of

FIXTURE = Path(__file__).parent / "e1000e_61"
Rows = list[dict[str, str]]
CAPTURES = ("guest_tap.pcap.xz", "host_tap.pcap.xz")


@pytest.fixture(scope="module")
def rows() -> Rows:
    with gzip.open(FIXTURE / "packets.csv.gz", "rt", newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def whole() -> Report:
    return check_directory(FIXTURE)


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """A copy of the fixture without its captures: what most tests need, and quick to read."""
    directory = tmp_path / "trace"
    directory.mkdir()
    for name in ("packets.csv.gz", "summary.json", "run.json"):
        shutil.copy(FIXTURE / name, directory / name)
    return directory


@pytest.fixture
def small(trace: Path, rows: Rows) -> Path:
    """The same with its first row alone, for what does not hang on rows."""
    only(trace, rows)
    return trace


def write_rows(directory: Path, rows: Rows) -> None:
    with gzip.open(directory / "packets.csv.gz", "wt", newline="", compresslevel=1) as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def edit(path: Path, change: Callable[[Any], object]) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def find(rows: Rows, **wanted: str) -> int:
    """The index of the first row with these cells (`class_` for `class`)."""
    cells = {name.rstrip("_"): value for name, value in wanted.items()}
    return next(i for i, row in enumerate(rows) if all(row[name] == value for name, value in cells.items()))


def changed(rows: Rows, index: int, **cells: str) -> Rows:
    return [*rows[:index], rows[index] | cells, *rows[index + 1 :]]


def only(directory: Path, rows: Rows, count: int = 1) -> None:
    """Make these the whole trace: the first `count` of them, with a summary that counts as many."""
    write_rows(directory, rows[:count])

    def shrink(summary: dict[str, Any]) -> None:
        summary["per_class"] = {"all": {"rx": count}}
        summary["TcpExt_delta"] = summary["Udp_delta"] = {}

    edit(directory / "summary.json", shrink)


# --- the real trace -----------------------------------------------------------------------------------------------


def test_policy_does_what_the_kernel_did(whole: Report) -> None:
    assert whole.mismatches == 0
    assert (whole.rows, whole.checked) == (45_018, 45_010)
    assert whole.not_judged == {
        "TCP_OLD_DATA: sequence numbers and windows are not in the row": 6,
        "mis-joined record: the drop belongs to another skb at the same address": 2,
    }


def test_groups_name_what_is_predicted(whole: Report) -> None:
    predicted = {(group.traffic, group.pfmemalloc): group.predicted for group in whole.groups}
    assert predicted["udp_unread", 1] == ["drop:SOCKET_FILTER"]
    assert predicted["udp_unread", 0] == ["ok"]
    assert predicted["tcp_nbd_MEMALLOC", 1] == ["ok"]
    assert predicted["ethertype_88b5", 1] == ["drop:UNHANDLED_PROTO"]
    assert predicted["ethertype_88b5", 0] == ["ok"]
    assert predicted["udp_closed", 1] == ["drop:NO_SOCKET"]
    assert len(whole.groups) == 16


def test_counters_bind_and_agree(whole: Report) -> None:
    drops, errors = whole.counters
    assert (drops.low, drops.high, drops.counted, drops.not_binding) == (13_216, 13_216, 13_216, "")
    assert (errors.low, errors.high, errors.counted, errors.not_binding) == (13_143, 13_143, 13_143, "")


def test_taps_never_see_tagged_packets(whole: Report) -> None:
    checked = {tap.what: tap.checked for tap in whole.taps}
    assert checked == {
        "tagged UDP: not seen by the guest's tap": 13_143,
        "normal UDP: seen by the guest's tap": 20_058,
        "tagged ICMP echo requests: not seen by the guest's tap": 257,
        "normal ICMP echo requests: seen by the guest's tap": 1_040,
        "tagged ICMP echo requests: answered on the wire": 257,
    }


def test_watermark_table_is_the_allocators(whole: Report) -> None:
    singles = {(entry.mark, entry.flags): entry.floor for entry in whole.watermark if entry.order == 0}
    assert singles == {(297, "0x830"): 112, (44, "0x830"): 116, (297, "0x820"): 149, (44, "0x820"): 121}
    assert any("31227 decisions on blocks of more than one page are not judged" in note for note in whole.notes)


def test_screen_and_json_say_the_same(whole: Report, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(FIXTURE) == 0
    assert "45 018 rows: 45 010 checked, 8 not judged; 0 mismatches" in capsys.readouterr().out
    assert check(FIXTURE, as_json=True) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(whole.as_object()))


# --- it notices ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "cells"),
    [
        ({"class_": "udp_unread", "pfmemalloc": "1"}, {"fate": "ok"}),
        ({"class_": "udp_unread", "pfmemalloc": "1"}, {"fate": "ok", "filter_ret": "0", "location": ""}),
        ({"class_": "udp_unread", "pfmemalloc": "1"}, {"fate": "drop:PFMEMALLOC"}),
        ({"class_": "udp_unread", "pfmemalloc": "1"}, {"fate": "drop:SOCKET_RCVBUFF"}),
        ({"class_": "udp_unread", "pfmemalloc": "1"}, {"filter_ret": "0"}),
        ({"class_": "udp_unread", "pfmemalloc": "0"}, {"fate": "drop:SOCKET_FILTER"}),
        ({"class_": "udp_unread", "pfmemalloc": "0"}, {"fate": "drop:NO_SOCKET"}),
        ({"class_": "udp_unread", "pfmemalloc": "0"}, {"filter_ret": "-12"}),
        ({"class_": "tcp_nbd_MEMALLOC", "pfmemalloc": "1"}, {"fate": "drop:SOCKET_FILTER"}),
        ({"class_": "tcp_nbd_MEMALLOC", "pfmemalloc": "1"}, {"filter_ret": "-12"}),
        ({"class_": "tcp_nbd_MEMALLOC", "pfmemalloc": "1"}, {"sk_memalloc": "0"}),
        ({"class_": "tcp_bulk_unread", "pfmemalloc": "1"}, {"fate": "ok"}),
        ({"class_": "tcp_echo", "pfmemalloc": "0"}, {"sk_memalloc": "1"}),
        ({"class_": "icmp_echo", "pfmemalloc": "1"}, {"fate": "drop:SOCKET_FILTER"}),
        ({"class_": "arp", "pfmemalloc": "1"}, {"fate": "drop:UNHANDLED_PROTO"}),
        ({"class_": "ethertype_88b5", "pfmemalloc": "1"}, {"fate": "ok"}),
        ({"class_": "ethertype_88b5", "pfmemalloc": "0"}, {"fate": "drop:UNHANDLED_PROTO"}),
        ({"class_": "udp_closed", "pfmemalloc": "1"}, {"fate": "drop:SOCKET_FILTER"}),
        ({"class_": "udp_closed", "pfmemalloc": "0"}, {"fate": "ok"}),
    ],
)
def test_one_changed_row_is_one_mismatch(trace: Path, rows: Rows, row: dict[str, str], cells: dict[str, str]) -> None:
    index = find(rows, **row)
    only(trace, [rows[index] | cells])
    report = check_directory(trace)
    found = report.findings["rows"]
    assert (found.mismatches, report.checked, report.not_judged) == (1, 0, {})
    assert found.first[0].row == 1


def test_one_flipped_fate_in_the_whole_trace(trace: Path, rows: Rows, capsys: pytest.CaptureFixture[str]) -> None:
    index = find(rows, class_="udp_unread", pfmemalloc="1")
    write_rows(trace, changed(rows, index, fate="ok"))
    assert check(trace, as_json=True) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["mismatches"] == 1
    assert report["checked"] == 45_009
    assert report["first_mismatches"][0] == {
        "where": "packets.csv.gz",
        "row": index + 1,
        "what": "udp_unread, pfmemalloc 1, sk_memalloc 0",
        "expected": "drop:SOCKET_FILTER",
        "found": "ok, filter_ret -12",
    }
    assert check(trace) == 1
    assert f"row {index + 1}" in capsys.readouterr().out


def test_a_wrong_tag_shows_in_rows_and_counters(trace: Path, rows: Rows) -> None:
    write_rows(trace, changed(rows, find(rows, class_="udp_unread", pfmemalloc="1"), pfmemalloc="0"))
    report = check_directory(trace)
    assert report.findings["rows"].mismatches == 1
    assert [wrong.what for wrong in report.findings["counters"].first] == ["PFMemallocDrop", "Udp InErrors"]


@pytest.mark.parametrize("rule", ["check_sk_filter", "check_core"])
def test_a_policy_without_the_rule_fails(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(POLICIES["mainline"].rules, rule, 0)
    report = check_directory(FIXTURE)
    assert report.findings["rows"].mismatches == {"check_sk_filter": 13_216, "check_core": 64}[rule]


def test_counters_that_are_off_by_one(trace: Path) -> None:
    def change(summary: dict[str, Any]) -> None:
        summary["TcpExt_delta"]["PFMemallocDrop"] += 1
        summary["Udp_delta"]["InErrors"] -= 1

    edit(trace / "summary.json", change)
    report = check_directory(trace)
    assert report.findings["counters"].mismatches == report.mismatches == 2


def test_full_receive_buffers_are_not_the_filters_errors(trace: Path) -> None:
    def change(summary: dict[str, Any]) -> None:
        summary["Udp_delta"]["InErrors"] += 7
        summary["Udp_delta"]["RcvbufErrors"] = 7

    edit(trace / "summary.json", change)
    assert check_directory(trace).mismatches == 0


@pytest.mark.parametrize(
    ("key", "change"), [("lowest_free_ok", -1), ("highest_free_fail", 1), ("predicted_floor", 1), ("mark", 10)]
)
def test_a_watermark_entry_that_is_off(small: Path, key: str, change: int) -> None:
    def shift(summary: dict[str, Any]) -> None:
        entry = next(entry for entry in summary["watermark"] if entry["lowest_free_ok"] == 113)
        entry[key] += change

    edit(small / "summary.json", shift)
    report = check_directory(small)
    assert report.findings["watermark"].mismatches == report.mismatches >= 1
    assert [entry.outcome for entry in report.watermark].count("MISMATCH") == 1


def test_a_floor_for_larger_blocks_binds_too(small: Path) -> None:
    edit(small / "summary.json", lambda summary: summary["watermark"][0].update(predicted_floor=150))
    assert check_directory(small).findings["watermark"].mismatches == 1


def test_the_kernels_own_mispredictions_count(small: Path) -> None:
    edit(small / "summary.json", lambda summary: summary.update(watermark_order0_mispredicted=1))
    assert check_directory(small).findings["watermark"].mismatches == 1


@pytest.mark.parametrize(
    ("flags", "mark", "floor", "granted", "outcome"),
    [
        ("0x800", 100, 100, 101, "grants agree"),  # pages may be held back: a refusal above the floor is no mismatch
        ("0x810", 100, 100, 101, "agrees"),  # NON_BLOCK alone: no discount
        ("0x820", 101, 51, 52, "agrees"),
        ("0x830", 101, 39, 40, "agrees"),
        ("0x838", 101, 20, 21, "agrees"),  # the OOM victim: halved again
        ("0x808", 100, 50, 51, "agrees"),
    ],
)
def test_flags_of_the_watermark_table(
    small: Path, flags: str, mark: int, floor: int, granted: int, outcome: str
) -> None:
    entry = {
        "order": 0,
        "mark": mark,
        "flags": flags,
        "lowmem_reserve": 7,
        "ok": 1,
        "fail": 1,
        "lowest_free_ok": granted + 7,
        "highest_free_fail": granted + 6 if outcome == "agrees" else granted + 60,
        "predicted_floor": floor + 7,
    }
    edit(small / "summary.json", lambda summary: summary.update(watermark=[entry]))
    report = check_directory(small)
    assert report.mismatches == 0
    assert report.watermark[0].outcome == outcome


# --- other kernels, NICs and settings -----------------------------------------------------------------------------


def as_73(row: dict[str, str]) -> dict[str, str]:
    if row["pfmemalloc"] == "1" and row["fate"] in ("drop:SOCKET_FILTER", "drop:UNHANDLED_PROTO"):
        returned = "122" if row["filter_ret"] else ""  # sk_filter_trim_cap returns the drop reason
        return row | {"fate": "drop:PFMEMALLOC", "filter_ret": returned}
    return row


def test_the_same_trace_from_73(trace: Path, rows: Rows) -> None:
    edit(trace / "run.json", lambda run: run["args"].update(kernel="7.3"))
    assert check_directory(trace).findings["rows"].mismatches == 13_216 + 64
    write_rows(trace, [as_73(row) for row in rows])
    report = check_directory(trace)
    assert (report.mismatches, report.checked) == (0, 45_010)
    edit(trace / "run.json", lambda run: run["args"].update(kernel="6.1"))
    assert check_directory(trace).findings["rows"].mismatches == 13_216 + 64


@pytest.mark.parametrize(
    ("kernel", "names"),
    [
        ("6.1", ("SOCKET_FILTER",)),
        ("6.1.192-2", ("SOCKET_FILTER",)),
        ("5.10", ("SOCKET_FILTER",)),
        ("6.13.7", ("SOCKET_FILTER",)),
        ("6.16", ("SOCKET_FILTER", "PFMEMALLOC")),
        ("6.19", ("PFMEMALLOC",)),
        ("7.3.4+deb13-amd64", ("PFMEMALLOC",)),
        ("", ANY_RELEASE.filter_reasons),
    ],
)
def test_reason_names_follow_the_release(kernel: str, names: tuple[str, ...]) -> None:
    assert release_of(kernel).filter_reasons == names


def test_releases_are_in_order() -> None:
    assert [release.since for release in RELEASES] == sorted(release.since for release in RELEASES)


def test_unconfirmed_release_is_said(small: Path) -> None:
    edit(small / "run.json", lambda run: run["args"].update(kernel="6.16"))
    report = check_directory(small)
    assert report.mismatches == 0
    assert any("UNCONFIRMED" in note for note in report.notes)


def test_lost_trace_events_make_absence_prove_nothing(trace: Path, rows: Rows) -> None:
    lost = changed(rows, find(rows, class_="udp_unread", pfmemalloc="1"), fate="ok", location="")
    write_rows(trace, lost)

    def change(summary: dict[str, Any]) -> None:
        summary["ftrace_dropped"] = ["entries: 5", "overrun: 0", "commit overrun: 0", "dropped events: 87867"]
        summary["TcpExt_delta"]["PFMemallocDrop"] += 77

    edit(trace / "summary.json", change)
    report = check_directory(trace)
    assert report.mismatches == 0
    assert report.not_judged["a record may be among the trace events that were lost"] == 1
    assert {counter.not_binding for counter in report.counters} == {"87867 trace events were lost"}
    # What was recorded still counts.
    write_rows(trace, changed(rows, find(rows, class_="udp_unread", pfmemalloc="0"), fate="drop:SOCKET_FILTER"))
    assert check_directory(trace).mismatches == 1


def test_another_nic(trace: Path) -> None:
    edit(trace / "run.json", lambda run: run["args"].update(nic="8139cp"))
    report = check_directory(trace)
    assert (report.nic, report.mismatches, report.checked) == ("8139cp", 0, 45_010)


def test_virtio_is_not_judged_but_its_filter_is(trace: Path, rows: Rows) -> None:
    edit(trace / "run.json", lambda run: run["args"].update(nic="virtio"))
    report = check_directory(trace)
    assert (report.mismatches, report.checked) == (0, 0)
    assert sum(report.not_judged.values()) == 45_018
    assert all("virtio" in counter.not_binding for counter in report.counters)
    write_rows(trace, changed(rows, find(rows, class_="udp_unread", pfmemalloc="1"), filter_ret="0"))
    assert check_directory(trace).mismatches == 1


def test_without_a_tap_a_frame_without_handler_is_dropped(trace: Path, rows: Rows) -> None:
    frame = rows[find(rows, class_="ethertype_88b5", pfmemalloc="0")]
    only(trace, [frame])
    edit(trace / "run.json", lambda run: run["args"].update(tap="0"))
    assert check_directory(trace).findings["rows"].mismatches == 1
    only(trace, [frame | {"fate": "drop:UNHANDLED_PROTO"}])
    assert check_directory(trace).findings["rows"].mismatches == 0


def test_a_host_without_memalloc_sockets(trace: Path, rows: Rows) -> None:
    normal = [row for row in rows if row["pfmemalloc"] == "0" and row["class"] != "tcp_nbd_MEMALLOC"]
    only(trace, normal, len(normal))
    edit(trace / "run.json", lambda run: run["args"].update(nbd="blk"))
    report = check_directory(trace)
    assert report.findings["rows"].mismatches == 0
    assert any("proves nothing about the reserve" in note for note in report.notes)


@pytest.mark.parametrize(
    ("cells", "why"),
    [
        ({"fate": "drop:?"}, "mis-joined"),
        ({"fate": "drop:NO_SOCKET", "location": "tcp_v4_rcv+0x9a2"}, "mis-joined"),
        ({"fate": "drop:SOCKET_RCVBUFF"}, "receive queue"),
        ({"fate": "drop:UDP_CSUM"}, "headers and checksums"),
        ({"fate": "drop:NOT_SPECIFIED"}, "does not say why"),
        ({"fate": "drop:NETFILTER_DROP"}, "no such rule"),
        ({"fate": "drop:SOCKET_FILTER", "filter_ret": "-1"}, "filter of the socket's own"),
        ({"fate": "drop:NOT_SPECIFIED", "location": "tpacket_rcv+0x1c"}, "packet tap"),
        ({"class": "udp_5353", "sk_memalloc": "", "filter_ret": ""}, "whether a socket was there"),
        ({"class": "l3_dd86", "sk_memalloc": "", "filter_ret": ""}, "not modelled"),
        ({"class": "gre", "sk_memalloc": "", "filter_ret": ""}, "not modelled"),
        ({"class": "tcp_bulk_unread", "pfmemalloc": "1", "sk_memalloc": "", "filter_ret": ""}, "GRO"),
        ({"class": "tcp_nbd_MEMALLOC"}, "(yet)"),
    ],
)
def test_what_a_row_does_not_decide_is_told(trace: Path, rows: Rows, cells: dict[str, str], why: str) -> None:
    only(trace, [rows[find(rows, class_="udp_unread", pfmemalloc="0")] | cells])
    report = check_directory(trace)
    assert report.mismatches == 0
    ((told, count),) = report.not_judged.items()
    assert why in told and count == 1


@pytest.mark.parametrize("name", ["udp_5353", "tcp_3260_40000", "tcp_iscsi_MEMALLOC"])
def test_a_socket_of_another_class_is_judged_by_its_column(trace: Path, rows: Rows, name: str) -> None:
    refused = rows[find(rows, class_="udp_unread", pfmemalloc="1")] | {"class": name, "location": ""}
    accepted = refused | {"sk_memalloc": "1", "filter_ret": "0", "fate": "ok"}
    only(trace, [refused, accepted], 2)
    report = check_directory(trace)
    assert report.findings["rows"].mismatches == ("MEMALLOC" in name)
    assert report.checked == (1 if "MEMALLOC" in name else 2)


def test_a_cut_trace_still_checks_its_rows(trace: Path, rows: Rows) -> None:
    write_rows(trace, rows[20_000:25_000])
    report = check_directory(trace)
    assert report.mismatches == 0
    assert {counter.not_binding for counter in report.counters} == {"packets.csv.gz holds 5000 of 45018 rows"}


# --- packet taps --------------------------------------------------------------------------------------------------


def rewrite_capture(directory: Path, name: str, change: Callable[[bytes], bytes]) -> None:
    octets = lzma.decompress((FIXTURE / name).read_bytes())
    (directory / name).write_bytes(lzma.compress(change(octets), preset=0))


def test_a_tag_that_a_tap_saw(trace: Path, rows: Rows) -> None:
    tagged = int(rows[find(rows, class_="udp_unread", pfmemalloc="1")]["seq"])

    def show(octets: bytes) -> bytes:
        at = octets.index(b"\x23\x29", 24) - 36  # the first frame to port 9001
        frame = octets[at : at + 42] + tagged.to_bytes(4, "big")
        return octets + octets[at - 16 : at] + frame

    rewrite_capture(trace, "guest_tap.pcap.xz", show)
    report = check_directory(trace)
    assert report.mismatches == report.findings["taps"].mismatches == 1
    assert str(tagged) in report.findings["taps"].first[0].what


def test_a_tap_that_lost_packets(trace: Path) -> None:
    rewrite_capture(trace, "guest_tap.pcap.xz", lambda octets: octets[: len(octets) // 2])
    report = check_directory(trace)
    assert report.mismatches == 0
    lost = next(tap for tap in report.taps if tap.what.startswith("normal UDP"))
    assert lost.checked + lost.not_judged == 20_058 and lost.not_judged > 0 and lost.why
    assert any("last record is incomplete" in note for note in report.notes)


def test_tagged_requests_that_nobody_answered(trace: Path, rows: Rows) -> None:
    tagged = int(rows[find(rows, class_="icmp_echo", pfmemalloc="1")]["seq"]).to_bytes(4, "big")

    def silence(octets: bytes) -> bytes:
        at, kept = 24, [octets[:24]]
        while at < len(octets):
            end = at + 16 + int.from_bytes(octets[at + 8 : at + 12], "little")
            frame = octets[at + 16 : end]
            if not (frame[34] == 0 and frame[42:46] == tagged):
                kept.append(octets[at:end])
            at = end
        return b"".join(kept)

    rewrite_capture(trace, "host_tap.pcap.xz", silence)
    report = check_directory(trace)
    assert report.mismatches == report.findings["taps"].mismatches == 1


def test_without_captures_the_summary_counts(small: Path) -> None:
    report = check_directory(small)
    assert report.mismatches == 0
    assert {tap.source for tap in report.taps} == {"summary.json"}
    assert sum("summary.json alone" in note for note in report.notes) == 2
    edit(small / "summary.json", lambda summary: summary["pcap"].update(pfm_udp_seen_by_guest_tap=2))
    edit(small / "summary.json", lambda summary: summary["pcap"].update(icmp_pfm_answered=256))
    assert check_directory(small).findings["taps"].mismatches == 2


def test_what_is_not_there_is_told(trace: Path) -> None:
    def change(summary: dict[str, Any]) -> None:
        for name in ("pcap", "watermark", "TcpExt_delta", "Udp_delta", "ftrace_dropped", "per_class"):
            del summary[name]

    edit(trace / "summary.json", change)
    edit(trace / "run.json", lambda run: run.pop("args"))
    report = check_directory(trace)
    assert (report.mismatches, report.checked) == (0, 45_010)
    said = " ".join(report.notes)
    for part in ("taps saw is not checked", "answered is not checked", "watermark rule", "lost", "name the kernel"):
        assert part in said
    assert all(counter.not_binding and counter.counted is None for counter in report.counters)


# --- bad input ----------------------------------------------------------------------------------------------------


def fails(directory: Path, error: type[EmuError], *words: str) -> None:
    with pytest.raises(error) as raised:
        check_directory(directory)
    text = str(raised.value)
    assert "\n" not in text
    for word in words:
        assert word in text


def test_no_directory(tmp_path: Path) -> None:
    fails(tmp_path / "nowhere", UsageError, "nowhere", "packets.csv.gz")
    fails(tmp_path, UsageError, "there is no packets.csv.gz")


@pytest.mark.parametrize("name", ["packets.csv.gz", "summary.json", "run.json"])
def test_a_file_that_is_missing(trace: Path, name: str) -> None:
    (trace / name).unlink()
    fails(trace, UsageError, f"there is no {name}")


@pytest.mark.parametrize("name", ["packets.csv.gz", *CAPTURES])
def test_a_file_that_is_cut(trace: Path, name: str) -> None:
    (trace / name).write_bytes((FIXTURE / name).read_bytes()[:-1000])
    fails(trace, CaptureError, name, "after")


@pytest.mark.parametrize("name", ["packets.csv.gz", *CAPTURES])
def test_a_file_of_something_else(trace: Path, name: str) -> None:
    (trace / name).write_bytes(b"something else")
    fails(trace, CaptureError, name)


def test_a_capture_that_is_none(small: Path) -> None:
    (small / "guest_tap.pcap.xz").write_bytes(lzma.compress(b"something else, and long enough"))
    fails(small, CaptureError, "guest_tap.pcap.xz", "expected a pcap file")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["header lacks", "class"]),
        ("class,seq,fate\n", ["header lacks pfmemalloc"]),
        ("class,seq,pfmemalloc,sk_memalloc,filter_ret,fate,location\narp,0,1\n", ["row 1", "7 columns, found 3"]),
        ("class,seq,pfmemalloc,sk_memalloc,filter_ret,fate,location\narp,0,2,,,ok,\n", ["row 1", "pfmemalloc", "'2'"]),
        ("class,seq,pfmemalloc,sk_memalloc,filter_ret,fate,location\narp,0,0,,,gone,\n", ["row 1", "'gone'"]),
        ("class,seq,pfmemalloc,sk_memalloc,filter_ret,fate,location\narp,0,0,,x,ok,\n", ["filter_ret", "'x'"]),
    ],
)
def test_rows_that_make_no_sense(trace: Path, text: str, words: list[str]) -> None:
    (trace / "packets.csv.gz").write_bytes(gzip.compress(text.encode()))
    fails(trace, CaptureError, "packets.csv.gz", *words)


@pytest.mark.parametrize("name", ["summary.json", "run.json"])
@pytest.mark.parametrize("text", ["{", "[]", "\udcff"])
def test_json_that_is_broken(small: Path, name: str, text: str) -> None:
    (small / name).write_bytes(text.encode(errors="surrogateescape"))
    fails(small, CaptureError, name, "expected")


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"watermark": {}}, "watermark"),
        ({"watermark": [{"order": 0}]}, "watermark[0] mark"),
        ({"watermark": [7]}, "watermark[0] order"),
        ({"ftrace_dropped": ["?"]}, "ftrace_dropped"),
        ({"TcpExt_delta": {"PFMemallocDrop": "many"}}, "PFMemallocDrop"),
        ({"per_class": []}, "per_class"),
    ],
)
def test_a_summary_that_makes_no_sense(small: Path, change: dict[str, Any], word: str) -> None:
    edit(small / "summary.json", lambda summary: summary.update(change))
    fails(small, CaptureError, "summary.json", word, "expected")

"""`emu check --predict`: what goes into a prediction is exact; how near it comes is a figure and not tested."""

import gzip
import json
import lzma
import shutil
from pathlib import Path
from typing import Any

import pytest

from emu.cli.check import check_prediction
from emu.errors import CaptureError, UsageError
from emu.kernel.machine import ZONE_DMA, ZONE_NORMAL
from emu.verdicts.predict import (
    Arrival,
    Lengths,
    Premises,
    Reception,
    Run,
    Sample,
    Spread,
    WireFrame,
    classify,
    closing_words,
    cpu_ns_per_packet,
    join,
    memory_of,
    model_outcome,
    off_by,
    play,
    polled,
    read_run,
    real_outcome,
    refused,
    run_lengths,
    spread,
)

FIXTURE = Path(__file__).parent / "e1000e_61"
FRAMES = 4000


@pytest.fixture(scope="module")
def traced() -> Run:
    return read_run(FIXTURE)


def part(traced: Run, first: int, last: int) -> Run:
    """Some receptions of the run, with the samples of that time."""
    seen = traced.seen[first:last]
    inside = [sample for sample in traced.samples if seen[0].time_ns <= sample.time_ns <= seen[-1].time_ns]
    wire = [arrival.frame for arrival in seen]
    return Run(traced.trace, wire, traced.received[first:last], inside, seen, 0)


def crunch(traced: Run) -> Run:
    """The part of the run where the real kernel began to tag."""
    first = next(at for at, received in enumerate(traced.received) if received.pfmemalloc)
    return part(traced, first - 500, first - 500 + FRAMES)


def row(time_ns: int, traffic: str = "udp_unread", seq: int = 1, **columns: Any) -> Reception:
    usual: dict[str, Any] = {"length": 1442, "pfmemalloc": 0, "dropped": 0, "lag_ns": -1, "free": (0, 0)}
    return Reception(time_ns, traffic, seq, **(usual | columns))


def wire(time_ns: int, traffic: str = "udp_unread", seq: int = 1) -> WireFrame:
    return WireFrame(time_ns, traffic, seq, 1442, b"")


# --- what is played -----------------------------------------------------------------------------------------------


def test_every_reception_has_its_frame_on_the_wire(traced: Run) -> None:
    """66 176 frames of the run's traffic to the guest, of which it received 45 018, in the same order by class."""
    assert (len(traced.wire), len(traced.received), len(traced.seen), traced.unjoined) == (66_176, 45_018, 45_018, 0)
    for arrival, received in zip(traced.seen, traced.received, strict=True):
        assert (arrival.frame.traffic, arrival.frame.seq) == (received.traffic, received.seq)
        assert arrival.time_ns == received.time_ns
    assert len({id(arrival.frame) for arrival in traced.seen}) == 45_018


def test_no_frame_reaches_the_guest_before_it_is_on_the_wire(traced: Run) -> None:
    """The clocks are joined: nothing is early by more than a millisecond, and all wait less than two seconds."""
    waits = [arrival.time_ns - arrival.frame.time_ns for arrival in traced.seen]
    assert min(waits) >= -1_000_000
    assert max(waits) < 2_000_000_000


def test_frame_lengths_are_those_that_the_guest_saw(traced: Run) -> None:
    """A row's length is without the Ethernet header; a frame is never shorter than 60 bytes at the driver."""
    differ = [
        (arrival.frame.length, received.length)
        for arrival, received in zip(traced.seen, traced.received, strict=True)
        if max(60, arrival.frame.length) != received.length
    ]
    assert differ == []


def test_the_real_figures_are_those_of_the_trace(traced: Run) -> None:
    """As analysed when the run was made: facts of the real kernel."""
    real = real_outcome(traced)
    assert real.pfmemalloc_drop == 13_216
    assert real.tagged == 13_819
    assert real.runs == Lengths(237, 3, 59, 4938)
    assert real.lag_ns.values == 40_123
    assert (real.lag_ns.low, real.lag_ns.median, real.lag_ns.high) == (14_360_000, 26_230_000, 172_860_000)
    assert (real.refill_failed, real.copy_failed, real.missed) == (207, 24, -1)
    assert real.classes["udp_unread"] == (33_201, 13_143, 13_143)
    assert real.classes["ethertype_88b5"].dropped == 64
    assert real.classes["tcp_nbd_MEMALLOC"] == (3339, 155, 0)


def test_a_retransmission_is_joined_to_the_last_frame_before_it() -> None:
    """Of two frames with one number, the reception belongs to the later one that was on the wire by then."""
    frames = [wire(10), wire(20_000_000), wire(50_000_000)]
    assert join(frames, [row(30_000_000)]) == ([Arrival(30_000_000, frames[1])], 0)
    both, unjoined = join(frames, [row(30_000_000), row(30_000_000), row(30_000_000)])
    assert ([arrival.frame for arrival in both], unjoined) == ([frames[1], frames[0]], 1)
    assert join(frames, [row(30_000_000, "arp")]) == ([], 1)


@pytest.mark.parametrize(
    ("octets", "expected"),
    [
        (bytes(12) + b"\x08\x06" + bytes(40), ("arp", 0)),
        (bytes(12) + b"\x88\xb5" + bytes(40), ("ethertype_88b5", 0)),
        (bytes(12) + b"\x86\xdd" + bytes(40), ("", 0)),
        (bytes(12) + b"\x08\x00\x45" + bytes(8), ("", 0)),
    ],
)
def test_frames_are_classed_as_the_trace_classes_them(octets: bytes, expected: tuple[str, int]) -> None:
    assert classify(octets) == expected


@pytest.mark.parametrize(
    ("traffic", "fate", "is_refused"),
    [
        ("udp_unread", "drop:SOCKET_FILTER", True),
        ("udp_unread", "drop:PFMEMALLOC", True),
        ("ethertype_88b5", "drop:UNHANDLED_PROTO", True),
        ("udp_closed", "drop:NO_SOCKET", False),
        ("tcp_nbd_MEMALLOC", "drop:TCP_OLD_DATA", False),
        ("icmp_echo", "ok", False),
    ],
)
def test_a_drop_for_the_tag_is_told_from_others(traffic: str, fate: str, is_refused: bool) -> None:
    assert refused(traffic, fate) is is_refused


def test_the_cost_of_a_packet_is_the_median_gap_in_bursts() -> None:
    """Pauses do not count."""
    assert cpu_ns_per_packet([row(time_ns) for time_ns in (0, 5_000, 9_000, 15_000, 900_000_000)]) == 5_000
    assert cpu_ns_per_packet([row(0)]) == 0


def test_what_one_poll_took_arrives_together() -> None:
    """At most 64 frames, and a pause ends a poll."""
    seen = [Arrival(at * 5_000, wire(0)) for at in range(70)] + [Arrival(10_000_000, wire(0))]
    times = [arrival.time_ns for arrival in polled(seen)]
    assert times == [0] * 64 + [64 * 5_000] * 6 + [10_000_000]


def test_memory_at_every_reception_is_in_time_order(traced: Run) -> None:
    some = part(traced, 1000, 1500)
    series = list(memory_of(some, Premises(memory="packets")))
    assert len(series) == 500 + len(some.samples)
    assert [sample.time_ns for sample in series] == sorted(sample.time_ns for sample in series)
    assert list(memory_of(some, Premises())) == some.samples


# --- the play -----------------------------------------------------------------------------------------------------


def test_every_frame_that_is_played_is_accounted_for(traced: Run) -> None:
    """Counts by class add up to the frames; the model's counter is what its rows say; nothing tagged in plenty."""
    some = part(traced, 0, FRAMES)
    m, rows, arrivals = play(some, Premises())
    outcome = model_outcome(m, rows, arrivals)
    assert sum(counts.received for counts in outcome.classes.values()) + outcome.missed == FRAMES == m.total.frames
    assert outcome.tagged == outcome.pfmemalloc_drop == 0
    assert outcome.missed == 0


def test_the_crunch_tags_and_the_sample_is_imposed(traced: Run) -> None:
    """In the second of the run when memory was lowest, packets are tagged, and only non-memalloc ones dropped."""
    some = crunch(traced)
    m, rows, arrivals = play(some, Premises())
    outcome = model_outcome(m, rows, arrivals)
    assert outcome.tagged > 100
    assert outcome.classes["tcp_nbd_MEMALLOC"].dropped == outcome.classes["icmp_echo"].dropped == 0
    assert outcome.classes["udp_unread"].dropped == outcome.classes["udp_unread"].tagged
    drops = sum(counts.dropped for name, counts in outcome.classes.items() if not name.startswith("ethertype"))
    assert outcome.pfmemalloc_drop == drops
    assert m.zone[ZONE_NORMAL].pages_min == 297
    assert m.zone[ZONE_DMA].lowmem_reserve[ZONE_NORMAL] == 99


def test_without_the_reserve_nothing_is_tagged(traced: Run) -> None:
    """The control: the same play, and frames are missed in place of dropped."""
    some = crunch(traced)
    outcome = model_outcome(*play(some, Premises(reserve=False)))
    assert outcome.tagged == outcome.pfmemalloc_drop == 0
    assert outcome.missed > 0


def test_all_frames_on_the_wire_can_be_played(traced: Run) -> None:
    """At the host's time: some that the guest never saw are among them."""
    some = part(traced, 0, FRAMES)
    some = Run(some.trace, traced.wire[:800], some.received, some.samples, some.seen, 0)
    m, _, arrivals = play(some, Premises(frames="all"))
    assert len(arrivals) == m.total.frames == 800


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_both_engines_predict_the_same(traced: Run) -> None:
    """Imposing memory and draining the socket included."""
    pytest.importorskip("numba")
    from emu.engine.compiled import CompiledEngine

    some = crunch(traced)
    assert model_outcome(*play(some, Premises())) == model_outcome(*play(some, Premises(), CompiledEngine()))


# --- figures ------------------------------------------------------------------------------------------------------


def test_runs_and_spreads() -> None:
    assert run_lengths([0, 1, 1, 0, 1, 0, 0, 1, 1, 1]) == Lengths(3, 2, 3, 3)
    assert run_lengths([0, 0]) == Lengths(0, 0, 0, 0)
    assert spread(range(100)) == Spread(100, 5, 50, 95)
    assert spread([]) == Spread(0, 0, 0, 0)


@pytest.mark.parametrize(
    ("model", "real", "words"),
    [(110, 100, "+10.0 %"), (0, 8, "-100.0 %"), (7, 0, "7 where there were none"), (5, 5, "+0.0 %")],
)
def test_how_far_off(model: int, real: int, words: str) -> None:
    assert off_by(model, real) == words


def test_the_closing_words_name_the_distance(traced: Run) -> None:
    real = real_outcome(traced)
    words = closing_words(real, real, [])
    assert words[0].startswith("PFMemallocDrop is off by +0.0 %")
    assert len(words) == 2


# --- what is refused ----------------------------------------------------------------------------------------------


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    directory = tmp_path / "trace"
    shutil.copytree(FIXTURE, directory)
    return directory


def test_a_run_without_samples_or_frames_is_refused_by_name(copy: Path) -> None:
    (copy / "samples.csv.gz").unlink()
    with pytest.raises(UsageError, match=r"samples\.csv\.gz"):
        read_run(copy)


def test_a_run_without_its_capture_is_refused(copy: Path) -> None:
    (copy / "host_tap.pcap.xz").unlink()
    with pytest.raises(UsageError, match=r"host_tap\.pcap"):
        read_run(copy)


def test_another_nic_is_refused(copy: Path) -> None:
    run = json.loads((copy / "run.json").read_text())
    run["args"]["nic"] = "virtio"
    (copy / "run.json").write_text(json.dumps(run))
    with pytest.raises(UsageError, match="virtio"):
        read_run(copy)


def test_damaged_samples_are_refused_with_their_row(copy: Path) -> None:
    lines = gzip.decompress((copy / "samples.csv.gz").read_bytes()).decode().splitlines()
    lines[7] = lines[7].replace(",", ",x", 1)
    lines[7] = "x" + lines[7]
    (copy / "samples.csv.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    with pytest.raises(CaptureError, match="row 7"):
        read_run(copy)


def test_a_capture_of_other_traffic_is_refused(copy: Path) -> None:
    header = lzma.decompress((copy / "host_tap.pcap.xz").read_bytes())[:24]
    (copy / "host_tap.pcap.xz").write_bytes(lzma.compress(header))
    with pytest.raises(CaptureError, match="no frame"):
        read_run(copy)


def test_an_unknown_choice_of_frames_is_refused() -> None:
    with pytest.raises(UsageError, match="seen or all"):
        check_prediction(FIXTURE, "some")


def test_samples_are_ordered_by_time(traced: Run) -> None:
    times = [sample.time_ns for sample in traced.samples]
    assert times == sorted(times)
    assert traced.samples[0] == Sample(10_640_733_782, (3808, 8849), 0)

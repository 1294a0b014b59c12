"""How far the emulator is from a real kernel's counts: a traced run played again through policy mainline.

The frames come from the host's capture of the run, the free pages of each zone from its samples: at every sample
others take or give pages until the machine stands as the real one stood.  What the machine uses between two samples is
its own.  Everything else is the model's: which buffer comes from where, which one is tagged, who is dropped.

Frames wait on the host's TAP device and in QEMU before the guest's NIC has them, some 100 ms and at most 1.9 s, and
many are lost there.  That is outside of the model, so by default the frames that the guest saw arrive when its driver
took them.  `frames="all"` plays everything on the wire at the host's time.
"""

import csv
import gzip
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any, NamedTuple

from emu.capture.bpf import Filter
from emu.engine.loop import leave_in_flight, run
from emu.engine.plain import Engine, PlainEngine
from emu.engine.setup import build_machine
from emu.errors import CaptureError, UsageError
from emu.kernel.boot import start_clock
from emu.kernel.drop_reason import DROPPED, PFMEMALLOC, RX_MISSED
from emu.kernel.e1000e import COPYBREAK_BYTES
from emu.kernel.invariants import HOLDS, SENTENCES, check_conservation, check_structures
from emu.kernel.machine import DIR_INBOUND, DRIVERS, NONE, ZONE_DMA, ZONE_NORMAL, Event, Packet
from emu.kernel.page_alloc import set_free_pages
from emu.kernel.policy import POLICIES
from emu.kernel.sock import (
    IPPROTO_TCP,
    IPPROTO_UDP,
    READER_IMMEDIATE,
    READER_NEVER,
    ends_of_port,
    sk_dequeue,
    sk_find,
)
from emu.scenario import GEOMETRIES
from emu.traffic.arrivals import OFFLOAD_DROP, Feed, prepare
from emu.traffic.inlets import Inlet
from emu.traffic.pace import PACE_CAPTURED
from emu.verdicts.check_trace import (
    DAMAGE,
    ECHO_ID,
    HOST_TAP,
    ICMP_ECHO,
    PACKETS,
    UDP_PORT,
    Tap,
    Trace,
    frames,
    open_capture,
    read_trace,
)
from emu.wire.headers import CHECKSUMS_TRUST

SAMPLES = "samples.csv.gz"
GEOMETRY = "6.x-e1000e"
POLICY = "mainline"
RING = 256  # e1000.h E1000_DEFAULT_RXD
TCP_RMEM_MIN, TCP_RMEM_MAX = 4_096, 6_291_456  # net.ipv4.tcp_rmem of 6.x
WEIGHT = 64
GUEST_MAC = 0x525400990002  # of every traced run
NBD_PORT, BULK_PORT, ECHO_PORT, CLOSED_PORT = 10809, 9002, 9003, 9999
CLOCK_SLACK_NS = 1_000_000  # the two clocks agree to less than this
MIN_FRAME_BYTES = 60  # QEMU pads shorter ones
BURST_NS = 100_000  # receptions closer than this are one burst
LOCAL_ETHERTYPE = b"\x88\xb5"
COLUMNS = ("t_guest_mono", "class", "seq", "len", "pfmemalloc", "alloc_lag_ms", "alloc_fn", "free_DMA", "free_DMA32")
SAMPLE_COLUMNS = ("mono_ns", "dma_free", "dma32_free", "UdpIn")


class Premises(NamedTuple):
    """What a prediction takes for granted; an experiment changes one of them."""

    frames: str = "seen"  # by the guest, at the guest's time; or all on the wire, at the host's
    memory: str = "samples"  # free pages every 10 ms; or `packets`: as the trace has them at each reception
    block_order: int = 0  # others give pages back in blocks of 2^this
    polled: bool = True  # what the driver took in one go was in its ring when it began
    heads: bool = False  # the sk_buff itself may come from the reserve too
    bulk_read: bool = False  # the TCP flow that nobody reads is read at once
    sends: bool = True  # what the host sends takes memory, if only for a moment
    reserve: bool = True  # __GFP_MEMALLOC works


class Reception(NamedTuple):
    """A row of packets.csv: what the real driver handed up."""

    time_ns: int
    traffic: str
    seq: int
    length: int
    pfmemalloc: int
    dropped: int  # for its tag
    lag_ns: int  # from the allocation of its ring buffer; -1: a copy, or allocated before the trace
    free: tuple[int, int]  # pages of DMA and DMA32


class Sample(NamedTuple):
    """The memory at a moment, and how many datagrams had been read by then."""

    time_ns: int
    free: tuple[int, int]
    udp_read: int


class WireFrame(NamedTuple):
    """A frame to the guest, on the host's TAP device; its time by the guest's clock."""

    time_ns: int
    traffic: str
    seq: int
    length: int
    octets: bytes


class Arrival(NamedTuple):
    """A frame that is played, and when."""

    time_ns: int
    frame: WireFrame


@dataclass
class Run:
    """A traced run, as far as a prediction needs it."""

    trace: Trace
    wire: list[WireFrame]
    received: list[Reception]
    samples: list[Sample]
    seen: list[Arrival]  # the frames on the wire that the guest received
    unjoined: int  # receptions without a frame on the wire


class Spread(NamedTuple):
    """A distribution in four figures."""

    values: int  # how many
    low: int  # 5 %
    median: int
    high: int  # 95 %


class Lengths(NamedTuple):
    """Lengths of runs of consecutive tagged packets."""

    runs: int
    median: int
    ninety: int  # 90 %
    longest: int


class Counts(NamedTuple):
    """Packets of one class."""

    received: int
    tagged: int
    dropped: int  # for their tag


@dataclass
class Outcome:
    """What came of the packets, in the real kernel or in the model."""

    classes: dict[str, Counts]
    pfmemalloc_drop: int  # TcpExt PFMemallocDrop
    runs: Lengths
    lag_ns: Spread
    refill_failed: int  # allocations of a ring buffer that gave nothing
    copy_failed: int  # of a copy of a small packet
    missed: int  # by a NIC without a descriptor; -1: not known
    lowest_free: tuple[int, int]  # pages

    @property
    def tagged(self) -> int:
        """Tagged packets of all classes."""
        return sum(counts.tagged for counts in self.classes.values())


class Variant(NamedTuple):
    """An experiment: one premise changed, and what came of it."""

    name: str
    premises: Premises
    outcome: Outcome


@dataclass
class Prediction:
    """Predicted beside real."""

    directory: str
    policy: str
    geometry: str
    on_wire: int
    received: int
    unjoined: int
    played: int
    cpu_ns_per_packet: int
    samples: int
    real: Outcome
    model: Outcome
    variants: list[Variant]
    words: list[str]

    def as_object(self) -> dict[str, Any]:
        """The prediction as one JSON object."""
        return {
            "directory": self.directory,
            "policy": self.policy,
            "geometry": self.geometry,
            "frames_on_wire": self.on_wire,
            "frames_received": self.received,
            "frames_unjoined": self.unjoined,
            "frames_played": self.played,
            "cpu_ns_per_packet": self.cpu_ns_per_packet,
            "samples": self.samples,
            "real": _outcome_object(self.real),
            "predicted": _outcome_object(self.model),
            "experiments": [
                {"name": variant.name, "premises": variant.premises._asdict(), **_outcome_object(variant.outcome)}
                for variant in self.variants
            ],
            "words": self.words,
        }


def _outcome_object(outcome: Outcome) -> dict[str, Any]:
    return {
        "PFMemallocDrop": outcome.pfmemalloc_drop,
        "classes": {name: counts._asdict() for name, counts in outcome.classes.items()},
        "runs": outcome.runs._asdict(),
        "lag_ns": outcome.lag_ns._asdict(),
        "refill_failed": outcome.refill_failed,
        "copy_failed": outcome.copy_failed,
        "missed": None if outcome.missed < 0 else outcome.missed,
        "lowest_free_pages": {"DMA": outcome.lowest_free[0], "DMA32": outcome.lowest_free[1]},
    }


# --- reading ------------------------------------------------------------------------------------------------------


def read_run(directory: Path) -> Run:
    """Read a traced run with its capture and its samples; errors as `read_trace` has them."""
    if not directory.is_dir():
        raise UsageError(f"{directory}: expected the directory of a traced run")
    samples = _read_samples(directory / SAMPLES)
    wire_file = open_capture(directory, HOST_TAP)
    if wire_file is None:
        raise UsageError(f"{directory}: there is no {HOST_TAP}; a prediction needs the frames of the run")
    wire_file[1].close()
    trace = read_trace(directory)
    if "e1000e" not in trace.nic:
        raise UsageError(
            f"{directory}: a prediction needs a run on e1000e, this one is on {trace.nic or 'an unknown NIC'}"
        )
    offset_ns = round(float(trace.summary.get("clock_offset_guest_mono_minus_host_real", 0)) * 1_000_000_000)
    received = _read_receptions(directory / PACKETS)
    wire = _read_wire(directory, offset_ns)
    seen, unjoined = join(wire, received)
    return Run(trace, wire, received, samples, seen, unjoined)


def _table(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    try:
        with gzip.open(path, "rt", encoding="utf-8", newline="") as stream:
            table = list(csv.DictReader(stream))
    except FileNotFoundError:
        raise UsageError(f"{path}: there is no such file; a prediction needs it") from None
    except DAMAGE as error:
        raise CaptureError(f"{path}: damaged: {error}") from error
    missing = [name for name in columns if not table or name not in table[0]]
    if missing:
        raise CaptureError(f"{path}: no rows, or the header lacks {', '.join(missing)}")
    return table


def _read_receptions(path: Path) -> list[Reception]:
    rows = []
    for number, cells in enumerate(_table(path, COLUMNS), 1):
        try:
            ring = cells["alloc_fn"] == "nal" and cells["alloc_lag_ms"]
            rows.append(
                Reception(
                    time_ns=_nanoseconds(cells["t_guest_mono"], 9),
                    traffic=cells["class"],
                    seq=int(cells["seq"]),
                    length=int(cells["len"]) + 14,
                    pfmemalloc=int(cells["pfmemalloc"]),
                    dropped=int(cells["pfmemalloc"] == "1" and refused(cells["class"], cells["fate"])),
                    lag_ns=_nanoseconds(cells["alloc_lag_ms"], 6) if ring else -1,
                    free=(int(cells["free_DMA"]), int(cells["free_DMA32"])),
                )
            )
        except (KeyError, TypeError, ValueError) as error:
            raise CaptureError(f"{path}: row {number}: {error}") from None
    return rows


def refused(traffic: str, fate: str) -> bool:
    """Whether a tagged packet's fate is a drop for its tag, by whatever name this release has for it."""
    core = traffic.startswith("ethertype_") and fate == "drop:UNHANDLED_PROTO"
    return core or fate in ("drop:SOCKET_FILTER", "drop:PFMEMALLOC")


def _nanoseconds(text: str, digits: int) -> int:
    """A decimal number without an exponent in units of 10^-digits."""
    whole, _, fraction = text.partition(".")
    return int(whole + fraction[:digits].ljust(digits, "0"))


def _read_samples(path: Path) -> list[Sample]:
    samples = []
    for number, cells in enumerate(_table(path, SAMPLE_COLUMNS), 1):
        try:
            time_ns, dma, dma32, read = (int(cells[name]) for name in SAMPLE_COLUMNS)
        except (TypeError, ValueError) as error:
            raise CaptureError(f"{path}: row {number}: {error}") from None
        samples.append(Sample(time_ns, (dma, dma32), read))
    return samples


def _read_wire(directory: Path, offset_ns: int) -> list[WireFrame]:
    opened = open_capture(directory, HOST_TAP)
    assert opened is not None
    path, stream = opened
    wire = []
    try:
        with stream:
            for frame in frames(path, stream, Tap(path.name)):
                if int.from_bytes(frame.octets[6:12], "big") == GUEST_MAC:
                    continue
                traffic, seq = classify(frame.octets)
                if traffic:
                    wire.append(WireFrame(frame.time_ns + offset_ns, traffic, seq, frame.length, frame.octets))
    except DAMAGE as error:
        raise CaptureError(f"{path}: damaged after frame {len(wire)}: {error}") from error
    if not wire:
        raise CaptureError(f"{path}: no frame of the run's traffic")
    return wire


def classify(octets: bytes) -> tuple[str, int]:
    """A frame's class and sequence number as the trace names them; "" for other traffic."""
    ethertype = octets[12:14]
    if ethertype == b"\x08\x06":
        return "arp", 0
    if ethertype == LOCAL_ETHERTYPE:
        return "ethertype_88b5", 0
    if ethertype != b"\x08\x00" or len(octets) < 46 or octets[14] != 0x45:
        return "", 0
    sport, dport = int.from_bytes(octets[34:36], "big"), int.from_bytes(octets[36:38], "big")
    if octets[23] == IPPROTO_UDP:
        name = {UDP_PORT: "udp_unread", CLOSED_PORT: "udp_closed"}.get(dport, "")
        return name, int.from_bytes(octets[42:46], "big")
    if octets[23] == IPPROTO_TCP:
        name = "tcp_nbd_MEMALLOC" if sport == NBD_PORT else ""
        name = name or {BULK_PORT: "tcp_bulk_unread", ECHO_PORT: "tcp_echo"}.get(dport, "")
        return name, int.from_bytes(octets[38:42], "big")
    if octets[34] == ICMP_ECHO and int.from_bytes(octets[38:40], "big") == ECHO_ID:
        return "icmp_echo", int.from_bytes(octets[42:46], "big")
    return "", 0


def join(wire: Sequence[WireFrame], received: Sequence[Reception]) -> tuple[list[Arrival], int]:
    """The frames that the guest received, in its order and at its time, and how many receptions have no frame.

    A reception belongs to the last frame of its class, number and length that was on the wire before it and has not
    been taken: a number comes twice when TCP retransmits, or acknowledges and then sends, and some classes have none.
    """
    waiting: dict[tuple[str, int, int], list[int]] = {}
    for at, frame in enumerate(wire):
        waiting.setdefault((frame.traffic, frame.seq, max(MIN_FRAME_BYTES, frame.length)), []).append(at)
    seen: list[Arrival] = []
    unjoined = 0
    for row in received:
        candidates = waiting.get((row.traffic, row.seq, max(MIN_FRAME_BYTES, row.length)), [])
        found = bisect_right(candidates, row.time_ns + CLOCK_SLACK_NS, key=lambda at: wire[at].time_ns)
        if found:
            seen.append(Arrival(row.time_ns, wire[candidates.pop(found - 1)]))
        else:
            unjoined += 1
    return seen, unjoined


# --- playing ------------------------------------------------------------------------------------------------------


def cpu_ns_per_packet(received: Sequence[Reception]) -> int:
    """What a packet costs this guest: the median gap between receptions within a burst."""
    gaps = sorted(b.time_ns - a.time_ns for a, b in pairwise(received) if b.time_ns - a.time_ns < BURST_NS)
    return gaps[len(gaps) // 2] if gaps else 0


def polled(seen: Sequence[Arrival]) -> list[Arrival]:
    """The frames that a poll took arrive together, at its start: at most its weight, and no gap among them."""
    together: list[Arrival] = []
    start_ns = previous_ns = taken = 0
    for arrival in seen:
        if taken == 0 or taken == WEIGHT or arrival.time_ns - previous_ns > BURST_NS:
            start_ns = arrival.time_ns
            taken = 0
        taken += 1
        previous_ns = arrival.time_ns
        together.append(Arrival(start_ns, arrival.frame))
    return together


def machine_of_run(engine: Engine, traced: Run, premises: Premises) -> Any:
    """The run's machine: its zones as measured, its sockets, its NIC."""
    geometry = GEOMETRIES[GEOMETRY]
    rules = dict(POLICIES[POLICY].rules)
    if not premises.reserve:
        rules["rx_memalloc"] = 0
    zones = {}
    for zone, name in ((ZONE_DMA, "DMA"), (ZONE_NORMAL, "DMA32")):
        said = (traced.trace.section("zones") or {}).get(name)
        if not isinstance(said, dict):
            raise CaptureError(f"{traced.trace.name}: summary.json: zones: there is no {name}")
        reserve = str(said.get("prot", "0")).split(",")
        zones[zone] = {
            "present_pages": traced.trace.whole(f"{name} managed", said.get("managed")),
            "free_pages": traced.samples[0].free[zone],
            "pages_min": traced.trace.whole(f"{name} min", said.get("min")),
            "pages_low": traced.trace.whole(f"{name} low", said.get("low")),
            "pages_high": traced.trace.whole(f"{name} high", said.get("high")),
            "lowmem_reserve": int(reserve[1]) if zone == ZONE_DMA and len(reserve) > 1 else 0,
        }
    arguments = traced.trace.arguments
    bulk = READER_IMMEDIATE if premises.bulk_read else READER_NEVER
    return build_machine(
        engine,
        config={
            "memory_pages": sum(zone["present_pages"] for zone in zones.values()),
            "mm": geometry.mm,
            "sk_buff_bytes": geometry.sk_buff_bytes,
            "l1_bytes": geometry.l1_bytes,
            "netdev_max_backlog": geometry.netdev_max_backlog,
            "netdev_budget": geometry.netdev_budget,
            "head_memalloc": premises.heads,
            "silent": not premises.sends,
            "cpu_ns_per_packet": cpu_ns_per_packet(traced.received),
            "memalloc_socket": str(arguments.get("nbd")) == "1",
            "udp_rcvbuf": 2 * int(arguments.get("rcvbuf", geometry.udp_rcvbuf)),  # SO_RCVBUFFORCE doubles it
            "tcp_rcvbuf": 2 * int(arguments.get("tcprcv", geometry.tcp_rcvbuf)),
            "tcp_rmem_min": TCP_RMEM_MIN,
            "tcp_rmem_max": TCP_RMEM_MAX,
            "ordinary_reader": READER_IMMEDIATE,
            "memalloc_reader": READER_IMMEDIATE,
        },
        policy=rules,
        devices=[
            {"mtu": 1500, "weight": WEIGHT, "ring_size": RING, "napi": 1, "driver": DRIVERS.index(geometry.driver)}
        ],
        sock_rules=[
            {"protocol": IPPROTO_TCP, "remote_port": NBD_PORT, "memalloc": 1},
            {"protocol": IPPROTO_TCP, "local_port": BULK_PORT, "reader": bulk},
            {"protocol": IPPROTO_UDP, "local_port": UDP_PORT, "reader": READER_NEVER},
            {"protocol": IPPROTO_UDP, "local_port": CLOSED_PORT, "closed": 1},
        ],
        zones=zones,
    )


def rows_of(engine: Engine, arrivals: Sequence[Arrival]) -> Any:
    """The frames as arrivals of the machine."""
    octets = bytearray()
    rows = engine.rows(Packet, len(arrivals))
    for at, arrival in enumerate(arrivals):
        frame = arrival.frame
        engine.fill(
            rows[at],
            {
                "frame": at + 1,
                "packet_id": at + 1,
                "file_time_ns": arrival.time_ns,
                "offset": len(octets),
                "caplen": len(frame.octets),
                "length": frame.length,
                "direction": DIR_INBOUND,
                "linktype": 1,
            },
        )
        octets += frame.octets
    feed = engine.new(Feed)
    engine.fill(
        feed,
        {
            "checksums": CHECKSUMS_TRUST,
            "offload": OFFLOAD_DROP,
            "inlets": 1,
            "pace": PACE_CAPTURED,
        },
    )
    inlets = engine.rows(Inlet, 1)
    engine.fill(inlets[0], {"mtu": 1500, "host_known": 1, "host_mac": GUEST_MAC})
    no_filter = Filter(None).load(engine)
    engine.function(prepare)(feed, rows, 0, len(arrivals), engine.view(octets), no_filter, inlets)
    return rows


def memory_of(traced: Run, premises: Premises) -> Iterable[Sample]:
    """The free pages to impose: the samples, or those and what the trace saw at every reception."""
    if premises.memory == "samples":
        return traced.samples
    read = sorted(traced.samples)
    known = [sample.time_ns for sample in read]
    between = [
        Sample(row.time_ns, row.free, read[max(0, bisect_right(known, row.time_ns) - 1)].udp_read)
        for row in traced.received
    ]
    return sorted([*read, *between], key=lambda sample: sample.time_ns)


def play(traced: Run, premises: Premises, engine: Engine | None = None) -> tuple[Any, Any, list[Arrival]]:
    """Play the run; the machine, its rows, and what they are."""
    engine = engine or PlainEngine()
    arrivals = polled(traced.seen) if premises.polled else traced.seen
    if premises.frames == "all":
        arrivals = sorted((Arrival(frame.time_ns, frame) for frame in traced.wire), key=lambda arrival: arrival.time_ns)
    rows = rows_of(engine, arrivals)
    m = machine_of_run(engine, traced, premises)
    engine.function(start_clock)(m, min(arrivals[0].time_ns, traced.samples[0].time_ns))
    log = engine.rows(Event, 4)
    go, impose = engine.function(run), engine.function(set_free_pages)
    times = [arrival.time_ns for arrival in arrivals]
    first = read = 0
    for sample in memory_of(traced, premises):
        last = bisect_right(times, sample.time_ns)
        if last > first:
            first, _ = go(m, rows, first, last, 0, log, 4)
        go(m, rows, first, first, sample.time_ns, log, 4)
        if sample.udp_read > read:  # the reader takes all there is
            drain(engine, m)
        read = sample.udp_read
        for zone in (ZONE_DMA, ZONE_NORMAL):
            impose(m, zone, sample.free[zone], premises.block_order)
    if first < len(arrivals):
        go(m, rows, first, len(arrivals), 0, log, 4)
    go(m, rows, len(arrivals), len(arrivals), times[-1] + 1_000_000_000, log, 4)
    engine.function(leave_in_flight)(m, rows, 0, len(arrivals))
    for check in (check_conservation, check_structures):
        broken = engine.function(check)(m)
        if broken != HOLDS:
            raise AssertionError(f"broken invariant: {SENTENCES[broken]}")
    return m, rows, arrivals


def drain(engine: Engine, m: Any) -> None:
    """The reader of the UDP socket takes all there is."""
    i = engine.function(sk_find)(m, ends_of_port(4, IPPROTO_UDP, UDP_PORT))
    if i != NONE:
        engine.function(sk_dequeue)(m, i, int(m.sk[i].queue_len))


# --- counting -----------------------------------------------------------------------------------------------------


def quantile(ordered: Sequence[int], share: float) -> int:
    """The value below which a share of a sorted list lies; 0 of nothing."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0


def spread(values: Iterable[int]) -> Spread:
    """A distribution in a few figures."""
    ordered = sorted(values)
    return Spread(len(ordered), quantile(ordered, 0.05), quantile(ordered, 0.5), quantile(ordered, 0.95))


def run_lengths(tagged: Iterable[int]) -> Lengths:
    """How long the runs of consecutive ones are."""
    ordered = sorted(sum(1 for _ in group) for one, group in groupby(tagged) if one)
    return Lengths(len(ordered), quantile(ordered, 0.5), quantile(ordered, 0.9), ordered[-1] if ordered else 0)


def count_classes(packets: Iterable[tuple[str, int, int]]) -> dict[str, Counts]:
    """Counts by class of (class, tagged, dropped), in the order of names."""
    sums: dict[str, list[int]] = {}
    for traffic, tagged, dropped in packets:
        counts = sums.setdefault(traffic, [0, 0, 0])
        counts[0] += 1
        counts[1] += tagged
        counts[2] += dropped
    return {name: Counts(*sums[name]) for name in sorted(sums)}


def real_outcome(traced: Run) -> Outcome:
    """What the real kernel did."""
    returns = traced.trace.section("alloc_returns") or {}
    tcp = traced.trace.section("TcpExt_delta") or {}
    rows = traced.received
    return Outcome(
        classes=count_classes((row.traffic, row.pfmemalloc, row.dropped) for row in rows),
        pfmemalloc_drop=traced.trace.whole("PFMemallocDrop", tcp.get("PFMemallocDrop", 0)),
        runs=run_lengths(row.pfmemalloc for row in rows),
        lag_ns=spread(row.lag_ns for row in rows if row.lag_ns >= 0),
        refill_failed=traced.trace.whole("nal:NULL", returns.get("nal:NULL", 0)),
        copy_failed=traced.trace.whole("nap:NULL", returns.get("nap:NULL", 0)),
        missed=-1,
        lowest_free=(
            min(sample.free[0] for sample in traced.samples),
            min(sample.free[1] for sample in traced.samples),
        ),
    )


def model_outcome(m: Any, rows: Any, arrivals: Sequence[Arrival]) -> Outcome:
    """What the model did."""
    started_ns = arrivals[0].time_ns
    taken: list[tuple[str, int, int]] = []
    lags = []
    missed = 0
    for at, arrival in enumerate(arrivals):
        p = rows[at]
        if p.verdict == DROPPED and p.reason == RX_MISSED:
            missed += 1
            continue
        taken.append((arrival.frame.traffic, int(p.pfmemalloc), int(p.verdict == DROPPED and p.reason == PFMEMALLOC)))
        if p.length >= COPYBREAK_BYTES and p.alloc_ns >= started_ns:
            lags.append(int(p.decided_ns - p.alloc_ns))
    return Outcome(
        classes=count_classes(taken),
        pfmemalloc_drop=int(m.mib.TcpExtPFMemallocDrop),
        runs=run_lengths(tagged for _, tagged, _ in taken),
        lag_ns=spread(lags),
        refill_failed=int(m.dev[0].alloc_rx_buff_failed),
        copy_failed=int(m.dev[0].copybreak_failed),
        missed=missed,
        lowest_free=(int(m.zone[ZONE_DMA].free_pages_min), int(m.zone[ZONE_NORMAL].free_pages_min)),
    )


# --- the whole ----------------------------------------------------------------------------------------------------

EXPERIMENTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("no __GFP_MEMALLOC", {"reserve": False}),
    ("the sk_buff itself may come from the reserve", {"heads": True}),
    ("what the host sends takes no memory", {"sends": False}),
    ("unread TCP is read at once", {"bulk_read": True}),
    ("free pages as seen at every reception, not every 10 ms", {"memory": "packets"}),
    ("and others give pages back in blocks of 8", {"memory": "packets", "block_order": 3}),
    ("frames arrive one by one", {"polled": False}),
)


def predict(directory: Path, which: str = "seen", experiments: bool = True) -> Prediction:
    """Predict a traced run's counts; with `experiments`, what changing one premise at a time does to them."""
    traced = read_run(directory)
    base = Premises(frames=which)
    m, rows, arrivals = play(traced, base)
    real, model = real_outcome(traced), model_outcome(m, rows, arrivals)
    variants = []
    for name, change in EXPERIMENTS if experiments else ():
        premises = base._replace(**change)
        variants.append(Variant(name, premises, model_outcome(*play(traced, premises))))
    return Prediction(
        directory=traced.trace.name,
        policy=POLICY,
        geometry=GEOMETRY,
        on_wire=len(traced.wire),
        received=len(traced.received),
        unjoined=traced.unjoined,
        played=len(arrivals),
        cpu_ns_per_packet=int(m.config.cpu_ns_per_packet),
        samples=len(traced.samples),
        real=real,
        model=model,
        variants=variants,
        words=closing_words(real, model, variants),
    )


def off_by(model: int, real: int) -> str:
    """How far a count is off, in words."""
    if not real:
        return f"{model} where there were none"
    tenths = round(1000 * (model - real) / real)
    return f"{'+' if tenths >= 0 else '-'}{abs(tenths) // 10}.{abs(tenths) % 10} %"


def closing_words(real: Outcome, model: Outcome, variants: Sequence[Variant]) -> list[str]:
    """How far off the prediction is and why, as far as the experiments tell."""
    off = [
        off_by(model.pfmemalloc_drop, real.pfmemalloc_drop),
        off_by(model.tagged, real.tagged),
        off_by(model.refill_failed, real.refill_failed),
    ]
    words = [f"PFMemallocDrop is off by {off[0]}, tagged packets by {off[1]}, ring buffers refused by {off[2]}."]
    words.append(
        "The run's own free pages and arrivals are imposed on the model: a close sum says that buffers are tagged at "
        "the right levels, not that the model knows how much memory a machine has left."
    )
    by_name = {variant.name: variant.outcome for variant in variants}
    if not by_name:
        return words
    sums = [outcome.pfmemalloc_drop for name, outcome in by_name.items() if name != EXPERIMENTS[0][0]]
    words.append(
        f"It is also partly luck: one premise changed, the sum moves between {min(sums)} and {max(sums)} "
        f"(without the reserve: {by_name[EXPERIMENTS[0][0]].pfmemalloc_drop})."
    )
    heads, silent = by_name[EXPERIMENTS[1][0]], by_name[EXPERIMENTS[2][0]]
    words.append(
        f"A ring that has run dry waits for the watchdog, 2 s at most, and {model.missed} frames that the guest saw "
        "are missed meanwhile: whether it does hangs on single pages. What the host sends takes some (ACKs, echo "
        f"replies): without it {silent.missed} are missed, and the sum is {silent.pfmemalloc_drop}."
    )
    if model.refill_failed > real.refill_failed and heads.refill_failed < model.refill_failed:
        read = by_name[EXPERIMENTS[3][0]]
        words.append(
            "Ring buffers are refused too often for want of an sk_buff head, which may not come from the reserve: with "
            f"heads from the reserve {heads.refill_failed} are refused and {heads.missed} frames missed, and tagged "
            f"packets come in {heads.runs.runs} runs of up to {heads.runs.longest} "
            f"(predicted {model.runs.runs}, {model.runs.longest}; real {real.runs.runs}, {real.runs.longest}). "
            "So the real kernel finds heads where the model finds none. TCP segments merged in the receive queue give "
            "theirs back, which is not modelled, but that is not the whole of it: with that flow read at once "
            f"{read.refill_failed} are refused. The rest is not explained."
        )
    return words

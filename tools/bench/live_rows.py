"""The rows of `live.py`: what is measured on each road, what must be reached, and whether it was."""

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

from live_roads import VETH, WIRE, Ground, Road, Wire, cpu_ns
from measure import BenchError, Spread

from emu.kernel.drop_reason import REASONS
from emu.live.state import Emulated, Outside

SETTLE_S = 0.3  # from a sender's start to the first look
STEADY_PPS = 50_000
LEFT_TO_THE_STACK = {reason.name for reason in REASONS if reason.by_protocol}


class Lengths(NamedTuple):
    """How long things are measured."""

    seconds: float  # of a stream, of a flood
    rounds: int  # round trips
    steady_seconds: float  # of the steady pace


class Row(NamedTuple):
    """A figure of a road, and what it must be on the wire."""

    name: str
    what: str
    unit: str
    at_least: float | None = None
    at_most: float | None = None
    added: bool = False  # what the wire has more than the veth is judged
    veth: bool = True  # a veth has it, too

    def verdict(self, figure: float) -> str:
        """pass, miss, or nothing where nothing is wanted."""
        if self.at_least is None and self.at_most is None:
            return ""
        least = self.at_least if self.at_least is not None else float("-inf")
        most = self.at_most if self.at_most is not None else float("inf")
        return "pass" if least <= figure <= most else "miss"


ROWS = (
    Row("tcp", "TCP to the host, one stream, MTU 1500", "Gbit/s", at_least=1.2),
    Row("udp", "60-byte frames to the host, sent as fast as they go", "frames/s", at_least=150_000),
    Row("both-ways", "60-byte frames both ways, as fast as they go: both together", "frames/s"),
    Row("round-trip", "ICMP round trip, median: the kernel answers", "us", at_most=30, added=True),
    Row("round-trip-p99", "ICMP round trip, 99 of 100", "us", added=True),
    Row("program-trip", "UDP round trip, median: a program answers", "us", added=True),
    Row("lost-outside", f"lost outside the model at {STEADY_PPS:,} frames/s", "frames", at_most=0, veth=False),
    Row("lost-by-model", "dropped by the model at that pace", "frames", veth=False),
    Row("lost-by-socket", "lost in the receiver's own socket", "frames"),
    Row("lost-elsewhere", "sent, and not accounted for by these", "frames", at_most=0),
    Row("steady", "frames/s that the receiver read at that pace", "frames/s"),
    Row("cpu", "CPU of emu live at that pace", "% of a core", veth=False),
    Row("cpu-idle", "CPU of emu live when nothing comes", "% of a core", veth=False),
)

Figures = dict[str, float]
BESIDE = "veth:"  # before the name of a row: what the veth had in turns with the wire


def tcp(ground: Ground, road: Road, _wire: Wire | None, lengths: Lengths) -> Figures:
    """One stream to the host."""
    port = ground.next_port()
    receiver = ground.start(True, "tcp-receive", "--port", port)
    sender = ground.start(False, "tcp-send", "--to", road.host, "--port", port, "--seconds", lengths.seconds)
    sender.result()
    got = receiver.result()
    return {"tcp": 8 * got["received"] / got["seconds"] / 1e9}


def udp(ground: Ground, road: Road, _wire: Wire | None, lengths: Lengths) -> Figures:
    """What arrives at the host's interface while more is sent than it takes."""
    port = ground.next_port()
    receiver = ground.start(True, "udp-receive", "--port", port)
    seconds = lengths.seconds + 2 * SETTLE_S
    sender = ground.start(False, "udp-send", "--to", road.host, "--port", port, "--seconds", seconds)
    rate = host_rate(ground, road, lengths.seconds)
    sender.result()
    receiver.result(stop=True)
    return {"udp": rate}


def host_rate(ground: Ground, road: Road, seconds: float) -> float:
    """Packets per second that the host's interface gets from now on, once it has settled."""
    time.sleep(SETTLE_S)
    before, began = ground.host_packets(road), time.monotonic()
    time.sleep(seconds)
    after, ended = ground.host_packets(road), time.monotonic()
    return (after - before) / (ended - began)


def both_ways(ground: Ground, road: Road, _wire: Wire | None, lengths: Lengths) -> Figures:
    """Both ends send as fast as they can; what both have read."""
    port = ground.next_port()
    seconds = lengths.seconds + 2 * SETTLE_S
    receivers = [ground.start(at_host, "udp-receive", "--port", port) for at_host in (True, False)]
    senders = [
        ground.start(at_host, "udp-send", "--to", to, "--port", port, "--seconds", seconds)
        for at_host, to in ((False, road.host), (True, road.peer))
    ]
    for sender in senders:
        sender.result()
    read = sum(receiver.result(stop=True)["received"] for receiver in receivers)
    return {"both-ways": read / seconds}


def round_trip(ground: Ground, road: Road, wire: Wire | None, lengths: Lengths) -> Figures:
    """From the peer to the host's kernel and back, by turns on the wire and on the veth."""
    if wire is None:
        return {}
    found: Figures = {}
    for prefix, times_ns in trips(ground, road, lengths, ground.next_port(), "--icmp"):
        found[f"{prefix}round-trip"] = statistics.median(times_ns) / 1000
        found[f"{prefix}round-trip-p99"] = statistics.quantiles(times_ns, n=100)[98] / 1000
    return found


def program_trip(ground: Ground, road: Road, wire: Wire | None, lengths: Lengths) -> Figures:
    """The same to a program of the host, which has to wake up: on an idle core that takes longer than all the rest."""
    if wire is None:
        return {}
    port = ground.next_port()
    answerer = ground.start(True, "echo", "--port", port)
    found = {
        f"{prefix}program-trip": statistics.median(times_ns) / 1000
        for prefix, times_ns in trips(ground, road, lengths, port)
    }
    answerer.result()
    return found


def trips(ground: Ground, road: Road, lengths: Lengths, port: int, *words: str) -> list[tuple[str, list[int]]]:
    """All times in ns, of the wire and beside it."""
    ends = ("--to", road.host, "--to", VETH.host, "--port", port, "--rounds", lengths.rounds)
    asked = ground.start(False, "ping", *ends, *words).result()
    if min(map(len, asked["times_ns"])) < 2:
        raise BenchError(f"{asked['lost']} round trips were lost, of {lengths.rounds} on each road")
    return list(zip(("", BESIDE), asked["times_ns"], strict=True))


def steady(ground: Ground, road: Road, wire: Wire | None, lengths: Lengths) -> Figures:
    """A steady pace: who has lost what, and what it costs."""
    port = ground.next_port()
    receiver = ground.start(True, "udp-receive", "--port", port)
    before = wire.state() if wire else None
    words = ("--to", road.host, "--port", port, "--seconds", lengths.steady_seconds, "--per-second", STEADY_PPS)
    sender = ground.start(False, "udp-send", *words)
    cpu_before, began = cpu_ns(wire.pid) if wire else 0, time.monotonic()
    time.sleep(max(0.1, lengths.steady_seconds - 0.2))
    cpu_s, seconds = ((cpu_ns(wire.pid) if wire else 0) - cpu_before) / 1e9, time.monotonic() - began
    sent = sender.result()
    after = wire.state() if wire else None
    got = receiver.result(stop=True)
    found = {"lost-by-socket": got["dropped"], "steady": got["received"] / sent["seconds"]}
    if before is not None and after is not None:
        found["lost-outside"] = lost(after.outside) - lost(before.outside)
        found["lost-by-model"] = dropped(after.emulated) - dropped(before.emulated)
        found["cpu"] = 100 * cpu_s / seconds
    missing = sent["sent"] - got["received"] - sum(found.get(name, 0) for name in LOST)
    return found | {"lost-elsewhere": max(0, missing)}


LOST = ("lost-by-socket", "lost-outside", "lost-by-model")


def lost(outside: Outside) -> int:
    """All kinds together; what is too long is played."""
    return outside.wire_queue + outside.host_queue + outside.sent_by_host


def dropped(emulated: Emulated) -> int:
    """By the model, without what it leaves to the real stack to refuse."""
    return sum(packets for reason, packets in emulated.drops_by_reason.items() if reason not in LEFT_TO_THE_STACK)


def idle(_ground: Ground, _road: Road, wire: Wire | None, lengths: Lengths) -> Figures:
    """What the wire costs when nothing comes."""
    if wire is None:
        return {}
    before, began = cpu_ns(wire.pid), time.monotonic()
    time.sleep(lengths.seconds / 2)
    return {"cpu-idle": (cpu_ns(wire.pid) - before) / 1e7 / (time.monotonic() - began)}


Measure = Callable[[Ground, Road, Wire | None, Lengths], Figures]
MEASURES: dict[Measure, tuple[str, ...]] = {
    idle: ("cpu-idle",),
    round_trip: ("round-trip", "round-trip-p99"),
    program_trip: ("program-trip",),
    tcp: ("tcp",),
    udp: ("udp",),
    both_ways: ("both-ways",),
    steady: ("lost-outside", "lost-by-model", "lost-by-socket", "lost-elsewhere", "steady", "cpu"),
}


class Outcome(NamedTuple):
    """A row, measured on the veth and on one kind of wire."""

    row: Row
    variant: str
    veth: Spread | None
    wire: Spread
    compared: Spread  # wire : veth within each round, or what the wire adds to it
    result: str


def outcome(row: Row, variant: str, veth: list[float], wire: list[float]) -> Outcome:
    """What the rounds come to."""
    pairs = list(zip(veth, wire, strict=True)) if row.veth else []
    compared = [w - v for v, w in pairs] if row.added else [w / v for v, w in pairs if v]
    judged = statistics.median(compared if row.added else wire)
    return Outcome(
        row,
        variant,
        Spread.of(veth) if row.veth else None,
        Spread.of(wire),
        Spread.of(compared) if compared else Spread(0, 0, 0),
        row.verdict(judged),
    )


def road_of(wire: Wire | None) -> Road:
    """Where a measurement goes."""
    return VETH if wire is None else WIRE

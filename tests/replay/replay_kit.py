"""What the tests of whole replays share: frames made by Scapy, captures of them, and a replay with its outputs."""

import csv
import io
import json
import random
import struct
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

# The judges of the capture tests are ours too; pytest puts only a test's own folder on the path.
from external_tools import run as run
from external_tools import tool as tool
from scapy.layers.inet import ICMP as ICMP
from scapy.layers.inet import IP as IP
from scapy.layers.inet import TCP as TCP
from scapy.layers.inet import UDP as UDP
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Raw as Raw

from emu.capture.compression import Source
from emu.capture.reader import CaptureReader
from emu.engine.plain import Engine, PlainEngine
from emu.kernel.machine import Packet as Packet
from emu.kernel.policy import POLICIES
from emu.play import replay
from emu.scenario_file import load_scenario
from emu.task import Outcome, Outputs, Task
from emu.verdicts.summary import summarise

ROOT = Path(__file__).parents[2]
PCAPS = ROOT / "pcaps"
POLICY_NAMES = tuple(POLICIES)
NS = 1_000_000_000

HOST_MAC, PEER_MAC, OTHER_MAC = "02:00:00:00:00:02", "02:00:00:00:00:01", "02:00:00:00:00:03"
BROADCAST = "ff:ff:ff:ff:ff:ff"
HOST, PEER, TARGET, OTHER = "10.0.0.2", "10.0.0.1", "10.0.0.9", "10.0.0.3"
ISCSI = 3260


class Frame(NamedTuple):
    """A frame on the wire; `length` None: nothing was cut off."""

    octets: bytes
    time_ns: int = 0
    length: int | None = None


def third_of_pairs(first: Iterable[str], second: Iterable[str]) -> list[tuple[str, str]]:
    """Every third pair of a square: each of `first` meets some of `second`, and the other way round."""
    return [(one, other) for i, one in enumerate(first) for j, other in enumerate(second) if (i + j) % 3 == 0]


def ether(source: str, destination: str, packet: Any, **fields: Any) -> bytes:
    """The bytes of a frame."""
    return bytes(Ether(src=source, dst=destination, **fields) / packet)


def tcp(
    sport: int = 40_000,
    dport: int = 80,
    payload: int = 100,
    flags: str = "PA",
    source: str = PEER,
    broken: bool = False,
) -> bytes:
    """A TCP segment to the host."""
    segment = TCP(sport=sport, dport=dport, flags=flags, seq=1) / Raw(bytes(payload))
    if broken:
        segment.chksum = 0x1234
    return ether(PEER_MAC, HOST_MAC, IP(src=source, dst=HOST) / segment)


def iscsi(payload: int = 48) -> bytes:
    """A TCP segment from an iSCSI target to the host."""
    return tcp(ISCSI, 50_000, payload, source=TARGET)


def udp(dport: int = 5000, payload: int = 100, sport: int = 40_000, source: str = PEER) -> bytes:
    """A UDP datagram to the host."""
    return ether(PEER_MAC, HOST_MAC, IP(src=source, dst=HOST) / UDP(sport=sport, dport=dport) / Raw(bytes(payload)))


def icmp(payload: int = 56) -> bytes:
    """An echo request to the host."""
    return ether(PEER_MAC, HOST_MAC, IP(src=PEER, dst=HOST) / ICMP() / Raw(bytes(payload)))


def arp() -> bytes:
    """An ARP request to all."""
    return ether(PEER_MAC, BROADCAST, ARP(hwsrc=PEER_MAC, psrc=PEER, pdst=HOST))


def sent(
    sport: int = 80,
    dport: int = 40_000,
    payload: int = 0,
    flags: str = "A",
    destination: str = PEER,
) -> bytes:
    """A TCP segment that the host sends."""
    segment = TCP(sport=sport, dport=dport, flags=flags) / Raw(bytes(payload))
    return ether(HOST_MAC, PEER_MAC, IP(src=HOST, dst=destination) / segment)


def elsewhere() -> bytes:
    """A frame between others that the host only overhears."""
    return ether(PEER_MAC, OTHER_MAC, IP(src=PEER, dst=OTHER) / UDP(sport=1, dport=2) / Raw(bytes(50)))


def in_sequence(octets: bytes, following: dict[bytes, int]) -> bytes:
    """A frame of this kit's TCP (its sequence number is 1) as the next one of its flow."""
    if len(octets) < 54 or octets[12:15] != b"\x08\x00\x45" or octets[23] != 6 or octets[38:42] != bytes((0, 0, 0, 1)):
        return octets
    flow = octets[26:38]
    seq = following.get(flow, 1)
    following[flow] = seq + int.from_bytes(octets[16:18], "big") - 40 + (octets[47] & 1) + (octets[47] >> 1 & 1)
    number = seq.to_bytes(4, "big")
    total = (~int.from_bytes(octets[50:52], "big") & 0xFFFF) + (~1 & 0xFFFF) + 0xFFFF  # RFC 1624
    total += int.from_bytes(number[:2], "big") + int.from_bytes(number[2:], "big")
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return octets[:38] + number + octets[42:50] + (~total & 0xFFFF).to_bytes(2, "big") + octets[52:]


def pcap(frames: Iterable[Frame]) -> bytes:
    """A capture file with times in nanoseconds; the segments of this kit follow one another."""
    following: dict[bytes, int] = {}
    parts = [struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262_144, 1)]
    for frame in frames:
        length = len(frame.octets) if frame.length is None else frame.length
        seconds, ticks = divmod(frame.time_ns, NS)
        octets = in_sequence(frame.octets, following)
        parts.append(struct.pack("<IIII", seconds, ticks, len(octets), length) + octets)
    return b"".join(parts)


def paced(octets: Iterable[bytes], gap_ns: int = 100_000, start_ns: int = NS) -> list[Frame]:
    """Frames at a constant distance."""
    return [Frame(frame, start_ns + at * gap_ns) for at, frame in enumerate(octets)]


def wild_frames(seed: int, count: int) -> list[Frame]:
    """A seeded capture of everything that may come: all protocols, all damages, strange times."""
    dice = random.Random(seed)
    time_ns = dice.choice((0, NS, 1_700_000_000 * NS))
    frames = []
    for _ in range(count):
        octets = wild_octets(dice)
        length = None
        if dice.random() < 0.1:  # cut off by a snap length
            length = len(octets) + dice.choice((0, 1, 100, 3000))
            octets = octets[: dice.randrange(len(octets) + 1)]
        time_ns += dice.choice(
            (0, 0, 1, 500, 2_000, 3_000, 40_000, 1_000_000, 700_000_000 if dice.random() < 0.1 else 7)
        )
        if dice.random() < 0.01:
            time_ns += 3_600 * NS
        shown = max(0, time_ns - dice.choice((1, 5_000, 9 * NS))) if dice.random() < 0.05 else time_ns
        frames.append(Frame(octets, shown, length))
    return frames


def wild_octets(dice: random.Random) -> bytes:
    """One frame of whatever kind."""
    size = dice.choice((0, 1, 48, 500, 1400, 1460))
    kind = dice.randrange(20)
    if kind < 3:
        octets = iscsi(size)
    elif kind < 6:
        octets = udp(dice.choice((53, 5000, 9)), dice.choice((0, 10, 1000, 1472)), source=dice.choice((PEER, OTHER)))
    elif kind < 9:
        flags = dice.choice(("PA", "PA", "PA", "A", "S", "R", "FA"))
        octets = tcp(dice.choice((40_000, 40_001)), dice.choice((80, 22)), size, flags, broken=dice.random() < 0.1)
    elif kind < 12:
        octets = sent(payload=dice.choice((0, 500)), flags=dice.choice(("A", "PA", "R")))
    elif kind < 14:
        octets = dice.choice((icmp, arp, elsewhere))()
    elif kind == 14:
        port = dice.choice((53, 5000))
        quoted = IP(src=PEER, dst=HOST) / UDP(sport=40_000, dport=port)
        octets = ether(HOST_MAC, PEER_MAC, IP(src=HOST, dst=PEER) / ICMP(type=3, code=3) / Raw(bytes(quoted)))
    elif kind == 15:
        body = dice.choice(
            (
                IP(src=PEER, dst=HOST, proto=dice.choice((2, 132, 47))) / Raw(bytes(30)),
                IP(src=PEER, dst=HOST, flags="MF", proto=17) / Raw(bytes(200)),
                IP(src=PEER, dst=HOST, chksum=1) / UDP(dport=53) / Raw(bytes(20)),
                IP(src=PEER, dst=HOST, len=3000) / TCP() / Raw(bytes(20)),
                IP(src=PEER, dst=HOST, ihl=4) / TCP() / Raw(bytes(20)),
            )
        )
        octets = ether(PEER_MAC, HOST_MAC, body)
    elif kind == 16:
        ethertype = dice.choice((0x86DD, 0x8100, 0x88CC, 0x0806, 0x0800))
        octets = ether(
            PEER_MAC, dice.choice((HOST_MAC, BROADCAST, "01:00:5e:00:00:01")), Raw(bytes(46)), type=ethertype
        )
    elif kind == 17:
        octets = dice.randbytes(dice.choice((0, 1, 13, 14, 15, 33, 34, 60)))
    elif kind == 18:  # aggregated
        octets = tcp(40_000, 80, dice.choice((1461, 4000, 20_000, 60_000)))
    else:
        destination = dice.choice((BROADCAST, "01:00:5e:00:00:fb"))
        packet = IP(src=PEER, dst="224.0.0.251") / UDP(sport=5353, dport=5353) / Raw(bytes(60))
        octets = ether(PEER_MAC, destination, packet)
    return octets


class Played(NamedTuple):
    """What a replay left behind."""

    outcome: Outcome
    summary: dict[str, Any]

    @property
    def result(self) -> dict[str, Any]:
        """The summary without what it costs to make it, and without the capture's name."""
        return {key: value for key, value in self.summary.items() if key not in ("run", "capture")}


PLAIN = PlainEngine()
NOWHERE = Outputs()


def played(
    capture: bytes | Path,
    *,
    policy: str = "phillips-v5",
    settings: Mapping[str, Any] | None = None,
    outputs: Outputs = NOWHERE,
    engine: Engine = PLAIN,
    window: int = 1 << 20,
    **task: Any,
) -> Played:
    """Replay a capture; `task` goes to Task (batch, pace, host, limit, filter, events)."""
    octets = capture.read_bytes() if isinstance(capture, Path) else capture
    scenario = load_scenario(None, {"policy.name": policy} | dict(settings or {}))
    with CaptureReader(Source(io.BytesIO(octets), "test", len(octets)), "test", engine, window) as reader:
        outcome = replay(Task(scenario, "test", outputs=outputs, **task), engine, reader)
    return Played(outcome, summarise(outcome))


def outputs_in(folder: Path, *suffixes: str, annotate: str = "all", record: bool = False) -> Outputs:
    """An annotated capture and a log in a folder."""
    suffix = suffixes[0] if suffixes else ".csv"
    return Outputs(
        str(folder / "out.pcapng"),
        annotate,
        str(folder / f"log{suffix}"),
        record_events=str(folder / "events.jsonl") if record else None,
    )


def rows_of(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV log."""
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def json_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSONL log."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def log_of(capture: bytes | Path, folder: Path, **how: Any) -> list[dict[str, str]]:
    """Replay and read the CSV log."""
    log = folder / "rows.csv"
    played(capture, outputs=Outputs(log=str(log)), **how)
    return rows_of(log)


def column(rows: Sequence[Mapping[str, str]], name: str) -> list[str]:
    """One column of a log."""
    return [row[name] for row in rows]


def files_of(folder: Path) -> dict[str, bytes]:
    """Every file of a folder by name."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}

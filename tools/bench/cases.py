"""What `line_rate.py` runs in turn: emu in several ways, and peers, each on a short and a long input of a kind."""

import json
import subprocess
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from measure import BenchError, Cores, Run, Timed, run

EMU = (sys.executable, "-m", "emu")
CAPTURES = Path(__file__).parent / "captures.py"
SCENARIO = Path(__file__).parent / "bench.toml"
SHORT = Path(__file__).parent / "short.toml"
SCAPY = """
import sys
from scapy.utils import PcapReader
for _, packet in zip(range(int(sys.argv[2])), PcapReader(sys.argv[1])):
    pass
"""
QUIET, FAST = ("--json", "--no-progress"), ("--engine", "compiled")
REPLAY = (*QUIET, "--scenario", str(SCENARIO))
COMPILED = (*REPLAY, *FAST)


class Case(NamedTuple):
    """One way to run, on one kind of capture."""

    kind: str  # small or mix
    mode: str  # a key of MODES

    def __str__(self) -> str:
        return f"{MODES[self.mode][0]}, {self.kind}"


# What each mode is called, and the arguments of those that are emu's.
MODES: dict[str, tuple[str, tuple[str, ...]]] = {
    "tcpdump": ("tcpdump -r X -w /dev/null", ()),
    "scapy": ("Scapy's PcapReader, reading alone", ()),
    "verdicts": ("emu, verdicts only", COMPILED),
    "short": ("emu, verdicts only, memory short (short.toml)", (*QUIET, "--scenario", str(SHORT), *FAST)),
    "drops": ("emu -w /dev/null, drops annotated", (*COMPILED, "-w", "/dev/null")),
    "all": ("emu -w /dev/null --annotate all", (*COMPILED, "-w", "/dev/null", "--annotate", "all")),
    "log": ("emu --log X.arrow --log-rows drops", COMPILED),
    "two-cores": ("emu -w /dev/null --annotate all, two cores", (*COMPILED, "-w", "/dev/null", "--annotate", "all")),
    "plain": ("emu, verdicts only, plain engine", (*REPLAY, "--engine", "plain")),
}
SLOW = {"scapy": (10_000, 50_000), "plain": (5_000, 25_000)}  # the most that these play


class Bench:
    """The inputs, and what ran on them."""

    def __init__(self, folder: Path, short: int, long: int) -> None:
        """`short` and `long`: packets of the two inputs of each kind."""
        self.folder = folder
        self.packets = (short, long)
        self.version = zlib.crc32(CAPTURES.read_bytes())
        self.cores = Cores()
        self.timed: dict[Case, list[Timed]] = {}
        self.failed: dict[Case, str] = {}
        self.lost: dict[Case, float] = {}  # share of the frames that emu dropped

    def capture(self, kind: str, packets: int) -> Path:
        """A capture, made when it is first asked for; its name says by which version of captures.py."""
        path = self.folder / f"{kind}-{packets}-{self.version:08x}.pcap"
        if not path.exists():
            tell(f"making {path.name}")
            subprocess.run(generator(kind, packets, str(path)), check=True)
        return path

    def limits(self, case: Case) -> tuple[int, int]:
        """Packets of the short and the long run of a case."""
        short, long = (min(pair) for pair in zip(self.packets, SLOW.get(case.mode, self.packets), strict=True))
        return short, long

    def command(self, case: Case, packets: int) -> Sequence[str]:
        """The command of a case for an input of so many packets."""
        path = str(self.capture(case.kind, self.packets[self.packets[0] < packets]))
        if case.mode == "tcpdump":
            return ("tcpdump", "-r", path, "-w", "/dev/null")
        if case.mode == "scapy":
            return (sys.executable, "-c", SCAPY, path, str(packets))
        command = (*EMU, "replay", path, *MODES[case.mode][1])
        if case.mode == "plain":
            return (*command, "--limit", str(packets))
        if case.mode == "log":
            return (*command, "--log", str(self.folder / "log.arrow"), "--log-rows", "drops")
        return command

    def play(self, case: Case, packets: int) -> Run:
        """One run; a BenchError too where emu did not play all packets."""
        done = run(self.command(case, packets), self.cores.first(2 if case.mode == "two-cores" else 1))
        if MODES[case.mode][1]:
            self.lost[case] = checked(done, packets)["dropped"] / packets
        return done

    def measure(self, cases: Sequence[Case], rounds: int) -> None:
        """Run all cases in turn, round by round, after one short run of each that is not counted."""
        for kind in sorted({case.kind for case in cases}):
            for packets in self.packets:
                self.capture(kind, packets)
        for round_ in range(rounds + 1):
            for case in cases:
                if case in self.failed:
                    continue
                tell(f"round {round_} of {rounds}: {case}" if round_ else f"warming up: {case}")
                short, long = self.limits(case)
                try:
                    first = self.play(case, short)
                    if round_:
                        measured = Timed(first, self.play(case, long), short, long)
                        measured.check()
                        self.timed.setdefault(case, []).append(measured)
                except BenchError as error:
                    self.failed[case] = str(error)
                    self.timed.pop(case, None)


def generator(kind: str, packets: int, file: str, *options: str) -> tuple[str, ...]:
    """The command that makes a capture, in a process of its own: this one stays small."""
    return (sys.executable, str(CAPTURES), kind, str(packets), file, *options)


def checked(done: Run, packets: int) -> dict[str, int]:
    """The summary of a run of emu, which must have played all packets."""
    summary: dict[str, int] = json.loads(done.out)
    if summary["frames"] != packets:
        raise BenchError(f"emu played {summary['frames']} frames of {packets}")
    return summary


def tell(what: str) -> None:
    """What is done now, on stderr."""
    print(f"bench: {what}", file=sys.stderr, flush=True)

"""Crafted packets per second beside peers, alternately in one run: `emu flood` compiled and plain, Scapy, copiers.

Every command makes UDP frames of one size to 16 ports, or copies a file of them that emu wrote (tcpdump, and tcprewrite
of the tcpreplay suite).  Times are of whole processes; a first run of each command is not counted.  Ratios are to Scapy
building each packet in the same round.
"""

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parent.parent.parent
EMU = (sys.executable, "-m", "emu", "flood", "udp")
SCAPY = """
import sys
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.utils import PcapWriter
count, size, written = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "written"
writer = PcapWriter("/dev/null", sync=False) if written else None
for at in range(count):
    packet = (
        Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
        / IP(src="10.0.0.1", dst="10.0.0.2", id=at & 0xFFFF)
        / UDP(sport=4000, dport=9000 + at % 16)
        / (b"x" * (size - 42))
    )
    if writer:
        writer.write(packet)
    else:
        bytes(packet)
"""
BASE = "Scapy, each packet built"


def seconds_of(command: tuple[str, ...]) -> float:
    """Wall seconds of one run of a command."""
    started = time.perf_counter()
    done = subprocess.run(command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=ROOT)
    seconds = time.perf_counter() - started
    if done.returncode:
        raise SystemExit(f"bench: {' '.join(command[:8])} ...: {done.stderr.decode(errors='replace').strip()[-400:]}")
    return seconds


def flood(size: int, frames: int, engine: str, output: str) -> tuple[str, ...]:
    """The command that crafts so many frames of this size."""
    asked = ("--size", str(size), "--ports", "9000-9015", "--pps", "1M", "--count", str(frames), "--seed", "7")
    return (*EMU, *asked, "--engine", engine, "-w", output)


def commands(size: int, frames: int, slow_frames: int, file: Path) -> dict[str, tuple[tuple[str, ...], int]]:
    """What is measured: name -> (command, frames that it makes or copies)."""
    scapy = (sys.executable, "-c", SCAPY, str(slow_frames), str(size))
    found: dict[str, tuple[tuple[str, ...], int]] = {
        BASE: ((*scapy, "built"), slow_frames),
        "Scapy, built and written": ((*scapy, "written"), slow_frames),
        "emu flood -w /dev/null": (flood(size, frames, "compiled", "/dev/null"), frames),
        "emu flood, plain engine": (flood(size, 10 * slow_frames, "plain", "/dev/null"), 10 * slow_frames),
        "tcpdump, copying the file": (("tcpdump", "-r", str(file), "-w", "/dev/null"), frames),
        "tcprewrite, copying the file": (("tcprewrite", "-i", str(file), "-o", "/dev/null"), frames),
    }
    for name in list(found):
        if shutil.which(found[name][0][0]) is None:
            print(f"bench: {found[name][0][0]} is missing; left out", file=sys.stderr)
            del found[name]
    return found


def measure(console: Console, size: int, frames: int, slow_frames: int, rounds: int) -> None:
    """Run all commands alternately and print their median rates and ratios."""
    with tempfile.TemporaryDirectory(prefix="emu-bench-") as folder:
        file = Path(folder) / "flood.pcap"
        seconds_of(flood(size, frames, "compiled", str(file)))
        measured = commands(size, frames, slow_frames, file)
        rates: dict[str, list[float]] = {name: [] for name in measured}
        for round_ in range(rounds + 1):
            for name, (command, made) in measured.items():
                rate = made / seconds_of(command)
                if round_:
                    rates[name].append(rate)
    table = Table(title=f"{size}-byte frames, {frames} of them ({slow_frames} where slow), {rounds} rounds")
    for column in ("command", "packets/s, median", "min", "max", "ratio to Scapy, median", "min", "max"):
        table.add_column(column, justify="left" if column == "command" else "right")
    for name, values in rates.items():
        ratios = [value / other for value, other in zip(values, rates[BASE], strict=True)]
        rated = [f"{figure(values):,.0f}" for figure in (statistics.median, min, max)]
        table.add_row(name, *rated, *(f"{figure(ratios):,.1f}" for figure in (statistics.median, min, max)))
    console.print(table)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--frames", type=int, default=10_000_000)
    parser.add_argument(
        "--slow-frames", type=int, default=5_000, help="for Scapy; the plain engine makes ten times so many"
    )
    parser.add_argument("--size", type=int, action="append", help="bytes without FCS; may be repeated [64 and 1500]")
    options = parser.parse_args()
    console = Console(width=130)
    for size in options.size or (64, 1500):
        measure(console, size, options.frames // max(size // 128, 1), options.slow_frames, options.rounds)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Packets per second beside peers, alternately in one run: `emu replay` compiled and plain, tcpdump, Scapy.

Inputs are generated: `mix` repeats pcaps/mixed.pcap, `small` holds 60-byte UDP frames.  Times are of whole processes,
warm page cache; a first run of each command is not counted.  Ratios are to tcpdump in the same round.
"""

import argparse
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parent.parent.parent
EMU = (sys.executable, "-m", "emu")
SCAPY = """
import sys
from scapy.utils import PcapReader
for _, packet in zip(range(int(sys.argv[2])), PcapReader(sys.argv[1])):
    pass
"""


def records(capture: bytes) -> list[bytes]:
    """The records of a little-endian pcap, headers included."""
    found = []
    at = 24
    while at < len(capture):
        (length,) = struct.unpack_from("<I", capture, at + 8)
        found.append(capture[at : at + 16 + length])
        at += 16 + length
    return found


def write_mix(path: Path, times: int) -> int:
    """Repeat the real capture, each copy 4 s later than the one before."""
    source = (ROOT / "pcaps/mixed.pcap").read_bytes()
    frames = records(source)
    with path.open("wb") as out:
        out.write(source[:24])
        for copy in range(times):
            for frame in frames:
                (seconds,) = struct.unpack_from("<I", frame)
                out.write(struct.pack("<I", seconds + 5 * copy) + frame[4:])
    return times * len(frames)


def write_small(path: Path, count: int) -> int:
    """60-byte UDP frames to 16 ports of the host, 10 us apart."""
    from scapy.layers.inet import IP, UDP
    from scapy.layers.l2 import Ether

    templates = [
        bytes(
            Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
            / IP(src="10.0.0.1", dst="10.0.0.2")
            / UDP(sport=4000, dport=9000 + port)
            / (b"x" * 18)
        )
        for port in range(16)
    ]
    with path.open("wb") as out:
        out.write(struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262144, 1))
        for i in range(count):
            frame = templates[i % 16]
            seconds, nanoseconds = divmod(i * 10_000, 1_000_000_000)
            out.write(struct.pack("<IIII", seconds, nanoseconds, len(frame), len(frame)) + frame)
    return count


def seconds_of(command: tuple[str, ...]) -> float:
    """Wall seconds of one run of a command."""
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT)
    return time.perf_counter() - started


def commands(path: str, frames: int, plain_frames: int, scapy_frames: int) -> dict[str, tuple[tuple[str, ...], int]]:
    """What is measured: name -> (command, frames that it plays)."""
    replay = (*EMU, "replay", path, "--json", "--no-progress")
    return {
        "tcpdump -r X -w /dev/null": (("tcpdump", "-r", path, "-w", "/dev/null"), frames),
        "emu, verdicts only": ((*replay, "--engine", "compiled"), frames),
        "emu, annotated pcapng": ((*replay, "--engine", "compiled", "-w", "/dev/null"), frames),
        "emu, plain engine": ((*replay, "--engine", "plain", "--limit", str(plain_frames)), plain_frames),
        "Scapy PcapReader": ((sys.executable, "-c", SCAPY, path, str(scapy_frames)), scapy_frames),
    }


def measure(console: Console, name: str, path: Path, frames: int, rounds: int, plain: int, scapy: int) -> None:
    """Run all commands alternately and print their median rates and ratios."""
    measured = commands(str(path), frames, min(plain, frames), min(scapy, frames))
    rates: dict[str, list[float]] = {key: [] for key in measured}
    for round_ in range(rounds + 1):
        for key, (command, played) in measured.items():
            rate = played / seconds_of(command)
            if round_:
                rates[key].append(rate)
    table = Table(title=f"{name}: {frames} frames, {path.stat().st_size >> 20} MiB, {rounds} rounds")
    for column in ("command", "packets/s, median", "min", "max", "ratio to tcpdump, median", "min", "max"):
        table.add_column(column, justify="left" if column == "command" else "right")
    base = rates["tcpdump -r X -w /dev/null"]
    for key, values in rates.items():
        ratios = [value / other for value, other in zip(values, base, strict=True)]
        rated = [f"{figure(values):,.0f}" for figure in (statistics.median, min, max)]
        table.add_row(key, *rated, *(f"{figure(ratios):.4f}" for figure in (statistics.median, min, max)))
    console.print(table)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--mix", type=int, default=60, help="copies of pcaps/mixed.pcap")
    parser.add_argument("--small", type=int, default=1_000_000, help="small frames")
    options = parser.parse_args()
    if shutil.which("tcpdump") is None:
        print("bench: tcpdump is missing (Debian: apt install tcpdump)", file=sys.stderr)
        return 2
    console = Console(width=130)
    with tempfile.TemporaryDirectory(prefix="emu-bench-") as folder:
        mix, small = Path(folder) / "mix.pcap", Path(folder) / "small.pcap"
        measure(console, "mix", mix, write_mix(mix, options.mix), options.rounds, 20_000, 5_000)
        measure(console, "small", small, write_small(small, options.small), options.rounds, 20_000, 5_000)
    return 0


if __name__ == "__main__":
    sys.exit(main())

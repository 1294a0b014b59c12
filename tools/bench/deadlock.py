"""Virtual seconds and packets per wall second of the shipped deadlock, beside a bare event loop, in alternation.

What is measured: `emu run` of a shipped scenario under mainline, which gets through it, compiled and plain, each a
whole process, without the run that it is compared with (--no-baseline); a lockup would not end it.  The compiled one
also as the second run of one process, which has nothing left to load.  The peer is what a general
simulator cannot do without: a heap of timed events and generators that are resumed (as SimPy has them), as many packets
as the compiled run has, with three events each: on the wire, in the ring, on the CPU; none of them does any work.  A
first round is not counted.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parent.parent.parent
EMU = (sys.executable, "-m", "emu")
EVENTS_PER_PACKET = 3
PEER = """
import heapq, sys

def packet(now):
    yield now + 12_112
    yield now + 12_112 + 50_000
    yield now + 12_112 + 50_000 + 3_500

packets = int(sys.argv[1])
heap = []
for number in range(packets):
    process = packet(number * 1_000)
    heapq.heappush(heap, (next(process), number, process))
    while len(heap) > 1_000 or (number == packets - 1 and heap):
        _, order, process = heapq.heappop(heap)
        due = next(process, None)
        if due is not None:
            heapq.heappush(heap, (due, order, process))
"""


AGAIN = """
import json, sys, time
import emu

scenario, policy, virtual = sys.argv[1:]
for _ in range(2):
    started = time.perf_counter()
    settings = {"run.stop_at_lockup": False}
    result = emu.run(scenario, policy=policy, duration=virtual, engine="compiled", baseline=False, settings=settings)
    wall_s = time.perf_counter() - started
print(json.dumps([wall_s, result.summary["frames"], result.summary["duration_ns"] / 1e9]))
"""


class Measured(NamedTuple):
    """One run: what it took, and what it got done."""

    wall_s: float
    packets: int
    virtual_s: float

    @property
    def packets_per_s(self) -> float:
        """Packets per wall second."""
        return self.packets / self.wall_s


def run_emu(scenario: str, policy: str, engine: str, virtual: str) -> Measured:
    """Run the scenario in a process of its own.  Errors: CalledProcessError when it fails for another reason than
    an expectation."""
    command = [*EMU, "run", scenario, "--policy", policy, "--engine", engine, "--for", virtual, "--json"]
    started = time.perf_counter()
    command += ["--set", "run.stop_at_lockup=false", "--no-baseline", "--no-progress"]
    done = subprocess.run(command, capture_output=True, cwd=ROOT)
    wall_s = time.perf_counter() - started
    if done.returncode not in (0, 1):
        sys.stderr.write(done.stderr.decode())
        done.check_returncode()
    summary = json.loads(done.stdout)
    return Measured(wall_s, summary["frames"], summary["duration_ns"] / 1e9)


def run_again(scenario: str, policy: str, virtual: str) -> Measured:
    """The second of two compiled runs in one process."""
    command = (sys.executable, "-c", AGAIN, scenario, policy, virtual)
    done = subprocess.run(command, capture_output=True, cwd=ROOT, check=True)
    wall_s, packets, virtual_s = json.loads(done.stdout)
    return Measured(wall_s, packets, virtual_s)


def run_peer(packets: int) -> Measured:
    """Let as many packets pass through an event loop that does nothing with them."""
    with tempfile.TemporaryDirectory(prefix="emu-bench-") as folder:
        script = Path(folder) / "peer.py"
        script.write_text(PEER, encoding="utf-8")
        started = time.perf_counter()
        subprocess.run([sys.executable, str(script), str(packets)], check=True)
        return Measured(time.perf_counter() - started, packets, 0.0)


def show(console: Console, title: str, runs: dict[str, list[Measured]]) -> None:
    """Print medians and spread, and ratios to the peer of the same round."""
    table = Table(title=title)
    for column in (
        "run",
        "packets",
        "virtual s per wall s, median",
        "packets/s, median",
        "min",
        "max",
        "ratio to peer",
    ):
        table.add_column(column, justify="left" if column == "run" else "right")
    for name, measured in runs.items():
        rates = [run.packets_per_s for run in measured]
        ratios = [
            run.packets_per_s / peer.packets_per_s for run, peer in zip(measured, runs["event loop"], strict=True)
        ]
        virtual = statistics.median(run.virtual_s / run.wall_s for run in measured)
        table.add_row(
            name,
            f"{measured[0].packets:,}",
            f"{virtual:.3f}" if virtual else "-",
            *(f"{figure(rates):,.0f}" for figure in (statistics.median, min, max)),
            f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})",
        )
    console.print(table)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scenario", default="deadlock")
    parser.add_argument("--policy", default="mainline")
    parser.add_argument("--for", dest="virtual", default="10s", help="virtual time of the compiled run")
    parser.add_argument("--plain-for", default="1500ms", help="of the plain one")
    options = parser.parse_args()
    names = ("emu, compiled", "emu, compiled, second run of a process", "emu, plain", "event loop")
    runs: dict[str, list[Measured]] = {name: [] for name in names}
    for round_ in range(options.rounds + 1):
        compiled = run_emu(options.scenario, options.policy, "compiled", options.virtual)
        plain = run_emu(options.scenario, options.policy, "plain", options.plain_for)
        again = run_again(options.scenario, options.policy, options.virtual)
        for name, measured in zip(runs, (compiled, again, plain, run_peer(compiled.packets)), strict=True):
            if round_:
                runs[name].append(measured)
    title = (
        f"{options.scenario} under {options.policy}, {options.rounds} rounds; the plain engine for {options.plain_for}"
    )
    show(Console(width=140), title, runs)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""A billion packets through `emu replay`, by playing a capture over and over: memory stays flat, no packet is lost.

python tools/bench/billion.py [--packets 1e9] [--kind small|mix] [--every 5e6]

A capture of captures.py is played under bench.toml in one process, as `emu replay --loop N --loop-distinct seq` does:
frames are numbered on, times go on, TCP's sequence numbers differ from round to round.  Every so often a line says how
far it is: rate since the last line, resident memory, what became of the packets.

The exit code is 1 where the packets of any line do not add up, where resident memory is ever more than --flat MiB above
the most that it was in the first tenth (100 000 packets at the least), or where an invariant of the machine breaks
(which is checked after every batch); 130 when it was interrupted.  It is not part of `make bench`: a billion take some
ten minutes.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from emu.capture.frames import FrameSource
from emu.cli.options import ReplayCommand
from emu.errors import EmuError
from emu.request import inputs_of, play, task_of
from emu.task import Outcome
from emu.verdicts.summary import summarise

HERE = Path(__file__).parent
MIB = 1 << 20
WARM_SHARE = 10  # of the packets, one in so many: until then memory may grow
WARM_PACKETS = 100_000  # at the least: until then rows and windows are touched for the first time


class SoakError(Exception):
    """What must not happen: one line."""


def resident_bytes() -> int:
    """What this process holds in memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def conserve(total: Any) -> None:
    """A SoakError unless every frame has one fate, but for those that still wait."""
    frames, received = int(total.frames), int(total.received)
    elsewhere = int(total.filtered) + int(total.not_received) + int(total.not_played)
    decided = int(total.delivered) + int(total.dropped) + int(total.in_flight) + int(total.oops)
    if frames != received + elsewhere or decided > received:
        raise SoakError(f"after {frames} frames: {received} received, {elsewhere} not, {decided} decided")


class Watch:
    """Looks on: prints a line every so often, and keeps what memory there was."""

    def __init__(self, packets: int, every: int, flat_bytes: int, warm_packets: int) -> None:
        """Of `packets` the first ones warm up; from then on memory may vary by `flat_bytes`."""
        self.packets, self.every, self.flat_bytes = packets, every, flat_bytes
        self.warm_packets = warm_packets
        self.next = every
        self.warm_bytes = 0
        self.most_bytes = 0
        self.last = (0, time.perf_counter())

    def look(self, _reader: FrameSource, m: Any) -> None:
        """Once per batch."""
        frames = int(m.total.frames)
        if frames < self.next:
            return
        self.next = frames - frames % self.every + self.every
        conserve(m.total)
        self.print_line(frames, m.total)
        held = resident_bytes()
        if frames <= self.warm_packets or not self.warm_bytes:
            self.warm_bytes = max(self.warm_bytes, held)
        self.most_bytes = max(self.most_bytes, held)
        if self.most_bytes > self.warm_bytes + self.flat_bytes:
            grown = f"{self.warm_bytes / MIB:.1f} to {held / MIB:.1f} MiB"
            raise SoakError(f"after {frames} frames: resident memory has grown from {grown}")

    def print_line(self, frames: int, total: Any) -> None:
        """How far it is."""
        now = time.perf_counter()
        before, then = self.last
        self.last = (frames, now)
        counts = f"{int(total.delivered)} delivered, {int(total.dropped)} dropped"
        rate = f"{(frames - before) / (now - then) / 1e6:.2f} M/s"
        print(f"{frames:>13} packets  {rate}  {resident_bytes() / MIB:.1f} MiB  {counts}", flush=True)


def soak(capture: Path, frames: int, watch: Watch) -> Outcome:
    """Play the capture of so many frames until as many packets as asked for have come."""
    command = ReplayCommand(
        capture=[str(capture)],
        scenario=HERE / "bench.toml",
        engine="compiled",
        limit=watch.packets,
        loop=-(-watch.packets // frames),
        loop_distinct="seq",
    )
    inputs = inputs_of(command)
    return play(command, task_of(command, inputs, policy=command.policy), inputs, nullcontext(watch.look))


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packets", type=float, default=1e9)
    parser.add_argument("--kind", choices=("small", "mix"), default="small")
    parser.add_argument("--every", type=float, default=5e6, help="a line after so many packets [5e6]")
    parser.add_argument("--capture-packets", type=float, default=1e6, help="of the capture that is played over [1e6]")
    parser.add_argument("--flat", type=float, default=4, help="MiB by which memory may vary [4]")
    options = parser.parse_args()
    if min(options.packets, options.every, options.capture_packets) < 1 or options.flat < 0:
        parser.error("--packets, --every and --capture-packets of at least 1, --flat not below 0")
    return options


def main() -> int:
    options = parsed()
    packets, frames = int(options.packets), int(options.capture_packets)
    warm_packets = max(packets // WARM_SHARE, WARM_PACKETS)
    watch = Watch(packets, int(options.every), int(options.flat * MIB), warm_packets)
    started = time.perf_counter()
    try:
        with tempfile.TemporaryDirectory(prefix="emu-billion-") as folder:
            capture = Path(folder, f"{options.kind}.pcap")
            subprocess.run((sys.executable, HERE / "captures.py", options.kind, str(frames), capture), check=True)
            outcome = soak(capture, frames, watch)
    except (SoakError, EmuError, AssertionError, OSError, subprocess.CalledProcessError) as error:
        print(f"billion: {error}", file=sys.stderr)
        return 1
    if outcome.interrupted:
        print("billion: interrupted", file=sys.stderr)
        return 130
    seconds = time.perf_counter() - started
    played = summarise(outcome)["frames"]
    if played != packets:
        print(f"billion: {played} frames were played, not {packets}", file=sys.stderr)
        return 1
    memory = (
        f"resident {watch.warm_bytes / MIB:.1f} MiB when it was warm, at most {watch.most_bytes / MIB:.1f} MiB after"
    )
    print(f"{packets} packets in {seconds:.0f} s, {packets / seconds / 1e6:.2f} M/s; {memory}; all accounted for")
    return 0


if __name__ == "__main__":
    sys.exit(main())

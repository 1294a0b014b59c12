"""How many instructions a packet takes in the steady state, counted by callgrind, beside the committed figures.

python tools/bench/instructions.py             compare with instructions.toml; 1 if a figure is too far off
python tools/bench/instructions.py --update    write it anew: after a change that is meant, or with other versions

Times vary from machine to machine and from run to run, counts do not: so CI can hold on to them.  `emu`'s own replay
plays the small and the mixed capture of captures.py under bench.toml: verdicts only, drops annotated, all annotated.
Counted are whole batches, Python's part of them included, once the machine is warm; start and end are not.

valgrind knows no AVX-512, and the figures must not depend on the machine: the engine is compiled for one CPU, Haswell,
which every x86-64 server of today can run.  That compiles it once more (it is kept as usual, `emu warmup`).  Other
versions of Python, numba, LLVM or numpy make other code: where they differ from those of the table, figures that are
off are told, and are no failure.
"""

import argparse
import ctypes
import importlib.metadata
import json
import mmap
import os
import platform
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parent.parent.parent
TABLE = Path(__file__).parent / "instructions.toml"
SCENARIO = Path(__file__).parent / "bench.toml"
CAPTURES = Path(__file__).parent / "captures.py"

CPU = {
    "NUMBA_CPU_NAME": "haswell",
    "NUMBA_CPU_FEATURES": "+64bit,+avx,+avx2,+bmi,+bmi2,+cmov,+crc32,+cx16,+cx8,+f16c,+fma,+fxsr,+lzcnt,+mmx,+movbe,"
    "+pclmul,+popcnt,+sahf,+sse,+sse2,+sse3,+sse4.1,+sse4.2,+ssse3,+xsave,+xsaveopt",
    "PYTHONHASHSEED": "0",
}
BATCH = 4096
WARM, COUNTED = 10, 10  # batches that are played before counting begins, and that are counted
KINDS = ("small", "mix")
MODES = {"verdicts": None, "drops": "drops", "all": "all"}  # what is annotated
TOLERANCE_PERCENT = 3

# What valgrind takes for a request: four rotations that come to nothing and an exchange of a register with itself, with
# the address of the request's words in rax and the answer's default in rdx (valgrind.h, x86-64).
REQUEST = bytes.fromhex("4889f8 31d2 48c1c703 48c1c70d 48c1c73d 48c1c733 4887db 4889d0 c3")
CALLGRIND = ord("C") << 24 | ord("T") << 16
ZERO_STATS, DUMP_STATS_AT, START, STOP = CALLGRIND + 1, CALLGRIND + 3, CALLGRIND + 4, CALLGRIND + 5


class Callgrind:
    """Requests to the valgrind that this process runs under; without one they do nothing."""

    def __init__(self) -> None:
        self._code = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        self._code.write(REQUEST)
        address = ctypes.addressof(ctypes.c_char.from_buffer(self._code))
        self._request = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_void_p)(address)

    def ask(self, request: int, text: bytes = b"") -> None:
        """Make one request."""
        name = ctypes.create_string_buffer(text)
        words = (ctypes.c_uint64 * 6)(request, ctypes.addressof(name))
        self._request(ctypes.addressof(words))


def play(path: str, annotate: str | None, callgrind: Callgrind, name: str) -> None:
    """Replay a capture as `emu replay` does; the batches behind the first WARM ones are counted under this name."""
    from emu.capture.reader import open_capture
    from emu.engine.choose import choose_engine
    from emu.play import replay
    from emu.scenario_file import load_scenario
    from emu.task import Outputs, Task

    played = 0

    def advance(_reader: Any, _machine: Any) -> None:
        nonlocal played
        played += 1
        if played == WARM:
            callgrind.ask(START)
            callgrind.ask(ZERO_STATS)
        elif played == WARM + COUNTED:
            callgrind.ask(DUMP_STATS_AT, name.encode())
            callgrind.ask(STOP)

    engine, _ = choose_engine("compiled", None)
    outputs = Outputs() if annotate is None else Outputs(write="/dev/null", annotate=annotate)
    task = Task(load_scenario(str(SCENARIO)), name, outputs=outputs, batch=BATCH, cores=1)
    with open_capture(path, engine) as reader:
        replay(task, engine, reader, (), advance)
    assert played >= WARM + COUNTED


def play_all(folder: str) -> None:
    """Everything that is counted, in one process: what it takes to start is paid once."""
    callgrind = Callgrind()
    for kind in KINDS:
        for mode, annotate in MODES.items():
            play(f"{folder}/{kind}.pcap", annotate, callgrind, f"{kind}-{mode}")


class CountError(Exception):
    """It could not be counted: one line."""


def ran(command: Sequence[str], what: str) -> None:
    """Run a program to its end."""
    try:
        done = subprocess.run(command, cwd=ROOT, env=os.environ | CPU, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise CountError(f"{command[0]} is missing") from None
    if done.returncode:
        raise CountError(f"{what} ended with {done.returncode}: {done.stderr.strip()[-500:]}")


def count() -> dict[str, int]:
    """Instructions per packet of every case."""
    if platform.machine() != "x86_64":
        raise CountError(f"figures are of x86-64, this is {platform.machine()}")
    with tempfile.TemporaryDirectory(prefix="emu-instructions-") as folder:
        for kind in KINDS:
            packets = str(BATCH * (WARM + COUNTED + 1))
            ran((sys.executable, str(CAPTURES), kind, packets, f"{folder}/{kind}.pcap"), "making a capture")
        alone = (sys.executable, __file__, "--play", folder)
        ran(alone, "the replay")  # compiles, if need be, at full speed
        options = ("--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={folder}/counts")
        ran(("valgrind", *options, *alone), "valgrind")
        return dict(counted(path) for path in sorted(Path(folder).glob("counts.*")))


def counted(path: Path) -> tuple[str, int]:
    """The case that a dump is of, and its instructions per packet."""
    text = path.read_text(errors="replace")
    name = re.search(r"^desc: Trigger: Client Request: (\S+)$", text, re.MULTILINE)
    total = re.search(r"^totals: (\d+)$", text, re.MULTILINE)
    if not name or not total:
        raise CountError(f"{path.name}: not a dump that was asked for")
    return name[1], round(int(total[1]) / (COUNTED * BATCH))


def versions() -> dict[str, str]:
    """What the code that is counted is made by."""
    names = ("numba", "llvmlite", "numpy")
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    return {"python": python} | {name: importlib.metadata.version(name) for name in names}


def written(figures: dict[str, int]) -> str:
    """The table."""
    lines = ["# Written by: python tools/bench/instructions.py --update", f"tolerance_percent = {TOLERANCE_PERCENT}"]
    for title, table in (("versions", versions()), ("instructions_per_packet", figures)):
        lines += ["", f"[{title}]", *(f"{key} = {json.dumps(value)}" for key, value in table.items())]
    return "\n".join(lines) + "\n"


class Comparison(NamedTuple):
    """A figure beside the committed one."""

    name: str
    found: int
    known: int | None
    tolerance_percent: float

    @property
    def percent(self) -> float:
        """By how much it is more."""
        return 100 * (self.found / self.known - 1) if self.known else 0.0

    @property
    def holds(self) -> bool:
        """Whether it is what it is said to be: less is a figure to write down, too."""
        return self.known is not None and abs(self.percent) <= self.tolerance_percent

    def line(self) -> str:
        """For a person."""
        known = "-" if self.known is None else str(self.known)
        return f"{self.name:<16}{self.found:>8}{known:>8}{self.percent:>+8.1f} %{'' if self.holds else '  off'}"


def compare(figures: dict[str, int], table: dict[str, Any]) -> list[Comparison]:
    """Every figure beside the committed one; one that is committed and was not counted is an error."""
    known = table["instructions_per_packet"]
    if missing := known.keys() - figures.keys():
        raise CountError(f"not counted: {', '.join(sorted(missing))}")
    return [Comparison(name, found, known.get(name), table["tolerance_percent"]) for name, found in figures.items()]


def judged(comparisons: list[Comparison], table: dict[str, Any]) -> tuple[list[str], int]:
    """What is printed, and the exit code."""
    lines = [f"{'per packet':<16}{'counted':>8}{'known':>8}", *(each.line() for each in comparisons)]
    made_with = table["versions"]
    other = [
        f"{name} {made_with.get(name)}, here {here}" for name, here in versions().items() if made_with[name] != here
    ]
    off = [each.name for each in comparisons if not each.holds]
    if other:
        lines.append(f"the table was made with {'; '.join(other)}: what is off is told, not judged")
    elif off:
        lines.append(
            f"off by more than {table['tolerance_percent']} %: {', '.join(off)}; if meant: instructions.py --update"
        )
    return lines, 1 if off and not other else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--update", action="store_true", help="write the table instead of comparing with it")
    parser.add_argument("--play", metavar="FOLDER", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.play is not None:
        play_all(options.play)
        return 0
    try:
        figures = count()
        if options.update:
            TABLE.write_text(written(figures))
            print(written(figures), end="")
            return 0
        table = tomllib.loads(TABLE.read_text())
        lines, code = judged(compare(figures, table), table)
    except (CountError, OSError) as error:
        print(f"instructions: {error}", file=sys.stderr)
        return 1
    print("\n".join(lines))
    return code


if __name__ == "__main__":
    sys.exit(main())

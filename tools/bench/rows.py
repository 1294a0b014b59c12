"""The rows of `line_rate.py`: what must be reached, how it is measured, and whether it was reached."""

import tempfile
from collections.abc import Callable, Sequence
from typing import NamedTuple

from cases import EMU, REPLAY, Bench, Case, checked, generator, tell
from deadlock import run_again, run_emu
from measure import BenchError, Spread, Timed, fed_by, pinned, run

CLOSED = ("deadlock", "mainline", "10s")  # scenario, policy, virtual time
SMALL_CAPTURE = 1_000  # frames of a capture that must be answered at once
SAME = 1.1  # peaks of memory that differ by less are the same
DURATION = "s"
RATIO = "x"


class Row(NamedTuple):
    """What must be reached: the issue's table."""

    name: str
    what: str
    unit: str
    at_least: float
    aim: float | None = None
    aim_unit: str = ""  # where it is not that of the row
    less_is_better: bool = False

    def reaches(self, value: float, wanted: float) -> bool:
        """Whether a value is as good as is wanted."""
        return value <= wanted if self.less_is_better else value >= wanted


class Figure(NamedTuple):
    """What was measured for a row."""

    judged: Spread
    whole: Spread | None = None  # the same of whole processes
    note: str = ""
    aimed: float | None = None  # what the aim is held against, where it is in another unit
    fault: str = ""  # why it is a miss whatever the figure says


ROWS = (
    Row("verdicts-small", "verdicts only, smallest frames, against tcpdump", RATIO, 1.3, 14.88, "Mpps"),
    Row("drops-small", "drops annotated, smallest frames, against tcpdump", RATIO, 1.2, 1.5),
    Row("drops-mix", "drops annotated, mix, against tcpdump", RATIO, 0.9, 1.2),
    Row("all-small", "all annotated, smallest frames, against tcpdump", RATIO, 1.0, 1.5),
    Row("all-mix", "all annotated, mix, against tcpdump", RATIO, 0.7, 1.0),
    Row("scapy-small", "verdicts only, smallest frames, against Scapy's PcapReader", RATIO, 1000),
    Row("scapy-mix", "verdicts only, mix, against Scapy's PcapReader", RATIO, 500),
    Row("two-cores", "all annotated, mix, two cores against one", RATIO, 1.3, 1.7),
    Row("log", "Arrow of drops, mix: time added to verdicts only", "%", 25, 10, less_is_better=True),
    Row("memory", "resident at most: file, stdin, zst", "MiB", 300, less_is_better=True),
    Row("compile", "first compiled replay, cache cold, all cores", DURATION, 40, 15, less_is_better=True),
    Row("plain", "plain engine, mix", "packets/s", 20_000, 50_000),
    Row("answer", f"answer for {SMALL_CAPTURE:,} frames, nothing compiled", DURATION, 1, less_is_better=True),
    Row("closed", "emu run deadlock, packets per wall second", "Mpps", 0.5, 2),
)

# Rows that are a ratio of two cases: ours, the other.
RATIOS = {
    "verdicts-small": (Case("small", "verdicts"), Case("small", "tcpdump")),
    "drops-small": (Case("small", "drops"), Case("small", "tcpdump")),
    "drops-mix": (Case("mix", "drops"), Case("mix", "tcpdump")),
    "all-small": (Case("small", "all"), Case("small", "tcpdump")),
    "all-mix": (Case("mix", "all"), Case("mix", "tcpdump")),
    "scapy-small": (Case("small", "verdicts"), Case("small", "scapy")),
    "scapy-mix": (Case("mix", "verdicts"), Case("mix", "scapy")),
    "log": (Case("mix", "verdicts"), Case("mix", "log")),
    "two-cores": (Case("mix", "two-cores"), Case("mix", "all")),
}
PLAIN = Case("mix", "plain")


def cases_of(names: Sequence[str]) -> list[Case]:
    """What must run in turn for these rows; those of one kind of capture next to each other."""
    wanted = {case for name in names for case in RATIOS.get(name, ())}
    if "plain" in names:
        wanted.add(PLAIN)
    # No row is judged by them: what memory costs that is short throughout.
    wanted |= {Case(case.kind, "short") for case in wanted if case.mode == "verdicts"}
    return sorted(wanted)


def figure_of(row: Row, bench: Bench, rounds: int, memory_gb: float) -> Figure:
    """What was or is now measured for a row.  Errors: BenchError when it could not be."""
    if row.name in RATIOS:
        # The peer first: where it is missing, that is what to say.
        other, ours = (runs_of(bench, case) for case in reversed(RATIOS[row.name]))
        return added(ours, other) if row.name == "log" else ratio(row, ours, other)
    if row.name == "plain":
        runs = runs_of(bench, PLAIN)
        return Figure(Spread.of([run.per_s for run in runs]), Spread.of([run.whole_per_s for run in runs]))
    tell(row.what)
    if row.name == "memory":
        return memory(bench, memory_gb)
    alone: dict[str, Callable[[Bench, int], Figure]] = {"compile": compiling, "answer": answer, "closed": closed}
    return alone[row.name](bench, rounds)


def runs_of(bench: Bench, case: Case) -> list[Timed]:
    """The rounds of a case.  Errors: BenchError when it failed."""
    if case in bench.failed:
        raise BenchError(bench.failed[case])
    return bench.timed[case]


def ratio(row: Row, ours: list[Timed], other: list[Timed]) -> Figure:
    """How many times the other's rate."""
    pairs = list(zip(ours, other, strict=True))
    rate = Spread.of([run.per_s for run in ours]).median
    return Figure(
        Spread.of([run.per_s / peer.per_s for run, peer in pairs]),
        Spread.of([run.whole_per_s / peer.whole_per_s for run, peer in pairs]),
        f"{rate / 1e6:.2f} Mpps",
        rate / 1e6 if row.aim_unit else None,
    )


def added(without: list[Timed], with_it: list[Timed]) -> Figure:
    """How many per cent more time a packet takes."""
    pairs = list(zip(without, with_it, strict=True))
    return Figure(
        Spread.of([100 * (run.per_s / more.per_s - 1) for run, more in pairs]),
        Spread.of([100 * (run.whole_per_s / more.whole_per_s - 1) for run, more in pairs]),
    )


def memory(bench: Bench, gigabytes: float) -> Figure:
    """Peaks of verdicts only over a file, a tenth of the gigabytes by stdin, plain and compressed, and all of them."""
    peaks: dict[str, float] = {}
    file = bench.play(Case("mix", "verdicts"), bench.packets[1])
    file_bytes = bench.capture("mix", bench.packets[1]).stat().st_size
    peaks[f"file of {file_bytes / 1e9:.2g} GB"] = file.peak_mib
    for share, options in ((0.1, ()), (0.1, ("--zstd",)), (1.0, ())):
        packets = max(1, round(gigabytes * share * 1e9 / file_bytes * bench.packets[1]))
        name = f"{gigabytes * share:g} GB by stdin{', zst' if options else ''}"
        tell(f"memory: {name}")
        with fed_by([generator("mix", packets, "-", *options)], bench.cores.other()) as feed:
            command = (*EMU, "replay", "-", *REPLAY, "--engine", "compiled")
            done = run(command, bench.cores.first(1), stdin=feed)
        checked(done, packets)
        peaks[name] = done.peak_mib
    told = ", ".join(f"{name}: {peak:.0f} MiB" for name, peak in peaks.items())
    grows = peaks[f"{gigabytes:g} GB by stdin"] > SAME * peaks[f"{gigabytes * 0.1:g} GB by stdin"]
    return Figure(Spread.of(list(peaks.values())), None, told, fault="it grows with the capture" if grows else "")


def compiling(bench: Bench, _rounds: int) -> Figure:
    """One replay of a few frames with a cache of its own, which the run must have said in one line."""
    path = bench.capture("mix", SMALL_CAPTURE)
    with tempfile.TemporaryDirectory(prefix="emu-bench-cache-") as cache:
        command = (*EMU, "replay", str(path), *REPLAY, "--engine", "compiled")
        cold = run(command, set(bench.cores.usable), environment={"XDG_CACHE_HOME": cache})
        warm = run(command, set(bench.cores.usable), environment={"XDG_CACHE_HOME": cache})
    lines = cold.err.splitlines()
    fault = "" if len(lines) == 1 and "compiling" in lines[0] else f"told in {len(lines)} lines"
    return Figure(Spread.of([cold.wall_s]), None, f"the next one: {warm.wall_s:.2f} s", fault=fault)


def answer(bench: Bench, rounds: int) -> Figure:
    """Whole replays of a small capture by the engine that emu chooses, with nothing in its cache."""
    path = bench.capture("mix", SMALL_CAPTURE)
    seconds = []
    with tempfile.TemporaryDirectory(prefix="emu-bench-cache-") as cache:
        for round_ in range(rounds + 1):
            command = (*EMU, "replay", str(path), *REPLAY)
            done = run(command, bench.cores.first(1), environment={"XDG_CACHE_HOME": cache})
            checked(done, SMALL_CAPTURE)
            if round_:
                seconds.append(done.wall_s)
    if "compiling" in done.err:
        return Figure(Spread.of(seconds), fault="it compiled")
    return Figure(Spread.of(seconds), None, f"engine auto, {path.stat().st_size >> 10} KiB")


def closed(bench: Bench, rounds: int) -> Figure:
    """The closed loop, compiled: the second run in a process, which has nothing to load, and whole processes."""
    scenario, policy, virtual = CLOSED
    with pinned(bench.cores.first(1)):
        run_emu(scenario, policy, "compiled", "500ms")
        again = [run_again(scenario, policy, virtual) for _ in range(rounds)]
        whole = [run_emu(scenario, policy, "compiled", virtual) for _ in range(rounds)]
    rates, whole_rates = (Spread.of([run.packets_per_s / 1e6 for run in runs]) for runs in (again, whole))
    return Figure(rates, whole_rates, f"{again[0].packets:,} packets, {policy}; without the start: a second run")


def verdict(row: Row, figure: Figure) -> str:
    """`aim`, `pass`, or `miss` and why."""
    if figure.fault:
        return f"miss: {figure.fault}"
    if not row.reaches(figure.judged.median, row.at_least):
        return "miss"
    aimed = figure.judged.median if figure.aimed is None else figure.aimed
    return "pass, aim" if row.aim is not None and row.reaches(aimed, row.aim) else "pass"

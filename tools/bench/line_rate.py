"""How fast emu is, beside peers that ran in turn with it, and whether that is what it must reach: `make bench`.

Inputs are generated (captures.py): `small`, 60-byte UDP frames, and `mix`, 476 bytes on average; of each kind a short
and a long one, 1 M and 5 M packets unless --packets says otherwise.  All of emu's runs play the scenario bench.toml, in
which one frame in ten is dropped; what memory costs that is short, short.toml shows, by which no row is judged.  Every
program is pinned to one core (compiling is not), the page cache and emu's compile cache are warm: a first run of each
is not counted.

Two figures stand beside each other.  The rate *without the start* is that of the packets which the long input has more
than the short one, over the additional time that they take, for emu and its peer alike; by the ratio of these a row is
judged.  The ratio of the *whole processes*, start included, on the long input is printed beside it.  Ratios are taken
within a round; a row shows their median and range.  Scapy and the plain engine, which are slow, play the first packets.

A row passes if its median reaches `at least`; one whose program is missing says so.  Misses do not change the exit
code: 0 when all rows were tried, 2 when bench was used wrongly, 130 when interrupted (whatever runs then is ended).
"""

import argparse
import contextlib
import importlib.metadata
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from cases import MODES, Bench
from measure import BenchError, Spread
from rich.console import Console
from rich.table import Table
from rows import ROWS, Figure, Row, cases_of, figure_of, verdict

PACKETS = (1_000_000, 5_000_000)
HELP_PACKETS = "of the two captures of each kind [1 000 000 and 5 000 000]"
HELP_ONLY = "measure only this row; repeatable: " + ", ".join(row.name for row in ROWS)


def rate_rows(bench: Bench) -> Iterator[dict[str, Any]]:
    """What every case reached, medians of the rounds."""
    for case, runs in bench.timed.items():
        yield {
            "what": MODES[case.mode][0],
            "capture": case.kind,
            "packets": runs[0].long_packets,
            "packets_per_s": Spread.of([run.per_s for run in runs])._asdict(),
            "whole_packets_per_s": Spread.of([run.whole_per_s for run in runs])._asdict(),
            "dropped_share": bench.lost.get(case),
            "rss_peak_mib": max(run.long.peak_mib for run in runs),
        }


class Outcome(NamedTuple):
    """A row, measured or not."""

    row: Row
    figure: Figure | None
    result: str

    def as_json(self) -> dict[str, object]:
        """Numbers as they are; null where nothing was measured."""
        row, figure = self.row, self.figure
        return {
            "name": row.name,
            "what": row.what,
            "unit": row.unit,
            "without_start": figure and figure.judged._asdict(),
            "whole_process": figure and figure.whole and figure.whole._asdict(),
            "at_least": row.at_least,
            "aim": row.aim,
            "aim_unit": row.aim_unit or row.unit,
            "less_is_better": row.less_is_better,
            "result": self.result,
            "note": figure.note if figure else "",
        }


def measured(row: Row, bench: Bench, rounds: int, memory_gb: float) -> Outcome:
    """The row's figure and what it comes to."""
    try:
        figure = figure_of(row, bench, rounds, memory_gb)
    except BenchError as error:
        return Outcome(row, None, f"not measured: {error}")
    return Outcome(row, figure, verdict(row, figure))


def shown(value: float, unit: str) -> str:
    """A figure with three digits that count and its unit: 1.25 x, 21 400 packets/s."""
    digits = f"{value:,.0f}".replace(",", " ") if abs(value) >= 100 else f"{value:#.3g}"
    return f"{digits} {unit}".replace(" %", "%")


def limit(value: float | None, unit: str) -> str:
    """What is wanted, as it was written."""
    return "" if value is None else f"{value:,.6g} {unit}"


def table_of(outcomes: list[Outcome]) -> Table:
    """The rows as a table."""
    table = Table(title="without the start, median (range); whole process beside it", show_lines=True)
    for column in ("what", "measured", "whole process", "at least", "aim", "result", "note"):
        table.add_column(column, overflow="fold")
    for row, figure, result in outcomes:
        bound = "at most " if row.less_is_better else ""
        wanted = (bound + limit(row.at_least, row.unit), limit(row.aim, row.aim_unit or row.unit))
        if figure is None:
            table.add_row(row.what, "-", "-", *wanted, result, "")
            continue
        median, least, most = (shown(value, row.unit) for value in figure.judged)
        judged = median if least == most else f"{median} ({least} to {most})"
        whole = shown(figure.whole.median, row.unit) if figure.whole else "-"
        table.add_row(row.what, judged, whole, *wanted, result, figure.note)
    return table


def table_of_rates(rates: list[dict[str, Any]]) -> Table:
    """What every program reached."""
    table = Table(title="packets/s, medians")
    for column in ("what", "capture", "packets", "without the start", "whole process", "dropped", "resident, MiB"):
        table.add_column(column, justify="left" if column in ("what", "capture") else "right")
    for rate in rates:
        share = rate["dropped_share"]
        table.add_row(
            rate["what"],
            rate["capture"],
            f"{rate['packets']:,}",
            f"{rate['packets_per_s']['median']:,.0f}",
            f"{rate['whole_packets_per_s']['median']:,.0f}",
            "" if share is None else f"{100 * share:.1f} %",
            f"{rate['rss_peak_mib']:.0f}",
        )
    return table


def machine() -> str:
    """The machine and what runs on it, in one line."""
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if "model name" in line
    ]
    load = os.getloadavg()[0]
    versions = f"Linux {platform.release()}, Python {platform.python_version()}, numpy {numpy_version()}"
    return f"{len(names)} x {names[0] if names else platform.machine()}, {versions}, load {load:.1f} at the start"


def numpy_version() -> str:
    """Asked of its metadata: numpy itself would make this process large (see measure.run)."""
    return importlib.metadata.version("numpy")


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", action="append", choices=[row.name for row in ROWS], metavar="ROW", help=HELP_ONLY)
    parser.add_argument("--packets", type=int, nargs=2, default=PACKETS, metavar=("SHORT", "LONG"), help=HELP_PACKETS)
    parser.add_argument("--memory-gb", type=float, default=10, help="the large capture of the row memory [10]")
    parser.add_argument(
        "--keep", type=Path, metavar="FOLDER", help="make the captures there, or use those of last time"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    options = parser.parse_args()
    if options.rounds < 1 or not 0 < options.packets[0] < options.packets[1] or options.memory_gb <= 0:
        parser.error("--rounds of at least 1, --packets SHORT below LONG, --memory-gb above 0")
    return options


def measure_all(options: argparse.Namespace, folder: Path) -> None:
    """Run what was asked for, and print it."""
    started = time.perf_counter()
    about = machine()
    bench = Bench(folder, *options.packets)
    rows = [row for row in ROWS if row.name in (options.only or [row.name])]
    bench.measure(cases_of([row.name for row in rows]), options.rounds)
    outcomes = [measured(row, bench, options.rounds, options.memory_gb) for row in rows]
    rates = list(rate_rows(bench))
    seconds = round(time.perf_counter() - started)
    if options.json:
        rows_of_json = [outcome.as_json() for outcome in outcomes]
        asked = {"rounds": options.rounds, "packets": list(options.packets), "seconds": seconds}
        print(json.dumps({"line_rate": 1, "machine": about, **asked, "rows": rows_of_json, "rates": rates}, indent=1))
        return
    console = Console(width=None if sys.stdout.isatty() else 150)
    console.print(f"{about}\n{options.rounds} rounds, {seconds} s", highlight=False)
    console.print(table_of(outcomes))
    if rates:
        console.print(table_of_rates(rates))


def main() -> int:
    options = parsed()
    # Both end what runs and remove what was made on the way out.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with contextlib.ExitStack() as ending:
            folder = options.keep or Path(ending.enter_context(tempfile.TemporaryDirectory(prefix="emu-bench-")))
            folder.mkdir(parents=True, exist_ok=True)
            measure_all(options, folder)
    except KeyboardInterrupt:
        print("bench: interrupted", file=sys.stderr)
        return 130
    except (BenchError, OSError, subprocess.CalledProcessError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What the wire of `emu live` costs, beside a plain veth pair that is measured in turn with it: `make bench-live`.

Between two network namespaces there are two roads: a veth pair without offloads, and `emu live` with its two TAPs under
the scenario live.toml, in which the emulated machine drops nothing.  Each round measures the veth, then each kind of
wire: bare, asleep between frames, writing its files, with real readers, with files and real readers.  Senders and
receivers are live_ends.py's; nothing is pinned, so programs and wire share the cores as they would with a user.  Ratios
are taken within a round; a row shows medians and range.  Misses do not change the exit code: 0 when all was measured,
2 when bench was used wrongly, 1 when something failed or may not be done (it needs root), 130 when interrupted;
namespaces and programs go in any case.
"""

import argparse
import json
import signal
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from line_rate import machine, shown
from live_roads import VARIANTS, Ground, Variant
from live_rows import BESIDE, MEASURES, ROWS, Figures, Lengths, Outcome, Row, outcome, road_of
from measure import BenchError, Spread
from rich.console import Console
from rich.table import Table

from emu.errors import EmuError
from emu.live.lab.lab import Lab, needs_privileges, sweep

Measured = dict[str, dict[str, list[float]]]  # by road ("veth" or a variant) and row, one figure per round


def measure_road(ground: Ground, variant: Variant | None, rows: list[Row], lengths: Lengths) -> Figures:
    """All that was asked for, on one road."""
    wanted = {row.name for row in rows}
    measures = [measure for measure, names in MEASURES.items() if wanted & set(names)]
    found: Figures = {}
    if variant is None:
        for measure in measures:
            found |= measure(ground, road_of(None), None, lengths)
        return found
    with ground.wire(variant) as wire:
        for measure in measures:
            found |= measure(ground, road_of(wire), wire, lengths)
    return found


def measure_rounds(ground: Ground, variants: list[Variant], rows: list[Row], lengths: Lengths, rounds: int) -> Measured:
    """Every road in turn, again and again."""
    found: Measured = defaultdict(lambda: defaultdict(list))
    for round_ in range(rounds):
        for variant in (None, *variants):
            name = "veth" if variant is None else variant.name
            print(f"bench: round {round_ + 1} of {rounds}, {name}", file=sys.stderr)
            for row, figure in measure_road(ground, variant, rows, lengths).items():
                found[name][row].append(figure)
    return found


def beside(found: Measured, variant: Variant, row: Row) -> list[float]:
    """The veth's figures: those that were measured in turn with this wire, or in the same round."""
    return found[variant.name].get(f"{BESIDE}{row.name}") or found["veth"][row.name]


def table_of(outcomes: list[Outcome]) -> Table:
    """The rows as a table."""
    table = Table(title="medians of the rounds (range)", show_lines=True)
    for column in ("what", "wire", "veth", "on the wire", "beside it", "wanted", "result"):
        table.add_column(column, overflow="fold")
    about = {variant.name: variant.about for variant in VARIANTS}
    for row, variant, veth, wire, compared, result in outcomes:
        beside = "" if veth is None or not any(compared) else compared_text(row, compared)
        veth_text = "" if veth is None else spread_text(veth, row.unit)
        cells = (row.what, about[variant], veth_text, spread_text(wire, row.unit), beside, wanted_text(row), result)
        table.add_row(*cells)
    return table


def spread_text(spread: Spread, unit: str) -> str:
    """A median and its range."""
    median, least, most = (shown(value, unit) for value in spread)
    return median if least == most else f"{median} ({least} to {most})"


def compared_text(row: Row, compared: Spread) -> str:
    """The wire beside the veth."""
    return f"+{spread_text(compared, row.unit)}" if row.added else spread_text(compared, "x")


def wanted_text(row: Row) -> str:
    """What must be reached."""
    added = " more" if row.added else ""
    if row.at_least is not None:
        return f"at least {row.at_least:,.6g} {row.unit}{added}"
    return "" if row.at_most is None else f"at most {row.at_most:,.6g} {row.unit}{added}"


def as_json(found: Outcome) -> dict[str, object]:
    """Numbers as they are; null where nothing was measured or wanted."""
    row = found.row
    return {
        "name": row.name,
        "what": row.what,
        "unit": row.unit,
        "wire": found.variant,
        "veth": found.veth and found.veth._asdict(),
        "on_the_wire": found.wire._asdict(),
        "added" if row.added else "ratio": found.compared._asdict() if found.veth else None,
        "at_least": row.at_least,
        "at_most": row.at_most,
        "result": found.result,
    }


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names, wires = [row.name for row in ROWS], [variant.name for variant in VARIANTS]
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", action="append", choices=names, metavar="ROW", help=f"of: {', '.join(names)}")
    parser.add_argument("--wire", action="append", choices=wires, metavar="KIND", help=f"of: {', '.join(wires)}")
    parser.add_argument("--seconds", type=float, default=2, help="of each stream and flood [2]")
    parser.add_argument("--steady-seconds", type=float, default=5, help="of the steady pace [5]")
    parser.add_argument("--round-trips", type=int, default=5000)
    parser.add_argument("--engine", default="auto", help="as emu live's")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    options = parser.parse_args()
    if options.rounds < 1 or min(options.seconds, options.steady_seconds) <= 0 or options.round_trips < 2:
        parser.error("--rounds of at least 1, seconds above 0, --round-trips of at least 2")
    return options


def measure_all(options: argparse.Namespace, folder: Path) -> None:
    """Run what was asked for, and print it."""
    started, about = time.perf_counter(), machine()
    rows = [row for row in ROWS if row.name in (options.only or [row.name])]
    variants = [variant for variant in VARIANTS if variant.name in (options.wire or [variant.name])]
    lengths = Lengths(options.seconds, options.round_trips, options.steady_seconds)
    needs_privileges()
    sweep()
    with Lab() as lab:
        found = measure_rounds(Ground(lab, folder, options.engine), variants, rows, lengths, options.rounds)
    outcomes = [
        outcome(row, variant.name, beside(found, variant, row), found[variant.name][row.name])
        for row in rows
        for variant in variants
    ]
    seconds = round(time.perf_counter() - started)
    if options.json:
        asked = {"rounds": options.rounds, "seconds": seconds}
        print(
            json.dumps({"live": 1, "machine": about, **asked, "rows": [as_json(each) for each in outcomes]}, indent=1)
        )
        return
    console = Console(width=None if sys.stdout.isatty() else 150)
    console.print(f"{about}\n{options.rounds} rounds, {seconds} s", highlight=False)
    console.print(table_of(outcomes))


def main() -> int:
    options = parsed()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with tempfile.TemporaryDirectory(prefix="emu-bench-") as folder:
            measure_all(options, Path(folder))
    except KeyboardInterrupt:
        print("bench: interrupted", file=sys.stderr)
        return 130
    except (BenchError, EmuError, OSError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

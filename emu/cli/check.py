"""`emu check DIR`: the mainline policy against the trace of a real kernel; its rules, or its counts predicted."""

import json
import sys
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from emu.errors import Exit, UsageError
from emu.verdicts.check import POLICY, Mismatch, Report, check_directory
from emu.verdicts.predict import Counts, Outcome, Prediction, predict
from emu.verdicts.screen import figure, plain_table


def check(directory: Path, as_json: bool = False) -> int:
    """Check a trace directory and print what was found; the exit code: 1 on any mismatch."""
    report = check_directory(directory)
    if as_json:
        json.dump(report.as_object(), sys.stdout, indent=2)
        sys.stdout.write("\n")
    else:
        show(Console(highlight=False), report)
    return int(Exit.EXPECTATION_FAILED if report.mismatches else Exit.DONE)


NOTHING = Counts(0, 0, 0)


def check_prediction(directory: Path, frames: str, as_json: bool = False) -> int:
    """Predict a traced run's counts and print them beside the real ones; a figure, so the exit code is always 0."""
    if frames not in ("seen", "all"):
        raise UsageError(f"--frames {frames}: expected seen or all")
    prediction = predict(directory, frames)
    if as_json:
        json.dump(prediction.as_object(), sys.stdout, indent=2)
        sys.stdout.write("\n")
    else:
        show_prediction(Console(highlight=False), prediction)
    return int(Exit.DONE)


def show_prediction(console: Console, prediction: Prediction) -> None:
    """Print a prediction as tables, and last how far off it is and why."""
    console.print(
        f"[bold]{escape(prediction.directory)}[/] under [bold]{prediction.policy}[/] on {prediction.geometry}: "
        f"{figure(prediction.played)} frames played of {figure(prediction.on_wire)} on the wire, "
        f"{figure(prediction.received)} of which reached the guest; {figure(prediction.samples)} samples of memory; "
        f"{figure(prediction.cpu_ns_per_packet)} ns of CPU per packet (median gap in the run's bursts)"
    )
    _classes_predicted(console, prediction)
    _figures_predicted(console, prediction)
    _experiments(console, prediction)
    console.print(escape(" ".join(prediction.words)))


def _classes_predicted(console: Console, prediction: Prediction) -> None:
    columns = ("received", "model", "tagged", "model", "dropped", "model")
    table = plain_table("Packets, in the real kernel and in the model", "class", *columns)
    real, model = prediction.real.classes, prediction.model.classes
    for name in sorted({*real, *model}):
        counts = zip(real.get(name, NOTHING), model.get(name, NOTHING), strict=True)
        table.add_row(escape(name), *(figure(count) for pair in counts for count in pair))
    console.print(table)


def _milliseconds(time_ns: int) -> str:
    return f"{time_ns / 1e6:.1f} ms"


def _words_of(outcome: Outcome) -> dict[str, str]:
    runs, lag = outcome.runs, outcome.lag_ns
    return {
        "PFMemallocDrop": figure(outcome.pfmemalloc_drop),
        "tagged packets": figure(outcome.tagged),
        "runs of tagged packets": figure(runs.runs),
        "their length: median, 90 %, longest": " ".join(figure(n) for n in (runs.median, runs.ninety, runs.longest)),
        "buffer's age at reception: 5 %, median, 95 %": ", ".join(map(_milliseconds, (lag.low, lag.median, lag.high))),
        "ring buffers refused": figure(outcome.refill_failed),
        "copies of small packets refused": figure(outcome.copy_failed),
        "missed without a descriptor": "-" if outcome.missed < 0 else figure(outcome.missed),
        "fewest free pages: DMA, DMA32": ", ".join(map(str, outcome.lowest_free)),
    }


def _figures_predicted(console: Console, prediction: Prediction) -> None:
    table = plain_table("Figures", "", "real", "predicted")
    real, model = _words_of(prediction.real), _words_of(prediction.model)
    for name in real:
        table.add_row(name, real[name], model[name])
    console.print(table)


def _experiments(console: Console, prediction: Prediction) -> None:
    if not prediction.variants:
        return
    table = plain_table(
        "The same, with one thing changed", "", "PFMemallocDrop", "runs", "longest", "refused", "missed"
    )
    table.columns[0].no_wrap = False
    for variant in prediction.variants:
        runs = variant.outcome.runs
        outcome = variant.outcome
        counts = [outcome.pfmemalloc_drop, runs.runs, runs.longest, outcome.refill_failed, outcome.missed]
        table.add_row(escape(variant.name), *map(figure, counts))
    console.print(table)


def show(console: Console, report: Report) -> None:
    """Print a report as tables, and last in one line how it ended."""
    release = report.release
    names = f"sk_filter {' or '.join(release.filter_reasons)}, core {' or '.join(release.core_reasons)}"
    console.print(
        f"[bold]{escape(report.directory)}[/]: kernel {escape(report.kernel or 'unknown')}, "
        f"{escape(report.nic or 'unknown NIC')}, against [bold]{POLICY}[/]; a reserve drop is called {names}"
    )
    _rows(console, report)
    _not_judged(console, report)
    _counters(console, report)
    _taps(console, report)
    _watermark(console, report)
    _mismatches(console, report)
    for note in report.notes:
        console.print(f"[yellow]note:[/] {escape(note)}")
    colour = "red" if report.mismatches else "green"
    console.print(
        f"{figure(report.rows)} rows: {figure(report.checked)} checked, "
        f"{figure(sum(report.not_judged.values()))} not judged; [{colour}]{figure(report.mismatches)} mismatches[/]"
    )


def _rows(console: Console, report: Report) -> None:
    table = plain_table("Rows", "class", "tag", "rows", "checked", "unjudged", "wrong", "predicted")
    table.columns[-1].justify, table.columns[-1].overflow = "left", "fold"
    for group in report.groups:
        table.add_row(
            escape(group.traffic),
            str(group.pfmemalloc),
            figure(group.rows),
            figure(group.checked),
            figure(group.not_judged),
            figure(group.mismatches),
            escape("; ".join(group.predicted).replace("drop:", "") or "-"),
        )
    console.print(table)


def _not_judged(console: Console, report: Report) -> None:
    if not report.not_judged:
        return
    table = plain_table("Not judged", "rows", "why")
    table.columns[0].justify, table.columns[1].justify = "right", "left"
    for why, rows in sorted(report.not_judged.items(), key=lambda item: (-item[1], item[0])):
        table.add_row(figure(rows), escape(why))
    console.print(table)


def _counters(console: Console, report: Report) -> None:
    table = plain_table("Counters", "counter", "by the rows", "by the kernel", "result")
    table.columns[-1].justify = "left"
    for counter in report.counters:
        rows = figure(counter.low)
        if counter.high != counter.low:
            rows += f" to {figure(counter.high)}"
        result = "agrees" if counter.agrees else "MISMATCH"
        if counter.not_binding:
            result = f"not binding: {counter.not_binding}"
        counted = "-" if counter.counted is None else figure(counter.counted)
        table.add_row(counter.name, rows, counted, escape(result))
    console.print(table)


def _taps(console: Console, report: Report) -> None:
    if not report.taps:
        return
    table = plain_table("Packet taps", "rule", "from", "checked", "unjudged", "wrong")
    table.columns[0].no_wrap = False
    for tap in report.taps:
        words = f"{tap.what} ({tap.why})" if tap.why else tap.what
        table.add_row(escape(words), tap.source, figure(tap.checked), figure(tap.not_judged), figure(tap.mismatches))
    console.print(table)


def _watermark(console: Console, report: Report) -> None:
    if not report.watermark:
        return
    table = plain_table(
        "Watermark: refused up to, granted from so many free pages",
        "flags",
        "order",
        "mark",
        "lowmem",
        "decided",
        "floor",
        "refused",
        "granted",
        "result",
    )
    table.columns[-1].justify = "left"
    for entry in report.watermark:
        levels = (entry.highest_free_fail, entry.lowest_free_ok)
        table.add_row(
            escape(entry.flags),
            str(entry.order),
            figure(entry.mark),
            figure(entry.lowmem_reserve),
            figure(entry.decisions),
            figure(entry.floor),
            *("-" if level is None else figure(level) for level in levels),
            entry.outcome,
        )
    console.print(table)


def _place(mismatch: Mismatch) -> str:
    return f"{mismatch.where} row {mismatch.row}" if mismatch.row else mismatch.where


def _mismatches(console: Console, report: Report) -> None:
    if not report.mismatches:
        return
    shown = [mismatch for part in report.findings.values() for mismatch in part.first]
    table = plain_table(
        f"Mismatches: the first {len(shown)} of {report.mismatches}", "where", "what", "expected", "found"
    )
    for column in table.columns:
        column.justify, column.overflow = "left", "fold"
    for mismatch in shown:
        cells = (_place(mismatch), mismatch.what, mismatch.expected, mismatch.found)
        table.add_row(*(escape(cell) for cell in cells))
    console.print(table)

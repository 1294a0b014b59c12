"""`emu report`: a log or an annotated capture becomes an HTML page."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emu.capture.output import STDOUT
from emu.cli.report_options import ReportCommand
from emu.errors import UsageError
from emu.replay_report import check_report
from emu.verdicts.log import import_polars
from emu.verdicts.plots.html import require_plotly
from emu.verdicts.screen import counted, figure

if TYPE_CHECKING:
    from emu.verdicts.report.page import Contents

WANTED_BY = "emu report"


def run_report(command: ReportCommand) -> int:
    """Write the report of a file; the exit code."""
    if command.write == STDOUT and command.json:
        raise UsageError("-w - and --json both want standard output; write the report to a file")
    name = command.write or default_name(command.file)
    import_polars(WANTED_BY)
    require_plotly(WANTED_BY)
    from emu.cli.told import tell_of_file
    from emu.engine.choose import ENGINES
    from emu.request import check_choice, say_on_stderr
    from emu.verdicts.read import open_verdicts
    from emu.verdicts.read_log import queried
    from emu.verdicts.report.page import write_replay_report

    check_report(name, [command.file])
    check_choice("--engine", command.engine, ENGINES)
    verdicts = open_verdicts(command.file, wanted_by=WANTED_BY, engine=command.engine, say=say_on_stderr)
    if command.policy:
        verdicts = replace(verdicts, policy=command.policy)
    with queried(verdicts.name):
        contents = write_replay_report(name, verdicts, [command.file])
    if command.json:
        from emu.cli.replay import print_json

        print_json({"report": name} | as_object(contents))
    else:
        print(told(name, contents), file=sys.stderr if name == STDOUT else sys.stdout)
    return tell_of_file(verdicts.name, verdicts.notes, verdicts.incomplete, verdicts.damage)


def default_name(file: str) -> str:
    """The report's name beside its input.  Errors: UsageError when that has no name."""
    if file == STDOUT:
        raise UsageError("-: standard input has no name to call the report after; say -w FILE.html")
    if not Path(file).name:  # of `.`, of `/`
        raise UsageError(f"{file}: is a folder; expected a log, or an annotated capture")
    return str(Path(file).with_suffix(".html"))


def told(name: str, contents: "Contents") -> str:
    """The report in one line."""
    figures, drops = contents.figures, contents.drops
    listed = "all" if len(drops.rows) == drops.total else figure(len(drops.rows))
    later = f", {counted(figures.events, 'packet')} lost after acceptance" if figures.events else ""
    return f"{name}: {counted(figures.frames, 'frame')}, {counted(figures.all.lost, 'drop')}{later}, {listed} listed"


def as_object(contents: "Contents") -> dict[str, Any]:
    """The figures of the report for --json."""
    verdicts, figures, flows, drops, timeline = contents
    return {
        "policy": verdicts.policy,
        "incomplete": verdicts.incomplete,
        "damage": verdicts.damage,
        "notes": list(verdicts.notes),
        "frames": figures.frames,
        "packets": figures.all._asdict(),
        "memalloc": figures.memalloc._asdict(),
        "classes": {name: fates._asdict() for name, fates in figures.classes},
        "reasons": [one._asdict() for one in figures.reasons],
        "flows": flows.number,
        "losers": [one._asdict() for one in flows.losers],
        "drops": {"total": figures.all.lost, "later": figures.events, "listed": len(drops.rows)},
        "bin_width_ns": timeline.width_ns,
    }

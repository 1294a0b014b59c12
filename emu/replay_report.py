"""The report of a replay: made from its own log, or from a temporary one, when it has ended."""

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from emu.capture.output import STDOUT, OutputFile
from emu.cli.options import ReplayCommand
from emu.errors import UsageError
from emu.runs import Run
from emu.task import Input, Outputs
from emu.verdicts.log import import_polars
from emu.verdicts.plots.html import require_plotly

WANTED_BY = "--report"
SUFFIXES = (".html", ".htm")


def run_reported(
    command: ReplayCommand, inputs: Sequence[Input], outputs: Outputs, run: Callable[[Outputs], Run]
) -> Run:
    """Play with `run`, then write the report, also of what was interrupted or damaged.

    Errors: UsageError, before anything is played, when the report could not be written in the end.
    """
    name = command.report
    assert name is not None
    import_polars(WANTED_BY)
    require_plotly(WANTED_BY)
    if name == STDOUT:
        raise UsageError("--report -: expected a name that ends in .html; emu report LOG -w - writes to a pipe")
    given = [one.path for one in inputs] + [str(path) for path in (command.scenario, command.events) if path]
    check_report(name, given)
    _refuse_doubles(name, outputs)
    with _with_log(name, outputs) as logged:
        done = run(logged)
        _write(name, logged, done, [*given, *([outputs.log] if outputs.log else [])])
    return done


def check_report(name: str, inputs: Sequence[str | os.PathLike[str]]) -> None:
    """Refuse, before anything is read, a report that could not be written in the end.  Errors: UsageError."""
    if name == STDOUT:
        return
    if not name.lower().endswith(SUFFIXES):
        raise UsageError(f"{name}: expected a name that ends in .html")
    if Path(name).is_file() or not Path(name).exists():  # a pipe is opened when there is something to write
        OutputFile(name, inputs).discard()


def _write(name: str, outputs: Outputs, run: Run, inputs: Sequence[str]) -> None:
    from emu.verdicts.read import open_verdicts
    from emu.verdicts.report.page import write_replay_report

    assert outputs.log is not None
    verdicts = replace(
        open_verdicts(outputs.log, wanted_by=WANTED_BY),
        drops_only=False,
        name=run.summary["capture"],
        policy=run.policy,
        incomplete=run.summary["incomplete"] or "",
        notes=tuple(run.summary["findings"]),
    )
    write_replay_report(name, verdicts, inputs)


@contextmanager
def _with_log(name: str, outputs: Outputs) -> Iterator[Outputs]:
    """What the replay has to write: the log that was asked for, or one that goes away with the context."""
    if outputs.log is not None:
        if outputs.log_rows != "all":
            raise UsageError(f"--log-rows {outputs.log_rows}: a report needs every row; leave it away, or --report")
        if Path(outputs.log).exists() and not Path(outputs.log).is_file():
            raise UsageError(f"--log {outputs.log}: a report is made from the log, and this one cannot be read again")
        yield outputs
        return
    # Beside the report: where that has room, so have the rows.
    beside = Path(os.path.realpath(name)).parent
    with tempfile.TemporaryDirectory(prefix=".emu-report-", dir=beside) as folder:
        try:
            yield outputs._replace(log=str(Path(folder) / "rows.parquet"), log_rows="all")
        except UsageError as error:
            if not str(error).startswith(folder):
                raise
            why = error.__cause__.strerror if isinstance(error.__cause__, OSError) else str(error.__cause__)
            raise UsageError(
                f"{name}: {why}: until it is written, its rows are kept in {beside}; make room there, or name another "
                "place for it"
            ) from None


def _refuse_doubles(report: str, outputs: Outputs) -> None:
    others = (outputs.write, outputs.log, outputs.record_events)
    if os.path.realpath(report) in [os.path.realpath(name) for name in others if name not in (None, STDOUT)]:
        raise UsageError(f"{report}: is asked for twice; name another output")

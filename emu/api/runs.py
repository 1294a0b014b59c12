"""`run` and `compare_runs`: the closed loop as functions, and what they return."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from rich.console import Console

from emu.api.options import REALTIME, FilePath, Number, Texts, command_of, described
from emu.api.play import say
from emu.api.result import Compared, Interrupted, Played, Verdicts, frame_of
from emu.cli.progress import bars, runs_in
from emu.cli.run import watch_on_stderr
from emu.cli.run_options import RunCommand
from emu.closed_runs import run_closed_each, run_closed_once, scenario_name, write_pictures
from emu.runs import Run, collected
from emu.scenario_file import ScenarioError
from emu.task import Outputs
from emu.toml_text import toml_text
from emu.verdicts.log import import_polars
from emu.verdicts.run_screen import show_run, show_run_comparison
from emu.verdicts.screen import show_judgements

if TYPE_CHECKING:
    import polars

MEANINGS = {  # where Python has other words than the command line
    "scenario": "A shipped scenario's name, a file, or its tables as a dictionary.",
    "settings": "Keys of the scenario to change: {'vm.dirty_ratio': 5}, also nested; or KEY=VALUE texts.",
    "expect": "What should hold of the summary, 'outcome == progress'; one or several: see `expectations`, `ok`.",
    "as_posted": "Leave the patch's own bugs in: True for all that the revision was posted with, or [1, 8, 11].",
    "duration": "How long the run lasts, such as '30s'.",
    "realtime": REALTIME,
    "baseline": "Also run without floods and downloads, to tell what they cost.",
    "progress": "Show progress on stderr.",
    "jobs": "Policies at once, each in a process of its own; the results are the same.",
    "policies": "Rows of `emu policies`, a list of names, or 'all'.",
    "keep_verdicts": "Keep the log for `verdicts()`, in a temporary file that goes with the result.",
}


class RunOptions(TypedDict, total=False):
    """What `run` and `compare_runs` take beside the scenario; None is as if not given."""

    policy: str | None
    write: FilePath | None
    annotate: str | None
    log: FilePath | None
    log_rows: str | None
    report: FilePath | None
    plot: FilePath | None
    settings: Mapping[str, Any] | Texts | None
    expect: Texts | None
    duration: str | None
    seed: int | None
    as_posted: bool | str | Sequence[int] | None
    baseline: bool | None
    realtime: bool | Number | None
    engine: str | None
    progress: bool | None


class RunResult(Played):
    """How a run ended.  `summary` is the object that `emu run --json` prints; the attributes are parts of it."""

    @property
    def scenario(self) -> str:
        """What was run."""
        return str(self.summary["scenario"])

    @property
    def outcome(self) -> str:
        """What it came to: progress, degraded, LOCKUP or oops."""
        return str(self.summary["outcome"])

    @property
    def lockup(self) -> dict[str, Any] | None:
        """When it locked up, and the chain of who waits for whom; None: it did not."""
        found: dict[str, Any] | None = self.summary["lockup"]
        return found

    @property
    def block_io(self) -> dict[str, Any]:
        """Block I/O in figures."""
        return dict(self.summary["block_io"])

    @property
    def samples(self) -> dict[str, list[int]]:
        """The timeline: columns of counts since play started, `time_ns` among them."""
        return {name: list(values) for name, values in (self._run.samples or {}).items()}

    def timeline(self) -> "polars.DataFrame":
        """The samples as a frame.  Errors: UsageError when polars is missing."""
        import_polars("timeline()")
        import polars

        return polars.DataFrame(self.samples)

    def verdicts(self) -> "polars.DataFrame":
        """A row per received packet: the log.  Errors: UsageError when it was not kept, or polars is missing."""
        return self._kept().scan().collect()

    def __repr__(self) -> str:
        """One line."""
        block = self.block_io
        return (
            f"<RunResult {self.scenario!r} under {self.policy}: {self.outcome}, "
            f"{block['writes_completed']} of {block['writes_issued']} writes, {block['mb_per_s']} MB/s>"
        )

    def _show(self, console: Console) -> None:
        show_run(console, self.summary)
        show_judgements(console, self.expectations)


class RunComparison(Compared[RunResult]):
    """The same run under several policies: a mapping from a policy's name to its result, in the order asked for."""

    def __init__(self, scenario: str, runs: Sequence[Run]) -> None:
        """Made by `compare_runs`."""
        super().__init__(runs, {run.policy: RunResult(run) for run in runs if run.builds})
        self.scenario = scenario

    @property
    def summary(self) -> dict[str, Any]:
        """The object that `emu compare SCENARIO --json` prints."""
        return {"scenario": self.scenario, "policies": {run.policy: run.printed() for run in self._runs}}

    def to_polars(self) -> "polars.DataFrame":
        """Outcome and block I/O, one row per policy.  Errors: UsageError when polars is missing."""
        return frame_of([_figures(result) for result in self.values()])

    def __repr__(self) -> str:
        """One line."""
        outcomes = ", ".join(f"{name} {result.outcome}" for name, result in self.items())
        return f"<RunComparison {self.scenario!r}: {outcomes}>"

    def _show(self, console: Console) -> None:
        show_run_comparison(console, self.scenario, [run.summary for run in self._runs])


def _figures(result: RunResult) -> dict[str, Any]:
    block, memalloc = result.block_io, result.summary["memalloc"]
    plain = {name: value for name, value in block.items() if not isinstance(value, Mapping)}
    latency = {f"latency_{name}_us": value for name, value in block["latency_us"].items()}
    critical = {"memalloc_received": memalloc["received"], "memalloc_dropped": memalloc["dropped"]}
    return {"policy": result.policy, "outcome": result.outcome} | plain | latency | critical


def run(
    scenario: FilePath | Mapping[str, Any], *, keep_verdicts: bool = False, **options: Unpack[RunOptions]
) -> RunResult:
    """Close the loop: block I/O whose memory comes back only with the packets it waits for, in virtual time.

    Memory is bounded however long it runs.  Errors: TypeError, UsageError; Interrupted on Ctrl-C.
    """
    with ExitStack() as until:
        command = _command("run", scenario, options, until)
        outputs, verdicts = Outputs(command.write, command.annotate, command.log, command.log_rows), None
        if outputs.log is not None:
            verdicts = Verdicts(outputs.log)
        elif keep_verdicts and find_spec("polars") is not None:
            verdicts = Verdicts()
            outputs = outputs._replace(log=verdicts.path)
        found = run_closed_once(command, outputs, watch_on_stderr(bool(command.progress)), say)
        write_pictures(command, [found])
    result = RunResult(found, verdicts)
    if found.interrupted:
        raise Interrupted(result)
    return result


def compare_runs(
    scenario: FilePath | Mapping[str, Any], *, policies: Texts = "all", jobs: int = 1, **options: Unpack[RunOptions]
) -> RunComparison:
    """Run the same scenario on the same seed under several policies.  Errors: as `run`."""
    with ExitStack() as until:
        command = _command("compare_runs", scenario, options, until)
        names = policies if isinstance(policies, str) else ",".join(policies)
        with bars(bool(command.progress)) as shown:
            runs, stopped = collected(run_closed_each(command, names, runs_in(shown), say, jobs=jobs))
        write_pictures(command, runs)
        result = RunComparison(scenario_name(command.scenario), runs)
    if stopped or any(each.interrupted for each in runs):
        raise Interrupted(result)
    return result


def _command(
    verb: str, scenario: FilePath | Mapping[str, Any], options: Mapping[str, Any], until: ExitStack
) -> RunCommand:
    if isinstance(scenario, Mapping):
        folder = until.enter_context(tempfile.TemporaryDirectory(prefix="emu-", ignore_cleanup_errors=True))
        path = Path(folder, "scenario")
        path.write_text(toml_text(scenario), encoding="utf-8")
        until.enter_context(_of_no_file())
        scenario = path
    return command_of(verb, RunCommand, {**options, "scenario": scenario})


@contextmanager
def _of_no_file() -> Iterator[None]:
    """What is wrong with a scenario that was given as a mapping has no file and no line."""
    try:
        yield
    except ScenarioError as error:
        raise ScenarioError(problem._replace(origin="scenario", line=0) for problem in error.problems) from None


described(run, RunCommand, MEANINGS)
described(compare_runs, RunCommand, MEANINGS)

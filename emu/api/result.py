"""What `replay` and `compare` return: figures as attributes, tables for a notebook, polars frames for the rest."""

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar, overload

from rich.console import Console

from emu.api.temporary import folder_of
from emu.errors import Exit, UsageError
from emu.kernel.drop_reason import REASONS
from emu.runs import Run
from emu.verdicts.chunks import polars_schema
from emu.verdicts.expect import Judgement
from emu.verdicts.log import import_polars
from emu.verdicts.screen import figure, show_comparison, show_judgements, show_summary

if TYPE_CHECKING:
    import polars

    from emu.api.floods import Flood
    from emu.api.runs import RunComparison, RunResult

WIDTH = 120  # characters of a table
PRE = '<pre style="white-space:pre;overflow-x:auto;line-height:normal">{code}</pre>'


class Fates(NamedTuple):
    """What became of the packets of some flows, in packets."""

    received: int
    delivered: int
    dropped: int

    @property
    def lost(self) -> float:
        """The share that was dropped, from 0 to 1; 0 of nothing."""
        return self.dropped / self.received if self.received else 0.0


class Verdicts:
    """A log file of verdicts: one that the caller asked for, or a temporary one that goes when nobody holds this."""

    def __init__(self, path: str | None = None) -> None:
        """The log at `path`; None: a place for a temporary one."""
        if path is None:
            path = str(Path(folder_of(self, "emu-verdicts-"), "verdicts.parquet"))
        self.path = path

    def scan(self) -> "polars.LazyFrame":
        """The log as a lazy frame.  Errors: UsageError when the file is gone."""
        import_polars("verdicts()")
        import polars

        if not Path(self.path).is_file():
            raise UsageError(f"{self.path}: the log is not there any more; replay again")
        suffix = Path(self.path).suffix.lower()
        if suffix == ".csv":
            return polars.scan_csv(self.path, schema=polars_schema())
        if suffix == ".jsonl":
            # From JSON polars reads few types; at others, such as enums, it panics.
            kinds = polars_schema()
            wider = {name: polars.String if kind == polars.Enum else kind for name, kind in kinds.items()}
            wider |= {name: polars.Int64 for name, kind in kinds.items() if kind == polars.Int8}
            rows = polars.scan_ndjson(self.path, schema=wider)
            return rows.with_columns(polars.col(name).cast(kind) for name, kind in kinds.items())
        return polars.scan_ipc(self.path) if suffix == ".arrow" else polars.scan_parquet(self.path)


R = TypeVar("R")


class Shown:
    """What a notebook, print() and the prompt show of an object that can be shown as tables."""

    def _show(self, console: Console) -> None:
        raise NotImplementedError(type(self))

    def __str__(self) -> str:
        """The tables that the command line prints."""
        return shown(self._show)

    def _repr_html_(self) -> str:
        return as_html(self._show)


class Played(Shown):
    """What has been played under one policy; `summary` is the object that the command prints with `--json`."""

    def __init__(self, run: Run, verdicts: Verdicts | None = None) -> None:
        """Made by `replay`, `run` and those that compare."""
        self._run = run
        self._verdicts = verdicts
        self.summary: dict[str, Any] = run.printed()

    @property
    def policy(self) -> str:
        """Under which policy."""
        return self._run.policy

    @property
    def expectations(self) -> tuple[Judgement, ...]:
        """What was expected under this policy, whether it holds, and what was found."""
        return self._run.judgements

    @property
    def exit_code(self) -> Exit:
        """What the command would have exited with."""
        return self._run.code

    @property
    def ok(self) -> bool:
        """Whether all expectations held, the input was sound, and the kernel lived; a lockup as such is a result."""
        return self._run.code == Exit.DONE

    def _kept(self) -> Verdicts:
        """The log.  Errors: UsageError when it was not kept, or polars is missing."""
        import_polars("verdicts()")
        if self._verdicts is None:
            raise UsageError("verdicts(): they were not kept; ask for keep_verdicts=True, or for log='NAME.parquet'")
        return self._verdicts

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled without its verdicts, which lie in a file of this process."""
        return type(self), (self._run,)


class ReplayResult(Played):
    """How a replay ended.  `summary` is the object that `emu replay --json` prints; the attributes are parts of it."""

    @property
    def capture(self) -> str:
        """What was played."""
        return str(self.summary["capture"])

    @property
    def frames(self) -> int:
        """Frames that were in the input, as far as it was played."""
        return int(self.summary["frames"])

    @property
    def received(self) -> int:
        """Packets for the host."""
        return int(self.summary["received"])

    @property
    def delivered(self) -> int:
        """Packets that survived."""
        return int(self.summary["delivered"])

    @property
    def dropped(self) -> int:
        """Packets that did not."""
        return int(self.summary["dropped"])

    @property
    def by_reason(self) -> dict[str, int]:
        """Dropped packets by drop reason (`emu explain`); reasons that did not occur are left out."""
        return dict(self.summary["drops_by_reason"])

    @property
    def memalloc(self) -> Fates:
        """The packets of flows that block I/O depends on."""
        return Fates(**self.summary["memalloc"])

    @property
    def other(self) -> Fates:
        """All other packets."""
        return Fates(**self.summary["other"])

    @property
    def duration_ns(self) -> int:
        """From the first frame to the last, ns."""
        return int(self.summary["duration_ns"])

    @property
    def findings(self) -> list[str]:
        """What a reader must know to read the figures right."""
        return list(self.summary["findings"])

    @property
    def damage(self) -> str | None:
        """What is wrong with the capture; what precedes it was played."""
        return self._run.damage

    @overload
    def verdicts(self, *, lazy: Literal[False] = False) -> "polars.DataFrame": ...

    @overload
    def verdicts(self, *, lazy: Literal[True]) -> "polars.LazyFrame": ...

    def verdicts(self, *, lazy: bool = False) -> "polars.DataFrame | polars.LazyFrame":
        """A row per received packet, and per later event: the log; its columns are those of `emu schema`.

        `lazy` reads from the disk what a query needs, for logs larger than memory; it must be collected while this
        result lives.  Errors: UsageError when verdicts were not kept, or polars is missing.
        """
        rows = self._kept().scan()
        return rows if lazy else rows.collect()

    def to_polars(self) -> "polars.DataFrame":
        """The main figures as one row.  Errors: UsageError when polars is missing."""
        return frame_of([_figures(self.summary)])

    def reasons(self) -> "polars.DataFrame":
        """Drops by reason: policy, reason, packets.  Errors: UsageError when polars is missing."""
        return _reasons([self])

    def __repr__(self) -> str:
        """One line."""
        memalloc = self.memalloc
        cut = f", {self.summary['incomplete']}" if self.summary["incomplete"] else ""
        return (
            f"<ReplayResult {self.capture!r} under {self.policy}: {figure(self.received)} received, "
            f"{figure(self.delivered)} delivered, {figure(self.dropped)} dropped; "
            f"memalloc {figure(memalloc.delivered)}/{figure(memalloc.received)}{cut}>"
        )

    def _show(self, console: Console) -> None:
        show_summary(console, self.summary)
        show_judgements(console, self.expectations)


class Compared(Shown, Mapping[str, R]):
    """The same under several policies: a mapping from a policy's name to its result, in the order asked for."""

    def __init__(self, runs: Sequence[Run], results: dict[str, R]) -> None:
        """Made by what compares: all runs, and the results of those whose kernel builds."""
        self._runs = tuple(runs)
        self.results = results
        self.not_built = {run.policy: str(run.summary["does_not_build"]) for run in runs if not run.builds}

    @property
    def exit_code(self) -> Exit:
        """What the command would have exited with: the worst of all."""
        return max(run.code for run in self._runs)

    @property
    def ok(self) -> bool:
        """Whether every run is `ok`."""
        return self.exit_code == Exit.DONE

    def __getitem__(self, policy: str) -> R:
        """The result under a policy."""
        return self.results[policy]

    def __iter__(self) -> Iterator[str]:
        """The policies' names."""
        return iter(self.results)

    def __len__(self) -> int:
        """How many policies were played."""
        return len(self.results)


class Comparison(Compared[ReplayResult]):
    """The same input under several policies: a mapping from a policy's name to its result, in the order asked for."""

    def __init__(self, runs: Sequence[Run], verdicts: Mapping[str, Verdicts] | None = None) -> None:
        """Made by `compare`."""
        kept = verdicts or {}
        super().__init__(runs, {run.policy: ReplayResult(run, kept.get(run.policy)) for run in runs if run.builds})

    @property
    def capture(self) -> str:
        """What was played."""
        return next(iter(self.results.values())).capture

    @property
    def summary(self) -> dict[str, Any]:
        """The object that `emu compare --json` prints."""
        return {"capture": self.capture, "policies": {run.policy: run.printed() for run in self._runs}}

    def to_polars(self) -> "polars.DataFrame":
        """The main figures, one row per policy.  Errors: UsageError when polars is missing."""
        return frame_of([_figures(result.summary) for result in self.values()])

    def reasons(self) -> "polars.DataFrame":
        """Drops by policy and reason: policy, reason, packets.  Errors: UsageError when polars is missing."""
        return _reasons(list(self.values()))

    def __repr__(self) -> str:
        """One line."""
        return f"<Comparison of {self.capture!r} under {', '.join(self)}>"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled without verdicts, as its results are."""
        return Comparison, (self._runs,)

    def _show(self, console: Console) -> None:
        show_comparison(console, self.capture, [run.summary for run in self._runs])
        for policy, result in self.items():
            show_judgements(console, [found._replace(text=f"{policy}: {found.text}") for found in result.expectations])


class Interrupted(KeyboardInterrupt):
    """Ctrl-C (or SIGTERM): the batch in progress was finished and outputs are closed.

    `result` is what was played, or the flood whose `report` says how far it was written.
    """

    def __init__(self, result: "ReplayResult | Comparison | RunResult | RunComparison | Flood") -> None:
        """The result says `incomplete`."""
        super().__init__(f"interrupted: {result!r}")
        self.result = result


def shown(show: Callable[[Console], None]) -> str:
    """Tables as text without colours."""
    console = Console(file=io.StringIO(), width=WIDTH, force_jupyter=False, force_terminal=False, color_system=None)
    show(console)
    return str(console.file.getvalue())  # type: ignore[attr-defined]


def as_html(show: Callable[[Console], None]) -> str:
    """The same tables as HTML; everything in them is escaped."""
    console = Console(file=io.StringIO(), width=WIDTH, force_jupyter=False, record=True)
    show(console)
    return console.export_html(inline_styles=True, code_format=PRE)


def _figures(summary: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of `to_polars`."""
    devices = summary["devices"].values()
    row = {name: summary[name] for name in ("capture", "policy", "frames", "received", "delivered", "dropped")}
    for flows in ("memalloc", "other"):
        row |= {f"{flows}_{name}": count for name, count in summary[flows].items()}
    return row | {
        "reserve_allocations": sum(device["reserve_allocations"] for device in devices),
        "rx_reserve_used_max": max(device["rx_reserve_used_max"] for device in devices),
        "rx_missed": sum(device["rx_missed"] for device in devices),
        "free_pages_min": summary["memory"]["free_pages_min"],
        "in_flight": summary["in_flight"],
        "oops": summary["oops"],
        "duration_ns": summary["duration_ns"],
    }


def frame_of(rows: Sequence[Any], columns: Mapping[str, type] | None = None) -> "polars.DataFrame":
    """Rows as a polars frame.  Errors: UsageError when polars is missing."""
    import_polars("to_polars()")
    import polars

    return polars.DataFrame(rows, schema=columns, orient="row", infer_schema_length=None)


def _reasons(results: Sequence[ReplayResult]) -> "polars.DataFrame":
    import_polars("reasons()")
    import polars

    rows = [
        (result.policy, reason.name, result.by_reason[reason.name])
        for result in results
        for reason in REASONS
        if reason.name in result.by_reason
    ]
    schema = {"policy": polars.String, "reason": polars.String, "packets": polars.Int64}
    return polars.DataFrame(rows, schema=schema, orient="row")

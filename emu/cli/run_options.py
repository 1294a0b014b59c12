"""The options of `emu run`, and those that it shares with `emu compare` of a run."""

from dataclasses import dataclass
from typing import Annotated

import typer

from emu.cli import meanings
from emu.cli.options import (
    Annotate,
    AsPosted,
    CompareCommand,
    EngineName,
    Expect,
    Json,
    Log,
    LogRows,
    Progress,
    Realtime,
    Settings,
    Write,
)

Report = Annotated[
    str | None,
    typer.Option(
        "--report", metavar="FILE.html", help="Write an interactive report of a run: one file, works offline."
    ),
]
Plot = Annotated[
    str | None, typer.Option("--plot", metavar="FILE.png|.svg", help="Write the timeline of a run as a picture.")
]
Duration = Annotated[str | None, typer.Option("--for", metavar="TIME", help=meanings.DURATION)]
Seed = Annotated[int | None, typer.Option("--seed", metavar="N", min=0, help=meanings.SEED)]
Baseline = Annotated[
    bool,
    typer.Option(
        "--baseline/--no-baseline", help="Also run without floods and downloads, to tell what they cost (default: yes)."
    ),
]


@dataclass(frozen=True, kw_only=True)
class RunCommand:
    """What `emu run` takes."""

    scenario: Annotated[str, typer.Argument(metavar="SCENARIO", help=meanings.SCENARIO_OF_RUN)]
    policy: Annotated[str | None, typer.Option("--policy", metavar="NAME", help=meanings.POLICY_OF_RUN)] = None
    write: Write = None
    annotate: Annotate = "drops"
    log: Log = None
    log_rows: LogRows = "all"
    json: Json = False
    report: Report = None
    plot: Plot = None
    settings: Settings = None
    expect: Expect = None
    duration: Duration = None
    seed: Seed = None
    as_posted: AsPosted = None
    baseline: Baseline = True
    realtime: Realtime = None
    engine: EngineName = "auto"
    progress: Progress = None


@dataclass(frozen=True, kw_only=True)
class CompareVerb(CompareCommand):
    """What `emu compare` takes: captures, or one scenario of the closed loop and what is said of its runs."""

    report: Report = None
    plot: Plot = None
    duration: Duration = None
    seed: Seed = None
    baseline: Baseline = True

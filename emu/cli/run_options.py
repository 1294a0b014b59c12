"""The options of `emu run`, and those that it shares with `emu compare` of a run."""

from dataclasses import dataclass
from typing import Annotated

import typer

from emu.cli.options import CompareCommand, Json

Report = Annotated[
    str | None,
    typer.Option(
        "--report", metavar="FILE.html", help="Write an interactive report of a run: one file, works offline."
    ),
]
Plot = Annotated[
    str | None, typer.Option("--plot", metavar="FILE.png|.svg", help="Write the timeline of a run as a picture.")
]
Duration = Annotated[str | None, typer.Option("--for", metavar="TIME", help="How long a run lasts, such as 30s.")]
Seed = Annotated[int | None, typer.Option("--seed", metavar="N", min=0, help="The seed of a run.")]
Baseline = Annotated[
    bool,
    typer.Option(
        "--baseline/--no-baseline", help="Also run without floods and downloads, to tell what they cost (default: yes)."
    ),
]


@dataclass(frozen=True, kw_only=True)
class RunCommand:
    """What `emu run` takes."""

    scenario: Annotated[
        str, typer.Argument(metavar="SCENARIO", help="A shipped scenario's name (emu scenarios), or a file.")
    ]
    policy: Annotated[
        str | None, typer.Option("--policy", metavar="NAME", help="A row of `emu policies` (default: the scenario's).")
    ] = None
    write: Annotated[
        str | None,
        typer.Option("-w", "--write", metavar="FILE|-", help="Write the annotated pcapng: every frame, its verdict."),
    ] = None
    annotate: Annotated[
        str, typer.Option("--annotate", metavar="drops|all", help="Which frames of it get a comment.")
    ] = "drops"
    log: Annotated[
        str | None,
        typer.Option("--log", metavar="FILE", help="Write a row per received packet: .parquet .arrow .csv .jsonl"),
    ] = None
    log_rows: Annotated[
        str,
        typer.Option("--log-rows", metavar="all|drops", help="Which rows the log has; drops: and later events."),
    ] = "all"
    json: Json = False
    report: Report = None
    plot: Plot = None
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change one key of the scenario; repeatable."),
    ] = None
    expect: Annotated[
        list[str] | None,
        typer.Option("--expect", metavar="EXPR", help="Fail (exit 1) unless this holds of the summary; repeatable."),
    ] = None
    duration: Duration = None
    seed: Seed = None
    as_posted: Annotated[
        str | None,
        typer.Option(
            "--as-posted",
            metavar="[=LIST]",
            help="Leave the patch's own bugs in: all that the revision was posted with, or =1,8,11 (emu bugs).",
        ),
    ] = None
    baseline: Baseline = True
    engine: Annotated[
        str,
        typer.Option("--engine", metavar="auto|compiled|plain", help="How the machine runs; results are identical."),
    ] = "auto"
    progress: Annotated[
        bool | None, typer.Option("--progress/--no-progress", help="Show progress on stderr (default: on a terminal).")
    ] = None


@dataclass(frozen=True, kw_only=True)
class CompareVerb(CompareCommand):
    """What `emu compare` takes: captures, or one scenario of the closed loop and what is said of its runs."""

    report: Report = None
    plot: Plot = None
    duration: Duration = None
    seed: Seed = None
    baseline: Baseline = True

"""The options of the verbs that play captures, each declared once: what it is called, what it does, its default.

`verb` makes a command of such a class, so that help, parser and the code that reads the options see one table.
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from emu.cli import meanings
from emu.cli.rewrite_options import RewriteOptions

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help=f"{meanings.SETTINGS}; repeatable."),
]
Expect = Annotated[
    list[str] | None,
    typer.Option("--expect", metavar="EXPR", help="Fail (exit 1) unless this holds of the summary; repeatable."),
]
AsPosted = Annotated[
    str | None,
    typer.Option(
        "--as-posted",
        metavar="[=LIST]",
        help="Leave the patch's own bugs in: all that the revision was posted with, or =1,8,11 (emu bugs).",
    ),
]
Write = Annotated[
    str | None,
    typer.Option("-w", "--write", metavar="FILE|-", help="Write the annotated pcapng: every frame, its verdict."),
]
Annotate = Annotated[str, typer.Option("--annotate", metavar="drops|all", help=meanings.ANNOTATE)]
Log = Annotated[
    str | None,
    typer.Option("--log", metavar="FILE", help="Write a row per received packet: .parquet .arrow .csv .jsonl"),
]
LogRows = Annotated[
    str,
    typer.Option("--log-rows", metavar="all|drops", help="Which rows the log has; drops: and later events."),
]
EngineName = Annotated[
    str,
    typer.Option("--engine", metavar="auto|compiled|plain", help=meanings.ENGINE),
]
Realtime = Annotated[
    str | None,
    typer.Option(
        "--realtime",
        metavar="[=X]",
        help=meanings.REALTIME,
    ),
]
Progress = Annotated[
    bool | None, typer.Option("--progress/--no-progress", help="Show progress on stderr (default: on a terminal).")
]


@dataclass(frozen=True, kw_only=True)
class PlayCommand(RewriteOptions):
    """What every verb takes that plays captures."""

    capture: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[CAPTURE]...",
            help="Captures, merged by time: pcap or pcapng, plain or compressed; `-` reads standard input.",
        ),
    ] = None
    device: Annotated[
        list[str] | None,
        typer.Option("--device", metavar="NAME=FILE", help="A capture of one device; repeatable, merged by time."),
    ] = None
    json: Json = False
    scenario: Annotated[Path | None, typer.Option("--scenario", metavar="FILE.toml", help=meanings.SCENARIO)] = None
    flood: Annotated[
        list[str] | None,
        typer.Option(
            "--flood",
            metavar="KIND:KEY=VALUE,...",
            help=f"{meanings.FLOOD}; repeatable.",
        ),
    ] = None
    settings: Settings = None
    expect: Expect = None
    as_posted: AsPosted = None
    host: Annotated[str | None, typer.Option("--host", metavar="IP|MAC", help=meanings.HOST)] = None
    memalloc: Annotated[
        str | None,
        typer.Option(
            "--memalloc",
            metavar="EXPR",
            help=meanings.MEMALLOC,
        ),
    ] = None
    closed: Annotated[
        str | None,
        typer.Option("--closed", metavar="EXPR", help="Ports of the host where nothing listens; the same grammar."),
    ] = None
    speed: Annotated[str | None, typer.Option("--speed", metavar="X", help=meanings.SPEED)] = None
    pps: Annotated[
        str | None, typer.Option("--pps", metavar="N", help="Play at N packets per second (200k, 1.5M).")
    ] = None
    mbps: Annotated[
        str | None,
        typer.Option("--mbps", metavar="N", help="Play at N Mbit/s, counting 24 bytes of framing per frame."),
    ] = None
    limit: Annotated[int | None, typer.Option("--limit", min=1, metavar="N", help="Stop after N frames.")] = None
    filter: Annotated[
        str | None,
        typer.Option(
            "--filter", metavar="BPF", help="Only frames that match arrive (tcpdump's syntax); others are counted."
        ),
    ] = None
    offload: Annotated[
        str | None,
        typer.Option("--offload", metavar="split|drop|jumbo", help="What to do with frames longer than the MTU."),
    ] = None
    checksums: Annotated[
        str | None,
        typer.Option(
            "--checksums", metavar="auto|verify|trust", help="Believe unfinished checksums, verify, or trust all."
        ),
    ] = None
    retransmit: Annotated[
        bool,
        typer.Option(
            "--retransmit",
            help="Dropped segments of memalloc flows come again after 200 ms, then doubling, and leave no filled hole.",
        ),
    ] = False
    engine: EngineName = "auto"
    progress: Progress = None


@dataclass(frozen=True, kw_only=True)
class ReplayCommand(PlayCommand):
    """What `emu replay` takes."""

    write: Write = None
    annotate: Annotate = "drops"
    log: Log = None
    log_rows: LogRows = "all"
    policy: Annotated[str | None, typer.Option("--policy", metavar="NAME", help=meanings.POLICY_OF_REPLAY)] = None
    events: Annotated[
        str | None,
        typer.Option("--events", metavar="FILE", help="Take polls, reads and memory changes from a recording."),
    ] = None
    record_events: Annotated[
        str | None, typer.Option("--record-events", metavar="FILE", help="Record the machine's event stream.")
    ] = None
    report: Annotated[
        str | None,
        typer.Option(
            "--report", metavar="FILE.html", help="Write a report to read in a browser: one file, works offline."
        ),
    ] = None
    realtime: Realtime = None


@dataclass(frozen=True, kw_only=True)
class CompareCommand(PlayCommand):
    """What `emu compare` takes."""

    policies: Annotated[
        str, typer.Option("--policies", metavar="NAMES", help="Rows of `emu policies`, comma-separated, or all.")
    ] = "all"
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs",
            metavar="N",
            help="Policies at once, each in a process of its own (default: a core each where that is sooner); "
            "the results are the same.",
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class StepCommand(PlayCommand):
    """What `emu step` takes."""

    policy: Annotated[str | None, typer.Option("--policy", metavar="NAME", help=meanings.POLICY_OF_REPLAY)] = None
    plain: Annotated[bool, typer.Option("--plain", help="Print every packet's panel instead of waiting for keys.")] = (
        False
    )


def verb(command: type[Any], run: Callable[[Any], None], about: str) -> Callable[..., None]:
    """A function whose parameters are the fields of a command, as typer wants to see them; it runs `run`."""
    parameters = parameters_of(command)

    def call(**given: Any) -> None:
        run(command(**given))

    call.__doc__ = about
    return with_parameters(call, parameters)


def parameters_of(command: type[Any]) -> list[inspect.Parameter]:
    """The fields of a command as parameters that typer makes options of."""
    hints = get_type_hints(command, include_extras=True)
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if field.default is MISSING else field.default,
            annotation=hints[field.name],
        )
        for field in fields(command)
    ]


def with_parameters(call: Callable[..., None], parameters: Sequence[inspect.Parameter]) -> Callable[..., None]:
    """A function of keywords, such that typer takes these for its parameters."""
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return call

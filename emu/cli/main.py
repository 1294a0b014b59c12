"""The command line: verbs, exit codes, and nothing imported before its verb is used."""

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from emu import __version__
from emu.errors import EmuError, Exit

HELP = """\
Replay a capture through an emulated kernel receive path that is short of memory: which packets survive, and why.

Exit codes: 0 done and all expectations held; 1 an expectation failed; 2 bad command or scenario; 3 capture unreadable
or damaged (what was read is reported); 4 nothing to play; 130 interrupted.
"""

app = typer.Typer(
    help=HELP,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]
Captures = "A capture: pcap or pcapng, plain, gzip or zstd; `-` reads standard input."
ScenarioFile = Annotated[Path | None, typer.Option("--scenario", metavar="FILE.toml", help="The experiment as data.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change one key of the scenario; repeatable."),
]
Expectations = Annotated[
    list[str] | None,
    typer.Option("--expect", metavar="EXPR", help="Fail (exit 1) unless this holds of the summary; repeatable."),
]
HostOption = Annotated[
    str | None, typer.Option("--host", metavar="IP|MAC", help="Which end of the capture is the host.")
]
Memalloc = Annotated[
    str | None,
    typer.Option(
        "--memalloc",
        metavar="EXPR",
        help="Flows that block I/O depends on, seen from the remote end: tcp|udp [host A] [port N] [or ...], or "
        "iscsi (default), nbd, nvme-tcp, nfs, none.",
    ),
]
Closed = Annotated[
    str | None,
    typer.Option("--closed", metavar="EXPR", help="Ports of the host where nothing listens; the same grammar."),
]
AsPosted = Annotated[
    str | None,
    typer.Option(
        "--as-posted",
        metavar="[=LIST]",
        help="Leave the patch's own bugs in: all that the revision was posted with, or =1,8,11 (emu bugs).",
    ),
]
Speed = Annotated[str | None, typer.Option("--speed", metavar="X", help="Play X times as fast as captured.")]
Pps = Annotated[str | None, typer.Option("--pps", metavar="N", help="Play at N packets per second (200k, 1.5M).")]
Mbps = Annotated[
    str | None,
    typer.Option("--mbps", metavar="N", help="Play at N Mbit/s, counting 24 bytes of framing per frame."),
]
Limit = Annotated[int | None, typer.Option("--limit", min=1, metavar="N", help="Stop after N frames.")]
Filter = Annotated[
    str | None,
    typer.Option(
        "--filter", metavar="BPF", help="Only frames that match arrive (tcpdump's syntax); others are counted."
    ),
]
Offload = Annotated[
    str | None,
    typer.Option("--offload", metavar="split|drop|jumbo", help="What to do with frames longer than the MTU."),
]
Checksums = Annotated[
    str | None,
    typer.Option(
        "--checksums", metavar="auto|verify|trust", help="Believe unfinished checksums, verify, or trust all."
    ),
]
EngineOption = Annotated[
    str, typer.Option("--engine", metavar="auto|compiled|plain", help="How the machine runs; results are identical.")
]
Progress = Annotated[
    bool | None, typer.Option("--progress/--no-progress", help="Show progress on stderr (default: on a terminal).")
]


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"emu {__version__}")
        raise typer.Exit


@app.callback()
def _emu(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command(
    epilog="Examples:  emu replay pcaps/mixed.pcap -w verdicts.pcapng --log verdicts.parquet   |   "
    "emu replay - --policy linux-2.6.12 --json < capture.pcapng.zst"
)
def replay(
    capture: Annotated[str, typer.Argument(help=Captures)],
    write: Annotated[
        str | None,
        typer.Option("-w", "--write", metavar="FILE|-", help="Write the annotated pcapng: every frame, its verdict."),
    ] = None,
    annotate: Annotated[
        str, typer.Option("--annotate", metavar="drops|all", help="Which frames of it get a comment.")
    ] = "drops",
    log: Annotated[
        str | None,
        typer.Option("--log", metavar="FILE", help="Write a row per received packet: .parquet .arrow .csv .jsonl"),
    ] = None,
    log_rows: Annotated[
        str, typer.Option("--log-rows", metavar="all|drops", help="Which packets the log holds.")
    ] = "all",
    json: Json = False,
    policy: Annotated[
        str | None, typer.Option("--policy", metavar="NAME", help="A row of `emu policies` (default phillips-v5).")
    ] = None,
    as_posted: AsPosted = None,
    scenario: ScenarioFile = None,
    set_: Settings = None,
    expect: Expectations = None,
    host: HostOption = None,
    memalloc: Memalloc = None,
    closed: Closed = None,
    speed: Speed = None,
    pps: Pps = None,
    mbps: Mbps = None,
    limit: Limit = None,
    filter_: Filter = None,
    offload: Offload = None,
    checksums: Checksums = None,
    events: Annotated[
        str | None,
        typer.Option("--events", metavar="FILE", help="Take polls, reads and memory changes from a recording."),
    ] = None,
    record_events: Annotated[
        str | None, typer.Option("--record-events", metavar="FILE", help="Record the machine's event stream.")
    ] = None,
    engine: EngineOption = "auto",
    progress: Progress = None,
) -> None:
    """Take a capture through the emulated receive path and say of every packet whether it survives, and why."""
    from emu.cli.replay import ReplayCommand, run_replay

    command = ReplayCommand(
        capture=capture,
        write=write,
        annotate=annotate,
        log=log,
        log_rows=log_rows,
        json=json,
        policy=policy,
        as_posted=as_posted,
        scenario=scenario,
        settings=set_ or [],
        expect=expect or [],
        host=host,
        memalloc=memalloc,
        closed=closed,
        speed=speed,
        pps=pps,
        mbps=mbps,
        limit=limit,
        filter=filter_,
        offload=offload,
        checksums=checksums,
        events=events,
        record_events=record_events,
        engine=engine,
        progress=progress,
    )
    _leave(run_replay, command)


@app.command(epilog="Example:  emu compare pcaps/mixed.pcap --policies linux-2.6.12,reserve-only,phillips-v5,mainline")
def compare(
    capture: Annotated[str, typer.Argument(help=Captures)],
    policies: Annotated[
        str, typer.Option("--policies", metavar="NAMES", help="Rows of `emu policies`, comma-separated, or all.")
    ] = "all",
    json: Json = False,
    as_posted: AsPosted = None,
    scenario: ScenarioFile = None,
    set_: Settings = None,
    expect: Expectations = None,
    host: HostOption = None,
    memalloc: Memalloc = None,
    closed: Closed = None,
    speed: Speed = None,
    pps: Pps = None,
    mbps: Mbps = None,
    limit: Limit = None,
    filter_: Filter = None,
    offload: Offload = None,
    checksums: Checksums = None,
    engine: EngineOption = "auto",
    progress: Progress = None,
) -> None:
    """Replay one capture under several policies: who survives under which."""
    from emu.cli.compare import run_compare
    from emu.cli.replay import ReplayCommand

    command = ReplayCommand(
        capture=capture,
        json=json,
        as_posted=as_posted,
        scenario=scenario,
        settings=set_ or [],
        expect=expect or [],
        host=host,
        memalloc=memalloc,
        closed=closed,
        speed=speed,
        pps=pps,
        mbps=mbps,
        limit=limit,
        filter=filter_,
        offload=offload,
        checksums=checksums,
        engine=engine,
        progress=progress,
    )
    _leave(run_compare, command, policies)


@app.command("policies", epilog="Examples:  emu policies   |   emu policies phillips-v3")
def list_policies(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Only these policies, in whole sentences.")
    ] = None,
    json: Json = False,
) -> None:
    """Show the table of policies, rule by rule."""
    from emu.cli.policies import policies

    _leave(policies, names or [], json)


@app.command("bugs", epilog="Examples:  emu bugs   |   emu explain bug 11   |   emu replay CAPTURE --as-posted=11")
def list_bugs(json: Json = False) -> None:
    """Show the bugs that the patch of 2005 was posted with, and which revisions have them."""
    from emu.cli.bugs import bugs

    _leave(bugs, json)


@app.command(epilog="Examples:  emu explain PFMEMALLOC   |   emu explain DEVICE_CAP   |   emu explain bug 11")
def explain(
    words: Annotated[
        list[str],
        typer.Argument(metavar="REASON|CAUSE|bug N", help="A drop reason or a cause, such as PFMEMALLOC, or a bug."),
    ],
    json: Json = False,
) -> None:
    """Say what a drop reason, a cause or a bug of the patch means, where it is decided, and which policies have it."""
    from emu.cli.explain import explain as run_explain

    _leave(run_explain, " ".join(words), json)


@app.command("schema")
def show_schema(json: Json = False) -> None:
    """Print the columns of the log."""
    from emu.cli.schema import schema

    _leave(schema, json)


@app.command(epilog="Example:  emu check traces/e1000e_61")
def check(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="packets.csv.gz, summary.json, run.json of a traced run.")
    ],
    json: Json = False,
) -> None:
    """Hold the mainline policy against a real kernel's packet-by-packet trace."""
    from emu.cli.check import check as run_check

    _leave(run_check, directory, json)


class _Interrupted(EmuError):  # noqa: N818 - typer would turn a KeyboardInterrupt into an exit without a word
    exit_code = Exit.INTERRUPTED


def _leave(verb: Callable[..., int], *arguments: Any) -> None:
    try:
        code = verb(*arguments)
    except KeyboardInterrupt:
        raise _Interrupted("interrupted") from None
    raise typer.Exit(code)


def _say(line: str) -> None:
    print(f"emu: {line}", file=sys.stderr)


def _misused(error: Any) -> None:
    """Say what the command line's own parser found; click's exceptions, whichever package brings them."""
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
    else:
        _say(f"{' '.join(error.format_message().split())} (emu --help)")


def arguments(words: list[str]) -> list[str]:
    """The command line with `--as-posted` alone spelt out as `--as-posted=all`: typer has no optional values."""
    end = words.index("--") if "--" in words else len(words)
    return ["--as-posted=all" if word == "--as-posted" else word for word in words[:end]] + words[end:]


def main() -> None:
    """Run the command line; whatever goes wrong is one line and an exit code."""
    try:
        _quit(app(arguments(sys.argv[1:]), prog_name="emu", standalone_mode=False) or Exit.DONE)
    except EmuError as error:
        from emu.capture.output import ClosedPipe

        if not isinstance(error, ClosedPipe):
            _say(str(error))
        _quit(error.exit_code)
    except KeyboardInterrupt:
        _say("interrupted")
        _quit(Exit.INTERRUPTED)
    except BrokenPipeError:
        _quit(Exit.EXPECTATION_FAILED)
    except MemoryError:
        _say("out of memory")
        _quit(Exit.USAGE)
    except OSError as error:
        _say(str(error))
        _quit(Exit.USAGE)
    except Exception as error:
        if hasattr(error, "format_message"):
            _misused(error)
            _quit(Exit.USAGE)
        if os.environ.get("EMU_DEBUG"):
            raise
        _say(f"this is a bug of emu, please report it: {type(error).__name__}: {error} (EMU_DEBUG=1 shows where)")
        _quit(Exit.EXPECTATION_FAILED)


def _quit(code: int) -> None:
    with suppress(OSError, ValueError):  # nobody reads it any more
        sys.stdout.flush()
    sys.exit(int(code))


def run() -> None:
    """The program: `main`, then out at once.

    A log that was given up may leave threads of polars behind, which abort an interpreter that goes away slowly; and
    what is left in the buffer of a closed pipe must not raise again.
    """
    code = int(Exit.DONE)
    try:
        main()
    except SystemExit as leaving:
        code = int(leaving.code or 0)
    with suppress(OSError, ValueError):
        sys.stderr.flush()
    os._exit(code)

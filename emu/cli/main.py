"""The command line: verbs, exit codes, and nothing imported before its verb is used."""

import inspect
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from emu import __version__
from emu.cli.diff_options import DiffCommand
from emu.cli.export_options import ExportCommand
from emu.cli.live_options import LiveCommand, LiveDemoCommand
from emu.cli.named_output import NamedOutput
from emu.cli.options import Json, ReplayCommand, StepCommand, parameters_of, verb, with_parameters
from emu.cli.report_options import ReportCommand
from emu.cli.run_options import CompareVerb, RunCommand
from emu.cli.show_options import ShowCommand
from emu.errors import EmuError, Exit, InterruptedEarlyError, UsageError

HELP = """\
Replay a capture through an emulated kernel receive path that is short of memory: which packets survive, and why.

Exit codes: 0 done and all expectations held; 1 an expectation failed, or an oops that nobody asked for; 2 bad command
or scenario; 3 capture unreadable or damaged (what was read is reported); 4 nothing to play; 130 interrupted.
"""

_ended: list[int] = []  # with which code a verb has ended: what there was to say is said
ALONE = {"--as-posted": "all", "--realtime": "1"}  # what an option means that is given without a value

app = typer.Typer(
    help=HELP,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


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


def _replay(command: ReplayCommand) -> None:
    from emu.cli.replay import run_replay

    _leave(run_replay, command)


def _run(command: RunCommand) -> None:
    from emu.cli.run import run_run

    _leave(run_run, command)


def _compare(command: CompareVerb) -> None:
    from emu.cli.compare import run_compare

    _leave(run_compare, command)


def _step(command: StepCommand) -> None:
    from emu.cli.step import run_step

    _leave(run_step, command)


def _show(command: ShowCommand) -> None:
    from emu.cli.show import run_show

    _leave(run_show, command)


def _diff(command: DiffCommand) -> None:
    from emu.cli.diff import run_diff

    _leave(run_diff, command)


def _export(command: ExportCommand) -> None:
    from emu.cli.export import run_export

    _leave(run_export, command)


def _report(command: ReportCommand) -> None:
    from emu.cli.report import run_report

    _leave(run_report, command)


app.command(
    "replay",
    epilog="Examples:  emu replay pcaps/mixed.pcap -w verdicts.pcapng --log verdicts.parquet   |   "
    "emu replay --device eth0=a.pcap --device eth1=b.pcapng.zst   |   emu replay - --json < capture.pcapng",
)(
    verb(
        ReplayCommand,
        _replay,
        "Take a capture through the emulated receive path and say of every packet whether it survives, and why.",
    )
)
app.command(
    "run",
    epilog="Examples:  emu run deadlock --policy linux-2.6.12   |   emu run deadlock -w out.pcapng "
    "--report out.html   |   emu run my.toml --for 5s --json",
)(
    verb(
        RunCommand,
        _run,
        "Close the loop: block I/O whose memory comes back only with the packets it waits for, under download and "
        "flood, in virtual time; say whether it locks up, and who waits for whom.",
    )
)
app.command(
    "compare",
    epilog="Examples:  emu compare pcaps/mixed.pcap --policies linux-2.6.12,reserve-only,phillips-v5,mainline   |   "
    "emu compare deadlock --report debate.html",
)(
    verb(
        CompareVerb,
        _compare,
        "Replay one capture, or run one scenario of the closed loop (its name or file), under several policies.",
    )
)


app.command(
    "step", epilog="Examples:  emu step five-packets   |   emu step pcaps/mixed.pcap --policy phillips-v3 --plain"
)(
    verb(
        StepCommand,
        _step,
        "Go through a capture, or a scenario by its name, packet by packet: pages, ring, queues, the rule that fires.",
    )
)


app.command(
    "show",
    epilog="Examples:  emu show verdicts.pcapng --drops --reason PFMEMALLOC --flow 10.66.0.1:3260   |   "
    "emu show verdicts.parquet --frame 4711",
)(verb(ShowCommand, _show, "Show the packets of a log or an annotated capture; one of them in words with --frame."))
app.command(
    "diff",
    epilog="Examples:  emu diff a.parquet b.parquet   |   emu diff a.pcapng b.parquet --memalloc   |   "
    "emu diff part.pcapng whole.pcapng --by packet_id",
)(
    verb(
        DiffCommand,
        _diff,
        "Say which packets changed fate between two runs over the same frames, and where they first diverge. "
        "Exit code, as of diff: 0 when every fate is the same, 1 when one is another.",
    )
)
app.command(
    "export",
    epilog="Examples:  emu export verdicts.pcapng --format net_dm -w drops.netlink.pcap   |   "
    "emu export verdicts.parquet --format kfree_skb",
)(verb(ExportCommand, _export, "Write verdicts as other tools know them: net_dm, kfree_skb, JSON lines, captures."))
app.command("report", epilog="Example:  emu report verdicts.parquet -w report.html")(
    verb(ReportCommand, _report, "Make an HTML report of a log or an annotated capture.")
)


@app.command(
    "flood",
    add_help_option=False,  # the kinds' own parser answers, which is made when it is needed
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "allow_interspersed_args": False},
    epilog="Examples:  emu flood --list   |   emu flood udp --count 3000 --seed 5 -w a.pcapng",
)
def flood(context: typer.Context) -> None:
    """Craft traffic: floods and sessions of many kinds (emu flood --list), as a capture."""

    def run(words: list[str]) -> int:
        from emu.cli.flood import run_command_line

        return run_command_line(words)

    _leave(run, context.args)


@app.command(epilog="Example:  emu warmup")
def warmup(json: Json = False) -> None:
    """Compile all of the compiled engine now, once for this version and CPU, instead of when it is first used."""
    from emu.cli.warmup import warmup as run_warmup

    _leave(run_warmup, json)


scenarios = typer.Typer(
    help="List the scenarios that come with emu; check scenario files, show them complete, print what they may say.",
    invoke_without_command=True,
    rich_markup_mode=None,
)
app.add_typer(scenarios, name="scenarios")


@scenarios.callback()
def list_scenarios(context: typer.Context, json: Json = False) -> None:
    """List the scenarios that come with emu, and why; check files, show one complete, print what they may say."""
    if context.invoked_subcommand is not None:
        if json:
            raise UsageError("emu scenarios --json: lists the shipped ones; the other verbs have --json behind them")
        return
    from emu.cli.scenarios import list_shipped

    _leave(list_shipped, json)


@scenarios.command("check", epilog="Example:  emu scenarios check experiments/*.toml")
def check_scenarios(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Scenario files, or names of shipped ones.")],
    json: Json = False,
) -> None:
    """Name every problem of every file, with its line and key (exit 2), or each file's checksum."""
    from emu.cli.scenarios import check

    _leave(check, files, json)


@scenarios.command("schema")
def scenario_schema(json: Json = False) -> None:
    """Print every key of a scenario: type, range, unit, default, meaning."""
    from emu.cli.scenarios import schema

    _leave(schema, json)


@scenarios.command("show")
def show_scenario(
    file: Annotated[Path, typer.Argument(metavar="NAME|FILE", help="A shipped scenario, or a file.")],
    json: Json = False,
) -> None:
    """Print the complete scenario, defaults included, as TOML."""
    from emu.cli.scenarios import show

    _leave(show, file, json)


live = typer.Typer(
    help="The emulated NIC between two real interfaces: what it drops, the real stacks never get.",
    invoke_without_command=True,
    rich_markup_mode=None,
    epilog="Examples:  sudo emu live demo   |   sudo emu live --host-if emu0 --wire-if emu1 -w live.pcapng   |   "
    "emu live status",
)
app.add_typer(live, name="live")


def _live(context: typer.Context, **given: Any) -> None:
    """Be a NIC: frames from one interface go through the emulated receive path, survivors to the other."""
    if context.invoked_subcommand is not None:
        return
    from emu.cli.live import run_live

    _leave(run_live, LiveCommand(**given))


_context = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
live.callback()(with_parameters(_live, [_context, *parameters_of(LiveCommand)]))


def _live_demo(command: LiveDemoCommand) -> None:
    from emu.cli.live_demo import run_live_demo

    _leave(run_live_demo, command)


live.command(
    "demo",
    epilog="Examples:  sudo emu live demo   |   sudo emu live demo --policies linux-2.6.12,mainline --out demo --json",
)(
    verb(
        LiveDemoCommand,
        _live_demo,
        "Lock real block I/O up and cure it: a real iSCSI target and initiator in namespaces of their own, a flood and "
        "a download, the emulated NIC between them, under one policy after the other.",
    )
)


@live.command("status", epilog="Examples:  emu live status   |   emu live status --once   |   emu live status --json")
def live_status(
    once: Annotated[bool, typer.Option("--once", help="Print one picture instead of following.")] = False,
    json: Json = False,
) -> None:
    """Show the live runs of this machine: the real host on the left, the emulated one on the right."""
    from emu.live.status.status import status_json, status_screen

    if json:
        _leave(status_json)
    _leave(lambda: status_screen(once=once))


wireshark = typer.Typer(
    help="Bring emu's plugin, profile and capture interface into your own folders of Wireshark, and take them back.",
    no_args_is_help=True,
    rich_markup_mode=None,
    epilog="Then:  wireshark -C emu verdicts.pcapng",
)
app.add_typer(wireshark, name="wireshark")
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]


@wireshark.command(
    "install", epilog="Examples:  emu wireshark install   |   emu wireshark install --only profile --dry-run"
)
def install_wireshark(
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="plugin|profile|extcap", help="Only this part (default: all); repeatable."),
    ] = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Install them, or bring them up to date; say what went where. Files of others are never overwritten."""
    from emu.cli.wireshark import run_install

    _leave(run_install, only or [], dry_run, json)


@wireshark.command("uninstall", epilog="Example:  emu wireshark uninstall")
def uninstall_wireshark(
    purge: Annotated[
        bool,
        typer.Option("--purge", help="Also what was changed since, and what Wireshark has put into the profile."),
    ] = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Take back exactly what install has written; what was changed since is kept, and told."""
    from emu.cli.wireshark import run_uninstall

    _leave(run_uninstall, purge, dry_run, json)


@wireshark.command("status", epilog="Example:  emu wireshark status --json")
def wireshark_status(json: Json = False) -> None:
    """Say of each file whether it is installed, changed, out of date or missing."""
    from emu.cli.wireshark import run_status

    _leave(run_status, json)


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


@app.command("schema", epilog="Example:  emu schema --json-schema > row.schema.json")
def show_schema(
    json: Json = False,
    json_schema: Annotated[
        bool, typer.Option("--json-schema", help="Print the JSON Schema (draft 2020-12) of a row of a .jsonl log.")
    ] = False,
) -> None:
    """Print the columns of the log."""
    from emu.cli.schema import schema

    _leave(schema, json, json_schema)


@app.command(epilog="Example:  emu check traces/e1000e_61")
def check(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="packets.csv.gz, summary.json, run.json of a traced run.")
    ],
    predict: Annotated[
        bool, typer.Option("--predict", help="Play the run again and print its predicted counts beside the real ones.")
    ] = False,
    frames: Annotated[
        str, typer.Option("--frames", metavar="seen|all", help="Predict for the frames that the guest saw, or for all.")
    ] = "seen",
    json: Json = False,
) -> None:
    """Hold the mainline policy against a real kernel's packet-by-packet trace."""
    from emu.cli.check import check as run_check
    from emu.cli.check import check_prediction

    if predict:
        _leave(check_prediction, directory, frames, json)
    _leave(run_check, directory, json)


def _leave(verb: Callable[..., int], *arguments: Any) -> None:
    try:
        code = verb(*arguments)
    except KeyboardInterrupt:
        raise InterruptedEarlyError("interrupted") from None
    _ended.append(code)
    raise typer.Exit(code)


def _say(lines: str) -> None:
    for line in lines.split("\n"):
        print(f"emu: {line}", file=sys.stderr)


def _misused(error: Any) -> None:
    """Say what the command line's own parser found; click's exceptions, whichever package brings them."""
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
    else:
        _say(f"{' '.join(error.format_message().split())} (emu --help)")


def arguments(words: list[str]) -> list[str]:
    """The command line with options that may stand alone spelt out (ALONE): typer has no optional values."""
    end = words.index("--") if "--" in words else len(words)
    return [f"{word}={ALONE[word]}" if word in ALONE else word for word in words[:end]] + words[end:]


def main() -> None:
    """Run the command line; whatever goes wrong is one line and an exit code."""
    try:
        code = app(arguments(sys.argv[1:]), prog_name="emu", standalone_mode=False) or Exit.DONE
        if code == Exit.INTERRUPTED and not _ended:  # before there was a verb: typer says nothing of it
            _say("interrupted")
        sys.stdout.flush()
        _quit(code)
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
        _say(f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error))
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
    # Python has no stream for what was closed before it started (`>&-`), and `print` takes none for standard output.
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - as long as the program runs
    try:
        if sys.stdout is None:
            _say("standard output is closed; send it to /dev/null where nobody wants it")
            sys.exit(int(Exit.USAGE))
        sys.stdout = NamedOutput("standard output", sys.stdout)
        main()
    except SystemExit as leaving:
        code = int(leaving.code or 0)
    with suppress(OSError, ValueError):
        sys.stderr.flush()
    if "emu.verdicts.read" in sys.modules:
        sys.modules["emu.verdicts.read"].remove_folders()
    os._exit(code)

"""`emu flood`: crafted traffic as a capture; a command for each kind, made of the kind's own table of options."""

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import typer
from rich.console import Console

from emu.capture.output import STDOUT
from emu.capture.write import PCAP, format_of
from emu.cli.options import Json, Progress, parameters_of, with_parameters
from emu.cli.replay import print_json, screen
from emu.cli.rewrite_options import RewriteOptions
from emu.crafting import craft_told
from emu.errors import Exit, InterruptedEarlyError, UsageError
from emu.request import rewrite_of, say_on_stderr
from emu.tables import Key, keys_of
from emu.traffic.flood.kinds import KINDS, check_kind, flood_of, meaning_of
from emu.traffic.rewrite.rules import Rewritten
from emu.verdicts.screen import flood_line, plain_table

EXAMPLES = {
    "udp": "emu flood udp --to 10.0.0.2 --ports 9000-9015 --size 64..1500 --pps 200k --for 10s -w flood.pcapng",
    "tcp-bulk": "emu flood tcp-bulk --ports 8 --mbps 400 --for 2s -w music.pcapng",
    "synflood": "emu flood synflood --ports 80-83 --spoof 198.18.0.0/15 --pps 50k --count 100000 -w syn.pcapng",
    "tcp-closed-port": "emu flood tcp-closed-port --port 81 --segment ack --count 1000 -w closed.pcapng",
    "icmp-echo": "emu flood icmp-echo --to fd00::2 --size 118 --pps 1k --for 1s -w ping.pcapng",
    "arp": "emu flood arp --op request --pps 5k --count 5000 -w arp.pcapng",
    "ipv6-udp": "emu flood ipv6-udp --ports 16 --poisson --pps 20k --for 1s -w six.pcapng",
    "multicast": "emu flood multicast --to 239.1.2.3 --port 5004 --size 1370 --mbps 8 --for 1s -w tv.pcapng",
    "broadcast": "emu flood broadcast --port 67 --count 500 -w storm.pcapng",
    "fragments": "emu flood fragments --datagram 4000 --incomplete 50 --count 6000 -w fragments.pcapng",
    "vlan": "emu flood vlan --id 100 --outer 200 --count 1000 -w vlan.pcapng",
    "other-ethertype": "emu flood other-ethertype --ethertype 0x88b5 --count 1000 -w other.pcapng",
    "jumbo": "emu flood jumbo --size 9014 --mbps 900 --for 1s -w jumbo.pcapng",
    "mixed-imix": "emu flood mixed-imix --burst 10ms/90ms --pps 100k --for 1s -w mix.pcapng",
    "iscsi-acks": "emu flood iscsi-acks --writes 4000 --write-size 4KiB --queue-depth 8 -w acks.pcapng",
}
WORDS = {"text": "TEXT", "integer": "N", "word": "WORD"}


@dataclass(frozen=True, kw_only=True)
class FloodCommand(RewriteOptions):
    """What every kind takes besides its own options."""

    write: Annotated[
        str | None,
        typer.Option("-w", "--write", metavar="FILE|-", help="Write the frames: pcapng, or pcap if the name ends so."),
    ] = None
    json: Json = False
    engine: Annotated[
        str,
        typer.Option("--engine", metavar="auto|compiled|plain", help="How frames are made; the bytes are identical."),
    ] = "auto"
    progress: Progress = None


app = typer.Typer(
    help="Craft traffic: floods and sessions of many kinds, as a capture that every tool reads.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


@app.callback(
    invoke_without_command=True,
    epilog="Examples:  emu flood --list   |   emu flood synflood --help   |   emu flood udp --count 3000 -w a.pcapng",
)
def show_kinds(
    context: typer.Context,
    list_: Annotated[
        bool, typer.Option("--list", help="List the kinds and what each sends (so it does alone).")
    ] = False,
    json: Json = False,
) -> None:
    """Craft traffic of a kind; alone, list the kinds."""
    if context.invoked_subcommand is not None:
        if list_ or json:
            raise UsageError(f"--{'list' if list_ else 'json'}: stands alone, or behind the kind (--json)")
        return
    kinds = {kind: meaning_of(kind) for kind in KINDS}
    if json:
        described = {
            kind: {
                "meaning": meaning,
                "example": EXAMPLES.get(kind),
                "options": [_described(key) for key in keys_of(KINDS[kind])],
            }
            for kind, meaning in kinds.items()
        }
        print_json({"kinds": described})
        return
    table = plain_table("Kinds of crafted traffic (emu flood KIND --help)", "kind")
    table.add_column("what it sends")
    for kind, meaning in kinds.items():
        table.add_row(kind, meaning)
    screen(sys.stdout).print(table)


def _described(key: Key) -> dict[str, Any]:
    return key._asdict() | {"option": option_name(key.name)}


def option_name(key: str) -> str:
    """A key of a kind as the command line spells it."""
    return f"--{key.replace('_', '-')}"


def run_flood(kind: str, settings: Mapping[str, Any], command: FloodCommand) -> int:
    """Craft one flood; the exit code."""
    if command.write == STDOUT and command.json:
        raise UsageError("-w - and --json both want standard output; write one of them to a file")
    rewrite = rewrite_of(command)
    flood = flood_of(kind, settings, option_name)
    bar = progress_bar(command.progress, kind)
    facts = craft_told(flood, bar, say_on_stderr, write=command.write, engine=command.engine, rewrite=rewrite)
    if command.json:
        print_json({"emu_flood": 1} | facts)
    else:
        _show(screen(sys.stderr if command.write == STDOUT else sys.stdout), facts)
    if facts["incomplete"]:
        says_so = command.write is None or format_of(command.write) != PCAP
        say_on_stderr(f"{facts['incomplete']}; the output is closed" + (" and says so" if says_so else ""))
        return Exit.INTERRUPTED
    return Exit.DONE


@contextmanager
def progress_bar(asked: bool | None, kind: str) -> Iterator[Callable[[int], None] | None]:
    """Frames made, on stderr; nothing when stderr is no terminal, unless asked for."""
    if asked is False or (asked is None and not sys.stderr.isatty()):
        yield None
        return
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        TextColumn("{task.completed} frames"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=asked is None) as progress:
        bar = progress.add_task(kind, total=None)
        yield lambda frames: progress.update(bar, completed=frames)


def _show(console: Console, facts: dict[str, Any]) -> None:
    say = partial(console.print, markup=False, highlight=False)
    say(flood_line(facts), soft_wrap=True)
    least, most = facts["smallest_bytes"], facts["largest_bytes"]
    sizes = f"{most} bytes" if least == most else f"{least} to {most} bytes, {facts['mean_bytes']:g} on average"
    say(f"frames of {sizes}; seed {facts['seed']}; {facts['engine']} engine")
    if facts["rewritten"]:
        for sentence in Rewritten(**facts["rewritten"]).sentences("frames"):
            say(sentence)
    if facts["written"] is None:
        say("nothing was written (-w FILE writes it)")
    elif facts["written"].lower().endswith(".pcap"):
        say("a pcap has no room for directions, nor for what the traffic says of its sockets; a .pcapng has")


def _parameter(key: Key) -> inspect.Parameter:
    """A key of a kind as typer wants to see it; what was not given is None."""
    is_flag = key.type == "true or false"
    usual = "" if key.default in (None, False) else f" Default {key.default}."
    said = f"{key.meaning.rstrip('.')}{f' ({key.range})' if key.range else ''}.{usual}"
    option = typer.Option(
        f"{option_name(key.name)}/--no-{option_name(key.name)[2:]}" if key.default is True else option_name(key.name),
        help=said,
        metavar=None if is_flag else key.unit or WORDS.get(key.type, "TEXT"),
    )
    annotation = Annotated[(bool if is_flag else str) | None, option]  # type: ignore[valid-type]
    # `from` and `for` are no names of Python.
    return inspect.Parameter(f"{key.name}_", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _add(kind: str) -> None:
    """Make the command of a kind."""
    common = parameters_of(FloodCommand)

    def call(**given: Any) -> None:
        command = FloodCommand(**{parameter.name: given.pop(parameter.name) for parameter in common})
        settings = {name.removesuffix("_"): value for name, value in given.items() if value is not None}
        try:
            code = run_flood(kind, settings, command)
        except KeyboardInterrupt:
            raise InterruptedEarlyError("interrupted") from None
        raise typer.Exit(code)

    call.__doc__ = inspect.cleandoc(KINDS[kind].__doc__ or "")
    parameters = [*map(_parameter, keys_of(KINDS[kind])), *common]
    app.command(kind, epilog=f"Example:  {EXAMPLES[kind]}" if kind in EXAMPLES else None)(
        with_parameters(call, parameters)
    )


for _kind in KINDS:
    _add(_kind)


def run_command_line(words: list[str]) -> int:
    """`emu flood` with what stands behind it; the exit code."""
    named = next((word for word in words if not word.startswith("-")), None)
    if named is not None and words.index(named) == 0:
        check_kind(named, "emu flood")
    return int(app(words, prog_name="emu flood", standalone_mode=False) or Exit.DONE)

"""The options of `emu live`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from emu.cli import meanings
from emu.cli.options import Annotate, AsPosted, EngineName, Expect, Json, Log, LogRows, Settings, Write


@dataclass(frozen=True, kw_only=True)
class LiveCommand:
    """What `emu live` takes."""

    host_if: Annotated[
        str, typer.Option("--host-if", metavar="NAME", help="The interface that faces the host: a TAP, which is made.")
    ] = "emu0"
    wire_if: Annotated[
        str,
        typer.Option(
            "--wire-if", metavar="NAME", help="The one that faces the wire: a TAP, which is made, or one that exists."
        ),
    ] = "emu1"
    host_namespace: Annotated[
        str, typer.Option("--host-namespace", metavar="NAME", help="The network namespace of the host's interface.")
    ] = ""
    wire_namespace: Annotated[
        str, typer.Option("--wire-namespace", metavar="NAME", help="The network namespace of the wire's interface.")
    ] = ""
    host_address: Annotated[
        str, typer.Option("--host-address", metavar="IP/LEN", help="An address for the host's interface.")
    ] = ""
    wire_address: Annotated[
        str, typer.Option("--wire-address", metavar="IP/LEN", help="An address for the wire's TAP.")
    ] = ""
    policy: Annotated[str | None, typer.Option("--policy", metavar="NAME", help=meanings.POLICY_OF_REPLAY)] = None
    scenario: Annotated[Path | None, typer.Option("--scenario", metavar="NAME|FILE", help=meanings.SCENARIO)] = None
    settings: Settings = None
    as_posted: AsPosted = None
    memalloc: Annotated[str | None, typer.Option("--memalloc", metavar="EXPR", help=meanings.MEMALLOC)] = None
    duration: Annotated[
        str, typer.Option("--for", metavar="TIME", help="End after so long; Ctrl-C ends it sooner.")
    ] = "10min"
    write: Write = None
    annotate: Annotate = "drops"
    log: Log = None
    log_rows: LogRows = "all"
    host_capture: Annotated[
        str | None,
        typer.Option("--host-capture", metavar="FILE", help="Write what the host sent and got: survivors only."),
    ] = None
    record_events: Annotated[
        str | None,
        typer.Option("--record-events", metavar="FILE", help="Record the event stream: emu replay --events plays it."),
    ] = None
    words: Annotated[
        Path | None,
        typer.Option("--words", metavar="FILE", help="Words of memory shared with a demonstration's programs."),
    ] = None
    expect: Expect = None
    json: Json = False
    engine: EngineName = "auto"

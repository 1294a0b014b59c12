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
        str,
        typer.Option(
            "--host-if", metavar="NAME", help="The one that faces the host: a TAP, which is made, or one that exists."
        ),
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
    host_mac: Annotated[
        str,
        typer.Option(
            "--host-mac", metavar="MAC", help="The host's MAC, where its interface exists already (a TAP has its own)."
        ),
    ] = ""
    policy: Annotated[str | None, typer.Option("--policy", metavar="NAME", help=meanings.POLICY_OF_REPLAY)] = None
    scenario: Annotated[Path | None, typer.Option("--scenario", metavar="NAME|FILE", help=meanings.SCENARIO)] = None
    settings: Settings = None
    as_posted: AsPosted = None
    memalloc: Annotated[str | None, typer.Option("--memalloc", metavar="EXPR", help=meanings.MEMALLOC)] = None
    duration: Annotated[
        str, typer.Option("--for", metavar="TIME", help="End after so long; Ctrl-C ends it sooner.")
    ] = "10min"
    awake: Annotated[
        str,
        typer.Option(
            "--awake",
            metavar="TIME",
            help="Between frames that come closer together, ask for the next instead of sleeping: quicker round trips, "
            "for up to a whole core; 0s: sleep at once.",
        ),
    ] = "100us"
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


@dataclass(frozen=True, kw_only=True)
class LiveDemoCommand:
    """What `emu live demo` takes."""

    policies: Annotated[
        str | None,
        typer.Option(
            "--policies",
            metavar="NAMES",
            help="Rows of `emu policies`, comma-separated: a world each (default: linux-2.6.12,phillips-v5; "
            "with --page-cache phillips-v5).",
        ),
    ] = None
    scenario: Annotated[
        str, typer.Option("--scenario", metavar="NAME|FILE", help="The emulated machine; the policy is each world's.")
    ] = "live-demo"
    writes: Annotated[int, typer.Option("--writes", min=1, metavar="N", help="Real writes of 4 KiB.")] = 8192
    depth: Annotated[int, typer.Option("--depth", min=1, metavar="N", help="How many of them are under way.")] = 8
    flood_pps: Annotated[
        int, typer.Option("--flood-pps", min=1, metavar="N", help="Datagrams per second to ports that nobody reads.")
    ] = 5000
    ports: Annotated[int, typer.Option("--ports", min=1, metavar="N", help="How many such ports.")] = 16
    limit: Annotated[
        str, typer.Option("--limit", metavar="TIME", help="A run whose writes take longer has locked up.")
    ] = "15s"
    duration: Annotated[
        str, typer.Option("--for", metavar="TIME", help="The whole of it takes no longer, whatever hangs.")
    ] = "90s"
    page_cache: Annotated[
        bool,
        typer.Option(
            "--page-cache",
            help="Write back dirty pages of this machine's own page cache (FUSE, a loop device): for the brave.",
        ),
    ] = False
    captures: Annotated[
        bool, typer.Option("--captures/--no-captures", help="Write captures of both sides and the event stream.")
    ] = True
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FOLDER", help="Where captures and results go (default: a temporary folder)."),
    ] = None
    json: Json = False

"""The options of `emu show`."""

from dataclasses import dataclass
from typing import Annotated

import typer

from emu.cli.options import EngineName
from emu.cli.select_options import Classes, Flows, Memalloc


@dataclass(frozen=True, kw_only=True)
class ShowCommand:
    """What `emu show` takes."""

    file: Annotated[str, typer.Argument(metavar="FILE", help="A log, or an annotated capture.")]
    drops: Annotated[bool, typer.Option("--drops", help="Only dropped packets.")] = False
    verdict: Annotated[
        list[str] | None,
        typer.Option(
            "--verdict", metavar="NAME", help="Only these: delivered, dropped, event ...; repeatable, or A,B."
        ),
    ] = None
    reason: Annotated[
        list[str] | None,
        typer.Option(
            "--reason", metavar="NAME", help="Only drops for these reasons (emu explain); repeatable, or A,B."
        ),
    ] = None
    cause: Annotated[
        list[str] | None,
        typer.Option("--cause", metavar="NAME", help="Only these causes: DEVICE_CAP, NOMEM, CPU_BUSY; repeatable."),
    ] = None
    class_: Classes = None
    device: Annotated[
        list[str] | None, typer.Option("--device", metavar="NAME", help="Only what arrived on these; repeatable.")
    ] = None
    policy_rule: Annotated[
        list[str] | None,
        typer.Option(
            "--policy-rule", metavar="RULE", help="Only what this rule decided, or how it begins: udp, cap ..."
        ),
    ] = None
    memalloc: Memalloc = None
    flow: Flows = None
    from_: Annotated[
        str | None, typer.Option("--from", metavar="S", help="Only from so many seconds after the first packet.")
    ] = None
    to: Annotated[
        str | None, typer.Option("--to", metavar="S", help="Only until so many seconds after the first packet.")
    ] = None
    frame: Annotated[
        list[str] | None,
        typer.Option("--frame", metavar="N|N-M", help="One packet in words; or the packets of a range; repeatable."),
    ] = None
    where: Annotated[
        str | None,
        typer.Option(
            "--where",
            metavar="EXPR",
            help="Only where this holds of the log's columns (emu schema), such as "
            "'reserve_used_before > 40 and (free_pages < floor_pages or not class == udp)'.",
        ),
    ] = None
    by: Annotated[
        str | None,
        typer.Option(
            "--by",
            metavar="WHAT",
            help="A table instead of packets: by reason, cause, class, flow, device, rule, verdict or socket.",
        ),
    ] = None
    fate: Annotated[bool, typer.Option("--fate", help="What became of the flow (--flow) as a whole.")] = False
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit", min=0, metavar="N", help="So many lines; 0: all (default: 50 on a terminal, else all)."
        ),
    ] = None
    json: Annotated[
        bool,
        typer.Option("--json", help="JSON lines, a packet each; one object with --frame N, --by, --fate."),
    ] = False
    engine: EngineName = "auto"

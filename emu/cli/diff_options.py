"""The options of `emu diff`."""

from dataclasses import dataclass
from typing import Annotated

import typer

from emu.cli.select_options import Classes, Flows, Memalloc


@dataclass(frozen=True, kw_only=True)
class DiffCommand:
    """What `emu diff` takes."""

    a: Annotated[str, typer.Argument(metavar="A", help="A log, or an annotated capture; - for standard input.")]
    b: Annotated[str, typer.Argument(metavar="B", help="Another, of the same frames.")]
    by: Annotated[
        str,
        typer.Option(
            "--by",
            metavar="frame|packet_id",
            help="What says that two rows are of one packet; packet_id for parts of a capture.",
        ),
    ] = "frame"
    memalloc: Memalloc = None
    class_: Classes = None
    flow: Flows = None
    limit: Annotated[
        int, typer.Option("--limit", min=0, metavar="N", help="List so many of the changed packets; 0: all.")
    ] = 20
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False

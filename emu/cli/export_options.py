"""The options of `emu export`."""

from dataclasses import dataclass
from typing import Annotated

import typer

from emu.cli.options import EngineName, Progress
from emu.verdicts.export.formats import FORMATS

FORMAT_HELP = "; ".join(f"{form.name}: {form.what}" for form in FORMATS)


@dataclass(frozen=True, kw_only=True)
class ExportCommand:
    """What `emu export` takes."""

    file: Annotated[
        str,
        typer.Argument(metavar="FILE", help="A log, or an annotated capture; `-` reads a capture on standard input."),
    ]
    format: Annotated[
        str | None,
        typer.Option("--format", metavar="NAME", help=f"{FORMAT_HELP}. Default: what the name of the output says."),
    ] = None
    write: Annotated[
        str | None,
        typer.Option("-w", "--write", metavar="FILE|-", help="Where it goes (default for text: standard output)."),
    ] = None
    engine: EngineName = "auto"
    progress: Progress = None

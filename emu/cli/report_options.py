"""The options of `emu report`."""

from dataclasses import dataclass
from typing import Annotated

import typer

from emu.cli.options import EngineName, Json


@dataclass(frozen=True, kw_only=True)
class ReportCommand:
    """What `emu report` takes."""

    file: Annotated[str, typer.Argument(metavar="FILE", help="A log, or an annotated capture.")]
    write: Annotated[
        str | None,
        typer.Option("-w", "--write", metavar="FILE.html|-", help="Where to (default: FILE with .html instead)."),
    ] = None
    policy: Annotated[
        str | None,
        typer.Option("--policy", metavar="NAME", help="What to call the policy, where the file does not name it."),
    ] = None
    engine: EngineName = "auto"
    json: Json = False

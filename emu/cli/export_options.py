"""The options of `emu export`."""

from dataclasses import dataclass
from typing import Annotated

import typer


@dataclass(frozen=True, kw_only=True)
class ExportCommand:
    """What `emu export` takes."""

    file: Annotated[str, typer.Argument(metavar="FILE", help="A log, or an annotated capture.")]

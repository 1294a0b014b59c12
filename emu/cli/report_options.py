"""The options of `emu report`."""

from dataclasses import dataclass
from typing import Annotated

import typer


@dataclass(frozen=True, kw_only=True)
class ReportCommand:
    """What `emu report` takes."""

    file: Annotated[str, typer.Argument(metavar="FILE", help="A log, or an annotated capture.")]

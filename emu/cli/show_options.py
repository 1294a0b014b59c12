"""The options of `emu show`."""

from dataclasses import dataclass
from typing import Annotated

import typer


@dataclass(frozen=True, kw_only=True)
class ShowCommand:
    """What `emu show` takes."""

    file: Annotated[str, typer.Argument(metavar="FILE", help="A log, or an annotated capture.")]

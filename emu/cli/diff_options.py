"""The options of `emu diff`."""

from dataclasses import dataclass
from typing import Annotated

import typer


@dataclass(frozen=True, kw_only=True)
class DiffCommand:
    """What `emu diff` takes."""

    a: Annotated[str, typer.Argument(metavar="A", help="A log, or an annotated capture.")]
    b: Annotated[str, typer.Argument(metavar="B", help="Another, of the same frames.")]

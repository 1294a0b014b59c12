"""The program `emu`, also `python -m emu`.

Ctrl-C is a Ctrl-C while the command line is being imported, too; SIGTERM is one always.
"""

import gc
import os
import signal
import sys
from types import FrameType

# Modules make objects that stay: Python's collector would walk them over and over while they are being loaded.
OBJECTS_BETWEEN_COLLECTIONS = 50_000


def _end(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def run() -> None:
    """Run the command line."""
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS)
    try:
        # Else it would end us at once: temporary files, of the size of a capture, and other processes would stay.
        signal.signal(signal.SIGTERM, _end)
        from emu.cli.main import run as run_command_line

        run_command_line()
    except KeyboardInterrupt:
        print("emu: interrupted", file=sys.stderr, flush=True)
        # Not sys.exit: where a module was made from text by exec, Python itself would then end by SIGINT.
        os._exit(130)


if __name__ == "__main__":
    run()

"""The program `emu`, also `python -m emu`; while the command line is being imported Ctrl-C is a Ctrl-C too."""

import gc
import sys

# Modules make objects that stay: Python's collector would walk them over and over while they are being loaded.
OBJECTS_BETWEEN_COLLECTIONS = 50_000


def run() -> None:
    """Run the command line."""
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS)
    try:
        from emu.cli.main import run as run_command_line
    except KeyboardInterrupt:
        print("emu: interrupted", file=sys.stderr)
        sys.exit(130)
    run_command_line()


if __name__ == "__main__":
    run()

"""The program `emu`, also `python -m emu`; while the command line is being imported Ctrl-C is a Ctrl-C too."""

import sys


def run() -> None:
    """Run the command line."""
    try:
        from emu.cli.main import run as run_command_line
    except KeyboardInterrupt:
        print("emu: interrupted", file=sys.stderr)
        sys.exit(130)
    run_command_line()


if __name__ == "__main__":
    run()

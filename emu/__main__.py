"""`python -m emu`."""

from emu.cli.main import run

if __name__ == "__main__":
    run()

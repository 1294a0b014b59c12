"""`python -m emu`."""

from emu.cli.main import main

if __name__ == "__main__":
    main()

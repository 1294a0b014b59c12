"""The program that Wireshark starts as a capture interface: a few lines that call this emu."""

import sys
from pathlib import Path

import emu

LAUNCHER_NAME = "emu-extcap"
MAX_SHEBANG = 127  # bytes; older kernels cut the line there (binfmt_script)

BODY = """\
# Written by `emu wireshark install`: Wireshark runs it to list and to start the emulated NIC.
import sys

if {root!r} not in sys.path:
    sys.path.insert(0, {root!r})
try:
    from emu.wireshark.extcap import main
except ImportError as error:
    sys.exit(f"emu-extcap: {{error}}; run `emu wireshark install` again, or `emu wireshark uninstall`")
sys.exit(main(sys.argv[1:]))
"""


def launcher_text(interpreter: str = sys.executable, root: str | None = None) -> str:
    """The script; it runs with this interpreter, and finds emu where it is now even if it is not installed."""
    where = str(Path(emu.__file__).resolve().parent.parent) if root is None else root
    return f"{shebang(interpreter)}\n{BODY.format(root=where)}"


def shebang(interpreter: str) -> str:
    """The first line; for a path that cannot stand there, a line that is shell and Python both."""
    line = f"#!{interpreter}"
    if len(line.encode()) <= MAX_SHEBANG and not any(letter.isspace() for letter in interpreter):
        return line
    quoted = interpreter.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$").replace("`", "\\`")
    # sh runs the word exec; Python reads a string in triple quotes.
    return f"#!/bin/sh\n'''exec' \"{quoted}\" \"$0\" \"$@\"\n' '''"

"""Plays the commands of docs/wireshark.md as a user would, in a folder and a home of their own.

A block ```` ```console ```` holds commands, each behind `$ `, and below it what it prints on standard output; a line
`...` stands for any lines.  `python tools/walkthrough.py` writes the page anew with what the commands say today, but
for those with a line `...`.  Windows of Wireshark are not opened here: see `opens_a_window`.
"""

import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "wireshark.md"
BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PROMPT, ANYTHING = "$ ", "..."
PATIENCE_S = 120
OF_ROOT = "Running as user "  # what tshark says to root, and to nobody else
FATES_DIFFER = 1  # the exit code of `emu diff`, as of diff


class Step(NamedTuple):
    """A command of the page, and what the page says that it prints."""

    line: int  # of the page, from 1
    command: str
    shown: list[str]

    @property
    def opens_a_window(self) -> bool:
        """Whether it starts Wireshark itself, which needs a screen."""
        return re.search(r"(^|\| )wireshark ", self.command) is not None


class Said(NamedTuple):
    """What a command printed, line by line."""

    code: int
    out: list[str]
    complaints: list[str]  # of standard error, but for emu's notes


def steps_of(text: str) -> list[Step]:
    """The commands of a page, in order."""
    found: list[Step] = []
    for block in BLOCK.finditer(text):
        first = text.count("\n", 0, block.start(1)) + 1
        for number, line in enumerate(block[1].splitlines(), first):
            if line.startswith(PROMPT):
                found.append(Step(number, line.removeprefix(PROMPT), []))
            elif found and found[-1].line >= first:
                found[-1].shown.append(line)
            else:
                raise ValueError(f"{PAGE.name}:{number}: an output without a command")
    return found


def settle(folder: Path) -> dict[str, str]:
    """Make the folder a place to work in; the environment of a user who lives there and has `emu` and pcaps/."""
    programs, home = folder / "bin", folder / "home"
    programs.mkdir()
    home.mkdir()
    emu = programs / "emu"
    emu.write_text(f'#!/bin/sh\nPYTHONPATH={shlex.quote(str(ROOT))} exec {shlex.quote(sys.executable)} -m emu "$@"\n')
    emu.chmod(0o755)
    (folder / "pcaps").symlink_to(ROOT / "pcaps")
    return {"PATH": f"{programs}:{os.environ['PATH']}", "HOME": str(home), "LC_ALL": "C.UTF-8", "COLUMNS": "120"}


def play(step: Step, folder: Path, environment: dict[str, str]) -> Said:
    """Run a command in the folder."""
    shell = ["bash", "-o", "pipefail", "-c", step.command]
    done = subprocess.run(
        shell, cwd=folder, env=environment, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    complaints = [line for line in done.stderr.splitlines() if not line.startswith((OF_ROOT, "emu: "))]
    home = environment["HOME"]
    out = [line.rstrip().replace(home, "/home/you") for line in done.stdout.splitlines()]
    while out and not out[-1]:
        out.pop()
    return Said(done.returncode, out, complaints)


def may_end_with(step: Step) -> set[int]:
    """The exit codes that are no failure."""
    return {0, FATES_DIFFER} if step.command.startswith("emu diff ") else {0}


def agrees(shown: list[str], said: list[str]) -> bool:
    """Whether what the page shows is what was said."""
    pattern = "".join("(?:.*\n)*?" if line == ANYTHING else re.escape(f"{line}\n") for line in shown)
    return re.fullmatch(pattern, "".join(f"{line}\n" for line in said)) is not None


def main() -> int:
    """Write the page anew; the exit code."""
    text = PAGE.read_text(encoding="utf-8")
    lines = text.splitlines()
    with tempfile.TemporaryDirectory(prefix="emu-walkthrough-") as name:
        environment, failed, moved = settle(Path(name)), 0, 0
        for step in steps_of(text):
            if step.opens_a_window:
                continue
            said = play(step, Path(name), environment)
            if said.code not in may_end_with(step) or said.complaints:
                print(f"{PAGE.name}:{step.line}: {step.command}: {said.code}, {said.complaints}", file=sys.stderr)
                failed += 1
            elif ANYTHING not in step.shown:
                begins = step.line + moved
                lines[begins : begins + len(step.shown)] = said.out
                moved += len(said.out) - len(step.shown)
            elif not agrees(step.shown, said.out):
                print(f"{PAGE.name}:{step.line}: {step.command}: says something else", file=sys.stderr)
                failed += 1
    PAGE.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

"""`emu step`: a capture or a scenario, packet by packet: what happened, the rule that decided, how the machine stands.

On a terminal a key goes on: Enter or space to the next packet, e to the next event, c to the next drop, g to a frame,
q ends.  Elsewhere, and with --plain, every packet's panel is printed, and the last one says what followed.
"""

import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace as changed
from pathlib import Path
from typing import Any, NamedTuple

import typer
from rich.console import Console
from rich.text import Text

from emu.cli.options import StepCommand
from emu.engine.stepping import Step, SteppingEngine
from emu.errors import Exit, UsageError
from emu.interrupt import Interruption
from emu.kernel.drop_reason import DROPPED
from emu.play import replay
from emu.request import inputs_of, open_company, rewrite_of, say_on_stderr, task_of
from emu.scenarios import shipped_scenario
from emu.verdicts.step.panel import Story

TO_PACKET, TO_EVENT, TO_DROP, TO_FRAME, TO_END = range(5)
KEYS = "Enter next packet   e next event   c next drop   g go to a frame   q quit"
WISHES = {"\r": TO_PACKET, "\n": TO_PACKET, " ": TO_PACKET, "e": TO_EVENT, "c": TO_DROP}


class Wish(NamedTuple):
    """How far to go on: TO_*, and of TO_FRAME which."""

    until: int
    frame: int = 0

    def stops_at(self, p: Any) -> bool:
        """Whether the packet whose verdict has just fallen is what was waited for."""
        if self.until == TO_FRAME:
            return bool(p.frame >= self.frame)
        return self.until in (TO_PACKET, TO_EVENT) or (self.until == TO_DROP and p.verdict == DROPPED)


Ask = Callable[[Sequence[str]], Wish]  # shows a panel, and says how to go on


class LeaveError(Exception):
    """Whoever watches has seen enough."""


class Watcher:
    """Tells the story of a play to somebody who says how far to go on."""

    def __init__(self, devices: Sequence[str], ask: Ask) -> None:
        """Start at the first packet."""
        self._story = Story(devices)
        self._ask = ask
        self._wish = Wish(TO_PACKET)
        self._last: Step | None = None

    def __call__(self, step: Step) -> None:
        """See a step; ask when it is what was waited for."""
        self._story.see(step)
        self._last = step
        stops = [p for p in step.decided if self._wish.stops_at(p)]
        for p in stops:
            self._show(step, p)
        if not stops and self._wish.until == TO_EVENT:
            self._show(step, None)

    def _show(self, step: Step, p: Any | None) -> None:
        self._wish = self._ask(self._story.panel(step, p))
        if self._wish.until == TO_END:
            raise LeaveError

    def end(self) -> list[str]:
        """The last panel: what followed the last packet."""
        if self._last is None:
            return []
        return self._story.panel(self._last._replace(outside=()), None)


def run_step(command: StepCommand) -> int:
    """Step through a play; the exit code."""
    if command.json:
        raise UsageError("--json: emu step draws panels; emu replay prints the summary as JSON")
    if command.engine not in ("auto", "plain"):
        raise UsageError(f"--engine {command.engine}: emu step runs on the plain engine only")
    command = with_scenario(command)
    inputs = inputs_of(command)
    task = task_of(command, inputs, policy=command.policy)
    at_terminal = not command.plain and sys.stdin.isatty() and sys.stdout.isatty()
    scenario = task.scenario
    names = [device.name for device in scenario.device] + [upper.name for upper in scenario.upper]
    watcher = Watcher(names, Screen() if at_terminal else printed)
    print_lines([f"{command.scenario.stem if command.scenario else task.name} under {scenario.policy.name}"])
    interruption = Interruption()
    with ExitStack() as opened:
        plain = changed(command, engine="plain")
        _, company, _ = open_company(plain, rewrite_of(command), task, inputs, interruption, opened, say_on_stderr)
        try:
            outcome = replay(
                task,
                SteppingEngine(watcher),
                company.reader,
                [given.path for given in inputs],
                None,
                interruption,
                company.floods,
                company.hosts,
            )
        except LeaveError:
            return Exit.DONE
    print_lines(watcher.end())
    total = outcome.machine.total
    print_lines([f"{total.frames} frames: {total.delivered} delivered, {total.dropped} dropped"])
    return Exit.INTERRUPTED if outcome.interrupted else Exit.DONE


def with_scenario(command: StepCommand) -> StepCommand:
    """The command, with a scenario that was named in the place of a capture where it belongs.

    Errors: UsageError when it is neither a file nor a scenario that is shipped.
    """
    named = command.capture or []
    if len(named) != 1 or Path(named[0]).suffix not in ("", ".toml") or named[0] == "-":
        return command
    path = Path(named[0]) if Path(named[0]).is_file() else shipped_scenario(named[0])
    if path.suffix != ".toml":
        return command
    if command.scenario is not None:
        raise UsageError(f"{named[0]}: is a scenario, beside --scenario {command.scenario}; expected one of them")
    return changed(command, capture=None, scenario=path)


def print_lines(lines: Sequence[str]) -> None:
    """Print lines as they are."""
    for line in lines:
        print(line)


def printed(lines: Sequence[str]) -> Wish:
    """Print a panel; go on to the next packet."""
    print_lines([*lines, ""])
    return Wish(TO_PACKET)


class Screen:
    """Panels on a terminal, each in place of the one before; keys say how to go on."""

    def __init__(self) -> None:
        """Draw on standard output."""
        self._console = Console(highlight=False)

    def __call__(self, lines: Sequence[str]) -> Wish:
        """Show a panel and wait for a key."""
        self._console.clear()
        for line in lines:
            text = Text(line, "bold" if line.startswith("--") else "")
            text.highlight_regex(r"[0-9 ]+ -> [0-9 ]+", "yellow")
            text.highlight_regex(r"(?<=^verdict {7})dropped.*", "bold red")
            text.highlight_regex(r"(?<=^verdict {7})delivered.*", "bold green")
            self._console.print(text, soft_wrap=True)
        self._console.print(Text(KEYS, "reverse"))
        while True:
            key = typer.getchar()
            if key == "q":
                return Wish(TO_END)
            if key == "\x03":
                raise KeyboardInterrupt
            if key == "g":
                frame = self._console.input("frame: ").strip()
                if frame.isdecimal():
                    return Wish(TO_FRAME, int(frame))
            if key in WISHES:
                return Wish(WISHES[key])

"""`emu step`: a capture or a scenario, packet by packet: what happened, the rule that decided, how the machine stands.

On a terminal a key goes on: Enter or space to the next packet, e to the next event, c to the next drop, g to a frame,
q ends.  Elsewhere, and with --plain, every packet's panel is printed, and the last one says what followed.
"""

import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import fields
from dataclasses import replace as changed
from pathlib import Path
from typing import Any, NamedTuple

import typer
from rich.console import Console
from rich.text import Text

from emu.cli.options import StepCommand
from emu.cli.replay import screen
from emu.cli.run_options import RunCommand
from emu.closed_runs import run_scenario_of, run_task
from emu.engine.stepping import Step, SteppingEngine
from emu.errors import Exit, UsageError
from emu.interrupt import Interruption
from emu.kernel.drop_reason import DROPPED
from emu.play import replay
from emu.request import inputs_of, open_company, rewrite_of, say_on_stderr, task_of
from emu.runs import exit_code, exit_code_of, oops_unasked
from emu.scenario import Scenario
from emu.scenario_file import load_scenario, named_scenario, parse_setting
from emu.task import NO_OUTPUTS, Task
from emu.verdicts.expect import Judgement, judge
from emu.verdicts.screen import show_judgements
from emu.verdicts.step.panel import Story
from emu.verdicts.summary import summarise

TO_PACKET, TO_EVENT, TO_DROP, TO_FRAME, TO_END = range(5)
RUN_OPTIONS = ("scenario", "policy", "settings", "as_posted", "expect", "engine", "plain", "progress", "json")
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
        return self._story.panel(self._last, None)


def run_step(command: StepCommand) -> int:
    """Step through a play; the exit code."""
    if command.json:
        raise UsageError("--json: emu step draws panels; emu replay and emu run print the summary as JSON")
    if command.engine not in ("auto", "plain"):
        raise UsageError(f"--engine {command.engine}: emu step runs on the plain engine only")
    command = with_scenario(command)
    path = None if command.scenario is None else str(command.scenario)
    settings = dict(parse_setting(text) for text in command.settings or [])
    try:
        if path is not None and load_scenario(path, settings).is_run:
            return _step_run(command)
        return _step_replay(command)
    except LeaveError:
        return Exit.DONE


def _step_replay(command: StepCommand) -> int:
    inputs = inputs_of(command)
    task = task_of(command, inputs, policy=command.policy)
    watcher = watcher_of(command, task.scenario)
    print_lines([f"{command.scenario.stem if command.scenario else task.name} under {task.scenario.policy.name}"])
    interruption = Interruption()
    with ExitStack() as opened:
        plain = changed(command, engine="plain")
        _, company, _ = open_company(plain, rewrite_of(command), task, inputs, interruption, opened, say_on_stderr)
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
    judgements = _ended(watcher, outcome.machine, task, summarise(outcome))
    if outcome.damage is not None:
        say_on_stderr(str(outcome.damage))
    return exit_code(outcome, judgements)


def _step_run(command: StepCommand) -> int:
    from emu.closed import ClosedRun
    from emu.traffic.peer.stepping import ClosedSteppingEngine
    from emu.verdicts.run_summary import summarise_run

    refuse_options_of_captures(command)
    asked = RunCommand(
        scenario=str(command.scenario),
        policy=command.policy,
        settings=command.settings,
        as_posted=command.as_posted,
        expect=command.expect,
    )
    task = run_task(asked, run_scenario_of(asked, command.policy), NO_OUTPUTS)
    watcher = watcher_of(command, task.scenario)
    print_lines([f"{task.name} under {task.scenario.policy.name}"])
    outcome = ClosedRun(task, ClosedSteppingEngine(watcher)).run()
    judgements = _ended(watcher, outcome.machine, task, summarise_run(outcome))
    if outcome.incomplete:
        say_on_stderr(outcome.incomplete)
    failed = oops_unasked(task, outcome.machine) or not all(judgement.holds for judgement in judgements)
    return exit_code_of(interrupted=outcome.interrupted, damaged=False, failed=failed)


def _ended(watcher: Watcher, m: Any, task: Task, summary: dict[str, Any]) -> tuple[Judgement, ...]:
    """Say what followed the last packet, and whether what was expected holds."""
    total = m.total
    print_lines([*watcher.end(), f"{total.frames} frames: {total.delivered} delivered, {total.dropped} dropped"])
    judgements = tuple(judge(expectation, summary) for expectation in task.expectations)
    show_judgements(screen(sys.stdout), judgements)
    return judgements


def watcher_of(command: StepCommand, scenario: Scenario) -> Watcher:
    """Who watches: a person at a terminal, or whoever reads what is printed."""
    names = [device.name for device in scenario.device] + [upper.name for upper in scenario.upper]
    at_terminal = not command.plain and sys.stdin.isatty() and sys.stdout.isatty()
    return Watcher(names, Screen() if at_terminal else printed)


def with_scenario(command: StepCommand) -> StepCommand:
    """The command, with a scenario that was named in the place of a capture where it belongs.

    Errors: UsageError when it is neither a file nor a scenario that is shipped.
    """
    named = command.capture or []
    if len(named) != 1 or Path(named[0]).suffix not in ("", ".toml") or named[0] == "-":
        return command
    path = Path(named_scenario(named[0]))
    if path.suffix != ".toml":
        return command
    if command.scenario is not None:
        raise UsageError(f"{named[0]}: is a scenario, beside --scenario {command.scenario}; expected one of them")
    return changed(command, capture=None, scenario=path)


def refuse_options_of_captures(command: StepCommand) -> None:
    """Refuse what a run of the closed loop has no use for.  Errors: UsageError, which names the first such option."""
    for field in fields(StepCommand):
        if field.name not in RUN_OPTIONS and getattr(command, field.name) != field.default:
            what = "a capture" if field.name == "capture" else f"--{field.name.replace('_', '-')}"
            raise UsageError(f"{what}: {command.scenario} is a run of the closed loop; expected --set KEY=VALUE")


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

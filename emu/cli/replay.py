"""`emu replay`: options become a task, the task is played, the summary is shown."""

import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from rich.console import Console

from emu.capture.compression import Source, open_source
from emu.capture.output import STDOUT
from emu.capture.reader import CaptureReader
from emu.engine.choose import ENGINES, WORTH_LOADING_BYTES, choose_engine
from emu.errors import CaptureError, Exit, UsageError
from emu.interrupt import Interruption
from emu.replay import replay
from emu.scenario import Scenario, load_scenario, parse_setting
from emu.task import Outcome, Outputs, Pace, Task
from emu.traffic.pace import PACE_MBPS, PACE_PPS, PACE_SPEED
from emu.verdicts.expect import Judgement, judge, parse_expectation
from emu.verdicts.screen import show_judgements, show_summary
from emu.verdicts.summary import summarise

RATE = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?)([kMG]?)")
UNITS = {"": 1, "k": 1_000, "M": 1_000_000, "G": 1_000_000_000}
RATE_LIMIT = 1_000_000_000
NUMERATOR_LIMIT = 1_000_000_000_000  # pacing counts in 64 bits
COMPRESSED_RATIO = 4  # how much larger a compressed capture is taken to be, for the choice of an engine


class ReplayCommand(NamedTuple):
    """The options as given."""

    capture: str
    write: str | None = None
    annotate: str = "drops"
    log: str | None = None
    log_rows: str = "all"
    json: bool = False
    policy: str | None = None
    as_posted: str | None = None
    scenario: Path | None = None
    settings: Sequence[str] = ()
    expect: Sequence[str] = ()
    host: str | None = None
    memalloc: str | None = None
    closed: str | None = None
    speed: str | None = None
    pps: str | None = None
    mbps: str | None = None
    limit: int | None = None
    filter: str | None = None
    offload: str | None = None
    checksums: str | None = None
    events: str | None = None
    record_events: str | None = None
    engine: str = "auto"
    progress: bool | None = None


def run_replay(command: ReplayCommand) -> int:
    """Play one capture; the exit code."""
    _check_choice("--annotate", command.annotate, ("drops", "all"))
    _check_choice("--log-rows", command.log_rows, ("all", "drops"))
    if command.write == STDOUT and command.json:
        raise UsageError("-w - and --json both want standard output; write one of them to a file")
    task = task_of(command, command.policy)
    expectations = [parse_expectation(text) for text in [*task.scenario.expect, *command.expect]]
    outcome = play(command, task)
    summary = summarise(outcome)
    judgements = [judge(expectation, summary) for expectation in expectations]
    if command.json:
        print_json(summary | {"expectations": [judgement._asdict() for judgement in judgements]})
    else:
        console = screen(sys.stderr if command.write == STDOUT or command.log == STDOUT else sys.stdout)
        show_summary(console, summary)
        show_judgements(console, judgements)
    tell(outcome)
    return exit_code(outcome, judgements)


def task_of(command: ReplayCommand, policy: str | None) -> Task:
    """The command's options as a task under one policy."""
    return Task(
        scenario=scenario_of(command, policy),
        name=capture_name(command),
        host=command.host,
        pace=pace_of(command),
        limit=command.limit,
        filter=command.filter,
        events=command.events,
        outputs=Outputs(command.write, command.annotate, command.log, command.log_rows, command.record_events),
    )


def capture_name(command: ReplayCommand) -> str:
    """What the capture is called; a file's name need not be UTF-8, what we write is."""
    return "stdin" if command.capture == "-" else os.fsencode(command.capture).decode(errors="replace")


def scenario_of(command: ReplayCommand, policy: str | None) -> Scenario:
    """The scenario file, then --set, then the options that have a name of their own."""
    settings = dict(parse_setting(text) for text in command.settings)
    named = {
        "policy.name": policy,
        "policy.as_posted": command.as_posted,
        "replay.memalloc": command.memalloc,
        "replay.closed": command.closed,
        "replay.offload": command.offload,
        "replay.checksums": command.checksums,
    }
    settings |= {key: value for key, value in named.items() if value is not None}
    return load_scenario(None if command.scenario is None else str(command.scenario), settings)


def pace_of(command: ReplayCommand) -> Pace:
    """The one pace that was asked for."""
    asked = [
        (mode, option, text)
        for mode, option, text in (
            (PACE_SPEED, "--speed", command.speed),
            (PACE_PPS, "--pps", command.pps),
            (PACE_MBPS, "--mbps", command.mbps),
        )
        if text is not None
    ]
    if len(asked) > 1:
        raise UsageError(f"{' and '.join(option for _, option, _ in asked)} exclude each other")
    if not asked:
        return Pace()
    mode, option, text = asked[0]
    found = RATE.fullmatch(text.removesuffix("x") if mode == PACE_SPEED else text)
    rate = Fraction(found[1]) * UNITS[found[2]] if found else Fraction(0)
    if not 0 < rate <= RATE_LIMIT or rate.numerator > NUMERATOR_LIMIT:
        raise UsageError(f"{option} {text}: expected a number above 0 up to 1G, such as 2, 0.5, 200k or 1.5M")
    return Pace(mode, rate.numerator, rate.denominator)


def play(command: ReplayCommand, task: Task) -> Outcome:
    """Open the capture, choose the engine, replay."""
    _check_choice("--engine", command.engine, ENGINES)
    inputs = [str(name) for name in (command.capture, command.scenario, command.events) if name is not None]
    interruption = Interruption()
    with closing(open_source(command.capture)) as source:
        size = capture_bytes(source, interruption) if command.engine == "auto" else None
        if interruption.happened and command.capture == "-":
            end_stdin(interruption)
        engine, said = choose_engine(command.engine, size)
        if said:
            print(f"emu: {said}", file=sys.stderr)
        try:
            reader = CaptureReader(source, task.name, engine)
        except CaptureError:
            if interruption.happened:  # before there was a capture
                raise KeyboardInterrupt from None
            raise
        with progress_bar(command.progress, task) as advance:
            return replay(task, engine, reader, inputs, advance, interruption)


def capture_bytes(source: Source, interruption: Interruption) -> int | None:
    """About how many bytes of capture there are; None when a pipe holds more than a window."""
    if source.size is None:
        with interruption:
            waiting = interruption.wait_for(lambda: source.peek(WORTH_LOADING_BYTES))
        return None if waiting >= WORTH_LOADING_BYTES else waiting
    return source.size * (COMPRESSED_RATIO if source.compression else 1)


def end_stdin(interruption: Interruption) -> None:
    """Ctrl-C before the first frame: what standard input has given so far is played, no more is waited for."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, sys.stdin.fileno())
    os.close(nothing)
    interruption.input_ended = True


@contextmanager
def progress_bar(asked: bool | None, task: Task) -> Iterator[Callable[[CaptureReader, Any], None] | None]:
    """A bar on stderr: bytes, frames, drops; nothing when stderr is no terminal, unless asked for."""
    if asked is False or (asked is None and not sys.stderr.isatty()):
        yield None
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[frames]} frames, {task.fields[drops]} drops"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=asked is None) as progress:
        bar = progress.add_task(task.scenario.policy.name, total=None, frames=0, drops=0)

        def advance(reader: CaptureReader, m: Any) -> None:
            progress.update(
                bar,
                total=reader.size,
                completed=reader.bytes_read,
                frames=int(m.total.frames),
                drops=int(m.total.dropped),
            )

        yield advance


def print_json(value: Any) -> None:
    """One JSON object on standard output."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")
    sys.stdout.flush()


def screen(stream: Any) -> Console:
    """A console for people; off a terminal it is wide, so that lines are not broken."""
    return Console(file=stream, width=None if stream.isatty() else 120, soft_wrap=False)


def tell(outcome: Outcome) -> None:
    """Say on stderr what cut the run short."""
    if outcome.interrupted:
        print(f"emu: {outcome.incomplete}; outputs are closed and say so", file=sys.stderr)
    elif outcome.damage is not None:
        print(f"emu: {outcome.damage}", file=sys.stderr)


def exit_code(outcome: Outcome, judgements: list[Judgement]) -> int:
    """The exit code of a run."""
    if outcome.interrupted:
        return Exit.INTERRUPTED
    if outcome.damage is not None:
        return Exit.CAPTURE
    return Exit.DONE if all(judgement.holds for judgement in judgements) else Exit.EXPECTATION_FAILED


def _check_choice(option: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise UsageError(f"{option} {value}: expected one of {', '.join(choices)}")

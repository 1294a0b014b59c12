"""What a user asked for, on the command line or from Python, becomes a task, and the task is played."""

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from copy import deepcopy
from dataclasses import fields
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

from msgspec import structs

from emu.capture.compression import Source, open_source
from emu.capture.frames import FrameSource
from emu.capture.merge import merged
from emu.capture.reader import CaptureReader
from emu.cli.live_options import LiveCommand
from emu.cli.options import PlayCommand, ReplayCommand
from emu.cli.rewrite_options import RewriteOptions
from emu.engine.choose import ENGINES, WORTH_COMPILING_BYTES, WORTH_LOADING_BYTES, choose_engine
from emu.engine.plain import Engine
from emu.errors import CaptureError, UsageError
from emu.interrupt import Interruption
from emu.kernel.machine import NONE
from emu.play import replay
from emu.reread import rereadable
from emu.scenario import Scenario, readers_of
from emu.scenario_file import ScenarioError, load_scenario, parse_setting, scenario_path
from emu.task import NO_OUTPUTS, Input, Outcome, Outputs, Pace, Task
from emu.traffic.beside import (
    USUAL_FRAME_BYTES,
    USUAL_FRAMES,
    Beside,
    Company,
    alone,
    beside,
    besides_of,
    ended_after,
    expected_frames,
    parse_beside,
)
from emu.traffic.events import header_in
from emu.traffic.flood.kinds import recipe_text
from emu.traffic.flood.values import RATE, UNITS
from emu.traffic.pace import PACE_MBPS, PACE_PPS, PACE_SPEED
from emu.traffic.rewrite.rules import added
from emu.traffic.rewrite.source import report_of, rewritten
from emu.traffic.rewrite.spec import Rewrite, parse_rewrite
from emu.verdicts.expect import Expectation, parse_expectation, texts_for

RATE_LIMIT = 1_000_000_000
NUMERATOR_LIMIT = 1_000_000_000_000  # pacing counts in 64 bits
COMPRESSED_RATIO = 4  # how much larger a compressed capture is taken to be, for the choice of an engine

ENDLESS_FRAMES = 4_000  # so many are taken for a flood that ends with the captures: worth a warm cache, no compiling

Advance = Callable[[FrameSource, Any], None]  # told of the source and the machine after each batch
UNSEEN: AbstractContextManager[Advance | None] = nullcontext()


def say_on_stderr(sentence: str) -> None:
    """Tell the user something that is no result."""
    print(f"emu: {sentence}", file=sys.stderr)


def task_of(
    command: PlayCommand,
    inputs: Sequence[Input],
    *,
    policy: str | None,
    events: str | None = None,
    outputs: Outputs = NO_OUTPUTS,
) -> Task:
    """The command's options as a task under one policy."""
    scenario = scenario_of(command, inputs, policy, events)
    if events is None:
        refuse_real_readers(scenario)
    return Task(
        scenario=scenario,
        name=name_of_all(inputs, scenario),
        inputs=tuple(inputs),
        host=command.host,
        pace=pace_of(command),
        limit=command.limit,
        filter=command.filter,
        events=events,
        outputs=outputs,
        expectations=tuple(expectations_of(command, scenario)),
    )


def outputs_of(command: ReplayCommand | LiveCommand) -> Outputs:
    """What the command writes."""
    return Outputs(command.write, command.annotate, command.log, command.log_rows, command.record_events)


def inputs_of(command: PlayCommand) -> list[Input]:
    """The captures, each with the device that it is of; none: there may be floods."""
    captures, given = command.capture or [], command.device or []
    if captures and given:
        raise UsageError(f"{captures[0]}: a capture without a device, beside --device; write --device NAME=FILE")
    inputs = [Input("", path) for path in captures]
    for text in given:
        name, equals, path = text.partition("=")
        if not (name and equals and path):
            raise UsageError(f"--device {text}: expected NAME=FILE, such as eth0=capture.pcapng")
        if name in [other.device for other in inputs]:
            raise UsageError(f"--device {text}: {name} has a capture already; merge them (mergecap) or rename one")
        inputs.append(Input(name, path))
    if [given.path for given in inputs].count("-") > 1:
        where = "--device: standard input (-) can be one device's capture only"
        raise UsageError(where if given else "-: standard input can be one capture only")
    return inputs


def name_of_all(inputs: Sequence[Input], scenario: Scenario) -> str:
    """What is played, as messages and the summary call it.  Errors: UsageError when it is nothing."""
    names = [*map(input_name, inputs), *scenario.replay.flood]
    if not names:
        raise UsageError("Missing argument 'CAPTURE': a capture, --device NAME=FILE, or --flood (emu --help)")
    return ", ".join(names)


def input_name(given: Input) -> str:
    """A capture as messages and the summary call it."""
    return f"{given.device}={given.name}" if given.device else given.name


def expectations_of(command: PlayCommand | LiveCommand, scenario: Scenario) -> list[Expectation]:
    """What must hold: the scenario's expectations, then the command's."""
    said = texts_for(scenario.expect, scenario.policy.name)
    return [parse_expectation(text) for text in [*said, *(command.expect or [])]]


def refuse_real_readers(scenario: Scenario) -> None:
    """A replay has no real readers, unless a recording says when they read."""
    for key, reader in readers_of(scenario).items():
        if reader == "real":
            raise UsageError(
                f"{key} = 'real': only emu live has real readers; give its recording (--events), or another"
            )


def recorded_tables(events: str) -> dict[str, Any] | None:
    """The scenario that a recording tells of, as its file would; None: it tells of none.  Errors: UsageError."""
    tables = header_in(events).scenario
    if tables is not None:
        try:
            load_scenario(None, tables=deepcopy(tables))
        except ScenarioError as error:
            problem = " ".join(str(error.problems[0]).split())
            raise UsageError(f"{events}: the scenario of its header is none, give --scenario: {problem}") from None
    return tables


def settings_of(asked: Sequence[str] | None, *options: tuple[str, str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """What --set says of keys, then options (key, option, value; None: not given); and which option said a key."""
    settings = dict(parse_setting(text) for text in asked or [])
    said = {}
    for key, option, value in options:
        if value is not None:
            settings[key] = value
            said[key] = f"{option} {value}"
    return settings, said


def refuse_run(scenario: Scenario, file: Path | None) -> None:
    """A run of the closed loop is another verb's.  Errors: UsageError."""
    if scenario.is_run:
        name = file or "--set"
        raise UsageError(f"{name}: a run of the closed loop ([run], [[session]]) is played by: emu run {name}")


def scenario_of(
    command: PlayCommand, inputs: Sequence[Input], policy: str | None = None, events: str | None = None
) -> Scenario:
    """The scenario file (without one, that of a recording), then --set, then the options with a name of their own."""
    settings, options = settings_of(
        command.settings,
        ("policy.name", "--policy", policy),
        ("policy.as_posted", "--as-posted", command.as_posted),
        ("replay.memalloc", "--memalloc", command.memalloc),
        ("replay.closed", "--closed", command.closed),
        ("replay.offload", "--offload", command.offload),
        ("replay.checksums", "--checksums", command.checksums),
        ("replay.retransmit", "--retransmit", command.retransmit or None),
    )
    path = None if command.scenario is None else scenario_path(str(command.scenario))
    recorded = recorded_tables(events) if path is None and events is not None and Path(events).is_file() else None
    devices = [given.device for given in inputs if given.device]
    scenario = load_scenario(path, settings, options, devices, recorded)
    refuse_run(scenario, command.scenario)
    devices = [device.name for device in scenario.device]
    for text in command.flood or []:
        parse_beside(text, "--flood", devices)
    floods = [*scenario.replay.flood, *(command.flood or [])]
    return structs.replace(scenario, replay=structs.replace(scenario.replay, flood=floods))


def pace_of(command: PlayCommand) -> Pace:
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


def rewrite_of(options: RewriteOptions) -> Rewrite:
    """What is to be rewritten.  Errors: UsageError as of parse_rewrite."""
    return parse_rewrite(**{field.name: getattr(options, field.name) for field in fields(RewriteOptions)})


def refuse_rewriting(options: RewriteOptions) -> None:
    """Refuse to rewrite where no capture is played.  Errors: UsageError, which names the first option given."""
    given = next((field.name for field in fields(RewriteOptions) if getattr(options, field.name)), None)
    if given is not None:
        option = f"--{given.replace('_', '-')}"
        raise UsageError(f"{option}: there is no capture to rewrite; a flood is rewritten by emu flood KIND {option}")


def play(
    command: PlayCommand,
    task: Task,
    inputs: Sequence[Input],
    progress: AbstractContextManager[Advance | None] = UNSEEN,
    say: Callable[[str], None] = say_on_stderr,
) -> Outcome:
    """Open the captures and floods, choose the engine, replay.

    `progress` gives what is told how far it has come, `say` tells the user what must be said before it begins.
    """
    check_choice("--engine", command.engine, ENGINES)
    files = [*(given.path for given in inputs), command.scenario, task.events]
    interruption = Interruption()
    with ExitStack() as opened:
        rewrite = rewrite_of(command)
        if not inputs:
            refuse_rewriting(command)
        if rewrite.loop > 1:
            inputs = opened.enter_context(rereadable(inputs))
        engine, company, readers = open_company(command, rewrite, task, inputs, interruption, opened, say)
        with progress as advance:
            outcome = replay(
                task,
                engine,
                company.reader,
                [str(name) for name in files if name is not None],
                advance,
                interruption,
                company.floods,
                company.hosts,
            )
        return outcome._replace(rewritten=added(map(report_of, readers)))


def open_company(
    command: PlayCommand,
    rewrite: Rewrite,
    task: Task,
    inputs: Sequence[Input],
    interruption: Interruption,
    opened: ExitStack,
    say: Callable[[str], None],
) -> tuple[Engine, Company, Sequence[FrameSource]]:
    """Open all that is played: the engine for it, who plays, and the captures among them."""
    devices = [device.name for device in task.scenario.device]
    floods = besides_of(task.scenario)
    first = opened.enter_context(closing(open_source(inputs[0].path))) if len(inputs) == 1 else None
    # A flood is aimed by the first frames: whoever waits for them here can be stopped, and plays what has come.
    waits = command.engine == "auto" or (floods and first is not None)
    size = expected_bytes(inputs, first, floods, interruption) if waits else None
    if interruption.happened and any(given.path == "-" for given in inputs):
        end_stdin(interruption)
    engine, said = choose_engine(command.engine, None if size is None else size * rewrite.loop)
    if said:
        say(said)
    if not inputs:
        return engine, alone(endings(floods, task.limit, say), engine, devices), ()
    try:
        readers = []
        for given in inputs:
            again = partial(open_input, given, engine, devices)
            source = rewritten(open_input(given, engine, devices, first), rewrite, engine, again, command.host)
            readers.append(opened.enter_context(closing(source)))
        reader = merged(readers, engine)
        if not floods:
            return engine, Company(reader), readers
        return engine, _aimed(reader, floods, engine, task, interruption), readers
    except CaptureError:
        if interruption.happened:  # before there was a capture
            raise KeyboardInterrupt from None
        raise


def _aimed(
    reader: FrameSource, floods: Sequence[Beside], engine: Engine, task: Task, interruption: Interruption
) -> Company:
    """Captures with floods beside them: whoever aims must see first frames, for which a pipe may keep them waiting."""
    company: list[Company] = []

    def mix() -> int:
        company.append(beside(reader, floods, engine, task.scenario, task.host))
        return 1

    with interruption:
        interruption.wait_for(mix)
    if not company:
        raise KeyboardInterrupt
    return company[0]


def open_input(given: Input, engine: Engine, devices: Sequence[str], source: Source | None = None) -> FrameSource:
    """One capture as a source of frames; `source` is its file, where that is open already.

    Errors: CaptureError in one line when it cannot be read.
    """
    file = source or open_source(given.path)
    try:
        device = devices.index(given.device) if given.device else NONE
        return CaptureReader(file, input_name(given) if source else given.name, engine, device=device)
    except BaseException:
        file.close()
        raise


def endings(floods: Sequence[Beside], limit: int | None, say: Callable[[str], None]) -> list[Beside]:
    """Floods that nothing accompanies: each that has no end of its own gets one, and that is said."""
    ended = []
    for each in floods:
        if each.endless:
            frames = limit or USUAL_FRAMES
            if limit is None:
                say(f"{recipe_text(each.flood)}: neither count nor for, and no capture: {frames} frames")
            each = each._replace(flood=ended_after(each.flood, frames))
        ended.append(each)
    return ended


def expected_bytes(
    inputs: Sequence[Input], source: Source | None, floods: Sequence[Beside], interruption: Interruption
) -> int | None:
    """About how many bytes will be played; None: more than a window of a pipe."""
    made = sum(min(expected_frames(each.flood), ENDLESS_FRAMES) * USUAL_FRAME_BYTES for each in floods)
    if source is None:
        return sum(file_bytes(given.path) for given in inputs) + made
    size = capture_bytes(source, interruption)
    return None if size is None else size + made


def file_bytes(path: str) -> int:
    """How many bytes a file holds, as it lies there; a pipe's are not known: enough to compile for."""
    file = Path(path)
    if path == "-" or (file.exists() and not file.is_file()):
        return WORTH_COMPILING_BYTES
    return file.stat().st_size if file.exists() else 0


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


def check_choice(option: str, value: str, choices: tuple[str, ...]) -> None:
    """Refuse a word that is not one of the choices."""
    if value not in choices:
        raise UsageError(f"{option} {value}: expected one of {', '.join(choices)}")

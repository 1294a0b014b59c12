"""What a user asked for, on the command line or from Python, becomes a task, and the task is played."""

import os
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from dataclasses import fields
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

from emu.capture.compression import Source, open_source
from emu.capture.frames import FrameSource
from emu.capture.merge import merged
from emu.capture.reader import CaptureReader, open_capture
from emu.cli.options import PlayCommand
from emu.cli.rewrite_options import RewriteOptions
from emu.engine.choose import ENGINES, WORTH_COMPILING_BYTES, WORTH_LOADING_BYTES, choose_engine
from emu.errors import CaptureError, UsageError
from emu.interrupt import Interruption
from emu.kernel.machine import NONE
from emu.play import replay
from emu.reread import rereadable
from emu.scenario import Scenario
from emu.scenario_file import load_scenario, parse_setting
from emu.task import NO_OUTPUTS, Input, Outcome, Outputs, Pace, Task
from emu.traffic.pace import PACE_MBPS, PACE_PPS, PACE_SPEED
from emu.traffic.rewrite.rules import added
from emu.traffic.rewrite.source import open_rewritten, report_of, rewritten
from emu.traffic.rewrite.spec import Rewrite, parse_rewrite
from emu.verdicts.expect import Expectation, parse_expectation

RATE = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?)([kMG]?)")
UNITS = {"": 1, "k": 1_000, "M": 1_000_000, "G": 1_000_000_000}
RATE_LIMIT = 1_000_000_000
NUMERATOR_LIMIT = 1_000_000_000_000  # pacing counts in 64 bits
COMPRESSED_RATIO = 4  # how much larger a compressed capture is taken to be, for the choice of an engine

Advance = Callable[[FrameSource, Any], None]  # told of the source and the machine after each batch
UNSEEN: AbstractContextManager[Advance | None] = nullcontext()


def task_of(
    command: PlayCommand,
    inputs: Sequence[Input],
    *,
    policy: str | None,
    events: str | None = None,
    outputs: Outputs = NO_OUTPUTS,
) -> Task:
    """The command's options as a task under one policy."""
    scenario = scenario_of(command, inputs, policy)
    return Task(
        scenario=scenario,
        name=", ".join(map(input_name, inputs)),
        inputs=tuple(inputs),
        host=command.host,
        pace=pace_of(command),
        limit=command.limit,
        filter=command.filter,
        events=events,
        outputs=outputs,
        expectations=tuple(expectations_of(command, scenario)),
    )


def inputs_of(command: PlayCommand) -> list[Input]:
    """The captures, each with the device that it is of."""
    given = command.device or []
    if command.capture is not None:
        if given:
            raise UsageError(
                f"{command.capture}: a capture without a device, beside --device; write --device NAME=FILE"
            )
        return [Input("", command.capture)]
    inputs: list[Input] = []
    for text in given:
        name, equals, path = text.partition("=")
        if not (name and equals and path):
            raise UsageError(f"--device {text}: expected NAME=FILE, such as eth0=capture.pcapng")
        if name in [other.device for other in inputs]:
            raise UsageError(f"--device {text}: {name} has a capture already; merge them (mergecap) or rename one")
        inputs.append(Input(name, path))
    if not inputs:
        raise UsageError("Missing argument 'CAPTURE': a capture, or --device NAME=FILE (emu --help)")
    if [given.path for given in inputs].count("-") > 1:
        raise UsageError("--device: standard input (-) can be one device's capture only")
    return inputs


def input_name(given: Input) -> str:
    """A capture as messages and the summary call it."""
    return f"{given.device}={given.name}" if given.device else given.name


def expectations_of(command: PlayCommand, scenario: Scenario) -> list[Expectation]:
    """What must hold: the scenario's expectations, then the command's."""
    return [parse_expectation(text) for text in [*scenario.expect, *(command.expect or [])]]


def scenario_of(command: PlayCommand, inputs: Sequence[Input], policy: str | None = None) -> Scenario:
    """The scenario file, then --set, then the options that have a name of their own."""
    settings = dict(parse_setting(text) for text in command.settings or [])
    options = {}
    for key, option, value in (
        ("policy.name", "--policy", policy),
        ("policy.as_posted", "--as-posted", command.as_posted),
        ("replay.memalloc", "--memalloc", command.memalloc),
        ("replay.closed", "--closed", command.closed),
        ("replay.offload", "--offload", command.offload),
        ("replay.checksums", "--checksums", command.checksums),
    ):
        if value is not None:
            settings[key] = value
            options[key] = f"{option} {value}"
    path = None if command.scenario is None else str(command.scenario)
    return load_scenario(path, settings, options, [given.device for given in inputs if given.device])


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


def play(
    command: PlayCommand,
    task: Task,
    inputs: Sequence[Input],
    progress: AbstractContextManager[Advance | None] = UNSEEN,
) -> Outcome:
    """Open the captures, choose the engine, replay; `progress` gives what is told how far it has come."""
    check_choice("--engine", command.engine, ENGINES)
    read = [*(given.path for given in inputs), command.scenario, task.events]
    interruption = Interruption()
    devices = [device.name for device in task.scenario.device]
    rewrite = rewrite_of(command)
    readers: list[FrameSource] = []
    with ExitStack() as opened:
        if rewrite.loop > 1:
            inputs = opened.enter_context(rereadable(inputs))
        if len(inputs) == 1:
            source = opened.enter_context(closing(open_source(inputs[0].path)))
            size = capture_bytes(source, interruption) if command.engine == "auto" else None
        else:
            size = sum(file_bytes(given.path) for given in inputs)
        if interruption.happened and any(given.path == "-" for given in inputs):
            end_stdin(interruption)
        engine, said = choose_engine(command.engine, None if size is None else size * rewrite.loop)
        if said:
            print(f"emu: {said}", file=sys.stderr)
        try:
            reader: FrameSource
            if len(inputs) == 1:
                device = devices.index(inputs[0].device) if inputs[0].device else NONE
                reader = CaptureReader(source, task.name, engine, device=device)
                again = partial(open_capture, inputs[0].path, engine, device=device)
                reader = rewritten(reader, rewrite, engine, again, command.host)
                readers.append(opened.enter_context(closing(reader)))
            else:
                for given in inputs:
                    device = devices.index(given.device)
                    reader = open_rewritten(given.path, rewrite, engine, device, command.host)
                    readers.append(opened.enter_context(closing(reader)))
        except CaptureError:
            if interruption.happened:  # before there was a capture
                raise KeyboardInterrupt from None
            raise
        with progress as advance:
            files = [str(name) for name in read if name is not None]
            outcome = replay(task, engine, merged(readers, engine), files, advance, interruption)
        return outcome._replace(rewritten=added(map(report_of, readers)))


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

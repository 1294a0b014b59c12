"""`replay` and `compare` as functions."""

import logging
from contextlib import ExitStack
from dataclasses import replace
from importlib.util import find_spec
from typing import Unpack

from emu.api.inputs import Given, given_from
from emu.api.options import REALTIME, Capture, Command, CompareOptions, ReplayOptions, command_of, described
from emu.api.result import Comparison, Interrupted, ReplayResult, Verdicts
from emu.cli.options import CompareCommand, ReplayCommand
from emu.cli.progress import bars, replays_in
from emu.cli.replay import progress_bar
from emu.errors import UsageError
from emu.request import outputs_of
from emu.runs import Run, collected, run_each, run_once
from emu.task import NO_OUTPUTS, Outputs

MEANINGS = {  # where Python has other words than the command line
    "device": "Captures by the device that they are of, {'eth0': capture}, merged by time.",
    "scenario": "The experiment as data: a file, or its tables as a dictionary.",
    "flood": "Crafted traffic beside the captures, aimed at their host: flood(...) or 'udp:pps=100k'; one or several.",
    "settings": "Keys of the scenario to change: {'pressure.start': 'quiet'}, also nested; or KEY=VALUE texts.",
    "expect": "What should hold of the summary, 'memalloc.dropped == 0'; one or several: see `expectations`, `ok`.",
    "as_posted": "Leave the patch's own bugs in: True for all that the revision was posted with, or [1, 8, 11].",
    "realtime": REALTIME,
    "log": "Write the log as well: .parquet .arrow .csv .jsonl",
    "progress": "Show progress on stderr.",
    "jobs": "Policies at once, each in a process of its own; the results are the same.  1 unless given.",
    "policies": "Rows of `emu policies`, a list of names, or 'all'.",
    "keep_verdicts": "Keep the log for `verdicts()`, in a temporary file that goes with the result.",
}

ONE_BY_ONE = 1  # nobody expects a library to start processes unless they are asked for

say = logging.getLogger("emu").info  # what takes its time, such as compiling: a library does not print


def replay(*captures: Capture, keep_verdicts: bool = True, **options: Unpack[ReplayOptions]) -> ReplayResult:
    """Take a capture through the emulated receive path and say of every packet whether it survives, and why.

    `captures`: paths, bytes, open binary files, Scapy packets, or floods; several are merged by time.  Memory is
    bounded whatever their size; kept verdicts cost disk, some 15 bytes per packet.  A capture that is damaged is played
    as far as it is sound: see `damage` of the result.  Errors: TypeError, UsageError, CaptureError, NothingToPlayError;
    Interrupted on Ctrl-C.
    """
    command = command_of("replay", ReplayCommand, options)
    with ExitStack() as until:
        given = given_from(captures, options.get("device"), until)
        command = _completed(command, given)
        outputs, verdicts = outputs_of(command), None
        if outputs.log is not None:
            verdicts = Verdicts(outputs.log)
        elif keep_verdicts and find_spec("polars") is not None:
            verdicts = Verdicts()
            outputs = outputs._replace(log=verdicts.path)
        run = _played(command, given, outputs)
    result = ReplayResult(run, verdicts)
    if run.interrupted:
        raise Interrupted(result)
    return result


def _played(command: ReplayCommand, given: Given, outputs: Outputs) -> Run:
    def play(outputs: Outputs) -> Run:
        return run_once(command, given.inputs, outputs, lambda task: progress_bar(bool(command.progress), task), say)

    if command.report is None:
        return play(outputs)
    from emu.replay_report import run_reported

    return run_reported(command, given.inputs, outputs, play)


def compare(*captures: Capture, keep_verdicts: bool = False, **options: Unpack[CompareOptions]) -> Comparison:
    """Replay the same input under several policies: who survives under which.

    `captures` and errors are those of `replay`.
    """
    command = command_of("compare", CompareCommand, {"jobs": ONE_BY_ONE} | options)
    kept: dict[str, Verdicts] = {}

    def outputs_under(policy: str) -> Outputs:
        if not keep_verdicts or find_spec("polars") is None:
            return NO_OUTPUTS
        kept[policy] = Verdicts()
        return Outputs(log=kept[policy].path)

    with ExitStack() as until:
        given = given_from(captures, options.get("device"), until)
        command = _completed(command, given)
        with bars(bool(command.progress)) as shown:
            runs, stopped = collected(run_each(command, given.inputs, replays_in(shown), say, outputs_under))
    result = Comparison(runs, kept)
    if stopped or any(run.interrupted for run in runs):
        raise Interrupted(result)
    return result


def _completed(command: Command, given: Given) -> Command:
    """The command with the floods that were given as captures."""
    floods = [*(command.flood or []), *given.floods]
    if not (given.inputs or floods or command.scenario or command.settings):  # a scenario may have floods
        raise UsageError("a capture is missing: a path, bytes, a binary file, Scapy packets, a flood, or device={...}")
    return replace(command, flood=floods or None)


described(replay, ReplayCommand, MEANINGS)
described(compare, CompareCommand, MEANINGS)

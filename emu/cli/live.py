"""`emu live`: the emulated NIC between two real interfaces."""

import sys

from emu.capture.output import STDOUT
from emu.cli.live_options import LiveCommand
from emu.cli.replay import print_json, screen
from emu.errors import UsageError
from emu.live.session import LiveEnd, exit_code, live
from emu.live.state import LiveState
from emu.request import say_on_stderr
from emu.verdicts.screen import figure, show_judgements, show_summary


def run_live(command: LiveCommand) -> int:
    """Play until it ends; the exit code."""
    if STDOUT in (command.log, command.host_capture, command.record_events) or (
        command.write == STDOUT and command.json
    ):
        raise UsageError("-: one output at most is standard output, and of a live run only -w, without --json")
    end = live(command, say_on_stderr, say_started)
    if command.json:
        print_json(end.printed())
    else:
        console = screen(sys.stderr if command.write == STDOUT else sys.stdout)
        show_summary(console, end.run.summary)
        for line in outside_lines(end):
            console.print(line, highlight=False, soft_wrap=True)
        show_judgements(console, end.run.judgements)
    if end.run.summary["incomplete"]:
        say_on_stderr(f"{end.run.summary['incomplete']}; outputs are closed and say so")
    return exit_code(end)


def say_started(state: LiveState) -> None:
    """Say that frames may come."""
    names = f"{state.wire_if} ({state.wire_kind}) to {state.host_if} ({state.host_kind})"
    say_on_stderr(f"{names} under {state.policy}, for {state.bound_seconds:g} s at most; Ctrl-C ends it")


def outside_lines(end: LiveEnd) -> list[str]:
    """What the interfaces counted, in sentences."""
    live, lost = end.live, end.live["lost_outside"]
    handed_on = f"{figure(live['handed_on'])} that the emulated protocols refuse whatever memory there is"
    before = f"{figure(lost.wire_queue)} before it ({live['wire_if']}'s queue was full)"
    behind = f"{figure(lost.host_queue)} survivors behind it, {figure(lost.sent_by_host)} that the host sent"
    held = f"held: {figure(live['held'])} frames that no emulated reader has come for"
    thrown = f"{figure(live['held_thrown_away'])} that a full socket threw away unread"
    return [
        *([f"{held}, {thrown}; the real stack never got them"] if live["held"] or live["held_thrown_away"] else []),
        f"survivors: {figure(live['survivors'])} frames for {live['host_if']}, {handed_on}: the real stack judges them",
        f"lost outside the model: {before}, {behind}",
        *([f"{figure(lost.too_long)} frames were longer than the MTU, and were played"] if lost.too_long else []),
    ]

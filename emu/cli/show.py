"""`emu show`: the packets of a log or an annotated capture as a list, as tables, a flow's fate, one packet in words."""

import sys
from collections.abc import Callable

import msgspec

from emu.capture.output import STDOUT, OutputFile
from emu.cli.replay import print_json, screen
from emu.cli.show_options import ShowCommand
from emu.cli.show_screen import print_fate, print_groups, print_story, totals_line
from emu.cli.told import tell_of_file
from emu.errors import UsageError
from emu.request import say_on_stderr
from emu.verdicts.fates import HOW_TO_KNOW
from emu.verdicts.flows import flow_pattern
from emu.verdicts.log import import_polars
from emu.verdicts.names import CAUSE_NAMES, CLASS_NAMES, REASON_NAMES, VERDICT_NAMES, name_of, names_of, rules_of
from emu.verdicts.read import Verdicts, open_verdicts
from emu.verdicts.read_log import queried
from emu.verdicts.screen import counted, figure
from emu.verdicts.show.fate import fate_of
from emu.verdicts.show.groups import BY, groups_of
from emu.verdicts.show.listing import heading, lines, list_fields, write_json_lines, write_lines
from emu.verdicts.show.packet import story_of
from emu.verdicts.show.select import (
    Matches,
    Totals,
    Wanted,
    frames_of,
    matches_of,
    nanoseconds,
    refuse_unknown_devices,
    selected,
    totals_of,
)
from emu.verdicts.show.where import where_expression

TERMINAL_ROWS = 50
VERB = "emu show"


def run_show(command: ShowCommand) -> int:
    """Show what is asked for; the exit code.  Errors: UsageError, CaptureError, ClosedPipe."""
    import_polars(VERB)
    wanted = wanted_of(command)
    show = _view_of(command, wanted)
    verdicts = open_verdicts(command.file, wanted_by=VERB, engine=command.engine, say=say_on_stderr)
    with queried(verdicts.name):
        totals = totals_of(verdicts)
        refuse_unknown_devices(wanted, totals)
        show(command, verdicts, wanted, totals)
    return tell_of_file(verdicts.name, verdicts.notes, verdicts.incomplete, verdicts.damage)


def wanted_of(command: ShowCommand) -> Wanted:
    """The filters of a command.  Errors: UsageError when a name or a text is none."""
    verdicts = names_of("--verdict", command.verdict, VERDICT_NAMES)
    if command.drops and verdicts:
        raise UsageError("--drops and --verdict: leave one of them out; --drops is --verdict dropped")
    wanted = Wanted(
        verdicts=("dropped",) if command.drops else verdicts,
        reasons=names_of("--reason", command.reason, REASON_NAMES),
        causes=names_of("--cause", command.cause, CAUSE_NAMES),
        classes=names_of("--class", command.class_, CLASS_NAMES),
        devices=tuple(command.device or ()),
        rules=rules_of("--policy-rule", command.policy_rule),
        memalloc=command.memalloc,
        flows=tuple(command.flow or ()),
        from_ns=nanoseconds("--from", command.from_),
        to_ns=nanoseconds("--to", command.to),
        frames=frames_of(command.frame),
        where=command.where or "",
    )
    for flow in wanted.flows:
        flow_pattern(flow)
    if command.where is not None:
        where_expression(command.where)
    return wanted


def _view_of(command: ShowCommand, wanted: Wanted) -> Callable[[ShowCommand, Verdicts, Wanted, Totals], None]:
    """What is to be shown of the packets.  Errors: UsageError when options contradict each other."""
    if command.by is not None and command.fate:
        raise UsageError("--by and --fate: one of them at a time")
    if command.by is not None:
        name_of("--by", command.by, tuple(BY))
        return _show_groups
    if command.fate:
        if not wanted.flows:
            raise UsageError("--fate is of a flow: name it with --flow, such as --flow 10.66.0.1:3260 (--by flow: all)")
        return _show_fate
    if len(command.frame or ()) == 1 and (command.frame or [""])[0].strip().isdecimal():
        if wanted != Wanted(frames=wanted.frames):
            raise UsageError(f"--frame {(command.frame or [''])[0]} tells of one packet; leave the other filters out")
        return _show_packet
    return _show_list


def _show_list(command: ShowCommand, verdicts: Verdicts, wanted: Wanted, totals: Totals) -> None:
    """A line per packet."""
    rows = selected(verdicts, wanted, totals)
    limit = _limit(command)
    matches = matches_of(verdicts, wanted, totals)
    shown = rows if limit is None else rows.head(limit)
    output = OutputFile(STDOUT)
    if command.json:
        write_json_lines(shown, output.write)
    else:
        fields = list_fields(totals)
        head = f"{totals_line(verdicts, totals)}{_matching(matches, wanted)}\n{heading(fields)}\n"
        output.write(head.encode())
        write_lines(lines(shown, fields, coloured=screen(sys.stdout).color_system is not None), output.write)
    output.finish()
    if limit is not None and matches.rows > limit:
        say_on_stderr(f"{figure(matches.rows - limit)} more match; --limit N shows more of them, --limit 0 all")
    _tell_unknown(matches)


def _show_groups(command: ShowCommand, verdicts: Verdicts, wanted: Wanted, totals: Totals) -> None:
    """A table of what packets have in common."""
    by = name_of("--by", command.by or "", tuple(BY))
    matches = matches_of(verdicts, wanted, totals)
    groups = groups_of(selected(verdicts, wanted, totals), by, _limit(command))
    if command.json:
        print_json(msgspec.to_builtins(groups))
    else:
        print(totals_line(verdicts, totals) + _matching(matches, wanted))
        print_groups(screen(sys.stdout), groups)
    if groups.more:
        say_on_stderr(f"{figure(groups.more)} more; --limit N shows more of them, --limit 0 all")
    _tell_unknown(matches)


def _show_fate(command: ShowCommand, verdicts: Verdicts, wanted: Wanted, totals: Totals) -> None:
    """What became of a flow."""
    fate = fate_of(verdicts, wanted, totals, command.engine)
    if command.json:
        print_json({"flow": list(wanted.flows)} | msgspec.to_builtins(fate))
    else:
        print_fate(screen(sys.stdout), " or ".join(wanted.flows), fate)
    _tell_unknown(matches_of(verdicts, wanted, totals))


def _show_packet(command: ShowCommand, verdicts: Verdicts, wanted: Wanted, totals: Totals) -> None:
    """One packet in words."""
    story = story_of(verdicts, wanted.frames[0][0], totals)
    if command.json:
        print_json(msgspec.to_builtins(story))
    else:
        print_story(screen(sys.stdout), verdicts, story)


def _limit(command: ShowCommand) -> int | None:
    """How many lines; None: all.  A pipe gets all, for it may be counted or searched."""
    if command.limit is None:
        return TERMINAL_ROWS if sys.stdout.isatty() and not command.json else None
    return command.limit or None


def _matching(matches: Matches, wanted: Wanted) -> str:
    return "" if wanted.is_all else f"; {figure(matches.rows)} match"


def _tell_unknown(matches: Matches) -> None:
    """Say of how many packets the file could not tell whether they match."""
    if matches.unknown:
        packets = counted(matches.unknown, "packet")
        say_on_stderr(f"of {packets} this file does not say whether they match: they have no comment; {HOW_TO_KNOW}")

"""`emu diff`: which packets changed fate between two runs, and where they first part."""

import sys
from typing import Any

from emu.capture.output import STDOUT
from emu.cli.diff_options import DiffCommand
from emu.cli.diff_screen import show_difference
from emu.cli.replay import print_json, screen
from emu.cli.told import tell_of_file
from emu.errors import Exit, UsageError
from emu.request import say_on_stderr
from emu.verdicts.diff import ONE_ONLY, SAME, Difference, Divergence, Selection, compare, told_by_either
from emu.verdicts.flows import flow_pattern
from emu.verdicts.log import import_polars
from emu.verdicts.names import CLASS_NAMES, name_of, names_of
from emu.verdicts.read import Verdicts, open_verdicts
from emu.verdicts.side_by_side import BY, OF_B

VERB = "emu diff"


def run_diff(command: DiffCommand) -> int:
    """Compare two files of verdicts; the exit code: 0 when every fate is the same, else 1; 3 for a damaged file.

    Errors: UsageError when they do not speak of the same frames, CaptureError when one cannot be read.
    """
    import_polars(VERB)
    if command.a == command.b == STDOUT:
        raise UsageError("emu diff - -: standard input can be one of the two only")
    by = name_of("--by", command.by, BY)
    selection = Selection(
        classes=names_of("--class", command.class_, CLASS_NAMES),
        flows=tuple(command.flow or ()),
        memalloc=command.memalloc,
    )
    for flow in selection.flows:
        flow_pattern(flow)
    files = open_verdicts(command.a, wanted_by=VERB), open_verdicts(command.b, wanted_by=VERB)
    found = compare(*files, by, selection, command.limit or None)
    if command.json:
        print_json(as_json(files, selection, found))
    else:
        show_difference(screen(sys.stdout), files, found)
    codes = [tell_of_file(one.name, one.notes, one.incomplete, one.damage, named=True) for one in files]
    if not found.fates:
        say_on_stderr("no packet is selected" if found.not_selected else "there is no packet to compare")
    return max(*codes, Exit.EXPECTATION_FAILED if found.changed else Exit.DONE)


def as_json(files: tuple[Verdicts, Verdicts], selection: Selection, found: Difference) -> dict[str, Any]:
    """The difference as one object."""
    return {
        "files": [_file(verdicts, events) for verdicts, events in zip(files, found.events, strict=True)],
        "by": found.by,
        "selection": {
            "classes": list(selection.classes),
            "flows": list(selection.flows),
            "memalloc": selection.memalloc,
        },
        "same": found.packets(SAME),
        "changed": found.changed,
        "in_one_only": found.packets(ONE_ONLY),
        "not_selected": found.not_selected,
        "not_compared": found.not_compared,
        "fates": [fates._asdict() for fates in found.fates],
        "machine": [parting._asdict() for parting in found.parted],
        "first": _first(found.first),
        "changes": [_change(row) for row in found.changes],
    }


def _file(verdicts: Verdicts, events: dict[str, int] | None) -> dict[str, Any]:
    return {
        "name": verdicts.name,
        "is_capture": verdicts.is_capture,
        "drops_only": verdicts.drops_only,
        "policy": verdicts.policy,
        "incomplete": verdicts.incomplete,
        "damage": verdicts.damage,
        "notes": list(verdicts.notes),
        "events_by_reason": events,
    }


def _first(first: Divergence | None) -> dict[str, Any] | None:
    if first is None:
        return None
    return {
        name: {"fate": fate, "row": row, "explained": explained._asdict()}
        for name, fate, row, explained in zip(("a", "b"), first.fates, first.rows, first.explained, strict=True)
    }


def _change(row: dict[str, Any]) -> dict[str, Any]:
    """A changed packet: what it is, from the file that has it, and both fates."""
    told = told_by_either(row)
    del told["fate"]
    return told | {"a": row["fate"], "b": row["fate" + OF_B]}

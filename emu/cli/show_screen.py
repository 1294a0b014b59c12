"""What `emu show` finds, for people: totals in a line, tables, a flow's fate, one packet in words."""

from collections.abc import Iterable
from textwrap import wrap
from typing import Any

from rich.console import Console
from rich.text import Text

from emu.printable import printable
from emu.verdicts.fates import DROPPED_NAME, HOW_TO_KNOW, LOST_UNTOLD, NO_COMMENT, NO_VERDICT, UNDECIDED
from emu.verdicts.read import Verdicts
from emu.verdicts.screen import counted, figure, plain_table, share
from emu.verdicts.show.fate import IN_CAPTURE, Fate, Moment
from emu.verdicts.show.groups import Group, Groups
from emu.verdicts.show.packet import Afterwards, Event, Other, Story
from emu.verdicts.show.select import Totals

STYLES = {"delivered": "green", "dropped": "red", "oops": "bold magenta", "in_flight": "yellow"}
IN_WORDS = {NO_COMMENT: "without comment", LOST_UNTOLD: "lost, without comment", NO_VERDICT: "without verdict"}
NOT_SAID = "?"
NAME_WIDTH = 16


def totals_line(verdicts: Verdicts, totals: Totals) -> str:
    """What the file holds, in a line."""
    parts = []
    for verdict, count in totals.by_verdict.items():
        why = ""
        if verdict == DROPPED_NAME:
            why = " (" + ", ".join(f"{reason or NOT_SAID} {figure(n)}" for reason, n in totals.by_reason.items()) + ")"
        parts.append(f"{figure(count)} {_verdict(verdict)}{why}")
    if totals.events:
        parts.append(counted(totals.events, "later event"))
    policy = f" under {verdicts.policy}" if verdicts.policy else ""
    only = " (a log of drops)" if verdicts.drops_only else ""
    head = f"{printable(verdicts.name)}{policy}: {counted(totals.packets, 'packet')}{only}"
    return f"{head}: {', '.join(parts)}" if parts else head


def print_groups(console: Console, groups: Groups) -> None:
    """Print packets counted by what they have in common."""
    has_others = any(group.other for group in groups.shown)
    others = ("other",) if has_others else ()
    table = plain_table(
        "", groups.by, "packets", "delivered", "dropped", "lost", *others, "bytes", "first drop", "last"
    )
    for group in groups.shown:
        table.add_row(
            Text(_key(groups.by, group)),
            figure(group.packets),
            figure(group.delivered),
            figure(group.dropped),
            share(group.dropped, group.packets),
            *((figure(group.other),) if has_others else ()),
            figure(group.bytes),
            str(group.first_drop_frame or "-"),
            str(group.last_drop_frame or "-"),
        )
    console.print(table)


def _verdict(verdict: str) -> str:
    """A verdict behind a count."""
    return IN_WORDS.get(verdict) or verdict.replace("_", " ")


def _key(by: str, group: Group) -> str:
    if group.key is None:
        return NOT_SAID
    if not group.key:
        return "not dropped" if by == "reason" else "-"
    return printable(group.key)


def print_fate(console: Console, flow: str, fate: Fate) -> None:
    """Print what became of a flow."""
    if not fate.packets:
        console.print(Text(f"{flow}: no packets"))
        return
    verdicts = ", ".join(f"{figure(n)} {_verdict(verdict)}" for verdict, n in fate.by_verdict.items())
    head = f"{counted(fate.packets, 'packet')}, {counted(fate.bytes, 'byte')}: {verdicts}"
    console.print(Text.assemble((flow, "bold"), f": {head}"))
    _say(console, "seen", _span(fate.first, fate.last))
    if fate.first_drop is not None:
        _say(console, "dropped", ", ".join(f"{reason} {figure(n)}" for reason, n in fate.by_reason.items()))
        _say(console, "drops", _span(fate.first_drop, fate.last_drop))
    _say(console, "sent again", _again(fate))
    if fate.longest_gap is not None:
        gap = fate.longest_gap
        ends = f"from frame {gap.after.frame} to frame {gap.before.frame}"
        _say(console, "longest gap", f"{_seconds(gap.length_ns)} s without a packet that survived, {ends}")
    if fate.thrown_away:
        reasons = ", ".join(f"{reason} {figure(n)}" for reason, n in fate.thrown_away.items())
        _say(console, "thrown away", f"after they were accepted: {reasons}")
    print_groups(console, Groups("flow", fate.directions, fate.more_directions))
    if fate.more_directions:
        console.print(Text(f"and {figure(fate.more_directions)} more; --by flow shows all"))


def _again(fate: Fate) -> str:
    """What came of retransmission, in words."""
    if fate.first_drop is None:
        return ""
    if not fate.again_in:
        return "not known of standard input; tcp.analysis.retransmission in Wireshark"
    how = "with the same sequence number, in this capture" if fate.again_in == IN_CAPTURE else "by --retransmit"
    if fate.came_again:
        return f"{figure(fate.came_again)} of the lost packets, {how}; {figure(fate.taken_again)} survived in the end"
    more = "" if fate.again_in == IN_CAPTURE else "; a log has no sequence numbers, the annotated capture tells more"
    return f"none of the lost packets, {how}{more}"


def print_story(console: Console, verdicts: Verdicts, story: Story) -> None:
    """Print one packet in words."""
    row = story.row
    console.print(
        Text.assemble(
            (f"Frame {row['frame']}", "bold"),
            f" of {printable(verdicts.name)}",
            f", {row['length']} bytes on {printable(row['device'] or 'no device')}"
            if row["length"] is not None
            else "",
            f", {_seconds(story.since_start_ns)} s after the first packet",
        )
    )
    _say(console, "flow", printable(row["flow"] or (row["class"] or "")))
    _say(console, "socket", _socket(row))
    _say(console, "verdict", story.verdict, STYLES.get(row["verdict"], ""))
    if not story.known and row["verdict"] not in (None, UNDECIDED):
        _say(console, "why", f"the numbers are not in this file: its comment is gone, or cut short; {HOW_TO_KNOW}")
    _say(console, "means", "\n".join(story.meaning))
    _say(console, "needed", story.needed)
    _say(console, "had", story.had)
    _say(console, "saved by", story.saved)
    if story.known and row["verdict"] != DROPPED_NAME:
        _say(console, "at that time", _surroundings(row))
    _say(console, "culprit", _culprit(story))
    events = [_event(event, row["verdict"] == DROPPED_NAME) for event in story.events]
    _say(console, "later", "\n".join((*events, *_and_more(story.more_events))))
    _say(console, "afterwards", _afterwards(story.afterwards))
    console.print(Text("In Wireshark", "bold"))
    for shows, display_filter in story.filters:
        console.print(
            Text(f"  {shows:<{max(len(name) for name, _ in story.filters)}}  {display_filter}"), soft_wrap=True
        )


def _socket(row: dict[str, Any]) -> str:
    if row["socket"] is None:
        return ""
    if not row["socket"]:
        return "none was looked up, or found"
    return f"{row['socket']}, {'which block I/O depends on' if row['memalloc'] else 'not SOCK_MEMALLOC'}"


def _surroundings(row: dict[str, Any]) -> str:
    """Memory, reserve and ring when the verdict fell."""
    buffer = "from the reserve" if row["from_reserve"] else "from ordinary memory"
    cap = f" of cap {row['cap_skbs']}" if row["cap_skbs"] else ", no cap"
    return (
        f"its buffer was {buffer}; free_pages {row['free_pages']} at a floor of {row['floor_pages']}; reserve used "
        f"{row['reserve_used_before']}, then {row['reserve_used_after']}{cap}; ring_free {row['ring_free']}"
    )


def _culprit(story: Story) -> str:
    if story.culprit is not None:
        return f"{_packet(story.culprit)}: it last took what this one lacked"
    if story.culprit_missing:
        return f"frame {story.culprit_missing} last took what this one lacked; it is not in this file"
    return ""


def _packet(other: Other) -> str:
    why = f" ({other.reason})" if other.reason else ""
    of_flow = f" of {printable(other.flow)}" if other.flow else ""
    return f"frame {other.frame}{of_flow}, {other.verdict.replace('_', ' ')}{why}"


def _event(event: Event, was_lost: bool) -> str:
    after = f"{_seconds(event.since_arrival_ns)} s after it arrived"
    if was_lost:
        what = f"was lost again: {event.reason}" if event.reason else "was taken"
        return f"{after} it came again and {what}, in {event.point}"
    return f"{after}, in {event.point}: {event.reason}: {event.sentence}"


def _and_more(count: int) -> Iterable[str]:
    return (f"and {counted(count, 'more event')} (--verdict event)",) if count else ()


def _afterwards(after: Afterwards | None) -> str:
    """What came of the flow, in the packet's direction."""
    if after is None:
        return ""
    if after.next is None:
        return "nothing more came in this flow, in this direction"
    counts = f"{figure(after.delivered)} delivered, {figure(after.dropped)} dropped"
    if after.without_comment:
        counts += f", {figure(after.without_comment)} without comment"
    text = f"{counted(after.packets, 'more packet')} of its flow: {counts}; next: frame {after.next.frame}"
    text += f" at {_seconds(after.next.since_start_ns)} s, {after.next.verdict.replace('_', ' ')}"
    if after.next_survivor is None:
        return f"{text}; none of them survived"
    if after.next_survivor.frame != after.next.frame:
        first = after.next_survivor
        text += f"; first to survive: frame {first.frame} at {_seconds(first.since_start_ns)} s"
    return text


def _say(console: Console, name: str, text: str, style: str = "") -> None:
    """A text with its name before it, wrapped by hand (a table would fill lines up); nothing for an empty text."""
    wrapped = [
        line
        for part in text.splitlines()
        for line in wrap(printable(part), max(console.width - NAME_WIDTH, NAME_WIDTH), break_on_hyphens=False)
    ]
    for number, line in enumerate(wrapped):
        head = Text("" if number else f"  {name}", "bold")
        head.pad_right(NAME_WIDTH - len(head))
        console.print(Text.assemble(head, (line, style)), soft_wrap=True)


def _span(first: Moment | None, last: Moment | None) -> str:
    if first is None or last is None:
        return ""
    if first == last:
        return f"frame {first.frame} at {_seconds(first.since_start_ns)} s"
    return (
        f"frame {first.frame} at {_seconds(first.since_start_ns)} s to "
        f"frame {last.frame} at {_seconds(last.since_start_ns)} s"
    )


def _seconds(nanoseconds: int | None) -> str:
    if nanoseconds is None:
        return NOT_SAID
    sign = "-" if nanoseconds < 0 else ""
    whole, part = divmod(abs(nanoseconds), 10**9)
    return f"{sign}{whole}.{part:09d}"

"""What `emu show` finds, for people: totals in a line, tables, a flow's fate, one packet in words."""

from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from emu.verdicts.read import Verdicts
from emu.verdicts.screen import figure, plain_table, share
from emu.verdicts.show.fate import Fate, Moment
from emu.verdicts.show.groups import Group, Groups
from emu.verdicts.show.packet import HOW_TO_KNOW, Afterwards, Event, Other, Story
from emu.verdicts.show.select import Totals

STYLES = {"delivered": "green", "dropped": "red", "oops": "bold magenta", "in_flight": "yellow"}
NOT_SAID = "?"


def totals_line(verdicts: Verdicts, totals: Totals) -> str:
    """What the file holds, in a line."""
    parts = []
    for verdict, count in totals.by_verdict.items():
        why = ""
        if verdict == "dropped":
            why = " (" + ", ".join(f"{reason or NOT_SAID} {figure(n)}" for reason, n in totals.by_reason.items()) + ")"
        parts.append(f"{figure(count)} {verdict.replace('_', ' ')}{why}")
    if totals.events:
        parts.append(f"{figure(totals.events)} later events")
    policy = f" under {verdicts.policy}" if verdicts.policy else ""
    counted = f"{figure(totals.packets)} packet{'' if totals.packets == 1 else 's'}"
    only = " (a log of drops)" if verdicts.drops_only else ""
    return f"{_printable(verdicts.name)}{policy}: {counted}{only}" + (f": {', '.join(parts)}" if parts else "")


def print_groups(console: Console, groups: Groups) -> None:
    """Print packets counted by what they have in common."""
    has_others = any(group.other for group in groups.shown)
    others = ("other",) if has_others else ()
    table = plain_table("", groups.by, "packets", "delivered", "dropped", "lost", *others, "bytes", "first drop", "last")
    table.title = None
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


def _key(by: str, group: Group) -> str:
    if group.key is None:
        return NOT_SAID
    if not group.key:
        return "not dropped" if by == "reason" else "-"
    return _printable(group.key)


def print_fate(console: Console, flow: str, fate: Fate) -> None:
    """Print what became of a flow."""
    if not fate.packets:
        console.print(Text(f"{flow}: no packets"))
        return
    verdicts = ", ".join(f"{figure(n)} {verdict.replace('_', ' ')}" for verdict, n in fate.by_verdict.items())
    head = f"{figure(fate.packets)} packets, {figure(fate.bytes)} bytes: {verdicts}"
    console.print(Text.assemble((flow, "bold"), f": {head}"))
    _say(console, "seen", _span(fate.first, fate.last))
    if fate.first_drop is not None:
        _say(console, "dropped", ", ".join(f"{reason} {figure(n)}" for reason, n in fate.by_reason.items()))
        _say(console, "drops", _span(fate.first_drop, fate.last_drop))
    _say(console, "sent again", _again(fate))
    if fate.longest_gap is not None:
        gap = fate.longest_gap
        ends = f"from frame {gap.after.frame} to frame {gap.before.frame}"
        _say(console, "longest gap", f"{_seconds(gap.length_ns)} s without a delivered packet, {ends}")
    if fate.thrown_away:
        reasons = ", ".join(f"{reason} {figure(n)}" for reason, n in fate.thrown_away.items())
        _say(console, "thrown away", f"after they were accepted: {reasons}")
    print_groups(console, Groups("flow", fate.directions, fate.more_directions))
    if fate.more_directions:
        console.print(Text(f"and {figure(fate.more_directions)} more; --by flow shows all"))


def _again(fate: Fate) -> str:
    """What came of retransmission, in words; the log has no sequence numbers."""
    if fate.came_again:
        return (
            f"{figure(fate.came_again)} of the lost packets came again (--retransmit); "
            f"{figure(fate.taken_again)} of them were taken in the end"
        )
    return "" if fate.first_drop is None else "no lost packet came again: only with --retransmit does the sender notice"


def print_story(console: Console, verdicts: Verdicts, story: Story) -> None:
    """Print one packet in words."""
    row = story.row
    console.print(
        Text.assemble(
            (f"Frame {row['frame']}", "bold"),
            f" of {_printable(verdicts.name)}",
            f", {row['length']} bytes on {_printable(row['device'] or 'no device')}" if row["length"] is not None else "",
            f", {_seconds(story.since_start_ns)} s after the first packet",
        )
    )
    _say(console, "flow", _printable(row["flow"] or (row["class"] or "")))
    _say(console, "socket", _socket(row))
    _say(console, "verdict", story.verdict, STYLES.get(row["verdict"], ""))
    if not story.known:
        _say(console, "why", f"this file does not say: the packet has no comment; {HOW_TO_KNOW}")
    _say(console, "means", "\n".join(story.meaning))
    _say(console, "the test", story.test)
    _say(console, "needed", story.needed)
    _say(console, "there was", story.there_was)
    _say(console, "saved by", "\n".join(f"- {text}" for text in story.saved))
    if story.known and row["verdict"] != "dropped":
        _say(console, "at that time", _surroundings(row))
    _say(console, "culprit", _culprit(story))
    _say(console, "later", "\n".join((*map(_event, story.events), *_and_more(story.more_events))))
    _say(console, "afterwards", _afterwards(story.afterwards))
    console.print(Text("In Wireshark", "bold"))
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for shows, display_filter in story.filters:
        table.add_row(Text(f"  {shows}"), Text(display_filter))
    console.print(table)


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
    of_flow = f" of {_printable(other.flow)}" if other.flow else ""
    return f"frame {other.frame}{of_flow}, {other.verdict.replace('_', ' ')}{why}"


def _event(event: Event) -> str:
    what = f"{event.reason}: {event.sentence}" if event.reason else "it came again, and was taken"
    return f"{_seconds(event.since_arrival_ns)} s after it arrived, in {event.point}: {what}"


def _and_more(count: int) -> Iterable[str]:
    return (f"and {figure(count)} more events (--verdict event)",) if count else ()


def _afterwards(after: Afterwards | None) -> str:
    """What came of the flow, in the packet's direction."""
    if after is None:
        return ""
    if after.next is None:
        return "nothing more came in this flow, in this direction"
    counts = f"{figure(after.delivered)} delivered, {figure(after.dropped)} dropped"
    text = f"{figure(after.packets)} more packets of its flow: {counts}; next: frame {after.next.frame}"
    text += f" at {_seconds(after.next.since_start_ns)} s, {after.next.verdict.replace('_', ' ')}"
    if after.next_delivered is None:
        return f"{text}; none of them was delivered"
    if after.next_delivered.frame != after.next.frame:
        first = after.next_delivered
        text += f"; first delivered again: frame {first.frame} at {_seconds(first.since_start_ns)} s"
    return text


def _say(console: Console, name: str, text: str, style: str = "") -> None:
    """A line with its name before it; nothing where there is nothing to say."""
    if text:
        table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
        table.add_column(width=14, no_wrap=True)
        table.add_column(overflow="fold")
        table.add_row(Text(f"  {name}", "bold"), Text(text, style))
        console.print(table)


def _span(first: Moment | None, last: Moment | None) -> str:
    if first is None or last is None:
        return ""
    if first == last:
        return f"frame {first.frame} at {_seconds(first.since_start_ns)} s"
    return (
        f"frame {first.frame} at {_seconds(first.since_start_ns)} s to "
        f"frame {last.frame} at {_seconds(last.since_start_ns)} s"
    )


def _seconds(nanoseconds: int) -> str:
    sign = "-" if nanoseconds < 0 else ""
    whole, part = divmod(abs(nanoseconds), 10**9)
    return f"{sign}{whole}.{part:09d}"


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)

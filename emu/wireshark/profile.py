"""The Wireshark profile `emu`: columns, colour rules, filter buttons, I/O graphs, and settings that do not mislead.

Colour rules, buttons and the graphs that are switched on use stock fields only: the profile is as good without the
plugin, and says nothing about captures that are not ours.  What they look for is what emu/capture/annotate.py writes.
Formats: Wireshark 4.0, epan/color_filters.c, ui/qt/io_graph_dialog.cpp, epan/prefs.c.
"""

from collections.abc import Mapping
from typing import NamedTuple

from emu.capture.annotate import DROP_GROUP, DROP_SUFFIX, NOT_PLAYED_GROUP, OOPS_GROUP, SURVIVED
from emu.kernel.drop_reason import NO_REASON, NO_SOCKET, PFMEMALLOC, REASONS, RX_MISSED, SOCKET_RCVBUFF

PROFILE = "emu"

WHITE, BLACK = "#ffffff", "#000000"
# The reasons that have a colour of their own, and its background; the text is white on dark ones.
MAIN_REASONS = {PFMEMALLOC: "#b30000", RX_MISSED: "#4a3c78", NO_SOCKET: "#ffe08a", SOCKET_RCVBUFF: "#ffb066"}
OTHER_DROP, OOPSED, LATE, ALIVE = "#ffd3c2", "#000000", "#c8c8c8", "#e6f7e6"

LOST_FILTER = f'frame.interface_name matches "{DROP_SUFFIX}$"'
SURVIVED_FILTER = f'frame.interface_description contains "{SURVIVED}"'
DROPPED_FILTER = f'frame.comment matches "^{DROP_GROUP}[A-Z0-9_]+$"'
OOPS_FILTER = f'frame.comment matches "^{OOPS_GROUP}[0-9]+$"'
NOT_PLAYED_FILTER = f'frame.comment == "{NOT_PLAYED_GROUP}"'
BLOCK_IO_FILTER = f'{LOST_FILTER} && frame.comment contains " memalloc=1 "'


class Rule(NamedTuple):
    """A colour rule: the first one whose filter matches colours the frame."""

    name: str
    filter: str
    background: str
    foreground: str


class Button(NamedTuple):
    """A filter button; `//` in its label makes a menu."""

    label: str
    filter: str
    about: str


class Graph(NamedTuple):
    """A line of the I/O graphs; `field` belongs to the functions of the y axis that need one."""

    shown: bool
    name: str
    filter: str
    colour: str
    style: str
    y_axis: str
    field: str = ""


class Column(NamedTuple):
    """A column of the packet list; `%Cus` shows a field, `occurrence` 1 the first of several."""

    title: str
    format: str
    width: int  # pixels
    occurrence: str = ""


COLUMNS = (
    Column("No.", "%m", 60),
    Column("Time", "%t", 110),
    Column("Interface", "%Cus:frame.interface_name", 90, ":0:R"),
    Column("Verdict", "%Cus:frame.comment", 180, ":1:R"),  # the short comment
    Column("Source", "%s", 130),
    Column("Destination", "%d", 130),
    Column("Protocol", "%p", 80),
    Column("Length", "%L", 60),
    Column("Info", "%i", 500),
)

# Settings that differ from Wireshark's own, and why.
SETTINGS = (
    (
        "tcp.analyze_sequence_numbers",
        "FALSE",
        (
            "The file holds what was dropped beside what came again: TCP analysis would take each pair for one stream, "
            "and blame the sender for what the receiver lost. On a large file it can also take minutes."
        ),
    ),
    (
        "ip.defragment",
        "FALSE",
        "A datagram must not look complete by a fragment that was dropped: each fragment is shown as it came.",
    ),
    ("ipv6.defragment", "FALSE", "The same for IPv6."),
)


def dropped_for(reason: int) -> str:
    """The display filter of the frames that were dropped for a reason."""
    return f'frame.comment == "{DROP_GROUP}{REASONS[reason].name}"'


def rules() -> tuple[Rule, ...]:
    """The colour rules, in the order in which they are tried."""
    of_reasons = tuple(
        Rule(f"emu drop {REASONS[reason].name}", dropped_for(reason), colour, text_on(colour))
        for reason, colour in MAIN_REASONS.items()
    )
    return (
        *of_reasons,
        Rule("emu drop, other reasons", DROPPED_FILTER, OTHER_DROP, text_on(OTHER_DROP)),
        Rule("emu oops", OOPS_FILTER, OOPSED, text_on(OOPSED)),
        Rule("emu not played", NOT_PLAYED_FILTER, LATE, text_on(LATE)),
        Rule("emu survived", SURVIVED_FILTER, ALIVE, text_on(ALIVE)),
    )


def buttons() -> tuple[Button, ...]:
    """The filter buttons, from left to right."""
    main = tuple(Button(REASONS[reason].name, dropped_for(reason), REASONS[reason].sentence) for reason in MAIN_REASONS)
    others = tuple(
        Button(f"Other reasons//{reason.name}", dropped_for(reason.number), reason.sentence)
        for reason in REASONS
        if reason.number != NO_REASON and reason.number not in MAIN_REASONS
    )
    return (
        Button("Lost", LOST_FILTER, "Frames that were dropped, lost in an oops or not played"),
        Button("Survived", SURVIVED_FILTER, "Frames that survived"),
        Button("Block I/O lost", BLOCK_IO_FILTER, "Frames that block I/O waits for, and that were lost"),
        *main,
        *others,
        Button("Oops", OOPS_FILTER, "Frames in which a bug of the patch killed the kernel"),
    )


def graphs(plugin: bool = True) -> tuple[Graph, ...]:
    """The I/O graphs; those that need the plugin's fields are switched off, and not there without the plugin."""
    stock = (
        Graph(True, "Survived", SURVIVED_FILTER, "#2e8b57", "Line", "Packets"),
        Graph(True, "Lost", LOST_FILTER, "#e07020", "Line", "Packets"),
        Graph(True, "PFMEMALLOC", dropped_for(PFMEMALLOC), MAIN_REASONS[PFMEMALLOC], "Impulse", "Packets"),
        Graph(True, "Block I/O lost", BLOCK_IO_FILTER, "#2050c0", "Dot", "Packets"),
    )
    of_plugin = (
        Graph(False, "Reserve used (plugin)", "", "#8040a0", "Line", "MAX(Y Field)", "emu.reserve_used"),
        Graph(False, "Free pages (plugin)", "", "#606060", "Line", "MIN(Y Field)", "emu.free_pages"),
        Graph(False, "Ring free (plugin)", "", "#a06000", "Line", "MIN(Y Field)", "emu.ring_free"),
    )
    return stock + of_plugin if plugin else stock


def profile_files(plugin: bool = True) -> Mapping[str, str]:
    """The files of the profile by their names, for a Wireshark with the plugin or without."""
    return {
        "preferences": preferences_text(),
        "colorfilters": colours_text(),
        "dfilter_buttons": buttons_text(),
        "io_graphs": graphs_text(plugin),
    }


def preferences_text() -> str:
    """Columns and settings, as Wireshark's preferences."""
    columns = ",\n".join(f'\t"{column.title}", "{column.format}{column.occurrence}"' for column in COLUMNS)
    settings = "".join(f"\n# {why}\n{key}: {value}\n" for key, value, why in SETTINGS)
    return f"# Profile of emu: what differs from Wireshark's defaults.\n\ngui.column.format:\n{columns}\n{settings}"


def recent_text() -> str:
    """The widths of the columns: a start for the file in which Wireshark keeps the state of the profile."""
    widths = ",\n".join(f'\t"{column.format}", {column.width}' for column in COLUMNS)
    return f"column.width:\n{widths}\n"


def colours_text() -> str:
    """The colour rules: @name@filter@[background][foreground]."""
    lines = [f"@{rule.name}@{rule.filter}@{rgb16(rule.background)}{rgb16(rule.foreground)}\n" for rule in rules()]
    return "# Colour rules of emu; stock fields only.\n" + "".join(lines)


def buttons_text() -> str:
    """The filter buttons: enabled, label, filter, what the pointer shows."""
    return "# Filter buttons of emu; stock fields only.\n" + "".join(
        _line("TRUE", button.label, button.filter, button.about) for button in buttons()
    )


def graphs_text(plugin: bool = True) -> str:
    """The I/O graphs: enabled, name, filter, colour, style, y axis, y field, smoothing, factor."""
    return "# I/O graphs of emu.\n" + "".join(
        _line(
            "Enabled" if graph.shown else "Disabled",
            graph.name,
            graph.filter,
            graph.colour,
            graph.style,
            graph.y_axis,
            graph.field,
            "None",
            "1",
        )
        for graph in graphs(plugin)
    )


def rgb16(colour: str) -> str:
    """A colour `#rrggbb` as Wireshark's colour rules have it: three numbers of 16 bits."""
    return "[" + ",".join(str(int(colour[at : at + 2], 16) * 257) for at in (1, 3, 5)) + "]"


def text_on(background: str) -> str:
    """Black or white, whichever can be read on it (ITU-R BT.601 luma)."""
    red, green, blue = (int(background[at : at + 2], 16) for at in (1, 3, 5))
    return BLACK if 299 * red + 587 * green + 114 * blue > 128_000 else WHITE


def _line(*values: str) -> str:
    r"""A row of one of Wireshark's tables: values in quotes.

    A quote in a value is `\x22`, as Wireshark itself saves it (epan/uat.c putfld): `\"` is read as the end.
    """
    quoted = ('"' + value.replace("\\", "\\x5c").replace('"', "\\x22") + '"' for value in values)
    return ",".join(quoted) + "\n"

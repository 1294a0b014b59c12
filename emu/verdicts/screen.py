"""The summary as tables to read."""

from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from emu.kernel.drop_reason import REASONS
from emu.tables import shown
from emu.verdicts.expect import Judgement


def figure(value: int) -> str:
    """A count with thin groups, easy to read."""
    return f"{value:,}".replace(",", " ")


def counted(number: int, what: str) -> str:
    """A number of things: `1 packet`, `2 packets`."""
    return f"{figure(number)} {what}{'' if number == 1 else 's'}"


def share(part: int, whole: int) -> str:
    """A percentage, or a dash of nothing."""
    return f"{100 * part / whole:.1f} %" if whole else "-"


def plain_table(title: str, *columns: str) -> Table:
    """A table whose first column is text and whose others are numbers; it may have no title."""
    table = Table(title=title or None, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", no_wrap=not number)
    return table


def show_summary(console: Console, summary: dict[str, Any]) -> None:
    """Print one replay's summary."""
    console.print(
        f"[bold]{escape(summary['capture'])}[/] under [bold]{summary['policy']}[/]: "
        f"{figure(summary['frames'])} frames, {figure(summary['received'])} received, "
        f"{figure(summary['delivered'])} delivered, {figure(summary['dropped'])} dropped, "
        f"{summary['duration_ns'] / 1e9:.3f} s",
        highlight=False,
    )
    show_packets(console, summary)


def show_packets(console: Console, summary: dict[str, Any]) -> None:
    """Print what became of the packets, the devices, the floods, and what is to be said of it all."""
    console.print(fate_table(summary))
    if summary["drops_by_reason"]:
        console.print(reason_table("Drops", "packets", summary["drops_by_reason"]))
    if summary["events_by_reason"]:
        console.print(reason_table("Later: packets that had been accepted", "events", summary["events_by_reason"]))
    console.print(device_table(summary))
    for flood in summary["floods"]:
        console.print(f"crafted: {escape(flood_line(flood))}", highlight=False, soft_wrap=True)
    say(console, summary)


def fate_table(summary: dict[str, Any]) -> Table:
    """What became of packets, block I/O's and all others."""
    table = plain_table("Packets", "flows", "received", "delivered", "dropped", "lost")
    for key, name in (("memalloc", "memalloc (block I/O)"), ("other", "all others")):
        fates = summary[key]
        table.add_row(
            name,
            figure(fates["received"]),
            figure(fates["delivered"]),
            figure(fates["dropped"]),
            share(fates["dropped"], fates["received"]),
        )
    return table


def flood_line(flood: dict[str, Any]) -> str:
    """A flood in one line: what it was to be, what it was."""
    achieved = (
        "no rate" if not flood["duration_ns"] else f"{flood['achieved_pps']:g} pps, {flood['achieved_mbps']:g} Mbit/s"
    )
    recipe = flood["recipe"] if flood["recipe"].isprintable() else shown(flood["recipe"])
    return (
        f"{recipe}: {figure(flood['frames'])} frames, {figure(flood['bytes'])} bytes in "
        f"{flood['duration_ns'] / 1e9:g} s; asked {flood['asked'] or 'no rate'}, achieved {achieved}"
    )


def reason_table(title: str, counted: str, by_reason: dict[str, int]) -> Table:
    """Counts by reason, the most frequent first."""
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("reason", no_wrap=True)
    table.add_column(counted, justify="right")
    table.add_column("what it means")
    sentences = {reason.name: reason.sentence for reason in REASONS}
    for name, count in sorted(by_reason.items(), key=lambda item: -item[1]):
        table.add_row(name, figure(count), sentences[name])
    return table


def device_table(summary: dict[str, Any]) -> Table:
    """Reserve and ring of each NIC."""
    table = plain_table(
        "Reserve and ring",
        "device",
        "from reserve",
        "used, most",
        "cap",
        "missed",
        "ring dry",
        "refills failed",
        "free pages, least",
    )
    for name, device in summary["devices"].items():
        table.add_row(
            name,
            figure(device["reserve_allocations"]),
            figure(device["rx_reserve_used_max"]),
            figure(device["rx_reserve_cap"]) if device["rx_reserve_cap"] else "none",
            figure(device["rx_missed"]),
            figure(device["rx_missed_ring_dry"]),
            figure(device["alloc_rx_buff_failed"]),
            figure(summary["memory"]["free_pages_min"]),
        )
    return table


def say(console: Console, summary: dict[str, Any]) -> None:
    """Print what a reader must know, what was assumed, and how fast it went."""
    for finding in summary["findings"]:
        console.print(f"[yellow]note:[/] {escape(finding)}", highlight=False)
    for assumption in summary["assumptions"]:
        console.print(f"[dim]assumed: {escape(assumption)}[/]", highlight=False)
    run = summary["run"]
    console.print(
        f"[dim]{run['engine']} engine, {figure(run['packets_per_second'])} packets/s, "
        f"{run['rss_peak_bytes'] / (1 << 20):.0f} MiB[/]",
        highlight=False,
    )


def show_judgements(console: Console, judgements: Sequence[Judgement]) -> None:
    """Print what was expected and what was found."""
    for judgement in judgements:
        word = "[green]held[/]" if judgement.holds else "[red]FAILED[/]"
        console.print(
            f"expected {escape(judgement.text)}: {word} (found {escape(str(judgement.found))})", highlight=False
        )


def show_comparison(console: Console, capture: str, summaries: Sequence[dict[str, Any]]) -> None:
    """Print who survives under which policy."""
    table = plain_table(
        f"{escape(capture)}: who survives",
        "policy",
        "memalloc delivered",
        "lost",
        "others delivered",
        "lost",
        "from reserve",
        "used, most",
        "missed",
        "least free",
    )
    played = [summary for summary in summaries if "does_not_build" not in summary]
    for summary in summaries:
        if "does_not_build" in summary:
            table.add_row(summary["policy"], "does not compile")
            continue
        memalloc, other = summary["memalloc"], summary["other"]
        devices = summary["devices"].values()
        table.add_row(
            summary["policy"],
            f"{figure(memalloc['delivered'])}/{figure(memalloc['received'])}",
            share(memalloc["dropped"], memalloc["received"]),
            f"{figure(other['delivered'])}/{figure(other['received'])}",
            share(other["dropped"], other["received"]),
            figure(sum(device["reserve_allocations"] for device in devices)),
            figure(max(device["rx_reserve_used_max"] for device in devices)),
            figure(sum(device["rx_missed"] for device in devices)),
            figure(summary["memory"]["free_pages_min"]),
        )
    console.print(table)
    console.print(_reasons_by_policy(played))
    for summary in summaries:
        for finding in summary.get("findings", ()):
            console.print(f"[yellow]note:[/] {summary['policy']}: {escape(finding)}", highlight=False)
        if "does_not_build" in summary:
            console.print(f"[yellow]note:[/] {escape(summary['does_not_build'])}", highlight=False)


def _reasons_by_policy(summaries: Sequence[dict[str, Any]]) -> Table:
    names = [
        reason.name for reason in REASONS if any(reason.name in summary["drops_by_reason"] for summary in summaries)
    ]
    # A name is broken at its hyphen, so that nine columns stand side by side.
    columns = (summary["policy"].replace("-", "-\n", 1) for summary in summaries)
    table = plain_table("Drops by reason", "reason", *columns)
    for name in names:
        table.add_row(name, *(figure(summary["drops_by_reason"].get(name, 0)) for summary in summaries))
    return table

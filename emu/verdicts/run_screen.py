"""The summary of a run of the closed loop as tables to read: what it came to, and who suffered."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from emu.verdicts.screen import figure, plain_table, share, show_packets

COLOURS = {"progress": "green", "degraded": "yellow", "LOCKUP": "red", "oops": "magenta"}
NOTHING = "-"


def show_run(console: Console, summary: dict[str, Any]) -> None:
    """Print one run's summary."""
    word = summary["outcome"]
    console.print(
        f"[bold]{escape(summary['scenario'])}[/] under [bold]{summary['policy']}[/]: "
        f"[bold {COLOURS.get(word, 'white')}]{word}[/], {seconds(summary['duration_ns'])} of "
        f"{seconds(summary['asked_ns'])}, {figure(summary['frames'])} frames",
        highlight=False,
    )
    show_lockup(console, summary)
    if summary["next_deadline"] is not None:
        console.print(f"next deadline: {escape(deadline_text(summary['next_deadline']))}", highlight=False)
    console.print(_block_io(summary))
    if summary["writers"]:
        console.print(_writers(summary))
    if summary["downloads"]:
        console.print(_downloads(summary))
    show_packets(console, summary)


def seconds(time_ns: int) -> str:
    """A time for a person."""
    return f"{time_ns / 1e9:.3f} s"


def milliseconds(value: Any) -> str:
    """A number of milliseconds that may not be there."""
    return NOTHING if value is None else duration(1000 * value)


def duration(us: float) -> str:
    """A time in three digits, in the unit that suits it."""
    for unit, least in (("s", 1_000_000), ("ms", 1000)):
        if us >= least:
            return f"{us / least:.3g} {unit}" if us < 1000 * least else f"{us / least:.0f} {unit}"
    return f"{us:.3g} us"


def deadline_text(deadline: Mapping[str, Any]) -> str:
    """What is due next, and when."""
    return f"{deadline['what']}, at {seconds(deadline['time_ns'])}"


def show_lockup(console: Console, summary: dict[str, Any]) -> None:
    """Print when it locked up and who waits for whom, if it did."""
    lockup = summary["lockup"]
    if not lockup:
        return
    last = lockup["last_page_ns"]
    taken = "" if last is None else f"; the last page went at {seconds(last)}, to frame {lockup['frame']}"
    console.print(f"[red]locked up at {seconds(lockup['time_ns'])}[/]{taken}", highlight=False)
    for link in lockup["chain"]:
        line = f"  {link['actor']} waits for {link['waits_for']}: {link['why']}"
        console.print(escape(line), highlight=False, soft_wrap=True)


def _block_io(summary: dict[str, Any]) -> Table:
    block = summary["block_io"]
    table = plain_table(
        "Block I/O", "writes", "MB/s", "of its own without flood", "longest stall", "p50", "p99", "most"
    )
    latency = block["latency_us"]
    table.add_row(
        f"{figure(block['writes_completed'])} of {figure(block['writes_issued'])}",
        f"{block['mb_per_s']:.3f}",
        against_baseline(block),
        milliseconds(block["longest_stall_ms"]),
        *(microseconds(latency[key]) for key in ("p50", "p99", "max")),
    )
    return table


def microseconds(value: Any) -> str:
    """A latency in microseconds that may not be there."""
    return NOTHING if value is None else duration(value)


def against_baseline(block: Mapping[str, Any]) -> str:
    """The share of what the same run does without floods and downloads."""
    without = block["baseline_mb_per_s"]
    return NOTHING if not without else f"{100 * block['mb_per_s'] / without:.0f} %"


def _writers(summary: dict[str, Any]) -> Table:
    table = plain_table("Writers", "writer", "MB/s", "blocked", "waits at the end for")
    for number, writer in enumerate(summary["writers"]):
        waits = writer["waits_for"] or NOTHING
        table.add_row(str(number), f"{writer['mb_per_s']:.3f}", f"{figure(writer['blocked_ms'])} ms", waits)
    return table


def _downloads(summary: dict[str, Any]) -> Table:
    table = plain_table("Downloads", "server", "MB/s", "bytes", "server's timeouts")
    for download in summary["downloads"]:
        table.add_row(
            download["server"],
            f"{download['mb_per_s']:.3f}",
            figure(download["bytes_received"]),
            figure(download["server_timeouts"]),
        )
    return table


def class_counts(summary: Mapping[str, Any]) -> dict[str, int]:
    """Drops by class of traffic, each in one number."""
    return {
        name: sum(found.values()) if isinstance(found, Mapping) else int(found)
        for name, found in summary["drops_by_class"].items()
    }


def show_run_comparison(console: Console, scenario: str, summaries: Sequence[dict[str, Any]]) -> None:
    """Print what the same run comes to under each policy."""
    title = f"{escape(scenario)}: what it comes to"
    columns = ("outcome", "MB/s", "of own", "stall", "p50", "p99", "most", "clean after", "reserve", "critical lost")
    table = plain_table(title, "policy", *columns)
    for summary in summaries:
        if "does_not_build" in summary:
            table.add_row(summary["policy"], "does not compile")
            continue
        block, word = summary["block_io"], summary["outcome"]
        latency, memalloc = block["latency_us"], summary["memalloc"]
        table.add_row(
            summary["policy"],
            f"[{COLOURS.get(word, 'white')}]{word}[/]",
            f"{block['mb_per_s']:.2f}",
            against_baseline(block),
            milliseconds(block["longest_stall_ms"]),
            *(microseconds(latency[key]) for key in ("p50", "p99", "max")),
            milliseconds(block["clean_after_ms"]),
            figure(sum(device["rx_reserve_used_max"] for device in summary["devices"].values())),
            f"{figure(memalloc['dropped'])} ({share(memalloc['dropped'], memalloc['received'])})",
        )
    console.print(table)
    played = [summary for summary in summaries if "does_not_build" not in summary]
    console.print(_classes_by_policy(played))
    for summary in summaries:
        for finding in summary.get("findings", ()):
            console.print(f"[yellow]note:[/] {summary['policy']}: {escape(finding)}", highlight=False)
        if "does_not_build" in summary:
            console.print(f"[yellow]note:[/] {escape(summary['does_not_build'])}", highlight=False)


def _classes_by_policy(summaries: Sequence[dict[str, Any]]) -> Table:
    """Drops by class; a policy's name is broken at its hyphen, so that nine columns stand side by side."""
    columns = (summary["policy"].replace("-", "-\n", 1) for summary in summaries)
    table = plain_table("Drops by class", "class", *columns)
    counts = [class_counts(summary) for summary in summaries]
    for name in dict.fromkeys(name for found in counts for name in found):
        table.add_row(name, *(figure(found.get(name, 0)) for found in counts))
    return table

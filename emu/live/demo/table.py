"""What a demonstration came to, for a person: a row per run, and a sentence per world."""

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from emu.live.demo.programs.writer import PageCacheSeen
from emu.live.demo.result import DemoResult, RunResult
from emu.verdicts.run_screen import COLOURS, NOTHING, milliseconds
from emu.verdicts.screen import figure

HEADS = (
    "policy",
    "flood",
    "writes",
    "in s",
    "MB/s",
    "p50",
    "p99",
    "gap s",
    "reserve",
    "dropped",
    "by check",
    "download",
)


def show_demo(console: Console, result: DemoResult) -> None:
    """Print the result."""
    how = "write-back of the real page cache" if result.page_cache else f"{result.depth} at a time"
    console.print(
        f"[bold]{figure(result.writes)}[/] writes of 4 KiB, {how}, over real iSCSI; "
        f"{figure(result.flood_per_second)} datagrams per second; scenario [bold]{escape(result.scenario)}[/]",
        highlight=False,
    )
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for at, head in enumerate(HEADS):
        table.add_column(head, justify="left" if at == 0 else "right", no_wrap=True)
    for world in result.worlds:
        for run in (world.without_flood, world.under_flood):
            if run is not None:
                table.add_row(*_row(run))
    console.print(table)
    console.print(
        "reserve: packets whose buffer came from it; dropped: packets of block I/O; by check: those by the reserve's",
        style="dim",
        highlight=False,
    )
    for world in result.worlds:
        for run in (world.without_flood, world.under_flood):
            if run is not None and run.writes is not None and run.writes.page_cache is not None:
                console.print(_page_cache(run, run.writes.page_cache), highlight=False)
    for world in result.worlds:
        colour = COLOURS.get(world.outcome, "yellow")
        said = f"[bold]{world.policy}[/]: [bold {colour}]{world.outcome}[/], {escape(world.verdict)}"
        console.print(f"{said}{'' if world.as_claimed else ' (not what is claimed)'}", highlight=False)
    console.print(f"captures and results: {escape(result.folder)}", highlight=False, soft_wrap=True)


def _row(run: RunResult) -> tuple[str, ...]:
    writes, flood, download = run.writes, run.flood, run.download
    sent = f"{flood.per_second:.0f}/s" if flood is not None else NOTHING
    if writes is None:
        return run.policy, sent, *(NOTHING for _ in HEADS[2:])
    return (
        run.policy,
        sent,
        figure(writes.completed),
        f"{writes.seconds:.2f}",
        f"{writes.megabytes_per_second:.1f}",
        milliseconds(writes.p50_ms),
        milliseconds(writes.p99_ms),
        f"{writes.longest_gap_seconds:.2f}",
        _told(run.reserve_packets),
        _told(run.block_io_dropped),
        _told(run.block_io_dropped_by_check),
        NOTHING if download is None else f"{download.megabytes_per_second:.1f} MB/s",
    )


def _page_cache(run: RunResult, seen: PageCacheSeen) -> str:
    how = "under the flood" if run.flooded else "without the flood"
    when = "never all" if seen.dirtied_seconds is None else f"all after {seen.dirtied_seconds:.2f} s"
    dirty, writeback = seen.most_dirty_bytes_of_machine / 1e6, seen.most_writeback_bytes_of_machine / 1e6
    return (
        f"page cache {how}: {figure(seen.most_dirty_pages)} pages of {seen.device} dirty at a time ({when}); "
        f"at most Dirty {dirty:.1f} MB, Writeback {writeback:.1f} MB of the whole machine"
    )


def _told(value: int | None) -> str:
    return NOTHING if value is None else figure(value)

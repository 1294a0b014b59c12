"""A flood is made from its first frame to its end, written or not, and told of.

`emu flood` and `emu.flood` both call this; nothing here prints.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, closing
from typing import Any

from emu.capture.frames import FrameSource
from emu.capture.output import OutputFile
from emu.capture.write import CaptureWriter, format_of
from emu.engine.choose import ENGINES, choose_flood_engine
from emu.engine.plain import FLOOD, Engine
from emu.interrupt import Interruption
from emu.kernel.machine import Packet
from emu.request import check_choice
from emu.traffic.beside import USUAL_FRAMES, asked_rate, ended_after, expected_frames, is_endless
from emu.traffic.flood.kinds import Flood, recipe_text
from emu.traffic.flood.source import opener_of
from emu.traffic.rewrite.source import report_of, rewritten
from emu.traffic.rewrite.spec import NOTHING, Rewrite
from emu.traffic.tally import Tally, Totals, tally_rows, totals_of
from emu.verdicts.summary import flood_facts

BATCH = 4096  # frames at a time: their rows stay in a core's cache


def craft_told(
    flood: Flood,
    progress: AbstractContextManager[Callable[[int], None] | None],
    say: Callable[[str], None],
    *,
    write: str | None = None,
    engine: str = "auto",
    rewrite: Rewrite = NOTHING,
) -> dict[str, Any]:
    """Make a flood, with an end if it has none and with the engine for it; what `--json` prints.

    `write` is the file, None: the frames are counted only.  Errors: UsageError when it cannot be written or the flood's
    options cannot be; ClosedPipe.
    """
    check_choice("--engine", engine, ENGINES)
    file_format = "" if write is None else format_of(write)
    if is_endless(flood):
        say(f"neither --count nor --for: {USUAL_FRAMES} frames")
        flood = ended_after(flood, USUAL_FRAMES)
    chosen, said = choose_flood_engine(engine, expected_frames(flood))
    if said:
        say(said)

    anew = opener_of(flood, chosen)
    inputs = [flood.options.template] if getattr(flood.options, "template", None) else []
    with ExitStack() as opened:
        source = opened.enter_context(closing(rewritten(anew(), rewrite, chosen, anew)))
        writer = None
        if write is not None:
            output = opened.enter_context(OutputFile(write, inputs))
            writer = CaptureWriter(
                output,
                chosen,
                file_format=file_format,
                comments=source.section_comments,
                interfaces=source.interfaces,
            )
        totals, incomplete = _craft(source, chosen, writer, progress)
        report = report_of(source)
    chosen.finished(FLOOD)
    return flood_facts(recipe_text(flood), asked_rate(flood), totals) | {
        "kind": flood.kind,
        "seed": flood.options.seed,
        "written": write,
        "rewritten": report._asdict() if report else None,
        "incomplete": incomplete,
        "engine": chosen.name,
    }


def _craft(
    source: FrameSource,
    engine: Engine,
    writer: CaptureWriter | None,
    progress: AbstractContextManager[Callable[[int], None] | None],
) -> tuple[Totals, str | None]:
    """Make the frames and write them; what they add up to, and why they end early."""
    interruption = Interruption()
    with interruption, progress as advance:
        totals = _pump(source, engine, writer, interruption, advance)
    incomplete = f"interrupted after frame {totals.frames}" if interruption.happened else None
    if writer is not None:
        writer.close(incomplete)
    return totals, incomplete


def _pump(
    source: FrameSource,
    engine: Engine,
    writer: CaptureWriter | None,
    interruption: Interruption,
    advance: Callable[[int], None] | None,
) -> Totals:
    rows, tallies = engine.rows(Packet, BATCH), engine.rows(Tally, max(1, len(source.interfaces)))
    tally = engine.function(tally_rows)
    while not interruption.happened and (count := source.read(rows, 0, BATCH)):
        tally(rows, 0, count, tallies)
        if writer is not None:
            writer.write(rows, 0, count, source)
        source.discard(source.position)
        if advance is not None:
            advance(source.frames)
    return totals_of(tallies[0])

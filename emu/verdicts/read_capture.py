"""The verdicts of an annotated capture as a table: one pass over the capture, into Arrow files.

However large the capture is, what is in memory is a window of it, a chunk of rows, and the culprits' runs of ids.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from emu.capture.annotate import KEYS, TIME_KEY
from emu.capture.annotated import AnnotatedReader, open_annotated
from emu.capture.lexicon import TOLD_ALL, TOLD_LOST, TOLD_NOTHING, TOLD_SURVIVED
from emu.engine.choose import choose_engine
from emu.engine.plain import Engine
from emu.kernel.drop_reason import PENDING, VERDICTS
from emu.verdicts.chunks import ArrayChunks, Chunk, Chunks, PlainChunks, polars_schema
from emu.verdicts.culprits import Culprits, culprit_expression
from emu.verdicts.schema import NAMES

if TYPE_CHECKING:
    import polars

READ = "read"  # what the engine is used for
BATCH = 4_096  # frames that are read at once: their rows stay in the CPU's cache
EVERY = [True] * len(VERDICTS)
EXTRA = ("told", "said", "culprit_id")
# A comment has these names wherever they apply, so with a comment they are known; frames without have no such column.
NAMED = ("cause", "point", "policy_rule", "zone")
KEY_OF = {column: key for key, column in enumerate(KEYS.values())}


class ReadCapture(NamedTuple):
    """What one pass over a capture has found."""

    table: "polars.LazyFrame"
    policies: list[str]
    incomplete: str
    damage: str
    notes: list[str]


def read_capture(path: str, folder: Path, engine: str, say: Callable[[str], None]) -> ReadCapture:
    """Read a capture with the engine asked for; `folder` takes the table.

    Errors: CaptureError when it cannot be read, or no frame of it has a verdict.
    """
    chosen, said = choose_engine(engine, Path(path).stat().st_size, READ)
    if said:
        say(said)
    with open_annotated(path, chosen) as reader:
        found = _read(reader, chosen, folder)
        if not reader.is_annotated:
            raise reader.not_annotated()
    chosen.finished(READ)
    return found


def _read(reader: AnnotatedReader, engine: Engine, folder: Path) -> ReadCapture:
    import polars

    culprits = Culprits()
    files = []
    for number, frame in enumerate(_frames(reader, engine)):
        culprits.meet(frame["packet_id"], frame["frame"])
        files.append(folder / f"{number:08}.arrow")
        frame.write_ipc(files[-1], compression="lz4")
    table = polars.scan_ipc(files).with_columns(culprit_expression(culprits))
    if reader.count("paced"):
        # The comments' clock is not the file's: when a frame without a comment arrived, nobody knows.
        table = table.with_columns(polars.when(polars.col("told") == TOLD_ALL).then("time_ns").alias("time_ns"))
    notes = list(_notes(reader, culprits))
    return ReadCapture(table.select(NAMES), reader.policies_met, reader.incomplete, reader.damage, notes)


def _frames(reader: AnnotatedReader, engine: Engine) -> Iterator["polars.DataFrame"]:
    """The capture as frames of a chunk's size, at least one."""
    gatherer = PlainChunks if engine.name == "plain" else ArrayChunks
    chunks: Chunks = gatherer(reader.devices, EVERY)
    rows = reader.rows(BATCH)
    extra: dict[str, list[int]] = {name: [] for name in EXTRA}
    nothing = True
    while count := reader.read(rows, 0, BATCH):
        for name, values in extra.items():
            values += engine.column(rows, name, count)
        for chunk in chunks.take(rows, 0, count):
            yield _told_frame(chunk, extra)
            nothing = False
        reader.discard(reader.position)
    rest = chunks.rest()
    if rest is not None:
        yield _told_frame(rest, extra)
    elif nothing:
        import polars

        yield polars.DataFrame(schema=polars_schema() | {"told": polars.Int8})


def _told_frame(chunk: Chunk, extra: dict[str, list[int]]) -> "polars.DataFrame":
    """A chunk as a frame with null wherever the file does not tell, and its `extra` taken off."""
    import polars

    columns = []
    for name, values in extra.items():
        columns.append(polars.Series(name, values[: chunk.rows], dtype=polars.Int64))
        del values[: chunk.rows]
    frame = chunk.frame().with_columns(columns).with_columns(_known())
    return frame.select(*NAMES, polars.col("told").cast(polars.Int8))


def _known() -> list[Any]:
    """Each column that a comment tells, null where none does."""
    import polars

    column, told, said = polars.col, polars.col("told"), polars.col("said")
    # Where no interface and no comment says that the frame was played, nobody has decided, and that is known.
    verdict_known = (column("verdict") != VERDICTS[PENDING]) | (told == TOLD_NOTHING)
    known = {
        "verdict": verdict_known,
        "reason": verdict_known | (told != TOLD_LOST),  # see fates
        "skb_device": polars.lit(value=False),
        **dict.fromkeys(NAMED, told == TOLD_ALL),
    }
    for name, key in KEY_OF.items():
        if name != "time_ns":
            needed = 1 << key | (1 << TIME_KEY if name == "decided_ns" else 0)
            known[name] = (told == TOLD_ALL) & (said & needed == needed)
    values = {"culprit_frame": column("culprit_id")}
    return [polars.when(is_known).then(values.get(name, column(name))).alias(name) for name, is_known in known.items()]


def _notes(reader: AnnotatedReader, culprits: Culprits) -> Iterator[str]:
    survived, foreign = reader.told(TOLD_SURVIVED) - reader.count("survived_short"), reader.told(TOLD_NOTHING)
    if survived:
        yield (
            f"{survived} frames survived and have no comment: how is not known; replay with --annotate all to have it"
        )
    if foreign:
        yield f"{foreign} frames are of interfaces without verdicts"
    if reader.count("lost_untold"):
        yield f"{reader.count('lost_untold')} frames were lost and have no comment: to what is not known"
    short = reader.told(TOLD_LOST) - reader.count("lost_untold")
    if short:
        yield f"{short} lost frames have a short comment only: their numbers are not known"
    if reader.count("survived_short"):
        named = reader.count("survived_short")
        yield f"{named} frames that survived have a short comment only: their numbers are not known"
    if reader.count("unknown"):
        yield f"{reader.count('unknown')} words of comments are unknown to this version and were skipped"
    if reader.count("paced"):
        yield "the comments' clock is not the file's (a replay at another pace, or a file whose times were shifted)"
    if culprits.has_doubles:
        yield "packet ids come more than once (a merged file): a culprit that could be several frames is not named"
    if len(reader.policies_met) > 1:
        yield f"verdicts of several policies: {', '.join(reader.policies_met)}"

"""Tables on their way through polars into an output: in order, streamed, and stopped by Ctrl-C.

polars takes a query's rows a morsel at a time; ours pass through a Python function on their way, which counts them.
"""

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from emu.capture.output import OutputFile
from emu.errors import InterruptedEarlyError
from emu.verdicts.export.formats import Advance
from emu.verdicts.polars_target import PolarsTarget

if TYPE_CHECKING:
    import polars

PATIENCE_S = 0.1  # how soon Ctrl-C is noticed


class Stopped(Exception):  # noqa: N818 - a word to polars, not an error of anybody
    """The query is to end."""


def drain(
    table: "polars.LazyFrame",
    convert: "Callable[[polars.DataFrame], polars.DataFrame]",
    schema: dict[str, Any],
    output: OutputFile,
    sink: "Callable[[polars.LazyFrame, Any], Any]",
    advance: Advance | None = None,
) -> None:
    """Run `table` through `convert`, morsel by morsel and in order, into `sink`, which writes to the target.

    `schema` is that of what `convert` returns.  Errors: whatever the output or `convert` raises;
    KeyboardInterrupt ends the query first.
    """
    target = PolarsTarget(output.write)
    done = 0

    def counted(morsel: "polars.DataFrame") -> "polars.DataFrame":
        nonlocal done
        target.check()
        try:
            converted = convert(morsel)
            done += morsel.height
            if advance is not None:
                advance(done, None)
        except BaseException as error:
            target.error = target.error or error
            raise
        return converted

    query = table.map_batches(
        counted, streamable=True, schema=schema, predicate_pushdown=False, projection_pushdown=False
    )
    _run(lambda: sink(query, target), target)


def _run(work: Callable[[], Any], target: PolarsTarget) -> None:
    """Do the work in a thread: while polars runs, the main thread would not hear of Ctrl-C."""
    failed: list[BaseException] = []

    def guarded() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - raised again below, in the thread that waits
            failed.append(error)

    thread = threading.Thread(target=guarded, name="emu-export", daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            thread.join(PATIENCE_S)
    except KeyboardInterrupt:
        target.error = Stopped()
        thread.join()
        raise InterruptedEarlyError("interrupted") from None
    if target.error is not None:
        raise target.error
    if failed:
        raise failed[0]

"""The one way to have a source rewritten."""

from collections.abc import Callable
from contextlib import closing

from emu.capture.frames import FrameSource
from emu.engine.plain import Engine
from emu.errors import UsageError
from emu.kernel.machine import Packet
from emu.traffic.host import HOST_FRAMES, Host, choose_host
from emu.traffic.rewrite.loop import LoopedReader
from emu.traffic.rewrite.reader import Rewriter, RewrittenReader
from emu.traffic.rewrite.rules import Rewritten
from emu.traffic.rewrite.spec import Rewrite


def rewritten(
    source: FrameSource,
    rewrite: Rewrite,
    engine: Engine,
    again: Callable[[], FrameSource] | None = None,
    host: str | None = None,
) -> FrameSource:
    """The source as `rewrite` wants it, or the source itself where nothing is to be rewritten; it is taken over.

    `again` opens the source anew from its start: a loop needs that.  `host` is the host as the user names it: a loop
    with distinct addresses needs to know which end stays.  Errors: UsageError for a loop that cannot be.
    """
    if rewrite.is_empty:
        return source
    rewriter = Rewriter(rewrite, engine)
    if rewrite.loop == 1:
        return RewrittenReader(source, rewriter)
    if again is None:
        raise UsageError(f"--loop {rewrite.loop}: this input cannot be read again; expected a file")
    if rewrite.loop_distinct == "addresses":
        rewriter.tell_host(_host_of(again(), rewrite, engine, host))
    return LoopedReader(source, again, rewriter, engine)


def _host_of(source: FrameSource, rewrite: Rewrite, engine: Engine, asked: str | None) -> Host:
    """The host as the replay will see it: from the first frames, rewritten as in the first round."""
    rows = engine.rows(Packet, HOST_FRAMES)
    with closing(RewrittenReader(source, Rewriter(rewrite, engine))) as reader:
        count = 0
        while count < HOST_FRAMES and (further := reader.read(rows, count, HOST_FRAMES - count)):
            count += further
        try:
            return choose_host(rows, range(count), reader.octets, asked)
        except UsageError:  # of several devices only one need have it; the replay says when none has
            return choose_host(rows, range(count), reader.octets, None)


def report_of(source: FrameSource) -> Rewritten | None:
    """What rewriting did to a source, None where nothing was to be rewritten."""
    return source.report if isinstance(source, RewrittenReader | LoopedReader) else None

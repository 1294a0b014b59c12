"""The log: a row per received packet, as Parquet, Arrow, CSV or JSON lines; the columns are `schema.COLUMNS`.

Memory is bounded whatever the capture's size, and the file's bytes depend on nothing but the packets: polars is fed
chunks of a fixed number of rows, in order.  Parquet and Arrow need one writer from the first row to the last, so
polars' streaming sink runs in a thread that takes chunks off a short queue.
"""

import atexit
import contextlib
import io
import os
import queue
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from emu.capture.output import OutputFile
from emu.errors import UsageError
from emu.verdicts.chunks import CHUNK, ArrayChunks, Chunk, Chunks, PlainChunks, logged_verdicts, polars_schema
from emu.verdicts.polars_target import PolarsTarget
from emu.verdicts.schema import SCHEMA_VERSION

if TYPE_CHECKING:
    import polars

ROWS = ("all", "drops")
SUFFIXES = (".parquet", ".arrow", ".csv", ".jsonl")
VERSION_KEY, ROWS_KEY, INCOMPLETE_KEY = "emu.schema_version", "emu.rows", "emu.incomplete"
POLICY_KEY = "emu.policy"
WAITING = 1  # chunks in the queue: one is gathered, one waits, one is written
PIECE = 8_192  # rows that become text at once
PATIENCE_S = 0.05  # how soon a writer that waits for the queue notices that the sink has failed
LAST_WORDS_S = 10.0  # for how long a crash waits for the sink to let go


class LogWriter:
    """Writes final verdicts to a log whose format is told by its name; the file gets that name on `close`.

    Errors: UsageError in one line when the name, polars or the disk does not allow it, at once or at a later
    `write` or `close`; what was written then stays in `NAME.partial`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        engine_name: str,
        devices: Sequence[str],
        rows: str = "all",
        policy: str = "",
        inputs: Sequence[str] = (),
    ) -> None:
        """Open the log; `rows` is one of ROWS, `devices` names devices by `Packet.dev`, `policy` decided."""
        name = os.fspath(path)
        suffix = Path(name).suffix.lower()
        if suffix not in SUFFIXES:
            raise UsageError(f"{name}: a log's format is told by its name; expected {', '.join(SUFFIXES)}")
        if rows not in ROWS:
            raise UsageError(f"--log-rows {rows}: expected {' or '.join(ROWS)}")
        import_polars()
        gatherer = PlainChunks if engine_name == "plain" else ArrayChunks
        self._chunks: Chunks = gatherer(devices, logged_verdicts(drops_only=rows == "drops"))
        self._closed = False
        # Why the log ends early, for the caller to tell where the file itself has no place for it.
        self.untold: str | None = None
        self._holds_facts = suffix == ".parquet"
        self._output = OutputFile(name, inputs)
        self._sink: _Sink
        if suffix in (".csv", ".jsonl"):
            self._sink = _TextSink(self._output, suffix)
        else:
            self._sink = _StreamSink(self._output, suffix, facts_of(rows, policy))

    def write(self, rows: Any, first: int, last: int) -> None:
        """Log the received packets of `rows[first:last]`; their verdicts are final."""
        for chunk in self._chunks.take(rows, first, last):
            self._sink.put(chunk)

    def close(self, incomplete: str | None = None) -> None:
        """Complete the file and give it its name; `incomplete` says why it ends before the capture does."""
        if self._closed:
            return
        rest = self._chunks.rest()
        if rest is not None:
            self._sink.put(rest)
        self._sink.finish(incomplete)
        self._output.finish()
        self._closed = True
        if not self._holds_facts:
            self.untold = incomplete

    def abandon(self) -> None:
        """Let go without finishing: what was written stays in `NAME.partial`.  Does nothing after `close`."""
        if not self._closed:
            self._closed = True
            self._sink.abandon()
            self._output.abandon()

    def discard(self) -> None:
        """Let go as if it had never been opened: no unfinished file stays behind.  Does nothing after `close`."""
        if not self._closed:
            self.abandon()
            self._output.discard()


def facts_of(rows: str, policy: str, incomplete: str = "") -> dict[str, str]:
    """What a Parquet file says of itself, besides its rows; `rows` is one of ROWS, empty texts are left out."""
    facts = {VERSION_KEY: str(SCHEMA_VERSION), ROWS_KEY: rows, POLICY_KEY: policy, INCOMPLETE_KEY: incomplete}
    return {key: value for key, value in facts.items() if value}


def import_polars(wanted_by: str = "--log") -> None:
    """Import polars.  Errors: UsageError when it is not installed, which says who wants it."""
    try:
        import polars  # noqa: F401
    except ImportError as error:
        raise UsageError(f"{wanted_by} needs polars: pip install 'emu[log]'") from error
    # polars hooks SIGINT when it is imported: from the first Ctrl-C on, every call of it raises KeyboardInterrupt
    # until the query that runs has ended, and ours runs until the log is complete.  Ctrl-C is Python's again.
    if threading.current_thread() is threading.main_thread():
        handler = signal.getsignal(signal.SIGINT)
        if handler is not None:
            signal.signal(signal.SIGINT, handler)


class _Sink(Protocol):
    """Where chunks go."""

    def put(self, chunk: Chunk) -> None:
        """Write a chunk, or hand it to who does."""
        ...

    def finish(self, incomplete: str | None) -> None:
        """Everything is written when this returns."""
        ...

    def abandon(self) -> None:
        """Stop at once."""
        ...


class _TextSink:
    """CSV and JSON lines: every chunk becomes text on its own."""

    def __init__(self, output: OutputFile, suffix: str) -> None:
        self._output = output
        self._csv = suffix == ".csv"
        if self._csv:
            output.write((",".join(polars_schema()) + "\n").encode())

    def put(self, chunk: Chunk) -> None:
        frame = chunk.frame()
        for start in range(0, chunk.rows, PIECE):
            text = io.BytesIO()
            piece = frame.slice(start, PIECE)
            if self._csv:
                piece.write_csv(text, include_header=False)
            else:
                piece.write_ndjson(text)
            self._output.write(text.getbuffer())

    def finish(self, incomplete: str | None) -> None:
        pass

    def abandon(self) -> None:
        pass


class _StreamSink:
    """Parquet and Arrow: polars' streaming sink, in a thread of its own, draws chunks from a queue."""

    def __init__(self, output: OutputFile, suffix: str, facts: dict[str, str]) -> None:
        self._target = PolarsTarget(output.write)
        self._facts = facts
        self._queue: queue.Queue[Chunk | type[_End]] = queue.Queue(WAITING)
        self._error: BaseException | None = None
        # A daemon, or a crash that nobody cleans up after would wait for it for ever; but it must not be inside
        # polars when the interpreter goes away.
        self._thread = threading.Thread(target=self._run, args=(suffix,), name="emu-log", daemon=True)
        self._thread.start()
        atexit.register(self.abandon)

    def put(self, chunk: Chunk) -> None:
        while True:
            self._check()
            with contextlib.suppress(queue.Full):
                self._queue.put(chunk, timeout=PATIENCE_S)
                return

    def finish(self, incomplete: str | None) -> None:
        if incomplete is not None:
            self._facts[INCOMPLETE_KEY] = incomplete
        while self._thread.is_alive():
            with contextlib.suppress(queue.Full):
                self._queue.put(_End, timeout=PATIENCE_S)
                break
        self._thread.join()
        self._check()
        atexit.unregister(self.abandon)

    def abandon(self) -> None:
        atexit.unregister(self.abandon)
        # Whatever waits is thrown away, so that there is room for the word to stop.
        while self._thread.is_alive():
            with contextlib.suppress(queue.Empty):
                self._queue.get_nowait()
            with contextlib.suppress(queue.Full):
                self._queue.put_nowait(_Abandoned)
                break
        self._thread.join(LAST_WORDS_S)

    def _check(self) -> None:
        """Raise what has gone wrong in the thread."""
        error = self._target.error or self._error
        if error is not None:
            self.abandon()
            raise error

    def _run(self, suffix: str) -> None:
        try:
            self._stream(suffix)
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that writes, by _check
            self._error = error

    def _stream(self, suffix: str) -> None:
        import polars
        from polars.io.plugins import register_io_source

        rows = register_io_source(self._frames, schema=polars_schema())
        target: Any = self._target
        if suffix == ".parquet":
            # The metadata are asked for when the footer is written: by then we know whether the log is complete.
            facts: Callable[[Any], dict[str, str]] = lambda _context: self._facts  # noqa: E731
            rows.sink_parquet(target, compression="zstd", row_group_size=CHUNK, metadata=facts)
        else:
            # The oldest level writes texts as plain Arrow strings; views would share whatever memory they had.
            rows.sink_ipc(target, compression="lz4", compat_level=polars.CompatLevel.oldest())

    def _frames(self, *_pushdown: Any) -> "Iterator[polars.DataFrame]":
        while True:
            chunk = self._queue.get()
            if chunk is _Abandoned:
                raise _Abandoned
            if not isinstance(chunk, Chunk):
                return
            yield chunk.frame()


class _End(Exception):  # noqa: N818 - a word in the queue, not an error
    """No more chunks."""


class _Abandoned(_End):
    """No more chunks, and no file."""

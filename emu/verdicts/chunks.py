"""Rows of either engine, gathered into chunks of one fixed size, whatever the size of the batches that they come in.

The chunk decides where a file's row groups begin, so files do not depend on batches.  A chunk holds integers only:
names and texts are put in when it becomes a polars frame, by the same code for both engines.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from emu.kernel.drop_reason import DROPPED, NOT_PLAYED, NOT_RECEIVED, PENDING
from emu.kernel.machine import ZONE_NORMAL
from emu.verdicts.schema import (
    COLUMNS,
    ENUM,
    FLAG,
    FLOW_FIELDS,
    INT,
    SOCKET_FIELDS,
    UINT,
    UINT_MASK,
    device_names,
    flow_key,
    flow_text,
    socket_key,
    socket_text,
)

if TYPE_CHECKING:
    import polars

CHUNK = 65_536  # rows
BLOCK = 4_096  # rows that are gathered at once: their 344 bytes each stay in the CPU's cache
SLOTS = 1 << 16  # of the table that knows a chunk's texts again
NO_TEXT = (-1, -1)  # a key that no packet has
# Columns that are copied as they are; texts are built from several fields, the zone is a constant.
COPIED = tuple(column for column in COLUMNS if column.field and column.name not in ("flow", "socket"))


class Chunk(NamedTuple):
    """Up to CHUNK packets: by column a list or an array of integers, and what the integers of text columns mean."""

    columns: dict[str, Any]
    texts: dict[str, list[str]]
    rows: int

    def frame(self) -> "polars.DataFrame":
        """The chunk as a frame."""
        import polars

        types = polars_schema()
        series = []
        for column in COLUMNS:
            values: Any = self.columns[column.name] if column.field else [ZONE_NORMAL] * self.rows
            if column.type in (INT, UINT, FLAG):
                series.append(polars.Series(column.name, values, dtype=types[column.name]))
            else:
                # Gathering works in every version; casts from integers to an Enum do not.
                names = polars.Series(column.name, column.names or self.texts[column.name], dtype=types[column.name])
                series.append(names.gather(polars.Series(values, dtype=polars.UInt32)))
        return polars.DataFrame(series)


class Chunks(Protocol):
    """What gathers rows."""

    def take(self, rows: Any, first: int, last: int) -> Iterator[Chunk]:
        """Gather what belongs into the log of rows[first:last]; yields every chunk that gets full."""
        ...

    def rest(self) -> Chunk | None:
        """The last chunk, if there is anything left."""
        ...


def polars_schema() -> dict[str, Any]:
    """The types of the columns, as polars names them."""
    import polars

    plain: dict[str, Any] = {INT: polars.Int64, UINT: polars.UInt64, FLAG: polars.Int8}
    return {c.name: polars.Enum(c.names) if c.type == ENUM else plain.get(c.type, polars.String) for c in COLUMNS}


def is_logged(verdict: int, drops_only: bool) -> bool:
    """Whether a packet with this verdict belongs into the log: it was received."""
    if drops_only:
        return verdict == DROPPED
    return verdict != NOT_RECEIVED and verdict != NOT_PLAYED


class PlainChunks:
    """Gathers the plain engine's rows, without numpy."""

    def __init__(self, devices: Sequence[str], drops_only: bool) -> None:
        """Gather all received packets, or only drops."""
        self._devices = device_names(devices)
        self._drops_only = drops_only
        self._packets: list[Any] = []
        self._renew()

    def _renew(self) -> None:
        self._columns: dict[str, list[int]] = {column.name: [] for column in COLUMNS if column.field}
        self._codes: dict[str, dict[str, int]] = {"flow": {}, "socket": {}}
        self._rows = 0

    def take(self, rows: Any, first: int, last: int) -> Iterator[Chunk]:
        """Gather what belongs into the log of rows[first:last]; yields every chunk that gets full."""
        for at in range(first, last):
            packet = rows[at]
            assert packet.verdict != PENDING, f"frame {packet.frame}: no final verdict"
            if is_logged(packet.verdict, self._drops_only):
                self._add(packet)
                if self._rows == CHUNK:
                    yield self._made()

    def _add(self, packet: Any) -> None:
        for column in COPIED:
            self._columns[column.name].append(getattr(packet, column.field))
        self._columns["device"][-1] += 1
        self._columns["packet_id"][-1] &= UINT_MASK
        flow = flow_text(*flow_key(*(getattr(packet, field) for field in FLOW_FIELDS)))
        socket = ""
        if packet.sk >= 0:
            socket = socket_text(*socket_key(*(getattr(packet, field) for field in SOCKET_FIELDS)))
        for name, text in (("flow", flow), ("socket", socket)):
            codes = self._codes[name]
            self._columns[name].append(codes.setdefault(text, len(codes)))
        self._rows += 1

    def _made(self) -> Chunk:
        texts = {name: list(codes) for name, codes in self._codes.items()}
        made = Chunk(self._columns, texts | {"device": self._devices}, self._rows)
        self._renew()
        return made

    def rest(self) -> Chunk | None:
        """The last chunk, if there is anything left."""
        return self._made() if self._rows else None


class ArrayChunks:
    """Gathers rows of the compiled engine's arrays, column by column."""

    def __init__(self, devices: Sequence[str], drops_only: bool) -> None:
        """Gather all received packets, or only drops."""
        import numpy as np

        self._devices = device_names(devices)
        self._drops_only = drops_only
        self._types = {INT: np.int64, UINT: np.int64, FLAG: np.int8}
        self._flows = _Codes(flow_text)
        self._sockets = _Codes(socket_text)
        self._renew()

    def _renew(self) -> None:
        import numpy as np

        # New arrays each time: a frame may hold on to the old ones.
        self._columns = {c.name: np.empty(CHUNK, self._types.get(c.type, np.uint32)) for c in COLUMNS if c.field}
        self._flows.renew()
        self._sockets.renew()
        self._rows = 0

    def take(self, rows: Any, first: int, last: int) -> Iterator[Chunk]:
        """Gather what belongs into the log of rows[first:last]; yields every chunk that gets full."""
        for start in range(first, last, BLOCK):
            block = self._logged(rows[start : min(start + BLOCK, last)])
            while len(block):
                room = CHUNK - self._rows
                self._add(block[:room])
                block = block[room:]
                if self._rows == CHUNK:
                    yield self._made()

    def _logged(self, block: Any) -> Any:
        verdicts = block["verdict"]
        pending = verdicts == PENDING
        assert not pending.any(), f"frame {block['frame'][pending][0]}: no final verdict"
        if self._drops_only:
            logged = verdicts == DROPPED
        else:
            logged = (verdicts != NOT_RECEIVED) & (verdicts != NOT_PLAYED)
        return block if logged.all() else block[logged]

    def _add(self, block: Any) -> None:
        import numpy as np

        place = slice(self._rows, self._rows + len(block))
        for column in COPIED:
            self._columns[column.name][place] = block[column.field]
        self._columns["device"][place] = block["dev"] + 1
        self._columns["flow"][place] = self._flows.of(*flow_key(*(block[field] for field in FLOW_FIELDS)))
        addresses, rest = socket_key(*(block[field] for field in SOCKET_FIELDS))
        found = block["sk"] >= 0
        keys = np.where(found, addresses, NO_TEXT[0]), np.where(found, rest, NO_TEXT[1])
        self._columns["socket"][place] = self._sockets.of(*keys)
        self._rows += len(block)

    def _made(self) -> Chunk:
        import numpy as np

        columns = {name: values[: self._rows] for name, values in self._columns.items()}
        columns["packet_id"] = columns["packet_id"].view(np.uint64)
        texts = {"flow": self._flows.texts, "socket": self._sockets.texts, "device": self._devices}
        made = Chunk(columns, texts, self._rows)
        self._renew()
        return made

    def rest(self) -> Chunk | None:
        """The last chunk, if there is anything left."""
        return self._made() if self._rows else None


class _Codes:
    """Numbers a chunk's distinct keys, a whole block at a time.

    A table of SLOTS knows most keys again; which slot a key has is no more than a guess, and the dict decides
    about the others.  So what a block costs in Python is its distinct new keys.
    """

    def __init__(self, text: Callable[[int, int], str]) -> None:
        import numpy as np

        self._text = text
        self._slots = np.zeros(SLOTS, np.uint32)
        self._first, self._second = np.empty(CHUNK + 1, np.int64), np.empty(CHUNK + 1, np.int64)
        self.renew()

    def renew(self) -> None:
        """Begin a new chunk; code 0 is NO_TEXT."""
        self._slots.fill(0)
        self._first[0], self._second[0] = NO_TEXT
        self._codes = {NO_TEXT: 0}
        self.texts = [""]

    def of(self, first: Any, second: Any) -> Any:
        """The codes of these keys."""
        import numpy as np

        # Multiplicative hashing (Knuth): the high bits are the well mixed ones.
        mixed = (first ^ second * 0x2545F4914F6CDD1D) * -0x61C8864680B583EB
        slots = mixed.view(np.uint64) >> np.uint64(64 - 16)
        codes = self._slots[slots]
        missed = np.flatnonzero((self._first[codes] != first) | (self._second[codes] != second))
        if len(missed):
            pairs = zip(first[missed].tolist(), second[missed].tolist(), strict=True)
            codes[missed] = [self._codes[pair] if pair in self._codes else self._new(pair) for pair in pairs]
            self._slots[slots[missed]] = codes[missed]
        return codes

    def _new(self, pair: tuple[int, int]) -> int:
        code = self._codes[pair] = len(self.texts)
        self._first[code], self._second[code] = pair
        self.texts.append(self._text(*pair))
        return code

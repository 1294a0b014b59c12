"""Rows of either engine, gathered into chunks of one fixed size, whatever the size of the batches that they come in.

The chunk decides where a file's row groups begin, so files do not depend on batches.  A chunk holds integers only:
names and texts are put in when it becomes a polars frame, by the same code for both engines.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from emu.kernel.drop_reason import DELIVERED, DROPPED, IN_FLIGHT, LATER, OOPS, PENDING, VERDICTS
from emu.kernel.machine import ZONE_NORMAL
from emu.kernel.record import as_wholes
from emu.verdicts.schema import (
    COLUMNS,
    DEVICE_COLUMNS,
    ENUM,
    FLAG,
    FLOW_FIELDS,
    INT,
    IPV6_FLAG,
    SOCKET_FIELDS,
    UINT,
    UINT_MASK,
    VLAN_ID,
    device_names,
    flow_head,
    flow_key,
    flow_text,
    socket_head,
    socket_key,
    socket_text,
)

if TYPE_CHECKING:
    import polars

CHUNK = 65_536  # rows
BLOCK = 4_096  # rows that are gathered at once
assert CHUNK % BLOCK == 0, "a chunk is full when a block is"
SLOT_BITS = 16  # of the table that knows a chunk's flows again
NO_KEY = -1  # every part of the key of nothing: no packet has it, and its text is empty
FLOW_PARTS, SOCKET_PARTS = 5, 3
assert PENDING == 0, "a block without a zero among its verdicts has no pending packet"
RECEIVED = (DELIVERED, DROPPED, IN_FLIGHT, OOPS)  # the sum that the conservation law speaks of
MADE = ("flow", "socket", "vlan", *DEVICE_COLUMNS)
# Columns that are copied as they are; texts are built from several fields, the zone is a constant.
COPIED = tuple(column for column in COLUMNS if column.field and column.name not in MADE)
SOURCES = {column.name: column.field for column in COLUMNS}
FIELDS = tuple(dict.fromkeys((*(column.field for column in COLUMNS if column.field), *FLOW_FIELDS, *SOCKET_FIELDS)))
_values = attrgetter(*FIELDS)


class Chunk(NamedTuple):
    """Up to CHUNK packets: by column a list or an array of integers; `texts` makes what text columns' integers mean."""

    columns: dict[str, Any]
    texts: dict[str, Callable[[], Any]]
    rows: int

    def frame(self) -> "polars.DataFrame":
        """The chunk as a frame."""
        import polars

        types = polars_schema()
        series = []
        for column in COLUMNS:
            values = self.columns.get(column.name)
            if column.type in (INT, UINT, FLAG):
                series.append(polars.Series(column.name, values, dtype=types[column.name]))
                continue
            # Gathering works in every version; casts from integers to an Enum do not.
            texts = column.names or self.texts[column.name]()
            names = polars.Series(column.name, texts, dtype=types[column.name])
            if values is None:
                series.append(names.new_from_index(ZONE_NORMAL, self.rows))
            else:
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


def logged_verdicts(drops_only: bool) -> list[bool]:
    """By verdict: whether the log has its packets."""
    wanted = (DROPPED, LATER) if drops_only else (*RECEIVED, LATER)
    return [verdict in wanted for verdict in range(len(VERDICTS))]


class PlainChunks:
    """Gathers the plain engine's rows, without numpy."""

    def __init__(self, devices: Sequence[str], logged: Sequence[bool]) -> None:
        """Gather the packets whose verdicts are `logged`, by verdict; one that is pending is a bug unless it is."""
        self._devices = devices  # grows with inferred VLANs
        self._logged = logged
        self._rows: list[tuple[int, ...]] = []

    def take(self, rows: Any, first: int, last: int) -> Iterator[Chunk]:
        """Gather what belongs into the log of rows[first:last]; yields every chunk that gets full."""
        for at in range(first, last):
            packet = rows[at]
            assert packet.verdict != PENDING or self._logged[PENDING], f"frame {packet.frame}: no final verdict"
            if self._logged[packet.verdict]:
                # The values, not the packet: its row will be another packet's.
                self._rows.append(_values(packet))
                if len(self._rows) == CHUNK:
                    yield self._made()

    def _made(self) -> Chunk:
        values = dict(zip(FIELDS, map(list, zip(*self._rows, strict=True)), strict=True))
        columns: dict[str, list[int]] = {column.name: values[column.field] for column in COPIED}
        for name in DEVICE_COLUMNS:
            columns[name] = [device + 1 for device in values[SOURCES[name]]]
        columns["vlan"] = [tag & VLAN_ID for tag in values["vlan_outer"]]
        columns["packet_id"] = [number & UINT_MASK for number in values["packet_id"]]
        flows, sockets = {"": 0}, {"": 0}
        flow_fields, socket_fields = ([values[field] for field in fields] for fields in (FLOW_FIELDS, SOCKET_FIELDS))
        columns["flow"] = [
            flows.setdefault(flow_text(*flow_key(*key)), len(flows)) for key in zip(*flow_fields, strict=True)
        ]
        columns["socket"] = [
            sockets.setdefault(socket_text(*socket_key(*key)) if sk >= 0 else "", len(sockets))
            for sk, *key in zip(values["sk"], *socket_fields, strict=True)
        ]
        texts: dict[str, Callable[[], Any]] = {"flow": lambda: list(flows), "socket": lambda: list(sockets)}
        texts |= dict.fromkeys(DEVICE_COLUMNS, lambda: device_names(self._devices))
        made = Chunk(columns, texts, len(self._rows))
        self._rows = []
        return made

    def rest(self) -> Chunk | None:
        """The last chunk, if there is anything left."""
        return self._made() if self._rows else None


class ArrayChunks:
    """Gathers rows of the compiled engine's arrays, column by column."""

    def __init__(self, devices: Sequence[str], logged: Sequence[bool]) -> None:
        """Gather the packets whose verdicts are `logged`, by verdict; one that is pending is a bug unless it is."""
        import numpy as np

        self._devices = devices  # grows with inferred VLANs
        self._wanted = np.array(logged)
        self._types = {INT: np.int64, UINT: np.int64, FLAG: np.int8}
        self._waiting: Any = None  # rows of a block that is not full yet
        self._waiting_rows = 0
        self._renew()

    def _renew(self) -> None:
        import numpy as np

        # New arrays each time: a frame may hold on to the old ones.
        self._columns = {c.name: np.empty(CHUNK, self._types.get(c.type, np.uint32)) for c in COLUMNS if c.field}
        self._flows, self._sockets = _Codes(FLOW_PARTS), _Codes(SOCKET_PARTS)
        self._rows = 0

    def take(self, rows: Any, first: int, last: int) -> Iterator[Chunk]:
        """Gather what belongs into the log of rows[first:last]; yields every chunk that gets full."""
        for start in range(first, last, BLOCK):
            block = self._logged(rows[start : min(start + BLOCK, last)])
            while len(block):
                whole, block = self._blocked(block)
                if whole is not None:
                    self._add(whole)
                if self._rows == CHUNK:
                    yield self._made()

    def _blocked(self, rows: Any) -> tuple[Any, Any]:
        """A full block of what waits and these rows, None if that is not full yet; and what is left of the rows.

        Columns are gathered from full blocks: of a few rows, looking at each of them takes longer than copying.
        """
        import numpy as np

        if self._waiting_rows == 0 and len(rows) == BLOCK:
            return rows, rows[BLOCK:]
        if self._waiting is None:
            self._waiting = np.empty(BLOCK, rows.dtype)
        room = BLOCK - self._waiting_rows
        taken = rows[:room]
        as_wholes(self._waiting)[self._waiting_rows : self._waiting_rows + len(taken)] = as_wholes(taken)
        self._waiting_rows += len(taken)
        if self._waiting_rows < BLOCK:
            return None, rows[room:]
        self._waiting_rows = 0
        return self._waiting, rows[room:]

    def _logged(self, block: Any) -> Any:
        import numpy as np

        verdicts = block["verdict"].copy()  # they lie far apart, and are looked at twice
        assert self._wanted[PENDING] or verdicts.all(), f"frame {block['frame'][verdicts.argmin()]}: no final verdict"
        places = np.flatnonzero(self._wanted.take(verdicts))
        return block if len(places) == len(block) else as_wholes(block).take(places).view(block.dtype)

    def _add(self, block: Any) -> None:
        import numpy as np

        place = slice(self._rows, self._rows + len(block))
        for column in COPIED:
            self._columns[column.name][place] = block[column.field]
        for name in DEVICE_COLUMNS:
            self._columns[name][place] = block[SOURCES[name]] + 1
        self._columns["vlan"][place] = block["vlan_outer"] & VLAN_ID
        self._columns["flow"][place] = self._flows.of(*flow_key(*(block[field] for field in FLOW_FIELDS)))
        found = block["sk"] >= 0
        sockets = socket_key(*(block[field] for field in SOCKET_FIELDS))
        self._columns["socket"][place] = self._sockets.of(*(np.where(found, part, NO_KEY) for part in sockets))
        self._rows += len(block)

    def _made(self) -> Chunk:
        import numpy as np

        columns = {name: values[: self._rows] for name, values in self._columns.items()}
        columns["packet_id"] = columns["packet_id"].view(np.uint64)
        flows, sockets = self._flows, self._sockets
        texts: dict[str, Callable[[], Any]] = {
            "flow": lambda: _flow_texts(*flows.keys()),
            "socket": lambda: _socket_texts(*sockets.keys()),
        } | dict.fromkeys(DEVICE_COLUMNS, lambda: device_names(self._devices))
        made = Chunk(columns, texts, self._rows)
        self._renew()
        return made

    def rest(self) -> Chunk | None:
        """The last chunk, if there is anything left."""
        if self._waiting_rows:
            self._add(self._waiting[: self._waiting_rows])
            self._waiting_rows = 0
        return self._made() if self._rows else None


class _Codes:
    """Numbers a chunk's keys, a whole block at a time; equal keys may get several codes, but mostly get one.

    A table knows the last key of each slot again; what it does not know gets a new code.  So the texts that are made
    are few when flows are few, and never more than the chunk has rows.
    """

    def __init__(self, parts: int) -> None:
        import numpy as np

        self._slots = np.zeros(1 << SLOT_BITS, np.uint32)
        self._known = [np.empty(CHUNK + 1, np.int64) for _ in range(parts)]
        for part in self._known:
            part[0] = NO_KEY
        self._size = 1

    def of(self, *parts: Any) -> Any:
        """The codes of these keys, each given part by part."""
        import numpy as np

        # Multiplicative hashing (Knuth): the high bits are the well mixed ones.
        mixed = parts[0]
        for part in parts[1:]:
            mixed = mixed * 0x2545F4914F6CDD1D ^ part
        slots = (mixed * -0x61C8864680B583EB).view(np.uint64) >> np.uint64(64 - SLOT_BITS)
        codes = self._slots[slots]
        missed = np.zeros(len(codes), np.bool_)
        for known, part in zip(self._known, parts, strict=True):
            missed |= known[codes] != part
        places = np.flatnonzero(missed)
        if len(places):
            first, self._size = self._size, self._size + len(places)
            for known, part in zip(self._known, parts, strict=True):
                known[first : self._size] = part[places]
            codes[places] = np.arange(first, self._size, dtype=np.uint32)
            self._slots[slots[places]] = codes[places]
        return codes

    def keys(self) -> tuple[Any, ...]:
        """The keys by their codes, part by part."""
        return tuple(part[: self._size] for part in self._known)


def _flow_texts(saddr_hi: Any, source: Any, daddr_hi: Any, destination: Any, rest: Any) -> Any:
    """`schema.flow_text` of whole arrays of keys."""
    head, addressed, ported = _heads(flow_head, rest >> 32 & 0xFFFFFFF)
    texts = _joined(
        head,
        _picked("{}.{}.", source >> 16, addressed),
        _picked("{}.{}", source, addressed),
        _picked(":{}", rest >> 16, ported),
        _picked(" > {}.{}.", destination >> 16, addressed),
        _picked("{}.{}", destination, addressed),
        _picked(":{}", rest, ported),
    )
    return _with_ipv6(texts, flow_text, rest, (saddr_hi, source, daddr_hi, destination, rest))


def _socket_texts(daddr_hi: Any, address: Any, rest: Any) -> Any:
    """`schema.socket_text` of whole arrays of keys."""
    head, addressed, ported = _heads(socket_head, rest >> 16 & 15)
    # The key of nothing looks like a kind that no socket has.
    texts = _joined(
        head,
        _picked("{}.{}.", address >> 16, addressed),
        _picked("{}.{}", address, addressed),
        _picked(":{}", rest, ported),
    )
    return _with_ipv6(texts, socket_text, rest, (daddr_hi, address, rest))


def _with_ipv6(texts: Any, text_of: Callable[..., str], rest: Any, key: tuple[Any, ...]) -> Any:
    """The texts, those of IPv6 made one by one: the shortest form of an address is no work for arrays."""
    import numpy as np
    import polars

    places = np.flatnonzero((rest != NO_KEY) & (rest & IPV6_FLAG != 0))
    if not len(places):
        return texts
    made = [text_of(*parts) for parts in zip(*(part[places].tolist() for part in key), strict=True)]
    return texts.scatter(places, polars.Series(made))


def _heads(head: Callable[[int], tuple[str, bool, bool]], values: Any) -> tuple[Any, Any, Any]:
    import numpy as np
    import polars

    distinct, places = np.unique(values, return_inverse=True)
    texts, addressed, ported = zip(*map(head, distinct.tolist()), strict=True)
    return polars.Series(texts).gather(places), np.array(addressed)[places], np.array(ported)[places]


def _picked(shape: str, values: Any, present: Any) -> Any:
    """The low 16 bits of `values` in this shape, as one number or two octets; nothing where not `present`."""
    import numpy as np

    return _sixteen_bits(shape).gather(np.where(present, values & 0xFFFF, 1 << 16))


@lru_cache
def _sixteen_bits(shape: str) -> Any:
    """All 16-bit numbers in this shape, and behind them the empty text."""
    import polars

    numbers = polars.DataFrame({"n": polars.int_range(1 << 16, eager=True)})
    parts = [polars.col("n")] if shape.count("{}") == 1 else [polars.col("n") // 256, polars.col("n") % 256]
    texts = numbers.select(polars.format(shape, *parts)).to_series()
    return texts.append(polars.Series([""])).rechunk()


def _joined(*parts: Any) -> Any:
    import polars

    columns = {str(number): part for number, part in enumerate(parts)}
    return polars.DataFrame(columns).select(polars.concat_str(list(columns))).to_series()

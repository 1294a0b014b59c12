"""Two files of verdicts side by side, packet by packet, in bounded memory.

Both are in the order of their frames, so they are merged as sorted files are: of each a slice is held, and what both
have up to the lower of the two ends is joined.  Events are left out: they are no packets.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from emu.errors import UsageError
from emu.verdicts.chunks import CHUNK
from emu.verdicts.fates import is_event
from emu.verdicts.read import Verdicts
from emu.verdicts.read_log import readable

if TYPE_CHECKING:
    import polars

BY = ("frame", "packet_id")  # what says that two rows are of the same packet
OF_B = " of B"  # behind the names of the second file's columns
# Columns beside the schema's: what is joined by; null where a file lacks the packet; whether it is wanted.
KEY, HERE, WANTED = "key", "here", "wanted"
SLICE = CHUNK  # rows of a file that are held at once: a row group of its own logs


class Pairs(NamedTuple):
    """Some packets, a row each: the first file's columns, and the second's with OF_B behind their names.

    `beyond` says of each file whether it had ended before the first of these packets.
    """

    rows: "polars.DataFrame"
    beyond: tuple[bool, bool]


class _Packets:
    """The packets of a file, a slice at a time."""

    def __init__(self, verdicts: Verdicts, by: str, wanted: "polars.Expr") -> None:
        import polars

        self._name = verdicts.name
        self._by = by
        extra = {KEY: polars.col(by), HERE: polars.lit(value=True), WANTED: wanted}
        self._table = verdicts.table.with_columns(**extra)
        self._at = 0  # rows of the file that were read
        self._last: int | None = None
        self._all_read = False
        self.held = polars.DataFrame()

    def has_ended(self) -> bool:
        """Whether there is no further packet; else some are held."""

        while self.held.is_empty() and not self._all_read:
            with readable(self._name):
                rows = self._table.slice(self._at, SLICE).collect()
            self._at += rows.height
            self._all_read = rows.height < SLICE
            self.held = rows.filter(~is_event())
            self._check_order()
        return self.held.is_empty()

    def _check_order(self) -> None:
        """Errors: UsageError when packets cannot be joined by this key, because it does not ascend."""
        keys = self.held[KEY]
        if keys.null_count():
            frame = self.held["frame"][int(keys.is_null().arg_max() or 0)]
            raise UsageError(f"{self._name}: frame {frame} has no {self._by}: --by {_other(self._by)}")
        before = keys.shift(1, fill_value=self._last) if self._last is not None else keys.shift(1)
        wrong = (keys <= before).fill_null(value=False)
        if wrong.any():
            at = int(wrong.arg_max() or 0)
            raise UsageError(
                f"{self._name}: frame {self.held['frame'][at]}: its {self._by} {keys[at]} comes behind {before[at]}; "
                f"expected ascending numbers, each once: --by {_other(self._by)}, or sort the file"
            )
        self._last = keys[-1] if len(keys) else self._last

    def end(self) -> int:
        """The key of the last packet that is held."""
        return int(self.held[KEY][-1])

    def take(self, upto: int) -> "polars.DataFrame":
        """Give away the held packets up to a key."""
        rows = int((self.held[KEY] <= upto).sum()) if self.held.height else 0
        taken, self.held = self.held[:rows], self.held[rows:]
        return taken


def pairs(a: Verdicts, b: Verdicts, by: str, wanted: "polars.Expr") -> Iterator[Pairs]:
    """The packets of both files in the order of their keys, however long the files are.

    `wanted` is evaluated over each file's columns and becomes the column WANTED.

    Errors: UsageError when the keys of a file do not ascend, CaptureError when a file is damaged.
    """
    sides = _Packets(a, by, wanted), _Packets(b, by, wanted)
    while True:
        beyond = sides[0].has_ended(), sides[1].has_ended()
        if all(beyond):
            return
        upto = min(side.end() for side, ended in zip(sides, beyond, strict=True) if not ended)
        yield Pairs(_joined(sides[0].take(upto), sides[1].take(upto)), beyond)


def _joined(a: "polars.DataFrame", b: "polars.DataFrame") -> "polars.DataFrame":
    renamed = b.rename({name: f"{name}{OF_B}" for name in b.columns if name != KEY})
    return a.join(renamed, on=KEY, how="full", coalesce=True).sort(KEY)


def _other(by: str) -> str:
    return BY[1 - BY.index(by)]


def row_of(pair: dict[str, Any], side: int) -> dict[str, Any] | None:
    """One file's row of a pair, None where the file lacks the packet; `side` is 0 or 1."""
    suffix = ("", OF_B)[side]
    if pair[f"{HERE}{suffix}"] is None:
        return None
    own = {name.removesuffix(OF_B): value for name, value in pair.items() if name.endswith(OF_B) == bool(side)}
    return {name: value for name, value in own.items() if name not in (KEY, HERE, WANTED)}

"""The drops that the page lists: all of them, or the first ones of each reason and an even sample of the others."""

from typing import TYPE_CHECKING, Any, NamedTuple

from emu.verdicts.report.figures import Figures, is_listed, reason_expression
from emu.verdicts.schema import NAMES

if TYPE_CHECKING:
    import polars

SHOWN = 500
FIRST = 10  # of each reason


class Drops(NamedTuple):
    """The drops that are listed, of `total`; `every`: of those behind the first ones, one in so many."""

    rows: tuple[dict[str, Any], ...]  # of the log, in its order; None where the file does not say
    total: int
    every: int


def drops_of(table: "polars.LazyFrame", figures: Figures, shown: int = SHOWN, first: int = FIRST) -> Drops:
    """Choose the drops to list, some `shown` of them."""
    import polars

    lost = table.filter(is_listed())
    total = figures.to_list
    if not total:
        return Drops((), 0, 1)
    every = 1
    if total > shown:
        reasons = list(dict.fromkeys(one.reason for one in figures.reasons))
        firsts = _firsts(lost, reasons, first)
        every = -(-total // max(shown - len(firsts), 1))
        chosen = sorted({*firsts, *range(0, total, every)})
        lost = lost.with_row_index("nth").filter(polars.col("nth").is_in(chosen))
    rows = lost.select(NAMES).collect(engine="streaming").rows(named=True)
    return Drops(tuple(rows), total, every)


def _firsts(lost: "polars.LazyFrame", reasons: list[str], first: int) -> list[int]:
    """The places among the lost of the first ones of each reason."""
    import polars

    found: list[int] = []
    numbered = lost.select(reason_expression().alias("reason")).with_row_index("nth")
    for reason in reasons:
        of_reason = numbered.filter(polars.col("reason") == reason).select("nth").head(first)
        found += of_reason.collect(engine="streaming")["nth"].to_list()
    return found

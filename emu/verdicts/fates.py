"""What a row's `verdict` and `reason` say together, where the file may not say all; as words and as expressions.

The one rule for verdicts that a file does not tell (null): with an empty reason the packet was not lost, and without
a reason (null) it was, to what nobody knows.  UNDECIDED is a verdict of its own: of a frame that was never played.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from emu.kernel.drop_reason import DELIVERED, DROPPED, LATER, NOT_PLAYED, OOPS, PENDING, VERDICTS

if TYPE_CHECKING:
    import polars

EVENT, DELIVERED_NAME, DROPPED_NAME = VERDICTS[LATER], VERDICTS[DELIVERED], VERDICTS[DROPPED]
UNDECIDED = VERDICTS[PENDING]  # on an interface without verdicts: another capture was merged in
# The verdicts of lost frames: those that an annotated capture always has a comment for.
LOST_NAMES = (DROPPED_NAME, VERDICTS[OOPS], VERDICTS[NOT_PLAYED])
NO_COMMENT = "no comment"  # what stands for the verdict of a frame that was not lost
LOST_UNTOLD = "lost, no comment"  # and of one that was
NO_VERDICT = "no verdict"  # what UNDECIDED is called
HOW_TO_KNOW = "replay with --annotate all, or write a log (--log verdicts.parquet)"


def verdict_of(row: Mapping[str, Any]) -> str:
    """The verdict of a row, or what stands for it."""
    if row["verdict"] == UNDECIDED:
        return NO_VERDICT
    return str(row["verdict"] or (LOST_UNTOLD if row["reason"] is None else NO_COMMENT))


def verdict_expression(suffix: str = "") -> "polars.Expr":
    """The same as an expression; `suffix` is behind the columns' names."""
    import polars

    untold = polars.when(is_lost_untold(suffix)).then(polars.lit(LOST_UNTOLD)).otherwise(polars.lit(NO_COMMENT))
    told = polars.col(f"verdict{suffix}").cast(polars.String).replace({UNDECIDED: NO_VERDICT})
    return polars.coalesce(told, untold)


def is_event() -> "polars.Expr":
    """Whether a row is an event; no verdict at all is none."""
    import polars

    return polars.col("verdict").eq_missing(polars.lit(EVENT, polars.Enum(VERDICTS)))


def is_lost_untold(suffix: str = "") -> "polars.Expr":
    """Whether a packet was lost, and the file does not say how."""
    import polars

    return polars.col(f"verdict{suffix}").is_null() & polars.col(f"reason{suffix}").is_null()


def survived() -> "polars.Expr":
    """Whether a packet was delivered, or was not lost and the file says no more."""
    import polars

    verdict = polars.col("verdict")
    return verdict.eq_missing(polars.lit(DELIVERED_NAME, polars.Enum(VERDICTS))) | (
        verdict.is_null() & polars.col("reason").is_not_null()
    )

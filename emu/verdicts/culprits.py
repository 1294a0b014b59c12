"""Culprits of a capture: from packet ids, which are what comments name, to the numbers of frames in this file.

Ids mostly count up with the frames, so what is held is runs of them; a file that was cut and merged has more runs, and
at worst one for each frame: 24 bytes.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars

AMBIGUOUS, NOT_HERE = -1, 0


class Culprits:
    """Which frame has a packet id; ids may come twice, when captures were merged: then nobody can tell."""

    def __init__(self) -> None:
        """Start without a frame."""
        self._runs: list[polars.DataFrame] = []
        self._segments: polars.DataFrame | None = None

    def meet(self, ids: "polars.Series", frames: "polars.Series") -> None:
        """Take note of the next frames of the file, which follow one another."""
        import polars

        rows = polars.DataFrame({"id": ids.reinterpret(signed=True), "frame": frames})
        ahead = polars.col("frame") - polars.col("id")
        starts = rows.with_columns(ahead=ahead, at=polars.int_range(polars.len()))
        starts = starts.filter((polars.col("ahead") != polars.col("ahead").shift()).fill_null(value=True))
        lengths = polars.col("at").shift(-1).fill_null(rows.height) - polars.col("at")
        self._runs.append(starts.select("id", "ahead", length=lengths))

    @property
    def has_doubles(self) -> bool:
        """Whether two frames have the same id."""
        return bool((self._made()["holders"] > 1).any())

    def frame_of(self, ids: "polars.Series") -> "polars.Series":
        """The frames of these ids: NOT_HERE for 0 and where no frame has it, AMBIGUOUS where several have; null stays.

        There must be a frame: an id comes with one.
        """
        import polars

        segments = self._made()
        if not len(ids):
            return ids
        wanted = ids.fill_null(0).reinterpret(signed=False)
        at = segments["id"].search_sorted(wanted, side="right").cast(polars.Int64) - 1
        place = at.clip(lower_bound=0)
        looked_up = polars.DataFrame(
            {
                "id": ids,
                "at": at,
                "holders": segments["holders"].gather(place),
                "ahead": segments["ahead"].gather(place),
            }
        )
        here = (polars.col("id") != 0) & (polars.col("at") >= 0) & (polars.col("holders") > 0)
        return looked_up.select(
            frame=polars.when(polars.col("id").is_null())
            .then(None)
            .when(~here)
            .then(NOT_HERE)
            .when(polars.col("holders") > 1)
            .then(AMBIGUOUS)
            .otherwise(polars.col("id") + polars.col("ahead"))
        )["frame"]

    def _made(self) -> "polars.DataFrame":
        """From each `id` on to the next: how many frames have an id, and by how much the frame is ahead of it.

        Where one run holds an id, the sum over all runs that do is that run's.
        """
        import polars

        if self._segments is None:
            empty = polars.DataFrame(schema=dict.fromkeys(("id", "ahead", "length"), polars.Int64))
            runs = polars.concat([empty, *self._runs])
            begin = runs.select("id", "ahead", holders=polars.lit(1, polars.Int64))
            end = runs.select(polars.col("id") + polars.col("length"), -polars.col("ahead"), holders=-1)
            end = end.filter(polars.col("id") != 0)  # a run up to the last of all ids has no id behind it
            both = polars.concat([begin, end.cast({"holders": polars.Int64})])
            changes = both.with_columns(polars.col("id").reinterpret(signed=False)).group_by("id").sum().sort("id")
            self._segments = changes.with_columns(polars.col("ahead", "holders").cum_sum())
            self._runs = []
        return self._segments


def culprit_expression(culprits: Culprits) -> Any:
    """The column `culprit_frame`, which holds packet ids, as numbers of frames; null where that is ambiguous."""
    import polars

    found = polars.col("culprit_frame").map_batches(culprits.frame_of, return_dtype=polars.Int64, is_elementwise=True)
    return polars.when(found != AMBIGUOUS).then(found).alias("culprit_frame")

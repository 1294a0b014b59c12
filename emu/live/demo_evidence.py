"""Which packets of block I/O the reserve's check has dropped, read from the annotated capture of the wire's side."""

from emu.errors import EmuError
from emu.verdicts.show.select import Wanted, matches_of, totals_of

CHECK_REASON = "PFMEMALLOC"


def dropped_by_check(capture: str) -> int | None:
    """How many; None when the capture cannot be read here, such as without polars.

    Every dropped packet of the capture has a comment with its reason and whether its flow is one of block I/O.
    """
    from emu.verdicts.read import open_verdicts

    try:
        verdicts = open_verdicts(capture, wanted_by="emu live demo", say=lambda _: None)
        wanted = Wanted(verdicts=("dropped",), reasons=(CHECK_REASON,), memalloc=True)
        return matches_of(verdicts, wanted, totals_of(verdicts)).rows
    except EmuError:
        return None

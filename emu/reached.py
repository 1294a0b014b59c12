"""How far something is that is played, told to whoever shows it: seldom, for nobody sees more."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple

SHOW_S = 0.2


class Reached(NamedTuple):
    """How far something is: bytes or virtual ns of `total` (None: nobody knows), frames played, drops so far."""

    done: int
    total: int | None
    frames: int
    drops: int


Show = Callable[[Reached], None]


@contextmanager
def telling(
    shown: AbstractContextManager[Show | None], reached: Callable[[Any, Any], Reached]
) -> Iterator[Callable[[Any, Any], None] | None]:
    """What a player is to call after each batch: it asks `reached` some times a second, and a last time at the end."""
    with shown as show:
        if show is None:
            yield None
            return
        next_s = 0.0
        last: tuple[Any, Any] | None = None

        def advance(source: Any, m: Any) -> None:
            nonlocal next_s, last
            last = source, m
            if time.monotonic() >= next_s:
                show(reached(source, m))
                next_s = time.monotonic() + SHOW_S

        yield advance
        if last is not None:
            show(reached(*last))


def reached_in(source: Any, m: Any) -> Reached:
    """How far a replay is in its source of frames."""
    return Reached(source.bytes_read, source.size, int(m.total.frames), int(m.total.dropped))

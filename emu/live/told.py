"""What a live run tells while it runs, and what is shared with the programs beside it."""

import os
import time
from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from emu.kernel.e1000 import ring_free
from emu.kernel.machine import EVENT_CONTEXT, EVENT_PAGES, ZONE_NORMAL
from emu.kernel.page_alloc import atomic_floor
from emu.kernel.sock import gfp_kernel_would_wait
from emu.live.live_run import Happening, LiveRun
from emu.live.readers.real_reads import rows_waiting
from emu.live.state import Emulated, Fates, LiveState, Outside, Program, SharedWords
from emu.verdicts.summary import by_reason

MOST_PAGES = 1 << 20  # of one look: more have not been written in it


class Neighbours:
    """The programs of a demonstration: their completed writes free pages, and their readers ask whether they may.

    Tasks that wait for memory have no order in which they wake, so blocked writers and readers take turns at being
    first when pages come back.
    """

    def __init__(self, words: SharedWords) -> None:
        """`words` is shared with them."""
        self._words = words
        self._readers_turn = False
        self.writes_completed = 0

    def look(self, machine: Any) -> list[Happening]:
        """A page comes back with each write that has been answered; a reader that needs a page waits for one."""
        fresh = self._words.get("writes_completed") - self.writes_completed
        if not 0 < fresh <= MOST_PAGES:
            self._words.put("would_wait", int(gfp_kernel_would_wait(machine)))
            return []
        self.writes_completed += fresh
        self._readers_turn = not self._readers_turn
        zone = machine.zone[ZONE_NORMAL]
        enough = int(zone.free_pages) + fresh > int(zone.pages_min)
        self._words.put("would_wait", int(not (self._readers_turn and enough)))
        return [Happening(EVENT_PAGES, ZONE_NORMAL, -fresh), Happening(EVENT_CONTEXT, 0, 0)]


def emulated_state(m: Any, writes_completed: int) -> Emulated:
    """The machine as it stands."""
    dev, zone, total = m.dev[0], m.zone[ZONE_NORMAL], m.total
    return Emulated(
        free_pages=int(zone.free_pages),
        floor_pages=int(atomic_floor(m, ZONE_NORMAL)),
        pages_min=int(zone.pages_min),
        memory_pages=int(m.config.memory_pages),
        writer_pages=int(zone.writer_pages),
        rx_reserve_used=int(dev.rx_reserve_used),
        cap_skbs=int(dev.rx_reserve) if int(m.policy.caps_reserve) else 0,
        reserve_allocations=int(dev.reserve_allocations),
        ring_size=int(dev.ring_size),
        ring_free=int(ring_free(m, 0)),
        skbs_used=int(m.skbs_used),
        sockets=int(m.sk_live),
        queued_skbs=sum(int(m.sk[row].queue_len) for row in rows_waiting(m)),
        would_wait=bool(gfp_kernel_would_wait(m)),
        writes_completed=writes_completed,
        frames=int(total.frames),
        memalloc=_fates(total.memalloc),
        other=_fates(total.other),
        drops_by_reason=by_reason(total.drops_by_reason),
    )


def _fates(fates: Any) -> Fates:
    return Fates(received=int(fates.received), delivered=int(fates.delivered), dropped=int(fates.dropped))


class StateTeller:
    """Makes the state of a run, again and again; `named` is what does not change, `outside` counts what was lost."""

    def __init__(self, named: LiveState, outside: Callable[[], Outside], neighbours: Neighbours | None) -> None:
        """Nothing is told yet."""
        self._named = named
        self._outside = outside
        self._neighbours = neighbours
        self._frames = 0
        self._at = time.monotonic()

    def state(self, run: LiveRun) -> LiveState:
        """The run now; its rate is since the last time."""
        frames, now = int(run.machine.total.frames), time.monotonic()
        rate = int((frames - self._frames) / (now - self._at)) if now > self._at else 0
        self._frames, self._at = frames, now
        completed = 0 if self._neighbours is None else self._neighbours.writes_completed
        return replace(
            self._named,
            pid=os.getpid(),
            updated_ns=time.time_ns(),
            frames_per_second=rate,
            emulated=emulated_state(run.machine, completed),
            outside=self._outside(),
            programs=[Program(name="wire", pid=os.getpid())],
        )

"""Which datagrams of an emulated socket the real socket may still hold.

The real socket says how many bytes (truesize) lie unread in it, in order.  As long as it has dropped nothing, these are
the newest: all that are older than the shortest newest part that costs so much have been read.  Once it has dropped
something, or when several sockets share the port, nobody can say which are unread, but no more than fit these bytes:
as many are held, and as much memory, as the dearest of those that came could need.  An empty socket ends that.
What other ways brought to the real socket makes it only fuller: we release later then, never earlier.
Not seen: a packet filter of the host that drops some of a socket's datagrams before it; with datagrams of different
sizes we may then take a dropped one for unread in place of another.
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from emu.kernel.machine import NONE
from emu.live.readers.diag import RealSocket
from emu.live.readers.fields import Fields


class Datagram(NamedTuple):
    """A datagram in an emulated socket's queue; it may lie in several buffers."""

    buffer: int  # its first
    frame: int  # in which that came
    last: int  # its last buffer
    buffers: int
    real_bytes: int  # what the real socket is charged for it, or less
    emulated_bytes: int  # what the emulated one is


class Unread:
    """Follows the queue of one emulated UDP socket."""

    def __init__(self, charged: Callable[[int], int], arrives_at_once: bool) -> None:
        """`charged`: truesize of the frame with this number in the real kernel, or less.

        Without `arrives_at_once` what was not yet there at the look before may still be on its way.
        """
        self._charged = charged
        self._at_once = arrives_at_once
        self._queue: deque[Datagram] = deque()
        self._buffers = self._real = self._emulated = 0  # of the queue
        self._settled = 0  # of the queue: how many the real socket has received for sure, or dropped
        self._in_order = True  # the real socket is one, and has dropped nothing of what we have
        self._doubted = False  # since the look before
        self._drops: dict[int, int] | None = None  # by cookie
        self._cheapest = 0  # real bytes of a datagram that may be unread
        self._dearest = (0, 1)  # emulated bytes per real bytes of one that may be unread

    def read(self, of: Fields, row: int, sockets: Sequence[RealSocket]) -> int:
        """How many buffers from the head of the queue are read for sure; the sockets are those of its port."""
        self._follow(of, row)
        drops = {s.cookie: s.drops for s in sockets}
        quiet = drops == self._drops or (self._drops is None and not any(drops.values()))
        quiet = quiet and not self._doubted
        self._in_order = self._in_order and quiet and len(sockets) == 1
        self._drops = drops
        self._doubted = False
        unread = sum(s.rqueue for s in sockets)
        settled = len(self._queue) if self._at_once else min(self._settled, len(self._queue))
        released = self._release(settled, unread)
        self._settled = len(self._queue)
        if unread == 0:
            self._forget()
            self._in_order = len(sockets) == 1 and (quiet or not self._queue)
        return released

    def doubt(self) -> None:
        """Something that the queue has did not come to the real socket, which counts no drop."""
        self._doubted = True

    def _release(self, settled: int, unread: int) -> int:
        """Take those off the queue that are read; how many buffers."""
        coming = [self._queue[i] for i in range(settled, len(self._queue))]
        real_coming = sum(d.real_bytes for d in coming)
        emulated_coming = sum(d.emulated_bytes for d in coming)
        before = self._buffers
        for left in range(settled - 1, -1, -1):
            first = self._queue[0]
            real = self._real - real_coming - first.real_bytes
            emulated = self._emulated - emulated_coming - first.emulated_bytes
            if not self._enough(left, real, emulated, unread):
                break
            self._drop_first()
        return before - self._buffers

    def _enough(self, datagrams: int, real: int, emulated: int, unread: int) -> bool:
        """Whether so many datagrams, bytes in the real socket and in the emulated, are all that may be unread."""
        if self._in_order:
            return real >= unread
        return datagrams >= unread // self._cheapest and emulated * self._dearest[1] >= unread * self._dearest[0]

    def _append(self, datagram: Datagram) -> None:
        self._queue.append(datagram)
        self._buffers += datagram.buffers
        self._real += datagram.real_bytes
        self._emulated += datagram.emulated_bytes
        self._bound(datagram)

    def _drop_first(self) -> None:
        first = self._queue.popleft()
        self._buffers -= first.buffers
        self._real -= first.real_bytes
        self._emulated -= first.emulated_bytes

    def _forget(self) -> None:
        """Nothing is unread: what came before bounds nothing any more."""
        self._cheapest, self._dearest = 0, (0, 1)
        for datagram in self._queue:
            self._bound(datagram)

    def _bound(self, datagram: Datagram) -> None:
        """One more that may be unread."""
        real, emulated = datagram.real_bytes, datagram.emulated_bytes
        self._cheapest = min(self._cheapest, real) if self._cheapest else real
        if emulated * self._dearest[1] > self._dearest[0] * real:
            self._dearest = emulated, real

    def _follow(self, of: Fields, row: int) -> None:
        """Take up what has come into the emulated queue, and let go what others took from it."""
        head = of.queue_head(row)
        here = (head, of.frame(head)) if head != NONE else (NONE, 0)
        queue = self._queue
        while queue and (queue[0].buffer, queue[0].frame) != here:
            self._drop_first()
            self._settled = max(0, self._settled - 1)
        at = of.next(queue[-1].last) if queue else head
        while at != NONE:
            datagram, at = self._datagram(of, at)
            self._append(datagram)
        if self._buffers != of.queue_len(row):
            self._begin_anew(of, head)

    def _begin_anew(self, of: Fields, at: int) -> None:
        """Somebody took from the middle of the queue."""
        self._queue.clear()
        self._buffers = self._real = self._emulated = self._settled = 0
        self._in_order = False
        while at != NONE:
            datagram, at = self._datagram(of, at)
            self._append(datagram)

    def _datagram(self, of: Fields, first: int) -> tuple[Datagram, int]:
        """The datagram that begins in this buffer, and the buffer behind it.

        Fragments that the real stack put together may have been copied into the first one's skb, and cost nothing.
        """
        frame = last_frame = of.frame(first)
        last, buffers, emulated = first, 1, of.truesize(first)
        at = of.next(first)
        while at != NONE and (of.frame(at) == last_frame or of.frag_offset(at) > 0):
            last, last_frame = at, of.frame(at)
            buffers += 1
            emulated += of.truesize(at)
            at = of.next(at)
        return Datagram(first, frame, last, buffers, max(1, self._charged(frame)), emulated), at

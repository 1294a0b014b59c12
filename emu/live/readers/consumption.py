"""What the real readers have consumed: which buffers of emulated sockets their pages need not stay accounted for.

A packet that the emulated machine takes is handed to the real stack at once; its emulated buffers stay queued, and
are released from the head of the queue when the host's sockets show that the reader has had them.
TCP counts: what the reader has copied is `bytes_received - rqueue` behind the number at which the connection began.
That number is not told; but the host's own acknowledgements are what it had received, so the largest difference of
`Sock.host_ack` and `bytes_received` is never beyond it, and is it once the host has acknowledged all.  UDP: `unread`.
A socket that is gone at two looks has released everything.
Late, never early: TCP until the host's first acknowledgement (up to 40 ms, delayed ACK), and behind a segment that the
real stack has not taken; UDP with several sockets on a port, with drops of its own, with an IPv6 socket that receives
IPv4 too (each of two rows is held as if all were its own), and in multicast groups (ditto, each member).
Not seen: a socket that a RST or TIME_WAIT took out of the kernel's tables while its program holds it open counts as
gone, with what lies unread in it.  Out-of-order queues are not released here: what they hold the machine moves itself.
"""

from collections.abc import Callable, Iterable
from typing import Any

from emu.kernel.machine import NONE
from emu.kernel.seq import SEQ_MASK, after
from emu.kernel.sock import IPPROTO_TCP, IPPROTO_UDP, READER_REAL
from emu.live.readers.diag import (
    TCP_CLOSE,
    TCP_CLOSING,
    TCP_FIN_WAIT1,
    TCP_FIN_WAIT2,
    TCP_LAST_ACK,
    TCP_LISTEN,
    TCP_SYN_RECV,
    TCP_SYN_SENT,
    TCP_TIME_WAIT,
    RealSocket,
)
from emu.live.readers.fields import Fields, RowKey
from emu.live.readers.truesize import Truesize, tap_truesize
from emu.live.readers.unread import Unread

WINDOW_BYTES = 1 << 30  # RFC 7323: no window is larger
LOOKS_UNTIL_GONE = 2  # a socket may be missed by one dump, while others come and go

# Nobody can read from these once nobody has them open.
_CLOSED_BY_US = (TCP_FIN_WAIT1, TCP_FIN_WAIT2, TCP_CLOSING, TCP_LAST_ACK, TCP_TIME_WAIT, TCP_CLOSE)


def holds(of: Fields, row: int) -> bool:
    """Whether a row has a real reader and something for it."""
    return of.queue_len(row) > 0 and of.reader(row) == READER_REAL


class _Copied:
    """How far the reader of one TCP connection is, in sequence numbers."""

    def __init__(self) -> None:
        self._cookie = NONE
        self._began = NONE  # the number of its first byte, or one before it
        self._consumed = 0

    def read(self, of: Fields, row: int, real: RealSocket) -> int:
        """How many buffers from the head of the queue the reader has had."""
        if real.cookie != self._cookie:
            self._cookie, self._began, self._consumed = real.cookie, NONE, 0
        if real.state in (TCP_SYN_SENT, TCP_SYN_RECV) or real.bytes_received < 0:
            return 0
        host_ack = of.host_ack(row)
        if host_ack != NONE:
            began = (host_ack - real.bytes_received) & SEQ_MASK
            if self._began == NONE or after(began, self._began):
                self._began = began
        if self._began == NONE:
            return 0
        self._consumed = max(self._consumed, real.bytes_received - real.rqueue)
        copied = (self._began + self._consumed) & SEQ_MASK
        released = 0
        at = of.queue_head(row)
        while at != NONE and not _may_be_unread(of.end_seq(at), copied):
            released += 1
            at = of.next(at)
        return released


def _may_be_unread(end_seq: int, copied: int) -> bool:
    """Whether a buffer that ends there lies ahead of the reader; what no window reaches is not of this connection."""
    return 0 < (end_seq - copied) & SEQ_MASK <= WINDOW_BYTES


class Consumption:
    """Says what to release; `m` is the machine of either engine.  The state kept here is plain."""

    def __init__(
        self, length_of: Callable[[int], int], *, truesize: Truesize = tap_truesize, arrives_at_once: bool = True
    ) -> None:
        """`length_of` knows each UDP frame that was handed on since the look before; 0: it does not.

        `arrives_at_once`: a frame that has been written is in its socket (a TAP without RPS); else the real stack may
        take until the next look.
        """
        self._length_of = length_of
        self._truesize = truesize
        self._at_once = arrives_at_once
        self._rows: dict[int, tuple[RowKey, _Copied | Unread]] = {}
        self._fields: Fields | None = None
        self._missed: dict[int, int] = {}  # looks at which a row had no socket

    def fields(self, m: Any) -> Fields:
        """What is read of the machine."""
        if self._fields is None or self._fields.machine is not m:
            self._fields = Fields(m)
        return self._fields

    def reads(self, m: Any, rows: Iterable[int], sockets: Iterable[RealSocket]) -> list[tuple[int, int]]:
        """(row, buffers) to take from the heads of queues.

        `rows` are to be looked at; those without a real reader or with nothing queued are passed over.  `sockets` are
        from a look that no frame came after: all that had been accepted by then was written to the host before it,
        and what the host has sent since is not yet in the machine.  A row whose socket was not looked for must not be
        among `rows`: it would count as gone.
        """
        tcp, udp = _by_ends(sockets)
        of = self.fields(m)
        found = []
        for row in rows:
            if not holds(of, row):
                continue
            key = of.key(row)
            if key.protocol == IPPROTO_TCP:
                buffers = self._tcp_read(of, row, key, tcp.get(key))
            else:
                buffers = self._udp_read(of, row, key, udp.get((key.family, key.local_port), ()))
            if buffers > 0:
                found.append((row, buffers))
        return found

    def lost(self, m: Any, row: int) -> None:
        """A datagram that this row's socket took was not handed on: the host's interface did not take it."""
        key = self.fields(m).key(row)
        if key.protocol == IPPROTO_UDP:
            state = self._state(row, key)
            assert isinstance(state, Unread)
            state.doubt()

    def forget(self, row: int) -> None:
        """The row is free."""
        self._rows.pop(row, None)
        self._missed.pop(row, None)

    def _tcp_read(self, of: Fields, row: int, key: RowKey, real: RealSocket | None) -> int:
        if real is None or (real.inode == 0 and real.state in _CLOSED_BY_US):
            return self._gone(of, row, certain=real is not None)
        state = self._state(row, key)
        assert isinstance(state, _Copied)
        return state.read(of, row, real)

    def _udp_read(self, of: Fields, row: int, key: RowKey, real: Iterable[RealSocket]) -> int:
        sockets = tuple(real)
        if not sockets:
            return self._gone(of, row, certain=False)
        state = self._state(row, key)
        assert isinstance(state, Unread)
        return state.read(of, row, sockets)

    def _gone(self, of: Fields, row: int, certain: bool) -> int:
        """There is no such socket: everything is released when that is sure."""
        missed = self._missed.get(row, 0) + 1
        if not certain and missed < LOOKS_UNTIL_GONE:
            self._missed[row] = missed
            return 0
        self.forget(row)
        return of.queue_len(row)

    def _state(self, row: int, key: RowKey) -> _Copied | Unread:
        """What is known of a row; nothing yet when it is another's now."""
        self._missed.pop(row, None)
        known = self._rows.get(row)
        if known is None or known[0] != key:
            made = _Copied() if key.protocol == IPPROTO_TCP else Unread(self._charged, self._at_once)
            known = self._rows[row] = (key, made)
        return known[1]

    def _charged(self, frame: int) -> int:
        return self._truesize(self._length_of(frame))


def _by_ends(
    sockets: Iterable[RealSocket],
) -> tuple[dict[RowKey, RealSocket], dict[tuple[int, int], list[RealSocket]]]:
    """TCP connections by their ends; UDP sockets by family and port, with those of both families in both."""
    tcp: dict[RowKey, RealSocket] = {}
    udp: dict[tuple[int, int], list[RealSocket]] = {}
    for s in sockets:
        if s.protocol == IPPROTO_UDP:
            for family in s.families:
                udp.setdefault((family, s.local_port), []).append(s)
        elif s.state != TCP_LISTEN:
            tcp[RowKey(s.protocol, s.family, *s[2:8])] = s
    return tcp, udp

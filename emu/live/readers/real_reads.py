"""Looks at no more than is needed: the sockets of rows that hold something, and all sockets now and then."""

from collections.abc import Iterable
from typing import Any

from emu.kernel.machine import NONE
from emu.kernel.sock import IPPROTO_TCP, IPPROTO_UDP, READER_REAL
from emu.live.readers.consumption import Consumption, holds
from emu.live.readers.diag import TCP_LISTEN, Asked, RealSocket, SocketDiag
from emu.live.readers.fields import Fields, RowKey

SOME_EVERY_NS = 5_000_000  # about 0.3 ms of work for 20 sockets
ALL_EVERY_NS = 250_000_000  # a second socket on a UDP port is known after so long at the latest
ALL_AGAIN_NS = 20_000_000  # sooner, when one is missing


def rows_waiting(m: Any) -> list[int]:
    """The rows that hold something for a real reader, as the machine itself keeps them (sock.ready_add)."""
    rows = []
    row = int(m.ready_head[READER_REAL])
    while row != NONE:
        rows.append(row)
        row = int(m.sk[row].ready_next)
    return rows


class RealReads:
    """Which buffers have been read, by looks at the host's sockets."""

    def __init__(self, diag: SocketDiag, consumption: Consumption) -> None:
        """Nothing is looked at yet."""
        self._diag = diag
        self._consumption = consumption
        self._all_ns = self._some_ns = -ALL_EVERY_NS
        self._tcp: dict[RowKey, Asked] = {}
        self._udp: dict[tuple[int, int], list[Asked]] = {}

    def reads(self, m: Any, rows: Iterable[int], now_ns: int) -> list[tuple[int, int]]:
        """(row, buffers) to take from the heads of queues; see `Consumption.reads`.  Too soon after the last: nothing.

        `now_ns` is any clock that never goes back; rows whose socket is not found wait for a look at all.
        """
        if now_ns - self._some_ns < SOME_EVERY_NS:
            return []
        self._some_ns = now_ns
        of = self._consumption.fields(m)
        holding = [row for row in rows if holds(of, row)]
        if not holding:
            return []
        since_ns = now_ns - self._all_ns
        if since_ns < ALL_EVERY_NS:
            seen, sockets = self._some(of, holding)
            if len(seen) == len(holding) or since_ns < ALL_AGAIN_NS:
                return self._consumption.reads(m, seen, sockets)
        self._all_ns = now_ns
        return self._consumption.reads(m, holding, self._all())

    def _some(self, of: Fields, rows: list[int]) -> tuple[list[int], list[RealSocket]]:
        """The rows all of whose sockets are found, and these."""
        wanted = [self._asked(of.key(row)) for row in rows]
        unique = list(dict.fromkeys(asked for some in wanted for asked in some))
        answers = dict(zip(unique, self._diag.look_at(unique), strict=True))
        seen = []
        for row, some in zip(rows, wanted, strict=True):
            found = [answers[asked] for asked in some]
            if found and all(s is not None and s.state != TCP_LISTEN for s in found):
                seen.append(row)
        return seen, [s for s in answers.values() if s is not None]

    def _asked(self, key: RowKey) -> list[Asked]:
        if key.protocol == IPPROTO_TCP:
            return [self._tcp.get(key, Asked(*key))]
        return self._udp.get((key.family, key.local_port), [])

    def _all(self) -> list[RealSocket]:
        """Every socket; what finds each again is remembered."""
        sockets = self._diag.look()
        self._tcp.clear()
        self._udp.clear()
        for s in sockets:
            if s.protocol == IPPROTO_UDP:
                for family in s.families:
                    self._udp.setdefault((family, s.local_port), []).append(s.asked)
            elif s.state != TCP_LISTEN:
                self._tcp[RowKey(s.protocol, s.family, *s[2:8])] = s.asked
        return sockets

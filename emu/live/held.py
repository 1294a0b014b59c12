"""Frames that wait for an emulated reader: the real stack gets one when its bytes have been read.

For sockets whose reader is not a real one: `rate`, `needs-memory`, `never`.
"""

import os
from collections.abc import Iterator
from typing import Any, NamedTuple

from emu.kernel.machine import NONE
from emu.kernel.sock import IPPROTO_TCP, IPPROTO_UDP, SS_FREE
from emu.kernel.tcp_seq import after, before, seq_add

QUEUED, READ, LOST = range(3)


class Held(NamedTuple):
    """A frame, and which of its stream's bytes it has."""

    frame: int
    octets: bytes
    protocol: int
    seq: int
    end_seq: int


class HeldFrames:
    """The frames, by the emulated socket that holds them and in the order of their arrival."""

    def __init__(self, host_fd: int) -> None:
        """Frames are released to this descriptor."""
        self._host_fd = host_fd
        self._held: dict[int, list[Held]] = {}  # by socket
        self.released = 0
        self.refused = 0  # of these, that the host's interface did not take
        self.lost = 0  # taken back from a queue to make room: never read

    def __len__(self) -> int:
        """How many are held."""
        return sum(map(len, self._held.values()))

    def keep(self, row: Any, octets: Any) -> None:
        """Hold the frame of a row that has been delivered."""
        at, size, seq = int(row.offset), int(row.caplen), int(row.tcp_seq)
        end_seq = int(seq_add(seq, int(row.payload_length)))
        frame = bytes(octets[at : at + size])
        self._held.setdefault(int(row.sk), []).append(Held(int(row.frame), frame, int(row.ip_protocol), seq, end_seq))

    def release(self, m: Any) -> list[Held]:
        """Give the host the frames whose bytes lie in no queue of their socket any more; these."""
        found = []
        for socket, frames in list(self._held.items()):
            fates = _fates(m, m.sk[socket], frames)
            read = [held for held, fate in zip(frames, fates, strict=True) if fate == READ]
            for held in read:
                self._release(held.octets)
            found += read
            self.lost += fates.count(LOST)
            left = [held for held, fate in zip(frames, fates, strict=True) if fate == QUEUED]
            if left:
                self._held[socket] = left
            else:
                del self._held[socket]
        return found

    def _release(self, octets: bytes) -> None:
        self.released += 1
        try:
            os.write(self._host_fd, octets)
        except OSError:
            self.refused += 1


def _fates(m: Any, sk: Any, frames: list[Held]) -> list[int]:
    """What has become of the frames that a socket held."""
    if int(sk.state) == SS_FREE:
        return [READ] * len(frames)
    skbs = [*_queue(m, int(sk.queue_head)), *_queue(m, int(sk.ofo_head))]
    if int(sk.protocol) == IPPROTO_UDP:
        queued = {int(skb.frame) for skb in skbs}
        return [QUEUED if held.frame in queued else READ for held in frames]
    spans = [(int(skb.seq), int(skb.end_seq)) for skb in skbs]
    return [_tcp_fate(held, spans, int(sk.rcv_nxt)) for held in frames]


def _tcp_fate(held: Held, spans: list[tuple[int, int]], rcv_nxt: int) -> int:
    """By its bytes: an skb may hold those of many frames (tcp_collapse)."""
    if any(before(seq, held.end_seq) and after(end_seq, held.seq) for seq, end_seq in spans):
        return QUEUED
    if held.protocol == IPPROTO_TCP and rcv_nxt != NONE and after(held.end_seq, rcv_nxt):
        return LOST
    return READ


def _queue(m: Any, b: int) -> Iterator[Any]:
    """The skbs of a queue that begins with one."""
    while b != NONE:
        yield m.skb[b]
        b = int(m.skb[b].next)

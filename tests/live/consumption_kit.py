"""An emulated machine's queues by hand, and what a real socket would say."""

from array import array
from typing import Any

from emu.engine.plain import Engine, PlainEngine
from emu.kernel.machine import NONE, Machine
from emu.kernel.seq import SEQ_MASK
from emu.kernel.sock import IPPROTO_TCP, IPPROTO_UDP, READER_REAL
from emu.live.readers.diag import TCP_CLOSE, TCP_ESTABLISHED, RealSocket

LOCAL, REMOTE = 0x0A420002, 0x0A420001
LOCAL_PORT, REMOTE_PORT = 4000, 50_000


class FrameLengths:
    """How long the last frames to the host were: by their numbers, bytes."""

    def __init__(self, remembered: int = 1 << 17) -> None:
        """Remember so many; one that is asked for later counts as 0 bytes long, which is never early."""
        self._frames = array("q", bytes(8 * remembered))
        self._lengths = array("q", bytes(8 * remembered))

    def put(self, frame: int, length: int) -> None:
        """A frame that goes to the host."""
        at = frame % len(self._frames)
        self._frames[at] = frame
        self._lengths[at] = length

    def __call__(self, frame: int) -> int:
        """Its length, else 0."""
        at = frame % len(self._frames)
        return self._lengths[at] if self._frames[at] == frame else 0


class Emulated:
    """A machine whose rows are filled and emptied as the kernel's functions would."""

    def __init__(self, engine: Engine | None = None) -> None:
        self.m: Any = (engine or PlainEngine()).new(Machine)
        self.free = 0

    def socket(self, row: int, protocol: int, *, family: int = 4, **fields: int) -> int:
        sk = self.m.sk[row]
        values = {"reader": READER_REAL, "queue_head": NONE, "queue_tail": NONE, "host_ack": NONE, "sport": LOCAL_PORT}
        if protocol == IPPROTO_TCP:
            values |= {"saddr": LOCAL, "daddr": REMOTE, "dport": REMOTE_PORT}
        for name, value in (values | {"protocol": protocol, "family": family} | fields).items():
            setattr(sk, name, value)
        return row

    def queue(self, row: int, frame: int, **fields: int) -> int:
        """A buffer more at the end of a row's queue."""
        sk, b = self.m.sk[row], self.free
        self.free += 1
        skb = self.m.skb[b]
        for name, value in ({"frame": frame, "next": NONE, "truesize": 2304} | fields).items():
            setattr(skb, name, value)
        if sk.queue_tail == NONE:
            sk.queue_head = b
        else:
            self.m.skb[sk.queue_tail].next = b
        sk.queue_tail = b
        sk.queue_len += 1
        return b

    def segment(self, row: int, frame: int, seq: int, length: int, fin: int = 0) -> int:
        seq &= SEQ_MASK
        return self.queue(row, frame, seq=seq, length=length, end_seq=(seq + length + fin) & SEQ_MASK)

    def dequeue(self, row: int, buffers: int) -> list[int]:
        """Take buffers from the head; their frames."""
        sk = self.m.sk[row]
        taken = []
        for _ in range(buffers):
            skb = self.m.skb[sk.queue_head]
            taken.append(int(skb.frame))
            sk.queue_head = skb.next
            sk.queue_len -= 1
        if sk.queue_head == NONE:
            sk.queue_tail = NONE
        return taken

    def held(self, row: int) -> list[Any]:
        """The skbs in a row's queue."""
        found, at = [], self.m.sk[row].queue_head
        while at != NONE:
            found.append(self.m.skb[at])
            at = int(found[-1].next)
        return found


def real_udp(rqueue: int, *, drops: int = 0, cookie: int = 1, inode: int = 7, **fields: Any) -> RealSocket:
    ends = {"local_hi": 0, "local": LOCAL, "local_port": LOCAL_PORT, "remote_hi": 0, "remote": 0, "remote_port": 0}
    rest = {"rmem_alloc": rqueue, "rcvbuf": 212_992, "bytes_received": -1, "device": 0, "both_families": False}
    said = {"protocol": IPPROTO_UDP, "family": 4, "state": TCP_CLOSE, "rqueue": rqueue, "drops": drops}
    return RealSocket(**(ends | rest | said | {"cookie": cookie, "inode": inode} | fields))


def real_tcp(received: int, rqueue: int, *, state: int = TCP_ESTABLISHED, cookie: int = 1, **fields: Any) -> RealSocket:
    ends = {"remote": REMOTE, "remote_port": REMOTE_PORT, "protocol": IPPROTO_TCP, "state": state}
    return real_udp(rqueue, cookie=cookie, **({"bytes_received": received} | ends | fields))

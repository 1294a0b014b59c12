"""Fields of an emulated machine's sockets and buffers, one at a time and fast, whichever engine holds them.

A row of the compiled engine is made anew at each touch, which costs more than what is asked of it: columns are not.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

Field = Callable[[int], int]  # of this row


class RowKey(NamedTuple):
    """Whose a row is: rows are used again.  Halves of addresses as in kernel.machine.Packet."""

    protocol: int
    family: int
    local_hi: int
    local: int
    local_port: int
    remote_hi: int
    remote: int
    remote_port: int


def _field(rows: Any, name: str) -> Field:
    """A field: of an array's column, or of rows that are objects."""
    if hasattr(rows, "dtype"):
        item: Field = rows[name].item
        return item
    return lambda row: int(getattr(rows[row], name))


class Fields:
    """The fields of `m.sk` and `m.skb` that tell what is queued."""

    def __init__(self, m: Any) -> None:
        """They stay those of `m` as it goes on."""
        sk, skb = m.sk, m.skb
        self.machine = m
        self.reader = _field(sk, "reader")
        self.queue_len = _field(sk, "queue_len")
        self.queue_head = _field(sk, "queue_head")
        self.host_ack = _field(sk, "host_ack")
        self.ready_next = _field(sk, "ready_next")
        ends = "protocol", "family", "saddr_hi", "saddr", "sport", "daddr_hi", "daddr", "dport"
        self._ends = tuple(_field(sk, name) for name in ends)
        self.next = _field(skb, "next")
        self.frame = _field(skb, "frame")
        self.frag_offset = _field(skb, "frag_offset")
        self.truesize = _field(skb, "truesize")
        self.end_seq = _field(skb, "end_seq")

    def key(self, row: int) -> RowKey:
        """Whose a row is now."""
        return RowKey._make([field(row) for field in self._ends])

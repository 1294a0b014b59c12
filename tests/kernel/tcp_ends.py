"""Two TCP ends over a wire that loses what it is told to: nothing but `tcp_conn`, numbers and a queue of events."""

import heapq
from collections.abc import Callable

from emu.kernel.closed_loop import CONN_ESTABLISHED, TcpConn
from emu.kernel.machine import NEVER_NS
from emu.kernel.tcp_conn import (
    TIMER_PROBE,
    TIMER_RETRANSMIT,
    conn_open,
    flight_bytes,
    tcp_ack_sent,
    tcp_acked,
    tcp_rcv_data,
    tcp_retransmit_now,
    tcp_send_room,
    tcp_sent,
    tcp_timer,
    tcp_timer_due_ns,
)

MSS = 1460
MASK = 0xFFFFFFFF
NS_PER_MS = 1_000_000


class End:
    """One end: writes bytes, sends what it may, puts together what comes; `read` says how much its reader takes."""

    def __init__(self, wire: "Wire", iss: int, rcvbuf: int) -> None:
        """Make an established end whose first byte has number `iss` + 1."""
        self.wire = wire
        self.c = TcpConn()
        self.c.mss = MSS
        conn_open(self.c, iss, wire.now_ns)
        self.c.state = CONN_ESTABLISHED
        self.rcvbuf = rcvbuf
        self.unread = 0
        self.reads = True
        self.ahead: dict[int, int] = {}
        self.received: list[tuple[int, int]] = []
        self.told: Callable[[], None] = lambda: None
        self.sent: list[tuple[int, int, int]] = []  # when, seq, bytes

    def meet(self, other: "End") -> None:
        """Know the other end, as after a handshake."""
        self.other = other
        c = self.c
        c.snd_nxt = c.write_seq = (c.iss + 1) & MASK
        tcp_acked(c, c.snd_nxt, other.rcvbuf, 0, self.wire.now_ns)
        c.rcv_nxt = (other.c.iss + 1) & MASK
        tcp_ack_sent(c, c.rcv_nxt, self.rcvbuf)

    def window(self) -> int:
        """What is free, never less than was offered (in segments, as a receiver that avoids silly windows)."""
        left = (self.c.rcv_wup + self.c.rcv_wnd - self.c.rcv_nxt) & MASK
        free = self.rcvbuf - self.unread
        return max(left, free if free >= MSS or free >= left else 0)

    def write(self, count: int) -> None:
        """Queue `count` bytes."""
        self.c.write_seq = (self.c.write_seq + count) & MASK
        self.push()

    def push(self) -> None:
        """Send what may be sent."""
        c = self.c
        while True:
            if tcp_retransmit_now(c):
                length = min(MSS, (c.high_seq - c.retransmit_seq) & MASK)
                self.segment(c.retransmit_seq, length)
                continue
            length = min(MSS, (c.write_seq - c.snd_nxt) & MASK)
            if length == 0 or tcp_send_room(c) < length:
                break
            seq = c.snd_nxt
            assert ((seq + length - c.snd_una) & MASK) <= c.snd_wnd
            assert flight_bytes(c) + length <= (c.snd_cwnd + 2) * MSS
            self.segment(seq, length)

    def segment(self, seq: int, length: int) -> None:
        """Put a segment on the wire; it acknowledges too."""
        now = self.wire.now_ns
        if length:
            tcp_sent(self.c, seq, (seq + length) & MASK, now)
            self.sent.append((now, seq, length))
        window = self.window()
        ack = self.c.rcv_nxt
        tcp_ack_sent(self.c, ack, window)
        other = self.other
        self.wire.send(self, lambda: other.receive(seq, length, ack, window))

    def receive(self, seq: int, length: int, ack: int, window: int) -> None:
        """A segment has come."""
        now = self.wire.now_ns
        tcp_acked(self.c, ack, window, 1 if length else 0, now)
        if length:
            self.data(seq, length)
        elif seq != self.c.rcv_nxt:
            self.c.ack_now = 1  # a probe, or old
        self.push()
        if self.c.ack_now:
            self.segment(self.c.snd_nxt, 0)

    def data(self, seq: int, length: int) -> None:
        """Put data together."""
        c = self.c
        offset = (seq - c.rcv_nxt) & MASK
        odd = offset != 0
        if offset < 1 << 31 and length:
            self.ahead[seq] = max(length, self.ahead.get(seq, 0))
        moved = True
        while moved:
            moved = False
            for start in sorted(self.ahead, key=lambda s: (s - c.rcv_nxt) & MASK):
                over = (c.rcv_nxt - start) & MASK
                if over < 1 << 31:
                    count = self.ahead.pop(start)
                    if over < count:
                        self.received.append((c.rcv_nxt, count - over))
                        c.rcv_nxt = (start + count) & MASK
                        self.unread += count - over
                    moved = True
                    break
        if self.reads:
            self.unread = 0
        tcp_rcv_data(c, c.rcv_nxt, length, 1 if odd or self.ahead else 0, self.wire.now_ns)
        self.told()

    def read_all(self) -> None:
        """The reader comes back: two segments more of window are worth saying."""
        before = (self.c.rcv_wup + self.c.rcv_wnd - self.c.rcv_nxt) & MASK
        self.unread = 0
        if self.window() >= 2 * MSS and before < 2 * MSS:
            self.segment(self.c.snd_nxt, 0)

    def due_ns(self) -> int:
        """The end's next timer."""
        return min(tcp_timer_due_ns(self.c), self.c.delack_due_ns)

    def timer(self) -> None:
        """Run it."""
        now = self.wire.now_ns
        if self.c.delack_due_ns <= now:
            self.segment(self.c.snd_nxt, 0)
            return
        what = tcp_timer(self.c, now)
        if what == TIMER_RETRANSMIT:
            self.push()
        elif what == TIMER_PROBE:
            room = tcp_send_room(self.c)
            if room:
                self.segment(self.c.snd_nxt, min(room, (self.c.write_seq - self.c.snd_nxt) & MASK))
            else:
                self.segment((self.c.snd_una - 1) & MASK, 0)


class Wire:
    """Carries segments both ways in order, `delay_ns` each, except those that `lost` names."""

    def __init__(self, delay_ns: int, lost: Callable[[End, int, int], bool]) -> None:
        """`lost(sender, number, now)` says whether the sender's segment of that number is lost."""
        self.now_ns = 1_000_000_000
        self.delay_ns = delay_ns
        self.lost = lost
        self.events: list[tuple[int, int, Callable[[], None]]] = []
        self.count = 0
        self.carried: dict[int, int] = {}
        self.ends: tuple[End, ...] = ()

    def pair(self, iss: int, other_iss: int, rcvbuf: int) -> tuple[End, End]:
        """Two ends that have shaken hands."""
        one, two = End(self, iss, rcvbuf), End(self, other_iss, rcvbuf)
        one.meet(two)
        two.meet(one)
        self.ends = (one, two)
        return one, two

    def at(self, when_ns: int, what: Callable[[], None]) -> None:
        """Do something at a time."""
        self.count += 1
        heapq.heappush(self.events, (when_ns, self.count, what))

    def send(self, sender: End, arrive: Callable[[], None]) -> None:
        """A segment leaves."""
        number = self.carried[id(sender)] = self.carried.get(id(sender), 0) + 1
        if not self.lost(sender, number, self.now_ns):
            self.at(self.now_ns + self.delay_ns, arrive)

    def run(self, until_ns: int) -> None:
        """Go on until nothing is due before `until_ns`."""
        while True:
            event = self.events[0][0] if self.events else NEVER_NS
            end = min(self.ends, key=lambda e: e.due_ns())
            when = min(event, end.due_ns())
            if when > until_ns or when == NEVER_NS:
                self.now_ns = max(self.now_ns, until_ns)
                return
            assert when >= self.now_ns
            self.now_ns = when
            if event <= when:
                heapq.heappop(self.events)[2]()
            else:
                end.timer()

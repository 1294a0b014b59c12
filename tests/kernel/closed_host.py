"""A machine that answers: the host's connection 0 over a wire to a peer that is an `End`, on the plain engine."""

from typing import Any

from machines import ACK, HOST, ISCSI, PEER, PLAIN, RST, SYN, Nic, Setup, holds, plenty, tcp, unbooted
from tcp_ends import MASK, MSS, End, Wire

from emu.engine.loop import arrive, poll_step
from emu.kernel.boot import boot, empty_caches, start_clock
from emu.kernel.closed_loop import TX_REPLY
from emu.kernel.machine import NEVER_NS, NONE, Packet
from emu.kernel.slab import kmem_cache_alloc, kmem_cache_free
from emu.kernel.tcp_conn import conn_established, tcp_ack_sent, tcp_sent
from emu.kernel.tcp_timer import tcp_timers_due_ns, tcp_timers_run
from emu.kernel.tcp_write import tcp_connect, tcp_push, tcp_sendpage
from emu.kernel.xmit import tx_begin, tx_complete, tx_due_ns, tx_head, tx_ready

FRAME_NS = 1_000  # what a frame takes on the wire
SMALL = Nic(ring=32, background=0)


def closed_machine(setup: Setup, start_ns: int = 0) -> Any:
    """A machine of a closed loop at the moment when play starts."""
    m = unbooted(setup)
    m.config.closed = 1
    boot(m)
    start_clock(m, start_ns)
    return m


class Peer(End):
    """The other end, from its SYN-ACK on."""

    was_reset = False

    def syn(self, seq: int, window: int, host: "Host") -> None:
        """A SYN has come, perhaps again: answer it."""
        c = self.c
        now = self.wire.now_ns
        c.rcv_nxt = (seq + 1) & MASK
        c.snd_wnd = c.max_window = window
        if c.snd_nxt == c.iss:
            tcp_sent(c, c.iss, (c.iss + 1) & MASK, now)
        tcp_ack_sent(c, c.rcv_nxt, self.rcvbuf)
        iss, ack, offered = c.iss, c.rcv_nxt, self.rcvbuf
        c.rto_due_ns = NEVER_NS  # the host asks again
        self.wire.send(self, lambda: host.arrives(iss, 0, ack, offered, SYN | ACK))
        conn_established(c)


class Host:
    """The host: a machine, its connection 0, and what it has sent."""

    def __init__(self, wire: Wire, setup: Setup, *, port: int = ISCSI, sndbuf: int = 65_536) -> None:
        """Boot."""
        self.wire = wire
        self.m = closed_machine(setup, wire.now_ns)
        self.rows = PLAIN.rows(Packet, 1 << 20)
        self.frames = 0
        m = self.m
        m.conns = 1
        values = {"saddr": HOST, "sport": 40_000, "daddr": PEER, "dport": port, "mss": MSS, "sndbuf": sndbuf}
        PLAIN.fill(m.conn[0], values | {"sk": NONE})
        self.c = m.conn[0]
        self.left = 0
        self.sent: list[tuple[int, int, int]] = []  # tcp_flags, seq, bytes
        self.replies: list[int] = []
        self.answered: list[int] = []  # tcp_flags of the replies

    def connected_to(self, peer: Peer) -> None:
        """Open the connection."""
        self.peer = peer
        peer.other = self  # type: ignore[assignment]
        assert tcp_connect(self.m, 0)
        self.transmit()

    def write(self, count: int) -> None:
        """Write as a task does: what the connection does not take waits."""
        self.m.now_ns = self.wire.now_ns
        self.left += count
        self.pump()
        self.transmit()

    def pump(self) -> None:
        """Hand on what waits."""
        if self.left:
            self.left -= tcp_sendpage(self.m, 0, self.left)
            tcp_push(self.m, 0)

    def transmit(self) -> None:
        """The NIC takes up the next frame."""
        m = self.m
        m.replies_open = NONE
        while tx_ready(m) != NONE:
            d = tx_ready(m)
            tx = m.tx[tx_head(m, d)]
            tx_begin(m, d, m.now_ns + FRAME_NS)
            if tx.kind == TX_REPLY:
                self.answered.append(tx.tcp_flags)
                continue
            self.sent.append((tx.tcp_flags, tx.seq, tx.length))
            self.leave((tx.seq, tx.length, tx.ack, tx.window), tx.tcp_flags)

    def leave(self, frame: tuple[int, int, int, int], flags: int) -> None:
        """A frame is on its way."""
        peer = self.peer
        if flags & RST:
            self.wire.send(self, lambda: setattr(peer, "was_reset", True))  # type: ignore[arg-type]
        elif flags & SYN:
            self.wire.send(self, lambda: peer.syn(frame[0], frame[3], self))  # type: ignore[arg-type]
        else:
            self.wire.send(self, lambda: peer.receive(*frame))  # type: ignore[arg-type]

    def receive(self, seq: int, length: int, ack: int, window: int) -> None:
        """A segment of the peer has come."""
        self.arrives(seq, length, ack, window, ACK)

    def arrives(self, seq: int, length: int, ack: int, window: int, flags: int) -> None:
        """The same with other flags."""
        numbers = {"tcp_seq": seq, "tcp_ack": ack, "tcp_window": window}
        self.frame(tcp(40_000, length, sport=self.c.dport, flags=flags, ip_version=4, **numbers))

    def frame(self, columns: Any) -> None:
        """A frame reaches the NIC, and the CPU has time for it."""
        m = self.m
        row = self.rows[self.frames]
        self.frames += 1
        numbered = {"frame": self.frames, "packet_id": self.frames, "time_ns": self.wire.now_ns}
        PLAIN.fill(row, dict(columns) | numbered)
        arrive(m, self.rows, self.frames - 1)
        self.softirq()

    def softirq(self) -> None:
        """The CPU works until nothing is left, and tasks run."""
        m = self.m
        log = PLAIN.rows(Packet, 4)
        while m.poll_len > 0:
            poll_step(m, self.rows, log, 0)
        self.pump()
        self.transmit()

    def due_ns(self) -> int:
        """When something of the host's is due."""
        waits = self.c.wait_until_ns if self.left and self.c.wait else NEVER_NS
        return min(tcp_timers_due_ns(self.m), tx_due_ns(self.m), waits)

    def timer(self) -> None:
        """Do it."""
        m = self.m
        m.now_ns = self.wire.now_ns
        while tx_due_ns(m) <= m.now_ns:
            tx_complete(m, 0)
        if tcp_timers_due_ns(m) <= m.now_ns:
            tcp_timers_run(m)
        if self.left and self.c.wait_until_ns <= m.now_ns:
            self.c.wait_until_ns = NEVER_NS
        self.softirq()

    def holds(self) -> None:
        """Every invariant of the machine holds."""
        holds(self.m)


def host_and_peer(wire: Wire, setup: Setup | None = None, *, rcvbuf: int = 65_535, **options: int) -> tuple[Host, Peer]:
    """A host that is opening its connection, and the peer."""
    host = Host(wire, setup or Setup("linux-2.6.12", plenty(), (SMALL,)), **options)
    peer = Peer(wire, 7_000, rcvbuf)
    wire.ends = (host, peer)  # type: ignore[assignment]
    host.connected_to(peer)
    return host, peer


def exhaust(m: Any, heads: int, areas: int) -> None:
    """No page is free, and of all objects only so many skb heads and data areas for headers (size-512)."""
    area = next(at for at in range(m.caches) if m.cache[at].objsize == 512)
    kept = [(m.head_cache, heads), (area, areas)]
    objects = [(cache, kmem_cache_alloc(m, cache, 0x20)) for cache, count in kept for _ in range(count)]
    empty_caches(m)
    for zone in range(m.zones):
        z = m.zone[zone]
        z.other_pages += z.free_pages + z.pcp_count
        z.free_pages = z.pcp_count = 0
        for order in range(len(z.nr_free)):
            z.nr_free[order] = 0
    for cache, slab in objects:
        kmem_cache_free(m, cache, slab)


def relieve(m: Any, pages: int = 4096) -> None:
    """Others give pages back."""
    z = m.zone[1]
    z.other_pages -= pages
    z.free_pages += pages
    z.nr_free[0] += pages


def acked(c: Any) -> bool:
    """Whether all that was queued has been acknowledged."""
    return bool(c.snd_una == c.snd_nxt == c.write_seq)

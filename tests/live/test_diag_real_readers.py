"""Real sockets in a namespace, read slowly, partly or never: what is still held is what they have not read."""

import os
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from consumption_kit import Emulated, FrameLengths

from emu.kernel.seq import SEQ_MASK, after
from emu.kernel.sock import IPPROTO_TCP, IPPROTO_UDP
from emu.live.lab.lab import Lab, Tap, open_in_namespace
from emu.live.readers.consumption import Consumption
from emu.live.readers.diag import (
    NO_COOKIE,
    TCP_CLOSE,
    TCP_ESTABLISHED,
    TCP_LISTEN,
    Asked,
    RealSocket,
    SocketDiag,
)
from emu.live.readers.real_reads import ALL_AGAIN_NS, ALL_EVERY_NS, RealReads
from emu.live.readers.truesize import at_least, measured_truesize, tap_truesize
from emu.wire.checksum import ones_sum

pytestmark = pytest.mark.live

ROW = 8
PORT = 4000
HOST, PEER = "10.77.3.2", "10.77.3.1"
LOOPBACK = int.from_bytes(socket.inet_aton("127.0.0.1"), "big")
UDP, TCP, V6_UDP = (socket.AF_INET, socket.SOCK_DGRAM), (socket.AF_INET, socket.SOCK_STREAM), (10, socket.SOCK_DGRAM)


class Ground:
    """A namespace with a TAP, and sockets in it."""

    def __init__(self, lab: Lab, closing: ExitStack) -> None:
        self.closing = closing
        self.namespace = lab.namespace("diag")
        self.tap: Tap = lab.tap("diag0", namespace=self.namespace, address=f"{HOST}/24")
        self.diag = SocketDiag(self.namespace)
        closing.callback(self.diag.close)

    def open(self, kind: tuple[int, int], address: str = "", port: int = 0) -> socket.socket:
        made = open_in_namespace(self.namespace, lambda: socket.socket(*kind))
        self.closing.callback(made.close)
        if kind[0] == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        if address:
            made.bind((address, port))
        return made

    def pair(self) -> tuple[socket.socket, socket.socket]:
        """Two ends of a TCP connection over loopback, the second accepted."""
        listener = self.open(TCP, "127.0.0.1")
        listener.listen()
        near = self.open(TCP)
        near.connect(listener.getsockname())
        far, _ = listener.accept()
        self.closing.callback(far.close)
        return near, far


@pytest.fixture
def ground_of(lab: Lab) -> Iterator[Ground]:
    with ExitStack() as closing:
        yield Ground(lab, closing)


def datagram(tap: Tap, length: int) -> bytes:
    """A frame so long, from the peer to the host's port."""
    ends = socket.inet_aton(PEER), socket.inet_aton(HOST)
    fields = (0x45, 0, length - 14, 0, 0, 64, socket.IPPROTO_UDP)
    ip = struct.pack(">BBHHHBBH4s4s", *fields, 0, *ends)
    checked = struct.pack(">BBHHHBBH4s4s", *fields, 0xFFFF - ones_sum(ip, 0, 20), *ends)
    udp = struct.pack(">HHHH", 1, PORT, length - 34, 0) + bytes(length - 42)
    return bytes.fromhex(tap.mac.replace(":", "")) + b"\x02\0\0\0\0\x01\x08\0" + checked + udp


class UdpWire:
    """Each frame goes into the emulated queue and to the real stack."""

    def __init__(self, ground: Ground) -> None:
        self.tap = ground.tap
        self.emulated = Emulated()
        self.emulated.socket(ROW, IPPROTO_UDP, sport=PORT)
        self.lengths = FrameLengths()
        self.real = RealReads(ground.diag, Consumption(self.lengths))
        self.frame = 0
        self.now_ns = 0

    def send(self, length: int) -> None:
        self.frame += 1
        self.lengths.put(self.frame, length)
        self.emulated.queue(ROW, self.frame)
        os.write(self.tap.fd, datagram(self.tap, length))

    def held(self, after_ns: int = 5_000_000) -> list[int]:
        """Look, release; the frames that are left."""
        self.now_ns += after_ns
        for row, buffers in self.real.reads(self.emulated.m, [ROW], self.now_ns):
            self.emulated.dequeue(row, buffers)
        return [skb.frame for skb in self.emulated.held(ROW)]


@pytest.mark.parametrize("kind", [UDP, V6_UDP], ids=["ipv4", "both families"])
def test_datagrams_are_held_until_a_slow_reader_has_them(ground_of: Ground, kind: tuple[int, int]) -> None:
    reader = ground_of.open(kind, "::" if kind is V6_UDP else HOST, PORT)
    wire = UdpWire(ground_of)
    lengths = [60, 1514, 106, 590, 107, 1514, 42, 60] * 5
    unread: list[int] = []
    for turn, length in enumerate(lengths):
        wire.send(length)
        unread.append(wire.frame)
        assert wire.held() == unread
        if turn % 3:
            reader.recv(2000)
            del unread[0]
            assert wire.held() == unread
    for _ in unread:
        reader.recv(2000)
    assert wire.held() == []


def test_a_dead_reader_holds_all_and_what_its_full_buffer_refused_holds_nothing(ground_of: Ground) -> None:
    reader = ground_of.open(UDP, HOST, PORT)
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    wire = UdpWire(ground_of)
    for _ in range(100):
        wire.send(600)
        left = wire.held()
    (real,) = [s for s in ground_of.diag.look() if s.local_port == PORT]
    taken = 100 - real.drops
    assert 0 < taken < 100
    assert real.rqueue == taken * tap_truesize(600)
    assert len(left) == taken
    for _ in range(taken - 3):  # it stops in the middle
        reader.recv(2000)
    assert len(wire.held()) == 3
    reader.close()
    wire.held(ALL_EVERY_NS)
    assert wire.held(ALL_AGAIN_NS) == []


def test_datagrams_for_no_socket_hold_nothing_from_the_second_look(ground_of: Ground) -> None:
    wire = UdpWire(ground_of)
    wire.send(600)
    assert wire.held() == [1]
    assert wire.held(1) == [1]  # too soon for another look at all
    assert wire.held(ALL_AGAIN_NS) == []


class TcpWire:
    """What loopback carries from one end to the other goes into the emulated queue; the acknowledgements, too."""

    def __init__(self, ground: Ground, reader: socket.socket) -> None:
        self.port = reader.getsockname()[1]
        self.peer = reader.getpeername()[1]
        kind = (socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
        self.tap = open_in_namespace(ground.namespace, lambda: socket.socket(*kind))
        ground.closing.callback(self.tap.close)
        self.tap.bind(("lo", 0x0800))
        self.tap.setblocking(False)
        self.emulated = Emulated()
        ends = {"saddr": LOOPBACK, "daddr": LOOPBACK, "sport": self.port, "dport": self.peer}
        self.sk = self.emulated.m.sk[self.emulated.socket(ROW, IPPROTO_TCP, **ends)]
        self.real = RealReads(ground.diag, Consumption(FrameLengths(16)))
        self.frame = 0
        self.now_ns = 0
        self.segments: list[tuple[int, int]] = []  # number and length, in order

    def carried(self) -> int:
        """Bytes so far: TCP sends when it likes."""
        return sum(length for _, length in self.segments)

    def not_read(self, had: int) -> int:
        """Bytes of the segments that a reader of so many bytes has not had, or not wholly."""
        first = self.segments[0][0]
        return sum(length for seq, length in self.segments if (seq + length - first) & SEQ_MASK > had)

    def follow(self) -> None:
        while True:
            try:
                octets, where = self.tap.recvfrom(1 << 17)
            except BlockingIOError:
                return
            if where[2] != socket.PACKET_OUTGOING:
                self.note(octets)

    def note(self, octets: bytes) -> None:
        sport, dport, seq, ack, offset = struct.unpack_from(">HHIIB", octets, 34)
        length = struct.unpack_from(">H", octets, 16)[0] - 20 - (offset >> 4) * 4
        if (sport, dport) == (self.port, self.peer):
            if self.sk.host_ack < 0 or after(ack, self.sk.host_ack):
                self.sk.host_ack = ack
        elif (sport, dport) == (self.peer, self.port) and length > 0:
            if self.segments and not after(seq + length & SEQ_MASK, sum(self.segments[-1]) & SEQ_MASK):
                return  # sent again, on a busy machine: the emulated socket would drop it as old
            self.frame += 1
            self.emulated.segment(ROW, self.frame, seq, length)
            self.segments.append((seq, length))

    def held(self) -> int:
        """Look, release; how many bytes of payload are left."""
        self.follow()
        self.now_ns += 5_000_000
        for row, buffers in self.real.reads(self.emulated.m, [ROW], self.now_ns):
            self.emulated.dequeue(row, buffers)
        return sum(skb.length for skb in self.emulated.held(ROW))

    def settled(self, wanted: Callable[[int], bool]) -> int:
        """As `held`, until it is so: an acknowledgement may come 40 ms late."""
        for _ in range(100):
            left = self.held()
            if wanted(left):
                break
            time.sleep(0.01)
        return left


@pytest.mark.parametrize("before", [0, 3000], ids=["from its beginning", "that was there before"])
def test_segments_are_held_until_a_slow_reader_has_them(ground_of: Ground, before: int) -> None:
    sender, reader = ground_of.pair()
    sender.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if before:
        sender.sendall(bytes(before))
        reader.recv(before, socket.MSG_WAITALL)
        time.sleep(0.05)  # its acknowledgement
    wire = TcpWire(ground_of, reader)
    sent = had = 0
    for turn in range(30):
        sender.sendall(bytes(1000))
        sent += 1000
        assert wire.held() >= wire.carried() - had
        if turn % 3:
            had += len(reader.recv(700, socket.MSG_WAITALL))
            assert wire.held() >= wire.carried() - had
    wire.settled(lambda left: wire.carried() == sent and left == wire.not_read(had))
    assert wire.carried() == sent
    assert wire.held() == wire.not_read(had) > 0  # the reader stopped in the middle
    reader.recv(sent - had, socket.MSG_WAITALL)
    assert wire.settled(lambda left: left == 0) == 0


def test_segments_of_a_dead_reader_are_held_until_it_is_closed(ground_of: Ground) -> None:
    sender, reader = ground_of.pair()
    wire = TcpWire(ground_of, reader)
    for _ in range(5):
        sender.sendall(bytes(1000))
        wire.held()
    assert wire.settled(lambda left: left == 5000) == 5000
    time.sleep(0.05)
    assert wire.held() == 5000
    reader.close()
    wire.now_ns += ALL_EVERY_NS
    wire.held()
    wire.now_ns += ALL_AGAIN_NS
    assert wire.held() == 0


def test_bytes_read_never_count_more_than_the_reader_has_had(ground_of: Ground) -> None:
    sender, reader = ground_of.pair()
    me = Asked(IPPROTO_TCP, 4, 0, LOOPBACK, reader.getsockname()[1], 0, LOOPBACK, reader.getpeername()[1])
    had = 0
    for _ in range(200):
        sender.sendall(bytes(3000))
        had += len(reader.recv(2000))
        (found,) = ground_of.diag.look_at([me])
        assert found is not None
        assert found.bytes_received - found.rqueue == had


def test_a_look_at_all_and_looks_at_each_see_the_same(ground_of: Ground) -> None:
    near, far = ground_of.pair()
    near.sendall(b"12345")
    bound = ground_of.open(UDP, HOST, PORT)
    both = ground_of.open(V6_UDP, "::", PORT + 1)
    connected = ground_of.open(UDP, "127.0.0.1")
    connected.connect(("127.0.0.1", PORT + 1))
    connected.send(b"abc")
    mapped = ground_of.open((socket.AF_INET6, socket.SOCK_STREAM))
    mapped.connect(("::ffff:127.0.0.1", near.getpeername()[1]))
    all_of_them = ground_of.diag.look()
    assert ground_of.diag.look_at([s.asked for s in all_of_them]) == all_of_them
    assert len({s.cookie for s in all_of_them}) == len(all_of_them)

    by_inode = {s.inode: s for s in all_of_them if s.inode}
    real: Callable[[socket.socket], RealSocket] = lambda s: by_inode[os.fstat(s.fileno()).st_ino]  # noqa: E731
    assert real(far)[:3] == (IPPROTO_TCP, 4, 0)
    assert (real(far).local, real(far).remote, real(far).state) == (LOOPBACK, LOOPBACK, TCP_ESTABLISHED)
    assert (real(far).rqueue, real(far).bytes_received) == (5, 5)
    assert (real(bound).state, real(bound).rqueue, real(bound).local_port) == (TCP_CLOSE, 0, PORT)
    assert real(both).both_families and not real(bound).both_families
    assert real(both).rqueue == real(both).rmem_alloc > 0
    assert real(connected).remote_port == PORT + 1
    assert (real(mapped).family, real(mapped).remote) == (4, LOOPBACK)
    assert [s.local_port for s in all_of_them if s.state == TCP_LISTEN] == [near.getpeername()[1]]


def test_what_is_not_there_is_none_and_another_socket_is_not_taken_for_it(ground_of: Ground) -> None:
    bound = ground_of.open(UDP, HOST, PORT)
    (real,) = ground_of.diag.look()
    nobody = Asked(IPPROTO_TCP, 4, 0, LOOPBACK, 1, 0, LOOPBACK, 2)
    assert ground_of.diag.look_at([]) == []
    assert ground_of.diag.look_at([nobody, real.asked, nobody, real.asked._replace(cookie=NO_COOKIE)]) == [
        None,
        real,
        None,
        real,
    ]
    bound.close()
    ground_of.open(UDP, HOST, PORT)
    assert ground_of.diag.look_at([real.asked]) == [None]


def test_hundreds_of_sockets_are_all_seen(ground_of: Ground) -> None:
    ports = {ground_of.open(UDP, HOST).getsockname()[1] for _ in range(400)}
    seen = ground_of.diag.look()
    assert {s.local_port for s in seen} == ports
    assert ground_of.diag.look_at([s.asked for s in seen]) == seen


def test_the_formula_is_no_more_than_this_kernel_charges(lab: Lab) -> None:
    measured = measured_truesize(lab)
    assert measured(60) > at_least(60)
    assert measured(4000) == 4000
    for length in range(42, 1515):
        assert tap_truesize(length) <= measured(length), length

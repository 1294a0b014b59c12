"""A model of a real TCP connection against the mapping: never early, in the end all, at any sequence number."""

from consumption_kit import Emulated, FrameLengths, real_tcp
from hypothesis import given, settings
from hypothesis import strategies as st

from emu.kernel.machine import NONE
from emu.kernel.seq import SEQ_MASK
from emu.kernel.sock import IPPROTO_TCP
from emu.live.readers.consumption import Consumption
from emu.live.readers.diag import TCP_CLOSE_WAIT, TCP_FIN_WAIT2, TCP_LISTEN, TCP_SYN_SENT, TCP_TIME_WAIT, RealSocket

ROW = 3


class Connection:
    """Positions count from the connection's first byte; `began` is that byte's number."""

    def __init__(self, began: int, before: int = 0) -> None:
        """`before`: bytes that were received and read before the emulation saw any of it."""
        self.emulated = Emulated()
        self.row = self.emulated.socket(ROW, IPPROTO_TCP)
        self.consumption = Consumption(FrameLengths(16))
        self.began = began
        self.sent = before
        self.received = before
        self.copied = before
        self.there: set[tuple[int, int]] = set()  # segments that the real stack has, in order or not
        self.lost: list[tuple[int, int]] = []  # dropped by the emulated machine
        self.backlog: list[tuple[int, int]] = []  # passed on, and not yet taken by the real socket
        self.frame = 0

    def send(self, length: int, fate: str) -> None:
        start, self.sent = self.sent, self.sent + length
        if fate == "lost":
            self.lost.append((start, self.sent))
        else:
            self.accept(start, self.sent, fate)

    def accept(self, start: int, end: int, fate: str = "taken") -> None:
        self.frame += 1
        self.emulated.segment(ROW, self.frame, self.began + start, end - start)
        self.backlog.append((start, end))
        if fate == "taken":
            self.take_in()

    def take_in(self) -> None:
        self.there.update(self.backlog)
        self.backlog.clear()
        for start, end in sorted(self.there):
            if start <= self.received:
                self.received = max(self.received, end)

    def send_again(self) -> None:
        while self.lost:
            self.accept(*self.lost.pop(0))

    def acknowledge(self) -> None:
        self.emulated.m.sk[ROW].host_ack = (self.began + self.received) & SEQ_MASK

    def read(self, octets: int) -> None:
        self.copied = min(self.received, self.copied + octets)

    def look(self, **fields: int) -> None:
        received = self.received  # the backlog may be taken in between the two questions
        self.take_in()
        self.look_at([real_tcp(received, self.received - self.copied, **fields)])

    def look_at(self, sockets: list[RealSocket]) -> None:
        for row, buffers in self.consumption.reads(self.emulated.m, [ROW], sockets):
            self.emulated.dequeue(row, buffers)

    def unread_are_held(self) -> None:
        """Whatever of a segment the reader has not had, or the stack not taken, is in the queue."""
        held = {(skb.seq, skb.end_seq) for skb in self.emulated.held(ROW)}
        for start, end in [*self.there, *self.backlog]:
            if end > self.copied:
                assert ((self.began + start) & SEQ_MASK, (self.began + end) & SEQ_MASK) in held


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(1, 3000), st.sampled_from(["taken", "taken", "backlog", "lost"])),
        st.tuples(st.sampled_from(["read"]), st.integers(1, 5000), st.just("")),
        st.tuples(st.sampled_from(["look", "acknowledge", "send_again"]), st.just(0), st.just("")),
    ),
    max_size=80,
)
BEGINNINGS = st.one_of(st.integers(0, SEQ_MASK), st.integers(SEQ_MASK - 20_000, SEQ_MASK))


@given(steps=STEPS, began=BEGINNINGS, before=st.sampled_from([0, 1, 70_000, 3 << 32]))
@settings(max_examples=400, deadline=None)
def test_never_early_and_in_the_end_all(steps: list[tuple[str, int, str]], began: int, before: int) -> None:
    connection = Connection(began, before)
    for what, value, fate in steps:
        if what == "send":
            connection.send(value, fate)
        elif what == "read":
            connection.read(value)
        else:
            getattr(connection, what)()
        connection.unread_are_held()
    connection.send_again()
    connection.take_in()
    connection.acknowledge()
    connection.read(connection.sent)
    connection.look()
    assert connection.emulated.held(ROW) == []


def five_segments(began: int = SEQ_MASK - 2500) -> Connection:
    connection = Connection(began)
    for _ in range(5):
        connection.send(1000, "taken")
    connection.acknowledge()
    return connection


def test_a_reader_in_the_middle_of_a_segment_has_not_had_it() -> None:
    connection = five_segments()
    connection.read(2999)
    connection.look()
    assert len(connection.emulated.held(ROW)) == 3
    connection.read(1)
    connection.look()
    assert len(connection.emulated.held(ROW)) == 2


def test_nothing_is_known_before_the_host_acknowledges() -> None:
    connection = five_segments()
    connection.emulated.m.sk[ROW].host_ack = NONE
    connection.read(5000)
    connection.look()
    assert len(connection.emulated.held(ROW)) == 5


def test_once_known_the_beginning_serves_without_further_acknowledgements() -> None:
    connection = five_segments()
    connection.look()
    connection.send(1000, "taken")
    connection.read(6000)
    connection.look()
    assert connection.emulated.held(ROW) == []


def test_a_fin_counts_one_and_is_read_when_the_reader_has_seen_the_end() -> None:
    connection = five_segments()
    connection.frame += 1
    connection.emulated.segment(ROW, 6, connection.began + 5000, 0, fin=1)
    connection.emulated.m.sk[ROW].host_ack = (connection.began + 5001) & SEQ_MASK
    connection.look_at([real_tcp(5001, 1, state=TCP_CLOSE_WAIT)])
    assert [skb.frame for skb in connection.emulated.held(ROW)] == [6]
    connection.look_at([real_tcp(5001, 0, state=TCP_CLOSE_WAIT)])
    assert connection.emulated.held(ROW) == []


def test_what_the_real_stack_never_took_is_not_released() -> None:
    connection = five_segments()
    connection.send(1000, "backlog")
    connection.read(6000)
    connection.look_at([real_tcp(5000, 0)])
    assert [skb.frame for skb in connection.emulated.held(ROW)] == [6]


def test_a_connection_that_nobody_has_accepted_holds_what_came() -> None:
    connection = five_segments()
    connection.look(inode=0)
    assert len(connection.emulated.held(ROW)) == 5


def test_a_connection_that_its_program_closed_has_released_everything() -> None:
    for state in (TCP_FIN_WAIT2, TCP_TIME_WAIT):
        connection = five_segments()
        connection.look(inode=0, state=state)
        assert connection.emulated.held(ROW) == []
    connection = five_segments()
    connection.look(state=TCP_FIN_WAIT2)  # half closed: its program may read
    assert len(connection.emulated.held(ROW)) == 5


def test_without_a_socket_everything_is_released_at_the_second_look_and_a_listener_is_none() -> None:
    connection = five_segments()
    listener = real_tcp(0, 1, state=TCP_LISTEN, remote=0, remote_port=0)
    connection.look_at([listener])
    assert len(connection.emulated.held(ROW)) == 5
    connection.look()
    connection.look_at([listener])
    assert len(connection.emulated.held(ROW)) == 5
    connection.look_at([listener])
    assert connection.emulated.held(ROW) == []


def test_a_connection_begun_anew_is_counted_anew() -> None:
    connection = five_segments()
    connection.read(1000)
    connection.look()
    connection.look_at([real_tcp(0, 0, state=TCP_SYN_SENT, cookie=2)])
    assert len(connection.emulated.held(ROW)) == 4
    connection.emulated.m.sk[ROW].host_ack = 70_100
    connection.emulated.segment(ROW, 9, 70_000, 100)
    connection.look_at([real_tcp(100, 100, cookie=2)])
    assert [skb.frame for skb in connection.emulated.held(ROW)] == [9]
    connection.look_at([real_tcp(100, 0, cookie=2)])
    assert connection.emulated.held(ROW) == []


def test_lengths_of_frames_long_ago_are_not_known() -> None:
    lengths = FrameLengths(4)
    for frame in range(1, 7):
        lengths.put(frame, 100 + frame)
    assert [lengths(frame) for frame in range(1, 7)] == [0, 0, 103, 104, 105, 106]

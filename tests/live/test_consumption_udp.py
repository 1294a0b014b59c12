"""A model of a real UDP socket against the mapping: never early, in the end all, exact where nothing is in doubt."""

from collections import deque

import pytest
from consumption_kit import LOCAL_PORT, Emulated, FrameLengths, real_udp
from hypothesis import example, given, settings
from hypothesis import strategies as st

from emu.engine.plain import Engine, PlainEngine
from emu.kernel.machine import NONE
from emu.kernel.sock import IPPROTO_UDP, READER_REAL
from emu.live.readers.consumption import Consumption
from emu.live.readers.diag import RealSocket
from emu.live.readers.real_reads import rows_waiting
from emu.live.readers.truesize import tap_truesize

ROW = 5


class World:
    """Datagrams go into the emulated queue and, some later, into a real socket that may drop them."""

    def __init__(self, *, at_once: bool = True, rcvbuf: int = 1 << 30, engine: Engine | None = None) -> None:
        self.emulated = Emulated(engine)
        self.row = self.emulated.socket(ROW, IPPROTO_UDP)
        self.lengths = FrameLengths(1 << 12)
        self.consumption = Consumption(self.lengths, arrives_at_once=at_once)
        self.at_once = at_once
        self.rcvbuf = rcvbuf
        self.unread: deque[tuple[int, int]] = deque()  # (frame, or 0 for a stranger's; its length)
        self.coming: deque[tuple[int, int]] = deque()
        self.drops = 0
        self.frame = 0
        self.truesize: dict[int, int] = {}  # emulated, by frame
        self.released: list[int] = []
        self.in_doubt = False  # something was dropped, or came otherwise

    def arrive(self, length: int, truesize: int = 2304, lost: bool = False) -> None:
        self.frame += 1
        self.lengths.put(self.frame, length)
        self.truesize[self.frame] = truesize
        self.emulated.queue(self.row, self.frame, truesize=truesize)
        if lost:  # the host's interface does not take it
            self.consumption.lost(self.emulated.m, self.row)
            self.in_doubt = True
            return
        self.coming.append((self.frame, length))
        if self.at_once:
            self.land(1)

    def land(self, count: int) -> None:
        for _ in range(min(count, len(self.coming))):
            self.take(*self.coming.popleft())

    def take(self, frame: int, length: int) -> None:
        if self.rqueue() + tap_truesize(length) > self.rcvbuf:
            self.drops += 1
            self.in_doubt = True
        else:
            self.unread.append((frame, length))

    def rqueue(self) -> int:
        return sum(tap_truesize(length) for _, length in self.unread)

    def read(self, count: int) -> None:
        for _ in range(min(count, len(self.unread))):
            self.unread.popleft()

    def look(self, sockets: list[RealSocket] | None = None) -> None:
        landed = len(self.coming)
        seen = [real_udp(self.rqueue(), drops=self.drops)] if sockets is None else sockets
        for row, buffers in self.consumption.reads(self.emulated.m, [self.row], seen):
            self.released += self.emulated.dequeue(row, buffers)
        self.never_early()
        self.land(landed)  # what was on its way at a look is there at the next

    def never_early(self) -> None:
        ours = [frame for frame, _ in self.unread if frame] + [frame for frame, _ in self.coming]
        held = self.emulated.held(self.row)
        assert len(held) >= len(ours)
        assert sum(skb.truesize for skb in held) >= sum(self.truesize[frame] for frame in ours)
        if not self.in_doubt:
            assert not set(ours) & set(self.released)


LENGTHS = st.sampled_from([42, 60, 106, 107, 590, 1514])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["arrive", "arrive", "lose"]), LENGTHS),
        st.tuples(st.just("read"), st.integers(1, 6)),
        st.tuples(st.just("look"), st.just(0)),
        st.tuples(st.just("land"), st.integers(1, 4)),
    ),
    max_size=80,
)

SMALL_ONES_THEN_LARGE_ONES_DROPPED = [*[("arrive", 60)] * 8, *[("arrive", 1514)] * 8, ("look", 0)]
SMALL_ONES_COME_WHILE_A_LARGER_IS_LOST = [*[("arrive", 60)] * 4, ("lose", 1514), *[("look", 0)] * 3]


def engine_of(name: str) -> Engine:
    if name == "plain":
        return PlainEngine()
    pytest.importorskip("numba")
    from emu.engine.compiled import CompiledEngine

    return CompiledEngine()


def play(world: World, steps: list[tuple[str, int]]) -> None:
    for what, value in steps:
        if what in ("arrive", "lose"):
            world.arrive(value, 1024 if value < 200 else 2304, lost=what == "lose")  # copybreak
        elif what == "read":
            world.read(value)
        elif what == "land":
            world.land(value)
        else:
            world.look()


def play_out(world: World) -> None:
    """The reader comes to the end of it."""
    for _ in range(3):
        world.land(len(world.coming))
        world.read(len(world.unread))
        world.look()
    assert world.emulated.held(ROW) == []


@given(steps=STEPS, at_once=st.booleans(), rcvbuf=st.sampled_from([2_000, 6_000, 1 << 30]))
@settings(max_examples=300, deadline=None)
@example(steps=SMALL_ONES_THEN_LARGE_ONES_DROPPED, at_once=True, rcvbuf=6_000)
@example(steps=[("look", 0), *SMALL_ONES_THEN_LARGE_ONES_DROPPED], at_once=True, rcvbuf=6_000)
@example(steps=SMALL_ONES_COME_WHILE_A_LARGER_IS_LOST, at_once=False, rcvbuf=6_000)
def test_never_early_and_in_the_end_all(steps: list[tuple[str, int]], at_once: bool, rcvbuf: int) -> None:
    world = World(at_once=at_once, rcvbuf=rcvbuf)
    play(world, steps)
    play_out(world)


@given(steps=STEPS)
@settings(max_examples=100, deadline=None)
def test_exactly_the_unread_are_held_as_long_as_none_is_dropped(steps: list[tuple[str, int]]) -> None:
    world = World()
    for step in steps:
        if step[0] == "lose":
            continue
        play(world, [step, ("look", 0)])
        assert [skb.frame for skb in world.emulated.held(ROW)] == [frame for frame, _ in world.unread]


@given(steps=STEPS, strangers=st.lists(LENGTHS, max_size=10))
@settings(max_examples=100, deadline=None)
def test_what_came_otherwise_only_makes_it_late(steps: list[tuple[str, int]], strangers: list[int]) -> None:
    world = World(rcvbuf=8_000)
    for at, step in enumerate(steps):
        if at < len(strangers):
            world.take(0, strangers[at])
        play(world, [step])
    play_out(world)


@pytest.mark.parametrize("name", ["plain", "compiled"])
def test_drops_of_a_full_real_socket_hold_nothing(name: str) -> None:
    world = World(rcvbuf=10 * tap_truesize(60), engine=engine_of(name))
    for _ in range(100):
        world.arrive(60)
        world.look()
    assert len(world.unread) == len(world.emulated.held(ROW)) == 10
    world.read(4)
    world.look()
    assert len(world.emulated.held(ROW)) == 6


@pytest.mark.parametrize("name", ["plain", "compiled"])
def test_the_machine_itself_keeps_the_rows_that_wait(name: str) -> None:
    engine = engine_of(name)
    m = Emulated(engine).m
    m.ready_head[READER_REAL] = NONE
    assert rows_waiting(m) == []
    m.ready_head[READER_REAL], m.sk[4].ready_next, m.sk[9].ready_next = 4, 9, NONE
    assert rows_waiting(m) == [4, 9]


def test_what_is_said_of_a_compiled_machine_are_plain_numbers() -> None:
    world = World(engine=engine_of("compiled"))
    world.arrive(60)
    world.read(1)
    (said,) = world.consumption.reads(world.emulated.m, [ROW], [real_udp(0)])
    assert [type(number) for number in said] == [int, int]
    assert world.consumption.fields(world.emulated.m).key(ROW) == (IPPROTO_UDP, 4, 0, 0, LOCAL_PORT, 0, 0, 0)


def test_several_sockets_of_a_port_hold_what_lies_in_all_of_them() -> None:
    world = World()
    for _ in range(10):
        world.arrive(60)
    each = tap_truesize(60)
    world.read(5)
    world.in_doubt = True
    world.look([real_udp(2 * each), real_udp(3 * each, cookie=2, remote=9, remote_port=9)])
    assert len(world.emulated.held(ROW)) == 5
    world.read(2)
    world.look([real_udp(0), real_udp(3 * each, cookie=2, remote=9, remote_port=9)])
    assert len(world.emulated.held(ROW)) == 3


def test_a_socket_that_is_gone_at_two_looks_has_released_everything() -> None:
    world = World()
    for _ in range(4):
        world.arrive(600)
    world.look()
    world.unread.clear()
    world.look([])
    assert len(world.emulated.held(ROW)) == 4
    world.look([])
    assert world.emulated.held(ROW) == []


def test_another_socket_on_the_port_is_asked_instead_of_the_one_before() -> None:
    world = World()
    for _ in range(4):
        world.arrive(600)
    world.look()
    world.unread.clear()
    world.arrive(600)
    world.in_doubt = True
    world.look([real_udp(world.rqueue(), cookie=2)])
    assert len(world.emulated.held(ROW)) == 1


def test_both_families_of_a_socket_are_its_own() -> None:
    world = World()
    world.arrive(60)
    other = world.emulated.socket(ROW + 1, IPPROTO_UDP, family=6)
    world.emulated.queue(other, 1)
    both = real_udp(tap_truesize(60), family=6, local=0, both_families=True)
    assert world.consumption.reads(world.emulated.m, [ROW, other], [both]) == []
    assert world.consumption.reads(world.emulated.m, [ROW, other], [both._replace(rqueue=0)]) == [(ROW, 1), (other, 1)]


def test_a_row_that_is_used_again_is_another_socket() -> None:
    world = World()
    world.arrive(60)
    world.look()
    world.emulated.dequeue(ROW, 1)
    world.emulated.socket(ROW, IPPROTO_UDP, sport=5000)
    world.emulated.queue(ROW, 2)
    world.lengths.put(2, 60)
    there = real_udp(tap_truesize(60), local_port=5000, cookie=9)
    assert world.consumption.reads(world.emulated.m, [ROW], [there]) == []
    assert world.consumption.reads(world.emulated.m, [ROW], [there._replace(rqueue=0)]) == [(ROW, 1)]


def test_a_datagram_in_several_buffers_is_read_as_one() -> None:
    world = World()
    world.arrive(1514)
    world.emulated.queue(ROW, 1)
    world.emulated.queue(ROW, 77, frag_offset=1480)
    world.arrive(60)
    here = [real_udp(tap_truesize(60))]
    assert world.consumption.reads(world.emulated.m, [ROW], here) == [(ROW, 3)]


def test_a_queue_that_others_emptied_is_followed_from_where_it_is() -> None:
    world = World()
    for _ in range(5):
        world.arrive(60)
    world.look()
    world.emulated.dequeue(ROW, 5)
    world.in_doubt = True
    world.unread.clear()
    world.arrive(60)
    world.look()
    assert [skb.frame for skb in world.emulated.held(ROW)] == [6]
    play_out(world)


def test_a_row_without_a_real_reader_is_passed_over() -> None:
    world = World()
    world.arrive(60)
    world.emulated.m.sk[ROW].reader = 0
    assert world.consumption.reads(world.emulated.m, [ROW], []) == []
    assert world.consumption.reads(world.emulated.m, [ROW], []) == []

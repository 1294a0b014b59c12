"""What numba is given in place of a plain function does what that does, byte by byte."""

import fcntl
import os
import resource
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from engine_pair import engine_named
from hypothesis import given
from hypothesis import strategies as st

from emu.capture.lexicon import find_octet, same_octets
from emu.live.system import NOTHING, clock_ns, load_word, read_into, store_word, wait_readable, write_from
from emu.wire.checksum import ones_sum
from emu.wire.octets import copy_octets

pytest.importorskip("numba")

from emu.engine.twins import TWINS

OCTETS = st.binary(min_size=1, max_size=300)
PLACES = st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """The twin, as other functions call it."""
    return engine_named("compiled").function(function)


def view(octets: bytes) -> tuple[bytearray, Any]:
    """A copy of the bytes, and how the compiled engine indexes it."""
    buffer = bytearray(octets)
    return buffer, engine_named("compiled").view(buffer)


def test_every_twin_is_tested() -> None:
    """Here, and the sum of words beside its plain twin in tests/wire/test_dissect.py."""
    of_bytes = {ones_sum, copy_octets, find_octet, same_octets}
    assert set(TWINS) == of_bytes | {read_into, write_from, wait_readable, clock_ns, load_word, store_word}


@given(octets=OCTETS, places=PLACES, short=st.integers(-9, 0))
def test_copy_octets(octets: bytes, places: tuple[float, float, float], short: int) -> None:
    """A length that is not positive copies nothing: C would take it for a very large one."""
    room = 300 + len(octets)
    at, start = round(places[0] * 300), round(places[1] * (len(octets) - 1))
    length = round(places[2] * (len(octets) - start))
    plain = bytearray(room)
    copy_octets(plain, at, octets, start, length)
    buffer, out = view(bytes(room))
    compiled(copy_octets)(out, at, view(octets)[1], start, length)
    assert buffer == plain
    compiled(copy_octets)(out, at, view(octets)[1], start, short)
    assert buffer == plain


@given(octets=OCTETS, places=PLACES, wanted=st.integers(0, 255))
def test_find_octet(octets: bytes, places: tuple[float, float, float], wanted: int) -> None:
    at = round(places[0] * len(octets))
    end = at + round(places[1] * (len(octets) - at))
    for sought in (wanted, octets[end - 1]):
        assert compiled(find_octet)(view(octets)[1], at, end, sought) == find_octet(octets, at, end, sought)


@given(octets=OCTETS, places=PLACES, at=st.integers(0, 20), other=st.integers(0, 320))
def test_same_octets(octets: bytes, places: tuple[float, float, float], at: int, other: int) -> None:
    start = round(places[0] * (len(octets) - 1))
    length = round(places[1] * (len(octets) - start))
    text = bytearray(at) + octets[start : start + length]
    for _ in range(2):
        found = compiled(same_octets)(view(bytes(text))[1], at, view(octets)[1], start, length)
        assert found == same_octets(bytes(text), at, octets, start, length)
        if other < len(text):
            text[other] ^= 1


@given(octets=st.binary(min_size=4, max_size=64), word=st.integers(0, 15), value=st.integers(0, 2**32 - 1))
def test_words_of_shared_memory(octets: bytes, word: int, value: int) -> None:
    """Aligned, as the kernel's are."""
    at = 4 * min(word, len(octets) // 4 - 1)
    buffer, memory = view(octets)
    plain = bytearray(octets)
    assert compiled(load_word)(memory, at) == load_word(plain, at)
    store_word(plain, at, value)
    compiled(store_word)(memory, at, value)
    assert buffer == plain
    assert compiled(load_word)(memory, at) == load_word(plain, at) == value


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two ends that pass frames on, as an interface does."""
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with one, other:
        one.setblocking(False)
        other.setblocking(False)
        yield one, other


def of_both(function: Callable[..., Any]) -> list[tuple[Callable[..., Any], Callable[[bytes], tuple[bytearray, Any]]]]:
    """The function and its twin, each with how its engine indexes bytes."""

    def plain_view(octets: bytes) -> tuple[bytearray, Any]:
        buffer = bytearray(octets)
        return buffer, buffer

    return [(function, plain_view), (compiled(function), view)]


@pytest.mark.parametrize(("sent", "size"), [(60, 100), (100, 100), (160, 100), (0, 100)])
def test_a_frame_is_read_no_further_than_its_room(
    pair: tuple[socket.socket, socket.socket], sent: int, size: int
) -> None:
    """What is beyond the room is lost with the frame: the next one begins at its beginning."""
    frame, following = os.urandom(sent), os.urandom(33)
    for reads, indexed in of_both(read_into):
        buffer, octets = indexed(bytes(200))
        for each in (frame, following):
            pair[1].send(each)
        assert reads(pair[0].fileno(), octets, 50, size) == min(sent, size)
        assert buffer == bytes(50) + frame[:size] + bytes(150 - min(sent, size))
        assert reads(pair[0].fileno(), octets, 0, size) == 33
        assert buffer[:33] == following


def test_nothing_is_read_where_nothing_waits(pair: tuple[socket.socket, socket.socket]) -> None:
    """Nor from a descriptor that is closed or not one to read; the bytes stay as they were."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        for reads, indexed in of_both(read_into):
            buffer, octets = indexed(bytes(range(100)))
            for descriptor in (pair[0].fileno(), reading, writing, -1):
                assert reads(descriptor, octets, 0, 100) == NOTHING
            assert buffer == bytes(range(100))
    finally:
        os.close(writing)


@given(octets=OCTETS, places=PLACES)
def test_what_is_written_is_what_the_other_end_gets(octets: bytes, places: tuple[float, float, float]) -> None:
    at = round(places[0] * (len(octets) - 1))
    size = round(places[1] * (len(octets) - at))
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with one, other:
        other.setblocking(False)
        for writes, indexed in of_both(write_from):
            assert writes(one.fileno(), indexed(octets)[1], at, size) == size
            assert other.recv(1000) == octets[at : at + size]


def test_a_frame_that_nobody_takes_is_refused_whole(pair: tuple[socket.socket, socket.socket]) -> None:
    """The other end is full; the descriptor is closed, is for reading only, or its other end has gone."""
    frame = bytes(range(200))
    taken = []
    for writes, indexed in of_both(write_from):
        octets = indexed(frame)[1]
        written = 0
        while writes(pair[0].fileno(), octets, 0, 200) == 200:
            written += 1
        assert writes(pair[0].fileno(), octets, 0, 200) == NOTHING
        for _ in range(written):
            assert pair[1].recv(1000) == frame
        with pytest.raises(BlockingIOError):
            pair[1].recv(1000)
        taken.append(written)
        reading, writing = os.pipe()
        assert writes(reading, octets, 0, 200) == NOTHING
        os.close(reading)
        assert writes(writing, octets, 0, 200) == NOTHING  # SIGPIPE is ignored, as Python does from its start
        os.close(writing)
        for descriptor in (writing, -1):
            assert writes(descriptor, octets, 0, 200) == NOTHING
    assert taken[0] == taken[1] > 0


def test_either_of_two_descriptors_is_waited_for(pair: tuple[socket.socket, socket.socket]) -> None:
    """So long at most; a closed descriptor is never waited for, whatever the other does."""
    one, other = pair[0].fileno(), pair[1].fileno()
    reading, writing = os.pipe()
    try:
        for waits, _ in of_both(wait_readable):
            before = time.monotonic_ns()
            assert waits(one, other, 0) == 0
            assert waits(one, other, 2_000_001) == 0
            assert time.monotonic_ns() - before >= 2_000_000
            pair[0].send(b"frame")
            assert waits(one, other, 60 * 10**9) == waits(other, one, 60 * 10**9) == 1
            pair[1].send(b"frame")
            assert waits(one, other, 60 * 10**9) == 2
            for end in pair:
                end.recv(100)
            assert waits(one, reading, 0) == 0
    finally:
        os.close(reading)
        os.close(writing)
    for waits, _ in of_both(wait_readable):
        assert waits(one, reading, 60 * 10**9) != 0
        assert waits(reading, one, 60 * 10**9) != 0


def test_descriptors_may_have_any_number(pair: tuple[socket.socket, socket.socket]) -> None:
    """A program with many open files waits as any other does: select(2) would refuse numbers from 1024 on."""
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed[1], allowed[1]))
    high = fcntl.fcntl(pair[0].fileno(), fcntl.F_DUPFD_CLOEXEC, 1500)
    try:
        for waits, _ in of_both(wait_readable):
            assert waits(high, pair[1].fileno(), 0) == 0
            pair[1].send(b"frame")
            assert waits(high, pair[1].fileno(), 60 * 10**9) == 1
            pair[0].recv(100)
    finally:
        os.close(high)
        resource.setrlimit(resource.RLIMIT_NOFILE, allowed)


def test_there_is_one_clock() -> None:
    """And it is Python's: events from outside are timed by that."""
    clocks = [time.monotonic_ns, clock_ns, compiled(clock_ns)] * 20
    told = [clock() for clock in clocks]
    assert told == sorted(told)
    assert told[-1] - told[0] < 60 * 10**9

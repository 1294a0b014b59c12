"""What numba is given in place of a plain function does what that does, byte by byte."""

import socket
import time
from collections.abc import Callable
from typing import Any

import pytest
from engine_pair import engine_named
from hypothesis import given
from hypothesis import strategies as st

from emu.capture.lexicon import find_octet, same_octets
from emu.live.system import clock_ns, load_word, read_into, store_word, wait_readable, write_from
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
    of_live = {read_into, write_from, wait_readable, clock_ns, load_word, store_word}
    assert set(TWINS) == {ones_sum, copy_octets, find_octet, same_octets} | of_live


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


def test_frames_through_a_descriptor() -> None:
    """Whole, to and from the middle of a buffer; nothing is there when nothing waits."""
    for read, write, wait in (
        (read_into, write_from, wait_readable),
        (compiled(read_into), compiled(write_from), compiled(wait_readable)),
    ):
        one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        quiet, _far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        with one, other, quiet, _far:
            one.setblocking(False)
            other.setblocking(False)
            buffer, octets = view(bytes(range(100)))
            assert read(other.fileno(), octets, 0, 50) == -1
            assert wait(other.fileno(), quiet.fileno(), 0) == 0
            assert write(one.fileno(), octets, 10, 20) == 20
            assert wait(quiet.fileno(), other.fileno(), 10**10) == 1
            assert read(other.fileno(), octets, 60, 30) == 20
            assert buffer == bytes([*range(60), *range(10, 30), *range(80, 100)])


def test_the_clock_is_the_system_s() -> None:
    before = time.monotonic_ns()
    assert before <= compiled(clock_ns)() <= clock_ns() <= time.monotonic_ns()

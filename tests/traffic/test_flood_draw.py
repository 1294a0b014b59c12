"""Drawn numbers: even, independent of each other, exponential with an exact mean, the same in both engines for ever."""

from fractions import Fraction

import pytest
from engine_pair import NAMES, engine_named
from hypothesis import given
from hypothesis import strategies as st

from emu.traffic.draw import (
    COIN_BITS,
    LN2,
    MASK,
    MAX_EXPONENTIAL,
    MAX_SPAN,
    ONE,
    TABLE,
    draw,
    draw_below,
    draw_exponential,
    exponential_table,
    mix,
    stream_key,
)

EXPONENTIAL = exponential_table()
DRAWN = 40_000
GOLDEN = [0x6019AAAB56CD1B9, 0x2E393D7FBA023DE6, 0x24DBEF542590A7F3, 0x10237D8A3393799]


def chi_square(counts: list[int], shares: list[Fraction]) -> float:
    """How far counts are from their shares; for k of them about k - 1, with deviation sqrt(2 (k - 1))."""
    total = sum(counts)
    expected = [float(share) * total for share in shares]
    return sum((count - mean) ** 2 / mean for count, mean in zip(counts, expected, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_the_numbers_are_what_they_have_always_been(name: str) -> None:
    """A seed gives the same flood on any machine and in any later version."""
    function = engine_named(name).function(draw)
    key = stream_key(7, 3)
    assert [function(key, number) for number in (0, 1, 2, 1 << 40)] == GOLDEN


def test_both_engines_draw_alike() -> None:
    """Python's integers have no end, the compiled ones wrap: masks make them agree, at the edges too."""
    plain, compiled = (engine_named(name).function(mix) for name in NAMES)
    words = [0, 1, MASK, MASK - 1, 1 << 61, (1 << 61) - 1, *(draw(5, number) for number in range(1000))]
    assert [plain(word) for word in words] == [compiled(word) for word in words]


@given(st.integers(0, MASK), st.integers(1, MAX_SPAN))
def test_a_number_below_is_the_exact_share(word: int, span: int) -> None:
    """The product of 94 bits is never made, and yet nothing is lost."""
    assert draw_below(word, span) == word * span >> 62


@given(st.integers(0, MASK), st.integers(0, MASK))
def test_mixing_loses_nothing(one: int, two: int) -> None:
    """It stays within 62 bits, and different words stay different."""
    assert 0 <= mix(one) <= MASK
    assert (mix(one) == mix(two)) == (one == two)


@pytest.mark.parametrize("span", [2, 7, 100, 1000])
@pytest.mark.parametrize("seed", [0, 1, MASK])
def test_numbers_are_even(span: int, seed: int) -> None:
    """Chi-square over all values, within four deviations."""
    key = stream_key(seed, 2)
    counts = [0] * span
    for number in range(DRAWN):
        counts[draw_below(draw(key, number), span)] += 1
    assert abs(chi_square(counts, [Fraction(1, span)] * span) - (span - 1)) < 4 * (2 * (span - 1)) ** 0.5 + 4


@pytest.mark.parametrize("bit", [0, 13, 30, 31, 61])
def test_every_bit_is_a_fair_coin(bit: int) -> None:
    """Low bits as well as high ones."""
    ones = sum(draw(stream_key(3, 0), number) >> bit & 1 for number in range(DRAWN))
    assert abs(ones - DRAWN / 2) < 4 * (DRAWN / 4) ** 0.5


@pytest.mark.parametrize(("seed", "stream"), [(1, 1), (2, 0), (1, 16)])
def test_streams_are_independent(seed: int, stream: int) -> None:
    """Pairs from seed 1, stream 0 and from another are spread over all pairs; so are neighbours of one stream."""
    one, two = stream_key(1, 0), stream_key(seed, stream)
    pairs, neighbours = [0] * 256, [0] * 256
    for number in range(DRAWN):
        pairs[draw_below(draw(one, number), 16) * 16 + draw_below(draw(two, number), 16)] += 1
        neighbours[draw_below(draw(two, number), 16) * 16 + draw_below(draw(two, number + 1), 16)] += 1
    for counts in (pairs, neighbours):
        assert abs(chi_square(counts, [Fraction(1, 256)] * 256) - 255) < 4 * 510**0.5


def test_the_exponential_mean_is_exact() -> None:
    """Over all coins and all of the table: so a rate asked for is the rate that comes."""
    doublings = sum(Fraction(count, 1 << count + 1) for count in range(COIN_BITS))
    doublings += Fraction(COIN_BITS + 1, 1 << COIN_BITS)
    assert doublings * LN2 + Fraction(sum(EXPONENTIAL), TABLE) == ONE


def test_the_exponential_table_is_the_quantile_function() -> None:
    """Each entry lies between the quantiles at the ends of its range, as libm sees them."""
    from math import log

    for at, value in enumerate(EXPONENTIAL):
        low, high = (-log(1 - step / TABLE / 2) * ONE for step in (at, at + 1))
        assert low - 1 <= value <= high + 1


def test_exponential_draws_are_exponential() -> None:
    """Chi-square over 32 ranges of equal chance, and the tail goes on behind any table's end."""
    from math import log

    edges = [-log(1 - step / 32) * ONE for step in range(1, 32)]
    key = stream_key(11, 1)
    counts = [0] * 32
    most = 0
    for number in range(DRAWN):
        value = draw_exponential(draw(key, number), EXPONENTIAL)
        counts[sum(value > edge for edge in edges)] += 1
        most = max(most, value)
    assert abs(chi_square(counts, [Fraction(1, 32)] * 32) - 31) < 4 * 62**0.5
    assert 8 * ONE < most < 20 * ONE


@given(st.integers(0, MASK))
def test_an_exponential_draw_has_a_bound(word: int) -> None:
    """What profile relies on for its products to fit."""
    assert 0 <= draw_exponential(word, EXPONENTIAL) < MAX_EXPONENTIAL
    assert draw_exponential(word & TABLE - 1, EXPONENTIAL) < MAX_EXPONENTIAL

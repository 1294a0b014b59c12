"""Drawn numbers: the same on every machine, in both engines, and at any place without those before.

Number n of a stream is a mixture of the stream's key and n (SplitMix, Steele et al. 2014, in a ring of 62 bits, where
integers of 64 bits and Python's own agree): nothing is carried from one to the next.
"""

from decimal import Context, Decimal, localcontext

BITS = 62
MASK = (1 << BITS) - 1
# Odd: multiplying by them, modulo 2**62, and xor with an own right shift lose nothing, so `mix` is a permutation.
STEP = 0x1E3779B97F4A7C15
FACTOR_ONE = 0x3F58476D1CE4E5B9
FACTOR_TWO = 0x14D049BB133111EB

MAX_SPAN = 1 << 32

# An exponential draw is `doublings` times ln 2, and a value below ln 2: what is left of it once it is known how often
# it passed ln 2, which happens each time with chance 1/2.
ONE_BITS = 16
ONE = 1 << ONE_BITS  # the mean of exponential draws
TABLE_BITS = 11
TABLE = 1 << TABLE_BITS
COIN_BITS = 30
LN2 = 45_426  # ln 2 in units of 1/ONE, rounded; the table makes up for it
MAX_EXPONENTIAL = (COIN_BITS + 2) * ONE  # no draw is as large


def mix(word: int) -> int:
    """A permutation of the integers of 62 bits in which every bit depends on every other."""
    word = (word ^ word >> 30) * FACTOR_ONE & MASK
    word = (word ^ word >> 27) * FACTOR_TWO & MASK
    return word ^ word >> 31


def stream_key(seed: int, stream: int) -> int:
    """Where a stream of numbers begins; `seed` and `stream` are integers of 62 bits, not negative."""
    return mix((mix((seed + STEP) & MASK) + stream * STEP) & MASK)


def draw(key: int, number: int) -> int:
    """62 bits: number `number` of the stream."""
    return mix((key + mix(number & MASK) + STEP) & MASK)


def draw_below(word: int, span: int) -> int:
    """A number below `span` <= MAX_SPAN from a drawn word: floor(word * span / 2**62).

    Its chance differs from 1 / span by less than 2**-62.
    """
    return ((word >> 31) * span + ((word & 0x7FFFFFFF) * span >> 31)) >> 31


def draw_exponential(word: int, table: list[int]) -> int:
    """An exponentially distributed number from a drawn word, in units of 1/ONE; the mean is ONE exactly.

    It is below MAX_EXPONENTIAL.  `table` holds what `exponential_table` gives.
    """
    coins = word >> TABLE_BITS & (1 << COIN_BITS) - 1
    doublings = 0
    if coins == 0:
        doublings = COIN_BITS + 1  # not COIN_BITS: so that the mean number is 1, as without a bound
    else:
        while not coins >> doublings & 1:
            doublings += 1
    return doublings * LN2 + table[word & TABLE - 1]


def exponential_table() -> list[int]:
    """The means of an exponential variable, cut off at ln 2, over TABLE ranges of equal chance; in units of 1/ONE.

    Made with `decimal`, whose results are the same on every machine.  The sum is such that draws have the mean ONE.
    """
    with localcontext(Context(prec=30)):
        # The integral of the quantile function -ln(1 - p/2) up to p = step / TABLE, times TABLE.
        left = [1 - Decimal(step) / (2 * TABLE) for step in range(TABLE + 1)]
        integral = [2 * TABLE * (value * value.ln() - value) for value in left]
        exact = [(integral[step + 1] - integral[step]) * ONE for step in range(TABLE)]
    table = [int(value) for value in exact]
    # The mean of doublings is 1, so the table's is ONE - LN2; largest remainders are rounded up until it is.
    missing = TABLE * (ONE - LN2) - sum(table)
    assert 0 <= missing <= TABLE
    order = sorted(range(TABLE), key=lambda step: (table[step] - exact[step], step))
    for step in order[:missing]:
        table[step] += 1
    return table

"""How long writes take, counted in buckets: 16 to each power of two of microseconds, so that none is 7 % wide."""

SUB_BUCKETS = 16
SUB_BITS = 4
US = 1_000


def latency_bucket(ns: int) -> int:
    """The bucket of a time in nanoseconds, below `closed_loop.LATENCY_BUCKETS` for any that 64 bits hold."""
    us = ns // US
    if us < SUB_BUCKETS:
        return us
    exponent = SUB_BITS
    while us >> exponent >= 2:
        exponent += 1
    return (exponent - SUB_BITS + 1) * SUB_BUCKETS + (us >> (exponent - SUB_BITS) & (SUB_BUCKETS - 1))


def latency_of_bucket(bucket: int) -> int:
    """The shortest time, in nanoseconds, that falls into a bucket."""
    if bucket < SUB_BUCKETS:
        return bucket * US
    shift = bucket // SUB_BUCKETS - 1
    return ((SUB_BUCKETS + bucket % SUB_BUCKETS) << shift) * US

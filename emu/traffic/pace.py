"""When frames arrive, in exact integers: as captured, faster or slower, at a packet rate or at a bit rate.

What a division leaves over is carried to the next frame, so nothing drifts, whatever the number of frames.
"""

from typing import Protocol

PACE_CAPTURED, PACE_SPEED, PACE_PPS, PACE_MBPS = range(4)

LONGEST_GAP_NS = 1 << 61  # 73 years: slower than that, the clock's end is reached anyway
LONGEST_FRAME_BYTES = 1 << 29  # a capture may claim 2**32, which at the slowest rate, 1 bit/s, is beyond 64 bits
FRAMING_BYTES = 24  # preamble 8, FCS 4, gap 12: what a frame takes on an Ethernet besides its own bytes


class Pacing(Protocol):
    """The fields of a feed that say how frames are paced."""

    pace: int
    rate_over: int
    rate_under: int
    remainder: int


def gap_ns(feed: Pacing, captured_gap_ns: int, previous_length: int) -> int:
    """Nanoseconds between the previous frame and this one; `rate_over` / `rate_under` is the rate as a fraction.

    PACE_SPEED: times as fast as captured.  PACE_PPS: packets per second.  PACE_MBPS: megabits per second, counting
    `FRAMING_BYTES` per frame and no more than `LONGEST_FRAME_BYTES`; the gap is the time that the previous frame
    occupies.
    """
    if feed.pace == PACE_CAPTURED:
        return captured_gap_ns
    over = feed.rate_over
    under = feed.rate_under
    if feed.pace == PACE_SPEED:
        if captured_gap_ns // over >= LONGEST_GAP_NS // under:
            return LONGEST_GAP_NS
        whole = captured_gap_ns // over * under
        left = captured_gap_ns % over * under
    elif feed.pace == PACE_PPS:
        whole = 1_000_000_000 * under // over
        left = 1_000_000_000 * under % over
    else:
        octets = min(previous_length, LONGEST_FRAME_BYTES) + FRAMING_BYTES
        whole = 8_000 * under // over * octets
        left = 8_000 * under % over * octets
    left += feed.remainder
    feed.remainder = left % over
    return whole + left // over

"""The plan of a flood: trains of template frames, what changes from one to the next, sizes and rate.

Recipes and templates of the user's own become such a plan; `emit` turns it into frames.  A *train* is a run of frames
that share the values drawn for it (the fragments of one datagram); most trains are one frame long.  Offsets are bytes
from the frame's start.
"""

from typing import NamedTuple

SHORTEST_FRAME = 60  # an Ethernet frame without FCS

# How a variable gets its number k, 0 <= k < span; its value is first + step * k.
VARY_COUNT = 0  # k counts up from one train to the next, and around
VARY_RANDOM = 1  # k is drawn anew for each train
VARY_FLOW = 2  # k = flow // divisor % span: the flows are the product of such variables
VARY_SEQ = 3  # value = first + the payload bytes that this flow has carried so far (TCP sequence numbers), mod 2**32

RATE_PPS = 0  # frames per second
RATE_BPS = 1  # bits per second, each frame with traffic.pace FRAMING_BYTES
GAPS_EVEN = 0
GAPS_POISSON = 1


class Variable(NamedTuple):
    """A number that differs from train to train."""

    vary: int
    first: int
    span: int = 1
    step: int = 1
    divisor: int = 1


class Change(NamedTuple):
    """Where a variable's value goes: `width` bytes, big-endian, its low bits.

    `checksums` are those whose sum covers the field, by number in `Template.checksums`; a number that stands twice is
    summed twice.  `offset` -1: only summed (a pseudo header), as a field at an even offset.
    """

    variable: int
    offset: int
    width: int
    checksums: tuple[int, ...] = ()


class Length(NamedTuple):
    """A 16-bit length field of a frame whose size varies: its value is the frame's size minus `bias`.

    `checksums` as in Change; `offset` -1: only a pseudo header has it.
    """

    offset: int
    bias: int
    checksums: tuple[int, ...] = ()


class Checksum(NamedTuple):
    """An Internet checksum at `offset`; `covers_payload`: it sums what lies from `Template.payload` on.

    `zero_is_none`: a sum of 0 is sent as 0xffff (UDP).
    """

    offset: int
    covers_payload: bool = False
    zero_is_none: bool = False


class Template(NamedTuple):
    """A frame as it was built, complete and with right checksums; of variable ones the largest.

    A smaller one is cut at its end; `payload` is where the bytes begin that may be cut, at an even distance from where
    its checksum begins, `smallest` how short it may become (then padded to 60 bytes with zeros if it is less).
    `seq_bytes`: what the frame adds to its flow's sequence number besides its payload; -1: its payload is not counted.
    """

    octets: bytes
    payload: int
    changes: tuple[Change, ...] = ()
    checksums: tuple[Checksum, ...] = ()
    lengths: tuple[Length, ...] = ()
    smallest: int = 0  # 0: its size is fixed
    seq_bytes: int = -1


class Train(NamedTuple):
    """Templates sent one behind the other, and how often this train is chosen among all: `weight`."""

    templates: tuple[Template, ...]
    weight: int = 1


class Sizes(NamedTuple):
    """One entry of a distribution of frame sizes (bytes without FCS): uniform from `least` to `most`."""

    least: int
    most: int
    weight: int = 1


class Rate(NamedTuple):
    """How fast: `over / under` frames or bits per second, exact.

    Bursts: sent for `on_ns`, then silent for `off_ns` (0: no pauses), at this rate while on.  Ramp: the rate goes
    evenly from over/under to ramp_over/ramp_under over `ramp_ns` (0: no ramp), then stays.
    """

    unit: int = RATE_PPS
    over: int = 10_000
    under: int = 1
    gaps: int = GAPS_EVEN
    on_ns: int = 0
    off_ns: int = 0
    ramp_ns: int = 0
    ramp_over: int = 0
    ramp_under: int = 1


class Plan(NamedTuple):
    """All that a flood needs: `frames` or `duration_ns`, 0: without end.  A train once begun is completed.

    Flows take turns.  `sizes` holds for templates whose size varies; it is empty where none does.
    """

    trains: tuple[Train, ...]
    variables: tuple[Variable, ...]
    sizes: tuple[Sizes, ...] = ()
    flows: int = 1
    rate: Rate = Rate()
    frames: int = 0
    duration_ns: int = 0
    seed: int = 1
    comment: str = ""  # of the section header: traffic.crafted

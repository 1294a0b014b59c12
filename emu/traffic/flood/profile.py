"""When the frames of a flood come, in exact integers: evenly, at random, in bursts, at a rate that climbs.

A frame costs 1, or its bits, and every nanosecond of sending pays by the rate.  What is owed is counted in units small
enough that both are whole numbers, and what a nanosecond cannot pay is owed on, so nothing drifts, whatever the number
of frames: with even gaps frame n comes at the floor of its exact time.
"""

from fractions import Fraction
from math import lcm
from typing import Annotated, Any

from emu.engine.plain import Engine
from emu.errors import UsageError
from emu.kernel.record import record
from emu.traffic.draw import ONE, ONE_BITS, TABLE, draw, draw_exponential, exponential_table, stream_key
from emu.traffic.flood.plan import GAPS_POISSON, RATE_BPS, RATE_PPS, Plan, Rate
from emu.traffic.pace import FRAMING_BYTES

SECOND_NS = 1_000_000_000
HORIZON_NS = 1 << 61  # 73 years: no flood is longer
RAMP_STEPS = 256  # a climbing rate climbs in so many; behind each, what has been sent is what an even climb sends

# What is owed must fit in 64 bits, with the largest random factor, 2**5.
MOST_OWED = 1 << 61
MOST_OWED_RANDOM = 1 << 56
MAX_OVER = 1 << 60
SLOWEST = {RATE_PPS: Fraction(1, 1000), RATE_BPS: Fraction(1)}
FASTEST = {RATE_PPS: 10 * 10**9, RATE_BPS: 10**12}
UNITS = {RATE_PPS: "frames per second", RATE_BPS: "bits per second"}

STREAM_GAPS = 1  # emit has the others


@record
class Profile:
    """The rate, and where on its course the flood is.  Time counts sending only: pauses are added by `with_pauses`."""

    by_bits: int  # 1: a frame costs its bits, else 1
    unit: int  # what a cost of 1 owes
    over: int  # what a nanosecond pays, on this step of the ramp
    poisson: int
    key: int  # of the gaps' stream
    exponential: Annotated[list[int], TABLE]
    on_ns: int
    off_ns: int  # 0: no pauses
    end_ns: int  # no frame comes from here on

    ramp_ns: int  # 0: no ramp
    ramp_first: int  # the rate on step j is ramp_first + j * ramp_step
    ramp_step: int
    step: int  # this one
    step_end_ns: int  # -1: the rate stays

    time_ns: int  # of the next frame
    owed: int  # less than a nanosecond pays
    gaps: int  # so many have been drawn
    random_left: int  # of the last random factor's division, in units of 1/ONE


def cost_of(p: Profile, length: int) -> int:
    """What a frame of `length` bytes costs: 1, or its bits with all that it takes on the wire."""
    if p.by_bits:
        return (length + FRAMING_BYTES) * 8
    return 1


def advance(p: Profile, cost: int) -> None:
    """Let the time come at which a frame of this cost has been paid."""
    owed = cost * p.unit
    if p.poisson:
        factor = draw_exponential(draw(p.key, p.gaps), p.exponential)
        p.gaps += 1
        # The product would not fit: high and low bits apart.
        low = (owed & ONE - 1) * factor + p.random_left
        owed = (owed >> ONE_BITS) * factor + (low >> ONE_BITS)
        p.random_left = low & ONE - 1
    owed += p.owed
    gap_ns = owed // p.over
    while p.step_end_ns >= 0 and gap_ns >= p.step_end_ns - p.time_ns:
        owed -= (p.step_end_ns - p.time_ns) * p.over
        p.time_ns = p.step_end_ns
        next_step(p)
        gap_ns = owed // p.over
    p.owed = owed - gap_ns * p.over
    p.time_ns = min(p.time_ns + gap_ns, HORIZON_NS)


def next_step(p: Profile) -> None:
    """Go to the ramp's next step; behind the last one, to its final rate, which stays."""
    p.step += 1
    if p.step < RAMP_STEPS:
        p.over = p.ramp_first + p.step * p.ramp_step
        p.step_end_ns = step_end_ns(p.ramp_ns, p.step)
    else:
        p.over = p.ramp_first + p.step * p.ramp_step - p.ramp_step // 2
        p.step_end_ns = -1


def step_end_ns(ramp_ns: int, step: int) -> int:
    """Where step `step` of a ramp ends."""
    return ramp_ns // RAMP_STEPS * (step + 1) + ramp_ns % RAMP_STEPS * (step + 1) // RAMP_STEPS


def with_pauses(p: Profile, sending_ns: int) -> int:
    """The time since the start at which so much time has been spent sending."""
    if p.off_ns == 0:
        return sending_ns
    return sending_ns + sending_ns // p.on_ns * p.off_ns


# --- set-up


def profile_of(plan: Plan, engine: Engine, largest: int) -> Any:
    """The profile of a plan whose largest frame has `largest` bytes, at its start.

    Errors: UsageError for a rate, or a number of frames, that the clock cannot hold.
    """
    rate = plan.rate
    check_rate(rate)
    start = Fraction(rate.over, rate.under)
    end = Fraction(rate.ramp_over, rate.ramp_under) if rate.ramp_ns else start
    under = lcm(start.denominator, end.denominator)
    first, last = int(start * under), int(end * under)
    profile = engine.new(Profile)
    values = {"by_bits": rate.unit == RATE_BPS, "over": first, "step_end_ns": -1}
    if rate.ramp_ns:
        # The rate in the middle of step j is start + (end - start) * (2j + 1) / (2 * RAMP_STEPS).
        under *= 2 * RAMP_STEPS
        values["ramp_ns"] = rate.ramp_ns
        values["ramp_first"] = values["over"] = first * 2 * RAMP_STEPS + (last - first)
        values["ramp_step"] = 2 * (last - first)
        values["step_end_ns"] = step_end_ns(rate.ramp_ns, 0)
    values["unit"] = SECOND_NS * under
    dearest = (largest + FRAMING_BYTES) * 8 if rate.unit == RATE_BPS else 1
    bound = MOST_OWED_RANDOM if rate.gaps == GAPS_POISSON else MOST_OWED
    if dearest * SECOND_NS * under > bound or max(values["over"], last * under) > MAX_OVER:
        raise UsageError(f"rate {rate_text(rate)}: too finely divided to be kept exactly; expected fewer digits")
    on_ns, off_ns = (rate.on_ns, rate.off_ns) if rate.off_ns else (0, 0)
    values |= {"on_ns": on_ns, "off_ns": off_ns, "end_ns": sending_end_ns(plan)}
    if plan.frames and plan.frames * dearest / min(start, end) * SECOND_NS > sending_until(rate, HORIZON_NS):
        raise UsageError(
            f"{plan.frames} frames at {rate_text(rate)} take more than 73 years; expected fewer, or faster"
        )
    if rate.gaps == GAPS_POISSON:
        values |= {"poisson": 1, "key": stream_key(plan.seed, STREAM_GAPS)}
        for at, value in enumerate(exponential_table()):
            profile.exponential[at] = value
    engine.fill(profile, values)
    return profile


def check_rate(rate: Rate) -> None:
    """Refuse with a UsageError what is no rate, or none that a clock of nanoseconds can follow."""
    ends = [(rate.over, rate.under)] + ([(rate.ramp_over, rate.ramp_under)] if rate.ramp_ns else [])
    for over, under in ends:
        value = Fraction(over, under)
        if not SLOWEST[rate.unit] <= value <= FASTEST[rate.unit]:
            bounds = f"{SLOWEST[rate.unit]} to {FASTEST[rate.unit]} {UNITS[rate.unit]}"
            raise UsageError(f"rate {number_text(value)}: expected {bounds}")
    for name, value_ns in (("ramp", rate.ramp_ns), ("burst", rate.on_ns), ("pause", rate.off_ns)):
        if not 0 <= value_ns <= HORIZON_NS:
            raise UsageError(f"{name} of {value_ns} ns: expected 0 to {HORIZON_NS} ns")
    if rate.off_ns and not rate.on_ns:
        raise UsageError(f"pauses of {rate.off_ns} ns without anything between them; expected bursts longer than 0")


def sending_until(rate: Rate, time_ns: int) -> int:
    """How much of the time since the start, up to `time_ns`, is spent sending."""
    if not rate.off_ns:
        return time_ns
    bursts, left = divmod(time_ns, rate.on_ns + rate.off_ns)
    return bursts * rate.on_ns + min(left, rate.on_ns)


def sending_end_ns(plan: Plan) -> int:
    """How long frames are sent, without the pauses."""
    if plan.duration_ns > HORIZON_NS:
        raise UsageError(f"duration {plan.duration_ns} ns: expected at most {HORIZON_NS} ns (73 years)")
    return sending_until(plan.rate, plan.duration_ns or HORIZON_NS)


def rate_text(rate: Rate) -> str:
    """A rate in words, e.g. `200000 frames per second in bursts of 10 ms, 90 ms apart`."""
    words = number_text(Fraction(rate.over, rate.under))
    if rate.ramp_ns:
        end = number_text(Fraction(rate.ramp_over, rate.ramp_under))
        words += f" to {end} {UNITS[rate.unit]} within {number_text(Fraction(rate.ramp_ns, 10**6))} ms"
    else:
        words += f" {UNITS[rate.unit]}"
    if rate.gaps == GAPS_POISSON:
        words += " at random times"
    if rate.off_ns:
        on, off = (number_text(Fraction(value, 10**6)) for value in (rate.on_ns, rate.off_ns))
        words += f" in bursts of {on} ms, {off} ms apart"
    return words


def number_text(value: Fraction) -> str:
    """A number as a decimal where that is exact, else as a fraction."""
    scaled = value * 10**9
    if scaled.denominator != 1:
        return str(value)
    whole, part = divmod(int(scaled), 10**9)
    return f"{whole}.{part:09}".rstrip("0").rstrip(".") if part else str(whole)

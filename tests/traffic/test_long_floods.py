"""Crafted traffic at the slowest and fastest rates, late: every number stays within 64 bits, and it comes to an end."""

import pytest
from int64_kit import Int64Engine

from emu.kernel.machine import Packet
from emu.traffic.arrivals import END_OF_TIME_NS
from emu.traffic.flood.kinds import parse_flood
from emu.traffic.flood.reader import LAST_START_NS
from emu.traffic.flood.source import open_flood

BATCH = 1000


def times_of(text: str) -> tuple[int, int, int]:
    """How many frames a flood has that starts as late as one can; the first and the last one's time, ns."""
    engine = Int64Engine()
    source = open_flood(parse_flood(text, "test"), engine, start_ns=LAST_START_NS)
    rows = engine.rows(Packet, BATCH)
    frames, first_ns, last_ns = 0, -1, -1
    while count := source.read(rows, 0, BATCH):
        first_ns = int(rows[0].file_time_ns) if frames == 0 else first_ns
        frames, last_ns = frames + count, int(rows[count - 1].file_time_ns)
        source.discard(source.position)
    return frames, first_ns, last_ns


@pytest.mark.parametrize(
    "text",
    [
        "udp:pps=0.001,count=200",
        "udp:mbps=0.000001,count=60",
        "udp:pps=1..10G,for=10s,count=500,poisson",
        "synflood:pps=10G,count=500,burst=1us/1s",
        "tcp-bulk:mbps=1000000,count=500,poisson",
    ],
)
def test_floods_at_their_limits(text: str) -> None:
    frames, first_ns, last_ns = times_of(text)
    assert frames == int(text.split("count=")[1].split(",")[0])
    assert LAST_START_NS <= first_ns < last_ns <= END_OF_TIME_NS


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("rate", "writes", "all_of_them"), [("1000000000", 300, True), ("0.000001", 2400, False)])
def test_a_session_that_would_outlast_the_clock_ends_with_it(rate: str, writes: int, all_of_them: bool) -> None:
    """At a write in 11 days some 2300 fit; it used to go on for ever without a frame."""
    frames, first_ns, last_ns = times_of(f"iscsi-acks:pps={rate},writes={writes}")
    assert LAST_START_NS <= first_ns < last_ns <= END_OF_TIME_NS
    assert (frames > 2 * writes) == all_of_them
    assert (last_ns > END_OF_TIME_NS - 2 * 10**15) != all_of_them

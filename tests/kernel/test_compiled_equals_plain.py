"""One source, two speeds: the compiled engine and the plain one agree in every field of every row and of the machine.

The compiled half costs its compilation once; the cache folder keeps it for the next run.
"""

from typing import Any

import pytest
from machines import (
    FE80,
    HOST,
    PLAIN,
    USUAL_RULES,
    Nic,
    Play,
    Setup,
    compiled,
    flat,
    packet_sock,
    play,
    plenty,
    rule,
    whole,
)
from streams import DRIVER_SETUPS, recording, stream

from emu.engine.loop import run_recorded
from emu.engine.plain import Engine
from emu.kernel.bugs import BUG_FFS, BUG_MARK, BUG_NO_MEMALLOC, BUG_UDP_LABEL
from emu.kernel.machine import DRIVER_E1000E, MM_6X, Event, Packet
from emu.kernel.policy import POLICIES
from emu.kernel.sock import READER_NEVER, READER_RATE

pytest.importorskip("numba")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SETUPS: dict[str, dict[str, Any]] = {
    "taps, raw sockets, groups, own addresses": {
        "nics": (Nic(promisc=1),),
        "config": plenty(ip_forward=1),
        "local_addrs": ({"family": 4, "addr": HOST}, {"family": 6, "addr_hi": FE80, "addr": HOST}),
        "taps": (packet_sock(rcvbuf=30_000), packet_sock(reader=READER_RATE, read_rate=3000)),
        "raws": (packet_sock(protocol=132), packet_sock(protocol=1), packet_sock(family=6, protocol=17, rcvbuf=9000)),
        "rules": (*USUAL_RULES, rule(17, local_port=80, members=3, reader=READER_RATE, read_rate=500)),
    },
    "the default crunch": {},
    "plenty of memory": {"config": plenty()},
    "bugs of the patch that let it live on": {
        "nics": (Nic(ring=32, background=0), Nic(ring=32, background=0, reserve=4)),
        "config": {"as_posted": sum(1 << bug for bug in (BUG_MARK, BUG_NO_MEMALLOC, BUG_FFS, BUG_UDP_LABEL))},
    },
    "two devices, small rings, small caps": {
        "nics": (Nic(ring=32, weight=8, reserve=5, background=14), Nic(ring=80, reserve=50, background=60)),
        "config": {"netdev_max_backlog": 10, "l1_bytes": 32, "free_pages_above_floor": 3},
    },
    "jumbo frames on 16 MB, readers with a rate": {
        "nics": (Nic(mtu=9000, ring=128, background=100),),
        "config": {"memory_pages": 4096, "ordinary_reader": READER_RATE, "read_rate": 2000},
    },
    "6.x with SLUB and the e1000e": {
        "nics": (Nic(driver=DRIVER_E1000E), Nic(driver=DRIVER_E1000E, ring=80, background=40)),
        "config": {
            "mm": MM_6X,
            "sk_buff_bytes": 232,
            "l1_bytes": 64,
            "netdev_budget": 100,
            "free_pages_above_floor": 40,
        },
    },
    "highmem, slow CPU, nobody reads": {
        "config": {
            "memory_pages": 262_144,
            "cpu_ns_per_packet": 30_000,
            "ordinary_reader": READER_NEVER,
            "l1_bytes": 64,
            "udp_rcvbuf": 8000,
            "tcp_rcvbuf": 8000,
        },
        "frag_limits": ({"high_thresh": 20_000, "low_thresh": 12_000, "time_ns": 3_000_000_000},) * 2,
        "rules": (*USUAL_RULES, rule(6, local_port=80, memalloc=1, reader=READER_RATE, read_rate=100, rcvbuf=5000)),
    },
}


SETUPS |= DRIVER_SETUPS

# Every row in the setups where rows differ most; elsewhere one of each way to allocate, to mark and to check.
EVERY_POLICY = ("the default crunch", "bugs of the patch that let it live on")
USUAL = ("linux-2.6.12", "phillips-v1", "phillips-v6", "mainline")
CASES = [(name, policy) for name in SETUPS for policy in (POLICIES if name in EVERY_POLICY else USUAL)]


def rows_flat(played: Play) -> list[dict[str, int]]:
    """Every field of every row."""
    return [flat(played.rows[at], Packet) for at in range(played.count)]


def both(setup: Setup, frames: list[dict[str, int]], until_ns: int = 0) -> tuple[Play, Play]:
    """The same play on both engines."""
    return play(setup, frames, until_ns=until_ns), play(setup, frames, until_ns=until_ns, engine=compiled())


@pytest.mark.parametrize(("name", "policy"), CASES)
def test_both_engines_play_a_random_stream_to_the_same_rows_and_the_same_machine(name: str, policy: str) -> None:
    """Whatever arrives, whatever the policy, every integer of the outcome is the same on both engines."""
    setup = Setup(policy, **SETUPS[name])
    frames = stream(tuple(POLICIES).index(policy), 400, len(setup.nics))
    plain, fast = both(setup, frames, until_ns=frames[-1]["time_ns"] + 5_000_000_000)
    assert rows_flat(plain) == rows_flat(fast)
    assert whole(plain.m) == whole(fast.m)


@pytest.mark.parametrize("policy", USUAL)
@pytest.mark.parametrize("name", ["", *DRIVER_SETUPS])
def test_both_engines_record_the_same_stream_of_events_and_play_it_back_alike(policy: str, name: str) -> None:
    """The recorded stream is part of the outcome, and so is what a playback of it does."""
    setup = recording(Setup(policy, **(DRIVER_SETUPS[name] if name else {"nics": (Nic(ring=64, background=40),)})))
    frames = stream(7, 500, len(setup.nics))

    def recorded(engine: Engine) -> tuple[list[dict[str, int]], dict[str, int]]:
        played = play(setup, frames, engine=engine, log_size=4096)
        again = play(setup, [], engine=engine)
        rows = engine.rows(Packet, len(frames))
        for at in range(len(frames)):
            rows[at] = played.rows[at]
        engine.function(run_recorded)(again.m, rows, 0, len(frames), played.log, 0, played.events, 0)
        return [flat(played.log[at], Event) for at in range(played.events)], whole(again.m)

    plain, fast = recorded(PLAIN), recorded(compiled())
    assert len(plain[0]) > 100
    assert plain == fast
